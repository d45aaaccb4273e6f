"""Where a kernel can't be compiled torch's operators run, whichever pass needs it."""

import copy
import itertools
import logging
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from spectrum import SegmentedConv
from spectrum.kernels import (
    PLANS,
    availability,
    compiled,
    eligibility,
    normalize,
    plan_of,
    tiles,
    time_plans,
)
from spectrum.kernels.plan_costs import INTEL
from spectrum.kernels.plans import forget_plans, using_plan
from spectrum.layers import BatchNormReLU

ERRORS = [ImportError("no LLVM"), TypeError("two\nlines"), MemoryError(), OSError(28, "full")]


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(availability, "_failures", [])
    _forget()
    yield
    _forget()  # what failed here must not fail in the tests that follow


def _forget() -> None:
    forget_plans()
    eligibility._can_import.cache_clear()
    for compile_one in (
        compiled.compile_kernel,
        tiles.compile_conv_tile,
        tiles.compile_gradient_tile,
    ):
        compile_one.cache_clear()


def _fail_from(monkeypatch: pytest.MonkeyPatch, first: int, error: Exception) -> None:
    """Let Numba compile some functions and raise an error for all that follow."""
    calls, key = itertools.count(), compiled._key

    def fail(*args: object) -> str:
        if next(calls) >= first:
            raise error
        return key(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(compiled, "_key", fail)


def _passes(layer: nn.Module, x: Tensor, plan: str) -> list[Tensor]:
    layer = copy.deepcopy(layer)  # normalisation changes its statistics
    images = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    with using_plan(plan):  # type: ignore[arg-type]
        y = layer(images)
        gradients = torch.autograd.grad(y, (images, *layer.parameters()), y.detach())
    return [y.detach(), *gradients, *layer.buffers()]


def _assert_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    (line,) = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert "torch's operators run instead" in line
    assert "\n" not in line


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("segments", [24, 8])
@pytest.mark.parametrize("first", range(4))
def test_each_pass_of_a_convolution_has_a_fallback(
    first: int,
    segments: int,
    layout: torch.memory_format,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    layer = SegmentedConv(24, 24, segments=segments, order="spatial_only")
    x = torch.randn(2, 24, 9, 8).to(memory_format=layout)
    expected = _passes(layer, x, "native")
    _fail_from(monkeypatch, first, error)
    for _ in range(2):
        torch.testing.assert_close(_passes(layer, x, "kernel"), expected)
    if first < (2 if layout == torch.channels_last else 4):  # so many functions are compiled
        _assert_one_warning(caplog)
        with using_plan("kernel"):
            assert plan_of(layer.spatial, x) == "native"  # type: ignore[arg-type]


@pytest.mark.parametrize("first", range(3))
def test_each_pass_of_a_normalisation_has_a_fallback(
    first: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys.modules[normalize.__module__], "cpu_kind", lambda: INTEL)
    norm = BatchNormReLU(20)
    x = torch.randn(3, 20, 50, 48).to(memory_format=torch.channels_last)
    expected = _passes(norm, x, "auto")
    _fail_from(monkeypatch, first, TypeError("no"))
    compiled.compile_kernel.cache_clear()
    for _ in range(2):
        torch.testing.assert_close(_passes(norm, x, "auto"), expected, atol=1e-4, rtol=1e-4)
        assert normalize(copy.deepcopy(norm), x, relu=True) is None
    _assert_one_warning(caplog)


@pytest.mark.parametrize("module", ["depthwise", "norm", "segments"])
def test_a_numba_that_cannot_be_imported_is_no_error(
    module: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import spectrum.kernels as package

    monkeypatch.setitem(sys.modules, f"spectrum.kernels.{module}", None)
    monkeypatch.delattr(package, module, raising=False)
    layer, x = SegmentedConv(24, 24, segments=8, order="spatial_only"), torch.randn(2, 24, 9, 8)
    expected = _passes(layer, x, "native")
    for _ in range(2):
        torch.testing.assert_close(_passes(layer, x, "kernel"), expected)
    _assert_one_warning(caplog)


def test_a_plan_that_fell_back_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_from(monkeypatch, 1, TypeError("no"))
    layer, x = SegmentedConv(24, 24, segments=6, order="spatial_only"), torch.randn(2, 24, 9, 9)
    assert set(time_plans(layer.spatial, x, seconds=0)) == {*PLANS} - {"kernel"}  # type: ignore[arg-type]
