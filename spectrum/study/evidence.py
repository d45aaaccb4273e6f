"""What the runs of a study say together, from the correctness of every test example."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spectrum.report.evidence import MEASURES, compare
from spectrum.report.statistics import point_columns, series_columns
from spectrum.study.results import load_results
from spectrum.study.store import Store

__all__ = ["compare_points", "gather_evidence"]


def compare_points(folder: Path | str, reference: str | None = None) -> pd.DataFrame:
    """How a study's points compare, by the test examples that their runs classify correctly.

    Args:
        folder: of the study, as in ``outputs/default``; its runs are where they were stored
            beside it.
        reference: the segments that differences are taken to; None for ``"C"``, or the first
            point compared where that isn't one.

    Returns:
        As ``gather_evidence`` gives it.

    Raises:
        ValueError: the folder holds no study, a run's file is missing or damaged, or the
            reference isn't one of the points compared.
    """
    folder = Path(folder)
    results = load_results(folder)
    path = folder / "study.json"
    try:
        study = json.loads(path.read_bytes())
        own, runs = Path(study["out"], study["name"]), Path(study["runs"])
    except FileNotFoundError:
        raise ValueError(f"folder (={folder}) must hold a study; no study.json") from None
    except (ValueError, LookupError, TypeError, OSError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    if not runs.is_absolute():  # to where the study was executed, which may not be here
        runs = folder / os.path.relpath(runs, own)
    return gather_evidence(results, runs, reference)


def gather_evidence(
    results: pd.DataFrame, runs: Path | str, reference: str | None = None
) -> pd.DataFrame:
    """Compare the points of every series: those that differ in their segments alone.

    The points of a series are compared on the seeds that all of them have finished; a point that
    has finished none is left out of the comparison.

    Args:
        results: a row a run, as ``load_results`` gives it.
        runs: the folder of all runs.
        reference: as in ``compare_points``.

    Returns:
        A row a point: its configuration, ``match, params, macs``; ``runs``, how many seeds are
        used (0 where the point isn't compared, and nothing is known of it then), and
        ``left_out``, how many of its series aren't; then as ``compare`` gives it.

    Raises:
        ValueError: a run's file is missing or damaged, runs were tested on different numbers of
            examples, a point has two runs of a seed, or the reference isn't one of the points
            compared.
    """
    columns = series_columns(results)
    store = Store(runs)
    series = [results]
    if columns:
        series = [rows for _, rows in results.groupby(columns, sort=False, dropna=False)]
    return pd.concat([_compare(rows, store, reference) for rows in series], ignore_index=True)


def _compare(results: pd.DataFrame, store: Store, reference: str | None) -> pd.DataFrame:
    """The rows of one series."""
    results = results.drop_duplicates("run_id")  # a run of two studies counts once
    twice = results[results.duplicated(["segments", "seed"])]
    if len(twice):
        point, seed = twice[["segments", "seed"]].iloc[0]
        raise ValueError(f"results must hold one run a point and seed, not two of {point}, {seed}")
    described = results.drop_duplicates("segments").set_index("segments", drop=False)
    described = described[[*point_columns(results), "match", "params", "macs"]]
    done = results[results["status"] == "done"]
    ids = done.pivot(index="segments", columns="seed", values="run_id")
    ids = ids.reindex([point for point in described.index if point in ids.index])
    ids = ids.dropna(axis="columns")
    if ids.size:
        points = [str(point) for point in ids.index]
        found = compare(_load(ids, store), points, reference).set_index(ids.index)
    else:
        found = pd.DataFrame(columns=list(MEASURES))
    absent = {"runs": 0, "examples": 0, "reference": "", "worse_than": ""}
    rows = described.join(found.astype(object)).fillna(absent)
    types = {name: str if absent.get(name) == "" else float for name in MEASURES}
    rows = rows.astype({**types, "runs": int, "examples": int})
    rows["left_out"] = results["seed"].nunique() - ids.shape[1]
    return rows


def _load(ids: pd.DataFrame, store: Store) -> NDArray[np.bool_]:
    """The correctness of runs, (points, seeds, examples), of their ids, (points, seeds)."""
    loaded = [[store.correct(run_id) for run_id in row] for row in ids.to_numpy()]
    sizes = {len(correct) for row in loaded for correct in row}
    if len(sizes) > 1:
        raise ValueError(
            f"runs to compare must share their test examples, not have {sorted(sizes)} of them"
        )
    return np.array(loaded)
