"""The table of claims: what counts as shown, what as missing."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from vaebm.checkpoint import write_json

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
Write = Callable[[str, Any], None]


@pytest.fixture
def evidence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("evidence")
    monkeypatch.setattr("measured.RESULTS", tmp_path)
    return module


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(name: str, values: Any) -> None:
        write_json(tmp_path / f"{name}.json", values)

    return put


def row(name: str, seed: int, low: float, curve: Mapping[int, float] | None = None) -> dict[str, Any]:
    """A row; by the first judge everything is alike, by the last the interval begins at ``low``."""
    quality = [{"judge": judge, "frechet": 10 * start, "floor": 0.4,
                "kernel_interval": {"value": start + 0.5, "low": start, "high": start + 1}}
               for judge, start in (("plain", 5.0), ("apart", low))]  # fmt: skip
    looks = [{"judge": judge, "num_steps": steps, "frechet": value if judge == "apart" else 1.0}
             for judge in ("plain", "apart") for steps, value in (curve or {}).items()]  # fmt: skip
    return {"name": name, "title": name.upper(), "seed": seed, "quality": quality, "curve": looks, "seconds": 180.0,
            "chosen": {"num_steps": 30}}  # fmt: skip


def kept(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"mnist": {"identity": {}, "rows": {f"{row['name']}-{row['seed']}": row for row in rows}}}


def test_rivals_are_compared_seed_by_seed_by_the_last_judge(evidence: Any, write: Write) -> None:
    # In another order: only seeds of the same number are pairs.
    ours = [row("vaebm", 0, 0.0), row("vaebm", 1, 4.0)]
    write("rivals", kept(*ours, row("pixels", 1, 6.0), row("pixels", 0, 2.0)))
    found = evidence.rivals(["pixels"])
    assert found.verdict == "holds"
    assert found.found == (
        "kernel distance by apart: VAEBM 2.500 [0.000, 5.000], PIXELS 4.500 [2.000, 7.000]; medians of 2 seeds, "
        "outermost ends of their intervals"
    )
    write("rivals", kept(*ours, row("pixels", 1, 2.0), row("pixels", 0, 6.0)))
    assert evidence.rivals(["pixels"]).verdict == "fails"


def test_a_seed_that_is_missing_leaves_it_open(evidence: Any, write: Write) -> None:
    write("rivals", kept(row("vaebm", 0, 0.0), row("vaebm", 1, 0.0), row("pixels", 0, 9.0)))
    found = evidence.rivals(["pixels"])
    assert found.verdict == "open"
    assert "not measured: pixels, seed 1" in found.found
    write("rivals", kept(row("vaebm", 0, 0.0)))
    found = evidence.rivals(["pixels"])
    assert (found.verdict, "pixels, seed 0" in found.found) == ("open", True)


def test_a_rival_that_diverged_is_worse_and_a_vaebm_too(evidence: Any, write: Write) -> None:
    lost = {**row("pixels", 0, 0.0), "quality": []}
    write("rivals", kept(row("vaebm", 0, 1.0), lost))
    found = evidence.rivals(["pixels"])
    assert (found.verdict, "PIXELS diverged; one seed" in found.found) == ("holds", True)
    write("rivals", kept({**row("vaebm", 0, 0.0), "quality": []}, row("pixels", 0, 1.0)))
    assert evidence.rivals(["pixels"]).verdict == "fails"


def test_rows_that_are_not_there_leave_it_open(evidence: Any, write: Write) -> None:
    """Each claim by itself: others of the table are told all the same."""
    lost = {**row("vaebm", 0, 0.0), "quality": []}
    few = row("vaebm", 0, 0.0)
    del few["quality"][1]["kernel_interval"]
    for rows in ([row("vae", 0, 9.0)], [row("vae", 0, 9.0), row("wgan-gp", 0, 9.0)], [lost], [few]):
        write("rivals", kept(*rows))
        for claim in (evidence.rivals, evidence.gan, evidence.fresh_chains):
            with pytest.raises(evidence.NotMeasured):
                claim()


def test_the_gan_is_as_it_comes_out(evidence: Any, write: Write) -> None:
    for low, verdict in ((9.0, "better here"), (1.0, "worse here"), (4.5, "not apart here")):
        write("rivals", kept(row("vaebm", 0, 4.0), row("wgan-gp", 0, low)))
        found = evidence.gan()
        assert found.verdict == verdict
        assert "after 3.0 minutes of training" in found.found
    write("rivals", kept(row("vaebm", 0, 4.0)))
    assert evidence.gan().verdict == "open"


def test_the_seconds_of_pixels_stand_beside_those_of_noise(evidence: Any, write: Write) -> None:
    def timed(name: str, curve: Mapping[int, float], pace: float) -> dict[str, Any]:
        return {**row(name, 0, 0.0, curve), "milliseconds_per_step": pace}

    ours = timed("vaebm", {0: 8.0, 15: 4.0}, 2.0)
    # A hundredth further is as near.
    found = {"pixels-short-run": timed("pixels-short-run", {0: 9.0, 30: 4.1, 60: 4.03}, 1.0),
             "pixels-persistent": timed("pixels-persistent", {0: 9.0, 200: 4.05}, 1.0)}  # fmt: skip
    for pace, verdict in ((0.5, "in part"), (2.0, "in part"), (3.0, "holds")):
        # At the second pace they may have been near between 20 and 60 seconds.
        write("rivals", kept(ours, *found.values(), timed("pixels-from-vae", {0: 8.0, 10: 4.2, 30: 4.0}, pace)))
        claim = evidence.pixel_seconds()
        assert claim.verdict == verdict
        assert (
            "after 15 steps of VAEBM, 30.0 s (Fréchet distance 4 by apart, or 1 % more): PIXELS-SHORT-RUN 60.0 s"
            in claim.found
        )
        assert f"not within 200 s (4.05 at best), PIXELS-FROM-VAE {30 * pace:.1f} s" in claim.found
    lost = {**timed("pixels-from-vae", {}, 1.0), "quality": []}
    write("rivals", kept(ours, *found.values(), lost))
    claim = evidence.pixel_seconds()
    assert (claim.verdict, claim.found.endswith("PIXELS-FROM-VAE diverged; one seed")) == ("holds", True)
    write("rivals", kept(ours, *found.values()))
    with pytest.raises(evidence.NotMeasured):
        evidence.pixel_seconds()


def test_short_chains_are_judged_by_the_last_judge(evidence: Any, write: Write) -> None:
    curve = {0: 8.4, 15: 2.8, 30: 2.4}
    write("rivals", kept(row("vaebm-no-buffer", 0, 0.0, curve)))
    found = evidence.fresh_chains()
    whole = "Fréchet distance at 15 steps over the best (of what is above the floor), by apart"
    told = f"{whole}: 1.17 (1.20), 2.8 after the VAE's 8.4"
    assert (found.verdict, found.found) == ("holds", told)
    write("rivals", kept(row("vaebm-no-buffer", 0, 0.0, curve), row("vaebm-no-buffer", 1, 0.0, {0: 8.0, 30: 2.0})))
    found = evidence.fresh_chains()
    assert (found.verdict, "seed 1 not finite" in found.found) == ("fails", True)


def test_a_best_at_the_floor_is_nothing_to_divide_by(evidence: Any, write: Write) -> None:
    write("rivals", kept(row("vaebm-no-buffer", 0, 0.0, {0: 8.4, 15: 2.4, 30: 0.3})))
    found = evidence.fresh_chains()
    assert (found.verdict, "8.00 (∞)" in found.found) == ("fails", True)
    # Both are as near as images of the data.
    write("rivals", kept(row("vaebm-no-buffer", 0, 0.0, {0: 8.4, 15: 0.4, 30: 0.39})))
    found = evidence.fresh_chains()
    assert (found.verdict, "1.03 (1.00)" in found.found) == ("holds", True)
    # The best may be 15 steps themselves.
    write("rivals", kept(row("vaebm-no-buffer", 0, 0.0, {0: 8.4, 15: 0.3, 30: 0.35})))
    found = evidence.fresh_chains()
    assert (found.verdict, "1.00 (1.00)" in found.found) == ("holds", True)
    # An unbiased kernel distance may be negative.
    few = {"chains": "as trained", "curve": {"0": 0.8, "15": 0.3, "200": -0.001}}
    write("short_chains", {"mnist-few": chains([few], floor=0.0)})
    found = evidence.few_steps()
    assert (found.verdict, "by apart: ∞" in found.found) == ("fails", True)


def test_chains_of_15_steps_must_have_come_somewhere(evidence: Any, write: Write) -> None:
    """A quarter of the way, above the floor of .4."""
    for distance, verdict in ((6.0, "holds"), (6.2, "in part")):
        write("rivals", kept(row("vaebm-no-buffer", 0, 0.0, {0: 8.0, 15: distance, 30: 6.0})))
        assert evidence.fresh_chains().verdict == verdict


def chains(rows: Sequence[dict[str, Any]], floor: float = 0.0, **same: str) -> dict[str, Any]:
    """What is kept of a model's chains; of those that have no row of their own, ``same`` tells whose they have."""
    places = {row["chains"]: place for place, row in enumerate(rows)}
    kinds = ("as trained", "without momentum", "chosen")
    row_of = {kind: places[same.get(kind.replace(" ", "_"), kind if kind in places else "as trained")]
              for kind in kinds}  # fmt: skip
    return {"few": 15, "judge": "apart", "measure": "frechet", "floors": [floor], "rows": list(rows), "row_of": row_of}


