"""What the seeds of a point say together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from spectrum.report.measure import measure_of

__all__ = [
    "Interval",
    "is_one_task",
    "mean_interval",
    "point_columns",
    "pool",
    "series_columns",
    "summarize",
]

# Columns that don't tell one point of a study from another: of one run, and of a summary.
_OF_A_RUN = {
    *("run_id", "study", "match", "seed", "params", "macs", "val_top1", "test_top1", "test_top5"),
    *("test_loss", "train_seconds", "images_per_second", "device", "threads", "status", "error"),
    *("runs", "failed", "test_low", "test_high", "val_low", "val_high", "latency"),
    *("val_map", "test_map"),
}

# Columns that change what is classified or how that is measured: values there aren't of one kind.
_OF_THE_DATA = {
    *("data", "validation", "test", "split_seed", "train_images", "label_noise", "rank", "block"),
    *("images", "side", "channels", "template", "copies", "signal", "image_seed"),
    *("image_size", "image_column", "label_column", "bad_images", "class_weights", "map_at"),
}


class Interval(NamedTuple):
    """A mean and the bounds of its confidence interval."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float] | pd.Series, level: float = 0.95) -> Interval:
    """The mean of independent values and Student's t interval for it.

    Args:
        values: one a seed; missing ones are left out.
        level: confidence, between 0 and 1.

    Returns:
        The interval; its bounds are NaN for fewer than two values, all of it for none.
    """
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    if len(known) == 0:
        return Interval(math.nan, math.nan, math.nan)
    mean = float(known.mean())
    if len(known) == 1:
        return Interval(mean, math.nan, math.nan)
    half = float(stats.t.ppf((1 + level) / 2, len(known) - 1) * stats.sem(known))
    return Interval(mean, mean - half, mean + half)


def point_columns(results: pd.DataFrame) -> list[str]:
    """The columns that make a point: the configuration of a run without its seed."""
    return [str(column) for column in results.columns if column not in _OF_A_RUN]


def series_columns(results: pd.DataFrame, over: str = "segments") -> list[str]:
    """The columns besides ``over`` that a study varies: what a plot has curves for.

    What follows from the others is left out: a width solved to meet a budget, a learning rate
    tuned, an order that is the network's own.
    """
    solved = {over, "tuned_lr"}
    if "match" in results and (results["match"] != "none").any():
        solved.add("width")
    columns = [c for c in point_columns(results) if c not in solved]
    columns = [c for c in columns if results[c].nunique(dropna=False) > 1]
    kept: list[str] = []
    for name in sorted(columns, key=lambda c: c not in ("network", "data", "recipe")):
        if not any(_follows(results, name, other) for other in (over, *kept)):
            kept.append(name)
    return kept


def is_one_task(summary: pd.DataFrame) -> bool:
    """Whether all points classify the same data, so that one can beat another."""
    return not _OF_THE_DATA & set(series_columns(summary))


def pool(results: pd.DataFrame, over: str = "segments") -> pd.DataFrame:
    """Take sampled combinations of the other fields for what seeds are else: the luck of a run.

    Args:
        results: a row a run, as ``load_results`` gives it.
        over: the field whose values are compared.

    Returns:
        The rows without the columns that the sample varies, and a ``seed`` for each of its
        combinations and their seeds.
    """
    columns = series_columns(results, over)
    if not columns:
        return results
    seeds = results.groupby([*columns, "seed"], sort=False, dropna=False).ngroup()
    apart = [c for c in point_columns(results) if c != over and not _follows(results, c, over)]
    return results.drop(columns=apart).assign(seed=seeds)


def _follows(results: pd.DataFrame, name: str, other: str) -> bool:
    """Whether one column has a single value at every value of another."""
    return bool((results.groupby(other, dropna=False)[name].nunique(dropna=False) == 1).all())


def summarize(results: pd.DataFrame, evidence: pd.DataFrame | None = None) -> pd.DataFrame:
    """A row a point, in the order of the study.

    Args:
        results: a row a run, as ``load_results`` gives it.
        evidence: a row a point, as ``compare_points`` gives it: where a point was compared, its
            measure and interval come from there, for new seeds and new test examples.

    Returns:
        The point's configuration, ``match, params, macs``, ``latency`` where the results have it,
        ``runs`` and ``failed`` (how many), ``test_top1`` with ``test_low`` and ``test_high`` (95%,
        over seeds alone without ``evidence``), ``val_top1`` likewise over seeds, and
        ``train_seconds`` (mean). Of images with several labels it has ``test_map`` and ``val_map``
        in the place of ``test_top1`` and ``val_top1``.

    Raises:
        ValueError: the evidence lacks a column of the results' points, as that of a sampled study
            does.
    """
    keys = point_columns(results)
    costs = ["params", "macs", *(["latency"] if "latency" in results else [])]
    measure = measure_of(results)
    rows = []
    for values, rows_of_point in results.groupby(keys, sort=False, dropna=False):
        runs = rows_of_point.drop_duplicates("run_id")  # a run of two studies counts once
        test = mean_interval(runs[measure.test])
        val = mean_interval(runs[measure.validation])
        rows.append(
            {
                **dict(zip(keys, values, strict=True)),
                "match": runs["match"].iloc[0],
                **{cost: runs[cost].iloc[0] for cost in costs},
                "runs": len(runs),
                "failed": int((runs["status"] != "done").sum()),
                measure.test: test.mean,
                "test_low": test.low,
                "test_high": test.high,
                measure.validation: val.mean,
                "val_low": val.low,
                "val_high": val.high,
                "train_seconds": runs["train_seconds"].mean(),
            }
        )
    summary = pd.DataFrame(rows)
    if evidence is None:
        return summary
    absent = [name for name in keys if name not in evidence]
    if absent:
        raise ValueError(f"evidence must be of the same points as results; no {', '.join(absent)}")
    compared = evidence[evidence["runs"] > 0].set_index(keys)
    places = pd.MultiIndex.from_frame(summary[keys])
    for name in (measure.test, "test_low", "test_high"):
        known = compared[name].reindex(places).to_numpy()
        summary[name] = summary[name].where(pd.isna(known), known)
    return summary
