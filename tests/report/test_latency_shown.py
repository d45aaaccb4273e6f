"""Latency appears in figures and tables in milliseconds, and only where it was measured."""

from __future__ import annotations

from io import StringIO

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from rich.table import Table

from spectrum.analysis import search_front, summarize
from spectrum.analysis.statistics import point_columns, varied_columns
from spectrum.report import plot_accuracy_vs_segments, plot_search_front, render_summary
from spectrum.report.page import render_page
from spectrum.report.tables import render_trials, result_tables

POINTS = {"1": [0.8, 0.82], "C": [0.9, 0.91]}


def printed(table: Table) -> list[list[str]]:
    console = Console(file=StringIO(), width=140)
    console.print(table)
    return [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


@pytest.fixture
def summary(make_results) -> pd.DataFrame:
    results = make_results(POINTS, match="latency")
    results["latency"] = results["segments"].map({"1": 4.0512, "C": 4.1})
    return summarize(results)


def test_it_is_a_cost_of_a_point_and_not_part_of_its_configuration(summary: pd.DataFrame) -> None:
    assert list(summary["latency"]) == [4.0512, 4.1]
    assert "latency" not in point_columns(summary)
    assert varied_columns(summary) == []


def test_the_table_of_a_study_has_it_in_milliseconds(summary: pd.DataFrame) -> None:
    header, first, _ = printed(render_summary(summary))
    assert header[header.index("MACs") + 1] == "ms"
    assert "4.05" in first
    (header, *_) = printed(render_summary(summary.drop(columns="latency")))
    assert "ms" not in header


def test_the_figure_of_a_study_names_the_shared_latency(summary: pd.DataFrame) -> None:
    label = plot_accuracy_vs_segments(summary).get_xlabel()
    assert label.endswith("parameters and 4.08 ms each)")


def test_the_page_of_a_study_has_a_column_for_it(summary: pd.DataFrame) -> None:
    def page(summary: pd.DataFrame) -> str:
        return render_page("made up", tables=result_tables(summary, pd.DataFrame()))

    assert "latency, ms" in page(summary)
    assert "4.05" in page(summary)
    assert "in inference" in page(summary)
    assert "latency" not in page(summary.drop(columns="latency").assign(match="none"))


@pytest.fixture
def trials() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "trial": range(9),
            "state": "done",
            "uniform": [True] * 2 + [False] * 7,
            "segments": "C",
            "width": 1.0,
            "params": 79_000,
            "macs": 1_000_000,
            "val_top1": rng.uniform(0.8, 0.9, 9),
            "latency": rng.uniform(0.4, 0.9, 9),
        }
    )


def test_a_search_for_fast_networks_has_an_axis_of_milliseconds(trials: pd.DataFrame) -> None:
    goals = ["val_top1", "latency"]
    ax = plot_search_front(trials, goals)
    assert ax.get_xlabel() == "latency of a batch of 32 images in inference, ms"
    ax.figure.draw_without_rendering()
    ticks = [label.get_text() for label in ax.get_xticklabels()]
    assert [float(tick) for tick in ticks] == pytest.approx(list(ax.get_xticks()))
    front = search_front(trials, goals)
    (rings,) = (line for line in ax.lines if line.get_label() == "Pareto front")
    assert np.array_equal(rings.get_xydata(), front[["latency", "val_top1"]].to_numpy())
    assert front["latency"].is_monotonic_increasing
    header, *rows = printed(render_trials(trials, goals))
    assert header[header.index("MACs") + 1] == "ms"
    assert len(rows) == len(front)
    assert f"{front['latency'].iloc[0]:.3g}" in rows[0]
