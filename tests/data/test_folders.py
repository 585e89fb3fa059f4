from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaebm.data import DataError, load_images, load_splits

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (24, 8, 9), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (8, 9, 3), dtype=np.uint8)


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".tif", ".tiff"])
def test_lossless_kinds_give_their_pixels(tmp_path: Path, suffix: str) -> None:
    grey = load_images(str(write(tmp_path / f"grey{suffix}", GREY[0])))
    np.testing.assert_array_equal(grey.images, GREY[:1, None])
    assert grey.paths == (str(tmp_path / f"grey{suffix}"),)
    colour = load_images(str(write(tmp_path / f"colour{suffix}", COLOUR)))
    np.testing.assert_array_equal(colour.images[0], COLOUR.transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_kinds_come_near(tmp_path: Path, suffix: str) -> None:
    ramp = np.add.outer(np.arange(16), np.arange(16)).astype(np.uint8) * 8
    colour = load_images(str(write(tmp_path / f"colour{suffix}", np.stack([ramp] * 3, axis=2))))
    assert colour.shape == (3, 16, 16)
    assert np.abs(colour.images[0].astype(int) - ramp).mean() < 4


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    for index, name in enumerate(["b/2.png", "a/1.png", "c.png", "a/0.png", ".hidden/x.png", "b/.x.png"]):
        write(tmp_path / name, GREY[index])
    (tmp_path / "notes.txt").write_text("left out")
    images = load_images(str(tmp_path))
    assert images.paths == tuple(str(tmp_path / name) for name in ("a/0.png", "a/1.png", "b/2.png", "c.png"))
    np.testing.assert_array_equal(images.images[:, 0], GREY[[3, 1, 0, 2]])


def test_sub_folders_are_labels(tmp_path: Path) -> None:
    for index in range(24):
        write(tmp_path / ("cat", "ant", "bee")[index % 3] / f"{index}.png", GREY[index])
    splits = load_splits(str(tmp_path))
    assert [len(part) for part in splits] == [14, 2, 4, 4]
    seen = []
    for part in splits:
        assert part.labels is not None
        assert part.paths is not None
        for image, label, path in zip(part.images, part.labels, part.paths, strict=True):
            np.testing.assert_array_equal(image[0], GREY[int(Path(path).stem)])
            assert Path(path).parent.name == ("ant", "bee", "cat")[label]
            seen.append(path)
    assert len(set(seen)) == 24


def test_images_beside_sub_folders_have_no_labels(tmp_path: Path) -> None:
    for index in range(12):
        write(tmp_path / ("." if index else "cat") / f"{index}.png", GREY[index])
    assert load_splits(str(tmp_path)).training.labels is None


def test_train_and_test_folders_are_the_splits(tmp_path: Path) -> None:
    for index in range(12):
        write(tmp_path / "train" / ("bee", "cat")[index % 2] / f"{index}.png", GREY[index])
    for index in range(12, 16):
        write(tmp_path / "test" / ("ant", "cat")[index % 2] / f"{index}.png", GREY[index])
    splits = load_splits(str(tmp_path))
    assert [len(part) for part in splits] == [9, 1, 2, 4]
    assert splits.test.labels is not None
    assert splits.training.labels is not None
    assert splits.test.labels.tolist() == [0, 0, 2, 2]
    assert set(splits.training.labels.tolist()) == {1, 2}


def run_folder(path: Path) -> None:
    """One as training leaves it: a configuration, where it comes from, and pictures of what the model draws."""
    write(path / "samples" / "000100.png", COLOUR)
    for name in ("config.yaml", "provenance.json"):
        (path / name).write_text("{}")


def test_folders_of_runs_among_images_are_left_out(tmp_path: Path) -> None:
    for index in range(12):
        write(tmp_path / ("ant", "bee")[index % 2] / f"{index:02}.png", GREY[index])
    run_folder(tmp_path / "run")
    run_folder(tmp_path / "runs" / "first")
    images = load_images(str(tmp_path))
    assert images.paths is not None
    assert {Path(path).parent.name for path in images.paths} == {"ant", "bee"}
    splits = load_splits(str(tmp_path))
    assert sum(map(len, splits)) == 12
    assert splits.training.labels is not None
    assert set(splits.training.labels.tolist()) == {0, 1}
    # Who asks for the pictures of a run gets them; and either file alone makes no run.
    assert len(load_images(str(tmp_path / "run"))) == 1
    (tmp_path / "run" / "provenance.json").unlink()
    with pytest.raises(DataError, match=r"000100\.png: is 8x9 RGB"):
        load_images(str(tmp_path))


def test_folders_without_images_beside_train_and_test_change_nothing(tmp_path: Path) -> None:
    for index in range(16):
        write(tmp_path / ("train" if index < 12 else "test") / f"{index:02}.png", GREY[index])
    (tmp_path / "runs").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("text")
    run_folder(tmp_path / "runs" / "first")
    run_folder(tmp_path / "run")
    assert [len(part) for part in load_splits(str(tmp_path))] == [9, 1, 2, 4]
    write(tmp_path / "more" / "16.png", GREY[16])
    assert [len(part) for part in load_splits(str(tmp_path))] == [12, 1, 2, 2]


def test_a_test_folder_without_images_is_told(tmp_path: Path) -> None:
    for index in range(12):
        write(tmp_path / "train" / f"{index:02}.png", GREY[index])
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match="test: is empty: expected files"):
        load_splits(str(tmp_path))


def test_a_turned_photograph_is_set_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GREY[0]).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(load_images(str(tmp_path)).images[0, 0], np.rot90(GREY[0], k=-1))


def refuse(path: Path, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_images(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif"])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"image{suffix}", COLOUR)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    refuse(path, "cannot be read")
    for content in (b"", b"this is text, not an image", b"GIF89a" + bytes(20)):
        path.write_bytes(content)
        refuse(path, "is not an image, whatever its name")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_several_pictures_in_a_file_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    frames = [Image.fromarray(np.roll(COLOUR, shift, axis=0)) for shift in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    refuse(path, "holds 3 frames or pages")


def test_mixed_sizes_and_kinds_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.png", GREY[0])
    other = write(tmp_path / "b.png", GREY[1, :7])
    with pytest.raises(DataError, match=r"b\.png: is 7x9 grey, but .*a\.png is 8x9 grey"):
        load_images(str(tmp_path))
    write(other, COLOUR)
    with pytest.raises(DataError, match=r"b\.png: is 8x9 RGB, but .*a\.png is 8x9 grey"):
        load_splits(str(tmp_path))


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path, "is empty: expected files that end in .png")
    (tmp_path / "notes.txt").write_text("text")
    refuse(tmp_path, "holds 1 files and no image among them")
    with pytest.raises(DataError, match="no image among them"):
        load_splits(str(tmp_path))


def test_one_image_is_no_data_set(tmp_path: Path) -> None:
    path = write(tmp_path / "one.png", GREY[0])
    with pytest.raises(DataError, match="holds one image"):
        load_splits(str(path))
