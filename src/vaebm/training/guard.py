r"""A guard for stage 2: it sees an energy network diverge, goes back to a healthy state, and takes other steps.

By which figures it sees that: ``verdict.py``.

The policy: a diverged stage goes back to the last healthy snapshot (weights, optimizer, moving average, chains,
generator), or to an earlier one if that one diverged again. Where the acceptance was low, the step size becomes
smaller, else the learning rate, by less at the beginning; both, where the one that is due was taken before. From the
third time on more chains start anew, too, and the regularisers weigh more. Where the density was lost, chains become
longer instead, and the learning rate smaller, unless it is the first return and the state returned to had learned
something. Data go on where they are. After a number of attempts it gives up.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from vaebm.models import VAEBM
from vaebm.sampling.replay import MemoryRows
from vaebm.training.energy_state import EnergySettings, EnergyState
from vaebm.training.fit import Progress
from vaebm.training.verdict import DIVERGED, HEALTHY, SIGNALS, GuardSettings, Verdict, judge

LARGEST_COPY, MOST_SNAPSHOTS = 2**29, 5
# From this return on, all that can be changed is.
LATE = 3


@dataclass(frozen=True)
class Snapshot:
    """A state to go back to: copies of the energy network's tensors and of what ``EnergyState.state_dict`` holds.

    ``gain``: its density gain, where that is measured.
    """

    iteration: int
    energy: dict[str, Tensor]
    state: dict[str, Any]
    gain: float | None = None

    def has_gained(self, guard: GuardSettings) -> bool:
        """Whether held-out points were more likely than under the VAE by what else counts as diverged."""
        return self.gain is not None and self.gain > guard.largest_loss


def take_snapshot(model: VAEBM, state: EnergyState) -> Snapshot:
    """Copies a state; chains in a file or of more than half a GiB are left out, and start anew after a return."""
    held = state.state_dict()
    buffer = held.pop("buffer")
    rows = buffer["rows"]
    is_large = rows.numel() * rows.element_size() > LARGEST_COPY
    if is_large or not isinstance(state.buffer.rows, MemoryRows):
        buffer = {"rows": rows.new_empty(0, rows.shape[1]), "next_place": 0}
    else:
        # A deep copy of a view would be one of the whole buffer.
        buffer = {**buffer, "rows": rows.clone()}
    copied = copy.deepcopy({"energy": model.energy.state_dict(), "state": held})
    return Snapshot(state.iteration, copied["energy"], {**copied["state"], "buffer": buffer})


def go_back(model: VAEBM, state: EnergyState, snapshot: Snapshot) -> None:
    """Puts network and state to where they were, in place; the snapshot stays as it is."""
    model.energy.load_state_dict(snapshot.energy)
    others = {name: value for name, value in snapshot.state.items() if name != "buffer"}
    # The buffer copies the rows that it takes over.
    state.load_state_dict({**copy.deepcopy(others), "buffer": snapshot.state["buffer"]})


@dataclass(frozen=True)
class Act:
    """What the guard did: when, why, where it went back to, and with which settings training goes on.

    What stands last is told if the guard has changed it, and is None else.
    """

    iteration: int
    returned_to: int
    reasons: tuple[str, ...]
    learning_rate: float
    step_size: float
    gave_up: bool = False
    num_steps: int | None = None
    replay_probability: float | None = None
    centring: float | None = None
    l2: float | None = None

    def row(self) -> dict[str, Any]:
        """Returns plain values for a record."""
        return {**vars(self), "reasons": "; ".join(self.reasons)}

    def text(self) -> str:
        """Says it in a sentence."""
        seen = f"iteration {self.iteration}: the energy network diverged ({'; '.join(self.reasons)})"
        if self.gave_up:
            return f"{seen}; the guard gives up, and the state of iteration {self.returned_to} is the last"
        told = [f"learning rate {self.learning_rate:.3g}", f"step size {self.step_size:.3g}", *self.changed()]
        return f"{seen}; back to iteration {self.returned_to}, {', '.join(told)}"

    def changed(self) -> list[str]:
        """Says which settings besides learning rate and step size are other ones than at the beginning."""
        told = {
            "{} steps": self.num_steps,
            "chains from the buffer with probability {:.3g}": self.replay_probability,
            "centring {:.3g}": self.centring,
            "l2 {:.3g}": self.l2,
        }
        return [text.format(value) for text, value in told.items() if value is not None]


@dataclass(frozen=True)
class GuardMemory:
    """What the guard knows: recent figures, healthy states (the first one and recent ones), factors and acts so far."""

    window: tuple[dict[str, float], ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    rate: float = 1.0
    step: float = 1.0
    steps: int = 1
    replay: float = 1.0
    regulariser: float = 1.0
    acts: tuple[Act, ...] = ()
    condition: str = HEALTHY

    def adapt(self, settings: EnergySettings) -> EnergySettings:
        """Returns the settings that training goes on with."""
        return replace(
            settings,
            learning_rate=settings.learning_rate * self.rate,
            step_size=settings.step_size * self.step,
            num_steps=settings.num_steps * self.steps,
            replay_probability=settings.replay_probability * self.replay,
            centring=settings.centring * self.regulariser,
            l2=settings.l2 * self.regulariser,
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
            "replay": self.replay,
            "regulariser": self.regulariser,
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
            # Checkpoints of before didn't have these.
            state.get("steps", 1),
            state.get("replay", 1.0),
            state.get("regulariser", 1.0),
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
    attempt = len(memory.acts) + 1
    gives_up = attempt > guard.num_attempts
    again = memory.acts and memory.acts[-1].returned_to == kept[-1].iteration
    # Who gives up has no other use for a snapshot than to choose the model among them.
    if again and len(kept) > 1 and not gives_up:
        kept.pop()
    # A state that learned nothing before the density was lost isn't worth going on from.
    while verdict.is_astray and len(kept) > 1 and not kept[-1].has_gained(guard) and not gives_up:
        kept.pop()
    changes = replace(memory, window=(), snapshots=tuple(kept), condition=HEALTHY)
    if not gives_up:
        keeps_rate = attempt == 1 and kept[-1].has_gained(guard)
        is_early = iteration <= 2 * guard.window
        changes = _adapted(changes, keeps_rate, is_early, verdict, settings, guard)
    act = _act(changes, iteration, verdict, settings, gives_up)
    return replace(changes, acts=(*memory.acts, act))


def _adapted(
    memory: GuardMemory,
    keeps_rate: bool,
    is_early: bool,
    verdict: Verdict,
    settings: EnergySettings,
    guard: GuardSettings,
) -> GuardMemory:
    """Changes the factors of the settings, as the policy says.

    Arguments:
        memory: What the guard knows.
        keeps_rate: Whether longer chains alone are tried where the density was lost.
        is_early: Whether the stage has only begun.
        verdict: Why it acts.
        settings: How the stage began.
        guard: What is done.
    """
    if verdict.is_astray and settings.objective == "contrastive":
        # Longer chains alone don't help where the energy learns too fast for any of them.
        rate = memory.rate * (1 if keeps_rate else guard.rate_factor)
        fewest = math.ceil(guard.fewest_steps / settings.num_steps)
        return replace(memory, steps=max(memory.steps * guard.steps_factor, fewest), rate=rate)
    factors: dict[str, float] = {}
    # The other remedy besides, once the one at hand has been tried.
    is_tried = (memory.step if verdict.is_steep else memory.rate) < 1
    if verdict.is_steep or is_tried:
        factors["step"] = memory.step * guard.step_factor
    if not verdict.is_steep or is_tried:
        # At the beginning it may be a swing that passes, and only half as much of a change is due.
        factors["rate"] = memory.rate * guard.rate_factor ** (0.5 if is_early else 1)
    if len(memory.acts) + 1 >= LATE:
        factors["replay"] = memory.replay * guard.replay_factor
        factors["regulariser"] = memory.regulariser * guard.regulariser_factor
    return replace(memory, **factors)  # type: ignore[arg-type]  # all of these are floats


def _act(memory: GuardMemory, iteration: int, verdict: Verdict, settings: EnergySettings, gives_up: bool) -> Act:
    """Records where the guard goes back to, and with which settings; of the later ones those that are in use."""
    following = memory.adapt(settings)
    has_chains = settings.objective == "contrastive"
    is_replayed = has_chains and settings.buffer_size > 0 and settings.replay_probability > 0
    return Act(
        iteration,
        memory.snapshots[-1].iteration,
        verdict.reasons,
        following.learning_rate,
        following.step_size,
        gives_up,
        following.num_steps if memory.steps != 1 else None,
        following.replay_probability if memory.replay != 1 and is_replayed else None,
        following.centring if memory.regulariser != 1 and settings.centring else None,
        following.l2 if memory.regulariser != 1 and settings.l2 and has_chains else None,
    )


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
    memory = memory or GuardMemory()
    if guard.rolls_back and not memory.snapshots:
        memory = replace(memory, snapshots=(take_snapshot(model, state),))
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
        elif guard.rolls_back and verdict.condition == HEALTHY and state.iteration % guard.snapshot_every == 0:
            # Until it is measured anew after a return, it is that of the state returned to.
            gain = signals.get("density_gain", memory.snapshots[-1].gain)
            snapshot = replace(take_snapshot(model, state), gain=gain)
            memory = replace(memory, snapshots=_thinned((*memory.snapshots, snapshot), guard))
        yield Guarded(state, figures, verdict, memory, act)


def diagnosis(acts: Sequence[Act], settings: EnergySettings) -> str:
    """Says why the guard gave up, and what a person may try."""
    last = acts[-1]
    steps = f"{settings.num_steps} steps of size {settings.step_size:.3g}"
    has_chains = settings.objective == "contrastive"
    tried = [
        f"({', '.join([f'{act.learning_rate:.2g}', f'{act.step_size:.2g}', *act.changed()])})"
        if has_chains
        else ", ".join([f"{act.learning_rate:.2g}", *act.changed()])
        for act in acts[:-1]
    ]
    cause = f"Its chains ({steps}) don't follow it. " if has_chains else ""
    changed = "(learning rate, step size) " if has_chains else "learning rate "
    advice = (
        "more --energy.num_steps, a smaller --energy.step_size, a larger --energy.l2"
        if has_chains
        else "more --energy.num_prior_samples, a larger --energy.centring"
    )
    often = f"{len(acts)} times, the last time" if len(acts) > 1 else "once,"
    first = settings.learning_rate
    told = f"Tried after it began with learning rate {first:.2g}: {changed}{', '.join(tried)}. " if tried else ""
    return (
        f"the energy network diverged {often} at iteration {last.iteration}: {'; '.join(last.reasons)}. {cause}{told}"
        f"Try {advice}, or a VAE whose samples are closer to the data"
    )
