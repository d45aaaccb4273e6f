"""What the evidence of a study supports, in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from spectrum.analysis.columns import DRAWN
from spectrum.analysis.labels import point_label, point_name
from spectrum.analysis.measure import Measure, infer_measure
from spectrum.analysis.schema import require_columns
from spectrum.analysis.statistics import split_into_curves, varied_columns
from spectrum.errors import counted

_MOST_NAMED = 3  # pairs that a sentence names
_MOST_LISTED = 12  # points that it lists, where no point is worse than another
_MOSTLY_SHARED = 0.5  # the share of training images beyond which draws are much the same

PRELIMINARY = "Runs are missing, so all numbers are preliminary and nothing is claimed of them."
"""What is said of a study that isn't complete."""


def state_evidence(evidence: pd.DataFrame, over: str = "segments", unit: str = "seed") -> list[str]:
    """State which points are better, equal or can't be told apart, and which runs were left out.

    The probability that the texts of a study claim any false difference is at most 5%, and so is
    that of any false equality. Texts of a study that has grown say what else holds. While runs of a
    study are missing, the only text says that nothing is claimed.

    Args:
        evidence: one row per point, as ``compare_points`` returns it.
        over: the field whose values are compared in it.
        unit: what the runs of a point differ in, such as ``"seed"`` or ``"sampled recipe"``.

    Returns:
        One text of a few sentences for each combination of the other fields that vary.
    """
    measure = infer_measure(evidence, "evidence")
    known = ("runs", "examples", "left_out", "worse_than", "close_to", "test_low", "test_high")
    criteria = ("against", "equal_within", "look", "seeds_to_settle")
    required = [over, measure.test_column, *known, *criteria]
    require_columns("evidence", evidence, required, "compare_points")
    if (evidence.loc[evidence["runs"] > 0, "look"] == 0).any():
        return [PRELIMINARY]
    columns = varied_columns(evidence, over)
    evidence = evidence.assign(
        point=[point_label(value, over) for value in evidence[over]],
        name=evidence[over].map(point_name),
    )
    names = dict(zip(evidence["name"], evidence["point"], strict=True))
    for column, source in (("better", "worse_than"), ("close", "close_to")):
        evidence[column] = [
            [names.get(name, name) for name in text.split(", ") if name]
            for text in evidence[source]
        ]
    return [
        f"{name}{': ' if name else ''}{_describe_comparison(rows, unit, measure, names)}"
        for _, name, rows in split_into_curves(evidence, columns)
    ]


def state_draws(results: pd.DataFrame) -> list[str]:
    """State that seeds share most of their training images, where each draws its own.

    Args:
        results: one row per run, as ``load_results`` returns them.
    """
    drawn, drawn_from = (column.name for column in DRAWN)
    if drawn not in results:
        return []
    rows = results.loc[[(results[drawn] / results[drawn_from]).idxmax()]]
    n, most = int(rows[drawn].iloc[0]), int(rows[drawn_from].iloc[0])
    if n <= _MOSTLY_SHARED * most:
        return []
    return [
        f"Each seed trains on {n:,} of {most:,} images, so seeds share most of them: how much the "
        "choice of training images matters is understated."
    ]


def _describe_comparison(
    rows: pd.DataFrame, unit: str, measure: Measure, names: dict[str, str]
) -> str:
    """The sentences on points that were compared with each other."""
    compared = rows[rows["runs"] > 0]
    if compared.empty:
        if len(rows) == 1:
            return f"{rows['point'].iloc[0]} has no finished run."
        return f"No {unit} has a finished run at each of {_join(rows['point'])}."
    seeds, examples = int(compared["runs"].iloc[0]), int(compared["examples"].iloc[0])
    counts = f"{counted(seeds, unit)}", counted(examples, "test example")
    against = compared["against"].iloc[0]
    if len(compared) == 1:
        sentences = [_describe_one(compared.iloc[0], counts, measure)]
    elif against:
        reference = compared[compared["name"] == against]
        sentences = (
            [f"Nothing is compared, since {names.get(against, against)} has no finished run."]
            if reference.empty
            else [_describe_against(compared, reference.iloc[0], counts)]
        )
    else:
        sentences = _describe_all(compared, counts, measure)
    sentences += _describe_certainty(compared, seeds, unit)
    absent = list(rows["point"][rows["runs"] == 0])
    if absent:
        sentences.append(f"{_join(absent)} {_verb(absent, 'has', 'have')} no finished run.")
    left_out = int(rows["left_out"].iloc[0])
    if left_out:
        are = f"{counted(left_out, unit)} {'is' if left_out == 1 else 'are'}"
        sentences.append(f"{are} left out, because not every compared point has a finished run.")
    return " ".join(sentences)


def _describe_one(row: pd.Series[Any], counts: tuple[str, str], measure: Measure) -> str:
    return (
        f"{row['point']} has {measure.name_with_article} of {row[measure.test_column]:.4f} "
        f"({row['test_low']:.4f} to {row['test_high']:.4f}; {', '.join(counts)}), and there is "
        "nothing to compare it with."
    )


def _describe_against(
    rows: pd.DataFrame, reference: pd.Series[Any], counts: tuple[str, str]
) -> str:
    """The sentence on how the other points compare with a reference."""
    name, margin = reference["point"], _margin(rows)
    groups: dict[str, list[str]] = {}
    for _, row in rows[rows["point"] != name].iterrows():
        is_close = row["point"] in reference["close"]
        if row["point"] in reference["better"]:
            claim = "better"
        elif name in row["better"]:
            claim = "worse"
        else:
            claim = f"equal to it within {margin}" if is_close else "can't be told apart from it"
        if is_close and claim in ("better", "worse"):
            claim = f"slightly {claim}, by less than {margin}"
        groups.setdefault(claim, []).append(row["point"])
    clauses = [
        f"{_join(group)} {'' if claim.startswith('can') else _verb(group, 'is ', 'are ')}{claim}"
        for claim, group in groups.items()
    ]
    return f"Compared with {name} ({', '.join(counts)}), {'; '.join(clauses)}."


