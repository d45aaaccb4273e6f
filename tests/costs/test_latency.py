import math
import random
from collections.abc import Callable

import pytest
import torch

from spectrum.costs import (
    LatencyConditions,
    Reference,
    count_config,
    match_latency,
    measure_latency,
    measure_reference,
)
from spectrum.costs.latency import MAX_WIDTHS, TOLERANCE, solve_width
from spectrum.networks import NetworkConfig

SHAPE = (1, 8, 8)
CONFIG = NetworkConfig(name="tiny", num_classes=10, in_channels=1)
REFERENCE_CONFIG = CONFIG.model_copy(update={"segments": "C"})
MACS_A_SECOND = 1e9


def seconds_of(config: NetworkConfig) -> float:
    """The latency on a machine that computes ``MACS_A_SECOND`` after a constant time per batch."""
    return 1e-3 + count_config(config, SHAPE).macs / MACS_A_SECOND


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> Reference:
    """The tiny network on that machine, every other measurement of which is ten times slower."""
    made = Reference(REFERENCE_CONFIG, SHAPE, LatencyConditions(), seconds_of(REFERENCE_CONFIG))
    slow = [False]

    def time_in_turns(
        _reference: object, config: NetworkConfig, *_: object
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        slow[0] = not slow[0]
        slowdown = 10.0 if slow[0] else 1.0
        return (slowdown * seconds_of(config),) * 4, (slowdown * made.latency,) * 4

    monkeypatch.setattr("spectrum.costs.latency._time_in_turns", time_in_turns)
    return made


@pytest.mark.parametrize(
    ("segments", "milliseconds"),
    [("1", None), ("2", 1.2), ("C/8", 5.0), ("entry=C+middle=4+exit=1", 20.0)],
)
def test_the_width_has_the_target_latency(
    segments: str, milliseconds: float | None, reference: Reference
) -> None:
    config = CONFIG.model_copy(update={"segments": segments, "width": 3.0})
    latency = None if milliseconds is None else milliseconds / 1000
    found = match_latency(reference, config, SHAPE, LatencyConditions(), latency=latency)
    target = latency or reference.latency
    assert seconds_of(found.config) == pytest.approx(target, rel=0.03)
    assert found.latency == pytest.approx(seconds_of(found.config))
    assert found.miss == pytest.approx(found.latency / target - 1)
    assert found.config.model_copy(update={"width": 3.0}) == config
    assert found.config.width == float(f"{found.config.width:.4g}")


def test_the_reference_keeps_its_latency_and_width(reference: Reference) -> None:
    for width in (0.5, 1.0):
        config = REFERENCE_CONFIG.model_copy(update={"width": width})
        assert match_latency(reference, config, SHAPE, LatencyConditions()) == (
            REFERENCE_CONFIG,
            0.0,
            reference.latency,
        )
    assert (
        measure_latency(reference, REFERENCE_CONFIG, SHAPE, LatencyConditions())
        == reference.latency
    )
    half = REFERENCE_CONFIG.model_copy(update={"width": 0.5})
    assert measure_latency(reference, half, SHAPE, LatencyConditions()) == pytest.approx(
        seconds_of(half)
    )


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        (1e-4, r"latency \(='0.1 ms'\) must be near what a width can reach: .* takes 1\.\d+ ms"),
        (
            1e6,
            r"must be near what a width can reach: at most 100 times the \d+\.\d+ ms of tiny at C",
        ),
        *[
            (seconds, r"latency \(=.*\) must be a number of seconds from 1e-09 to 1,000,000\Z")
            for seconds in (0, -1, 1e-300, 1e300, math.inf, math.nan, 10**400)
        ],
    ],
)
def test_a_latency_out_of_reach_is_refused(
    seconds: float, message: str, reference: Reference
) -> None:
    with pytest.raises(ValueError, match=message):
        match_latency(reference, CONFIG, SHAPE, LatencyConditions(), latency=seconds)


@pytest.mark.parametrize("threads", [0, 999_999_999, 10**400])
def test_threads_without_end_are_refused(threads: int) -> None:
    with pytest.raises(ValueError, match=r"\Athreads \(=\d+[.]*\) must be [^\n]*\Z"):
        measure_reference(CONFIG, SHAPE, LatencyConditions(threads=threads))


