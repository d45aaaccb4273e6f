"""The weights of a Keras model: a live one, its ``.weights.h5``, or a ``.h5`` of the older kind.

Keras itself fills a model from a file by the order of the layers. All three sources keep that
order, so it is what names are given by here too, rather than the layers' numbers, which depend on
what was built before in the same process.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["is_keras_model", "keras_names", "read_hdf5", "read_model"]

# What a layer's weights are, by their numbers of dimensions. Files of different ages call them
# by different names, but all list them in this order.
_ROLES: dict[tuple[int, ...], tuple[str, ...]] = {
    (4,): ("kernel",),
    (4, 1): ("kernel", "bias"),
    (4, 4): ("depthwise_kernel", "pointwise_kernel"),
    (4, 4, 1): ("depthwise_kernel", "pointwise_kernel", "bias"),
    (2,): ("kernel",),
    (2, 1): ("kernel", "bias"),
    (1, 1, 1): ("beta", "moving_mean", "moving_variance"),
    (1, 1, 1, 1): ("gamma", "beta", "moving_mean", "moving_variance"),
}
# What the weights of a layer of each class are called here.
_OURS = {
    "conv2d": {"kernel": "weight"},
    "separable_conv2d": {
        "depthwise_kernel": "spatial.weight",
        "pointwise_kernel": "pointwise.weight",
    },
    "batch_normalization": {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    },
    "dense": {"kernel": "weight", "bias": "bias"},
}


def is_keras_model(source: object) -> bool:
    """Whether it is a live Keras model, found out without importing Keras."""
    return any(
        kind.__name__ == "Model" and kind.__module__.split(".")[0] in ("keras", "tf_keras")
        for kind in type(source).__mro__
    )


def read_model(model: Any) -> dict[str, Tensor]:
    """The tensors of a live model, as ``layer/weight`` in the order of its layers."""
    return _named(
        [(layer.name, [_tensor(weight) for weight in layer.weights]) for layer in model.layers]
    )


def read_hdf5(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, as ``layer/weight`` in the order of Keras's layers.

    Files of Keras before 3.6 don't keep the layers' names; ``layers/<class>_<number>`` it is then.

    Raises:
        ValueError: h5py is missing, or the file is damaged or not from Keras.
    """
    try:
        import h5py
    except ImportError:
        raise ValueError(
            f"source (={path}) is an HDF5 file, and h5py, which reads them, is missing: "
            "pip install 'spectrum[keras]'"
        ) from None
    try:
        with h5py.File(path, "r") as file:
            group = file.get("model_weights", file)
            arrays: dict[str, Any] = {}
            # Links, which can lead to other files, are not followed.
            group.visititems(
                lambda name, item: arrays.update({name: item}) if hasattr(item, "shape") else None
            )
            if _attribute(group, "layer_names"):
                return _named(_older_layers(path, group, arrays))
            return _named(_layers(path, group, arrays))
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"source (={path}) is a damaged HDF5 file: {reason}") from None


def keras_names(
    tensors: Mapping[str, Tensor], layers: Mapping[str, Sequence[tuple[str, str]]]
) -> dict[str, str]:
    """What each tensor of a network's layers is called by a source, or would be, and here.

    Args:
        tensors: of the source, as ``layer/weight`` in the order of Keras's layers.
        layers: of each class, all that the network has in the same order: the name of each in
            Keras's code, with its number where it has none, and what it is called here.
    """
    found: dict[str, list[str]] = {kind: [] for kind in _OURS}
    for name, tensor in tensors.items():
        layer, _, weight = name.rpartition("/")
        of_kind = found[_kind(weight, tensor)]
        if layer not in of_kind:
            of_kind.append(layer)
    names = {}
    for kind, expected in layers.items():
        called = _called(kind, [name for name, _ in expected], found[kind])
        for source, (_, target) in zip(called, expected, strict=True):
            for weight, ours in _OURS[kind].items():
                names[f"{source}/{weight}"] = f"{target}.{ours}"
    return names


