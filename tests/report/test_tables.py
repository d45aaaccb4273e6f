"""The tables of studies and searches: their cells, and what a terminal has room for."""

from __future__ import annotations

import itertools
import math
from io import StringIO
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from spectrum.analysis import search_front, summarize
from spectrum.report import render_summary, render_trials
from spectrum.report.ranking import result_tables
from spectrum.report.tables import Table, point_table

POINTS = {"4": [0.899, 0.901], "C": [0.799, 0.801]}


def shown(table: Table) -> list[tuple[str, ...]]:
    """The headings, then the cells row by row."""
    return [tuple(column.heading for column in table.columns), *table.rows]


def printed(table: Any) -> list[list[str]]:
    """The words of every line in a terminal, the header first."""
    console = Console(file=StringIO(), width=140)
    console.print(table)
    return [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_a_point_is_a_row(make_results) -> None:
    summary = summarize(make_results(POINTS)).assign(width=[0.62751, 1], train_seconds=1234.5)
    half = 12.7062 * 0.001  # Student's t with one degree of freedom, and the sem of 0.899 and 0.901
    assert shown(point_table(summary))[:2] == [
        (
            *("segments", "width", "params", "MACs", "val top-1", "test top-1"),
            *("95% interval, from seeds alone", "seconds per run", "failed runs"),
        ),
        (
            *("4", "0.6275", "79.0k", "2.00M", "0.8900", "0.9000"),
            *(f"{0.9 - half:.4f}-{0.9 + half:.4f}", "1,234.5", "0 of 2"),
        ),
    ]
    first, *others = point_table(summary).columns
    assert first.names_row
    assert all(column.is_number for column in others)
    summary[["test_low", "test_high"]] = [[-0.25, 0.91], [0.7, 1.25]]
    assert [row[6] for row in point_table(summary).rows] == ["0.0000-0.9100", "0.7000-1.0000"]


@pytest.mark.parametrize(
    ("seeds", "examples", "source"),
    [
        ([2, 2], [80, 80], ""),
        ([2, 2], [0, 0], ", from seeds alone"),
        ([1, 1], [80, 80], ", from test images alone"),
        ([2, 2], [0, 80], ", some from seeds alone"),
        ([1, 2], [80, 80], ", some from test images alone"),
        ([2, 1], [0, 80], ", from seeds or test images alone"),
    ],
)
def test_a_table_says_where_its_intervals_come_from(
    seeds: list[int], examples: list[int], source: str, make_results
) -> None:
    summary = summarize(make_results(POINTS)).assign(seeds=seeds, examples=examples)
    assert f"95% interval{source}" in shown(point_table(summary))[0]
    words = [word for line in printed(render_summary(summary))[:4] for word in line]
    assert all(word in words for word in f"interval{source}".split())


def test_a_terminal_shows_failures_instead_of_seconds(make_results) -> None:
    summary = summarize(make_results({"4": [math.nan, math.nan], "C": [0.8]}))
    header, four, last = printed(render_summary(summary))
    assert header[-3:] == ["95%", "interval", "failed"]
    assert four[4:] == ["-", "-", "-", "2", "of", "2"]
    assert last[4:] == ["0.7900", "0.8000", "-", "0", "of", "1"]
    assert printed(render_summary(summary[1:]))[0][-1] == "s/run"


def test_fields_that_vary_have_their_own_columns(make_results) -> None:
    grid = list(itertools.product((0.5, 1.0), (0.002, 0.5), ("", "64")))
    rows = pd.concat(
        [make_results(POINTS, width=w, lr=lr, hidden=h, match="none") for w, lr, h in grid],
        ignore_index=True,
    )
    rows.loc[31, ["status", "error"]] = "failed", "too large"
    tables = result_tables(summarize(rows), rows[31:])
    header, *cells = shown(tables["Points"])
    # The width varies too, because no budget solves it, but it always has a column.
    assert header[:3] == ("segments", "test top-1", "val top-1")
    fields = [header.index(name) for name in ("lr", "hidden", "segments", "width")]
    assert sorted(tuple(row[i] for i in fields) for row in cells) == sorted(
        (f"{lr}", hidden or "none", segments, f"{w:g}")
        for w, lr, hidden in grid
        for segments in POINTS
    )
    accuracies = [float(row[1]) for row in cells]
    assert accuracies == sorted(accuracies, reverse=True)
    assert shown(tables["Failed runs"]) == [
        ("lr", "hidden", "segments", "seed", "status", "reason"),
        ("0.5", "64", "C", "1", "failed", "too large"),
    ]
    assert result_tables(pd.DataFrame(), pd.DataFrame()) == {}


def test_the_last_third_is_in_points_where_it_is_known(make_results) -> None:
    summary = summarize(make_results(POINTS))
    plain = point_table(summary)
    gains = {
        "gain": [0.01234, -1e-9],
        "gain_low": [-0.002, math.nan],
        "gain_high": [0.03, math.nan],
    }
    table = point_table(summary.assign(**gains))
    headings, *rows = shown(table)
    place = headings.index("last third")
    assert [row[place] for row in rows] == ["+1.23 (-0.20 to +3.00)", "+0.00"]
    assert table.caption.startswith(plain.caption)
    assert table.caption.endswith("in percentage points, with its 95% interval over seeds.")
    assert printed(render_summary(summary.assign(**gains))) == printed(render_summary(summary))
    some, none = ([0.01, math.nan], [math.nan, math.nan])
    some_known = point_table(summary.assign(gain=some, gain_low=none, gain_high=none))
    assert [row[place] for row in some_known.rows] == ["+1.00", "-"]
    assert point_table(summary.assign(gain=none, gain_low=none, gain_high=none)) == plain


def test_latency_is_in_milliseconds_where_it_was_measured(make_results) -> None:
    summary = summarize(make_results(POINTS).assign(latency=4.0512))
    *_, header, first, _ = printed(render_summary(summary))
    assert header[header.index("MACs") + 1] == "ms"
    assert "4.05" in first
    assert "latency, ms" in shown(point_table(summary))[0]
    assert "in inference" in point_table(summary).caption
    plain = point_table(summary.drop(columns="latency"))
    assert "atency" not in str(shown(plain)) + plain.caption
    found = printed(render_trials(trials([0.9]).assign(latency=2.3456), ["val_top1", "latency"]))
    assert found[0][found[0].index("MACs") + 1] == "ms"
    assert "2.35" in found[1]


def trials(accuracies: list[float], **fields: Any) -> pd.DataFrame:
    """One row per trial; a trial without an accuracy has failed."""
    rows = [
        {
            "trial": i,
            "state": "failed" if math.isnan(accuracy) else "done",
            "segments": f"entry={i + 1}+exit=C",
            "width": 0.123456 * (i + 1),
            "params": 79_000 + i,
            "macs": 1_320_000 - 10_000 * i,
            "val_top1": accuracy,
            **fields,
        }
        for i, accuracy in enumerate(accuracies)
    ]
    return pd.DataFrame(rows)


def test_with_one_goal_the_most_accurate_come_first() -> None:
    table = trials([0.7, 0.9, math.nan, 0.8, 0.9])
    table.loc[3, "state"] = "pruned"
    header, *rows = printed(render_trials(table, ["val_top1"]))
    assert header == ["segments", "width", "params", "MACs", "val", "top-1", "trial"]
    assert rows == [
        ["entry=2+exit=C", "0.2469", "79.0k", "1.31M", "0.9000", "1"],
        ["entry=5+exit=C", "0.6173", "79.0k", "1.28M", "0.9000", "4"],
        ["entry=1+exit=C", "0.1235", "79.0k", "1.32M", "0.7000", "0"],
    ]


@pytest.mark.parametrize(("most", "count"), [(3, 3), (20, 12)])
def test_no_more_trials_are_shown_than_asked_for(most: int, count: int) -> None:
    table = trials([0.5 + i / 100 for i in range(12)])
    rows = printed(render_trials(table, ["val_top1"], most=most))[1:]
    assert [int(row[-1]) for row in rows] == list(range(11, 11 - count, -1))
    assert len(printed(render_trials(table, ["val_top1"]))) == 1 + 8


def test_with_several_goals_the_whole_front_is_shown() -> None:
    goals = ["val_top1", "params", "macs"]
    table = trials([0.9 - i / 100 for i in range(12)]).sample(frac=1, random_state=0)
    rows = printed(render_trials(table, goals, most=2))[1:]
    assert [int(row[-1]) for row in rows] == search_front(table, goals)["trial"].tolist()
    assert len(rows) == 12


def test_other_fields_that_were_searched_have_columns() -> None:
    table = trials([0.9, 0.8], order="spatial_first", lr="0.004", segments="+".join(["C"] * 34))
    header, first, _ = printed(render_trials(table, ["val_top1"], ["order", "lr"]))
    assert header[:4] == ["order", "lr", "segments", "width"]
    assert first[:4] == ["spatial_first", "0.004", "34", "layers:"]  # cut to a line


def test_a_search_without_a_finished_trial_has_only_a_header() -> None:
    for goals in (["val_top1"], ["val_top1", "macs"]):
        assert len(printed(render_trials(trials([math.nan]), goals))) == 1
