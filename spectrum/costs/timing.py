"""Timing calls in turns, so that a slow phase of the machine affects all of them alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from scipy.special import bdtr

from spectrum.errors import FieldError
from spectrum.layers import check_int

_Key = TypeVar("_Key", bound=Hashable)
WARM_UPS = 2  # calls that aren't timed; the first may allocate and compile
CONFIDENCE = 0.95
MAX_SECONDS = 86_400  # a day
MAX_REPEATS = 1_000_000


@dataclass(frozen=True)
class Timing:
    """The times of one call.

    Attributes:
        samples: the seconds of each round, in order.
    """

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median, in seconds."""
        return median(self.samples)

    @property
    def lower_quartile(self) -> float:
        """The lower quartile, in seconds; other programs on the machine affect it little."""
        return sorted(self.samples)[(len(self.samples) - 1) // 4]

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval for the median, in seconds (``median_interval``)."""
        return median_interval(self.samples)


class Ratio(NamedTuple):
    """How many times as long one call takes as another.

    Attributes:
        median: the median of the ratios in each round.
        interval: the 95% interval for the median.
    """

    median: float
    interval: tuple[float, float]


def time_interleaved(
    calls: Mapping[_Key, Callable[[], object]],
    *,
    seconds: float = 1.0,
    min_repeats: int = 7,
    device: str | torch.device = "cpu",
    clock: Callable[[], float] | None = None,
) -> dict[_Key, Timing]:
    """Time calls in rounds. Each round makes every call once, in a new random order.

    Every call is warmed up first. On a GPU a sample is the time between two events on the current
    stream, from an idle device to the end of the work that the call started.

    Args:
        calls: what to time, by name. Their results are dropped.
        seconds: the time for all calls together, without the warm-up.
        min_repeats: the least number of rounds, however long they take. With 6 or more the
            intervals of ``Timing`` have a confidence of 95%.
        device: where the calls compute.
        clock: gives the seconds by which calls on the CPU are timed; None for wall-clock time.
            For a call that computes in one thread, ``time.thread_time`` leaves out the time that
            other processes took.

    Returns:
        The timings by name. Samples with the same index are from the same round.

    Raises:
        FieldError: ``calls`` is empty, ``seconds`` isn't from 0 to a day or ``min_repeats`` from 1
            to a million, or this machine doesn't have the device.
    """
    if not calls:
        raise FieldError("calls", calls, "must hold at least one call")
    if not (isinstance(seconds, int | float) and 0 <= seconds <= MAX_SECONDS):
        raise FieldError("seconds", seconds, f"must be a number from 0 to {MAX_SECONDS}")
    min_repeats = check_int("min_repeats", min_repeats, maximum=MAX_REPEATS)
    place = checked_device(device)
    on_cpu = partial(_time_on_cpu, clock or time.perf_counter)
    time_call = _time_on_cuda if place.type == "cuda" else on_cpu
    names, samples = list(calls), {name: list[float]() for name in calls}
    rng = random.Random(0)
    with torch.cuda.device(place) if place.type == "cuda" else nullcontext():
        for _ in range(WARM_UPS):
            for call in calls.values():
                call()
        start = time.perf_counter()
        rounds = 0
        while rounds < min_repeats or time.perf_counter() - start < seconds:
            rng.shuffle(names)
            for name in names:
                samples[name].append(time_call(calls[name]))
            rounds += 1
    return {name: Timing(tuple(samples[name])) for name in calls}


def ratio(a: Timing, b: Timing) -> Ratio:
    """How many times as long ``a`` takes as ``b``: the median of the ratios in each round.

    A slow phase of the machine that affects both calls of a round doesn't change their ratio.

    Raises:
        FieldError: the timings don't have the same number of rounds.
    """
    if len(a.samples) != len(b.samples):
        allowed = f"must be of the same rounds as b, which has {len(b.samples)} samples"
        raise FieldError("a", f"{len(a.samples)} samples", allowed)
    ratios = [x / y for x, y in zip(a.samples, b.samples, strict=True)]
    return Ratio(median(ratios), median_interval(ratios))


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """A 95% confidence interval for the median of any distribution that samples are drawn from.

    It reaches from the i-th smallest to the i-th largest of n samples. The median lies outside of
    it if fewer than i samples fall on one side of the median. The number that do is binomial, and
    i is the largest at which this has a probability of at most 5%. With fewer than six samples
    there is no such i; the interval is then from the smallest to the largest sample and has a
    confidence below 95%.

    Raises:
        FieldError: there are no samples.
    """
    n = len(samples)
    if not n:
        raise FieldError("samples", samples, "must be at least one")
    ordered = sorted(samples)
    chances = bdtr(np.arange(n), n, 0.5)  # of at most 0, 1, ... samples on one side
    i = max(int(np.count_nonzero(2 * chances <= 1 - CONFIDENCE)), 1)
    return ordered[i - 1], ordered[n - i]


def checked_device(device: str | torch.device) -> torch.device:
    """Check that this machine has a device, and return it.

    Raises:
        FieldError: this machine doesn't have the device.
    """
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    devices = ["cpu", *(["cuda"] if gpus else []), *gpus]
    if str(device) not in devices:
        raise FieldError("device", str(device), f"must be one of {', '.join(devices)} here")
    return torch.device(device)


def _time_on_cpu(clock: Callable[[], float], call: Callable[[], object]) -> float:
    start = clock()
    call()
    return clock() - start


def _time_on_cuda(call: Callable[[], object]) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()  # earlier work isn't part of this sample
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000
