"""``vaebm score``: energy, ELBO, outlier score and p-value of images."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from vaebm.cli.parsing import Parser, UsageError, share

COLUMNS = ("path", "energy", "elbo", "outlier_score", "p_value", "outlier")


def _parser() -> Parser:
    parser = Parser("score", "Scores images: low p-value = outlier at the stated false-positive rate.")
    parser.add_argument("model", help="a bundled name (mnist), a run folder, a model folder or a hub id")
    parser.add_argument("images", help="npz, npy, idx file, image or folder of images, of the model's size and channels")
    parser.add_argument("--output", type=Path, default=Path("scores.csv"), help="csv file to write (default scores.csv)")
    parser.add_argument("--false-positive-rate", type=share, default=0.05, help="share of normal images that may be flagged (default 0.05)")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Runs the verb."""
    options = _parser().parse_args(arguments)
    if not options.output.parent.is_dir():
        raise UsageError(f"there is no folder {options.output.parent}: make it first")
    import torch

    from vaebm.applications import outlier_scores
    from vaebm.checkpoint import CheckpointError, write_bytes
    from vaebm.data import load_images, to_float
    from vaebm.metrics import conformal_p_values
    from vaebm.recipes import read_model

    loaded = read_model(options.model)
    if loaded.calibration is None:
        raise CheckpointError(f"{loaded.folder} has no calibration.json: p-values need one, train with `vaebm train`")
    images = load_images(options.images, loaded.model.image_shape)
    calibration = loaded.calibration
    generator = torch.Generator().manual_seed(calibration["seed"])
    scores = outlier_scores(
        loaded.model, to_float(images.images), num_posterior_samples=calibration["num_posterior_samples"], generator=generator
    )
    p_values = conformal_p_values(torch.tensor(calibration["outlier_scores"], dtype=torch.float64), scores.outlier_score)
    paths = images.paths or tuple(f"{options.images}[{index}]" for index in range(len(images)))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    flagged = p_values <= options.false_positive_rate
    columns = (scores.energy, scores.elbo, scores.outlier_score)
    for index, path in enumerate(paths):
        figures = [f"{float(column[index]):.4f}" for column in columns]
        writer.writerow([path, *figures, f"{float(p_values[index]):.6f}", int(flagged[index])])
    write_bytes(options.output, buffer.getvalue().encode())
    print(f"{options.output}: {len(paths)} images, {int(flagged.sum())} outliers at a false-positive rate of {options.false_positive_rate}")
    return 0
