"""The input that a network is counted with, and the error for an input that doesn't fit."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from spectrum.costs.memory import memory_available
from spectrum.errors import FieldError
from spectrum.layers import check_int
from spectrum.user_code import describe_error

_MAX_SIZE = 999_999  # of each number of a shape
# Sides of square inputs to try, up to the largest in use. A bisection between two follows.
_SIDES = (8, 16, 32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 320, 384, 448, 512, 768, 1024)


class ModuleCall(NamedTuple):
    """A call of a module in a forward pass. Shapes have no batch dimension.

    Attributes:
        name: the module's path in the network.
        module: the module.
        input_shape: the shape of its first input.
        output_shape: the shape of its output; empty if that isn't a tensor.
        macs: the multiply-adds that it computes itself, without those of modules in it.
    """

    name: str
    module: nn.Module
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    macs: int = 0


def checked_shape(input_shape: Sequence[int]) -> tuple[int, int, int]:
    """Check the shape of an image and return it as a tuple.

    Raises:
        FieldError: ``input_shape`` isn't three whole numbers from 1 to 999,999.
    """
    if not isinstance(input_shape, Sequence) or len(input_shape) != 3:
        raise FieldError("input_shape", input_shape, "must be (channels, height, width)")
    channels, height, width = (check_int("input_shape", n, maximum=_MAX_SIZE) for n in input_shape)
    return channels, height, width


def shape_as_text(shape: Sequence[int]) -> str:
    """A shape such as ``3x299x299``."""
    return "x".join(map(str, shape))


def make_example(
    network: nn.Module, shape: Sequence[int], device: torch.device | str | None = None
) -> Tensor:
    """One image of zeros, (1, C, H, W), with the type of the network's weights.

    Args:
        network: the network.
        shape: the shape of the image, (C, H, W).
        device: where the image is; None for the device of the weights.

    Raises:
        FieldError: it needs more memory than is free.
    """
    weight = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
    place = torch.device(weight.device if device is None else device)
    if place.type == "cpu":
        size = math.prod(shape) * weight.itemsize
        check_memory("input_shape", shape_as_text(shape), size, "its images have")
    return torch.zeros(1, *shape, dtype=weight.dtype, device=place)


def check_memory(name: str, value: object, size: int, what: str) -> None:
    """Raise a FieldError about an argument if the memory of the CPU is too small for it.

    Args:
        name: the argument.
        value: its value.
        size: the bytes that it needs.
        what: what needs them, with a verb.
    """
    available = memory_available()
    if size > available:
        allowed = f"must fit in memory: {what} {size:,} bytes, and {available:,} are free"
        raise FieldError(name, value, allowed)


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Put a network in eval mode, without gradients, for the duration of a ``with`` block.

    Modules that spread a batch over several GPUs compute in one place. Afterwards each module is in
    the mode that it was in, and torch's random state is restored.
    """
    # fvcore counts batch normalisation differently in training mode.
    modes = [(module, module.training) for module in network.modules()]
    parallel = [(m, m.device_ids) for m, _ in modes if isinstance(m, nn.DataParallel)]
    devices = {p.device for p in network.parameters() if p.device.type == "cuda"}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=list(devices)):
            network.eval()
            for whole, _ in parallel:
                whole.device_ids = []
            yield
    finally:
        for whole, device_ids in parallel:
            whole.device_ids = device_ids
        for module, training in modes:
            module.training = training


def record_calls(
    network: nn.Module, shape: tuple[int, int, int], macs_so_far: Callable[[], int] = lambda: 0
) -> list[ModuleCall]:
    """Run a network once on an image of zeros, in eval mode, and record the calls of its modules.

    A network on the meta device runs on an empty batch on the CPU instead, with weights that take
    no memory: on the meta device, torch imports its compiler first, which takes seconds.

    Args:
        network: the network.
        shape: the shape of the image, (C, H, W).
        macs_so_far: counts the multiply-adds of the forward pass until now.

    Returns:
        The calls in the order in which they end, so a module comes after the modules in it.

    Raises:
        FieldError: the network can't process the image.
    """
    example = make_example(network, shape)
    run: Callable[[Tensor], object] = network
    if example.is_meta:
        example, run = torch.zeros(0, *shape, dtype=example.dtype), _with_empty_weights(network)
    calls: list[ModuleCall] = []
    recorded = 0  # multiply-adds of these calls
    before: dict[nn.Module, int] = {}  # those that weren't recorded when the module started

    def start(module: nn.Module, _: object) -> None:
        before[module] = macs_so_far() - recorded

    def make_hook(name: str):  # type: ignore[no-untyped-def]
        def record(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            nonlocal recorded
            own = macs_so_far() - recorded - before[module]
            recorded += own
            first = inputs[0] if inputs else None
            calls.append(ModuleCall(name, module, _shape_of(first), _shape_of(output), own))

        return record

    handles = []
    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue  # it takes no hooks
        handles.append(module.register_forward_pre_hook(start))
        handles.append(module.register_forward_hook(make_hook(name)))
    try:
        with eval_mode(network):
            run(example)
    except Exception as error:  # a user's module may raise any exception
        raise input_shape_error(network, shape, error) from error
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _with_empty_weights(network: nn.Module) -> Callable[[Tensor], object]:
    """Calls a network with tensors of the same shapes that share one value each, on the CPU."""
    tensors = (*network.named_parameters(), *network.named_buffers())
    state = {name: torch.zeros((), dtype=t.dtype).expand(t.shape) for name, t in tensors}
    return lambda images: functional_call(network, state, (images,))


def path_and_parents(path: str) -> tuple[str, ...]:
    """The path of a module and of each module that it is in; that of the network is ``""``."""
    return tuple({"", path, *(path[:i] for i, letter in enumerate(path) if letter == ".")})


def _shape_of(value: object) -> tuple[int, ...]:
    return tuple(value.shape[1:]) if isinstance(value, Tensor) else ()


def input_shape_error(
    network: nn.Module, shape: tuple[int, int, int], error: Exception
) -> FieldError:
    """The error to raise for a network that fails on an input of ``shape``.

    If a larger square input would fit, its message names the smallest one.
    """
    side = _smallest_side(network, shape)
    needs = f", which needs at least {side}x{side}" if side else ""
    allowed = f"doesn't fit the network{needs}: {describe_error(error)}"
    return FieldError("input_shape", shape_as_text(shape), allowed)


def _smallest_side(network: nn.Module, shape: tuple[int, int, int]) -> int | None:
    """The side of the smallest square input that fits; None if size isn't what is wrong."""
    channels, height, width = shape
    if _fits(network, shape):
        return None  # it failed for another reason, such as memory

    def fits(side: int) -> bool:
        return _fits(network, (channels, side, side))

    low = min(height, width)
    for high in (side for side in _SIDES if side > low):
        if fits(high):
            return bisect_left(range(high), True, lo=low + 1, key=fits)
        low = high
    return None


def _fits(network: nn.Module, shape: tuple[int, int, int]) -> bool:
    """Whether the network can process an input, tried on the meta device without computing."""
    state = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
    }
    example = make_example(network, shape, "meta")
    with eval_mode(network):
        try:
            functional_call(network, state, (example,))
        except Exception:  # a user's module may raise any exception
            return False
    return True
