"""Every ConvVAE: bodies × latent groups × pixel scales × sizes × channels."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, distributions, nn

from vaebm.models import ConvVAE, ElboTerms

DOUBLE = torch.float64
BODIES = ("dense", "convolutional")
GROUPS = ((3,), (3, 2), (3, 2, 4))
SCALES = ("fixed", "shared", "pixel")
SIZES = ((8, 8), (28, 28), (33, 17), (128, 128))


def build(image_shape: tuple[int, ...] = (1, 8, 8), **arguments: Any) -> ConvVAE:
    return ConvVAE(image_shape, **{"widths": (6, 4), "num_hidden": 8, "latent_groups": (3, 2), **arguments})


def draw(vae: ConvVAE, count: int = 3, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(count, *vae.image_shape, generator=generator, dtype=dtype) * 2 - 1
    return images, torch.randn(count, vae.noise_layout.latent_size, generator=generator, dtype=dtype)


small = pytest.mark.parametrize(
    ("body", "groups", "scale_kind"), [(body, groups, kind) for body in BODIES for groups in GROUPS for kind in SCALES]
)


@pytest.mark.parametrize(
    ("body", "groups", "scale_kind", "size", "channels"), list(itertools.product(BODIES, GROUPS, SCALES, SIZES, (1, 3)))
)
def test_contract(body: str, groups: tuple[int, ...], scale_kind: str, size: tuple[int, int], channels: int) -> None:
    vae = build((channels, *size), body=body, latent_groups=groups, scale_kind=scale_kind)
    images, noise = draw(vae)
    assert vae.noise_layout.latent_size == sum(groups)
    terms = vae.elbo_terms(images, noise)
    assert terms.log_likelihood.shape == (3,)
    assert terms.kl.shape == (3, len(groups))
    assert terms.reconstruction.shape == terms.scale.shape == images.shape
    assert terms.noise.shape == noise.shape
    assert terms.log_likelihood.dtype == terms.kl.dtype == DOUBLE
    assert terms.reconstruction.dtype == terms.scale.dtype == terms.noise.dtype == torch.float32
    assert (terms.kl >= 0).all()
    (-terms.elbo.mean()).backward()
    for name, parameter in vae.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    decoded = vae.decode(noise)
    assert decoded.mean.shape == decoded.scale.shape == images.shape
    assert [latents.shape for latents in decoded.latents] == [(3, group) for group in groups]
    assert float(decoded.mean.detach().abs().max()) <= 1


@small
def test_transported_noise_leads_back_to_the_reconstruction(
    body: str, groups: tuple[int, ...], scale_kind: str
) -> None:
    vae = build(body=body, latent_groups=groups, scale_kind=scale_kind).double()
    terms = vae.elbo_terms(*draw(vae, dtype=DOUBLE))
    decoded = vae.decode(terms.noise)
    assert terms.noise.dtype == decoded.mean.dtype == DOUBLE
    assert torch.allclose(decoded.mean, terms.reconstruction, rtol=0, atol=1e-12)
    assert torch.allclose(decoded.scale, terms.scale, rtol=1e-12)


@small
def test_divergence_of_each_group(body: str, groups: tuple[int, ...], scale_kind: str) -> None:
    """Within its group the prior's noise is a + r · posterior noise, so that KL = Σ ½(a² + r² − 1) − log r."""
    vae = build(body=body, latent_groups=groups, scale_kind=scale_kind).double()
    images, noise = draw(vae, dtype=DOUBLE)
    terms = vae.elbo_terms(images, noise)
    for index in range(len(groups)):
        at: list[Tensor] = []
        for value in (0.0, 1.0):
            parts = [part.clone() for part in vae.noise_layout.split(noise)]
            parts[index].fill_(value)
            moved = vae.elbo_terms(images, vae.noise_layout.join(parts))
            at.append(vae.noise_layout.split(moved.noise)[index])
        shift, ratio = at[0], at[1] - at[0]
        expected = (0.5 * (shift.square() + ratio.square() - 1) - ratio.log()).sum(1)
        assert torch.allclose(terms.kl[:, index], expected, rtol=1e-9, atol=1e-12)


