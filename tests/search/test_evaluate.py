"""Trials judged by shared weights or by a proxy. Finalists are trained alone all the same."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from itertools import combinations
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError
from torch.optim.swa_utils import update_bn

from spectrum import (
    NetworkConfig,
    SearchConfig,
    Supernet,
    build,
    count_costs,
    evaluate,
    load_data,
    load_run,
    run_search,
)
from spectrum.errors import FieldError, first_field_error
from spectrum.runs.config import RunConfig
from spectrum.search import load_trials
from spectrum.search.candidates import Candidates, make_candidates
from spectrum.search.scoring import plan_shared
from spectrum.search.space import make_space
from tests.search.conftest import FIELDS
from tests.search.test_several_labels import CHANGES as SEVERAL_LABELS

SHARED: dict[str, Any] = {
    **FIELDS,
    "evaluate": "shared",
    "segments": "1,4,C",
    "per": "layer",
    "trials": 6,
    "match": "params",
    "budget": 6000,
    "network": "tiny",
    "epochs": 1,
    "shared_epochs": 2,
    "finalists": 1,
    "sampler": "random",
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Candidates:
    """A search on shared weights at an equal budget that is over; leave its files as they are."""
    root = tmp_path_factory.mktemp("shared")
    config = SearchConfig(**SHARED, out=root / "out", runs=root / "runs")
    run_search(config)
    return make_candidates(make_space(config))


def finished_runs(config: SearchConfig) -> dict[str, float]:
    """When each run of a store was finished, by its id."""
    return {path.parent.name: path.stat().st_mtime for path in config.runs.glob("*/result.json")}


def trials_of(config: SearchConfig) -> pd.DataFrame:
    return load_trials(config.out / config.name)


def accuracy_by_hand(network: Supernet, segments: str, width: float, run: RunConfig) -> float:
    """The validation accuracy of a plain network with shared weights."""
    data = load_data(run.data)
    plain = network.extract(segments, width)
    update_bn(data.train.images[: run.recipe.precise_bn].split(256), plain)
    return evaluate(plain.eval(), data.validation).top1


def test_a_trial_is_the_plain_network_with_the_shared_weights(shared: Candidates) -> None:
    _, run = plan_shared(shared)
    network = load_run(shared.config.runs / run.id)
    assert isinstance(network, Supernet)
    trials = trials_of(shared.config)
    assert len(trials) == SHARED["trials"]
    for _, row in trials.iterrows():
        by_hand = accuracy_by_hand(network, row["segments"], row["width"], run)
        assert row["shared_top1"] == pytest.approx(by_hand, abs=0.004)  # an image of 359
        assert row["epochs"] == 2
    assert trials["val_top1"].isna().all()


def test_one_run_trains_the_weights_and_the_finalists_are_trained_alone(shared: Candidates) -> None:
    config = shared.config
    results = pd.read_csv(config.out / config.name / "results.csv", dtype={"segments": str})
    _, run = plan_shared(shared)
    assert finished_runs(config).keys() == {run.id, *results["run_id"]}
    assert set(results["seed"]) == {1}
    assert set(results["epochs"]) == {1}
    best = trials_of(config)["shared_top1"].idxmax()
    assert trials_of(config)["segments"][best] in set(results["segments"])


def test_the_widths_of_all_schedules_are_within_those_that_are_trained(shared: Candidates) -> None:
    _, run = plan_shared(shared)
    assert run.shared is not None
    assert run.shared.widths is not None
    solved = [shared.point(params).network.width for params in shared.space.uniform_points()]
    assert min(run.shared.widths) < min(solved)
    assert max(solved) < max(run.shared.widths)
    for width in run.shared.widths:
        build(NetworkConfig(name="tiny", width=width, segments="1"))


def test_the_widths_are_those_that_the_images_need(
    small_candidates: Callable[..., Candidates],
) -> None:
    """The first layer has the images' 16 channels: fewer, and 4 segments would equal 8 in it."""
    candidates = small_candidates(
        evaluate="shared",
        segments="1,4,8",
        match="params",
        budget=20_000,
        network={"name": "no_stem", "residual": False},
        order="spatial_only",
        data="planted",
    )
    _, run = plan_shared(candidates)
    assert run.shared is not None
    assert run.shared.widths is not None
    solved = [
        candidates.point(params).network.width for params in candidates.space.uniform_points()
    ]
    assert min(run.shared.widths) < min(solved)
    assert max(solved) < max(run.shared.widths)


