"""Whether training was long enough: what its last third still gained."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from spectrum.analysis.columns import GAIN
from spectrum.analysis.labels import point_label
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.schema import require_columns
from spectrum.analysis.statistics import (
    mean_interval,
    point_columns,
    split_into_curves,
    varied_columns,
)
from spectrum.errors import FieldError

_LEAST_EVALUATIONS = 3
_ROUNDING = 5e-6  # of the values in curves, which have six significant digits


def gains(results: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Computes what the last third of training still gained at each point.

    The gain of a run is its measure on the validation split at the end, minus that after two thirds
    of its epochs. Between two evaluations it is interpolated linearly. A point that still gains
    much would be better after longer training. Where points gain differently, their comparison
    depends on the length of training.

    Args:
        results: one row per run, as ``load_results`` returns it.
        curves: one row per evaluation of a run, as ``load_curves`` returns it.

    Returns:
        One row per point, in the order of the study: its configuration and ``match``; ``gain``, the
        mean over its finished runs as a fraction, with the bounds ``gain_low`` and ``gain_high`` of
        Student's t interval for new seeds; and ``runs``, the number of runs that it is known of. A
        run with fewer than three evaluations has no gain. What isn't known is missing (NaN).

    Raises:
        ValueError: a table is another one, or the curve of a run doesn't end where its result does.
    """
    measure = infer_measure(results, "results").validation_column
    require_columns("results", results, ["run_id", "status", "match", measure], "load_results")
    of_curves = ("run_id", "epoch", measure)
    require_columns("curves", curves, of_curves, "load_curves", may_be_empty=True)
    evaluations = dict(iter(curves.sort_values("epoch").groupby("run_id")))
    known = {
        run["run_id"]: _gain(run, evaluations[run["run_id"]], measure)
        for run in results.drop_duplicates("run_id").to_dict("records")
        if run["status"] == "done" and run["run_id"] in evaluations
    }
    keys, rows = point_columns(results), []
    for values, runs in results.groupby(keys, sort=False, dropna=False):
        of_runs = runs["run_id"].drop_duplicates().map(known).astype(float)
        rows.append(
            {
                **dict(zip(keys, values, strict=True)),
                "match": runs["match"].iloc[0],
                **dict(zip(GAIN, mean_interval(of_runs), strict=True)),
                "runs": int(of_runs.notna().sum()),
            }
        )
    return pd.DataFrame(rows)


def state_length(
    gains: pd.DataFrame, equal_within: float = 1.0, over: str = "segments"
) -> list[str]:
    """States of which comparisons the result may be about the speed of learning.

    Args:
        gains: one row per point, as ``gains`` returns it.
        equal_within: the largest difference between two gains that isn't worth a sentence, in
            percentage points.
        over: the field whose values are compared.

    Returns:
        A sentence for each combination of the other fields that vary whose points gained
        differently. It names the points that gained most and least. There is none where the number
        of epochs is compared.
    """
    require_columns("gains", gains, [over, "gain"], "training_gains")
    texts = []
    for _, name, rows in split_into_curves(gains, varied_columns(gains, over)):
        known = rows.dropna(subset="gain").sort_values("gain", kind="stable")
        if known.empty or over == "epochs":
            continue
        ends = known.iloc[[0, -1]]
        least, most = 100 * ends["gain"]
        if round(most - least, 9) <= equal_within:
            continue
        low, high = (point_label(point, over) for point in ends[over])
        claims = f"{high} {_verb(most)} {abs(most):.2f} points and {low}"
        verb = "" if _verb(least) == _verb(most) else f" {_verb(least)}"
        texts.append(
            f"{name}{': ' if name else ''}The comparison holds at {_lengths(rows)}: over the last "
            f"third of training {claims}{verb} {abs(least):.2f}."
        )
    return texts


def _gain(run: Mapping[Hashable, Any], curve: pd.DataFrame, measure: str) -> float:
    """The gain of a run over the last third of its epochs."""
    epochs, values = curve["epoch"].to_numpy(), curve[measure].to_numpy()
    end, last = run[measure], pd.to_numeric(run.get("epochs", epochs[-1]), errors="coerce")
    if epochs[-1] != last or not abs(values[-1] - end) < _ROUNDING:
        allowed = f"must end at epoch {last:g} with {measure} {end:.6g}, as the results say"
        raise FieldError("curves", run["run_id"], allowed)
    if len(epochs) < _LEAST_EVALUATIONS:
        return math.nan
    return float(values[-1] - np.interp(2 / 3 * epochs[-1], epochs, values, left=math.nan))


def _verb(gain: float) -> str:
    return "still gained" if round(gain, 2) >= 0 else "lost"


def _lengths(rows: pd.DataFrame) -> str:
    epochs = set(rows["epochs"]) if "epochs" in rows else set()
    return f"this length of {epochs.pop()} epochs" if len(epochs) == 1 else "these lengths"
