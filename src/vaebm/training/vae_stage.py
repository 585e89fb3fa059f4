"""Stage 1: the VAE on the ELBO.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vaebm.distributed import Engine
from vaebm.distributions import bits_per_dim
from vaebm.models import ElboTerms
from vaebm.nn import set_recomputation, shared_batches, spectral_vectors
from vaebm.objectives import (
    ElboLoss,
    SpectralPenalty,
    balanced_elbo_loss,
    batch_norm_penalty,
    elbo_loss,
    hierarchical_kl_weight_at,
    kl_weight_at,
    penalty_weight_at,
    spectral_penalty,
)
from vaebm.training.ema import update_average
from vaebm.training.fit import Progress, one_cycle, warm_cosine

OPTIMIZERS, SCHEDULES, VAE_OBJECTIVES = ("adam", "adamax"), ("one_cycle", "warm_cosine"), ("elbo", "balanced")
ADAMAX_EPS = 1e-3
# Where NVAE's cosine ends, whatever its peak.
LEAST_RATE = 1e-4


@dataclass(frozen=True)
class VAESettings:
    """How the VAE is trained.

    Arguments:
        num_iterations: The number of optimizer steps.
        batch_size: The number of images in a batch, over all processes.
        learning_rate: The peak of the one-cycle schedule.
        kl_weight: The weight β of the divergence after warm-up; 1 is the ELBO.
        kl_warmup: The share of training in which the weight rises.
        free_nats: The divergence of a group that costs nothing.
        dequantization: The width of uniform noise added to pixels, in units of the range [−1, 1]; a grey level is
            2/255.
        ema_decay: The decay of the moving average of the weights, 0 for none.
        betas: The betas of Adam.
        clip_norm: The largest norm of the gradient.
        objective: elbo, or balanced: NVAE's warm-up, with groups balanced while it lasts.
        optimizer: adam, or adamax (NVAE).
        weight_decay: The weight of half the squared weights, in nats; the optimizer adds its gradient.
        schedule: The learning rate: one_cycle, or warm_cosine (NVAE): up linearly, then along a cosine.
        rate_warmup: The share of training in which the rate of warm_cosine rises.
        penalty: The weight λ of the singular values of convolutions and the scales of batch norms, in nats.
        initial_penalty: Where λ starts while the divergence is warmed up, 0 for λ itself.
        recompute: Whether an NVAE's feature maps are computed anew in the backward pass: about a third more time, much
            less memory.
        batch_norm_passes: After training, batch norms of the decoder are estimated anew from so many batches of its own
            samples (NVAE before it draws: 500; the paper's stage 2: 0).
        shared_batch_norm: Whether batch norms see the batch of all processes, so that several train what one does; else
            each process has its own, which waits less for the others, and running statistics are averaged.
    """

    num_iterations: int = 3000
    batch_size: int = 128
    learning_rate: float = 2e-3
    kl_weight: float = 1.0
    kl_warmup: float = 0.3
    free_nats: float = 0.0
    dequantization: float = 2 / 255
    ema_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = 100.0
    objective: str = "elbo"
    optimizer: str = "adam"
    weight_decay: float = 0.0
    schedule: str = "one_cycle"
    rate_warmup: float = 0.0125
    penalty: float = 0.0
    initial_penalty: float = 0.0
    batch_norm_passes: int = 0
    recompute: bool = False
    shared_batch_norm: bool = True


@dataclass
class VAEState:
    """All that the next step needs besides the network's weights.

    ``average`` is empty without a moving average, ``vectors``, those of the power iteration, without a penalty.
    """

    iteration: int
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor]
    generator: torch.Generator
    vectors: dict[str, Tensor] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Returns tensors and numbers to go on from."""
        return {
            "iteration": self.iteration,
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "generator": self.generator.get_state(),
            "vectors": self.vectors,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what ``state_dict`` returned."""
        self.iteration = state["iteration"]
        self.average = {name: value.to(self.average[name]) for name, value in state["average"].items()}
        self.vectors = {name: value.to(self.vectors[name]) for name, value in state["vectors"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())


def start_vae(vae: nn.Module, settings: VAESettings, generator: torch.Generator) -> VAEState:
    """Returns the state before the first step of a VAE whose parameters all learn.

    Its convolutions are laid out channels last, which is faster on CPUs.

    Raises:
        ValueError: If something is to be recomputed that can't be.
    """
    if not set_recomputation(vae, settings.recompute) and settings.recompute:
        raise ValueError("recompute is for an NVAE: this VAE has no parts that can be recomputed")
    vae.requires_grad_(True).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {name: value.clone() for name, value in vae.state_dict().items()} if settings.ema_decay else {}
    vectors = spectral_vectors(vae, generator) if settings.penalty else {}
    return VAEState(0, _optimizer(vae, settings), average, generator, vectors)


def _optimizer(vae: Any, settings: VAESettings) -> torch.optim.Optimizer:
    # Published constants go with a loss in nats; this one is divided by the number of dimensions.
    num_dims = torch.Size(vae.image_shape).numel()
    rate, betas, decay = settings.learning_rate, settings.betas, settings.weight_decay / num_dims
    if settings.optimizer == "adamax":
        return torch.optim.Adamax(vae.parameters(), rate, betas, ADAMAX_EPS / num_dims, decay)
    # Fused: one pass over each parameter instead of one for each operation.
    return torch.optim.Adam(vae.parameters(), rate, betas=betas, weight_decay=decay, fused=True)


def vae_step(vae: Any, settings: VAESettings, engine: Engine) -> Callable[[VAEState, Tensor], Progress[VAEState]]:
    """Returns the step of stage 1: maximise the weighted ELBO of a batch.

    Arguments:
        vae: The VAE, a module that satisfies ``vaebm.models.VAE``; changed in place.
        settings: How it is trained.
        engine: Device, precision and processes.

    Returns:
        A step for ``fit``. Its figures: loss, elbo, log_likelihood, kl (nats), bits_per_dim, kl_weight, learning_rate,
        grad_norm.
    """
    num_dims = torch.Size(vae.image_shape).numel()

    def step(state: VAEState, images: Tensor) -> Progress[VAEState]:
        rate, weight = _rate_at(state.iteration, settings), _kl_weight_at(state.iteration, settings)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        images, noise = _draw(images, vae, settings, engine, state.generator)
        is_shared = engine.num_processes > 1 and settings.shared_batch_norm
        with shared_batches(vae, engine.sum if is_shared else None, len(images)):
            with engine.autocast():
                terms = vae.elbo_terms(images, noise)
            result = _loss(terms, vae, weight, settings, partial(engine.mean, weight=len(images)))
            penalty = _penalty(vae, state.vectors, weight, settings)
            state.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(result.loss + penalty.value / num_dims)
        engine.average_gradients(vae, len(images))
        if not settings.shared_batch_norm:
            engine.average_buffers(vae, len(images))
        norm = nn.utils.clip_grad_norm_(vae.parameters(), settings.clip_norm)
        state.optimizer.step()
        average = update_average(state.average, vae, settings.ema_decay) if state.average else {}
        figures = {
            **{name: float(engine.mean(value, len(images))) for name, value in vars(result).items()},
            "bits_per_dim": float(bits_per_dim(engine.mean(result.elbo, len(images)), num_dims)),
            "kl_weight": weight,
            "learning_rate": rate,
            "grad_norm": float(norm),
            **({"penalty": float(penalty.value.detach())} if state.vectors else {}),
        }
        following = VAEState(state.iteration + 1, state.optimizer, average, state.generator, penalty.vectors)
        return Progress(following, figures)

    return step


def _rate_at(iteration: int, settings: VAESettings) -> float:
    if settings.schedule == "warm_cosine":
        peak = settings.learning_rate
        return warm_cosine(iteration, settings.num_iterations, peak, settings.rate_warmup, min(1.0, LEAST_RATE / peak))
    return one_cycle(iteration, settings.num_iterations, settings.learning_rate)


def _kl_weight_at(iteration: int, settings: VAESettings) -> float:
    if settings.objective == "balanced":
        return settings.kl_weight * hierarchical_kl_weight_at(iteration, settings.num_iterations, settings.kl_warmup)
    return kl_weight_at(iteration, settings.num_iterations, settings.kl_weight, settings.kl_warmup)


def _loss(
    terms: ElboTerms, vae: Any, weight: float, settings: VAESettings, whole_mean: Callable[[Tensor], Tensor]
) -> ElboLoss:
    if settings.objective == "balanced" and weight < settings.kl_weight:
        return balanced_elbo_loss(terms, vae.num_groups, weight, whole_mean)
    return elbo_loss(terms, weight, settings.free_nats, whole_mean)


def _penalty(vae: nn.Module, vectors: dict[str, Tensor], weight: float, settings: VAESettings) -> SpectralPenalty:
    """Returns the weighted penalty, in nats, and the vectors to go on from."""
    if not vectors:
        return SpectralPenalty(torch.zeros(()), {})
    found = spectral_penalty(vae, vectors)
    strength = penalty_weight_at(
        weight / (settings.kl_weight or 1.0), settings.penalty, settings.initial_penalty or None
    )
    return SpectralPenalty(strength * (found.value + batch_norm_penalty(vae)), found.vectors)


def _draw(
    images: Tensor, vae: Any, settings: VAESettings, engine: Engine, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    uniform = torch.rand(images.shape, generator=generator, device=generator.device) - 0.5
    images = images.to(engine.device) + settings.dequantization * uniform.to(engine.device)
    noise = torch.randn(len(images), vae.noise_layout.latent_size, generator=generator, device=generator.device)
    return engine.slice(images), engine.slice(noise.to(engine.device))
