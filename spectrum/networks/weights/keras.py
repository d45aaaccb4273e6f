"""Reads the weights of a Keras model, of its ``.weights.h5`` or of an older ``.h5``.

All three sources have the layers in the same order, by which Keras itself loads a file into a
model. Tensors are therefore identified by that order. The numbers in the layers' names can't
identify them, because they depend on what was built before in the same process.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spectrum.errors import FieldError

# The weights of a layer, by their numbers of dimensions. Keras's versions have different names for
# them but the same order.
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
# This package's names of the weights of each class of layer.
_WEIGHT_NAMES = {
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


# What is read may be larger than its file or its memory, because of compression or because values
# are shared, as tied weights are: so many times, and by so many bytes.
MAX_REPEATS = 32
MAX_REPEATED_BYTES = 1 << 26


def is_keras_model(source: object) -> bool:
    """Whether ``source`` is a Keras model, without importing Keras."""
    return any(
        kind.__name__ == "Model" and kind.__module__.split(".")[0] in ("keras", "tf_keras")
        for kind in type(source).__mro__
    )


def read_model(model: Any) -> dict[str, Tensor]:
    """The tensors of a model, as ``layer/weight`` in the order of its layers."""
    return _name_weights(
        [(layer.name, [_tensor(weight) for weight in layer.weights]) for layer in model.layers]
    )


def read_hdf5(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file, as ``layer/weight`` in the order of Keras's layers.

    Files of Keras before 3.6 have no names of layers. A layer is ``layers/<class>_<number>`` then.

    Raises:
        ValueError: h5py isn't installed, or the file is damaged or not from Keras.
    """
    try:
        import h5py
    except ImportError:
        raise FieldError(
            "source",
            path,
            "is an HDF5 file, and h5py, which reads them, is missing: "
            "pip install 'segment-spectrum[keras]'",
        ) from None
    try:
        with h5py.File(path, "r") as file:
            items = _items(file)
            start = "model_weights/" if isinstance(items.get("model_weights"), h5py.Group) else ""
            items = {n.removeprefix(start): i for n, i in items.items() if n.startswith(start)}
            group = file[start] if start else file
            arrays = {name: item for name, item in items.items() if hasattr(item, "shape")}
            _check_arrays(path, arrays)
            read = _older_layers if _attribute(group, "layer_names") else _layers
            return _name_weights(read(path, group, items))
    except FieldError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise FieldError(
            "source", path, f"is a damaged HDF5 file: {str(error).splitlines()[0]}"
        ) from None


def _items(file: Any) -> dict[str, Any]:
    """The groups and arrays of a file by their paths.

    Only what lies in the file itself is found: links aren't followed, because they can lead to
    other files, and groups neither more than once nor deeper than Keras has them.
    """
    import h5py

    items: dict[str, Any] = {}
    groups = [("", file)]
    seen = set()
    for path, group in groups:
        for name in group:
            if isinstance(group.get(name, getlink=True), h5py.HardLink):
                item = items[f"{path}{name}"] = group[name]
                address = h5py.h5o.get_info(item.id).addr
                if isinstance(item, h5py.Group) and address not in seen and path.count("/") < 32:
                    seen.add(address)
                    groups.append((f"{path}{name}/", item))
    return items


def _check_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Raise a FieldError if arrays aren't plain numbers in the file, or far larger than it."""
    for name, array in arrays.items():
        if array.external or array.is_virtual or array.dtype.kind not in "fiub":
            raise FieldError("source", path, f"must hold numbers of its own; not {name[:100]}")
    size = path.stat().st_size
    if (
        sum(math.prod(a.shape) * a.dtype.itemsize for a in arrays.values())
        > MAX_REPEATS * size + MAX_REPEATED_BYTES
    ):
        raise FieldError("source", path, "must hold the numbers that it declares, and is too small")


def keras_names(
    tensors: Mapping[str, Tensor], layers: Mapping[str, Sequence[tuple[str, str]]]
) -> dict[str, str]:
    """Map a source's name of each tensor of a network to this package's name.

    Args:
        tensors: the tensors of the source, as ``layer/weight`` in the order of Keras's layers.
        layers: all layers of each class that the network has, in the same order: the name in
            Keras's code, or a numbered one for layers without a name there, and this package's
            name.

    Returns:
        The names, including those of tensors that the source lacks.
    """
    found: dict[str, list[str]] = {kind: [] for kind in _WEIGHT_NAMES}
    for name, tensor in tensors.items():
        layer, _, weight = name.rpartition("/")
        of_kind = found[_layer_kind(weight, tensor)]
        if layer not in of_kind:
            of_kind.append(layer)
    names = {}
    for kind, expected in layers.items():
        sources = _source_names(kind, [name for name, _ in expected], found[kind])
        for source, (_, target) in zip(sources, expected, strict=True):
            for weight, name in _WEIGHT_NAMES[kind].items():
                names[f"{source}/{weight}"] = f"{target}.{name}"
    return names


