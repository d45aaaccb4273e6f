"""The comparison of a study's points, by the answers of their runs to every test example.

An answer is right or wrong. For images with several labels it is an average precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spectrum.analysis.checksums import read_together
from spectrum.analysis.comparison import compare, comparison_columns
from spectrum.analysis.folder import load_average_precision, load_correct, load_results, read_study
from spectrum.analysis.measure import ACCURACY, infer_measure
from spectrum.analysis.schema import require_columns
from spectrum.analysis.sentences import state_evidence
from spectrum.analysis.statistics import (
    point_columns,
    pool_samples_as_seeds,
    split_into_curves,
    summarize,
    varied_columns,
)
from spectrum.errors import FieldError

Answers: TypeAlias = NDArray[np.bool_] | NDArray[np.float32]
AnswersOf: TypeAlias = Callable[[str], Answers]
Study: TypeAlias = pd.DataFrame | Path | str
"""The folder of a study, or a table of its rows."""


class StudyAnalysis(NamedTuple):
    """What the files of a study say.

    Attributes:
        rows: one row per run, as ``load_results`` returns them.
        results: the same rows. In a sampled study the combinations count as seeds.
        evidence: the rows of ``compare_points``; None if nothing can be compared.
        summary: one row per point.
        sentences: what the evidence supports, in words.
        over: the field whose values are compared.
    """

    rows: pd.DataFrame
    results: pd.DataFrame
    evidence: pd.DataFrame | None
    summary: pd.DataFrame
    sentences: list[str]
    over: str


class StudyResults(NamedTuple):
    """The results of a study, and how its points are to be compared.

    Attributes:
        rows: one row per run, as ``load_results`` returns them.
        results: the same rows. In a sampled study the combinations count as seeds.
        over: the field whose values are compared.
        unit: what the runs of a point differ in, as ``state_evidence`` names it.
    """

    rows: pd.DataFrame
    results: pd.DataFrame
    over: str
    unit: str


def read_results(folder: Path | str, over: str | None = None) -> StudyResults:
    """Reads the results of a study and what is compared in it.

    Args:
        folder: the folder of the study.
        over: the field whose values are compared; None for ``StudyConfig.compare``.

    Raises:
        ValueError: the folder holds no study, or no results.
    """
    rows, study = load_results(folder), read_study(folder)
    over = over or str(study.get("compare") or "segments")
    if study.get("sample"):
        return StudyResults(rows, pool_samples_as_seeds(rows, over), over, "sampled combination")
    return StudyResults(rows, rows, over, "seed")


def analyze_study(folder: Path | str) -> StudyAnalysis:
    """Reads the files of a study's folder and compares its points.

    Raises:
        ValueError: the folder holds no study, or no results.
    """
    with read_together(folder):
        rows, results, over, unit = read_results(folder)
        try:
            evidence = gather_evidence(results, _answers_of(folder, rows), over=over)
        except ValueError as error:  # the results are still good
            sentences = [f"Nothing can be compared: {error}."]
            unknown = summarize(results).assign(test_low=math.nan, test_high=math.nan)
            return StudyAnalysis(rows, results, None, unknown, sentences, over)
    sentences = state_evidence(evidence, over, unit)
    return StudyAnalysis(rows, results, evidence, summarize(results, evidence), sentences, over)


def compare_points(
    folder: Path | str, reference: str | None = None, over: str | None = None
) -> pd.DataFrame:
    """Compares the points of a study by what their runs answer to the test examples.

    The combinations of a sampled study count as seeds.

    Args:
        folder: the folder of the study, such as ``outputs/default``.
        reference: the value of ``over`` that differences are taken to; None for ``"C"``, or for the
            first value compared if ``"C"`` isn't among them.
        over: the field whose values are compared; None for ``StudyConfig.compare``.

    Returns:
        The rows that ``gather_evidence`` returns.

    Raises:
        ValueError: the folder holds no study, its files are damaged, or the reference isn't one of
            the values compared.
    """
    return _read_evidence(folder, reference, over)[1]


def _read_evidence(
    folder: Path | str, reference: str | None = None, over: str | None = None
) -> tuple[StudyResults, pd.DataFrame]:
    with read_together(folder):
        read = read_results(folder, over)
        answers_of = _answers_of(folder, read.rows)
        return read, gather_evidence(read.results, answers_of, reference, read.over)


def compare_study(study: Study, over: str | None = None) -> tuple[pd.DataFrame, str]:
    """The evidence of a study, and the field whose values it compares.

    Args:
        study: the folder of the study, or its evidence, as ``compare_points`` returns it.
        over: the field whose values are compared; None for ``StudyConfig.compare`` of a folder, and
            for segments in evidence.

    Raises:
        ValueError: the folder holds no study, its files are damaged, or the table is another one.
    """
    if not isinstance(study, pd.DataFrame):
        read, evidence = _read_evidence(study, over=over)
        return evidence, read.over
    over = over or "segments"
    columns = (over, "segments", "runs", "examples", "test_low", "reference", "difference")
    bounds = ("difference_low", "difference_high")
    require_columns("study", study, [*columns, *bounds], "compare_points")
    return study, over


def summarize_study(study: Study, evidence: pd.DataFrame | None = None) -> pd.DataFrame:
    """The summary of a study, one row per point.

    Args:
        study: the folder of the study, whose evidence is used; its results, one row per run; or its
            summary, as ``summarize`` returns it.
        evidence: for results, one row per point as ``compare_points`` returns it.

    Raises:
        ValueError: the folder holds no study, its files are damaged, or the table is another one.
    """
    if not isinstance(study, pd.DataFrame):
        read, found = _read_evidence(study)
        return summarize(read.results, found)
    if "run_id" in study:
        return summarize(study, evidence)
    columns = ("segments", "params", "macs", "failed", "seeds", "examples", "train_seconds")
    measured = [infer_measure(study).test_column, "test_low", "test_high"]
    require_columns("study", study, [*columns, *measured], "summarize")
    return study


def _answers_of(folder: Path | str, rows: pd.DataFrame) -> AnswersOf:
    """Reads the answers of a study's runs; those of a run are checked when they are asked for."""
    measure = infer_measure(rows)
    answers: Mapping[str, Answers] = (
        load_correct(folder) if measure == ACCURACY else load_average_precision(folder)
    )
    means = dict(zip(rows["run_id"], rows[measure.test_column], strict=True))

    def answers_of(run_id: str) -> Answers:
        if run_id not in answers:
            raise FieldError(
                "folder", Path(folder), f"lacks the per-example results of run {run_id}"
            )
        if abs(_mean(answers[run_id]) - means[run_id]) > 1e-5:
            raise FieldError(
                "folder",
                Path(folder),
                f"has two {measure.plural} of run {run_id}: its files differ",
            )
        return answers[run_id]

    return answers_of


