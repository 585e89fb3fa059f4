import numpy as np
import pytest
from sklearn.datasets import load_digits

from vaebm.plots import chain_frames, image_grid


def chain(num_steps: int = 6, num_chains: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ends = load_digits().images[:num_chains, None] * 15.9
    fade = np.linspace(0, 1, num_steps)[:, None, None, None, None]
    energies = np.linspace(8, 1, num_steps)[:, None] + np.linspace(-1, 1, num_chains)
    return (fade * ends).astype(np.uint8), energies, np.arange(num_steps) * 3


def test_frames_show_the_images_and_a_growing_curve() -> None:
    images, energies, steps = chain()
    frames = chain_frames(images, energies, steps)
    assert len(frames) == 6
    assert {frame.shape for frame in frames} == {frames[0].shape}
    scale = 260 // (2 * 10)
    for frame, batch in zip(frames, images, strict=True):
        grid = image_grid(batch, 3, scale=scale)
        top = (frame.shape[0] - grid.shape[0]) // 2
        assert np.array_equal(frame[top : top + grid.shape[0], : grid.shape[1]], grid)
    panels = [frame[:, -360:] for frame in frames]
    line = [int((panel == (0x0B, 0x7A, 0x75)).all(axis=2).sum()) for panel in panels]
    assert line == sorted(line)
    assert line[-1] > 2 * line[0]
    assert len({panel.tobytes() for panel in panels}) == 6


def test_frames_are_the_same_each_time() -> None:
    first, second = chain_frames(*chain()), chain_frames(*chain())
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_diverged_chain_is_drawn_with_a_gap() -> None:
    images, energies, steps = chain()
    energies[3:] = np.inf
    frames = chain_frames(images, energies, steps)
    assert len(frames) == 6
    assert not np.array_equal(frames[2], frames[5])


def test_shapes_must_belong_together() -> None:
    images, energies, steps = chain()
    with pytest.raises(ValueError, match=r"energies must be \(6, 5\)"):
        chain_frames(images, energies[:, :4], steps)
    with pytest.raises(ValueError, match="5 axes"):
        chain_frames(images[0], energies, steps)
