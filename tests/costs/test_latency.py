import math
import random
from collections.abc import Callable

import pytest
import torch

from spectrum.costs import (
    Conditions,
    Yardstick,
    count_config,
    latency_beside,
    match_latency,
    measure_yardstick,
)
from spectrum.costs.latency import CLOSE, LOOKS, solve_width
from spectrum.networks import NetworkConfig

SHAPE = (1, 8, 8)
CONFIG = NetworkConfig(name="tiny", num_classes=10, in_channels=1)
REFERENCE = CONFIG.model_copy(update={"segments": "C"})
MACS_A_SECOND = 1e9


def seconds_of(config: NetworkConfig) -> float:
    """A machine that computes so many MACs a second, after a while that it takes for any batch."""
    return 1e-3 + count_config(config, SHAPE).macs / MACS_A_SECOND


@pytest.fixture
def yardstick(monkeypatch: pytest.MonkeyPatch) -> Yardstick:
    """The tiny network on that machine, which every other call finds ten times as slow."""
    made = Yardstick(REFERENCE, SHAPE, Conditions(), seconds_of(REFERENCE))
    slow = [False]

    def take_turns(
        _beside: object, config: NetworkConfig, *_: object
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        slow[0] = not slow[0]
        spell = 10.0 if slow[0] else 1.0
        return (spell * seconds_of(config),) * 4, (spell * made.latency,) * 4

    monkeypatch.setattr("spectrum.costs.latency._take_turns", take_turns)
    return made


@pytest.mark.parametrize("segments", ["1", "2", "4", "C/8", "entry=C+middle=4+exit=1"])
@pytest.mark.parametrize("milliseconds", [None, 1.2, 5.0, 20.0])
def test_the_width_takes_as_long_as_is_wanted(
    segments: str, milliseconds: float | None, yardstick: Yardstick
) -> None:
    config = CONFIG.model_copy(update={"segments": segments, "width": 3.0})
    wanted = None if milliseconds is None else milliseconds / 1000
    found = match_latency(yardstick, config, SHAPE, Conditions(), latency=wanted)
    target = wanted or yardstick.latency
    assert seconds_of(found.config) == pytest.approx(target, rel=0.03)
    assert found.latency == pytest.approx(seconds_of(found.config))
    assert found.miss == pytest.approx(found.latency / target - 1)
    assert found.config.model_copy(update={"width": 3.0}) == config
    assert found.config.width == float(f"{found.config.width:.4g}")


def test_the_yardstick_has_its_own_latency_and_width(yardstick: Yardstick) -> None:
    for width in (0.5, 1.0):
        config = REFERENCE.model_copy(update={"width": width})
        assert match_latency(yardstick, config, SHAPE, Conditions()) == (
            *(REFERENCE, 0.0, yardstick.latency),
        )
    assert latency_beside(yardstick, REFERENCE, SHAPE, Conditions()) == yardstick.latency
    half = REFERENCE.model_copy(update={"width": 0.5})
    assert latency_beside(yardstick, half, SHAPE, Conditions()) == pytest.approx(seconds_of(half))


@pytest.mark.parametrize(
    ("milliseconds", "message"),
    [
        (0.1, r"latency \(=0.1 ms\) must be near what a width can reach: .* takes 1\.\d+ ms"),
        (
            1e9,
            r"must be near what a width can reach: at most 100 times the \d+\.\d+ ms of tiny at C",
        ),
    ],
)
def test_a_latency_out_of_reach_is_refused(
    milliseconds: float, message: str, yardstick: Yardstick
) -> None:
    with pytest.raises(ValueError, match=message):
        match_latency(yardstick, CONFIG, SHAPE, Conditions(), latency=milliseconds / 1000)


def test_networks_without_a_width_to_solve_are_refused(yardstick: Yardstick) -> None:
    sizes = CONFIG.model_copy(update={"segments": "16:8"})
    with pytest.raises(ValueError, match=r"segments \(=16:8\) must not be explicit sizes"):
        match_latency(yardstick, sizes, SHAPE, Conditions())


def jagged(width: float) -> float:
    """Times as they were measured: they rise by steps, and fall where channels fill a vector."""
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
    looks: list[float] = []

    def look(width: float) -> float:
        looks.append(width)
        return CURVES[name](width)

    width, cost = solve_width(look, seconds=60)
    assert cost == CURVES[name](width)
    assert abs(cost - 1) <= (0.05 if name == "steps" else CLOSE)
    assert looks.count(width) >= 2  # by luck it isn't
    assert len(set(looks)) <= LOOKS


@pytest.mark.parametrize("seed", range(20))
def test_noise_shifts_the_width_by_no_more_than_itself(seed: int) -> None:
    rng = random.Random(seed)
    seen: dict[float, list[float]] = {}

    def look(width: float) -> float:
        noisy = 2.5 * width**1.6 * math.exp(rng.gauss(0, 0.03))
        seen.setdefault(width, []).append(noisy)
        return sum(seen[width]) / len(seen[width])

    width, _ = solve_width(look, seconds=60)
    assert abs(math.log(2.5 * width**1.6)) < 0.12


def test_when_the_time_is_up_a_fair_width_will_do() -> None:
    looks: list[float] = []

    def look(width: float) -> float:
        looks.append(width)
        return 1.09 * 5 * width

    assert solve_width(look, seconds=60)[1] == pytest.approx(1, abs=CLOSE)
    patient, looks = len(looks), []
    assert solve_width(look, seconds=0)[1] == pytest.approx(1, abs=0.1)
    assert len(looks) <= patient


def test_where_no_width_will_do_it_ends() -> None:
    looks: list[float] = []

    def look(width: float) -> float:
        looks.append(width)
        return 0.7 if width < 0.5 else 1.5  # a jump

    assert solve_width(look, seconds=60)[1] == 0.7
    assert len(set(looks)) == LOOKS


def test_what_is_measured_is_a_batch_on_so_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, tuple[int, ...]]] = []
    original = torch.nn.Linear.forward

    def forward(self: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        seen.append((torch.get_num_threads(), tuple(x.shape)))
        return original(self, x)

    monkeypatch.setattr(torch.nn.Linear, "forward", forward)
    random_state, threads = torch.get_rng_state(), torch.get_num_threads()
    small = CONFIG.model_copy(update={"width": 0.2})
    ours = measure_yardstick(small, SHAPE, Conditions(threads=2), seconds=0)
    assert ours.latency > 0
    assert {(threads, shape[0]) for threads, shape in seen} == {(2, 32)}
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.get_num_threads() == threads
    other = small.model_copy(update={"segments": "4"})
    assert latency_beside(ours, other, SHAPE, Conditions(), seconds=0) > 0


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"device \(='cuda:99'\) must be one of cpu"):
        measure_yardstick(CONFIG, SHAPE, Conditions(device="cuda:99"))
