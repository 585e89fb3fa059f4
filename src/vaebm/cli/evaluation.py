"""Measures a model on the test images: where models, data, judges and metrics meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaebm.applications import Generation, outlier_scores, sample_chains, snapshots, start_noise
from vaebm.data import ImageSet, Splits, outlier_sets, to_float, to_uint8
from vaebm.distributed import Engine
from vaebm.evaluation import (
    Judge,
    Reference,
    SampleQuality,
    fraction_closed,
    frechet_to_reference,
    make_reference,
    measure_against,
    measure_outliers,
)
from vaebm.metrics import Prdc, conformal_p_values, false_positive_rates, prdc
from vaebm.models import VAEBM
from vaebm.recipes.config import EvaluationConfig, SamplingConfig
from vaebm.reports.content import Evaluation, QualityRow
from vaebm.sampling import Langevin

LEVELS = (0.01, 0.05, 0.10)
SEED = 2023


@dataclass(frozen=True)
class ChainRecord:
    """Chains step by step: images uint8 (T, n, C, H, W), energies (T, n), steps (T,)."""

    images: NDArray[np.uint8]
    energies: NDArray[np.float64]
    steps: NDArray[np.int64]


def record_chain(
    model: VAEBM, num_images: int, num_steps: int, step_size: float, generator: torch.Generator, every: int = 1
) -> ChainRecord:
    """Runs chains and keeps what they look like at every so many steps, the first and the last included."""
    noise = start_noise(model, num_images, generator)
    seen: list[Generation] = [
        look
        for look in sample_chains(model, noise, num_steps, Langevin(step_size), generator)
        if look.step % every == 0 or look.step == num_steps
    ]
    images = np.stack([to_uint8(look.images) for look in seen])
    energies = np.stack([look.energies.cpu().numpy() for look in seen])
    return ChainRecord(images, energies, np.array([look.step for look in seen]))


def calibrate(model: VAEBM, calibration: ImageSet, num_posterior_samples: int) -> dict[str, Any]:
    """Scores the calibration split, for p-values; goes into the model folder."""
    generator = torch.Generator().manual_seed(SEED)
    scores = outlier_scores(
        model, to_float(calibration.images), num_posterior_samples=num_posterior_samples, generator=generator
    ).outlier_score
    return {
        "score": "joint",
        "seed": SEED,
        "num_posterior_samples": num_posterior_samples,
        "outlier_scores": [round(float(value), 4) for value in scores.sort().values],
    }


def evaluate_model(
    model: VAEBM,
    splits: Splits,
    judges: Sequence[Judge],
    calibration: Mapping[str, Any],
    sampling: SamplingConfig,
    settings: EvaluationConfig,
    engine: Engine,
    extra_outliers: Mapping[str, Tensor],
    tell: Callable[[str], None],
) -> Evaluation:
    """Measures everything that the report shows, on the test images.

    Arguments:
        model: The VAEBM, in evaluation mode.
        splits: The four splits; the calibration and selection splits aren't looked at.
        judges: The feature extractors; none of them, no quality rows.
        calibration: What ``calibrate`` returned.
        sampling: How images are generated.
        settings: How much is measured.
        engine: Device and precision of the chains.
        extra_outliers: Further outlier sets by name, (N, C, H, W) in [−1, 1].
        tell: Is told what goes on.

    Returns:
        The figures.
    """
    generator = torch.Generator().manual_seed(SEED)
    steps = sorted({0, sampling.num_steps, *settings.steps_curve})
    count = min(settings.num_samples, len(splits.training))
    result = Evaluation(n=count, seed=SEED, num_steps=sampling.num_steps)
    if judges:
        tell(f"drawing {count} samples, up to {steps[-1]} Langevin steps")
        with engine.autocast():
            chains = snapshots(
                model, start_noise(model, count, generator), steps, kernel=Langevin(sampling.step_size), generator=generator
            )
        tell(f"judging them: {', '.join(judge.name for judge in judges)}")
        result["quality"], result["steps_curve"] = [], []
        for judge in judges:
            _judge(result, judge, chains, splits, sampling.num_steps)
        result["diagnostics"] = _diagnose(model, chains)
    tell("scoring outliers")
    _rank(result, model, splits, settings, extra_outliers)
    _calibration_row(result, model, splits, calibration)
    return result


def _judge(result: Evaluation, judge: Judge, chains: list[Generation], splits: Splits, num_steps: int) -> None:
    generator = torch.Generator().manual_seed(SEED)
    test, training = to_float(splits.test.images), to_float(splits.training.images)
    reference = make_reference(judge, test, training, num_samples=result["n"], generator=generator)
    distances = {chain.step: frechet_to_reference(chain.images.cpu(), reference) for chain in chains}
    full = {
        chain.step: measure_against(chain.images.cpu(), reference, generator=generator)
        for chain in chains
        if chain.step in (0, num_steps)
    }
    vae, vaebm = full[0], full[num_steps]
    closed = fraction_closed(vae.frechet, vaebm.frechet, vae.frechet_floor) if vae.frechet > vae.frechet_floor else None
    result["quality"] += [_floor_row(reference, vae), _row("VAE", vae, None), _row("VAEBM", vaebm, closed)]
    result["steps_curve"] += [
        {"num_steps": step, "judge": judge.name, "frechet": distance, "n": result["n"]}
        for step, distance in distances.items()
    ]


def _row(what: str, quality: SampleQuality, closed: float | None) -> QualityRow:
    row = QualityRow(
        judge=quality.judge, judge_sha256=quality.judge_sha256, what=what, n=quality.num_samples, seed=quality.seed,
        frechet=quality.frechet, kernel=quality.kernel.mean, kernel_std=quality.kernel.std, closed=closed,
        **_prdc(quality.prdc),
    )  # fmt: skip
    if quality.classes is not None:
        row["confidence"], row["shares"] = quality.classes.mean_confidence, list(quality.classes.shares)
    return row


def _floor_row(reference: Reference, vae: SampleQuality) -> QualityRow:
    """Returns the row of n training images in the place of samples."""
    row = QualityRow(
        judge=vae.judge, judge_sha256=vae.judge_sha256, what="floor", n=vae.num_samples, seed=vae.seed,
        frechet=vae.frechet_floor, kernel=vae.kernel_floor.mean, kernel_std=vae.kernel_floor.std, closed=None,
        **_prdc(prdc(reference.test.features, reference.training.features)),
    )  # fmt: skip
    if vae.classes is not None:
        row["confidence"], row["shares"] = vae.classes.reference_mean_confidence, list(vae.classes.reference_shares)
    return row


def _prdc(figures: Prdc) -> dict[str, float]:
    return {name: getattr(figures, name) for name in ("precision", "recall", "density", "coverage")}


def _diagnose(model: VAEBM, chains: list[Generation]) -> dict[str, Any]:
    size = model.noise_layout.latent_size
    return {
        "noise_norm": {str(chain.step): float(chain.noise.square().mean(dtype=torch.float64)) for chain in chains},
        "latent_noise_norm": {str(chain.step): float(chain.noise[:, :size].square().mean(dtype=torch.float64)) for chain in chains},
        "sample_energy": {str(chain.step): float(chain.energies.mean()) for chain in chains},
    }


def _rank(
    result: Evaluation, model: VAEBM, splits: Splits, settings: EvaluationConfig, extra_outliers: Mapping[str, Tensor]
) -> None:
    generator = torch.Generator().manual_seed(SEED)
    normal = to_float(splits.test.images)
    sets = {**outlier_sets(normal, generator), **extra_outliers}
    latent_generator = torch.Generator()

    def score(images: Tensor) -> dict[str, Tensor]:
        latent_generator.manual_seed(SEED)
        scores = outlier_scores(
            model, images, num_posterior_samples=settings.num_posterior_samples, generator=latent_generator
        )
        return {"energy": scores.energy, "elbo": -scores.elbo, "joint": scores.outlier_score}

    result["outliers"] = [
        {
            "set": row.outliers, "score": row.score,
            "auroc": asdict(row.ranking.auroc), "aupr": asdict(row.ranking.aupr), "fpr95": asdict(row.ranking.fpr95),
            "n_normal": row.ranking.num_normal, "n_outlier": row.ranking.num_outlier,
        }
        for row in measure_outliers(score, normal, sets, generator=generator)
    ]  # type: ignore[typeddict-item]  # fmt: skip


def _calibration_row(result: Evaluation, model: VAEBM, splits: Splits, calibration: Mapping[str, Any]) -> None:
    generator = torch.Generator().manual_seed(calibration["seed"])
    scores = outlier_scores(
        model, to_float(splits.test.images), num_posterior_samples=calibration["num_posterior_samples"], generator=generator
    )
    reference = torch.tensor(calibration["outlier_scores"], dtype=torch.float64)
    rates = false_positive_rates(conformal_p_values(reference, scores.outlier_score), LEVELS)
    result["p_values"] = [{"level": level, "measured": rate, "n": len(splits.test)} for level, rate in rates.items()]
