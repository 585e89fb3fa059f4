"""Generation, against the VAE it starts from and the closed form of a quadratic energy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from vaebm.applications import generate, sample_chains, snapshots, start_noise
from vaebm.models import VAEBM, ConvVAE, EnergyNetwork, ImageFields
from vaebm.sampling import ChainState, KernelInfo, Langevin, LogDensity, Transition, run_chain

if TYPE_CHECKING:
    from conftest import LinearGaussianVAE, QuadraticEnergy, ZeroEnergy

DOUBLE = torch.float64


def build(output_image: str = "mean", **sampling: float) -> VAEBM:
    vae = ConvVAE((1, 8, 8), (4, 2), widths=(16,), num_hidden=8, scale=0.5)
    return VAEBM(vae, EnergyNetwork((1, 8, 8), widths=(4,)), ImageFields(output_image=output_image), sampling).eval()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("output_image", ["mean", "sampled"])
def test_without_steps_it_gives_samples_of_the_vae(output_image: str) -> None:
    model = build(output_image)
    images = generate(model, 5, num_steps=0, step_size=0.1, generator=seeded())
    noise = torch.randn(5, model.noise_layout.size, generator=seeded())
    decoded = model.vae.decode(noise[:, :6])
    expected = decoded.mean if output_image == "mean" else decoded.mean + 0.5 * noise[:, 6:].view(5, 1, 8, 8)
    assert torch.allclose(images, expected.clamp(-1, 1), atol=1e-6)


@pytest.mark.parametrize("output_image", ["mean", "sampled"])
@pytest.mark.parametrize("num_steps", [0, 3])
def test_images_are_float32_in_range_and_carry_no_graph(output_image: str, num_steps: int) -> None:
    images = generate(build(output_image), 6, num_steps=num_steps, step_size=0.1, generator=seeded())
    assert images.shape == (6, 1, 8, 8)
    assert images.dtype == torch.float32
    assert not images.requires_grad
    assert float(images.abs().max()) <= 1
    assert (float(images.abs().max()) == 1) == (output_image == "sampled")


def test_without_steps_the_batch_size_does_not_matter() -> None:
    model = build()
    whole, parts = (
        generate(model, 7, num_steps=0, step_size=0.1, generator=seeded(), batch_size=size) for size in (7, 3)
    )
    assert torch.allclose(whole, parts, atol=1e-6)


def test_same_seed_same_images() -> None:
    model = build()
    first, again, other = (generate(model, 4, num_steps=3, step_size=0.1, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_it_is_a_langevin_chain_on_the_density_of_the_model() -> None:
    model = build()
    images = generate(model, 4, num_steps=3, step_size=0.2, generator=seeded())
    generator = seeded()
    noise = torch.randn(4, model.noise_layout.size, generator=generator)
    for step in run_chain(Langevin(0.2), noise, model.log_density, 3, generator):
        noise = step.state.noise
    assert torch.allclose(images, model.transport(noise).mean.detach(), atol=1e-6)


def test_start_noise_and_kernel_can_be_given(generator: torch.Generator) -> None:
    def halve(state: ChainState, _log_density: LogDensity, _generator: torch.Generator) -> Transition:
        zeros = torch.zeros(len(state.noise))
        return Transition(ChainState(state.noise / 2), KernelInfo(zeros, zeros, zeros, zeros + 1))

    model = build()
    noise = torch.randn(3, model.noise_layout.size)
    images = generate(model, 3, num_steps=2, generator=generator, kernel=halve, noise=noise)
    assert torch.allclose(images, model.transport(noise / 4).mean.detach(), atol=1e-6)


def test_the_defaults_of_the_model_are_used_unless_overridden() -> None:
    model = build(num_steps=2, step_size=0.3)
    explicit, default, other = (
        generate(model, 3, generator=seeded(), **given)
        for given in ({"num_steps": 2, "step_size": 0.3}, {}, {"num_steps": 0})
    )
    assert torch.equal(default, explicit)
    assert not torch.equal(default, other)


def test_the_momentum_that_chains_keep_is_the_models_unless_overridden() -> None:
    model = build(num_steps=3, step_size=0.3)
    explicit, plain = (generate(model, 3, generator=seeded(), persistence=kept) for kept in (0.6, None))
    model.sampling["persistence"] = 0.6
    default, none = (generate(model, 3, generator=seeded(), persistence=kept) for kept in (None, 0.0))
    assert torch.equal(default, explicit)
    assert torch.equal(none, plain)
    assert not torch.equal(default, plain)


def test_without_defaults_steps_must_be_given(generator: torch.Generator) -> None:
    for given in ({}, {"num_steps": 2}, {"step_size": 0.1}):
        with pytest.raises(ValueError, match="give num_steps and step_size"):
            generate(build(), 1, generator=generator, **given)


def test_noise_of_another_shape_is_refused(generator: torch.Generator) -> None:
    for shape in ((2, 70), (3, 69)):
        with pytest.raises(ValueError, match=r"expected \(3, 70\)"):
            generate(build(), 3, num_steps=0, step_size=0.1, generator=generator, noise=torch.zeros(shape))


def test_parameters_are_as_before_even_after_an_error(generator: torch.Generator) -> None:
    def broken(_state: ChainState, _log_density: LogDensity, _generator: torch.Generator) -> Transition:
        raise RuntimeError("broken")

    model = build()
    model.vae.requires_grad_(False)
    model.energy.train()
    flags = [parameter.requires_grad for parameter in model.parameters()]
    assert len(set(flags)) == 2
    generate(model, 2, num_steps=1, step_size=0.1, generator=generator)
    with pytest.raises(RuntimeError, match="broken"):
        generate(model, 2, num_steps=1, generator=generator, kernel=broken)
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert model.energy.training


def test_no_images_can_be_asked_for(generator: torch.Generator) -> None:
    assert generate(build(), 0, num_steps=0, step_size=0.1, generator=generator).shape == (0, 1, 8, 8)


def test_under_a_quadratic_energy_chains_arrive_at_the_known_gaussian(
    linear_vae: LinearGaussianVAE, quadratic_energy: QuadraticEnergy, generator: torch.Generator
) -> None:
    """log h is quadratic in the noise, −½ nᵀ P n + bᵀ n; Langevin's mean is P⁻¹ b, its covariance P⁻¹ (I − ηP/4)⁻¹."""
    model = VAEBM(linear_vae, quadratic_energy)
    size, step_size = model.noise_layout.size, 0.1
    eye = torch.eye(size, dtype=DOUBLE)
    carry = torch.cat([linear_vae.weight, linear_vae.scale * torch.eye(6, dtype=DOUBLE)], 1).detach()
    precision = eye + quadratic_energy.strength.detach() * carry.T @ carry
    pull = quadratic_energy.strength * (quadratic_energy.centre - linear_vae.bias) @ carry
    start = torch.randn(4000, size, generator=generator, dtype=DOUBLE)
    (end,) = snapshots(model, start, (150,), kernel=Langevin(step_size), generator=generator, batch_size=2000)
    mean = torch.linalg.solve(precision, pull.detach())
    covariance = torch.linalg.inv(precision) @ torch.linalg.inv(eye - step_size / 4 * precision)
    assert torch.allclose(end.noise.mean(0), mean, atol=0.07, rtol=0)
    assert torch.allclose(torch.cov(end.noise.T), covariance, atol=0.1, rtol=0)
    assert float(mean.norm()) > 0.3


