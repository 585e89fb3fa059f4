"""What a Markov kernel is, and how one is run.

A kernel is a pure function (state, log_density, generator) → (state, info). The state holds only what the next step
needs, the info is diagnostics; neither holds tuning parameters, which belong to the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class LogDensity(Protocol):
    """Maps noise (B, D) to an unnormalised log-density (B,) in nats, differentiable in the noise."""

    def __call__(self, noise: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class ChainState:
    """The positions of B chains: noise (B, D), and there, where the last step knows them, log-density and gradient.

    What isn't known is None; the next kernel that needs it evaluates it. ``before`` is where the last step began, from
    kernels without an accept step: the next step tells how likely that one would have been accepted. ``momentum``
    (B, D) is that of chains that keep some of it: in ``before`` as the step began, here with the first half kick of
    that step in it. A state belongs to one log-density: a chain that goes on under another one starts from
    ``ChainState(noise)``.
    """

    noise: Tensor
    log_density: Tensor | None = None
    grad: Tensor | None = None
    before: ChainState | None = None
    momentum: Tensor | None = None


@dataclass(frozen=True)
class KernelInfo:
    """Diagnostics of one step, each (B,).

    Log-density before the step; norm of its gradient, not a number where the kernel takes none; distance moved; the
    probability with which the move was accepted, 1 without an accept step. ``earlier_acceptance`` is, for a kernel
    without one, that with which the move *before* this one would have been accepted; None where it isn't known.
    """

    log_density: Tensor
    grad_norm: Tensor
    displacement: Tensor
    acceptance: Tensor
    earlier_acceptance: Tensor | None = None


class Transition(NamedTuple):
    """What a kernel returns."""

    state: ChainState
    info: KernelInfo


class Kernel(Protocol):
    """A Markov kernel on flat noise; pure: all randomness comes from the generator."""

    def __call__(self, state: ChainState, log_density: LogDensity, generator: torch.Generator, /) -> Transition: ...


class ChainStep(NamedTuple):
    """One step of ``run_chain``: its number, from 1, the state after it and the diagnostics."""

    number: int
    state: ChainState
    info: KernelInfo


class ValueAndGrad(NamedTuple):
    """A log-density (B,) and its gradient by the noise (B, D)."""

    value: Tensor
    grad: Tensor


def grad_log_density(log_density: LogDensity, noise: Tensor) -> ValueAndGrad:
    """Evaluates a log-density and its gradient; the result carries no graph.

    Example:
        >>> result = grad_log_density(lambda noise: -0.5 * noise.square().sum(1), torch.ones(1, 2))
        >>> result.grad
        tensor([[-1., -1.]])
    """
    with torch.enable_grad():
        leaf = noise.detach().requires_grad_()
        value = log_density(leaf)
        (grad,) = torch.autograd.grad(value.sum(), leaf)
    return ValueAndGrad(value.detach(), grad)


def evaluate(log_density: LogDensity, state: ChainState) -> ValueAndGrad:
    """Returns log-density and gradient at a state, evaluated unless the state knows them.

    Example:
        >>> state = ChainState(torch.ones(1, 2), torch.tensor([-1.0]), torch.tensor([[-1.0, -1.0]]))
        >>> evaluate(lambda noise: noise.sum(1), state).value
        tensor([-1.])
    """
    if state.log_density is None or state.grad is None:
        return grad_log_density(log_density, state.noise)
    return ValueAndGrad(state.log_density, state.grad)


class Accepted(NamedTuple):
    """The state after an accept step, and the acceptance probabilities (B,)."""

    state: ChainState
    probability: Tensor


def accept(current: ChainState, proposed: ChainState, log_ratio: Tensor, generator: torch.Generator) -> Accepted:
    """Takes the proposed state of each chain with the Metropolis–Hastings probability min(1, exp(log_ratio)).

    Arguments:
        current: Where the chains are, (B, D).
        proposed: Where they would go; it knows the same fields as ``current``, or fewer.
        log_ratio: log of target times proposal density, there over here, shape (B,). Not a number: refused.
        generator: The source of randomness; one uniform number for each chain.

    Returns:
        The new state, and the acceptance probabilities (B,).
    """
    probability = log_ratio.double().clamp(max=0).exp().nan_to_num(0.0)
    draw = torch.rand(len(log_ratio), generator=generator, device=generator.device, dtype=torch.float64)
    taken = draw.to(probability.device) < probability

    def choose(there: Tensor | None, here: Tensor | None) -> Tensor | None:
        if there is None or here is None:
            return None
        return torch.where(taken.view(-1, *[1] * (there.ndim - 1)), there, here)

    noise = torch.where(taken[:, None], proposed.noise, current.noise)
    value = choose(proposed.log_density, current.log_density)
    return Accepted(ChainState(noise, value, choose(proposed.grad, current.grad)), probability)


def pass_over(kernel: Kernel, noise: Tensor, num_steps: int, generator: torch.Generator) -> None:
    """Draws what ``run_chain`` would draw, for chains that run elsewhere.

    For kernels whose number of draws doesn't depend on the density, as all of this package. Langevin's ``draw`` costs
    the drawing alone; other kernels run on a flat density, without any network.

    Arguments:
        kernel: The Markov kernel.
        noise: The start points, shape (B, D).
        num_steps: The number of steps.
        generator: The source of randomness; it ends where ``run_chain`` would leave it.
    """
    draw = getattr(kernel, "draw", None)
    if draw is None:
        for _ in run_chain(kernel, noise, _flat, num_steps, generator):
            pass
    else:
        for _ in range(num_steps):
            draw(noise, generator)


def _flat(noise: Tensor, /) -> Tensor:
    return 0 * noise.sum(1)


def run_chain(
    kernel: Kernel, noise: Tensor, log_density: LogDensity, num_steps: int, generator: torch.Generator
) -> Iterator[ChainStep]:
    """Runs B chains and yields after every step.

    Arguments:
        kernel: The Markov kernel.
        noise: The start points, shape (B, D).
        log_density: The unnormalised log-density of the target.
        num_steps: The number of steps.
        generator: The source of randomness.

    Yields:
        The step's number, the new state, and diagnostics.

    Example:
        >>> from vaebm.sampling import Langevin
        >>> def log_density(noise): return -0.5 * noise.square().sum(1)
        >>> for step in run_chain(Langevin(0.1), torch.zeros(4, 2), log_density, 3, torch.Generator()):
        ...     pass
        >>> step.number, tuple(step.state.noise.shape)
        (3, (4, 2))
    """
    state = ChainState(noise.detach())
    for number in range(1, num_steps + 1):
        state, info = kernel(state, log_density, generator)
        yield ChainStep(number, state, info)
