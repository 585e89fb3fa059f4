"""What one does with a trained VAEBM: generate images, score outliers, decide, explain."""

from vaebm.applications.explanations import heat_maps, nearest_normal
from vaebm.applications.further_scores import complexity_corrected, gradient_norms, likelihood_regrets, typicality
from vaebm.applications.generation import Generation, generate, sample_chains, snapshots, start_noise
from vaebm.applications.outlier_scores import OutlierScores, ScoringNoise, draw_scoring_noise, outlier_scores
from vaebm.applications.scorer import Decisions, Scorer, in_float64, round_scores

__all__ = [
    "Decisions",
    "Generation",
    "OutlierScores",
    "Scorer",
    "ScoringNoise",
    "complexity_corrected",
    "draw_scoring_noise",
    "generate",
    "gradient_norms",
    "heat_maps",
    "in_float64",
    "likelihood_regrets",
    "nearest_normal",
    "outlier_scores",
    "round_scores",
    "sample_chains",
    "snapshots",
    "start_noise",
    "typicality",
]
