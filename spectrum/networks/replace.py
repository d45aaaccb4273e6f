"""Finds the convolutions of any model and replaces them."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from spectrum.errors import FieldError
from spectrum.layers import SegmentedConv
from spectrum.segments import Segments, Setting, layer_segments

log = logging.getLogger(__name__)


def select(
    module: nn.Module, reason: Callable[[str, nn.Module], str | None]
) -> tuple[dict[str, nn.Conv2d | SegmentedConv], dict[str, str]]:
    """Select the k x k convolutions of a model that can be replaced, and log the others.

    Args:
        module: the model.
        reason: called with the name and the module of each convolution that can be replaced.
            Returns why it is skipped nevertheless, or None.

    Returns:
        The selected convolutions by name, and the reasons why the others are skipped.

    Raises:
        FieldError: ``module`` isn't a torch module that can be changed.
    """
    if isinstance(module, torch.jit.ScriptModule) or not isinstance(module, nn.Module):
        kind = type(module).__name__
        raise FieldError("module", kind, "must be a torch.nn.Module that isn't scripted")
    selected: dict[str, nn.Conv2d | SegmentedConv] = {}
    skipped: dict[str, str] = {}
    inside: tuple[str, ...] = ()  # the prefixes of names inside a SegmentedConv
    for name, conv in module.named_modules():
        if name.startswith(inside) or not isinstance(conv, SegmentedConv | _ConvNd):
            continue
        if isinstance(conv, SegmentedConv):
            inside += (f"{name}.".removeprefix("."),)  # "" if it is the model itself
        why = _reason_to_skip(conv) or reason(name, conv)
        if why is None:
            selected[name] = conv  # type: ignore[assignment]
        else:
            skipped[name] = why
            log.info("%s: skipped, %s", display_name(name), why)
    return selected, skipped


def assign_segments(names: Sequence[str], segments: Setting) -> dict[str, Segments]:
    """The segments of each layer of a model, whose flow is the model's child that holds it."""
    flows = [name.partition(".")[0] for name in names]
    return dict(zip(names, layer_segments(segments, flows), strict=True))


@contextmanager
def naming_layer(name: str) -> Iterator[None]:
    """Adds the name of a layer to an error about its segments."""
    try:
        yield
    except FieldError as error:
        raise FieldError(
            error.field, error.value, f"{error.allowed} (layer {display_name(name)})"
        ) from None


def _reason_to_skip(conv: nn.Module) -> str | None:
    """Why a convolution can't be replaced: it is 1x1, or may compute more than a convolution.

    Returns:
        The reason, or None if the convolution is known by its weight, bias, stride, padding and
        dilation.
    """
    if not isinstance(conv, SegmentedConv):
        is_pointwise = isinstance(conv, nn.Conv2d) and set(conv.kernel_size) == {1}
        return "pointwise" if is_pointwise else _reason_for_plain(conv)
    if type(conv).forward is not SegmentedConv.forward:
        return f"{type(conv).__name__} has a forward of its own"
    for part in conv.modules():
        if isinstance(part, nn.Conv2d) and _reason_for_plain(part):
            return _reason_for_plain(part)
    return "it has hooks" if any(map(_has_hooks, conv.modules())) else None


def _reason_for_plain(conv: nn.Module) -> str | None:
    if not isinstance(conv, nn.Conv2d):
        return f"{type(conv).__name__} is no nn.Conv2d"
    kind = type(conv)
    own = {"forward", "_conv_forward"} & vars(conv).keys()
    methods = (kind.forward, kind._conv_forward)
    if own or methods != (nn.Conv2d.forward, nn.Conv2d._conv_forward):
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
    """Whether the module or one of its parameters has hooks, but for those of state dicts."""
    holders = (module, *module._parameters.values())
    return any(
        getattr(holder, name, None)
        for holder in holders
        for name in (*vars(module), "_post_accumulate_grad_hooks")
        if name.endswith("_hooks") and "state_dict" not in name
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


def display_name(name: str) -> str:
    """A layer's name for a message; the name of the model itself is empty."""
    return name or "(the module itself)"
