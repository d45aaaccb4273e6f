"""The folder of a search: its trials, its front, its winner, its figures and its page."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from typing import NamedTuple

import optuna
import pandas as pd
from matplotlib.figure import Figure
from optuna.exceptions import StorageInternalError
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from spectrum.layers import dialled_channels
from spectrum.networks import NetworkConfig
from spectrum.report import (
    plot_importance,
    plot_schedules,
    plot_search_front,
    plot_search_progress,
    search_front,
    summarize,
)
from spectrum.report.measure import Measure, measure_of
from spectrum.report.page import render_page
from spectrum.search.check import UNIFORM, WINNER, Check, keep_winner
from spectrum.search.config import SearchConfig
from spectrum.search.space import Space, dialled_layers
from spectrum.search.storage import storage_url, without_password
from spectrum.search.table import TRIALS
from spectrum.study.outputs import write_rows
from spectrum.study.plan import Point
from spectrum.study.results import RESULTS
from spectrum.study.store import Store, write_json
from spectrum.training.checkpoint import write_whole

__all__ = ["FRONT", "PAGE", "WINNER_FOLDER", "write_search"]

FRONT = "front.csv"
PAGE = "report.html"
WINNER_FOLDER = "winner"

_SAID = {
    "front": "Validation {word} of one seed against cost; a dashed line joins the points that no "
    "other beats. front.csv names them.",
    "progress": "What the search had found after each trial.",
    "importance": "How what varies in validation {word} is shared out among the settings (fANOVA "
    "over finished trials). The luck of a seed is shared out too: few trials, or {many} that "
    "hardly differ, say little.",
    "schedule": "The segments of every dialled layer, in order of depth.",
}


class _Drawn(NamedTuple):
    figure: Figure
    caption: str


def write_search(
    space: Space,
    study: optuna.Study,
    trials: pd.DataFrame,
    check: Check,
    command: str,
) -> None:
    """Write the files of a search, the page last.

    Args:
        space: that was searched.
        study: of the search.
        trials: as ``make_rows`` gives them.
        check: what training its finalists again has shown.
        command: what was typed.

    Raises:
        OSError: a file can't be written; the runs and the trials are kept.
    """
    config, measure = space.config, measure_of(trials)
    folder = config.out / config.name
    write_rows(folder / TRIALS, trials)
    write_rows(folder / FRONT, search_front(trials, config.goals(measure)))
    write_rows(folder / RESULTS, check.results)
    fields = config.model_dump(mode="json") | {"storage": without_password(storage_url(config))}
    write_json(folder / "search.json", fields)
    keep_winner(check, Store(config.runs), folder / WINNER_FOLDER)
    drawn = _draw(config, study, trials, check.points, measure)
    for stem, (figure, _) in drawn.items():
        write_whole(folder / f"{stem}.png", partial(figure.savefig, format="png"))
    page = render_page(
        config.name,
        sentences=[check.verdict, how_chosen(trials, config.finalists)],
        figures={stem.capitalize(): (figure, caption) for stem, (figure, caption) in drawn.items()},
        summary=_summary(check),
        configuration=fields,
        versions={
            name: version(name) for name in ("spectrum", "torch", "optuna", "pandas", "matplotlib")
        },
        failures=check.results[check.results["status"] != "done"],
        command=command.replace(config.storage, without_password(config.storage))
        if config.storage
        else command,
        notes=_failures(trials),
    )
    write_whole(folder / PAGE, lambda file: file.write(page.encode()))


def how_chosen(trials: pd.DataFrame, finalists: int) -> str:
    """Among how many trials the winner was chosen, and by what."""
    states = trials["state"].value_counts().to_dict()
    done = states.get("done", 0)
    others = [f"{states[state]} {state}" for state in ("pruned", "failed") if state in states]
    aside = f" ({', '.join(others)} aside)" if others else ""
    has_uniform = trials["uniform"].any()
    uniform = " and the best uniform ones, then one of each" if has_uniform else ", then one"
    return (
        f"The validation split alone chose: by one seed the best {min(finalists, done)} of {done} "
        f"points{aside}{uniform} by the new seeds."
    )


def _summary(check: Check) -> pd.DataFrame:
    """A row a finalist, the winner and the best uniform point named, with what is known of them."""
    summary = summarize(check.results)
    if check.evidence is not None:
        known = check.evidence.set_index("role")
        for name in ("test_low", "test_high"):
            summary[name] = summary["role"].map(known[name]).fillna(summary[name])
    named = summary["role"].isin([WINNER, UNIFORM])
    names = summary["segments"] + " (" + summary["role"] + ")"
    return summary.assign(segments=summary["segments"].mask(named, names))


def _failures(trials: pd.DataFrame) -> list[str]:
    failed = trials[trials["state"] == "failed"]
    return [
        f"Trial {row['trial']}, {row['segments']}, failed: {row['error']}"
        for row in failed.to_dict("records")
    ]


def _draw(
    config: SearchConfig,
    study: optuna.Study,
    trials: pd.DataFrame,
    points: Mapping[str, Point],
    measure: Measure,
) -> dict[str, _Drawn]:
    title, goals = _title(config, trials), config.goals(measure)
    figures = {
        "front": plot_search_front(trials, goals, title=title),
        "progress": plot_search_progress(trials, goals, title=title),
    }
    importances = importance(study)
    if importances:
        figures["importance"] = plot_importance(importances, title=title)
    if points:
        schedules = {_named(role, point): schedule(point.network) for role, point in points.items()}
        figures["schedule"] = plot_schedules(schedules, title=title)
    return {
        stem: _Drawn(figure, _SAID[stem].format(word=measure.word, many=measure.many))
        for stem, figure in figures.items()
    }


def _named(role: str, point: Point) -> str:
    return role if role == WINNER else f"{role}: {point.network.segments}"


def importance(study: optuna.Study) -> dict[str, float]:
    """The share of what varies in the measure that each parameter explains; empty for none."""
    try:
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len({trial.values[0] for trial in done}) < 2:
            return {}
        return get_param_importances(
            study,
            evaluator=FanovaImportanceEvaluator(seed=0),
            target=lambda trial: trial.values[0],
        )
    # No tree of a forest on few trials found anything that varies, or the storage is away.
    except (RuntimeError, StorageInternalError):
        return {}


def schedule(network: NetworkConfig) -> pd.DataFrame:
    """The dialled layers in order of depth: ``layer, flow, channels, segments``."""
    rows = [
        {
            "layer": path,
            "flow": path.partition(".")[0],
            "channels": dialled_channels(layer.in_channels, layer.out_channels, layer.order),
            "segments": layer.segment_count,
        }
        for path, layer in dialled_layers(network).items()
    ]
    return pd.DataFrame(rows)


def _title(config: SearchConfig, trials: pd.DataFrame) -> str:
    matched = {"params": "equal parameters", "macs": "equal MACs", "latency": "equal latency"}
    return ", ".join(
        [
            str(config.data["name"][0]),
            f"{config.network['name'][0]} network",
            matched.get(config.match, "costs not matched"),
            f"{len(trials)} trials ({config.sampler})",
        ]
    )
