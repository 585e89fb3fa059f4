"""What the figures say, in sentences.

Each function reads an evaluation and returns a sentence, or "" where the figures for it are missing. The sentences
state what was measured, good or bad; nothing is rounded in favour of the model.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vaebm.reports.content import Evaluation, NearestImages, QualityRow, number
from vaebm.reports.evaluation_tables import tone_of
from vaebm.reports.tables import format_value


def _range_text(values: Iterable[float], kind: Any = "digits") -> str:
    texts = [format_value(value, kind) for value in sorted(values)]
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"


def rows_by_judge(evaluation: Evaluation) -> dict[str, dict[str, QualityRow]]:
    """Return the first row of each kind ("real", "vae", "vaebm") for each judge that has a VAEBM.

    Arguments:
        evaluation: what was measured.

    Returns:
        Rows by judge and kind.
    """
    judges: dict[str, dict[str, QualityRow]] = {}
    for row in evaluation.get("quality", []):
        judges.setdefault(row.get("judge", ""), {}).setdefault(tone_of(row.get("what", "")), row)
    return {judge: rows for judge, rows in judges.items() if "vaebm" in rows}


def _frechets(evaluation: Evaluation, kind: str) -> list[float]:
    values = [number(rows[kind].get("frechet")) for rows in rows_by_judge(evaluation).values() if kind in rows]
    return [value for value in values if value is not None and np.isfinite(value)]


def _move(rows: Mapping[str, QualityRow]) -> str:
    before, after, floor = (format_value(rows.get(kind, {}).get("frechet")) for kind in ("vae", "vaebm", "real"))
    # No-break spaces keep a pair of numbers and its floor on one line.
    judge = rows["vaebm"].get("judge", "")
    return f"{before}\u00a0→\u00a0{after} (floor\u00a0{floor}{', ' * bool(judge)}{judge})"


def _is_worse(rows: Mapping[str, QualityRow]) -> bool:
    before, after = (number(rows.get(kind, {}).get("frechet")) for kind in ("vae", "vaebm"))
    return before is not None and after is not None and after >= before


def headline(evaluation: Evaluation) -> str:
    """Say in one sentence what the energy network adds to the VAE.

    Arguments:
        evaluation: what was measured; the first row of each judge whose `what` begins with "VAEBM" counts.

    Returns:
        The sentence, or "" without Fréchet distances of both.

    Example:
        >>> row = {"judge": "a", "frechet": 400.0, "what": "VAE"}
        >>> headline({"quality": [row, {**row, "what": "VAEBM", "frechet": 500.0}]})
        'The energy network does not help: Fréchet distance 500 with it, 400 without (a).'
    """
    before, after, floor = (_frechets(evaluation, kind) for kind in ("vae", "vaebm", "real"))
    if not before or not after:
        return ""
    # Judges have scales of their own: each is compared with itself.
    if any(_is_worse(rows) for rows in rows_by_judge(evaluation).values()):
        pairs = [
            f"{format_value(rows['vaebm'].get('frechet'))} with it, {format_value(rows['vae'].get('frechet'))} without"
            f"{f' ({judge})' * bool(judge)}"
            for judge, rows in rows_by_judge(evaluation).items()
        ]
        return f"The energy network does not help: Fréchet distance {'; '.join(pairs)}."
    shares = [number(rows["vaebm"].get("closed")) for rows in rows_by_judge(evaluation).values()]
    known = [share for share in shares if share is not None and np.isfinite(share)]
    ground = f", where real images reach {_range_text(floor)}" if floor else ""
    if not known:
        moved = f"from {_range_text(before)} to {_range_text(after)}{ground}"
        return f"The energy network brings the Fréchet distance {moved}."
    closed = _range_text(known, "percent").replace(" % to", " to")
    moves = ", ".join(_move(rows) for rows in list(rows_by_judge(evaluation).values())[:2])
    return f"The energy network closes {closed} of the Fréchet distance between its VAE and real images: {moves}."


def kernel_sentence(evaluation: Evaluation) -> str:
    """Say whether the kernel distances of VAE and VAEBM differ by more than chance.

    Arguments:
        evaluation: what was measured.

    Returns:
        The sentence, or "" without intervals of both.

    Example:
        >>> vae = {"judge": "a", "what": "VAE", "kernel_interval": {"value": 0.4, "low": 0.35, "high": 0.45}}
        >>> vaebm = {"judge": "a", "what": "VAEBM", "kernel_interval": {"value": 0.2, "low": 0.17, "high": 0.23}}
        >>> kernel_sentence({"quality": [vae, vaebm]})
        'Kernel distance, with 95 % intervals: VAE 0.400 [0.350, 0.450], VAEBM 0.200 [0.170, 0.230] (a): better.'
    """
    parts = []
    for judge, rows in rows_by_judge(evaluation).items():
        vae, vaebm = (rows.get(kind, {}).get("kernel_interval") for kind in ("vae", "vaebm"))
        if vae is None or vaebm is None:
            continue
        verdict = "the intervals overlap"
        if vaebm["high"] < vae["low"] or vae["high"] < vaebm["low"]:
            verdict = "better" if vaebm["high"] < vae["low"] else "worse"
        texts = [f"{name} {format_value(figure, 'interval')}" for name, figure in (("VAE", vae), ("VAEBM", vaebm))]
        parts.append(f"{', '.join(texts)} ({judge}): {verdict}")
    return f"Kernel distance, with 95 % intervals: {'; '.join(parts)}." if parts else ""


def steps_sentence(evaluation: Evaluation) -> str:
    """Say where the curve by steps is best and how it ends.

    Arguments:
        evaluation: what was measured; the first judge of `steps_curve` counts.

    Returns:
        The sentence, or "" with fewer than two points.
    """
    entries = evaluation.get("steps_curve", [])
    points = [
        (entry.get("num_steps", 0), value)
        for entry in entries
        if entry.get("judge") == entries[0].get("judge")
        and (value := number(entry.get("frechet"))) is not None
        and np.isfinite(value)
    ]
    if len(points) < 2:
        return ""
    best_steps, best = min(points, key=lambda point: point[1])
    last_steps, last = max(points)
    trained = evaluation.get("trained_steps")
    usual = f" (training used {trained})" if trained else ""
    if last_steps == best_steps:
        return (
            f"The distance is smallest, {format_value(best)}, at the longest chain measured, {best_steps} steps{usual}."
        )
    return (
        f"The distance is smallest, {format_value(best)}, after {best_steps} steps{usual}; after {last_steps} steps "
        f"it is {format_value(last)}, {last / max(best, 1e-12):.2f} times as large."
    )


def shares_sentence(row: QualityRow) -> str:
    """Say between which shares the classes of one set of images lie.

    Arguments:
        row: a row of sample quality with `shares`.

    Returns:
        The sentence, or "" without shares.

    Example:
        >>> shares_sentence({"what": "VAEBM", "shares": [0.4, 0.6]})
        'VAEBM: every class has a share between 0.400 and 0.600.'
    """
    shares = row.get("shares") or []
    if not shares:
        return ""
    missing = sum(share == 0 for share in shares)
    if missing:
        largest = format_value(max(shares), "unit")
        what = f"{missing} of {len(shares)} classes are missing; the largest has a share of {largest}"
        return f"{row.get('what', '')}: {what}."
    low, high = format_value(min(shares), "unit"), format_value(max(shares), "unit")
    return f"{row.get('what', '')}: every class has a share between {low} and {high}."


def weak_spots(evaluation: Evaluation) -> list[str]:
    """Say for each score which outlier set it recognises worst.

    Arguments:
        evaluation: what was measured.

    Returns:
        One sentence for each score.

    Example:
        >>> area = {"value": 0.505, "low": 0.49, "high": 0.52}
        >>> weak_spots({"outliers": [{"set": "uniform noise", "score": "energy", "auroc": area}]})
        ['The energy is weakest on uniform noise: AUROC 0.505 [0.490, 0.520], no better than chance.']
    """
    by_score: dict[str, list[tuple[float, str, Mapping[str, Any]]]] = {}
    for entry in evaluation.get("outliers", []):
        area = entry.get("auroc")
        value = number(area.get("value")) if area else None
        if area is not None and value is not None and np.isfinite(value):
            by_score.setdefault(entry.get("score", ""), []).append((value, entry.get("set", ""), area))
    sentences = []
    for score, entries in by_score.items():
        value, name, worst = min(entries, key=lambda entry: entry[0])
        low, high = number(worst.get("low")), number(worst.get("high"))
        remark = ""
        if high is not None and high < 0.5:
            remark = ", worse than chance: it takes these for the more normal ones"
        elif low is not None and low <= 0.5:
            remark = ", no better than chance"
        elif value >= 0.99:
            remark = ", still almost perfect"
        subject = {"energy": "The energy", "elbo": "The ELBO", "joint": "The joint score"}.get(score, score)
        sentences.append(f"{subject} is weakest on {name}: AUROC {format_value(worst, 'interval')}{remark}.")
    return sentences


def p_value_sentence(evaluation: Evaluation) -> str:
    """Say how far the measured false alarms are from their levels.

    Arguments:
        evaluation: what was measured.

    Returns:
        The sentence, or "" without measured levels.

    Example:
        >>> p_value_sentence({"p_values": [{"level": 0.05, "measured": 0.053, "n": 10000}]})
        'The share of false alarms is at most 0.30 points away from its level.'
    """
    pairs = [(number(row.get("level")), number(row.get("measured"))) for row in evaluation.get("p_values", [])]
    gaps = [abs(measured - level) for level, measured in pairs if level is not None and measured is not None]
    return f"The share of false alarms is at most {100 * max(gaps):.2f} points away from its level." if gaps else ""


def nearest_sentence(nearest: NearestImages) -> str:
    """Say whether samples are closer to training images than unseen real images are.

    Arguments:
        nearest: samples, neighbours and distances.

    Returns:
        The sentence.
    """
    middle = float(np.median(nearest.distances[:, 0]))
    sentence = f"The nearest training image of these samples is at a median distance of {middle:.3g}"
    reference = nearest.reference_distances
    if reference is None or reference.size == 0:
        return f"{sentence} ({nearest.measure})."
    usual = float(np.median(reference))
    verdict = (
        "closer than unseen images usually are: look at them with care"
        if middle < float(np.quantile(reference, 0.25))
        else "no sign of copying"
    )
    return f"{sentence}; for unseen real images it is {usual:.3g} ({nearest.measure}): {verdict}."


def find_value(nested: Mapping[str, Any], key: str) -> Any:
    """Return the first value under a key, however deep it lies; None if there is none.

    Example:
        >>> find_value({"model": {"chain_image": "sampled"}}, "chain_image")
        'sampled'
    """
    if key in nested:
        return nested[key]
    for value in nested.values():
        found = find_value(value, key) if isinstance(value, Mapping) else None
        if found is not None:
            return found
    return None


_FIELDS = {
    "chain_image": "the energy sees the {} image in a chain",
    "loss_image": "the {} image in the loss",
    "output_image": "and the {} image is given out",
}


def image_fields_sentence(config: Mapping[str, Any]) -> str:
    """Say which image of the decoder the energy sees and which is given out.

    Arguments:
        config: the configuration, with `chain_image`, `loss_image` and `output_image` somewhere in it.

    Returns:
        The sentence, or "" without these fields.

    Example:
        >>> image_fields_sentence({"images": {"chain_image": "sampled", "output_image": "mean"}})
        'The energy sees the sampled image in a chain, and the mean image is given out.'
    """
    values = {field: find_value(config, field) for field in _FIELDS}
    parts = [text.format(values[field]) for field, text in _FIELDS.items() if values[field] is not None]
    sentence = ", ".join(parts)
    return f"{sentence[:1].upper()}{sentence[1:]}." if parts else ""


def limits(config: Mapping[str, Any]) -> list[str]:
    """Say what a model of this kind cannot do.

    Arguments:
        config: the configuration; a `chain_image` of "mean" adds a limit.

    Returns:
        Sentences.
    """
    sentences = [
        "The chains are short: they improve samples, but they are not known to have reached the distribution of the "
        "model. Much longer chains may look worse.",
        "Image quality does not reach that of diffusion models; what the model adds is an energy for each image.",
        "A judge is a classifier, the bundled ones of digits: what it does not look at, it does not measure. Distances "
        "between pixels find copies, not copies that are shifted or redrawn.",
    ]
    if find_value(config, "chain_image") == "mean":
        sentences.append(
            "The energy sees the mean image of the decoder in a chain. This is a density over noise, not over images: "
            "likelihoods of images are not defined, and the joint outlier score is a heuristic."
        )
    return sentences
