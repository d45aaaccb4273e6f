"""The best points of a search trained again, beside the best uniform ones: skill or luck."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from rich.console import Console

from spectrum.report import search_front
from spectrum.report.labels import in_units
from spectrum.report.measure import ACCURACY, Measure, measure_of
from spectrum.report.search_data import finished
from spectrum.search.candidates import Candidates
from spectrum.search.config import Cost
from spectrum.study.engine import Engine
from spectrum.study.evidence import gather_evidence
from spectrum.study.plan import Point
from spectrum.study.results import make_row
from spectrum.study.store import Store
from spectrum.study.study import execute_all

__all__ = [
    "UNIFORM",
    "WINNER",
    "Check",
    "Finalist",
    "check",
    "finalists",
    "keep_winner",
    "state_verdict",
]

WINNER = "winner"
UNIFORM = "best uniform"
_FINALIST = "finalist"


class Finalist(NamedTuple):
    """A point that is trained again.

    Attributes:
        point: what is trained.
        is_best: whether it is one of the best of all.
        is_uniform: whether one setting of the dial is everywhere.
    """

    point: Point
    is_best: bool
    is_uniform: bool


class Check(NamedTuple):
    """What training the finalists again has shown.

    Attributes:
        results: a row a run, as a study's, with its ``role``: winner, best uniform or finalist.
        points: the winner and the best uniform point, by role, where there are such.
        evidence: a row for each of the two, as ``compare_points`` gives a row a point; None where
            they can't be compared.
        verdict: what it says, in a sentence or two.
    """

    results: pd.DataFrame
    points: dict[str, Point]
    evidence: pd.DataFrame | None
    verdict: str


def finalists(trials: pd.DataFrame, candidates: Candidates) -> list[Finalist]:
    """The best points of a search and its best uniform points, by the validation split.

    Where all of these are among the best there is one uniform point more. With several goals the
    best are those of the highest measure on the front.

    Args:
        trials: as ``make_rows`` gives them.
        candidates: the points.

    Raises:
        ValueError: no trial is done.
    """
    config, names = candidates.config, list(candidates.space.choices)
    measure = measure_of(trials)
    goals = config.goals(measure)
    done = finished(trials, goals)
    if done.empty:
        raise ValueError("no trial is done, so there is no winner")
    front = search_front(trials, goals) if config.minimize else done

    def best(rows: pd.DataFrame) -> list[int]:
        ranked = rows.sort_values(measure.validation, ascending=False, kind="stable")
        return [int(number) for number in ranked["trial"].head(config.finalists)]

    overall, uniform = best(front), best(done[done["uniform"]])
    if {*uniform} <= {*overall}:  # one more, that there is something to compare with
        uniform += best(done[done["uniform"] & ~done["trial"].isin(overall)])[:1]
    rows = done.set_index("trial")
    return [
        Finalist(
            candidates.point(dict(zip(names, map(str, rows.loc[number, names]), strict=True))),
            number in overall,
            bool(rows["uniform"][number]),
        )
        for number in dict.fromkeys([*overall, *uniform])
    ]


def check(found: list[Finalist], candidates: Candidates, engine: Engine, console: Console) -> Check:
    """Train the finalists again with new seeds, and compare the winner on the test split.

    The seeds begin at 1: by seed 0 the finalists were chosen, and have had their luck. The winner,
    and the best uniform point, are those of the highest mean on the validation split over the new
    seeds; the test split decides nothing but what is said of the two.

    Raises:
        Interrupted: it was interrupted; all that is finished is kept.
    """
    config = candidates.config
    seeds = range(1, config.seeds + 1)
    wanted = [(one.point, one.point.run(seed)) for seed in seeds for one in found]
    results = execute_all(config, wanted, engine, console)
    rows = pd.DataFrame([make_row(config, p, run, results[run.id]) for p, run in wanted])
    measure = measure_of(rows)
    rows.insert(0, "finalist", [i for _ in seeds for i in range(len(found))])
    chosen = _choose(rows, found)
    roles = {number: role for role, number in chosen.items()}
    rows.insert(0, "role", [roles.get(number, _FINALIST) for number in rows.pop("finalist")])
    points = {role: found[number].point for role, number in chosen.items()}
    if WINNER not in points:
        return Check(rows, points, None, "No finalist has finished all seeds: nothing is checked.")
    compared = rows.loc[
        rows["role"] != _FINALIST,
        ["run_id", "role", "match", "seed", "params", "macs", measure.test, "status"],
    ]
    store = Store(config.runs)
    answers_of = store.correct if measure == ACCURACY else store.average_precision
    try:
        evidence = gather_evidence(compared, answers_of, list(points)[-1], "role")
    except ValueError as error:  # the results stand
        return Check(rows, points, None, f"The winner can't be checked: {error}.")
    by_role = evidence.set_index("role").to_dict("index")
    uniform = found[chosen[WINNER]].is_uniform
    verdict = state_verdict(points, by_role, uniform, config.minimize, measure)
    return Check(rows, points, evidence, verdict)


def _choose(rows: pd.DataFrame, found: list[Finalist]) -> dict[str, int]:
    """The numbers of the winner and of the best uniform point among the finalists."""
    scores = rows.assign(done=rows["status"] == "done").groupby("finalist")
    means = scores[measure_of(rows).validation].mean()[scores["done"].all()]
    chosen: dict[str, int] = {}
    for role, field in ((WINNER, "is_best"), (UNIFORM, "is_uniform")):
        open_to = [
            number
            for number, one in enumerate(found)
            if getattr(one, field) and number in means.index and number not in chosen.values()
        ]
        if open_to:
            chosen[role] = max(open_to, key=lambda number: float(means[number]))
    return chosen


def state_verdict(
    points: Mapping[str, Point],
    evidence: Mapping[Any, Mapping[Any, Any]],
    is_uniform: bool,
    costs: Sequence[Cost] = (),
    measure: Measure = ACCURACY,
) -> str:
    """What the evidence says of the winner.

    Args:
        points: the winner and, if there is one, the best uniform point, by role.
        evidence: of each, by role, as ``compare_points`` gives it.
        is_uniform: whether the winner is a uniform point itself.
        costs: that are goals too; the sentence says what they are then.
        measure: that the points are compared by.
    """
    names = {role: _named(point, points) for role, point in points.items()}
    winner = evidence[WINNER]
    seeds = f"{winner['runs']} new seed{'s' * (winner['runs'] > 1)}"
    if UNIFORM not in points:
        low, high = winner["test_low"], winner["test_high"]
        return (
            f"{names[WINNER]} reaches {_value(winner, measure)} on the test split (95% interval "
            f"{low:.4f} to {high:.4f}, {seeds}); no {'other ' * is_uniform}uniform point has new "
            "runs to compare it with."
        )
    low, high = winner["difference_low"], winner["difference_high"]
    by = (
        f"{100 * winner['difference']:+.2f} points (95% interval {100 * low:+.2f} to "
        f"{100 * high:+.2f}; {seeds}, {winner['examples']:,} test examples)"
    )
    other = f"{names[UNIFORM]}, the best {'other ' * is_uniform}uniform point"
    first = "Nothing was found that beats the uniform points: " if is_uniform else ""
    if costs:
        by += f". {_in_costs(points, costs)}"
    if low > 0:
        return f"{first}{names[WINNER]} is better than {other}, by {by}."
    if costs:  # one that costs less isn't luck, whatever its accuracy
        if high < 0:
            return f"{first}{names[WINNER]} is {measure.less} than {other}: {by}."
        return f"{first}{names[WINNER]} and {other}, can't be told apart in {measure.word}: {by}."
    if high < 0:
        return f"{first or 'It was luck: '}{names[WINNER]} is worse than {other}: {by}."
    luck = "What was found may be luck: "
    return f"{first or luck}{names[WINNER]} and {other}, can't be told apart: {by}."


def _value(winner: Mapping[Any, Any], measure: Measure) -> str:
    """What it reaches, named where it isn't an accuracy."""
    value = f"{winner[measure.test]:.4f}"
    return value if measure == ACCURACY else f"{measure.a_name} of {value}"


