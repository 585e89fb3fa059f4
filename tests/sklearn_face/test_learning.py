"""Both stages in memory: the same as by hand, on the pictures that aren't set aside, with an end where they diverge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from short_fits import SHORTEST, Digits

from vaebm.data import Batches
from vaebm.distributed import make_engine
from vaebm.models import VAEBM
from vaebm.recipes import Config, ConfigError, build_model, quick
from vaebm.sklearn import VAEBMDetector
from vaebm.sklearn.learning import learn
from vaebm.training import energy_step, fit, start_energy, start_vae, vae_step


def quiet(line: str) -> None:
    assert line


@pytest.fixture
def short() -> Config:
    config = quick((1, 8, 8), 100)
    vae, energy = replace(config.vae, num_iterations=3, ema_decay=0.5), replace(config.energy, num_iterations=3)
    return replace(config, vae=vae, energy=energy, device="cpu", precision="fp32")


def by_hand(config: Config, pictures: torch.Tensor, seed: int) -> VAEBM:
    def seeded(number: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed + number)

    engine = make_engine("fp32", "cpu")
    torch.manual_seed(seed)
    model = build_model(config, (1, 8, 8))
    batches = Batches(pictures, config.vae.batch_size, seeded(1))
    for progress in fit(
        vae_step(model.vae, config.vae, engine), start_vae(model.vae, config.vae, seeded(2)), batches, 3
    ):
        average = progress.state.average
    model.vae.load_state_dict(average)
    batches, first = Batches(pictures, config.energy.batch_size, seeded(3)), Batches(pictures, 128, seeded(4))
    state = start_energy(model, config.energy, next(first), seeded(5))
    for step in fit(energy_step(model, config.energy, engine), state, batches, 3):
        average = step.state.average
    model.energy.load_state_dict(average)
    return model


def assert_same(found: VAEBM, expected: VAEBM) -> None:
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


def test_it_keeps_the_averages_of_both_stages(short: Config, levels: NDArray[np.uint8]) -> None:
    pictures = torch.from_numpy(levels[:60, None])
    found = learn(short, pictures, 5, quiet)
    assert_same(found, by_hand(short, pictures, 5))
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_pictures_that_are_set_aside_train_nothing(digits: Digits, levels: NDArray[np.uint8]) -> None:
    detector = VAEBMDetector(value_range=(0, 16), random_state=3, **SHORTEST).fit(digits.images[:80])
    randomness = np.random.RandomState(3)
    order = randomness.permutation(80)
    seed = int(randomness.randint(2**31 - 64, size=2)[0])
    training = torch.from_numpy(levels[order[20:], None])
    assert_same(detector.model_, learn(detector._config((1, 8, 8), 60), training, seed, quiet))
    calibration = np.sort(detector.score_samples(digits.images[order[:20]]))
    np.testing.assert_array_equal(detector.calibration_scores_, calibration)


def spoil_vae(config: Config) -> Config:
    return replace(config, vae=replace(config.vae, learning_rate=1e30))


def spoil_energy(config: Config) -> Config:
    return replace(config, energy=replace(config.energy, learning_rate=1e30))


@pytest.mark.parametrize(("spoil", "stage"), [(spoil_vae, "vae"), (spoil_energy, "energy")])
def test_a_stage_that_diverges_ends(
    short: Config, levels: NDArray[np.uint8], spoil: Callable[[Config], Config], stage: str
) -> None:
    message = rf"the {stage} stage diverged at iteration \d .*: lower {stage}_learning_rate, which was 1e\+30"
    with pytest.raises(ConfigError, match=message):
        learn(spoil(short), torch.from_numpy(levels[:60, None]), 5, quiet)
