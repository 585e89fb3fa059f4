"""Stage 2 on a VAE that is there already."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from commandline import Cli, FinishedRun, tiny

import vaebm
from vaebm.checkpoint import tensors_sha256
from vaebm.models import NVAE, VAEBM

BRIEF = {
    "energy__num_iterations": "4", "energy__batch_size": "4", "energy__num_steps": "2", "sampling__num_steps": "2",
    "evaluation__num_samples": "10", "evaluation__steps_curve": "[0,2]", "selection__num_samples": "10",
}  # fmt: skip
FIXTURE = Path(__file__).parents[1] / "fixtures" / "published"


def rows(run: str) -> list[str]:
    return [json.loads(line)["stage"] for line in Path(run, "metrics.jsonl").read_text().splitlines()]


def same_vae(one: VAEBM, other: VAEBM) -> bool:
    tensors = one.vae.state_dict(), other.vae.state_dict()
    return tensors[0].keys() == tensors[1].keys() and all(
        torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0]
    )


def test_the_vae_of_a_run_is_taken_as_it_is(cli: Cli, finished: FinishedRun) -> None:
    found = cli(
        "train", "digits", "--output", "run", "--initial_vae", finished.folder, "--vae_network.widths", "[24]", *tiny()
    )
    assert found.code == 0, found.errors
    assert f"the VAE of {finished.folder / 'model'} is taken as it is" in found.output
    assert "vae" not in rows("run")
    assert same_vae(vaebm.load("run"), vaebm.load(finished.folder))
    assert Path("run/report.html").stat().st_size
    assert "learned on other images" not in found.output
    assert "vae_network is that of initial_vae" in found.output
    provenance = json.loads(Path("run/provenance.json").read_text())
    assert provenance["initial_vae_sha256"] == tensors_sha256(vaebm.load(finished.folder).vae.state_dict())


def test_an_imported_nvae_gets_an_energy_network(cli: Cli) -> None:
    checkpoint = sorted(FIXTURE.rglob("checkpoint.pt"))[0]
    assert cli("import", checkpoint, "--output", "nvae").code == 0
    shape = vaebm.load("nvae").image_shape
    images = np.random.default_rng(0).integers(0, 256, (60, *shape[1:], shape[0]), dtype=np.uint8)
    np.savez("images.npz", images=images)
    size = f"[{shape[1]},{shape[2]}]"
    small = ("--energy_network.widths", "[4,4]", "--energy_network.halvings", "[1,0]", *tiny(**BRIEF))
    found = cli(
        "train", "cifar10-small", "--data.source", "images.npz", "--data.image_size", size, "--data.channels",
        shape[0], "--initial_vae", "nvae", "--output", "run", "--precision", "fp32", *small,
    )  # fmt: skip
    assert found.code == 0, found.errors
    assert "what it learned on isn't known" in found.output
    model = vaebm.load("run")
    assert isinstance(model.vae, NVAE)
    assert same_vae(model, vaebm.load("nvae"))
    assert "vae" not in rows("run")
    values = yaml.safe_load(Path("run/config.yaml").read_text())
    assert values["vae_network"]["groups"] == model.vae.arguments["groups"]
    again = cli(
        "train", "--config", "run/config.yaml", "cifar10-small", "--vae.batch_norm_passes", 2, "--output", "norms"
    )
    assert again.code == 0, again.errors
    before, after = vaebm.load("nvae").vae, vaebm.load("norms").vae
    assert all(torch.equal(one, other) for one, other in zip(before.parameters(), after.parameters(), strict=True))
    # Only what draws samples has statistics of its own samples.
    changed = {name.split(".")[0] for name, value in after.named_buffers()
               if not torch.equal(value, before.get_buffer(name))}  # fmt: skip
    assert "outward" in changed
    assert "inward" not in changed


@pytest.mark.parametrize(
    ("given", "message"), [("mnist", "is a VAE of 1x28x28 images, the data are 1x8x8"), ("nowhere", "nowhere")]
)
def test_a_vae_that_does_not_fit_is_refused_in_one_line(cli: Cli, given: str, message: str) -> None:
    found = cli("train", "digits", "--initial_vae", given, "--output", "run", *tiny())
    assert found.code == 2
    assert message in found.errors
    assert found.errors.count("\n") == 1
    assert not Path("run").exists()


def test_a_buffer_in_a_file_trains_as_one_in_memory_and_is_gone_in_the_end(cli: Cli) -> None:
    half = ("--energy.buffer_dtype", "float16", "--seed", "5", *tiny())
    assert cli("train", "digits", "--output", "memory", *half).code == 0
    assert cli("train", "digits", "--output", "file", "--energy.buffer_on_disk", "true", *half).code == 0
    assert same_vae(vaebm.load("memory"), vaebm.load("file"))
    energies = [vaebm.load(name).energy.state_dict() for name in ("memory", "file")]
    assert all(torch.equal(value, energies[1][name]) for name, value in energies[0].items())
    assert not list(Path("file").glob("buffer*"))


@pytest.mark.parametrize("option", ["--vae.recompute", "--energy.buffer_on_disk"])
def test_what_is_for_images_is_refused_for_points(cli: Cli, option: str) -> None:
    found = cli("train", "gaussians", option, "true", "--output", "run")
    assert found.code == 2
    assert "is for images" in found.errors
    assert not Path("run").exists()
