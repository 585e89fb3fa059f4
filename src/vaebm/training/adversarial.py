r"""A generator against a critic, WGAN-GP: what an energy-based model is compared with.

The VAE's decoder is the generator, G(noise) = mean(z(noise)), the energy network the critic, low for data:

    critic: min  E[c(x)] − E[c(G(noise))] + λ E[(|∇c(x̂)| − 1)²],    x̂ = u x + (1 − u) G(noise), u ~ U(0, 1),
    generator: min  E[c(G(noise))].

Each step of the critic sees images of its own.

References:
    Improved Training of Wasserstein GANs, https://arxiv.org/abs/1704.00028
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vaebm.distributed import Engine
from vaebm.models import VAEBM
from vaebm.nn import initialize_from_data
from vaebm.training.ema import update_average
from vaebm.training.fit import Progress


@dataclass(frozen=True)
class AdversarialSettings:
    """How generator and critic are trained.

    Arguments:
        num_iterations: The number of steps of the generator.
        batch_size: The number of images, and of samples, in one step of the critic or of the generator.
        learning_rate: The rate of the generator's Adam.
        critic_rate: That of the critic's.
        num_critic_steps: The number of steps of the critic for each of the generator's.
        penalty: The weight λ of the gradient penalty.
        betas: The betas of both.
        ema_decay: The decay of the moving average of the generator.
        initial_spread: The standard deviation that data-dependent initialisation gives each layer of the critic.
    """

    num_iterations: int = 1000
    batch_size: int = 64
    learning_rate: float = 1e-4
    critic_rate: float = 1e-4
    num_critic_steps: int = 5
    penalty: float = 10.0
    betas: tuple[float, float] = (0.0, 0.9)
    ema_decay: float = 0.99
    initial_spread: float = 1.0


@dataclass
class AdversarialState:
    """All that the next step needs besides the networks; ``average`` is the moving average of the VAE."""

    iteration: int
    optimizer: torch.optim.Optimizer
    critic_optimizer: torch.optim.Optimizer
    average: dict[str, Tensor]
    generator: torch.Generator

    def state_dict(self) -> dict[str, Any]:
        """Returns tensors and numbers to go on from."""
        return {
            "iteration": self.iteration,
            "optimizer": self.optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "average": self.average,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what ``state_dict`` returned."""
        self.iteration = state["iteration"]
        self.average = {name: value.to(self.average[name]) for name, value in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        self.generator.set_state(state["generator"].cpu())


def start_adversarial(
    model: VAEBM, settings: AdversarialSettings, images: Tensor, generator: torch.Generator
) -> AdversarialState:
    """Initialises the critic from data, and returns the state before the first step.

    Arguments:
        model: The VAEBM whose decoder and energy network play; batch norms of the decoder keep their statistics.
        settings: How they will be trained.
        images: Images (B, C, H, W) for the initialisation, at least two.
        generator: The source of all randomness of the training.
    """
    model.vae.requires_grad_(True).eval()
    model.energy.requires_grad_(True).train()
    initialize_from_data(model.energy, images.to(next(model.energy.parameters()).device), settings.initial_spread)
    return AdversarialState(
        iteration=0,
        optimizer=torch.optim.Adam(model.vae.parameters(), settings.learning_rate, settings.betas),
        critic_optimizer=torch.optim.Adam(model.energy.parameters(), settings.critic_rate, settings.betas),
        average={name: value.clone() for name, value in model.vae.state_dict().items()},
        generator=generator,
    )


def adversarial_step(
    model: VAEBM, settings: AdversarialSettings, engine: Engine
) -> Callable[[AdversarialState, Tensor], Progress[AdversarialState]]:
    """Returns the step: several of the critic, each on images of its own, then one of the generator.

    Arguments:
        model: The VAEBM; decoder and energy network are changed in place.
        settings: How they are trained.
        engine: Device and precision; of one process.

    Returns:
        A step for ``fit``, whose batches hold num_critic_steps · batch_size images: an equal part of them for each step
        of the critic. Its figures: loss (the generator's), gap (critic of data less critic of samples) and
        critic_grad_norm (the mean of |∇c(x̂)|), both of the last step of the critic.

    Raises:
        ValueError: By the step, if a batch can't be divided so.
    """

    def samples(num_images: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn(num_images, model.noise_layout.size, generator=generator, device=generator.device)
        return model.transport(noise.to(engine.device)).mean

    def teach(state: AdversarialState, images: Tensor) -> dict[str, float]:
        with torch.no_grad(), engine.autocast():
            fake = samples(len(images), state.generator).float()
        with engine.autocast():
            real_value, fake_value = model.energy(torch.cat([images, fake])).split(len(images))
        gap = real_value.double().mean() - fake_value.double().mean()
        norms = _slopes(model.energy, images, fake, state.generator)
        state.critic_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(gap + settings.penalty * (norms - 1).square().mean())
        state.critic_optimizer.step()
        return {"gap": float(gap.detach()), "critic_grad_norm": float(norms.detach().mean())}

    def step(state: AdversarialState, images: Tensor) -> Progress[AdversarialState]:
        size, rest = divmod(len(images), settings.num_critic_steps)
        if rest or not size:
            raise ValueError(
                f"{len(images)} images for {settings.num_critic_steps} steps of the critic: expected as many for each"
            )
        for part in torch.split(images.to(engine.device), size):
            figures = teach(state, part)
        with engine.autocast():
            loss = model.energy(samples(size, state.generator)).double().mean()
        state.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        state.optimizer.step()
        average = update_average(state.average, model.vae, settings.ema_decay)
        following = replace(state, iteration=state.iteration + 1, average=average)
        return Progress(following, {"loss": float(loss.detach()), **figures})

    return step


def _slopes(critic: nn.Module, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
    """Returns the norms (B,) of the critic's gradient between data and samples, differentiable, in full precision."""
    share = torch.rand(len(real), 1, 1, 1, generator=generator, device=generator.device).to(real.device)
    between = (share * real + (1 - share) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    norms: Tensor = slope.flatten(1).norm(dim=1)
    return norms
