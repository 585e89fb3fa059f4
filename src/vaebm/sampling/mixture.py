r"""A mixture of kernels: each step is made by one of them, drawn at random.

If every kernel leaves h invariant, so does the mixture; a local kernel and a jump together mix within modes and between
them. All chains of a step use the same kernel: the choice is independent of where they are.

References:
    Markov Chains for Exploring Posterior Distributions (Tierney), https://doi.org/10.1214/aos/1176325750
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vaebm.sampling.kernel import ChainState, Kernel, LogDensity, Transition


@dataclass(frozen=True)
class Mixture:
    """A kernel that draws which of several kernels makes the step.

    Arguments:
        kernels: The kernels; none that keeps momentum, which another one would not go on with.
        probabilities: How often each is drawn; positive, with sum 1.

    Raises:
        ValueError: If there is not one positive probability for each kernel, or their sum is not 1, or a kernel keeps
            momentum.

    Example:
        >>> from vaebm.sampling import Jump, Mala
        >>> kernel = Mixture((Mala(0.1), Jump()), (0.5, 0.5))
        >>> target = lambda noise: -0.5 * noise.square().sum(1)
        >>> kernel(ChainState(torch.ones(2, 3)), target, torch.Generator().manual_seed(0)).state.noise.shape
        torch.Size([2, 3])
    """

    kernels: tuple[Kernel, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.kernels or len(self.kernels) != len(self.probabilities):
            raise ValueError(
                f"{len(self.probabilities)} probabilities for {len(self.kernels)} kernels: expected as many"
            )
        if any(getattr(kernel, "persistence", 0) for kernel in self.kernels):
            raise ValueError("a kernel of a mixture keeps momentum: expected kernels with persistence 0")
        if not all(value > 0 for value in self.probabilities) or abs(sum(self.probabilities) - 1) > 1e-6:
            raise ValueError(f"probabilities are {self.probabilities}: expected positive numbers with sum 1")

    def __call__(self, state: ChainState, log_density: LogDensity, generator: torch.Generator) -> Transition:
        """Moves all chains by one step of the kernel that is drawn."""
        weights = torch.tensor(self.probabilities, dtype=torch.float64, device=generator.device)
        index = int(torch.multinomial(weights, 1, generator=generator))
        return self.kernels[index](state, log_density, generator)
