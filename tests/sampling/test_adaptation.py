"""The warm-up finds the step size of a target acceptance, and stops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vaebm.sampling import Mala, adapt_step_size, run_chain


def narrow(noise: Tensor) -> Tensor:
    return -50 * noise.square().sum(1)


@pytest.mark.parametrize("first", [1e-4, 10.0])
@pytest.mark.parametrize("target", [0.574, 0.9])
def test_the_found_step_size_has_the_acceptance(first: float, target: float, generator: torch.Generator) -> None:
    adapted = adapt_step_size(Mala(first), torch.zeros(200, 10), narrow, 300, generator, target)
    chain = run_chain(adapted.kernel, adapted.noise, narrow, 100, generator)
    mean = torch.stack([step.info.acceptance.mean() for step in chain]).mean()
    assert float(mean) == pytest.approx(target, abs=0.03)
    assert len(adapted.step_sizes) == len(adapted.acceptance) == 300
    assert float(adapted.step_sizes[0]) == pytest.approx(first)


def test_the_result_is_the_average_of_the_second_half(generator: torch.Generator) -> None:
    adapted = adapt_step_size(Mala(0.1), torch.zeros(10, 2), narrow, 50, generator)
    assert adapted.kernel.step_size == pytest.approx(float(adapted.step_sizes[25:].log().mean().exp()))


def test_bad_arguments(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="num_steps is 1"):
        adapt_step_size(Mala(0.1), torch.zeros(10, 2), narrow, 1, generator)
    with pytest.raises(ValueError, match="target_acceptance"):
        adapt_step_size(Mala(0.1), torch.zeros(10, 2), narrow, 10, generator, 1.0)
