"""Every plan computes the same function as torch's grouped convolution."""

from collections.abc import Iterator
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spectrum import SegmentedConv, count_costs
from spectrum.kernels import PLANS, convolution, plan_of, plans, using_plan
from spectrum.kernels.plans import MERGED_WIDTHS, forget_plans, merge_factor

LAYOUTS = (torch.contiguous_format, torch.channels_last)


def _layer(channels: int, segments: object, **options: object) -> SegmentedConv:
    return SegmentedConv(channels, channels, segments=segments, order="spatial_only", **options)  # type: ignore[arg-type]


def _passes(layer: nn.Module, x: Tensor, plan: str) -> list[Tensor]:
    """The output, and the gradients with respect to the input and the parameters."""
    images = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    with using_plan(plan):  # type: ignore[arg-type]
        y = layer(images)
    generator = torch.Generator().manual_seed(5)
    direction = torch.randn(y.shape, generator=generator).to(y.dtype)
    gradients = torch.autograd.grad(y, (images, *layer.parameters()), direction)
    return [y, *gradients]


def _expected(layer: SegmentedConv, x: Tensor) -> list[Tensor]:
    """What ``_passes`` gives in float64 with torch's convolution."""
    double = SegmentedConv(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        segments=layer.segments,
        order="spatial_only",
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        bias=layer.bias,
    ).double()
    double.load_state_dict(layer.state_dict())
    return _passes(double, x.double(), "native")


def _assert_close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        error = (a.double() - b.double()).abs().max().item()
        assert error <= tolerance * b.double().abs().max().item()


@settings(max_examples=60, deadline=None)  # the first call compiles a kernel
@given(
    width=st.integers(1, 20),
    count=st.integers(2, 5),
    wider=st.integers(0, 4),
    kernel=st.sampled_from([(3, 3), (1, 3), (3, 1), (5, 5), (1, 7), (2, 4)]),
    stride=st.sampled_from([1, 1, 2, 3, (1, 2)]),
    padding=st.sampled_from([None, None, 0, 1]),
    dilation=st.sampled_from([1, 2]),
    size=st.tuples(st.integers(1, 29), st.integers(1, 29)),
    batch=st.integers(1, 3),
    layout=st.sampled_from(LAYOUTS),
    bias=st.booleans(),
    moved=st.booleans(),  # the weight to the layout of the images
    plan=st.sampled_from(PLANS),
)
@example(4, 5, 2, (3, 3), 1, None, 1, (1, 1), 3, torch.contiguous_format, True, True, "kernel")
@example(4, 5, 2, (3, 3), 1, None, 1, (11, 12), 3, torch.contiguous_format, True, True, "kernel")
@example(4, 5, 2, (3, 3), 1, None, 1, (11, 12), 3, torch.channels_last, True, True, "kernel")
@example(4, 5, 2, (3, 3), 2, None, 1, (1, 1), 3, torch.channels_last, True, True, "kernel")
@example(1, 5, 0, (5, 5), 3, 0, 1, (14, 11), 3, torch.channels_last, False, True, "kernel")
def test_plans_equal_torch_in_float64(
    width: int,
    count: int,
    wider: int,
    kernel: tuple[int, int],
    stride: int | tuple[int, int],
    padding: int | None,
    dilation: int,
    size: tuple[int, int],
    batch: int,
    layout: torch.memory_format,
    bias: bool,
    moved: bool,
    plan: str,
) -> None:
    assume(padding is None or min(size) >= 13)  # which the kernel spans at most
    channels = width * count + min(wider, count - 1)  # so many segments are one channel wider
    layer = _layer(
        channels,
        count,
        kernel_size=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        bias=bias,
    ).to(memory_format=layout if moved else torch.contiguous_format)  # type: ignore[call-overload]
    x = torch.randn(batch, channels, *size).to(memory_format=layout)
    _assert_close(_passes(layer, x, plan), _expected(layer, x), 1e-5)


@pytest.mark.parametrize(("layout", "plan"), [*product(LAYOUTS, PLANS)])
def test_plans_equal_torch_in_bfloat16(layout: torch.memory_format, plan: str) -> None:
    for segments in (24, 12, 8, 3):
        layer = _layer(24, segments).bfloat16()
        x = torch.randn(2, 24, 13, 9).bfloat16().to(memory_format=layout)
        _assert_close(_passes(layer, x, plan), _expected(layer.float(), x.float()), 0.02)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_autocast_computes_as_torch_does(layout: torch.memory_format) -> None:
    layer = _layer(24, 8)
    x = torch.randn(2, 24, 9, 9).to(memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16):
        for plan in PLANS:
            found = _passes(layer, x, plan)
            expected = _passes(layer, x, "native")
            assert [t.dtype for t in found] == [t.dtype for t in expected]
            _assert_close(found, expected, 0.02)


