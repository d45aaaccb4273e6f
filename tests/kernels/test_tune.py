"""Plans measured on this machine are stored on disk and used."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectrum import SegmentedConv
from spectrum.kernels import PLANS, plan_of
from spectrum.kernels.plans import forget_plans, save_tuned_plan
from spectrum.kernels.stored_plans import stored_plans
from spectrum.kernels.tune import time_plans, tune
from tests.damage import damaged


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forget_plans()
    yield tmp_path / "spectrum"
    forget_plans()


LAYER = SegmentedConv(24, 24, segments=6, order="spatial_only")
CONV = LAYER.spatial
X = torch.randn(2, 24, 9, 9)


def test_the_fastest_plan_is_stored_and_used(cache_folder: Path) -> None:
    fastest = tune(CONV, X, seconds=0)  # type: ignore[arg-type]
    assert list(stored_plans().values()) == [fastest]
    forget_plans()  # as in another process
    assert plan_of(CONV, X) == fastest  # type: ignore[arg-type]
    assert CONV.weight.grad is None
    for other in ("merged", "relaid", "native", "merged32", "kernel"):
        save_tuned_plan(CONV, X, other)  # type: ignore[arg-type]
        assert plan_of(CONV, X) == other  # type: ignore[arg-type]
    assert plan_of(CONV, X[:1]) != "relaid"  # type: ignore[arg-type]  # another shape


def test_inference_has_a_plan_of_its_own(cache_folder: Path) -> None:
    with torch.no_grad():
        expected = plan_of(CONV, X)  # type: ignore[arg-type]
    save_tuned_plan(CONV, X, "relaid")  # type: ignore[arg-type]
    with torch.no_grad():
        assert plan_of(CONV, X) == expected  # type: ignore[arg-type]
    fastest = tune(CONV, X, seconds=0, forward_only=True)  # type: ignore[arg-type]
    assert plan_of(CONV, X) == "relaid"  # type: ignore[arg-type]
    with torch.no_grad():
        assert plan_of(CONV, X) == fastest  # type: ignore[arg-type]


def test_every_possible_plan_is_timed() -> None:
    assert set(time_plans(CONV, X, seconds=0)) == {*PLANS}  # type: ignore[arg-type]
    strided = SegmentedConv(24, 24, segments=6, order="spatial_only", stride=2).spatial
    assert set(time_plans(strided, X, seconds=0)) == {*PLANS} - {"kernel"}  # type: ignore[arg-type]


@given(st.data())
def test_damage_to_the_stored_plans_changes_only_time(
    cache_folder: Path, data: st.DataObject
) -> None:
    (cache_folder / "plans.json").unlink(missing_ok=True)  # of the example before
    forget_plans()
    expected = plan_of(CONV, X)  # type: ignore[arg-type]
    for plan, x in (("merged", X), ("relaid", X[:1])):
        save_tuned_plan(CONV, x, plan)  # type: ignore[arg-type]
    with damaged(data, cache_folder / "plans.json"):
        forget_plans()
        assert plan_of(CONV, X) in (expected, "merged")  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [{"a": "fast"}, {"a": None}, {"a": ["native"]}])
def test_foreign_plans_are_ignored_with_one_line(
    cache_folder: Path, content: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    expected = plan_of(CONV, X)  # type: ignore[arg-type]
    cache_folder.mkdir()
    path = cache_folder / "plans.json"
    path.write_text(json.dumps(content))
    forget_plans()
    for _ in range(2):
        assert plan_of(CONV, X) == expected  # type: ignore[arg-type]
    (line,) = caplog.messages
    assert str(path) in line
    assert "\n" not in line
    save_tuned_plan(CONV, X, "relaid")
    assert plan_of(CONV, X) == "relaid"  # type: ignore[arg-type]


def test_plans_that_were_stored_without_a_checksum_are_used(cache_folder: Path) -> None:
    save_tuned_plan(CONV, X, "relaid")
    path = cache_folder / "plans.json"
    plans = json.loads(path.read_text())
    del plans["sha256"]
    path.write_text(json.dumps(plans))
    forget_plans()
    assert plan_of(CONV, X) == "relaid"  # type: ignore[arg-type]
