"""The end of a run: calibrate, save the model, measure it, write the report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, cast

import numpy as np
import torch

from vaebm.applications import snapshots, start_noise
from vaebm.checkpoint import CheckpointError, RunFolder, find_model_folder, read_json, write_bytes, write_json
from vaebm.cli.card import training_summary, write_card
from vaebm.cli.chain_looks import record_chain
from vaebm.cli.evaluation import Against, calibrate, evaluate_model
from vaebm.cli.running import Run, save_checkpoint
from vaebm.data import evenly_spaced, to_float, to_uint8
from vaebm.distributed import peak_memory
from vaebm.recipes import save, to_dict
from vaebm.reports import Evaluation, NearestImages, ReportContent, evaluation_text, render_report

NUM_SHOWN, NUM_CHAINS, NUM_NEAREST, NUM_NEIGHBOURS, NUM_DISTANCES = 64, 12, 8, 4, 200
CHUNK = 10_000


def is_finished(folder: RunFolder) -> bool:
    """Whether a run has all that ``finish`` writes."""
    return folder.report.is_file() and folder.evaluation.is_file() and find_model_folder(folder.model) is not None


def has_given_up(folder: RunFolder) -> bool:
    """Whether the guard of a finished run gave up."""
    return bool(_stored_evaluation(folder).get("guard", {}).get("gave_up"))


def finish(run: Run) -> None:
    """Ends a run whose stages are trained; what is written already isn't done again.

    Launched processes share chains and scores, and the main one does the rest.

    Raises:
        Interrupted: If a signal asked to stop; ``finish`` goes on with what is missing.
    """
    engine = run.engine
    origin = time.monotonic() - run.seconds.get("evaluation", 0.0)
    model = run.model.eval().requires_grad_(False)
    # A run that goes on here has read its weights, but not the number of steps that was chosen.
    model.sampling = asdict(run.sampling)
    try:
        with run.stop.leaving_at_once(), run.console.busy("measuring"):
            scored = run.config.evaluation.num_posterior_samples
            run.console.tell(f"scoring {len(run.splits.calibration):,} calibration images")
            calibration = calibrate(model, run.splits.calibration, scored, engine)
            if engine.is_main:
                _note_costs(run)
                # Whatever happens while it is measured, there is a model.
                _save(run, calibration, Evaluation())
            evaluation = _evaluation(run, calibration)
            if not engine.is_main:
                return
            run.seconds["evaluation"] = time.monotonic() - origin
            _note_costs(run)
            _save(run, calibration, evaluation)
            write_bytes(run.folder.report, render_report(_content(run, evaluation)).encode())
    finally:
        run.seconds["evaluation"] = time.monotonic() - origin
        save_checkpoint(run, "trained")
    stages = sum(run.seconds.get(name, 0.0) for name in ("vae", "energy"))
    parts = [f"{name} {seconds:.1f} s" for name, seconds in run.of_which.items()]
    run.console.tell(f"training took {stages:.0f} s, of which {', '.join(parts)}")
    peak = run.folder.read_provenance().get("peak_memory_gib")
    if peak is not None:
        run.console.tell(f"peak memory {peak:.1f} GiB")
    run.console.tell(evaluation_text(evaluation))


def _note_costs(run: Run) -> None:
    seconds = {name: round(value, 1) for name, value in run.seconds.items()}
    of_which = {name: round(value, 1) for name, value in run.of_which.items()}
    provenance = {**run.folder.read_provenance(), "seconds": seconds, "of_which": of_which}
    peak = peak_memory(run.engine.device)
    if peak is not None:
        # A run that was resumed held its memory in several processes.
        provenance["peak_memory_gib"] = round(max(peak, provenance.get("peak_memory_gib", 0.0)), 2)
    run.folder.write_provenance(provenance)


def _evaluation(run: Run, calibration: Mapping[str, Any]) -> Evaluation:
    engine = run.engine
    # Processes of other machines needn't see the folder.
    is_there = torch.tensor(float(engine.is_main and run.folder.evaluation.exists()), device=engine.device)
    if float(engine.mean(is_there)) > 0:
        return _stored_evaluation(run.folder) if engine.is_main else Evaluation()
    config = run.config
    against = Against(run.splits, run.judges)
    evaluation = evaluate_model(
        run.model, against, calibration, run.sampling, config.evaluation, engine, run.console.tell
    )
    if not engine.is_main:
        return evaluation
    if config.energy.objective == "contrastive":
        evaluation["trained_steps"] = config.energy.num_steps
    evaluation["data"], evaluation["precision"] = config.data.source, engine.precision
    if run.guard is not None:
        acts = [act.text() for act in run.guard.acts]
        evaluation["guard"] = {
            "condition": run.guard.condition, "gave_up": run.guard.has_given_up, "acts": acts,
            "rate_factor": run.guard.rate, "step_factor": run.guard.step,
        }  # fmt: skip
    write_json(run.folder.evaluation, evaluation)
    return evaluation


def _stored_evaluation(folder: RunFolder) -> Evaluation:
    stored = read_json(folder.evaluation)
    if not isinstance(stored, dict) or not {"n", "seed", "num_steps", "outliers", "p_values"} <= stored.keys():
        raise CheckpointError(f"{folder.evaluation} is damaged: remove it, and resume to measure anew")
    return cast(Evaluation, stored)


def _save(run: Run, calibration: dict[str, Any], evaluation: Evaluation) -> None:
    selection = {name: value for name, value in run.best.items() if name != "energy"}
    name, provenance = run.folder.path.resolve().name, run.folder.read_provenance()
    told = {part: provenance.get(part, {}) for part in ("images", "seconds")}
    details = {"config": to_dict(run.config), "selection": selection, **told}
    card = write_card(
        name, run.model, replace(run.config, sampling=run.sampling), provenance, evaluation, len(run.splits.training)
    )
    preprocessing = run.config.data.preprocessing
    save(run.model, run.folder.model, calibration=calibration, card=card, details=details, preprocessing=preprocessing)


def _content(run: Run, evaluation: Evaluation) -> ReportContent:
    config, model = run.config, run.model
    generator = torch.Generator().manual_seed(config.evaluation.seed + 1)
    steps, kernel = run.sampling.num_steps, run.sampling.kernel
    with run.engine.autocast():
        start = start_noise(model, NUM_SHOWN, generator)
        vae, vaebm = snapshots(model, start, (0, steps), kernel=kernel, generator=generator)
        every = max(1, steps // 30)
        record = record_chain(model, NUM_CHAINS, steps, kernel, generator, every)
    return ReportContent(
        title=f"VAEBM on {config.data.source}",
        summary=training_summary(config, run.folder.read_provenance(), len(run.splits.training)),
        config=to_dict(config),
        provenance=run.folder.read_provenance(),
        vae_samples=to_uint8(vae.images.cpu()),
        vaebm_samples=to_uint8(vaebm.images.cpu()),
        real_images=run.splits.test.images[evenly_spaced(len(run.splits.test), NUM_SHOWN)],
        chain_images=record.images,
        chain_energies=record.energies,
        chain_steps=record.steps,
        metrics=run.folder.read_metrics(),
        evaluation=evaluation,
        nearest=_nearest(run, vaebm.images[:NUM_NEAREST].cpu()),
    )


def _nearest(run: Run, samples: torch.Tensor) -> NearestImages:
    training = run.splits.training.images
    test = to_float(run.splits.test.images[evenly_spaced(len(run.splits.test), NUM_DISTANCES)]).flatten(1)
    distances, reference = [], torch.full((len(test),), torch.inf)
    for first in range(0, len(training), CHUNK):
        # All of them would fill the memory as floats.
        part = to_float(training[first : first + CHUNK]).flatten(1)
        distances.append(torch.cdist(samples.flatten(1), part))
        reference = torch.minimum(reference, torch.cdist(test, part).min(1).values)
    closest = torch.cat(distances, 1).topk(NUM_NEIGHBOURS, largest=False)
    neighbours = training[closest.indices.numpy()]
    return NearestImages(
        to_uint8(samples), neighbours, np.asarray(closest.values), reference_distances=np.asarray(reference)
    )
