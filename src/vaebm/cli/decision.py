"""What ``vaebm score`` and ``vaebm export`` need of a model: scores of images, and a rate that they can promise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vaebm.cli.parsing import UsageError

if TYPE_CHECKING:
    from vaebm.models import VAEBM
    from vaebm.recipes import LoadedModel


@dataclass(frozen=True)
class Decider:
    """A model that scores images, the scores that calibrate it, and the rate of false alarms to decide at."""

    loaded: LoadedModel
    calibration: dict[str, Any]
    rate: float


def read_decider(name: str, rate: float | None) -> Decider:
    """Reads a model of images with its calibration.

    Arguments:
        name: A bundled name, a run folder, a model folder or a hub id.
        rate: The false-positive rate; None: the one that is stored with the model.

    Raises:
        CheckpointError: If there is no such model, or it has no calibration.
        UsageError: If it scores no images, or so few calibration images don't resolve the rate.
    """
    from vaebm.checkpoint import CheckpointError
    from vaebm.cli.evaluation import FALSE_POSITIVE_RATE
    from vaebm.recipes import read_model

    loaded = read_model(name)
    if loaded.model.image_shape[0] not in (1, 3):
        raise UsageError(f"{loaded.folder} is a model of points: it scores no images")
    if loaded.calibration is None:
        raise CheckpointError(f"{loaded.folder} has no calibration.json: p-values need one, train with `vaebm train`")
    smallest = 1 / (len(loaded.calibration["outlier_scores"]) + 1)
    used = rate or loaded.calibration.get("false_positive_rate", max(FALSE_POSITIVE_RATE, smallest))
    if used < smallest:
        raise UsageError(
            f"--false-positive-rate {used}: this model's calibration resolves no rate below {smallest:.2g}"
        )
    return Decider(loaded, loaded.calibration, used)


def score_notes(model: VAEBM) -> list[str]:
    """Returns what is to be said of a model's joint score before anybody trusts it."""
    if model.image_fields.chain_image != "mean":
        return []
    return ["the energy is one on the decoder's mean: the outlier score is a heuristic, not a bound on a density"]
