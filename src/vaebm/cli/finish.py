"""The end of a run: calibrate, save the model, measure it, write the report."""

from __future__ import annotations

import time

import numpy as np
import torch

from vaebm.applications import snapshots, start_noise
from vaebm.checkpoint import write_bytes, write_json
from vaebm.cli.card import training_summary, write_card
from vaebm.cli.evaluation import SEED, calibrate, evaluate_model, record_chain
from vaebm.cli.stages import Interrupted, Run, save_checkpoint
from vaebm.data import to_float, to_uint8
from vaebm.recipes import save, to_dict
from vaebm.reports import Evaluation, NearestImages, ReportContent, evaluation_text, render_report
from vaebm.sampling import Langevin

NUM_SHOWN, NUM_CHAINS, NUM_NEAREST, NUM_NEIGHBOURS = 100, 16, 8, 4


def finish(run: Run) -> None:
    """Ends a run whose stages are trained; a run that was stopped here goes on here.

    Raises:
        Interrupted: If a signal asked to stop; what is done is saved.
    """
    before, began = run.seconds.get("evaluation", 0.0), time.monotonic()
    config = run.config
    model = run.model.eval().requires_grad_(False)
    save_checkpoint(run, "finished")
    calibration = calibrate(model, run.splits.calibration, config.evaluation.num_posterior_samples)
    evaluation = evaluate_model(
        model, run.splits, run.judges, calibration, config.sampling, config.evaluation, run.engine, {}, run.console.tell
    )
    evaluation["trained_steps"] = config.energy.num_steps
    _leave_if_asked(run)
    details = {"config": to_dict(config), "selection": {k: v for k, v in run.stored.get("best", {}).items() if k != "energy"}}
    save(model, run.folder.model, calibration=calibration, card=write_card(run, evaluation), details=details)
    write_json(run.folder.evaluation, evaluation)
    run.seconds["evaluation"] = before + time.monotonic() - began
    seconds = {name: round(value, 1) for name, value in run.seconds.items()}
    run.folder.write_provenance({**run.folder.read_provenance(), "seconds": seconds})
    write_bytes(run.folder.report, render_report(_content(run, evaluation)).encode())
    run.console.tell(evaluation_text(evaluation))


def _leave_if_asked(run: Run) -> None:
    if run.stop.name:
        raise Interrupted


def _content(run: Run, evaluation: Evaluation) -> ReportContent:
    config, model = run.config, run.model
    generator = torch.Generator().manual_seed(SEED + 1)
    steps, kernel = config.sampling.num_steps, Langevin(config.sampling.step_size)
    with run.engine.autocast():
        start = start_noise(model, NUM_SHOWN, generator)
        vae, vaebm = snapshots(model, start, (0, steps), kernel=kernel, generator=generator)
        every = max(1, steps // 30)
        record = record_chain(model, NUM_CHAINS, steps, config.sampling.step_size, generator, every)
    return ReportContent(
        title=f"VAEBM on {config.data.source}",
        summary=training_summary(run),
        config=to_dict(config),
        provenance=run.folder.read_provenance(),
        vae_samples=to_uint8(vae.images.cpu()),
        vaebm_samples=to_uint8(vaebm.images.cpu()),
        real_images=run.splits.test.images[:NUM_SHOWN],
        chain_images=record.images,
        chain_energies=record.energies,
        chain_steps=record.steps,
        metrics=run.folder.read_metrics(),
        evaluation=evaluation,
        nearest=_nearest(run, vaebm.images[:NUM_NEAREST].cpu()),
    )


def _nearest(run: Run, samples: torch.Tensor) -> NearestImages:
    training = to_float(run.splits.training.images).flatten(1)
    test = to_float(run.splits.test.images[:200]).flatten(1)
    closest = torch.cdist(samples.flatten(1), training).topk(NUM_NEIGHBOURS, largest=False)
    neighbours = run.splits.training.images[closest.indices.numpy()]
    reference = torch.cdist(test, training).min(1).values
    return NearestImages(
        to_uint8(samples), neighbours, np.asarray(closest.values), reference_distances=np.asarray(reference)
    )
