"""From configurations and folders to models, and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vaebm.checkpoint import CheckpointError, StoredModel, load_model_folder, save_model_folder
from vaebm.models import VAEBM, ImageFields
from vaebm.recipes import Config, build_model, load, load_judges, read_model, save
from vaebm.recipes.config import EnergyNetworkConfig, VAENetworkConfig

CONFIGS = {
    "plain, dense": Config(),
    "residual, convolutional": Config(
        vae_network=VAENetworkConfig((3, 2), "convolutional", (4, 6), 8, "pixel", 0.05),
        energy_network=EnergyNetworkConfig("residual", (4, 6), 2, 3, 0, "sum", "spectral"),
        images=ImageFields("sampled", "mean", "sampled"),
    ),
    "on the mean": replace(Config(), images=ImageFields("mean", "mean", "mean")),
}


def small(config: Config = CONFIGS["residual, convolutional"]) -> VAEBM:
    return build_model(config, (3, 9, 12)).eval()


def noise_for(model: VAEBM) -> Tensor:
    return torch.randn(4, model.noise_layout.size, generator=torch.Generator().manual_seed(1))


def altered(folder: Path, target: Path, **changes: Any) -> Path:
    """A copy of a model folder whose config is another one, with a manifest that fits."""
    stored = load_model_folder(folder)
    config = {**stored.config, **changes}
    config = {name: value for name, value in config.items() if value is not None}
    return save_model_folder(target, StoredModel(config, stored.tensors, stored.calibration, stored.card))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(small(), tmp_path / "model", card="# A card")
    return tmp_path / "model"


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_what_is_saved_is_loaded(config: Config, tmp_path: Path) -> None:
    model = small(config)
    save(model, tmp_path / "model")
    loaded = load(tmp_path / "model")
    noise = noise_for(model)
    assert torch.equal(loaded.log_density(noise), model.log_density(noise))
    assert torch.equal(loaded.transport(noise).image, model.transport(noise).image)
    assert loaded.image_fields == model.image_fields
    assert loaded.sampling == model.sampling == {"num_steps": 45, "step_size": 0.05, "persistence": 0.0}
    assert loaded.image_shape == (3, 9, 12)


def test_a_loaded_model_is_frozen_and_in_evaluation_mode(folder: Path) -> None:
    model = load(folder)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())
    assert all(value.dtype != torch.float64 for value in model.state_dict().values())


def test_what_lies_beside_a_model_comes_back(tmp_path: Path) -> None:
    calibration = {"score": "joint", "outlier_scores": [1.5, 2.5], "seed": 3, "num_posterior_samples": 1}
    save(small(), tmp_path / "model", calibration=calibration, card="# A card", details={"source": "toy"})
    loaded = read_model(tmp_path / "model")
    assert loaded.calibration == calibration
    assert loaded.card == "# A card"
    assert loaded.details == {"source": "toy"}
    assert loaded.folder == tmp_path / "model"


def test_without_calibration_there_is_none(folder: Path) -> None:
    assert read_model(folder).calibration is None


def test_half_precision_halves_the_file_and_hardly_changes_the_density(tmp_path: Path) -> None:
    model = build_model(Config(), (1, 8, 8)).eval()
    for name, dtype in (("full", None), ("half", torch.float16)):
        save(model, tmp_path / name, dtype=dtype)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.01)
    loaded = load(tmp_path / "half")
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
    noise = noise_for(model)
    assert torch.allclose(loaded.log_density(noise), model.log_density(noise), atol=1e-2, rtol=1e-4)


def test_saving_does_not_change_the_model(tmp_path: Path) -> None:
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.parameters()]
    save(model, tmp_path / "model", dtype=torch.float16)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [parameter.requires_grad for parameter in model.parameters()] == flags


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("vae", {"latent_groups": [3, 3]}),
        ("vae", {"num_hidden": 9}),
        ("vae", {"body": "recurrent"}),
        ("vae", {"image_shape": [3, 9, 200]}),
        ("vae", {"colour": "blue"}),
        ("vae", {"class": "NVAE"}),
        ("vae", {"widths": 5}),
        ("energy", {"widths": [4, 7]}),
        ("energy", {"depth": 1}),
        ("energy", {"normalization": "weight"}),
        ("energy", {"class": "Unknown"}),
        ("images", {"chain_image": "median"}),
        ("images", {"another_image": "mean"}),
    ],
)
def test_altered_arguments_are_noticed(folder: Path, tmp_path: Path, part: str, changes: dict[str, Any]) -> None:
    config = load_model_folder(folder).config
    other = altered(folder, tmp_path / "other", **{part: {**config[part], **changes}})
    with pytest.raises(CheckpointError) as caught:
        load(other)
    assert str(other) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_of_an_earlier_version_has_no_normalized_layers(folder: Path, tmp_path: Path) -> None:
    config = load_model_folder(folder).config
    before = {name: value for name, value in config["vae"].items() if name != "normalization"}
    assert len(before) == len(config["vae"]) - 1
    older, model = load(altered(folder, tmp_path / "older", vae=before)), load(folder)
    assert older.vae.arguments["normalization"] == "none"
    noise = torch.ones(2, model.noise_layout.size)
    assert torch.equal(older.log_density(noise), model.log_density(noise))


@pytest.mark.parametrize("part", ["vae", "energy", "images", "sampling"])
def test_a_missing_part_is_noticed(folder: Path, tmp_path: Path, part: str) -> None:
    with pytest.raises(CheckpointError, match=part):
        load(altered(folder, tmp_path / "other", **{part: None}))


@pytest.mark.parametrize("part", ["vae", "images"])
def test_a_part_of_another_kind_is_noticed(folder: Path, tmp_path: Path, part: str) -> None:
    with pytest.raises(CheckpointError, match="describes no model"):
        load(altered(folder, tmp_path / "other", **{part: "text"}))


@pytest.mark.parametrize("wrong", [{"persistence": 1.5}, {"persistence": -1.0}, {"step_size": 0.0}, {"length": 3}])
def test_senseless_defaults_of_chains_are_refused(folder: Path, tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(CheckpointError, match="wrong 'sampling'"):
        load(altered(folder, tmp_path / "other", sampling=wrong))


def test_another_kind_of_model_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds a 'classifier', not a vaebm"):
        load(altered(folder, tmp_path / "other", kind="classifier"))


def test_an_edited_file_is_refused(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace("0.05", "0.06"))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(folder)


def test_there_is_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        load(tmp_path / "nothing")


@pytest.mark.parametrize(("image_shape", "count"), [((1, 28, 28), 2), ((1, 8, 8), 1), ((3, 28, 28), 0)])
def test_bundled_judges_take_images_of_their_shape(image_shape: tuple[int, ...], count: int) -> None:
    judges = load_judges(image_shape)
    assert len(judges) == count
    images = torch.zeros(2, *image_shape)
    for judge in judges:
        assert judge.classifier(images).shape == (2, 10)
        assert not any(parameter.requires_grad for parameter in judge.classifier.parameters())
        assert len(judge.sha256) == 64
    assert len({judge.sha256 for judge in judges}) == count


def test_a_folder_of_other_models_holds_no_judges(folder: Path) -> None:
    assert load_judges((1, 28, 28), folder.parent) == []


def test_a_folder_of_judges_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no folder"):
        load_judges((1, 28, 28), tmp_path / "nothing")
