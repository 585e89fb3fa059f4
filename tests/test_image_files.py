"""Published files of images become the arrays that benchmarks read."""

from __future__ import annotations

import gzip
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.chdir(tmp_path)
    return importlib.import_module("image_files")


def idx(array: Any) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def test_idx_files_packed_or_not(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    drawn, folder = np.random.default_rng(0), Path("published")
    folder.mkdir()
    images, labels = drawn.integers(0, 256, (7, 28, 28), dtype=np.uint8), np.arange(7, dtype=np.uint8)
    for split in ("train", "t10k"):
        (folder / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx(labels))
    script.main(["fashion", str(folder), "data"])
    assert "NOT those of the committed results" in capsys.readouterr().out
    with np.load("data/fashion.npz") as found:
        assert sorted(found.files) == sorted(script.PARTS)
        assert (found["train_x"] == images).all()
        assert (found["test_y"] == labels).all()


def test_planes_of_colours_become_pixels_in_their_order(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, folder = np.random.default_rng(0), Path("cifar-10-batches-bin")
    folder.mkdir()
    images = drawn.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    records = [bytes([number]) + image.transpose(2, 0, 1).tobytes() for number, image in enumerate(images)]
    names = [*script.CIFAR["train"], *script.CIFAR["test"]]
    for place, name in enumerate(names):
        (folder / name).write_bytes(b"".join(records[2 * place : 2 * place + 2]))
    found = script.of_cifar(folder)
    assert (found["train_x"] == images[:10]).all()
    assert (found["test_x"] == images[10:]).all()
    assert found["train_y"].tolist() == list(range(10))
    monkeypatch.setitem(script.SHA256, "cifar10", script.digest_of(found))
    assert script.write("cifar10", found, Path("data")).endswith("10 and 2 images, as in the committed results")


@pytest.mark.parametrize("content", [None, b"", b"cut short"])
def test_what_is_missing_or_damaged_is_one_line(
    content: bytes | None, script: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("here").mkdir()
    if content is not None:
        Path("here/data_batch_1.bin").write_bytes(content)
    code = importlib.import_module("endings").ended(lambda: script.main(["cifar10", "here", "data"]))
    (line,) = capsys.readouterr().err.splitlines()
    assert (code, "here/data_batch_1.bin" in line, "expected" in line) == (2, True, True)
    assert not Path("data").exists()
