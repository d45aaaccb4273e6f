"""Learning rates chosen for each point, by validation alone and with no more runs than needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from spectrum import StudyConfig, run_study
from spectrum.runs import execute as execute_module
from spectrum.runs.store import Store
from spectrum.study.dry_run import dry_run
from spectrum.study.plan import Plan, make_plan
from spectrum.study.tune import choose_learning_rates, edge_notes, tuning_runs

# With so large a decay the last of the rates diverges.
FACTORS = (0.01, 8.0, 1000.0)
TUNED: dict[str, Any] = {
    "seeds": 3,
    "epochs": 1,
    "tune_lr": FACTORS,
    "recipe": {"batch_size": 32, "average": 0.0, "precise_bn": 256, "weight_decay": 30.0},
    "data": {"train_images": 300},
}
RATES = [0.004 * factor for factor in FACTORS]


def test_the_best_rates_by_validation_are_used_and_no_run_is_trained_twice(
    small_study: Callable[..., StudyConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[float, int]] = []
    original = execute_module.fit

    def fit(network: Any, dataset: Any, recipe: Any, seed: int, **options: Any) -> Any:
        trained.append((recipe.lr, seed))
        return original(network, dataset, recipe, seed, **options)

    monkeypatch.setattr(execute_module, "fit", fit)
    config = small_study(**TUNED)
    results = run_study(config)
    assert results["status"].tolist() == ["done"] * 6
    assert "lr" not in results
    chosen = results.drop_duplicates("segments").set_index("segments")["tuned_lr"]
    # 2 points x 3 rates x 2 seeds, then the third seed at the rates that were chosen.
    assert sorted({seed for _, seed in trained[:12]}) == [0, 1]
    assert trained[12:] == [(chosen[point], 2) for point in ("1", "C")]

    store = Store(config.runs)
    tried = pd.DataFrame(
        {
            "segments": point.network.segments,
            "lr": point.recipe.lr,
            "val_top1": store.result(run.id).get("val_top1"),
        }
        for point, run in tuning_runs(make_plan(config).points, FACTORS, 3)
    )
    means = tried.groupby(["segments", "lr"])["val_top1"].mean()
    assert means.unstack().idxmax(axis="columns").to_dict() == chosen.to_dict()
    table = pd.read_csv(config.out / "tested" / "tuning.csv", dtype={"segments": str})
    assert list(table.columns) == ["segments", "lr", "val_top1", "chosen"]
    assert table["segments"].tolist() == ["1"] * 3 + ["C"] * 3
    assert table["lr"].tolist() == pytest.approx(RATES * 2)
    assert table["val_top1"].tolist() == pytest.approx(means.tolist(), nan_ok=True)
    assert table["val_top1"].isna().tolist() == [False, False, True] * 2
    assert table.loc[table["chosen"], "lr"].tolist() == pytest.approx(chosen.tolist())

    trained.clear()
    pd.testing.assert_frame_equal(run_study(config), results)
    assert not [lr for lr, _ in trained if lr < 1]  # but for the divergence, all was there


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
    edges = {rates[0]: "lowest", rates[-1]: "highest"}
    assert edge_notes(candidates, len(rates)) == [
        f"the learning rate chosen at {point}, {rate:g}, is the {edges[rate]} of those tried; a "
        "better one may lie beyond"
        for point, rate, known in (("1", 0.004 * best, mean), ("C", rates[-1], 1))
        if rate in edges and known is not None
    ]


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


def test_a_dry_run_says_how_much_is_tuned(small_study: Callable[..., StudyConfig]) -> None:
    config = small_study(segments="C", tune_lr=[1, 2], epochs=1)
    table, notes = dry_run(config)
    assert notes[-1] == "tuning of the learning rates: 0 of 2 runs done"
    assert [*table.columns[-1].cells] == ["to be tuned"]
    rate = run_study(config)["tuned_lr"][0]
    table, notes = dry_run(config)
    assert notes[-1] == "tuning of the learning rates: 2 of 2 runs done"
    assert [*table.columns[0].cells] == [str(rate)]
    assert [*table.columns[-1].cells] == ["1 of 1"]
