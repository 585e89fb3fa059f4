"""``vaebm import`` on the command line: what it says of a file that it takes, and of one that it doesn't."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from commandline import Cli, assert_user_error

import vaebm

FIXTURE = Path(__file__).parents[1] / "fixtures" / "published" / "cifar-small"


def test_a_known_data_set_needs_no_note(cli: Cli) -> None:
    found = cli("import", FIXTURE / "checkpoint.pt", "--energy", FIXTURE / "EBM.pth", "--output", "model")
    assert found.code == 0, found.errors
    assert found.output.startswith("model: images of 3x32x32")
    assert found.output.count("\n") == 1
    assert vaebm.load("model").image_shape == (3, 32, 32)


def test_of_an_unknown_data_set_the_defaults_are_named(cli: Cli) -> None:
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = torch.load(FIXTURE / "checkpoint.pt", weights_only=True)
    content["args"].dataset = "pictures"
    torch.save(content, "checkpoint.pt")
    found = cli("import", "checkpoint.pt", "--output", "model")
    assert found.code == 0, found.errors
    note, told = found.output.splitlines()
    assert note.startswith("note: the file names the data set 'pictures'")
    assert told.startswith("model: ")


def test_files_that_are_no_checkpoint_end_in_one_line(cli: Cli) -> None:
    for first in "tsauebqR":
        Path("text.pt").write_text(f"{first}ome text\nof two lines\n")
        assert_user_error(cli("import", "text.pt", "--output", "model"), "cannot read text.pt")
        energy = cli("import", FIXTURE / "checkpoint.pt", "--energy", "text.pt", "--output", "model")
        assert_user_error(energy, "cannot read text.pt")
    assert not Path("model").exists()