def test_a_later_call_trains_only_new_finalists(shared: Candidates) -> None:
    before, stored = finished_runs(shared.config), trials_of(shared.config)
    more = shared.config.model_copy(update={"trials": 9})
    run_search(more)
    after = finished_runs(more)
    assert {run_id: after[run_id] for run_id in before} == before
    again = trials_of(more)
    assert len(again) == 9
    pd.testing.assert_frame_equal(again.head(len(stored)), stored)


def test_damaged_shared_weights_are_trained_again(tmp_path: Any) -> None:
    fields = {**SHARED, "shared_epochs": 1, "trials": 4, "seeds": 1}
    config = SearchConfig(**fields, out=tmp_path / "out", runs=tmp_path / "runs")
    run_search(config)
    _, run = plan_shared(make_candidates(make_space(config)))
    weights = config.runs / run.id / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    run_search(config.model_copy(update={"trials": 5}))
    assert weights.read_bytes() == whole


@pytest.mark.parametrize(
    "fields",
    [
        {"network": "tiny", "width": [0.2, 0.3]},
        {"network": {"name": "tiny", "width": ["0.20", 0.3]}},
    ],
    ids=["as a flag", "in the table"],
)
def test_searched_widths_are_those_that_are_trained(
    fields: dict[str, Any], small_candidates: Callable[..., Candidates]
) -> None:
    candidates = small_candidates(evaluate="shared", **fields, per="network")
    _, run = plan_shared(candidates)
    assert run.shared is not None
    assert run.shared.widths == (0.2, 0.3)
    assert {candidates.point(p).network.width for p in candidates.space.all_points()} == {0.2, 0.3}
    alone = small_candidates(evaluate="shared")
    _, run = plan_shared(alone)
    assert run.shared is not None
    assert run.shared.widths is None


def test_the_rule_says_which_networks_a_step_trains(
    small_candidates: Callable[..., Candidates],
) -> None:
    fields = {"evaluate": "shared", "match": "macs", "budget": 200_000, "network": "tiny"}
    shared = {
        rule: plan_shared(small_candidates(**fields, shared_rule=rule))[1].shared
        for rule in ("budget", "sandwich", None)
    }
    at_budget, sandwich = shared["budget"], shared["sandwich"]
    assert at_budget is not None
    assert sandwich is not None
    assert (at_budget.budget, at_budget.match, at_budget.distill) == (200_000, "macs", False)
    assert (sandwich.budget, sandwich.distill) == (None, True)
    assert shared[None] == at_budget
    without = plan_shared(small_candidates(evaluate="shared"))[1].shared
    assert without is not None
    assert (without.budget, without.distill) == (None, True)


def test_the_page_says_how_far_shared_weights_order_the_finalists(
    small_search: Callable[..., SearchConfig],
) -> None:
    recipe = {"batch_size": 32}  # small enough for accuracies that differ
    config = small_search(evaluate="shared", finalists=3, epochs=1, recipe=recipe)
    found = run_search(config)
    scored = found.trials[["segments", "shared_top1"]]
    finalists = found.results.merge(scored, on="segments")
    pairs = [*combinations(zip(finalists["shared_top1"], finalists["val_top1"], strict=True), 2)]
    assert len(pairs) >= 3
    same = sum((a[0] < b[0] and a[1] < b[1]) or (a[0] > b[0] and a[1] > b[1]) for a, b in pairs)
    tau = finalists["shared_top1"].corr(finalists["val_top1"], method="kendall")
    said = found.sentences[-1]
    assert said.startswith(
        f"Shared weights put {same} of {len(pairs)} pairs of the points trained alone in the same "
        f"order (Kendall's tau {tau:.2f})."
    )
    assert ("don't trust" in said) == (tau < 0)
    assert said in unescape((config.out / config.name / "report.html").read_text())


