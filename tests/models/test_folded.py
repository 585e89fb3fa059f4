"""A folded model does what the model does, in values and in gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vaebm.applications import generate, generation
from vaebm.distributed import make_engine
from vaebm.models import NVAE, VAEBM, ConvVAE, EnergyNetwork, FoldedNVAE, folded, for_chains
from vaebm.nn.cells import DecoderCell
from vaebm.nn.folding import FoldedCell
from vaebm.training import EnergySettings, energy_stage, energy_step, start_energy

LAYOUTS: list[dict[str, Any]] = [
    {"groups": (3,)},
    {"groups": (1, 2), "outer_blocks": 2, "outer_cells": 1},
    {"groups": (2,), "has_excitation": False, "outer_blocks": 0, "decoder_cells": 1},
    {"groups": (1, 1), "scale_kind": "fixed", "least_scale": 0.2},
]


def trained(module: nn.Module) -> None:
    """Gives every batch norm statistics and an affine map of its own, as after training."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)


@pytest.fixture(params=LAYOUTS, ids=str)
def model(request: pytest.FixtureRequest) -> VAEBM:
    torch.manual_seed(0)
    vae = NVAE((3, 16, 8), latents=2, encoder_width=8, decoder_width=8, **request.param)
    pooling = 2 if request.param["groups"] == (3,) else 1
    energy = EnergyNetwork((3, 16, 8), "residual", (8, 12), 2, 3, 0, "sum", input_pooling=pooling)
    trained(vae)
    return VAEBM(vae, energy).eval().requires_grad_(False)


