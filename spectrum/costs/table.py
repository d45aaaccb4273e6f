"""A network's costs as a table with one row for each module that has costs of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pandas as pd
from torch import nn

from spectrum.layers import SegmentedConv, UnevenConv2d

__all__ = ["COLUMNS", "ModuleRow", "make_table", "module_rows"]

COLUMNS = (
    "layer",
    "kind",
    "output_shape",
    "segments",
    "params",
    "macs",
    "activations",
    "share",
)


class ModuleRow(NamedTuple):
    """A module that may have costs of its own.

    Attributes:
        layer: the module's path in the network.
        kind: ``spatial`` or ``pointwise`` in a segmented convolution, else the module's class.
        module: the module.
        children: the paths of its children, which have rows of their own.
        parameters: the module's own parameters, without those that an earlier row has.
    """

    layer: str
    kind: str
    module: nn.Module
    children: list[str]
    parameters: list[nn.Parameter]


def module_rows(network: nn.Module) -> Iterator[ModuleRow]:
    """The modules of a network, parents before children; an uneven convolution is one row."""
    kinds: dict[str, str] = {}
    uneven: tuple[str, ...] = ()
    seen: set[nn.Parameter] = set()
    for name, module in network.named_modules():
        if name.startswith(uneven):
            continue  # a part of an uneven convolution, which is one row
        if isinstance(module, SegmentedConv):
            kinds |= {f"{name}.{part}".removeprefix("."): part for part in ("spatial", "pointwise")}
        children = [f"{name}.{child}".removeprefix(".") for child, _ in module.named_children()]
        if isinstance(module, UnevenConv2d):
            children = []
            uneven += (f"{name}.convs".removeprefix("."),)
        own = [p for p in module.parameters(recurse=not children) if p not in seen]
        seen.update(own)
        yield ModuleRow(name, kinds.get(name, type(module).__name__), module, children, own)


def make_table(
    network: nn.Module,
    macs: Mapping[str, int],
    activations: Mapping[str, int],
    shapes: Mapping[str, tuple[int, ...]],
) -> pd.DataFrame:
    """Make one row for each module with parameters or multiply-adds of its own.

    Args:
        network: the network.
        macs: multiply-adds of each module and of all modules in it, by path.
        activations: output elements of the convolutions and linear layers in each module, by path.
        shapes: the shape of each module's output, without the batch dimension, by path.
    """
    total = max(macs[""], 1)
    rows = []
    for row in module_rows(network):
        # The module's own costs, without those of its children.
        params = sum(p.numel() for p in row.parameters if p.requires_grad)
        cost = macs.get(row.layer, 0) - sum(macs.get(child, 0) for child in row.children)
        outputs = activations.get(row.layer, 0) - sum(activations.get(c, 0) for c in row.children)
        if params or cost:
            rows.append(
                {
                    "layer": row.layer,
                    "kind": row.kind,
                    "output_shape": shapes.get(row.layer, ()),
                    "segments": _segment_count(row.module),
                    "params": params,
                    "macs": cost,
                    "activations": outputs,
                    "share": cost / total,
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"segments": "Int64"})


def _segment_count(module: nn.Module) -> int | None:
    if isinstance(module, UnevenConv2d):
        return sum(conv.groups for conv in module.convs)  # type: ignore[misc]
    return module.groups if isinstance(module, nn.Conv2d) else None
