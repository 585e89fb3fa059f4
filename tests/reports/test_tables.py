import re

import numpy as np
import pytest

from vaebm.reports import (
    Column,
    Evaluation,
    Table,
    evaluation_text,
    html_table,
    markdown_table,
    outlier_table,
    p_value_table,
    quality_table,
    ranking_table,
    steps_table,
    text_table,
)
from vaebm.reports.tables import format_value

TABLE = Table(
    "Two rows",
    [
        Column("name", "name"),
        Column("fd", "FD", "digits", "std", "low"),
        Column("share", "closed", "percent"),
        Column("never", "never", "unit"),
    ],
    [{"name": "a|b", "fd": 20.512, "std": 0.8312, "share": 0.959}, {"name": "<i>", "fd": -427.0, "share": None}],
)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0, "digits", "0"), (0.00031, "digits", "0.000310"), (9.999, "digits", "10.0"), (1e-7, "digits", "1.00e-07"),
        (3e12, "digits", "3.00e+12"), (-12.34, "digits", "-12.3"), ("nan", "digits", "nan"), ("inf", "unit", "inf"),
        (True, "digits", "–"), ("word", "unit", "–"), ("word", "text", "word"), (None, "text", "–"),
        (0.0535, "rate", "5.35 %"), (0.0035, "points", "+0.35"), (0.0043, "margin", "±0.43"),
        (12345, "count", "12,345"),
        ({"value": 0.5}, "interval", "0.500"), (None, "interval", "–"),
    ],
)  # fmt: skip
def test_numbers_have_sensible_digits(value: object, kind: str, text: str) -> None:
    assert format_value(value, kind) == text  # type: ignore[arg-type]


def test_text_table_lines_up() -> None:
    lines = text_table(TABLE).splitlines()
    assert lines[0] == "Two rows"
    assert lines[1].split() == ["name", "FD", "↓", "closed"]
    assert "never" not in text_table(TABLE)
    ends = {match.end() for line in (lines[3], lines[4]) for match in [re.search(r"20\.5 ± 0\.8|-427", line)] if match}
    assert len(ends) == 1
    assert lines[4].endswith("–")


def test_markdown_table_has_as_many_cells_in_each_line() -> None:
    lines = markdown_table(TABLE).splitlines()
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [4, 4, 4, 4]
    assert lines[2] == "| a\\|b | 20.5 ± 0.8 | 95.9 % |"


def test_html_table_escapes_and_scrolls() -> None:
    html = html_table(TABLE)
    assert "&lt;i&gt;" in html
    assert "<i>" not in html
    assert "−427" in html
    assert 'class="scroll"' in html
    assert html.count('scope="col"') == 3


def test_spreads_decide_the_digits_of_their_values() -> None:
    column = [Column("v", "v", "digits", "s")]
    pairs = [(25.13, 1.149), (0.00031, 0.00042), (1.7412, 0.0213), (427.0, 12.3), (5210.0, 3.2), (20.0, None),
             (20.0, "nan")]  # fmt: skip
    rows = [{"v": value, "s": spread} for value, spread in pairs]
    assert text_table(Table("", column, rows)).split("\n")[2:] == [
        "     25.1 ± 1.1", "0.0003 ± 0.0004", "    1.74 ± 0.02", "       427 ± 12", "      5,210 ± 3",
        "           20.0", "           20.0",
    ]  # fmt: skip


def test_quality_table_groups_by_judge(evaluation: Evaluation) -> None:
    shuffled: Evaluation = {**evaluation, "quality": [evaluation["quality"][index] for index in (0, 3, 1, 4, 2, 5)]}
    table = quality_table(shuffled)
    assert [row["group"] for row in table.rows] == ["judge a-judge"] * 3 + ["judge b-judge"] * 3
    assert [row["what"] for row in table.rows[:3]] == ["floor", "VAE", "VAEBM, sampled"]
    assert [row["tone"] for row in table.rows[:3]] == ["real", "vae", "vaebm"]
    assert "coverage" not in text_table(table)
    assert html_table(table).count("rowgroup") == 2


def test_outlier_table_has_a_row_for_each_set(evaluation: Evaluation) -> None:
    lines = markdown_table(outlier_table(evaluation)).splitlines()
    assert lines[0] == "| outliers | energy | ELBO | joint | n |"
    assert lines[2].startswith("| uniform noise | 0.505 [0.490, 0.520] | 1.000 [1.000, 1.000] |")
    assert len(lines) == 4
    assert len(outlier_table(evaluation, "fpr95").shown_columns()) == 2


def test_the_terminal_has_every_figure_of_every_score_in_80_columns() -> None:
    figures = {
        name: {"value": value, "low": value - 0.01, "high": value + 0.01}
        for name, value in (("auroc", 0.912), ("aupr", 0.523), ("fpr95", 0.254))
    }
    entries = [
        {"set": name, "score": score, "num_normal": 10_000, "num_outliers": count, **figures}
        for name, count in (("uniform noise", 10_000), ("bright", 30)) for score in ("elbo", "mahalanobis_features")
    ]  # fmt: skip
    lines = text_table(ranking_table({"outliers": entries})).splitlines()  # type: ignore[typeddict-item]
    assert lines[0] == "Outliers against 10,000 test images, with 95 % bootstrap intervals"
    assert [line for line in lines if "(n = " in line] == ["uniform noise (n = 10,000)", "bright (n = 30)"]
    assert max(map(len, lines)) <= 80
    for line in (line for line in lines if line.startswith(("ELBO", "mahalanobis_features"))):
        assert line.split()[1:] == ["0.912", "[0.902,0.922]", "0.523", "[0.513,0.533]", "0.254", "[0.244,0.264]"]


def test_steps_and_p_values(evaluation: Evaluation) -> None:
    assert [row["num_steps"] for row in steps_table(evaluation).rows] == [0, 15, 40, 400]
    row = p_value_table(evaluation).rows[0]
    assert row["off"] == pytest.approx(0.0035)
    assert row["chance"] == pytest.approx(1.96 * (0.05 * 0.95 / 10000) ** 0.5)


def test_chance_is_of_calibration_and_test_images() -> None:
    """As often as it says, by draws of both."""
    level, num_calibration, num_test = 0.1, 99, 200
    (row,) = p_value_table({"p_values": [{"level": level, "measured": 0.12, "n": num_test,
                                          "num_calibration": num_calibration}]}).rows  # fmt: skip
    drawn = np.random.default_rng(0)
    within = []
    for _ in range(2000):
        calibration, test = drawn.normal(size=num_calibration), drawn.normal(size=num_test)
        above = (calibration[:, None] >= test).sum(0)
        within.append(abs(((above + 1) / (num_calibration + 1) <= level).mean() - level) <= row["chance"])
    assert np.mean(within) == pytest.approx(0.95, abs=0.02)


def test_terminal_text_holds_every_table_that_has_rows(evaluation: Evaluation) -> None:
    text = evaluation_text(evaluation)
    assert [text.count(word) for word in ("Sample quality", "chain steps", "AUROC", "False alarms")] == [1, 1, 1, 1]
    assert evaluation_text({"p_values": evaluation["p_values"]}).startswith("False alarms")
    assert evaluation_text({}) == ""