def evaluate(model: VAEBM, noise: Tensor) -> list[Tensor]:
    """Returns mean, scale, energies and the gradient of the log-density."""
    noise = noise.clone().requires_grad_()
    carried = model.transport(noise)
    energies = model.energy(20 * carried.image)
    (gradient,) = torch.autograd.grad(energies.sum(), noise)
    return [part.detach() for part in (carried.mean, carried.scale, *carried.latents, energies, gradient)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
def test_values_and_gradients_are_those_of_the_model(model: VAEBM, dtype: torch.dtype, tolerance: float) -> None:
    model = model.to(dtype)
    noise = torch.randn(3, model.noise_layout.size, generator=torch.Generator().manual_seed(1), dtype=dtype)
    for found, expected in zip(evaluate(folded(model, dtype), noise), evaluate(model, noise), strict=True):
        assert found.dtype == expected.dtype
        assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


def test_densities_and_their_constants_are_those_of_the_model(model: VAEBM) -> None:
    model = model.double()
    noise = torch.randn(3, model.noise_layout.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    fast = folded(model, torch.float64)
    assert torch.allclose(fast.log_density(noise), model.log_density(noise), rtol=1e-12)
    assert torch.allclose(fast.official_log_density(noise), model.official_log_density(noise), rtol=1e-10)


def test_bfloat16_is_near(model: VAEBM) -> None:
    noise = torch.randn(3, model.noise_layout.size, generator=torch.Generator().manual_seed(1))
    fast = folded(model, torch.bfloat16)
    assert fast.transport(noise).mean.dtype == torch.float32
    mean, *_, energies, gradient = evaluate(fast, noise)
    expected_mean, *_, expected_energies, expected_gradient = evaluate(model, noise)
    assert float((mean - expected_mean).abs().max()) < 0.05 * float(expected_mean.abs().max())
    assert float((energies - expected_energies).abs().max()) < 0.05 * float(expected_energies.abs().max())
    assert float((gradient - expected_gradient).norm()) < 0.25 * float(expected_gradient.norm())


@pytest.mark.parametrize("is_up", [False, True])
@pytest.mark.parametrize("has_excitation", [False, True])
def test_a_folded_cell_passes_the_numerical_check_of_its_gradient(is_up: bool, has_excitation: bool) -> None:
    torch.manual_seed(0)
    cell = DecoderCell(4, 2 if is_up else 4, up=is_up, expansion=2, has_excitation=has_excitation)
    trained(cell)
    fast = FoldedCell(cell.double().eval())
    images = torch.randn(2, 4, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(fast, (images,))
    assert torch.allclose(fast(images), cell(images), rtol=1e-10)


def test_later_changes_of_the_model_are_not_seen(model: VAEBM) -> None:
    noise = torch.randn(1, model.noise_layout.size, generator=torch.Generator().manual_seed(1))
    fast = folded(model)
    before = fast.log_density(noise)
    for parameter in model.parameters():
        parameter.add_(0.1)
    assert torch.equal(fast.log_density(noise), before)


def test_other_models_are_refused(model: VAEBM) -> None:
    plain = VAEBM(ConvVAE((1, 8, 8), (2,), widths=(8,)), EnergyNetwork((1, 8, 8), widths=(4,)))
    with pytest.raises(TypeError, match="ConvVAE and EnergyNetwork can't be folded: expected NVAE"):
        folded(plain)
    with pytest.raises(TypeError, match="plain convolutions can't be folded"):
        folded(VAEBM(model.vae, EnergyNetwork((3, 16, 8), widths=(4,))))
    with pytest.raises(TypeError, match="has no encoder"):
        folded(model).vae.elbo_terms(torch.zeros(1, 3, 16, 8), torch.zeros(1, model.vae.noise_layout.latent_size))


def test_chains_and_stage_2_follow_the_folded_form_to_the_same_images(
    model: VAEBM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw() -> Tensor:
        return generate(model, 3, num_steps=4, step_size=0.05, generator=torch.Generator().manual_seed(2))

    assert isinstance(for_chains(model).vae, FoldedNVAE)
    assert for_chains(model).vae.start.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert for_chains(model).vae.start.dtype == torch.bfloat16
    fast = draw()
    monkeypatch.setattr(generation, "for_chains", lambda same: same)
    assert torch.allclose(draw(), fast, atol=1e-4)


def test_a_compiled_decoder_makes_the_same_step_of_stage_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the compiler all but the last, the C++ that it writes of its graph, which takes half a minute."""
    compiled, compile_it = [], torch.compile

    def compile_graph(function: Callable[..., Any]) -> Callable[..., Any]:
        compiled.append(function)
        return compile_it(function, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", compile_graph)
    torch.manual_seed(0)
    vae = NVAE((3, 8, 8), (2,), 2, 4, 4, encoder_cells=1, decoder_cells=1, outer_blocks=0)
    model = VAEBM(vae, EnergyNetwork((3, 8, 8), "residual", (4, 4), 1, 3, 0, "sum")).eval()
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 2 - 1
    settings = EnergySettings(batch_size=4, num_steps=2, step_size=0.05, matched_noise=False)
    engine, noise = make_engine("fp32", "cpu"), []
    for is_compiled in (False, True):
        fresh, told = copy.deepcopy(model), replace(settings, compile_decoder=is_compiled)
        state = start_energy(fresh, told, images, torch.Generator().manual_seed(4))
        noise.append(energy_step(fresh, told, engine)(state, images).state.buffer.noise)
    assert torch.allclose(*noise, atol=1e-5)
    assert len(compiled) == 1


def test_a_step_of_stage_2_is_that_of_the_plain_form(model: VAEBM, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(8, 3, 16, 8, generator=torch.Generator().manual_seed(3)) * 2 - 1
    settings = EnergySettings(batch_size=8, num_steps=3, step_size=0.05, matched_noise=False)
    engine = make_engine("fp32", "cpu")

    def step() -> dict[str, float]:
        fresh = copy.deepcopy(model)
        state = start_energy(fresh, settings, images, torch.Generator().manual_seed(4))
        return energy_step(fresh, settings, engine)(state, images).figures

    fast = step()
    monkeypatch.setattr(energy_stage, "can_fold", lambda same: False)
    for name, value in step().items():
        assert fast[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
