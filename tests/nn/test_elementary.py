"""Layers in elementary operations give torch's numbers, in float64 to twelve digits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm.models import ConvVAE, EnergyNetwork
from vaebm.nn.elementary import elementary

LAYERS: dict[str, Callable[[Tensor], Tensor]] = {
    "convolution": nn.Conv2d(2, 5, 3).double(),
    "strided convolution": nn.Conv2d(2, 5, 5, 2, 2).double(),
    "convolution of another shape": nn.Conv2d(2, 4, (3, 1), (1, 2), (1, 0), bias=False).double(),
    "pooling": lambda images: functional.avg_pool2d(images, 2, ceil_mode=True),
    "pooling of threes": lambda images: functional.avg_pool2d(images, 3, ceil_mode=True),
    "pooling of rectangles": lambda images: functional.avg_pool2d(images, (11, 4), ceil_mode=True),
    "larger": lambda images: functional.interpolate(images, (23, 15), mode="nearest"),
    "smaller": lambda images: functional.interpolate(images, (7, 3), mode="nearest"),
    "softplus": lambda images: functional.softplus(10 * images),
    "one group": nn.GroupNorm(1, 2).double(),
    "two groups": nn.GroupNorm(2, 2).double(),
}


def pictures(count: int = 3) -> Tensor:
    return torch.randn(count, 2, 11, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_the_same_numbers(name: str) -> None:
    with torch.no_grad():
        expected = LAYERS[name](pictures())
        with elementary():
            found = LAYERS[name](pictures())
    # torch's softplus is the identity above 20.
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14 if name != "softplus" else 3e-9)
    assert found.shape == expected.shape


@pytest.mark.parametrize("body", ["dense", "convolutional"])
@pytest.mark.parametrize("blocks", ["plain", "residual"])
def test_whole_networks_give_the_same_numbers(body: str, blocks: str) -> None:
    shape, options = (3, 9, 13), {"scale_kind": "pixel", "normalization": "layer"}
    vae = ConvVAE(shape, (4, 3), body=body, widths=(8, 6), num_hidden=16, **options).double().eval()
    energy = EnergyNetwork(shape, blocks=blocks, widths=(4, 6), input_pooling=2).double().eval()
    images, noise = torch.rand(2, *shape).double() * 2 - 1, torch.randn(2, 7).double()
    with torch.no_grad():
        expected = vae.elbo_terms(images, noise).elbo, energy(images)
        with elementary():
            found = vae.elbo_terms(images, noise).elbo, energy(images)
    for value, known in zip(found, expected, strict=True):
        assert torch.allclose(value, known, rtol=1e-11)
        assert not torch.equal(value, torch.zeros_like(value))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3, dilation=2),
        nn.Conv2d(2, 2, 3, groups=2),
        nn.Conv2d(2, 2, 3, padding="same"),
        nn.AvgPool2d(2),
        nn.AvgPool2d(2, stride=1),
        nn.Upsample(scale_factor=2),
        nn.Upsample(size=(4, 4), mode="bilinear"),
    ],
)
def test_other_settings_are_refused_and_not_computed_wrongly(layer: nn.Module) -> None:
    with elementary(), pytest.raises(NotImplementedError, match="expected"):
        layer.double()(pictures())
