"""Loads weights into a network, completely or not at all, and applies their settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from spectrum.errors import FieldError
from spectrum.networks.blocks import Pool
from spectrum.networks.convnext import ConvNeXt
from spectrum.networks.efficientnet import EfficientNet
from spectrum.networks.former_names import rename_former
from spectrum.networks.inception import Inception
from spectrum.networks.mobilenetv2 import MobileNetV2
from spectrum.networks.regnet import RegNet
from spectrum.networks.resnet import ResNet
from spectrum.networks.vgg import VGG
from spectrum.networks.weights.layouts import LAYOUTS, OWN, Layout, Preprocessing, recognise
from spectrum.networks.weights.nests import find_state
from spectrum.networks.weights.source import Source, describe, read_tensors
from spectrum.networks.weights.translate import BATCH_COUNT, translate
from spectrum.networks.xception import Xception

log = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)
_FAMILIES = (Xception, Inception, VGG, ResNet, MobileNetV2, EfficientNet, RegNet, ConvNeXt)
_AUXILIARY = "aux."


@dataclass(frozen=True)
class Weights:
    """Weights that were read.

    Attributes:
        label: the name of the source in messages.
        layout: one of ``LAYOUTS``, or ``"spectrum"`` for a network's own names.
        tensors: the tensors by the source's names.
        state: the tensors by this package's names and with its order of axes. For ``"spectrum"``
            it is ``tensors``.
        sources: the source's name of each tensor by this package's name, including tensors that
            the source lacks.
    """

    label: str | Path
    layout: str
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Tensor]
    sources: Mapping[str, str]


def read_weights(source: Source | Weights, network: nn.Module | None = None) -> Weights:
    """Read weights, recognise their layout and translate their names.

    Args:
        source: the source, as in ``load_weights``.
        network: the network that the weights are for, if it is known. It decides which state dict
            of a nest is read, and which prefix of the names is removed.

    Raises:
        ValueError: the source can't be read, holds no weights, or would have to run code.
    """
    if isinstance(source, Weights):
        return source
    return _recognised(describe(source), read_tensors(source, network))


def _recognised(label: str | Path, tensors: Mapping[str, Tensor]) -> Weights:
    layout = recognise(tensors)
    state, sources = (tensors, {}) if layout == OWN else translate(layout, tensors)
    return Weights(label, layout, tensors, state, sources)


def load_weights(network: Network, source: Source | Weights) -> Network:
    """Load weights into a network.

    The settings of the source's network (``source_settings``) are applied too, and logged: how
    pooling pads, and the eps and momentum of batch normalisation. Settings that weights don't
    show, such as dropout or the activation between two convolutions, stay as they are. The weights
    of an auxiliary head are ignored if the network has none, and a log line says so.

    Args:
        network: a network of this package with the source's segments, or any module for a state
            dict of its own.
        source: a path to a file of safetensors or ``torch.save``, or to Keras's ``.weights.h5`` or
            older ``.h5``; a state dict; a Keras model; or the result of ``read_weights``. Known
            layouts are Keras's Xception and Inception V3, timm's ``legacy_xception``, MobileNetV2,
            ``efficientnet_b0``, ``efficientnetv2_s``, RegNets and ConvNeXts, torchvision's and
            timm's ``inception_v3``, VGGs and ResNets, and the network's own. A state dict may lie
            in a nest of mappings, as training frameworks save it, and its names may have prefixes
            of wrappers. What fits the network is taken; of several, the one with the first of the
            usual keys: ``state_dict``, ``model``, ... before those of averages. Weights of timm's
            ``tf_efficientnet_b0`` and ``tf_efficientnetv2_s`` are loaded too, and give other
            logits: their names and shapes are those of ``efficientnet_b0`` and
            ``efficientnetv2_s``, but their networks pad as TensorFlow does, with bn_eps 1e-3.

    Returns:
        The same network.

    Raises:
        ValueError: the source can't be read or doesn't fit the network. The network isn't changed
            then. A missing, extra or wrongly shaped tensor is named.
    """
    if not isinstance(network, nn.Module):
        raise FieldError("network", network, "must be a torch module")
    if isinstance(source, Weights) and source.layout == OWN:
        tensors = find_state(source.tensors, source.label, network)
        weights = _recognised(source.label, tensors)
    else:
        weights = read_weights(source, network)
    own = network.state_dict()
    named = rename_former(network, weights.tensors)
    if any(map(is_lazy, network.parameters())):
        raise ValueError("network must have seen an input, so that its lazy layers have shapes")
    layout = _layout_for(network, weights, named.keys() & own.keys())
    state = named if layout is None else dict(weights.state)
    sources = {} if layout is None else weights.sources
    auxiliary = {name for name in state if name.startswith(_AUXILIARY)} - set(own)
    if isinstance(network, Inception) and auxiliary:
        log.info(
            "%s: the weights of the auxiliary head are ignored, the network has none",
            weights.label,
        )
        state = {name: tensor for name, tensor in state.items() if name not in auxiliary}
    _check(weights.label, own, state, sources)
    _load(network, own, state)
    if layout is not None:
        changes = _apply_settings(network, layout)
        what = ", ".join(changes) or "no setting had to change"
        log.info("%s is read as %s; %s", weights.label, layout.title, what)
    return network


def source_settings(source: Source | Weights) -> dict[str, Any]:
    """The settings of the source's network, as fields of ``NetworkConfig``.

    Args:
        source: the source, as in ``load_weights``, or the name of a layout.

    Returns:
        The values by field; empty if the source has the network's own names.

    Raises:
        ValueError: the source can't be read, holds no weights, or would have to run code.
    """
    layout = _layout(source)
    if layout is None:
        return {}
    names = ("pooling", "bn_eps", "bn_momentum")
    settings = {name: getattr(layout, name) for name in names}
    return {name: value for name, value in settings.items() if value is not None}


def preprocessing(source: Source | Weights) -> Preprocessing:
    """The preparation of images for the published weights of a layout.

    Each layout has one answer, although weights with the same names may have been trained in
    another way: torchvision's second set for ResNet-50 was trained with a resize to 232, and
    timm's files come with a configuration of their own. Keras's networks expect whole images
    squeezed to a square, where this cuts out the middle.

    Args:
        source: the source, as in ``load_weights``, or the name of a layout.

    Raises:
        ValueError: the source can't be read, holds no weights, or has the network's own names,
            which don't show the preparation.
    """
    layout = _layout(source)
    if layout is None:
        raise FieldError(
            "source",
            read_weights(source).label,
            f"must be of a published layout ({', '.join(LAYOUTS)}); "
            "a network's own weights don't show their preprocessing",
        )
    return layout.preprocessing


def _layout(source: Source | Weights) -> Layout | None:
    if isinstance(source, str) and source in LAYOUTS:
        return LAYOUTS[source]
    return LAYOUTS.get(read_weights(source).layout)


def _layout_for(network: nn.Module, weights: Weights, shared: Set[str]) -> Layout | None:
    """The source's layout, or None where its names are the network's own.

    ``shared`` are the names that the source and the network have in common.
    """
    layout = LAYOUTS.get(weights.layout)
    if layout is not None and isinstance(network, layout.network):
        return layout
    ours = isinstance(network, _FAMILIES)
    # A user's network may be the one that the layout is named after.
    if (layout is None or not ours) and shared:
        return None
    content = layout.title if layout else f"tensors of no known layout ({', '.join(LAYOUTS)})"
    raise FieldError(
        "source",
        weights.label,
        f"holds {content}, and network is of the class {type(network).__name__}",
    )


def _check(
    label: str | Path,
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    sources: Mapping[str, str],
) -> None:
    """Raise a FieldError that names the tensors that don't fit."""

    def name_both(name: str) -> str:
        source = sources.get(name, name)
        return name if source == name else f"{source} (here {name})"

    missing = [name_both(name) for name in own if name not in state and not _is_batch_count(name)]
    extra = [name_both(name) for name in state if name not in own]
    shapes = {
        name: (_shape_text(state[name]), _shape_text(own[name])) for name in own if name in state
    }
    other = [
        f"{name_both(name)} is {found} where the network's is {expected}"
        for name, (found, expected) in shapes.items()
        if found != expected
    ]
    faults = {"missing ": missing, "extra ": extra, "": other}
    if missing or extra or other:
        text = "; ".join(start + _shorten(names) for start, names in faults.items() if names)
        raise FieldError("source", label, f"doesn't fit the network: {text}")


