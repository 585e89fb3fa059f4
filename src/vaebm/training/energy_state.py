"""The settings of stage 2, and what it goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaebm.distributions import NoiseLayout
from vaebm.sampling import ReplayBuffer

BUFFER_DTYPES = {"float32": torch.float32, "float16": torch.float16}
OBJECTIVES, ENERGY_SCHEDULES = ("contrastive", "importance_sampled"), ("cosine", "constant")


@dataclass(frozen=True)
class EnergySettings:
    """How the energy network is trained.

    Arguments:
        num_iterations: The number of optimizer steps.
        batch_size: The number of chains and of data images in a batch, over all processes.
        learning_rate: The initial rate of Adam.
        schedule: cosine, along which the rate falls to zero, or constant (the paper).
        rate_warmup: The share of training in which the rate rises. Adam's first steps are as large as any, and the
            energies of wide networks, sums of many maps, leap with them.
        weight_decay: The weight of half the squared weights; Adam adds its gradient.
        num_steps: The number of steps K of the kernel for each batch.
        step_size: The step size η.
        persistence: How much of their momentum chains keep from step to step, from 0 (the paper) to below 1; langevin
            without jumps only.
        replay_probability: The probability p that a chain goes on from the buffer, after its rise.
        replay_rise: The share of training in which p rises from zero.
        buffer_size: The number of end points that the buffer holds, 0 for none.
        buffer_keeps: ``all`` the noise, or the ``latent`` part (the paper).
        buffer_dtype: The type of its end points, float32 or float16.
        buffer_on_disk: Whether they lie in a file of the run folder instead of memory.
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
        compile_decoder: Whether chains run through an NVAE's decoder as ``torch.compile`` makes it, which needs a C++
            compiler and a minute. For GPUs, where it hasn't been run; on a CPU it is no faster (docs/nvae.md). The
            checks compile its graph, but not the C++ code.
    """

    num_iterations: int = 1000
    batch_size: int = 64
    learning_rate: float = 6e-4
    schedule: str = "cosine"
    rate_warmup: float = 0.0
    weight_decay: float = 0.0
    num_steps: int = 15
    step_size: float = 0.05
    persistence: float = 0.0
    replay_probability: float = 0.95
    replay_rise: float = 0.0
    buffer_size: int = 1000
    buffer_keeps: str = "all"
    buffer_dtype: str = "float32"
    buffer_on_disk: bool = False
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
    compile_decoder: bool = False


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
            "buffer": self.buffer.state_dict(),
            "vectors": self.vectors,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what ``state_dict`` returned."""
        self.iteration = state["iteration"]
        self.average = {name: value.to(self.average[name]) for name, value in state["average"].items()}
        self.vectors = {name: value.to(self.vectors[name]) for name, value in state["vectors"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.buffer = self.buffer.load_state_dict(state["buffer"])
        self.generator.set_state(state["generator"].cpu())


def kept_width(layout: NoiseLayout, settings: EnergySettings) -> int:
    """Returns how many entries of the noise the replay buffer keeps."""
    return layout.latent_size if settings.buffer_keeps == "latent" else layout.size