def _mean(answers: Answers) -> float:
    known = answers[~np.isnan(answers)]
    return float(known.mean(dtype=float)) if len(known) else math.nan


def gather_evidence(
    results: pd.DataFrame,
    answers_of: AnswersOf,
    reference: str | None = None,
    over: str = "segments",
) -> pd.DataFrame:
    """Compares the points of every series. Points of a series differ in one field alone.

    The points of a series are compared on the seeds that all of them have finished. A point
    without a finished run is left out of the comparison.

    Args:
        results: one row per run, as ``load_results`` returns them.
        answers_of: returns the answers of a run, (N,), by its id: whether it classifies each test
            example correctly, or the average precision of each. Missing ones (NaN) are left out.
        reference: as in ``compare_points``.
        over: the field whose values are compared.

    Returns:
        One row per point: its configuration, ``match, params, macs``; ``runs``, the number of seeds
        used, 0 if the point isn't compared and so nothing is known of it; ``left_out``, the number
        of seeds of its series that aren't used; then the columns of ``compare``.

    Raises:
        ValueError: a run's file is missing or damaged, runs were tested on different examples, a
            point has two runs of one seed, or the reference or the field doesn't exist.
    """
    if over not in point_columns(results):
        raise FieldError("over", over, f"must be one of {', '.join(point_columns(results))}")
    compared = [
        _compare_series(series.rows, answers_of, reference, over)
        for series in split_into_curves(results, varied_columns(results, over))
    ]
    return pd.concat(compared, ignore_index=True)


def _compare_series(
    results: pd.DataFrame, answers_of: AnswersOf, reference: str | None, over: str
) -> pd.DataFrame:
    """Compares the points of one series."""
    measure = infer_measure(results)
    results = results.drop_duplicates("run_id")  # a run that two studies share counts once
    repeated = results[results.duplicated([over, "seed"])]
    if len(repeated):
        point, seed = repeated[[over, "seed"]].iloc[0]
        raise ValueError(
            f"results must hold one run per point and seed, not two of {point}, {seed}"
        )
    described = results.drop_duplicates(over).set_index(over, drop=False)
    described = described[[*point_columns(results), "match", "params", "macs"]]
    done = results[results["status"] == "done"]
    ids = done.pivot(index=over, columns="seed", values="run_id")
    ids = ids.reindex([point for point in described.index if point in ids.index])
    ids = ids.dropna(axis="columns")
    if ids.size:
        points = [str(point) or "none" for point in ids.index]  # "" stands for no hidden layers
        answers = _stack_answers(ids, answers_of)
        found = compare(answers, points, reference, measure=measure).set_index(ids.index)
    else:
        found = pd.DataFrame(columns=comparison_columns(measure))
    absent = {"runs": 0, "examples": 0, "reference": "", "worse_than": ""}
    rows = described.join(found.astype(object)).fillna(absent)
    types = {name: str if absent.get(name) == "" else float for name in comparison_columns(measure)}
    rows = rows.astype({**types, "runs": int, "examples": int})
    rows["left_out"] = results["seed"].nunique() - ids.shape[1]
    return rows


def _stack_answers(ids: pd.DataFrame, answers_of: AnswersOf) -> Answers:
    """Stacks the answers of runs, (points, seeds, examples), by their ids, (points, seeds)."""
    loaded = [[answers_of(run_id) for run_id in row] for row in ids.to_numpy()]
    sizes = {len(answers) for row in loaded for answers in row}
    if len(sizes) > 1:
        raise ValueError(
            f"runs to compare must share their test examples, not have {sorted(sizes)} of them"
        )
    stacked: Answers = np.array(loaded)
    missing = np.isnan(stacked)
    if (missing.any(axis=(0, 1)) != missing.all(axis=(0, 1))).any():
        raise ValueError("runs to compare must share which of their test examples have labels")
    return stacked[:, :, ~missing.all(axis=(0, 1))]
