"""Files that aren't checkpoints: whatever torch's reader makes of them ends in one line, and nothing in them runs."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from vaebm.checkpoint import CheckpointError, read_published_energy, read_published_vae, read_torch_file

READERS = [read_torch_file, read_published_vae, lambda path: read_published_energy(path, (3, 32, 32))]


def assert_refused(path: Path, *words: str) -> None:
    for reader in READERS:
        with pytest.raises(CheckpointError) as caught:
            reader(path)
        line = str(caught.value)
        assert "\n" not in line
        assert len(line) < 500
        for word in (str(path), *words):
            assert word in line
        assert "weights_only" not in line


@pytest.mark.parametrize("first", "tsauebqR.(}]0123KBXc\x80\x00")
def test_a_text_file(first: str, tmp_path: Path) -> None:
    path = tmp_path / "text.pt"
    for rest in ("", "\n", "ome words of a text\nof two lines\n", "e" * 100, "." * 3, "\n." * 3):
        path.write_bytes((first + rest).encode("latin-1"))
        for reader in READERS:
            with pytest.raises(CheckpointError) as caught:
                reader(path)
            assert "\n" not in str(caught.value)


def test_random_bytes_and_pickles_with_changed_bytes(tmp_path: Path) -> None:
    path, chance = tmp_path / "noise.pt", random.Random(0)
    torch.save({"state_dict": {"a": torch.ones(3)}}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for _ in range(150):
        changed = bytearray(whole)
        for _ in range(3):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        for content in (bytes(changed), chance.randbytes(60), b"\x80\x02" + chance.randbytes(60)):
            path.write_bytes(content)
            with pytest.raises(CheckpointError):
                read_published_vae(path)


def test_a_damaged_archive(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"weight": torch.arange(1000.0)}, path)
    whole = path.read_bytes()
    place = whole.index(torch.arange(1000.0).numpy().tobytes())
    for at in (place + 8, whole.index(b"PK\x01\x02") + 10, whole.index(b"PK\x01\x02") + 20, 10, len(whole) - 10):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        # Some bytes of an archive say nothing of its content.
        with contextlib.suppress(CheckpointError):
            read_torch_file(path)
    path.write_bytes(whole[: place + 8] + b"\xff" + whole[place + 9 :])
    assert_refused(path, "is damaged")
    for length in (3, 100, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:length])
        assert_refused(path, "cannot read")


def test_an_encrypted_archive(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"weight": torch.arange(10.0)}, path)
    changed = bytearray(path.read_bytes())
    # The bit that says so, in the header of each entry and in the list of them.
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = changed.find(mark)
        while place >= 0:
            changed[place + offset] |= 1
            place = changed.find(mark, place + 1)
    path.write_bytes(changed)
    assert_refused(path, "it is encrypted")


def test_archives_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "archive.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("text.txt", "words")
    assert_refused(path, "cannot read")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 10**6)
    assert_refused(path, "is compressed")
    (tmp_path / "text.txt").write_text("words")
    with tarfile.open(path, "w") as tar:
        tar.add(tmp_path / "text.txt", "text.txt")
    assert_refused(path, "cannot read")


def test_what_is_no_file(tmp_path: Path) -> None:
    assert_refused(tmp_path / "missing.pt", "there is no file")
    assert_refused(tmp_path, "there is no file")
    with pytest.raises(CheckpointError):
        read_torch_file("a" * 5000)


class Trap:
    """Says what to run when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch trapped",))


def test_nothing_in_a_file_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "trap.pt"
    for is_zip in (True, False):
        torch.save({"weight": Trap()}, path, _use_new_zipfile_serialization=is_zip)
        assert_refused(path, "it holds posix.system, which isn't executed")
    path.write_bytes(pickle.dumps(Trap()))
    assert_refused(path, "cannot read")
    assert not Path("trapped").exists()


def test_named_tensors_only(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"weight": torch.ones(2)}, path)
    assert torch.equal(read_torch_file(path)["weight"], torch.ones(2))
    for content in ({3: torch.ones(1)}, {"weight": 1}, [torch.ones(1)]):
        torch.save(content, path)
        with pytest.raises(CheckpointError, match="holds no tensors by name"):
            read_torch_file(path)


def test_a_tensor_larger_than_what_is_stored(tmp_path: Path) -> None:
    class Larger:
        def __reduce__(self) -> tuple[Any, ...]:
            sizes = (
                torch.storage.TypedStorage(4, dtype=torch.float32, _internal=True),
                0,
                (10**6, 10**6),
                (10**6, 1),
                False,
                {},
            )
            return (torch._utils._rebuild_tensor_v2, sizes)

    path = tmp_path / "large.pt"
    for is_zip in (True, False):
        torch.save({"state_dict": {"weight": Larger()}, "model": Larger()}, path, _use_new_zipfile_serialization=is_zip)
        assert_refused(path, "cannot read")
