"""Plans measured on this machine are stored on disk and used."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from spectrum import SegmentedConv
from spectrum.kernels import plan_of
from spectrum.kernels.plans import _tuned_plans, save_tuned_plan
from spectrum.kernels.tune import time_plans, tune


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _tuned_plans.cache_clear()
    yield tmp_path / "spectrum"
    _tuned_plans.cache_clear()


LAYER = SegmentedConv(24, 24, segments=6, order="spatial_only")
CONV = LAYER.spatial
X = torch.randn(2, 24, 9, 9)


def test_the_fastest_plan_is_stored_and_used(cache_folder: Path) -> None:
    fastest = tune(CONV, X, seconds=0)  # type: ignore[arg-type]
    stored = json.loads((cache_folder / "plans.json").read_text())
    assert list(stored.values()) == [fastest]
    _tuned_plans.cache_clear()  # as in another process
    assert plan_of(CONV, X) == fastest  # type: ignore[arg-type]
    assert CONV.weight.grad is None
    for other in ("merged", "relaid", "native", "kernel"):
        save_tuned_plan(CONV, X, other)  # type: ignore[arg-type]
        assert plan_of(CONV, X) == other  # type: ignore[arg-type]
    assert plan_of(CONV, X[:1]) != "relaid"  # type: ignore[arg-type]  # another shape


def test_every_possible_plan_is_timed() -> None:
    assert set(time_plans(CONV, X, seconds=0)) == {"native", "merged", "relaid", "kernel"}  # type: ignore[arg-type]
    strided = SegmentedConv(24, 24, segments=6, order="spatial_only", stride=2).spatial
    assert set(time_plans(strided, X, seconds=0)) == {"native", "merged", "relaid"}  # type: ignore[arg-type]


@pytest.mark.parametrize("content", ["", "[]", '{"half', '{"a": "nonsense"}'])
def test_a_damaged_file_is_ignored(cache_folder: Path, content: str) -> None:
    expected = plan_of(CONV, X)  # type: ignore[arg-type]
    cache_folder.mkdir()
    (cache_folder / "plans.json").write_text(content)
    _tuned_plans.cache_clear()
    assert plan_of(CONV, X) == expected  # type: ignore[arg-type]
    save_tuned_plan(CONV, X, "nonsense")  # type: ignore[arg-type]
    assert plan_of(CONV, X) == expected  # type: ignore[arg-type]
