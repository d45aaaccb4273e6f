"""What a network costs on this machine: measured, not counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from spectrum.costs.timing import checked_device, time_interleaved
from spectrum.costs.workload import MeasuredPrecision, keeping_random_state, make_workload

__all__ = ["MeasuredCosts", "measure_costs"]


@dataclass(frozen=True)
class MeasuredCosts:
    """What was measured of a network; the intervals are 95% intervals for the medians.

    Attributes:
        latency: seconds a batch, the median.
        latency_interval: of the latency.
        images_per_second: the batch over the latency.
        images_per_second_interval: of that.
        peak_memory: the most bytes held at once.
    """

    latency: float
    latency_interval: tuple[float, float]
    images_per_second: float
    images_per_second_interval: tuple[float, float]
    peak_memory: int


def measure_costs(
    network: nn.Module,
    input_shape: Sequence[int],
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    precision: MeasuredPrecision = "float32",
    *,
    training: bool = False,
    channels_last: bool = True,
    seconds: float = 1.0,
) -> MeasuredCosts:
    """Measure a network's speed and memory; it and torch's random state are left as they were.

    A deep copy of the network takes steps on made-up images, with as many threads on the CPU as
    torch has now. In inference a step is a forward pass in eval mode and
    ``torch.inference_mode``; in training it is a forward pass in training mode, cross-entropy,
    backward and a step of plain SGD. Latencies depend on the machine and on what else it does;
    to compare two networks closely, interleave them (``spectrum.costs.time_interleaved``).

    Peak memory is the copy's parameters and buffers, the images, and the most that torch's
    allocator holds at once during a step beyond these: activations, the outputs, gradients, and
    weights cast by autocast. On the CPU it is exact for these and leaves out what libraries take
    for themselves (oneDNN's reordered weights) and the program; on a GPU torch rounds sizes up to
    512 bytes, and its cache and the driver's context are left out.

    Args:
        network: images (N, C, H, W) to anything; in training to logits (N, classes), or to a
            tuple of them, whose losses are added.
        input_shape: of one image, as in ``(3, 299, 299)``.
        batch_size: images a step.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        precision: ``"float32"``, or by autocast ``"bfloat16"`` or ``"float16"``; the parameters
            keep their type.
        training: whether to measure training.
        channels_last: whether weights and images are in that layout, as in training by default.
        seconds: how long to time; seven steps at least are timed.

    Raises:
        ValueError: a bad argument, or the network can't take the images or be trained on them.
            Where memory runs out the exception is torch's own.
    """
    with keeping_random_state(checked_device(device)):
        work = make_workload(
            network,
            input_shape,
            batch_size,
            device,
            precision,
            training=training,
            channels_last=channels_last,
        )
        peak = work.peak_memory()
        timing = time_interleaved({"step": work.call}, seconds=seconds, device=work.device)["step"]
    low, high = timing.interval
    return MeasuredCosts(
        latency=timing.median,
        latency_interval=(low, high),
        images_per_second=batch_size / timing.median,
        images_per_second_interval=(batch_size / high, batch_size / low),
        peak_memory=peak,
    )