def test_chains_with_momentum_are_compared_with_the_best_of_all(evidence: Any, write: Write) -> None:
    def entry(**curves: float) -> dict[str, Any]:
        return chains(
            [{"chains": kind, "curve": {"1": 9.0, "15": few, "200": 2.0}} for kind, few in curves.items()], 0.4
        )

    first, second = entry(**{"as trained": 6.0, "chosen": 2.4}), entry(**{"as trained": 6.0, "chosen": 3.0})
    write("short_chains", {"mnist": first})
    found = evidence.kept_momentum()
    assert (found.verdict, "mnist 1.20 (1.25); without momentum 3.00" in found.found) == ("holds", True)
    write("short_chains", {"mnist": first, "cifar10-small": second})
    assert evidence.kept_momentum().verdict == "in part"
    write("short_chains", {"cifar10-small": second})
    assert evidence.kept_momentum().verdict == "fails"
    # Chosen without momentum; chains that diverged are infinitely far.
    plain = entry(**{"as trained": float("inf"), "without momentum": 2.2})
    plain["row_of"]["chosen"] = plain["row_of"]["without momentum"]
    write("short_chains", {"mnist": plain})
    found = evidence.kept_momentum()
    assert (
        found.verdict,
        "mnist 1.10 (1.12); without momentum 1.10 (1.12); as trained ∞" in found.found,
    ) == ("holds", True)
    # Chosen may be what the model has, though others without momentum have a row.
    own = entry(**{"as trained": 2.0, "without momentum": 5.0})
    write("short_chains", {"mnist": own})
    found = evidence.kept_momentum()
    assert (found.verdict, "mnist 1.00 (1.00); without momentum 2.50" in found.found) == ("holds", True)


