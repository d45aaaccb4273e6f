"""One step of a network on random images, whose time and memory can be measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.copying import copy_module
from spectrum.costs.choices import MeasuredPrecision
from spectrum.costs.inputs import check_memory, checked_shape, input_shape_error, make_example
from spectrum.costs.memory import max_memory_allocated
from spectrum.costs.timing import checked_device
from spectrum.errors import FieldError
from spectrum.layers import check_int
from spectrum.machine import is_out_of_memory

MAX_BATCH_SIZE = 10_000_000  # that of recipes too
_TYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name) for name in get_args(MeasuredPrecision)
}


@dataclass(frozen=True)
class Workload:
    """A step of a copy of a network.

    Attributes:
        run_step: takes the step.
        device: where the step computes.
        batch_size: images per step.
        static_bytes: bytes of the copy's parameters and buffers and of the images.
    """

    run_step: Callable[[], object]
    device: torch.device
    batch_size: int
    static_bytes: int

    def peak_memory(self) -> int:
        """Take a step; the most bytes that the copy, its images and the step use at once."""
        return self.static_bytes + max_memory_allocated(self.run_step, self.device)


def make_workload(
    network: nn.Module,
    input_shape: Sequence[int],
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    precision: MeasuredPrecision = "float32",
    *,
    training: bool = False,
    channels_last: bool = True,
) -> Workload:
    """Make a step of a deep copy of a network, and take it once.

    In inference a step is a forward pass in eval mode under ``torch.inference_mode``. In training
    it is a forward pass in training mode, cross-entropy (summed over the heads if there are
    several), a backward pass, an SGD step, and clearing the gradients. The learning rate is 0:
    the work is the same, and the weights don't change.

    Args:
        network: maps images (N, C, H, W) to anything; in training to logits (N, classes), or to a
            tuple of logits. It isn't changed.
        input_shape: the shape of one image, such as ``(3, 299, 299)``.
        batch_size: images per step. They are Gaussian noise, the same in each step.
        device: where the copy goes.
        precision: of the forward pass, by autocast; the copy's parameters keep their type.
        training: whether the step trains.
        channels_last: whether weights and images have that memory layout, the default of training.

    Raises:
        FieldError: an argument is invalid, or the network can't process the images or be trained
            on them. If memory runs out, torch's own exception is raised.
    """
    shape = checked_shape(input_shape)
    batch_size = check_int("batch_size", batch_size, maximum=MAX_BATCH_SIZE)
    device = checked_device(device)
    if precision not in _TYPES:
        raise FieldError("precision", precision, f"must be one of {', '.join(_TYPES)}")
    kind = type(network).__name__
    if any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers())):
        raise FieldError("network", kind, "must have weights, and not be on the meta device")
    if training and not any(p.requires_grad for p in network.parameters()):
        raise FieldError("network", kind, "must have trainable parameters to be trained")
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = copy_module(network).train(training).to(device)
    network = network.to(memory_format=layout)  # type: ignore[call-overload]
    network.zero_grad()  # gradients are copied too
    generator = torch.Generator().manual_seed(0)
    dtype = make_example(network, shape).dtype
    if device.type == "cpu":
        size = batch_size * math.prod(shape) * dtype.itemsize
        check_memory("batch_size", batch_size, size, "its images have")
    images = torch.randn(batch_size, *shape, generator=generator, dtype=dtype)
    images = images.to(device).contiguous(memory_format=layout)
    make_step = _training_step if training else _inference_step
    autocast = torch.autocast(device.type, _TYPES[precision], enabled=precision != "float32")
    run_step = make_step(network, images, autocast)
    try:
        run_step()
    except FieldError:
        raise
    except Exception as error:  # a user's module may raise any exception
        if is_out_of_memory(error):
            raise
        raise input_shape_error(network, shape, error) from error
    tensors = (*network.parameters(), *network.buffers(), images)
    static_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return Workload(run_step, device, batch_size, static_bytes)


def preserve_rng_state(device: torch.device) -> AbstractContextManager[None]:
    """Restore torch's random state after a ``with`` block, in which dropout may draw from it."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _inference_step(
    network: nn.Module, images: Tensor, autocast: torch.autocast
) -> Callable[[], object]:
    def infer() -> object:
        with torch.inference_mode(), autocast:
            return network(images)

    return infer


def _training_step(
    network: nn.Module, images: Tensor, autocast: torch.autocast
) -> Callable[[], object]:
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
    optimizer = torch.optim.SGD(
        [p for p in network.parameters() if p.requires_grad], lr=0.0, fused=True
    )

    def train() -> None:
        with torch.enable_grad():
            with autocast:
                output = network(images)
            loss = images.new_zeros(())
            for logits in output if isinstance(output, tuple) else (output,):
                if not isinstance(logits, Tensor) or logits.dim() != 2:
                    given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits)
                    allowed = f"must give logits (N, classes), not {given}"
                    raise FieldError("network", type(network).__name__, allowed)
                loss = loss + F.cross_entropy(logits.float(), labels)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return train
