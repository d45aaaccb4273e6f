"""Whether shared weights find the front of accuracy and MACs that training every schedule finds.

python studies/shared_weights/front.py budget      by the rule that searches use
python studies/shared_weights/front.py sandwich    by the sandwich rule

The 64 schedules of benchmarks/search_space.toml were each trained alone with three seeds. A search
sees the validation accuracy of one seed, or that with shared weights, and chooses a front. Its
quality is the hypervolume of the mean test accuracies over the other seeds: the share of that of
the best front there is. Shared trainings are kept in the store.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
from compare import runs_for_shared
from numpy.typing import NDArray

from spectrum import SearchConfig, Supernet, load_run, score
from spectrum.analysis import hypervolume
from spectrum.analysis.front import undominated
from spectrum.executors.engines import open_engine
from spectrum.runs.store import Store
from spectrum.search.candidates import Candidates, make_candidates
from spectrum.search.scoring import plan_shared
from spectrum.search.space import make_space
from spectrum.study.study import execute_all
from spectrum.terminal import make_console

FOLDER = Path(__file__).parent
TABLE = FOLDER.parents[1] / "benchmarks" / "search_space.csv"
EPOCHS = (2, 4, 8, 13)
SEEDS = 3


def candidates_with(epochs: int, rule: str) -> Candidates:
    """The schedules, with a shared training of so many epochs."""
    fields = tomllib.loads((FOLDER / "digits_flows.toml").read_text())
    fields |= {"evaluate": "shared", "shared_epochs": epochs, "shared_rule": rule}
    config = SearchConfig.checked(fields)
    return make_candidates(make_space(config))


def shared_accuracies(
    candidates: Candidates, seed: int, segments: list[str]
) -> NDArray[np.float64]:
    """The validation accuracy of each schedule with the shared weights of one training."""
    config = candidates.config
    point, planned = plan_shared(candidates)
    run = planned.model_copy(update={"seed": seed})
    console = make_console(stderr=True)
    with open_engine(config) as engine:
        execute_all(config, [(point, run)], engine, console, (), lambda event: None)
    network = load_run(Store(config.runs).folder(run.id))
    assert isinstance(network, Supernet)
    points = {candidates.space.segments(params): params for params in candidates.space.all_points()}
    found = []
    for setting in segments:
        width = candidates.point(points[setting]).network.width
        metrics = score(network, setting, width, candidates.dataset, run.recipe, seed)
        found.append(metrics.top1)
    return np.array(found)


def share_of_best(
    chosen_by: NDArray[np.float64], true: NDArray[np.float64], macs: NDArray[np.float64]
) -> float:
    """The hypervolume of the front that accuracies choose, as a share of the best front's."""
    corner = [float(macs.max()) * 1.001, -float(true.min())]

    def volume(accuracies: NDArray[np.float64]) -> float:
        front = undominated(np.stack([macs, -accuracies], axis=1))
        return hypervolume(np.stack([macs, -true], axis=1)[front], corner)

    return volume(chosen_by) / volume(true)


def main() -> None:
    """Print the quality of the fronts and their costs in runs."""
    table = pd.read_csv(TABLE)
    validation = table.pivot(index="segments", columns="seed", values="val_top1")
    test = table.pivot(index="segments", columns="seed", values="test_top1")
    segments, seeds = list(validation.index), list(validation.columns)
    macs = table.groupby("segments")["macs"].first()[segments].to_numpy(float)
    true = {seed: test.drop(columns=seed).mean(axis=1).to_numpy() for seed in seeds}

    def describe(
        name: str, runs: float, fronts: list[tuple[NDArray[np.float64], NDArray[np.float64]]]
    ) -> dict[str, object]:
        shares = [share_of_best(chosen_by, accuracies, macs) for chosen_by, accuracies in fronts]
        quality = {"mean": np.mean(shares), "lowest": min(shares), "highest": max(shares)}
        return {"front by": name, "runs": runs, **quality}

    alone = [(validation[seed].to_numpy(), true[seed]) for seed in seeds]
    rows = [describe("training alone", len(segments), alone)]
    for epochs in EPOCHS:
        candidates = candidates_with(epochs, sys.argv[1])
        found = [shared_accuracies(candidates, seed, segments) for seed in range(SEEDS)]
        fronts = [(accuracies, true[seed]) for accuracies in found for seed in seeds]
        runs = runs_for_shared(candidates, table)
        rows.append(describe(f"{epochs} shared epochs", runs, fronts))
    rng = np.random.default_rng(0)
    chance = [(rng.random(len(segments)), true[seed]) for seed in seeds for _ in range(300)]
    rows.append(describe("chance", 0, chance))
    print(
        pd.DataFrame(rows).round({"runs": 1}).to_string(index=False, float_format="{:.3f}".format)
    )


if __name__ == "__main__":
    main()
