"""The report of a run: one HTML file that needs nothing else.

Images are data URIs, curves inline SVG; the content security policy forbids the file to ask for anything. Without
scripts everything can be read, and the chain plays.
"""

import json
from collections.abc import Mapping
from html import escape
from typing import Any

import yaml

from vaebm.reports.chain_section import chain_section
from vaebm.reports.content import Evaluation, ReportContent, number
from vaebm.reports.markup import bullets, details
from vaebm.reports.sections import (
    agreement_section,
    nearest_section,
    outliers_section,
    p_values_section,
    quality_section,
    samples_section,
    shares_section,
    steps_section,
    training_section,
)
from vaebm.reports.sentences import headline, image_fields_sentence, limits
from vaebm.reports.tables import format_value
from vaebm.reports.theme import SCRIPT, STYLE

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def _as_yaml(nested: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(nested, default=str))
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100))


def _judges(evaluation: Evaluation) -> list[str]:
    hashes = {row.get("judge", ""): row.get("judge_sha256", "") for row in evaluation.get("quality", [])}
    return [f"{escape(name)}: <code>{escape(digest or 'hash not recorded')}</code>" for name, digest in hashes.items()]


def _chains(evaluation: Evaluation) -> str:
    """Says how the chains behind samples ran; older evaluations tell their number of steps alone."""
    if "num_steps" not in evaluation:
        return ""
    told, sampling = f"{evaluation['num_steps']} Langevin steps", evaluation.get("sampling")
    if sampling is None:
        return told
    kept = f" that keep {sampling['persistence']:g} of the momentum" if sampling["persistence"] else ""
    return f"{told} of size {sampling['step_size']:g}{kept}"


def _measured_section(content: ReportContent) -> str:
    evaluation = content.evaluation
    entries: list[tuple[str, str]] = []
    if evaluation.get("quality"):
        facts = [f"{evaluation['n']:,} samples" if "n" in evaluation else "",
                 f"seed {evaluation['seed']}" if "seed" in evaluation else "",
                 _chains(evaluation)]  # fmt: skip
        known = ", ".join(fact for fact in facts if fact)
        entries += [
            ("Samples", f"{known}. {image_fields_sentence(content.config)} Every set of images is rounded to 8 bits "
             "before a judge sees it."),
            ("Judges, with the SHA-256 of their tensors", "<br>".join(_judges(evaluation))),
            ("Fréchet distance", "|m₁ − m₂|² + tr(C₁ + C₂ − 2(C₁C₂)<sup>½</sup>) of the means and covariances of a "
             "judge’s features. It depends on the judge and on the number of images: compare it only within a judge, "
             "with its floor, and not with published Inception FIDs."),
            ("Closed", "(VAE − VAEBM) / (VAE − floor), of Fréchet distances."),
            ("Kernel distance", "The unbiased squared MMD with the kernel (x·y/F + 1)³; it can be slightly negative. "
             "The 95 % interval is that of the jackknife over 20 groups of samples and of test images; where there is "
             "± instead, it is the deviation between random subsets."),
            ("Class shares", "The shares of a judge’s most probable class among the samples."),
            ("Precision, recall, density, coverage", "Shares and counts of images within the balls that reach the "
             "k-th nearest neighbour in feature space (arXiv 1904.06991 and 2002.09797)."),
        ]  # fmt: skip
    if evaluation.get("outliers"):
        row = evaluation["outliers"][0]
        counts = f"{row.get('num_normal', 0):,} normal images, {row.get('num_outliers', 0):,} of a set of outliers"
        entries.append(("Outlier figures", f"{counts}, seed {row.get('seed', 'not recorded')}. Outliers are the "
                        "positive class: FPR95 is the share of test images that is flagged when 95 % of the outliers "
                        "are. Intervals are the 2.5 and 97.5 % percentiles of 200 bootstrap resamples; a width of zero "
                        "is the limit of that method, not certainty."))  # fmt: skip
    if evaluation.get("p_values"):
        entries.append(("p-values", "(1 + #{calibration scores ≥ s}) / (n + 1), split-conformal."))
    if content.metrics:
        entries.append(("Curves", "Means over single batches of training. The held-out ELBO is that of the selection "
                        "split, with one posterior sample an image."))  # fmt: skip
    if content.nearest:
        entries.append(("Nearest training images", f"{content.nearest.measure}, to every training image, "
                        "and in the same way from unseen test images."))  # fmt: skip
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{text}</dd>' for name, text in entries)}</dl>" if entries else ""


