"""Layers in elementary operations give torch's numbers, in float64 to twelve digits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vaebm.models import NVAE, ConvVAE, EnergyNetwork
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
    "twice as large": lambda images: functional.interpolate(images, scale_factor=2, mode="nearest"),
    "larger, bilinear": lambda images: functional.interpolate(
        images, scale_factor=2, mode="bilinear", align_corners=True
    ),
    "one pixel, bilinear": lambda images: functional.interpolate(
        images[..., :1, :1], (3, 2), mode="bilinear", align_corners=True
    ),
    "depthwise convolution": nn.Conv2d(2, 2, 5, padding=2, groups=2, bias=False).double(),
    "convolution of groups": lambda images: functional.conv2d(
        torch.cat([images, 2 * images], 1),
        torch.linspace(-1, 1, 6 * 2 * 9, dtype=torch.float64).view(6, 2, 3, 3),
        stride=2,
        groups=2,
    ),
    "elu": lambda images: functional.elu(3 * images),
    "batch norm": lambda images: functional.batch_norm(
        images, images.mean((0, 2, 3)) + 1, images.var((0, 2, 3)), torch.tensor([2.0, -1.0]).double()
    ),
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


def test_an_nvae_gives_the_same_numbers() -> None:
    torch.manual_seed(0)
    vae = NVAE((3, 8, 16), (1, 2), latents=2, encoder_width=6, decoder_width=5, num_flows=1).double().eval()
    images, noise = torch.rand(2, 3, 8, 16).double() * 2 - 1, torch.randn(2, vae.noise_layout.latent_size).double()
    with torch.no_grad():
        expected = vae.elbo_terms(images, noise).elbo
        with elementary():
            found = vae.elbo_terms(images, noise).elbo
    assert torch.allclose(found, expected, rtol=1e-11)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3, dilation=2),
        nn.Conv2d(2, 2, 3, padding="same"),
        nn.AvgPool2d(2),
        nn.AvgPool2d(2, stride=1),
        nn.Upsample(scale_factor=1.5),
        nn.BatchNorm2d(2),
        nn.Upsample(size=(4, 4), mode="bilinear"),
    ],
)
def test_other_settings_are_refused_and_not_computed_wrongly(layer: nn.Module) -> None:
    with elementary(), pytest.raises(NotImplementedError, match="expected"):
        layer.double()(pictures())
