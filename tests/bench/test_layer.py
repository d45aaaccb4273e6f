"""The benchmark of a layer: the timed layers are one function, and the numbers agree."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from spectrum.bench.config import PLANS, LayerBenchConfig
from spectrum.bench.layer import _make_layer, _make_steps, bench_layer
from spectrum.costs import count_costs
from spectrum.layers import SegmentedConv

pytestmark = pytest.mark.usefixtures("_quick_probes")


def make_config(*points: str, **changes: Any) -> LayerBenchConfig:
    made = {"channels": 12, "size": 6, "batch": 3, "segments": ",".join(points), "seconds": 0.01}
    return LayerBenchConfig.checked(made | changes)


def test_a_row_has_the_costs_of_its_layer_and_its_ratios() -> None:
    rows, ceiling = bench_layer(make_config("1", "3", "5", "C"))
    assert rows["segments"].tolist() == ["1", "3", "5", "C"]
    assert rows["segment_count"].tolist() == [1, 3, 5, 12]
    assert rows["channels_per_segment"].tolist() == [12, 4, 2.4, 1]
    for segments, macs in zip(rows["segments"], rows["macs"], strict=True):
        conv = SegmentedConv(12, 12, segments=segments, order="spatial_only")
        assert macs == count_costs(conv, (12, 6, 6)).macs  # fvcore's
    assert rows["native"].tolist() == ["nn.Conv2d", "nn.Conv2d", "grouped runs", "nn.Conv2d"]
    assert set(rows["layout"]) <= {"contiguous", "channels_last"}
    assert set(rows["plan"]) <= set(PLANS) - {"auto"}
    flops = 3 * 2 * rows["macs"] * 3  # three images, three passes
    assert (rows["gflops"] * 1e6).tolist() == pytest.approx((flops / rows["ms"]).tolist())
    assert (rows["roofline"] * rows["ms"]).tolist() == pytest.approx(rows["allowed_ms"].tolist())
    bytes_moved = [4 * (2 * 3 * 12 * 36 + macs // 36) for macs in rows["macs"]]
    least = [
        3 * max(2 * 3 * macs / ceiling.flops, size / ceiling.bandwidth)
        for macs, size in zip(rows["macs"], bytes_moved, strict=True)
    ]
    assert (rows["allowed_ms"] / 1000).tolist() == pytest.approx(least)
    for name in ("ms", "default_ms", "channels_last_ms", "ratio_default", "ratio_best"):
        assert (rows[f"{name}_low"] <= rows[name]).all()
        assert (rows[name] <= rows[f"{name}_high"]).all()
    assert (rows["rounds"] >= 7).all()


@pytest.mark.parametrize("segments", ["1", "4", "5", "C"])
@pytest.mark.parametrize("kernel", [3, 2])
def test_all_layers_timed_at_a_point_are_the_same_function(segments: str, kernel: int) -> None:
    config = make_config(segments, kernel=kernel)
    ours = _make_layer(config, segments)
    x = torch.randn(3, 12, 6, 6)
    forward = make_config(segments, kernel=kernel, forward_only=True)
    for call in _make_steps(forward, [ours], x).values():
        torch.testing.assert_close(call(), ours(x))
    calls = _make_steps(config, [ours], x)
    assert len(calls) == 4
    for call in calls.values():
        by_input, *by_weights = call()  # type: ignore[misc]
        assert by_input.shape == x.shape
        assert sum(w.numel() for w in by_weights) == sum(p.numel() for p in ours.parameters())


def test_the_library_layer_is_nn_conv2d_in_each_layout() -> None:
    x = torch.randn(3, 12, 6, 6)
    called: list[tuple[type[nn.Module], bool]] = []
    handle = nn.modules.module.register_module_forward_pre_hook(
        lambda module, inputs: called.append(
            (type(module), inputs[0].is_contiguous(memory_format=torch.channels_last))
        )
    )
    try:
        config = make_config("3", forward_only=True)
        calls = _make_steps(config, [_make_layer(config, "3")], x)
        for layout, is_last in (("contiguous", False), ("channels_last", True)):
            called.clear()
            calls["native", 0, layout]()
            assert called == [(nn.Conv2d, is_last)]
            called.clear()
            calls["ours", 0, layout]()
            assert called[0] == (SegmentedConv, is_last)
    finally:
        handle.remove()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_types_are_computed_in(precision: str) -> None:
    config = make_config("3", precision=precision, forward_only=True, plan="native")
    x = torch.randn(3, 12, 6, 6, dtype=getattr(torch, precision))
    for call in _make_steps(config, [_make_layer(config, "3")], x).values():
        out = call()
        assert isinstance(out, torch.Tensor)
        assert out.dtype == getattr(torch, precision)


def test_random_numbers_are_left_as_they_were() -> None:
    before = torch.get_rng_state()
    bench_layer(make_config("3"))
    assert torch.equal(before, torch.get_rng_state())


def test_running_out_of_memory_names_the_batch() -> None:
    with pytest.raises(ValueError, match=r"batch \(=1000000\) must be smaller"):
        bench_layer(make_config("1", batch=1_000_000, size=100_000))
