"""What a trained model is worth: quality of samples, how well scores find outliers, how large the normaliser is.

Evaluation gets tensors of images, callables and judges, never paths; every result carries the judge with its hash, the
number of images and the seed.
"""

from vaebm.evaluation.baselines import Baselines, baseline_scores, fit_baselines, png_bits
from vaebm.evaluation.chains import FEWEST_STEPS, ChainDiagnostics, diagnose_chains
from vaebm.evaluation.comparison import Comparison, compare_scores
from vaebm.evaluation.extractor import EfficientNetFeatures, InceptionFeatures
from vaebm.evaluation.features import FeatureNetwork, Judge, JudgedImages, JudgeError, extract
from vaebm.evaluation.likelihood import (
    LikelihoodTerms,
    Normalizer,
    annealed_weights,
    importance_weights,
    likelihood_terms,
    log_likelihood,
    pilot_ladder,
    reverse_estimate,
    summarize_weights,
    tilt_of,
)
from vaebm.evaluation.outliers import RankedScore, ScoreFunction, measure_outliers, rank_scores, score_images
from vaebm.evaluation.planar import (
    Grid,
    PlanarFigures,
    PlanarModel,
    histogram,
    make_grid,
    measure_planar,
    planar_model,
)
from vaebm.evaluation.probe import Probe, fit_probe
from vaebm.evaluation.sample_quality import (
    FEWEST_FOR_INTERVAL,
    ClassQuality,
    Floors,
    Reference,
    SampleQuality,
    fraction_closed,
    frechet_to_reference,
    kernel_to_reference,
    make_reference,
    measure_against,
    measure_floors,
    measure_samples,
)
from vaebm.evaluation.standard_scores import StandardScores, standard_scores

__all__ = [
    "FEWEST_FOR_INTERVAL",
    "FEWEST_STEPS",
    "Baselines",
    "ChainDiagnostics",
    "ClassQuality",
    "Comparison",
    "EfficientNetFeatures",
    "FeatureNetwork",
    "Floors",
    "Grid",
    "InceptionFeatures",
    "Judge",
    "JudgeError",
    "JudgedImages",
    "LikelihoodTerms",
    "Normalizer",
    "PlanarFigures",
    "PlanarModel",
    "Probe",
    "RankedScore",
    "Reference",
    "SampleQuality",
    "ScoreFunction",
    "StandardScores",
    "annealed_weights",
    "baseline_scores",
    "compare_scores",
    "diagnose_chains",
    "extract",
    "fit_baselines",
    "fit_probe",
    "fraction_closed",
    "frechet_to_reference",
    "histogram",
    "importance_weights",
    "kernel_to_reference",
    "likelihood_terms",
    "log_likelihood",
    "make_grid",
    "make_reference",
    "measure_against",
    "measure_floors",
    "measure_outliers",
    "measure_planar",
    "measure_samples",
    "pilot_ladder",
    "planar_model",
    "png_bits",
    "rank_scores",
    "reverse_estimate",
    "score_images",
    "standard_scores",
    "summarize_weights",
    "tilt_of",
]
