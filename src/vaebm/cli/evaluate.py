"""``vaebm evaluate``: the table of the report, measured anew from a saved model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vaebm.cli.parsing import Parser, UsageError, positive


def _parser() -> Parser:
    parser = Parser("evaluate", "Measures a trained VAEBM on the test images of its data set.")
    parser.add_argument("model", help="a bundled name (mnist), a run folder, a model folder or a hub id")
    parser.add_argument("-n", "--num-samples", type=positive, help="number of samples (default: as in training)")
    parser.add_argument("--outliers", action="append", default=[], metavar="NAME=PATH", help="a further set of outliers; may be given again")
    parser.add_argument("--judges", type=Path, help="folder of classifiers that judge instead of the bundled ones")
    parser.add_argument("--output", type=Path, help="a .json file to write the figures to")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="precision of the chains (default auto)")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Runs the verb."""
    options = _parser().parse_args(arguments)
    if options.output and not options.output.parent.is_dir():
        raise UsageError(f"there is no folder {options.output.parent}: make it first")
    from vaebm.checkpoint import CheckpointError, write_json
    from vaebm.cli.evaluation import calibrate, evaluate_model
    from vaebm.data import load_images, load_splits, to_float
    from vaebm.distributed import make_engine
    from vaebm.recipes import Config, from_dict, load_judges, read_model
    from vaebm.reports import evaluation_text

    loaded = read_model(options.model)
    if "config" not in loaded.details:
        raise CheckpointError(f"{loaded.folder} doesn't say what it was trained on: evaluate a model of `vaebm train`")
    config: Config = from_dict(Config, loaded.details["config"])
    splits = load_splits(config.data.source, config.data.split_seed)
    extra = {}
    for entry in options.outliers:
        name, sign, path = entry.partition("=")
        if not sign:
            raise UsageError(f"--outliers {entry}: expected NAME=PATH")
        extra[name] = to_float(load_images(path, loaded.model.image_shape).images)
    judges = load_judges(splits.training.shape, options.judges) if options.judges else load_judges(splits.training.shape)
    settings = config.evaluation
    if options.num_samples:
        settings = replace(settings, num_samples=options.num_samples)
    calibration = loaded.calibration or calibrate(loaded.model, splits.calibration, settings.num_posterior_samples)
    sampling = replace(config.sampling, **loaded.model.sampling)
    engine = make_engine(options.precision, "cpu")
    evaluation = evaluate_model(loaded.model, splits, judges, calibration, sampling, settings, engine, extra, print)
    evaluation["trained_steps"] = config.energy.num_steps
    if options.output:
        write_json(options.output, evaluation)
    print(evaluation_text(evaluation))
    return 0
