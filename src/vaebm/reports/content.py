"""What a report is made of: images, curves and figures, as plain arrays and plain dictionaries.

The dictionaries are those of `evaluation.json` and `metrics.jsonl`. Every part may be missing; the report then leaves
it out. Numbers may be None or, as JSON has no such numbers, the words "nan", "inf" and "-inf".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

import numpy as np

from vaebm.plots.arrays import FloatArray, IntArray, UInt8Array


class IntervalFigure(TypedDict):
    """A figure with the ends of its interval."""

    value: float
    low: float
    high: float


class QualityRow(TypedDict, total=False):
    """One set of images, as one judge sees it.

    `what` is "floor" (training images instead of samples), "VAE", "VAEBM" or "VAEBM, …". `closed` is the share of the
    distance between the VAE and the floor that is gone, (frechet_vae − frechet) / (frechet_vae − frechet_floor), and
    None where it means nothing. `kernel` is a mean over subsets with their deviation, `kernel_interval` that of all
    images with its 95 % interval.
    """

    judge: str
    judge_sha256: str
    what: str
    n: int
    seed: int
    frechet: float | None
    kernel: float | None
    kernel_std: float | None
    kernel_interval: IntervalFigure
    precision: float | None
    recall: float | None
    density: float | None
    coverage: float | None
    closed: float | None
    confidence: float | None
    shares: list[float] | None


class StepsRow(TypedDict, total=False):
    """The Fréchet distance after a number of chain steps; 0 steps are the VAE."""

    num_steps: int
    judge: str
    judge_sha256: str
    frechet: float | None
    n: int
    seed: int


class OutlierRow(TypedDict, total=False):
    """How well one score tells one outlier set from normal images: areas under curves, and FPR at 95 % TPR."""

    set: str
    score: str
    auroc: IntervalFigure
    aupr: IntervalFigure
    fpr95: IntervalFigure
    num_normal: int
    num_outliers: int
    seed: int


class PValueRow(TypedDict, total=False):
    """The share of n normal images whose p-value, of a score and with the seed of its noise, is at most `level`.

    The p-values are those by `num_calibration` other images.
    """

    level: float
    measured: float
    n: int
    num_calibration: int
    score: str
    seed: int


class GuardRecord(TypedDict):
    """How stage 2 ended: its condition, whether the guard gave up, what it did, and what rate and step size became."""

    condition: str
    gave_up: bool
    acts: list[str]
    rate_factor: float
    step_factor: float


class ModeRow(TypedDict):
    """The classes of one set of images by one judge: how many there are, and KL(shares ‖ uniform) in nats.

    `kl_interval` is ±1.96 standard errors, `kl_by_chance` what as many draws of equally probable classes would have;
    `shares` are left out of many classes. A probe's classes are `labels`; `accuracy` is the share of held-out images
    whose label it tells.
    """

    judge: str
    judge_sha256: str
    what: str
    n: int
    seed: int
    num_classes: int
    num_modes: int
    kl: float
    kl_by_chance: float
    kl_interval: NotRequired[IntervalFigure]
    shares: NotRequired[list[float] | None]
    labels: NotRequired[list[int] | None]
    accuracy: NotRequired[float | None]
    num_held_out: NotRequired[int | None]


class ErrorFigure(TypedDict):
    """A figure with the ends of its interval, None where that isn't known."""

    value: float
    low: float | None
    high: float | None


class StandardRow(TypedDict):
    """FID, KID and IS of one set of images on what an extractor sees, against n' real images of a split.

    `what` is "floor" (real images of another split), "VAE" or "VAEBM"; `inception_score` is None where the extractor
    knows no classes. `kid_std` and `inception_score_std` are spreads of subsets and parts.
    """

    extractor: str
    extractor_sha256: str
    what: str
    against: str
    n: int
    num_reference: int
    seed: int
    fid: ErrorFigure
    kid: ErrorFigure
    kid_std: float
    subset_size: int
    inception_score: ErrorFigure | None
    inception_score_std: float | None


