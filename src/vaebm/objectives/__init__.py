"""What is minimised: the negative ELBO, the contrastive loss, and what keeps the energy in place."""

from vaebm.objectives.contrastive import ContrastiveLoss, contrastive_loss
from vaebm.objectives.elbo import ElboLoss, elbo_loss, kl_weight_at
from vaebm.objectives.importance_sampled import ImportanceSampledLoss, importance_sampled_loss
from vaebm.objectives.regularization import SpectralPenalty, spectral_penalty

__all__ = [
    "ContrastiveLoss",
    "ElboLoss",
    "ImportanceSampledLoss",
    "SpectralPenalty",
    "contrastive_loss",
    "elbo_loss",
    "importance_sampled_loss",
    "kl_weight_at",
    "spectral_penalty",
]
