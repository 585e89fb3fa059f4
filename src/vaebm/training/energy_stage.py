r"""Stage 2: the energy network by maximum likelihood, the VAE frozen.

For each batch: start chains from the replay buffer or N(0, I); run K Langevin steps on log h(noise); carry their ends
to images, the negatives; descend Ē(data) − Ē(negatives) with the regularisers; write the ends back.

Where the negatives are *sampled* images, mean + scale·noise, the data get the same noise (noise-matched positives):
else the energy only learns to see the noise.

With the importance-sampled objective there are no chains: the negatives are draws of the VAE, weighted by exp(−E). With
matched noise, the default, it is the likelihood of data with pixel noise; the recipes of the plane switch it off.

On k processes every process holds all chains and all noise, and evaluates log h and its gradient for its own rows; so
chains and buffer are those of one process. Only the centring term is that of each process's rows.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from vaebm.distributed import Engine
from vaebm.models import VAEBM, EnergyNetwork, FoldedEnergy, FoldedNVAE, can_fold
from vaebm.nn import frozen, initialize_from_data, spectral_vectors
from vaebm.objectives import contrastive_loss, importance_sampled_loss, spectral_penalty
from vaebm.sampling import (
    Jump,
    Kernel,
    Langevin,
    LogDensity,
    Mala,
    Mixture,
    ReplayBuffer,
    draw_start,
    empty_buffer,
    grad_log_density,
    run_chain,
    write_back,
)
from vaebm.training.ema import update_average
from vaebm.training.fit import Progress

KERNELS = ("langevin", "mala")
OBJECTIVES, ENERGY_SCHEDULES = ("contrastive", "importance_sampled"), ("cosine", "constant")
POTENTIALS = ("exact", "official")


@dataclass(frozen=True)
class EnergySettings:
    """How the energy network is trained.

    Arguments:
        num_iterations: The number of optimizer steps.
        batch_size: The number of chains and of data images in a batch, over all processes.
        learning_rate: The initial rate of Adam.
        schedule: cosine, along which the rate falls to zero, or constant (the paper).
        weight_decay: The weight of half the squared weights; Adam adds its gradient.
        num_steps: The number of steps K of the kernel for each batch.
        step_size: The step size η.
        replay_probability: The probability p that a chain goes on from the buffer, after its rise.
        replay_rise: The share of training in which p rises from zero.
        buffer_size: The number of end points that the buffer holds, 0 for none.
        buffer_keeps: ``all`` the noise, or the ``latent`` part (the paper).
        matched_noise: Whether data get the pixel noise of the VAE where the negatives have it.
        centring: The weight of the term that holds the energy level.
        l2: The weight of the term that holds each energy near zero.
        spectral: The weight of the spectral penalty.
        ema_decay: The decay of the moving average that becomes the model.
        betas: The betas of Adam.
        clip_norm: The largest norm of the gradient.
        clip_deviations: Each entry of the gradient is cut off at so many of Adam's root mean squares plus 0.1, 0 for
            no such cut (the paper: 3).
        initial_spread: The standard deviation that data-dependent initialisation gives each layer's outputs.
        objective: contrastive (negatives from chains), or importance_sampled (no chains; for few dimensions only).
        num_prior_samples: The number of draws of the VAE in a batch behind the importance-sampled normaliser.
        kernel: The chains' kernel, langevin or mala (with an accept step).
        jump_probability: How often a step is a jump from N(0, I) with an accept step instead.
        potential: What the chains of training follow: the exact density, or, for comparison, the official release's.
    """

    num_iterations: int = 1000
    batch_size: int = 64
    learning_rate: float = 6e-4
    schedule: str = "cosine"
    weight_decay: float = 0.0
    num_steps: int = 15
    step_size: float = 0.05
    replay_probability: float = 0.95
    replay_rise: float = 0.0
    buffer_size: int = 1000
    buffer_keeps: str = "all"
    matched_noise: bool = True
    centring: float = 1e-3
    l2: float = 0.0
    spectral: float = 0.01
    ema_decay: float = 0.99
    betas: tuple[float, float] = (0.0, 0.99)
    clip_norm: float = 100.0
    clip_deviations: float = 0.0
    initial_spread: float = 0.2
    objective: str = "contrastive"
    num_prior_samples: int = 1024
    kernel: str = "langevin"
    jump_probability: float = 0.0
    potential: str = "exact"


@dataclass
class EnergyState:
    """All that the next step needs besides the network's weights; ``average`` is the moving average of the energy."""

    iteration: int
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor]
    buffer: ReplayBuffer
    vectors: dict[str, Tensor]
    generator: torch.Generator

    def state_dict(self) -> dict[str, Any]:
        """Returns tensors and numbers to go on from."""
        return {
            "iteration": self.iteration,
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "buffer": self.buffer.noise,
            "vectors": self.vectors,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what ``state_dict`` returned."""
        self.iteration = state["iteration"]
        self.average = {name: value.to(self.average[name]) for name, value in state["average"].items()}
        self.vectors = {name: value.to(self.vectors[name]) for name, value in state["vectors"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.buffer = replace(self.buffer, noise=state["buffer"].to(self.buffer.noise))
        self.generator.set_state(state["generator"].cpu())


def make_kernel(name: str, step_size: float, jump_probability: float = 0.0) -> Kernel:
    """Returns the kernel of a name, mixed with independent jumps if asked for.

    Arguments:
        name: ``langevin`` or ``mala``.
        step_size: The step size η.
        jump_probability: How often a step is a jump from N(0, I).

    Raises:
        ValueError: If there is no kernel of this name.

    Example:
        >>> make_kernel("mala", 0.1)
        Mala(step_size=0.1)
    """
    if name not in KERNELS:
        raise ValueError(f"kernel is {name!r}: expected one of {', '.join(KERNELS)}")
    local: Kernel = Mala(step_size) if name == "mala" else Langevin(step_size)
    if jump_probability == 0:
        return local
    return Jump() if jump_probability == 1 else Mixture((local, Jump()), (1 - jump_probability, jump_probability))


def log_density_of(model: VAEBM, potential: str) -> LogDensity:
    """Returns what chains follow: the ``exact`` log-density, or the ``official`` release's.

    Raises:
        ValueError: If there is no potential of this name.
    """
    if potential not in POTENTIALS:
        raise ValueError(f"potential is {potential!r}: expected one of {', '.join(POTENTIALS)}")
    return model.log_density if potential == "exact" else model.official_log_density


def start_energy(model: VAEBM, settings: EnergySettings, images: Tensor, generator: torch.Generator) -> EnergyState:
    """Freezes the VAE, initialises the energy network from data, and returns the state before the first step.

    Arguments:
        model: The VAEBM, its VAE trained and its energy network new.
        settings: How it will be trained.
        images: Images (B, C, H, W) for the initialisation, at least two.
        generator: The source of all randomness of the stage.
    """
    model.vae.requires_grad_(False).eval()
    model.energy.requires_grad_(True).train()
    initialize_from_data(model.energy, images.to(next(model.energy.parameters()).device), settings.initial_spread)
    layout = model.noise_layout
    width = layout.latent_size if settings.buffer_keeps == "latent" else layout.size
    return EnergyState(
        iteration=0,
        optimizer=torch.optim.Adam(
            model.energy.parameters(), settings.learning_rate, settings.betas, weight_decay=settings.weight_decay
        ),
        average={name: value.clone() for name, value in model.energy.state_dict().items()},
        buffer=empty_buffer(settings.buffer_size, width),
        vectors=spectral_vectors(model.energy, generator),
        generator=generator,
    )


def energy_step(
    model: VAEBM, settings: EnergySettings, engine: Engine, kernel: Kernel | None = None
) -> Callable[[EnergyState, Tensor], Progress[EnergyState]]:
    """Returns the step of stage 2.

    Arguments:
        model: The VAEBM; its energy network is changed in place.
        settings: How it is trained.
        engine: Device, precision and processes.
        kernel: The kernel of the chains, by default that of the settings.

    Returns:
        A step for ``fit``. Its figures: loss, data_energy, sample_energy, gap, spectral_penalty, noise_norm (|noise|²/D
        at the end of the chains), displacement (RMS distance from start to end, in units of √D), chain_grad_norm,
        acceptance, num_replayed, learning_rate, grad_norm. With the importance-sampled objective there are no chains:
        loss, data_energy, log_z, effective_sample_size, spectral_penalty, learning_rate, grad_norm.
    """
    if settings.objective == "importance_sampled":
        if kernel is not None:
            raise ValueError("the importance-sampled objective runs no chains: expected no kernel")
        return _importance_step(model, settings, engine)
    chosen = kernel or make_kernel(settings.kernel, settings.step_size, settings.jump_probability)
    chain_model = _chain_models(model, engine)

    def step(state: EnergyState, images: Tensor) -> Progress[EnergyState]:
        rate = _set_rate(state, settings)
        is_noisy = model.image_fields.loss_image == "sampled"
        positives = _positives(model, settings, engine, images, state.generator, is_noisy)
        fast = chain_model()
        chains = _run(fast, settings, engine, chosen, state)
        negatives = _negatives(fast, engine, chains.noise)
        with engine.autocast():
            energies = model.energy(torch.cat([positives, negatives]))
        data_energy, sample_energy = torch.split(energies, [len(positives), len(negatives)])
        contrast = contrastive_loss(data_energy, sample_energy, settings.centring, settings.l2)
        descent = _descend(model, settings, engine, state, contrast.loss, len(positives))
        figures = {
            **{name: float(engine.mean(value, len(positives))) for name, value in vars(contrast).items()},
            **descent.figures,
            **chains.figures,
            "learning_rate": rate,
        }
        return Progress(replace(descent.state, buffer=write_back(state.buffer, chains.noise)), figures)

    return step


def _chain_models(model: VAEBM, engine: Engine) -> Callable[[], VAEBM]:
    """Returns what gives the form that chains follow: the VAE, which stays, is folded once, the energy network anew."""
    if not can_fold(model):
        return lambda: model
    dtype = torch.bfloat16 if engine.precision == "bf16" else next(model.parameters()).dtype
    vae = FoldedNVAE(model.vae, dtype)
    return lambda: VAEBM(vae, FoldedEnergy(cast(EnergyNetwork, model.energy), dtype), model.image_fields)


def _importance_step(
    model: VAEBM, settings: EnergySettings, engine: Engine
) -> Callable[[EnergyState, Tensor], Progress[EnergyState]]:
    if engine.num_processes > 1:
        raise ValueError("the importance-sampled objective runs in one process: expected objective 'contrastive'")

    def step(state: EnergyState, images: Tensor) -> Progress[EnergyState]:
        rate = _set_rate(state, settings)
        # Draws and data are compared as the energy of the density sees them: with or without pixel noise.
        is_noisy = model.image_fields.chain_image == "sampled"
        positives = _positives(model, settings, engine, images, state.generator, is_noisy)
        shape = (settings.num_prior_samples, model.noise_layout.size)
        noise = torch.randn(shape, generator=state.generator, device=state.generator.device).to(engine.device)
        with torch.no_grad(), engine.autocast():
            draws = model.transport(noise).image.float()
        with engine.autocast():
            energies = model.energy(torch.cat([positives, draws]))
        data_energy, prior_energy = torch.split(energies, [len(positives), len(draws)])
        sampled = importance_sampled_loss(data_energy, prior_energy, settings.centring)
        descent = _descend(model, settings, engine, state, sampled.loss, len(positives))
        parts = {name: float(value.detach()) for name, value in vars(sampled).items()}
        return Progress(descent.state, {**parts, **descent.figures, "learning_rate": rate})

    return step


def _set_rate(state: EnergyState, settings: EnergySettings) -> float:
    position = state.iteration / settings.num_iterations
    factor = 0.5 * (1 + math.cos(math.pi * position)) if settings.schedule == "cosine" else 1.0
    rate = settings.learning_rate * factor
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    return rate


def _descend(
    model: VAEBM, settings: EnergySettings, engine: Engine, state: EnergyState, objective: Tensor, num_rows: int
) -> Progress[EnergyState]:
    """Takes one step of the optimizer on the objective and the spectral penalty."""
    penalty = spectral_penalty(model.energy, state.vectors)
    loss = objective + settings.spectral * penalty.value
    state.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    engine.average_gradients(model.energy, num_rows)
    if settings.clip_deviations:
        _clip_entries(state.optimizer, settings.clip_deviations)
    norm = nn.utils.clip_grad_norm_(model.energy.parameters(), settings.clip_norm)
    state.optimizer.step()
    figures = {
        "loss": float(engine.mean(loss, num_rows)),
        "spectral_penalty": float(penalty.value.detach()),
        "grad_norm": float(norm),
    }
    average = update_average(state.average, model.energy, settings.ema_decay)
    return Progress(replace(state, iteration=state.iteration + 1, average=average, vectors=penalty.vectors), figures)


def _clip_entries(optimizer: torch.optim.Optimizer, deviations: float, offset: float = 0.1) -> None:
    """Cuts each entry of the gradient off at so many of Adam's root mean squares plus an offset; not the first time."""
    (group,) = optimizer.param_groups
    for parameter in group["params"]:
        known = optimizer.state.get(parameter)
        if known and parameter.grad is not None:
            mean_square = known["exp_avg_sq"] / (1 - group["betas"][1] ** float(known["step"]))
            bound = deviations * mean_square.sqrt() + offset
            parameter.grad.copy_(parameter.grad.clamp(-bound, bound))


@dataclass(frozen=True)
class _Chains:
    noise: Tensor
    figures: dict[str, float]


def _positives(
    model: VAEBM,
    settings: EnergySettings,
    engine: Engine,
    images: Tensor,
    generator: torch.Generator,
    is_noisy: bool,
) -> Tensor:
    noise = torch.randn(images.shape, generator=generator, device=generator.device)
    images, noise = engine.slice(images.to(engine.device)), engine.slice(noise.to(engine.device))
    if not settings.matched_noise or not is_noisy:
        return images
    with torch.no_grad():
        posterior_noise = images.new_zeros(len(images), model.noise_layout.latent_size)
        scale: Tensor = model.vae.elbo_terms(images, posterior_noise).scale
    return images + scale * noise


def _shared(log_density: LogDensity, engine: Engine) -> LogDensity:
    def shared(noise: Tensor, /) -> Tensor:
        own = grad_log_density(log_density, engine.slice(noise))
        # A plane through the gathered values, with the gathered gradients as its slope.
        rise = (noise - noise.detach()) * engine.gather(own.grad)
        return engine.gather(own.value) + rise.sum(1)

    return log_density if engine.num_processes == 1 else shared


def _run(model: VAEBM, settings: EnergySettings, engine: Engine, kernel: Kernel, state: EnergyState) -> _Chains:
    shape = (settings.batch_size, model.noise_layout.size)
    probability = settings.replay_probability
    if settings.replay_rise > 0:
        probability *= min(1.0, state.iteration / (settings.replay_rise * settings.num_iterations))
    start = draw_start(state.buffer, shape, probability, state.generator)
    noise = begin = start.noise.to(engine.device)
    grad_norm = noise.new_full((1,), torch.nan)
    accepted: list[Tensor] = []
    log_density = _shared(log_density_of(model, settings.potential), engine)
    with frozen(model.energy), engine.autocast():
        for chain_step in run_chain(kernel, begin, log_density, settings.num_steps, state.generator):
            noise, info = chain_step.state.noise, chain_step.info
            # A jump takes no gradient: that of the last step which took one is shown.
            grad_norm = grad_norm if info.grad_norm.isnan().all() else info.grad_norm
            accepted.append(info.acceptance.mean())
    figures = {
        "noise_norm": float(noise.square().mean(dtype=torch.float64)),
        "displacement": float((noise - begin).square().mean(dtype=torch.float64).sqrt()),
        "chain_grad_norm": float(grad_norm.mean()),
        "acceptance": float(torch.stack(accepted).mean()),
        "num_replayed": float(start.num_replayed),
    }
    return _Chains(noise, figures)


def _negatives(model: VAEBM, engine: Engine, noise: Tensor) -> Tensor:
    with torch.no_grad(), engine.autocast():
        transported = model.transport(engine.slice(noise))
        return transported.pick(model.image_fields.loss_image).float()
