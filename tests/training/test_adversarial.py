"""WGAN-GP on a VAE's decoder and an energy network."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from vaebm.data import Batches
from vaebm.distributed import Engine
from vaebm.distributions import NoiseLayout
from vaebm.models import VAEBM, ConvVAE, EnergyNetwork, ImageFields
from vaebm.models.vae import Decoded
from vaebm.training import AdversarialSettings, adversarial_step, fit, start_adversarial
from vaebm.training.adversarial import _slopes

SETTINGS = AdversarialSettings(num_iterations=3, batch_size=8, num_critic_steps=2)


def made(seed: int = 0) -> VAEBM:
    torch.manual_seed(seed)
    return VAEBM(ConvVAE((1, 8, 8), (4,), widths=(16,)), EnergyNetwork((1, 8, 8), widths=(4,)), ImageFields())


def train(model: VAEBM, digits: Tensor, engine: Engine, settings: AdversarialSettings = SETTINGS) -> dict[str, Tensor]:
    count = settings.num_critic_steps * settings.batch_size
    batches = Batches(digits, count, torch.Generator().manual_seed(1))
    state = start_adversarial(model, settings, digits[:64], torch.Generator().manual_seed(2))
    for progress in fit(adversarial_step(model, settings, engine), state, batches, settings.num_iterations):
        state = progress.state
    return state.average


def test_the_norms_are_those_of_the_critics_gradient() -> None:
    class Linear(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return (3 * images[:, 0, 0, 0] + 4 * images[:, 0, 0, 1]).clone()

    norms = _slopes(Linear(), torch.zeros(5, 1, 1, 2), torch.ones(5, 1, 1, 2), torch.Generator())
    torch.testing.assert_close(norms, torch.full((5,), 5.0))


def test_it_learns_the_decoder_and_the_critic_but_not_the_encoder(digits: Tensor, engine: Engine) -> None:
    model = made()
    before = copy.deepcopy(model.state_dict())
    average = train(model, digits, engine)
    changed = {name.split(".")[1] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert "decoder" in changed
    assert changed.isdisjoint({"encoder", "posteriors"})
    assert any(name.startswith("energy.") and not torch.equal(value, before[name])
               for name, value in model.state_dict().items())  # fmt: skip
    # The average lags behind.
    name = next(name for name in average if name.startswith("decoder") and name.endswith("weight"))
    start, now = before[f"vae.{name}"], model.vae.state_dict()[name]
    assert 0 < float((average[name] - start).norm()) < float((now - start).norm())


def test_it_is_repeatable(digits: Tensor, engine: Engine) -> None:
    first, second = (train(made(), digits, engine) for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_each_step_of_the_critic_sees_images_of_its_own(
    digits: Tensor, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = made(), []
    state = start_adversarial(model, SETTINGS, digits[:64], torch.Generator().manual_seed(2))
    original = EnergyNetwork.forward

    def forward(self: EnergyNetwork, images: Tensor) -> Tensor:
        seen.append(images.detach())
        values: Tensor = original(self, images)
        return values

    monkeypatch.setattr(EnergyNetwork, "forward", forward)
    step = adversarial_step(model, SETTINGS, engine)
    step(state, digits[:16])
    # Data and samples, then what lies between them, twice; the generator's samples.
    assert [len(images) for images in seen] == [16, 8, 16, 8, 8]
    torch.testing.assert_close(seen[0][:8], digits[:8])
    torch.testing.assert_close(seen[2][:8], digits[8:16])
    for count in (15, 1, 0):
        with pytest.raises(ValueError, match=f"{count} images for 2 steps of the critic"):
            step(state, digits[:count])


def test_the_penalty_draws_the_critics_slope_towards_one(digits: Tensor, engine: Engine) -> None:
    def slope(penalty: float) -> float:
        model = made()
        settings = AdversarialSettings(60, 16, 0.0, 3e-3, num_critic_steps=1, penalty=penalty)
        train(model, digits, engine, settings)
        with torch.no_grad():
            fake = model.transport(torch.randn(64, model.noise_layout.size)).mean
        return float(_slopes(model.energy, digits[:64], fake, torch.Generator().manual_seed(0)).detach().mean())

    without, with_penalty = slope(0.0), slope(10.0)
    assert abs(with_penalty - 1) < 0.25
    assert abs(without - 1) > 2 * abs(with_penalty - 1)


class Shift(nn.Module):
    """A generator with one parameter: the grey level of its images."""

    def __init__(self) -> None:
        super().__init__()
        self.image_shape, self.noise_layout = (1, 8, 8), NoiseLayout(((1,),))
        self.level = nn.Parameter(torch.tensor(-0.8))

    def decode(self, latent_noise: Tensor) -> Decoded:
        mean = (self.level + 0.05 * latent_noise).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
        return Decoded(mean, torch.full_like(mean, 0.1), [latent_noise])


def test_the_generator_goes_where_the_data_are(engine: Engine) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    data = (0.5 + 0.05 * torch.randn(500, 1, 1, 1, generator=generator)).expand(-1, 1, 8, 8).contiguous()
    model = VAEBM(Shift(), EnergyNetwork((1, 8, 8), widths=(8,)), ImageFields("mean", "mean", "mean"))
    settings = AdversarialSettings(300, 32, learning_rate=0.02, critic_rate=3e-3, ema_decay=0.9)
    average = train(model, data, engine, settings)
    assert abs(float(average["level"]) - 0.5) < 0.2