def _kind(weight: str, tensor: Tensor) -> str:
    for kind in ("separable_conv2d", "batch_normalization"):
        if weight in _OURS[kind]:
            return kind
    return "conv2d" if tensor.ndim == 4 else "dense"


def _called(kind: str, expected: Sequence[str], found: Sequence[str]) -> list[str]:
    """What a source calls the layers of a class, or would call one that it lacks."""
    if any(name.startswith("layers/") for name in found):
        return [f"layers/{_numbered(kind, i)}" for i in range(len(expected))]
    if len(found) == len(expected):
        return list(found)
    # Too few or too many: the numbers in the names, which start anywhere, tell which.
    counted = [number for start, number in map(_counter, found) if start == kind]
    first = min(counted, default=0)
    return [
        _numbered(kind, number + first) if start == kind else name
        for name, (start, number) in zip(expected, map(_counter, expected), strict=True)
    ]


def _numbered(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def _counter(name: str) -> tuple[str, int]:
    """A name that Keras counts, parted: ``conv2d_7`` is ("conv2d", 7), ``conv2d`` 0."""
    start, _, end = name.rpartition("_")
    return (start, int(end)) if start and end.isdecimal() else (name, 0)


def _layers(path: Path, group: Any, arrays: dict[str, Any]) -> list[tuple[str, list[Tensor]]]:
    """The layers of a ``.weights.h5``, where each class is counted in the order of layers."""
    found: dict[tuple[str, int], dict[int, Tensor]] = defaultdict(dict)
    names = {}
    for name, array in arrays.items():
        match = re.fullmatch(r"(layers/([^/]+)/vars)/(\d+)", name)
        if match:
            layer = _counter(match[2])
            found[layer][int(match[3])] = _tensor(array)
            names[layer] = group[match[1]].attrs.get("name") or f"layers/{match[2]}"
    if not found:
        raise ValueError(f"source (={path}) is an HDF5 file without the weights of a Keras model")
    if any(name.startswith("layers/") for name in names.values()):
        names = {(kind, i): f"layers/{_numbered(kind, i)}" for kind, i in found}
    layers = []
    for layer, weights in sorted(found.items()):
        gaps = set(range(max(weights))) - set(weights)
        if gaps:
            raise ValueError(f"source (={path}): missing {names[layer]}/vars/{min(gaps)}")
        layers.append((names[layer], [weights[i] for i in sorted(weights)]))
    return layers


def _older_layers(path: Path, group: Any, arrays: dict[str, Any]) -> list[tuple[str, list[Tensor]]]:
    """The layers of a ``.h5`` that lists its layers' names, and the weights of each."""
    layers = []
    for layer in _attribute(group, "layer_names"):
        weights = _attribute(group[layer], "weight_names")
        for name in weights:
            if f"{layer}/{name}" not in arrays:
                raise ValueError(f"source (={path}): missing {layer}/{name.split('/')[-1]}")
        layers.append((layer, [_tensor(arrays[f"{layer}/{name}"]) for name in weights]))
    return layers


def _attribute(group: Any, name: str) -> list[str]:
    """A list of names kept as an attribute, in numbered parts where it is long."""
    parts = [name] if name in group.attrs else []
    while f"{name}{len(parts)}" in group.attrs:
        parts.append(f"{name}{len(parts)}")
    texts = [text for part in parts for text in group.attrs[part]]
    return [text.decode() if isinstance(text, bytes) else str(text) for text in texts]


def _named(layers: Sequence[tuple[str, list[Tensor]]]) -> dict[str, Tensor]:
    tensors = {}
    for layer, weights in layers:
        dimensions = tuple(weight.ndim for weight in weights)
        roles = _ROLES.get(dimensions, [str(i) for i in range(len(weights))])
        tensors.update({f"{layer}/{r}": w for r, w in zip(roles, weights, strict=True)})
    return tensors


def _tensor(weight: Any) -> Tensor:
    value = getattr(weight, "value", None)  # a torch tensor where Keras runs on PyTorch
    if isinstance(value, Tensor):
        return value.detach()
    return torch.from_numpy(np.array(weight))
