"""The expected speed of plans: fitted to what was measured, and native wherever in doubt."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from math import isfinite
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectrum import SegmentedConv
from spectrum.kernels import plan_costs, plan_of
from spectrum.kernels.plan_costs import Shape, speedups
from spectrum.kernels.plans import forget_plans, plan_of_all
from spectrum.layers.spatial import plain_convs

KIND = "AMD AVX512"
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """The script that fits the coefficients."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return import_module("fit_plans")
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_the_coefficients_are_those_of_the_measured_times(benchmark: ModuleType) -> None:
    stored = pd.read_csv(Path(plan_costs.__file__).with_name(plan_costs.COEFFICIENTS))
    fitted = benchmark.coefficient_rows(benchmark.fit(*benchmark.read_times()))
    names = ["cpu", "precision", "layout", "mode", "plan", "term"]
    both = stored.merge(fitted, on=names, how="outer", suffixes=("", "_fitted")).fillna(0.0)
    assert (both["coefficient"] - both["coefficient_fitted"]).abs().max() <= 0.002  # rounding


def test_choices_are_fast_on_layers_that_the_fit_has_not_seen(benchmark: ModuleType) -> None:
    judged = benchmark.validate(*benchmark.read_times())
    assert (judged["slower"] <= 0.07).all()
    assert (judged["chosen"] > 1.1).all()
    assert (judged["chosen"] > 0.93 * judged["fastest"]).all()


@given(
    channels=st.integers(2, 4096),
    size=st.floats(1, 512),
    batch=st.integers(1, 4096),
    kernel=st.sampled_from([3, 5, 7]),
    stride=st.sampled_from([1, 2]),
    threads=st.integers(1, 256),
    width=st.integers(1, 91),
    mode=st.sampled_from(["training", "inference"]),
)
def test_every_shape_has_an_expectation(
    channels: int,
    size: float,
    batch: int,
    kernel: int,
    stride: int,
    threads: int,
    width: int,
    mode: str,
) -> None:
    shape = Shape(channels, size, batch, kernel, stride, threads, width)
    expected = speedups((KIND, "float32", "contiguous", mode), shape)
    assert {*expected} == {"merged8", "merged", "relaid", "kernel"}
    assert all(isfinite(ratio) and ratio > 0 for ratio in expected.values())


def layer(segments: int = 16, **options: object) -> SegmentedConv:
    return SegmentedConv(64, 64, segments=segments, order="spatial_only", **options)  # type: ignore[arg-type]


IMAGES = torch.randn(2, 64, 40, 40)


@pytest.fixture(autouse=True)
def a_measured_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every CPU is of a kind that was measured."""
    monkeypatch.setattr("spectrum.kernels.plans.cpu_kind", lambda: KIND)
    forget_plans()
    yield
    forget_plans()


def test_unmeasured_layers_run_natively(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan_of(layer().spatial, IMAGES) == "kernel"  # type: ignore[arg-type]
    assert plan_of(layer(dilation=2).spatial, IMAGES) == "native"  # type: ignore[arg-type]
    assert plan_of(layer(kernel_size=9).spatial, IMAGES) == "native"  # type: ignore[arg-type]
    assert plan_of(layer(stride=3).spatial, IMAGES) == "native"  # type: ignore[arg-type]
    assert plan_of(layer(kernel_size=(3, 5)).spatial, IMAGES) == "native"  # type: ignore[arg-type]
    monkeypatch.setattr("spectrum.kernels.plans.cpu_kind", lambda: None)
    forget_plans()
    assert plan_of(layer().spatial, IMAGES) == "native"  # type: ignore[arg-type]


def test_uneven_segments_follow_those_with_the_most_channels() -> None:
    def plan(sizes: str) -> str:
        uneven = SegmentedConv(64, 64, segments=sizes, order="spatial_only").spatial
        return plan_of_all(plain_convs(uneven), IMAGES)

    assert plan(":".join(["4"] * 15 + ["2", "2"])) == "kernel"
    assert plan(":".join(["3"] * 21 + ["1"])) == "kernel"  # the last is a convolution of its own
    assert plan("32:16:16") == "native"  # most channels are in one segment


WITHOUT_AVX512 = """
import torch
from spectrum import SegmentedConv
from spectrum.kernels import plan_of
from spectrum.kernels.plan_costs import cpu_kind

layer = SegmentedConv(64, 64, segments=16, order="spatial_only")
print(plan_of(layer.spatial, torch.randn(2, 64, 40, 40)), str(cpu_kind()).split()[-1])
"""


def test_a_cpu_without_avx512_runs_natively() -> None:
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "avx2"}
    command = [sys.executable, "-c", WITHOUT_AVX512]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["native", "AVX2"]
