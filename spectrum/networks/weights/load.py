"""Fill a network with weights from elsewhere, all or nothing, and set what goes with them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from spectrum.networks.inception import Inception
from spectrum.networks.inception_modules import AvgPool
from spectrum.networks.resnet import ResNet
from spectrum.networks.vgg import VGG
from spectrum.networks.weights.layouts import LAYOUTS, OWN, Layout, Preprocessing, recognise
from spectrum.networks.weights.source import Source, describe, read_tensors
from spectrum.networks.weights.translate import COUNT, translate
from spectrum.networks.xception import MaxPool, Xception

__all__ = ["Weights", "load_weights", "preprocessing", "read_weights", "source_settings"]

log = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)
_FAMILIES = (Xception, Inception, VGG, ResNet)
_AUXILIARY = "aux."


@dataclass(frozen=True)
class Weights:
    """A source that was read.

    Attributes:
        label: how messages call it.
        layout: one of ``LAYOUTS``, or ``"spectrum"`` for a network's own names.
        tensors: by the source's names.
        state: by the names of the network here, with its axes; ``tensors`` for ``"spectrum"``.
        sources: by the same names, what the source calls, or would call, each tensor.
    """

    label: str
    layout: str
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Tensor]
    sources: Mapping[str, str]


def read_weights(source: Source | Weights) -> Weights:
    """Read weights, recognise their layout and translate them, before there is a network.

    Args:
        source: what ``load_weights`` takes.

    Raises:
        ValueError: it can't be read, isn't weights, or wants to run code.
    """
    if isinstance(source, Weights):
        return source
    tensors = read_tensors(source)
    layout = recognise(tensors)
    state, sources = (tensors, {}) if layout == OWN else translate(layout, tensors)
    return Weights(describe(source), layout, tensors, state, sources)


def load_weights(network: Network, source: Source | Weights) -> Network:
    """Fill a network with weights that were trained elsewhere.

    What the source's network does otherwise is set as well, and logged: how pooling pads, and
    batch normalisation's eps and momentum (``source_settings``). What leaves no trace in weights,
    as dropout or an activation between two convolutions, stays as the network has it. The weights
    of an auxiliary head are left aside where the network has none, and logged.

    Args:
        network: one of this package at the source's point of the dial, or any module for a state
            dict of its own.
        source: a path to safetensors, to what ``torch.save`` wrote, or to Keras's ``.weights.h5``
            or older ``.h5``; a state dict; a live Keras model; or what ``read_weights`` gave. Known
            are Keras's Xception and Inception V3, timm's ``legacy_xception``, torchvision's and
            timm's ``inception_v3``, VGGs and ResNets, and the network's own names.

    Returns:
        The same network.

    Raises:
        ValueError: the source can't be read, or doesn't fit the network, which is untouched then;
            a missing, extra or wrongly shaped tensor is named.
    """
    if not isinstance(network, nn.Module):
        raise ValueError(f"network (={network!r}) must be a torch module")
    weights = read_weights(source)
    own = network.state_dict()
    if any(map(is_lazy, network.parameters())):
        raise ValueError("network must have seen an input, so that its lazy layers have shapes")
    layout = _layout_for(network, weights, own)
    state = dict(weights.tensors if layout is None else weights.state)
    sources = {} if layout is None else weights.sources
    auxiliary = {name for name in state if name.startswith(_AUXILIARY)} - set(own)
    if isinstance(network, Inception) and auxiliary:
        log.info(
            "%s: the weights of the auxiliary head are left aside, the network has none",
            weights.label,
        )
        state = {name: tensor for name, tensor in state.items() if name not in auxiliary}
    _check(weights, own, state, sources)
    _fill(network, own, state)
    if layout is not None:
        changes = _settle(network, layout)
        what = ", ".join(changes) or "no setting had to change"
        log.info("%s is read as %s; %s", weights.label, layout.title, what)
    return network


def source_settings(source: Source | Weights) -> dict[str, Any]:
    """What the source's network does, as fields of ``NetworkConfig``; none for a network's own.

    Args:
        source: what ``load_weights`` takes, or the name of a layout.

    Raises:
        ValueError: it can't be read, isn't weights, or wants to run code.
    """
    layout = _layout(source)
    if layout is None:
        return {}
    settings = {"bn_eps": layout.bn_eps, "bn_momentum": layout.bn_momentum}
    return settings if layout.pooling is None else {"pooling": layout.pooling, **settings}


def preprocessing(source: Source | Weights) -> Preprocessing:
    """How images are made ready for the published weights of a source's layout.

    A layout has one answer, and weights of the same names can have been trained in another way:
    torchvision's second set for ResNet-50 was with a resize to 232, and timm's files come with
    a configuration of their own. Keras's networks take whole images squeezed to a square, where
    this cuts the middle out.

    Args:
        source: what ``load_weights`` takes, or the name of a layout.

    Raises:
        ValueError: it can't be read, isn't weights, or is a network's own, which doesn't tell.
    """
    layout = _layout(source)
    if layout is None:
        raise ValueError(
            f"source (={_label(source)}) must be of a published layout ({', '.join(LAYOUTS)}); "
            "a network's own weights don't tell their preprocessing"
        )
    return layout.preprocessing


def _layout(source: Source | Weights) -> Layout | None:
    if isinstance(source, str) and source in LAYOUTS:
        return LAYOUTS[source]
    if isinstance(source, Weights):
        return LAYOUTS.get(source.layout)
    return LAYOUTS.get(recognise(read_tensors(source)))


def _label(source: Source | Weights) -> str:
    return source.label if isinstance(source, Weights) else describe(source)


def _layout_for(network: nn.Module, weights: Weights, own: Mapping[str, Tensor]) -> Layout | None:
    """The source's layout, or None where its names are the network's own."""
    layout = LAYOUTS.get(weights.layout)
    if layout is not None and isinstance(network, layout.network):
        return layout
    ours = isinstance(network, _FAMILIES)
    # A user's network can be the very one that a layout is named after.
    if (layout is None or not ours) and set(weights.tensors) & set(own):
        return None
    held = layout.title if layout else f"tensors of no known layout ({', '.join(LAYOUTS)})"
    raise ValueError(
        f"source (={weights.label}) holds {held}, and network is of the class "
        f"{type(network).__name__}"
    )


def _check(
    weights: Weights,
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    sources: Mapping[str, str],
) -> None:
    """Raise a ValueError that names the tensors that don't fit."""

    def called(name: str) -> str:
        source = sources.get(name, name)
        return name if source == name else f"{source} (here {name})"

    missing = [called(name) for name in own if name not in state and not _is_count(name)]
    extra = [called(name) for name in state if name not in own]
    other = [
        f"{called(name)} is {_form(state[name])} where the network's is {_form(tensor)}"
        for name, tensor in own.items()
        if name in state and _form(state[name]) != _form(tensor)
    ]
    faults = [("missing ", missing), ("extra ", extra), ("", other)]
    if missing or extra or other:
        found = "; ".join(start + _some(names) for start, names in faults if names)
        raise ValueError(f"source (={weights.label}) doesn't fit the network: {found}")


