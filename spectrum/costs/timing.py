"""How long calls take, side by side: interleaved, so that a slow spell of the machine meets all."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import NamedTuple

import torch

from spectrum.layers import whole

__all__ = ["Ratio", "Timing", "checked_device", "median_interval", "ratio", "time_interleaved"]

WARM_UPS = 2  # the first call allocates and compiles, the second finds it done
LEVEL = 0.95


@dataclass(frozen=True)
class Timing:
    """The times of one call.

    Attributes:
        samples: seconds, in the order of the rounds.
    """

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds."""
        return median(self.samples)

    @property
    def lower_quartile(self) -> float:
        """Seconds; what other programs take of a busy machine touches it far less than the rest."""
        return sorted(self.samples)[(len(self.samples) - 1) // 4]

    @property
    def interval(self) -> tuple[float, float]:
        """A 95% interval for the median, in seconds, as ``median_interval`` gives it."""
        return median_interval(self.samples)


class Ratio(NamedTuple):
    """How many times as long one call takes as another.

    Attributes:
        median: of the rounds' ratios.
        interval: a 95% interval for it.
    """

    median: float
    interval: tuple[float, float]


def time_interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 1.0,
    min_repeats: int = 7,
    device: str | torch.device = "cpu",
    clock: Callable[[], float] | None = None,
) -> dict[str, Timing]:
    """Time calls in rounds, each call once a round, in an order that is drawn anew every round.

    Every call is warmed up first. On a GPU a sample is the time between two events on the current
    stream, from an idle device to the end of the work that the call began there.

    Args:
        calls: what to time, by name; their results are dropped at once.
        seconds: how long to go on after the warm-up, all calls together.
        min_repeats: the rounds that are timed however long they take; from 6 on the intervals
            of ``Timing`` hold 95%.
        device: where the calls compute.
        clock: in seconds, by which calls on the CPU are timed; None for the wall's.
            ``time.thread_time`` leaves out what other processes did meanwhile, where a call
            computes in one thread.

    Returns:
        As many samples of each call, those at one index from the same round.

    Raises:
        ValueError: no calls, a negative number of seconds, less than one repeat, or a device that
            isn't there.
    """
    if not calls:
        raise ValueError("calls (={}) must hold at least one call")
    if not (isinstance(seconds, int | float) and 0 <= seconds < math.inf):
        raise ValueError(f"seconds (={seconds!r}) must be a finite number from 0")
    min_repeats = whole("min_repeats", min_repeats)
    place = checked_device(device)
    timed = _timed_on_cuda if place.type == "cuda" else partial(_timed, clock or time.perf_counter)
    names, samples = list(calls), {name: list[float]() for name in calls}
    shuffled = random.Random(0)
    with torch.cuda.device(place) if place.type == "cuda" else nullcontext():
        for _ in range(WARM_UPS):
            for call in calls.values():
                call()
        begun = time.perf_counter()
        rounds = 0
        while rounds < min_repeats or time.perf_counter() - begun < seconds:
            shuffled.shuffle(names)
            for name in names:
                samples[name].append(timed(calls[name]))
            rounds += 1
    return {name: Timing(tuple(samples[name])) for name in calls}


def ratio(a: Timing, b: Timing) -> Ratio:
    """How many times as long ``a`` takes as ``b``: the median over the rounds they share.

    A slow spell that meets both calls of a round leaves their ratio as it is.

    Raises:
        ValueError: they aren't of the same rounds.
    """
    if len(a.samples) != len(b.samples):
        raise ValueError(
            f"a (={len(a.samples)} samples) must be of the same rounds as b (={len(b.samples)})"
        )
    ratios = [x / y for x, y in zip(a.samples, b.samples, strict=True)]
    return Ratio(median(ratios), median_interval(ratios))


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """A 95% interval for the median of what the samples are drawn from, whatever its shape.

    The i-th smallest and the i-th largest of n samples lie on two sides of the median unless
    fewer than i samples fall on one side of it, and how many do is binomial: i is the largest
    where that has a chance of 5% at most. With fewer than six samples even the smallest and the
    largest, which are given then, hold less than 95%.

    Raises:
        ValueError: there are no samples.
    """
    n = len(samples)
    if not n:
        raise ValueError("samples (=0 of them) must be at least one")
    ordered = sorted(samples)
    if n > 1000:  # the binomial is as good as normal, and its exact sum takes long
        i = math.floor(n / 2 - 1.96 * math.sqrt(n) / 2)
        return ordered[i - 1], ordered[n - i]
    chance, i = 0.0, 0
    while 2 * (chance + math.comb(n, i) / 2**n) <= 1 - LEVEL:
        chance += math.comb(n, i) / 2**n
        i += 1
    i = max(i, 1)
    return ordered[i - 1], ordered[n - i]


def checked_device(device: str | torch.device) -> torch.device:
    """A device that is there.

    Raises:
        ValueError: this machine doesn't have it.
    """
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    here = ["cpu", *(["cuda"] if gpus else []), *gpus]
    if str(device) not in here:
        raise ValueError(f"device (={str(device)!r}) must be one of {', '.join(here)} here")
    return torch.device(device)


def _timed(clock: Callable[[], float], call: Callable[[], object]) -> float:
    begun = clock()
    call()
    return clock() - begun


def _timed_on_cuda(call: Callable[[], object]) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()  # what came before, a call's warm-up too, isn't in this sample
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000
