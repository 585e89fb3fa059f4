"""``vaebm likelihood``: what can be known of a model's density: log Z, and by how much it exceeds the VAE's."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebm.cli.parsing import Parser, UsageError, add_source, check_folder_of, check_suffix_of, positive, seed, steps

if TYPE_CHECKING:
    from torch import Tensor

    from vaebm.evaluation import Normalizer
    from vaebm.models import VAEBM
    from vaebm.recipes import LoadedModel

FEWEST_CHAINS, FEWEST_DRAWS, MOST_TEMPERATURES = 10, 100, 100_000


def _temperatures(text: str) -> tuple[int, ...]:
    numbers = steps(text)
    if numbers[0] < 2:
        count = f"{numbers[0]} temperature{'s' * (numbers[0] != 1)}"
        raise argparse.ArgumentTypeError(f"{text!r} holds a ladder of {count}: expected two or more")
    if numbers[-1] > MOST_TEMPERATURES:
        raise argparse.ArgumentTypeError(f"{text!r} holds a ladder of more than {MOST_TEMPERATURES} temperatures")
    return numbers


def _parser() -> Parser:
    parser = Parser("likelihood", "Estimates log Z, and by how much the likelihood exceeds the VAE's.")
    parser.add_argument("model", help="a bundled name (mnist), a run folder, a model folder or a hub id")
    add_source(parser)
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
    from vaebm.checkpoint import write_json
    from vaebm.cli.progress import Console
    from vaebm.recipes import read_model
    from vaebm.reports.likelihood import likelihood_text

    loaded = read_model(options.model)
    data, images = _test_images(loaded, options.source)
    console = Console()
    with console.busy("measuring"):
        try:
            figures = measure(loaded.model, images, options, console.tell)
        except ValueError as error:
            raise UsageError(f"{loaded.folder} can't be measured: {error}") from error
    figures = {"model": str(options.model), "data": data, **figures}
    if options.output:
        write_json(options.output, figures)
    console.tell(likelihood_text(figures))
    return 0


def _test_images(loaded: LoadedModel, source: str | None) -> tuple[str, Tensor]:
    """Returns the name of the data set of a model that has likelihoods, and its test images."""
    from vaebm.checkpoint import CheckpointError
    from vaebm.cli.known_images import load_splits_of
    from vaebm.data import to_float
    from vaebm.recipes import Config, config_class, from_dict

    details = loaded.details.get("config")
    if not isinstance(details, Mapping):
        raise CheckpointError(f"{loaded.folder} doesn't say what it was trained on: give a model of `vaebm train`")
    if "density" in details:
        raise UsageError(f"{loaded.folder} is a model of points: `vaebm evaluate` measures it by quadrature")
    if loaded.model.image_fields.chain_image != "sampled":
        raise UsageError(
            f"{loaded.folder} has an energy on the decoder's mean, so it is no density over images and has no "
            "likelihood: train with --images.chain_image sampled"
        )
    config: Config = from_dict(config_class(details), details)
    splits = load_splits_of(config, loaded.details, source)
    shape, expected = tuple(splits.test.shape), tuple(loaded.model.image_shape)
    if shape != expected:
        raise UsageError(f"{config.data.source} has images of {shape}, but {loaded.folder} takes {expected}")
    return config.data.source, to_float(splits.test.images)


def measure(model: VAEBM, images: Tensor, options: Namespace, tell: Callable[[str], None]) -> dict[str, Any]:
    """Estimates log Z from draws of the VAE and from annealed chains, and the other terms on images.

    Arguments:
        model: The VAEBM, in evaluation mode.
        images: Images (N, C, H, W) in [−1, 1].
        options: num_draws, num_chains, temperatures and seed.
        tell: Is told what goes on.

    Returns:
        ``seed``, ``n``; ``importance`` and rows of ``annealed``: log_z, forward_bound, ess, num_weights, is_usable;
        rows of ``images``: what they are, elbo and energy.
    """
    import torch

    from vaebm.evaluation import annealed_weights, importance_weights, likelihood_terms, pilot_ladder, summarize_weights
    from vaebm.nn import frozen
    from vaebm.sampling import resized_ladder

    generator, annealed = torch.Generator().manual_seed(options.seed), []
    with frozen(model):
        tell(f"{options.num_draws} draws of the VAE")
        importance = _plain(summarize_weights(importance_weights(model, options.num_draws, generator)))
        tell("a pilot run finds a ladder of temperatures")
        pilot = pilot_ladder(model, generator)
        for count in options.temperatures:
            tell(f"{options.num_chains} chains on {count} temperatures")
            found = annealed_weights(model, options.num_chains, resized_ladder(pilot, count), generator)
            told = {"temperatures": count, "acceptance": float(found.acceptance.mean())}
            annealed.append({**told, **_plain(summarize_weights(found.log_weights))})
        tell(f"{len(images)} test images")
        terms = [
            {"what": what, **asdict(likelihood_terms(model, images, generator, with_pixel_noise=noisy))}
            for what, noisy in (("with pixel noise", True), ("clean", False))
        ]
    return {"seed": options.seed, "n": len(images), "importance": importance, "annealed": annealed, "images": terms}


def _plain(summary: Normalizer) -> dict[str, Any]:
    return {**asdict(summary), "is_usable": summary.is_usable}
