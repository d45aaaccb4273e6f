"""One step of a network on made-up images, to be timed or to have its memory measured."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.costs.inputs import checked_shape, misfit
from spectrum.costs.memory import is_out_of_memory, peak_in_call
from spectrum.costs.timing import checked_device
from spectrum.layers import whole

__all__ = ["MeasuredPrecision", "Workload", "keeping_random_state", "make_workload"]

MeasuredPrecision: TypeAlias = Literal["float32", "bfloat16", "float16"]
_TYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name) for name in get_args(MeasuredPrecision)
}


@dataclass(frozen=True)
class Workload:
    """A step of a copy of a network.

    Attributes:
        call: takes the step.
        device: where.
        batch_size: images a step.
        held: bytes of the copy's parameters, its buffers and the images.
    """

    call: Callable[[], object]
    device: torch.device
    batch_size: int
    held: int

    def peak_memory(self) -> int:
        """The most bytes that the copy, its batch and a step hold at once, a step being taken."""
        return self.held + peak_in_call(self.call, self.device)


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
    """A step of a deep copy of a network, which isn't touched itself; the step is taken once.

    In inference a step is a forward pass in eval mode and ``torch.inference_mode``. In training
    it is a forward pass in training mode, cross-entropy (summed over all heads where there are
    several), backward, a step of SGD, and gradients cleared. Its learning rate is 0, which does
    the same work and leaves the weights what they are.

    Args:
        network: images (N, C, H, W) to anything; in training to logits (N, classes), or to a
            tuple of them.
        input_shape: of one image, as in ``(3, 299, 299)``.
        batch_size: images a step, of normal noise, always the same.
        device: where the copy goes.
        precision: of the forward pass, by autocast; the copy's parameters stay as they are.
        training: whether to train.
        channels_last: whether weights and images are in that layout, as in training by default.

    Raises:
        ValueError: a bad argument, or the network can't take the images or be trained on them.
            Where memory runs out the exception is torch's own.
    """
    shape = checked_shape(input_shape)
    batch_size = whole("batch_size", batch_size)
    place = checked_device(device)
    if precision not in _TYPES:
        raise ValueError(f"precision (={precision!r}) must be one of {', '.join(_TYPES)}")
    if any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers())):
        raise ValueError("network (on the meta device) must have weights to be measured")
    parameters = sum(p.requires_grad for p in network.parameters())
    if training and not parameters:
        raise ValueError(f"network (={parameters} trainable parameters) must have some to train")
    layout = torch.channels_last if channels_last else torch.contiguous_format
    step = copy.deepcopy(network).train(training).to(place)
    step = step.to(memory_format=layout)  # type: ignore[call-overload]
    step.zero_grad()  # a copy has the gradients of its model
    images = _noise(step, batch_size, shape).to(place).contiguous(memory_format=layout)
    call = (_training if training else _inference)(step, images, _cast(place, precision))
    try:
        call()
    except _NotLogits:
        raise
    except Exception as error:  # a user's module may raise anything
        if is_out_of_memory(error):
            raise
        raise misfit(step, shape, error) from error
    tensors = (*step.parameters(), *step.buffers(), images)
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return Workload(call, place, batch_size, held)


@contextmanager
def keeping_random_state(device: torch.device) -> Iterator[None]:
    """Give back the random numbers that a step draws, for dropout say."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


class _NotLogits(ValueError):
    """The network gives something that no cross-entropy can be taken of."""


def _cast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, _TYPES[precision], enabled=precision != "float32")


def _inference(network: nn.Module, images: Tensor, cast: torch.autocast) -> Callable[[], object]:
    def infer() -> object:
        with torch.inference_mode(), cast:
            return network(images)

    return infer


def _training(network: nn.Module, images: Tensor, cast: torch.autocast) -> Callable[[], object]:
    labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
    optimizer = torch.optim.SGD(
        [p for p in network.parameters() if p.requires_grad], lr=0.0, fused=True
    )

    def train() -> None:
        with torch.enable_grad():
            with cast:
                output = network(images)
            loss = images.new_zeros(())
            for logits in output if isinstance(output, tuple) else (output,):
                if not isinstance(logits, Tensor) or logits.dim() != 2:
                    given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits)
                    raise _NotLogits(f"network must give logits (N, classes), not {given}")
                loss = loss + F.cross_entropy(logits.float(), labels)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return train


def _noise(network: nn.Module, batch_size: int, shape: Sequence[int]) -> Tensor:
    """Images of normal noise, of the type of the network's weights."""
    weight = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch_size, *shape, generator=generator, dtype=weight.dtype)
