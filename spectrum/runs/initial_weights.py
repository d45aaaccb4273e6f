"""Training that starts from given weights.

A study reads the weights once and saves them in the store; their fingerprint is part of the ids of
its runs. Each run loads them from there and moves them to its own point of the dial.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spectrum.errors import FieldError
from spectrum.layers import SegmentedConv, fuse_pointwise
from spectrum.networks import (
    NetworkConfig,
    build,
    build_on_meta,
    call_user_code,
    convert,
    is_user_code,
    resegment,
)
from spectrum.networks.config import NAMED_NETWORKS
from spectrum.networks.former_names import rename_former
from spectrum.networks.weights import load_weights, read_weights, source_settings
from spectrum.networks.weights.stored import (
    stored_layers,
    stored_pointwise_segments,
    stored_segments,
)
from spectrum.runs.store import hash_tensors, stored_network
from spectrum.segments import Segments, format_setting

# Fields of a network that the study sets for each point; the weights' own values don't count.
_SET_BY_STUDY = {"name", "segments", "num_classes", "in_channels"}


@dataclass(frozen=True)
class InitialWeights:
    """Weights that training starts from.

    Attributes:
        tensors: the tensors, by the names of this package's networks or of a user's own model.
        settings: what is known of the network that they come from, as fields of ``NetworkConfig``.
        fingerprint: a hash of the names and values of the tensors.
    """

    tensors: Mapping[str, Tensor]
    settings: Mapping[str, Any]
    fingerprint: str

    def configure(self, network: NetworkConfig) -> NetworkConfig:
        """A copy of a network's configuration with the settings of the weights.

        Fields that are set explicitly are kept. If the order is open, it becomes that of the
        weights, provided that all of their segmented layers have the same one.

        Raises:
            FieldError: the weights have 1x1 convolutions in segments, and another shuffle.
        """
        fields = network.fields_of(network.name) - network.model_fields_set - _SET_BY_STUDY
        if self.settings.get("name", network.name) != network.name:
            fields &= {"pooling", "bn_eps", "bn_momentum"}
        settings = {k: v for k, v in self.settings.items() if k in fields}
        if "order" not in network.model_fields_set:
            settings["order"] = settings.get("order") or self._order(network)
        configured = network.model_copy(update=settings)
        shuffle = self.settings.get("shuffle", False)
        # What a shuffle moves in SegmentedConvs is part of their weights here.
        are_moved = shuffle and not _divides_own_pointwise(configured.name)
        is_divided = self.settings.get("pointwise_segments", "1") != "1"
        if is_divided and not are_moved and configured.shuffle != shuffle:
            allowed = f"must be {shuffle}, as in the weights to start from, whose 1x1 are divided"
            raise FieldError("shuffle", configured.shuffle, allowed)
        return configured

    def _order(self, network: NetworkConfig) -> str | None:
        module = build_on_meta(network)
        tensors = rename_former(module, self.tensors)
        has_pointwise = set(stored_layers(module, tensors).values())
        if len(has_pointwise) != 1 or network.order is not None:
            return network.order
        return "spatial_first" if has_pointwise == {True} else "spatial_only"


def read_initial_weights(path: Path, network: str) -> InitialWeights:
    """Read weights of any layout that ``load_weights`` accepts.

    The names of the tensors are translated to those of this package's networks, unless a user's
    own model starts from them. If the weights are those of a run, its network's settings are read
    too.

    Args:
        path: the file.
        network: the name of the network that starts from the weights.

    Raises:
        ValueError: the file can't be read; the message names it.
    """
    module = _module_to_fit(NetworkConfig(name=network))
    try:
        weights = read_weights(path, module)
    except FieldError as error:
        raise error.renamed("start") from None
    settings = source_settings(weights) | stored_network(path)
    tensors = dict(weights.tensors if is_user_code(network) else weights.state)
    if settings.get("shuffle") and not _divides_own_pointwise(settings["name"]):
        tensors = _without_shuffle(path, NetworkConfig.checked(settings), tensors, network)
    return InitialWeights(tensors, settings, hash_tensors(tensors))


def _divides_own_pointwise(name: str) -> bool:
    """Whether ``pointwise_segments`` divide other 1x1 convolutions than those of SegmentedConvs."""
    return name in NAMED_NETWORKS and NAMED_NETWORKS[name].function == "shufflenet"


def _without_shuffle(
    path: Path, config: NetworkConfig, tensors: Mapping[str, Tensor], network: str
) -> dict[str, Tensor]:
    """The weights with 1x1 convolutions in one segment, which holds what a shuffle does.

    The shapes of weights don't show a shuffle, so they couldn't be moved to points without it.
    """
    if is_user_code(config.name) and config.name != network:
        allowed = f"must come from {network}, since {config.name} moves channels by a shuffle"
        raise FieldError("start", path, allowed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shuffled = load_weights(build(config), tensors)
    return dict(resegment(shuffled, config.segments, pointwise_segments=1).state_dict())


def _module_to_fit(config: NetworkConfig) -> nn.Module:
    """A module on the meta device whose names of tensors are about those of the weights.

    The weights may have other segments and another number of classes.
    """
    if not is_user_code(config.name):
        return build_on_meta(config)
    with torch.device("meta"):
        return call_user_code(
            config.name,
            num_classes=config.num_classes,
            in_channels=config.in_channels,
            width=config.width,
        )


def build_with_weights(config: NetworkConfig, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Build the network that ``config`` describes, with weights moved to its point of the dial.

    The point of the weights is inferred from their shapes. If the number of classes differs, the
    classifier gets random weights.

    Args:
        config: the network to build.
        tensors: the weights, as in ``InitialWeights``.

    Raises:
        ValueError: a tensor is missing, is superfluous or has another shape than the network's.
    """
    target = build_on_meta(config)
    tensors = rename_former(target, tensors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the plan has already warned of layers that saturate
        network = _resegment_weights(config, tensors, target)
    linear_layers = {n: m for n, m in target.named_modules() if isinstance(m, nn.Linear)}
    for name, module in list(network.named_modules()):
        # Only classifiers can differ here: loading refuses another shape anywhere else.
        if name in linear_layers and module.out_features != linear_layers[name].out_features:
            classifier = nn.Linear(
                module.in_features,
                linear_layers[name].out_features,
                bias=module.bias is not None,
                dtype=module.weight.dtype,
            )
            network.set_submodule(name, classifier)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in target.state_dict().items()}:
        raise FieldError(
            "source",
            "a state dict",
            f"consists of other convolutions than the layers at {config.segments}; --order "
            "spatial_only or spatial_first keeps the same ones at all points",
        )
    return network


