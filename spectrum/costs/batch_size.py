"""The largest batch that memory has room for, found without running out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from spectrum.costs.memory import held_in_call, is_out_of_memory, memory_available
from spectrum.costs.timing import checked_device
from spectrum.costs.workload import (
    MeasuredPrecision,
    Workload,
    keeping_random_state,
    make_workload,
)
from spectrum.layers import whole

__all__ = ["find_batch_size"]

MARGIN = 0.8  # of what is free on the CPU: libraries and others take some of it
SMALL = 2  # one image may be computed in ways of its own, and won't do for batch normalisation


def find_batch_size(
    network: nn.Module,
    input_shape: Sequence[int],
    device: str | torch.device = "cpu",
    precision: MeasuredPrecision = "float32",
    *,
    training: bool = True,
    channels_last: bool = True,
    memory: int | None = None,
    largest: int = 1024,
) -> int:
    """The largest batch size, a power of two, whose step fits into memory.

    On a GPU ever larger batches are tried, and running out of memory is caught. On the CPU, where
    the system kills a process that takes too much, two small batches tell: at every moment of a
    step, what is held rises by as much with each image.

    Args:
        network: as ``measure_costs`` takes it; it is left as it was.
        input_shape: of one image.
        device: where.
        precision: of the forward pass.
        training: whether to train, with plain SGD: other optimisers hold more; or to infer.
        channels_last: the layout of weights and images.
        memory: bytes that a step may hold, as ``peak_memory`` of ``measure_costs`` counts them;
            None for what there is: all that a GPU gives, and on the CPU four fifths of what is
            free (within the limit of the control group).
        largest: the size not to go beyond.

    Returns:
        A power of two up to ``largest``, from 1; in training from 2, since batch normalisation
        may need two images.

    Raises:
        ValueError: a bad argument, or not even the smallest batch fits.
    """
    place = checked_device(device)
    smallest = SMALL if training else 1
    largest = whole("largest", largest, smallest)
    limit = None if memory is None else whole("memory", memory)

    def prepare(batch_size: int) -> Workload:
        return make_workload(
            network,
            input_shape,
            batch_size,
            place,
            precision,
            training=training,
            channels_last=channels_last,
        )

    with keeping_random_state(place):
        if place.type == "cuda":
            return largest_tried(
                lambda size: prepare(size).peak_memory(), smallest, largest, memory=limit
            )
        peak = peak_by_size(prepare)
    limit = limit or int(MARGIN * memory_available())
    if peak(smallest) > limit:
        raise _too_little(limit, smallest, peak(smallest))
    size = smallest
    while 2 * size <= largest and peak(2 * size) <= limit:
        size *= 2
    return size


def peak_by_size(prepare: Callable[[int], Workload]) -> Callable[[int], int]:
    """The peak memory of a step on the CPU by its batch size, from two small batches.

    Where both allocate and free in the same order, each moment of the step is a straight line
    over the sizes, and the peak is the highest of them. Where they don't, no moment can rise
    faster than the peak does from nothing.

    Args:
        prepare: a step by its batch size.
    """
    first, second = prepare(SMALL), prepare(2 * SMALL)
    low = [first.held + held for held in held_in_call(first.call)]
    high = [second.held + held for held in held_in_call(second.call)]

    def peak(size: int) -> int:
        steps = size / SMALL - 1
        if len(low) != len(high):
            return round(max((steps + 1) / 2, 1) * max(high))
        return round(max(a + (b - a) * steps for a, b in zip(low, high, strict=True)))

    return peak


def largest_tried(
    peak: Callable[[int], int], smallest: int, largest: int, *, memory: int | None
) -> int:
    """The largest of the doubled sizes that doesn't run out of memory, or go beyond ``memory``.

    Args:
        peak: takes a step of a size and tells its bytes.
        smallest: the size to begin with.
        largest: the size not to go beyond.
        memory: bytes that a step may hold; None for as many as there are.

    Raises:
        ValueError: the smallest doesn't fit.
    """
    fits, size = 0, smallest
    while size <= largest:
        try:
            held = peak(size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            held = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # what was tried shall not stand in the way of the next
        if held is None or (memory is not None and held > memory):
            break
        fits, size = size, 2 * size
    if not fits:
        raise _too_little(memory, smallest, held)
    return fits


def _too_little(memory: int | None, smallest: int, needed: int | None) -> ValueError:
    given = "all there is" if memory is None else f"{memory} bytes"
    needs = "" if needed is None else f", which holds {needed} bytes"
    return ValueError(f"memory (={given}) must have room for a batch of {smallest}{needs}")