@small
def test_likelihood_is_that_of_gaussian_pixels(body: str, groups: tuple[int, ...], scale_kind: str) -> None:
    vae = build(body=body, latent_groups=groups, scale_kind=scale_kind).double()
    images, noise = draw(vae, dtype=DOUBLE)
    terms = vae.elbo_terms(images, noise)
    expected = distributions.Normal(terms.reconstruction, terms.scale).log_prob(images).flatten(1).sum(1)
    assert torch.allclose(terms.log_likelihood, expected, rtol=1e-12, atol=0)


@small
def test_an_image_does_not_depend_on_its_neighbours(body: str, groups: tuple[int, ...], scale_kind: str) -> None:
    vae = build(body=body, latent_groups=groups, scale_kind=scale_kind).double()
    images, noise = draw(vae, dtype=DOUBLE)
    together, alone = vae.elbo_terms(images, noise), vae.elbo_terms(images[1:2], noise[1:2])
    assert torch.allclose(together.elbo[1:2], alone.elbo, rtol=1e-12, atol=0)
    assert torch.allclose(vae.decode(noise).mean[1:2], vae.decode(noise[1:2]).mean, rtol=0, atol=1e-13)


@small
def test_all_randomness_is_in_the_argument(body: str, groups: tuple[int, ...], scale_kind: str) -> None:
    vae = build(body=body, latent_groups=groups, scale_kind=scale_kind)
    images, noise = draw(vae)
    first, again, other = (vae.elbo_terms(images, given) for given in (noise, noise, noise + 0.1))
    assert torch.equal(first.elbo, again.elbo)
    assert torch.equal(vae.decode(noise).mean, vae.decode(noise).mean)
    assert not torch.equal(first.elbo, other.elbo)


def pixel_scales(kind: str, scale: float) -> Tensor:
    vae = build(scale_kind=kind, scale=scale)
    return vae.decode(draw(vae)[1]).scale.detach()


def test_a_fixed_scale_is_the_one_given() -> None:
    assert torch.equal(pixel_scales("fixed", 0.1), torch.full((3, 1, 8, 8), 0.1))


@pytest.mark.parametrize("floor", [0.1, 5.0])
def test_a_shared_scale_is_one_above_its_floor(floor: float) -> None:
    scales = pixel_scales("shared", floor)
    assert len(scales.unique()) == 1
    assert floor < float(scales.min()) < floor + 1


@pytest.mark.parametrize("floor", [0.1, 5.0])
def test_a_pixel_scale_varies_above_its_floor(floor: float) -> None:
    scales = pixel_scales("pixel", floor)
    assert len(scales.unique()) > 100
    assert floor < float(scales.min()) < float(scales.max()) < floor + 1


@small
def test_a_posterior_network_that_says_nothing_gives_the_prior(
    body: str, groups: tuple[int, ...], scale_kind: str
) -> None:
    vae = build(body=body, latent_groups=groups, scale_kind=scale_kind).double()
    with torch.no_grad():
        for network in vae.posteriors:
            last = network if isinstance(network, nn.Linear) else network[-1]
            last.weight.zero_()
            last.bias.zero_()
    images, noise = draw(vae, dtype=DOUBLE)
    terms = vae.elbo_terms(images, noise)
    assert torch.allclose(terms.kl, torch.zeros(3, len(groups), dtype=DOUBLE), atol=1e-14)
    assert torch.allclose(terms.noise, noise, rtol=1e-12)