class Evaluation(TypedDict, total=False):
    """Everything that `vaebm evaluate` measures, and on which data, in which precision of the chains.

    `num_steps` are the chain steps behind the rows of `quality` and `trained_steps` those of training; `sampling` says
    how those chains ran;
    `chains` are the fields of `vaebm.evaluation.ChainDiagnostics`; `diagnostics` holds further figures by name,
    possibly nested.
    """

    n: int
    seed: int
    num_steps: int
    sampling: dict[str, float]
    trained_steps: int
    data: str
    precision: str
    quality: list[QualityRow]
    steps_curve: list[StepsRow]
    outliers: list[OutlierRow]
    p_values: list[PValueRow]
    guard: GuardRecord
    chains: dict[str, Any]
    diagnostics: dict[str, Any]
    modes: list[ModeRow]
    standard: list[StandardRow]


@dataclass(frozen=True)
class NearestImages:
    """Some samples beside the training images nearest to them.

    Arguments:
        samples: uint8 (k, C, H, W).
        neighbours: uint8 (k, m, C, H, W), nearest first.
        distances: (k, m), the distance of each neighbour.
        measure: what kind of distance it is, in words.
        reference_distances: (r,), the same distance from unseen real images to their nearest training image.

    Raises:
        ValueError: if the shapes do not belong together.
    """

    samples: UInt8Array
    neighbours: UInt8Array
    distances: FloatArray
    measure: str = "Euclidean distance between pixels"
    reference_distances: FloatArray | None = None

    def __post_init__(self) -> None:
        if self.samples.ndim != 4 or self.neighbours.shape[:1] + self.neighbours.shape[2:] != self.samples.shape:
            raise ValueError(
                f"neighbours must be (k, m, C, H, W) for samples {self.samples.shape}, got {self.neighbours.shape}"
            )
        if self.distances.shape != self.neighbours.shape[:2]:
            raise ValueError(f"distances must be {self.neighbours.shape[:2]}, got {self.distances.shape}")


@dataclass(frozen=True)
class ReportContent:
    """Everything that a report shows; what is missing is left out.

    Arguments:
        title: the heading.
        summary: one or two sentences on what was trained, on what, and for how long.
        config: the complete configuration, nested.
        provenance: versions, commit, seed, hardware, times, nested; `reasons` are sentences on why the configuration
            is what it is.
        vae_samples: uint8 (N, C, H, W), the VAE's images.
        vaebm_samples: uint8 (N, C, H, W), where the chains that start at the same noise end; same order.
        real_images: uint8 (M, C, H, W).
        chain_images: uint8 (T, n, C, H, W), n chains at T recorded steps.
        chain_energies: (T, n).
        chain_steps: (T,), the number of steps made at each record.
        metrics: the rows of `metrics.jsonl`, each with `stage` ("vae" or "energy"), `iteration` and figures.
        evaluation: what was measured, see `Evaluation`.
        nearest: samples beside their nearest training images.

    Raises:
        ValueError: if arrays that belong together have different shapes.
    """

    title: str
    summary: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    vae_samples: UInt8Array | None = None
    vaebm_samples: UInt8Array | None = None
    real_images: UInt8Array | None = None
    chain_images: UInt8Array | None = None
    chain_energies: FloatArray | None = None
    chain_steps: IntArray | None = None
    metrics: Sequence[Mapping[str, Any]] = ()
    evaluation: Evaluation = field(default_factory=Evaluation)
    nearest: NearestImages | None = None

    def __post_init__(self) -> None:
        pair = (self.vae_samples, self.vaebm_samples)
        if pair[0] is not None and pair[1] is not None and pair[0].shape != pair[1].shape:
            raise ValueError(f"vae_samples and vaebm_samples start at the same noise: {pair[0].shape}, {pair[1].shape}")
        if self.chain_images is None:
            return
        if self.chain_energies is None or self.chain_steps is None:
            raise ValueError("chain_images come with chain_energies (T, n) and chain_steps (T,)")
        shapes = (self.chain_energies.shape, self.chain_steps.shape)
        if shapes != (self.chain_images.shape[:2], self.chain_images.shape[:1]):
            raise ValueError(f"chain_energies and chain_steps do not fit {self.chain_images.shape}: {shapes}")


def number(value: object) -> float | None:
    """Read a number as JSON holds it; None if it is none.

    Arguments:
        value: a number, one of the words "nan", "inf", "-inf", or anything else.

    Returns:
        The number as float, or None.

    Example:
        >>> number(3), number("inf"), number(None), number("three")
        (3.0, inf, None, None)
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        return float(value) if value in ("nan", "inf", "-inf") else None
    if isinstance(value, int | float | np.integer | np.floating):
        return float(value)
    return None
