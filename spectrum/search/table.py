"""The trials of a search as rows, and the file that holds them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from spectrum.analysis.columns import ACTIVATIONS, LATENCY, Column
from spectrum.analysis.folder import read_rows
from spectrum.analysis.measure import COUNTS, MAP_AT, SHARED_ACCURACY, mean_average_precision
from spectrum.analysis.schema import check_rows, refuse_rows
from spectrum.errors import DamagedFile
from spectrum.files import as_path
from spectrum.search.halving import SeededPoint, group_by_point
from spectrum.search.space import Space
from spectrum.search.trial_states import ERROR, seed_of, select_over

TRIALS = "trials.csv"

_STATES = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
# These columns exist only if images have several labels.
_MULTI_LABEL = (mean_average_precision().validation_column, MAP_AT)
_MEASURES = ("val_top1", _MULTI_LABEL[0])
# One of these exists if trials aren't trained.
_SHARED = SHARED_ACCURACY.validation_column
_PROXIES = tuple(measure.validation_column for measure in COUNTS.values())
_SEEDS = "seeds"  # this column exists only if points may have several
_NUMERIC = (
    *("width", "params", "macs", "val_top1", "epochs"),
    *(ACTIVATIONS, LATENCY, *_MULTI_LABEL, _SHARED, *_PROXIES, _SEEDS),
)
_SCHEMA = (
    Column("trial", "cost", low=0, high=1e15, is_whole=True),
    Column("width", "cost", low=0),
    *(
        Column(name, "cost", low=1, high=1e18, is_whole=True)
        for name in ("params", "macs", ACTIVATIONS, "epochs", MAP_AT, *_PROXIES)
    ),
    *(Column(name, "cost", low=0, high=1) for name in (*_MEASURES, _SHARED)),
    Column(_SEEDS, "cost", low=0, high=1e15, is_whole=True),
    Column(LATENCY, "cost", low=0),
)
_COLUMNS = ("trial", "state", "uniform", "segments", *_NUMERIC[:5], "run_id", "error")


def make_rows(trials: Sequence[FrozenTrial], space: Space) -> pd.DataFrame:
    """Make one row per point whose trial with seed 0 is over.

    Args:
        trials: the trials of the search's study.
        space: the space that their points come from.

    Returns:
        The columns of ``load_trials``.
    """
    names = ["trial", "state", "uniform", *space.choices, *_COLUMNS]
    if space.config.counts_activations:
        names.append(ACTIVATIONS)
    if space.config.measures_latency:
        names.append(LATENCY)
    if any(MAP_AT in trial.user_attrs for trial in trials):
        names += _MULTI_LABEL
    if not space.config.trains_trials:
        cost = space.config.counted_proxy
        names.append(_SHARED if cost is None else COUNTS[cost].validation_column)
    if space.config.trial_seeds > 1 or any(map(seed_of, trials)):
        names.append(_SEEDS)
    rows = [_make_row(point, space) for point in group_by_point(select_over(trials), space)]
    return pd.DataFrame(rows, columns=[*dict.fromkeys(names)])


def _make_row(point: SeededPoint, space: Space) -> dict[str, Any]:
    trial, attrs = point.first, point.first.user_attrs
    error = attrs.get(ERROR, "")
    for failed in point.failed:
        error = f"seed {seed_of(failed)}: {failed.user_attrs.get(ERROR, '')}"
    reached = [one.user_attrs for one in point.done] or [attrs]
    means = {name: fmean(one[name] for one in reached) for name in _MEASURES if name in reached[0]}
    return {
        "trial": trial.number,
        "state": "failed" if error else _STATES[trial.state],
        "uniform": space.is_uniform(trial.params),
        **trial.params,
        "segments": attrs.get("segments", ""),
        **{name: attrs.get(name, math.nan) for name in _NUMERIC},
        **means,
        _SEEDS: len(point.done),
        "run_id": attrs.get("run_id", ""),
        "error": error,
    }


def load_trials(folder: Path | str) -> pd.DataFrame:
    """Load the trials of a search.

    Args:
        folder: the folder of the search, such as ``outputs/search``.

    Returns:
        One row per point: ``trial`` (Optuna's number), ``state`` (done, pruned or failed),
        ``uniform`` (whether one setting of the dial is everywhere), one column for every parameter
        that was searched, ``segments`` (of the whole network), ``width, params, macs, val_top1,
        epochs, run_id, error``, ``activations`` if the search limits or minimises them,
        ``latency`` (milliseconds, measured) if the search measured it, and, for images with
        several labels, ``val_map``, the mean average precision of the first ``map_at``
        predictions, and ``map_at``. If points may have several seeds, ``seeds`` is how many are
        done, ``val_top1`` and ``val_map`` are means over them, and ``trial``, ``epochs`` and
        ``run_id`` are those of seed 0.

    Raises:
        ValueError: the folder holds no trials, or they can't be read.
    """
    trials = read_rows(
        folder,
        TRIALS,
        "a search's trials",
        required=_COLUMNS,
        types=defaultdict(lambda: str),
        missing_if_empty=_NUMERIC,
    )
    path = as_path(folder) / TRIALS
    columns = [column for column in _SCHEMA if column.name not in _not_measured(trials)]
    check_rows(path, trials, columns, "state", [*_STATES.values()])
    for name in _not_measured(trials):
        refuse_rows(path, trials, name, trials[name].notna(), "must be empty: no trial is trained")
    for row, value in enumerate(trials["uniform"], start=1):
        if value not in ("True", "False"):
            raise DamagedFile(path, f"row {row} has uniform (={value!r}), which must be a boolean")
    numeric = trials.columns.intersection([*_NUMERIC])
    trials[numeric] = trials[numeric].apply(pd.to_numeric)
    return trials.assign(
        trial=trials["trial"].astype(float).astype(int), uniform=trials["uniform"] == "True"
    )


def _not_measured(trials: pd.DataFrame) -> tuple[str, ...]:
    """The columns without values, since the trials were judged by something else."""
    if _SHARED in trials:
        return ("val_top1",)
    return ("val_top1", "epochs") if {*_PROXIES} & {*trials} else ()
