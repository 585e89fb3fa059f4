from __future__ import annotations

import pytest
import torch
from torch import nn

from vaebm.nn import ResidualBlock, swish_1lipschitz


@pytest.mark.parametrize("normalization", ["weight", "spectral", "none"])
@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("channels", [(3, 3), (3, 5)])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1)])
def test_shape(normalization: str, down: bool, channels: tuple[int, int], size: tuple[int, int]) -> None:
    block = ResidualBlock(*channels, down=down, normalization=normalization)
    expected = tuple((length + 1) // 2 for length in size) if down else size
    assert block(torch.zeros(2, channels[0], *size)).shape == (2, channels[1], *expected)


def test_without_its_branch_a_block_is_the_swish_of_its_skip() -> None:
    block = ResidualBlock(3, 3).double()
    with torch.no_grad():
        block.second.parametrizations.weight.original0.zero_()
        block.second.bias.zero_()
    hidden = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    assert torch.equal(block(hidden), swish_1lipschitz(hidden))


def test_downsampling_averages_and_counts_only_pixels_inside() -> None:
    block = ResidualBlock(1, 1, down=True, normalization="none").double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        block.skip.weight.fill_(1.0)
    hidden = torch.arange(1.0, 10.0, dtype=torch.float64).view(1, 1, 3, 3)
    expected = torch.tensor([[(1 + 2 + 4 + 5) / 4, (3 + 6) / 2], [(7 + 8) / 2, 9.0]], dtype=torch.float64)
    assert torch.allclose(block(hidden)[0, 0], swish_1lipschitz(expected))


def test_spectral_normalisation_bounds_the_skip_too() -> None:
    block = ResidualBlock(3, 5, down=True, normalization="spectral").double()
    with torch.no_grad():
        for name, parameter in block.named_parameters():
            if name.endswith("original"):
                parameter.mul_(50)
    for _ in range(200):
        block(torch.zeros(1, 3, 4, 4, dtype=torch.float64))
    convolutions = [module for module in block.eval().modules() if isinstance(module, nn.Conv2d)]
    norms = [float(torch.linalg.matrix_norm(module.weight.detach().flatten(1), ord=2)) for module in convolutions]
    assert norms == pytest.approx([1, 1, 1], abs=1e-6)
