"""Parquet files as the hub has them, and names of the hub."""

import io
import json
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaebm.data import DataError, Preprocessing, inspect_source, load_images, load_splits

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

GREY = np.random.default_rng(0).integers(0, 256, (40, 8, 9), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def data_set(indices: range) -> "datasets.Dataset":
    """One as it lies on the hub: pictures and named classes."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dog", "ant"])})
    rows = {"image": [Image.fromarray(GREY[index]) for index in indices], "label": [index % 2 for index in indices]}
    return datasets.Dataset.from_dict(rows, features=features)


def test_a_parquet_file_of_the_hub(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    data_set(range(40)).to_parquet(str(path))
    images = load_images(str(path))
    np.testing.assert_array_equal(images.images[:, 0], GREY)
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1] * 20
    assert images.paths is not None
    assert images.paths[3] == f"{path}[3]"
    assert [len(part) for part in load_splits(str(path))] == [25, 3, 6, 6]
    assert dict(inspect_source(str(path)).labels) == {"dog": 20, "ant": 20}


def test_a_folder_of_parquet_files_with_a_test_part(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number, indices in enumerate((range(12), range(12, 24))):
        data_set(indices).to_parquet(str(tmp_path / "data" / f"train-0000{number}-of-00002.parquet"))
    data_set(range(24, 40)).to_parquet(str(tmp_path / "data" / "test-00000-of-00001.parquet"))
    splits = load_splits(str(tmp_path))
    assert [len(part) for part in splits] == [18, 2, 4, 16]
    np.testing.assert_array_equal(splits.test.images[:, 0], GREY[24:])


def test_a_stray_table_beside_pictures_is_left_out(tmp_path: Path) -> None:
    data_set(range(12)).to_parquet(str(tmp_path / "stray.parquet"))
    (tmp_path / "0.png").write_bytes(png(GREY[0]))
    assert load_images(str(tmp_path)).paths == (str(tmp_path / "0.png"),)


@pytest.mark.parametrize("words", [False, True])
def test_plain_bytes_and_words_as_labels(tmp_path: Path, words: bool) -> None:
    labels = [("bee", "ant")[index % 2] if words else index % 2 for index in range(40)]
    table = pa.table({"picture": [png(pixels) for pixels in GREY], "class": labels, "name": ["x"] * 40})
    pq.write_table(table, tmp_path / "rows.parquet")
    images = load_images(str(tmp_path / "rows.parquet"), preprocessing=Preprocessing((8, 8)))
    assert images.shape == (1, 8, 8)
    assert images.labels is not None
    assert images.labels.tolist() == ([1, 0] if words else [0, 1]) * 20


def test_rows_that_hold_no_picture_are_skipped(tmp_path: Path) -> None:
    rows = [{"bytes": png(GREY[0]), "path": None}, {"bytes": None, "path": "x.png"}, {"bytes": b"text", "path": None}]
    pq.write_table(pa.table({"image": rows, "label": [5, 6, 7]}), tmp_path / "rows.parquet")
    images = load_images(str(tmp_path / "rows.parquet"))
    assert [(skipped.path[-3:], skipped.reason[:20]) for skipped in images.skipped] == [
        ("[1]", "holds no bytes: expe"),
        ("[2]", "is not an image, wha"),
    ]
    assert images.labels is not None
    assert images.labels.tolist() == [5]


def test_tables_without_pictures_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"has no column of pictures, but a \(int64\), b \(string\)"):
        load_images(str(tmp_path / "rows.parquet"))
    pq.write_table(pa.table({"a": [b"x"], "b": [b"y"]}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="several columns of pictures, a, b: expected one named image"):
        load_images(str(tmp_path / "rows.parquet"))


@pytest.mark.parametrize(
    "stored",
    [
        b"{",
        b"\xff",
        b"null",
        b'{"info": null}',
        b'{"info": {"features": [1]}}',
        b'{"info": {"features": {"label": 3}}}',
    ],
)
def test_what_the_hub_stored_beside_the_columns_may_be_damaged(tmp_path: Path, stored: bytes) -> None:
    table = pa.table({"image": [png(pixels) for pixels in GREY], "label": [index % 2 for index in range(40)]})
    pq.write_table(table.replace_schema_metadata({b"huggingface": stored}), tmp_path / "rows.parquet")
    assert dict(inspect_source(str(tmp_path / "rows.parquet")).labels) == {"0": 20, "1": 20}


@pytest.mark.parametrize("names", [["dog", "ant"], None, "dog", [1, 2, 3]])
def test_names_that_are_not_those_of_the_numbers_are_dropped(tmp_path: Path, names: object) -> None:
    features = {"label": {"_type": "ClassLabel", "names": names}}
    stored = json.dumps({"info": {"features": features}}).encode()
    table = pa.table({"image": [png(pixels) for pixels in GREY], "label": [index % 3 for index in range(40)]})
    pq.write_table(table.replace_schema_metadata({b"huggingface": stored}), tmp_path / "rows.parquet")
    assert dict(inspect_source(str(tmp_path / "rows.parquet")).labels) == {"0": 14, "1": 13, "2": 13}


def test_numbers_too_large_for_classes_are_no_labels(tmp_path: Path) -> None:
    table = pa.table({"image": [png(GREY[0])], "label": pa.array([2**64 - 1], pa.uint64())})
    pq.write_table(table, tmp_path / "rows.parquet")
    assert load_images(str(tmp_path / "rows.parquet")).labels is None


@pytest.mark.parametrize("compression", ["snappy", "zstd", "none"])
def test_a_file_damaged_anywhere_is_one_line_or_read(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "rows.parquet"
    rows = {"image": [png(pixels) for pixels in GREY], "label": [f"class {index % 2}" for index in range(40)]}
    pq.write_table(pa.table(rows), path, compression=compression)
    whole = path.read_bytes()
    messages = []
    for place in range(4, len(whole) - 40, len(whole) // 40):
        path.write_bytes(whole[:place] + b"\xff" * 30 + whole[place + 30 :])
        try:
            load_images(str(path))
        except DataError as error:
            messages.append(str(error))
    assert all("\n" not in message and str(path) in message for message in messages)
    assert any("cannot be read" in message and "expected a parquet file" in message for message in messages)


def test_pages_that_can_not_be_decoded_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"image": [png(pixels) for pixels in GREY]}), path, use_dictionary=False)
    content = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    content[start + 40 : start + 1000] = b"\xff" * 960
    path.write_bytes(content)
    for read in (load_images, load_splits, inspect_source):
        with pytest.raises(DataError, match=r"rows\.parquet: cannot be read \(.*\): expected a parquet file"):
            read(str(path))


def test_a_name_of_the_hub_without_a_network_is_one_line_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", endpoint)
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    with pytest.raises(
        DataError, match=r"^nobody/nothing: there is no such file or folder, and the hub can't be"
    ) as one:
        load_splits("nobody/nothing")
    with pytest.raises(DataError, match=r"^nobody/nothing: the hub can't be reached"):
        load_images("hub:nobody/nothing")
    assert "\n" not in str(one.value)
    assert time.monotonic() - began < 20
    # Two words with a stroke are a path where the first is a folder.
    (tmp_path / "nobody").mkdir()
    with pytest.raises(DataError, match=r"nobody/nothing: there is no such file or folder: check the path"):
        load_splits("nobody/nothing")


@pytest.mark.parametrize(("module", "source"), [("pyarrow.parquet", "rows.parquet"), ("datasets", "hub:owner/name")])
def test_without_the_extra_its_name_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"image": [png(GREY[0])]}), "rows.parquet")
    # What Python does where a package isn't installed.
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=r"need the extra 'hub': pip install 'vaebm\[hub\]'$"):
        load_images(source)
