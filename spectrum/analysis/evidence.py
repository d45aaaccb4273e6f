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
from spectrum.analysis.columns import COMPARED_TEXTS
from spectrum.analysis.comparison import (
    Compared,
    Series,
    compare_series,
    comparison_columns,
    estimate_series,
)
from spectrum.analysis.folder import (
    has_curves,
    load_average_precision,
    load_correct,
    load_curves,
    load_results,
    read_looks,
    read_study,
)
from spectrum.analysis.labels import point_name
from spectrum.analysis.length import gains, state_length
from spectrum.analysis.measure import ACCURACY, Measure, infer_measure
from spectrum.analysis.planned import Missing, find_missing
from spectrum.analysis.schema import require_columns
from spectrum.analysis.sentences import PRELIMINARY, state_draws, state_evidence
from spectrum.analysis.statistics import (
    point_columns,
    pool_samples_as_seeds,
    split_into_curves,
    summarize,
    varied_columns,
)
from spectrum.analysis.verdicts import CRITERIA, Criteria
from spectrum.errors import FieldError, errors_about

Answers: TypeAlias = NDArray[np.bool_] | NDArray[np.float32]
AnswersOf: TypeAlias = Callable[[str], Answers]
Study: TypeAlias = pd.DataFrame | Path | str
"""The folder of a study, or a table of its rows."""

_LIMITS = [f"{end}_{cost}" for end in ("min", "max") for cost in ("params", "macs", "activations")]


class StudyAnalysis(NamedTuple):
    """What the files of a study say.

    Attributes:
        rows: one row per run, as ``load_results`` returns them.
        results: the same rows. In a sampled study the combinations count as seeds.
        evidence: the rows of ``compare_points``; None if nothing can be compared.
        pairs: the rows of ``compare_pairs``; None if nothing can be compared.
        summary: one row per point.
        sentences: what the evidence supports, in words.
        over: the field whose values are compared.
        gains: the rows of ``training_gains``; None if the folder has no curves.
        missing: the runs that are still to come.
    """

    rows: pd.DataFrame
    results: pd.DataFrame
    evidence: pd.DataFrame | None
    pairs: pd.DataFrame | None
    summary: pd.DataFrame
    sentences: list[str]
    over: str
    gains: pd.DataFrame | None
    missing: Missing


class StudyResults(NamedTuple):
    """The results of a study, and how its points are to be compared.

    Attributes:
        rows: one row per run, as ``load_results`` returns them.
        results: the same rows. In a sampled study the combinations count as seeds.
        over: the field whose values are compared.
        unit: what the runs of a point differ in, as ``state_evidence`` names it.
        criteria: which pairs claims are made about, and how surely.
        missing: the runs that are still to come.
    """

    rows: pd.DataFrame
    results: pd.DataFrame
    over: str
    unit: str
    criteria: Criteria
    missing: Missing


def read_results(folder: Path | str, over: str | None = None) -> StudyResults:
    """Reads the results of a study and what is compared in it.

    Args:
        folder: the folder of the study.
        over: the field whose values are compared; None for ``StudyConfig.compare``.

    Raises:
        ValueError: the folder holds no study, or no results.
    """
    rows, study = load_results(folder), read_study(folder)
    compared = str(study.get("compare") or "segments")
    over, missing = over or compared, find_missing(folder, rows)
    criteria = Criteria(
        against=study.get("against") if over == compared else None,
        equal_within=study.get("equal_within", CRITERIA.equal_within),
        look=0 if missing.names else max(len(read_looks(folder)), 1),
    )
    if study.get("sample"):
        has_limits = any(study.get(name) is not None for name in _LIMITS)
        pooled = pool_samples_as_seeds(rows, over, shares_draw=not has_limits)
        return StudyResults(rows, pooled, over, "sampled combination", criteria, missing)
    return StudyResults(rows, rows, over, "seed", criteria, missing)