def test_weights_that_fill_the_memory_are_refused_before_they_are_made() -> None:
    config = NetworkConfig(name="tiny", segments="1", width=1000)
    with pytest.raises(
        ValueError, match=r"\Awidth \(=1000.0\) must fit in memory: the weights have"
    ):
        measure_reference(config, SHAPE, LatencyConditions())


def test_networks_without_a_width_to_solve_are_refused(reference: Reference) -> None:
    sizes = CONFIG.model_copy(update={"segments": "16:8"})
    with pytest.raises(ValueError, match=r"segments \(='16:8'\) must not be explicit sizes"):
        match_latency(reference, sizes, SHAPE, LatencyConditions())


def jagged(width: float) -> float:
    """A curve like measured ones: it rises in steps, and falls where channels fill a vector."""
    return (0.3 + 1.4 * width**1.5) * (
        1 + 0.15 * math.sin(40 * width) + 0.05 * (width % 0.07 > 0.03)
    )


CURVES: dict[str, Callable[[float], float]] = {
    "a square": lambda width: 5 * width**2,
    "with a constant": lambda width: 0.6 + 0.01 * width**2,
    "steps": lambda width: math.ceil(16 * width) / 11,
    "jagged": jagged,
    "wide": lambda width: width / 37,
}


@pytest.mark.parametrize("name", CURVES)
def test_a_width_is_found_on_any_rising_curve(name: str) -> None:
    widths: list[float] = []

    def measure(width: float) -> float:
        widths.append(width)
        return CURVES[name](width)

    width, cost = solve_width(measure, seconds=60)
    assert cost == CURVES[name](width)
    assert abs(cost - 1) <= (0.05 if name == "steps" else TOLERANCE)
    assert widths.count(width) >= 2  # so it isn't found by chance
    assert len(set(widths)) <= MAX_WIDTHS


@pytest.mark.parametrize("seed", range(20))
def test_noise_shifts_the_cost_by_about_its_own_size(seed: int) -> None:
    rng = random.Random(seed)
    seen: dict[float, list[float]] = {}

    def measure(width: float) -> float:
        noisy = 2.5 * width**1.6 * math.exp(rng.gauss(0, 0.03))
        seen.setdefault(width, []).append(noisy)
        return sum(seen[width]) / len(seen[width])

    width, _ = solve_width(measure, seconds=60)
    assert abs(math.log(2.5 * width**1.6)) < 0.12


def test_when_the_time_is_up_a_larger_miss_is_accepted() -> None:
    widths: list[float] = []

    def measure(width: float) -> float:
        widths.append(width)
        return 1.09 * 5 * width

    assert solve_width(measure, seconds=60)[1] == pytest.approx(1, abs=TOLERANCE)
    patient, widths = len(widths), []
    assert solve_width(measure, seconds=0)[1] == pytest.approx(1, abs=0.1)
    assert len(widths) <= patient


def test_the_search_ends_where_no_width_has_the_cost() -> None:
    widths: list[float] = []

    def measure(width: float) -> float:
        widths.append(width)
        return 0.7 if width < 0.5 else 1.5  # a jump

    assert solve_width(measure, seconds=60)[1] == 0.7
    assert len(set(widths)) == MAX_WIDTHS


def test_a_full_batch_is_measured_on_the_given_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, tuple[int, ...]]] = []
    original = torch.nn.Linear.forward

    def forward(self: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        seen.append((torch.get_num_threads(), tuple(x.shape)))
        return original(self, x)

    monkeypatch.setattr(torch.nn.Linear, "forward", forward)
    random_state, threads = torch.get_rng_state(), torch.get_num_threads()
    small = CONFIG.model_copy(update={"width": 0.2})
    ours = measure_reference(small, SHAPE, LatencyConditions(threads=2), seconds=0)
    assert ours.latency > 0
    assert {(threads, shape[0]) for threads, shape in seen} == {(2, 32)}
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.get_num_threads() == threads
    other = small.model_copy(update={"segments": "4"})
    assert measure_latency(ours, other, SHAPE, LatencyConditions(), seconds=0) > 0
