r"""Diagonal Gaussians: density, divergence and transport of standard-normal noise.

For mean μ and scale σ: transport(ε) = μ + σ ε, log N(x; μ, σ) = −½ Σ ((x−μ)/σ)² − Σ log σ − (D/2) log 2π, and
KL(q‖p) = Σ log σ_p/σ_q + (σ_q² + (μ_q−μ_p)²)/(2σ_p²) − ½. Sums are float64, over all axes but the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def _sum(values: Tensor) -> Tensor:
    return values.double().flatten(1).sum(1)


@dataclass(frozen=True)
class Normal:
    """A diagonal Gaussian with batched mean and scale, shape (B, …), broadcastable to each other.

    Example:
        >>> import torch
        >>> normal = Normal(torch.zeros(2, 3), torch.ones(2, 3))
        >>> normal.log_prob(torch.zeros(2, 3))
        tensor([-2.7568, -2.7568], dtype=torch.float64)
        >>> normal.kl(normal)
        tensor([0., 0.], dtype=torch.float64)
    """

    mean: Tensor
    scale: Tensor

    def transport(self, noise: Tensor) -> Tensor:
        """Maps standard-normal noise (B, …) to a sample, μ + σ·noise."""
        return self.mean + self.scale * noise

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log-density of value (B, …) in nats, shape (B,), float64."""
        scaled = (value - self.mean) / self.scale
        constant = 0.5 * math.log(2 * math.pi) * value.shape[1:].numel()
        return -0.5 * _sum(scaled.square()) - _sum(self.scale.log().expand_as(value)) - constant

    def kl(self, other: Normal) -> Tensor:
        """Returns KL(self ‖ other) in nats, shape (B,), float64."""
        ratio = self.scale / other.scale
        distance = (self.mean - other.mean) / other.scale
        return _sum(0.5 * (ratio.square() + distance.square() - 1) - ratio.log())


class _SquaredNorm(torch.autograd.Function):
    """|noise|² of each row in float64, without a copy of the noise in that type; the gradient is 2·noise."""

    @staticmethod
    def forward(ctx: Any, noise: Tensor) -> Tensor:
        ctx.save_for_backward(noise)
        norm: Tensor = torch.linalg.vector_norm(noise, dim=1, dtype=torch.float64)
        return norm.square()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (noise,) = ctx.saved_tensors
        scaled: Tensor = noise * (2 * gradients[0]).to(noise.dtype)[:, None]
        return scaled


def standard_normal_log_prob(noise: Tensor) -> Tensor:
    """Returns log N(noise; 0, I) of noise (B, D) in nats, shape (B,), float64."""
    squared: Tensor = _SquaredNorm.apply(noise)  # type: ignore[no-untyped-call]
    return -0.5 * squared - 0.5 * noise.shape[1] * math.log(2 * math.pi)


def bits_per_dim(log_likelihood: Tensor, num_dims: int) -> Tensor:
    """Converts nats per image of [−1, 1] pixels into bits per dimension of 8-bit pixels (0 … 255), any shape.

    A density over [−1, 1] becomes one over [0, 255] by the factor 127.5 for each dimension.
    """
    return (-log_likelihood / num_dims + math.log(127.5)) / math.log(2)
