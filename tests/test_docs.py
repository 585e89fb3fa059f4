"""What the documents promise: links lead somewhere, commands parse, code runs, files exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import vaebm
from vaebm.applications import OutlierScores
from vaebm.checkpoint import RunFolder
from vaebm.cli.main import VERBS, module_of
from vaebm.cli.own_images import take_options
from vaebm.cli.request import recipe_word
from vaebm.models import VAEBM, ConvVAE, EnergyNetwork
from vaebm.recipes import PLANAR_RECIPES, RECIPES, to_dict

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "vaebm"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(document: Path) -> Iterator[list[str]]:
    for line in document.read_text(encoding="utf-8").splitlines():
        match = re.match(r"(?: {4}|\t)(?:.* && )?vaebm (.*)", line)
        if match:
            yield shlex.split(match[1], comments=True)


def python_blocks(document: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


# What several documents have is tried once.
COMMANDS = [
    (document, list(words))
    for words, document in {
        tuple(words): name_of(document) for document in DOCUMENTS for words in commands(document)
    }.items()
]
BLOCKS = [(name_of(document), block) for document in DOCUMENTS for block in python_blocks(document)]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the documents name: a run RUN with an untrained model, a file FILE of options, images.npz."""
    torch.manual_seed(0)
    shape = (1, 28, 28)
    model = VAEBM(
        ConvVAE(shape, (4,), widths=(8,)), EnergyNetwork(shape, widths=(4,)), None, {"num_steps": 2, "step_size": 0.05}
    )
    run = RunFolder(tmp_path / "RUN").create(yaml.safe_dump(to_dict(RECIPES["mnist"]())), {})
    calibration = {"score": "joint", "seed": 1, "num_posterior_samples": 2, "outlier_scores": [1.0, 2.0]}
    vaebm.save(model, run.model, calibration=calibration)
    (tmp_path / "FILE").write_text("seed: 3\n", encoding="utf-8")
    np.savez(tmp_path / "images.npz", images=np.zeros((3, 28, 28), np.uint8))
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_relative_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (document.parent / path).resolve() if path else document
        assert linked.exists(), f"{name_of(document)} links to {target}, which isn't there"
        assert not anchor or anchor in anchors(linked), f"{name_of(document)} links to {target}: no such heading"


@pytest.mark.parametrize(
    ("document", "words"), COMMANDS, ids=[f"{document}: {' '.join(words)}" for document, words in COMMANDS]
)
@pytest.mark.usefixtures("workplace")
def test_commands_parse(document: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # What the largest recipes cost is estimated in tests/recipes/test_paper.py, and told in
    # tests/cli/test_hierarchical_run.py.
    monkeypatch.setattr("vaebm.cli.train.describe", lambda *_: "")
    verb, *arguments = words
    assert verb in VERBS, f"{document} shows the unknown verb {verb}"
    module = import_module(module_of(verb))
    if verb == "train" and recipe_word(arguments) in PLANAR_RECIPES:
        module = import_module("vaebm.cli.planar")
    if "--data" in arguments:
        # The images would be read, and the machine measured: tests/cli/test_own_images.py does that.
        own, rest = take_options(arguments)
        assert own.data
        arguments = ["mnist", *rest]
    parsed = module.parse(arguments) if verb == "train" else module._parser().parse_args(arguments)
    assert parsed is not None or "--dry-run" in arguments


def test_the_readme_shows_every_verb() -> None:
    assert {words[0] for words in commands(ROOT / "README.md")} == set(VERBS)


@pytest.mark.parametrize(("document", "block"), BLOCKS, ids=[document for document, _ in BLOCKS])
@pytest.mark.usefixtures("workplace")
def test_code_runs(document: str, block: str) -> None:
    names: dict[str, object] = {}
    # The bundled model is better and slower.
    exec(compile(block.replace('load("mnist")', 'load("RUN")'), document, "exec"), names)
    scores = names["scores"]
    assert isinstance(scores, OutlierScores)
    assert bool(torch.isfinite(scores.outlier_score).all())


def test_the_architecture_names_what_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = {package: re.findall(r"`(\w+\.py)`", files) for package, files in re.findall(r"`(\w+/)` \| (.*) \|", text)}
    named = {f"{package}{file}" for package, files in table.items() for file in files}
    found = {str(path.relative_to(PACKAGE)) for path in PACKAGE.glob("*/*.py") if path.name != "__init__.py"}
    assert named - found == set(), "ARCHITECTURE.md names files that aren't there"
    assert found - named == set(), "say in ARCHITECTURE.md what these files hold"
    for path in re.findall(r"`([\w/.]+/[\w.]*)`", text):
        assert any((place / path).exists() for place in (ROOT, PACKAGE, PACKAGE.parent)), f"there is no {path}"


def test_the_changelog_names_tests_that_exist() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:tests|benchmarks|examples|docs)/[\w/.]*)`", text)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert vaebm.__version__ in text


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == vaebm.__version__
    assert citation["license"] == "Apache-2.0"
    assert [author["family-names"] for author in citation["references"][0]["authors"]] == [
        "Xiao",
        "Kreis",
        "Kautz",
        "Vahdat",
    ]


def test_the_readme_has_one_place_for_its_table() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("<!-- table:mnist -->") == text.count("<!-- /table:mnist -->") == 1
    assert text.index("<!-- table:mnist -->") < text.index("<!-- /table:mnist -->")


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_examples_are_short_and_assert_something(example: Path) -> None:
    lines = example.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    assert any(line.lstrip().startswith("assert ") for line in lines)
    assert example.name in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_documents_have_no_unfilled_places() -> None:
    for document in DOCUMENTS:
        assert not re.search(r"TODO|FIXME|XXX|by the lead", document.read_text(encoding="utf-8")), name_of(document)