def test_a_recipe_is_judged_by_the_judge_that_chose_nothing(evidence: Any, write: Write) -> None:
    curve = [{"judge": judge, "num_steps": steps, "frechet": distance}
             for judge, distances in (("digits_plain", (9.0, 8.0, 1.0)), ("digits_apart", (9.0, 2.4, 2.0)))
             for steps, distance in zip((0, 15, 60), distances, strict=True)]  # fmt: skip
    quality = [{"judge": "digits_apart", "what": "floor", "frechet": 0.1}]
    write("mnist", {"sampled-0": {"evaluation": {"steps_curve": curve, "quality": quality}}})
    found = evidence.short_chains()
    assert (found.verdict, found.found.endswith("by digits_apart: 1.20 (1.21)")) == ("holds", True)
    lost = [look for look in curve if look["num_steps"] != 15]
    write("mnist", {f"sampled-{seed}": {"evaluation": {"steps_curve": looks, "quality": quality}}
                    for seed, looks in enumerate((curve, lost))})  # fmt: skip
    found = evidence.short_chains()
    assert (found.verdict, found.found.endswith("1.20 (1.21), ∞ (∞)")) == (
        "fails",
        True,
    )


def test_every_stressed_run_must_hold(evidence: Any, write: Write) -> None:
    def entries(*closed: float) -> dict[str, Any]:
        found = [{"cell": "default", "guarded": True, "exit_code": 0, "closed": 0.8}]
        found += [{"cell": "other", "guarded": True, "exit_code": 0, "closed": share} for share in closed]
        found += [{"cell": "other", "guarded": False, "exit_code": 0, "closed": 0.1}]
        return {str(place): entry for place, entry in enumerate(found)}

    write("kills", {"kills": 40, "lost": 0, "differing": 0})
    write("stress", {"digits": entries(0.8, 0.4), "mnist": entries(0.8), "gaussians": entries(0.8)})
    found = evidence.survival()
    told = (
        "stressed runs that hold with the guard: digits 2 of 2 (0 without), mnist 1 of 1 (0 without), gaussians 1 of 1"
    )
    assert (found.verdict, found.found.startswith(told)) == ("holds", True)
    write("stress", {"digits": entries(0.8, 0.4), "mnist": entries(0.8), "gaussians": entries(0.3)})
    found = evidence.survival()
    assert (found.verdict, "gaussians 0 of 1 (0 without)" in found.found) == ("in part", True)
    write("stress", {"digits": entries(0.8), "mnist": entries(0.8), "gaussians": entries(0.8)})
    write("kills", {"kills": 40, "lost": 1, "differing": 0})
    assert evidence.survival().verdict == "in part"


