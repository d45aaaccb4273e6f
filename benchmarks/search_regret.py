"""How soon each sampler finds the best point of a space in which every point was trained.

search_space.csv has every point of a small space, trained with three seeds: the results of
`python -m spectrum.study benchmarks/search_space.toml`. Searches are simulated on it. As in a real
search, a trial gets the validation accuracy of one seed. The points with the highest accuracies
become the finalists, as many as a search has, and the winner is the finalist with the highest mean
over all seeds. The regret is the highest mean of all points minus that of the winner. The best
point counts as found if the regret is at most the seed noise, which is the standard deviation of
the difference between two such means.

    python benchmarks/search_regret.py
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
import optuna
import pandas as pd

from spectrum import SearchConfig
from spectrum.search.samplers import NewPointSampler, distributions
from spectrum.search.space import Space, make_space
from spectrum.search.storage import silence_optuna

TABLE = Path(__file__).with_name("search_space.csv")
SAMPLERS = ("gp", "tpe", "nsga2", "random", "grid")
SHOWN = (4, 6, 8, 10, 13, 16, 20, 26, 32)  # trials


def simulate(
    space: Space, accuracies: pd.Series, sampler: str, seed: int, trials: int
) -> list[str]:
    """Simulate a search; the segments of the points that it tries, in order."""
    config = space.config.model_copy(update={"sampler": sampler, "seed": seed})
    study = optuna.create_study(direction="maximize")
    study.sampler = NewPointSampler(config.sampler, space, lambda _: True, config.seed)
    for params in space.uniform_points():
        study.enqueue_trial(params)
    tried: list[str] = []
    for _ in range(trials):
        trial = study.ask(dict(distributions(space)))
        tried.append(space.segments(trial.params))
        study.tell(trial, accuracies[tried[-1]])
    return tried


def winner(tried: list[str], accuracies: pd.Series, means: pd.Series) -> str:
    """The winner: of the finalists by one seed, the best by the mean over all seeds."""
    ranked = sorted(dict.fromkeys(tried), key=lambda point: -accuracies[point])
    return max(ranked[: SearchConfig().finalists], key=lambda point: float(means[point]))


def main() -> None:
    """Print the table of regrets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="searches per sampler (20)")
    parser.add_argument("--samplers", default=",".join(SAMPLERS), help="samplers, with commas")
    seeds, samplers = parser.parse_args().seeds, parser.parse_args().samplers.split(",")
    table = pd.read_csv(TABLE).pivot(index="segments", columns="seed", values="val_top1")
    means = table.mean(axis="columns").sort_values(ascending=False)
    noise = float(np.sqrt(table.var(axis="columns").mean() * 2 / table.shape[1]))
    fifth = round(len(table) / 5)
    close = means[means > means.iloc[0] - noise].index
    closer = means[means > means.iloc[0] - noise / np.sqrt(2)].index
    print(
        f"{len(table)} points, {table.shape[1]} seeds; the best, {means.index[0]}, has "
        f"{means.iloc[0]:.4f}; seed noise {noise:.4f}\n{len(close)} points are within it: "
        f"{', '.join(close)}\n{len(closer)} within that of one mean, {noise / np.sqrt(2):.4f}\n"
    )
    space = make_space(SearchConfig(segments="1,4,16,C"))
    print(f"mean regret in points after so many trials, {seeds} searches each; found, closer: how")
    print(f"many have a point within each of these noises after {fifth} trials, a fifth of all\n")
    print(f"{'sampler':<8}" + "".join(f"{n:>6}" for n in SHOWN) + f"{'found':>8}{'closer':>8}")
    with silence_optuna():
        for sampler in samplers:
            accuracies = [table[i % table.shape[1]] for i in range(seeds)]
            tried = [simulate(space, accuracies[i], sampler, i, max(SHOWN)) for i in range(seeds)]

            def winners(
                n: int, tried: list[list[str]] = tried, accuracies: list[pd.Series] = accuracies
            ) -> list[str]:
                pairs = zip(tried, accuracies, strict=True)
                return [winner(points[:n], one, means) for points, one in pairs]

            regrets = [
                statistics.mean(100 * (means.iloc[0] - means[point]) for point in winners(n))
                for n in SHOWN
            ]
            figures = "".join(f"{regret:6.2f}" for regret in regrets)
            found, nearer = (
                sum(point in points for point in winners(fifth)) for points in (close, closer)
            )
            print(f"{sampler:<8}{figures}{found:>8}{nearer:>8}", flush=True)


if __name__ == "__main__":
    main()
