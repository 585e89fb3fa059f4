"""NVAE: sizes of the published models, the contract of a VAE, and a hierarchy in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vaebm.distributions import Normal
from vaebm.models import NVAE
from vaebm.models.nvae import groups_per_scale

LAYOUTS = [
    {"groups": (3,)},
    {"groups": (1, 2)},
    {"groups": (2, 1, 4), "num_flows": 1},
    {"groups": (2,), "outer_blocks": 0},
    {"groups": (1, 1), "outer_blocks": 2, "outer_cells": 1, "encoder_cells": 1, "decoder_cells": 3},
    {"groups": (2,), "has_excitation": False, "is_residual": False, "num_flows": 2},
    {"groups": (1, 1), "scale_kind": "fixed", "least_scale": 0.2},
    {"groups": (1, 1), "encoder_width": 7, "decoder_width": 9},
]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(params=LAYOUTS, ids=str)
def vae(request: pytest.FixtureRequest) -> NVAE:
    torch.manual_seed(0)
    vae = NVAE((3, 16, 24), latents=2, **{"encoder_width": 8, "decoder_width": 4, **request.param}).double()
    # As after some training: statistics of its own in every batch norm.
    for module in vae.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return vae.eval()


def test_noise_that_the_elbo_returns_decodes_to_the_same_image(vae: NVAE) -> None:
    size = vae.noise_layout.latent_size
    terms = vae.elbo_terms(draw(3, 3, 16, 24).tanh(), draw(3, size, seed=1))
    decoded = vae.decode(terms.noise)
    assert terms.kl.shape == (3, sum(vae.num_groups))
    assert torch.allclose(decoded.mean, terms.reconstruction, atol=1e-10)
    assert torch.allclose(decoded.scale, terms.scale, atol=1e-10)
    assert [tuple(latent.shape[1:]) for latent in decoded.latents] == list(vae.noise_layout.latent_shapes)


def test_pixel_scales_are_predicted_above_the_least_or_fixed() -> None:
    noise = draw(5, 128)
    for kind, least in (("pixel", 0.01), ("pixel", 0.5), ("fixed", 0.2)):
        vae = NVAE(
            (3, 16, 16), groups=(1,), latents=2, encoder_width=4, decoder_width=4, scale_kind=kind, least_scale=least
        )
        scale = vae.double().eval().decode(noise).scale
        assert scale.shape == (5, 3, 16, 16)
        assert bool((scale == least).all() if kind == "fixed" else (scale > least).all())
        assert (len(scale.unique()) == 1) == (kind == "fixed")


def test_images_know_nothing_of_their_neighbours(vae: NVAE) -> None:
    images, noise = draw(4, 3, 16, 24).tanh(), draw(4, vae.noise_layout.latent_size, seed=1)
    together, alone = vae.elbo_terms(images, noise), vae.elbo_terms(images[:1], noise[:1])
    assert torch.allclose(together.elbo[:1], alone.elbo, rtol=1e-10)
    assert torch.allclose(vae.decode(noise).mean[:1], vae.decode(noise[:1]).mean, rtol=1e-10)


def test_a_group_sees_only_groups_above(vae: NVAE) -> None:
    noise = draw(1, vae.noise_layout.latent_size)
    parts = vae.noise_layout.split(noise)
    before = vae.decode(noise).latents
    for index in range(len(parts)):
        changed = [part + (0.5 if place == index else 0) for place, part in enumerate(parts)]
        after = vae.decode(vae.noise_layout.join(changed)).latents
        same = [torch.equal(old, new) for old, new in zip(before, after, strict=True)]
        assert all(same[:index])
        assert not same[index]


def test_every_parameter_learns(vae: NVAE) -> None:
    terms = vae.train().elbo_terms(draw(4, 3, 16, 24).tanh(), draw(4, vae.noise_layout.latent_size, seed=1))
    (-terms.elbo.sum()).backward()
    for name, parameter in vae.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_prior_and_posterior_that_agree_have_no_divergence() -> None:
    """With a posterior map of zeros, q = p: the divergence is 0 and the noise comes back."""
    vae = NVAE((1, 8, 8), groups=(2,), latents=2, encoder_width=4, decoder_width=4).double().eval()
    for group in vae.groups:
        nn.init.constant_(group.posterior_map.parametrizations.weight[0].log_norm, -100)
        nn.init.zeros_(group.posterior_map.bias)
    noise = draw(3, vae.noise_layout.latent_size)
    terms = vae.elbo_terms(draw(3, 1, 8, 8).tanh(), noise)
    assert torch.allclose(terms.kl, torch.zeros_like(terms.kl), atol=1e-12)
    assert torch.allclose(terms.noise, noise, rtol=1e-10)


def test_the_prior_of_the_first_group_and_its_share_of_the_density() -> None:
    vae = NVAE((1, 8, 8), groups=(2,), latents=2, encoder_width=4, decoder_width=4).double().eval()
    noise = draw(3, vae.noise_layout.latent_size)
    decoded = vae.decode(noise)
    first, second = vae.noise_layout.split(noise)
    assert torch.allclose(decoded.latents[0], 1.01 * first)
    assert decoded.log_prior_scale is not None
    one = torch.full_like(first, 1.01)
    total = Normal(torch.zeros_like(first), one).log_prob(decoded.latents[0])
    scale = (decoded.log_prior_scale - one.log().flatten(1).sum(1)).exp()
    assert (scale > 0).all()
    assert torch.allclose(
        total, Normal(torch.zeros_like(first), torch.ones_like(first)).log_prob(first) - one.log().flatten(1).sum(1)
    )
    assert second.shape == (3, 2, 4, 4)


def test_groups_per_scale() -> None:
    assert groups_per_scale(1, 30) == (30,)
    assert groups_per_scale(4, 16, is_adaptive=True) == (2, 4, 8, 16)
    assert groups_per_scale(4, 16, is_adaptive=True, fewest=4) == (4, 4, 8, 16)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image_shape": (3, 30, 32), "groups": (1, 1, 1)}, "30x32 can't be halved 3 times"),
        ({"groups": (10**9,)}, "expected whole numbers, 1000 in all at most"),
        ({"groups": (1.5, 2)}, "expected whole numbers"),
        ({"groups": ()}, "groups"),
        ({"groups": (2, 0)}, "groups"),
        ({"latents": 0}, "latents"),
        ({"encoder_width": 2}, "encoder_width is 2"),
        ({"num_flows": -1}, "num_flows"),
        ({"outer_cells": 0}, "outer_cells"),
        ({"scale_kind": "shared"}, "scale_kind is 'shared': expected pixel or fixed"),
        ({"least_scale": 0.0}, "least_scale is 0.0"),
    ],
)
def test_a_layout_that_can_not_be_built_is_refused(
    arguments: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocated: list[object] = []
    monkeypatch.setattr(nn.Parameter, "__new__", lambda cls, *data, **told: allocated.append(data))
    with pytest.raises(ValueError, match=words):
        NVAE(**{"image_shape": (3, 32, 32), **arguments})  # type: ignore[arg-type]
    assert not allocated
