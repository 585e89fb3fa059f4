"""JSON in which no number is lost."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from vaebm.checkpoint import CheckpointError, read_json
from vaebm.checkpoint.json_text import from_text, to_text


def test_non_finite_numbers_survive_at_any_depth() -> None:
    value = {"a": [math.nan, {"b": -math.inf}], "c": math.inf}
    text = to_text(value)
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    back = from_text(text)
    assert math.isnan(back["a"][0])
    assert back["a"][1] == {"b": -math.inf}
    assert back["c"] == math.inf


def test_arrays_tensors_and_paths_become_plain() -> None:
    value = {
        "float64": np.float64(0.1),
        "int64": np.int64(3),
        "scalar": torch.tensor(2.5),
        "diverged": torch.tensor([1.0, math.inf]),
        "matrix": np.eye(2, dtype=np.int32),
        "path": Path("a") / "b",
        "shape": torch.Size([1, 2]),
        7: True,
    }
    assert json.loads(to_text(value)) == {
        "float64": 0.1,
        "int64": 3,
        "scalar": 2.5,
        "diverged": [1.0, "inf"],
        "matrix": [[1, 0], [0, 1]],
        "path": str(Path("a") / "b"),
        "shape": [1, 2],
        "7": True,
    }


def test_floats_come_back_to_the_bit() -> None:
    numbers = torch.randn(100, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).exp().tolist()
    assert from_text(to_text(numbers)) == numbers


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes", [{"a": {1j}}]])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        to_text(value)


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1}}', b"\xff\xfe"])
def test_damaged_files_are_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.json is damaged") as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a\.json: No such file"):
        read_json(tmp_path / "a.json")
