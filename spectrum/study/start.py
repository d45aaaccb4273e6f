"""Training that starts from weights: read once, kept in the store, moved to each point."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spectrum.costs import build_on_meta
from spectrum.layers import SegmentedConv, composed
from spectrum.networks import NetworkConfig, build, call_code, convert, is_code, resegment
from spectrum.networks.weights import load_weights, read_weights, source_settings
from spectrum.networks.weights.stored import stored_segments
from spectrum.segments import format_setting
from spectrum.study.store import stored_network

__all__ = ["Start", "read_start", "started"]

# What the study says of each point, whatever the weights were at.
_OF_THE_POINT = {"name", "segments", "num_classes", "in_channels"}


@dataclass(frozen=True)
class Start:
    """Weights to start from.

    Attributes:
        tensors: by this package's names, or a user's own model's.
        settings: what their network does and was, as fields of ``NetworkConfig``.
        fingerprint: a hash of their content.
    """

    tensors: Mapping[str, Tensor]
    settings: Mapping[str, Any]
    fingerprint: str

    def configure(self, network: NetworkConfig) -> NetworkConfig:
        """A network's configuration with what comes along with the weights.

        A network's own order, which goes by the point, becomes that of the weights where all of
        their dialled layers have one.
        """
        taken = network.fields_of(network.name) - network.model_fields_set - _OF_THE_POINT
        if self.settings.get("name", network.name) != network.name:
            taken &= {"pooling", "bn_eps", "bn_momentum"}
        settings = {k: v for k, v in self.settings.items() if k in taken}
        if "order" not in network.model_fields_set:
            settings["order"] = settings.get("order") or self._order(network)
        return network.model_copy(update=settings)

    def _order(self, network: NetworkConfig) -> str | None:
        names = _stored_layers(build_on_meta(network), self.tensors)
        mixing = {f"{name}.pointwise.weight" in self.tensors for name in names}
        if not names or len(mixing) > 1 or network.order is not None:
            return network.order
        return "spatial_first" if mixing == {True} else "spatial_only"


def read_start(path: Path, network: str) -> Start:
    """Read weights of any layout that ``load_weights`` takes.

    A user's own model takes the names as they stand, even those of a known layout. The weights of
    a run say what their network was.

    Args:
        path: the file.
        network: the name of the one that starts from it.

    Raises:
        ValueError: they can't be read; the message names the file.
    """
    try:
        weights = read_weights(path)
    except ValueError as error:
        raise ValueError(str(error).replace("source (=", "start (=", 1)) from None
    settings = source_settings(weights) | stored_network(path)
    tensors = dict(weights.tensors if is_code(network) else weights.state)
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return Start(tensors, settings, digest.hexdigest()[:16])


def started(config: NetworkConfig, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network that ``config`` describes, with weights moved to its point of the dial.

    The weights' own point is read off their shapes. A classifier of another number of classes
    gets fresh weights.

    Args:
        config: the network.
        tensors: as in ``Start``.

    Raises:
        ValueError: a tensor is missing, extra or of another shape than the network's.
    """
    target = build_on_meta(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the plan said which layers saturate
        network = _moved(config, tensors, target)
    wanted = {n: m for n, m in target.named_modules() if isinstance(m, nn.Linear)}
    for name, module in list(network.named_modules()):
        # In fact the classifiers: another shape anywhere else was refused.
        if name in wanted and module.out_features != wanted[name].out_features:
            fresh = nn.Linear(
                module.in_features,
                wanted[name].out_features,
                bias=module.bias is not None,
                dtype=module.weight.dtype,
            )
            network.set_submodule(name, fresh)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in target.state_dict().items()}:
        raise ValueError(
            f"at {config.segments} its convolutions are of another kind; --order spatial_only or "
            "spatial_first keeps them of one"
        )
    return network


def _moved(config: NetworkConfig, tensors: Mapping[str, Tensor], target: nn.Module) -> nn.Module:
    """The network with the weights, at the configuration's point, with their own classes."""
    own = config.model_copy(update={"num_classes": _classes(target, tensors, config.num_classes)})
    if is_code(config.name) and not _stored_layers(target, tensors):
        module = call_code(
            own.name, num_classes=own.num_classes, in_channels=own.in_channels, width=own.width
        )
        return convert(load_weights(module, tensors), config.segments, config.order)
    stored = own.model_copy(update={"segments": format_setting(stored_segments(target, tensors))})
    network = resegment(load_weights(build(stored), tensors), config.segments)
    # A network's own order has a plain convolution at one segment.
    for name, wanted in target.named_modules():
        if isinstance(wanted, SegmentedConv) and wanted.order == "spatial_only":
            layer = network.get_submodule(name)
            assert isinstance(layer, SegmentedConv)
            if layer.order == "spatial_first" and layer.activation is None:
                network.set_submodule(name, composed(layer))
    return network


def _stored_layers(network: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """The dialled layers of a network that have a spatial convolution in a state dict."""
    return [
        name
        for name, layer in network.named_modules()
        if isinstance(layer, SegmentedConv)
        and any(f"{name}.spatial.{part}weight" in tensors for part in ("", "convs.0."))
    ]


def _classes(network: nn.Module, tensors: Mapping[str, Tensor], otherwise: int) -> int:
    """How many classes the weights tell apart: what the network's last linear layer gives."""
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    weight = tensors.get(f"{linear[-1]}.weight") if linear else None
    return otherwise if weight is None else weight.shape[0]
