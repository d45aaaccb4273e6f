"""Exact counts of parameters and multiply-adds, by fvcore's trace of a forward pass.

What fvcore calls a flop is one multiply-add, which this project calls a MAC. ``Costs.macs`` counts
convolutions and linear layers only, ``Costs.other_macs`` those of all other products, such as
attention's. ``Costs.fvcore_total`` is fvcore's own total, which includes batch normalisation and
pooling.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import (
    Handle,
    conv_flop_count,
    conv_flop_jit,
    generic_activation_jit,
    get_shape,
    linear_flop_jit,
)
from torch import nn

from spectrum.copying import copy_module
from spectrum.costs.inputs import (
    checked_shape,
    eval_mode,
    make_example,
    path_and_parents,
    record_calls,
)
from spectrum.costs.operators import OperatorCounter, unfused
from spectrum.costs.rows import Costs, module_costs
from spectrum.errors import FieldError
from spectrum.user_code import describe_error


def _count_padded_conv(inputs: list[Any], results: list[Any]) -> int:
    """The MACs of a convolution whose padding is a word, such as ``"same"``."""
    x, weight, output = (get_shape(value) for value in (*inputs[:2], results[0]))
    return int(conv_flop_count(x, weight, output))


# The operators of convolutions and linear layers, with the functions that count their MACs.
_MAC_HANDLES: dict[str, Handle] = {
    "_convolution": conv_flop_jit,
    "_convolution_mode": _count_padded_conv,
    "linear": linear_flop_jit,
}
_ACTIVATIONS = "activations"


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

    Warns:
        UserWarning: the network runs operators whose cost isn't known; ``Costs.unknown`` has them.

    Raises:
        FieldError: ``input_shape`` isn't three positive numbers, or the network can't process such
            an example or can't be traced.
    """
    shape = checked_shape(input_shape)
    if any(tensor.is_meta for tensor in network.parameters()):
        network = copy_module(network).to_empty(device="cpu")

    # fvcore leaves hooks in a network that fails, so a plain forward pass comes first.
    with unfused(), OperatorCounter() as counter:
        calls = record_calls(network, shape, lambda: counter.macs)
    with unfused(), eval_mode(network):
        analysis = FlopCountAnalysis(network, make_example(network, shape))
        for operator, handle in _MAC_HANDLES.items():
            analysis.set_op_handle(f"aten::{operator}", _with_activations(operator, handle))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.tracer_warnings("none")
        try:
            counts = analysis.by_module_and_operator()
        except Exception as error:
            allowed = f"can't be traced: {describe_error(error)}"
            raise FieldError("network", type(network).__name__, allowed) from error
    macs = {name: sum(int(c[operator]) for operator in _MAC_HANDLES) for name, c in counts.items()}
    activations = {name: int(c.pop(_ACTIVATIONS, 0)) for name, c in counts.items()}
    total = int(sum(counts[""].values()))
    unknown = tuple(sorted(counter.unknown))
    if unknown:
        warnings.warn(
            f"{type(network).__name__} runs operators whose multiply-adds aren't known and aren't "
            f"counted: {', '.join(unknown)}",
            stacklevel=2,
        )
    other_macs: Counter[str] = Counter()  # all multiply-adds, without those of ``macs``
    for call in calls:
        for path in path_and_parents(call.name):
            other_macs[path] += call.macs
    other_macs.subtract(macs)
    shapes = {call.name: call.output_shape for call in calls}
    modules = module_costs(network, macs, activations, shapes, other_macs)
    return Costs(shape, total, modules, unknown)


def _with_activations(operator: str, handle: Handle) -> Handle:
    """A function for fvcore that counts an operator's output elements as well as its MACs."""
    count_outputs = generic_activation_jit()

    def count(inputs: list[Any], results: list[Any]) -> Counter[str]:
        macs = handle(inputs, results)  # a number, or a counter with one entry
        total = sum(macs.values()) if isinstance(macs, Counter) else macs
        return Counter({operator: total, _ACTIVATIONS: count_outputs(inputs, results)})

    return count