def test_training_for_few_steps_is_compared_with_the_best_of_all(evidence: Any, write: Write) -> None:
    def entry(few: float) -> dict[str, Any]:
        rows = [{"chains": "as trained", "curve": {"1": 9.0, "15": few, "200": 8.0}},
                {"chains": "chosen", "curve": {"1": 9.0, "15": 2.2, "200": 2.0}}]  # fmt: skip
        return chains(rows)

    for few, verdict in ((2.5, "holds"), (2.6, "fails")):
        write("short_chains", {"mnist": entry(9.0), "mnist-few": entry(few)})
        found = evidence.few_steps()
        told = f"(of what is above the floor), by apart: {few / 2:.2f} ({few / 2:.2f}), as chosen 1.10"
        assert found.verdict == verdict
        assert found.found.startswith("Fréchet distance at 15 steps over the best of all after 0 to 200 ")
        assert told in found.found
        assert "mnist-few" not in evidence.kept_momentum().found
    write("short_chains", {"mnist-few": entry(2.5), "mnist-few-1": entry(2.6)})
    assert evidence.few_steps().verdict == "fails"
    # Chains that do nothing are the same everywhere.
    idle = chains([{"chains": "as trained", "curve": {"0": 9.0, "15": 9.0, "200": 9.0}}])
    write("short_chains", {"mnist-few": idle, "mnist": idle})
    assert (evidence.few_steps().verdict, evidence.kept_momentum().verdict) == ("in part", "in part")
    # It holds nowhere.
    write("short_chains", {"mnist": idle, "other": entry(9.0) | {"row_of": dict.fromkeys(idle["row_of"], 0)}})
    assert evidence.kept_momentum().verdict == "fails"
    write("short_chains", {"mnist": entry(9.0)})
    with pytest.raises(evidence.NotMeasured):
        evidence.few_steps()
    write("short_chains", {"mnist-few": entry(2.5)})
    with pytest.raises(evidence.NotMeasured):
        evidence.kept_momentum()


def test_only_missing_results_are_open(evidence: Any, write: Write) -> None:
    assert {line.split(" | ")[3] for line in evidence.lines_of()[2:]} == {"open"}
    write("rivals", {"fashion": {}})
    with pytest.raises(evidence.NotMeasured):
        evidence.fresh_chains()
    # A result that lacks something is an error, not a row that is open.
    write("small", {"cifar10-small": {}})
    with pytest.raises(KeyError):
        evidence.lines_of()


