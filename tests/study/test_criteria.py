"""What a study claims, and how surely, is fixed before training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from spectrum import StudyConfig, compare_pairs, compare_points, load_results, run_study
from spectrum.analysis.checksums import write_checksums
from spectrum.analysis.columns import ROW
from spectrum.analysis.evidence import gather_evidence
from spectrum.analysis.folder import LOOKS, RESULTS, STUDY
from spectrum.analysis.sentences import state_evidence
from spectrum.analysis.verdicts import Criteria
from spectrum.errors import DamagedFile, FieldError
from spectrum.study.dry_run import dry_run
from spectrum.study.outputs import _looks, write_rows
from spectrum.study.plan import make_plan
from spectrum.study.results import make_row
from tests.made_up_results import make_answers, make_results, write_made_up_study

__all__ = ["make_results"]

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
    both = {"order": ["spatial_first", "pointwise_first"], "equal_within": 0.5, "against": "C"}
    dry_run(small_study(**both))  # the study may grow
    with pytest.raises(FieldError, match=r"compare \(='order'\) must be 'segments', which was"):
        dry_run(small_study(**{**both, "against": None, "compare": "order"}))
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
    ("content", "looks"),
    [
        ("[2, 4]", [2, 4]),
        ("[4]", [4]),
        ("[2, 6]", [2, 6]),
        ("[2, ", [4]),
        ("[2, -4]", [4]),
        (None, [4]),
    ],
)
@pytest.mark.parametrize("runs", [4, 6])
@pytest.mark.parametrize("checksums", [True, False])
def test_a_look_is_counted_though_the_file_of_looks_is_lost(
    content: str | None, looks: list[int], runs: int, checksums: bool, make_results, tmp_path: Path
) -> None:
    results = make_results({"1": [0.8, 0.9], "C": [0.9, 0.8]})
    write_made_up_study(tmp_path, results, make_answers(results))
    (tmp_path / LOOKS).write_text(content or "[2]")
    if checksums:
        write_checksums(tmp_path, (LOOKS, RESULTS))
    if content is None:
        (tmp_path / LOOKS).unlink()
        if checksums:
            with pytest.raises(DamagedFile, match=r"looks.json is damaged: it is missing"):
                compare_points(tmp_path)
    assert _looks(tmp_path, runs) == (looks if looks[-1] == runs else [*looks, runs])
    (tmp_path / RESULTS).unlink()
    assert _looks(tmp_path, runs) == [runs]


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
        ({"against": ""}, "against (='') must be one of 1, C, the values of segments"),
        ({"against": 1.5}, "against (='1.5') must be one of 1, C, the values of segments"),
        ({"against": "c"}, "against (='c') must be one of 1, C, the values of segments"),
        (
            {"against": "0.1", "compare": "lr", "recipe": {"lr": [0.01, 1]}},
            "against (='0.1') must be one of 0.01, 1.0, the values of lr",
        ),
        (
            {"against": False, "compare": "residual", "network": {"residual": [True, False]}},
            "against (=False) must not be true or false",
        ),
        (
            {"equal_within": "x"},
            "equal_within (='x') must be a valid number, unable to parse string as a number",
        ),
        ({"equal_within": None}, "equal_within (=None) must be a valid number"),
        ({"equal_within": float("inf")}, "equal_within (=inf) must be a finite number"),
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


@pytest.mark.parametrize("bound", [0, 100])
def test_any_margin_of_points_is_allowed(bound: float) -> None:
    assert StudyConfig(equal_within=bound).equal_within == bound
    assert StudyConfig(against=None).against is None


MEASURED = {column.name: "" if column.is_text else 0.5 for column in ROW} | {"threads": 1}
MEASURED["status"] = "done"
VARIED: dict[str, dict[str, Any]] = {
    "segments": {"segments": "1,C/8,entry=C+middle=4+exit=C"},
    "order": {"order": ["spatial_first", None, "pointwise_first"]},
    "activation": {"activation": [None, "relu"]},
    "residual": {"network": {"residual": [True, False]}},
    "hidden": {"network": {"hidden": [[], [8], [8, 4]]}},
    "dropout": {"network": {"dropout": [0, 0.25]}},
    "width": {"width": [1, 0.5]},
    "lr": {"recipe": {"lr": [1, 1e-5, 0.1]}},
    "flip": {"recipe": {"flip": [None, True, False]}},
    "cutout": {"recipe": {"cutout": [0, 4]}},
    "batch_size": {"recipe": {"batch_size": [32, 64]}},
    "recipe": {"recipe": ["small", "imagenet"]},
    "epochs": {"lengths": [1, 2]},
    "train_images": {"data": {"train_images": [None, 500]}},
    "label_noise": {"data": {"label_noise": [0, 0.2]}},
    "precision": {"precision": "float32,bfloat16"},
}


@pytest.mark.parametrize("compare", VARIED)
def test_the_values_that_may_be_named_are_those_that_are_compared(
    compare: str, tmp_path: Path
) -> None:
    fields = {"segments": "C", "match": "none", "compare": compare, **VARIED[compare]}
    config = StudyConfig(**fields)
    made = [
        make_row(config, point, point.run(seed), MEASURED)
        for point in make_plan(config).points
        for seed in (0, 1)
    ]
    write_rows(tmp_path / RESULTS, pd.DataFrame(made))
    results = load_results(tmp_path)
    answers = dict.fromkeys(results["run_id"], np.arange(10) % 2 == 0)
    points = gather_evidence(results, answers.__getitem__, over=compare).pairs
    names = list(dict.fromkeys([*points["point"], *points["other"]]))
    assert len(names) == len({*results[compare]}) > 1
    for name in names:
        against = StudyConfig(**fields, against=name).against
        assert against == name
        criteria = Criteria(against)
        found = gather_evidence(results, answers.__getitem__, over=compare, criteria=criteria)
        assert len(found.pairs) == len(names) - 1
        (text,) = state_evidence(found.points, compare)
        assert text.startswith("Compared with ")
    with pytest.raises(FieldError) as caught:
        StudyConfig.checked({**fields, "against": "another"})
    assert f"must be one of {', '.join(names)}, the values of {compare}" in str(caught.value)


def test_the_dry_run_says_what_can_be_shown(small_study: Make) -> None:
    _, notes = dry_run(small_study(seeds=4))
    assert notes[-1].startswith("power: with 4 seeds and 359 test examples, differences of ")
    assert "one of 1 pair," in notes[-1]
    for fields, pairs in (
        ({"segments": "1,4,8,C"}, "6 pairs"),
        ({"segments": "1,4,8,C", "against": "8"}, "3 pairs"),
        ({"segments": "1,4,8,C", "against": "8", "order": ["own", "pointwise_first"]}, "6 pairs"),
        ({"segments": "1,C", "lengths": [1, 2]}, "2 pairs"),
        ({"segments": "1,C", "lengths": [1, 2], "compare": "epochs"}, "2 pairs"),
    ):
        _, notes = dry_run(small_study(**{"seeds": 4, "name": "another", **fields}))
        assert f"with a chance of 80% for one of {pairs}," in notes[-1]
    sample = {"recipe": {"lr": [0.1, 0.2, 0.4]}, "sample": 3}
    assert dry_run(small_study(name="another", **sample))[1] == []
    _, notes = dry_run(small_study(seeds=1))
    assert notes[-1].endswith("1 seed and 359 test examples nothing can be shown of other seeds")
