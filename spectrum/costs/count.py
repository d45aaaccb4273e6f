"""Exact counts of parameters and multiply-adds, by fvcore's trace of a forward pass.

What fvcore calls a flop is one multiply-add, which this project calls a MAC. ``Costs.macs`` counts
convolutions and linear layers only. ``Costs.fvcore_total`` is fvcore's own total, which includes
batch normalisation and pooling.
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
    eval_mode,
    first_line,
    input_shape_error,
    make_example,
    record_output_shapes,
)
from spectrum.costs.table import make_table

__all__ = ["Costs", "count_costs", "count_parameters"]

# The operators of convolutions and linear layers, with the functions that count their MACs.
_MAC_HANDLES: dict[str, Handle] = {
    "_convolution": conv_flop_jit,
    "linear": linear_flop_jit,
    "addmm": addmm_flop_jit,
}
_ACTIVATIONS = "activations"

# Operators that fvcore doesn't count and whose cost is taken as zero: shapes, pooling, padding and
# elementwise operations. Any other operator that fvcore doesn't know is an error.
FREE_OPERATORS = frozenset(
    f"aten::{name}{suffix}"
    for name in (
        "max_pool2d",
        "avg_pool2d",
        "adaptive_max_pool2d",
        "mean",
        "sum",
        "pad",
        "reflection_pad2d",
        "replication_pad2d",
        "add",
        "sub",
        "rsub",
        "mul",
        "div",
        "neg",
        "exp",
        "sqrt",
        "pow",
        "elu",
        "gelu",
        "silu",
        "leaky_relu",
        "prelu",
        "hardtanh",
        "hardswish",
        "hardsigmoid",
        "sigmoid",
        "tanh",
        "softmax",
        "log_softmax",
        "dropout",
        "feature_dropout",
        "clone",
        "concat",
        "repeat",
        "pixel_shuffle",
        "channel_shuffle",
        "movedim",
    )
    for suffix in ("", "_")
)


@dataclass(frozen=True)
class Costs:
    """The counts of one network for one example of a given shape.

    Attributes:
        params: trainable parameters.
        macs: multiply-adds of convolutions and linear layers.
        fvcore_total: fvcore's total over all operators that it counts.
        activations: elements of the outputs of convolutions and linear layers.
        table: one row per layer, with ``layer, kind, output_shape, segments, params, macs,
            activations, share``. ``share`` is the layer's share of the network's MACs. The rows
            add up to ``params``, ``macs`` and ``activations``.
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
    """Count a network's costs by a trace in eval mode.

    The network's mode and device and torch's random state are unchanged afterwards.

    Args:
        network: any module that maps images (N, C, H, W) to a tensor. One on the meta device is
            copied to the CPU, with arbitrary weights.
        input_shape: the shape of one example, such as ``(3, 299, 299)``.

    Raises:
        ValueError: ``input_shape`` isn't three positive numbers, the network can't process such
            an example or can't be traced, or it runs an operator whose cost isn't known.
    """
    shape = checked_shape(input_shape)
    if any(tensor.is_meta for tensor in network.parameters()):
        network = copy.deepcopy(network).to_empty(device="cpu")

    example = make_example(network, shape)
    shapes: dict[str, tuple[int, ...]] = {}
    with eval_mode(network):
        # fvcore leaves hooks in a network that fails, so a plain forward pass comes first.
        with record_output_shapes(network, shapes):
            try:
                network(example)
            except Exception as error:  # a user's module may raise any exception
                raise input_shape_error(network, shape, error) from error
        analysis = FlopCountAnalysis(network, example)
        for operator, handle in _MAC_HANDLES.items():
            analysis.set_op_handle(f"aten::{operator}", _with_activations(operator, handle))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.tracer_warnings("none")
        try:
            counts = analysis.by_module_and_operator()
        except Exception as error:
            raise ValueError(f"network can't be traced: {first_line(error)}") from error
    unknown = sorted(set(analysis.unsupported_ops()) - FREE_OPERATORS)
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
    """A function for fvcore that counts an operator's output elements as well as its MACs."""
    count_outputs = generic_activation_jit()

    def count(inputs: list[Any], results: list[Any]) -> Counter[str]:
        macs = handle(inputs, results)  # a number, or a counter with one entry
        total = sum(macs.values()) if isinstance(macs, Counter) else macs
        return Counter({operator: total, _ACTIVATIONS: count_outputs(inputs, results)})

    return count
