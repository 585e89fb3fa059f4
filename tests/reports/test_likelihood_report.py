"""Tables and sentences of a likelihood."""

from __future__ import annotations

from typing import Any

from vaebm.reports.likelihood import likelihood_sentences, likelihood_tables, likelihood_text, normalizer_rows


def interval(value: float, margin: float = 0.1) -> dict[str, float]:
    return {"value": value, "low": value - margin, "high": value + margin}


def row(log_z: float, bound: float, ess: float, **more: Any) -> dict[str, Any]:
    found = {"log_z": interval(log_z), "forward_bound": interval(bound), "ess": ess, "num_weights": 500}
    return {**found, "is_usable": ess >= 100, **more}


def figures(importance: dict[str, Any], annealed: dict[str, Any]) -> dict[str, Any]:
    images = [
        {"what": "with pixel noise", "elbo": 30.0, "energy": -7.0},
        {"what": "clean", "elbo": 80.0, "energy": 2.0},
    ]
    return {"n": 1000, "data": "mnist", "importance": importance, "annealed": [annealed], "images": images}


def test_the_gain_is_at_most_what_the_highest_bound_leaves() -> None:
    found = figures(row(-4.0, -9.0, 2.0), row(-3.0, -5.0, 30.0, temperatures=10))
    images = likelihood_tables(found)[1]
    assert [entry["gain"] for entry in images.rows] == [12.0, 3.0]
    assert "the gain itself is not known" in likelihood_sentences(found)[-1]
    assert "10 temperatures" in likelihood_text(found)


def test_usable_weights_tell_the_gain() -> None:
    found = figures(row(-4.0, -9.0, 2.0), row(-3.0, -5.0, 300.0, temperatures=10))
    assert (
        "By 10 temperatures, whose weights are worth 300 draws, the gain is 10.00 with pixel noise, 1.00 clean"
        in (likelihood_sentences(found)[-1])
    )


def test_a_bound_refutes_an_estimate_below_it() -> None:
    found = figures(row(-8.0, -9.0, 400.0), row(-3.0, -5.0, 30.0, temperatures=10))
    assert [entry["is_usable"] for entry in normalizer_rows(found)] == [False, False]
    assert "the gain itself is not known" in likelihood_sentences(found)[-1]
