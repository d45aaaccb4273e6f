"""How well something that is cheap puts points in the order of what it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spectrum.errors import FieldError

_LEVEL = 0.95
_BATCH = 64  # resamples at a time, which bounds the memory


def compare_orders(
    values: Sequence[float],
    predictions: Mapping[str, Sequence[float]],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare how well several predictions put points in the order of their values.

    The order is judged by Kendall's tau-b: the share of pairs in the same order less the share of
    pairs in the opposite one, with a correction for pairs that are equal in either. Intervals hold
    for other points from the same population: points are drawn with replacement (percentile
    bootstrap), the same ones for all predictions, so that the lead of the first prediction over
    another is a paired difference. A pair of a point with itself, which such a draw may have,
    doesn't count.

    Args:
        values: the value of each point, such as its accuracy when it is trained alone.
        predictions: what is known of each point instead, by name. Higher ones predict higher ones.
        resamples: the number of bootstrap samples.
        seed: of these samples.

    Returns:
        One row per prediction, in their order: ``prediction``, ``tau``, ``tau_low``, ``tau_high``
        (95% interval); and, but for the first, by how much the first is ahead: ``lead``,
        ``lead_low``, ``lead_high``. A tau is missing (NaN) where all points are equal.

    Raises:
        ValueError: there are fewer than three points, no prediction, or one of another length, or
            a value is missing.
    """
    truth = _column("values", values)
    if not predictions:
        raise FieldError("predictions", {}, "must have one at least")
    columns = {name: _column(name, given) for name, given in predictions.items()}
    for name, column in columns.items():
        if len(column) != len(truth):
            allowed = f"must be {len(truth)} values, one per point"
            raise FieldError(name, f"{len(column)} values", allowed)
    signs = np.stack([_signs(truth), *map(_signs, columns.values())])
    tau = _taus(signs, np.ones((1, len(truth))))[0]
    rng = np.random.default_rng(seed)
    sampled = []
    for first in range(0, resamples, _BATCH):
        count = min(_BATCH, resamples - first)
        drawn = rng.integers(len(truth), size=(count, len(truth)))
        weights = np.stack([np.bincount(one, minlength=len(truth)) for one in drawn])
        sampled.append(_taus(signs, weights.astype(float)))
    samples = np.concatenate(sampled)
    lead, leads = tau[:1] - tau, samples[:, :1] - samples
    low, high = _interval(samples)
    lead_low, lead_high = _interval(leads)
    rows = pd.DataFrame(
        {
            "prediction": [*columns],
            "tau": tau,
            "tau_low": low,
            "tau_high": high,
            "lead": lead,
            "lead_low": lead_low,
            "lead_high": lead_high,
        }
    )
    rows.loc[0, ["lead", "lead_low", "lead_high"]] = np.nan
    return rows


def _column(name: str, values: Sequence[float]) -> NDArray[np.float64]:
    column = np.asarray(values, dtype=float)
    if column.ndim != 1 or len(column) < 3:
        raise FieldError(name, f"shape {column.shape}", "must be one value for each of 3 points")
    if not np.isfinite(column).all():
        raise FieldError(name, "a missing value", "must be a number for every point")
    return column


def _signs(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for each pair in ascending order, -1 for descending, 0 for equal; shape (n, n)."""
    return np.sign(values[:, None] - values[None, :])


def _taus(signs: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kendall's tau-b of each prediction with the truth, for weighted points.

    Args:
        signs: of the truth and then of each prediction, (1 + predictions, n, n).
        weights: how often each point is drawn, (samples, n).

    Returns:
        An array (samples, predictions).
    """

    def total(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
        sums: NDArray[np.float64] = np.einsum("si,ij,sj->s", weights, pairs, weights, optimize=True)
        return sums

    truth = total(signs[0] ** 2)
    taus = []
    for prediction in signs[1:]:
        scale = np.sqrt(truth * total(prediction**2))
        unknown = np.full_like(scale, np.nan)
        taus.append(np.divide(total(signs[0] * prediction), scale, out=unknown, where=scale > 0))
    return np.stack(taus, axis=1)


def _interval(
    samples: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The bounds of the percentile interval of each column, without samples that have no value."""
    tail = (1 - _LEVEL) / 2
    bounds = [
        np.quantile(column[np.isfinite(column)], [tail, 1 - tail])
        if np.isfinite(column).any()
        else np.full(2, np.nan)
        for column in samples.T
    ]
    low, high = np.stack(bounds, axis=1)
    return low, high
