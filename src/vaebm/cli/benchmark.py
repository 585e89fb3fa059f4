"""``vaebm benchmark``: a VAEBM beside other ways to train the same networks on the same data, for as long."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebm.cli.parsing import Parser, UsageError, add_source, budget, filled, nearest, positive, seed

if TYPE_CHECKING:
    from vaebm.cli.progress import Console
    from vaebm.cli.rival_players import Course
    from vaebm.cli.rival_state import RowUnderWay
    from vaebm.cli.stop import StopRequest
    from vaebm.evaluation import Judge
    from vaebm.recipes import LoadedModel
    from vaebm.recipes.rivals import RivalConfig

RESULTS = "benchmark.json"


def _parser() -> Parser:
    parser = Parser("benchmark", "Trains rivals of a VAEBM on its VAE, networks and data, each for the same time.")
    parser.add_argument("model", help="a trained VAEBM: a bundled name (mnist), a run folder, a model folder")
    add_source(parser)
    parser.add_argument("--output", type=Path, metavar="FOLDER",
                        help="where figures and samples go; rows that are there aren't made again, one that was "
                        "stopped goes on")  # fmt: skip
    parser.add_argument("--budget", type=budget, default=300.0, metavar="TIME",
                        help="training time of each row, such as 5m (the default)")  # fmt: skip
    parser.add_argument("--vae-time", type=budget, metavar="TIME",
                        help="training time of the VAE, given besides to rows that make no use of it (default: what "
                        "the model says, or its run)")  # fmt: skip
    parser.add_argument("--judges", type=Path, metavar="FOLDER",
                        help="classifiers that measure besides, and take part in no choice")  # fmt: skip
    parser.add_argument("--rows", type=filled("rows such as vae,vaebm, or list"), metavar="ROW,ROW,…",
                        help="rows, by default all; --rows list names them")  # fmt: skip
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
    if options.output is None:
        raise UsageError("rows need a place: expected --output FOLDER")
    from vaebm.cli.progress import Console
    from vaebm.cli.stop import STOPPED, Interrupted, StopRequest
    from vaebm.reports.rivals import rivals_text

    console = Console()
    course, vae_time = _course(options, console)
    settings = _settings(course, names, options.config)
    results = _results_in(options.output)
    identity = _identity(course, options, vae_time)
    stop = StopRequest()
    rows = {name: _under_way(name, settings[name], identity, course, results, stop) for name in names}
    _check_kept(rows, results, identity)
    if vae_time == 0 and any(not RIVALS[name].needs_vae for name in names):
        console.tell("how long the VAE was trained isn't known: rows without one get no time for it (--vae-time)")
    try:
        with stop.listening():
            for name, under_way in rows.items():
                _row(name, settings[name], course, under_way, results, identity)
    except KeyboardInterrupt as error:
        saved = "what was trained is saved" if isinstance(error, Interrupted) else "left at once, what was saved stands"
        console.tell(f"stopped by {stop.name}; {saved}. Go on with the same command")
        return STOPPED
    console.tell(rivals_text(_merge(results, identity, {})["rows"]))
    return 0


def planned(arguments: Sequence[str]) -> dict[str, Any]:
    """Returns what ``run`` would leave in its file, as far as it is known before anything is trained.

    Raises:
        UsageError, ConfigError, CheckpointError, DataError: As ``run`` does, for what the command line asks for.
    """
    from vaebm.cli.progress import Console
    from vaebm.recipes import to_dict
    from vaebm.recipes.rivals import RIVALS

    options = _parser().parse_args(arguments)
    names = _names(options.rows, list(RIVALS))
    course, vae_time = _course(options, Console())
    rows = {f"{name}-{course.seed}": {"name": name, "seed": course.seed, "settings": to_dict(rival)}
            for name, rival in _settings(course, names, options.config).items()}  # fmt: skip
    return {**_identity(course, options, vae_time), "rows": rows}


def _names(rows: str | None, known: list[str]) -> list[str]:
    names = [name.strip() for name in rows.split(",")] if rows else known
    for name in names:
        if name not in known:
            raise UsageError(f"--rows {name}: expected some of {', '.join(known)}{nearest(name, known)}")
    return names


def _course(options: Namespace, console: Console) -> tuple[Course, float]:
    """Returns what all rows have in common, and the training time of the VAE."""
    from vaebm.cli.evaluation import FEWEST_JUDGED, fewer_to_test, tell_of_rank
    from vaebm.cli.known_images import config_of, load_splits_of
    from vaebm.cli.rival_players import Course
    from vaebm.distributed import launched_processes, make_engine
    from vaebm.recipes import read_model

    loaded = read_model(options.model)
    config = config_of(loaded)
    if launched_processes() > 1:
        raise UsageError("vaebm benchmark runs in one process: start it without a launcher")
    splits = load_splits_of(config, loaded.details, options.source)
    splits = fewer_to_test(splits, config.evaluation.num_test)
    judges = measuring_judges(options.judges, config.data.source, splits.training.shape, console.tell)
    count = min(options.num_samples or config.evaluation.num_samples, len(splits.training))
    fewest = min(count, len(splits.test), len(splits.selection))
    if not judges or fewest < FEWEST_JUDGED:
        raise UsageError(
            f"{options.model}: {len(judges)} judges and {fewest} images to measure: expected a judge of such images "
            f"and at least {FEWEST_JUDGED} of them"
        )
    engine = make_engine(options.precision or config.precision, config.device)
    console.tell(f"{loaded.folder}, {config.data.source}, {engine.device}, {engine.precision}")
    for judge in judges:
        tell_of_rank(judge, min(count, len(splits.test)), console.tell)
    loaded.model.to(engine.device)
    course = Course(loaded.model, config, splits, judges, engine, count, options.seed, console.tell)
    return course, options.vae_time or _vae_time(loaded)


def measuring_judges(
    folder: Path | None, source: str, image_shape: tuple[int, int, int], tell: Callable[[str], None]
) -> list[Judge]:
    """Returns the bundled judges, of which the first one chooses, and behind them those of a folder.

    Raises:
        UsageError: If none in the folder takes such images, or one has the name of another that is bundled.
    """
    from vaebm.cli.evaluation import judges_for, warn_of_judges
    from vaebm.recipes import load_judges, load_stacked_judges

    bundled = judges_for(source, image_shape, tell)
    if folder is None or not bundled:
        # Those of the folder are no one's choice.
        return bundled
    found = load_judges(image_shape, folder)
    if source == "stacked_mnist":
        found += load_stacked_judges(image_shape, folder)
    if not found:
        raise UsageError(
            f"--judges {folder}: none of its classifiers takes images of {' × '.join(map(str, image_shape))}"
        )
    known = {judge.sha256 for judge in bundled}
    further = [judge for judge in found if judge.sha256 not in known]
    for judge in further:
        if judge.name in {other.name for other in bundled}:
            raise UsageError(f"--judges {folder}: another judge {judge.name} is bundled: expected another name")
    warn_of_judges(further, source, tell)
    return [*bundled, *further]


def _vae_time(loaded: LoadedModel) -> float:
    """Returns the seconds for which the VAE of a model was trained, by the model or by its run; 0 if neither knows."""
    from vaebm.checkpoint import read_json

    provenance = loaded.folder.parent / "provenance.json"
    places = (loaded.details, read_json(provenance) if provenance.is_file() else {})
    for place in places:
        seconds = place.get("seconds", {}).get("vae")
        if seconds is not None:
            return float(seconds)
    return 0.0


def _settings(course: Course, names: Sequence[str], path: Path | None) -> dict[str, RivalConfig]:
    """Returns the settings of rows: their own, but for what the file says; each is built once, before any is trained.

    Raises:
        ConfigError, UsageError: If one can't be.
    """
    from vaebm.cli.request import read_yaml
    from vaebm.cli.rival_runs import check_row
    from vaebm.recipes import ConfigError
    from vaebm.recipes.rivals import RIVALS

    changes: Mapping[str, Any] = read_yaml(path) if path else {}
    for name in changes:
        if name not in RIVALS:
            raise UsageError(f"{path}: unknown row {name}{nearest(str(name), list(RIVALS))}")
    settings = {name: _changed(RIVALS[name].settings(course.config), changes.get(name, {}), f"{path}: {name}")
                for name in names}  # fmt: skip
    for name, rival in settings.items():
        try:
            check_row(rival, course)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from error
    return settings


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
    for name, other, own in zip(
        ("space", "start", "energy.potential"), _nature(changed), _nature(settings), strict=True
    ):
        if other != own:
            raise ConfigError(f"{where}: {name} is {other!r}: expected that of the row, {own}")
    replayed, own_replayed = changed.energy.replay_probability, settings.energy.replay_probability
    if bool(replayed) != bool(own_replayed):
        expected = "above 0" if own_replayed else "0"
        raise ConfigError(f"{where}: energy.replay_probability is {replayed:g}: expected {expected}, as the row has it")
    return changed


def _nature(settings: RivalConfig) -> tuple[str, str, str]:
    """Returns what a row's title says of it."""
    return settings.space, settings.start, settings.energy.potential


