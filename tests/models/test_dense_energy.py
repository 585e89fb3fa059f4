"""The fully connected energy network."""

from __future__ import annotations

import pytest
import torch

from vaebm.models import DenseEnergy


def test_energies_are_of_clamped_inputs() -> None:
    energy = DenseEnergy((2, 1, 1), widths=(16, 8))
    inside = torch.tensor([[1.0, -1.0], [0.2, 0.3]]).view(2, 2, 1, 1)
    outside = torch.tensor([[3.0, -7.0], [0.2, 0.3]]).view(2, 2, 1, 1)
    assert energy(inside).shape == (2,)
    assert torch.equal(energy(inside), energy(outside))


def test_a_copy_by_its_arguments_has_the_same_parameters() -> None:
    energy = DenseEnergy((1, 8, 8), widths=(4,), input_scale=2.0)
    copy = DenseEnergy(**energy.arguments)
    copy.load_state_dict(energy.state_dict())
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(copy(images), energy(images))


@pytest.mark.parametrize("arguments", [{"widths": ()}, {"widths": (0,)}, {"input_scale": 0.0}])
def test_bad_arguments(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected positive numbers"):
        DenseEnergy((2, 1, 1), **arguments)  # type: ignore[arg-type]
