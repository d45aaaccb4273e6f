"""The costs of a network as a table, a row for each module that has any of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pandas as pd
from torch import nn

from spectrum.layers import SegmentedConv, UnevenConv2d

__all__ = ["COLUMNS", "Row", "make_table", "module_rows"]

COLUMNS = (
    *("layer", "kind", "output_shape", "segments", "params", "macs", "activations", "share"),
)


class Row(NamedTuple):
    """A module that may have costs of its own.

    Attributes:
        layer: its path in the network.
        kind: ``spatial`` or ``pointwise`` in a segmented convolution, else its class.
        module: the module.
        inside: the paths of the modules in it that have rows themselves.
        parameters: what belongs to it and to no row before.
    """

    layer: str
    kind: str
    module: nn.Module
    inside: list[str]
    parameters: list[nn.Parameter]


def module_rows(network: nn.Module) -> Iterator[Row]:
    """The modules of a network in order of their names, an uneven convolution as one."""
    kinds: dict[str, str] = {}
    uneven: tuple[str, ...] = ()
    seen: set[nn.Parameter] = set()
    for name, module in network.named_modules():
        if name.startswith(uneven):
            continue  # a run of an uneven spatial convolution, which is one layer
        if isinstance(module, SegmentedConv):
            kinds |= {f"{name}.{part}".removeprefix("."): part for part in ("spatial", "pointwise")}
        inside = [f"{name}.{child}".removeprefix(".") for child, _ in module.named_children()]
        if isinstance(module, UnevenConv2d):
            inside = []
            uneven += (f"{name}.convs".removeprefix("."),)
        own = [p for p in module.parameters(recurse=not inside) if p not in seen]
        seen.update(own)
        yield Row(name, kinds.get(name, type(module).__name__), module, inside, own)


def make_table(
    network: nn.Module,
    macs: Mapping[str, int],
    activations: Mapping[str, int],
    shapes: Mapping[str, tuple[int, ...]],
) -> pd.DataFrame:
    """A row for each module with parameters or multiply-adds of its own.

    Args:
        network: whose modules these are.
        macs: multiply-adds of every module that runs and of all inside it, by path.
        activations: likewise, elements that convolutions and linear layers put out.
        shapes: of every module's output, without the batch.
    """
    total = max(macs[""], 1)
    rows = []
    for row in module_rows(network):
        # What a module has or does itself, outside the modules that have rows of their own.
        params = sum(p.numel() for p in row.parameters if p.requires_grad)
        cost = macs.get(row.layer, 0) - sum(macs.get(child, 0) for child in row.inside)
        outputs = activations.get(row.layer, 0) - sum(activations.get(c, 0) for c in row.inside)
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
