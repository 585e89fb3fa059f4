r"""Stage 2: the energy network by maximum likelihood, the VAE frozen.

For each batch: start chains from the replay buffer or N(0, I); run K Langevin steps on log h(noise); carry their ends
to images, the negatives; descend Ē(data) − Ē(negatives) with the regularisers; write the ends back.

Where the negatives are *sampled* images, mean + scale·noise, the data get the same noise (noise-matched positives):
else the energy only learns to see the noise.

With the importance-sampled objective there are no chains: the negatives are draws of the VAE, weighted by exp(−E). With
matched noise, the default, it is the likelihood of data with pixel noise; the recipes of the plane switch it off.

On k processes every process holds all chains and all noise, and evaluates log h and its gradient for its own rows; so
chains, buffer and loss are those of one process. The importance-sampled normaliser rests on all draws: energies are
joined, and every process has the whole loss, whose gradient it takes by its own rows.

References:
    VAEBM: A Symbiosis between Variational Autoencoders and Energy-based Models, https://arxiv.org/abs/2010.00654
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from vaebm.distributed import Engine
from vaebm.models import VAEBM, can_fold
from vaebm.nn import initialize_from_data, set_recomputation, spectral_vectors
from vaebm.objectives import contrastive_loss, importance_sampled_loss, separation, spectral_penalty
from vaebm.sampling import FreshNoise, Kernel, ReplayBuffer, Rows, empty_buffer, standard_normal, write_back
from vaebm.training.chains import chain_models, make_kernel, negative_images, positive_images, run_chains
from vaebm.training.ema import update_average
from vaebm.training.energy_state import BUFFER_DTYPES, EnergySettings, EnergyState, kept_width
from vaebm.training.fit import Progress


def start_energy(
    model: VAEBM,
    settings: EnergySettings,
    images: Tensor,
    generator: torch.Generator,
    rows: Rows | None = None,
) -> EnergyState:
    """Freezes the VAE, initialises the energy network from data, and returns the state before the first step.

    An NVAE is laid out channels last, as in stage 1.

    Arguments:
        model: The VAEBM, its VAE trained and its energy network new.
        settings: How it will be trained.
        images: Images (B, C, H, W) for the initialisation, at least two.
        generator: The source of all randomness of the stage.
        rows: Where the replay buffer keeps its end points; by default in memory.

    Raises:
        ValueError: If the settings keep the buffer on disk, and there are no rows.
    """
    if settings.buffer_on_disk and settings.buffer_size and rows is None:
        raise ValueError("buffer_on_disk is true: expected rows on a disk, such as vaebm.checkpoint.RowFile")
    model.vae.requires_grad_(False).eval()
    set_recomputation(model.vae, False)
    if can_fold(model):
        model.vae.to(memory_format=torch.channels_last)
    model.energy.requires_grad_(True).train()
    initialize_from_data(model.energy, images.to(next(model.energy.parameters()).device), settings.initial_spread)
    width, dtype = kept_width(model.noise_layout, settings), BUFFER_DTYPES[settings.buffer_dtype]
    return EnergyState(
        iteration=0,
        optimizer=torch.optim.Adam(
            model.energy.parameters(), settings.learning_rate, settings.betas, weight_decay=settings.weight_decay
        ),
        average={name: value.clone() for name, value in model.energy.state_dict().items()},
        buffer=ReplayBuffer(rows) if rows is not None else empty_buffer(settings.buffer_size, width, dtype),
        vectors=spectral_vectors(model.energy, generator),
        generator=generator,
    )


def energy_step(
    model: VAEBM,
    settings: EnergySettings,
    engine: Engine,
    kernel: Kernel | None = None,
    fresh: FreshNoise = standard_normal,
) -> Callable[[EnergyState, Tensor], Progress[EnergyState]]:
    """Returns the step of stage 2.

    Arguments:
        model: The VAEBM; its energy network is changed in place.
        settings: How it is trained.
        engine: Device, precision and processes.
        kernel: The kernel of the chains, by default that of the settings.
        fresh: Draws where chains start that don't go on from the buffer, by default from N(0, I).

    Returns:
        A step for ``fit``. Its figures: loss, data_energy, sample_energy, gap, energy_variance (the mean of that of
        data and that of samples), separation (the gap in standard deviations), spectral_penalty, noise_norm (|noise|²/D
        at the end of the chains), displacement (RMS distance from start to end, in units of √D), chain_grad_norm,
        acceptance, would_accept (how likely Metropolis would have accepted the moves of a kernel without an accept
        step), num_replayed, learning_rate, grad_norm. With the importance-sampled objective there are no chains: loss,
        data_energy, log_z, effective_sample_size, spectral_penalty, learning_rate, grad_norm.
    """
    if settings.objective == "importance_sampled":
        if kernel is not None:
            raise ValueError("the importance-sampled objective runs no chains: expected no kernel")
        return _importance_step(model, settings, engine)
    chosen = kernel or make_kernel(settings.kernel, settings.step_size, settings.jump_probability, settings.persistence)
    chain_model = chain_models(model, engine, settings.compile_decoder)

    def step(state: EnergyState, images: Tensor) -> Progress[EnergyState]:
        rate = _set_rate(state, settings)
        is_noisy = model.image_fields.loss_image == "sampled"
        positives = positive_images(model, settings, engine, images, state.generator, is_noisy)
        fast = chain_model()
        chains = run_chains(fast, settings, engine, chosen, state, fresh)
        negatives = negative_images(fast, engine, chains.noise)
        with engine.autocast():
            energies = model.energy(torch.cat([positives, negatives]))
        data_energy, sample_energy = torch.split(energies, [len(positives), len(negatives)])
        num_rows = len(positives)
        contrast = contrastive_loss(
            data_energy, sample_energy, settings.centring, settings.l2, lambda level: engine.mean(level, num_rows)
        )
        descent = _descend(model, settings, engine, state, contrast.loss, num_rows)
        means = {name: float(engine.mean(value, num_rows)) for name, value in vars(contrast).items()}
        figures = {
            **_energy_figures(means, settings.batch_size),
            **descent.figures,
            **chains.figures,
            "learning_rate": rate,
        }
        return Progress(replace(descent.state, buffer=write_back(state.buffer, chains.noise)), figures)

    return step


def _energy_figures(means: dict[str, float], num_rows: int) -> dict[str, float]:
    """Returns the means over a batch of B rows with variance and separation of energies in the place of squares."""
    figures = dict(means)
    spread = max(figures.pop("data_square") - means["data_energy"] ** 2, 0.0)
    sample_spread = max(figures.pop("sample_square") - means["sample_energy"] ** 2, 0.0)
    # Of a batch of one there is no variance, and so no separation.
    variance = (spread + sample_spread) / 2 * num_rows / (num_rows - 1) if num_rows > 1 else math.inf
    told = {"energy_variance": variance, "separation": separation(means["gap"], variance, variance)}
    return {**figures, **told}


def _importance_step(
    model: VAEBM, settings: EnergySettings, engine: Engine
) -> Callable[[EnergyState, Tensor], Progress[EnergyState]]:
    def step(state: EnergyState, images: Tensor) -> Progress[EnergyState]:
        rate = _set_rate(state, settings)
        # Draws and data are compared as the energy of the density sees them: with or without pixel noise.
        is_noisy = model.image_fields.chain_image == "sampled"
        positives = positive_images(model, settings, engine, images, state.generator, is_noisy)
        shape = (settings.num_prior_samples, model.noise_layout.size)
        noise = torch.randn(shape, generator=state.generator, device=state.generator.device).to(engine.device)
        with torch.no_grad(), engine.autocast():
            draws = model.transport(engine.slice(noise)).image.float()
        with engine.autocast():
            energies = model.energy(torch.cat([positives, draws]))
        data_energy, prior_energy = torch.split(energies, [len(positives), len(draws)])
        whole = (_joined(data_energy, engine, len(images)), _joined(prior_energy, engine, settings.num_prior_samples))
        sampled = importance_sampled_loss(*whole, settings.centring)
        # Every process has the whole loss, whatever rows are its own: all count alike.
        descent = _descend(model, settings, engine, state, sampled.loss, 1)
        parts = {name: float(value.detach()) for name, value in vars(sampled).items()}
        return Progress(descent.state, {**parts, **descent.figures, "learning_rate": rate})

    return step


def _joined(energies: Tensor, engine: Engine, num_rows: int) -> Tensor:
    """Returns the energies of all processes, shape (num_rows,); the mean of their gradients is that of the whole."""
    if engine.num_processes == 1:
        return energies
    own = engine.slice(torch.arange(num_rows, device=energies.device))
    # Zeros with a slope: the gradient reaches own rows only, k times, as the mean over k processes is taken.
    rise = engine.num_processes * (energies - energies.detach())
    return engine.gather(energies, num_rows).index_add(0, own, rise)


def _set_rate(state: EnergyState, settings: EnergySettings) -> float:
    position = state.iteration / settings.num_iterations
    factor = 0.5 * (1 + math.cos(math.pi * position)) if settings.schedule == "cosine" else 1.0
    num_rising = settings.rate_warmup * settings.num_iterations
    if state.iteration < num_rising:
        factor *= (state.iteration + 1) / (num_rising + 1)
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
