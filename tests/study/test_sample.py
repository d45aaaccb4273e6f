"""Combinations of a grid that are drawn at random and count as seeds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from spectrum import StudyConfig, compare_points, load_results, run_study
from spectrum.analysis.comparison import compare
from spectrum.analysis.evidence import analyze_study
from spectrum.analysis.folder import load_correct
from spectrum.analysis.statistics import pool_samples_as_seeds

GRID: dict[str, Any] = {
    "lr": [0.001, 0.002, 0.004],
    "weight_decay": [0.0, 0.01],
    "batch_size": [128, 256],
}


def test_a_sample_has_the_same_combinations_at_every_point() -> None:
    whole = StudyConfig(segments="1,4,C", recipe=GRID)
    some = StudyConfig(segments="1,4,C", recipe=GRID, sample=5)
    assert list(some.combinations()) == list(some.combinations())
    assert set(some.combinations()) < set(whole.combinations())
    by_point: dict[str, set[Any]] = {}
    for combination in some.combinations():
        by_point.setdefault(combination.network.segments, set()).add(combination.recipe)
    assert set(by_point) == {"1", "4", "C"}
    assert all(len(recipes) == 5 for recipes in by_point.values())
    assert by_point["1"] == by_point["4"] == by_point["C"]


@pytest.mark.parametrize("sample", [12, 13, None])
def test_a_sample_of_all_is_the_grid(sample: int | None) -> None:
    whole = StudyConfig(segments="1,C", recipe=GRID)
    assert list(StudyConfig(segments="1,C", recipe=GRID, sample=sample).combinations()) == list(
        whole.combinations()
    )


def test_every_value_of_a_large_sample_is_seen() -> None:
    some = StudyConfig(segments="C", recipe=GRID, sample=10)
    assert {c.recipe.lr for c in some.combinations()} == set(GRID["lr"])
    assert {c.recipe.batch_size for c in some.combinations()} == set(GRID["batch_size"])


def test_the_combinations_of_a_sample_count_as_seeds(
    small_study: Callable[..., StudyConfig],
) -> None:
    config = small_study(epochs=1, recipe=GRID, sample=3, seeds=1)
    run_study(config)
    folder = config.out / config.name
    results, correct = load_results(folder), load_correct(folder)
    assert len(results) == 2 * 3
    evidence = compare_points(folder)
    assert evidence["segments"].tolist() == ["1", "C"]
    assert evidence["runs"].tolist() == [3, 3]
    order = ["segments", "lr", "weight_decay", "batch_size", "seed"]
    ids = results.sort_values(order)["run_id"].to_numpy().reshape(2, 3)
    stacked = np.array([[correct[run_id] for run_id in row] for row in ids])
    expected = compare(stacked, ["1", "C"])
    for name in ("test_top1", "difference"):
        np.testing.assert_allclose(evidence[name], expected[name])
    analysis = analyze_study(config.out / config.name)
    assert len(analysis.summary) == 2
    assert analysis.summary["runs"].tolist() == [3, 3]
    assert "3 sampled combinations" in analysis.sentences[0]


def test_pooling_keeps_pairs_together() -> None:
    rows = pd.DataFrame(
        [
            {"segments": s, "lr": lr, "seed": seed, "match": "none", "width": 1.0}
            for s in ("1", "C")
            for lr in (0.1, 0.2)
            for seed in (0, 1)
        ]
    )
    pooled = pool_samples_as_seeds(rows)
    assert "lr" not in pooled
    assert pooled["seed"].tolist() == [0, 1, 2, 3] * 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sample": 0}, "greater than 0"),
        ({"sample": 3}, "sample .=3. needs other fields with several values"),
        (
            {"sample": 2, "recipe": {"lr": [0.1, 0.2]}, "seeds": 2},
            "seeds .=2. must be 1 with sample .=2.: each combination counts as a seed",
        ),
        (
            {"sample": 2, "data": {"split_seed": [0, 1]}},
            "sample .=2. needs one set of test images, not several values of split_seed",
        ),
        (
            {"compare": "rank", "data": {"name": "planted", "rank": [1, 2]}},
            "compare .='rank'. must be one of segments, what varies on the same test images",
        ),
    ],
)
def test_what_cant_be_compared_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        StudyConfig(**fields)


def test_training_images_may_be_compared() -> None:
    StudyConfig(compare="train_images", data={"name": "digits", "train_images": [50, 100]})


def test_a_sampled_study_has_one_seed_unless_told_otherwise() -> None:
    assert StudyConfig(recipe=GRID, sample=2).seeds == 1
    assert StudyConfig(recipe=GRID).seeds == 5
    again = StudyConfig(**StudyConfig(recipe=GRID, sample=2).model_dump())
    assert again.seeds == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": {"name": "planted", "rank": {"a": 1}}}, "rank .={'a': 1}. must be a value or a"),
        ({"recipe": {"lr": [{"a": 1}]}}, "lr .={'a': 1}. must be a value or a list of values"),
        (
            {"network": {"name": {"a": 1}}},
            "network .={'a': 1}. must be a value or a list of values",
        ),
        ({"tune_lr": 2}, "must be true, false or a list of factors"),
        ({"tune_lr": [1e308]}, "less than or equal to 1000"),
        ({"tune_lr": [0.0]}, "greater than or equal to 0.001"),
        ({"data": {"split_seed": 2**32}}, "split_seed .=4294967296. must be less than 4294967296"),
        ({"data": {"name": "planted", "images": 7}}, "images .=7. must be greater than or equal"),
        (
            {"data": {"name": "planted", "images": 10**6, "side": 500}},
            "images .=1000000. of 8 channels and 500x500 pixels must be at most 100, to be held",
        ),
        ({"data": {"name": "planted", "signal": 1e300}}, "signal .=1e.300. must be less than"),
        ({"data": {"name": "planted", "copies": 10**6}}, "copies .=1000000. must be less than"),
        ({"network": {"name": "tiny", "repeats": 10**6}}, "repeats .=1000000. must be less than"),
    ],
)
def test_invalid_fields_are_refused_in_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        StudyConfig(**fields)
