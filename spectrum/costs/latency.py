"""The latency of networks beside one that serves as a yardstick, and the width that meets one.

Times on a machine that does other things too drift by tens of per cent within seconds, and where
there are more processes than cores a call takes several times as long. So one thread is timed by
its own clock, and a network is never timed alone: it and the yardstick take turns, and its latency
is the ratio of their times, times the yardstick's own latency, which is measured once. Times are
lower quartiles, since what others do to a machine makes calls slower, never faster.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch

from spectrum.costs.budget import check_solvable, rounded
from spectrum.costs.timing import Timing, checked_device, time_interleaved
from spectrum.costs.workload import (
    MeasuredPrecision,
    Workload,
    keeping_random_state,
    make_workload,
)
from spectrum.networks import NetworkConfig, build

__all__ = [
    "LATENCY_BATCH",
    "Conditions",
    "LatencyMatch",
    "Yardstick",
    "latency_beside",
    "match_latency",
    "measure_yardstick",
    "solve_width",
]

LATENCY_BATCH = 32
"""Images a batch of which the latency is: what the recipes train with by default."""

CLOSE = 0.02  # a miss that counts as none
FAIR = 0.1  # one that will do when the time is up
MOST = 100  # yardsticks; wider networks than these take fill the memory before they are timed
LOOKS = 12  # at different widths at the most, among which the time is shared out
REPEATS = 5  # of a call in a look, however long it takes
GROWTH = 4.0  # of the width from one look to the next, while only one side is known
NEAR = 0.03  # between two widths from whose middle the others are looked at
STEP, STEPS = 0.01, 25  # the widths outwards from there


@dataclass(frozen=True)
class Conditions:
    """What the time of a forward pass depends on besides the network and the machine.

    Attributes:
        device: where.
        threads: on the CPU.
        precision: by autocast.
        channels_last: the layout of weights and images.
    """

    device: str = "cpu"
    threads: int = 1
    precision: MeasuredPrecision = "float32"
    channels_last: bool = True


@dataclass(frozen=True)
class Yardstick:
    """A network that others are timed beside.

    Attributes:
        config: the network.
        shape: of one image.
        conditions: under which it runs.
        latency: its own, in seconds a batch.
    """

    config: NetworkConfig
    shape: tuple[int, int, int]
    conditions: Conditions
    latency: float


class LatencyMatch(NamedTuple):
    """A network that meets a latency.

    Attributes:
        config: the network, its width solved to four significant digits.
        miss: its latency over the wanted one, less one.
        latency: in seconds a batch.
    """

    config: NetworkConfig
    miss: float
    latency: float


def measure_yardstick(
    config: NetworkConfig,
    shape: tuple[int, int, int],
    conditions: Conditions,
    *,
    seconds: float = 1.0,
) -> Yardstick:
    """Time a network by itself, in inference, with ``LATENCY_BATCH`` images a batch.

    Raises:
        ValueError: it can't be built or take the images, or the device isn't there.
    """
    with _running(conditions):
        work = _workload(config, shape, conditions)
        timed = time_interleaved(
            {"": work.call}, seconds=seconds, device=work.device, clock=_clock(conditions)
        )
    return Yardstick(config, shape, conditions, timed[""].lower_quartile)


def latency_beside(
    yardstick: Yardstick,
    config: NetworkConfig,
    shape: tuple[int, int, int],
    conditions: Conditions,
    *,
    seconds: float = 0.5,
) -> float:
    """The latency of a network in inference, in seconds a batch of ``LATENCY_BATCH`` images.

    Args:
        yardstick: what it is timed beside; the yardstick itself has its own latency.
        config: the network.
        shape: of one image.
        conditions: under which it runs.
        seconds: how long to time.

    Raises:
        ValueError: it can't be built or take the images, or the device isn't there.
    """
    if (config, shape, conditions) == (yardstick.config, yardstick.shape, yardstick.conditions):
        return yardstick.latency
    beside = _workload_of(yardstick)
    own, its = _take_turns(beside, config, shape, conditions, seconds)
    return yardstick.latency * Timing(own).lower_quartile / Timing(its).lower_quartile


def match_latency(
    yardstick: Yardstick,
    config: NetworkConfig,
    shape: tuple[int, int, int],
    conditions: Conditions,
    *,
    latency: float | None = None,
    seconds: float = 2.4,
) -> LatencyMatch:
    """Solve the width at which a network takes as long as is wanted.

    Args:
        yardstick: what it is timed beside.
        config: the network; its own width is ignored.
        shape: of one image.
        conditions: under which it runs.
        latency: what is wanted, in seconds a batch of ``LATENCY_BATCH`` images; None for the
            yardstick's.
        seconds: after which a width will do whose miss is 10%; a slow network takes longer.

    Raises:
        ValueError: no width comes near the latency; the segments are explicit sizes, which hold
            at one width only; or the network can't be built or take the images.
    """
    check_solvable(config)
    wanted = yardstick.latency if latency is None else latency
    same = config.model_copy(update={"width": yardstick.config.width}) == yardstick.config
    if same and latency is None and (shape, conditions) == (yardstick.shape, yardstick.conditions):
        return LatencyMatch(yardstick.config, 0.0, wanted)
    if wanted > MOST * yardstick.latency:
        raise ValueError(
            f"latency (={1000 * wanted:.4g} ms) must be near what a width can reach: at most "
            f"{MOST} times the {1000 * yardstick.latency:.4g} ms of {yardstick.config.name} at "
            f"{yardstick.config.segments} and width {yardstick.config.width:g}"
        )
    beside = _workload_of(yardstick)
    times: dict[float, tuple[tuple[float, ...], tuple[float, ...]]] = {}

    def look(width: float) -> float:
        candidate = config.model_copy(update={"width": width})
        before = times.get(width, ((), ()))
        now = _take_turns(beside, candidate, shape, conditions, seconds / LOOKS)
        times[width] = (before[0] + now[0], before[1] + now[1])
        own, its = (Timing(samples).lower_quartile for samples in times[width])
        return own / its * yardstick.latency / wanted

    width, cost = solve_width(look, seconds=seconds)
    if not 0.5 < cost < 2:
        raise ValueError(
            f"latency (={1000 * wanted:.4g} ms) must be near what a width can reach: the nearest "
            f"network takes {1000 * wanted * cost:.4g} ms"
        )
    return LatencyMatch(config.model_copy(update={"width": width}), cost - 1, wanted * cost)


def solve_width(look: Callable[[float], float], *, seconds: float) -> tuple[float, float]:
    """The width at which a cost is 1 that is measured with noise and by and large rises.

    Times rise in jumps, with the channels that a layer's kernel takes at once, and may even fall
    from one width to the next. So widths are tried from 1 on, by the square-root law until one
    costs too little and one too much, then between the two until they are near each other, and
    from there outwards. Of many noisy looks one hits the mark by luck, so a width that seems
    right is looked at again.

    Args:
        look: measures the cost at a width, over what it should be; called for the same width
            again, by all that it has seen there.
        seconds: after which a cost between 0.9 and 1.1 will do.

    Returns:
        The width looked at whose cost was nearest, and that cost, by two looks at least.
    """
    end = time.perf_counter() + seconds
    seen: dict[float, float] = {}
    sure: set[float] = set()

    def nearest() -> float:
        return min(seen, key=lambda width: abs(math.log(seen[width])))

    for width in _widths(seen):
        if width not in seen:
            seen[width] = look(width)
        if width not in sure and abs(seen[width] - 1) <= CLOSE:
            seen[width] = look(width)
            sure.add(width)
            if abs(seen[width] - 1) <= CLOSE:
                return width, seen[width]
        late = time.perf_counter() > end
        if len(seen) == LOOKS or (late and abs(seen[nearest()] - 1) <= FAIR):
            break
    while nearest() not in sure:
        width = nearest()
        sure.add(width)
        seen[width] = look(width)
    return nearest(), seen[nearest()]


def _widths(seen: Mapping[float, float]) -> Iterator[float]:
    """The widths to look at; each has its cost in ``seen`` by the time the next is asked for."""
    low = high = None  # the widest that costs too little, the narrowest that costs too much
    width, power = 1.0, 0.5
    while low is None or high is None:
        yield width
        if seen[width] < 1:
            low = width
        else:
            high = width
        factor = min(max(seen[width] ** -power, 1 / GROWTH), GROWTH)
        power *= 2  # where the law falls short, as where calls cost more than what they compute
        following = rounded(width * factor)
        if following == width:  # as narrow or as wide as can be
            return
        width = following
    while high > (1 + NEAR) * low:
        # Where the line between the two meets 1, in logarithms, kept off its ends.
        share = -math.log(seen[low]) / (math.log(seen[high]) - math.log(seen[low]))
        width = rounded(low * (high / low) ** min(max(share, 0.2), 0.8))
        yield width
        if seen[width] < 1:
            low = width
        else:
            high = width
    middle = math.sqrt(low * high)
    for step in range(STEPS):
        yield rounded(middle * (1 + STEP) ** step)
        yield rounded(middle / (1 + STEP) ** step)


def _take_turns(
    beside: Workload,
    config: NetworkConfig,
    shape: tuple[int, int, int],
    conditions: Conditions,
    seconds: float,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The times of a network and of the yardstick beside it, in seconds."""
    with _running(conditions):
        work = _workload(config, shape, conditions)
        calls = {"network": work.call, "yardstick": beside.call}
        timed = time_interleaved(
            calls,
            seconds=seconds,
            min_repeats=REPEATS,
            device=work.device,
            clock=_clock(conditions),
        )
    return timed["network"].samples, timed["yardstick"].samples


def _clock(conditions: Conditions) -> Callable[[], float]:
    """What one thread takes by its own time, which stands still while others have the core."""
    return time.thread_time if conditions.threads == 1 else time.perf_counter


def _workload_of(yardstick: Yardstick) -> Workload:
    with _running(yardstick.conditions):
        return _workload(yardstick.config, yardstick.shape, yardstick.conditions)


def _workload(
    config: NetworkConfig, shape: tuple[int, int, int], conditions: Conditions
) -> Workload:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a solved network says what it has to say once
        network = build(config)
    return make_workload(
        network,
        shape,
        LATENCY_BATCH,
        conditions.device,
        conditions.precision,
        channels_last=conditions.channels_last,
    )


@contextmanager
def _running(conditions: Conditions) -> Iterator[None]:
    """Keep to a number of threads; torch's random state and its own number are given back."""
    before = torch.get_num_threads()
    with keeping_random_state(checked_device(conditions.device)):
        torch.set_num_threads(conditions.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
