"""``vaebm data``: what a source of images holds, and what to state about it before training."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaebm.cli.parsing import Parser, UsageError, check_folder_of, image_size, value_range

if TYPE_CHECKING:
    from vaebm.data import Inspection

MOST_NAMED, EXAMPLES, COLUMNS, SMALLEST_SCALE = 6, 2, 8, 96


def _parser() -> Parser:
    parser = Parser("data", "Tells what a folder or file of images holds, and how to train on it.")
    parser.add_argument(
        "source",
        help="a folder of images, an image, an npz, npy, idx or parquet file, mnist, stacked_mnist, digits, or "
        "owner/name",
    )
    parser.add_argument(
        "--image-size", type=image_size, metavar="N|HxW", help="the size that images would be brought to, from 8 to 128"
    )
    parser.add_argument("--channels", type=int, choices=(1, 3), help="bring them to grey (1) or colour (3)")
    parser.add_argument("--fit", choices=("stretch", "crop"), default="stretch", help="how they get the size")
    parser.add_argument(
        "--value-range", type=value_range, metavar="LOW,HIGH", help="what becomes black and white (default: the type's)"
    )
    parser.add_argument("--strict", action="store_true", help="refuse unreadable files instead of counting them")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="png file of up to 64 images as networks see them")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Runs the verb."""
    options = _parser().parse_args(arguments)
    if options.sheet is not None:
        _check_sheet(options.sheet, Path(os.path.expanduser(options.source)))

    from vaebm.data import Preprocessing, inspect_source

    chosen = Preprocessing(options.image_size, options.channels, options.fit, options.value_range)
    found = inspect_source(options.source, chosen, options.strict)
    for line in describe(found):
        print(line)
    if options.sheet is not None:
        draw(found, options.sheet)
        print(f"{options.sheet}: {len(found.drawn)} pictures as networks will see them")
    return 0


def _check_sheet(sheet: Path, source: Path) -> None:
    """Checks before there is any work that the sheet can be written, and takes the place of no picture."""
    check_folder_of(sheet)
    if sheet.suffix.lower() != ".png":
        raise UsageError(f"--sheet {sheet}: expected a .png file")
    if sheet.exists() and os.path.exists(source):
        inside = {sheet.resolve(), sheet.parent.resolve() / sheet.name}
        if sheet.samefile(source) or any(path.is_relative_to(source.resolve()) for path in inside):
            raise UsageError(f"--sheet {sheet} would replace a file of the source {source}: choose another name")
    # Asking for rights isn't enough: disks are read-only or full, and root has every right.
    try:
        with tempfile.TemporaryFile(dir=sheet.parent):
            pass
    except OSError as error:
        raise UsageError(f"{sheet.parent} can't be written to ({error.strerror}): choose another folder") from error


def describe(found: Inspection) -> Iterator[str]:
    """Goes through the lines that tell what was found."""
    from vaebm.data import advised_options, resizing, warnings_of

    yield f"{found.source}: {_plural(found.num_pictures, 'picture')}" + _own_test(found)
    facts = {
        "formats": _listed(found.formats),
        "sizes": f"{_listed(Counter({f'{h}x{w}': n for (h, w), n in found.sizes.items()}))} (height x width)",
        "kinds": _listed(found.modes),
        "channels": _listed(Counter({("grey" if c == 1 else "colour"): n for c, n in found.channels.items()})),
        "bits": _listed(Counter({_plural(bits, "bit"): count for bits, count in found.num_bits.items()})),
    }
    for name, text in facts.items():
        yield _row(name, text)
    for kind, values in found.values.items():
        low, high = values.tails()
        span = f"{values.lowest:.10g} to {values.highest:.10g}, without 0.1 % at each end {low:.10g} to {high:.10g}"
        clipped = found.preprocessing.value_range
        share = "" if clipped is None else f", {values.share_outside(*clipped):.2%} outside of the stated range"
        yield _row("values", f"{kind}: {span}{share}")
    yield _row("labels", _listed(found.labels) if found.labels else "none")
    yield _row("copies", _copies(found))
    yield _row("unreadable", f"{len(found.skipped):,}, left out" if found.skipped else "none")
    for path, reason in found.skipped[:MOST_NAMED]:
        yield f"              {_short(path, found)}: {reason}"
    if len(found.skipped) > MOST_NAMED:
        yield f"              and {len(found.skipped) - MOST_NAMED:,} more"
    parts, text = _split(found)
    yield _row("split", text)
    size = found.preprocessing.image_size
    if size is not None:
        yield _row("resizing", f"to {size[0]}x{size[1]}: {resizing(found.sizes, size, found.preprocessing.fit)}")
    for warning in (*([found.problem] if found.problem else []), *warnings_of(found)):
        yield _row("note", warning)
    if parts is not None:
        yield f"train on them: {advised_options(found)}"


def draw(found: Inspection, file: Path) -> None:
    """Writes a sheet of the pictures as networks will see them.

    Arguments:
        found: What there is.
        file: The png file to write.

    Raises:
        DataError: If the pictures can't be brought to one form.
    """
    import numpy as np

    from vaebm.checkpoint import write_bytes
    from vaebm.data import DataError
    from vaebm.plots import image_grid, png_bytes

    shapes = Counter(image.shape for image in found.drawn)
    if found.problem or len(shapes) != 1:
        reason = found.problem or "the pictures have several sizes or channels"
        raise DataError(f"no sheet: {reason}: state --image-size, --channels or --value-range")
    images = np.stack(found.drawn)
    scale = max(1, SMALLEST_SCALE // images.shape[2])
    write_bytes(file, png_bytes(image_grid(images, COLUMNS, scale=scale)))


def _row(name: str, text: str) -> str:
    return f"  {name:<12}{text}"


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _own_test(found: Inspection) -> str:
    return "" if found.num_test is None else f", {found.num_test:,} of them test pictures of its own"


def _listed(counts: Counter[str]) -> str:
    named = [f"{name} ({count:,})" for name, count in counts.most_common(MOST_NAMED)]
    left = counts.total() - sum(count for _, count in counts.most_common(MOST_NAMED))
    more = f" and {len(counts) - MOST_NAMED} more ({left:,})" if len(counts) > MOST_NAMED else ""
    return ", ".join(named) + more


def _short(path: str, found: Inspection) -> str:
    return path.removeprefix(found.source).lstrip("/") or path


def _copies(found: Inspection) -> str:
    if not found.num_repeated:
        return "none"
    shown = "; ".join(" = ".join(_short(path, found) for path in pair) for pair in found.repeated[:EXAMPLES])
    across = f", {found.num_repeated_in_test:,} of them test pictures that are in the rest too"
    return f"{found.num_repeated:,}{across if found.num_repeated_in_test else ''}, such as {shown}"


def _split(found: Inspection) -> tuple[dict[str, int] | None, str]:
    from vaebm.data import DataError

    try:
        parts = found.split()
    except DataError as error:
        return None, str(error).removeprefix(f"{found.source}: ")
    smallest = 1 / (parts["calibration"] + 1)
    counts = ", ".join(f"{count:,} {part}" for part, count in parts.items())
    return parts, f"{counts} (no p-value below {smallest:.2g})"
