"""Translates the tensors of a source to this package: their names, axes and missing scales."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from spectrum.networks.weights.names import tensor_names

# Only PyTorch stores it, and uses it only for a batch normalisation whose momentum is None.
BATCH_COUNT = "num_batches_tracked"


def translate(
    layout: str, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Translate tensors to a state dict with this package's names.

    Shapes aren't checked, so that they can be used to choose the network. Tensors that the layout
    doesn't know keep their names.

    Args:
        layout: one of ``LAYOUTS``.
        tensors: the tensors by the source's names.

    Returns:
        The state dict, and the source's name of each tensor by this package's name, including
        tensors that the source lacks.
    """
    names = tensor_names(layout, tensors)
    state = {
        names.get(name, name): _reorder_axes(name, tensor) if name in names else tensor
        for name, tensor in tensors.items()
        if not name.endswith(f".{BATCH_COUNT}")
    }
    sources = {name: source for source, name in names.items()}
    if layout == "keras_inception_v3":
        _add_scales(state, sources)
    return state, sources


def _reorder_axes(name: str, tensor: Tensor) -> Tensor:
    """The tensor with PyTorch's order of axes."""
    if name.endswith("/depthwise_kernel") and tensor.ndim == 4:
        # (height, width, channels, multiplier); the multiplier is 1 in an Xception
        return tensor.permute(2, 3, 0, 1).flatten(0, 1).unsqueeze(1)
    if name.endswith("kernel") and tensor.ndim == 4:
        return tensor.permute(3, 2, 0, 1)  # (height, width, in, out)
    if name.endswith("/kernel") and tensor.ndim == 2:
        return tensor.T  # (in, out)
    if name.startswith("pre_logits.") and tensor.ndim == 4:
        return tensor.flatten(1)  # in timm's VGG, a convolution over all positions
    if ".mlp.fc" in name and tensor.ndim == 2:
        return tensor[:, :, None, None]  # in timm's larger ConvNeXts, a linear layer
    return tensor


def _add_scales(state: dict[str, Tensor], sources: Mapping[str, str]) -> None:
    """Add scales of 1: Keras's Inception V3 normalises without a scale."""
    for name in sources:
        stem, _, last = name.rpartition(".bn.")
        if last == "bias" and name in state:
            state.setdefault(f"{stem}.bn.weight", torch.ones_like(state[name]))
