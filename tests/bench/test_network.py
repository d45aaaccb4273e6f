"""Networks timed in turns: which are timed, what they cost, and the ratios to the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from spectrum.bench.cases import add_points, build_case
from spectrum.bench.config import NetworkBenchConfig, NetworkCase, parse_case
from spectrum.bench.network import bench_networks
from spectrum.costs import count_config, match_budget
from spectrum.costs.measure import measure_costs
from spectrum.costs.timing import Timing
from spectrum.kernels.plans import decide, plan_of_all
from spectrum.networks import NetworkConfig, build

CODE = """
import torch
from torch import nn

def net(num_classes=6):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, num_classes),
    )

def odd(num_classes=6):
    class Fourier(nn.Module):
        def forward(self, x):
            return torch.fft.fft2(x).real
    return nn.Sequential(Fourier(), net(num_classes))
"""


@pytest.fixture
def _users_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "users_networks.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)


def make_bench(**changes: Any) -> NetworkBenchConfig:
    made = {"input": "3x8x8", "classes": 10, "batch": 2, "seconds": 1e-9}
    return NetworkBenchConfig.checked(made | changes)


def make_cases(bench: NetworkBenchConfig, *names: str) -> list[NetworkCase]:
    return add_points([parse_case(name, bench) for name in names], bench)


def timed(*names: str, **changes: Any) -> pd.DataFrame:
    bench = make_bench(**changes)
    return bench_networks(make_cases(bench, *names), bench).rows


def test_rows_are_ordered_by_mode_and_have_ratios_to_the_first() -> None:
    rows = timed("tiny", "tiny@1", "no_stem@4@bfloat16@contiguous@native")
    assert rows["mode"].tolist() == ["training"] * 3 + ["inference"] * 3
    assert rows["network"].tolist() == ["tiny", "tiny", "no_stem"] * 2
    assert rows["segments"].tolist() == ["C", "1", "4"] * 2
    assert rows["precision"].tolist() == ["float32", "float32", "bfloat16"] * 2
    assert rows["layout"].tolist() == ["channels_last", "channels_last", "contiguous"] * 2
    assert rows["plan"].tolist() == ["auto", "auto", "native"] * 2
    assert rows["ratio"].tolist()[::3] == [1, 1]
    speeds, batch = rows["images_per_second"], rows["latency_ms"] / 1000
    assert (speeds * batch).tolist() == pytest.approx([2.0] * 6)
    for name in ("images_per_second", "latency_ms", "ratio"):
        assert (rows[f"{name}_low"] <= rows[name]).all()
        assert (rows[name] <= rows[f"{name}_high"]).all()
    assert (rows["rounds"] == 7).all()


def test_costs_and_memory_are_those_of_the_costs_package() -> None:
    rows = timed("tiny@4", inference=True, batch=3)
    config = NetworkConfig(name="tiny", segments="4", num_classes=10)
    costs = count_config(config, (3, 8, 8))
    assert rows[["params", "macs"]].to_numpy().tolist() == [[costs.params, costs.macs]]
    measured = measure_costs(build(config), (3, 8, 8), 3, seconds=0.0)
    assert rows["peak_memory"].tolist() == [measured.peak_memory]


@pytest.mark.parametrize(
    ("name", "point"),
    [
        ("tiny", "C"),
        ("inception_v3_tiny", "1"),
        ("resnet50", "1"),
        ("resnext50_32x4d", "32"),
        ("regnetx_032", "C/48"),
        ("convnext_tiny", "C"),
    ],
)
def test_a_network_is_timed_as_it_was_published_unless_points_are_given(
    name: str, point: str
) -> None:
    assert [case.segments for case in make_cases(make_bench(), name)] == [point]
    given = make_cases(make_bench(segments="2,C"), name, f"{name}@3")
    assert [case.segments for case in given] == ["2", "C", "3"]


def test_a_network_named_twice_is_timed_once() -> None:
    assert len(timed("tiny", "tiny@C", "tiny@float32", inference=True)) == 1


@pytest.mark.parametrize("cost", ["params", "macs"])
def test_widths_are_solved_for_the_cost_of_each_network_at_c(cost: str) -> None:
    rows = timed("tiny", "no_stem", segments="1,C", match=cost, inference=True)
    for name in ("tiny", "no_stem"):
        part = rows[rows["network"] == name]
        config = NetworkConfig(name=name, segments="1", num_classes=10)
        budget = getattr(count_config(config.model_copy(update={"segments": "C"}), (3, 8, 8)), cost)
        wanted = match_budget(config, (3, 8, 8), **{cost: budget}).config.width
        assert part["width"].tolist() == [wanted, 1.0]
        assert part[cost].max() < 1.03 * part[cost].min()


@pytest.mark.usefixtures("_users_code")
def test_a_users_model_is_timed_unconverted_and_converted() -> None:
    rows = timed("users_networks:net", "users_networks:net@C", training=True)
    assert rows["segments"].tolist() == ["-", "C"]
    assert rows["width"].isna().tolist() == [True, False]
    conv = [9 * 3 * 8 + 8, 9 * 8 * 8 + 8, 8 * 10 + 10]
    assert rows["params"].iloc[0] == sum(conv)
    assert rows["macs"].iloc[0] == 36 * 9 * 3 * 8 + 16 * 9 * 8 * 8 + 80
    assert rows["macs"].iloc[1] < rows["macs"].iloc[0]


@pytest.mark.usefixtures("_users_code")
def test_a_model_with_operators_of_unknown_cost_is_timed() -> None:
    rows = timed("users_networks:odd", "tiny", inference=True)
    assert rows["macs"].isna().tolist() == [True, False]


def test_the_largest_batch_is_found_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectrum.costs.batch_size.memory_available", lambda: 2**24)
    rows = timed("no_stem", "tiny", batch="auto", inference=True)
    small, large = rows["batch"]
    assert small > large >= 2


def test_ratios_are_of_images_a_second_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = iter([8, 2])
    monkeypatch.setattr("spectrum.bench.network._largest_batch", lambda *_: next(batches))
    made = {0: Timing((4.0, 8.0, 4.0)), 1: Timing((1.0, 4.0, 0.5))}
    monkeypatch.setattr("spectrum.bench.network.time_interleaved", lambda *_, **__: made)
    rows = timed("no_stem", "tiny", batch="auto", inference=True)
    assert rows["latency_ms"].tolist() == [4000, 1000]
    assert rows["images_per_second"].tolist() == [2, 2]
    assert rows["images_per_second_low"].tolist() == [1, 0.5]
    assert rows["images_per_second_high"].tolist() == [2, 4]
    # A batch is 4, 2 and 8 times as fast, and has a quarter of the images of the first's.
    assert rows[["ratio", "ratio_low", "ratio_high"]].iloc[1].tolist() == [1, 0.5, 2]


def test_a_plan_holds_during_the_steps_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(convs: Any, x: torch.Tensor) -> Any:
        seen.append(plan_of_all(convs, x))
        return decide(convs, x)

    monkeypatch.setattr("spectrum.kernels.execute.decide", watched)
    timed("tiny@native", inference=True)
    assert set(seen) == {"native"}


def test_a_network_is_built_with_its_classes_and_channels() -> None:
    bench = make_bench(input="1x8x8", classes=7)
    (case,) = make_cases(bench, "tiny")
    assert build_case(case, bench).network(torch.zeros(2, 1, 8, 8)).shape == (2, 7)


@pytest.mark.parametrize(
    ("names", "changes", "reason"),
    [
        (["tiny", "paper"], {"input": "3x2x2"}, r"input_shape.*at least.*\[paper\]"),
        (["tiny@16:8"], {}, r"segments \(='16:8'\) .*must add up to 51.*\[tiny\]"),
        (["tiny"], {"device": "tpu"}, r"device \(='tpu'\) must be one of cpu"),
        (
            ["tiny"],
            {"batch": 1_000_000, "input": "3x199x199"},
            r"batch_size \(=1000000\) must fit in memory",
        ),
    ],
)
def test_a_network_that_cannot_be_timed_is_an_error(
    names: list[str], changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        timed(*names, **changes)


def test_random_numbers_are_left_as_they_were() -> None:
    before = torch.get_rng_state()
    timed("tiny", batch="auto", inference=True)
    assert torch.equal(before, torch.get_rng_state())
