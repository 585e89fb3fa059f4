"""``vaebm score``: energy, ELBO, outlier score and p-value of images."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from vaebm.cli.parsing import Parser, UsageError, check_folder_of, check_suffix_of, share

COLUMNS = ("path", "energy", "elbo", "outlier_score", "p_value", "outlier")


def _parser() -> Parser:
    parser = Parser("score", "Scores images: a low p-value means an outlier.")
    parser.add_argument("model", help="a bundled name (mnist), a run folder, a model folder or a hub id")
    parser.add_argument("images", help="npz, npy, idx file, image or folder of images, as large as the model's")
    parser.add_argument(
        "--output", type=Path, default=Path("scores.csv"), metavar="FILE", help="csv file (default scores.csv)"
    )
    parser.add_argument(
        "--false-positive-rate",
        type=share,
        default=0.05,
        metavar="SHARE",
        help="share of normal images that may be taken for outliers (default 0.05)",
    )
    return parser


def run(arguments: Sequence[str]) -> int:
    """Runs the verb."""
    options = _parser().parse_args(arguments)
    check_folder_of(options.output)
    check_suffix_of(options.output, ".csv")
    rate = options.false_positive_rate

    from vaebm.checkpoint import CheckpointError, write_bytes
    from vaebm.cli.evaluation import p_values_of, scores_of
    from vaebm.data import load_images, to_float
    from vaebm.recipes import read_model

    loaded = read_model(options.model)
    if loaded.model.image_shape[0] not in (1, 3):
        raise UsageError(f"{loaded.folder} is a model of points: it scores no images")
    if loaded.calibration is None:
        raise CheckpointError(f"{loaded.folder} has no calibration.json: p-values need one, train with `vaebm train`")
    smallest = 1 / (len(loaded.calibration["outlier_scores"]) + 1)
    if rate < smallest:
        raise UsageError(
            f"--false-positive-rate {rate}: this model's calibration resolves no rate below {smallest:.2g}"
        )
    channels, height, width = loaded.model.image_shape
    images = load_images(options.images, (channels, height, width))
    scores = scores_of(loaded.model, to_float(images.images), loaded.calibration)
    p_values = p_values_of(scores, loaded.calibration)
    flagged = p_values <= rate
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    columns = (scores.energy, scores.elbo, scores.outlier_score)
    for index, path in enumerate(images.paths or [f"{options.images}[{index}]" for index in range(len(images))]):
        figures = [f"{float(column[index]):.4f}" for column in columns]
        writer.writerow([path, *figures, f"{float(p_values[index]):.6f}", int(flagged[index])])
    write_bytes(options.output, buffer.getvalue().encode())
    outliers = f"{int(flagged.sum())} outliers at a false-positive rate of {rate}"
    if loaded.model.image_fields.chain_image == "mean":
        print("the energy is one on the decoder's mean: the outlier score is a heuristic, not a bound on a density")
    print(f"{options.output}: {len(images)} images, {outliers}")
    return 0
