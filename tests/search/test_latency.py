"""Latency as a goal, as a limit and as the cost that all points share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from spectrum import load_trials, run_search
from spectrum.costs import LatencyConditions
from spectrum.search import SearchConfig
from spectrum.search.candidates import Candidates, make_candidates
from spectrum.search.search import dry_run
from spectrum.search.space import make_space
from tests.timing_machine import SimulatedMachine

Search = Callable[..., SearchConfig]
UNIFORM = {"C": dict.fromkeys(("entry", "middle", "exit"), "C")}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> SimulatedMachine:
    return SimulatedMachine(monkeypatch)


def candidates_of(config: SearchConfig) -> Candidates:
    return make_candidates(make_space(config))


def latencies(config: SearchConfig) -> dict[str, float | None]:
    candidates = candidates_of(config)
    points = [candidates.point(params) for params in candidates.space.all_points()]
    return {point.network.segments: point.latency for point in points}


def test_latencies_are_those_of_the_networks(
    small_search: Search, machine: SimulatedMachine
) -> None:
    candidates = candidates_of(small_search(minimize="latency"))
    for params in candidates.space.all_points():
        point = candidates.point(params)
        expected = 1000 * machine.seconds(point.network, "float32")
        assert point.latency == pytest.approx(expected, rel=0.03)
    assert {conditions for _, conditions in machine.measured} == {LatencyConditions()}


def test_nothing_is_measured_where_nobody_asks(
    small_search: Search, machine: SimulatedMachine
) -> None:
    assert set(latencies(small_search(minimize="macs", max_params=10**9)).values()) == {None}
    assert machine.measured == []


def test_every_driver_sees_one_value(small_search: Search, machine: SimulatedMachine) -> None:
    first = latencies(small_search(minimize="latency"))
    asked = len(machine.measured)
    assert latencies(small_search(minimize="latency", name="another")) == first
    assert latencies(small_search(max_latency=1000.0)) == first
    assert len(machine.measured) == asked


def test_what_is_allowed_takes_no_longer(small_search: Search) -> None:
    known = latencies(small_search(minimize="latency"))
    most = sorted(filter(None, known.values()))[len(known) // 2]
    candidates = candidates_of(small_search(max_latency=most))
    for params in candidates.space.all_points():
        latency = known[candidates.space.segments(params)]
        assert latency is not None
        assert candidates.is_allowed(params) == (latency <= most)
        assert candidates.excess(params) == pytest.approx(max(0, latency / most - 1))


def test_what_is_too_large_is_not_measured(small_search: Search, machine: SimulatedMachine) -> None:
    counted = candidates_of(small_search())
    macs = sorted(counted.point(params).macs for params in counted.space.all_points())
    candidates = candidates_of(small_search(max_latency=1000.0, max_macs=macs[3]))
    for params in candidates.space.all_points():
        point = candidates.point(params)
        assert (point.latency is None) == (point.macs > macs[3])
        assert candidates.is_allowed(params) == (point.macs <= macs[3])


def test_a_limit_that_cannot_be_met_says_what_is_nearest(small_search: Search) -> None:
    least = min(filter(None, latencies(small_search(minimize="latency")).values()))
    with pytest.raises(ValueError, match=r"^max_latency \(=0.01\) can't be met: the nearest") as no:
        candidates_of(small_search(max_latency=0.01)).starting_points()
    assert f"takes {least:.4g} ms" in str(no.value)


def test_points_of_equal_latency(small_search: Search) -> None:
    fields: dict[str, Any] = {"network": "tiny", "match": "latency"}
    candidates = candidates_of(small_search(**fields))
    assert candidates.point(UNIFORM["C"]).network.width == 1
    for params in candidates.space.all_points():
        assert candidates.point(params).latency == pytest.approx(candidates.budget, rel=0.03)
    candidates = candidates_of(small_search(**fields, budget=0.9))
    for params in candidates.space.all_points():
        assert candidates.point(params).latency == pytest.approx(0.9, rel=0.04)
    with pytest.raises(ValueError, match=r"^budget \(='?0.01[^)]*\) must be near what a width can"):
        candidates_of(small_search(**fields, budget=0.01)).starting_points()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"minimize": "latency", "match": "latency"}, r"minimize \(=latency\) must be another cos"),
        ({"max_latency": 0}, "Input should be greater than 0"),
        ({"max_latency": "long"}, "Input should be a valid number"),
        ({"minimize": "time"}, "must be one or more of params, macs, latency"),
        ({"match": "params", "budget": 0.5}, r"budget \(=0.5\) must be a valid integer"),
    ],
)
def test_bad_fields(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchConfig(**fields)


def test_a_search_for_fast_networks(
    small_search: Search, machine: SimulatedMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectrum.search.outputs._draw", lambda *_: {})
    config = small_search(minimize="latency", trials=4)
    found = run_search(config)
    trials = load_trials(config.out / config.name)
    pd.testing.assert_frame_equal(trials, found.trials)
    assert trials.columns[-1] == "latency"
    known = latencies(config)
    assert dict(zip(trials["segments"], trials["latency"], strict=True)) == pytest.approx(
        {segments: known[segments] for segments in trials["segments"]}
    )
    front = pd.read_csv(config.out / config.name / "front.csv")
    assert front["latency"].is_monotonic_increasing
    assert front["val_top1"].is_monotonic_increasing
    assert front["latency"].min() == trials["latency"].min()
    assert "ms of latency" in found.sentences[0] or "no other uniform" in found.sentences[0]
    page = (config.out / config.name / "report.html").read_text()
    assert "latency, ms" in page
    # Another process goes on with the same trials, and measures nothing anew.
    asked = len(machine.measured)
    again = run_search(config.model_copy(update={"trials": 5}))
    assert len(again.trials) == 5
    assert len(machine.measured) <= asked
    pd.testing.assert_frame_equal(again.trials.head(4), trials)


def test_a_search_of_another_processor_is_another_one(
    small_search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectrum.search.outputs._draw", lambda *_: {})
    run_search(small_search(max_latency=1000.0, trials=3, finalists=1))
    monkeypatch.setattr("spectrum.search.search.device_name", lambda _: "another")
    with pytest.raises(ValueError, match="processor"):
        run_search(small_search(max_latency=1000.0, trials=3, finalists=1))


def test_the_dry_run_shows_it(small_search: Search) -> None:
    known = latencies(small_search(minimize="latency"))
    table, _ = dry_run(small_search(minimize="latency"))
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns["ms"] == [f"{known['1']:.4g}", f"{known['C']:.4g}"]
    table, _ = dry_run(small_search(minimize="macs"))
    assert "ms" not in [str(column.header) for column in table.columns]
