"""``vaebm train gaussians`` and its like: both stages on a density of the plane, measured by quadrature."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from vaebm.checkpoint import RunFolder, read_json, write_bytes, write_json
from vaebm.cli.finish import is_finished
from vaebm.cli.options import option_parser
from vaebm.cli.parsing import UsageError
from vaebm.cli.planar_gain import flat_text, is_flat
from vaebm.cli.planar_run import PlanarRun, Request, begin, resumed_path, stored_config
from vaebm.cli.planar_stages import train_planar
from vaebm.cli.request import ACCEPT, OWN_OPTIONS, merged_file, recipe_word, run_path
from vaebm.cli.running import see_through
from vaebm.cli.stop import GAVE_UP, STOPPED, StopRequest
from vaebm.data import PlanarDensity, planar_density
from vaebm.evaluation import (
    Normalizer,
    PlanarModel,
    annealed_weights,
    diagnose_chains,
    histogram,
    importance_weights,
    measure_planar,
    planar_model,
    summarize_weights,
)
from vaebm.models import VAEBM
from vaebm.recipes import PLANAR_RECIPES, PlanarConfig, from_dict, save, to_dict
from vaebm.reports.planar import PlanarContent, PlanarEvaluation, planar_text, render_planar_report
from vaebm.sampling import Kernel, Mala, run_chain, uniform_ladder
from vaebm.training import Act, diagnosis, make_kernel

ANNEALED_STEP = 0.05
OFFICIAL = "official potential"


def parse(arguments: Sequence[str]) -> Request | None:
    """Turns a command line into a request; None if it asked for help or a dry run, and has got it.

    Raises:
        UsageError: If it can't be understood.
        ConfigError: If a value is out of range, or the file can't be used.
        CheckpointError: If there is no run to go on with.
    """
    words = [word for word in arguments if word not in ("-h", "--help")]
    path, name = resumed_path(words), recipe_word(words)
    base = PlanarConfig() if name is None else PLANAR_RECIPES[name]()
    if len(words) < len(arguments):
        option_parser(base).print_help()
        return None
    if path is not None:
        if [word for word in words if word not in ("--resume", path, f"--resume={path}")]:
            raise UsageError("--resume takes no other option: a run of the plane goes on with its own configuration")
        folder = RunFolder(Path(path)).open()
        return Request(stored_config(folder), folder, True)
    first = option_parser(base).parse_args(words)
    if first.accept_changed_images:
        raise UsageError(f"{ACCEPT} is for images: points are drawn")
    if first.config is not None:
        base = merged_file(base, Path(first.config))
    values = option_parser(base).parse_args(words).as_dict()
    config = from_dict(PlanarConfig, {key: value for key, value in values.items() if key not in OWN_OPTIONS})
    if first.dry_run:
        print(yaml.safe_dump(to_dict(config), sort_keys=False), end="")
        return None
    return Request(config, RunFolder(run_path(first.output, str(name))), False)


def run(arguments: Sequence[str]) -> int:
    """Runs the verb."""
    request = parse(arguments)
    if request is None:
        return 0
    folder = request.folder
    if request.is_resumed and is_finished(folder):
        print(f"the run {folder.path} is finished; report: {folder.report}")
        return GAVE_UP if has_given_up(folder) else 0
    stop = StopRequest()
    with stop.listening():
        begun = begin(request, stop, arguments)
        if not see_through(begun, train_planar, finish):
            return STOPPED
    why = _given_up(begun)
    if why:
        begun.console.tell(why)
    return GAVE_UP if why else 0


def has_given_up(folder: RunFolder) -> bool:
    """Whether the guard of a finished run gave up, or had to act and nothing was gained."""
    stored = read_json(folder.evaluation)
    return isinstance(stored, dict) and bool(stored.get("guard", {}).get("gave_up"))


def _given_up(run: PlanarRun) -> str:
    """Returns why a trained run counts as given up; empty if it doesn't."""
    acts = _acts(run)
    if acts and acts[-1].gave_up:
        return diagnosis(acts, run.config.energy)
    gain = run.best["gain"]
    return flat_text(gain, run.config.energy, acts) if acts and is_flat(gain) else ""


def _acts(run: PlanarRun) -> tuple[Act, ...]:
    return () if run.guard is None else run.guard.acts


