"""Fit the expected speed of plans to plan_times.csv, and write spectrum/kernels/plan_costs.csv.

    python benchmarks/fit_plans.py

For each kind of call and plan, the logarithm of the library's time over the plan's is fitted by
ridge regression. AMD's processor was measured on random shapes. Of Intel's there are four shapes,
in training alone, so its fit starts from AMD's coefficients and shrinks what differs; its inference
takes the same differences. Its times of kernels in channels_last are those of the kernel of planes,
which was the only one then.

The table that is printed judges each fit by shapes that it hasn't seen: by how much faster than the
library's the plans are that it chooses, how much faster the fastest ones are, and how many of the
choices are slower than 0.97 of the library's speed.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spectrum.kernels.plan_costs import COEFFICIENTS, Shape, terms
from spectrum.kernels.plans import LEAST_SPEEDUP

TIMES = Path(__file__).with_name("plan_times.csv")
PLANS = ("merged8", "merged", "relaid", "kernel")
CALL = ["precision", "layout", "mode"]
CUT = 1.5  # logarithms beyond it count as it, so that the largest ratios don't bend the fit
PENALTY = {"AMD": 0.3, "Intel": 1.0}
FOLDS = 8
ENOUGH = 0.97  # of the library's speed


class Fits(NamedTuple):
    """The coefficients of each processor, by call and plan."""

    amd: pd.DataFrame
    intel: pd.DataFrame


def read_times() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the measured rows, and the terms of their shapes."""
    times = pd.read_csv(TIMES)
    times["maker"] = np.where(times["processor"].str.startswith("Intel"), "Intel", "AMD")
    shapes = times[[*Shape._fields]].itertuples(index=False)
    return times, pd.DataFrame(terms(Shape(*shape)) for shape in shapes).fillna(0.0)


def log_ratios(times: pd.DataFrame, plan: str) -> pd.Series:
    """The logarithms of the library's time over a plan's, without those that weren't measured."""
    ratio: pd.Series = np.log(times["native_ms"] / times[f"{plan}_ms"])
    return ratio.dropna().clip(-CUT, CUT)


def ridge(x: NDArray[np.float64], y: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """Coefficients of least squares, with a penalty on their squares."""
    solved: NDArray[np.float64] = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
    return solved


def fit(times: pd.DataFrame, x: pd.DataFrame) -> Fits:
    """Fit all calls and plans that were measured; one row of coefficients for each."""
    amd: dict[tuple[str, ...], NDArray[np.float64]] = {}
    for call, rows in times[times["maker"] == "AMD"].groupby(CALL):
        for plan in PLANS:
            y = log_ratios(rows, plan)
            if len(y):
                amd[*call, plan] = ridge(x.loc[y.index].to_numpy(), y.to_numpy(), PENALTY["AMD"])
    intel: dict[tuple[str, ...], NDArray[np.float64]] = {}
    for call, rows in times[times["maker"] == "Intel"].groupby(CALL):
        for plan in PLANS:
            y = log_ratios(rows, plan)
            if len(y):
                seen = x.loc[y.index].to_numpy()
                rest = y.to_numpy() - seen @ amd[*call, plan]
                change = ridge(seen, rest, PENALTY["Intel"])
                for mode in ("training", "inference"):
                    key = (*call[:2], mode, plan)
                    if key in amd:
                        intel[key] = amd[key] + change
    return Fits(*(pd.DataFrame(found, index=x.columns).T for found in (amd, intel)))


def choose(coefficients: pd.DataFrame, times: pd.DataFrame, x: pd.DataFrame) -> pd.Series:
    """The time of the plan that is chosen for each row."""
    expected = pd.DataFrame(np.log(LEAST_SPEEDUP), index=times.index, columns=["native"])
    for plan in PLANS:
        expected[plan] = -np.inf
        for call, rows in times[times[f"{plan}_ms"].notna()].groupby(CALL):
            if (*call, plan) in coefficients.index:
                of_terms = coefficients.loc[(*call, plan)].to_numpy()
                expected.loc[rows.index, plan] = x.loc[rows.index].to_numpy() @ of_terms
    columns = times[[f"{plan}_ms" for plan in expected]].to_numpy()
    chosen = expected.to_numpy().argmax(axis=1)
    return pd.Series(columns[np.arange(len(times)), chosen], index=times.index)


def validate(times: pd.DataFrame, x: pd.DataFrame) -> pd.DataFrame:
    """Judge the fits by shapes that they haven't seen, by maker and call."""
    shape = times.groupby(["maker", "channels", "size", "batch", "kernel", "stride", "threads"])
    fold = shape.ngroup().map(lambda number: np.random.default_rng(number).integers(FOLDS))
    intel = times["maker"] == "Intel"
    fold[intel] = shape.ngroup()[intel] + FOLDS  # each shape in turn
    judged = []
    for number in sorted(fold.unique()):
        fits = fit(times[fold != number], x[fold != number])
        for maker, coefficients in zip(("AMD", "Intel"), fits, strict=True):
            unseen = (fold == number) & (times["maker"] == maker)
            if unseen.any():
                judged.append(choose(coefficients, times[unseen], x[unseen]))
    ratio = times["native_ms"] / pd.concat(judged)
    best = times["native_ms"] / times[[f"{p}_ms" for p in ("native", *PLANS)]].min(axis=1)
    logs = times.assign(chosen=np.log(ratio), fastest=np.log(best), slower=ratio < ENOUGH)
    table = logs.groupby(["maker", *CALL])[["chosen", "fastest", "slower"]].mean()
    table[["chosen", "fastest"]] = np.exp(table[["chosen", "fastest"]])
    return table.assign(layers=logs.groupby(["maker", *CALL]).size())


def coefficient_rows(fits: Fits) -> pd.DataFrame:
    """The rows of plan_costs.csv: those of AMD's and Intel's processors with AVX-512."""
    named = []
    for kind, coefficients in zip(("AMD AVX512", "Intel AVX512"), fits, strict=True):
        rows = coefficients.rename_axis([*CALL, "plan"]).reset_index()
        rows = rows.melt([*CALL, "plan"], var_name="term", value_name="coefficient")
        named.append(rows.assign(cpu=kind))
    rows = pd.concat(named)[["cpu", *CALL, "plan", "term", "coefficient"]].round(3)
    return rows[rows["coefficient"] != 0]


def main() -> None:
    """Print the table and write the coefficients."""
    times, x = read_times()
    print(validate(times, x).round(3).to_string())
    path = Path(__file__).parents[1] / "spectrum" / "kernels" / COEFFICIENTS
    coefficient_rows(fit(times, x)).to_csv(path, index=False)


if __name__ == "__main__":
    main()
