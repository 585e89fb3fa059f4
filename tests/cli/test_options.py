"""From a command line to a configuration: the recipe, then the file, then the options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from commandline import Cli, assert_user_error

from vaebm.cli.train import Request, parse
from vaebm.recipes import RECIPES, Config, to_dict


def parsed(*words: str) -> Request:
    request = parse(words)
    assert request is not None
    return request


def paths(values: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        found += paths(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return found


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_name_alone_is_its_recipe(name: str) -> None:
    # The paper's recipes bring no images.
    source = RECIPES[name]().data.source or "PATH"
    request = parsed(name, "--data.source", source)
    assert request.config == replace(RECIPES[name](), data=replace(RECIPES[name]().data, source=source))
    assert not request.resumed
    assert request.folder.path.parts[:-1] == ("runs",)
    assert request.folder.path.name.startswith(f"{name}-")


def test_help_explains_every_key_with_the_values_of_its_recipe(cli: Cli) -> None:
    text = " ".join(cli("train", "digits", "--help").output.split())
    for path in paths(to_dict(Config())):
        assert f"--{path} " in text
    for section in ("energy: how the energy network is trained", "sampling: how images are generated"):
        assert section in text
    assert f"(default {RECIPES['digits']().vae.num_iterations})" in text
    assert "null" not in text
    assert "type:" not in text


def test_typed_values() -> None:
    words = "digits --energy_network.widths [16,32] --energy.betas=[0.5,.9] --energy.learning_rate 1e-4"
    config = parsed(*words.split(), "--energy.matched_noise", "false", "--output", "here", "--seed=7").config
    assert config.energy_network.widths == (16, 32)
    assert config.energy.betas == (0.5, 0.9)
    assert config.energy.learning_rate == 1e-4
    assert config.energy.matched_noise is False
    assert config.seed == 7
    assert config.vae == RECIPES["digits"]().vae


def test_the_recipe_is_the_word_that_no_option_takes() -> None:
    config = parsed("--data.source", "digits", "mnist").config
    assert config.vae == RECIPES["mnist"]().vae
    assert config.data.source == "digits"


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_options_are_stronger_than_the_file_whatever_the_order(tmp_path: Path, order: slice) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("seed: 5\nenergy:\n  num_steps: 7\n  learning_rate: 3e-4\n")
    words = [f"--config={file}", "--energy.num_steps=9", "digits"][order]
    config = parsed(*words).config
    assert (config.seed, config.energy.num_steps, config.energy.learning_rate) == (5, 9, 3e-4)
    assert config.energy.batch_size == RECIPES["digits"]().energy.batch_size


def test_a_complete_file_says_everything(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(yaml.safe_dump(to_dict(RECIPES["mnist"]())))
    assert parsed("digits", "--config", str(file)).config == RECIPES["mnist"]()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("energy:\n  num_step: 7", ["energy.num_step", "did you mean energy.num_steps?"]),
        ("enrgy:\n  num_steps: 7", ["did you mean energy?"]),
        ("energy:", ["energy is None"]),
        ("energy: 3", ["energy is 3"]),
        ("seed: one", ["seed is 'one'", "a whole number"]),
        ("seed: -1", ["seed is -1"]),
        ("vae: {ema_decay: 1.0}", ["vae.ema_decay is 1.0", "below 1"]),
        ("energy: {betas: 3}", ["energy.betas is 3", "a list"]),
        ("seed: [1", ["not YAML"]),
        ("just words", ["holds no values"]),
        ("", ["holds no values"]),
    ],
)
def test_files_that_are_wrong_get_one_line(cli: Cli, text: str, words: list[str]) -> None:
    Path("file.yaml").write_text(text)
    assert_user_error(cli("train", "digits", "--config", "file.yaml"), *words)
    assert [entry.name for entry in Path.cwd().iterdir()] == ["file.yaml"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", ["which recipe?", "mnist"]),
        ("mnsit", ["unknown recipe 'mnsit'", "did you mean mnist?"]),
        (".", ["vaebm train --data ."]),
        ("mnist digits", ["unexpected digits"]),
        ("mnist --energy.num_step 3", ["did you mean --energy.num_steps?"]),
        ("mnist --num_steps 3", ["--energy.num_steps or --sampling.num_steps"]),
        ("mnist --energy {num_steps:3}", ["it is a section: --energy.KEY"]),
        ("mnist --outp here", ["did you mean --output?"]),
        ("mnist --energy.num_steps", ["expected one argument"]),
        ("mnist --energy.num_steps many", ["--energy.num_steps is many: expected a whole number"]),
        ("mnist --energy.num_steps 1.5", ["--energy.num_steps is 1.5: expected a whole number"]),
        ("mnist --energy.num_steps 0", ["energy.num_steps is 0: expected a number above 0"]),
        ("mnist --energy.learning_rate high", ["expected a number"]),
        ("mnist --energy.matched_noise perhaps", ["expected true or false"]),
        ("mnist --energy.betas [.5]", ["expected a list"]),
        ("mnist --energy_network.widths 16,32", ["expected a list such as '[16,32]'"]),
        ("mnist --energy_network.widths []", ["energy_network.widths is empty"]),
        ("mnist --energy.replay_probability 2", ["from 0 to 1"]),
        ("mnist --evaluation.num_samples 3", ["at least 10"]),
        ("mnist --evaluation.steps_curve [5,0]", ["ascending"]),
        ("mnist --images.chain_image both", ["expected one of sampled, mean"]),
        ("mnist --precision fp64", ["expected one of auto, fp32, bf16"]),
        ("mnist --seed 99999999999999999999", ["up to 4294967295"]),
        ("mnist --vae.batch_size 1000000000000", ["vae.batch_size", "up to 1048576"]),
        ("digits --vae_network.widths [10000000000000]", ["memory of this machine is not enough"]),
        ("--resume ~nobody-by-this-name/run", ["no run folder"]),
        ("mnist --device toaster", ["there is no device 'toaster'"]),
        ("mnist --data.source nowhere.npz", ["nowhere.npz", "no such file"]),
        ("mnist --config nowhere.yaml", ["nowhere.yaml", "a YAML file"]),
        ("--resume", ["expected one argument"]),
        ("--resume nowhere", ["no run folder nowhere"]),
        ("--resume nowhere --seed 2", ["--resume takes no other option"]),
        ("mnist --resume nowhere", ["--resume takes no other option"]),
    ],
)
def test_bad_options_get_one_line(cli: Cli, line: str, words: list[str]) -> None:
    outcome = cli("train", *line.split())
    assert_user_error(outcome, *words)
    assert outcome.output == ""
    assert list(Path.cwd().iterdir()) == []
