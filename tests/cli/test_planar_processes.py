"""``vaebm train ring`` as two processes: the weights of one, one run folder, one set of words."""

from __future__ import annotations

from pathlib import Path

from commandline import Cli
from safetensors.torch import load_file
from short_planar import short_planar, stop_after_an_iteration

from forking import run_group
from vaebm.checkpoint import RunFolder


def assert_close(one: Path, two: Path) -> None:
    left, right = (load_file(path / "model" / "model.safetensors") for path in (one, two))
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert (right[name] - value).abs().max() < 1e-5, name


def test_two_processes_train_what_one_does_and_go_on_with_its_run(cli: Cli) -> None:
    words = ["train", "ring", *short_planar(energy__num_iterations="20")]
    assert cli(*words, "--output", "one").code == 0
    first, second = run_group(2, "vaebm", *words, "--output", "two")
    assert (first.code, second.code) == (0, 0), first.errors
    assert first.output.count("run folder two, cpu, fp32, 1 threads, 2 processes") == 1
    assert first.output == Path("two/log.txt").read_text()
    assert second.output == ""
    assert_close(Path("one"), Path("two"))
    one, two = (RunFolder(Path(name)).read_metrics() for name in ("one", "two"))
    assert [(row["stage"], row["iteration"]) for row in two] == [(row["stage"], row["iteration"]) for row in one]
    assert {len(row) for row in two} == {len(row) for row in one}
    assert stop_after_an_iteration([*words[1:], "--output", "part"])
    first, second = run_group(2, "vaebm", "train", "--resume", "part")
    assert (first.code, second.code) == (0, 0), first.errors
    assert first.output.count("the run began with 1 processes, now 2") == 1
    assert second.output == ""
    assert_close(Path("one"), Path("part"))