def test_noise_counts_among_the_outliers_of_mnist(evidence: Any, write: Write) -> None:
    def ranked(kind: str, joint: float) -> list[dict[str, Any]]:
        return [{"set": kind, "score": score, "auroc": {"value": value, "low": value, "high": value}}
                for score, value in (("joint", joint), ("complexity", 0.5))]  # fmt: skip

    measure = next(measure for _, _, name, measure in evidence.CLAIMS if name == "outliers-mnist")
    for noise, verdict in ((0.995, "holds"), (0.9, "in part"), (0.2, "fails")):
        rows = [entry for kind in ("fashion", "cifar10", "gaussian noise") for entry in ranked(kind, 1.0)]
        write("outliers", {"mnist": {"rows": [*rows, *ranked("uniform noise", noise)]}})
        assert measure().verdict == verdict


def test_published_figures_say_how_far_they_are_trusted(evidence: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for claim, paper, _, _ in evidence.CLAIMS:
        assert not any(letter.isdigit() for letter in paper) or "memory)" in paper or "(read)" in paper, claim
    monkeypatch.setattr("measured.RESULTS", BENCHMARKS / "results")
    head, _, *lines = evidence.lines_of()
    assert head.endswith("| hours |")
    assert all(float(line.split(" | ")[-1].rstrip(" |")) > 0 for line in lines)
    assert "mean ± standard deviation over" in lines[0]


def test_the_run_whose_modes_are_counted_is_better_than_its_vae(evidence: Any, write: Write) -> None:
    rows = [
        {"judge": "plain", "what": what, "n": 2000, "kernel_interval": {"value": low, "low": low, "high": low + 0.1}}
        for what, low in (("VAE", 0.5), ("VAEBM", 0.2))
    ]
    write("modes", {"stacked_mnist-quick": {"rows": [], "quality": rows}})
    assert evidence.quick_stacked().verdict == "holds"
    write("modes", {"stacked_mnist-quick": {"rows": [], "quality": [*rows[::-1], dict(rows[0], what="floor")]}})
    told = "kernel distance 0.500 [0.500, 0.600] → 0.200 [0.200, 0.300] by plain"
    assert evidence.quick_stacked().found == f"{told}, which also chose, n = 2,000"
    # The last judge took no part in choices: it decides.
    other = [dict(row, judge="apart", kernel_interval={"value": 0.5, "low": 0.4, "high": 0.6}) for row in rows]
    write("modes", {"stacked_mnist-quick": {"rows": [], "quality": [*rows, *other]}})
    found = evidence.quick_stacked()
    assert (found.verdict, found.found.endswith("by apart, n = 2,000")) == ("not shown", True)
    # A model folder has no quality of its own.
    write("modes", {"stacked_mnist-quick": {"rows": []}})
    with pytest.raises(evidence.NotMeasured):
        evidence.quick_stacked()


def test_modes_are_told_with_what_is_chance(evidence: Any, write: Write) -> None:
    rows = [
        {"judge": "plain", "what": what, "n": count, "num_modes": 1000, "kl": 0.06, "kl_by_chance": 500 / count,
         "kl_interval": {"value": 0.06, "low": 0.05, "high": 0.07}}
        for what, count in (("test images", 10_000), ("VAE", 25_000), ("VAEBM", 25_000))
    ]  # fmt: skip
    write("modes", {"stacked_mnist-quick": {"rows": rows}})
    found = evidence.modes()
    assert found.verdict == "holds"
    assert "VAEBM 1,000 modes, KL 0.060 [0.050, 0.070] of 25,000 (by chance 0.020)" in found.found
    assert "test images 1,000 modes, KL 0.060 [0.050, 0.070] of 10,000 (by chance 0.050)" in found.found
    write("modes", {"stacked_mnist-quick": {"rows": [*rows[:2], dict(rows[2], num_modes=999)]}})
    assert evidence.modes().verdict == "fails"
