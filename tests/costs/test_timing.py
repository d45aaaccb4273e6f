import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, quantile_test

from spectrum.costs import Timing, ratio, time_interleaved
from spectrum.costs.timing import WARM_UPS, median_interval


class Clock:
    """A fake clock that calls set forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.called: list[str] = []
        monkeypatch.setattr("spectrum.costs.timing.time.perf_counter", lambda: self.now)

    def taking(self, name: str, *seconds: float):  # type: ignore[no-untyped-def]
        left = list(seconds)

        def call() -> None:
            self.called.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


def test_samples_are_the_times_of_calls_after_the_warm_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    calls = {"a": clock.taking("a", 100.0, 50.0, 1.0, 4.0, 2.0), "b": clock.taking("b", 8.0)}
    timed = time_interleaved(calls, seconds=0, min_repeats=3)
    assert timed["a"].samples == (1.0, 4.0, 2.0)
    assert timed["b"].samples == (8.0, 8.0, 8.0)
    assert timed["a"].median == 2.0
    assert ratio(timed["b"], timed["a"]).median == 4.0  # of 8, 2 and 4, round by round
    assert ratio(timed["b"], timed["a"]).interval == (2.0, 8.0)


def test_another_clock_times_the_calls() -> None:
    now = [0.0]

    def call() -> None:
        now[0] += 3.0

    timed = time_interleaved({"": call}, seconds=0, min_repeats=3, clock=lambda: now[0])
    assert timed[""].samples == (3.0, 3.0, 3.0)


def test_every_round_has_every_call_in_a_random_order(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    time_interleaved({n: clock.taking(n, 1.0) for n in "abcd"}, seconds=0, min_repeats=20)
    timed = clock.called[WARM_UPS * 4 :]
    rounds = ["".join(timed[i : i + 4]) for i in range(0, len(timed), 4)]
    assert all(sorted(order) == list("abcd") for order in rounds)
    assert len(rounds) == 20
    assert len(set(rounds)) > 5
    first, clock.called = clock.called, []
    time_interleaved({n: clock.taking(n, 1.0) for n in "abcd"}, seconds=0, min_repeats=20)
    assert clock.called == first


def test_timing_continues_until_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    timed = time_interleaved({"a": clock.taking("a", 1.0)}, seconds=30, min_repeats=3)
    assert len(timed["a"].samples) == 30
    slow = time_interleaved({"a": clock.taking("a", 20.0)}, seconds=30, min_repeats=3)
    assert len(slow["a"].samples) == 3


@given(st.integers(6, 300))
def test_the_interval_is_the_narrowest_that_holds_the_median_often_enough(n: int) -> None:
    low, high = median_interval(list(range(n, 0, -1)))
    assert low + high == n + 1  # as far from the smallest as from the largest
    assert 1 - 2 * binom.cdf(low - 1, n, 0.5) >= 0.95
    assert 1 - 2 * binom.cdf(low, n, 0.5) < 0.95


@pytest.mark.parametrize("n", [6, 7, 20, 101, 1000, 1001, 4000])
def test_the_interval_is_that_of_the_sign_test(n: int) -> None:
    samples = np.random.default_rng(n).exponential(size=n)
    reference = quantile_test(samples, q=1.0, p=0.5).confidence_interval(0.95)
    low, high = median_interval(samples.tolist())
    ranks = np.searchsorted(np.sort(samples), [low, high, reference.low, reference.high])
    assert ranks[0] == ranks[2]
    assert abs(ranks[1] - ranks[3]) <= 1  # scipy takes the one above, which is wider


def test_few_samples_give_their_full_range() -> None:
    assert median_interval([3.0]) == (3.0, 3.0)
    assert Timing((1.0, 3.0, 2.0)).interval == (1.0, 3.0)


def test_a_slow_phase_does_not_change_the_ratio() -> None:
    slowdown = [1.0] * 10 + [5.0] * 10
    a, b = (Timing(tuple(k * s for s in slowdown)) for k in (3.0, 2.0))
    assert ratio(a, b) == (1.5, (1.5, 1.5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"calls": {}}, r"calls \(=\{\}\) must hold at least one call"),
        ({"seconds": -1}, r"seconds \(=-1\) must be a number from 0 to 86400\Z"),
        *[
            ({"seconds": s}, r"seconds \(=.*\) must be a number from 0 to 86400\Z")
            for s in (float("nan"), float("inf"), 1e300, 10**400, "1")
        ],
        ({"min_repeats": 0}, r"min_repeats \(=0\) must be a whole number from 1"),
        ({"min_repeats": 10**400}, r"min_repeats \(=1000.*\) must be at most 1000000\Z"),
        ({"device": "cuda:99"}, r"device \(='cuda:99'\) must be one of cpu.* here"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        time_interleaved(**{"calls": {"a": int}, **arguments})  # type: ignore[arg-type]


def test_ratios_and_intervals_need_samples_of_the_same_rounds() -> None:
    with pytest.raises(ValueError, match=r"a \(='2 samples'\) must be of the same rounds as b"):
        ratio(Timing((1.0, 2.0)), Timing((1.0,)))
    with pytest.raises(ValueError, match=r"samples \(=\[\]\) must be at least one"):
        median_interval([])
