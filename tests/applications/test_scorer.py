"""A scorer gives the numbers of ``outlier_scores`` and of p-values, in any batch, and the same decision in any copy."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor

from vaebm.applications import Decisions, Scorer, ScoringNoise, draw_scoring_noise, outlier_scores, round_scores
from vaebm.data import load_splits, to_float
from vaebm.metrics import conformal_p_values
from vaebm.models import VAEBM, ConvVAE, EnergyNetwork, ImageFields

SHAPE = (1, 8, 8)
NETWORKS = list(itertools.product(("dense", "convolutional"), ("plain", "residual"), ("weight", "spectral", "none")))


def build(body: str = "dense", blocks: str = "plain", normalization: str = "weight", loss: str = "sampled") -> VAEBM:
    vae = ConvVAE(SHAPE, (4, 2), body=body, widths=(16, 8), num_hidden=8, scale_kind="pixel", normalization="layer")
    energy = EnergyNetwork(SHAPE, blocks=blocks, widths=(4, 6), normalization=normalization, input_pooling=2)
    return VAEBM(vae, energy, ImageFields(loss_image=loss)).eval()


def digits(count: int = 60) -> Tensor:
    return torch.from_numpy(load_splits("digits").test.images[:count])


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(4)


def known_scores(model: VAEBM, images: Tensor, batch_size: int = 500) -> Tensor:
    double = copy.deepcopy(model).double()
    return outlier_scores(
        double, to_float(images), num_posterior_samples=2, generator=seeded(), batch_size=batch_size
    ).outlier_score


def noise_for(model: VAEBM) -> ScoringNoise:
    return draw_scoring_noise(model, 2, seeded())


def make(model: VAEBM, rate: float = 0.25) -> Scorer:
    # Some of the images are the calibration images themselves, so that there are ties.
    return Scorer(model, round_scores(known_scores(model, digits(30))), rate)


@pytest.mark.parametrize(("body", "blocks", "normalization"), NETWORKS)
def test_a_scorer_gives_outlier_scores_and_p_values(body: str, blocks: str, normalization: str) -> None:
    model = build(body, blocks, normalization)
    scorer, before = make(model), copy.deepcopy(model.state_dict())
    scored = scorer(digits(), *noise_for(model))
    double = copy.deepcopy(model).double()
    expected = outlier_scores(double, to_float(digits()), num_posterior_samples=2, generator=seeded())
    assert torch.allclose(scored.energy, expected.energy, rtol=0, atol=1e-10)
    assert torch.allclose(scored.elbo, expected.elbo, rtol=0, atol=1e-10)
    assert torch.equal(scored.outlier_score, round_scores(expected.outlier_score))
    assert torch.equal(scored.p_value, conformal_p_values(scorer.calibration_scores, scored.outlier_score))
    assert torch.equal(scored.decision, scored.p_value <= 0.25)
    assert 0 < int(scored.decision.sum()) < 60
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_decisions_are_those_of_p_values_at_every_rate() -> None:
    model = build()
    for rate in [k / 31 for k in range(1, 32)]:
        scored = make(model, rate)(digits(), *noise_for(model))
        assert torch.equal(scored.decision, scored.p_value <= rate), rate
    with pytest.raises(ValueError, match="smallest p-value"):
        make(model, 0.03)


@pytest.mark.parametrize("batch_size", [1, 7, 60])
def test_batch_size_and_order_change_no_figure(batch_size: int) -> None:
    model = build("convolutional", "residual")
    scorer, noise = make(model), noise_for(model)
    order = torch.randperm(60, generator=seeded())
    whole = scorer(digits(), *noise)
    parts = [scorer(part, *noise) for part in digits()[order].split(batch_size)]
    shuffled = Decisions(*(torch.cat(values) for values in zip(*parts, strict=True)))
    for name in ("outlier_score", "p_value", "decision"):
        assert torch.equal(getattr(shuffled, name), getattr(whole, name)[order]), name
    assert torch.allclose(shuffled.elbo, whole.elbo[order], rtol=0, atol=1e-10)


def test_calibration_scores_of_more_or_fewer_digits_decide_the_same() -> None:
    model = build()
    exact = known_scores(model, digits(30))
    expected = make(model)(digits(), *noise_for(model))
    for scores in (exact, round_scores(exact).float()):
        scored = Scorer(model, scores, 0.25)(digits(), *noise_for(model))
        assert torch.equal(scored.p_value, expected.p_value)
        assert torch.equal(scored.decision, expected.decision)


def test_a_float64_copy_decides_the_same_and_half_precision_is_refused() -> None:
    model = build()
    double = copy.deepcopy(model).double()
    one, other = (make(each)(digits(), *noise_for(model)) for each in (model, double))
    for name, values in one._asdict().items():
        assert torch.equal(values, getattr(other, name)), name
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(ValueError, match=f"is {dtype}: expected float32 or float64"):
            make(copy.deepcopy(model).to(dtype))


def test_pixel_noise_matters_only_where_the_energy_was_trained_with_it() -> None:
    for loss in ("sampled", "mean"):
        model = build(loss=loss)
        posterior, pixel = noise_for(model)
        energies = [make(model)(digits(), posterior, factor * pixel).energy for factor in (1, 2)]
        assert torch.equal(*energies) == (loss == "mean")


def test_a_training_model_is_scored_in_evaluation_mode() -> None:
    model = build(normalization="spectral").train()
    scorer, noise = make(model), noise_for(model)
    assert torch.equal(scorer(digits(), *noise).energy, scorer(digits(), *noise).energy)
    assert model.training
    assert not scorer.model.training