def _is_batch_count(name: str) -> bool:
    return name.endswith(f".{BATCH_COUNT}")


def _shape_text(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)}{'' if tensor.is_floating_point() else ' of whole numbers'}"


def _shorten(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _load(network: nn.Module, own: Mapping[str, Tensor], state: dict[str, Tensor]) -> None:
    for name, tensor in own.items():
        if name not in state:
            state[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
    on_meta = any(tensor.is_meta for tensor in own.values())
    if on_meta:  # there is no memory to copy into, and the source's memory must not be shared
        state = {name: tensor.to(own[name].dtype, copy=True) for name, tensor in state.items()}
    network.load_state_dict(state, assign=on_meta)


def _apply_settings(network: nn.Module, layout: Layout) -> list[str]:
    """Give a network the settings of a layout, and describe those that changed."""
    settings: list[tuple[type[nn.Module], str, object]] = [
        (nn.BatchNorm2d, "eps", layout.bn_eps),
        (nn.BatchNorm2d, "momentum", layout.bn_momentum),
        (Pool, "pooling", layout.pooling),
    ]
    changes = {}
    for module in network.modules():
        for kind, name, value in settings:
            if isinstance(module, kind) and getattr(module, name) != value:
                changes[name] = f"{name} set from {getattr(module, name)} to {value}"
                setattr(module, name, value)
    return list(changes.values())
