"""Studies that train each point for several lengths: multiples of the epochs."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectrum import Recipe, StudyConfig, compare_points, run_study, training_gains
from spectrum.errors import FieldError
from spectrum.runs.store import Store
from spectrum.study.dry_run import dry_run
from spectrum.study.plan import make_plan

BASES: dict[str, dict[str, Any]] = {
    "default": {},
    "field": {"epochs": 20},
    "table": {"recipe": {"epochs": [30]}},
    "several": {"epochs": [10, 20]},
    "several of the table": {"recipe": {"epochs": [10, 30], "lr": [0.1, 0.2]}},
    "recipes": {"recipe": "small,jft"},
    "a recipe and a field": {"recipe": "jft", "epochs": 5},
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("lengths", ["1", "2", "1,2,4", (0.2, 1), [3, 0.4, 1]], ids=str)
def test_the_epochs_are_multiples_of_the_base(base: str, lengths: Any) -> None:
    plain, config = StudyConfig(**BASES[base]), StudyConfig(**BASES[base], lengths=lengths)
    factors = lengths.split(",") if isinstance(lengths, str) else map(str, lengths)
    expected = {
        combination._replace(
            recipe=Recipe(
                **combination.recipe.model_dump(exclude_unset=True)
                | {"epochs": int(Fraction(factor) * combination.recipe.epochs)}
            )
        )
        for factor in factors
        for combination in plain.combinations()
    }
    found = list(config.combinations())
    assert len(found) == len(set(found))  # a length that two bases share is one
    assert set(found) == expected
    epochs = {combination.recipe.epochs for combination in found}
    if len(config.lengths) > 1:
        assert config.varied_axes().count(("recipe", "epochs")) == 1
        assert len(epochs) > 1
        assert StudyConfig(**BASES[base], lengths=lengths, compare="epochs").compare == "epochs"
    assert StudyConfig.model_validate_json(config.model_dump_json()) == config


@given(st.integers(1, 1000), st.decimals("0.001", "5", places=3))
def test_a_length_gives_whole_epochs_or_is_refused(epochs: int, length: Any) -> None:
    exact = Fraction(length) * epochs
    fields = {"segments": "C", "epochs": epochs, "lengths": float(length)}
    if exact.denominator == 1:
        (found,) = StudyConfig.checked(fields).combinations()
        assert found.recipe.epochs == exact
        return
    with pytest.raises(FieldError, match=r"\Alengths \(=.*\) must give whole numbers of epochs, "):
        StudyConfig.checked(fields)


@pytest.mark.parametrize("lengths", ["0", "1,0", [-1], "nan", "inf", "-inf", "x", "", "1,", "1;2"])
def test_what_is_no_multiple_is_refused(lengths: Any) -> None:
    message = r"\Alengths \(=[^\n]*\) must be (greater than 0|a finite number|a valid number)"
    with pytest.raises(FieldError, match=message):
        StudyConfig.checked({"lengths": lengths})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lengths": []}, "must be one or more different multiples of the epochs"),
        ({"lengths": "1,2,1"}, "must be one or more different multiples of the epochs"),
        ({"lengths": [2, 2.0]}, "must be one or more different multiples of the epochs"),
        ({"lengths": True}, "must not be true or false"),
        ({"lengths": [1, True]}, "must not be true or false"),
        ({"lengths": [1, 1e6]}, "must be others: epochs .=10000000. must be less than or equal"),
        ({"lengths": [1e300]}, "must be others: epochs .=1000.* must be less than or equal"),
        (
            {"lengths": "1,2", "sample": 2, "recipe": {"lr": [0.1, 0.2, 0.3]}},
            "must be one with sample .=2.: each combination counts as a seed",
        ),
    ],
    ids=str,
)
def test_lengths_that_do_not_fit_are_refused_in_one_line(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(FieldError, match=rf"\Alengths \(=[^\n]*\) {message}[^\n]*\Z"):
        StudyConfig.checked(fields)


def test_a_sample_may_have_one_length() -> None:
    sampled = StudyConfig(recipe={"lr": [0.1, 0.2, 0.3]}, sample=2, lengths=2)
    assert {combination.recipe.epochs for combination in sampled.combinations()} == {20}


def test_lengths_count_as_runs() -> None:
    with pytest.raises(ValueError, match=r"seeds \(='50,000 values'\) must be fewer: .* lengths"):
        StudyConfig(segments=range(1, 11), lengths=[1, 2, 3], seeds=50_000)


def test_a_longer_study_trains_only_the_further_lengths(
    small_study: Callable[..., StudyConfig],
    with_figures: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields = {"epochs": 3, "data": {"train_images": 200}}
    plain, longer = small_study(**fields), small_study(**fields, lengths="1,2")
    twice = small_study(**fields | {"epochs": 6})
    ids, further, all_ids = (
        {run.id for _, run in make_plan(config).runs()} for config in (plain, twice, longer)
    )
    assert all_ids == ids | further
    assert len(all_ids) == 4
    monkeypatch.setattr("spectrum.study.outputs.study_figures", lambda *_, **__: {})
    before = run_study(plain).set_index("run_id")
    table, _ = dry_run(longer)
    assert [column.header for column in table.columns][:2] == ["epochs", "segments"]
    assert [*table.columns[-1].cells] == ["1 of 1", "1 of 1", "0 of 1", "0 of 1"]
    results = run_study(longer)  # the same study, which has grown
    assert set(results["run_id"]) == all_ids
    again = results.set_index("run_id").loc[before.index]
    assert again["train_seconds"].tolist() == before["train_seconds"].tolist()
    assert results.groupby("epochs")["run_id"].agg(set).to_dict() == {3: ids, 6: further}

    folder = longer.out / longer.name
    evidence = compare_points(folder)
    assert evidence["epochs"].tolist() == [3, 3, 6, 6]
    gained = training_gains(folder)
    assert gained["epochs"].tolist() == [3, 3, 6, 6]
    assert gained["runs"].tolist() == [1] * 4
    store = Store(longer.runs)
    for _, row in gained.iterrows():
        (run_id,) = results.merge(row.to_frame().T[["epochs", "segments"]])["run_id"]
        curve = [line["val_top1"] for line in store.curve(run_id)]
        assert row["gain"] == pytest.approx(curve[-1] - curve[2 * len(curve) // 3 - 1], abs=1e-5)
    assert "last third" in (folder / "report.html").read_text()


def test_a_learning_rate_is_tuned_at_each_length(small_study: Callable[..., StudyConfig]) -> None:
    config = small_study(
        segments="C",
        epochs=1,
        lengths=[1, 2],
        tune_lr=[0.5, 1.0],
        data={"train_images": 100},
    )
    results = run_study(config)
    assert results["epochs"].tolist() == [1, 2]
    assert set(results["tuned_lr"]) <= {0.002, 0.004}
    tuning = (config.out / config.name / "tuning.csv").read_text().splitlines()
    assert tuning[0].startswith("epochs,segments,lr,")
    assert [line.split(",")[0] for line in tuning[1:]] == ["1", "1", "2", "2"]
