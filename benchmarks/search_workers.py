"""Runs per minute of a search with one worker and with two, measured in turns."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from spectrum import SearchConfig
from spectrum.executors.local import LocalEngine
from spectrum.runs.store import Store
from spectrum.search.candidates import make_candidates
from spectrum.search.optimize import optimize
from spectrum.search.space import make_space
from spectrum.search.storage import open_study, silence_optuna


def runs_per_minute(workers: int, trials: int, folder: Path) -> float:
    """The rate of a new search: with the start of its processes, without the winner's check."""
    config = SearchConfig(
        segments="1,4,16,C",
        epochs=5,
        trials=trials,
        workers=workers,
        pruner="none",
        device="cpu",
        out=folder,
        runs=folder / "runs",
    )
    (folder / config.name).mkdir(parents=True)
    with silence_optuna():
        candidates = make_candidates(make_space(config))
        study = open_study(config, {})
        start = time.perf_counter()
        with (folder / "log").open("w") as log:
            engine = LocalEngine(["cpu"], workers, threads=1)
            optimize(candidates, study, Store(config.runs), engine, Console(file=log))
        return 60 * trials / (time.perf_counter() - start)


def main() -> None:
    """Print the rates of each pair of searches and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=16, help="runs per search (16)")
    parser.add_argument("--repeats", type=int, default=2, help="pairs of searches (2)")
    given = parser.parse_args()
    print(f"the tiny network on digits, {given.trials} trials; runs per minute")
    print(f"{'1 worker':>10}{'2 workers':>12}{'ratio':>8}")
    ratios = []
    for _ in range(given.repeats):
        with tempfile.TemporaryDirectory() as folder:
            rates = [
                runs_per_minute(workers, given.trials, Path(folder) / str(workers))
                for workers in (1, 2)
            ]
        ratios.append(rates[1] / rates[0])
        print(f"{rates[0]:10.1f}{rates[1]:12.1f}{ratios[-1]:8.2f}")
        sys.stdout.flush()
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
