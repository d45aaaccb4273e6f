"""Plans measured on this machine are kept on disk and taken."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from spectrum import SegmentedConv
from spectrum.layers import plan_of
from spectrum.layers.tune import time_plans, tune
from spectrum.layers.tuned import _kept, forget_plans, keep_plan


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _kept.cache_clear()
    yield tmp_path / "spectrum"
    _kept.cache_clear()


LAYER = SegmentedConv(24, 24, segments=6, order="spatial_only")
CONV = LAYER.spatial
X = torch.randn(2, 24, 9, 9)


def test_the_fastest_is_kept_and_taken(cache_folder: Path) -> None:
    fastest = tune(CONV, X, seconds=0)  # type: ignore[arg-type]
    kept = json.loads((cache_folder / "plans.json").read_text())
    assert list(kept.values()) == [fastest]
    _kept.cache_clear()  # as in another process
    assert plan_of(CONV, X) == fastest  # type: ignore[arg-type]
    assert CONV.weight.grad is None
    for other in ("merged", "relaid", "native", "kernel"):
        keep_plan(CONV, X, other)  # type: ignore[arg-type]
        assert plan_of(CONV, X) == other  # type: ignore[arg-type]
    assert plan_of(CONV, X[:1]) != "relaid"  # type: ignore[arg-type]  # of another shape
    forget_plans()
    assert not (cache_folder / "plans.json").exists()


def test_every_plan_that_can_be_is_timed() -> None:
    assert set(time_plans(CONV, X, seconds=0)) == {"native", "merged", "relaid", "kernel"}  # type: ignore[arg-type]
    strided = SegmentedConv(24, 24, segments=6, order="spatial_only", stride=2).spatial
    assert set(time_plans(strided, X, seconds=0)) == {"native", "merged", "relaid"}  # type: ignore[arg-type]


@pytest.mark.parametrize("content", ["", "[]", '{"half', '{"a": "nonsense"}'])
def test_a_damaged_file_is_no_plan(cache_folder: Path, content: str) -> None:
    expected = plan_of(CONV, X)  # type: ignore[arg-type]
    cache_folder.mkdir()
    (cache_folder / "plans.json").write_text(content)
    _kept.cache_clear()
    assert plan_of(CONV, X) == expected  # type: ignore[arg-type]
    keep_plan(CONV, X, "nonsense")  # type: ignore[arg-type]
    assert plan_of(CONV, X) == expected  # type: ignore[arg-type]
