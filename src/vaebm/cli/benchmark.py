"""``vaebm benchmark``: a VAEBM beside other ways to train the same networks on the same data, for as long."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebm.cli.parsing import Parser, UsageError, budget, nearest, positive, seed

if TYPE_CHECKING:
    from vaebm.cli.progress import Console
    from vaebm.cli.rival_runs import Course
    from vaebm.recipes.rivals import RivalConfig

RESULTS = "benchmark.json"


def _parser() -> Parser:
    parser = Parser("benchmark", "Trains rivals of a VAEBM on its VAE, networks and data, each for the same time.")
    parser.add_argument("model", help="a trained VAEBM: a bundled name (mnist), a run folder, a model folder")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER",
                        help="where figures and samples go; rows that are there aren't made again")  # fmt: skip
    parser.add_argument("--budget", type=budget, default=300.0, metavar="TIME",
                        help="training time of each row, such as 5m (the default)")  # fmt: skip
    parser.add_argument("--vae-time", type=budget, default=0.0, metavar="TIME",
                        help="training time of the VAE, given besides to rows that make no use of it (default: what "
                        "the model's run took, if that is known)")  # fmt: skip
    parser.add_argument("--rows", metavar="ROW,ROW,…", help="rows, by default all; --rows list names them")
    parser.add_argument("--config", type=Path, metavar="FILE", help="a YAML file: settings by row")
    parser.add_argument("-n", "--num-samples", type=positive, metavar="N", help="default: as in training")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="seed of training and samples (default 0)")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), help="default: as in training")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Runs the verb."""
    options = _parser().parse_args(arguments)
    from vaebm.recipes.rivals import RIVALS

    if options.rows == "list":
        print("\n".join(f"{name:20}{rival.title}" for name, rival in RIVALS.items()))
        return 0
    names = _names(options.rows, list(RIVALS))
    from vaebm.cli.progress import Console
    from vaebm.reports.rivals import rivals_text

    console = Console()
    course, vae_time = _course(options, console)
    settings = _settings(course, names, options.config)
    results = options.output / RESULTS
    stored = _stored(results, options.model)
    for name in names:
        time = options.budget + (0 if RIVALS[name].needs_vae else vae_time)
        _row(name, settings[name], course, time, results, stored)
    console.tell(rivals_text(stored["rows"]))
    return 0


def _names(rows: str | None, known: list[str]) -> list[str]:
    names = [name.strip() for name in rows.split(",")] if rows else known
    for name in names:
        if name not in known:
            raise UsageError(f"--rows {name}: expected some of {', '.join(known)}{nearest(name, known)}")
    return names


def _course(options: Namespace, console: Console) -> tuple[Course, float]:
    """Returns what all rows have in common, and the training time of the VAE."""
    from vaebm.checkpoint import CheckpointError, read_json
    from vaebm.cli.evaluate import load_splits_of
    from vaebm.cli.evaluation import FEWEST_JUDGED, judges_for
    from vaebm.cli.rival_runs import Course
    from vaebm.distributed import launched_processes, make_engine
    from vaebm.recipes import Config, config_class, from_dict, read_model

    loaded = read_model(options.model)
    if "config" not in loaded.details or "density" in loaded.details["config"]:
        raise CheckpointError(f"{loaded.folder} is no model of images that was trained here: expected a run or 'mnist'")
    if launched_processes() > 1:
        raise UsageError("vaebm benchmark runs in one process: start it without a launcher")
    config: Config = from_dict(config_class(loaded.details["config"]), loaded.details["config"])
    splits = load_splits_of(config, loaded.details)
    judges = judges_for(config.data.source, splits.training.shape, console.tell)
    count = min(options.num_samples or config.evaluation.num_samples, len(splits.training))
    fewest = min(count, len(splits.test), len(splits.selection))
    if not judges or fewest < FEWEST_JUDGED:
        raise UsageError(
            f"{options.model}: {len(judges)} judges and {fewest} images to measure: expected a judge of such images "
            f"and at least {FEWEST_JUDGED} of them"
        )
    engine = make_engine(options.precision or config.precision, config.device)
    provenance = Path(options.model) / "provenance.json"
    known = read_json(provenance) if provenance.is_file() else {}
    vae_time = options.vae_time or known.get("seconds", {}).get("vae", 0.0)
    console.tell(f"{loaded.folder}, {config.data.source}, {engine.device}, {engine.precision}")
    return Course(loaded.model, config, splits, judges, engine, count, options.seed, console.tell), vae_time


