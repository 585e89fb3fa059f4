"""The model card of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vaebm.models import VAEBM
from vaebm.recipes import Config, to_dict
from vaebm.reports import CardContent, Evaluation, model_card

CREDITS = {
    "mnist": "MNIST, Yann LeCun, Corinna Cortes and Christopher J.C. Burges, CC BY-SA 3.0; bundled with vaebm.",
    "stacked_mnist": "StackedMNIST, made by vaebm of MNIST, Yann LeCun, Corinna Cortes and Christopher J.C. Burges, "
    "CC BY-SA 3.0.",
    "digits": "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, CC BY 4.0; from scikit-learn.",
}


def write_card(
    name: str, model: VAEBM, config: Config, provenance: Mapping[str, Any], evaluation: Evaluation, num_training: int
) -> str:
    """Returns the card, Markdown.

    Arguments:
        name: What a user loads it by.
        model: The model.
        config: The configuration of its run.
        provenance: Where its run comes from.
        evaluation: What was measured; may be empty.
        num_training: The number of training images.
    """
    source = config.data.source
    channels, height, width = model.image_shape
    return model_card(
        CardContent(
            name=name,
            summary=training_summary(config, provenance, num_training),
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
            provenance=provenance,
            evaluation=evaluation,
            datasets=[source] if source in CREDITS else [],
            persistence=config.sampling.persistence,
        )
    )


def training_summary(config: Config, provenance: Mapping[str, Any], num_training: int) -> str:
    """Returns one sentence on what was trained, on what, and for how long."""
    times = ", ".join(f"{name} {seconds / 60:.1f} min" for name, seconds in provenance["seconds"].items())
    changed = ""
    if provenance.get("earlier_images"):
        changed = " The images were exchanged on the way: some of those that measure may be learned ones."
    return f"{num_training:,} training images of {config.data.source}, seed {config.seed}; {times}.{changed}"
