"""Learning rates chosen for each point, by validation alone and with no more runs than needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from spectrum import StudyConfig, load_results, run_study, summarize
from spectrum.analysis.statistics import varied_columns
from spectrum.runs import execute as execute_module
from spectrum.study.plan import Plan, make_plan
from spectrum.study.tune import choose_learning_rates, tuning_runs
from tests.small_studies import FIELDS

# With so large a decay the last of the rates diverges.
FACTORS = (0.01, 8.0, 1000.0)
RECIPE = {"batch_size": 32, "average": 0.0, "precise_bn": 256, "weight_decay": 30.0}
TUNED: dict[str, Any] = {
    "seeds": 3,
    "epochs": 1,
    "tune_lr": FACTORS,
    "recipe": RECIPE,
    "data": {"train_images": 300},
    "network": {"name": "tiny", "width": 0.2},
}
RATES = [0.004 * factor for factor in FACTORS]


def counted(patch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """Records the learning rate and the seed of every training from now on."""
    trained: list[tuple[float, int]] = []
    original = execute_module.fit

    def fit(network: Any, dataset: Any, recipe: Any, seed: int, **options: Any) -> Any:
        trained.append((recipe.lr, seed))
        return original(network, dataset, recipe, seed, **options)

    patch.setattr(execute_module, "fit", fit)
    return trained


class Tuned:
    """A study with tuned rates, and every training that it ran."""

    def __init__(self, root: Path) -> None:
        self.config = StudyConfig(**{**FIELDS, **TUNED}, out=root / "out", runs=root / "runs")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("spectrum.study.outputs._draw", lambda *_: None)
            self.trained = counted(patch)
            self.results = run_study(self.config)
        self.folder = root / "out" / "tested"

    def rates(self) -> dict[str, float]:
        return self.results.drop_duplicates("segments").set_index("segments")["tuned_lr"].to_dict()


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return Tuned(tmp_path_factory.mktemp("tuned"))


def test_the_rate_of_the_highest_mean_validation_accuracy_is_chosen(tuned: Tuned) -> None:
    # The same runs as a plain study's with a grid of rates, which finds them in the store.
    with pytest.MonkeyPatch.context() as patch:
        trained = counted(patch)
        recipe = {**RECIPE, "lr": RATES}
        grid = run_study(
            tuned.config.model_copy(update={"name": "grid", "tune_lr": (), "seeds": 2}).model_copy(
                update={"recipe": StudyConfig(recipe=recipe).recipe}
            )
        )
    assert not [lr for lr, _ in trained if lr < 1]  # but for the divergence, all was there
    means = grid.groupby(["segments", "lr"])["val_top1"].mean().unstack()
    assert tuned.rates() == means.idxmax(axis="columns").to_dict()
    assert means.nunique(axis="columns").min() > 1
    assert tuned.results["status"].tolist() == ["done"] * 6
    table = pd.read_csv(tuned.folder / "tuning.csv", dtype={"segments": str})
    assert list(table.columns) == ["segments", "lr", "val_top1", "chosen"]
    assert table["segments"].tolist() == ["1"] * 3 + ["C"] * 3
    assert table["lr"].tolist() == pytest.approx(RATES * 2)
    expected = [means.loc[point, rate] for point in ("1", "C") for rate in sorted(means.columns)]
    assert table["val_top1"].tolist() == pytest.approx(expected, nan_ok=True)
    assert table["val_top1"].isna().tolist() == [False, False, True] * 2
    chosen = table[table["chosen"]].set_index("segments")["lr"].to_dict()
    assert chosen == pytest.approx(tuned.rates())


def test_each_run_is_trained_once_the_tuning_ones_among_them(tuned: Tuned) -> None:
    # 2 points x 3 rates x 2 seeds, then the third seed at the rates that were chosen.
    assert len(tuned.trained) == 12 + 2
    assert tuned.trained[12:] == [(tuned.rates()[point], 2) for point in ("1", "C")]
    assert sorted({seed for _, seed in tuned.trained[:12]}) == [0, 1]
    with pytest.MonkeyPatch.context() as patch:
        again = counted(patch)
        results = run_study(tuned.config)
    assert [lr > 1 for lr, _ in again] == [True] * len(again)  # a divergence isn't kept, or is
    pd.testing.assert_frame_equal(results, tuned.results)


def test_rows_have_the_tuned_rate_and_plots_ignore_it(tuned: Tuned) -> None:
    results = load_results(tuned.folder)
    assert "lr" not in results
    assert varied_columns(results) == []
    apart = results.assign(tuned_lr=results["tuned_lr"] * ([1, 2] * 3))
    assert apart.groupby("segments")["tuned_lr"].nunique().tolist() == [1, 1]
    assert varied_columns(apart) == []
    assert summarize(apart)["runs"].tolist() == [3, 3]


def planned(small_study: Callable[..., StudyConfig], **changes: Any) -> Plan:
    return make_plan(small_study(**{**TUNED, **changes}))


def made_up(plan: Plan, accuracies: dict[tuple[str, float, int], float | None]) -> dict[str, Any]:
    """Results by segments, rate and seed; None for a run that failed.

    The accuracies on the test split point the other way.
    """
    results: dict[str, Any] = {}
    for point, run in tuning_runs(plan.points, plan.config.tune_lr, plan.config.seeds):
        value = accuracies[point.network.segments, point.recipe.lr, run.seed]
        results[run.id] = {"status": "diverged", "error": "no number"}
        if value is not None:
            results[run.id] = {"status": "done", "val_top1": value, "test_top1": 1 - value}
    return results


# Accuracies of both seeds at a quarter of the rate, at the rate and at four times it.
@pytest.mark.parametrize(
    ("found", "best", "mean"),
    [
        ([(0.5, 0.5), (0.6, 0.6), (0.7, 0.7)], 4, 0.7),
        ([(0.5, 0.9), (0.8, 0.4), (0.6, 0.6)], 0.25, 0.7),
        ([(0.5, 0.5), (0.75, 0.25), (0.25, 0.75)], 0.25, 0.5),  # equal ones: the lowest
        ([(0.1, 0.1), (0.75, 0.25), (0.25, 0.75)], 1, 0.5),
        ([(0.1, 0.1), (0.2, 0.3), (0.99, None)], 1, 0.25),  # a seed that diverged
        ([(0.0, 0.0), (None, 0.9), (None, None)], 0.25, 0.0),
        ([(None, None), (0.0, 0.0), (None, None)], 1, 0.0),
        ([(None, None), (None, None), (None, None)], 0.25, None),
    ],
    ids=str,
)
def test_a_rate_is_chosen_by_its_mean_and_never_where_it_failed(
    found: list[tuple[float | None, float | None]],
    best: float,
    mean: float | None,
    small_study: Callable[..., StudyConfig],
) -> None:
    plan = planned(small_study, tune_lr=[4, 0.25, 1, 4])  # in any order, given twice
    rates = [0.004 * factor for factor in (0.25, 1.0, 4.0)]
    results = made_up(
        plan,
        {
            **{
                ("1", rate, s): of[s] for rate, of in zip(rates, found, strict=True) for s in (0, 1)
            },
            **{("C", rate, s): rate for rate in rates for s in (0, 1)},
        },
    )
    candidates = choose_learning_rates(plan.points, plan.config.tune_lr, plan.config.seeds, results)
    assert [rate.point.recipe.lr for rate in candidates] == rates * 2
    (first, second) = [rate for rate in candidates if rate.chosen]
    assert (first.point.network.segments, second.point.network.segments) == ("1", "C")
    assert first.point.recipe.lr == 0.004 * best
    assert first.score == (None if mean is None else pytest.approx(mean))
    assert second.point.recipe.lr == rates[-1]  # each point has its own
    expected = {**plan.points[0].recipe.model_dump(), "lr": 0.004 * best}
    assert first.point.recipe.model_dump() == expected


@pytest.mark.parametrize(("seeds", "used"), [(1, 1), (2, 2), (5, 2)])
def test_rates_are_compared_on_two_seeds_at_most(
    seeds: int, used: int, small_study: Callable[..., StudyConfig]
) -> None:
    plan = planned(small_study, seeds=seeds, tune_lr=True)
    runs = tuning_runs(plan.points, plan.config.tune_lr, seeds)
    assert plan.config.tune_lr == (0.25, 0.5, 1.0, 2.0, 4.0)
    assert len({run.id for _, run in runs}) == len(runs) == 2 * 5 * used
    assert {run.seed for _, run in runs} == set(range(used))
    own = {run.id for _, run in plan.runs() if run.seed < used}
    assert own < {run.id for _, run in runs}  # the recipe's rate is one of them


def test_no_tuning_is_the_default() -> None:
    assert StudyConfig().tune_lr == StudyConfig(tune_lr=False).tune_lr == ()