def finish(run: PlanarRun) -> None:
    """Ends a run whose stages are trained, in the main process: saves the model, measures it, writes the report.

    Raises:
        Interrupted: If a signal asked to stop; a run that goes on measures anew.
        UsageError: If the model can't be measured.
    """
    if not run.engine.is_main:
        return
    began, folder, acts = time.monotonic(), run.folder, _acts(run)
    config, model = run.config, run.model.eval().requires_grad_(False)
    if acts:
        # Chains that measure take no longer steps than the guard let those of training take.
        config = replace(config, energy=replace(config.energy, step_size=acts[-1].step_size))
        model.sampling = {**model.sampling, "step_size": acts[-1].step_size}
    save(model, folder.model, details={"config": to_dict(config)}, card=f"# VAEBM on {config.density}\n")
    with run.stop.leaving_at_once(), run.console.busy("measuring"):
        evaluation, maps = measure(model, config)
    run.seconds["evaluation"] = time.monotonic() - began
    seconds = {name: round(value, 1) for name, value in run.seconds.items()}
    folder.write_provenance({**folder.read_provenance(), "seconds": seconds})
    told = [act.text() for act in acts]
    why = _given_up(run)
    write_json(folder.evaluation, {**evaluation, "guard": {"gave_up": bool(why), "acts": told}})
    if why and not acts[-1].gave_up:
        told.append(why)
    content = PlanarContent(evaluation, maps, to_dict(config), folder.read_provenance(), told)
    write_bytes(folder.report, render_planar_report(content).encode())
    run.console.tell(planar_text(evaluation))
    run.console.tell(f"report: {folder.report}")


def measure(model: VAEBM, config: PlanarConfig) -> Measured:
    """Measures a model of the plane, as ``evaluate``.

    Raises:
        UsageError: If it can't be measured.
    """
    try:
        return evaluate(model, config)
    except ValueError as error:
        raise UsageError(str(error)) from error


class Measured(NamedTuple):
    """The figures of a model of the plane, and the maps of its report by title, each (n, n)."""

    evaluation: PlanarEvaluation
    maps: dict[str, NDArray[np.float64]]


def evaluate(model: VAEBM, config: PlanarConfig) -> Measured:
    """Measures a model of the plane.

    Raises:
        ValueError: If the VAE's density doesn't add up to 1 on the grid.
    """
    settings, density = config.evaluation, planar_density(config.density)
    generator = torch.Generator().manual_seed(settings.seed)
    exact = planar_model(model, density, settings.grid_size, settings.latent_grid_size)
    energy = config.energy
    kernel = make_kernel(energy.kernel, energy.step_size, energy.jump_probability, energy.persistence)
    images = _end_images(model, config, kernel, generator)
    counted = histogram(density.to_points(images), exact.grid, density)
    simple = summarize_weights(importance_weights(model, settings.num_draws, generator, 20_000))
    ladders = {count: uniform_ladder(count, Mala(ANNEALED_STEP)) for count in settings.temperatures}
    annealed = [
        {"temperatures": count, **_plain(summarize_weights(
            annealed_weights(model, settings.num_annealed, ladder, generator, batch_size=5000).log_weights))}
        for count, ladder in ladders.items()
    ]  # fmt: skip
    densities = {"truth": exact.truth, "VAE": exact.vae, "VAEBM": exact.vaebm, "its chains": counted,
                 OFFICIAL: exact.official}  # fmt: skip
    masses = measure_planar(exact.vaebm, exact.grid, density).mode_masses
    evaluation = PlanarEvaluation(
        density=config.density,
        seed=settings.seed,
        rows=[_row(what, values, exact, density) for what, values in densities.items()],
        mode_masses=list(masses),
        log_z=exact.log_z,
        importance=_plain(simple),
        annealed=annealed,
        chains=asdict(diagnose_chains(model, kernel, settings.num_steps, generator)),
    )
    size = exact.grid.size
    maps = {what: _smoothed(values.view(size, size), what) for what, values in densities.items()}
    return Measured(evaluation, maps)


def _smoothed(values: Tensor, what: str) -> NDArray[np.float64]:
    """Returns a map; that of the chains in squares of 2×2 cells, so that it isn't all noise."""
    if what != "its chains":
        return values.numpy()
    pooled = torch.nn.functional.avg_pool2d(values[None, None], 2)
    return torch.nn.functional.interpolate(pooled, scale_factor=2)[0, 0].numpy()


def _row(what: str, values: Tensor, exact: PlanarModel, density: PlanarDensity) -> dict[str, Any]:
    figures = asdict(measure_planar(values, exact.grid, density))
    masses = figures.pop("mode_masses")
    if what == "its chains":
        # Empty cells make the logarithm of a histogram meaningless, and its noise the distance.
        figures = {"within_four_sigma": figures["within_four_sigma"]}
    return {"what": what, **figures, "smallest_mass": min(masses), "largest_mass": max(masses)}


def _plain(summary: Normalizer) -> dict[str, Any]:
    return asdict(summary)


def _end_images(model: VAEBM, config: PlanarConfig, kernel: Kernel, generator: torch.Generator) -> Tensor:
    """Returns the images (N, 2, 1, 1) that chains end at."""
    settings = config.evaluation
    noise = torch.randn(settings.num_samples, model.noise_layout.size, generator=generator)
    for step in run_chain(kernel, noise, model.log_density, settings.num_steps, generator):
        noise = step.state.noise
    with torch.no_grad():
        return model.transport(noise).image
