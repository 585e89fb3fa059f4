"""Every kind of picture file, really written: values come back as they were stored."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaebm.data import DataError, Preprocessing, load_images
from vaebm.data.pictures import MOST_PIXELS, Picture, read_picture, shape_of_picture

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (8, 9), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (8, 9, 3), dtype=np.uint8)
ALPHA = RANDOM.integers(0, 256, (8, 9), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65_536, (8, 9), dtype=np.uint16)


def stored(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(content: bytes) -> Picture:
    picture = read_picture(content, "a picture")
    channels, height, width = shape_of_picture(content, "a picture")
    assert picture.pixels.shape == ((height, width) if channels == 1 else (height, width, 3))
    return picture


def png(values: np.ndarray, num_bits: int, colour_type: int) -> bytes:
    """A PNG of 8 or 16 bits, whose writer isn't the one that is tested."""
    wide = values.astype(">u2" if num_bits == 16 else "u1")
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], num_bits, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(values: np.ndarray, white_is_zero: bool = False, num_bits: int | None = None) -> bytes:
    """An uncompressed grey TIFF."""
    order = ">" if values.dtype.byteorder == ">" else "<"
    kinds = {"u": 1, "i": 2, "f": 3}
    height, width = values.shape
    tags = {256: width, 257: height, 258: num_bits or 8 * values.itemsize, 259: 1, 262: 0 if white_is_zero else 1}
    tags |= {273: 8 + 2 + 12 * 10 + 4, 277: 1, 278: height, 279: values.nbytes, 339: kinds[values.dtype.kind]}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    begin = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return begin + struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0) + values.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_eight_bits_are_exact(kind: str) -> None:
    grey, colour = read(stored(Image.fromarray(GREY), kind)), read(stored(Image.fromarray(COLOUR), kind))
    np.testing.assert_array_equal(grey.pixels, GREY)
    np.testing.assert_array_equal(colour.pixels, COLOUR)
    # A grey BMP is one with a palette of greys, which Pillow sees.
    assert (grey.format, grey.mode, grey.num_bits) == (kind, "L", 8)
    assert (colour.format, colour.mode, colour.num_bits) == (kind, "RGB", 8)


def test_lossless_webp_is_exact() -> None:
    np.testing.assert_array_equal(read(stored(Image.fromarray(COLOUR), "WEBP", lossless=True)).pixels, COLOUR)


SIXTEEN = {
    "png": png(DEEP, 16, 0),
    "png of pillow": stored(Image.fromarray(DEEP), "PNG"),
    "tif of pillow": stored(Image.fromarray(DEEP), "TIFF"),
    "packed tif": stored(Image.fromarray(DEEP), "TIFF", compression="tiff_adobe_deflate"),
    "tif": tiff(DEEP.astype("<u2")),
    "big-endian tif": tiff(DEEP.astype(">u2")),
    "pgm": b"P5\n9 8\n65535\n" + DEEP.astype(">u2").tobytes(),
    "pgm in words": b"P2\n9 8\n65535\n" + " ".join(map(str, DEEP.ravel())).encode(),
}


@pytest.mark.parametrize("name", SIXTEEN)
def test_grey_of_sixteen_bits_keeps_them(name: str) -> None:
    picture = read(SIXTEEN[name])
    assert picture.pixels.dtype == np.uint16
    assert picture.num_bits == 16
    np.testing.assert_array_equal(picture.pixels, DEEP)


def test_white_is_zero_is_turned() -> None:
    np.testing.assert_array_equal(read(tiff(DEEP.astype("<u2"), white_is_zero=True)).pixels, 65_535 - DEEP)
    np.testing.assert_array_equal(read(tiff(GREY, white_is_zero=True)).pixels, 255 - GREY)


def test_a_pgm_that_states_its_white_has_it_at_65535() -> None:
    values = DEEP >> 4
    picture = read(b"P5\n9 8\n4095\n" + values.astype(">u2").tobytes())
    assert np.abs(picture.pixels - values * (65_535 / 4_095)).max() <= 0.5
    picture = read(b"P5\n9 8\n15\n" + (GREY >> 4).tobytes())
    np.testing.assert_array_equal(picture.pixels, (GREY >> 4) * 17)


def test_sixteen_bit_colours_and_alpha_are_read_with_eight() -> None:
    deep = RANDOM.integers(0, 65_536, (8, 9, 3), dtype=np.uint16)
    picture = read(png(deep, 16, 2))
    np.testing.assert_array_equal(picture.pixels, deep >> 8)
    assert picture.num_bits == 16
    pair = np.stack([DEEP, np.full_like(DEEP, 65_535)], axis=2)
    picture = read(png(pair, 16, 4))
    np.testing.assert_array_equal(picture.pixels, DEEP >> 8)
    assert (picture.mode, picture.num_bits) == ("LA", 16)


@pytest.mark.parametrize("dtype", ["<i4", ">i4", "<u4", "<f4", ">f4", "<i2"])
def test_other_numbers_need_a_stated_range(tmp_path: Path, dtype: str) -> None:
    values = RANDOM.integers(-9_000, 9_000, (8, 9)).astype(dtype)
    if dtype == "<u4":
        values = values + np.uint32(2**31)
    (tmp_path / "scan.tif").write_bytes(tiff(values))
    np.testing.assert_array_equal(read((tmp_path / "scan.tif").read_bytes()).pixels, values)
    with pytest.raises(DataError, match=r"scan\.tif: holds \w+, whose black and white aren't known: .*--value-range"):
        load_images(str(tmp_path))
    low = float(values.min())
    images = load_images(str(tmp_path), preprocessing=Preprocessing(value_range=(low, low + 20_000)))
    np.testing.assert_array_equal(images.images[0, 0], np.rint((values.astype(np.float64) - low) * (255 / 20_000)))


