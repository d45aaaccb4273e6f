"""Measured time and memory of a network on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from spectrum.costs.choices import MeasuredPrecision
from spectrum.costs.timing import checked_device, time_interleaved
from spectrum.costs.workload import make_workload, preserve_rng_state


@dataclass(frozen=True)
class MeasuredCosts:
    """The measured speed and memory of a network, with 95% intervals.

    Attributes:
        latency: the median seconds per batch.
        latency_interval: the interval for ``latency``.
        images_per_second: the batch size divided by the latency.
        images_per_second_interval: the interval for ``images_per_second``.
        peak_memory: the most bytes used at once.
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
    """Measure a network's speed and memory.

    A deep copy of the network takes steps on random images, on the CPU with torch's current number
    of threads. In inference a step is a forward pass in eval mode under ``torch.inference_mode``.
    In training it is a forward pass in training mode, cross-entropy, a backward pass and a step of
    plain SGD. The network and torch's random state aren't changed.

    Latencies depend on the machine and on what else it does. To compare two networks closely, time
    them in turns (``spectrum.costs.time_interleaved``).

    Peak memory is the copy's parameters and buffers, the images, and the most that a step
    allocates at once: activations, outputs, gradients, and weights cast by autocast. On the CPU
    these are exact. They don't include the program and what libraries allocate for themselves,
    such as oneDNN's reordered weights. On a GPU torch rounds sizes up to 512 bytes, and its cache
    and the driver's context aren't included.

    Args:
        network: maps images (N, C, H, W) to anything; in training to logits (N, classes), or to a
            tuple of logits, whose losses are added.
        input_shape: the shape of one image, such as ``(3, 299, 299)``.
        batch_size: images per step.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        precision: ``"float32"``, or by autocast ``"bfloat16"`` or ``"float16"``; the parameters
            keep their type.
        training: whether to measure training.
        channels_last: whether weights and images have that memory layout, the default of training.
        seconds: how long to time; at least seven steps are timed.

    Raises:
        FieldError: an argument is invalid, or the network can't process the images or be trained
            on them. If memory runs out, torch's own exception is raised.
    """
    with preserve_rng_state(checked_device(device)):
        workload = make_workload(
            network,
            input_shape,
            batch_size,
            device,
            precision,
            training=training,
            channels_last=channels_last,
        )
        peak = workload.peak_memory()
        timing = time_interleaved(
            {"step": workload.run_step}, seconds=seconds, device=workload.device
        )["step"]
    low, high = timing.interval
    return MeasuredCosts(
        latency=timing.median,
        latency_interval=(low, high),
        images_per_second=batch_size / timing.median,
        images_per_second_interval=(batch_size / high, batch_size / low),
        peak_memory=peak,
    )
