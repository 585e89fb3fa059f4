"""Fingerprints differ exactly where the content differs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from vaebm.checkpoint import CheckpointError, file_sha256, tensors_sha256


def test_file_fingerprint_is_the_plain_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(data)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere: No such file"):
        file_sha256(tmp_path / "nowhere")


def test_every_kind_of_tensor_has_a_fingerprint_that_sees_each_change() -> None:
    weight = torch.arange(6.0)
    sets = [
        {"weight": weight},
        {"weights": weight},
        {"weight": weight.reshape(2, 3)},
        {"weight": weight.reshape(3, 2)},
        {"weight": weight.double()},
        {"weight": weight.half()},
        {"weight": weight.bfloat16()},
        {"weight": weight.int()},
        {"weight": weight + torch.tensor([0, 0, 0, 0, 0, 1e-6])},
        {"weight": weight, "bias": torch.tensor(0.0)},
        {"weight": weight, "bias": torch.tensor(-0.0)},
        {"weight": weight, "bias": torch.zeros(0)},
        {"weight": weight, "bias": torch.zeros(1, dtype=torch.bool)},
        {},
    ]
    assert len({tensors_sha256(tensors) for tensors in sets}) == len(sets)


def test_layout_order_and_gradients_do_not_matter() -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    twisted = weight.t().contiguous().t().requires_grad_()
    assert not twisted.is_contiguous()
    plain = {"a": weight, "b": torch.ones(1)}
    assert tensors_sha256(plain) == tensors_sha256({"b": torch.ones(1), "a": twisted})