@pytest.mark.parametrize("persistence", [0.0, 0.7])
def test_snapshots_are_moments_of_one_chain(persistence: float) -> None:
    model = build()
    noise = torch.randn(4, model.noise_layout.size)
    kernel = Langevin(0.1, persistence)
    seen = snapshots(model, noise, (0, 2, 5), kernel=kernel, generator=seeded())
    steps = {0: noise} | {
        step.number: step.state.noise for step in run_chain(kernel, noise, model.log_density, 5, seeded())
    }
    assert [one.step for one in seen] == [0, 2, 5]
    for one in seen:
        assert torch.allclose(one.noise, steps[one.step], atol=1e-5)
        transported = model.transport(one.noise)
        assert torch.allclose(one.images, transported.mean.detach(), atol=1e-6)
        assert torch.allclose(one.energies, model.energy(transported.image).double().detach(), atol=1e-6)


@pytest.mark.parametrize("num_steps", [(3, 1), (-1, 2)])
def test_snapshots_need_ascending_numbers(num_steps: tuple[int, ...], generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="expected ascending numbers"):
        snapshots(build(), torch.zeros(1, 70), num_steps, kernel=Langevin(0.1), generator=generator)


def test_a_chain_shows_its_start_and_every_step(linear_vae: LinearGaussianVAE, zero_energy: ZeroEnergy) -> None:
    model = VAEBM(linear_vae, zero_energy)
    noise = torch.randn(3, model.noise_layout.size, dtype=DOUBLE)
    moments = list(sample_chains(model, noise, 4, Langevin(0.1), seeded()))
    assert [moment.step for moment in moments] == [0, 1, 2, 3, 4]
    assert torch.equal(moments[0].noise, noise)
    assert all(torch.equal(moment.energies, torch.zeros(3, dtype=DOUBLE)) for moment in moments)
    whole = generate(model, 3, num_steps=4, step_size=0.1, generator=seeded(), noise=noise)
    assert torch.equal(moments[-1].images, whole)


def test_start_noise_is_standard_normal(generator: torch.Generator) -> None:
    noise: Tensor = start_noise(build(), 500, generator)
    assert noise.shape == (500, 70)
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.var()) == pytest.approx(1, abs=0.03)
