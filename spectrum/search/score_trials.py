"""The main loop of a search that judges trials without training them.

A trial takes a fraction of a second, less than the many transactions of one that is trained. So the
trials are proposed by a study in memory, and each is written to the storage when it is over. The
processes of one search take turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import optuna
from filelock import FileLock
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from spectrum.executors.progress import ProgressDisplay
from spectrum.search.candidates import Candidates
from spectrum.search.interrupt import catch_interrupt
from spectrum.search.samplers import NewPointSampler, distributions
from spectrum.search.scoring import Scorer
from spectrum.search.storage import StorageCaller, read_trials
from spectrum.search.trial_states import ERROR, point_attributes, trial_params


def score_trials(
    candidates: Candidates, study: optuna.Study, scorer: Scorer, console: Console
) -> bool:
    """Judge trials until the search is over.

    After a first interrupt (Ctrl-C) no new trial starts.

    Args:
        candidates: the points of the search.
        study: the Optuna study of the search, in its storage.
        scorer: judges a trial from its point.
        console: the console that shows progress.

    Returns:
        Whether the search is over; False if it was interrupted.

    Raises:
        StorageLost: the storage is unavailable and hasn't come back.
    """
    config = candidates.config
    display = ProgressDisplay(console, config.trials, 0, "validation", "trials")
    with (
        FileLock(config.runs / f".search-{config.name}.lock"),
        catch_interrupt() as stopping,
        display.progress,
    ):
        call = StorageCaller(config, display.note, stopping.is_set)
        stored = call(partial(read_trials, config, study))
        proposing, tried = _propose_after(stored, candidates, study)
        while len(tried) < config.trials and not stopping.is_set():
            trial = proposing.ask(dict(distributions(candidates.space)))
            point = frozenset(trial.params.items())
            if point in tried:
                break  # no new point is left
            tried.add(point)
            call(partial(study.add_trial, _judge(trial, candidates, scorer, proposing)))
            display.finished = len(tried)
            display.show_finished()
        return not stopping.is_set()


def _propose_after(
    stored: Sequence[FrozenTrial], candidates: Candidates, study: optuna.Study
) -> tuple[optuna.Study, set[frozenset[tuple[str, str]]]]:
    """A study in memory with the trials that are over and the points to start from queued.

    Returns:
        The study, and the points that are over.
    """
    config, space = candidates.config, candidates.space
    sampler = NewPointSampler(config.resolved_sampler, space, candidates.is_allowed, config.seed)
    proposing = optuna.create_study(directions=study.directions, sampler=sampler)
    over = [trial for trial in stored if trial.state.is_finished()]
    proposing.add_trials(over)
    tried = {frozenset(trial.params.items()) for trial in over}
    # Points that a user has queued through Optuna stay queued there, and are tried here.
    queued = [trial_params(trial, space) for trial in stored if trial.state == TrialState.WAITING]
    for params in [*candidates.starting_points(), *filter(None, queued)]:
        if frozenset(params.items()) not in tried:
            proposing.enqueue_trial(params, skip_if_exists=True)
    return proposing, tried


def _judge(
    trial: optuna.Trial, candidates: Candidates, scorer: Scorer, proposing: optuna.Study
) -> FrozenTrial:
    config = candidates.config
    try:
        point = candidates.trial_point(trial.params)
    except ValueError as error:  # as only a queued point can't be built
        trial.set_user_attr(ERROR, str(error))
        return proposing.tell(trial, state=TrialState.FAIL)
    result = scorer(point)
    goal = candidates.measure.validation_column
    reached = {name: result[name] for name in (ERROR, "epochs", goal) if name in result}
    for name, value in {**point_attributes(point, seed=0), **reached}.items():
        trial.set_user_attr(name, value)
    if result["status"] != "done":
        return proposing.tell(trial, state=TrialState.FAIL)
    costs = [getattr(point, cost) for cost in config.minimize]
    return proposing.tell(trial, [result[goal], *costs])
