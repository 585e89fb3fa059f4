"""Published checkpoints: what comes out of an import is what the reference implementation computed from them."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vaebm.checkpoint import CheckpointError
from vaebm.models import VAEBM
from vaebm.recipes import import_published, load, save

# Other checkpoints with reference outputs can be tried: VAEBM_FIXTURES=FOLDER pytest tests/recipes/test_published.py
OURS = Path(__file__).parents[1] / "fixtures" / "published"
FIXTURES = Path(os.environ.get("VAEBM_FIXTURES", OURS))
NAMES = sorted(path.parent.name for path in FIXTURES.glob("*/reference.safetensors"))
TOLERANCE = 2e-5


def distance(found: Tensor, expected: Tensor) -> float:
    """Returns the largest error, relative to the largest entry."""
    assert found.shape == expected.shape
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def imported(name: str) -> VAEBM:
    return import_published(FIXTURES / name / "checkpoint.pt", FIXTURES / name / "EBM.pth").model


@pytest.fixture
def reference(name: str) -> dict[str, Tensor]:
    return load_file(FIXTURES / name / "reference.safetensors")


def parts(reference: dict[str, Tensor], prefix: str) -> list[Tensor]:
    """Returns the tensors PREFIX.0, PREFIX.1, …"""
    return [reference[f"{prefix}.{index}"] for index in range(len(reference)) if f"{prefix}.{index}" in reference]


def test_generation(imported: VAEBM, reference: dict[str, Tensor]) -> None:
    noise = imported.noise_layout.join([*parts(reference, "eps_z"), reference["eps_x"]])
    carried = imported.transport(noise)
    for found, expected in zip(carried.latents, parts(reference, "z"), strict=True):
        assert distance(found, expected) <= TOLERANCE
    assert distance(carried.mean, reference["mu"]) <= TOLERANCE
    assert distance(carried.scale, reference["sigma"]) <= TOLERANCE
    assert distance((carried.image.clamp(-1, 1) + 1) / 2, reference["x"]) <= TOLERANCE
    assert distance(imported.energy(carried.image), reference["energy"]) <= TOLERANCE


@pytest.mark.parametrize("potential", ["exact", "official"])
def test_gradients_by_the_noise(imported: VAEBM, reference: dict[str, Tensor], potential: str) -> None:
    noise = imported.noise_layout.join([*parts(reference, "eps_z"), reference["eps_x"]]).requires_grad_()
    log_density = imported.log_density if potential == "exact" else imported.official_log_density
    (gradient,) = torch.autograd.grad(-log_density(noise).sum(), noise)
    *latent, pixels = imported.noise_layout.split(gradient)
    for found, expected in zip(latent, parts(reference, f"grad_{potential}.eps_z"), strict=True):
        assert distance(found, expected) <= TOLERANCE
    assert distance(pixels, reference[f"grad_{potential}.eps_x"]) <= TOLERANCE


def test_the_official_log_densities(imported: VAEBM, reference: dict[str, Tensor]) -> None:
    noise = imported.noise_layout.join([*parts(reference, "eps_z"), reference["eps_x"]])
    latent = noise[:, : imported.noise_layout.latent_size]
    log_scale = imported.vae.decode(latent).log_prior_scale
    assert log_scale is not None
    constant = 0.5 * torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64))
    prior = -0.5 * latent.double().square().sum(1) - log_scale
    assert distance(prior - latent.shape[1] * constant, reference["log_p_total"]) <= TOLERANCE
    official = imported.official_log_density(noise) + imported.energy(imported.transport(noise).image).double()
    pixels = official - prior - (noise.shape[1] - latent.shape[1]) * constant
    assert distance(pixels, reference["log_pxgz"]) <= TOLERANCE


def test_the_posterior(imported: VAEBM, reference: dict[str, Tensor]) -> None:
    layout = imported.vae.noise_layout
    images = reference["images"] * 2 - 1
    terms = imported.vae.elbo_terms(images, layout.join(parts(reference, "post.noise")))
    mean, log_scale = (5 * torch.tanh(part / 5) for part in reference["post.logits"].chunk(2, 1))
    assert distance(terms.reconstruction, mean) <= TOLERANCE
    assert distance(terms.scale, log_scale.exp() + 0.01) <= TOLERANCE
    for found, expected in zip(imported.vae.decode(terms.noise).latents, parts(reference, "post.z"), strict=True):
        assert distance(found, expected) <= TOLERANCE
    assert distance(imported.energy(images), reference["energy_images"]) <= TOLERANCE
    assert distance(terms.kl.T, reference["post.kl_all"]) <= TOLERANCE
    if imported.vae.arguments["num_flows"]:
        sampled = reference["post.log_q"].double() - reference["post.log_p"].double()
        assert distance(terms.kl.sum(1), sampled) <= TOLERANCE


def test_a_model_folder_keeps_it_to_the_bit(imported: VAEBM, tmp_path: Path) -> None:
    save(imported, tmp_path / "model")
    again = load(tmp_path / "model")
    noise = torch.randn(2, imported.noise_layout.size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.log_density(noise), imported.log_density(noise))
    assert again.vae.arguments == imported.vae.arguments


def test_without_an_energy_network_it_is_the_vae() -> None:
    found = import_published(OURS / "cifar-small" / "checkpoint.pt")
    assert not found.has_energy
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(found.model.energy(images), torch.zeros(2))


class Trap:
    """Says what to run when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch trapped",))


