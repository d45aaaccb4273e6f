"""The folder of a study: its rows, its runs' curves and answers, its figures and its page."""

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

from spectrum.report.figures import describe_figure, study_figures
from spectrum.report.measure import ACCURACY, Measure, measure_of
from spectrum.report.page import render_page
from spectrum.report.sentences import state_evidence
from spectrum.report.statistics import pool, summarize
from spectrum.study.config import StudyConfig
from spectrum.study.evidence import compare_points
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
    varied,
)
from spectrum.study.store import Store, write_json
from spectrum.study.tune import Rate
from spectrum.training.checkpoint import write_whole

__all__ = ["FIGURE", "PAGE", "TUNING", "Findings", "read_findings", "write_rows", "write_study"]

log = logging.getLogger(__name__)

FIGURE = "accuracy_vs_segments.png"
PAGE = "report.html"
TUNING = "tuning.csv"


def write_study(
    plan: Plan,
    results: Mapping[str, Mapping[str, Any]],
    tried: Sequence[Rate],
    notes: Sequence[str],
    command: str,
) -> pd.DataFrame:
    """Write everything of a study whose runs are executed.

    Args:
        plan: its points, at the learning rates that were chosen.
        results: of its runs, by their ids.
        tried: the learning rates that were chosen among.
        notes: what a reader should know of the points.
        command: what was typed to ask for the study.

    Returns:
        Its rows, as they are read back.
    """
    config = plan.config
    folder, store = config.out / config.name, Store(config.runs)
    rows = pd.DataFrame(
        [make_row(config, point, run, results[run.id]) for point, run in plan.runs()]
    )
    measure = measure_of(rows)
    done = list(dict.fromkeys(rows.loc[rows["status"] == "done", "run_id"]))
    write_json(folder / "study.json", config.model_dump(mode="json"))
    write_rows(folder / RESULTS, rows)
    curves = [{"run_id": run_id, **line} for run_id in done for line in store.curve(run_id)]
    columns = dict.fromkeys([*CURVE_COLUMNS, measure.validation])
    write_rows(folder / CURVES, pd.DataFrame(curves, columns=[*columns]), "%.6g")
    _write_answers(folder / CORRECT, done, store.correct)
    if measure != ACCURACY:
        _write_answers(folder / AVERAGE_PRECISION, done, store.average_precision)
    if tried:
        write_rows(folder / TUNING, _tuning_rows(config, tried, measure))
    _draw(config, notes, _versions(results.values()), command)
    return load_results(folder)


def write_rows(path: Path, rows: pd.DataFrame, float_format: str | None = None) -> None:
    """Write rows as CSV, whole."""
    text = rows.to_csv(index=False, float_format=float_format)
    write_whole(path, lambda file: file.write(text.encode()))


def _write_answers(
    path: Path, run_ids: Sequence[str], answers_of: Callable[[str], NDArray[Any]]
) -> None:
    """Write the answers of runs in one archive, by their ids."""
    answers: dict[str, Any] = {}
    for run_id in run_ids:
        try:
            answers[run_id] = answers_of(run_id)
        except ValueError as error:  # its result stands
            log.warning("%s", error)
    write_whole(path, lambda file: np.savez_compressed(file, **answers))


def _tuning_rows(config: StudyConfig, tried: Sequence[Rate], measure: Measure) -> pd.DataFrame:
    rows = [
        {
            **varied(config, rate.point),
            "segments": rate.point.network.segments,
            "lr": rate.point.recipe.lr,
            measure.validation: rate.reached,
            "chosen": rate.chosen,
        }
        for rate in tried
    ]
    return pd.DataFrame(rows).drop(columns="tuned_lr")


def _versions(results: Collection[Mapping[str, Any]]) -> dict[str, str]:
    """What the runs were trained with, and what drew them."""
    ran = {
        name: sorted({str(result[key]) for result in results if key in result})
        for name, key in (("Python", "python"), ("torch", "torch"), ("device", "device"))
    }
    drawn = {name: version(name) for name in ("spectrum", "numpy", "pandas", "matplotlib")}
    return {**{name: ", ".join(found) for name, found in ran.items()}, **drawn}


def _draw(
    config: StudyConfig, notes: Sequence[str], versions: Mapping[str, str], command: str
) -> None:
    """Draw the figures and the page from the files that were written."""
    folder = config.out / config.name
    found = read_findings(config)
    results = load_results(folder)
    measure = measure_of(results)
    failed = results[results["status"] != "done"]
    figures = study_figures(
        found.results,
        found.summary,
        found.evidence,
        load_curves(folder),
        title=_title(config),
        over=config.compare,
    )
    for stem, figure in figures.items():
        write_whole(folder / f"{stem}.png", partial(figure.savefig, format="png"))
    page = render_page(
        config.name,
        sentences=found.sentences,
        figures={
            _heading(stem, measure): (figure, describe_figure(stem, measure))
            for stem, figure in figures.items()
        },
        summary=found.summary,
        configuration=config.model_dump(mode="json"),
        versions=versions,
        failures=failed,
        command=command,
        notes=notes,
    )
    write_whole(folder / PAGE, lambda file: file.write(page.encode()))


def _heading(stem: str, measure: Measure) -> str:
    """The name of a figure as a heading."""
    said = stem.replace("_vs_", "_against_").replace("_", " ").replace("accuracy", measure.word)
    return said[0].upper() + said[1:]


class Findings(NamedTuple):
    """What is read of a study.

    Attributes:
        results: a row a run; the combinations of a sampled study are seeds here.
        evidence: as ``compare_points`` gives it; None where a file of a run is gone.
        summary: a row a point.
        sentences: what the evidence supports.
    """

    results: pd.DataFrame
    evidence: pd.DataFrame | None
    summary: pd.DataFrame
    sentences: list[str]


def read_findings(config: StudyConfig) -> Findings:
    """What the files of a study's folder say together."""
    folder, over = config.out / config.name, config.compare
    results = load_results(folder)
    if config.sample:
        results = pool(results, over)
    try:
        evidence = compare_points(folder)
    except ValueError as error:  # the results stand
        said = [f"Nothing can be compared: {error}."]
        unknown = summarize(results).assign(test_low=math.nan, test_high=math.nan)
        return Findings(results, None, unknown, said)
    said = state_evidence(evidence, over, "sampled combination" if config.sample else "seed")
    return Findings(results, evidence, summarize(results, evidence), said)


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
