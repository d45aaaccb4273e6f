"""What the evidence of a study supports, in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from spectrum.analysis.labels import field_label, shorten_setting
from spectrum.analysis.measure import Measure, infer_measure
from spectrum.analysis.schema import require_columns
from spectrum.analysis.statistics import split_into_curves, varied_columns
from spectrum.errors import counted


def state_evidence(evidence: pd.DataFrame, over: str = "segments", unit: str = "seed") -> list[str]:
    """State which points are better, which can't be told apart, and which runs were left out.

    The probability that a text makes any false claim is at most 5%.

    Args:
        evidence: one row per point, as ``compare_points`` returns it.
        over: the field whose values are compared in it.
        unit: what the runs of a point differ in, such as ``"seed"`` or ``"sampled recipe"``.

    Returns:
        One text of one to four sentences for each combination of the other fields that vary.
    """

    def named(value: object) -> str:
        return shorten_setting(str(value)) if over == "segments" else field_label(over, value)

    measure = infer_measure(evidence)
    known = ("runs", "examples", "left_out", "worse_than", "test_low", "test_high")
    require_columns("evidence", evidence, [over, measure.test_column, *known], "compare_points")
    columns = varied_columns(evidence, over)
    evidence = evidence.assign(
        point=evidence[over].map(named),
        better=evidence["worse_than"].map(
            lambda text: [named(better) for better in text.split(", ") if better]
        ),
    )
    return [
        f"{name}{': ' if name else ''}{_describe_comparison(rows, unit, measure)}"
        for _, name, rows in split_into_curves(evidence, columns)
    ]


def _describe_comparison(rows: pd.DataFrame, unit: str, measure: Measure) -> str:
    """The sentences on points that were compared with each other."""
    compared = rows[rows["runs"] > 0]
    if compared.empty:
        if len(rows) == 1:
            return f"{rows['point'].iloc[0]} has no finished run."
        return f"No {unit} has a finished run at each of {_join(rows['point'])}."
    seeds, examples = int(compared["runs"].iloc[0]), int(compared["examples"].iloc[0])
    of_examples = counted(examples, "test example")
    sentences = [_claim(compared, counted(seeds, unit), of_examples, measure)]
    if seeds == 1:
        sentences.append(f"This holds for these trained networks only; other {unit}s may differ.")
    absent = list(rows["point"][rows["runs"] == 0])
    if absent:
        sentences.append(f"{_join(absent)} {_verb(absent, 'has', 'have')} no finished run.")
    left_out = int(rows["left_out"].iloc[0])
    if left_out:
        are = f"{counted(left_out, unit)} {'is' if left_out == 1 else 'are'}"
        sentences.append(f"{are} left out, because not every compared point has a finished run.")
    return " ".join(sentences)


def _claim(rows: pd.DataFrame, seeds: str, examples: str, measure: Measure) -> str:
    """The sentence on which of the compared points are better than which."""
    points = list(rows["point"])
    worse = {p: better for p, better in zip(points, rows["better"], strict=True) if better}
    top = [point for point in points if point not in worse]
    if len(points) == 1:
        row = rows.iloc[0]
        return (
            f"{points[0]} has {measure.name_with_article} of {row[measure.test_column]:.4f} "
            f"({row['test_low']:.4f} to {row['test_high']:.4f}; {seeds}, {examples}), and there is "
            "nothing to compare it with."
        )
    if len(top) == 1 and all(top[0] in better for better in worse.values()):
        better_than = (
            f"{top[0]} is better than {next(iter(worse))}"
            if len(points) == 2
            else f"{top[0]} is best: its {measure.name} is higher than that of {_join(list(worse))}"
        )
        return f"{better_than} ({seeds}, {examples})."
    tied = _join(top)
    if len(top) == 1:
        # The top point has the highest mean, but some points are only worse than other points.
        undecided = [point for point, better in worse.items() if top[0] not in better]
        tied = f"{top[0]} and {_join(undecided, 'or')}"
    clauses = [f"{tied} can't be told apart with {seeds} and {examples}"]
    losers: dict[tuple[str, ...], list[str]] = {}
    for point, better in worse.items():
        losers.setdefault(tuple(p for p in better if p in top) or tuple(better), []).append(point)
    clauses += [
        f"{_join(group)} {_verb(group, 'is', 'are')} worse than {_refer_to(better, top)}"
        for better, group in losers.items()
    ]
    return "; ".join(clauses) + "."


def _refer_to(better: tuple[str, ...], top: Sequence[str]) -> str:
    """The better points by name, or as "both" or "all of them" where they are all of the top."""
    if len(better) == 1 or list(better) != list(top):
        return _join(better)
    return "both" if len(better) == 2 else "all of them"


def _join(names: Sequence[str] | pd.Series, conjunction: str = "and") -> str:
    *most, last = names
    return f"{', '.join(most)} {conjunction} {last}" if most else str(last)


def _verb(subjects: Sequence[str], singular: str, plural: str) -> str:
    return singular if len(subjects) == 1 else plural
