"""The files of a search's folder: trials, front, winner, figures and page."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from itertools import combinations

import optuna  # its importance, which imports scikit-learn, is imported when it is first used
import pandas as pd
import scipy  # its parts are imported when they are first used
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState, create_trial

from spectrum.analysis import search_front, summarize
from spectrum.analysis.checksums import write_checksums
from spectrum.analysis.folder import RESULTS
from spectrum.analysis.labels import name_with_fields, shorten_setting, varying_fields
from spectrum.analysis.measure import COUNTS, SHARED_ACCURACY, Measure, infer_measure
from spectrum.errors import counted
from spectrum.files import write_atomic, write_json
from spectrum.layers import segmented_channels
from spectrum.networks import NetworkConfig
from spectrum.report import search_figures
from spectrum.report.page import render_page
from spectrum.report.ranking import front_table, result_tables
from spectrum.runs.point import Point
from spectrum.runs.store import Store
from spectrum.search.check import WINNER, Check, Finalist, copy_winner, name_among
from spectrum.search.config import SearchConfig
from spectrum.search.halving import with_means
from spectrum.search.space import Space, segmented_layers
from spectrum.search.storage import storage_url
from spectrum.search.storage_url import StorageUrl
from spectrum.search.table import TRIALS
from spectrum.study.outputs import captioned, make_title, write_figures, write_rows
from spectrum.study.overwrite import SEARCH

FRONT = "front.csv"
PAGE = "report.html"
WINNER_FOLDER = "winner"
_MOST_NAMED = 8  # finalists of a kind that a sentence names
_MOST_FAILURES = 20  # failed trials that the page lists
_MOST_WEIGHED = 1000  # finished trials that the importance of parameters is computed from
_TREE_DEPTH = 8  # of its trees, where there are more trials than that


def write_search(
    space: Space,
    study: optuna.Study,
    trials: pd.DataFrame,
    check: Check,
    sentences: Sequence[str],
    command: str,
) -> None:
    """Write the files of a search, the page last.

    Args:
        space: the space that was searched.
        study: the Optuna study of the search.
        trials: the trials, as ``make_rows`` makes them.
        check: the check of its finalists.
        sentences: what the search found, and how, for the page.
        command: the command line that asked for the search, for the page.

    Raises:
        OSError: a file can't be written. The runs and the trials are kept.
    """
    config, measure = space.config, infer_measure(trials)
    folder = config.out / config.name
    fields = config.shown()
    if config.storage is not None and StorageUrl(config.storage).is_told_by(command):
        command = ""
    if config.storage is None:
        fields["storage"] = str(storage_url(config))
    write_rows(folder / TRIALS, trials)
    write_rows(folder / FRONT, search_front(trials, config.goals(measure)))
    write_rows(folder / RESULTS, check.results)
    write_json(folder / SEARCH, fields)
    write_checksums(folder, (SEARCH, TRIALS, FRONT, RESULTS))
    copy_winner(check, Store(config.runs), folder / WINNER_FOLDER)
    title = make_title(config, f"{counted(len(trials), 'trial')} ({config.resolved_sampler})")
    importances = parameter_importances(study, space)
    draw = partial(_draw, space, importances, trials, check, measure, title)
    write_figures(folder, draw(False))
    tables = result_tables(_summary(check), check.results[check.results["status"] != "done"])
    if config.minimize:
        tables["Front"] = front_table(trials, config.goals(measure), config.shown_fields)
    page = render_page(
        config.name,
        sentences=sentences,
        setup=title,
        figures=caption_figures(draw(True), trials, measure),
        tables=tables,
        configuration=fields,
        versions={
            "spectrum": version("segment-spectrum"),
            **{name: version(name) for name in ("torch", "optuna", "pandas", "matplotlib")},
        },
        command=command,
        notes=list_failures(trials, config),
    )
    write_atomic(folder / PAGE, lambda file: file.write(page.encode()))


def state_selection(
    trials: pd.DataFrame, finalists: Sequence[Finalist], config: SearchConfig
) -> str:
    """State how the winner was chosen, from how many trials, and what the finalists are.

    Args:
        trials: the trials, as ``make_rows`` makes them.
        finalists: the points that were trained again.
        config: the configuration of the search.
    """
    states = trials["state"].value_counts().to_dict()
    done = states.get("done", 0)
    others = [f"{states[state]} {state}" for state in ("pruned", "failed") if state in states]
    aside = f" ({', '.join(others)} aside)" if others else ""
    has_uniform = trials["uniform"].any()
    uniform = " and the best uniform points" if has_uniform else ""
    each = "each" if has_uniform else "them"
    seeds = int(trials["seeds"].max()) if "seeds" in trials else 1
    chosen_by = f"the mean over up to {seeds} seeds" if seeds > 1 else "one seed"
    if config.evaluate != "alone":
        chosen_by = _state_substitute(config)
    if config.minimize:
        return _state_front_selection(trials, finalists, config, chosen_by, aside)
    number = min(config.finalists, done)
    return (
        f"{_state_split(config)}: {chosen_by} chose the best {number} of "
        f"{counted(done, 'point')}{aside}{uniform}, and new seeds chose one of {each}."
    )


def _state_split(config: SearchConfig) -> str:
    if config.counted_proxy is not None:  # no image chose the finalists
        return "The test split had no part in the choice"
    return "The validation split alone chose"


def _state_substitute(config: SearchConfig) -> str:
    """What trials were judged by, if it isn't the accuracy of networks trained as the finalists."""
    if config.proxy_epochs is not None:
        return f"one seed after {counted(config.proxy_epochs, 'epoch')}"
    if config.counted_proxy is not None:
        return f"the {COUNTS[config.counted_proxy].name}"
    return "the accuracy with shared weights"