def test_a_lower_group_sees_the_upper_one() -> None:
    vae = build()
    noise = torch.zeros(1, 5)
    moved = noise.clone()
    moved[0, 0] = 1.0
    below, changed = (vae.decode(given).latents[1] for given in (noise, moved))
    assert not torch.equal(below, changed)
    assert torch.equal(vae.decode(noise).latents[0], noise[:, :3])


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("scale_kind", SCALES)
def test_under_autocast_results_are_float32_or_better(body: str, scale_kind: str) -> None:
    vae = build(body=body, scale_kind=scale_kind)
    images, noise = draw(vae)
    exact = vae.elbo_terms(images, noise)
    with torch.autocast("cpu", torch.bfloat16):
        terms: ElboTerms = vae.elbo_terms(images, noise)
        decoded = vae.decode(noise)
    assert terms.elbo.dtype == DOUBLE
    assert decoded.mean.dtype == decoded.scale.dtype == terms.noise.dtype == torch.float32
    assert torch.allclose(terms.reconstruction, exact.reconstruction, atol=0.05)


def test_arguments_build_the_same_network() -> None:
    vae = build((3, 9, 12), body="convolutional", scale_kind="pixel", scale=0.05)
    twin = ConvVAE(**vae.arguments)
    twin.load_state_dict(vae.state_dict())
    images, noise = draw(vae)
    assert torch.equal(vae.elbo_terms(images, noise).elbo, twin.elbo_terms(images, noise).elbo)


@pytest.mark.parametrize("body", BODIES)
def test_a_normalized_vae_judges_each_image_alone(body: str) -> None:
    vae = build(body=body, normalization="layer").double()
    images, noise = draw(vae, dtype=DOUBLE)
    together = vae.elbo_terms(images, noise).elbo
    alone = torch.cat([vae.elbo_terms(images[[index]], noise[[index]]).elbo for index in range(len(images))])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=0)


@pytest.mark.parametrize("body", BODIES)
def test_layers_of_a_normalized_vae_are_centred_with_spread_one(body: str) -> None:
    vae = build(body=body, normalization="layer")
    seen: list[Tensor] = []
    kinds = (nn.LayerNorm, nn.GroupNorm)
    for module in vae.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(lambda _module, _inputs, output: seen.append(output.flatten(1)))
    vae.elbo_terms(*draw(vae))
    # Encoder and decoder, two layers each or more, a posterior and a prior of two.
    assert len(seen) >= 7
    for hidden in seen:
        torch.testing.assert_close(hidden.mean(1), torch.zeros(3), rtol=0, atol=1e-5)
    assert not any(isinstance(module, kinds) for module in build(body=body).modules())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_shape": (2, 8, 8)}, "image_shape is (2, 8, 8)"),
        ({"image_shape": (1, 7, 8)}, "image_shape is (1, 7, 8)"),
        ({"image_shape": (1, 8, 129)}, "image_shape is (1, 8, 129)"),
        ({"image_shape": (8, 8)}, "image_shape is (8, 8)"),
        ({"latent_groups": ()}, "latent_groups is ()"),
        ({"latent_groups": (3, 0)}, "latent_groups is (3, 0)"),
        ({"widths": ()}, "widths is ()"),
        ({"widths": (4, -1)}, "widths is (4, -1)"),
        ({"num_hidden": 0}, "num_hidden is 0"),
        ({"body": "recurrent"}, "body is 'recurrent'"),
        ({"scale_kind": "none"}, "scale_kind is 'none'"),
        ({"scale": 0.0}, "scale is 0.0"),
        ({"normalization": "batch"}, "normalization is 'batch'"),
        ({"normalization": "layer", "widths": (4, 1)}, "normalization is 'layer' with a layer of width 1"),
    ],
)
def test_arguments_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        build(**wrong)
    assert str(caught.value).startswith(message)


def test_noise_of_another_size_is_refused() -> None:
    vae = build()
    with pytest.raises(ValueError, match=r"expected \(B, 5\)"):
        vae.decode(torch.zeros(2, 6))