def analyze_study(folder: Path | str) -> StudyAnalysis:
    """Reads the files of a study's folder and compares its points.

    Raises:
        ValueError: the folder holds no study, or no results.
    """
    with read_together(folder):
        rows, results, over, unit, criteria, missing = read_results(folder)
        gained = gains(results, load_curves(folder)) if has_curves(folder) else None
        try:
            evidence, pairs = gather_evidence(
                results, read_answers(folder, rows), over=over, criteria=criteria
            )
        except ValueError as error:  # the results are still good
            reason = f"Nothing can be compared: {error}."
            sentences = [PRELIMINARY if missing.names else reason]
            unknown = summarize(results).assign(test_low=math.nan, test_high=math.nan)
            return StudyAnalysis(
                rows, results, None, None, unknown, sentences, over, gained, missing
            )
    sentences = [PRELIMINARY]
    if not missing.names:
        sentences = [
            *state_evidence(evidence, over, unit),
            *([] if gained is None else state_length(gained, criteria.equal_within, over)),
            *state_draws(rows),
        ]
    summary = summarize(results, evidence)
    return StudyAnalysis(rows, results, evidence, pairs, summary, sentences, over, gained, missing)


def compare_pairs(folder: Path | str, over: str | None = None) -> pd.DataFrame:
    """Compares the pairs of points about which a study makes claims.

    These are all pairs of each series, or each point with ``StudyConfig.against``.

    Args:
        folder: the folder of the study, such as ``outputs/default``.
        over: the field whose values are compared; None for ``StudyConfig.compare``.

    Returns:
        One row per pair: the values of the other fields that vary; the names ``point`` and
        ``other``; ``difference``, that of the first to the second, as a fraction, with the 95%
        interval ``difference_low`` to ``difference_high``; ``p_better``, the probability that the
        first beats the second with a new seed on these test examples, NaN for one seed;
        ``verdict``: different, slightly different, equal or unknown, as all pairs are while runs of
        the study are missing; and ``seeds_to_settle``, about how many seeds would settle a pair
        whose verdict is unknown, as ``compare`` explains.

    Raises:
        ValueError: the folder holds no study, or its files are damaged.
    """
    return read_evidence(folder, over=over)[1].pairs


def training_gains(folder: Path | str, over: str | None = None) -> pd.DataFrame:
    """Computes what the last third of training still gained at each point of a study.

    The combinations of a sampled study count as seeds.

    Args:
        folder: the folder of the study, such as ``outputs/default``.
        over: the field whose values are compared; None for ``StudyConfig.compare``.

    Returns:
        The rows of ``gains``: one row per point with its configuration; ``gain``, the measure on
        the validation split at the end of training minus that after two thirds of the epochs, as a
        fraction and averaged over runs; its 95% interval, ``gain_low`` to ``gain_high``; and
        ``runs``, the number of runs that it is known of.

    Raises:
        ValueError: the folder holds no study, or its files are damaged.
    """
    with read_together(folder):
        return gains(read_results(folder, over).results, load_curves(folder))


def read_evidence(
    folder: Path | str, reference: str | None = None, over: str | None = None
) -> tuple[StudyResults, Compared]:
    """Reads the results of a study and compares its points, as ``compare_points`` does."""
    with read_together(folder):
        read = read_results(folder, over)
        answers_of = read_answers(folder, read.rows)
        found = gather_evidence(read.results, answers_of, reference, read.over, read.criteria)
        return read, found


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
        with errors_about("study", "folder"):
            read, found = read_evidence(study, over=over)
        return found.points, read.over
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
        with errors_about("study", "folder"):
            read, found = read_evidence(study)
        return summarize(read.results, found.points)
    if "run_id" in study:
        with errors_about("study", "results"):
            return summarize(study, evidence)
    columns = ("segments", "params", "macs", "failed", "seeds", "examples", "train_seconds")
    measured = [infer_measure(study).test_column, "test_low", "test_high"]
    require_columns("study", study, [*columns, *measured], "summarize")
    return study


