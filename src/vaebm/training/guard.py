r"""A guard for stage 2: it sees an energy network diverge, goes back to a healthy state, and takes other steps.

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

The policy: a diverged stage goes back to the last healthy snapshot (weights, optimizer, moving average, chains,
generator), or to an earlier one if that one diverged again. Where the acceptance was low, the step size becomes
smaller, else the learning rate; from the second time on both. Where the density was lost, chains become longer instead.
Data go on where they are. After a number of attempts it gives up.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from vaebm.models import VAEBM
from vaebm.objectives import separation as separation_of
from vaebm.sampling.replay import MemoryRows
from vaebm.training.energy_state import EnergySettings, EnergyState
from vaebm.training.fit import Progress

HEALTHY, STRAINED, DIVERGED = CONDITIONS = ("healthy", "strained", "diverged")
SIGNALS = ("loss", "grad_norm", "gap", "energy_variance", "would_accept", "noise_norm", "density_gain")
EASY_ACCEPTANCE = 0.6
FOLLOWING = -0.1
LARGEST_COPY, MOST_SNAPSHOTS = 2**29, 5


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
        largest_loss: Diverged where held-out points are by so many nats less likely than under the VAE (on the plane).
        rate_factor: What the learning rate is multiplied with.
        step_factor: What the step size is multiplied with.
        steps_factor: What the number of steps is multiplied with.
    """

    rolls_back: bool = True
    num_attempts: int = 4
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
    needed = ("loss", "grad_norm", "noise_norm", "density_gain")
    lost = [name for name in needed if not math.isfinite(latest.get(name, 0.0))]
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


@dataclass(frozen=True)
class Snapshot:
    """A state to go back to: copies of the energy network's tensors and of what ``EnergyState.state_dict`` holds."""

    iteration: int
    energy: dict[str, Tensor]
    state: dict[str, Any]


def take_snapshot(model: VAEBM, state: EnergyState) -> Snapshot:
    """Copies a state; chains in a file or of more than half a GiB are left out, and start anew after a return."""
    held = state.state_dict()
    rows = held["buffer"]["rows"]
    is_large = rows.numel() * rows.element_size() > LARGEST_COPY
    if is_large or not isinstance(state.buffer.rows, MemoryRows):
        held["buffer"] = {"rows": rows.new_empty(0, rows.shape[1]), "next_place": 0}
    else:
        # A copy of a view would be one of the whole buffer.
        held["buffer"] = {**held["buffer"], "rows": rows.clone()}
    return Snapshot(state.iteration, copy.deepcopy(model.energy.state_dict()), copy.deepcopy(held))


def go_back(model: VAEBM, state: EnergyState, snapshot: Snapshot) -> None:
    """Puts network and state to where they were, in place; the snapshot stays as it is."""
    model.energy.load_state_dict(snapshot.energy)
    state.load_state_dict(copy.deepcopy(snapshot.state))


@dataclass(frozen=True)
class Act:
    """What the guard did: when, why, where it went back to, and with which settings training goes on.

    The number of steps is told if the guard has changed it.
    """

    iteration: int
    returned_to: int
    reasons: tuple[str, ...]
    learning_rate: float
    step_size: float
    gave_up: bool = False
    num_steps: int | None = None

    def row(self) -> dict[str, Any]:
        """Returns plain values for a record."""
        return {**vars(self), "reasons": "; ".join(self.reasons)}

    def text(self) -> str:
        """Says it in a sentence."""
        seen = f"iteration {self.iteration}: the energy network diverged ({'; '.join(self.reasons)})"
        if self.gave_up:
            return f"{seen}; the guard gives up, and the state of iteration {self.returned_to} is the last"
        return (
            f"{seen}; back to iteration {self.returned_to}, learning rate {self.learning_rate:.3g}, "
            f"step size {self.step_size:.3g}" + ("" if self.num_steps is None else f", {self.num_steps} steps")
        )


