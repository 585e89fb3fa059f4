"""MCMC on a log-density over flat noise: kernels, chains, the replay buffer. Knows nothing of models."""

from vaebm.sampling.kernel import (
    ChainState,
    ChainStep,
    Kernel,
    KernelInfo,
    LogDensity,
    Transition,
    ValueAndGrad,
    grad_log_density,
    run_chain,
)
from vaebm.sampling.langevin import Langevin
from vaebm.sampling.replay import ReplayBuffer, StartPoints, draw_start, empty_buffer, write_back

__all__ = [
    "ChainState",
    "ChainStep",
    "Kernel",
    "KernelInfo",
    "Langevin",
    "LogDensity",
    "ReplayBuffer",
    "StartPoints",
    "Transition",
    "ValueAndGrad",
    "draw_start",
    "empty_buffer",
    "grad_log_density",
    "run_chain",
    "write_back",
]
