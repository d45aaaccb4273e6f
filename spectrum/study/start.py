"""Training that starts from weights: read once, kept in the store, moved to each point."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spectrum.costs import build_on_meta
from spectrum.networks import NetworkConfig, build, call_code, convert, is_code, resegment
from spectrum.networks.weights import load_weights, read_weights, source_settings
from spectrum.networks.weights.stored import stored_segments
from spectrum.segments import format_setting

__all__ = ["Start", "read_start", "started"]


@dataclass(frozen=True)
class Start:
    """Weights to start from.

    Attributes:
        tensors: by this package's names, or a user's own model's.
        settings: what their network does, as fields of ``NetworkConfig``.
        fingerprint: a hash of their content.
    """

    tensors: Mapping[str, Tensor]
    settings: Mapping[str, Any]
    fingerprint: str

    def configure(self, network: NetworkConfig) -> NetworkConfig:
        """A network's configuration with what comes along with the weights."""
        settings = {k: v for k, v in self.settings.items() if k not in network.model_fields_set}
        if is_code(network.name):  # a user's own model does as it does
            return network.model_copy(update={k: v for k, v in settings.items() if k == "width"})
        if network.order is None:
            mixed = any(name.endswith(".pointwise.weight") for name in self.tensors)
            settings["order"] = "spatial_first" if mixed else "spatial_only"
        return network.model_copy(update=settings)


def read_start(path: Path, network: str) -> Start:
    """Read weights of any layout that ``load_weights`` takes.

    A user's own model takes the names as they stand, even those of a known layout. Beside a
    finished run's weights stands its configuration, which tells the width that was solved.

    Args:
        path: the file.
        network: the name of the one that starts from it.

    Raises:
        ValueError: they can't be read; the message names the file.
    """
    weights = read_weights(path)
    settings = source_settings(weights)
    beside = path.parent / "config.json"
    if path.name == "weights.safetensors" and beside.is_file():
        settings |= {"width": json.loads(beside.read_bytes())["network"]["width"]}
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the plan said which layers saturate
        network = _moved(config, tensors)
    target = build_on_meta(config)
    wanted = {n: m for n, m in target.named_modules() if isinstance(m, nn.Linear)}
    for name, module in list(network.named_modules()):
        # In fact the classifiers: another shape anywhere else was refused.
        if name in wanted and module.out_features != wanted[name].out_features:
            network.set_submodule(name, nn.Linear(module.in_features, wanted[name].out_features))
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in target.state_dict().items()}:
        raise ValueError(f"start holds another order of convolutions than {config.order}")
    return network


def _moved(config: NetworkConfig, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network with the weights, at the configuration's point, with their own classes."""
    own = config.model_copy(update={"num_classes": _classes(config, tensors)})
    if is_code(config.name) and not any(".spatial." in name for name in tensors):
        module = call_code(
            own.name, num_classes=own.num_classes, in_channels=own.in_channels, width=own.width
        )
        return convert(load_weights(module, tensors), config.segments, config.order)
    stored = stored_segments(build_on_meta(own), tensors)
    own = own.model_copy(update={"segments": format_setting(stored)})
    return resegment(load_weights(build(own), tensors), config.segments)


def _classes(config: NetworkConfig, tensors: Mapping[str, Tensor]) -> int:
    """How many classes the weights tell apart: what the network's last linear layer gives."""
    linear = [n for n, m in build_on_meta(config).named_modules() if isinstance(m, nn.Linear)]
    weight = tensors.get(f"{linear[-1]}.weight") if linear else None
    return config.num_classes if weight is None else weight.shape[0]
