"""The model card of a run."""

from __future__ import annotations

from vaebm.cli.running import Run
from vaebm.recipes import to_dict
from vaebm.reports import CardContent, Evaluation, model_card

CREDITS = {
    "mnist": "MNIST, Yann LeCun, Corinna Cortes and Christopher J.C. Burges, CC BY-SA 3.0; bundled with vaebm.",
    "digits": "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, CC BY 4.0; from scikit-learn.",
}


def write_card(run: Run, evaluation: Evaluation) -> str:
    """Returns the card, Markdown."""
    config, model = run.config, run.model
    source = config.data.source
    channels, height, width = model.image_shape
    return model_card(
        CardContent(
            name=run.folder.path.resolve().name,
            summary=training_summary(run),
            data=CREDITS.get(source, f"Images from {source}."),
            license="apache-2.0" if source in CREDITS else "other",
            image_shape=(channels, height, width),
            num_steps=config.sampling.num_steps,
            step_size=config.sampling.step_size,
            num_parameters={
                "VAE": sum(parameter.numel() for parameter in model.vae.parameters()),
                "energy": sum(parameter.numel() for parameter in model.energy.parameters()),
            },
            config=to_dict(config),
            provenance=run.folder.read_provenance(),
            evaluation=evaluation,
            datasets=[source] if source in CREDITS else [],
        )
    )


def training_summary(run: Run) -> str:
    """Returns one sentence on what was trained, on what, and for how long."""
    times = ", ".join(f"{name} {seconds / 60:.1f} min" for name, seconds in run.seconds.items())
    return f"{len(run.splits.training):,} training images of {run.config.data.source}, seed {run.config.seed}; {times}."
