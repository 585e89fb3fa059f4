"""What is minimised: the negative ELBO, the contrastive loss, and what keeps the energy in place."""

from vaebm.objectives.balancing import (
    balancing_weights,
    batch_norm_penalty,
    hierarchical_kl_weight_at,
    penalty_weight_at,
)
from vaebm.objectives.contrastive import ContrastiveLoss, contrastive_loss, separation
from vaebm.objectives.elbo import ElboLoss, balanced_elbo_loss, elbo_loss, kl_weight_at
from vaebm.objectives.importance_sampled import ImportanceSampledLoss, importance_sampled_loss
from vaebm.objectives.regularization import SpectralPenalty, spectral_penalty

__all__ = [
    "ContrastiveLoss",
    "ElboLoss",
    "ImportanceSampledLoss",
    "SpectralPenalty",
    "balanced_elbo_loss",
    "balancing_weights",
    "batch_norm_penalty",
    "contrastive_loss",
    "elbo_loss",
    "hierarchical_kl_weight_at",
    "importance_sampled_loss",
    "kl_weight_at",
    "penalty_weight_at",
    "separation",
    "spectral_penalty",
]