def edit_tensors(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[dict[str, Any]], Any]:
    """Returns an edit of a checkpoint's tensors."""
    return lambda content: change(content["state_dict"])


EDITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "missing": (edit_tensors(lambda tensors: tensors.pop("stem.bias")), "lacks stem.bias"),
    "extra": (edit_tensors(lambda tensors: tensors.update(more=torch.zeros(1))), "has more too many"),
    "misshapen": (
        edit_tensors(lambda tensors: tensors.update({"enc0.1.bias": torch.zeros(3)})),
        r"enc0.1.bias has shape \(3,\), expected \(16,\)",
    ),
    "not finite": (
        edit_tensors(lambda tensors: tensors.update({"enc0.1.bias": torch.full((16,), torch.nan)})),
        "enc0.1.bias holds values that aren't finite",
    ),
    "no tensor": (edit_tensors(lambda tensors: tensors.update({"stem.bias": "?"})), "'stem.bias'.* is no tensor"),
    "mixture": (lambda content: setattr(content["args"], "num_mixture_dec", 10), "a mixture of 10 logistics"),
    "architecture": (lambda content: setattr(content["args"], "arch_instance", "res_elu"), "'res_elu': expected"),
    "widths": (lambda content: setattr(content["args"], "num_channels_dec", 16), "has shape .*, expected"),
    "huge": (lambda content: setattr(content["args"], "num_channels_enc", 10**7), "args.num_channels_enc is 10000000"),
    "wide": (lambda content: setattr(content["args"], "num_channels_enc", 2**13), "has shape .*, expected"),
    "endless": (
        lambda content: setattr(content["args"], "num_groups_per_scale", 10**9),
        "args.num_groups_per_scale is 1000000000: expected a whole number from 1 to 200",
    ),
    "none": (lambda content: setattr(content["args"], "num_latent_scales", 0), "args.num_latent_scales is 0"),
    "groups": (lambda content: setattr(content["args"], "num_groups_per_scale", 5), "lacks "),
    "type": (lambda content: setattr(content["args"], "num_nf", "one"), "args.num_nf is 'one'"),
    "no args": (lambda content: content.pop("args"), "has no 'args'"),
    "no tensors": (lambda content: content.pop("state_dict"), "has no 'state_dict'"),
    "trap": (lambda content: content.update(more=Trap()), "it holds posix.system, which isn't executed"),
}


@pytest.mark.parametrize("kind", EDITS)
def test_a_wrong_checkpoint_is_refused_by_name(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = torch.load(OURS / "cifar-small" / "checkpoint.pt", weights_only=True)
    edit, words = EDITS[kind]
    edit(content)
    torch.save(content, "checkpoint.pt")
    with pytest.raises(CheckpointError, match=words) as caught:
        import_published("checkpoint.pt")
    assert "\n" not in str(caught.value)
    assert not Path("trapped").exists()


def test_a_wrong_energy_network_is_refused(tmp_path: Path) -> None:
    path, folder = tmp_path / "EBM.pth", OURS / "cifar-small"
    content = torch.load(folder / "EBM.pth", weights_only=True)
    model = dict(content["model"])
    for edited, words in (
        ({**model, "blocks.6.conv1.weight": torch.zeros(16, 16, 3, 3)}, "of none of the published networks"),
        ({name: value for name, value in model.items() if name != "linear.bias"}, "lacks linear.bias"),
        ({**model, "linear.weight": torch.zeros(1, 12)}, r"linear.weight has shape \(1, 12\), expected \(1, 16\)"),
        ({**model, "conv1.weight": torch.zeros(8, 1, 3, 3)}, "takes images of 1 channels: expected 3"),
    ):
        torch.save({"model": edited}, path)
        with pytest.raises(CheckpointError, match=words):
            import_published(folder / "checkpoint.pt", path)


def test_a_changed_byte_is_told_of(tmp_path: Path) -> None:
    damaged = bytearray((OURS / "cifar-small" / "checkpoint.pt").read_bytes())
    with zipfile.ZipFile(OURS / "cifar-small" / "checkpoint.pt") as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    damaged[largest.header_offset + largest.file_size // 2 + 200] ^= 1
    (tmp_path / "checkpoint.pt").write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"is damaged \(.*\): get it anew"):
        import_published(tmp_path / "checkpoint.pt")


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps({"a": 1}))
    for file in ("text.pt", "empty.pt", "pickle.pt", "missing.pt"):
        with pytest.raises(CheckpointError) as caught:
            import_published(tmp_path / file)
        assert file in str(caught.value)
        assert "weights_only" not in str(caught.value)
