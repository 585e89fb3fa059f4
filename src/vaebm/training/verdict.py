r"""Whether a stage of the energy network is healthy, by the figures of its last iterations.

An energy network diverges when it learns faster than its chains can follow: negatives stay where they are, however high
their energy becomes, and nothing holds the energy any more. Figures of the means over a window tell:

* *acceptance*: how likely Metropolis would have accepted the moves of the chains. For h = N(0, I) it is 2 Φ(−σ/2) with
  σ² = D η³/16; as the energy becomes steeper than the step size allows, it falls, and it is the first figure to move.
  That of kernels with an accept step isn't judged: they don't overshoot, and jumps are refused in health too;
* *separation*: the gap Ē₊ − Ē₋ in standard deviations of the energies, both of the whole window. Near zero chains
  follow; far below, the network knows each sample; far above, it overshoots: chains find places that it made lower than
  data, as one with too high a learning rate does in its first iterations;
* *noise norm*: |noise|²/D, 1 for N(0, I): chains whose moves overshoot are thrown outwards;
* anything that is not finite;
* *density gain*, where it can be known (on the plane): by how many nats held-out points are more likely than under the
  VAE. Chains that are too short lead the energy astray though each of their moves is accepted.

The gap itself says little: on pictures it grows to −50 and more while samples improve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vaebm.objectives import separation as separation_of

HEALTHY, STRAINED, DIVERGED = CONDITIONS = ("healthy", "strained", "diverged")
SIGNALS = ("loss", "grad_norm", "gap", "energy_variance", "would_accept", "noise_norm", "density_gain")
# Of these, a value that isn't finite is a divergence; the others may have none.
FINITE_SIGNALS = ("loss", "grad_norm", "noise_norm", "density_gain")
EASY_ACCEPTANCE = 0.6
FOLLOWING = -0.1


@dataclass(frozen=True)
class GuardSettings:
    """What counts as diverged, and what is done then.

    Arguments:
        rolls_back: Whether a diverged stage goes back; else it is only told.
        num_attempts: How often it goes back before it gives up.
        window: The number of iterations whose means are judged.
        snapshot_every: A healthy state is kept after so many iterations.
        least_acceptance: Diverged below this acceptance, if samples also have higher energies than data.
        largest_separation: Diverged where data lie so many standard deviations below samples.
        largest_overshoot: Diverged where they lie so many above.
        largest_noise_norm: Diverged above this |noise|²/D.
        largest_loss: Diverged where held-out points are by so many nats less likely than under the VAE (on the plane);
            where they are by as many more likely, a state has learned something.
        rate_factor: What the learning rate is multiplied with.
        step_factor: What the step size is multiplied with.
        steps_factor: What the number of steps is multiplied with.
        fewest_steps: The number of steps after a return is at least this, where chains are too short.
        replay_factor: What the probability that a chain goes on from the buffer is multiplied with, from the third
            return on.
        regulariser_factor: What the weights of centring and l2 are multiplied with, from the third return on.
    """

    rolls_back: bool = True
    num_attempts: int = 6
    window: int = 20
    snapshot_every: int = 50
    least_acceptance: float = 0.45
    largest_separation: float = 1.0
    largest_overshoot: float = 0.5
    largest_noise_norm: float = 2.0
    largest_loss: float = 0.1
    rate_factor: float = 0.3
    step_factor: float = 0.5
    steps_factor: int = 2
    fewest_steps: int = 10
    replay_factor: float = 0.5
    regulariser_factor: float = 2.0


class Verdict(NamedTuple):
    """The condition of a stage, one of ``CONDITIONS``, and why, in words; healthy needs no reason.

    ``is_steep``: the acceptance is low. ``is_astray``: nothing but the density is wrong.
    """

    condition: str
    reasons: tuple[str, ...] = ()
    is_steep: bool = False
    is_astray: bool = False


def judge(window: Sequence[Mapping[str, float]], settings: GuardSettings) -> Verdict:
    """Judges a stage by the figures of its last iterations.

    Arguments:
        window: Figures by name, the latest last; of ``SIGNALS``, those that are missing aren't judged.
        settings: What counts as diverged.

    Returns:
        The verdict. Before the window is full, only figures that aren't finite count.

    Example:
        >>> row = {"loss": -1.0, "gap": -2.8, "energy_variance": 4.0, "would_accept": 0.8, "noise_norm": 1.1}
        >>> judge([row] * 20, GuardSettings()).reasons
        ('data lie 1.40 standard deviations of the energy below samples',)
        >>> judge([{**row, "gap": 0.2}] * 20, GuardSettings()).condition
        'healthy'
    """
    latest = window[-1]
    lost = lost_signals(latest)
    acceptance = _mean(window, "would_accept", 1.0)
    is_steep = acceptance < EASY_ACCEPTANCE
    if lost:
        return Verdict(DIVERGED, tuple(f"{name} is {latest[name]}" for name in lost), is_steep)
    if len(window) < settings.window:
        return Verdict(HEALTHY)
    separation, norm, gain = _separation(window), _mean(window, "noise_norm", 1.0), _latest(window, "density_gain")
    words = {
        "acceptance": f"moves of the chains would be accepted with probability {acceptance:.2f}",
        "separation": f"data lie {-separation:.2f} standard deviations of the energy below samples",
        "overshoot": f"data lie {separation:.2f} standard deviations of the energy above samples",
        "norm": f"|noise|²/D of the chains is {norm:.2f}",
        "gain": f"held-out points are by {-gain:.2f} nats less likely than under the VAE",
    }
    reached = {
        "acceptance": acceptance < settings.least_acceptance and separation < FOLLOWING,
        "separation": separation < -settings.largest_separation,
        "overshoot": separation > settings.largest_overshoot,
        "norm": norm > settings.largest_noise_norm,
        "gain": gain < -settings.largest_loss,
    }
    near = {
        "acceptance": is_steep and separation < FOLLOWING,
        "separation": separation < -settings.largest_separation / 2,
        "overshoot": separation > 0.7 * settings.largest_overshoot,
        "norm": norm > (1 + settings.largest_noise_norm) / 2,
        "gain": gain < -settings.largest_loss / 2,
    }
    for condition, found in ((DIVERGED, reached), (STRAINED, near)):
        names = [name for name, value in found.items() if value]
        if names:
            return Verdict(condition, tuple(words[name] for name in names), is_steep, names == ["gain"])
    return Verdict(HEALTHY)


def lost_signals(figures: Mapping[str, float]) -> list[str]:
    """Returns the names of judged figures that aren't finite.

    Example:
        >>> lost_signals({"loss": 1.0, "grad_norm": math.inf, "would_accept": math.nan})
        ['grad_norm']
    """
    return [name for name in FINITE_SIGNALS if not math.isfinite(figures.get(name, 0.0))]


def _mean(window: Sequence[Mapping[str, float]], name: str, default: float) -> float:
    values = [value for row in window if math.isfinite(value := row.get(name, math.nan))]
    return sum(values) / len(values) if values else default


def _latest(window: Sequence[Mapping[str, float]], name: str) -> float:
    """Returns the last value of a figure that only some iterations have; 0 if none has it."""
    return next((row[name] for row in reversed(window) if name in row), 0.0)


def _separation(window: Sequence[Mapping[str, float]]) -> float:
    """Returns the mean gap in units of the root of the mean variance: of a small batch alone that is no estimate."""
    gap, variance = _mean(window, "gap", 0.0), _mean(window, "energy_variance", math.inf)
    return separation_of(gap, variance, variance)
