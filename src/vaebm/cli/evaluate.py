"""``vaebm evaluate``: the table of the report, measured anew from a saved model."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vaebm.cli.parsing import (
    Parser,
    UsageError,
    add_chains,
    add_source,
    check_folder_of,
    check_suffix_of,
    filled,
    given_chains,
    natural,
    positive,
    seed,
    steps,
)

if TYPE_CHECKING:
    from vaebm.cli.evaluation import Against
    from vaebm.cli.progress import Console
    from vaebm.data import Splits
    from vaebm.distributed import Engine
    from vaebm.evaluation import Judge
    from vaebm.recipes import Config, LoadedModel
    from vaebm.recipes.config import EvaluationConfig
    from vaebm.reports import Evaluation

RESAMPLES = 20


def _parser() -> Parser:
    parser = Parser("evaluate", "Measures a trained VAEBM on the test images of its data set.")
    parser.add_argument("model", help="a bundled name (mnist), a run folder, a model folder or a hub id")
    add_source(parser)
    parser.add_argument(
        "-n", "--num-samples", type=positive, metavar="N", help="number of samples (default: as in training)"
    )
    parser.add_argument(
        "--seed",
        type=seed,
        metavar="N",
        help="seed of chains, floors, outliers and resamples (default: as in training); scores keep their noise",
    )
    parser.add_argument(
        "--steps",
        type=steps,
        metavar="K,K,…",
        help="numbers of Langevin steps at which the distance is measured (default: as in training)",
    )
    parser.add_argument(
        "--outliers",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a further set of outliers; may be given again",
    )
    parser.add_argument(
        "--judges", type=Path, metavar="FOLDER", help="classifiers that judge instead of the bundled ones"
    )
    add_chains(parser)
    _add_single_measures(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="a .json file to write the figures to")
    parser.add_argument(
        "--precision", choices=("auto", "fp32", "bf16"), help="precision of the chains (default: as in training)"
    )
    return parser


def _add_single_measures(parser: Parser) -> None:
    """Adds the options that have one thing measured and nothing else."""
    parser.add_argument(
        "--modes",
        type=positive,
        metavar="N",
        help="only count the classes that N samples reach, by judges that know classes, or by a probe that learns the "
        "labels of the images (StackedMNIST: 26000)",
    )
    parser.add_argument(
        "--fid",
        type=filled("classifiers, efficientnet_lite0 or inception=FILE (its weights)"),
        metavar="EXTRACTOR",
        help="only measure FID, KID and IS by torchmetrics, on classifiers (the bundled ones), efficientnet_lite0, or "
        "inception=FILE (its published weights)",
    )
    parser.add_argument(
        "--fid-against",
        choices=("test", "training"),
        default="test",
        help="the real images of --fid (default test; many published figures have the training images)",
    )
    parser.add_argument(
        "--scores",
        type=filled("all, or names such as joint,energy"),
        metavar="NAME,NAME,…",
        help="only measure how well these scores tell outliers, on at most N images of each set (-n, default 1000): "
        "all, or some of joint, energy, elbo, typicality, gradient_norm, likelihood_regret, complexity_corrected, "
        "complexity, pixel_statistics, knn_pixels, knn_features, mahalanobis_features",
    )
    parser.add_argument(
        "--regret-steps", type=positive, metavar="N", help="steps of the likelihood regret (default 100)"
    )
    parser.add_argument(
        "--bootstrap", type=natural, metavar="N", help=f"resamples behind the intervals of --fid (default {RESAMPLES})"
    )


def run(arguments: Sequence[str]) -> int:
    """Runs the verb."""
    options = _parser().parse_args(arguments)
    if options.output:
        check_folder_of(options.output)
        check_suffix_of(options.output, ".json")
    _check_alone(options)
    from vaebm.checkpoint import CheckpointError
    from vaebm.cli.evaluation import Against
    from vaebm.cli.known_images import load_splits_of
    from vaebm.cli.outlier_table import further_outliers, score_names, shared_images
    from vaebm.recipes import config_class, from_dict, read_model

    names = score_names(options.scores) if options.scores else ()
    loaded = read_model(options.model)
    if "config" not in loaded.details:
        raise CheckpointError(f"{loaded.folder} doesn't say what it was trained on: evaluate a model of `vaebm train`")
    if "density" in loaded.details["config"]:
        return _planar(loaded, options)
    loaded.model.sampling.update(given_chains(options))
    config: Config = from_dict(config_class(loaded.details["config"]), loaded.details["config"])
    settings, notes = _settings(config, options), list[str]()
    extra = further_outliers(options.outliers, loaded, notes.append)
    splits = load_splits_of(config, loaded.details, options.source)
    if options.fid:
        return _standard(loaded, splits, config, settings, options)
    notes += filter(None, [shared_images(name, images, splits) for name, images in extra.items()])
    if names:
        return _named_scores(loaded, Against(splits, [], extra), config, settings, options, names, notes)
    judges = _judges(options.judges, config.data.source, splits.training.shape)
    return _measure(loaded, Against(splits, judges.judges, extra), config, settings, options, [*notes, *judges.notes])


def _measure(
    loaded: LoadedModel,
    against: Against,
    config: Config,
    settings: EvaluationConfig,
    options: Namespace,
    notes: Sequence[str],
) -> int:
    """Measures all that a report shows, or the classes alone."""
    from vaebm.cli.decision import score_notes
    from vaebm.cli.evaluation import calibrate, evaluate_model, left_out
    from vaebm.cli.progress import Console

    engine = _engine(loaded, config, options)
    console = Console(is_quiet=not engine.is_main)
    console.tell(f"{loaded.folder}, {config.data.source}, {engine.precision}")
    for note in [*filter(None, [engine.warning]), *score_notes(loaded.model), *notes, *left_out(against.splits)]:
        console.tell(note)
    if options.modes is not None:
        modes = _modes(loaded, against, options, config, settings.seed, engine, console)
        return _told(modes, options, config, engine, console)
    scored, sampling = settings.num_posterior_samples, replace(config.sampling, **loaded.model.sampling)
    calibration = loaded.calibration or calibrate(loaded.model, against.splits.calibration, scored, engine)
    with console.busy("measuring"):
        evaluation = evaluate_model(loaded.model, against, calibration, sampling, settings, engine, console.tell)
    if config.energy.objective == "contrastive":
        evaluation["trained_steps"] = config.energy.num_steps
    return _told(evaluation, options, config, engine, console)


def _modes(
    loaded: LoadedModel, against: Against, options: Namespace, config: Config, seed: int, engine: Engine,
    console: Console,
) -> Evaluation:  # fmt: skip
    """Counts the classes that samples reach, and nothing else."""
    from vaebm.cli.mode_count import check_mode_count, count_modes, counting_judges
    from vaebm.reports import Evaluation

    chosen = options.judges is not None
    counting = counting_judges(against.judges, against.splits, config.data.source, console.tell, chosen)
    count: int = options.modes
    check_mode_count(counting.judges, count)
    sampling = replace(config.sampling, **loaded.model.sampling)
    with console.busy("counting"):
        modes = count_modes(loaded.model, counting, against.splits, count, sampling, seed, engine, console.tell)
    return Evaluation(n=count, seed=seed, sampling=asdict(sampling), modes=modes)


def _named_scores(
    loaded: LoadedModel,
    against: Against,
    config: Config,
    settings: EvaluationConfig,
    options: Namespace,
    names: Sequence[str],
    notes: Sequence[str],
) -> int:
    """Measures how well scores tell outliers, and nothing else."""
    from vaebm.cli.evaluation import calibrate, left_out
    from vaebm.cli.outlier_table import MOST_IMAGES, REGRET_STEPS, know_normal, rank_named
    from vaebm.cli.progress import Console
    from vaebm.reports import Evaluation

    engine = _engine(loaded, config, options)
    if engine.num_processes > 1:
        raise UsageError("--scores runs in one process: start it without a launcher")
    console, splits = Console(), against.splits
    for note in [*filter(None, [engine.warning]), *notes, *left_out(splits)]:
        console.tell(note)
    calibration = loaded.calibration or calibrate(loaded.model, splits.calibration, settings.num_posterior_samples)
    steps = options.regret_steps or REGRET_STEPS
    known = know_normal(loaded.model, calibration, splits.training.images, names, console.tell, regret_steps=steps)
    count = options.num_samples or MOST_IMAGES
    with console.busy("measuring"):
        rows = rank_named(known, splits, against.outliers, count, settings.seed, console.tell)
    scored = Evaluation(n=min(count, len(splits.test)), seed=settings.seed, outliers=rows)
    return _told(scored, options, config, engine, console)


def _check_alone(options: Namespace) -> None:
    """Checks that nothing is asked for that a single measure would leave out, nor a VAEBM that is its VAE.

    Raises:
        UsageError: If something is.
    """
    if options.num_steps == 0 and not options.fid and not options.modes:
        raise UsageError("--num-steps 0 is the VAE, which has its own row: expected 1 or more")
    if sum(map(bool, (options.fid, options.modes, options.scores))) > 1:
        raise UsageError("--fid, --modes and --scores measure one thing each: expected one of them")
    alone = {
        "fid": ("judges", "steps", "outliers"),
        "modes": ("steps", "outliers", "num_samples"),
        "scores": ("judges", "steps", "num_steps", "step_size", "persistence"),
    }
    for measure, others in alone.items():
        for name in others:
            if getattr(options, measure) and getattr(options, name) not in (None, []):
                told = f"--{name.replace('_', '-')}"
                raise UsageError(f"--{measure} measures nothing else: expected no {told} beside it")
    for name, is_given in (
        ("fid-against", options.fid_against != "test"),
        ("bootstrap", options.bootstrap is not None),
    ):
        if is_given and not options.fid:
            raise UsageError(f"--{name} is for --fid EXTRACTOR: expected both")
    if options.regret_steps and not options.scores:
        raise UsageError("--regret-steps is for --scores: expected both")


def _standard(
    loaded: LoadedModel, splits: Splits, config: Config, settings: EvaluationConfig, options: Namespace
) -> int:
    """Measures FID, KID and IS, and nothing else."""
    from vaebm.cli.evaluation import left_out
    from vaebm.cli.progress import Console
    from vaebm.cli.standard import FeatureCache, Standard, cache_folder, check_standard, extractors_of, measure_standard
    from vaebm.reports import Evaluation

    engine = _engine(loaded, config, options)
    console = Console(is_quiet=not engine.is_main)
    for note in [*filter(None, [engine.warning]), *left_out(splits)]:
        console.tell(note)
    extractors = extractors_of(options.fid, config.data.source, splits.training.shape, console.tell)
    count = settings.num_samples
    resamples = RESAMPLES if options.bootstrap is None else options.bootstrap
    standard = Standard(extractors, options.fid_against, count, resamples, settings.seed)
    check_standard(standard, splits)
    real = splits.training if options.fid_against == "training" else splits.test
    kept = "those for choices and p-values aren't among them"
    console.tell(f"against {len(real):,} {options.fid_against} images; {kept}")
    sampling = replace(config.sampling, **loaded.model.sampling)
    cache = FeatureCache(cache_folder(), console.tell)
    with console.busy("measuring"):
        rows = measure_standard(loaded.model, splits, standard, sampling, engine, cache)
    evaluation = Evaluation(n=count, seed=settings.seed, num_steps=sampling.num_steps, sampling=asdict(sampling),
                            standard=rows)  # fmt: skip
    return _told(evaluation, options, config, engine, console)


def _engine(loaded: LoadedModel, config: Config, options: Namespace) -> Engine:
    """Returns where a model is measured, on the kind of device of its training if there is one; moves it there."""
    from vaebm.distributed import EngineError, make_engine

    precision = options.precision or config.precision
    try:
        engine = make_engine(precision, config.device)
    except EngineError:
        engine = make_engine(precision)
    loaded.model.to(engine.device)
    return engine


def _told(evaluation: Evaluation, options: Namespace, config: Config, engine: Engine, console: Console) -> int:
    """Writes and shows what was measured, in the main process; returns the exit code."""
    from vaebm.checkpoint import write_json
    from vaebm.reports import evaluation_text

    if engine.is_main:
        evaluation["data"], evaluation["precision"] = config.data.source, engine.precision
        if options.output:
            write_json(options.output, evaluation)
        console.tell(evaluation_text(evaluation))
    return 0


def _planar(loaded: LoadedModel, options: Namespace) -> int:
    """Measures a model of a density of the plane."""
    from vaebm.checkpoint import write_json
    from vaebm.cli.planar import measure
    from vaebm.recipes import PlanarConfig, from_dict
    from vaebm.reports.planar import planar_text

    others = (options.outliers, options.judges, options.steps, options.precision, options.modes, options.fid,
              options.scores)  # fmt: skip
    if any(others) or given_chains(options):
        for_images = (
            "options of chains, --outliers, --judges, --steps, --precision, --modes, --fid, --scores are for images"
        )
        raise UsageError(f"{loaded.folder} is a model of points: {for_images}")
    config: PlanarConfig = from_dict(PlanarConfig, loaded.details["config"])
    told = {"num_samples": options.num_samples, "seed": options.seed}
    changed = {name: value for name, value in told.items() if value is not None}
    with _as_typed():
        config = replace(config, evaluation=replace(config.evaluation, **changed))
    evaluation = measure(loaded.model, config).evaluation
    if options.output:
        write_json(options.output, evaluation)
    print(planar_text(evaluation))
    return 0


def _settings(config: Config, options: Namespace) -> EvaluationConfig:
    """Returns how much is measured: as in training, but for what the command line says."""
    told = {"num_samples": options.num_samples, "seed": options.seed, "steps_curve": options.steps}
    changed = {name: value for name, value in told.items() if value is not None}
    with _as_typed():
        # The whole configuration checks the ranges.
        return replace(config, evaluation=replace(config.evaluation, **changed)).evaluation


@contextmanager
def _as_typed() -> Iterator[None]:
    """Names a number of samples that a configuration refuses by its option; parsers have checked the others."""
    from vaebm.recipes import ConfigError

    try:
        yield
    except ConfigError as error:
        raise UsageError(str(error).replace("evaluation.num_samples", "-n/--num-samples")) from error


class _Judges(NamedTuple):
    judges: list[Judge]
    notes: list[str]


def _judges(folder: Path | None, source: str, image_shape: tuple[int, int, int]) -> _Judges:
    """Returns the judges, and what is to be said of them."""
    from vaebm.cli.evaluation import judges_for, warn_of_judges
    from vaebm.recipes import load_judges, load_stacked_judges

    notes: list[str] = []
    if folder is None:
        return _Judges(judges_for(source, image_shape, notes.append), notes)
    judges = load_judges(image_shape, folder)
    if source == "stacked_mnist":
        # A classifier of stacked digits judges them as it is; one of digits sees the channels one by one.
        judges += load_stacked_judges(image_shape, folder)
    if not judges:
        size = " × ".join(map(str, image_shape))
        raise UsageError(f"--judges {folder}: none of its classifiers takes images of {size}")
    warn_of_judges(judges, source, notes.append)
    return _Judges(judges, notes)
