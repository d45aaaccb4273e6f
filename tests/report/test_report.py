"""Statistics by hand and by simulation, and the table that shows them."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from spectrum import mean_interval, summarize
from spectrum.analysis.labels import format_count
from spectrum.analysis.statistics import varied_columns
from spectrum.report import render_summary


def results(**changes: Any) -> pd.DataFrame:
    """Made-up results: three seeds at each of two points."""
    rows = [
        {
            "run_id": f"{segments}{seed}",
            "study": "made up",
            "network": "tiny",
            "order": "spatial_first",
            "segments": segments,
            "match": "params",
            "width": width,
            "seed": seed,
            "params": params,
            "macs": 2_000_000 + params,
            "val_top1": accuracy - 0.01,
            "test_top1": accuracy,
            "train_seconds": 2.0 + seed,
            "status": "done",
            "error": "",
            **changes,
        }
        for segments, width, params, middle in (("4", 0.5, 79_000, 0.9), ("C", 1.0, 80_000, 0.8))
        for seed, accuracy in enumerate((middle - 0.02, middle, middle + 0.02))
    ]
    return pd.DataFrame(rows)


def test_the_interval_is_that_of_the_textbook() -> None:
    # Student's t with 2 degrees of freedom reaches 97.5% at 4.30265; sem = 1 / sqrt(3).
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert high - mean == mean - low == pytest.approx(4.30265 / math.sqrt(3), abs=1e-5)
    assert mean_interval([1, 2, math.nan, 3]) == mean_interval([1, 2, 3])
    assert mean_interval([4.0, 4.0]) == (4.0, 4.0, 4.0)


def test_too_few_seeds_have_no_interval() -> None:
    mean, low, high = mean_interval([0.5])
    assert mean == 0.5
    assert math.isnan(low)
    assert math.isnan(high)
    assert all(math.isnan(bound) for bound in mean_interval([]))


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_covers_the_truth_as_often_as_it_says(level: float) -> None:
    draws = np.random.default_rng(0).normal(0.7, 0.1, size=(4000, 5))
    covered = [low <= 0.7 <= high for _, low, high in (mean_interval(d, level) for d in draws)]
    assert np.mean(covered) == pytest.approx(level, abs=0.015)


def test_a_summary_has_one_row_per_point() -> None:
    summary = summarize(results())
    assert list(summary["segments"]) == ["4", "C"]
    assert list(summary["runs"]) == [3, 3]
    assert list(summary["failed"]) == [0, 0]
    assert summary["test_top1"].tolist() == pytest.approx([0.9, 0.8])
    assert summary["val_top1"].tolist() == pytest.approx([0.89, 0.79])
    assert summary["train_seconds"].tolist() == [3.0, 3.0]
    half = 4.30265 * 0.02 / math.sqrt(3)
    assert (summary["test_high"] - summary["test_low"]).tolist() == pytest.approx(
        [2 * half] * 2, abs=1e-5
    )


def test_a_failed_run_is_counted_and_left_out_of_the_mean() -> None:
    rows = results()
    rows.loc[0, ["status", "test_top1", "val_top1"]] = ["diverged", math.nan, math.nan]
    summary = summarize(rows)
    assert list(summary["failed"]) == [1, 0]
    assert summary["test_top1"][0] == pytest.approx(0.91)
    rows["status"], rows["test_top1"] = "failed", math.nan
    assert summarize(rows)["test_top1"].isna().all()


def test_fields_that_vary_make_the_curves() -> None:
    two = pd.concat([results(), results(order="pointwise_first")], ignore_index=True)
    assert varied_columns(results()) == []
    assert varied_columns(two) == ["order"]
    # A width that was solved for a budget isn't a field that varies; any other width is.
    widths = pd.concat([results(match="none", width=w) for w in (0.5, 1.0)], ignore_index=True)
    assert varied_columns(widths) == ["width"]
    assert varied_columns(widths.assign(match="params")) == []
    assert len(summarize(two)) == 4


def test_a_run_of_two_studies_counts_once() -> None:
    twice = pd.concat([results(), results(study="another")], ignore_index=True)
    assert summarize(twice)["runs"].tolist() == [3, 3]


def test_the_table_says_what_the_summary_does() -> None:
    rows = results()
    rows.loc[0, ["status", "test_top1"]] = ["failed", math.nan]
    console = Console(width=120)
    with console.capture() as captured:
        console.print(render_summary(summarize(rows)))
    head, first, second = captured.get().splitlines()
    assert head.split()[:4] == ["segments", "width", "params", "MACs"]
    assert first.split()[:4] == ["4", "0.5", "79.0k", "2.08M"]
    assert "1 of 3" in first
    assert second.split()[4:] == ["0.7900", "0.8000", "0.7503-0.8497", "0", "of", "3"]
    assert head.split()[4:] == ["val", "top-1", "test", "top-1", "95%", "interval", "failed"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (999.6, "1.00k"),
        (1000, "1.00k"),
        (9_995, "9.99k"),
        (12_345, "12.3k"),
        (999_499, "999k"),
        (999_500, "1.00M"),
        (22_855_952, "22.9M"),
        (8_357_403_496, "8.36G"),
        (71_419_884_448, "71.4G"),
        (1e12, "1000G"),
    ],
)
def test_counts_have_three_digits_and_a_unit(number: float, text: str) -> None:
    assert format_count(number) == text