def _diagnostics_rows(nested: Mapping[str, Any], prefix: str = "") -> list[str]:
    rows = []
    for key, value in nested.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows += _diagnostics_rows(value, f"{name}.")
        else:
            text = format_value(value) if number(value) is not None else str(value)
            rows.append(f'<tr><th scope="row">{escape(name)}</th><td class="number">{escape(text)}</td></tr>')
    return rows


def _details_section(content: ReportContent) -> str:
    parts = [bullets(content.provenance.get("reasons", ()))]
    diagnostics = _diagnostics_rows(content.evaluation.get("diagnostics", {}))
    if diagnostics:
        table = f'<div class="scroll"><table><tbody>{"".join(diagnostics)}</tbody></table></div>'
        parts.append(details("Diagnostics", table))
    for title, nested in (("Configuration", content.config), ("Provenance", content.provenance)):
        if nested:
            parts.append(details(title, f"<pre>{escape(_as_yaml(nested))}</pre>"))
    return "".join(parts)


def _sections(content: ReportContent) -> list[tuple[str, str, str]]:
    """Return anchor, heading and body of each section that has something to show."""
    sections = [
        ("samples", "The same noise, without and with the energy network", samples_section(content)),
        ("chain", "A chain at work", chain_section(content)),
        ("quality", "Sample quality", quality_section(content)),
        ("steps", "How many steps", steps_section(content)),
        ("agreement", "Do the chains agree?", agreement_section(content)),
        ("classes", "Is every class there?", shares_section(content)),
        ("outliers", "Telling outliers", outliers_section(content)),
        ("p-values", "Are the p-values right?", p_values_section(content)),
        ("nearest", "Is it memorising?", nearest_section(content)),
        ("training", "Training", training_section(content)),
        ("measured", "How this was measured", _measured_section(content)),
        ("limits", "Limits", bullets(limits(content.config))),
        ("details", "Every setting", _details_section(content)),
    ]
    return [section for section in sections if section[2]]


_SHORT = {
    "samples": "Samples", "chain": "Chain", "quality": "Quality", "steps": "Steps", "agreement": "Agreement",
    "classes": "Classes",
    "outliers": "Outliers", "p-values": "p-values", "nearest": "Nearest images", "training": "Training",
    "measured": "Method", "limits": "Limits", "details": "Settings",
}  # fmt: skip


def render_report(content: ReportContent) -> str:
    """Write the report of a run.

    Arguments:
        content: what to show; missing parts are left out.

    Returns:
        A whole HTML document that refers to nothing outside of itself.

    Example:
        >>> page = render_report(ReportContent(title="a < b"))
        >>> "a &lt; b" in page and "http://" not in page.replace("http://www.w3.org/2000/svg", "")
        True
    """
    sections = _sections(content)
    links = "".join(f'<a href="#{anchor}">{_SHORT[anchor]}</a>' for anchor, _, _ in sections)
    bodies = "".join(f'<section id="{anchor}"><h2>{title}</h2>{body}</section>' for anchor, title, body in sections)
    claim = headline(content.evaluation)
    heading = f'<p class="eyebrow">{escape(content.title)}</p><h1>{escape(claim)}</h1>' if claim else ""
    heading = heading or f"<h1>{escape(content.title)}</h1>"
    lede = f'<p class="lede">{escape(content.summary)}</p>' if content.summary else ""
    script = f"<script>{SCRIPT}</script>" if content.chain_images is not None else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(content.title)}</title><style>{STYLE}</style></head>\n"
        f'<body><header>{heading}{lede}<nav aria-label="Sections">{links}</nav></header>\n'
        f"<main>{bodies}</main>\n<footer>Made by vaebm. This file needs nothing but itself.</footer>{script}"
        "</body></html>\n"
    )
