"""What to state about pictures before a model is trained on them, from what `inspect_source` found.

Nothing is chosen in silence: the advice is a command line, which the user may change.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterator

import numpy as np

from vaebm.data.inspection import Inspection, Values

__all__ = ["advised_options", "advised_range", "resizing", "warnings_of"]

_SIDES = (8, 16, 32, 64)
_MOST = 128
_SQUARE_ENOUGH = 1.25
_DISTORTION = 0.05
_FEW = 200


def advised_options(found: Inspection) -> str:
    """Return the command that trains on these pictures.

    Arguments:
        found: What there is; what its preprocessing states already is kept.
    """
    stated = found.preprocessing
    source = shlex.quote(found.source)
    words = [f"--data={source}" if source.startswith("-") else f"--data {source}"]
    size = stated.image_size or _advised_size(found.sizes)
    if size is not None:
        words.append(f"--image-size {_size(size)}")
    channels = stated.channels or _advised_channels(found)
    if channels is not None:
        words.append(f"--channels {channels}")
    if stated.fit != "stretch":
        words.append(f"--fit {stated.fit}")
    values = stated.value_range or advised_range(found)
    if values is not None:
        low, high = values
        words.append(f"--value-range{'=' if low < 0 else ' '}{low:.10g},{high:.10g}")
    return f"vaebm train {' '.join(words)}"


def warnings_of(found: Inspection) -> Iterator[str]:
    """Go through what should be known before training, a sentence each."""
    names = sorted(found.values)
    if len(names) > 1 and found.preprocessing.value_range is None:
        yield f"types of values are mixed ({', '.join(names)}): each is mapped from the range of its own type"
    advised = advised_range(found)
    if advised is not None and found.preprocessing.value_range is None:
        low, high = advised
        why = "uses less than a quarter of its range" if names == ["uint16"] else "has no range of its own"
        yield f"{names[0]} {why}: state what is black and white, --value-range={low:.10g},{high:.10g}"
    size = found.preprocessing.image_size or _advised_size(found.sizes)
    if size is not None and found.preprocessing.image_size is None:
        why = "sizes are mixed" if len(found.sizes) > 1 else f"sides are not from {_SIDES[0]} to {_MOST} pixels"
        yield f"{why}: state the one that they are brought to, --image-size {_size(size)}"
    if found.num_grey_in_colour and found.num_grey_in_colour == found.channels[3]:
        yield "all colour pictures are grey, with three equal channels: --channels 1 is enough"
    elif len(found.channels) > 1 and found.preprocessing.channels is None:
        yield "grey and colour are mixed: state --channels 3, or --channels 1"
    if found.num_repeated:
        yield "the same pictures on both sides of a split make results look better than they are: take copies out"
    if found.num_pictures < _FEW:
        yield f"there are few pictures ({found.num_pictures}): expect blurred samples and coarse p-values"
    if 1 in found.labels.values():
        yield "a label has a single picture: sub-folders are taken for labels"


def resizing(sizes: Counter[tuple[int, int]], target: tuple[int, int], fit: str) -> str:
    """Say what a stated size does to pictures.

    Arguments:
        sizes: How many pictures there are of each height and width.
        target: The height and width that they are brought to.
        fit: stretch or crop.

    Example:
        >>> resizing(Counter({(64, 64): 3, (16, 32): 1}), (32, 32), "stretch")
        '3 shrink (2 times at most), 1 grows (2 times at most), 1 is stretched (height by 2.00 against width)'
    """
    shrunk, grown, bent = Counter[float](), Counter[float](), Counter[float]()
    for (height, width), count in sizes.items():
        factors = height / target[0], width / target[1]
        ratio = factors[1] / factors[0]
        if abs(math.log(ratio)) > _DISTORTION:
            bent[ratio] += count
        if fit == "crop":
            factors = (min(factors),) * 2
        if max(factors) > 1:
            shrunk[max(factors)] += count
        if min(factors) < 1:
            grown[1 / min(factors)] += count
    parts = [
        f"{_verb(sum(shrunk.values()), 'shrink')} ({max(shrunk):.3g} times at most)" if shrunk else "",
        f"{_verb(sum(grown.values()), 'grow')} ({max(grown):.3g} times at most)" if grown else "",
    ]
    if bent:
        count, ratio = sum(bent.values()), max(bent, key=lambda value: abs(math.log(value)))
        be = "is" if count == 1 else "are"
        lost = 1 - min(ratio, 1 / ratio)
        crop = f"{count} {be} cut to other proportions ({lost:.0%} of the picture is lost at most)"
        stretch = f"{count} {be} stretched (height by {ratio:.2f} against width)"
        parts.append(crop if fit == "crop" else stretch)
    return ", ".join(part for part in parts if part) or "all have that size already"


def _verb(count: int, verb: str) -> str:
    return f"{count:,} {verb}{'s' if count == 1 else ''}"


def _size(size: tuple[int, int]) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def _advised_size(sizes: Counter[tuple[int, int]]) -> tuple[int, int] | None:
    """The one size that all have, if networks take it; else about the typical one, at most 64."""
    if len(sizes) == 1 and all(_SIDES[0] <= side <= _MOST for side in next(iter(sizes))):
        return None
    counts = np.array(list(sizes.values()))
    shapes = np.repeat(np.array(list(sizes)), counts, axis=0)
    typical = float(np.median(shapes.min(axis=1)))
    side = max((one for one in _SIDES if one <= typical), default=_SIDES[0])
    aspect = float(np.median(shapes[:, 1] / shapes[:, 0]))
    if max(aspect, 1 / aspect) <= _SQUARE_ENOUGH:
        return side, side
    longer = min(_MOST, 8 * round(side * max(aspect, 1 / aspect) / 8))
    return (side, longer) if aspect > 1 else (longer, side)


def _advised_channels(found: Inspection) -> int | None:
    if found.num_grey_in_colour and found.num_grey_in_colour == found.channels[3]:
        return 1
    return 3 if len(found.channels) > 1 else None


def advised_range(found: Inspection) -> tuple[float, float] | None:
    """Return the values to take for black and white, or None if those of the type will do.

    Of 16 bits that use less than a quarter of their range, and of numbers without a range of their own, they are the
    values below and above which one in a thousand lies; of arrays, the lowest and the highest value.

    Arguments:
        found: What there is.
    """
    if len(found.values) != 1:
        return None
    (kind, values), *_ = found.values.items()
    if found.is_array:
        whole = (0, 1) if kind.startswith("float") else (0, 255)
        is_known = whole[0] <= values.lowest and values.highest <= whole[1]
        return None if is_known or values.lowest == values.highest else (values.lowest, values.highest)
    if kind == "uint8" or (kind == "uint16" and _is_used(values)):
        return None
    low, high = values.tails()
    if kind.startswith("float"):
        low, high = float(f"{low:.4g}"), float(f"{high:.4g}")
    else:
        low, high = math.floor(low), math.ceil(high)
    return (low, high) if low < high else None


def _is_used(values: Values) -> bool:
    low, high = values.tails()
    return high - low >= 65_535 / 4
