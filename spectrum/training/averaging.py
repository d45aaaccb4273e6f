"""The averaged weights that a network is evaluated with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["averaged_model"]

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
