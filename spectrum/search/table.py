"""The trials of a search as rows, and the file that they are read back from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from spectrum.report.measure import MAP_AT, precision_at
from spectrum.search.space import Space
from spectrum.search.storage import ERROR
from spectrum.search.trials import TWIN

__all__ = ["TRIALS", "load_trials", "make_rows"]

TRIALS = "trials.csv"

_STATES = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
_FIGURES = ("width", "params", "macs", "val_top1", "epochs")
_LATENCY = "latency"  # a figure of searches in which it has a part
_OF_PRECISION = (precision_at().validation, MAP_AT)  # likewise, where images have several labels
_COLUMNS = ("trial", "state", "uniform", "segments", *_FIGURES, "run_id", "error")


def make_rows(trials: Sequence[FrozenTrial], space: Space) -> pd.DataFrame:
    """A row a trial that is over, lost ones and those of a point that was there aside.

    Args:
        trials: of the search's study.
        space: that they choose from.

    Returns:
        ``trial`` (Optuna's number), ``state`` (done, pruned or failed), ``uniform``, a column for
        every parameter of the space, ``segments`` (of the whole network), ``width, params, macs,
        val_top1, epochs, run_id, error``, ``latency`` (milliseconds, measured) where that has a
        part in the search, and, where images have several labels, ``val_map``, the mean average
        precision of the first ``map_at`` predictions.
    """
    rows = [
        _row(trial, space)
        for trial in trials
        if trial.state in _STATES
        and TWIN not in trial.user_attrs
        and (trial.state != TrialState.FAIL or ERROR in trial.user_attrs)
    ]
    names = ["trial", "state", "uniform", *space.choices]
    timed = [_LATENCY] if space.config.is_timed else []
    several = _OF_PRECISION if any(MAP_AT in trial.user_attrs for trial in trials) else ()
    columns = dict.fromkeys([*names, *_COLUMNS, *timed, *several])
    return pd.DataFrame(rows, columns=[*columns])


def _row(trial: FrozenTrial, space: Space) -> dict[str, Any]:
    known = trial.user_attrs
    failed = ERROR in known
    return {
        "trial": trial.number,
        "state": "failed" if failed else _STATES[trial.state],
        "uniform": space.is_uniform(trial.params),
        **trial.params,
        "segments": known.get("segments", ""),
        **{name: known.get(name, math.nan) for name in (*_FIGURES, _LATENCY, *_OF_PRECISION)},
        "run_id": known.get("run_id", ""),
        "error": known.get(ERROR, ""),
    }


def load_trials(folder: Path | str) -> pd.DataFrame:
    """The trials of a search, a row each.

    Args:
        folder: of the search, as in ``outputs/search``.

    Returns:
        ``trial, state`` (done, pruned or failed), ``uniform`` (whether one setting of the dial is
        everywhere), a column for every parameter that was searched, ``segments`` (of the whole
        network), ``width, params, macs, val_top1, epochs, run_id, error``, ``latency``
        (milliseconds, measured) where that has a part in the search, and ``val_map`` and
        ``map_at`` where images have several labels.

    Raises:
        ValueError: there are no trials in the folder, or they can't be read as such.
    """
    path = Path(folder) / TRIALS
    numbers = {"trial", "uniform", *_FIGURES, _LATENCY, *_OF_PRECISION}
    try:
        header = pd.read_csv(path, nrows=0).columns
        trials = pd.read_csv(
            path,
            dtype={name: str for name in header if name not in numbers},
            keep_default_na=False,  # "none" and "" are values here
            na_values={name: [""] for name in (*_FIGURES, _LATENCY, *_OF_PRECISION)},
        )
    except FileNotFoundError:
        raise ValueError(f"folder (={folder}) must hold a search's trials; no {TRIALS}") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    missing = [name for name in _COLUMNS if name not in trials]
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}")
    return trials
