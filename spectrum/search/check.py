"""The check of a search's winner: the finalists train again with new seeds.

The best of many trials was partly lucky. So the best points and the best uniform points train
again, and the winner is compared with the best uniform point on the test split.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from rich.console import Console

from spectrum.analysis import search_front
from spectrum.analysis.evidence import gather_evidence
from spectrum.analysis.labels import format_count, name_with_fields, varying_fields
from spectrum.analysis.measure import ACCURACY, Measure, infer_measure
from spectrum.analysis.trials import finished_trials
from spectrum.errors import counted, printable
from spectrum.executors.base import Engine
from spectrum.runs.point import Point
from spectrum.runs.store import Store
from spectrum.search.candidates import Candidates
from spectrum.search.config import Cost, SearchConfig
from spectrum.study.results import make_row, varied_values
from spectrum.study.study import execute_all
from spectrum.tracking.events import OnStudyEvent

WINNER = "winner"
UNIFORM = "best uniform"
_FINALIST = "finalist"
# What a number of each cost counts, and what a point has that costs less.
_COST_WORDS: dict[Cost, tuple[str, str]] = {
    "params": ("parameters", "fewer parameters"),
    "macs": ("MACs", "fewer MACs"),
    "activations": ("activations", "fewer activations"),
    "latency": ("ms of latency", "a shorter latency"),
}


class Finalist(NamedTuple):
    """A point that trains again.

    Attributes:
        point: the point.
        is_best: whether it is one of the best of all points.
        is_uniform: whether it has one setting of the dial everywhere.
    """

    point: Point
    is_best: bool
    is_uniform: bool


class Check(NamedTuple):
    """The result of training the finalists again.

    Attributes:
        results: one row per run, as in a study, with its ``role``: winner, best uniform or
            finalist.
        points: the winner and the best uniform point by role, as far as they exist.
        finalists: all points that were trained again.
        evidence: one row for each of the two, with the columns of ``compare_points``; None if they
            can't be compared.
        verdict: what the evidence says, in a sentence or two.
        scores: the mean of each finalist on the validation split, in their order; missing unless
            all its seeds are finished.
    """

    results: pd.DataFrame
    points: dict[str, Point]
    finalists: list[Point]
    evidence: pd.DataFrame | None
    verdict: str
    scores: pd.Series


def choose_finalists(trials: pd.DataFrame, candidates: Candidates) -> list[Finalist]:
    """Choose the best points and the best uniform points of a search by the validation split.

    If all the best uniform points are among the best points, one more uniform point is added, so
    that there is one to compare with. With several goals the best points are those of the front
    with the highest measure.

    Args:
        trials: the trials, as ``make_rows`` makes them. At least one is done.
        candidates: the points of the search.
    """
    config, names = candidates.config, list(candidates.space.choices)
    measure = infer_measure(trials)
    goals = config.goals(measure)
    done = finished_trials(trials, goals)
    front = search_front(trials, goals) if config.minimize else done

    def best(rows: pd.DataFrame) -> list[int]:
        ranked = rows.sort_values(measure.validation_column, ascending=False, kind="stable")
        return [int(number) for number in ranked["trial"].head(config.finalists)]

    overall, uniform = best(front), best(done[done["uniform"]])
    if {*uniform} <= {*overall}:  # one more, to compare with
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


def check_finalists(
    finalists: list[Finalist],
    candidates: Candidates,
    engine: Engine,
    console: Console,
    first_seed: int = 1,
    on_event: OnStudyEvent = lambda event: None,
) -> Check:
    """Train the finalists again with new seeds and compare the winner on the test split.

    The seeds begin above those that chose the finalists. The winner and the best uniform point are
    those with the highest mean on the validation split over the new seeds. The test split has no
    part in the choice. ``on_event`` is called with each event of a run.

    Raises:
        Interrupted: the check was interrupted. Everything finished is kept.
    """
    config = candidates.config
    seeds = range(first_seed, first_seed + config.seeds)
    runs = [(one.point, one.point.run(seed)) for seed in seeds for one in finalists]
    discard_damaged([run.id for _, run in runs], Store(config.runs), console)
    results = execute_all(config, runs, engine, console, (), on_event)
    rows = pd.DataFrame([make_row(config, p, run, results[run.id]) for p, run in runs])
    measure = infer_measure(rows)
    numbers = rows.index % len(finalists)
    is_done = (rows["status"] == "done").groupby(numbers).all()
    scores = rows[measure.validation_column].groupby(numbers).mean().where(is_done)
    chosen = _choose_roles(finalists, scores)
    roles = {number: role for role, number in chosen.items()}
    rows.insert(0, "role", [roles.get(number, _FINALIST) for number in numbers])
    points = {role: finalists[number].point for role, number in chosen.items()}
    among = [one.point for one in finalists]
    if WINNER not in points:
        verdict = "No finalist has finished all seeds: nothing is checked."
        return Check(rows, points, among, None, verdict, scores)
    compared = rows.loc[
        rows["role"] != _FINALIST,
        ["run_id", "role", "match", "seed", "params", "macs", measure.test_column, "status"],
    ]
    store = Store(config.runs)
    answers_of = store.correct if measure == ACCURACY else store.average_precision
    try:
        evidence = gather_evidence(compared, answers_of, list(points)[-1], "role").points
    except ValueError as error:  # the results are still good
        verdict = f"The winner can't be checked: {error}."
        return Check(rows, points, among, None, verdict, scores)
    winner = evidence.set_index("role").to_dict("index")[WINNER]
    uniform = finalists[chosen[WINNER]].is_uniform
    verdict = state_verdict(config, points, winner, uniform, measure, among)
    ahead = scores.loc[[*chosen.values()]]
    is_behind = bool(ahead.iloc[-1] > ahead.iloc[0])
    if is_behind:
        verdict += (
            f" On the validation split the best uniform point is ahead, with {ahead.iloc[-1]:.4f} "
            f"against {ahead.iloc[0]:.4f}: the winner is the best of "
            f"{'the front' if config.minimize else 'those that the search found best'}."
        )
    if UNIFORM in points and winner["difference"] < 0:
        verdict += f" {_state_why(config, points, winner, is_behind, measure, among)}"
    return Check(rows, points, among, evidence, verdict, scores)


def discard_damaged(run_ids: Iterable[str], store: Store, console: Console) -> None:
    """Have finished runs done again whose files are damaged, the weights included.

    The winner is one of them, and its weights are loaded.
    """
    for run_id in run_ids:
        damage = store.verify(run_id) if store.result(run_id) is not None else None
        if damage is not None:
            text = f"{printable(damage)}; the run is done again"
            console.print(text, highlight=False, markup=False, soft_wrap=True)
            store.discard(run_id)


def _choose_roles(finalists: list[Finalist], scores: pd.Series) -> dict[str, int]:
    """The indices of the winner and of the best uniform point among the finalists, by role.

    Args:
        finalists: the finalists.
        scores: the mean of each on the validation split, missing unless all seeds are finished.
    """
    chosen: dict[str, int] = {}
    for role, eligible in (
        (WINNER, [one.is_best for one in finalists]),
        (UNIFORM, [one.is_uniform for one in finalists]),
    ):
        left = scores[eligible].drop(list(chosen.values()), errors="ignore").dropna()
        if len(left):
            chosen[role] = int(left.index[int(left.argmax())])
    return chosen


def state_verdict(
    config: SearchConfig,
    points: Mapping[str, Point],
    winner: Mapping[Any, Any],
    is_uniform: bool,
    measure: Measure = ACCURACY,
    among: Sequence[Point] = (),
) -> str:
    """State what the evidence says of the winner.

    Args:
        config: the configuration of the search. If costs are goals too, the verdict states them.
        points: the winner and, if there is one, the best uniform point, by role.
        winner: the row of the winner, with the columns of ``compare_points``.
        is_uniform: whether the winner is a uniform point itself.
        measure: the measure that the points are compared by.
        among: the finalists, from which the names of the two tell them apart.
    """
    known = [*points.values(), *among]
    names = {
        role: name_among(config, point.network.segments, point, known)
        for role, point in points.items()
    }
    seeds = counted(winner["runs"], "new seed")
    if UNIFORM not in points:
        low, high = winner["test_low"], winner["test_high"]
        named = "" if measure == ACCURACY else f"{measure.name_with_article} of "
        return (
            f"{names[WINNER]} reaches {named}{winner[measure.test_column]:.4f} on the test split "
            f"(95% interval {low:.4f} to {high:.4f}, {seeds}); "
            f"no {'other ' * is_uniform}uniform point has new runs to compare it with."
        )
    low, high = winner["difference_low"], winner["difference_high"]
    by = (
        f"{100 * winner['difference']:+.2f} points (95% interval {100 * low:+.2f} to "
        f"{100 * high:+.2f}; {seeds}, {winner['examples']:,} test examples)"
    )
    other = f"{names[UNIFORM]}, the best {'other ' * is_uniform}uniform point"
    worse, apart = "worse", "can't be told apart"
    was_luck, may_be_luck = "It was luck: ", "What was found may be luck: "
    if config.minimize:  # a lower cost isn't luck, whatever the accuracy
        by += f". {_compare_costs(points, config.minimize)}"
        worse, apart = measure.worse, f"can't be told apart in {measure.short_name}"
        was_luck = may_be_luck = ""
    nothing = "Nothing was found that beats the uniform points: " if is_uniform else ""
    if low > 0:
        return f"{nothing}{names[WINNER]} is better than {other}, by {by}."
    if high < 0:
        return f"{nothing or was_luck}{names[WINNER]} is {worse} than {other}: {by}."
    return f"{nothing or may_be_luck}{names[WINNER]} and {other}, {apart}: {by}."


def _state_why(
    config: SearchConfig,
    points: Mapping[str, Point],
    winner: Mapping[Any, Any],
    is_behind: bool,
    measure: Measure,
    among: Sequence[Point],
) -> str:
    """State why a point is called the winner although the test split puts it behind.

    Args:
        config: the configuration of the search.
        points: the winner and the best uniform point, by role.
        winner: the row of the winner, with the columns of ``compare_points``.
        is_behind: whether it is behind on the validation split too.
        measure: the measure that the points are compared by.
        among: the finalists, from which the name of the uniform point tells it apart.
    """
    chosen_from = "the front" if config.minimize else "the points that the search found best"
    validated = "the validation split alone chooses, where it isn't behind"
    reasons = [f"it was chosen among {chosen_from} alone" if is_behind else validated]
    reasons += [
        f"it has {_COST_WORDS[cost][1]}"
        for cost in config.minimize
        if getattr(points[WINNER], cost) < getattr(points[UNIFORM], cost)
    ]
    if winner["difference_high"] >= 0:
        reasons.append("the difference isn't shown to be more than chance")
    *most, last = reasons
    because = f"{', '.join(most)}, and {last}" if most else last
    uniform = points[UNIFORM]
    other = name_among(config, uniform.network.segments, uniform, among)
    return (
        f"The winner's test {measure.short_name} is lower than that of {other}. It is called the "
        f"winner because {because}."
    )


def _compare_costs(points: Mapping[str, Point], costs: Sequence[Cost]) -> str:
    """State the costs of the two points. Counts are exact, latencies measured."""
    parts = []
    for cost in costs:
        own, other = (getattr(points[role], cost) for role in (WINNER, UNIFORM))
        figures = [f"{x:.3g}" if cost == "latency" else format_count(x) for x in (own, other)]
        parts.append(
            f"{figures[0]} {_COST_WORDS[cost][0]} against {figures[1]} ({own / other - 1:+.0%})"
        )
    return f"It has {' and '.join(parts)}"


def name_among(config: SearchConfig, name: str, point: Point, points: Iterable[Point]) -> str:
    """A name of a point by its segments, and what else tells it from some points."""
    values = varied_values(config, point)
    rows = pd.DataFrame([values, *(varied_values(config, other) for other in points)])
    return name_with_fields(name, values, varying_fields(rows, values))


def copy_winner(check: Check, store: Store, folder: Path) -> None:
    """Copy the winner's run with the best result on the validation split, for ``load_run``."""
    is_done = check.results["status"] == "done"
    runs = check.results[is_done & (check.results["role"] == WINNER)]
    if runs.empty:
        return
    best = runs["run_id"].iloc[runs[infer_measure(runs).validation_column].argmax()]
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "weights.safetensors", "result.json"):
        shutil.copyfile(store.folder(best) / name, folder / name)
