"""What is told of a source must be what is there."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaebm.data import DataError, Preprocessing, advised_options, inspect_source, load_splits, resizing, warnings_of

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (40, 16, 16), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (40, 16, 20, 3), dtype=np.uint8)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_everything_is_counted(tmp_path: Path) -> None:
    for index in range(10):
        write(tmp_path / "ant" / f"{index}.png", GREY[index])
        write(tmp_path / "bee" / f"{index}.bmp", COLOUR[index])
    write(tmp_path / "bee" / "copy.png", GREY[3])
    write(tmp_path / "cat" / "deep.tif", GREY[0].astype(np.uint16) * 100)
    (tmp_path / "cat" / "text.jpg").write_text("text")
    found = inspect_source(str(tmp_path))
    assert (found.num_pictures, found.num_pool, found.num_test) == (22, 22, None)
    assert found.formats == {"PNG": 11, "BMP": 10, "TIFF": 1}
    assert found.sizes == {(16, 16): 12, (16, 20): 10}
    assert found.modes == {"L": 11, "RGB": 10, "I;16": 1}
    assert found.num_bits == {8: 21, 16: 1}
    assert found.channels == {1: 12, 3: 10}
    assert found.labels == {"ant": 10, "bee": 11, "cat": 1}
    assert found.repeated == [(str(tmp_path / "bee" / "copy.png"), str(tmp_path / "ant" / "3.png"))]
    assert [Path(skipped.path).name for skipped in found.skipped] == ["text.jpg"]
    chosen = Preprocessing((16, 16), 1)
    parts = inspect_source(str(tmp_path), chosen).split()
    splits = load_splits(str(tmp_path), preprocessing=chosen)
    assert parts == {name: len(part) for name, part in splits._asdict().items()}
    with pytest.raises(DataError, match=r"text\.jpg: is not an image"):
        inspect_source(str(tmp_path), strict=True)


def test_values_are_in_the_units_of_the_files(tmp_path: Path) -> None:
    levels = RANDOM.integers(200, 3_000, (20, 32, 32)).astype(np.uint16)
    levels[0, 0, 0], levels[1, 1, 1] = 60_000, 3
    for index, pixels in enumerate(levels):
        write(tmp_path / f"{index:02}.png", pixels)
    values = inspect_source(str(tmp_path)).values["uint16"]
    assert (values.lowest, values.highest) == (3, 60_000)
    np.testing.assert_allclose(values.tails(), np.quantile(levels, (0.001, 0.999)), atol=1)
    assert values.share_outside(0, 4_095) == 1 / levels.size
    found = inspect_source(str(tmp_path))
    low, high = values.tails()
    assert any(f"--value-range={low:g},{high:g}" in warning for warning in warnings_of(found))
    assert advised_options(found) == f"vaebm train --data {tmp_path} --value-range {low:g},{high:g}"
    stated = inspect_source(str(tmp_path), Preprocessing(value_range=(0, 4_095)))
    assert "--value-range 0,4095" in advised_options(stated)
    assert not any("quarter" in warning for warning in warnings_of(stated))


def test_floats_of_an_array_and_what_their_range_needs(tmp_path: Path) -> None:
    values = RANDOM.normal(0, 1, (20, 16, 16)).clip(-2, 3)
    values[0, 0, :2] = -2, 3
    np.save(tmp_path / "x.npy", values)
    found = inspect_source(str(tmp_path / "x.npy"))
    assert found.problem is not None
    assert "expected integers in 0..255 or floats in [0, 1]" in found.problem
    assert advised_options(found).endswith("--value-range=-2,3")
    load_splits(str(tmp_path / "x.npy"), preprocessing=Preprocessing(value_range=(-2, 3)))


def test_copies_of_the_rest_among_test_pictures_are_told(tmp_path: Path) -> None:
    for index in range(16):
        write(tmp_path / "train" / f"{index}.png", GREY[index])
    for index in range(14, 20):
        write(tmp_path / "test" / f"{index}.png", GREY[index])
    found = inspect_source(str(tmp_path))
    assert (found.num_pool, found.num_test) == (16, 6)
    assert (found.num_repeated, found.num_repeated_in_test) == (2, 2)


@pytest.mark.parametrize(
    ("shapes", "options"),
    [
        ([(32, 32)], ""),
        ([(28, 40)], ""),
        ([(7, 7)], "--image-size 8"),
        ([(500, 640), (480, 600)], "--image-size 64x80"),
        ([(60, 60), (50, 55), (33, 40)], "--image-size 32"),
        ([(100, 300)], "--image-size 64x128"),
        ([(40, 20), (44, 22)], "--image-size 32x16"),
        ([(32, 32, 3), (32, 32)], "--channels 3"),
    ],
)
def test_the_advice_can_be_followed(tmp_path: Path, shapes: list[tuple[int, ...]], options: str) -> None:
    for index in range(24):
        write(tmp_path / f"{index}.png", RANDOM.integers(0, 256, shapes[index % len(shapes)], dtype=np.uint8))
    advised = advised_options(inspect_source(str(tmp_path)))
    assert advised == f"vaebm train --data {tmp_path} {options}".rstrip()
    words = options.split()
    size = tuple(int(side) for side in words[1].split("x")) if "--image-size" in words else ()
    chosen = Preprocessing((size[0], size[-1]) if size else None, 3 if "--channels" in words else None)
    assert sum(map(len, load_splits(str(tmp_path), preprocessing=chosen))) == 24


def test_colour_files_without_colour_are_told(tmp_path: Path) -> None:
    for index in range(12):
        write(tmp_path / f"{index}.png", np.stack([GREY[index]] * 3, axis=2))
    found = inspect_source(str(tmp_path))
    assert advised_options(found).endswith("--channels 1")
    assert any("three equal channels" in warning for warning in warnings_of(found))


def test_what_a_size_does() -> None:
    sizes = Counter({(64, 64): 3, (32, 64): 1, (16, 16): 2})
    stretched = resizing(sizes, (32, 32), "stretch")
    assert stretched.startswith("4 shrink (2 times at most), 2 grow (2 times at most), 1 is stretched")
    assert resizing(sizes, (32, 32), "crop").endswith(
        "1 is cut to other proportions (50% of the picture is lost at most)"
    )
    assert resizing(Counter({(32, 32): 9}), (32, 32), "crop") == "all have that size already"


def test_what_is_drawn_is_what_networks_will_see() -> None:
    found = inspect_source("mnist", Preprocessing((16, 16), 3), num_drawn=10)
    assert [image.shape for image in found.drawn] == [(3, 16, 16)] * 10
    assert found.num_pictures == 70_000
    assert found.num_test == 10_000
