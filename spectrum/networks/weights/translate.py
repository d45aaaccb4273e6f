"""From a source's tensors to those of its network here: names, axes, and what it leaves out."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from spectrum.networks.weights.names import tensor_names

__all__ = ["COUNT", "translate"]

# Kept by PyTorch alone, and used where a norm's momentum is None alone.
COUNT = "num_batches_tracked"


def translate(
    layout: str, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A state dict by the names of the network here.

    Whatever the shapes are, so that they can be looked at before the network is built. What the
    layout doesn't know keeps its name.

    Args:
        layout: one of ``LAYOUTS``.
        tensors: of the source, by its own names.

    Returns:
        The state dict, and by its names what the source calls, or would call, each tensor.
    """
    names = tensor_names(layout, tensors)
    state = {
        names.get(name, name): _axes(name, tensor) if name in names else tensor
        for name, tensor in tensors.items()
        if not name.endswith(f".{COUNT}")
    }
    sources = {ours: theirs for theirs, ours in names.items()}
    if layout == "keras_inception_v3":
        _add_scales(state, sources)
    return state, sources


def _axes(name: str, tensor: Tensor) -> Tensor:
    """A tensor with PyTorch's axes."""
    if name.endswith("/depthwise_kernel") and tensor.ndim == 4:
        # (height, width, channels, multiplier), the multiplier being 1 in an Xception
        return tensor.permute(2, 3, 0, 1).flatten(0, 1).unsqueeze(1)
    if name.endswith("kernel") and tensor.ndim == 4:
        return tensor.permute(3, 2, 0, 1)  # (height, width, in, out)
    if name.endswith("/kernel") and tensor.ndim == 2:
        return tensor.T  # (in, out)
    if name.startswith("pre_logits.") and tensor.ndim == 4:
        return tensor.flatten(1)  # a convolution over all positions, in timm's VGG
    return tensor


def _add_scales(state: dict[str, Tensor], sources: Mapping[str, str]) -> None:
    """Keras's Inception V3 normalises without a scale, which is a scale of one."""
    for name in sources:
        stem, _, last = name.rpartition(".bn.")
        if last == "bias" and name in state:
            state.setdefault(f"{stem}.bn.weight", torch.ones_like(state[name]))
