"""What a network is counted with: an example, eval mode, and what is said if it doesn't fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from spectrum.layers import whole

__all__ = ["checked_shape", "evaluating", "make_example", "misfit", "one_line", "recording_shapes"]

# Sides of square inputs to try, up to the largest in use; between two of them is bisected.
_SIDES = (8, 16, 32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 320, 384, 448, 512, 768, 1024)


def checked_shape(input_shape: Sequence[int]) -> tuple[int, int, int]:
    """The shape of an image as a tuple.

    Raises:
        ValueError: it isn't three whole numbers from 1.
    """
    if not isinstance(input_shape, Sequence) or len(input_shape) != 3:
        raise ValueError(f"input_shape (={input_shape!r}) must be (channels, height, width)")
    channels, height, width = (whole("input_shape", n) for n in input_shape)
    return channels, height, width


def make_example(network: nn.Module, shape: Sequence[int]) -> Tensor:
    """One image of zeros, of the network's device and type."""
    weight = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
    return torch.zeros(1, *shape, dtype=weight.dtype, device=weight.device)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode without gradients, module by module undone; random numbers drawn are given back."""
    # Batch normalisation counts differently in training mode.
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
def recording_shapes(network: nn.Module, shapes: dict[str, tuple[int, ...]]) -> Iterator[None]:
    """Note the output shape of every module that runs, without the batch dimension."""

    def hook(name: str):  # type: ignore[no-untyped-def]
        def note(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                shapes[name] = tuple(int(n) for n in output.shape[1:])

        return note

    handles = [module.register_forward_hook(hook(name)) for name, module in network.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def misfit(network: nn.Module, shape: tuple[int, int, int], error: Exception) -> ValueError:
    """What to raise for a network that fails on an input of ``shape``.

    Where a larger square would do, the message says from which size on.
    """
    side = _least_side(network, shape)
    needs = f", which needs at least {side}x{side}" if side else ""
    return ValueError(f"input_shape (={shape}) doesn't fit the network{needs}: {one_line(error)}")


def one_line(error: Exception) -> str:
    """The first line of what went wrong, or its kind where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _least_side(network: nn.Module, shape: tuple[int, int, int]) -> int | None:
    """The side of the least square that fits, if that is larger than ``shape``; else None."""
    channels, height, width = shape
    if _fits(network, shape):
        return None  # it failed for want of memory, not of pixels
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
    """Whether the network takes an input, seen on the meta device, where nothing is computed."""
    state = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
    }
    example = make_example(network, shape).to("meta")
    with evaluating(network):
        try:
            functional_call(network, state, (example,))
        except Exception:  # a user's module may raise anything
            return False
    return True
