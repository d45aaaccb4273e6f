"""The input that a network is counted with, and the error for an input that doesn't fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from spectrum.layers import check_int

__all__ = [
    "checked_shape",
    "eval_mode",
    "first_line",
    "input_shape_error",
    "make_example",
    "record_output_shapes",
]

# Sides of square inputs to try, up to the largest in use. A bisection between two follows.
_SIDES = (8, 16, 32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 320, 384, 448, 512, 768, 1024)


def checked_shape(input_shape: Sequence[int]) -> tuple[int, int, int]:
    """Check the shape of an image and return it as a tuple.

    Raises:
        ValueError: ``input_shape`` isn't three whole numbers from 1.
    """
    if not isinstance(input_shape, Sequence) or len(input_shape) != 3:
        raise ValueError(f"input_shape (={input_shape!r}) must be (channels, height, width)")
    channels, height, width = (check_int("input_shape", n) for n in input_shape)
    return channels, height, width


def make_example(network: nn.Module, shape: Sequence[int]) -> Tensor:
    """One image of zeros, (1, C, H, W), with the device and type of the network's weights."""
    weight = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
    return torch.zeros(1, *shape, dtype=weight.dtype, device=weight.device)


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Put a network in eval mode, without gradients, for the duration of a ``with`` block.

    Afterwards each module is in the mode that it was in, and torch's random state is restored.
    """
    # fvcore counts batch normalisation differently in training mode.
    modes = [(module, module.training) for module in network.modules()]
    devices = {p.device for p in network.parameters() if p.device.type == "cuda"}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=list(devices)):
            network.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def record_output_shapes(network: nn.Module, shapes: dict[str, tuple[int, ...]]) -> Iterator[None]:
    """Record the output shapes of all modules that run in a ``with`` block.

    Args:
        network: its modules are watched.
        shapes: is filled with the shapes by the module's path, without the batch dimension.
    """

    def make_hook(name: str):  # type: ignore[no-untyped-def]
        def record(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                shapes[name] = tuple(int(n) for n in output.shape[1:])

        return record

    handles = [
        module.register_forward_hook(make_hook(name)) for name, module in network.named_modules()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def input_shape_error(
    network: nn.Module, shape: tuple[int, int, int], error: Exception
) -> ValueError:
    """The error to raise for a network that fails on an input of ``shape``.

    If a larger square input would fit, its message names the smallest one.
    """
    side = _smallest_side(network, shape)
    needs = f", which needs at least {side}x{side}" if side else ""
    return ValueError(f"input_shape (={shape}) doesn't fit the network{needs}: {first_line(error)}")


def first_line(error: Exception) -> str:
    """The first line of an exception's message, or its class where the message is empty."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _smallest_side(network: nn.Module, shape: tuple[int, int, int]) -> int | None:
    """The side of the smallest square input that fits; None if size isn't what is wrong."""
    channels, height, width = shape
    if _fits(network, shape):
        return None  # it failed for another reason, such as memory
    low = min(height, width)
    for high in (side for side in _SIDES if side > low):
        if not _fits(network, (channels, high, high)):
            low = high
            continue
        while high - low > 1:
            middle = (low + high) // 2
            if _fits(network, (channels, middle, middle)):
                high = middle
            else:
                low = middle
        return high
    return None


def _fits(network: nn.Module, shape: tuple[int, int, int]) -> bool:
    """Whether the network can process an input, tried on the meta device without computing."""
    state = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
    }
    example = make_example(network, shape).to("meta")
    with eval_mode(network):
        try:
            functional_call(network, state, (example,))
        except Exception:  # a user's module may raise any exception
            return False
    return True
