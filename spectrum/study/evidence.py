"""What the runs of a study say together, from their answers to every test example."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spectrum.report.evidence import compare, evidence_columns
from spectrum.report.measure import ACCURACY, measure_of
from spectrum.report.statistics import point_columns, pool, series_columns
from spectrum.study.results import load_average_precision, load_correct, load_results

__all__ = ["compare_points", "gather_evidence"]

Answers: TypeAlias = NDArray[np.bool_] | NDArray[np.float32]
AnswersOf: TypeAlias = Callable[[str], Answers]


def compare_points(
    folder: Path | str, reference: str | None = None, over: str | None = None
) -> pd.DataFrame:
    """How a study's points compare, by what their runs answer to the test examples.

    An answer is right or wrong, or the average precision of an image that may have several labels.

    Args:
        folder: of the study, as in ``outputs/default``.
        reference: the value of ``over`` that differences are taken to; None for ``"C"``, or the
            first compared where that isn't one.
        over: the field compared; None for the study's own (``StudyConfig.compare``). The
            combinations of a sampled study count as seeds.

    Returns:
        As ``gather_evidence`` gives it.

    Raises:
        ValueError: the folder holds no study, its files are damaged, or the reference isn't one
            of the values compared.
    """
    results = load_results(folder)
    measure = measure_of(results)
    answers: Mapping[str, Answers] = (
        load_correct(folder) if measure == ACCURACY else load_average_precision(folder)
    )
    means = dict(zip(results["run_id"], results[measure.test], strict=True))
    study = _study(folder)
    over = over or str(study.get("compare", "segments"))
    if study.get("sample"):
        results = pool(results, over)

    def answers_of(run_id: str) -> Answers:
        if run_id not in answers:
            raise ValueError(f"folder (={folder}) lacks what run {run_id} got right")
        if abs(_mean(answers[run_id]) - means[run_id]) > 1e-5:
            raise ValueError(
                f"folder (={folder}) has two {measure.many} of run {run_id}: its files differ"
            )
        return answers[run_id]

    return gather_evidence(results, answers_of, reference, over)


def _mean(answers: Answers) -> float:
    known = answers[~np.isnan(answers)]
    return float(known.mean(dtype=float)) if len(known) else math.nan


def _study(folder: Path | str) -> dict[str, Any]:
    """The fields of a study, as it was understood."""
    path = Path(folder) / "study.json"
    try:
        study = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"folder (={folder}) must hold a study; no study.json") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    if not isinstance(study, dict):
        raise ValueError(f"{path} can't be read: it isn't the fields of a study")
    return study


def gather_evidence(
    results: pd.DataFrame,
    answers_of: AnswersOf,
    reference: str | None = None,
    over: str = "segments",
) -> pd.DataFrame:
    """Compare the points of every series: those that differ in one field alone.

    The points of a series are compared on the seeds that all of them have finished; a point that
    has finished none is left out of the comparison.

    Args:
        results: a row a run, as ``load_results`` gives it.
        answers_of: which test examples a run classifies correctly, or the average precision of
            each, (N,), by its id; examples of which that is missing (NaN) are left out.
        reference: as in ``compare_points``.
        over: the field.

    Returns:
        A row a point: its configuration, ``match, params, macs``; ``runs``, how many seeds are
        used (0 where the point isn't compared, and nothing is known of it then), and
        ``left_out``, how many of its series aren't; then as ``compare`` gives it.

    Raises:
        ValueError: a run's file is missing or damaged, runs were tested on different
            examples, a point has two runs of a seed, or the reference or the field isn't there.
    """
    if over not in point_columns(results):
        raise ValueError(f"over (={over}) must be one of {', '.join(point_columns(results))}")
    columns = series_columns(results, over)
    series = [results]
    if columns:
        series = [rows for _, rows in results.groupby(columns, sort=False, dropna=False)]
    compared = [_compare(rows, answers_of, reference, over) for rows in series]
    return pd.concat(compared, ignore_index=True)


def _compare(
    results: pd.DataFrame, answers_of: AnswersOf, reference: str | None, over: str
) -> pd.DataFrame:
    """The rows of one series."""
    measure = measure_of(results)
    results = results.drop_duplicates("run_id")  # a run of two studies counts once
    twice = results[results.duplicated([over, "seed"])]
    if len(twice):
        point, seed = twice[[over, "seed"]].iloc[0]
        raise ValueError(f"results must hold one run a point and seed, not two of {point}, {seed}")
    described = results.drop_duplicates(over).set_index(over, drop=False)
    described = described[[*point_columns(results), "match", "params", "macs"]]
    done = results[results["status"] == "done"]
    ids = done.pivot(index=over, columns="seed", values="run_id")
    ids = ids.reindex([point for point in described.index if point in ids.index])
    ids = ids.dropna(axis="columns")
    if ids.size:
        points = [str(point) or "none" for point in ids.index]  # no hidden layers, say
        answers = _load(ids, answers_of)
        found = compare(answers, points, reference, measure=measure).set_index(ids.index)
    else:
        found = pd.DataFrame(columns=evidence_columns(measure))
    absent = {"runs": 0, "examples": 0, "reference": "", "worse_than": ""}
    rows = described.join(found.astype(object)).fillna(absent)
    types = {name: str if absent.get(name) == "" else float for name in evidence_columns(measure)}
    rows = rows.astype({**types, "runs": int, "examples": int})
    rows["left_out"] = results["seed"].nunique() - ids.shape[1]
    return rows


def _load(ids: pd.DataFrame, answers_of: AnswersOf) -> Answers:
    """The answers of runs, (points, seeds, examples), of their ids, (points, seeds)."""
    loaded = [[answers_of(run_id) for run_id in row] for row in ids.to_numpy()]
    sizes = {len(answers) for row in loaded for answers in row}
    if len(sizes) > 1:
        raise ValueError(
            f"runs to compare must share their test examples, not have {sorted(sizes)} of them"
        )
    together: Answers = np.array(loaded)
    missing = np.isnan(together)
    if (missing.any(axis=(0, 1)) != missing.all(axis=(0, 1))).any():
        raise ValueError("runs to compare must share which of their test examples have labels")
    return together[:, :, ~missing.all(axis=(0, 1))]
