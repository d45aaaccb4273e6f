"""Which columns make a point, and what the runs of a point say together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import scipy  # its parts are imported when they are first used

from spectrum.analysis.columns import ACTIVATIONS, LATENCY, NOT_OF_POINT, TASK_COLUMNS
from spectrum.analysis.labels import field_label
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.schema import require_columns
from spectrum.errors import FieldError


class Interval(NamedTuple):
    """A mean and the bounds of its confidence interval."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float] | pd.Series, level: float = 0.95) -> Interval:
    """Compute the mean of independent values and Student's t interval for it.

    The interval is for new seeds: it covers the mean of all possible seeds with the given
    confidence, if the values are normally distributed.

    Args:
        values: one value per seed. Missing values (NaN) are left out.
        level: the confidence, between 0 and 1.

    Returns:
        The mean and the bounds. The bounds are NaN for fewer than two values, and the mean is NaN
        for none.
    """
    known = pd.Series(values, dtype=float).dropna()
    # Both factors are missing (NaN) for fewer than two values.
    half = float(scipy.stats.t.ppf((1 + level) / 2, len(known) - 1) * known.sem())
    mean = float(known.mean())
    return Interval(mean, mean - half, mean + half)


def point_columns(results: pd.DataFrame) -> list[str]:
    """The columns that make up a point, which is the configuration of a run without its seed."""
    return [str(column) for column in results.columns if column not in NOT_OF_POINT]


