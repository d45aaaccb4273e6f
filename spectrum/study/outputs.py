"""The files of a study's folder: rows, curves, answers, figures and page."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spectrum import __version__
from spectrum.analysis.checksums import write_checksums
from spectrum.analysis.columns import CURVE, GAIN
from spectrum.analysis.evidence import StudyAnalysis, analyze_study
from spectrum.analysis.folder import (
    AVERAGE_PRECISION,
    CORRECT,
    CURVES,
    LOOKS,
    RESULTS,
    STUDY,
    load_curves,
    load_results,
    read_looks,
)
from spectrum.analysis.measure import ACCURACY, Measure, infer_measure
from spectrum.errors import counted
from spectrum.files import write_atomic, write_json
from spectrum.report.figures import figure_caption, study_figures
from spectrum.report.page import render_page
from spectrum.report.tables import result_tables
from spectrum.runs.store import Store
from spectrum.study.config import StudyConfig
from spectrum.study.grid import GridConfig
from spectrum.study.plan import Plan
from spectrum.study.results import make_row, varied_values
from spectrum.study.tune import RateCandidate

FIGURE = "accuracy_vs_segments.png"
PAGE = "report.html"
TUNING = "tuning.csv"


def write_fields(config: StudyConfig) -> None:
    """Writes the fields of a study that has no results yet, before anything is trained.

    So what it compares, and how, is fixed before its results are known.
    """
    folder = config.out / config.name
    if not (folder / RESULTS).exists():
        write_json(folder / STUDY, config.model_dump(mode="json"))


def write_study(
    plan: Plan,
    results: Mapping[str, Mapping[str, Any]],
    candidates: Sequence[RateCandidate],
    notes: Sequence[str],
    command: str,
) -> StudyAnalysis:
    """Writes all files of a study whose runs have been executed.

    Args:
        plan: the plan, with the learning rates that were chosen.
        results: the results of its runs, by run id.
        candidates: the learning rates that were tried; empty if none were tuned.
        notes: notes about the points, for the page.
        command: the command line that asked for the study, for the page.

    Returns:
        What the files say, as they are read back.
    """
    config = plan.config
    folder, store = config.out / config.name, Store(config.runs)
    rows = pd.DataFrame(
        [make_row(config, point, run, results[run.id]) for point, run in plan.runs()]
    )
    measure = infer_measure(rows)
    done = list(dict.fromkeys(rows.loc[rows["status"] == "done", "run_id"]))
    looks = _looks(folder, len(rows))
    write_json(folder / STUDY, config.model_dump(mode="json"))
    write_json(folder / LOOKS, looks)
    write_rows(folder / RESULTS, rows)
    curves = [{"run_id": run_id, **line} for run_id in done for line in store.curve(run_id)]
    columns = dict.fromkeys([*(column.name for column in CURVE), measure.validation_column])
    write_rows(folder / CURVES, pd.DataFrame(curves, columns=[*columns]), "%.6g")
    _write_answers(folder / CORRECT, done, store.correct)
    if measure != ACCURACY:
        _write_answers(folder / AVERAGE_PRECISION, done, store.average_precision)
    if candidates:
        write_rows(folder / TUNING, _tuning_rows(config, candidates, measure))
    write_checksums(folder, (STUDY, LOOKS, RESULTS, CURVES, CORRECT, AVERAGE_PRECISION, TUNING))
    analysis = analyze_study(folder)
    _draw(config, analysis, notes, _versions(results.values()), command)
    return analysis


def _looks(folder: Path, runs: int) -> list[int]:
    """The numbers of runs at each look at the results of a study, this one included."""
    if not (folder / RESULTS).exists():
        return [runs]
    looks: list[int] = []
    with suppress(ValueError):  # what is damaged is written anew
        looks = read_looks(folder)
    with suppress(ValueError):
        looks = looks or [len(load_results(folder))]
    return looks if looks[-1:] == [runs] else [*looks, runs]


def write_rows(path: Path, rows: pd.DataFrame, float_format: str | None = None) -> None:
    """Writes rows as a CSV file, atomically."""
    text = rows.to_csv(index=False, float_format=float_format, lineterminator="\n")
    if "\r" in text:  # readers take it for the end of a line, unless it is quoted
        text = rows.to_csv(
            index=False,
            float_format=float_format,
            lineterminator="\n",
            quoting=csv.QUOTE_NONNUMERIC,
        )
    write_atomic(path, lambda file: file.write(text.encode()))


def _write_answers(
    path: Path, run_ids: Sequence[str], answers_of: Callable[[str], NDArray[Any]]
) -> None:
    """Writes the answers of runs to one archive, by run id."""
    answers: dict[str, Any] = {run_id: answers_of(run_id) for run_id in run_ids}
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
        "spectrum": __version__,
        **{name: version(name) for name in ("numpy", "pandas", "matplotlib")},
    }


def _draw(
    config: StudyConfig,
    analysis: StudyAnalysis,
    notes: Sequence[str],
    versions: Mapping[str, str],
    command: str,
) -> None:
    """Draws the figures and the page from what the files of the folder say."""
    folder = config.out / config.name
    measure, curves = infer_measure(analysis.rows), load_curves(folder)
    figures = study_figures(
        analysis.results,
        analysis.summary,
        analysis.evidence,
        curves,
        title=make_title(
            config,
            counted(config.sample, "sampled combination")
            if config.sample
            else counted(config.seeds, "seed"),
        ),
        over=config.compare,
    )
    page = render_page(
        config.name,
        sentences=analysis.sentences,
        figures=write_figures(folder, figures, measure),
        tables=result_tables(
            analysis.summary
            if analysis.gains is None
            else analysis.summary.join(analysis.gains[[*GAIN]]),
            analysis.rows[analysis.rows["status"] != "done"],
            analysis.pairs,
            config.equal_within,
        ),
        configuration=config.model_dump(mode="json"),
        versions=versions,
        command=command,
        notes=notes,
    )
    write_atomic(folder / PAGE, lambda file: file.write(page.encode()))


def write_figures(
    folder: Path, figures: Mapping[str, Figure], measure: Measure
) -> dict[str, tuple[Figure, str]]:
    """Writes figures as PNG files.

    Args:
        folder: the folder of a study or search.
        figures: the figures by their file names without suffix.
        measure: the measure of the study or search.

    Returns:
        Each figure with its caption, by its heading on the page.
    """
    for stem, figure in figures.items():
        write_atomic(folder / f"{stem}.png", partial(figure.savefig, format="png"))
    return {
        _heading(stem, measure): (figure, figure_caption(stem, measure))
        for stem, figure in figures.items()
    }


def _heading(stem: str, measure: Measure) -> str:
    """Turns the file name of a figure into a heading."""
    words = stem.replace("_vs_", "_against_").replace("_", " ")
    words = words.replace("accuracy", measure.short_name)
    return words[0].upper() + words[1:]


def make_title(config: GridConfig, runs: str) -> str:
    """Makes the title above every figure: the data, the network, the matched cost and the runs."""
    matched = {"params": "equal parameters", "macs": "equal MACs", "latency": "equal latency"}
    data = " and ".join(map(str, config.data["name"]))
    network = " and ".join(map(str, config.network["name"]))
    return ", ".join(
        [data, f"{network} network", matched.get(config.match, "costs not matched"), runs]
    )
