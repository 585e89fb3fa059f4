"""The weighted negative ELBO."""

from __future__ import annotations

import pytest
import torch

from vaebm.models import ConvVAE, ElboTerms
from vaebm.objectives import elbo_loss, kl_weight_at

DOUBLE = torch.float64


def some_terms() -> ElboTerms:
    images = torch.zeros(2, 1, 2, 5)
    log_likelihood = torch.tensor([-30.0, -10.0], dtype=DOUBLE)
    kl = torch.tensor([[1.0, 0.25], [3.0, 0.5]], dtype=DOUBLE, requires_grad=True)
    return ElboTerms(log_likelihood, kl, images, images, images)


def test_at_weight_one_it_is_the_negative_elbo_per_dimension() -> None:
    terms = some_terms()
    result = elbo_loss(terms)
    assert float(result.loss.detach()) == pytest.approx(-float(terms.elbo.mean().detach()) / 10, rel=1e-14)
    assert (float(result.log_likelihood), float(result.kl), float(result.elbo)) == (-20, 2.375, -22.375)
    assert not any(figure.requires_grad for figure in (result.elbo, result.log_likelihood, result.kl))


def test_weight_falls_on_the_divergence_only_and_not_on_the_figures() -> None:
    result = elbo_loss(some_terms(), kl_weight=3.0)
    assert float(result.loss.detach()) == pytest.approx((3 * 2.375 + 20) / 10, rel=1e-14)
    assert float(result.elbo) == -22.375


def test_a_group_below_its_free_nats_costs_nothing() -> None:
    terms = some_terms()
    result = elbo_loss(terms, free_nats=1.0)
    assert float(result.loss.detach()) == pytest.approx((2 + 1 + 20) / 10, rel=1e-14)
    (grad,) = torch.autograd.grad(result.loss, terms.kl)
    assert torch.allclose(grad, torch.tensor([[0.05, 0.0], [0.05, 0.0]], dtype=DOUBLE))


def test_a_weight_is_a_larger_scale() -> None:
    """Weight β at scale s trains like weight 1 at scale s√β: the gradients differ by the factor β alone."""
    weight, scale = 9.0, 0.1
    images = torch.rand(3, 1, 8, 8, dtype=DOUBLE) * 2 - 1
    noise = torch.randn(3, 5, dtype=DOUBLE)
    weighted = ConvVAE((1, 8, 8), (3, 2), widths=(6,), num_hidden=4, scale=scale).double()
    wide = ConvVAE(**{**weighted.arguments, "scale": scale * weight**0.5}).double()
    wide.load_state_dict(weighted.state_dict())
    found = torch.autograd.grad(elbo_loss(weighted.elbo_terms(images, noise), weight).loss, list(weighted.parameters()))
    wanted = torch.autograd.grad(elbo_loss(wide.elbo_terms(images, noise)).loss, list(wide.parameters()))
    assert all(torch.allclose(one, weight * two, rtol=1e-9, atol=1e-12) for one, two in zip(found, wanted, strict=True))


def test_the_weight_rises_from_five_percent_and_stays() -> None:
    weights = [kl_weight_at(iteration, 100, 2.0, 0.5) for iteration in range(100)]
    assert weights[0] == pytest.approx(0.1)
    assert weights[20] == pytest.approx(2 * (0.05 + 20 / 50))
    assert weights == sorted(weights)
    assert set(weights[48:]) == {2.0}


def test_without_warm_up_the_weight_is_whole() -> None:
    assert kl_weight_at(0, 100, 2.0, 0.0) == 2.0
