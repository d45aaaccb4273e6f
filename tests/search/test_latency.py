"""Latency as a goal and as a limit."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from spectrum import run_search
from spectrum.costs import LatencyConditions
from spectrum.search import SearchConfig
from spectrum.search.candidates import Candidates
from spectrum.search.check import UNIFORM, WINNER, state_verdict
from spectrum.search.search import Interrupted, dry_run
from spectrum.search.storage import silence_optuna
from spectrum.search.table import make_rows
from tests.search.processes import Sharing
from tests.search.test_check import row_of
from tests.timing_machine import SimulatedMachine

Search = Callable[..., SearchConfig]
Points = Callable[..., Candidates]


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> SimulatedMachine:
    return SimulatedMachine(monkeypatch)


def latencies(candidates: Candidates) -> dict[str, float | None]:
    points = [candidates.point(params) for params in candidates.space.all_points()]
    return {point.network.segments: point.latency for point in points}


def test_latencies_are_those_of_the_networks(
    small_candidates: Points, machine: SimulatedMachine
) -> None:
    candidates = small_candidates(minimize="latency")
    for params in candidates.space.all_points():
        point = candidates.point(params)
        expected = 1000 * machine.seconds(point.network, "float32")
        assert point.latency == pytest.approx(expected, rel=0.03)
    assert {conditions for _, conditions in machine.measured} == {LatencyConditions()}


def test_nothing_is_measured_where_nobody_asks(
    small_candidates: Points, machine: SimulatedMachine
) -> None:
    assert set(latencies(small_candidates(minimize="macs", max_params=10**9)).values()) == {None}
    assert machine.measured == []


def test_what_is_allowed_takes_no_longer(small_candidates: Points) -> None:
    known = latencies(small_candidates(minimize="latency"))
    most = sorted(filter(None, known.values()))[len(known) // 2]
    candidates = small_candidates(max_latency=most)
    for params in candidates.space.all_points():
        latency = known[candidates.space.segments(params)]
        assert latency is not None
        assert candidates.is_allowed(params) == (latency <= most)
        assert candidates.excess(params) == pytest.approx(max(0, latency / most - 1))


def test_what_is_too_large_is_not_measured(
    small_candidates: Points, machine: SimulatedMachine
) -> None:
    counted = small_candidates()
    macs = sorted(counted.point(params).macs for params in counted.space.all_points())
    candidates = small_candidates(max_latency=1000.0, max_macs=macs[3])
    for params in candidates.space.all_points():
        point = candidates.point(params)
        assert (point.latency is None) == (point.macs > macs[3])
        assert candidates.is_allowed(params) == (point.macs <= macs[3])


def test_a_limit_that_cannot_be_met_says_what_is_nearest(small_candidates: Points) -> None:
    least = min(filter(None, latencies(small_candidates(minimize="latency")).values()))
    with pytest.raises(ValueError, match=r"^max_latency \(=0.01\) can't be met: the nearest") as no:
        small_candidates(max_latency=0.01).starting_points()
    assert f"takes {least:.4g} ms" in str(no.value)


def test_a_trial_and_the_verdict_say_how_long_it_takes(small_search: Search) -> None:
    with silence_optuna():
        trials = Sharing(small_search(minimize="latency")).join()
        trials.enqueue_starting_points()
        points = []
        for accuracy in (0.5, 0.75):
            trial = trials.next_trial()
            assert trial is not None
            trials.finish(trial, {"status": "done", "epochs": 2, "val_top1": accuracy})
            points.append(trial.point)
        rows = make_rows(trials.all_trials(), trials.candidates.space)
    assert rows.columns[-1] == "latency"
    known = latencies(trials.candidates)
    assert rows["latency"].tolist() == [known["1"], known["C"]]
    assert [trial.values for trial in trials.all_trials()] == [
        [0.5, known["1"]],
        [0.75, known["C"]],
    ]
    both = dict(zip((WINNER, UNIFORM), points, strict=True))
    verdict = state_verdict(trials.config, both, row_of(0.1, 0.05), True)
    assert f"It has {known['1']:.3g} ms of latency against {known['C']:.3g} (" in verdict


def test_a_search_of_another_processor_is_another_one(
    small_search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectrum.search.search.optimize", lambda *_: False)  # at once
    config = small_search(max_latency=1000.0)
    with pytest.raises(Interrupted):
        run_search(config)
    monkeypatch.setattr("spectrum.search.search.device_name", lambda _: "another")
    with pytest.raises(ValueError, match="processor"):
        run_search(config)


def test_the_dry_run_shows_it(small_search: Search, small_candidates: Points) -> None:
    known = latencies(small_candidates(minimize="latency"))
    table, _ = dry_run(small_search(minimize="latency"))
    columns = {str(column.header): [*map(str, column.cells)] for column in table.columns}
    assert columns["ms"] == [f"{known['1']:.3g}", f"{known['C']:.3g}"]
    table, _ = dry_run(small_search(minimize="macs"))
    assert "ms" not in [str(column.header) for column in table.columns]
