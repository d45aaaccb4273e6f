"""Exact counts of parameters and multiply-adds, by fvcore's trace of what runs.

fvcore calls one multiply-add a flop; this project calls it a MAC. ``Costs.macs`` holds
convolutions and linear layers alone; ``Costs.fvcore_total`` is fvcore's own sum, which adds batch
normalisation and pooling.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import (
    Handle,
    addmm_flop_jit,
    conv_flop_jit,
    generic_activation_jit,
    linear_flop_jit,
)
from torch import nn

from spectrum.costs.inputs import (
    checked_shape,
    evaluating,
    make_example,
    misfit,
    one_line,
    recording_shapes,
)
from spectrum.costs.table import make_table

__all__ = ["Costs", "count_costs", "count_parameters"]

# The operators of convolutions and linear layers, with fvcore's counts of their multiply-adds.
_MAC_HANDLES: dict[str, Handle] = {
    "_convolution": conv_flop_jit,
    "linear": linear_flop_jit,
    "addmm": addmm_flop_jit,
}
_ACTIVATIONS = "activations"

# What fvcore has no count for and which multiplies nothing: shapes, pooling, padding, and
# elementwise operations. Anything else that it doesn't know is an error, never a silent zero.
FREE_OPERATORS = frozenset(
    f"aten::{name}{suffix}"
    for name in (
        *("max_pool2d", "avg_pool2d", "adaptive_max_pool2d", "mean", "sum"),
        *("pad", "reflection_pad2d", "replication_pad2d"),
        *("add", "sub", "rsub", "mul", "div", "neg", "exp", "sqrt", "pow"),
        *("elu", "gelu", "silu", "leaky_relu", "prelu", "hardtanh", "hardswish", "hardsigmoid"),
        *("sigmoid", "tanh", "softmax", "log_softmax", "dropout", "feature_dropout"),
        *("clone", "concat", "repeat", "pixel_shuffle", "channel_shuffle", "movedim"),
    )
    for suffix in ("", "_")
)


@dataclass(frozen=True)
class Costs:
    """The counts of one network at one input.

    Attributes:
        params: trainable parameters.
        macs: multiply-adds of convolutions and linear layers, for one example.
        fvcore_total: fvcore's unfiltered total, for one example.
        activations: elements that convolutions and linear layers put out, for one example.
        table: a row a layer: ``layer, kind, output_shape, segments, params, macs, activations,
            share``, the share of the network's MACs. The rows add up to ``params``, ``macs`` and
            ``activations``.
    """

    params: int
    macs: int
    fvcore_total: int
    activations: int
    table: pd.DataFrame


def count_parameters(network: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count_costs(network: nn.Module, input_shape: Sequence[int]) -> Costs:
    """Count a network's costs in eval mode, leaving its mode, device and random state alone.

    Args:
        network: any module that maps images (N, C, H, W) to a tensor; on the meta device it is
            copied to the CPU with weights of any value.
        input_shape: of one example, as in ``(3, 299, 299)``.

    Raises:
        ValueError: ``input_shape`` isn't three positive numbers, the network can't take it, or it
            can't be traced, or it runs an operator whose multiply-adds aren't known.
    """
    shape = checked_shape(input_shape)
    if any(tensor.is_meta for tensor in network.parameters()):
        network = copy.deepcopy(network).to_empty(device="cpu")

    example = make_example(network, shape)
    shapes: dict[str, tuple[int, ...]] = {}
    with evaluating(network):
        # fvcore leaves its hooks behind when a network fails, so a plain pass comes first.
        with recording_shapes(network, shapes):
            try:
                network(example)
            except Exception as error:  # a user's module may raise anything
                raise misfit(network, shape, error) from error
        counted = FlopCountAnalysis(network, example)
        for operator, handle in _MAC_HANDLES.items():
            counted.set_op_handle(f"aten::{operator}", _with_activations(operator, handle))
        counted.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counted.tracer_warnings("none")
        try:
            counts = counted.by_module_and_operator()
        except Exception as error:
            raise ValueError(f"network can't be traced: {one_line(error)}") from error
    unknown = sorted(set(counted.unsupported_ops()) - FREE_OPERATORS)
    if unknown:
        raise ValueError(f"network runs operators of unknown cost: {', '.join(unknown)}")

    macs = {name: sum(int(c[operator]) for operator in _MAC_HANDLES) for name, c in counts.items()}
    activations = {name: int(c.pop(_ACTIVATIONS, 0)) for name, c in counts.items()}
    return Costs(
        params=count_parameters(network),
        macs=macs[""],
        fvcore_total=int(sum(counts[""].values())),
        activations=activations[""],
        table=make_table(network, macs, activations, shapes),
    )


def _with_activations(operator: str, handle: Handle) -> Handle:
    """A handle that counts an operator's outputs beside its multiply-adds, in the same trace."""
    outputs = generic_activation_jit()

    def count(inputs: list[Any], results: list[Any]) -> Counter[str]:
        macs = handle(inputs, results)  # a number, or in a counter by fvcore's name for it
        total = sum(macs.values()) if isinstance(macs, Counter) else macs
        return Counter({operator: total, _ACTIVATIONS: outputs(inputs, results)})

    return count
