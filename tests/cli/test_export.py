"""``vaebm export``: a graph that says, without torch, what ``vaebm score`` says; and one score in every process."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from commandline import Cli, assert_user_error, in_process_of_its_own

import vaebm
from forking import environment
from vaebm.applications import Scorer, draw_scoring_noise, outlier_scores, round_scores
from vaebm.applications.onnx_graph import METADATA_KEY, OUTPUTS
from vaebm.cli.main import run
from vaebm.data import Preprocessing, load_splits, to_float
from vaebm.metrics import conformal_p_values
from vaebm.models import NVAE, VAE, VAEBM, ConvVAE, EnergyNetwork, ImageFields
from vaebm.recipes import read_model

SERVE = """
import sys
import numpy as np
import onnxruntime

graph, images, output, batch_size, threads = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
names = [item.name for item in session.get_outputs()]
images = np.load(images)["images"]
batches = np.split(images, range(int(batch_size), len(images), int(batch_size)))
parts = [session.run(names, {"images": batch}) for batch in batches]
np.savez(output, **{name: np.concatenate(values) for name, *values in zip(names, *parts, strict=True)})
assert not {"torch", "vaebm"} & set(sys.modules)
"""


def serve(graph: Path, images: Path, output: Path, batch_size: int, threads: int) -> dict[str, Any]:
    """Scores images in a process that has neither torch nor vaebm."""
    words = [sys.executable, "-c", SERVE, graph, images, output, batch_size, threads]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(np.load(output))


def session_of(graph: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundled model exported to ``graph`` and 1,000 images of MNIST in ``images.npz``."""
    folder = tmp_path_factory.mktemp("served with spaces é")
    np.savez(folder / "images.npz", images=load_splits("mnist").test.images[:1000])
    assert run(["export", "mnist", "--onnx", str(folder / "graph")]) == 0
    return folder


def test_1000_images_get_torchs_scores_and_decisions_without_torch(served: Path, tmp_path: Path) -> None:
    loaded = read_model("mnist")
    assert loaded.calibration is not None
    images = torch.from_numpy(np.load(served / "images.npz")["images"])
    generator = torch.Generator().manual_seed(loaded.calibration["seed"])
    expected = outlier_scores(loaded.model.double(), to_float(images), generator=generator)
    calibration = torch.tensor(loaded.calibration["outlier_scores"], dtype=torch.float64)
    p_values = conformal_p_values(calibration, round_scores(expected.outlier_score))
    for batch_size, threads in ((1000, 2), (64, 1)):
        found = serve(served / "graph/scorer.onnx", served / "images.npz", tmp_path / "o.npz", batch_size, threads)
        assert np.abs(found["energy"] - expected.energy.numpy()).max() < 1e-7
        assert np.abs(found["elbo"] - expected.elbo.numpy()).max() < 1e-7
        assert np.array_equal(found["outlier_score"], round_scores(expected.outlier_score).numpy())
        assert np.array_equal(found["p_value"], p_values.numpy())
        assert np.array_equal(found["decision"], p_values.numpy() <= 0.05)
    assert 20 < found["decision"].sum() < 80


def test_score_says_the_same_in_each_process_batch_and_order(served: Path, tmp_path: Path) -> None:
    images = np.load(served / "images.npz")["images"][:200]
    np.savez(tmp_path / "all.npz", images=images)
    np.savez(tmp_path / "some.npz", images=images[150:40:-3])
    read = []
    for name, threads in (("all", "2"), ("some", "1")):
        output = tmp_path / f"{name}.csv"
        outcome = in_process_of_its_own(
            "score", "mnist", tmp_path / f"{name}.npz", "--output", output, OMP_NUM_THREADS=threads
        )
        assert outcome.code == 0, outcome.errors
        with open(output, newline="") as file:
            read.append([{**row, "path": ""} for row in csv.DictReader(file)])
    assert read[1] == read[0][150:40:-3]
    alone = session_of(served / "graph/scorer.onnx").run(list(OUTPUTS), {"images": images[:1]})
    told = [read[0][0][name] for name in ("energy", "elbo", "outlier_score")]
    assert [f"{float(value[0]):.4f}" for value in alone[:3]] == told


NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[int, int, int], str]] = {
    "dense": ({"scale_kind": "pixel", "normalization": "layer"}, {}, (1, 8, 8), "sampled"),
    "colour, odd size": (
        {"body": "convolutional", "scale_kind": "pixel", "normalization": "layer"},
        {"blocks": "residual", "input_pooling": 2},
        (3, 9, 13),
        "sampled",
    ),
    "spectral": ({"scale_kind": "shared"}, {"normalization": "spectral", "pooling": "sum"}, (1, 10, 8), "sampled"),
    "mean": ({"body": "convolutional"}, {"blocks": "residual", "normalization": "spectral"}, (1, 8, 8), "mean"),
    "NVAE": ({"groups": (1, 2), "latents": 2, "num_flows": 1}, {"blocks": "residual"}, (3, 16, 8), "sampled"),
}


@pytest.fixture(params=NETWORKS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An untrained model with two posterior samples and calibration scores of its own noise images."""
    vae, energy, shape, loss = NETWORKS[request.param]
    torch.manual_seed(0)
    network = EnergyNetwork(shape, widths=(4, 6), num_hidden=5, **energy)
    if "groups" in vae:
        made: VAE = NVAE(
            shape, encoder_width=6, decoder_width=5, encoder_cells=1, decoder_cells=1, outer_cells=1, **vae
        )
    else:
        made = ConvVAE(shape, (4, 3), widths=(8, 6), num_hidden=7, **vae)
    model = VAEBM(made, network, ImageFields(loss_image=loss)).eval()
    seeded = torch.Generator().manual_seed(9)
    scores = outlier_scores(model.double(), to_float(pixels(shape)), num_posterior_samples=2, generator=seeded)
    values = round_scores(scores.outlier_score).sort().values.tolist()
    calibration = {"score": "joint", "seed": 9, "num_posterior_samples": 2, "outlier_scores": values}
    vaebm.save(model.float(), tmp_path / "model", calibration=calibration)
    return tmp_path / "model"


def pixels(shape: tuple[int, ...], count: int = 40) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def test_every_network_is_exported_whole(folder: Path, cli: Cli) -> None:
    outcome = cli("export", folder, "--onnx", "s.onnx", "--false-positive-rate", 0.25)
    assert (outcome.code, outcome.errors) == (0, "")
    loaded = read_model(folder)
    assert loaded.calibration is not None
    scorer = Scorer(loaded.model, torch.tensor(loaded.calibration["outlier_scores"], dtype=torch.float64), 0.25)
    noise = draw_scoring_noise(loaded.model, 2, torch.Generator().manual_seed(9))
    session = session_of(Path("s.onnx"))
    named = [item.name for item in session.get_overridable_initializers()]
    assert named == ["posterior_noise", "pixel_noise"][: 1 + (loaded.model.image_fields.loss_image == "sampled")]
    images = pixels(loaded.model.image_shape)
    for factor in (1, 0.5):
        changed = {} if factor == 1 else {name: (factor * getattr(noise, name.split("_")[0])).numpy() for name in named}
        found = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"images": images, **changed}), strict=True))
        expected = scorer(torch.from_numpy(images), *(factor * part for part in noise))
        for name in ("energy", "elbo"):
            assert np.allclose(found[name], getattr(expected, name), rtol=0, atol=1e-7), (name, factor)
        for name in ("outlier_score", "p_value", "decision"):
            assert np.array_equal(found[name], getattr(expected, name)), (name, factor)
    assert 0 < dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"images": images}), strict=True))["decision"].sum() < 40


def test_the_description_tells_what_the_graph_does_not(served: Path, cli: Cli) -> None:
    text = (served / "graph/scorer.json").read_text()
    described = json.loads(text)
    metadata = {item.key: item.value for item in onnx.load(served / "graph/scorer.onnx").metadata_props}
    assert json.loads(metadata[METADATA_KEY]) == described
    assert described["decision"]["false_positive_rate"] == 0.05
    images = np.load(served / "images.npz")["images"]
    found = session_of(served / "graph/scorer.onnx").run(["outlier_score", "decision"], {"images": images})
    assert np.array_equal(found[0] >= described["decision"]["threshold"], found[1])
    assert described["inputs"]["images"].startswith("uint8 (N, 1, 28, 28)")
    assert "of another size than 28 high and 28 wide are refused" in " ".join(described["preprocessing"]["steps"])
    assert sorted(path.name for path in served.iterdir()) == ["graph", "images.npz"]
    assert sorted(path.name for path in (served / "graph").iterdir()) == ["scorer.json", "scorer.onnx"]


def test_preprocessing_and_rate_are_those_of_the_model_folder(cli: Cli) -> None:
    model = VAEBM(ConvVAE((1, 8, 12), (4,), widths=(8,)), EnergyNetwork((1, 8, 12), widths=(4,)))
    calibration = {"score": "joint", "seed": 1, "num_posterior_samples": 1, "outlier_scores": [1.0, 2.0, 3.0]}
    decision = {"false_positive_rate": 0.5, "threshold": float(np.nextafter(2, 3))}
    chosen = Preprocessing((8, 12), 1, "crop", (0.0, 4095.0))
    vaebm.save(model, "model", calibration={**calibration, **decision}, preprocessing=chosen)
    assert cli("export", "model", "--onnx", "out").code == 0
    described = json.loads(Path("out/scorer.json").read_text())
    assert described["decision"] == decision
    steps = " ".join(described["preprocessing"]["steps"])
    for words in ("8 high and 12 wide", "0..4095", "0.299 R", "proportions 8:12", "bicubic", "halves to even"):
        assert words in steps
    first = described["preprocessing"]["steps"][:3]
    for words, step in zip(("EXIF orientation", "CMYK, YCbCr and palettes become RGB", "as it is"), first, strict=True):
        assert words in step
    assert Preprocessing.from_dict({name: described["preprocessing"][name] for name in vars(chosen)}) == chosen
    Path("empty").mkdir()
    assert cli("export", "model", "--onnx", "empty/.").code == 0
    assert sorted(path.name for path in Path("empty").iterdir()) == ["scorer.json", "scorer.onnx"]
    assert cli("export", "model", "--onnx", "other.onnx", "--false-positive-rate", 0.25).code == 0
    found = session_of(Path("other.onnx")).run(["p_value", "decision"], {"images": pixels((1, 8, 12))})
    assert np.array_equal(found[0] <= 0.25, found[1])


def test_what_can_not_be_exported_gets_one_line_and_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("years of work")
    Path("taken.onnx").write_text("another network")
    Path("file").write_text("")
    bare = VAEBM(ConvVAE((1, 8, 8), (4,), widths=(8,)), EnergyNetwork((1, 8, 8), widths=(4,)))
    vaebm.save(bare, "bare")
    before = sorted(tmp_path.rglob("*"))
    assert_user_error(cli("export", "mnist"), "--onnx")
    assert_user_error(cli("export", "mnist", "--onx", "s.onnx"), "--onnx")
    assert_user_error(cli("export", "mnits", "--onnx", "s.onnx"), "mnist")
    assert_user_error(cli("export", "mnist", "--onnx", "mine"), "mine is a folder that isn't empty")
    assert_user_error(cli("export", "mnist", "--onnx", "taken.onnx"), "taken.onnx is there already")
    assert_user_error(cli("export", "mnist", "--onnx", "file"), "file is a file")
    assert_user_error(cli("export", "mnist", "--onnx", "no/where.onnx"), "no folder no")
    assert_user_error(cli("export", "mnist", "--onnx", "file/s.onnx"), "file")
    assert_user_error(cli("export", "bare", "--onnx", "s.onnx"), "calibration.json", "vaebm train")
    for wrong in ("0", "1", "-1", "nan", "much"):
        assert_user_error(cli("export", "mnist", "--onnx", "s.onnx", "--false-positive-rate", wrong), wrong)
    low = cli("export", "mnist", "--onnx", "s.onnx", "--false-positive-rate", "0.0001")
    assert_user_error(low, "no rate below 0.0002")
    assert sorted(tmp_path.rglob("*")) == before
    assert Path("mine/thesis.tex").read_text() == "years of work"
    assert Path("taken.onnx").read_text() == "another network"


def test_without_the_extra_it_is_named(tmp_path: Path) -> None:
    for package in ("onnx", "onnxruntime"):
        code = f"import sys; sys.modules[{package!r}] = None; sys.argv[1:] = ['export', 'mnist', '--onnx', 's.onnx']; "
        code += "from vaebm.cli.main import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment()
        )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "pip install 'vaebm[export]'" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a place where nothing can be written")
@pytest.mark.parametrize("name", ["scorer.onnx", "scorer"])
def test_an_output_that_can_not_be_written_gets_one_line(cli: Cli, name: str) -> None:
    assert_user_error(cli("export", "mnist", "--onnx", f"/proc/self/{name}"), name)
