r"""From bytes to a decision in one module: what ``vaebm score`` computes, and what ``vaebm export`` writes.

Images x of bytes and K rows of noise go in. Out come energy E, ELBO, and, with the calibration scores c₁ … cₙ,

    s = round(E − ELBO, 4 decimals),    p = (1 + #{i : cᵢ ≥ s}) / (n + 1),    decision: s ≥ threshold, which is p ≤ α.

Networks run in float64. In float32 the same image scores differently in another batch, on another machine or in another
runtime, by a few 1e-4 nats; in float64 by less than 1e-8 (docs/export.md). That is far below the fourth decimal, to
which scores are rounded, so that a score and its decision are the same everywhere.

References:
    Testing for Outliers with Conformal p-values, https://arxiv.org/abs/2104.08279
"""

from __future__ import annotations

import copy
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vaebm.applications.outlier_scores import ScoringNoise, average_terms
from vaebm.data import to_float
from vaebm.metrics.calibration import threshold
from vaebm.models import VAEBM

SCORE_DECIMALS = 4


class Decisions(NamedTuple):
    """What a scorer says of N images: energy, elbo, outlier_score, p_value (N,), float64, and decision (N,), bool."""

    energy: Tensor
    elbo: Tensor
    outlier_score: Tensor
    p_value: Tensor
    decision: Tensor


class Scorer(nn.Module):
    """A model with its calibration, from images of bytes to decisions.

    Arguments:
        model: The VAEBM; it is copied, and stays as it is.
        calibration_scores: Outlier scores of held-out normal images, (n,); rounded as those of new images are.
        false_positive_rate: The rate α at which a normal image is called an outlier.

    Raises:
        ValueError: If the model is in half precision, which has other weights and so other scores, or the calibration
            scores are too few for the rate.

    Example:
        >>> from vaebm.models import ConvVAE, EnergyNetwork
        >>> model = VAEBM(ConvVAE((1, 8, 8), (4,), widths=(16,)), EnergyNetwork((1, 8, 8), widths=(4,)))
        >>> scorer = Scorer(model, torch.arange(19.0), 0.05)
        >>> images, noise = torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.zeros(2, 4)
        >>> scorer(images, noise, torch.zeros(2, 1, 8, 8)).p_value.shape
        torch.Size([3])
    """

    calibration_scores: Tensor
    threshold: Tensor

    def __init__(self, model: VAEBM, calibration_scores: Tensor, false_positive_rate: float) -> None:
        super().__init__()
        self.false_positive_rate = false_positive_rate
        self.model = with_plain_weights(in_float64(model))
        rounded = round_scores(calibration_scores)
        least = torch.tensor(threshold(rounded, false_positive_rate), dtype=torch.float64)
        self.register_buffer("threshold", least)
        self.register_buffer("calibration_scores", rounded.sort().values)
        # The exporter puts a module back into the mode that the whole of it says it is in.
        self.eval()

    @torch.no_grad()
    def forward(self, images: Tensor, posterior_noise: Tensor, pixel_noise: Tensor) -> Decisions:
        """Scores images.

        Arguments:
            images: Images, uint8, (N, C, H, W).
            posterior_noise: The noise of K posterior samples, (K, latent_size).
            pixel_noise: The noise of K noisy copies, (K, C, H, W); without effect if ``loss_image`` is ``mean``.

        Returns:
            Scores, p-values and decisions; an image's don't depend on the other images.
        """
        noise = ScoringNoise(posterior_noise.double(), pixel_noise.double())
        terms = average_terms(self.model, to_float(images).double(), noise)
        score = round_scores(terms.outlier_score)
        num_reaching = (self.calibration_scores >= score[:, None]).sum(1)
        p_value = (1 + num_reaching).double() / (self.calibration_scores.shape[0] + 1)
        return Decisions(terms.energy, terms.elbo, score, p_value, score >= self.threshold)


def round_scores(scores: Tensor) -> Tensor:
    """Rounds scores, of any shape, to the decimals that p-values and decisions rest on.

    Example:
        >>> round_scores(torch.tensor([-977.96599999], dtype=torch.float64)).tolist()
        [-977.966]
    """
    # Not round(decimals=…), so that every runtime takes the same steps.
    rounded: Tensor = (scores.double() * 10**SCORE_DECIMALS).round() / 10**SCORE_DECIMALS
    return rounded


def in_float64(model: VAEBM) -> VAEBM:
    """Returns a copy of a model in float64 and evaluation mode.

    Raises:
        ValueError: If a parameter is in half precision: rounded weights are another model with other scores.
    """
    for name, parameter in model.named_parameters():
        if parameter.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"the model's {name} is {parameter.dtype}: expected float32 or float64, as it was trained")
    return copy.deepcopy(model).double().eval().requires_grad_(False)


def with_plain_weights(model: VAEBM) -> VAEBM:
    """Computes normalised weights once and for all, in place, and returns the model."""
    for module in list(model.modules()):
        if not parametrize.is_parametrized(module):
            continue
        values = {name: getattr(module, name).detach() for name in cast(nn.ModuleDict, module.parametrizations)}
        # Not remove_parametrizations: it changes the class, which a copy shares with its original.
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module.parametrizations
        for name, value in values.items():
            module.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return model
