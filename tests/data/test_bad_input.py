"""What a user may get wrong about images: one line that says what is wrong, and nothing is read, left or changed."""

import gzip
import os
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vaebm.data import DataError, Preprocessing, load_images, load_splits

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (24, 16, 16), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)


def pictures(folder: Path, count: int = 16, suffix: str = ".png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.fromarray(COLOUR[index]).save(folder / f"{index:02}{suffix}")
    return folder


def cut(path: Path, share: float = 0.5) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


def bomb(path: Path) -> Path:
    """A PNG of 200 bytes whose header promises 3.6 billion pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(60_001))), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


def empty(path: Path) -> Path:
    (path / "folder").mkdir()
    return path / "folder"


def hidden_only(path: Path) -> Path:
    pictures(path / ".cache")
    return path


def only_text(path: Path) -> Path:
    for name in ("a.png", "b.jpg", "c.tif"):
        (path / name).write_text("this is text")
    return path


def mixed_sizes(path: Path) -> Path:
    pictures(path)
    Image.fromarray(COLOUR[20, :12]).save(path / "z.png")
    return path


def mixed_channels(path: Path) -> Path:
    pictures(path)
    Image.fromarray(GREY[20]).save(path / "z.png")
    return path


def large(path: Path) -> Path:
    Image.fromarray(np.zeros((300, 400, 3), np.uint8)).save(path / "photo.jpg")
    return path


def array(**arrays: Any) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        np.savez(path / "bad.npz", **arrays)
        return path / "bad.npz"

    return write


def with_value(value: float) -> np.ndarray:
    values = GREY / 255
    values[3, 4, 5] = value
    return values


def gzip_bomb(path: Path) -> Path:
    with gzip.open(path / "images-idx3-ubyte.gz", "wb") as file:
        file.write(struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 2**12, 2**12))
    return path / "images-idx3-ubyte.gz"


def npz_bomb(path: Path) -> Path:
    """An npz of 300 bytes whose directory promises 2^60 bytes."""
    np.savez_compressed(path / "bomb.npz", x=np.zeros((20, 8, 8), np.uint8))
    content = (path / "bomb.npz").read_bytes()
    place, name = content.index(b"PK\x01\x02"), len(b"x.npy")
    entry, end = content[place : place + 46 + name], content[content.index(b"PK\x05\x06") :]
    large = struct.pack("<HHQ", 1, 8, 2**60)
    entry = entry[:24] + b"\xff" * 4 + entry[28:30] + struct.pack("<H", len(large)) + entry[32:] + large
    end = end[:12] + struct.pack("<I", len(entry)) + end[16:]
    (path / "bomb.npz").write_bytes(content[:place] + entry + end)
    return path / "bomb.npz"


def truncated_parquet(path: Path) -> Path:
    (path / "rows.parquet").write_bytes(b"PAR1" + bytes(100))
    return path / "rows.parquet"


CASES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing folder": (lambda path: path / "nowhere", "there is no such file or folder: check the path"),
    "missing, a name near": (
        lambda path: pictures(path / "pictures").with_name("picturs"),
        r"there is no such file or folder \(did you mean .*pictures\?\): check the path",
    ),
    "missing, a folder above": (
        lambda path: pictures(path / "photos" / "cats").parent.with_name("foto") / "cats",
        r"\(did you mean .*photos\?\)",
    ),
    "empty folder": (empty, "is empty: expected files that end in .png"),
    "hidden files only": (hidden_only, "is empty: expected files"),
    "text named png": (only_text, "none of 3 pictures can be read, the first one: .*a.png: is not an image"),
    "mixed sizes": (
        mixed_sizes,
        r"z.png: is 12x16 RGB, but .*00.png is 16x16 RGB: .* holds 16 of 16x16, 1 of 12x16 \(height x width\), "
        r"17 of colour: bring them to one kind with --image-size 32$",
    ),
    "mixed channels": (mixed_channels, r"16 of colour, 1 of grey: bring them to one kind with --channels 1$"),
    "too large for networks": (large, r"photo.jpg: is 300x400 RGB .* --image-size 32"),
    "bomb": (lambda path: bomb(path / "bomb.png"), "bomb.png: .*a decompression bomb"),
    "bomb in an idx file": (gzip_bomb, "is cut short: its header promises"),
    "bomb in an npz file": (npz_bomb, r"bomb.npz: unpacks to \d+ GB, more than the memory of this machine"),
    "nan": (array(x=with_value(np.nan)), "'x': 1 of 6144 values are NaN or infinite"),
    "infinite": (array(x=with_value(np.inf)), "'x': 1 of 6144 values are NaN or infinite"),
    "rank": (array(x=GREY[0, 0]), r"'x': has shape \(16,\): expected \(N, H, W\)"),
    "flat": (array(x=GREY.reshape(24, -1)), "looks like one image or flattened ones"),
    "channels": (array(x=np.zeros((24, 16, 16, 4), np.uint8)), "1 or 3 channels"),
    "negative": (array(x=with_value(-0.5)), r"values lie in \[-0.5, 1\]: expected floating point in \[0, 1\]"),
    "sixteen bits": (array(x=GREY.astype(np.uint16) * 257), "values lie in 0..65535.*--value-range 0,65535"),
    "objects": (array(x=np.array([{}, {}], dtype=object)), "Python objects, which are never loaded"),
    "damaged parquet": (truncated_parquet, "rows.parquet: cannot be read .*expected a parquet file"),
    "too few": (lambda path: pictures(path, 11), "holds 11 images: expected a data set, of at least 12"),
}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", CASES)
def test_one_line_that_names_the_place(tmp_path: Path, name: str) -> None:
    make, message = CASES[name]
    source = make(tmp_path)
    before = snapshot(tmp_path)
    for strict in (False, True):
        with pytest.raises(
            DataError, match=message if not (strict and name == "text named png") else "a.png"
        ) as caught:
            load_splits(str(source), strict=strict)
        assert "\n" not in str(caught.value)
        assert str(tmp_path) in str(caught.value)
    assert snapshot(tmp_path) == before


STATED: dict[str, tuple[Callable[[Path], Path], tuple[float, float], str]] = {
    "above": (array(x=GREY.astype(np.int32) * 20), (0, 4_095), r"outside of the stated value range \[0, 4095\]"),
    "below": (array(x=GREY.astype(np.float32) - 1), (0, 255), r"\[-1, 254\], outside of .*--value-range=-1,254"),
    "nan": (array(x=with_value(np.nan)), (-1, 1), r"NaN or infinite: expected numbers in \[-1, 1\]"),
    "words": (array(x=np.full((4, 8, 8), "a")), (0, 1), "holds <U1: expected integers or floating point"),
}


@pytest.mark.parametrize("name", STATED)
def test_values_outside_of_a_stated_range_are_refused(tmp_path: Path, name: str) -> None:
    make, value_range, message = STATED[name]
    with pytest.raises(DataError, match=message):
        load_images(str(make(tmp_path)), preprocessing=Preprocessing(value_range=value_range))


@pytest.mark.parametrize("kind", ["truncated jpg", "text", "bomb", "empty file"])
def test_one_bad_file_among_good_ones_is_skipped_and_counted_or_refused(tmp_path: Path, kind: str) -> None:
    pictures(tmp_path / "good", 14, ".jpg")
    bad = tmp_path / "good" / "05.jpg"
    if kind == "truncated jpg":
        cut(bad)
    elif kind == "bomb":
        bad = bomb(bad.with_suffix(".png"))
        bad.with_suffix(".jpg").unlink()
    else:
        bad.write_text("no picture" if kind == "text" else "")
    images = load_images(str(tmp_path / "good"))
    assert len(images) == 13
    assert images.paths is not None
    assert str(bad) not in images.paths
    assert [skipped.path for skipped in images.skipped] == [str(bad)]
    assert str(bad) not in images.skipped[0].reason
    splits = load_splits(str(tmp_path / "good"))
    assert sum(map(len, splits)) == 13
    assert splits.skipped == images.skipped
    for load in (load_images, load_splits):
        with pytest.raises(DataError, match=bad.name):
            load(str(tmp_path / "good"), strict=True)


def test_labels_stay_with_their_pictures_when_one_is_skipped(tmp_path: Path) -> None:
    for index in range(24):
        folder = tmp_path / ("ant", "bee", "cat")[index % 3]
        folder.mkdir(exist_ok=True)
        Image.fromarray(GREY[index]).save(folder / f"{index:02}.png")
    cut(tmp_path / "ant" / "03.png")
    splits = load_splits(str(tmp_path))
    for part in splits:
        assert part.paths is not None
        assert part.labels is not None
        assert [("ant", "bee", "cat")[label] for label in part.labels] == [
            Path(path).parent.name for path in part.paths
        ]
    assert sum(map(len, splits)) == 23


def test_pictures_that_differ_from_the_model(tmp_path: Path) -> None:
    pictures(tmp_path)
    message = r"00.png: is 16x16 RGB, but the model takes 28x28 grey \(height x width\).*--image-size 28 --channels 1"
    with pytest.raises(DataError, match=message):
        load_images(str(tmp_path), expected_shape=(1, 28, 28))
    images = load_images(str(tmp_path), (1, 28, 28), Preprocessing((28, 28), 1))
    assert images.shape == (1, 28, 28)
    np.save(tmp_path / "x.npy", GREY)
    with pytest.raises(DataError, match=r"images are 1x16x16, expected 1x28x28 .* what the model takes"):
        load_images(str(tmp_path / "x.npy"), expected_shape=(1, 28, 28))


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are another thing there")
def test_paths_of_any_letters_in_folders_that_may_only_be_read(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "Fotos für später" / "日本 語")
    before = snapshot(tmp_path)
    for path in (folder, folder.parent):
        os.chmod(path, 0o555)
    try:
        assert len(load_images(str(folder.parent))) == 16
        assert sum(map(len, load_splits(str(folder.parent)))) == 16
    finally:
        for path in (folder.parent, folder):
            os.chmod(path, 0o755)
    assert snapshot(tmp_path) == before


def test_a_damaged_tiff_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for compression in ("tiff_lzw", "tiff_adobe_deflate"):
        path = tmp_path / f"{compression}.tif"
        Image.fromarray(COLOUR.reshape(96, 64, 3)).save(path, compression=compression)
        content = bytearray(path.read_bytes())
        content[1000:1300] = b"\x55" * 300
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"\.tif: cannot be read"):
            load_images(str(path))
    assert capfd.readouterr().err == ""


def test_links_are_followed_once_and_lead_nowhere_aloud(tmp_path: Path) -> None:
    pictures(tmp_path / "elsewhere", 3)
    (tmp_path / "set" / "own").mkdir(parents=True)
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "linked" / "round").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "own" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    images = load_images(str(tmp_path / "set"))
    assert images.paths == tuple(str(tmp_path / "set" / "linked" / f"{index:02}.png") for index in range(3))
    assert [(Path(skipped.path).name, skipped.reason[:21]) for skipped in images.skipped] == [
        ("gone.png", "there is no such file")
    ]
