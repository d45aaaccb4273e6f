"""What the evidence supports, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from spectrum.report.evidence import evidence_columns
from spectrum.report.labels import label, one_line
from spectrum.report.measure import Measure, measure_of
from spectrum.report.statistics import series_columns

__all__ = ["state_evidence"]


def state_evidence(evidence: pd.DataFrame, over: str = "segments", unit: str = "seed") -> list[str]:
    """One to three sentences for each combination of the fields that vary besides the compared.

    They say which points are better than which and which can't be told apart, and what was left
    out. Each text makes a false claim with a probability of 5% at the most.

    Args:
        evidence: a row a point, as ``compare_points`` gives it.
        over: the field that was compared there.
        unit: what its runs differ in, ``"seed"`` or, say, ``"sampled recipe"``.
    """

    def named(value: object) -> str:
        return one_line(str(value)) if over == "segments" else label(over, value)

    measure = measure_of(evidence)
    measured = [*evidence_columns(measure), "left_out"]
    columns = series_columns(evidence.drop(columns=measured), over)
    evidence = evidence.assign(
        point=evidence[over].map(named),
        better=evidence["worse_than"].map(
            lambda text: [named(worse) for worse in text.split(", ") if worse]
        ),
    )
    if not columns:
        return [_state(evidence, unit, measure)]
    return [
        ", ".join(map(label, columns, values)) + f": {_state(rows, unit, measure)}"
        for values, rows in evidence.groupby(columns, sort=False, dropna=False)
    ]


def _state(rows: pd.DataFrame, unit: str, measure: Measure) -> str:
    compared = rows[rows["runs"] > 0]
    if compared.empty:
        if len(rows) == 1:
            return f"{rows['point'].iloc[0]} has no finished run."
        return f"No {unit} has a finished run at each of {_listed(rows['point'])}."
    seeds, examples = int(compared["runs"].iloc[0]), int(compared["examples"].iloc[0])
    said = [_claim(compared, f"{seeds} {unit}{'s' * (seeds > 1)}", f"{examples:,}", measure)]
    if seeds == 1:
        said.append(f"One {unit} says nothing of others: this holds for these very networks.")
    absent = list(rows["point"][rows["runs"] == 0])
    if absent:
        said.append(f"{_listed(absent)} {_verb(absent, 'has', 'have')} no finished run.")
    left_out = int(rows["left_out"].iloc[0])
    if left_out:
        are = f"1 {unit} is" if left_out == 1 else f"{left_out} {unit}s are"
        said.append(f"{are} left out, for want of a finished run at every point compared.")
    return " ".join(said)


def _claim(rows: pd.DataFrame, seeds: str, examples: str, measure: Measure) -> str:
    points = list(rows["point"])
    worse = {p: better for p, better in zip(points, rows["better"], strict=True) if better}
    top = [point for point in points if point not in worse]
    if len(points) == 1:
        row = rows.iloc[0]
        return (
            f"{points[0]} has {measure.a_name} of {row[measure.test]:.4f} "
            f"({row['test_low']:.4f} to {row['test_high']:.4f}; {seeds}, {examples} test "
            "examples), and there is nothing to compare it with."
        )
    if len(top) == 1 and all(top[0] in better for better in worse.values()):
        better_than = (
            f"{top[0]} is better than {next(iter(worse))}"
            if len(points) == 2
            else f"{top[0]} is best: its {measure.name} is higher than that of "
            f"{_listed(list(worse))}"
        )
        return f"{better_than} ({seeds}, {examples} test examples)."
    tied = _listed(top)
    if len(top) == 1:
        # It has the highest mean, yet what is worse than others isn't always worse than it.
        level = [point for point, better in worse.items() if top[0] not in better]
        tied = f"{top[0]} and {_listed(level, 'or')}"
    clauses = [f"{tied} can't be told apart with {seeds} and {examples} test examples"]
    losers: dict[tuple[str, ...], list[str]] = {}
    for point, better in worse.items():
        losers.setdefault(tuple(p for p in better if p in top) or tuple(better), []).append(point)
    clauses += [
        f"{_listed(group)} {_verb(group, 'is', 'are')} worse than {_these(better, top)}"
        for better, group in losers.items()
    ]
    return "; ".join(clauses) + "."


def _these(better: tuple[str, ...], top: Sequence[str]) -> str:
    if len(better) == 1 or list(better) != list(top):
        return _listed(better)
    return "both" if len(better) == 2 else "all of them"


def _listed(names: Sequence[str] | pd.Series, last: str = "and") -> str:
    *most, end = names
    return f"{', '.join(most)} {last} {end}" if most else str(end)


def _verb(subjects: Sequence[str], one: str, many: str) -> str:
    return one if len(subjects) == 1 else many