def test_autocast_leaves_float64_alone() -> None:
    layer = _layer(24, 8).double()
    with torch.autocast("cpu", torch.bfloat16), using_plan("kernel"):
        assert layer(torch.randn(2, 24, 9, 9).double()).dtype == torch.float64


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_larger_than_the_cache_are_computed_in_parts(layout: torch.memory_format) -> None:
    for width, size in ((3, (70, 301)), (1, (131, 150))):
        layer = _layer(33 * width, 33)
        x = torch.randn(1, 33 * width, *size).to(memory_format=layout)
        _assert_close(_passes(layer, x, "kernel"), _expected(layer, x), 1e-5)


def test_without_avx512_channels_last_has_a_kernel_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "_targets_avx512", lambda: False)
    layer, strided = _layer(24, 8), _layer(24, 8, stride=2)
    x = torch.randn(2, 24, 9, 10).to(memory_format=torch.channels_last)
    _assert_close(_passes(layer, x, "kernel"), _expected(layer, x), 1e-5)
    forget_plans()
    with using_plan("kernel"):
        assert plan_of(layer.spatial, x) == "kernel"  # type: ignore[arg-type]
        assert plan_of(strided.spatial, x) == "native"  # type: ignore[arg-type]
    forget_plans()


@pytest.mark.parametrize("plan", ["native", "kernel"])
def test_images_smaller_than_the_kernel_are_refused_as_by_torch(plan: str) -> None:
    layer = _layer(24, 8, kernel_size=5, padding=0)
    x = torch.randn(2, 24, 9, 4).to(memory_format=torch.channels_last)
    with using_plan(plan), pytest.raises(RuntimeError, match="greater than actual input size"):  # type: ignore[arg-type]
        layer(x)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_number_of_threads_changes_no_bit(layout: torch.memory_format, threads: None) -> None:
    layers = [_layer(32, segments) for segments in (32, 16, 4)]
    x = torch.randn(5, 32, 9, 10).to(memory_format=layout)
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found.append([t for layer in layers for t in _passes(layer, x, "kernel")])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_gradients_can_be_differentiated_again() -> None:
    for layout, segments in product(LAYOUTS, (12, 6)):
        layer = _layer(12, segments)
        x = torch.randn(2, 12, 6, 6).to(memory_format=layout)
        twice = []
        for plan in ("kernel", "native"):
            images = x.clone(memory_format=torch.preserve_format).requires_grad_()
            with using_plan(plan):  # type: ignore[arg-type]
                y = layer(images).square().sum()
            (first,) = torch.autograd.grad(y, images, create_graph=True)
            twice.append(torch.autograd.grad(first.square().sum(), (images, *layer.parameters())))
        _assert_close(list(twice[0]), list(twice[1]), 1e-4)


def test_unneeded_gradients_are_not_computed() -> None:
    layer = _layer(12, 6)
    x = torch.randn(2, 12, 6, 6)
    with using_plan("kernel"):
        layer(x).sum().backward()  # the weight's gradient alone
        assert layer.spatial.weight.grad is not None
        layer.requires_grad_(False)
        x.requires_grad_()
        layer(x).sum().backward()
        assert x.grad is not None
        with torch.no_grad():
            assert not layer(x).requires_grad


