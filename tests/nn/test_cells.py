"""The cells of NVAE and its weight normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from vaebm.nn.cells import BRANCH_SCALE, DecoderCell, EncoderCell, log_normalized


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 8, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_norm_of_each_filter_is_the_learned_one() -> None:
    layer = log_normalized(nn.Conv2d(3, 5, 3).double())
    first = layer.weight.flatten(1).norm(dim=1)
    assert torch.allclose(first, layer.parametrizations.weight.original.flatten(1).norm(dim=1), rtol=0.05)
    with torch.no_grad():
        layer.parametrizations.weight[0].log_norm.fill_(0.5)
        layer.parametrizations.weight.original.mul_(7)
    assert torch.allclose(layer.weight.flatten(1).norm(dim=1), torch.tensor(0.5).double().exp(), rtol=1e-4)


@pytest.mark.parametrize(
    ("cell", "shape"),
    [
        (EncoderCell(8, 8), (8, 6, 4)),
        (EncoderCell(8, 13, down=True), (13, 3, 2)),
        (DecoderCell(8, 8), (8, 6, 4)),
        (DecoderCell(8, 5, up=True, expansion=3), (5, 12, 8)),
        (DecoderCell(8, 8, has_excitation=False), (8, 6, 4)),
    ],
)
def test_shapes(cell: nn.Module, shape: tuple[int, ...], images: torch.Tensor) -> None:
    assert cell.double().eval()(images).shape == (2, *shape)


def test_a_cell_adds_a_tenth_of_its_gated_branch(images: torch.Tensor) -> None:
    cell = DecoderCell(8, 8).double().eval()
    branch = cell.branch(images)
    gate = torch.sigmoid(cell.excitation.excite(functional.relu(cell.excitation.squeeze(branch.mean((2, 3))))))
    assert torch.allclose(cell(images), images + BRANCH_SCALE * branch * gate[:, :, None, None])


def test_the_skip_of_a_down_cell_takes_each_place_of_a_square(images: torch.Tensor) -> None:
    skip = EncoderCell(8, 8, down=True).double().skip
    found = skip(images)
    for part, (top, left) in zip(found.split(2, 1), ((0, 0), (1, 1), (0, 1), (1, 0)), strict=True):
        changed = images.clone()
        changed[:, :, top::2, left::2] += 1
        difference = (skip(changed) - found).abs().sum((0, 2, 3)) > 0
        assert [bool(flag) for flag in difference].count(True) == part.shape[1]


@pytest.mark.parametrize("channels", [3, 4, 8])
def test_the_skip_of_a_down_cell_of_few_channels_learns_the_same_channels_last(channels: int) -> None:
    # Strided 1×1 convolutions crash here, or give wrong gradients, on CPUs without AVX-512.
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        skip = EncoderCell(channels, 2 * channels, down=True).skip.to(memory_format=layout)  # type: ignore[call-overload]
        images = torch.rand(8, channels, 32, 32).contiguous(memory_format=layout)
        for _ in range(20):
            skip.zero_grad()
            skip(images).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in skip.named_parameters()})
    for name, grad in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], grad, rtol=1e-3, atol=1e-4 * float(grad.abs().max()))