def _in_costs(points: Mapping[str, Point], costs: Sequence[Cost]) -> str:
    """What the two cost in what was to be minimised; counts are exact, latencies measured."""
    said = []
    for cost in costs:
        own, other = (getattr(points[role], cost) for role in (WINNER, UNIFORM))
        name = {"params": "parameters", "macs": "MACs", "latency": "ms of latency"}[cost]
        figures = [f"{x:.3g}" if cost == "latency" else in_units(x) for x in (own, other)]
        said.append(f"{figures[0]} {name} against {figures[1]} ({own / other - 1:+.0%})")
    return f"It has {' and '.join(said)}"


def _named(point: Point, points: Mapping[str, Point]) -> str:
    """A point by its segments, and by what else tells it from the other."""
    described = {role: _described(other) for role, other in points.items()}
    others = [
        f"{field} {'none' if value in (None, ()) else value}"
        for field, value in _described(point).items()
        if any(fields[field] != value for fields in described.values())
    ]
    return " with ".join([point.network.segments, *filter(None, [" and ".join(others)])])


def _described(point: Point) -> dict[str, object]:
    """What a search may vary besides segments; the width is left out where it was solved."""
    fields = {**dict(point.network), **dict(point.recipe), "precision": point.precision}
    solved = set() if point.miss is None else {"width"}
    return {field: value for field, value in fields.items() if field not in solved | {"segments"}}


def keep_winner(check: Check, store: Store, folder: Path) -> bool:
    """Copy the run of the winner that classifies the validation split best, for ``load_run``.

    Returns:
        Whether there is one.
    """
    runs = check.results[(check.results["role"] == WINNER) & (check.results["status"] == "done")]
    if runs.empty:
        return False
    best = store.folder(str(runs["run_id"].iloc[int(runs[measure_of(runs).validation].argmax())]))
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "weights.safetensors", "result.json"):
        shutil.copyfile(best / name, folder / name)
    return True