@pytest.mark.parametrize("cost", ["params", "macs"])
def test_a_count_judges_trials(cost: str, small_search: Callable[..., SearchConfig]) -> None:
    config = small_search(evaluate=f"proxy:{cost}", trials=8, finalists=1, epochs=1)
    found = run_search(config)
    trials, column = found.trials, f"proxy_{cost}"
    for _, row in trials.iterrows():
        network = NetworkConfig(
            name="tiny", width=0.2, num_classes=10, in_channels=1, segments=row["segments"]
        )
        assert row[column] == getattr(count_costs(build(network), (1, 8, 8)), cost)
    assert trials["run_id"].nunique() == 8
    assert finished_runs(config).keys() == {*found.results["run_id"]}
    largest = trials["segments"][trials[column].idxmax()]
    assert largest in set(found.results["segments"])
    assert f"the number of {'MACs' if cost == 'macs' else 'parameters'} chose" in found.sentences[1]


def test_a_few_epochs_judge_trials(small_search: Callable[..., SearchConfig]) -> None:
    config = small_search(evaluate="proxy:epochs=1", trials=3, finalists=1)
    found = run_search(config)
    assert set(found.trials["epochs"]) == {1}
    assert set(found.results["epochs"]) == {2}
    assert "one seed after 1 epoch chose" in found.sentences[1]
    network = load_run(config.runs / found.trials["run_id"][0])
    accuracy = evaluate(network, load_data("digits").validation).top1
    assert found.trials["val_top1"][0] == accuracy


def test_limits_and_goals_hold_for_shared_weights(
    small_search: Callable[..., SearchConfig],
) -> None:
    free = small_search()
    limit = make_candidates(make_space(free)).point({"entry": "1", "middle": "C", "exit": "C"})
    config = small_search(
        evaluate="shared", minimize="macs", max_params=limit.params, trials=5, sampler="nsga2"
    )
    trials = run_search(config).trials
    assert (trials["params"] <= limit.params).all()
    front = pd.read_csv(config.out / config.name / "front.csv")
    assert front["macs"].is_monotonic_increasing
    assert front["shared_top1"].is_monotonic_increasing


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"evaluate": "fast"}, "evaluate (='fast') must be one of alone, shared, proxy:params"),
    ({"evaluate": "proxy:epochs=0"}, "evaluate (='proxy:epochs=0') must be one of alone"),
    ({"evaluate": "proxy:epochs=2"}, "evaluate (='proxy:epochs=2') must have fewer epochs than"),
    ({"shared_epochs": 3}, "shared_epochs (=3) must not be given with evaluate (='alone')"),
    ({"shared_rule": "budget"}, "shared_rule (='budget') must not be given with evaluate"),
    (
        {"evaluate": "shared", "shared_rule": "budget", "match": "none"},
        "shared_rule (='budget') must be sandwich with match (='none')",
    ),
    (
        {"evaluate": "shared", "shared_rule": "fair"},
        "shared_rule (='fair') must be 'budget' or 'sandwich'",
    ),
    ({"evaluate": "shared", "shared_epochs": 0}, "shared_epochs (=0) must be greater than 0"),
    ({"evaluate": "shared", "trial_seeds": 2}, "trial_seeds (=2) must be 1 with evaluate"),
    ({"evaluate": "proxy:macs", "pruner": "median"}, "pruner (='median') must be none with"),
    (
        {"evaluate": "proxy:params", "match": "params", "network": "tiny"},
        "evaluate (='proxy:params') must be another proxy where params is equal or a goal",
    ),
    (
        {"evaluate": "proxy:macs", "minimize": "macs"},
        "evaluate (='proxy:macs') must be another proxy where macs is equal or a goal",
    ),
    (
        {"evaluate": "shared", "match": "latency", "network": "tiny"},
        "match (='latency') must be params, macs or none with evaluate (='shared')",
    ),
    (
        {"evaluate": "shared", "order": ["spatial_first", "pointwise_first"]},
        "order (=spatial_first,pointwise_first) must be one value with evaluate (='shared')",
    ),
    (
        {"evaluate": "shared", "recipe": {"lr": [0.1, 0.2]}},
        "recipe.lr (=0.1,0.2) must be one value with evaluate (='shared')",
    ),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_judged_so_is_refused(
    fields: dict[str, Any], message: str, small_search: Callable[..., SearchConfig]
) -> None:
    with pytest.raises(ValidationError) as raised:
        small_search(**fields)
    assert str(first_field_error(raised.value)).startswith(message)


def test_images_with_several_labels_are_refused(
    small_search: Callable[..., SearchConfig],
) -> None:
    config = small_search(evaluate="shared", **SEVERAL_LABELS)
    with pytest.raises(FieldError, match="must have one class per image with evaluate"):
        run_search(config)
    assert not finished_runs(config)
