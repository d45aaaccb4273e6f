"""Finding the convolutions of any model, and putting others in their place."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from spectrum.layers import SegmentedConv

__all__ = [
    "check_module",
    "convolutions",
    "replaced",
    "shown",
    "tie",
    "unknown_function",
    "weight_owners",
]


def check_module(module: object) -> None:
    """Raise a ValueError for what is no module, or one that can't be changed."""
    if isinstance(module, torch.jit.ScriptModule) or not isinstance(module, nn.Module):
        kind = type(module).__name__ if isinstance(module, nn.Module) else repr(module)
        raise ValueError(f"module (={kind}) must be a torch.nn.Module that isn't scripted")


def convolutions(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every convolution of a model by name; a ``SegmentedConv`` is one, without those inside it."""
    inside: tuple[str, ...] = ()
    for name, child in module.named_modules():
        if name.startswith(inside):
            continue
        if isinstance(child, SegmentedConv):
            inside += (f"{name}.".removeprefix("."),)  # all, if it is the model itself
        if isinstance(child, SegmentedConv | _ConvNd):
            yield name, child


def unknown_function(conv: nn.Module) -> str | None:
    """Why a convolution may be more than its weight, stride, padding and dilation; None if not."""
    if isinstance(conv, SegmentedConv):
        if type(conv).forward is not SegmentedConv.forward:
            return f"{type(conv).__name__} has a forward of its own"
        parts = (part for part in conv.modules() if isinstance(part, nn.Conv2d))
        reason = next(filter(None, map(unknown_function, parts)), None)
        return reason or ("it has hooks" if any(map(_hooked, conv.modules())) else None)
    if not isinstance(conv, nn.Conv2d):
        return f"{type(conv).__name__} is no nn.Conv2d"
    kind = type(conv)
    own = {"forward", "_conv_forward"} & vars(conv).keys()
    if (
        own
        or kind.forward is not nn.Conv2d.forward
        or kind._conv_forward is not nn.Conv2d._conv_forward
    ):
        return f"{kind.__name__} has a forward of its own"
    if parametrize.is_parametrized(conv) or conv._parameters.get("weight") is None:
        return "its weight is computed from others"
    if is_lazy(conv.weight):
        return "its shape isn't known yet"
    if set(conv._parameters) - {"weight", "bias"} or conv._buffers or conv._modules:
        return f"{kind.__name__} holds more than a weight and a bias"
    if conv.padding_mode != "zeros":
        return f"padding_mode {conv.padding_mode!r}"
    return "it has hooks" if _hooked(conv) else None


def _hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def weight_owners(module: nn.Module) -> dict[int, list[str]]:
    """The names of the modules that hold each parameter, by the parameter's ``id``."""
    owners = defaultdict(list)
    for name, child in module.named_modules():
        for parameter in child._parameters.values():
            if parameter is not None:
                owners[id(parameter)].append(name)
    return owners


def tie(follower: nn.Module, leader: nn.Module) -> None:
    """Give one layer the weights of another of the same shape, biases left apart."""
    for name, parameter in leader.named_parameters():
        holder, _, last = name.rpartition(".")
        if last == "weight":
            follower.get_submodule(holder).weight = parameter


def replaced(module: nn.Module, layers: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """A deep copy of a model with each key of ``layers`` replaced by its value.

    It is replaced wherever the model holds it: a list of modules beside the registered ones, too.
    """
    # Torch copies no tensor with a history, as old-style weight_norm and pruning leave them.
    computed = [
        value
        for child in module.modules()
        for value in vars(child).values()
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    memo: dict[int, object] = {id(value): value.detach().clone() for value in computed}
    return copy.deepcopy(module, memo | {id(old): new for old, new in layers.items()})


def shown(name: str) -> str:
    """A layer's name for a message; the model itself has none."""
    return name or "(the module itself)"
