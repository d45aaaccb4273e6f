"""The table of a page: sorted by the measure, the best point and its equals marked."""

from __future__ import annotations

import pandas as pd

from spectrum.analysis.statistics import summarize
from spectrum.report.ranking import add_standings, ranked_table

LAYERS = "+".join(["C", "C", "4"] * 11 + ["C"])


def test_the_best_and_its_equals_are_marked_and_come_in_order(make_results, make_evidence) -> None:
    results = make_results({"1": [0.80, 0.82], "4": [0.90, 0.92], "C": [0.89, 0.91], "8": [0.9]})
    evidence = make_evidence({"1": -0.1, "4": 0.01, "C": 0.0, "8": 0.0})
    evidence["width"] = summarize(results)["width"]
    evidence["test_top1"] = [0.81, 0.91, 0.90, 0.895]
    evidence["worse_than"] = ["4, C", "", "", ""]
    evidence["close_to"] = ["", "C", "4", ""]
    summary = add_standings(summarize(results, evidence), evidence, "segments")
    table = ranked_table(summary)
    assert [row[0] for row in table.rows] == ["4", "C", "8", "1"]
    assert list(table.marks) == ["best", "equal", "", ""]
    standing = [column.heading for column in table.columns].index("standing")
    assert [row[standing] for row in table.rows] == ["highest", "equal", "unknown", "worse"]
    headings = [column.heading for column in table.columns][:6]
    assert headings == ["segments", "test top-1", "val top-1", "standing", "params", "MACs"]


def test_each_series_has_its_own_best(make_results, make_evidence) -> None:
    points = {"1": [0.8, 0.8], "C": [0.9, 0.9]}
    results = pd.concat([make_results(points, rank=r) for r in (1, 2)], ignore_index=True)
    parts = [make_evidence({"1": -0.1, "C": 0.0}, rank=r) for r in (1, 2)]
    evidence = pd.concat(parts, ignore_index=True)
    evidence["test_top1"] = [0.8, 0.9, 0.8, 0.9]
    summary = add_standings(summarize(results), evidence, "segments")
    assert list(summary["standing"]) == ["unknown", "highest"] * 2


def test_schedules_are_numbered_by_the_measure(make_results) -> None:
    table = ranked_table(summarize(make_results({"1": [0.7], LAYERS: [0.9], "C": [0.8]})))
    assert [row[:2] for row in table.rows] == [("1", LAYERS), ("2", "C"), ("3", "1")]
    assert table.columns[0].heading == "#"
