"""The largest batch that fits in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from spectrum.costs.choices import MeasuredPrecision
from spectrum.costs.memory import memory_available, memory_trace
from spectrum.costs.timing import checked_device
from spectrum.costs.workload import (
    Workload,
    make_workload,
    preserve_rng_state,
)
from spectrum.errors import FieldError
from spectrum.layers import check_int
from spectrum.machine import is_out_of_memory

USABLE_SHARE = 0.8  # of the free memory of the CPU; libraries and other programs need some too
# Of the smaller batch that is measured. Batch normalisation may refuse one image in training, and
# libraries may compute one image in another way.
SMALL_BATCH = 2


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
    """The largest batch size, a power of two, whose step fits in memory.

    On a GPU larger and larger batches are tried until memory runs out. On the CPU the system would
    kill a process that takes too much, so two small batches are measured instead: the memory
    allocated at each moment of a step grows linearly with the number of images.

    Args:
        network: as for ``measure_costs``; it isn't changed.
        input_shape: the shape of one image, (C, H, W).
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        precision: of the forward pass.
        training: whether a step trains, with plain SGD (other optimisers need more memory), or
            infers.
        channels_last: whether weights and images have that memory layout.
        memory: the bytes that a step may use, as ``peak_memory`` of ``measure_costs`` counts them.
            None means all memory of a GPU, or 80% of the free memory of the CPU, within the limit
            of the control group.
        largest: the largest size to consider.

    Returns:
        A power of two up to ``largest``. In training it is at least 2, since batch normalisation
        may need two images.

    Raises:
        FieldError: an argument is invalid, or not even the smallest batch fits.
    """
    place = checked_device(device)
    smallest = SMALL_BATCH if training else 1
    largest = check_int("largest", largest, smallest)
    limit = None if memory is None else check_int("memory", memory)
    prepare = partial(
        make_workload,
        network,
        input_shape,
        device=place,
        precision=precision,
        training=training,
        channels_last=channels_last,
    )

    def measured_peak(batch_size: int) -> int:
        return prepare(batch_size).peak_memory()

    with preserve_rng_state(place):
        if place.type == "cuda":
            return largest_fitting_size(measured_peak, smallest, largest, memory=limit)
        peak = peak_memory_by_size(prepare)
        limit = limit or int(USABLE_SHARE * memory_available())
        return largest_fitting_size(peak, smallest, largest, memory=limit)


def peak_memory_by_size(prepare: Callable[[int], Workload]) -> Callable[[int], int]:
    """A function that predicts a step's peak memory on the CPU from its batch size.

    Steps of two small batches are measured. If both allocate and release in the same order, the
    memory at each moment is a linear function of the batch size, and the peak is the maximum of
    these. Otherwise the prediction is an upper bound: a peak proportional to the batch size.

    Args:
        prepare: makes the step of a batch size.
    """
    small, large = prepare(SMALL_BATCH), prepare(2 * SMALL_BATCH)
    low = [small.static_bytes + allocated for allocated in memory_trace(small.run_step)]
    high = [large.static_bytes + allocated for allocated in memory_trace(large.run_step)]

    def peak(size: int) -> int:
        steps = size / SMALL_BATCH - 1
        if len(low) != len(high):
            return round(max((steps + 1) / 2, 1) * max(high))
        return round(max(a + (b - a) * steps for a, b in zip(low, high, strict=True)))

    return peak


def largest_fitting_size(
    peak: Callable[[int], int], smallest: int, largest: int, *, memory: int | None
) -> int:
    """Double a batch size until memory runs out; the largest size that fits.

    Args:
        peak: takes a step of a size and gives its peak memory in bytes.
        smallest: the first size.
        largest: the largest size to try.
        memory: the bytes that a step may use; None for all that there are.

    Raises:
        FieldError: the smallest size doesn't fit.
    """
    fits, size = 0, smallest
    while size <= largest:
        try:
            used = peak(size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            used = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # so that the next size finds this memory free
        if used is None or (memory is not None and used > memory):
            break
        fits, size = size, 2 * size
    if not fits:
        given = "all there is" if memory is None else memory
        needs = "" if used is None else f", which needs {used} bytes"
        raise FieldError("memory", given, f"must have room for a batch of {smallest}{needs}")
    return fits
