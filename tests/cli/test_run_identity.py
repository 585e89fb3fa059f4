"""A run goes on with its own checkpoint, images, VAE and records, and says so in one line where they are others."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import Cli, assert_user_error, tiny

import vaebm
from vaebm.checkpoint import CheckpointError, RunFolder
from vaebm.cli.request import run_path
from vaebm.cli.running import CHECKPOINT, EARLIER, Run, identity_of, with_way_on
from vaebm.cli.stages import train_stages
from vaebm.cli.stop import Interrupted, StopRequest
from vaebm.cli.train import begin, parse
from vaebm.recipes import RECIPES

SHORT = tiny(
    vae__num_iterations="3", energy__num_iterations="2", report_every="1", checkpoint_every="1",
    evaluation__num_samples="10", selection__num_samples="0",
)  # fmt: skip


def begun(*arguments: str) -> Run:
    request = parse(arguments)
    assert request is not None
    return begin(request, StopRequest(), arguments)


def stopped(folder: str, *options: str, after: int = 2) -> RunFolder:
    """A run that was stopped in its first stage, with two checkpoints."""
    run = begun("digits", "--output", folder, *SHORT, *options)
    record = run.record

    def record_and_stop(row: Any) -> None:
        record(row)
        if row["iteration"] == after:
            run.stop.name = "SIGTERM"

    run.record = record_and_stop  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        train_stages(run)
    run.close()
    return run.folder


@pytest.mark.parametrize("options", [("--seed", "1"), ("--vae.ema_decay", "0.5"), ("--vae.penalty", "0.1")])
def test_a_checkpoint_of_another_run_is_refused_and_the_one_before_offered(cli: Cli, options: tuple[str, str]) -> None:
    run, other = stopped("run"), stopped("other", *options)
    own = (run.checkpoints / f"{CHECKPOINT}.pt").read_bytes()
    shutil.copy(other.checkpoints / f"{CHECKPOINT}.pt", run.checkpoints)
    last, earlier = (run.checkpoints / f"{name}.pt" for name in (CHECKPOINT, EARLIER))
    words = (f"{last} is a checkpoint of another run, with another configuration, or config.yaml was changed",)
    assert_user_error(cli("train", "--resume", "run"), *words, f"to go on from there, mv {earlier} {last}")
    shutil.copy(last, earlier)
    assert_user_error(cli("train", "--resume", "run"), *words, "put the run's own back, or start anew")
    last.write_bytes(own)
    begun("--resume", "run").close()


def test_a_checkpoint_of_other_images_is_refused(cli: Cli) -> None:
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    np.savez("one.npz", images=images)
    np.savez("two.npz", images=255 - images)
    run, other = (stopped(name, "--data.source", f"{name}.npz") for name in ("one", "two"))
    shutil.copy(other.checkpoints / f"{CHECKPOINT}.pt", run.checkpoints)
    assert_user_error(cli("train", "--resume", "one"), "is a checkpoint of another run, with other images")


def without_identity(run: RunFolder, other: RunFolder, change: Callable[[dict[str, Any]], object]) -> None:
    """Puts the checkpoint of another run, as an older vaebm wrote it, into a run."""
    state = other.load_checkpoint(CHECKPOINT)
    assert state is not None
    del state["identity"]
    change(state)
    run.save_checkpoint(CHECKPOINT, state)


def test_of_an_older_checkpoint_what_does_not_fit_is_one_line(cli: Cli) -> None:
    run, other = stopped("run"), stopped("other", "--vae.ema_decay", "0.5")
    without_identity(run, other, lambda state: None)
    assert_user_error(cli("train", "--resume", "run"), "the checkpoint in run doesn't fit its config.yaml", "KeyError")
    without_identity(run, stopped("third"), lambda state: state.update(seconds=3))
    assert_user_error(cli("train", "--resume", "run"), "doesn't fit its config.yaml", "TypeError")
    without_identity(run, stopped("fourth"), lambda state: None)
    begun("--resume", "run").close()


def test_lengths_looks_and_places_are_no_other_run_and_1_is_1_point_0() -> None:
    one = RECIPES["digits"]()
    assert one == RECIPES["digits"]()
    changed = parse(["digits", "--energy.num_iterations", "7", "--evaluation.num_samples", "10", "--precision", "bf16"])
    other = parse(["digits", "--energy.l2", "0.5"])
    assert changed is not None
    assert other is not None
    assert identity_of(changed.config, {}) == identity_of(one, {}) != identity_of(other.config, {})
    whole = parse(["digits", "--energy.clip_norm", "200"])
    assert whole is not None
    object.__setattr__(one.energy, "clip_norm", 200)
    assert identity_of(one, {}) == identity_of(whole.config, {})


def test_a_run_that_was_let_go_on_with_other_images_goes_on_without_being_let_again(cli: Cli) -> None:
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    np.savez("images.npz", images=images)
    stopped("run", "--data.source", "images.npz")
    np.savez("images.npz", images=255 - images)
    assert_user_error(cli("train", "--resume", "run"), "--accept-changed-images")
    # Killed before it wrote a checkpoint with these images.
    begun("--resume", "run", "--accept-changed-images").close()
    begun("--resume", "run").close()


def test_a_given_vae_that_has_changed_before_the_first_checkpoint_is_refused(cli: Cli) -> None:
    assert cli("train", "digits", "--output", "vae", *SHORT).code == 0
    shutil.copytree("vae/model", "given")
    begun("digits", "--output", "run", "--initial_vae", "given", *SHORT).close()
    begun("--resume", "run").close()
    model = vaebm.load("given")
    with torch.no_grad():
        next(model.vae.parameters()).add_(1)
    shutil.rmtree("given")
    vaebm.save(model, "given")
    assert_user_error(
        cli("train", "--resume", "run"), "given isn't the VAE that the run began with any more", "put that back"
    )


def test_records_that_are_lost_are_told_and_counted_out(cli: Cli) -> None:
    run = stopped("run")
    whole = run.metrics.read_text().splitlines(keepends=True)
    run.metrics.write_text("".join(whole[:-1]))
    found = cli("train", "--resume", "run")
    assert found.code == 0, found.errors
    assert f"metrics.jsonl lacks 1 of {len(whole)} records before the checkpoint" in found.output
    state = run.load_checkpoint(CHECKPOINT)
    assert state is not None
    assert state["num_metrics"] == len(run.read_metrics())


def test_two_runs_of_one_second_get_folders_of_their_own() -> None:
    assert len({run_path(None, "digits") for _ in range(20)}) > 15
    assert run_path("mine", "digits") == Path("mine")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "make space, and go on with `vaebm train --resume run`"),
        (errno.EDQUOT, "make space"),
        (errno.EACCES, "see to the rights of the folder, and go on with"),
        (errno.ENOENT, ""),
        (errno.EIO, ""),
    ],
)
def test_only_want_of_space_and_rights_is_told_as_such(cli: Cli, number: int, words: str) -> None:
    run = stopped("run")
    plain = OSError(number, "why", str(run.log.resolve()))
    wrapped = CheckpointError("cannot write run/metrics.jsonl: why")
    wrapped.__cause__ = plain
    for error in (plain, wrapped):
        told = with_way_on(error, run)
        assert (words in str(told)) if words else told is error
    # Of what is read elsewhere, rights are no matter of the run.
    reading = OSError(errno.EACCES, "why", "/somewhere/else")
    assert with_way_on(reading, run) is reading
    unread = CheckpointError("cannot read run/provenance.json: why")
    unread.__cause__ = PermissionError(errno.EACCES, "why", "run/provenance.json")
    assert with_way_on(unread, run) is unread
