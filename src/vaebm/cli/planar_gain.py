"""What an energy network of the plane has gained over its VAE, by which it is chosen and guarded.

In few dimensions the weights exp(−E) of the VAE's draws x tell the normaliser, and with it by how many nats held-out
points y are more likely than under the VAE:

    density gain = −mean E(y) − log mean exp(−E(x)).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vaebm.applications import start_noise
from vaebm.data import PlanarDensity
from vaebm.models import VAEBM
from vaebm.training import Act, EnergySettings, Progress

NUM_HELD_OUT, GAIN_EVERY = 20_000, 50
# In nats: what is less is nothing.
LEAST_GAIN = 0.01


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out points and draws of the VAE, images (N, 2, 1, 1) each, and an energy network to try weights on."""

    points: Tensor
    draws: Tensor
    energy: nn.Module

    @torch.no_grad()
    def gain(self, weights: dict[str, Tensor]) -> float:
        """Returns by how many nats the points are more likely than under the VAE, with these weights of the energy."""
        self.energy.load_state_dict(weights)
        on_points, on_draws = self.energy(self.points).double(), self.energy(self.draws).double()
        log_z = torch.logsumexp(-on_draws, 0) - math.log(len(on_draws))
        return float(-on_points.mean() - log_z)


def held_out(model: VAEBM, density: PlanarDensity, generator: torch.Generator) -> HeldOut:
    """Draws points of the density and of the VAE.

    Arguments:
        model: The VAEBM, its VAE trained.
        density: The true density.
        generator: The source of randomness.
    """
    points = density.to_images(density.sample(NUM_HELD_OUT, generator)).to(next(model.parameters()))
    with torch.no_grad():
        draws = model.transport(start_noise(model, NUM_HELD_OUT, generator)).image
    return HeldOut(points, draws, copy.deepcopy(model.energy).requires_grad_(False).eval())


def with_gain(
    step: Callable[[Any, Tensor], Progress[Any]], look: Callable[[Any], float], num_iterations: int
) -> Callable[[Any, Tensor], Progress[Any]]:
    """Returns a step that tells the density gain of every fiftieth iteration and of the last one.

    Arguments:
        step: The step of stage 2.
        look: Measures the gain of a state.
        num_iterations: The last iteration.
    """

    def looked(state: Any, images: Tensor) -> Progress[Any]:
        progress = step(state, images)
        iteration = progress.state.iteration
        if iteration % GAIN_EVERY and iteration != num_iterations:
            return progress
        return Progress(progress.state, {**progress.figures, "density_gain": look(progress.state)})

    return looked


def is_flat(gain: float) -> bool:
    """Whether so many nats are no gain.

    Example:
        >>> is_flat(0.5), is_flat(0.002), is_flat(-3.0), is_flat(float("nan"))
        (False, True, True, True)
    """
    return not gain >= LEAST_GAIN


def flat_text(gain: float, settings: EnergySettings, acts: Sequence[Act] = ()) -> str:
    """Says that an energy network has gained nothing, and what a person may try.

    Arguments:
        gain: By how many nats held-out points are more likely than under the VAE.
        settings: How it was trained.
        acts: What the guard did.

    Example:
        >>> flat_text(0.0012, EnergySettings(objective="importance_sampled")).split(": try ")[0]
        'the energy network changes nothing: held-out points are only 0.0012 nats more likely than under the VAE'
    """
    effect = "changes nothing" if gain > -LEAST_GAIN else "makes things worse"
    likely = f"only {gain:.2g} nats more" if gain >= 0 else f"{-gain:.3g} nats less"
    seen = f"the energy network {effect}: held-out points are {likely} likely than under the VAE"
    if acts:
        last, times = acts[-1], f"{len(acts)} time{'s' * (len(acts) > 1)}"
        came_to = [f"learning rate {last.learning_rate:.2g}", f"step size {last.step_size:.2g}", *last.changed()]
        seen += (
            f". It diverged {times}, the last time at iteration {last.iteration} ({'; '.join(last.reasons)}), "
            f"and with what the guard came down to ({', '.join(came_to)}) it learns nothing"
        )
    return f"{seen}: try {_advice(settings, bool(acts))}"


def _advice(settings: EnergySettings, has_diverged: bool) -> str:
    rate = "a lower --energy.learning_rate" if has_diverged else "a higher --energy.learning_rate"
    if settings.objective == "importance_sampled":
        return f"{rate}, more --energy.num_iterations, more --energy.num_prior_samples"
    jumps = "" if settings.jump_probability else "--energy.jump_probability 0.5, "
    return f"{jumps}more --energy.num_steps, {rate}, or --energy.objective importance_sampled"
