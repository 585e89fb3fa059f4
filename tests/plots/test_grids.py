import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from vaebm.plots import gif_bytes, image_grid, png_bytes


def digits(count: int) -> np.ndarray:
    return (load_digits().images[:count, None] * 15.9).astype(np.uint8)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_grid_holds_each_image_in_its_place() -> None:
    images = digits(5)
    grid = image_grid(images, columns=3, padding=2, scale=3, background=77)
    assert grid.shape == (2 * 26 + 2, 3 * 26 + 2, 3)
    for index, image in enumerate(images):
        top, left = 2 + index // 3 * 26, 2 + index % 3 * 26
        tile = grid[top : top + 24, left : left + 24]
        assert np.array_equal(tile[1::3, 1::3], np.broadcast_to(image[0][..., None], (8, 8, 3)))
        assert np.array_equal(tile[0::3, 0::3], tile[2::3, 2::3])
    assert (grid[28:52, 54:78] == 77).all()
    assert (grid[:2] == 77).all()


def test_grid_keeps_colours_apart() -> None:
    images = np.concatenate([digits(2), np.zeros_like(digits(2)), 255 - digits(2)], axis=1)
    grid = image_grid(images, columns=8, padding=0)
    assert grid.shape == (8, 16, 3)
    assert np.array_equal(grid[:, 8:], images[1].transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("images", "columns", "message"),
    [
        (np.zeros((2, 1, 8, 8)), 2, "must be uint8, got float64"),
        (np.zeros((2, 8, 8), np.uint8), 2, "4 axes"),
        (np.zeros((2, 2, 8, 8), np.uint8), 2, "1 or 3"),
        (np.zeros((0, 1, 8, 8), np.uint8), 2, "empty"),
        (np.zeros((2, 1, 8, 8), np.uint8), 0, "at least 1"),
    ],
)
def test_grid_refuses_what_it_cannot_draw(images: np.ndarray, columns: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_grid(images, columns)


def test_png_returns_the_same_pixels() -> None:
    grey = image_grid(digits(6), 3)
    assert opened(png_bytes(grey)).mode == "L"
    assert np.array_equal(np.asarray(opened(png_bytes(grey)).convert("RGB")), grey)
    colour = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(opened(png_bytes(colour))), colour)
    with pytest.raises(ValueError, match="a picture must be uint8"):
        png_bytes(np.zeros((3, 3, 4), np.uint8))


def test_grey_gif_keeps_frames_levels_and_times() -> None:
    frames = [image_grid(digits(4 + index)[index:], 2) for index in range(3)]
    film = opened(gif_bytes(frames, 120, last_milliseconds=900))
    assert (film.n_frames, film.info["loop"]) == (3, 0)
    durations = []
    for index, frame in enumerate(frames):
        film.seek(index)
        durations.append(film.info["duration"])
        assert np.array_equal(np.asarray(film.convert("RGB")), frame)
    assert durations == [120, 120, 900]


def test_colour_gif_stays_close_to_its_frames() -> None:
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    frames = [np.stack(np.broadcast_arrays(ramp[:, None], 255 - ramp, np.uint8(60 * k)), -1) for k in range(4)]
    film = opened(gif_bytes(frames, 50))
    assert film.n_frames == 4
    for index, frame in enumerate(frames):
        film.seek(index)
        difference = np.abs(np.asarray(film.convert("RGB")).astype(int) - frame)
        assert difference.mean() < 16


def test_gif_refuses_frames_of_several_sizes() -> None:
    with pytest.raises(ValueError, match="one size"):
        gif_bytes([np.zeros((4, 4), np.uint8), np.zeros((5, 4), np.uint8)], 100)
    with pytest.raises(ValueError, match="one size"):
        gif_bytes([], 100)
