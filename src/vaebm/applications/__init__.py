"""What one does with a trained VAEBM: generate images, score outliers."""

from vaebm.applications.generation import Generation, generate, sample_chains, snapshots, start_noise
from vaebm.applications.outlier_scores import OutlierScores, outlier_scores

__all__ = ["Generation", "OutlierScores", "generate", "outlier_scores", "sample_chains", "snapshots", "start_noise"]
