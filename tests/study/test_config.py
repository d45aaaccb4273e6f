"""The grid of a study: its combinations, samples of them, and what can be compared."""

from __future__ import annotations

import random
from typing import Any

import pytest

from spectrum import DataConfig, Recipe, StudyConfig

GRID: dict[str, Any] = {
    "lr": [0.001, 0.002, 0.004],
    "weight_decay": [0.0, 0.01],
    "batch_size": [128, 256],
}


def test_a_grid_has_every_combination() -> None:
    config = StudyConfig(
        segments=[1, {"entry": "C", "middle": 4, "exit": "C"}],
        order="spatial_first,pointwise_first",
        network={"hidden": [[], [8, 4]], "dropout": 0.1},
        recipe={"lr": [0.1, 0.2]},
    )
    combinations = list(config.combinations())
    assert len(combinations) == len(set(combinations)) == 2 * 2 * 2 * 2
    assert {c.network.segments for c in combinations} == {"1", "entry=C+middle=4+exit=C"}
    assert {c.network.hidden for c in combinations} == {(), (8, 4)}
    assert {c.network.dropout for c in combinations} == {0.1}
    assert [field for _, field in config.varied_axes()] == ["hidden", "lr", "order", "segments"]


def test_both_dials_make_a_grid() -> None:
    config = StudyConfig(segments="1,C", pointwise_segments="1,4,04,C/8", shuffle=True)
    assert config.pointwise_segments == ("1", "4", "C/8")
    combinations = list(config.combinations())
    assert [(c.network.pointwise_segments, c.network.segments) for c in combinations] == [
        (pointwise, segments) for pointwise in ("1", "4", "C/8") for segments in ("1", "C")
    ]
    assert [c.network.shuffle for c in combinations] == [False] * 2 + [True] * 4
    assert [field for _, field in config.varied_axes()] == ["pointwise_segments", "segments"]
    # Without segments there is nothing to shuffle, so that point is one.
    both = StudyConfig(segments="C", pointwise_segments=[1, 4], shuffle=[False, True])
    assert len(list(both.combinations())) == 3
    assert list(StudyConfig(pointwise_segments=None).combinations()) == [
        *StudyConfig(pointwise_segments=1).combinations()
    ]
    over = StudyConfig(pointwise_segments="1,4", compare="pointwise_segments", against=" 4")
    assert over.against == "4"


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"pointwise_segments": "1,,4"}, "pointwise_segments .* before and after every comma"),
        ({"pointwise_segments": "0"}, r"pointwise_segments \(='0'\) must be a whole number"),
        ({"pointwise_segments": []}, r"pointwise_segments \(=\[\]\) must be"),
        ({"shuffle": ["yes", "maybe"]}, "(?s)shuffle.*valid boolean"),
        (
            {"pointwise_segments": "4", "network": {"pointwise_segments": [2]}},
            "pointwise_segments .* must not be given in the table 'network' as well",
        ),
        ({"network": "resnet50", "pointwise_segments": "4"}, "pointwise_segments .* doesn't take"),
    ],
)
def test_bad_segments_of_the_1x1_are_refused(fields: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        StudyConfig(**fields)


def test_a_value_given_twice_is_one() -> None:
    config = StudyConfig(
        segments="C,C",
        order="spatial_first,spatial_first",
        epochs=[1, 1],
        precision="float32,float32",
        network={"dropout": [0, 0.0], "hidden": [[8], [8]]},
    )
    assert len(list(config.combinations())) == 1
    assert config.varied_axes() == []


def test_lists_and_configurations_may_stand_for_tables() -> None:
    config = StudyConfig(
        network=["tiny", "small"],
        data=DataConfig(split_seed=3),
        recipe=Recipe(lr=0.5),
        activation=[None, "elu"],
    )
    combinations = list(config.combinations())
    assert [c.network.name for c in combinations] == ["tiny"] * 8 + ["small"] * 8
    assert {c.data.split_seed for c in combinations} == {3}
    assert {c.recipe.lr for c in combinations} == {0.5}
    assert {c.network.activation for c in combinations} == {None, "elu"}
    assert StudyConfig.model_validate_json(config.model_dump_json()) == config


def test_a_sample_has_the_same_combinations_at_every_point() -> None:
    whole = StudyConfig(segments="1,4,C", recipe=GRID)
    some = StudyConfig(segments="1,4,C", recipe=GRID, sample=10)
    assert list(some.combinations()) == list(some.combinations())
    assert set(some.combinations()) < set(whole.combinations())
    by_point: dict[str, set[Recipe]] = {}
    for combination in some.combinations():
        by_point.setdefault(combination.network.segments, set()).add(combination.recipe)
    first, *others = by_point.values()
    assert [*by_point] == ["1", "4", "C"]
    assert others == [first, first]
    assert len(first) == 10
    assert {recipe.lr for recipe in first} == {*GRID["lr"]}
    assert {recipe.batch_size for recipe in first} == {*GRID["batch_size"]}
    for all_of_them in (12, 13):
        again = StudyConfig(segments="1,4,C", recipe=GRID, sample=all_of_them)
        assert list(again.combinations()) == list(whole.combinations())


@pytest.mark.parametrize("sample", range(1, 13))
def test_a_sample_is_drawn_as_from_a_list(sample: int) -> None:
    config = StudyConfig(segments="C", recipe=GRID, sample=sample)
    whole = [*StudyConfig(segments="C", recipe=GRID).combinations()]
    drawn = sorted(random.Random(0).sample(range(len(whole)), sample))
    assert [*config.combinations()] == [whole[i] for i in drawn]


def test_a_sampled_study_has_one_seed_unless_told_otherwise() -> None:
    sampled = StudyConfig(recipe=GRID, sample=2)
    assert sampled.seeds == StudyConfig(**sampled.model_dump()).seeds == 1
    assert StudyConfig(recipe=GRID).seeds == 5


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"network": "tiny,small"}, "segments, network"),
        ({"order": "spatial_first,spatial_only"}, "segments, order"),
        (
            {"recipe": {"lr": [0.1, 0.2]}, "precision": "float32,bfloat16"},
            "segments, lr, precision",
        ),
        # Accuracies on other test images can't be compared, on fewer training images they can.
        ({"data": "digits,planted", "recipe": "small,jft"}, "segments, recipe"),
        ({"data": {"name": "planted", "rank": [1, 2]}}, "segments"),
        ({"data": {"train_images": [50, 100]}}, "segments, train_images"),
    ],
    ids=str,
)
def test_what_varies_on_the_same_test_images_can_be_compared(
    fields: dict[str, Any], allowed: str
) -> None:
    for name in allowed.split(", "):
        assert StudyConfig(**fields, compare=name).compare == name
    with pytest.raises(
        ValueError, match=rf"compare \(='width'\) must be one of {allowed}, what varies on the same"
    ):
        StudyConfig(**fields, compare="width")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sample": 3}, "sample .=3. needs other fields with several values"),
        ({"max_macs": 100}, "max_macs .=100. needs sample, which is drawn within"),
        ({"sample_seed": 2}, "sample_seed .=2. needs sample, which it draws"),
        (
            {"sample": 2, "order": ["spatial_first", "pointwise_first"], "compare": "order"},
            "compare .='order'. must be segments with sample .=2., which draws all other fields",
        ),
        (
            {"sample": 2, "recipe": {"lr": [0.1, 0.2]}, "min_params": 9, "max_params": 8},
            "min_params .=9. must be at most max_params .=8.",
        ),
        (
            {"sample": 2, "recipe": {"lr": [0.1, 0.2]}, "seeds": 2},
            "seeds .=2. must be 1 with sample .=2.: each combination counts as a seed",
        ),
        (
            {"sample": 2, "data": {"split_seed": [0, 1]}},
            "sample .=2. needs one set of test images, not several values of split_seed",
        ),
        ({"resplit": True, "seeds": 1}, "resplit .=True. needs at least 2 seeds, which draw their"),
        (
            {"data": {"resplit": True}, "seeds": 1},
            "resplit .=True. needs at least 2 seeds, which draw their own images",
        ),
        (
            {"resplit": True, "sample": 2, "recipe": {"lr": [0.1, 0.2, 0.3]}},
            "resplit .=True. must not be given with sample .=2., whose runs have one seed",
        ),
        ({"resplit": [True, False]}, "resplit .=True,False. must be one value: images are drawn"),
        ({"resplit": True, "data": {"resplit": True}}, "resplit .=True. must not be given in the"),
        ({"data": {"resplit": "yes"}}, "resplit .='yes'. must be a valid boolean"),
        (
            {"network": {"name": "a.b:c"}, "activation": "relu"},
            r"activation .='relu'. must not be given for a\.b:c",
        ),
    ],
)
def test_fields_that_do_not_fit_each_other_are_refused(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        StudyConfig(**fields)


def test_the_second_dial_is_given_in_the_table_as_outside_it() -> None:
    flows = {"entry": 1, "middle": 2, "exit": "C"}
    for given in (flows, [1, flows], "1,2,C/4", 4):
        outside = StudyConfig(segments="1,C", pointwise_segments=given)
        table = {"name": "tiny", "pointwise_segments": given}
        inside = StudyConfig(segments="1,C", network=table)
        assert [*inside.combinations()] == [*outside.combinations()]
