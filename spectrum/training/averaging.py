"""The averaged weights that a network is evaluated with, and their statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from spectrum.training.metrics import autocast
from spectrum.training.recipe import Precision

__all__ = ["averaged_model", "renew_statistics"]

_Tensors: TypeAlias = tuple[Tensor, ...] | list[Tensor]


def averaged_model(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of a network whose weights and buffers follow it as an exponential moving average."""
    return AveragedModel(network, multi_avg_fn=_moving_average(decay), use_buffers=True)


def _moving_average(decay: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """An exponential moving average that forgets the first, untrained weights.

    Step n decays by (1 + n) / (10 + n) until that reaches ``decay``, as TensorFlow's
    ExponentialMovingAverage does, which trained the paper's networks.
    """

    @torch.no_grad()
    def update(averaged: _Tensors, current: _Tensors, n: Tensor | int) -> None:
        weight = 1 - min(decay, (1 + float(n)) / (10 + float(n)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, weight)
        else:  # counters of batches
            torch._foreach_copy_(averaged, current)

    return update


def renew_statistics(
    network: nn.Module, batches: Iterable[Tensor], precision: Precision = "float32"
) -> None:
    """Compute batch normalisation's statistics anew: the mean of those of batches of images.

    The average of running statistics isn't the statistic of the averaged weights.

    Args:
        network: whose running means and variances are replaced; its mode is given back.
        batches: images (N, C, H, W), on the network's device.
        precision: of the forward pass.
    """
    device = next(network.parameters()).device
    with torch.no_grad(), autocast(device, precision):
        update_bn(batches, network)