def _settings(course: Course, names: Sequence[str], path: Path | None) -> dict[str, RivalConfig]:
    """Returns the settings of rows: their own, but for what the file says."""
    from vaebm.cli.request import read_yaml
    from vaebm.recipes.rivals import RIVALS

    changes: Mapping[str, Any] = read_yaml(path) if path else {}
    for name in changes:
        if name not in RIVALS:
            raise UsageError(f"{path}: unknown row {name}{nearest(name, list(RIVALS))}")
    return {name: _changed(RIVALS[name].settings(course.config), changes.get(name, {}), f"{path}: {name}")
            for name in names}  # fmt: skip


def _changed(settings: RivalConfig, changes: object, where: str) -> RivalConfig:
    """Returns settings of a row with some values replaced by those of a file."""
    from vaebm.recipes import ConfigError, from_dict, to_dict

    if not isinstance(changes, Mapping):
        raise ConfigError(f"{where} is {changes!r}: expected settings")
    values = to_dict(settings)
    for key, value in changes.items():
        is_section = isinstance(values.get(key), dict) and isinstance(value, dict)
        values[key] = {**values[key], **value} if is_section else value
    try:
        changed: RivalConfig = from_dict(type(settings), values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    return changed


def _stored(results: Path, model: str) -> dict[str, Any]:
    """Returns the rows that are there, of the same model."""
    from vaebm.checkpoint import CheckpointError, read_json

    if not results.exists():
        return {"model": model, "rows": {}}
    stored: dict[str, Any] = read_json(results)
    if stored.get("model") != model or "rows" not in stored:
        raise CheckpointError(f"{results} is of another model ({stored.get('model')}): name another --output")
    return stored


def _row(name: str, rival: RivalConfig, course: Course, time: float, results: Path, stored: dict[str, Any]) -> None:
    """Makes a row, unless it's there, and stores it with a picture of its samples."""
    import torch

    from vaebm.checkpoint import write_bytes, write_json
    from vaebm.cli.rival_runs import run_row
    from vaebm.distributed import hardware_facts
    from vaebm.plots import image_grid, png_bytes
    from vaebm.recipes import to_dict
    from vaebm.recipes.rivals import RIVALS

    key = f"{name}-{course.seed}"
    asked = {"settings": to_dict(rival), "budget": time if rival.space != "none" else 0.0, "n": course.num_samples}
    known = stored["rows"].get(key)
    if known is not None:
        if known["asked"] != asked:
            raise UsageError(f"{results} holds a row {key} of other settings: name another --output")
        course.tell(f"{key}: measured before")
        return
    course.tell(f"{key}: {RIVALS[name].title}")
    # Weights of new networks come from the global generator.
    torch.manual_seed(course.seed)
    found, images = run_row(rival, course, time)
    row = {"name": name, "title": RIVALS[name].title, "seed": course.seed, "asked": asked, **found}
    row["hardware"] = {**hardware_facts(course.engine.device), "precision": course.engine.precision}
    results.parent.mkdir(parents=True, exist_ok=True)
    grid = image_grid(images[:64].numpy(), 8, scale=max(1, 56 // images.shape[3]))
    write_bytes(results.parent / f"{key}.png", png_bytes(grid))
    stored["rows"][key] = row
    write_json(results, stored)
