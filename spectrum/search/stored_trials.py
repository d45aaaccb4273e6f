"""The check of the trials that a storage holds, before any of them is used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from optuna.trial import FrozenTrial, TrialState
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, TypeAdapter

from spectrum.errors import FieldError
from spectrum.fields import Share, Stored, check_stored
from spectrum.runs.store import Store
from spectrum.search.candidates import Candidates
from spectrum.search.config import MAX_TRIAL_SEEDS
from spectrum.search.samplers import distributions
from spectrum.search.trial_states import ERROR, FIXED, RETRIES, RUN_ID, SEED, seed_of


class _Attributes(Stored):  # Optuna's dashboard may write further ones
    segments: str = ""
    width: PositiveFloat | None = None
    params: PositiveInt | None = None
    macs: PositiveInt | None = None
    activations: PositiveInt | None = None
    latency: PositiveFloat | None = None
    map_at: PositiveInt | None = None
    run_id: str = ""
    epochs: PositiveInt | None = None
    val_top1: Share | None = None
    val_map: Share | None = None
    shared_top1: Share | None = None
    proxy_params: PositiveInt | None = None
    proxy_macs: PositiveInt | None = None
    error: str = ""
    twin: bool | int = False


class _Trial(Stored):
    intermediate_values: dict[PositiveInt, Share]
    attributes: _Attributes
    retries: list[NonNegativeInt] = Field(default=[])
    seed: Annotated[PositiveInt, Field(lt=MAX_TRIAL_SEEDS)] = 1
    rungs: dict[str, list[float]]


_TRIAL = TypeAdapter(_Trial)


def check_trials(trials: Sequence[FrozenTrial], candidates: Candidates, store: Store) -> None:
    """Check that trials can be what this search has written.

    Each must be in its place, at a point of the space, with values that it can have. What it says
    of its network must be so, and what it says of its result must be the result in the store, if
    the store has one.

    Args:
        trials: all trials of the search.
        candidates: the points of the search.
        store: the store of its runs.

    Raises:
        FieldError: a trial can't be true. The error names it.
    """
    for number, trial in enumerate(trials):
        try:
            if trial.number != number:
                raise FieldError("number", trial.number, f"must be {number}")
            _check_values(trial)
            _check_place(trial, candidates)
            if RUN_ID in trial.user_attrs:
                _check_point(trial, candidates)
            if trial.state == TrialState.COMPLETE:
                _check_result(trial, candidates, store)
            if trial.state == TrialState.PRUNED:
                _check_last_value(trial, candidates)
        except FieldError as error:
            raise error.renamed(f"{error.field} of trial {number}") from None


def _check_values(trial: FrozenTrial) -> None:
    system = trial.system_attrs
    rungs = {key: value for key, value in trial.user_attrs.items() if key.startswith("rung ")}
    values = {
        "intermediate_values": trial.intermediate_values,
        "attributes": trial.user_attrs,
        "rungs": rungs,
    }
    kept = {"retries": RETRIES, "seed": SEED}
    values |= {name: system[key] for name, key in kept.items() if key in system}
    check_stored(_TRIAL, values)


def _check_place(trial: FrozenTrial, candidates: Candidates) -> None:
    """Check that the point of a trial, as far as it has one, is in the space."""
    fixed, known = trial.system_attrs.get(FIXED, {}), distributions(candidates.space)
    if not isinstance(fixed, dict):
        raise FieldError(FIXED, fixed, "must be the values of parameters")
    for name, value in [*fixed.items(), *trial.params.items()]:
        choices = candidates.space.choices.get(name, ())
        if value not in choices or trial.distributions.get(name, known[name]) != known[name]:
            raise FieldError(name, value, f"must be one of {', '.join(choices) or 'no values'}")
    if seed_of(trial) and trial.params.keys() != known.keys():
        raise FieldError(SEED, seed_of(trial), "must be of a whole point")


def _check_point(trial: FrozenTrial, candidates: Candidates) -> None:
    """Check that the attributes of a trial that had a run are those of its point."""
    if candidates.config.match == "latency":
        return  # a point depends on measurements, which another machine may have made
    try:
        point = candidates.trial_point(trial.params)
    except (ValueError, LookupError) as error:
        raise FieldError("point", dict(trial.params), f"can't be built: {error}") from None
    network = point.network
    expected = {"segments": network.segments, "width": network.width, "macs": point.macs}
    expected |= {"params": point.params, RUN_ID: point.run(seed_of(trial)).id}
    if candidates.config.counts_activations:  # else an earlier version may have left them out
        expected["activations"] = point.activations
    _compare(trial.user_attrs, expected, "as its point has")


def _check_result(trial: FrozenTrial, candidates: Candidates, store: Store) -> None:
    """Check that what a finished trial says is the result of its run."""
    attributes = trial.user_attrs
    goals = candidates.config.goals(candidates.measure)
    values = trial.values or []
    if len(values) != len(goals) or not all(map(math.isfinite, values)):
        raise FieldError("values", trial.values, f"must be those of {', '.join(goals)}")
    _compare(attributes, dict(zip(goals, values, strict=True)), "as its values say")
    if ERROR in attributes or RUN_ID not in attributes:
        raise FieldError(RUN_ID, attributes.get(RUN_ID), "must be that of a run without an error")
    if not candidates.config.trains_trials:
        counted = candidates.config.counted_proxy
        if counted is not None:
            _compare(attributes, {goals[0]: attributes[counted]}, f"as its {counted} say")
        return
    result = store.result(attributes[RUN_ID])
    if result is not None:  # else the run may have been removed
        reached = {name: result.get(name) for name in ("val_top1", "epochs", goals[0])}
        _compare(attributes, reached, f"as the result of run {attributes[RUN_ID]} says")


def _check_last_value(trial: FrozenTrial, candidates: Candidates) -> None:
    """Check that what a pruned trial has reached is the last value that it reported."""
    goal, epoch = candidates.measure.validation_column, trial.user_attrs.get("epochs")
    if epoch in trial.intermediate_values:
        _compare(trial.user_attrs, {goal: trial.intermediate_values[epoch]}, "as was reported")


def _compare(found: Mapping[str, Any], expected: Mapping[str, Any], reason: str) -> None:
    for name, value in expected.items():
        if found.get(name) != value:
            raise FieldError(name, found.get(name), f"must be {value!r}, {reason}")
