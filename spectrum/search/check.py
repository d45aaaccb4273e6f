"""The winner of a search trained again, beside the best uniform point: skill or luck."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich.console import Console

from spectrum.report import search_front
from spectrum.search.candidates import Candidates
from spectrum.study.evidence import gather_evidence
from spectrum.study.plan import Point
from spectrum.study.results import make_row
from spectrum.study.store import Store
from spectrum.study.study import execute_all

__all__ = ["UNIFORM", "WINNER", "Check", "check_winner", "contenders", "keep_winner"]

WINNER = "winner"
UNIFORM = "best uniform"


class Check(NamedTuple):
    """What training the winner again has shown.

    Attributes:
        results: a row a run, as a study's, with its ``role``: winner or best uniform.
        evidence: a row a role, as ``compare_points`` gives a row a point; None where a run of
            each is missing.
        verdict: what it says, in a sentence or two.
    """

    results: pd.DataFrame
    evidence: pd.DataFrame | None
    verdict: str


def contenders(trials: pd.DataFrame, candidates: Candidates) -> dict[str, Point]:
    """The most accurate point of the front, and the best other point that is uniform, by role.

    Args:
        trials: as ``make_rows`` gives them.
        candidates: the points.

    Raises:
        ValueError: no trial is done.
    """
    front = search_front(trials, candidates.config.goals)
    if front.empty:
        raise ValueError("no trial is done, so there is no winner")

    names = candidates.space.choices
    best = front.iloc[int(front["val_top1"].argmax())]
    found = {WINNER: candidates.point({name: str(best[name]) for name in names})}
    uniform = trials[
        trials["uniform"] & (trials["state"] == "done") & (trials["trial"] != best["trial"])
    ]
    if not uniform.empty:
        other = uniform.iloc[int(uniform["val_top1"].argmax())]
        found[UNIFORM] = candidates.point({name: str(other[name]) for name in names})
    return found


def check_winner(
    found: Mapping[str, Point], candidates: Candidates, devices: list[str], console: Console
) -> Check:
    """Train both again with new seeds, on the full budget, and compare them on the test split.

    The seeds begin at 1: by seed 0 the winner was chosen, which has had its luck.

    Raises:
        Interrupted: it was interrupted; all that is finished is kept.
    """
    config = candidates.config
    store = Store(config.runs)
    wanted = [
        (role, point, point.run(seed))
        for seed in range(1, config.seeds + 1)
        for role, point in found.items()
    ]
    results = execute_all(config, [(point, run) for _, point, run in wanted], devices, console)
    rows = pd.DataFrame(
        [
            {"role": role, **make_row(config, point, run, results[run.id])}
            for role, point, run in wanted
        ]
    )
    compared = rows[["run_id", "role", "match", "seed", "params", "macs", "test_top1", "status"]]
    try:
        evidence = gather_evidence(compared, store.correct, list(found)[-1], "role")
    except ValueError as error:  # the results stand
        return Check(rows, None, f"The winner can't be checked: {error}.")
    return Check(rows, evidence, _verdict(found, evidence, candidates))


def _verdict(found: Mapping[str, Point], evidence: pd.DataFrame, candidates: Candidates) -> str:
    names = {role: _named(point, found) for role, point in found.items()}
    winner = evidence.set_index("role").to_dict("index")[WINNER]
    seeds = int(winner["runs"])
    if seeds == 0:
        return f"{names[WINNER]} can't be checked: no seed has a finished run of each point."
    alone = (
        f"{winner['test_top1']:.4f} on the test split (95% interval {winner['test_low']:.4f} to "
        f"{winner['test_high']:.4f}, {seeds} new seed{'s' * (seeds > 1)})"
    )
    if UNIFORM not in found:
        return f"{names[WINNER]} reaches {alone}; no uniform point is done to compare it with."
    low, high = winner["difference_low"], winner["difference_high"]
    by = (
        f"{100 * winner['difference']:+.2f} points (95% interval {100 * low:+.2f} to "
        f"{100 * high:+.2f}, {seeds} new seed{'s' * (seeds > 1)}, "
        f"{int(winner['examples']):,} test examples)"
    )
    is_uniform = found[WINNER].network.segments in candidates.config.segments
    other = "the best other uniform point" if is_uniform else "the best uniform point"
    first = "Nothing was found that beats the uniform points: " if is_uniform else ""
    if low > 0:
        return f"{first}{names[WINNER]} is better than {names[UNIFORM]}, {other}, by {by}."
    if high < 0:
        return f"{names[WINNER]} is worse than {names[UNIFORM]}, {other}: {by}. It was luck."
    luck = "" if is_uniform else "What the search found may be luck: "
    return f"{first}{luck}{names[WINNER]} and {names[UNIFORM]}, {other}, can't be told apart: {by}."


def _named(point: Point, found: Mapping[str, Point]) -> str:
    """A point by its segments, and by what else tells it from the other."""
    networks = [other.network for other in found.values()]
    others = [
        f"{field} {getattr(point.network, field) or 'none'}"
        for field in ("order", "activation")
        if len({getattr(network, field) for network in networks}) > 1
    ]
    return " with ".join([point.network.segments, *filter(None, [" and ".join(others)])])


def keep_winner(check: Check, store: Store, folder: Path) -> bool:
    """Copy the run of the winner that classifies the validation split best, for ``load_run``.

    Returns:
        Whether there is one.
    """
    runs = check.results[(check.results["role"] == WINNER) & (check.results["status"] == "done")]
    if runs.empty:
        return False
    best = store.folder(str(runs["run_id"].iloc[int(runs["val_top1"].argmax())]))
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "weights.safetensors", "result.json"):
        shutil.copyfile(best / name, folder / name)
    return True