@pytest.mark.parametrize("plan", PLANS)
def test_counts_exports_and_transforms_see_the_grouped_convolution(plan: str) -> None:
    layer = _layer(12, 6).eval()
    x = torch.randn(2, 12, 6, 6)
    plain = F.conv2d(x, layer.spatial.weight, padding=1, groups=6)
    with using_plan(plan):  # type: ignore[arg-type]
        assert count_costs(layer, (12, 6, 6)).macs == 6 * 6 * 9 * 12 * 2
        exported = torch.export.export(layer, (x,))
        assert "conv2d" in str(exported.graph)
        torch.testing.assert_close(exported.module()(x), plain)
        compiled = torch.compile(layer, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), plain)
        traced = torch.jit.trace(layer, (x,))
        assert "_convolution" in str(traced.inlined_graph)
        weights = dict(layer.named_parameters())

        def squared(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
            return torch.func.functional_call(layer, parameters, (image[None],)).square().sum()

        each = torch.func.vmap(torch.func.grad(squared), (None, 0))(weights, x)
        whole = torch.func.grad(
            lambda p: torch.func.functional_call(layer, p, (x,)).square().sum()
        )(weights)
        torch.testing.assert_close(each["spatial.weight"].sum(0), whole["spatial.weight"])
        _, pushed = torch.func.jvp(layer, (x,), (x,))
        torch.testing.assert_close(pushed, plain)


def test_hooks_are_called() -> None:
    layer = _layer(12, 6)
    seen: list[Tensor] = []
    handle = layer.spatial.register_forward_hook(lambda module, inputs, y: seen.append(y))
    with using_plan("kernel"):
        layer(torch.randn(2, 12, 6, 6))
    assert len(seen) == 1
    handle.remove()
    nn.utils.parametrizations.weight_norm(layer.spatial)
    x = torch.randn(2, 12, 6, 6)
    assert plan_of(layer.spatial, x) == "native"  # type: ignore[arg-type]


def _operators(layer: nn.Module, x: Tensor) -> list[str]:
    """The names of torch's operators in a forward and a backward pass, in order."""
    with torch.autograd.profiler.profile() as profile:
        layer(x).sum().backward()
    return [event.name for event in profile.function_events]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("segments", [1, 4, "C"])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_native_plan_calls_the_operators_of_conv2d(
    stride: int, segments: object, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINETO_LOG_LEVEL", "6")  # which is read once in a process
    layer = _layer(8, segments, stride=stride)
    plain = nn.Conv2d(8, 8, 3, stride=stride, padding=1, groups=layer.segment_count, bias=False)
    x = torch.randn(2, 8, 7, 7).to(memory_format=layout)
    with using_plan("native"):
        assert _operators(layer, x) == _operators(plain, x)


def test_other_devices_run_natively() -> None:
    for segments in (12, 6, 5):
        layer = _layer(12, segments).to("meta")
        assert layer(torch.empty(2, 12, 6, 6, device="meta")).shape == (2, 12, 6, 6)


def test_what_was_decided_in_a_special_call_holds_for_that_call_alone() -> None:
    layer, x = _layer(12, 6), torch.randn(2, 12, 6, 6)
    forget_plans()
    with using_plan("kernel"):
        handle = layer.spatial.register_forward_hook(lambda *_: None)
        assert plan_of(layer.spatial, x) == "native"  # type: ignore[arg-type]
        handle.remove()
        assert plan_of(layer.spatial, x) == "kernel"  # type: ignore[arg-type]
        layer.spatial.register_forward_hook(lambda *_: None)
        assert plan_of(layer.spatial, x) == "native"  # type: ignore[arg-type]


def test_a_plan_is_chosen_once_for_each_kind_of_call(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[Tensor] = []
    choose = plans._choose
    monkeypatch.setattr(plans, "_choose", lambda conv, x: chosen.append(x) or choose(conv, x))
    forget_plans()
    layer, x = _layer(12, 6), torch.randn(2, 12, 6, 6)
    for _ in range(3):
        layer(x)
    assert len(chosen) == 1
    with torch.no_grad():
        layer(x)
    layer(x[:1])
    layer(x.to(memory_format=torch.channels_last))
    with torch.autocast("cpu", torch.bfloat16):
        layer(x)
    _layer(12, 3)(x)
    assert len(chosen) == 6


def test_the_merge_factor_divides_the_segments() -> None:
    for channels, segments, factor in ((728, 364, 7), (728, 104, 2), (728, 91, 1), (96, 32, 4)):
        assert merge_factor(_layer(channels, segments).spatial) == factor  # type: ignore[arg-type]
    conv = _layer(96, 48).spatial
    widths = [2 * merge_factor(conv, plan) for plan in MERGED_WIDTHS]  # type: ignore[arg-type]
    assert widths == [8, 16, 32, 48]


@pytest.mark.parametrize("plan", MERGED_WIDTHS)
def test_merged_plans_compute_in_float16(plan: str) -> None:
    layer = _layer(96, 48).half()
    x = torch.randn(2, 96, 5, 5).half()
    with using_plan(plan):  # type: ignore[arg-type]
        assert plan_of(layer.spatial, x) == plan  # type: ignore[arg-type]
        found = layer(x)
    expected = F.conv2d(x.double(), layer.spatial.weight.double(), padding=1, groups=48)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.double(), expected, rtol=0.01, atol=0.01)


def test_an_unknown_plan_is_refused() -> None:
    with (
        pytest.raises(ValueError, match=r"plan \(='fast'\) must be one of auto, native, merged"),
        using_plan("fast"),  # type: ignore[arg-type]
    ):
        pass


def test_python_threads_run_the_kernel_where_openmp_is_missing(
    monkeypatch: pytest.MonkeyPatch, threads: None
) -> None:
    from spectrum.kernels import compiled

    torch.set_num_threads(2)
    layer, x = _layer(24, 8), torch.randn(4, 24, 9, 10)
    expected = _passes(layer, x, "kernel")
    monkeypatch.setattr(compiled, "_gomp_parallel", lambda: None)
    found = _passes(layer, x, "kernel")
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