def varied_columns(results: pd.DataFrame, over: str = "segments") -> list[str]:
    """The columns that a study varies besides ``over``; a plot has one curve per combination.

    Columns that follow from other columns are left out, such as a width that was solved to meet a
    budget, a learning rate that was tuned, or an order that is the network's own.

    Args:
        results: one row per run or per point.
        over: the column whose values are compared or plotted along the axis.
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


class Curve(NamedTuple):
    """The rows of a curve.

    Attributes:
        number: the number of the curve among all curves of the study, which gives it the same
            colour in every figure.
        name: its label, from the fields that vary; empty for the only curve.
        rows: one row per point.
    """

    number: int
    name: str
    rows: pd.DataFrame


def split_into_curves(rows: pd.DataFrame, columns: Sequence[str]) -> list[Curve]:
    """Splits rows into curves.

    Args:
        rows: one row per point.
        columns: the fields that tell one curve from another. Without any there is one curve.
    """
    if not columns:
        return [Curve(0, "", rows)]
    groups = rows.groupby(list(columns), sort=False, dropna=False)
    return [
        Curve(number, ", ".join(map(field_label, columns, values)), curve)
        for number, (values, curve) in enumerate(groups)
    ]


def are_comparable(summary: pd.DataFrame) -> bool:
    """Whether all points classify the same data, so that one point can dominate another."""
    return not TASK_COLUMNS & set(varied_columns(summary))


def pool_samples_as_seeds(
    results: pd.DataFrame, over: str = "segments", *, shares_draw: bool = True
) -> pd.DataFrame:
    """Make the sampled combinations of the other fields count as seeds.

    Args:
        results: one row per run, as ``load_results`` returns it.
        over: the field whose values are compared.
        shares_draw: whether all values of it were drawn the same combinations. Limits may leave
            each with its own ones. The first of one value is then paired with the first of another.

    Returns:
        The rows without the columns that the sample varies. Their ``seed`` numbers the pairs of a
        sampled combination and a seed.
    """
    columns = varied_columns(results, over)
    if not columns:
        return results
    seeds = results.groupby([*columns, "seed"], sort=False, dropna=False).ngroup()
    if not shares_draw and (seeds.value_counts() < results[over].nunique(dropna=False)).any():
        seeds = results.groupby(over, sort=False, dropna=False).cumcount()
    sampled = [c for c in point_columns(results) if c != over and not _follows(results, c, over)]
    return results.drop(columns=sampled).assign(seed=seeds)


def _follows(results: pd.DataFrame, name: str, other: str) -> bool:
    """Whether the column ``name`` has a single value at each value of ``other``."""
    return bool((results.groupby(other, dropna=False)[name].nunique(dropna=False) == 1).all())


def summarize(results: pd.DataFrame, evidence: pd.DataFrame | None = None) -> pd.DataFrame:
    """Compute the means and 95% intervals of every point from its runs.

    Where ``evidence`` compares a point, its mean and interval on the test split come from there;
    that interval is for new seeds and new test examples, or for new test examples alone if it
    compares a single seed. Every other interval is Student's t over seeds alone, for the given
    examples, and is missing (NaN) for a single run.

    Args:
        results: one row per run, as ``load_results`` returns it.
        evidence: one row per point, as ``compare_points`` returns it, or None.

    Returns:
        One row per point, in the order of the study: its configuration, ``match``, ``params`` and
        ``macs``, which are means where combinations count as seeds; ``activations``, and
        ``latency`` in milliseconds, where the results have them; ``runs`` and ``failed``, the
        numbers of its runs and of those that failed; ``test_top1`` and ``val_top1``, means as
        fractions, with the bounds ``test_low``, ``test_high``, ``val_low`` and ``val_high``;
        ``seeds`` and ``examples``, the numbers of seeds and of test examples that the interval on
        the test split accounts for, with 0 examples if it is for seeds alone; and
        ``train_seconds``, a mean. Images with several labels have
        ``test_map`` and ``val_map`` instead of ``test_top1`` and ``val_top1``.

    Raises:
        ValueError: If the results are another table or empty, or the evidence lacks a column of the
            results' points, as the evidence of a sampled study does.
    """
    measure = infer_measure(results, "results")
    columns = ("run_id", "match", "params", "macs", "status", "train_seconds")
    measured = (measure.test_column, measure.validation_column)
    require_columns("results", results, [*columns, *measured], "load_results")
    keys = point_columns(results)
    costs = ["params", "macs", *(c for c in (ACTIVATIONS, LATENCY) if c in results)]
    rows = []
    for values, rows_of_point in results.groupby(keys, sort=False, dropna=False):
        runs = rows_of_point.drop_duplicates("run_id")  # a run that two studies share counts once
        test = mean_interval(runs[measure.test_column])
        val = mean_interval(runs[measure.validation_column])
        rows.append(
            {
                **dict(zip(keys, values, strict=True)),
                "match": runs["match"].iloc[0],
                **{cost: _mean_cost(runs[cost]) for cost in costs},
                "runs": len(runs),
                "failed": int((runs["status"] != "done").sum()),
                "seeds": int((runs["status"] == "done").sum()),
                "examples": 0,
                measure.test_column: test.mean,
                "test_low": test.low,
                "test_high": test.high,
                measure.validation_column: val.mean,
                "val_low": val.low,
                "val_high": val.high,
                "train_seconds": runs["train_seconds"].mean(),
            }
        )
    summary = pd.DataFrame(rows)
    if evidence is None:
        return summary
    interval = (measure.test_column, "test_low", "test_high")
    require_columns("evidence", evidence, ["runs", "examples", *interval], "compare_points")
    absent = [name for name in keys if name not in evidence]
    if absent:
        allowed = f"must be of the same points as results; no {', '.join(absent)}"
        raise FieldError("evidence", len(evidence), allowed)
    compared = evidence.assign(seeds=evidence["runs"])[evidence["runs"] > 0].set_index(keys)
    places = pd.MultiIndex.from_frame(summary[keys])
    for name in ("seeds", "examples", *interval):
        known = compared[name].reindex(places).to_numpy()
        summary[name] = summary[name].where(pd.isna(known), known)
    return summary.astype({"seeds": int, "examples": int})


def _mean_cost(costs: pd.Series) -> float:
    """The mean of the costs of a point's runs, which is whole for counts."""
    return round(costs.mean()) if pd.api.types.is_integer_dtype(costs) else costs.mean()


def interval_source(summary: pd.DataFrame) -> str:
    """Says where the intervals of a summary come from, if that isn't seeds and test examples."""
    known = summary[summary["test_low"].notna()]
    of_seeds = known["examples"] == 0
    of_images = ~of_seeds & (known["seeds"] < 2)
    kinds = {"seeds": of_seeds, "test images": of_images}
    alone = " or ".join(name for name, is_alone in kinds.items() if is_alone.any())
    some = "" if (of_seeds | of_images).all() else "some "
    return f"{some}from {alone} alone" if alone else ""