def _state_front_selection(
    trials: pd.DataFrame,
    finalists: Sequence[Finalist],
    config: SearchConfig,
    chosen_by: str,
    aside: str,
) -> str:
    """State which points of the front were trained again, and which were not."""
    measure = infer_measure(trials)
    front = len(search_front(trials, config.goals(measure)))
    best = [one.point for one in finalists if one.is_best]
    uniform = [one.point for one in finalists if one.is_uniform]
    done = int((trials["state"] == "done").sum())
    rest = front - len(best)
    kind, latter = "best uniform ", "the latter"
    if len(uniform) > config.finalists:  # those of the front needn't be the best uniform ones
        uniform = [one.point for one in finalists if not one.is_best]
        kind, latter = "best other uniform ", "all others that are uniform"
    among = [one.point for one in finalists]
    sentences = [
        f"{_state_split(config)}. By {chosen_by}, {front} of {counted(done, 'point')}"
        f"{aside} {'is' if front == 1 else 'are'} on the front.",
        f"The finalists are {_count_points(best)} of the front with the highest {measure.name}"
        + _name_points(config, best, among)
        + (f", and {_count_points(uniform, kind)}" if uniform else "")
        + _name_points(config, uniform, among)
        + f". They were trained again with {counted(config.seeds, 'new seed')}, which chose the "
        + f"winner from the former{f' and the best uniform point from {latter}' * bool(uniform)}.",
    ]
    if rest == 1:
        sentences.append("The other point of the front was not trained again.")
    elif rest > 1:
        sentences.append(f"The other {rest} points of the front were not trained again.")
    return " ".join(sentences)


def state_agreement(
    trials: pd.DataFrame, finalists: Sequence[Finalist], scores: pd.Series
) -> str | None:
    """State how far shared weights put the finalists in their order when they are trained alone.

    Args:
        trials: the trials, as ``make_rows`` makes them, judged by shared weights.
        finalists: the points that were trained again.
        scores: the scores of these, as in ``Check``.

    Returns:
        A sentence or two; None if fewer than three finalists have finished all seeds.
    """
    alone = scores.dropna()
    if len(alone) < 3:
        return None
    scored = dict(zip(trials["run_id"], trials[SHARED_ACCURACY.validation_column], strict=True))
    shared = [scored[finalists[number].point.run(seed=0).id] for number in alone.index]
    pairs = [*combinations(zip(shared, alone, strict=True), 2)]
    same = sum((one[0] - other[0]) * (one[1] - other[1]) > 0 for one, other in pairs)
    tau = scipy.stats.kendalltau(shared, alone).statistic  # missing if all are equal in either
    if math.isnan(tau):
        how = "with shared weights" if len({*shared}) == 1 else "when they are trained alone"
        return f"The finalists have no order: all have the same validation accuracy {how}."
    sentence = (
        f"Shared weights put {same:,} of {counted(len(pairs), 'pair')} of the points trained alone "
        f"in the same order (Kendall's tau {tau:.2f})."
    )
    if tau >= 0:
        return sentence
    return (
        f"{sentence} They ordered them rather the other way round, so don't trust their choice of "
        "schedules here. Train each trial instead (--evaluate alone), with --per flow if there "
        "are too many points."
    )


def _count_points(points: Sequence[Point], kind: str = "") -> str:
    return f"the {kind}point" if len(points) == 1 else f"the {len(points)} {kind}points"


def _name_points(config: SearchConfig, points: Sequence[Point], among: Sequence[Point]) -> str:
    """The names of a few points, which tell them from all finalists, in parentheses."""
    named = dict.fromkeys(
        name_among(config, shorten_setting(point.network.segments), point, among)
        for point in points
    )
    return f" ({', '.join(named)})" if 0 < len(named) <= _MOST_NAMED else ""