def read_answers(folder: Path | str, rows: pd.DataFrame) -> AnswersOf:
    """Reads the answers of a study's runs; those of a run are checked when they are asked for.

    Args:
        folder: the folder of the study.
        rows: its results, as ``load_results`` returns them.
    """
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
    criteria: Criteria = CRITERIA,
) -> Compared:
    """Compares the points of every series. Points of a series differ in one field alone.

    The points of a series are compared on the seeds that all of them have finished. A point
    without a finished run is left out of the comparison. Corrections for the number of claims cover
    all series.

    Args:
        results: one row per run, as ``load_results`` returns them.
        answers_of: returns the answers of a run, (N,), by its id: whether it classifies each test
            example correctly, or the average precision of each. Missing ones (NaN) are left out.
        reference: as in ``compare_points``.
        over: the field whose values are compared.
        criteria: which pairs claims are made about, and how surely.

    Returns:
        The points and the pairs that claims are made about. One row per point: its configuration,
        ``match, params, macs``; ``runs``, the number of seeds used, 0 if the point isn't compared
        and so nothing is known of it; ``left_out``, the number of seeds of its series that aren't
        used; then the columns of ``compare``. One row per pair: what its series has in common, and
        the columns of ``compare_pairs``.

    Raises:
        ValueError: a run's file is missing or damaged, runs were tested on different examples, a
            point has two runs of one seed, or the reference or the field doesn't exist.
    """
    if over not in point_columns(results):
        raise FieldError("over", over, f"must be one of {', '.join(point_columns(results))}")
    names = [point_name(value) for value in results[over].unique()]
    if criteria.against not in (None, *names):
        raise FieldError("against", criteria.against, f"must be one of {', '.join(names)}")
    measure, columns = infer_measure(results), varied_columns(results, over)
    curves = split_into_curves(results, columns)
    tables = [_finished_by_all(curve.rows, over) for curve in curves]
    estimated = [_estimate_series(ids, answers_of) if ids.size else None for ids in tables]
    compared = iter(compare_series([one for one in estimated if one], reference, criteria, measure))
    points, pairs = [], []
    for curve, ids, series in zip(curves, tables, estimated, strict=True):
        found = next(compared) if series else None
        points.append(_describe_points(curve.rows, ids, found, over, measure))
        if found is not None:
            shared = {name: curve.rows[name].iloc[0] for name in columns}
            pairs.append(found.pairs.assign(**shared)[[*shared, *found.pairs]])
    return Compared(
        pd.concat(points, ignore_index=True),
        pd.concat(pairs, ignore_index=True) if pairs else pd.DataFrame(),
    )


def _finished_by_all(results: pd.DataFrame, over: str) -> pd.DataFrame:
    """The ids of runs (points, seeds) of a series, of seeds that all points have finished."""
    results = results.drop_duplicates("run_id")  # a run that two studies share counts once
    repeated = results[results.duplicated([over, "seed"])]
    if len(repeated):
        point, seed = repeated[[over, "seed"]].iloc[0]
        raise ValueError(
            f"results must hold one run per point and seed, not two of {point}, {seed}"
        )
    done = results[results["status"] == "done"]
    ids = done.pivot(index=over, columns="seed", values="run_id")
    ids = ids.reindex([point for point in results[over].unique() if point in ids.index])
    return ids.dropna(axis="columns")


def _estimate_series(ids: pd.DataFrame, answers_of: AnswersOf) -> Series:
    return estimate_series(_stack_answers(ids, answers_of), [*map(point_name, ids.index)])


def _describe_points(
    results: pd.DataFrame,
    ids: pd.DataFrame,
    found: Compared | None,
    over: str,
    measure: Measure,
) -> pd.DataFrame:
    """The rows of a series: what each point is, and how it compares."""
    described = results.drop_duplicates(over).set_index(over, drop=False)
    described = described[[*point_columns(results), "match", "params", "macs"]]
    columns = comparison_columns(measure)
    compared = pd.DataFrame(columns=columns) if found is None else found.points.set_index(ids.index)
    texts = {name: "" for name in COMPARED_TEXTS}
    counts = {"runs": 0, "examples": 0, "look": 0}
    rows = described.join(compared.astype(object)).fillna(counts | texts)
    rows = rows.astype({name: str if name in texts else float for name in columns})
    rows["left_out"] = results["seed"].nunique() - ids.shape[1]
    return rows.astype(dict.fromkeys(counts, int))


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
