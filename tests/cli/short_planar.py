"""Short runs of the plane, of a VAE so wide that its density adds up to 1 on a coarse grid, whatever it learned."""

from __future__ import annotations

from vaebm.checkpoint import RunFolder
from vaebm.cli.planar import parse
from vaebm.cli.planar_run import begin
from vaebm.cli.planar_stages import train_planar
from vaebm.cli.stop import Interrupted, StopRequest

SHORT = {
    "vae_network.scale_kind": "fixed",
    "vae_network.scale": "0.1",
    "vae.num_iterations": "20",
    "vae.batch_size": "64",
    "energy.num_iterations": "60",
    "energy.batch_size": "64",
    "energy.num_prior_samples": "256",
    "evaluation.grid_size": "64",
    "evaluation.latent_grid_size": "64",
    "evaluation.num_samples": "100",
    "evaluation.num_steps": "8",
    "evaluation.num_draws": "1000",
    "evaluation.num_annealed": "10",
    "evaluation.temperatures": "[2]",
    "report_every": "1",
    "checkpoint_every": "2",
}

# Chains that the guard finds too wild a few times, before it has found a pace.
ALARMED = {
    "energy.objective": "contrastive",
    "energy.kernel": "langevin",
    "energy.jump_probability": "0",
    "energy.num_steps": "3",
    "energy.step_size": "0.3",
    "guard.window": "5",
    "guard.snapshot_every": "5",
    "guard.num_attempts": "8",
    "guard.largest_noise_norm": "1.1",
    "guard.largest_separation": "9",
    "guard.largest_overshoot": "9",
}


def short_planar(*more: dict[str, str], **overrides: str) -> list[str]:
    """The options of a run of a second; names with __ for a point."""
    values = dict(SHORT)
    for others in (*more, {name.replace("__", "."): value for name, value in overrides.items()}):
        values |= others
    return [word for name, value in values.items() for word in (f"--{name}", value)]


def stop_after_an_iteration(arguments: list[str]) -> RunFolder | None:
    """Begins or goes on, and asks to stop; the folder of a run that was interrupted, None of one that is trained."""
    request = parse(arguments)
    assert request is not None
    run = begin(request, stop := StopRequest(), arguments)
    stop.name = "SIGTERM"
    try:
        train_planar(run)
    except Interrupted:
        return run.folder
    finally:
        run.close()
    return None
