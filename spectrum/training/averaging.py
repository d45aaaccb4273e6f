"""The averaged weights that a network is evaluated with, and their normalisation statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from spectrum.training.metrics import autocast
from spectrum.training.recipe import Precision

__all__ = ["averaged_model", "recompute_bn_statistics"]

_Tensors: TypeAlias = tuple[Tensor, ...] | list[Tensor]


def averaged_model(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of a network for the exponential moving average of its weights and buffers."""
    return AveragedModel(network, multi_avg_fn=_moving_average(decay), use_buffers=True)


def _moving_average(decay: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """The update of an exponential moving average that forgets the untrained weights.

    Step n decays by (1 + n) / (10 + n) until that reaches ``decay``. TensorFlow's
    ExponentialMovingAverage, which trained the paper's networks, does the same.
    """

    @torch.no_grad()
    def update(averaged: _Tensors, current: _Tensors, n: Tensor | int) -> None:
        weight = 1 - min(decay, (1 + float(n)) / (10 + float(n)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, weight)
        else:  # batch counters
            torch._foreach_copy_(averaged, current)

    return update


def recompute_bn_statistics(
    network: nn.Module, batches: Iterable[Tensor], precision: Precision = "float32"
) -> None:
    """Replace batch normalisation's running statistics by the mean over batches of images.

    The averaged weights need this, because averaging the running statistics doesn't give the
    statistics of the averaged weights.

    Args:
        network: the network, whose running means and variances are replaced; it stays in its mode
            (training or evaluation).
        batches: images (N, C, H, W), on the network's device.
        precision: of the forward pass.
    """
    device = next(network.parameters()).device
    with torch.no_grad(), autocast(device, precision):
        update_bn(batches, network)
