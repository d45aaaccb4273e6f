"""Finds the convolutions of any model and replaces them."""

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
    "display_name",
    "reason_to_skip",
    "replace_modules",
    "tie_weights",
    "weight_owners",
]


def check_module(module: object) -> None:
    """Raise a ValueError unless ``module`` is a torch module that can be changed."""
    if isinstance(module, torch.jit.ScriptModule) or not isinstance(module, nn.Module):
        kind = type(module).__name__ if isinstance(module, nn.Module) else repr(module)
        raise ValueError(f"module (={kind}) must be a torch.nn.Module that isn't scripted")


def convolutions(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every convolution of a model with its name. A ``SegmentedConv`` counts as one."""
    inside: tuple[str, ...] = ()  # the prefixes of names inside a SegmentedConv
    for name, child in module.named_modules():
        if name.startswith(inside):
            continue
        if isinstance(child, SegmentedConv):
            inside += (f"{name}.".removeprefix("."),)  # "" if it is the model itself
        if isinstance(child, SegmentedConv | _ConvNd):
            yield name, child


def reason_to_skip(conv: nn.Module) -> str | None:
    """Why a convolution can't be replaced: it may compute more than a plain convolution.

    Returns:
        The reason, or None if the convolution is known by its weight, bias, stride, padding and
        dilation.
    """
    if isinstance(conv, SegmentedConv):
        if type(conv).forward is not SegmentedConv.forward:
            return f"{type(conv).__name__} has a forward of its own"
        parts = (part for part in conv.modules() if isinstance(part, nn.Conv2d))
        reason = next(filter(None, map(reason_to_skip, parts)), None)
        return reason or ("it has hooks" if any(map(_has_hooks, conv.modules())) else None)
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
    return "it has hooks" if _has_hooks(conv) else None


def _has_hooks(module: nn.Module) -> bool:
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


def tie_weights(target: nn.Module, source: nn.Module) -> None:
    """Let two layers of equal shapes share their weights, but not their biases."""
    for name, parameter in source.named_parameters():
        holder, _, last = name.rpartition(".")
        if last == "weight":
            target.get_submodule(holder).weight = parameter


def replace_modules(module: nn.Module, layers: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """A deep copy of a model in which each key of ``layers`` is replaced by its value.

    It is replaced everywhere, also in attributes that aren't registered as modules, such as lists.
    """
    # Torch can't copy tensors with a gradient history, which old-style weight_norm and pruning
    # leave behind.
    computed = [
        value
        for child in module.modules()
        for value in vars(child).values()
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    memo: dict[int, object] = {id(value): value.detach().clone() for value in computed}
    return copy.deepcopy(module, memo | {id(old): new for old, new in layers.items()})


def display_name(name: str) -> str:
    """A layer's name for a message; the name of the model itself is empty."""
    return name or "(the module itself)"
