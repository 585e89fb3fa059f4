"""``vaebm likelihood``: what can be known of a model's density: log Z, and the likelihood that it makes of an ELBO."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vaebm.cli.parsing import Parser, UsageError, check_folder_of, check_suffix_of, positive, seed, steps

if TYPE_CHECKING:
    from vaebm.models import VAEBM
    from vaebm.reports.likelihood import Likelihood

FEWEST_CHAINS, FEWEST_DRAWS, PILOT_ESS = 10, 100, 0.9


def _temperatures(text: str) -> tuple[int, ...]:
    numbers = steps(text)
    if numbers[0] < 2:
        count = f"{numbers[0]} temperature{'s' * (numbers[0] != 1)}"
        raise argparse.ArgumentTypeError(f"{text!r} holds a ladder of {count}: expected two or more")
    return numbers


def _parser() -> Parser:
    parser = Parser("likelihood", "Estimates log Z, and by how much the likelihood exceeds the VAE's.")
    parser.add_argument("model", help="a bundled name (mnist), a run folder, a model folder or a hub id")
    parser.add_argument(
        "--num-draws", type=positive, default=50_000, metavar="N", help="draws of the VAE (default 50000)"
    )
    parser.add_argument("--num-chains", type=positive, default=250, metavar="N", help="annealed chains (default 250)")
    parser.add_argument(
        "--temperatures",
        type=_temperatures,
        default=(10, 30, 100),
        metavar="K,K,…",
        help="lengths of the ladders that annealed chains climb (default 10,30,100)",
    )
    parser.add_argument("--seed", type=seed, default=2023, metavar="N", help="seed of draws and chains (default 2023)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="a .json file to write the figures to")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Runs the verb."""
    options = _parser().parse_args(arguments)
    if options.output:
        check_folder_of(options.output)
        check_suffix_of(options.output, ".json")
    for name, least in (("num_chains", FEWEST_CHAINS), ("num_draws", FEWEST_DRAWS)):
        if getattr(options, name) < least:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name)}: intervals need {least} or more")
    from vaebm.checkpoint import CheckpointError, write_json
    from vaebm.cli.evaluation import calibrate, scores_of
    from vaebm.cli.progress import Console
    from vaebm.data import load_splits, to_float
    from vaebm.recipes import Config, from_dict, read_model
    from vaebm.reports.likelihood import likelihood_text

    loaded = read_model(options.model)
    model, details = loaded.model, loaded.details.get("config", {})
    if "density" in details:
        raise UsageError(f"{loaded.folder} is a model of points: `vaebm evaluate` measures it by quadrature")
    if model.image_fields.chain_image != "sampled":
        raise UsageError(
            f"{loaded.folder} has an energy on the decoder's mean, so it is no density over images and has no "
            "likelihood: train with --images.chain_image sampled"
        )
    if not details:
        raise CheckpointError(f"{loaded.folder} doesn't say what it was trained on: give a model of `vaebm train`")
    config: Config = from_dict(Config, details)
    splits = load_splits(config.data.source, config.data.split_seed)
    console = Console()
    with console.busy("measuring"):
        result = estimate_normalizer(
            model, options.num_draws, options.num_chains, options.temperatures, options.seed, console.tell
        )
        console.tell(f"scoring {len(splits.test)} test images")
        calibration = loaded.calibration or calibrate(
            model, splits.calibration, config.evaluation.num_posterior_samples
        )
        scores = scores_of(model, to_float(splits.test.images), calibration)
    result["n"], result["data"] = len(splits.test), config.data.source
    result["elbo"], result["energy"] = float(scores.elbo.mean()), float(scores.energy.mean())
    if options.output:
        write_json(options.output, dict(result))
    console.tell(likelihood_text(result))
    return 0


def estimate_normalizer(
    model: VAEBM,
    num_draws: int,
    num_chains: int,
    temperatures: Sequence[int],
    seed: int,
    tell: Callable[[str], None],
) -> Likelihood:
    """Estimates log Z from draws of the VAE, and from chains on ladders of several lengths.

    Arguments:
        model: The VAEBM, in evaluation mode.
        num_draws: The number of draws of the VAE.
        num_chains: The number of annealed chains on each ladder.
        temperatures: The lengths of the ladders; all of them follow one that a pilot run adapts.
        seed: The seed of draws and chains.
        tell: Is told what goes on.

    Returns:
        The estimates.
    """
    import torch

    from vaebm.applications import start_noise
    from vaebm.evaluation import annealed_weights, importance_weights, summarize_weights, tilt_of
    from vaebm.nn import frozen
    from vaebm.sampling import adaptive_ladder, resized_ladder

    generator = torch.Generator().manual_seed(seed)
    annealed = []
    with frozen(model):
        tell(f"{num_draws} draws of the VAE")
        importance = summarize_weights(importance_weights(model, num_draws, generator))
        pilot = adaptive_ladder(
            tilt_of(model), start_noise(model, 250, generator), generator, conditional_ess=PILOT_ESS
        )
        for count in temperatures:
            tell(f"{num_chains} chains on {count} temperatures")
            found = annealed_weights(model, num_chains, resized_ladder(pilot, count), generator)
            summary = asdict(summarize_weights(found.log_weights))
            annealed.append({"temperatures": count, "acceptance": float(found.acceptance.mean()), **summary})
    return {"seed": seed, "importance": asdict(importance), "annealed": annealed}
