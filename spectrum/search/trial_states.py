"""What a trial in a storage stands for: whether it is over, lost or superfluous, and its point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from spectrum.analysis.columns import ACTIVATIONS, LATENCY
from spectrum.analysis.measure import MAP_AT
from spectrum.runs.point import Point
from spectrum.search.space import Space

ERROR = "error"
"""The attribute of a trial that has failed for good. A lost trial has none."""

DUPLICATE = "twin"
"""The attribute of a superfluous trial: its point is another trial's, or it exceeds ``trials``.

Its name stays "twin", since databases of earlier searches hold it.
"""


RUN_ID = "run_id"
"""The attribute with the id of a trial's run, which is set once it is known to be no duplicate."""

FIXED = "fixed_params"
"""Optuna's attribute of trials that were queued with a point."""

SEED = "spectrum.seed"
"""The attribute of a trial that trains a leader with a further seed. Others have seed 0."""

RETRIES = "spectrum.retries"
"""The attribute of a queued trial with the numbers of the trials that it repeats."""


def seed_of(trial: FrozenTrial) -> int:
    """The seed of the run of a trial."""
    seed: int = trial.system_attrs.get(SEED, 0)
    return seed


def is_lost(trial: FrozenTrial) -> bool:
    """Whether a trial was lost with its process, or given back by it."""
    return trial.state == TrialState.FAIL and ERROR not in trial.user_attrs


def retried_numbers(trials: Sequence[FrozenTrial]) -> set[int]:
    """The numbers of the trials that have been queued again."""
    return {number for trial in trials for number in trial.system_attrs.get(RETRIES, [])}


def select_over(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that are done, pruned or failed, and neither lost, superfluous nor repeated."""
    retried = retried_numbers(trials)
    return [
        trial
        for trial in trials
        if trial.state.is_finished()
        and not is_lost(trial)
        and DUPLICATE not in trial.user_attrs
        and trial.number not in retried
    ]


def select_failed(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that are over because their run failed, which may succeed another time.

    A run that diverged is final, as is a point that can't be built.
    """
    return [
        trial
        for trial in select_over(trials)
        if trial.state == TrialState.FAIL and RUN_ID in trial.user_attrs
    ]


def point_attributes(point: Point, seed: int) -> dict[str, Any]:
    """The attributes of a trial that say which run of which point it is."""
    network = point.network
    attributes = {
        "segments": network.segments,
        "width": network.width,
        "params": point.params,
        "macs": point.macs,
        ACTIVATIONS: point.activations,
        LATENCY: point.latency,
        MAP_AT: point.map_at,
        RUN_ID: point.run(seed).id,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def trial_params(trial: FrozenTrial, space: Space) -> dict[str, str] | None:
    """The point of a trial; None if it has no point yet or one of another space."""
    params = {**trial.system_attrs.get(FIXED, {}), **trial.params}
    return params if params.keys() == space.choices.keys() else None
