"""``vaebm data``: told of a folder as people have them, by a process of its own."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commandline import Cli, assert_user_error
from PIL import Image
from small_hub import serve

from forking import Outcome, environment, run_forked

RANDOM = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photographs of several sizes and kinds, a copy, a text and half a picture."""
    place = tmp_path / "Fotos für morgen" / "日本"
    for index in range(30):
        (place / ("ant", "bee")[index % 2]).mkdir(parents=True, exist_ok=True)
        height, width = (40, 60) if index % 3 else (50, 50)
        pixels = RANDOM.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
        image = image.convert(("RGB", "L", "P", "RGBA", "LA")[index % 5])
        image.save(place / ("ant", "bee")[index % 2] / f"bild {index}.png")
    copied = (place / "ant" / "bild 0.png").read_bytes()
    (place / "bee" / "kopie.png").write_bytes(copied)
    (place / "bee" / "text.png").write_text("no picture")
    (place / "bee" / "halb.png").write_bytes(copied[: len(copied) // 2])
    return place


def test_a_folder_as_people_have_them(folder: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    words = ("--image-size", "24x32", "--channels", 3, "--fit", "crop", "--sheet", sheet)
    outcome = run_forked("data", folder, *words)
    assert (outcome.code, outcome.errors) == (0, "")
    for line in (
        f"{folder}: 31 pictures\n",
        "  sizes       40x60 (20), 50x50 (11) (height x width)\n",
        "  labels      bee (16), ant (15)\n",
        "  copies      1, such as bee/kopie.png = ant/bild 0.png\n",
        "  unreadable  2, left out\n",
        "              bee/text.png: is not an image",
        "              bee/halb.png: cannot be read",
        "  split       19 training, 2 selection, 5 calibration, 5 test (no p-value below 0.17)\n",
        "  resizing    to 24x32: 31 shrink (1.67 times at most), 31 are cut to other proportions",
        f"train on them: vaebm train --data '{folder}' --image-size 24x32 --channels 3 --fit crop\n",
        f"{sheet}: 31 pictures as networks will see them\n",
    ):
        assert line in outcome.output
    with Image.open(sheet) as drawn:
        # Eight columns and four rows of pictures of 24x32, four times as large, with frames of two pixels.
        assert drawn.size == (8 * (4 * 32 + 2) + 2, 4 * (4 * 24 + 2) + 2)
        assert np.asarray(drawn.convert("L")).std() > 20


def test_what_is_missing_is_noted(folder: Path, cli: Cli) -> None:
    output = cli("data", folder).output
    assert re.search(r"note +sizes are mixed: state the one that they are brought to, --image-size 32x48\n", output)
    assert re.search(r"note +grey and colour are mixed", output)
    assert output.endswith(" --image-size 32x48 --channels 3\n")


def test_names_and_values_too_few(cli: Cli, tmp_path: Path) -> None:
    output = cli("data", "digits").output
    assert "digits: 1,797 pictures\n" in output
    assert "split       1,097 training, 200 selection, 200 calibration, 300 test" in output
    assert output.endswith("train on them: vaebm train --data digits\n")
    np.save(tmp_path / "few.npy", np.zeros((5, 8, 8), np.uint8))
    output = cli("data", tmp_path / "few.npy").output
    assert "split       holds 5 images: expected a data set, of at least 12" in output
    assert "train on them" not in output


def test_bad_options_get_one_line(folder: Path, cli: Cli, tmp_path: Path) -> None:
    for words, message in (
        (("nowhere",), "unknown data set 'nowhere'"),
        ((tmp_path / "nowhere",), "there is no such file or folder"),
        ((folder, "--strict"), "halb.png: cannot be read"),
        ((folder, "--image-size", "7"), "'7' is no size from 8 to 128"),
        ((folder, "--image-size", "32x"), "is no size"),
        ((folder, "--value-range", "5,5"), "is no range"),
        ((folder, "--value-range", "0,nan"), "is no range"),
        ((folder, "--value-range", "0"), "is no range"),
        ((folder, "--channels", "2"), "invalid choice"),
        ((folder, "--chanels", "1"), "did you mean --channels?"),
        ((folder, "--sheet", tmp_path / "sheet.jpg"), "expected a .png file"),
        ((folder, "--sheet", tmp_path / "nowhere" / "sheet.png"), "there is no folder"),
    ):
        assert_user_error(cli("data", *words), message)
    outcome = cli("data", folder, "--sheet", tmp_path / "sheet.png")
    assert outcome.code == 2
    assert "no sheet: the pictures have several sizes or channels: state --image-size" in outcome.errors
    assert not (tmp_path / "sheet.png").exists()


def test_a_sheet_takes_the_place_of_no_picture(folder: Path, cli: Cli, tmp_path: Path) -> None:
    picture = folder / "ant" / "bild 0.png"
    before = picture.read_bytes()
    (tmp_path / "linked").symlink_to(folder)
    words = ("--image-size", "16", "--channels", 1, "--sheet")
    for source, sheet in (
        (picture, picture),
        (folder, picture),
        (folder.parent, picture),
        (tmp_path / "linked", picture),
        (folder, tmp_path / "linked" / "ant" / "bild 0.png"),
        (folder.relative_to(tmp_path), folder / "bee" / ".." / "ant" / "bild 0.png"),
    ):
        assert_user_error(
            cli("data", source, *words, sheet),
            f"--sheet {sheet} would replace a file of the source",
            "choose another name",
        )
        assert picture.read_bytes() == before
    # A sheet of its own is replaced, wherever it is; a new one may lie among the pictures.
    for sheet in (tmp_path / "sheet.png", tmp_path / "sheet.png", folder / "sheet.png"):
        assert cli("data", folder, *words, sheet).code == 0


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no folder that nobody may write to")
def test_a_sheet_that_can_not_be_written_is_refused_before_pictures_are_read(cli: Cli) -> None:
    # There is no such source either, which is told later.
    assert_user_error(cli("data", "nowhere", "--sheet", "/proc/self/sheet.png"), "/proc/self can't be written to")


@pytest.mark.parametrize("kind", ["<U1", "datetime64[s]", "complex64", "bool"])
def test_arrays_of_other_types_get_one_line(cli: Cli, kind: str) -> None:
    np.save("other.npy", np.zeros((24, 8, 8), kind))
    for words in (("data", "other.npy"), ("train", "--data", "other.npy")):
        assert_user_error(cli(*words), "other.npy: holds", "expected integers or floating point")


@pytest.mark.parametrize(
    "values", ["value_range: [1]", "value_range: [0, 1, 2]", "image_size: [8]", "image_size: [8, 8, 8]"]
)
def test_pairs_of_another_length_get_one_line(cli: Cli, values: str) -> None:
    Path("bad.yaml").write_text(f"data: {{{values}}}")
    assert_user_error(cli("train", "mnist", "--config", "bad.yaml"), "data: ", "expected two numbers")


def test_a_data_set_of_the_hub_is_fetched_and_then_taken_from_the_cache(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    table = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    files = {"README.md": b"# shapes"}
    for part, count in (("train", 40), ("test", 10)):
        rows = []
        for pixels in RANDOM.integers(0, 256, (count, 12, 12), dtype=np.uint8):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            rows.append({"bytes": buffer.getvalue(), "path": None})
        parquet.write_table(table.table({"image": rows, "label": [i % 2 for i in range(count)]}), tmp_path / part)
        files[f"data/{part}-00000-of-00001.parquet"] = (tmp_path / part).read_bytes()
    with serve("own/shapes", files) as address:
        there = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache")}
        outcome = two_in_a_process("own/shapes", "own/nothing", **there)
        assert outcome.output.endswith("\n0 2\n")
        assert "own/shapes: 50 pictures, 10 of them test pictures of its own\n" in outcome.output
        assert "  labels      0 (25), 1 (25)\n" in outcome.output
        assert "  split       31 training, 3 selection, 6 calibration, 10 test" in outcome.output
        assert outcome.errors.count("\n") == 1
        assert outcome.errors.startswith("vaebm: ")
        assert "no such file or folder" in outcome.errors
        assert "isn't there, or is private" in outcome.errors
    # The hub is gone now.
    outcome = two_in_a_process("hub:own/shapes", "hub:own/other", **there)
    assert outcome.output.startswith("hub:own/shapes: 50 pictures")
    assert outcome.output.endswith("\n0 2\n")
    *_, last = outcome.errors.splitlines()
    assert last.startswith("vaebm: ")
    assert "the hub can't be reached" in last


def two_in_a_process(first: str, second: str, **variables: str) -> Outcome:
    """Runs ``vaebm data`` on one source and on the other, and shows both exit codes in the end."""
    code = f"from vaebm.cli.main import run; print(run(['data', {first!r}]), run(['data', {second!r}]))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment(**variables)
    )
    return Outcome(done.returncode, done.stdout, done.stderr)
