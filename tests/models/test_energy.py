"""Every EnergyNetwork: blocks × normalisation × pooling × depth × head × sizes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vaebm.models import EnergyNetwork
from vaebm.nn import initialize_from_data

DOUBLE = torch.float64
BLOCKS = ("plain", "residual")
NORMALIZATIONS = ("weight", "spectral", "none")
POOLINGS = ("flatten", "sum")

kinds = pytest.mark.parametrize(
    ("blocks", "normalization", "pooling"), list(itertools.product(BLOCKS, NORMALIZATIONS, POOLINGS))
)


def build(image_shape: tuple[int, ...] = (1, 8, 8), **arguments: Any) -> EnergyNetwork:
    return EnergyNetwork(image_shape, **{"widths": (4, 6), "stem_kernel_size": 3, "num_hidden": 5, **arguments})


def draw(shape: tuple[int, ...] = (1, 8, 8), count: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(4), dtype=dtype) * 2 - 1


@kinds
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (1, 33, 17), (3, 128, 128)])
def test_contract(blocks: str, normalization: str, pooling: str, depth: int, shape: tuple[int, ...]) -> None:
    energy = build(shape, blocks=blocks, normalization=normalization, pooling=pooling, depth=depth)
    images = draw(shape).requires_grad_()
    result = energy(images)
    assert result.shape == (3,)
    assert result.dtype == torch.float32
    result.square().sum().backward()
    for name, parameter in energy.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert images.grad is not None
    assert torch.isfinite(images.grad).all()
    assert float(images.grad.abs().sum()) > 0


@kinds
@pytest.mark.parametrize("num_hidden", [0, 5])
def test_an_image_does_not_depend_on_its_neighbours(
    blocks: str, normalization: str, pooling: str, num_hidden: int
) -> None:
    energy = build(blocks=blocks, normalization=normalization, pooling=pooling, num_hidden=num_hidden).double().eval()
    images = draw(dtype=DOUBLE)
    together = energy(images)
    alone = torch.cat([energy(image[None]) for image in images])
    assert together.dtype == DOUBLE
    assert torch.allclose(together, alone, rtol=1e-12, atol=1e-14)
    assert torch.allclose(energy(images.flip(0)), together.flip(0), rtol=1e-12, atol=1e-14)


@kinds
def test_values_outside_the_range_are_clamped(blocks: str, normalization: str, pooling: str) -> None:
    energy = build(blocks=blocks, normalization=normalization, pooling=pooling).eval()
    images = (3 * draw()).requires_grad_()
    assert torch.equal(energy(images), energy(images.clamp(-1, 1)))
    (grad,) = torch.autograd.grad(energy(images).sum(), images)
    outside = images.detach().abs() > 1
    assert outside.any()
    assert (grad[outside] == 0).all()
    assert (grad[~outside] != 0).any()


@kinds
def test_same_images_same_energies(blocks: str, normalization: str, pooling: str) -> None:
    energy = build(blocks=blocks, normalization=normalization, pooling=pooling).eval()
    assert torch.equal(energy(draw()), energy(draw()))


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("depth", [1, 2])
def test_initialisation_reaches_every_weight_normalised_layer(blocks: str, pooling: str, depth: int) -> None:
    energy = build(blocks=blocks, pooling=pooling, depth=depth).double()
    images = draw(count=16, dtype=DOUBLE)
    seen: dict[str, Tensor] = {}
    layers = {name: layer for name, layer in energy.named_modules() if hasattr(layer, "parametrizations")}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda _layer, _inputs, output, name=name: seen.update({name: output.detach()}))
    initialize_from_data(energy, images)
    seen.clear()
    energies = energy(images)
    # Two widths: with residual blocks a stem, two convolutions a block and two skips; a hidden layer and the scalar.
    assert len(seen) == (1 + 4 * depth + 2 if blocks == "residual" else 2 * depth) + 2
    for name, output in seen.items():
        axes = [axis for axis in range(output.ndim) if axis != 1]
        assert name.endswith("skip") or float(output.mean(axes).abs().max()) < 1e-9, name
        assert torch.allclose(output.std(axes), torch.tensor(0.2, dtype=DOUBLE), rtol=1e-3), name
    assert float(energies.mean().detach()) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("num_hidden", [0, 5])
def test_spectral_normalisation_bounds_the_slope(num_hidden: int) -> None:
    """|∇E| ≤ gain · ½ · Π ⌈k/s⌉: ½ from the map to [0, 1], the overlap of patches from each convolution."""
    energy = build(normalization="spectral", num_hidden=num_hidden).double()
    with torch.no_grad():
        for name, parameter in energy.named_parameters():
            if name.endswith("original"):
                parameter.mul_(40)
        for _ in range(200):
            energy(draw(dtype=DOUBLE))
        energy.log_gain.fill_(math.log(3))
    energy.eval()
    convolutions = [layer for layer in energy.modules() if isinstance(layer, nn.Conv2d)]
    overlaps = [math.ceil(layer.kernel_size[0] / layer.stride[0]) for layer in convolutions]
    bound = 3 * 0.5 * math.prod(overlaps)
    images = draw(count=50, dtype=DOUBLE).requires_grad_()
    (grad,) = torch.autograd.grad(energy(images).sum(), images)
    slopes = grad.flatten(1).norm(dim=1)
    assert float(slopes.max()) < bound
    assert float(slopes.max()) > 1e-3 * bound


def test_the_output_gain_scales_the_energy() -> None:
    energy = build(normalization="spectral").eval()
    before = energy(draw()).detach()
    with torch.no_grad():
        energy.log_gain.fill_(math.log(2.5))
    assert torch.allclose(energy(draw()), 2.5 * before, rtol=1e-6)
    assert build().log_gain is None


def test_sum_pooling_adds_features_over_space() -> None:
    energy = build(pooling="sum").double()
    images = draw(dtype=DOUBLE)
    maps = energy.body((images + 1) / 2)
    assert torch.allclose(energy.features(images), maps.sum((2, 3)), rtol=1e-14)
    assert energy.features(images).shape == (3, 6)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("blocks", BLOCKS)
def test_input_pooling_averages_squares_of_clamped_pixels(blocks: str, size: int) -> None:
    energy = build((1, 12, 12), blocks=blocks, input_pooling=size).double()
    coarse = build((1, 12 // size, 12 // size), blocks=blocks).double()
    coarse.load_state_dict(energy.state_dict())
    images = 2 * draw((1, 12, 12), dtype=DOUBLE)
    squares = images.clamp(-1, 1).view(3, 1, 12 // size, size, 12 // size, size).mean((3, 5))
    assert torch.allclose(energy(images), coarse(squares), rtol=1e-12)


def test_input_pooling_takes_sizes_that_do_not_divide() -> None:
    energy = build((3, 33, 17), input_pooling=2)
    assert torch.isfinite(energy(draw((3, 33, 17)))).all()


def test_under_autocast_energies_are_float32() -> None:
    energy = build()
    with torch.autocast("cpu", torch.bfloat16):
        result = energy(draw())
    assert result.dtype == torch.float32
    assert torch.allclose(result, energy(draw()), atol=0.02)


def test_arguments_build_the_same_network() -> None:
    energy = build((3, 9, 12), blocks="residual", depth=2, pooling="sum", normalization="spectral").eval()
    twin = EnergyNetwork(**energy.arguments).eval()
    twin.load_state_dict(energy.state_dict())
    assert torch.equal(energy(draw((3, 9, 12))), twin(draw((3, 9, 12))))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_shape": (8, 8)}, "image_shape is (8, 8)"),
        ({"blocks": "dense"}, "blocks is 'dense'"),
        ({"pooling": "mean"}, "pooling is 'mean'"),
        ({"normalization": "batch"}, "normalization is 'batch'"),
        ({"widths": ()}, "widths ()"),
        ({"widths": (4, 0)}, "widths (4, 0)"),
        ({"depth": 0}, "widths (4, 6) and depth 0"),
        ({"stem_kernel_size": 4}, "stem_kernel_size is 4"),
        ({"num_hidden": -1}, "num_hidden is -1"),
        ({"input_pooling": 0}, "input_pooling is 0"),
        ({"input_pooling": 9}, "input_pooling is 9"),
    ],
)
def test_arguments_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        build(**wrong)
    assert str(caught.value).startswith(message)


def test_each_block_says_whether_it_halves() -> None:
    given = EnergyNetwork(
        (1, 16, 16), "residual", (4, 4, 8, 8, 8), num_hidden=0, halvings=(True, False, True, False, False)
    )
    assert [block.down for block in given.body[2:]] == [True, False, True, False, False]
    assert [block.skip is not None for block in given.body[2:]] == [True, False, True, False, False]
    assert given.body(draw((1, 16, 16))).shape[2:] == (4, 4)
    implied = EnergyNetwork((1, 16, 16), "residual", (4, 8), depth=2, num_hidden=0)
    same = EnergyNetwork((1, 16, 16), "residual", (4, 4, 8, 8), num_hidden=0, halvings=(True, False, True, False))
    same.load_state_dict(implied.state_dict())
    images = draw((1, 16, 16))
    assert torch.equal(same(images), implied(images))
    with pytest.raises(ValueError, match="halvings has 2 entries at depth 2"):
        EnergyNetwork((1, 16, 16), widths=(4, 8), depth=2, halvings=(True, False))


@pytest.mark.parametrize(
    ("widths", "halvings", "size", "millions", "num_convolutions"),
    [
        ((128, 128, 256, 256, 256, 256), "101010", 32, 5.14, 16),
        ((64, 64, 128, 128, 128, 256, 256, 256), "10101010", 64, 4.34, 22),
        ((64, 64, 128, 128, 128, 128, 256, 256, 256, 256), "1010010010", 64, 5.81, 26),
        ((64, 64, 128, 128, 128, 128, 256, 256, 256, 256, 512, 512), "101010101010", 256, 14.2, 31),
        ((64, 64, 128, 128), "1010", 32, 0.68, 11),
    ],
    ids=["cifar10", "celeba64", "lsun_church64", "celebahq256", "mnist"],
)
def test_the_networks_of_the_paper(
    widths: tuple[int, ...], halvings: str, size: int, millions: float, num_convolutions: int
) -> None:
    is_halved = [digit == "1" for digit in halvings]
    with torch.device("meta"):
        network = EnergyNetwork((3, size, size), "residual", widths, 1, 3, 0, "sum", "weight", halvings=is_halved)
    assert sum(isinstance(module, torch.nn.Conv2d) for module in network.modules()) == num_convolutions
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.005)