def _is_count(name: str) -> bool:
    return name.endswith(f".{COUNT}")


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)}{'' if tensor.is_floating_point() else ' of whole numbers'}"


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _fill(network: nn.Module, own: Mapping[str, Tensor], state: dict[str, Tensor]) -> None:
    for name, tensor in own.items():
        if name not in state:
            state[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
    on_meta = any(tensor.is_meta for tensor in own.values())
    if on_meta:  # there is no memory to copy into, nor shall the source's be shared
        state = {name: tensor.to(own[name].dtype, copy=True) for name, tensor in state.items()}
    network.load_state_dict(state, assign=on_meta)


def _settle(network: nn.Module, layout: Layout) -> list[str]:
    """Set what the layout's network does, and say what was otherwise."""
    wanted: dict[type[nn.Module], dict[str, object]] = {
        nn.BatchNorm2d: {"eps": layout.bn_eps, "momentum": layout.bn_momentum},
        MaxPool: {"pooling": layout.pooling},
        AvgPool: {"count_include_pad": layout.pooling == "symmetric"},
    }
    changes = {}
    for module in network.modules():
        for name, value in wanted.get(type(module), {}).items():
            if getattr(module, name) != value:
                changes[name] = f"{name} set from {getattr(module, name)} to {value}"
                setattr(module, name, value)
    return list(changes.values())