def test_alpha_is_laid_over_white() -> None:
    share = ALPHA[..., None] / 255
    expected = COLOUR * share + 255 * (1 - share)
    for content in (
        stored(Image.fromarray(np.dstack([COLOUR, ALPHA])), "PNG"),
        stored(Image.fromarray(np.dstack([COLOUR, ALPHA])), "TIFF"),
        stored(Image.fromarray(np.dstack([COLOUR, ALPHA])), "WEBP", lossless=True, exact=True),
    ):
        assert np.abs(read(content).pixels - expected).max() <= 0.5
    picture = read(stored(Image.fromarray(np.dstack([GREY, ALPHA])), "PNG"))
    assert np.abs(picture.pixels - (GREY * share[..., 0] + 255 * (1 - share[..., 0]))).max() <= 0.5
    assert picture.mode == "LA"


def test_palettes_become_colours_and_their_transparent_entry_white() -> None:
    indices = RANDOM.integers(0, 4, (8, 9), dtype=np.uint8)
    colours = np.array([[10, 20, 30], [200, 0, 0], [0, 99, 5], [255, 255, 0]], dtype=np.uint8)
    image = Image.frombytes("P", (9, 8), indices.tobytes())
    image.putpalette(colours.ravel().tobytes())
    np.testing.assert_array_equal(read(stored(image, "PNG")).pixels, colours[indices])
    np.testing.assert_array_equal(read(stored(image, "BMP")).pixels, colours[indices])
    shown = colours.copy()
    shown[1] = 255
    np.testing.assert_array_equal(read(stored(image, "PNG", transparency=1)).pixels, shown[indices])


def test_a_transparent_level_becomes_white() -> None:
    assert (read(stored(Image.fromarray(GREY), "PNG", transparency=int(GREY[2, 3]))).pixels[2, 3]) == 255
    colour = tuple(int(value) for value in COLOUR[2, 3])
    assert (read(stored(Image.fromarray(COLOUR), "PNG", transparency=colour)).pixels[2, 3] == 255).all()
    picture = read(stored(Image.fromarray(DEEP), "PNG", transparency=int(DEEP[2, 3])))
    assert picture.pixels.dtype == np.uint16
    assert picture.pixels[2, 3] == 65_535


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_one_bit_is_black_and_white(kind: str) -> None:
    image = Image.fromarray(GREY > 127)
    np.testing.assert_array_equal(read(stored(image, kind)).pixels, np.where(GREY > 127, 255, 0))


def test_cmyk_and_ycbcr_become_colours() -> None:
    flat = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(read(stored(flat, "TIFF")).pixels.astype(int) - (255, 0, 0)).max() == 0
    assert np.abs(read(stored(flat, "JPEG", quality=100)).pixels.astype(int) - (255, 0, 0)).max() < 6
    picture = read(stored(Image.new("RGB", (16, 16), (250, 20, 60)).convert("YCbCr"), "TIFF", compression="jpeg"))
    assert np.abs(picture.pixels.astype(int) - (250, 20, 60)).max() < 6


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_turned_photograph_is_set_upright_with_its_size(kind: str) -> None:
    ramp = np.add.outer(np.arange(16) * 10, np.arange(8) * 3).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    content = stored(Image.fromarray(np.stack([ramp] * 3, axis=2)), kind, exif=exif)
    picture = read_picture(content, "a photograph").pixels
    assert picture.shape == (8, 16, 3)
    assert np.abs(picture[..., 0].astype(int) - np.rot90(ramp, k=-1)).mean() < 4
    if kind != "PNG":
        assert shape_of_picture(content, "a photograph") == (3, 8, 16)


def test_the_first_of_several_pictures_of_a_phone_is_read() -> None:
    ramp = np.add.outer(np.arange(16) * 10, np.arange(8) * 3).astype(np.uint8)
    photograph, preview = Image.fromarray(np.stack([ramp] * 3, axis=2)), Image.fromarray(COLOUR)
    exif = Image.Exif()
    exif[0x0112] = 6
    for options, expected in (({}, ramp), ({"exif": exif}, np.rot90(ramp, k=-1))):
        content = stored(photograph, "MPO", save_all=True, append_images=[preview], **options)
        with Image.open(io.BytesIO(content)) as image:
            assert (image.format, image.n_frames) == ("MPO", 2)
        picture = read(content)
        assert (picture.format, picture.mode, picture.num_bits) == ("JPEG", "RGB", 8)
        assert np.abs(picture.pixels[..., 0].astype(int) - expected).mean() < 4


def test_modes_that_are_no_pictures_are_refused() -> None:
    with pytest.raises(DataError, match="is of mode LAB: expected grey or colours"):
        read(stored(Image.frombytes("LAB", (9, 8), COLOUR.tobytes()), "TIFF"))


def test_pictures_that_would_fill_the_memory_are_refused_by_their_header() -> None:
    side = int(MOST_PIXELS**0.5)
    for width, height in ((side + 1, side), (60_000, 60_000)):
        header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        small = png(GREY, 8, 0)
        bomb = small[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + small[33:]
        with pytest.raises(DataError, match="a decompression bomb"):
            read(bomb)
