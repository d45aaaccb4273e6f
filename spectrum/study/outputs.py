"""The files of a study's folder: rows, curves, answers, figures and page."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spectrum.analysis.measure import ACCURACY, Measure, infer_measure
from spectrum.analysis.sentences import state_evidence
from spectrum.analysis.statistics import pool_samples_as_seeds, summarize
from spectrum.files import write_atomic, write_json
from spectrum.report.figures import figure_caption, study_figures
from spectrum.report.page import render_page
from spectrum.runs.store import Store
from spectrum.study.comparison import compare_points
from spectrum.study.config import StudyConfig
from spectrum.study.plan import Plan
from spectrum.study.results import (
    AVERAGE_PRECISION,
    CORRECT,
    CURVE_COLUMNS,
    CURVES,
    RESULTS,
    load_curves,
    load_results,
    make_row,
    varied_values,
)
from spectrum.study.tune import RateCandidate

__all__ = [
    "FIGURE",
    "PAGE",
    "TUNING",
    "StudyAnalysis",
    "analyze_study",
    "write_rows",
    "write_study",
]

log = logging.getLogger(__name__)

FIGURE = "accuracy_vs_segments.png"
PAGE = "report.html"
TUNING = "tuning.csv"


def write_study(
    plan: Plan,
    results: Mapping[str, Mapping[str, Any]],
    candidates: Sequence[RateCandidate],
    notes: Sequence[str],
    command: str,
) -> pd.DataFrame:
    """Writes all files of a study whose runs have been executed.

    Args:
        plan: the plan, with the learning rates that were chosen.
        results: the results of its runs, by run id.
        candidates: the learning rates that were tried; empty if none were tuned.
        notes: notes about the points, for the page.
        command: the command line that asked for the study, for the page.

    Returns:
        The rows of results, as they are read back.
    """
    config = plan.config
    folder, store = config.out / config.name, Store(config.runs)
    rows = pd.DataFrame(
        [make_row(config, point, run, results[run.id]) for point, run in plan.runs()]
    )
    measure = infer_measure(rows)
    done = list(dict.fromkeys(rows.loc[rows["status"] == "done", "run_id"]))
    write_json(folder / "study.json", config.model_dump(mode="json"))
    write_rows(folder / RESULTS, rows)
    curves = [{"run_id": run_id, **line} for run_id in done for line in store.curve(run_id)]
    columns = dict.fromkeys([*CURVE_COLUMNS, measure.validation_column])
    write_rows(folder / CURVES, pd.DataFrame(curves, columns=[*columns]), "%.6g")
    _write_answers(folder / CORRECT, done, store.correct)
    if measure != ACCURACY:
        _write_answers(folder / AVERAGE_PRECISION, done, store.average_precision)
    if candidates:
        write_rows(folder / TUNING, _tuning_rows(config, candidates, measure))
    _draw(config, notes, _versions(results.values()), command)
    return load_results(folder)


def write_rows(path: Path, rows: pd.DataFrame, float_format: str | None = None) -> None:
    """Writes rows as a CSV file, atomically."""
    text = rows.to_csv(index=False, float_format=float_format)
    write_atomic(path, lambda file: file.write(text.encode()))


def _write_answers(
    path: Path, run_ids: Sequence[str], answers_of: Callable[[str], NDArray[Any]]
) -> None:
    """Writes the answers of runs to one archive, by run id."""
    answers: dict[str, Any] = {}
    for run_id in run_ids:
        try:
            answers[run_id] = answers_of(run_id)
        except ValueError as error:  # the result of the run is still good
            log.warning("%s", error)
    write_atomic(path, lambda file: np.savez_compressed(file, **answers))


def _tuning_rows(
    config: StudyConfig, candidates: Sequence[RateCandidate], measure: Measure
) -> pd.DataFrame:
    rows = [
        {
            **varied_values(config, rate.point),
            "segments": rate.point.network.segments,
            "lr": rate.point.recipe.lr,
            measure.validation_column: rate.score,
            "chosen": rate.chosen,
        }
        for rate in candidates
    ]
    return pd.DataFrame(rows).drop(columns="tuned_lr")


def _versions(results: Collection[Mapping[str, Any]]) -> dict[str, str]:
    """The software and devices of the runs, and the versions of what drew the figures."""
    used = {
        name: sorted({str(result[key]) for result in results if key in result})
        for name, key in (("Python", "python"), ("torch", "torch"), ("device", "device"))
    }
    return {
        **{name: ", ".join(found) for name, found in used.items()},
        "spectrum": version("segment-spectrum"),
        **{name: version(name) for name in ("numpy", "pandas", "matplotlib")},
    }


def _draw(
    config: StudyConfig, notes: Sequence[str], versions: Mapping[str, str], command: str
) -> None:
    """Draws the figures and the page from the files of the folder."""
    folder = config.out / config.name
    analysis = analyze_study(config)
    results = load_results(folder)
    measure = infer_measure(results)
    failed = results[results["status"] != "done"]
    figures = study_figures(
        analysis.results,
        analysis.summary,
        analysis.evidence,
        load_curves(folder),
        title=_title(config),
        over=config.compare,
    )
    for stem, figure in figures.items():
        write_atomic(folder / f"{stem}.png", partial(figure.savefig, format="png"))
    page = render_page(
        config.name,
        sentences=analysis.sentences,
        figures={
            _heading(stem, measure): (figure, figure_caption(stem, measure))
            for stem, figure in figures.items()
        },
        summary=analysis.summary,
        configuration=config.model_dump(mode="json"),
        versions=versions,
        failures=failed,
        command=command,
        notes=notes,
    )
    write_atomic(folder / PAGE, lambda file: file.write(page.encode()))


def _heading(stem: str, measure: Measure) -> str:
    """Turns the file name of a figure into a heading."""
    words = stem.replace("_vs_", "_against_").replace("_", " ")
    words = words.replace("accuracy", measure.short_name)
    return words[0].upper() + words[1:]


class StudyAnalysis(NamedTuple):
    """What the files of a study say.

    Attributes:
        results: one row per run. In a sampled study the combinations count as seeds.
        evidence: the rows of ``compare_points``; None if nothing can be compared.
        summary: one row per point.
        sentences: what the evidence supports, in words.
    """

    results: pd.DataFrame
    evidence: pd.DataFrame | None
    summary: pd.DataFrame
    sentences: list[str]


def analyze_study(config: StudyConfig) -> StudyAnalysis:
    """Reads the files of a study's folder and compares its points."""
    folder, over = config.out / config.name, config.compare
    results = load_results(folder)
    if config.sample:
        results = pool_samples_as_seeds(results, over)
    try:
        evidence = compare_points(folder)
    except ValueError as error:  # the results are still good
        sentences = [f"Nothing can be compared: {error}."]
        unknown = summarize(results).assign(test_low=math.nan, test_high=math.nan)
        return StudyAnalysis(results, None, unknown, sentences)
    sentences = state_evidence(evidence, over, "sampled combination" if config.sample else "seed")
    return StudyAnalysis(results, evidence, summarize(results, evidence), sentences)


def _title(config: StudyConfig) -> str:
    matched = {"params": "equal parameters", "macs": "equal MACs", "latency": "equal latency"}
    return ", ".join(
        [
            " and ".join(map(str, config.data["name"])),
            " and ".join(map(str, config.network["name"])) + " network",
            matched.get(config.match, "costs not matched"),
            f"{config.sample} sampled combinations"
            if config.sample
            else f"{config.seeds} seed{'s' * (config.seeds > 1)}",
        ]
    )
