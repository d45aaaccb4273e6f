"""The trials of a search as rows, and the file that holds them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from spectrum.analysis.measure import MAP_AT, mean_average_precision
from spectrum.search.space import Space
from spectrum.search.storage import ERROR
from spectrum.search.trials import DUPLICATE

__all__ = ["TRIALS", "load_trials", "make_rows"]

TRIALS = "trials.csv"

_STATES = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
_NUMERIC = ("width", "params", "macs", "val_top1", "epochs")
# These columns exist only if the search measures latency, and if images have several labels.
_LATENCY = "latency"
_MULTI_LABEL = (mean_average_precision().validation_column, MAP_AT)
_COLUMNS = ("trial", "state", "uniform", "segments", *_NUMERIC, "run_id", "error")


def make_rows(trials: Sequence[FrozenTrial], space: Space) -> pd.DataFrame:
    """Make one row per finished trial, without lost and superfluous trials.

    Args:
        trials: the trials of the search's study.
        space: the space that their points come from.

    Returns:
        ``trial`` (Optuna's number), ``state`` (done, pruned or failed), ``uniform``, one column for
        every parameter of the space, ``segments`` (of the whole network), ``width, params, macs,
        val_top1, epochs, run_id, error``, ``latency`` (milliseconds, measured) if the search
        measures it, and, for images with several labels, ``val_map``, the mean average precision of
        the first ``map_at`` predictions, and ``map_at``.
    """
    rows = [
        _row(trial, space)
        for trial in trials
        if trial.state in _STATES
        and DUPLICATE not in trial.user_attrs
        and (trial.state != TrialState.FAIL or ERROR in trial.user_attrs)
    ]
    names = ["trial", "state", "uniform", *space.choices]
    latency = [_LATENCY] if space.config.measures_latency else []
    multi_label = _MULTI_LABEL if any(MAP_AT in trial.user_attrs for trial in trials) else ()
    columns = dict.fromkeys([*names, *_COLUMNS, *latency, *multi_label])
    return pd.DataFrame(rows, columns=[*columns])


def _row(trial: FrozenTrial, space: Space) -> dict[str, Any]:
    attrs = trial.user_attrs
    failed = ERROR in attrs
    return {
        "trial": trial.number,
        "state": "failed" if failed else _STATES[trial.state],
        "uniform": space.is_uniform(trial.params),
        **trial.params,
        "segments": attrs.get("segments", ""),
        **{name: attrs.get(name, math.nan) for name in (*_NUMERIC, _LATENCY, *_MULTI_LABEL)},
        "run_id": attrs.get("run_id", ""),
        "error": attrs.get(ERROR, ""),
    }


def load_trials(folder: Path | str) -> pd.DataFrame:
    """Load the trials of a search.

    Args:
        folder: the folder of the search, such as ``outputs/search``.

    Returns:
        One row per trial: ``trial, state`` (done, pruned or failed), ``uniform`` (whether one
        setting of the dial is everywhere), one column for every parameter that was searched,
        ``segments`` (of the whole network), ``width, params, macs, val_top1, epochs, run_id,
        error``, ``latency`` (milliseconds, measured) if the search measured it, and ``val_map`` and
        ``map_at`` for images with several labels.

    Raises:
        ValueError: the folder holds no trials, or they can't be read.
    """
    path = Path(folder) / TRIALS
    not_text = {"trial", "uniform", *_NUMERIC, _LATENCY, *_MULTI_LABEL}
    try:
        header = pd.read_csv(path, nrows=0).columns
        trials = pd.read_csv(
            path,
            dtype={name: str for name in header if name not in not_text},
            keep_default_na=False,  # "none" and "" are values, not missing
            na_values={name: [""] for name in (*_NUMERIC, _LATENCY, *_MULTI_LABEL)},
        )
    except FileNotFoundError:
        raise ValueError(f"folder (={folder}) must hold a search's trials; no {TRIALS}") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    missing = [name for name in _COLUMNS if name not in trials]
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}")
    return trials