def _layer_kind(weight: str, tensor: Tensor) -> str:
    for kind in ("separable_conv2d", "batch_normalization"):
        if weight in _WEIGHT_NAMES[kind]:
            return kind
    return "conv2d" if tensor.ndim == 4 else "dense"


def _source_names(kind: str, expected: Sequence[str], found: Sequence[str]) -> list[str]:
    """A source's names of the layers of a class, including those that it lacks."""
    if any(name.startswith("layers/") for name in found):
        return [f"layers/{_numbered(kind, i)}" for i in range(len(expected))]
    if len(found) == len(expected):
        return list(found)
    # There are too few or too many. The numbers in the names, which start anywhere, show which.
    numbers = [number for start, number in map(_split_number, found) if start == kind]
    first = min(numbers, default=0)
    return [
        _numbered(kind, number + first) if start == kind else name
        for name, (start, number) in zip(expected, map(_split_number, expected), strict=True)
    ]


def _numbered(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def _split_number(name: str) -> tuple[str, int]:
    """Split a numbered name: ``conv2d_7`` gives ("conv2d", 7), and ``conv2d`` ("conv2d", 0)."""
    start, _, end = name.rpartition("_")
    return (start, int(end)) if start and end.isdecimal() else (name, 0)


def _layers(path: Path, _: Any, items: Mapping[str, Any]) -> list[tuple[str, list[Tensor]]]:
    """The layers of a ``.weights.h5``, which numbers those of each class in order."""
    found: dict[tuple[str, int], dict[int, Tensor]] = defaultdict(dict)
    names = {}
    for name, array in items.items():
        match = re.fullmatch(r"(layers/([^/]+)/vars)/(\d{1,9})", name)
        if match and hasattr(array, "shape"):
            layer = _split_number(match[2])
            found[layer][int(match[3])] = _tensor(array)
            names[layer] = items[match[1]].attrs.get("name") or f"layers/{match[2]}"
    if not found:
        raise FieldError("source", path, "is an HDF5 file without the weights of a Keras model")
    if any(name.startswith("layers/") for name in names.values()):
        names = {(kind, i): f"layers/{_numbered(kind, i)}" for kind, i in found}
    layers = []
    for layer, weights in sorted(found.items()):
        gaps = set(range(len(weights))) - set(weights)
        if gaps:
            raise FieldError("source", path, f"is missing {names[layer]}/vars/{min(gaps)}")
        layers.append((names[layer], [weights[i] for i in sorted(weights)]))
    return layers


def _older_layers(
    path: Path, group: Any, items: Mapping[str, Any]
) -> list[tuple[str, list[Tensor]]]:
    """The layers of a ``.h5`` that lists its layers' names, and the weights of each."""
    layers = []
    for layer in _attribute(group, "layer_names"):
        weights = _attribute(items[layer], "weight_names")
        for name in weights:
            if not hasattr(items.get(f"{layer}/{name}"), "shape"):
                raise FieldError("source", path, f"is missing {layer}/{name.split('/')[-1]}")
        layers.append((layer, [_tensor(items[f"{layer}/{name}"]) for name in weights]))
    return layers


def _attribute(group: Any, name: str) -> list[str]:
    """Read a list of names from an attribute, or from numbered parts if it was too long for one."""
    parts = [name] if name in group.attrs else []
    while f"{name}{len(parts)}" in group.attrs:
        parts.append(f"{name}{len(parts)}")
    texts = [text for part in parts for text in group.attrs[part]]
    return [text.decode() if isinstance(text, bytes) else str(text) for text in texts]


def _name_weights(layers: Sequence[tuple[str, list[Tensor]]]) -> dict[str, Tensor]:
    tensors = {}
    for layer, weights in layers:
        dimensions = tuple(weight.ndim for weight in weights)
        roles = _ROLES.get(dimensions, [str(i) for i in range(len(weights))])
        tensors.update({f"{layer}/{r}": w for r, w in zip(roles, weights, strict=True)})
    return tensors


def _tensor(weight: Any) -> Tensor:
    value = getattr(weight, "value", None)  # a torch tensor if Keras runs on PyTorch
    if isinstance(value, Tensor):
        return value.detach()
    return torch.from_numpy(np.array(weight))
