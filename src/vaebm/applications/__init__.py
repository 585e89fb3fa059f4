"""What one does with a trained VAEBM: generate images, score outliers."""

from vaebm.applications.generation import Generation, generate, generate_from_vae, sample_chains
from vaebm.applications.outlier_scores import OutlierScores, outlier_scores

__all__ = ["Generation", "OutlierScores", "generate", "generate_from_vae", "outlier_scores", "sample_chains"]
