"""Serve a scorer without torch: export it once, then only numpy and onnxruntime are needed (extra: export).

    python examples/score_with_onnxruntime.py

The bundled model decides on ten digits, one of them upside down and one scratched, as `vaebm score` does.
"""

import csv
import gzip
import json
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnxruntime

# %% Ten digits, uint8 (N, C, H, W), and two of them spoilt
packed = files("vaebm").joinpath("data/bundled/mnist/t10k-images-idx3-ubyte.gz").read_bytes()
images = np.frombuffer(gzip.decompress(packed), np.uint8, offset=16)[: 10 * 784].reshape(10, 1, 28, 28).copy()
images[4] = images[4, :, ::-1]
images[7, 0, 5:24, 12:14] = 255

holder = tempfile.TemporaryDirectory()
folder = Path(holder.name)
np.savez(folder / "images.npz", images=images)


def vaebm(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "vaebm", *words], cwd=folder, check=True)


# %% Once, where torch is: the graph and its description
vaebm("export", "mnist", "--onnx", "served")

# %% Wherever onnxruntime is: bytes in, decisions out; the noise is a default of the graph
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
session = onnxruntime.InferenceSession(folder / "served" / "scorer.onnx", options, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
scored = dict(zip(names, session.run(names, {"images": images}), strict=True))
assert "torch" not in sys.modules

described = json.loads((folder / "served" / "scorer.json").read_text())
assert np.array_equal(scored["decision"], scored["outlier_score"] >= described["decision"]["threshold"])

# %% What the command says of the same images
vaebm("score", "mnist", "images.npz", "--output", "scores.csv")
with open(folder / "scores.csv", newline="") as file:
    rows = list(csv.DictReader(file))
for name in ("energy", "elbo", "outlier_score", "p_value"):
    assert np.allclose(scored[name], [float(row[name]) for row in rows], rtol=0, atol=1e-4), name
assert [int(row["outlier"]) for row in rows] == scored["decision"].astype(int).tolist()
for index, (score, p_value) in enumerate(zip(scored["outlier_score"], scored["p_value"], strict=True)):
    print(f"image {index}: score {score:9.2f}, p-value {p_value:.4f}{', an outlier' if p_value <= 0.05 else ''}")