def _results_in(folder: Path) -> Path:
    """Returns the file of results in a folder, which is made, and written to before any time is spent."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".writable").write_text("")
    (folder / ".writable").unlink(missing_ok=True)
    return folder / RESULTS


def _identity(course: Course, options: Namespace, vae_time: float) -> dict[str, Any]:
    """Returns what all rows of a file must have in common."""
    from vaebm.checkpoint import tensors_sha256

    # Only where they are not all there are: files from before it was told go on to be what they were.
    num_test = course.config.evaluation.num_test
    return {
        **({"num_test": num_test} if num_test else {}),
        "model": Path(options.model).name,
        "model_sha256": tensors_sha256(course.model.state_dict()),
        "judges": {judge.name: judge.sha256 for judge in course.judges},
        "num_samples": course.num_samples,
        "budget": options.budget,
        "vae_time": vae_time,
        "device": str(course.engine.device),
        "precision": course.engine.precision,
    }


def _merge(results: Path, identity: dict[str, Any], rows: dict[str, Any]) -> dict[str, Any]:
    """Puts rows into the file, where other processes may have put theirs meanwhile; returns all that is there.

    Raises:
        CheckpointError: If the rows in the file belong to another model, time, number of samples, judge or device.
    """
    from filelock import FileLock

    from vaebm.checkpoint import CheckpointError, read_json, write_json

    with FileLock(results.with_suffix(".lock")):
        stored: dict[str, Any] = read_json(results) if results.exists() else {**identity, "rows": {}}
        other = [name for name, value in identity.items() if stored.get(name) != value]
        if other or "rows" not in stored:
            told = ", ".join(f"{name} {stored.get(name)}" for name in other[:3])
            raise CheckpointError(f"{results} holds rows of another comparison ({told}): name another --output")
        if rows:
            stored["rows"].update(rows)
            write_json(results, stored)
    return stored


def _under_way(
    name: str, rival: RivalConfig, identity: dict[str, Any], course: Course, results: Path, stop: StopRequest
) -> RowUnderWay:
    """Returns where a row is kept while it is made."""
    from vaebm.cli.rival_state import RowUnderWay
    from vaebm.recipes import to_dict
    from vaebm.recipes.rivals import RIVALS

    time = identity["budget"] + (0 if RIVALS[name].needs_vae else identity["vae_time"])
    told = {**identity, "settings": to_dict(rival), "time": time}
    return RowUnderWay(results.parent / f"{name}-{course.seed}.pt", told, stop)


def _check_kept(rows: Mapping[str, RowUnderWay], results: Path, identity: dict[str, Any]) -> None:
    """Checks all rows that are there or under way, before any of the others takes its time.

    Raises:
        CheckpointError: If one is under way in another process, or what was kept of it is damaged or of another row.
        UsageError: If one that is there has other settings.
    """
    known = _merge(results, identity, {})["rows"]
    for under_way in rows.values():
        if not _is_there(known, under_way, results):
            with under_way.held():
                under_way.load()


def _is_there(known: Mapping[str, Any], under_way: RowUnderWay, results: Path) -> bool:
    """Whether a row is among those that are known.

    Raises:
        UsageError: If that one has other settings.
    """
    from vaebm.recipes.rivals import settings_today

    row = known.get(under_way.path.stem)
    if row is not None and settings_today(row["settings"]) != under_way.identity["settings"]:
        raise UsageError(f"{results} holds a row {under_way.path.stem} of other settings: name another --output")
    return row is not None


def _row(
    name: str, rival: RivalConfig, course: Course, under_way: RowUnderWay, results: Path, identity: dict[str, Any]
) -> None:
    """Makes a row or goes on with it, unless it's there, and stores it with a picture of its samples."""
    import torch

    from vaebm.checkpoint import write_bytes
    from vaebm.cli.provenance import versions
    from vaebm.cli.rival_runs import run_row
    from vaebm.distributed import hardware_facts
    from vaebm.plots import image_grid, png_bytes
    from vaebm.recipes.rivals import RIVALS

    key, settings, time = under_way.path.stem, under_way.identity["settings"], under_way.identity["time"]
    with under_way.held():
        # Another process may have made it meanwhile.
        if _is_there(_merge(results, identity, {})["rows"], under_way, results):
            course.tell(f"{key}: measured before")
        else:
            course.tell(f"{key}: {RIVALS[name].title}")
            # Weights of new networks come from the global generator.
            torch.manual_seed(course.seed)
            found, images = run_row(rival, course, time, under_way)
            about = {"name": name, "title": RIVALS[name].title, "seed": course.seed, "settings": settings, "time": time}
            told = {"hardware": hardware_facts(course.engine.device), **versions()}
            grid = image_grid(images[:64].numpy(), 8, scale=max(1, 56 // images.shape[3]))
            write_bytes(results.parent / f"{key}.png", png_bytes(grid))
            _merge(results, identity, {key: {**about, **found, **told}})
        under_way.remove()
