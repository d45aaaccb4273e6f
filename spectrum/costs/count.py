"""Exact counts of parameters and multiply-adds, by fvcore's trace of what runs.

fvcore calls one multiply-add a flop; this project calls it a MAC. ``Costs.macs`` holds
convolutions and linear layers alone; ``Costs.fvcore_total`` is fvcore's own sum, which adds batch
normalisation and pooling.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd
import torch
from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis
from torch import Tensor, nn

from spectrum.layers import SegmentedConv, UnevenConv2d

__all__ = ["Costs", "count_costs", "count_parameters"]

MAC_OPERATORS = ("conv", "linear", "addmm")

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
    shape = tuple(input_shape)
    if len(shape) != 3 or any(isinstance(n, bool) or n < 1 for n in shape):
        raise ValueError(f"input_shape (={shape}) must be (channels, height, width), from 1 each")
    if any(tensor.is_meta for tensor in network.parameters()):
        network = copy.deepcopy(network).to_empty(device="cpu")

    example = _example(network, shape)
    shapes: dict[str, tuple[int, ...]] = {}
    with _evaluating(network), _recording_shapes(network, shapes):
        counted = FlopCountAnalysis(network, example)
        counted.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counted.tracer_warnings("none")
        try:
            fvcore_total = int(counted.total())
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"input_shape (={shape}) doesn't fit the network: {reason}") from error
        outputs = ActivationCountAnalysis(network, example)
        outputs.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        outputs.tracer_warnings("none")
        activations = int(outputs.total())
    unknown = sorted(set(counted.unsupported_ops()) - FREE_OPERATORS)
    if unknown:
        raise ValueError(f"network runs operators of unknown cost: {', '.join(unknown)}")

    by_module = {
        name: sum(int(counts[op]) for op in MAC_OPERATORS)
        for name, counts in counted.by_module_and_operator().items()
    }
    table = _table(network, by_module, shapes)
    return Costs(count_parameters(network), by_module[""], fvcore_total, activations, table)


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
    for name, module in network.named_modules():
        if isinstance(module, SegmentedConv):
            kinds |= {f"{name}.{part}".removeprefix("."): part for part in ("spatial", "pointwise")}
        if name.rpartition(".convs.")[0] in kinds:
            continue  # a run of an uneven spatial convolution, which is one layer
        inside = [f"{name}.{child}".removeprefix(".") for child, _ in module.named_children()]
        if isinstance(module, UnevenConv2d):
            inside = []
        yield name, kinds.get(name, type(module).__name__), module, inside


def _segment_count(module: nn.Module) -> int | None:
    if isinstance(module, UnevenConv2d):
        return sum(conv.groups for conv in module.convs)  # type: ignore[misc]
    return module.groups if isinstance(module, nn.Conv2d) else None
