"""What a study claims, and how surely, is fixed before training."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from spectrum import StudyConfig, compare_pairs, compare_points, run_study
from spectrum.analysis.folder import LOOKS, STUDY
from spectrum.errors import DamagedFile, FieldError
from spectrum.study.study import dry_run

Make = Callable[..., StudyConfig]


def test_it_is_written_before_anything_is_trained(
    small_study: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_study(equal_within=0.5, against="C")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("spectrum.study.study.execute_runs", stop)
    with pytest.raises(KeyboardInterrupt):
        run_study(config)
    path = config.out / config.name / STUDY
    fields = json.loads(path.read_text())
    assert (fields["equal_within"], fields["against"]) == (0.5, "C")
    for changed, allowed in (
        (
            {"equal_within": 2},
            r"equal_within \(=2.0\) must be 0.5, which was fixed before training",
        ),
        ({"against": "1"}, r"against \(='1'\) must be 'C', which was fixed before training"),
    ):
        other = small_study(**{"equal_within": 0.5, "against": "C", **changed})
        for work in (run_study, dry_run):
            with pytest.raises(FieldError, match=allowed):
                work(other)
    assert json.loads(path.read_text()) == fields
    # Without results, the folder is free for another study.
    with pytest.raises(KeyboardInterrupt):
        run_study(small_study(epochs=1, equal_within=3))
    assert json.loads(path.read_text())["equal_within"] == 3


def test_each_look_at_a_study_that_grows_spends_less(small_study: Make) -> None:
    config = small_study(seeds=2, epochs=1, equal_within=0.5)
    folder = config.out / config.name
    for seeds, looks in ((2, [4]), (2, [4]), (3, [4, 6])):
        run_study(small_study(seeds=seeds, epochs=1, equal_within=0.5))
        assert json.loads((folder / LOOKS).read_text()) == looks
        points = compare_points(folder)
        assert points["look"].tolist() == [len(looks)] * 2
        assert points["equal_within"].tolist() == [0.5] * 2
    (row,) = compare_pairs(folder).to_dict("records")
    assert (row["point"], row["other"]) == tuple(points["segments"])
    assert row["verdict"] == points["verdict"][0]
    for content in ("[0]", "{}", "[4, ", '["x"]'):
        (folder / LOOKS).write_text(content)
        with pytest.raises(DamagedFile) as caught:
            compare_points(folder)
        assert LOOKS in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"against": "16"}, "against (='16') must be one of 1, C, the values of segments"),
        ({"against": "?"}, "against (='?') must be one of 1, C, the values of segments"),
        (
            {"against": 3, "compare": "order", "order": ["spatial_first", "pointwise_first"]},
            "against (='3') must be one of spatial_first, pointwise_first, the values of order",
        ),
        ({"against": True}, "against (=True) must not be true or false"),
        ({"equal_within": -0.1}, "equal_within (=-0.1) must be greater than or equal to 0"),
        ({"equal_within": 100.5}, "equal_within (=100.5) must be less than or equal to 100"),
        ({"equal_within": float("nan")}, "equal_within (=nan) must be a finite number"),
    ],
)
def test_bad_criteria_are_one_line(fields: dict[str, object], line: str) -> None:
    with pytest.raises(FieldError) as caught:
        StudyConfig.checked({"segments": "1,C", **fields})
    assert str(caught.value) == line


def test_a_reference_is_named_as_its_values_are() -> None:
    assert StudyConfig(segments="1,C/8,C", against=1).against == "1"
    assert StudyConfig(segments="1,C/8,C", against="C/8").against == "C/8"
    rates = StudyConfig(recipe={"lr": [1, 0.5]}, compare="lr", against=1.0)
    assert rates.against == "1.0"
    hidden = StudyConfig(network={"hidden": [[], [8]]}, compare="hidden", against="none")
    assert hidden.against == "none"


def test_the_dry_run_says_what_can_be_shown(small_study: Make) -> None:
    _, notes = dry_run(small_study(seeds=4))
    assert notes[-1].startswith("power: with 4 seeds and 359 test examples, differences of ")
    assert "one of 1 pair," in notes[-1]
    _, notes = dry_run(small_study(seeds=1))
    assert notes[-1].endswith("1 seed and 359 test examples nothing can be shown of other seeds")
