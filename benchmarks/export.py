"""MNIST: how far apart are the scores of torch and of onnxruntime, in float64 and in float32?

    python benchmarks/export.py                  # a minute on one thread; fills docs/export.md

The bundled model scores the first test images, with the noise of ``vaebm score``. float64 is what ``vaebm score`` and
``vaebm export`` use; float32, exported alike, is there for comparison. Differences are the largest over the images, in
nats; decisions are those at the model's false-positive rate. Results go to ``benchmarks/results/export.json``.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from endings import ended
from tables import put_table
from vaebm.applications import Scorer, ScoringNoise, draw_scoring_noise, outlier_scores
from vaebm.applications.onnx_graph import to_onnx
from vaebm.applications.outlier_scores import average_terms
from vaebm.applications.scorer import with_plain_weights
from vaebm.cli.provenance import describe_origin
from vaebm.data import load_splits, to_float
from vaebm.distributed import make_engine
from vaebm.models import VAEBM
from vaebm.recipes import read_model

ROOT = Path(__file__).parent
RESULTS = ROOT / "results" / "export.json"
DOCS = ROOT.parent / "docs" / "export.md"
RATE, REPEATS = 0.05, 3
Terms = tuple[NDArray[np.float64], NDArray[np.float64]]


class _Float32(nn.Module):
    """What a scorer would be in float32, its sums in float64."""

    def __init__(self, model: VAEBM) -> None:
        super().__init__()
        self.model = with_plain_weights(model)

    def forward(self, images: Tensor, posterior: Tensor, pixel: Tensor) -> tuple[Tensor, Tensor]:
        terms = average_terms(self.model, to_float(images), ScoringNoise(posterior, pixel))
        return terms.energy, terms.elbo


def float32_graph(model: VAEBM, noise: ScoringNoise) -> bytes:
    """Returns the graph of a scorer in float32, convolutions and all."""
    buffer, images = io.BytesIO(), torch.zeros(2, *model.image_shape, dtype=torch.uint8)
    axes = {name: {0: "N"} for name in ("images", "energy", "elbo")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Float32(model),
            (images, *noise),
            buffer,  # type: ignore[arg-type]  # a file that is open will do
            input_names=["images", "posterior_noise", "pixel_noise"],
            output_names=["energy", "elbo"],
            dynamic_axes=axes,
            dynamo=False,
        )
    return buffer.getvalue()


def session_of(graph: bytes) -> onnxruntime.InferenceSession:
    """Returns a session of one thread."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def by_torch(model: VAEBM, images: NDArray[np.uint8], seed: int, batch_size: int) -> Terms:
    """Returns energy and ELBO, each (N,)."""
    generator = torch.Generator().manual_seed(seed)
    scores = outlier_scores(model, to_float(images), generator=generator, batch_size=batch_size)
    return scores.energy.numpy(), scores.elbo.numpy()


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """Returns a result and the median of the seconds that it takes."""
    seconds = []
    for _ in range(REPEATS):
        began = time.monotonic()
        result = run()
        seconds.append(time.monotonic() - began)
    return result, statistics.median(seconds)


def measure(num_images: int) -> dict[str, Any]:
    """Scores images in every way, and compares."""
    loaded = read_model("mnist")
    assert loaded.calibration is not None
    seed, images = loaded.calibration["seed"], load_splits("mnist").test.images[:num_images]
    scorer = Scorer(loaded.model, torch.tensor(loaded.calibration["outlier_scores"], dtype=torch.float64), RATE)
    noise = draw_scoring_noise(loaded.model, loaded.calibration["num_posterior_samples"], _seeded(seed))
    double, single = (
        session_of(to_onnx(scorer, noise, "{}")),
        session_of(float32_graph(read_model("mnist").model, noise)),
    )
    told = {"posterior_noise": noise.posterior.numpy(), "pixel_noise": noise.pixel.numpy()}
    terms = ["energy", "elbo"]
    seconds, found = {}, {}
    ways: dict[str, Callable[[], Any]] = {
        "torch float64": lambda: by_torch(scorer.model, images, seed, 500),
        "torch float64, one by one": lambda: by_torch(scorer.model, images, seed, 1),
        "onnxruntime float64": lambda: double.run(terms, {"images": images}),
        "torch float32": lambda: by_torch(loaded.model, images, seed, 500),
        "torch float32, one by one": lambda: by_torch(loaded.model, images, seed, 1),
        "onnxruntime float32": lambda: single.run(terms, {"images": images, **told}),
    }
    for name, way in ways.items():
        found[name], seconds[name] = timed(way)
    least = float(scorer.threshold)
    rows = [_row(name, base, found, seconds, least) for name, base in _pairs(list(ways))]
    return {"num_images": num_images, "false_positive_rate": RATE, "repeats": REPEATS, "rows": rows}


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _pairs(ways: list[str]) -> list[tuple[str, str]]:
    first, third = ways[0], ways[3]
    return [*((way, first) for way in ways[:3]), *((way, third) for way in ways[3:]), (third, first)]


def _row(name: str, base: str, found: dict[str, Any], seconds: dict[str, float], least: float) -> dict[str, Any]:
    (energy, elbo), (base_energy, base_elbo) = found[name], found[base]
    decided = (np.round(energy - elbo, 4) >= least) != (np.round(base_energy - base_elbo, 4) >= least)
    return {
        "way": name,
        "beside": base,
        "energy": float(np.abs(energy - base_energy).max()),
        "elbo": float(np.abs(elbo - base_elbo).max()),
        "other_decisions": int(decided.sum()),
        "seconds": seconds[name],
        "seconds_ratio": seconds[name] / seconds[base],
    }


def table(results: dict[str, Any]) -> str:
    """Returns the Markdown table of the results."""
    lines = [
        "| scores by | beside | energy | ELBO | other decisions | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        if row["way"] == row["beside"]:
            continue
        figures = f"{row['energy']:.1e} | {row['elbo']:.1e} | {row['other_decisions']} | {row['seconds']:.1f}"
        lines.append(f"| {row['way']} | {row['beside']} | {figures} ({row['seconds_ratio']:.2g}×) |")
    return "\n".join(lines)


def main() -> None:
    """Measures, writes the results, and fills the table of the docs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-images", type=int, default=1000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--table", type=Path, help="a document to fill (default docs/export.md with the default results)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    origin = describe_origin(0, ["benchmarks/export.py"], make_engine("fp32", "cpu"))
    told = {name: origin[name] for name in ("commit", "versions", "threads", "precision", "hardware")}
    results = {"onnxruntime": onnxruntime.__version__, **told, **measure(options.num_images)}
    options.results.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))
    document = options.table or (DOCS if options.results == RESULTS else None)
    if document is not None:
        put_table(document, "export", [table(results)])


if __name__ == "__main__":
    sys.exit(ended(main))
