"""Stage 1: the VAE on the ELBO.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vaebm.distributed import Engine
from vaebm.distributions import bits_per_dim
from vaebm.objectives import elbo_loss, kl_weight_at
from vaebm.training.ema import update_average
from vaebm.training.fit import Progress, one_cycle


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


@dataclass
class VAEState:
    """All that the next step needs besides the network's weights; ``average`` is empty without a moving average."""

    iteration: int
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor]
    generator: torch.Generator

    def state_dict(self) -> dict[str, Any]:
        """Returns tensors and numbers to go on from."""
        return {
            "iteration": self.iteration,
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what ``state_dict`` returned."""
        self.iteration = state["iteration"]
        self.average = {name: value.to(self.average[name]) for name, value in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())


def start_vae(vae: nn.Module, settings: VAESettings, generator: torch.Generator) -> VAEState:
    """Returns the state before the first step of a VAE whose parameters all learn."""
    vae.requires_grad_(True).train()
    average = {name: value.clone() for name, value in vae.state_dict().items()} if settings.ema_decay else {}
    # Fused: one pass over each parameter instead of one for each operation.
    optimizer = torch.optim.Adam(vae.parameters(), settings.learning_rate, betas=settings.betas, fused=True)
    return VAEState(0, optimizer, average, generator)


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
        rate = one_cycle(state.iteration, settings.num_iterations, settings.learning_rate)
        weight = kl_weight_at(state.iteration, settings.num_iterations, settings.kl_weight, settings.kl_warmup)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        images, noise = _draw(images, vae, settings, engine, state.generator)
        with engine.autocast():
            terms = vae.elbo_terms(images, noise)
        result = elbo_loss(terms, weight, settings.free_nats)
        state.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(result.loss)
        engine.average_gradients(vae, len(images))
        norm = nn.utils.clip_grad_norm_(vae.parameters(), settings.clip_norm)
        state.optimizer.step()
        average = update_average(state.average, vae, settings.ema_decay) if state.average else {}
        figures = {
            **{name: float(engine.mean(value, len(images))) for name, value in vars(result).items()},
            "bits_per_dim": float(bits_per_dim(engine.mean(result.elbo, len(images)), num_dims)),
            "kl_weight": weight,
            "learning_rate": rate,
            "grad_norm": float(norm),
        }
        return Progress(VAEState(state.iteration + 1, state.optimizer, average, state.generator), figures)

    return step


def _draw(
    images: Tensor, vae: Any, settings: VAESettings, engine: Engine, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    uniform = torch.rand(images.shape, generator=generator, device=generator.device) - 0.5
    images = images.to(engine.device) + settings.dequantization * uniform.to(engine.device)
    noise = torch.randn(len(images), vae.noise_layout.latent_size, generator=generator, device=generator.device)
    return engine.slice(images), engine.slice(noise.to(engine.device))