def _summary(check: Check) -> pd.DataFrame:
    """Summarize the finalists, one row each."""
    summary = summarize(check.results)
    if check.evidence is not None:
        known = check.evidence.set_index("role").assign(seeds=check.evidence["runs"].to_numpy())
        for name in ("seeds", "examples", "test_low", "test_high"):
            summary[name] = summary["role"].map(known[name]).fillna(summary[name])
    return summary


def list_failures(trials: pd.DataFrame, config: SearchConfig) -> list[str]:
    """List the first failed trials by what tells them apart, with their reasons.

    Args:
        trials: the trials, as ``make_rows`` makes them.
        config: the configuration of the search.
    """
    failed = trials[trials["state"] == "failed"]
    fields = varying_fields(trials, config.other_fields)
    notes = [
        f"Trial {row['trial']}, {name_with_fields(row['segments'], row, fields)}, failed: "
        f"{row['error']}"
        for row in failed.head(_MOST_FAILURES).to_dict("records")
    ]
    left_out = len(failed) - len(notes)
    if left_out:
        notes.append(f"{counted(left_out, 'more trial')} failed; {TRIALS} lists all.")
    return notes


def _draw(
    space: Space,
    importances: Mapping[str, float],
    trials: pd.DataFrame,
    check: Check,
    measure: Measure,
    title: str,
    for_page: bool,
) -> dict[str, Figure]:
    schedules = {}
    for role, point in check.points.items():
        name = role if role == WINNER else f"{role}: {point.network.segments}"
        name = name_among(space.config, name, point, check.finalists)
        schedules[name] = segment_schedule(point.network)
    return search_figures(
        trials,
        space.config.goals(measure),
        importances,
        schedules,
        space.config.other_fields,
        title=title,
        for_page=for_page,
    )


def caption_figures(
    figures: Mapping[str, Figure], trials: pd.DataFrame, measure: Measure
) -> dict[str, tuple[Figure, str]]:
    """Each figure with its caption, by its heading, which says if importance is of a sample."""
    sample = (
        f" The importance is computed from {_MOST_WEIGHED:,} of the finished trials, drawn with "
        "seed 0."
    )
    is_sample = int((trials["state"] == "done").sum()) > _MOST_WEIGHED
    return {
        heading: (figure, caption + sample * (is_sample and heading == "Importance"))
        for heading, (figure, caption) in captioned(figures, measure).items()
    }


def parameter_importances(study: optuna.Study, space: Space) -> dict[str, float]:
    """The share of the variation in the measure that each parameter explains; empty if unknown.

    Optuna's fANOVA sees the places of the choices, not their names. It makes names columns of their
    own, which it takes to be independent, so that the first split of its trees counts too much.

    Of more than 1,000 finished trials, 1,000 are drawn with seed 0, and trees are no deeper than 8.
    """
    try:
        trials = with_means(study.get_trials(deepcopy=False), space)
        done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        if len(done) > _MOST_WEIGHED:
            done = random.Random(0).sample(done, _MOST_WEIGHED)
            evaluator = optuna.importance.FanovaImportanceEvaluator(max_depth=_TREE_DEPTH, seed=0)
        points = optuna.create_study(directions=study.directions)
        points.add_trials([_with_places(trial, space) for trial in done])
        return optuna.importance.get_param_importances(
            points,
            evaluator=evaluator,
            target=lambda trial: trial.values[0],
        )
    # One trial is too few, no tree found a parameter that matters, or the storage is unavailable.
    except (ValueError, RuntimeError, StorageInternalError):
        return {}


def _with_places(trial: FrozenTrial, space: Space) -> FrozenTrial:
    """A finished trial whose parameters are the places of its choices."""
    places = {name: space.choices[name].index(value) for name, value in trial.params.items()}
    # A place is in the middle of its part of the range, so that all have the same weight.
    ranges: dict[str, BaseDistribution] = {
        name: FloatDistribution(-0.5, len(space.choices[name]) - 0.5) for name in places
    }
    return create_trial(values=trial.values, params=places, distributions=ranges)


def segment_schedule(network: NetworkConfig) -> pd.DataFrame:
    """List the layers on the dial in order of depth: ``layer, flow, channels, segments``."""
    rows = [
        {
            "layer": path,
            "flow": path.partition(".")[0],
            "channels": segmented_channels(layer.in_channels, layer.out_channels, layer.order),
            "segments": layer.segment_count,
        }
        for path, layer in segmented_layers(network).items()
    ]
    return pd.DataFrame(rows)
