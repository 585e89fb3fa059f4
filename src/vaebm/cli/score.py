"""``vaebm score``: energy, ELBO, joint, outlier score and p-value of images, as csv and as a page."""

from __future__ import annotations

import csv
import io
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaebm.cli.decision import score_notes
from vaebm.cli.parsing import Parser, UsageError, check_folder_of, check_suffix_of, share

if TYPE_CHECKING:
    from torch import Tensor

    from vaebm.applications import OutlierScores
    from vaebm.cli.decision import Decider
    from vaebm.data import ImageSet

COLUMNS = ("path", "energy", "elbo", "joint", "outlier_score", "p_value", "outlier")
MOST_NAMED = 5


def _parser() -> Parser:
    parser = Parser("score", "Scores images: a low p-value means an outlier.")
    parser.add_argument("model", help="a bundled name (mnist), a run folder, a model folder or a hub id")
    parser.add_argument(
        "images",
        help="an image, a folder of images, or an npz, npy, idx or parquet file; brought to the model's form as in "
        "training",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("scores.csv"), metavar="FILE", help="csv file (default scores.csv)"
    )
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="also write a page: pictures, heat maps, nearest normal images, other scores beside the model's",
    )
    parser.add_argument(
        "--reference",
        metavar="SOURCE",
        help="normal images for the page, where the model's training images aren't to be found",
    )
    parser.add_argument(
        "--false-positive-rate",
        type=share,
        metavar="SHARE",
        help="share of normal images that may be taken for outliers (default: that of the model, 0.05 by vaebm train)",
    )
    parser.add_argument("--strict", action="store_true", help="refuse unreadable files instead of leaving them out")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Runs the verb."""
    options = _parser().parse_args(arguments)
    _check_outputs(options)

    from vaebm.checkpoint import write_bytes
    from vaebm.cli.decision import read_decider
    from vaebm.cli.evaluation import p_values_of, scores_of
    from vaebm.data import load_images, to_float
    from vaebm.distributed import launched_engine

    engine = launched_engine()
    decider = read_decider(options.model, options.false_positive_rate)
    loaded, rate = decider.loaded, decider.rate
    channels, height, width = loaded.model.image_shape
    images = load_images(options.images, (channels, height, width), loaded.preprocessing, options.strict)
    given = None
    if options.reference is not None:
        from vaebm.cli.scoring import read_reference

        given = read_reference(loaded, options.reference)
    scores = scores_of(loaded.model, to_float(images.images), decider.calibration, engine)
    if engine is not None and not engine.is_main:
        return 0
    p_values = p_values_of(scores, decider.calibration)
    paths = list(images.paths or [f"{options.images}[{index}]" for index in range(len(images))])
    write_bytes(options.output, _table(paths, scores, p_values, rate))
    _tell(options.output, decider, images, int((p_values <= rate).sum()))
    if options.html is not None:
        from vaebm.cli.scoring import ScoredSet, write_page

        scored = ScoredSet(options.images, images.images, paths, scores, p_values)
        write_page(options.html, decider, scored, given)
        print(f"page: {options.html}")
    return 0


def _check_outputs(options: Namespace) -> None:
    """Checks what can be checked of the files to write before there is any work."""
    check_folder_of(options.output)
    check_suffix_of(options.output, ".csv")
    if options.html is not None:
        check_folder_of(options.html)
        if options.html.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"--html {options.html}: expected a .html file")
    elif options.reference is not None:
        raise UsageError("--reference has no effect without a page: add --html FILE")
    for path in (options.output, options.html):
        if path is not None:
            _check_writable(path.parent)


def _check_writable(folder: Path) -> None:
    # Asking for rights isn't enough: disks are read-only or full, and root has every right.
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{folder} can't be written to ({error.strerror}): choose another folder") from error


def _table(paths: Sequence[str], scores: OutlierScores, p_values: Tensor, rate: float) -> bytes:
    from vaebm.applications import round_scores

    rounded = round_scores(scores.outlier_score)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for path, *terms, p_value in zip(paths, scores.energy, scores.elbo, -rounded, rounded, p_values, strict=True):
        figures = [f"{float(term):.4f}" for term in terms]
        writer.writerow([path, *figures, f"{float(p_value):.6f}", int(p_value <= rate)])
    # Names of files needn't be UTF-8.
    return buffer.getvalue().encode("utf-8", "backslashreplace")


def _tell(output: Path, decider: Decider, images: ImageSet, num_outliers: int) -> None:
    for note in score_notes(decider.loaded.model):
        print(note)
    for path, reason in images.skipped[:MOST_NAMED]:
        print(f"left out {path}: {reason}")
    more = len(images.skipped) - MOST_NAMED
    if more > 0:
        print(f"left out {more} more files that can't be read")
    print(f"{output}: {len(images)} images, {num_outliers} outliers at a false-positive rate of {decider.rate:.4g}")
