"""MCMC on a log-density over flat noise: kernels, chains, the replay buffer, annealing. Knows nothing of models."""

from vaebm.sampling.adaptation import Adapted, adapt_step_size
from vaebm.sampling.annealing import (
    Annealed,
    Ladder,
    adaptive_ladder,
    anneal,
    anneal_down,
    resized_ladder,
    tilted,
    uniform_ladder,
)
from vaebm.sampling.diagnostics import autocorrelation, bulk_ess, effective_sample_size, split_rhat
from vaebm.sampling.jump import Jump
from vaebm.sampling.kernel import (
    Accepted,
    ChainState,
    ChainStep,
    Kernel,
    KernelInfo,
    LogDensity,
    Transition,
    ValueAndGrad,
    accept,
    evaluate,
    grad_log_density,
    pass_over,
    run_chain,
)
from vaebm.sampling.langevin import Langevin
from vaebm.sampling.mala import Mala
from vaebm.sampling.mixture import Mixture
from vaebm.sampling.projected import Projected
from vaebm.sampling.replay import (
    FreshNoise,
    ReplayBuffer,
    Rows,
    StartPoints,
    draw_start,
    empty_buffer,
    standard_normal,
    write_back,
)

__all__ = [
    "Accepted",
    "Adapted",
    "Annealed",
    "ChainState",
    "ChainStep",
    "FreshNoise",
    "Jump",
    "Kernel",
    "KernelInfo",
    "Ladder",
    "Langevin",
    "LogDensity",
    "Mala",
    "Mixture",
    "Projected",
    "ReplayBuffer",
    "Rows",
    "StartPoints",
    "Transition",
    "ValueAndGrad",
    "accept",
    "adapt_step_size",
    "adaptive_ladder",
    "anneal",
    "anneal_down",
    "autocorrelation",
    "bulk_ess",
    "draw_start",
    "effective_sample_size",
    "empty_buffer",
    "evaluate",
    "grad_log_density",
    "pass_over",
    "resized_ladder",
    "run_chain",
    "split_rhat",
    "standard_normal",
    "tilted",
    "uniform_ladder",
    "write_back",
]