@dataclass(frozen=True)
class GuardMemory:
    """What the guard knows: recent figures, healthy states (the first one and recent ones), factors and acts so far."""

    window: tuple[dict[str, float], ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    rate: float = 1.0
    step: float = 1.0
    steps: int = 1
    acts: tuple[Act, ...] = ()
    condition: str = HEALTHY

    def adapt(self, settings: EnergySettings) -> EnergySettings:
        """Returns the settings that training goes on with."""
        return replace(
            settings,
            learning_rate=settings.learning_rate * self.rate,
            step_size=settings.step_size * self.step,
            num_steps=settings.num_steps * self.steps,
        )

    @property
    def has_given_up(self) -> bool:
        """Whether the stage ended before its last iteration."""
        return bool(self.acts) and self.acts[-1].gave_up

    def state_dict(self) -> dict[str, Any]:
        """Returns plain values and tensors to go on from."""
        return {
            "window": list(self.window),
            "snapshots": [vars(snapshot) for snapshot in self.snapshots],
            "rate": self.rate,
            "step": self.step,
            "steps": self.steps,
            "acts": [{**vars(act), "reasons": list(act.reasons)} for act in self.acts],
            "condition": self.condition,
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> GuardMemory:
        """Returns what ``state_dict`` was taken of."""
        return cls(
            tuple(state["window"]),
            tuple(Snapshot(**snapshot) for snapshot in state["snapshots"]),
            state["rate"],
            state["step"],
            # Checkpoints of before didn't have it.
            state.get("steps", 1),
            tuple(Act(**{**act, "reasons": tuple(act["reasons"])}) for act in state["acts"]),
            state["condition"],
        )


class Guarded(NamedTuple):
    """The state after an iteration, its figures, the verdict, what the guard knows, and what it did, if anything.

    After an act the state is the one that it went back to; the figures are those of the iteration that it saw.
    """

    state: EnergyState
    figures: dict[str, float]
    verdict: Verdict
    memory: GuardMemory
    act: Act | None


def _thinned(snapshots: Sequence[Snapshot], guard: GuardSettings) -> tuple[Snapshot, ...]:
    """Keeps the first snapshot, two that are a window older than the last, and the oldest and latest of the rest."""
    first, *others = snapshots
    aged = [one for one in others if one.iteration <= others[-1].iteration - guard.window]
    young = others[len(aged) :]
    return (first, *aged[-2:], *young[:1], *young[1:][-1:])


def respond(
    memory: GuardMemory, iteration: int, verdict: Verdict, settings: EnergySettings, guard: GuardSettings
) -> GuardMemory:
    """Returns what the guard knows after it has acted on a diverged stage; its last snapshot is where to go back to."""
    kept = [snapshot for snapshot in memory.snapshots if snapshot.iteration <= iteration - guard.window]
    kept = kept or list(memory.snapshots[:1])
    again = memory.acts and memory.acts[-1].returned_to == kept[-1].iteration
    if again and len(kept) > 1:
        kept.pop()
    attempt = len(memory.acts) + 1
    gives_up = attempt > guard.num_attempts
    changes = replace(memory, window=(), snapshots=tuple(kept), condition=HEALTHY)
    needs_steps = verdict.is_astray and settings.objective == "contrastive"
    if not gives_up and needs_steps:
        changes = replace(changes, steps=memory.steps * guard.steps_factor)
    elif not gives_up and (verdict.is_steep or attempt > 1):
        changes = replace(changes, step=memory.step * guard.step_factor)
    if not gives_up and not needs_steps and (not verdict.is_steep or attempt > 1):
        changes = replace(changes, rate=memory.rate * guard.rate_factor)
    following = changes.adapt(settings)
    act = Act(
        iteration,
        kept[-1].iteration,
        verdict.reasons,
        following.learning_rate,
        following.step_size,
        gives_up,
        following.num_steps if changes.steps != 1 else None,
    )
    return replace(changes, acts=(*memory.acts, act))


def guarded_fit(
    model: VAEBM,
    settings: EnergySettings,
    make_step: Callable[[EnergySettings], Callable[[EnergyState, Tensor], Progress[EnergyState]]],
    state: EnergyState,
    batches: Iterator[Tensor],
    guard: GuardSettings | None = None,
    memory: GuardMemory | None = None,
) -> Iterator[Guarded]:
    """Runs stage 2 as ``fit`` does, under guard: until its last iteration, or until the guard gives up.

    Arguments:
        model: The VAEBM; its energy network is changed in place.
        settings: How it is trained.
        make_step: Makes the step of the stage, as ``energy_step``, of settings.
        state: Where to start.
        batches: An endless iterator of batches (B, C, H, W).
        guard: What counts as diverged, and what is done then.
        memory: What the guard of an interrupted stage knew.

    Yields:
        After each iteration what there is and what was done.
    """
    guard = guard or GuardSettings()
    if settings.potential == "official":
        # Its chains' pixel noise isn't standard-normal, whatever the energy does.
        guard = replace(guard, largest_noise_norm=math.inf)
    memory = memory or GuardMemory(snapshots=(take_snapshot(model, state),))
    step = make_step(memory.adapt(settings))
    while state.iteration < settings.num_iterations and not memory.has_given_up:
        state, figures = step(state, next(batches))
        signals = {name: figures[name] for name in SIGNALS if name in figures}
        if memory.window and "density_gain" not in signals and "density_gain" in memory.window[-1]:
            # Few iterations measure it; until the next one does, it counts.
            signals["density_gain"] = memory.window[-1]["density_gain"]
        memory = replace(memory, window=(*memory.window, signals)[-guard.window :])
        verdict, act = judge(memory.window, guard), None
        memory = replace(memory, condition=verdict.condition)
        if verdict.condition == DIVERGED and guard.rolls_back:
            memory = respond(memory, state.iteration, verdict, settings, guard)
            act = memory.acts[-1]
            go_back(model, state, memory.snapshots[-1])
            step = make_step(memory.adapt(settings))
        elif verdict.condition == HEALTHY and state.iteration % guard.snapshot_every == 0:
            memory = replace(memory, snapshots=_thinned((*memory.snapshots, take_snapshot(model, state)), guard))
        yield Guarded(state, figures, verdict, memory, act)


def diagnosis(acts: Sequence[Act], settings: EnergySettings) -> str:
    """Says why the guard gave up, and what a person may try."""
    last = acts[-1]
    steps = f"{settings.num_steps} steps of size {settings.step_size:.3g}"
    has_chains = settings.objective == "contrastive"
    tried = [
        f"({act.learning_rate:.2g}, {act.step_size:.2g}{f', {act.num_steps} steps' if act.num_steps else ''})"
        if has_chains
        else f"{act.learning_rate:.2g}"
        for act in acts[:-1]
    ]
    cause = f"Its chains ({steps}) don't follow it. " if has_chains else ""
    changed = "(learning rate, step size) " if has_chains else "learning rate "
    advice = (
        "more --energy.num_steps, a smaller --energy.step_size, a larger --energy.l2"
        if has_chains
        else "more --energy.num_prior_samples, a larger --energy.centring"
    )
    return (
        f"the energy network diverged {len(acts)} times, the last time at iteration {last.iteration}: "
        f"{'; '.join(last.reasons)}. {cause}Tried after it began with learning rate {settings.learning_rate:.2g}: "
        f"{changed}{', '.join(tried) or 'nothing'}. Try {advice}, or a VAE whose samples are closer to the data"
    )