def _describe_all(rows: pd.DataFrame, counts: tuple[str, str], measure: Measure) -> list[str]:
    """The sentences on which of the compared points are better than which, or equal."""
    points = list(rows["point"])
    worse = {p: better for p, better in zip(points, rows["better"], strict=True) if better}
    close = {
        frozenset((point, other))
        for point, others in zip(points, rows["close"], strict=True)
        for other in others
    }
    margin, numbers = _margin(rows), ", ".join(counts)
    top = [point for point in points if point not in worse]
    if len(top) == 1 and all(top[0] in better for better in worse.values()):
        near = [point for point in worse if {top[0], point} in close]
        if len(points) == 2:
            by = f", by less than {margin}" if near else ""
            slightly = "slightly " if near else ""
            return [f"{top[0]} is {slightly}better than {next(iter(worse))}{by} ({numbers})."]
        than = _join(list(worse))
        sentence = f"{top[0]} is best: its {measure.name} is higher than that of {than} ({numbers})"
        more = [f"It is ahead of {_join(near)} by less than {margin}."] if near else []
        return [f"{sentence}.", *more]
    tied, pairs = _join(top), list(combinations(top, 2))
    if len(top) == len(points) > _MOST_LISTED:
        tied = f"The {len(points)} points"
    if len(top) == 1:
        # The top point has the highest mean, but some points are only worse than other points.
        undecided = [point for point, better in worse.items() if top[0] not in better]
        tied = f"{top[0]} and {_join(undecided, 'or')}"
        pairs = [(top[0], point) for point in undecided]
    equal = [pair for pair in pairs if frozenset(pair) in close]
    if len(equal) == len(pairs):
        clauses = [f"{tied} are equal within {margin} ({numbers})"]
    else:
        clauses = [f"{tied} can't be told apart with {' and '.join(counts)}"]
    losers: dict[tuple[tuple[str, ...], bool], list[str]] = {}
    for point, better in worse.items():
        named = tuple(p for p in better if p in top) or tuple(better)
        is_close = all(frozenset((point, other)) in close for other in named)
        losers.setdefault((named, is_close), []).append(point)
    clauses += [
        f"{_join(group)} {_verb(group, 'is', 'are')} {'slightly ' * is_close}worse than "
        f"{_refer_to(better, top)}{f', by less than {margin}' * is_close}"
        for (better, is_close), group in losers.items()
    ]
    more = _describe_equal(equal, [pair for pair in pairs if pair not in equal], margin)
    return ["; ".join(clauses) + ".", *more]


def _describe_equal(
    equal: Sequence[tuple[str, str]], others: Sequence[tuple[str, str]], margin: str
) -> list[str]:
    """The sentence on which pairs are equal, where some are and others can't be told apart."""
    if not equal or not others:
        return []
    if len(equal) <= _MOST_NAMED:
        return [f"Of these, {_join_pairs(equal)} are equal within {margin}."]
    rest = counted(len(others), "pair")
    if len(others) <= _MOST_NAMED:
        rest = _join_pairs(others)
        return [f"All pairs of these are equal within {margin}, but for {rest}."]
    return [f"{len(equal)} of their {len(equal) + len(others)} pairs are equal within {margin}."]


def _describe_certainty(rows: pd.DataFrame, seeds: int, unit: str) -> list[str]:
    """The sentences on how certain the claims are, and on what would settle the rest."""
    sentences = []
    if seeds == 1:
        sentences.append(f"This holds for these trained networks only; other {unit}s may differ.")
    elif seeds == 2:
        sentences.append(f"Two {unit}s hardly show how much {unit}s differ.")
    needed = float(rows["seeds_to_settle"].max())
    if math.isinf(needed):
        sentences.append(f"No number of {unit}s would settle every pair: it takes more images.")
    elif needed > 0:
        sentences.append(f"About {needed:,.0f} {unit}s would settle every pair.")
    look = int(rows["look"].iloc[0])
    if look > 1:
        share = 5 / 2 ** (look - 1)
        sentences.append(
            f"This is look {look} at the results of a study that has grown: its claims have an "
            f"error of at most {share:.3g}%, and those of all looks together of at most 10%."
        )
    return sentences


def _margin(rows: pd.DataFrame) -> str:
    margin = float(rows["equal_within"].iloc[0])
    return f"{margin:g} point{'' if margin == 1 else 's'}"


def _refer_to(better: tuple[str, ...], top: Sequence[str]) -> str:
    """The better points by name, or as "both" or "all of them" where they are all of the top."""
    if len(better) == 1 or list(better) != list(top):
        return _join(better)
    return "both" if len(better) == 2 else "all of them"


def _join(names: Sequence[str] | pd.Series, conjunction: str = "and") -> str:
    *most, last = names
    return f"{', '.join(most)} {conjunction} {last}" if most else str(last)


def _join_pairs(pairs: Sequence[tuple[str, str]]) -> str:
    """The names of pairs, such as "1 and 4, and 4 and C"."""
    *most, last = map(_join, pairs)
    return f"{', '.join(most)}, and {last}" if most else last


def _verb(subjects: Sequence[str], singular: str, plural: str) -> str:
    return singular if len(subjects) == 1 else plural
