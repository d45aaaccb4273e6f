"""The files of a study's folder: rows, curves, answers, figures and page."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spectrum import __version__
from spectrum.analysis.checksums import CHECKSUMS, write_checksums
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
from spectrum.analysis.planned import PLANNED
from spectrum.errors import counted
from spectrum.files import write_atomic, write_json
from spectrum.report.figures import CAPTIONS, figure_caption, study_figures
from spectrum.report.page import render_page
from spectrum.report.ranking import add_standings, result_tables
from spectrum.report.tables import Table, pair_table
from spectrum.runs.store import Store
from spectrum.study.comparisons import compare_with_others, comparison_file
from spectrum.study.config import StudyConfig
from spectrum.study.grid import GridConfig
from spectrum.study.plan import Plan
from spectrum.study.results import describe_run, make_row, varied_values
from spectrum.study.tune import RateCandidate
from spectrum.tracking.events import StudyFinished

FIGURE = "accuracy_vs_segments.png"
PAGE = "report.html"
TUNING = "tuning.csv"
_FILES = (PLANNED, STUDY, LOOKS, RESULTS, CURVES, CORRECT, AVERAGE_PRECISION, TUNING)
_RELOAD = 30  # seconds after which the page of a study that runs is loaded again


def lock_folder(folder: Path) -> FileLock:
    """The lock under which the files of a study that has results are written.

    Processes that run the same study at the same time share its runs, and each writes its folder.
    """
    return FileLock(folder.with_name(f".{folder.name}.lock"))  # beside the folder, not in it


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
    write_tables(plan, results, candidates)
    return write_page(plan.config, results, notes, command)


def write_tables(
    plan: Plan, results: Mapping[str, Mapping[str, Any]], candidates: Sequence[RateCandidate]
) -> None:
    """Writes the files of a study that its page is drawn from.

    The process may be killed at any time. The checksums are removed first and written last, so a
    file never has the checksum of another content. The rows are written after their curves and
    their answers. ``PLANNED`` lists the runs until all have a row. Till then there is no look at
    the results.

    Args:
        plan: the plan, as ``write_study`` takes it.
        results: the results of its runs, by run id. Runs may be missing.
        candidates: the learning rates that were tried.
    """
    config, runs = plan.config, plan.runs()
    folder, store = config.out / config.name, Store(config.runs)
    is_complete = all(run.id in results for _, run in runs)
    rows = pd.DataFrame(
        [make_row(config, point, run, results[run.id]) for point, run in runs if run.id in results]
    )
    measure = infer_measure(rows)
    done = list(dict.fromkeys(rows.loc[rows["status"] == "done", "run_id"]))
    looks = _looks(folder, len(rows)) if is_complete else _earlier_looks(folder)
    (folder / CHECKSUMS).unlink(missing_ok=True)
    planned = [{"run_id": run.id, "name": describe_run(config, point, run)} for point, run in runs]
    write_json(folder / PLANNED, planned)
    write_json(folder / STUDY, config.model_dump(mode="json"))
    write_json(folder / LOOKS, looks)
    curves = [{"run_id": run_id, **line} for run_id in done for line in store.curve(run_id)]
    columns = dict.fromkeys([*(column.name for column in CURVE), measure.validation_column])
    write_rows(folder / CURVES, pd.DataFrame(curves, columns=[*columns]), "%.6g")
    _write_answers(folder / CORRECT, done, store.correct)
    if measure != ACCURACY:
        _write_answers(folder / AVERAGE_PRECISION, done, store.average_precision)
    if candidates:
        write_rows(folder / TUNING, _tuning_rows(config, candidates, measure))
    write_rows(folder / RESULTS, rows)
    if is_complete:
        (folder / PLANNED).unlink(missing_ok=True)
    write_checksums(folder, _FILES)


def write_page(
    config: StudyConfig,
    results: Mapping[str, Mapping[str, Any]],
    notes: Sequence[str],
    command: str,
) -> StudyAnalysis:
    """Draws the figures and the page of a study from what the files of its folder say.

    Args:
        config: the configuration of the study.
        results: the results of its runs, of which the page lists versions and devices.
        notes: as ``write_study`` takes them.
        command: as ``write_study`` takes it.

    Returns:
        What the files say, as they are read back.
    """
    folder = config.out / config.name
    analysis = analyze_study(folder)
    tables = {}
    if not analysis.missing.names:
        comparisons, said = compare_with_others(config)
        analysis = analysis._replace(sentences=[*analysis.sentences, *said])
        files = {comparison_file(name): found.points for name, found in comparisons.items()}
        for file, points in files.items():
            write_rows(folder / file, points)
        if files:
            write_checksums(folder, [*_FILES, *files])
        tables = {
            f"Compared with {name}": pair_table(found.points, found.equal_within)
            for name, found in comparisons.items()
        }
    _draw(config, analysis, tables, notes, _versions(results.values()), command)
    return analysis


def _looks(folder: Path, runs: int) -> list[int]:
    """The numbers of runs at each look at the results of a study, this one included."""
    looks = _earlier_looks(folder)
    return looks if looks[-1:] == [runs] else [*looks, runs]


def _earlier_looks(folder: Path) -> list[int]:
    """The numbers of runs at each earlier look at the results of a study."""
    if not (folder / RESULTS).exists():
        return []
    with suppress(ValueError):  # what is damaged is written anew
        looks = read_looks(folder)
        if looks or (folder / LOOKS).exists():
            return looks
    with suppress(ValueError):
        return [len(load_results(folder))]
    return []


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
    comparisons: Mapping[str, Table],
    notes: Sequence[str],
    versions: Mapping[str, str],
    command: str,
) -> None:
    """Draws the figures and the page from what the files of the folder say."""
    folder = config.out / config.name
    measure, curves = infer_measure(analysis.rows), load_curves(folder)
    missing, sentences = analysis.missing, analysis.sentences
    runs = counted(
        config.sample or config.seeds, "sampled combination" if config.sample else "seed"
    )
    if missing.names:
        now = datetime.now()
        sentences = [
            f"As of {now:%Y-%m-%d %H:%M:%S}, {missing.done} are done. If that is long ago, the "
            "study has stopped, and the same command continues it.",
            *sentences,
        ]
        runs = f"{runs}, {missing.done} so far"
    title = make_title(config, runs)
    draw = partial(
        study_figures,
        analysis.results,
        analysis.summary,
        analysis.evidence,
        curves,
        title=title,
        over=config.compare,
        is_sample=config.sample is not None,
    )
    figures = draw()
    for stem in CAPTIONS.keys() - figures.keys():  # of fewer rows
        (folder / f"{stem}.png").unlink(missing_ok=True)
    write_figures(folder, figures)
    summary = analysis.summary
    if analysis.gains is not None:
        summary = summary.join(analysis.gains[[*GAIN]])
    if analysis.evidence is not None and not missing.names:
        summary = add_standings(summary, analysis.evidence, analysis.over)
    page = render_page(
        config.name,
        sentences=sentences,
        setup=title,
        figures=captioned(draw(for_page=True), measure),
        tables={
            **result_tables(
                summary,
                analysis.rows[analysis.rows["status"] != "done"],
                None if missing.names else analysis.pairs,
                config.equal_within,
            ),
            **comparisons,
        },
        configuration=config.model_dump(mode="json"),
        versions=versions,
        command=command,
        notes=notes,
        reload_after=_RELOAD if missing.names else None,
    )
    write_atomic(folder / PAGE, lambda file: file.write(page.encode()))


def study_finished(config: GridConfig) -> StudyFinished:
    """The event that all files of a study or search are written."""
    folder = config.out / config.name
    figures = (folder / f"{stem}.png" for stem in CAPTIONS)
    return StudyFinished(config.name, folder, tuple(path for path in figures if path.exists()))


def write_figures(folder: Path, figures: Mapping[str, Figure]) -> None:
    """Writes figures as PNG files, by their names without suffix."""
    for stem, figure in figures.items():
        write_atomic(folder / f"{stem}.png", partial(figure.savefig, format="png"))


def captioned(figures: Mapping[str, Figure], measure: Measure) -> dict[str, tuple[Figure, str]]:
    """Each figure of a study or search with its caption, by its heading on the page."""
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
