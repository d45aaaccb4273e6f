"""Exact counts of parameters and multiply-adds, by fvcore's trace of what runs.

fvcore calls one multiply-add a flop; this project calls it a MAC. ``Costs.macs`` holds
convolutions and linear layers alone; ``Costs.fvcore_total`` is fvcore's own sum, which adds batch
normalisation and pooling.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import (
    Handle,
    addmm_flop_jit,
    conv_flop_jit,
    generic_activation_jit,
    linear_flop_jit,
)
from torch import Tensor, nn

from spectrum.layers import SegmentedConv, UnevenConv2d, whole

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
        table: a row a layer: ``layer, kind, output_shape, segments, params, macs, share``, the
            share of the network's MACs. The rows add up to ``params`` and ``macs``.
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
            runs an operator whose multiply-adds aren't known.
    """
    shape = checked_shape(input_shape)
    if any(tensor.is_meta for tensor in network.parameters()):
        network = copy.deepcopy(network).to_empty(device="cpu")

    example = _example(network, shape)
    shapes: dict[str, tuple[int, ...]] = {}
    with _evaluating(network):
        # fvcore leaves its hooks behind when a network fails, so a plain pass comes first.
        with _recording_shapes(network, shapes):
            try:
                network(example)
            except RuntimeError as error:
                raise misfit(shape, error) from error
        counted = FlopCountAnalysis(network, example)
        for operator, handle in _MAC_HANDLES.items():
            counted.set_op_handle(f"aten::{operator}", _with_activations(operator, handle))
        counted.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counted.tracer_warnings("none")
        counts = counted.by_module_and_operator()
    unknown = sorted(set(counted.unsupported_ops()) - FREE_OPERATORS)
    if unknown:
        raise ValueError(f"network runs operators of unknown cost: {', '.join(unknown)}")

    macs = {name: sum(int(c[operator]) for operator in _MAC_HANDLES) for name, c in counts.items()}
    activations = int(counts[""].pop(_ACTIVATIONS, 0))
    return Costs(
        params=count_parameters(network),
        macs=macs[""],
        fvcore_total=int(sum(counts[""].values())),
        activations=activations,
        table=_table(network, macs, shapes),
    )


def checked_shape(input_shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of an image as a tuple.

    Raises:
        ValueError: it isn't three whole numbers from 1.
    """
    if not isinstance(input_shape, Sequence) or len(input_shape) != 3:
        raise ValueError(f"input_shape (={input_shape!r}) must be (channels, height, width)")
    return tuple(whole("input_shape", n) for n in input_shape)


def misfit(shape: Sequence[int], error: RuntimeError) -> ValueError:
    """What to raise for a network that fails on an input of ``shape``."""
    reason = str(error).splitlines()[0]
    return ValueError(f"input_shape (={tuple(shape)}) doesn't fit the network: {reason}")


def _with_activations(operator: str, handle: Handle) -> Handle:
    """A handle that counts an operator's outputs beside its multiply-adds, in the same trace."""
    outputs = generic_activation_jit()

    def count(inputs: list[Any], results: list[Any]) -> Counter[str]:
        macs = handle(inputs, results)  # a number, or in a counter by fvcore's name for it
        total = sum(macs.values()) if isinstance(macs, Counter) else macs
        return Counter({operator: total, _ACTIVATIONS: outputs(inputs, results)})

    return count


def _example(network: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """One image of zeros, of the network's device and type."""
    weight = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
    return torch.zeros(1, *shape, dtype=weight.dtype, device=weight.device)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode without gradients, module by module undone; random numbers drawn are given back."""
    # Batch normalisation counts differently in training mode.
    modes = [(module, module.training) for module in network.modules()]
    devices = {p.device for p in network.parameters() if p.device.type == "cuda"}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=list(devices)):
            network.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _recording_shapes(network: nn.Module, shapes: dict[str, tuple[int, ...]]) -> Iterator[None]:
    """Note the output shape of every module that runs, without the batch dimension."""

    def hook(name: str):  # type: ignore[no-untyped-def]
        def note(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                shapes[name] = tuple(int(n) for n in output.shape[1:])

        return note

    handles = [module.register_forward_hook(hook(name)) for name, module in network.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _table(
    network: nn.Module, macs: dict[str, int], shapes: dict[str, tuple[int, ...]]
) -> pd.DataFrame:
    total = max(macs[""], 1)
    counted: set[nn.Parameter] = set()
    rows = []
    for name, kind, module, inside in _rows(network):
        # What a module has or does itself, outside the modules that have rows of their own.
        own = [p for p in module.parameters(recurse=not inside) if p not in counted]
        counted.update(own)
        params = sum(p.numel() for p in own if p.requires_grad)
        cost = macs.get(name, 0) - sum(macs.get(child, 0) for child in inside)
        if params or cost:
            rows.append(
                {
                    "layer": name,
                    "kind": kind,
                    "output_shape": shapes.get(name, ()),
                    "segments": _segment_count(module),
                    "params": params,
                    "macs": cost,
                    "share": cost / total,
                }
            )
    columns = ["layer", "kind", "output_shape", "segments", "params", "macs", "share"]
    return pd.DataFrame(rows, columns=columns).astype({"segments": "Int64"})


def _rows(network: nn.Module) -> Iterator[tuple[str, str, nn.Module, list[str]]]:
    """Name, kind and module of each row, and the names of the modules inside it with rows."""
    kinds: dict[str, str] = {}
    uneven: tuple[str, ...] = ()
    for name, module in network.named_modules():
        if name.startswith(uneven):
            continue  # a run of an uneven spatial convolution, which is one layer
        if isinstance(module, SegmentedConv):
            kinds |= {f"{name}.{part}".removeprefix("."): part for part in ("spatial", "pointwise")}
        inside = [f"{name}.{child}".removeprefix(".") for child, _ in module.named_children()]
        if isinstance(module, UnevenConv2d):
            inside = []
            uneven += (f"{name}.convs".removeprefix("."),)
        yield name, kinds.get(name, type(module).__name__), module, inside


def _segment_count(module: nn.Module) -> int | None:
    if isinstance(module, UnevenConv2d):
        return sum(conv.groups for conv in module.convs)  # type: ignore[misc]
    return module.groups if isinstance(module, nn.Conv2d) else None
