"""How good a point each sampler finds, with one seed a point and with more for the leaders.

A table has every point of a small space, trained with several seeds. search_space.csv, the default,
has the results of `python -m spectrum.study benchmarks/search_space.toml`; any study's results.csv
will do whose points are all combinations of its uniform points, a flow each. Searches are played on
it: a run gets the validation accuracy of the next seed of its point. In each search every point has
its seeds in another order, the same for all methods.

The leader of a search is its point with the highest mean validation accuracy. The finalists, as
many as a search has, are then checked as in a search: the winner is the one with the highest
validation accuracy over new seeds. The regret of a point is what its test accuracy lacks of that of
the best point, which is best by all seeds. New seeds and test accuracies are those of seeds that no
method has seen, if the table has any to spare; otherwise those of all seeds. The intervals are
bootstrapped over the searches. They don't cover the luck of the table.

    python benchmarks/search_regret.py [TABLE]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray

from spectrum import SearchConfig
from spectrum.search.halving import group_by_point, next_further_seed
from spectrum.search.samplers import NewPointSampler, distributions
from spectrum.search.space import Space, make_space
from spectrum.search.storage import silence_optuna
from spectrum.search.trial_states import seed_of

TABLE = Path(__file__).with_name("search_space.csv")
SAMPLERS = ("gp", "tpe", "nsga2", "random")
RUNS = "13,20,32,48"


class Played(NamedTuple):
    """A table as one search sees it, with the seeds of each point in an order of their own.

    Attributes:
        validation: the validation accuracies, one row for each point and one column for each seed.
        checked: the mean validation accuracy over the seeds of the check, by point.
        regrets: what the mean test accuracy over these seeds lacks of the best point's, by point.
    """

    validation: pd.DataFrame
    checked: pd.Series
    regrets: pd.Series


def shuffle(validation: pd.DataFrame, test: pd.DataFrame, trial_seeds: int, search: int) -> Played:
    """The table as one search sees it."""
    count = validation.shape[1]
    orders = np.random.default_rng(search).permuted(np.tile(range(count), (len(test), 1)), axis=1)
    shuffled, reached = (
        pd.DataFrame(np.take_along_axis(rows.to_numpy(), orders, axis=1), index=rows.index)
        for rows in (validation, test)
    )
    new = slice(trial_seeds if trial_seeds < count else 0, None)
    checked, tested = (rows.iloc[:, new].mean(axis="columns") for rows in (shuffled, reached))
    return Played(shuffled, checked, tested[test.mean(axis="columns").idxmax()] - tested)


def simulate(
    space: Space, validation: pd.DataFrame, sampler: str, seed: int, trial_seeds: int, runs: int
) -> list[optuna.trial.FrozenTrial]:
    """Simulate a search and return its trials, one for each run."""
    config = space.config.model_copy(update={"sampler": sampler, "seed": seed})
    study = optuna.create_study(direction="maximize")
    study.sampler = NewPointSampler(config.sampler, space, lambda _: True, config.seed)
    for params in space.uniform_points():
        study.enqueue_trial(params)
    for number in range(runs):
        known = study.get_trials(deepcopy=False)
        if len(known) == number:  # none is queued
            further = next_further_seed(known, space, trial_seeds)
            if further is not None:
                study.add_trial(further)
        trial = study.ask(dict(distributions(space)))
        queued = study.get_trials(deepcopy=False)[trial.number]
        study.tell(trial, validation.at[space.segments(trial.params), seed_of(queued)])
    return study.get_trials(deepcopy=False)


def regrets(trials: list[optuna.trial.FrozenTrial], space: Space, played: Played) -> list[float]:
    """The regrets of the leader and of the winner of the check, in points."""
    points = group_by_point(trials, space)
    ranked = sorted(points, key=lambda point: -point.values[0])[: SearchConfig().finalists]
    names = [space.segments(point.first.params) for point in ranked]
    winner = max(names, key=lambda name: float(played.checked[name]))
    return [100 * float(played.regrets[name]) for name in (names[0], winner)]


def interval(values: NDArray[np.float64]) -> str:
    """The mean over searches with its bootstrap interval."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{values.mean():.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Print the tables of regrets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", nargs="?", type=Path, default=TABLE, help="results of a study")
    parser.add_argument("--searches", type=int, default=200, help="searches per method (200)")
    parser.add_argument("--trial-seeds", type=int, default=2, help="seeds of the leaders (2)")
    parser.add_argument("--samplers", default=",".join(SAMPLERS), help="samplers, with commas")
    parser.add_argument("--runs", default=RUNS, help=f"when to judge, with commas ({RUNS})")
    given = parser.parse_args()
    results = pd.read_csv(given.table)
    validation, test = (
        results.pivot(index="segments", columns="seed", values=name)
        for name in ("val_top1", "test_top1")
    )
    uniform = [point for point in validation.index if "=" not in point]
    space = make_space(SearchConfig(segments=uniform, network=results["network"].iloc[0]))
    if {space.segments(params) for params in space.all_points()} != {*validation.index}:
        parser.error(f"{given.table} must have every combination of {', '.join(uniform)}")
    seeds, runs = validation.shape[1], [int(text) for text in given.runs.split(",")]
    if not all(len(uniform) <= count <= len(validation) for count in runs):
        parser.error(f"--runs {given.runs} must be in {len(uniform)}..{len(validation)}")
    if given.trial_seeds not in range(2, seeds + 1):
        parser.error(f"--trial-seeds {given.trial_seeds} must be in 2..{seeds}")
    noise = float(np.sqrt(validation.var(axis="columns").mean()))
    unseen = seeds - given.trial_seeds
    means = test.mean(axis="columns").sort_values(ascending=False)
    print(
        f"{len(validation)} points, {seeds} seeds; the best, {means.index[0]}, has a test accuracy "
        f"of {means.iloc[0]:.4f}, the median {means.median():.4f}\na seed's noise on the "
        f"validation split is {100 * noise:.2f} points; {given.searches} searches each, judged by "
        f"{f'{unseen} unseen' if unseen else 'all'} of {seeds} seeds\n"
    )
    tables = [
        shuffle(validation, test, given.trial_seeds, search) for search in range(given.searches)
    ]
    heading = "".join(f"{f'{count} runs':<23}" for count in runs).rstrip()
    print(f"mean regret in points  after {heading}")
    with silence_optuna():
        for sampler in given.samplers.split(","):
            by_seeds = []
            for trial_seeds in (1, given.trial_seeds):
                found = []
                for search, played in enumerate(tables):
                    trials = simulate(
                        space, played.validation, sampler, search, trial_seeds, max(runs)
                    )
                    found.append([regrets(trials[:count], space, played) for count in runs])
                by_seeds.append(np.array(found))
            one, several = by_seeds
            for i, judged in enumerate(("leader", "checked")):
                for name, values in (
                    ("1 seed", one),
                    (f"{given.trial_seeds} seeds", several),
                    ("difference", several - one),
                ):
                    cells = "".join(f"{interval(values[:, j, i]):<23}" for j in range(len(runs)))
                    line = f"{sampler:<8}{judged:<9}{name:<11}{cells}"
                    print(line.rstrip(), flush=True)


if __name__ == "__main__":
    main()
