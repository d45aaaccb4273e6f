"""The activation between the two convolutions of a segmented convolution."""

from __future__ import annotations

from torch import nn

from spectrum.layers.arguments import Activation

__all__ = ["activation_module"]


def activation_module(activation: Activation | None) -> nn.Module:
    """The module of an activation; ``nn.Identity`` if it is None."""
    modules: dict[str | None, type[nn.Module]] = {
        None: nn.Identity,
        "relu": nn.ReLU,
        "elu": nn.ELU,
    }
    return modules[activation]()
