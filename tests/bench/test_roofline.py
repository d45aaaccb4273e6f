"""The ceilings, and the least time that they allow."""

from __future__ import annotations

import math

import pytest
import torch

from spectrum.bench.roofline import (
    Ceilings,
    Probe,
    make_probes,
    measured_ceilings,
    roofline_limits,
)
from spectrum.costs.timing import Timing


def nothing() -> None: ...


def test_ceilings_are_the_best_rates_by_the_median_of_each_probe() -> None:
    probes = {
        "multiply": Probe(nothing, 600, 0),
        "larger": Probe(nothing, 4000, 0),
        "copy": Probe(nothing, 0, 90),
    }
    before = {"multiply": Timing((1, 2, 9)), "larger": Timing((20, 20)), "copy": Timing((3,))}
    after = {"multiply": Timing((3, 3, 3)), "larger": Timing((8, 10)), "copy": Timing((9,))}
    assert measured_ceilings(probes, before) == Ceilings(300, 30)
    assert measured_ceilings(probes, before, after) == Ceilings(4000 / 9, 30)


def test_arithmetic_and_memory_each_allow_a_least_time() -> None:
    ceiling = Ceilings(flops=100, bandwidth=10)
    limits = roofline_limits(ceiling, passes=1, macs=250, elements=1, element_size=4)
    assert limits == (5, 0.4)
    limits = roofline_limits(ceiling, passes=3, macs=5, elements=10, element_size=3)
    assert limits == (pytest.approx(0.3), 9)


def test_probes_compute_and_move_what_they_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectrum.bench.roofline._SIDES", {"cpu": (16,)})
    monkeypatch.setattr("spectrum.bench.roofline._BUFFERS", (2**22,))
    monkeypatch.setattr("spectrum.bench.roofline._CONVOLUTIONS", {"cpu": ((4, 5),)})
    probes = make_probes("cpu", torch.bfloat16, 2**21)
    product = probes.pop("multiply 16")
    assert (product.flops, product.bytes_moved) == (2 * 16**3, 0)
    out = product.call()
    assert isinstance(out, torch.Tensor)
    assert (out.shape, out.dtype) == ((16, 16), torch.bfloat16)
    for layout in (torch.contiguous_format, torch.channels_last):
        convolution = probes.pop(f"convolve 4 5 {layout}")
        assert (convolution.flops, convolution.bytes_moved) == (2 * 8 * 16 * 9 * 25, 0)
        out = convolution.call()
        assert isinstance(out, torch.Tensor)
        assert (out.shape, out.dtype) == ((8, 4, 5, 5), torch.bfloat16)
        assert out.is_contiguous(memory_format=layout)
    for name, probe in probes.items():
        kind, size = name.split()
        bytes_moved = probe.call()
        assert isinstance(bytes_moved, torch.Tensor)
        assert bytes_moved.numel() == int(size)
        assert probe.bytes_moved == {"copy": 2, "add": 3}[kind] * bytes_moved.numel() * 2
        assert probe.flops == 0
    assert {int(name.split()[1]) for name in probes} == {2**20, 2**21}


def test_no_buffer_is_smaller_than_a_layers_input() -> None:
    sizes = [int(n.split()[1]) for n in make_probes("cpu", torch.float32, 2**26) if "copy" in n]
    assert min(sizes) == 2**24
    assert all(math.log2(size) >= 24 for size in sizes)
