import ast
import re
from dataclasses import replace

import pytest
import yaml

from vaebm.reports import CardContent, Evaluation, model_card


@pytest.fixture
def card(evaluation: Evaluation) -> CardContent:
    return CardContent(
        "mnist", "A small VAEBM, trained in nine minutes.", "MNIST, CC BY-SA 3.0.", "apache-2.0", (1, 28, 28), 45, 0.05,
        num_parameters={"VAE": 1_234_567, "energy": 356_000},
        config={"images": {"chain_image": "mean", "loss_image": "mean", "output_image": "mean"}},
        provenance={"version": "0.1.0", "seed": 1, "hardware": {"cores": 2}},
        evaluation=evaluation, datasets=["mnist"], tags=["digits", "vae"],
    )  # fmt: skip


def test_head_is_yaml_that_a_hub_reads(card: CardContent) -> None:
    _, head, _ = model_card(card).split("---\n", 2)
    fields = yaml.safe_load(head)
    assert fields["license"] == "apache-2.0"
    assert fields["library_name"] == "vaebm"
    assert fields["datasets"] == ["mnist"]
    assert fields["tags"].count("vae") == 1
    assert "digits" in fields["tags"]
    odd = yaml.safe_load(model_card(replace(card, license="no: 'x' #")).split("---\n", 2)[1])
    assert odd["license"] == "no: 'x' #"


def test_card_says_what_the_model_is_and_how_good(card: CardContent) -> None:
    text = model_card(card)
    headings = re.findall(r"^## (.*)$", text, flags=re.M)
    assert headings == [
        "What it is",
        "How to use it",
        "Data",
        "Scores",
        "Limits",
        "Origin",
    ]
    for part in ("1 × 28 × 28", "VAE 1,234,567", "The energy sees the mean image in a chain", "CC BY-SA 3.0",
                 "20.5", "0.998 [0.997, 0.999]", "`" + "a" * 64, "heuristic", "- seed: 1"):  # fmt: skip
        assert part in text, part


def test_code_of_the_card_parses_and_names_the_model(card: CardContent) -> None:
    code = re.search(r"```python\n(.*?)```", model_card(card), flags=re.S)
    assert code is not None
    tree = ast.parse(code[1])
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert {"vaebm.load", "vaebm.generate", "vaebm.outlier_scores"} <= set(calls)
    assert "num_steps=45, step_size=0.05" in code[1]


def test_a_card_without_an_evaluation_has_no_scores(card: CardContent) -> None:
    assert "## Scores" not in model_card(replace(card, evaluation={}))