def _resegment_weights(
    config: NetworkConfig, tensors: Mapping[str, Tensor], target: nn.Module
) -> nn.Module:
    """The network with the weights at the point of ``config``, and the classifier of the weights.

    Args:
        config: the network.
        tensors: the weights.
        target: the network that ``config`` describes, on the meta device.
    """
    own = config.model_copy(
        update={"num_classes": _class_count(target, tensors, config.num_classes)}
    )
    if is_user_code(config.name) and not stored_layers(target, tensors):
        module = call_user_code(
            own.name, num_classes=own.num_classes, in_channels=own.in_channels, width=own.width
        )
        return convert(
            load_weights(module, tensors),
            config.segments,
            config.order,
            pointwise_segments=config.pointwise_segments,
            shuffle=config.shuffle,
        )
    settings = {"segments": format_setting(stored_segments(target, tensors))}
    pointwise = {Segments(1)}
    divides_own = _divides_own_pointwise(config.name)
    if any(stored_layers(target, tensors).values()) and not divides_own:
        found = stored_pointwise_segments(target, tensors)
        pointwise = {*found}
        settings["pointwise_segments"] = format_setting(found)
    network = load_weights(build(own.model_copy(update=settings)), tensors)
    network = resegment(network, config.segments)
    # With its own order, a network has a plain convolution at one segment.
    for name, target_layer in target.named_modules():
        if isinstance(target_layer, SegmentedConv) and target_layer.order == "spatial_only":
            layer = network.get_submodule(name)
            assert isinstance(layer, SegmentedConv)
            if layer.order == "spatial_first" and layer.activation is None:
                network.set_submodule(name, fuse_pointwise(layer))
    layers = [layer for layer in network.modules() if isinstance(layer, SegmentedConv)]
    is_fused = all(layer.pointwise is None for layer in layers)
    is_whole = pointwise == {Segments(1)} and config.pointwise_segments == "1"
    if is_fused or is_whole or divides_own:
        return network
    return resegment(network, config.segments, pointwise_segments=config.pointwise_segments)


def _class_count(network: nn.Module, tensors: Mapping[str, Tensor], default: int) -> int:
    """The number of outputs of the network's last linear layer in the weights."""
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    weight = tensors.get(f"{linear[-1]}.weight") if linear else None
    return default if weight is None else weight.shape[0]
