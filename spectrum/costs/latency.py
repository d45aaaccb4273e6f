"""Measured latencies of networks, and the width at which a network has a given latency.

On a machine that does other work too, times drift by tens of per cent within seconds. With more
processes than cores a call takes several times as long. Three things keep this out of a latency:

- A network is never timed alone. It and a reference network are called in turns. The latency is
  the ratio of their times, multiplied by the reference's own latency, which is measured once.
- A network on one thread is timed by that thread's CPU time.
- The time of a call is the lower quartile of its samples, since other work makes calls slower and
  never faster.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from spectrum.costs.budget import check_width_solvable, round_width, widths_around
from spectrum.costs.choices import MeasuredPrecision
from spectrum.costs.inputs import check_memory
from spectrum.costs.timing import Timing, checked_device, time_interleaved
from spectrum.costs.workload import (
    Workload,
    make_workload,
    preserve_rng_state,
)
from spectrum.errors import FieldError
from spectrum.layers import check_int
from spectrum.machine import cpu_threads
from spectrum.networks import NetworkConfig, build, build_on_meta, is_user_code

LATENCY_BATCH = 32
"""Images per batch that a latency is measured with: the default batch size of recipes."""

TOLERANCE = 0.02  # a miss that ends the search
LATE_TOLERANCE = 0.1  # a miss that ends the search when its time is up
# Times the reference's latency; a network of a longer latency would fill the memory.
MAX_LATENCY = 100
LATENCIES = 1e-9, 1_000_000  # the least and the largest target, in seconds
MAX_THREADS = 4096
MAX_WIDTHS = 12  # widths that are measured; each gets an equal share of the time
MIN_REPEATS = 5  # repeats of a call in a measurement, however long it takes
MAX_FACTOR = 4.0  # largest step to a new width, up or down, until the searched one is bracketed
BRACKET = 0.03  # when the ends of the bracket are this near, widths around its middle are tried
STEP, STEPS = 0.01, 25  # distance between these widths, and their number to either side


@dataclass(frozen=True)
class LatencyConditions:
    """What a latency depends on, besides the network and the machine.

    Attributes:
        device: where the network computes.
        threads: the number of CPU threads.
        precision: the precision of the forward pass, by autocast.
        channels_last: whether weights and images have that memory layout.
    """

    device: str = "cpu"
    threads: int = 1
    precision: MeasuredPrecision = "float32"
    channels_last: bool = True


@dataclass(frozen=True)
class Reference:
    """The network that others are timed in turns with.

    Attributes:
        config: the network.
        shape: the shape of one image, (C, H, W).
        conditions: how the network is executed.
        latency: its own latency, in seconds per batch.
    """

    config: NetworkConfig
    shape: tuple[int, int, int]
    conditions: LatencyConditions
    latency: float


class LatencyMatch(NamedTuple):
    """A network that has a target latency.

    Attributes:
        config: the network, with its width solved to four significant digits.
        miss: its latency divided by the target, minus one.
        latency: its latency, in seconds per batch.
    """

    config: NetworkConfig
    miss: float
    latency: float


def measure_reference(
    config: NetworkConfig,
    shape: tuple[int, int, int],
    conditions: LatencyConditions,
    *,
    seconds: float = 1.0,
) -> Reference:
    """Time a network by itself in inference, to serve as the reference for others.

    Args:
        config: the network.
        shape: the shape of one image, (C, H, W); a batch has ``LATENCY_BATCH`` of them.
        conditions: how the network is executed.
        seconds: how long to time.

    Raises:
        FieldError: the network can't be built or can't process the images, or this machine
            doesn't have the device.
    """
    with _workload(config, shape, conditions) as workload:
        timed = time_interleaved(
            {"": workload.run_step},
            seconds=seconds,
            device=workload.device,
            clock=_clock(conditions),
        )
    return Reference(config, shape, conditions, timed[""].lower_quartile)


def measure_latency(
    reference: Reference,
    config: NetworkConfig,
    shape: tuple[int, int, int],
    conditions: LatencyConditions,
    *,
    seconds: float = 0.5,
) -> float:
    """Measure the latency of a network in inference, in seconds per ``LATENCY_BATCH`` images.

    Args:
        reference: the network that is timed in turns with it. If it is the same network, its
            latency is returned as it is.
        config: the network.
        shape: the shape of one image, (C, H, W).
        conditions: how the network is executed.
        seconds: how long to time.

    Raises:
        FieldError: the network can't be built or can't process the images, or this machine
            doesn't have the device.
    """
    if Reference(config, shape, conditions, reference.latency) == reference:
        return reference.latency
    workload = _reference_workload(reference)
    return _latency(reference, *_time_in_turns(workload, config, shape, conditions, seconds))


def match_latency(
    reference: Reference,
    config: NetworkConfig,
    shape: tuple[int, int, int],
    conditions: LatencyConditions,
    *,
    latency: float | None = None,
    seconds: float = 2.4,
) -> LatencyMatch:
    """Solve the width at which a network has a target latency.

    Args:
        reference: the network that is timed in turns with it.
        config: the network; its own width is ignored.
        shape: the shape of one image, (C, H, W).
        conditions: how the network is executed.
        latency: the target, in seconds per ``LATENCY_BATCH`` images; None for the reference's.
        seconds: the time after which a miss of 10% is accepted; a slow network takes longer.

    Raises:
        FieldError: an argument is out of bounds; no width comes near the target; the segments are
            explicit sizes, which fit one width only; or the network can't be built or can't
            process the images.
    """
    check_width_solvable(config)
    target = reference.latency if latency is None else latency
    if not (isinstance(target, int | float) and LATENCIES[0] <= target <= LATENCIES[1]):
        allowed = "must be a number of seconds from {} to {:,}".format(*LATENCIES)
        raise FieldError("latency", latency, allowed)
    at_its_width = config.model_copy(update={"width": reference.config.width})
    if latency is None and Reference(at_its_width, shape, conditions, target) == reference:
        return LatencyMatch(reference.config, 0.0, target)
    given, near = f"{1000 * target:.4g} ms", "must be near what a width can reach"
    if target > MAX_LATENCY * reference.latency:
        known = f"{reference.config.name} at {reference.config.segments}"
        allowed = (
            f"{near}: at most {MAX_LATENCY} times the {1000 * reference.latency:.4g} ms of "
            f"{known} and width {reference.config.width:g}"
        )
        raise FieldError("latency", given, allowed)
    workload = _reference_workload(reference)
    times: dict[float, tuple[tuple[float, ...], tuple[float, ...]]] = {}

    def measure(width: float) -> float:
        candidate = config.model_copy(update={"width": width})
        earlier = times.get(width, ((), ()))
        new = _time_in_turns(workload, candidate, shape, conditions, seconds / MAX_WIDTHS)
        times[width] = (earlier[0] + new[0], earlier[1] + new[1])
        return _latency(reference, *times[width]) / target

    width, cost = solve_width(measure, seconds=seconds)
    if not 0.5 < cost < 2:
        allowed = f"{near}: the nearest network takes {1000 * target * cost:.4g} ms"
        raise FieldError("latency", given, allowed)
    return LatencyMatch(config.model_copy(update={"width": width}), cost - 1, target * cost)


def solve_width(measure: Callable[[float], float], *, seconds: float) -> tuple[float, float]:
    """Find the width at which a noisily measured cost is 1.

    By and large the cost rises with the width, but in jumps, since a layer's kernel takes several
    channels at once, and it may even fall from one width to the next. So widths from 1 on are
    tried, the next by the square-root law, until one costs too little and another too much. This
    bracket is narrowed until its ends are near each other. Then the widths around it are tried.

    One of many noisy measurements looks right by chance. So a width that seems right is measured
    again.

    Args:
        measure: measures the cost at a width, divided by the target cost. When it is called again
            for a width, it takes its earlier measurements of it into account.
        seconds: the time after which a cost between 0.9 and 1.1 is accepted.

    Returns:
        The measured width whose cost is nearest to 1, and that cost, measured at least twice.
    """
    end = time.perf_counter() + seconds
    costs: dict[float, float] = {}
    confirmed: set[float] = set()  # measured twice

    def nearest() -> float:
        return min(costs, key=lambda width: abs(math.log(costs[width])))

    for width in _widths(costs):
        if width not in costs:
            costs[width] = measure(width)
        if width not in confirmed and abs(costs[width] - 1) <= TOLERANCE:
            costs[width] = measure(width)
            confirmed.add(width)
            if abs(costs[width] - 1) <= TOLERANCE:
                return width, costs[width]
        late = time.perf_counter() > end
        if len(costs) == MAX_WIDTHS or (late and abs(costs[nearest()] - 1) <= LATE_TOLERANCE):
            break
    while nearest() not in confirmed:
        width = nearest()
        confirmed.add(width)
        costs[width] = measure(width)
    return nearest(), costs[nearest()]


def _widths(costs: Mapping[float, float]) -> Iterator[float]:
    """The widths to measure, one after the other.

    Args:
        costs: the costs measured so far; before the next width is asked for, that of the last one
            must be there.
    """
    low, high = 0.0, math.inf  # the bracket: the last width that cost too little, and too much
    width, power = 1.0, 0.5
    while high > (1 + BRACKET) * low:
        yield width
        if costs[width] < 1:
            low = width
        else:
            high = width
        if low > 0 and high < math.inf:
            # Interpolates linearly in logarithms where the cost is 1, away from the bracket's ends.
            share = -math.log(costs[low]) / (math.log(costs[high]) - math.log(costs[low]))
            width = round_width(low * (high / low) ** min(max(share, 0.2), 0.8))
            continue
        factor = min(max(costs[width] ** -power, 1 / MAX_FACTOR), MAX_FACTOR)
        power *= 2  # larger steps, for where a call costs more than its arithmetic
        following = round_width(width * factor)
        if following == width:  # the least or the largest width
            return
        width = following
    yield from widths_around(math.sqrt(low * high), STEPS, STEP)


def _latency(
    reference: Reference, samples: tuple[float, ...], reference_samples: tuple[float, ...]
) -> float:
    """The latency of a network that was timed in turns with the reference, in seconds."""
    ratio = Timing(samples).lower_quartile / Timing(reference_samples).lower_quartile
    return reference.latency * ratio


def _time_in_turns(
    reference: Workload,
    config: NetworkConfig,
    shape: tuple[int, int, int],
    conditions: LatencyConditions,
    seconds: float,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Time a network and the reference in turns; their samples, in seconds."""
    with _workload(config, shape, conditions) as workload:
        timed = time_interleaved(
            {"network": workload.run_step, "reference": reference.run_step},
            seconds=seconds,
            min_repeats=MIN_REPEATS,
            device=workload.device,
            clock=_clock(conditions),
        )
    return timed["network"].samples, timed["reference"].samples


def _clock(conditions: LatencyConditions) -> Callable[[], float]:
    """The clock: for one thread its CPU time, which doesn't pass while others use the core."""
    return time.thread_time if conditions.threads == 1 else time.perf_counter


def _reference_workload(reference: Reference) -> Workload:
    with _workload(reference.config, reference.shape, reference.conditions) as workload:
        return workload


@contextmanager
def _workload(
    config: NetworkConfig, shape: tuple[int, int, int], conditions: LatencyConditions
) -> Iterator[Workload]:
    """A step of a network, for a ``with`` block in which the number of threads is set.

    Torch's random state is restored at the end.
    """
    device = checked_device(conditions.device)
    check_int("threads", conditions.threads, maximum=MAX_THREADS)
    with preserve_rng_state(device), cpu_threads(conditions.threads):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its caller shows a network's warnings once
            if not is_user_code(config.name):
                weights = build_on_meta(config).parameters()
                size = sum(weight.numel() * weight.itemsize for weight in weights)
                check_memory("width", config.width, size, "the weights have")
            network = build(config)
        yield make_workload(
            network,
            shape,
            LATENCY_BATCH,
            device,
            conditions.precision,
            channels_last=conditions.channels_last,
        )
