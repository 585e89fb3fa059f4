"""The table of rivals."""

from __future__ import annotations

from typing import Any

from vaebm.reports.rivals import rivals_table, rivals_text


def row(name: str, seed: int, frechet: float, steps: int) -> dict[str, Any]:
    quality = [{"judge": "plain", "frechet": frechet, "recall": 0.5, "floor": 2.0,
                "kernel_interval": {"value": 0.2, "low": 0.1, "high": 0.3}}]  # fmt: skip
    return {
        "name": name,
        "title": name.upper(),
        "seed": seed,
        "seconds": 120.0,
        "num_iterations": 1000,
        "num_samples": 500,
        "milliseconds_per_step": 1.0,
        "chosen": {"num_steps": steps},
        "quality": quality,
    }


def test_seeds_of_a_row_stand_together_and_are_measured_by_the_vae() -> None:
    rows = {f"{name}-{seed}": row(name, seed, frechet, steps)
            for name, seed, frechet, steps in (("vae", 0, 21.0, 0), ("vae", 1, 23.0, 0), ("vaebm", 0, 6.0, 30),
                                               ("vaebm", 1, 8.0, 60))}  # fmt: skip
    vae, vaebm = rivals_table(rows).rows
    assert (vae["seeds"], vae["frechet"], vae["closed"], vae["milliseconds"]) == (2, 22.0, None, None)
    assert (vaebm["frechet"], vaebm["range"], vaebm["num_steps"]) == (7.0, "6, 8", "30, 60")
    assert vaebm["closed"] == (22 - 7) / (22 - 2)
    # A mean of 45 steps.
    assert vaebm["milliseconds"] == 45.0
    assert "75.0 %" in rivals_text(rows)


def test_what_the_guard_did_is_told() -> None:
    def guarded(seed: int, num_acts: int, chosen: float) -> dict[str, Any]:
        settings = {"space": "noise", "energy": {"step_size": 0.1}}
        acts = [{"gave_up": False}] * num_acts
        return {**row("vaebm", seed, 6.0, 30), "settings": settings, "acts": acts,
                "chosen": {"num_steps": 30, "step_size": chosen}}  # fmt: skip

    pixels = {**row("pixels", 0, 9.0, 30), "settings": {"space": "pixels"}, "acts": []}
    line, other = rivals_table({"a": guarded(0, 1, 0.05), "b": guarded(1, 2, 0.1), "c": pixels}).rows
    assert (line["acts"], line["step_size"]) == (3, "0.1 → 0.05, 0.1")
    assert (other["acts"], other["step_size"]) == (None, None)
    # It may have changed the learning rate alone.
    (line,) = rivals_table({"a": guarded(0, 1, 0.1)}).rows
    assert (line["acts"], line["step_size"]) == (1, None)
    # A guard that only watches does nothing.
    watched = guarded(0, 0, 0.1)
    watched["settings"]["guarded"] = False
    (line,) = rivals_table({"a": watched}).rows
    assert (line["title"], line["acts"]) == ("VAEBM (not guarded)", None)
    stopped = {**guarded(0, 4, 0.1), "gave_up": True}
    assert rivals_table({"a": stopped}).rows[0]["title"] == "VAEBM (the guard gave up)"
    rows = rivals_table({"a": stopped, "b": guarded(1, 0, 0.1)}).rows
    assert rows[0]["title"] == "VAEBM (the guard gave up in 1 of 2)"
    rows = rivals_table({"a": {**stopped, "quality": []}, "b": guarded(1, 0, 0.1)}).rows
    assert rows[0]["title"] == "VAEBM (the guard gave up in 1 of 2) (1 of 2 diverged)"
    lost = {**guarded(0, 4, 0.1), "quality": []}
    assert rivals_table({"a": lost}).rows[0]["acts"] == 4


def test_the_share_of_iterations_that_diverged_is_told_where_there_are_chains() -> None:
    def seen(space: str, **counts: int) -> dict[str, Any]:
        return {**row(space, 0, 6.0, 30), "settings": {"space": space}, "conditions": counts}

    rows = {"a": seen("pixels", healthy=1, strained=2, diverged=1), "b": seen("pixels", healthy=3, diverged=1)}
    assert rivals_table(rows).rows[0]["diverged"] == 0.25
    assert "25.0 %" in rivals_text(rows)
    # Of all seeds, as the acts are: of those too whose networks drew nothing that is finite.
    lost = {**seen("pixels", diverged=4), "quality": [], "seed": 1}
    assert rivals_table({"b": rows["b"], "lost": lost}).rows[0]["diverged"] == 0.625
    assert rivals_table({"lost": lost}).rows[0]["diverged"] == 1.0
    # Chains that gave up before their first iteration have counted nothing; a generator has no chains.
    assert rivals_table({"a": seen("pixels", healthy=0, diverged=0)}).rows[0]["diverged"] is None
    assert rivals_table({"a": seen("generator", healthy=4, diverged=0)}).rows[0]["diverged"] is None


def test_seeds_that_diverged_are_told() -> None:
    rows = {f"vaebm-{seed}": row("vaebm", seed, 6.0, 30) for seed in range(3)}
    rows["vaebm-1"] = {**rows["vaebm-1"], "quality": []}
    (line,) = rivals_table(rows).rows
    assert (line["title"], line["seeds"], line["frechet"]) == ("VAEBM (1 of 3 diverged)", 3, 6.0)
    lost = {key: {**value, "quality": []} for key, value in rows.items()}
    assert "VAEBM (3 of 3 diverged)" in rivals_text(lost)
