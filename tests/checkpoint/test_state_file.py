"""A training state comes back to the bit, or is refused; code in it never runs."""

from __future__ import annotations

import collections
import enum
import hashlib
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vaebm.checkpoint import CheckpointError
from vaebm.checkpoint.pages import MAPS, let_go
from vaebm.checkpoint.state_file import LARGE, SEAL, load_state, save_state


class Stage(enum.IntEnum):
    VAE = 1


def assert_refused(path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"state\.pt") as caught:
        load_state(path)
    assert "\n" not in str(caught.value)


def test_round_trip_of_a_real_training_state(tmp_path: Path) -> None:
    network = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters(), lr=np.float64(1e-3))
    network(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    generator = torch.Generator().manual_seed(9)
    state = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
        "buffer": {"noise": torch.randn(5, 2, dtype=torch.float64), "uses": torch.arange(5), "full": True},
        "step": 12,
        "best": (float("inf"), None, "energy"),
        "stage": Stage.VAE,
        "history": [0.1, [0.2]],
        "parameter": network.weight,
    }
    save_state(tmp_path / "state.pt", state)
    loaded = load_state(tmp_path / "state.pt")
    assert list(loaded) == list(state)
    assert torch.equal(loaded["buffer"]["noise"], state["buffer"]["noise"])
    assert (loaded["step"], loaded["best"], loaded["stage"]) == (12, (float("inf"), None, "energy"), 1)
    assert loaded["history"] == [0.1, [0.2]]
    assert type(loaded["parameter"]) is torch.Tensor
    other = nn.Linear(3, 2)
    other.load_state_dict(loaded["network"])
    other_optimizer = torch.optim.Adam(other.parameters(), lr=1.0)
    other_optimizer.load_state_dict(loaded["optimizer"])
    expected = torch.randn(3, generator=generator)
    generator.set_state(loaded["generator"])
    assert torch.equal(torch.randn(3, generator=generator), expected)
    for net, opt in ((network, optimizer), (other, other_optimizer)):
        opt.zero_grad()
        net(torch.ones(4, 3)).square().sum().backward()
        opt.step()
    assert torch.equal(network.weight, other.weight)


@pytest.mark.skipif(not MAPS.exists(), reason="reads /proc")
def test_only_large_tensors_keep_the_file_and_only_while_they_are_there(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state(path, {"small": torch.ones(10), "nested": [{"more": torch.zeros(3)}], "pair": (1, torch.ones(2))})
    small = load_state(path)
    assert str(path) not in MAPS.read_text()
    assert torch.equal(small["nested"][0]["more"], torch.zeros(3))
    assert small["pair"][0] == 1
    save_state(path, {"large": torch.zeros(LARGE + 1, dtype=torch.uint8), "small": torch.ones(10)})
    state = load_state(path)
    assert str(path) in MAPS.read_text()
    del state["large"]
    assert str(path) not in MAPS.read_text()
    assert torch.equal(state["small"], torch.ones(10))


def test_only_pages_of_shared_files_are_let_go(tmp_path: Path) -> None:
    memory = torch.arange(100_000)
    assert not let_go(memoryview(memory.numpy()).cast("B"))
    assert torch.equal(memory, torch.arange(100_000))
    path = str(tmp_path / "rows.bin")
    shared = torch.from_file(path, shared=True, size=100_000, dtype=torch.int64)
    shared.copy_(memory)
    assert let_go(memoryview(shared.numpy()).cast("B")) == MAPS.exists()
    assert torch.equal(shared, memory)
    private = torch.from_file(path, shared=False, size=100_000, dtype=torch.int64)
    private[50_000] = -1
    assert not let_go(memoryview(private.numpy()).cast("B"))
    assert private[50_000] == -1


def test_plain_torch_reads_the_file_too(tmp_path: Path) -> None:
    save_state(tmp_path / "state.pt", {"a": torch.arange(3)})
    assert torch.load(tmp_path / "state.pt", weights_only=True)["a"].tolist() == [0, 1, 2]


def test_a_view_does_not_drag_its_storage_along(tmp_path: Path) -> None:
    save_state(tmp_path / "state.pt", {"row": torch.zeros(1000, 1000)[3]})
    assert (tmp_path / "state.pt").stat().st_size < 10_000
    assert load_state(tmp_path / "state.pt")["row"].shape == (1000,)


@pytest.mark.parametrize("value", [{1}, np.int64(1), np.zeros(2), b"bytes", object(), 1j, Path("a"), torch.float32])
def test_what_could_not_be_read_back_is_refused_at_once(tmp_path: Path, value: object) -> None:
    save_state(tmp_path / "state.pt", {"old": 1})
    with pytest.raises(TypeError, match=r"state\['a'\]\[1\] is a " + type(value).__name__):
        save_state(tmp_path / "state.pt", collections.OrderedDict(a=[0, value]))
    assert load_state(tmp_path / "state.pt") == {"old": 1}


def test_any_altered_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state(path, {"weights": torch.arange(40.0), "step": 3})
    data = path.read_bytes()
    with open(path, "r+b", buffering=0) as file:
        for position, byte in enumerate(data):
            for value in (byte ^ 1, byte):
                file.seek(position)
                file.write(bytes([value]))
                if value != byte:
                    assert_refused(path)
    assert load_state(path)["step"] == 3


def test_truncated_grown_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    assert_refused(path)
    save_state(path, {"weights": torch.arange(40.0)})
    data = path.read_bytes()
    for damaged in (b"", data[:1], data[:100], data[:-1], data[: -len(SEAL) - 65], data + b"\n", b"\0" * len(data)):
        path.write_bytes(damaged)
        assert_refused(path)


class Malice:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.marker,)


def test_code_in_a_sealed_file_never_runs(tmp_path: Path) -> None:
    malice = Malice(tmp_path / "marker")
    saved = io.BytesIO()
    torch.save({"a": malice}, saved)
    listed = io.BytesIO()
    torch.save([1, 2], listed)
    for data in (pickle.dumps(malice, protocol=2), saved.getvalue(), listed.getvalue(), b""):
        seal = SEAL + hashlib.sha256(data).hexdigest().encode() + b"\n"
        (tmp_path / "state.pt").write_bytes(data + seal)
        assert_refused(tmp_path / "state.pt")
    assert not (tmp_path / "marker").exists()
    pickle.loads(pickle.dumps(malice))
    assert (tmp_path / "marker").exists()
