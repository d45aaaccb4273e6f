"""A network's costs, as one row for each module and as one row for each layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd
from pydantic import NonNegativeInt, PositiveInt
from torch import nn
from torch.nn.modules.conv import _ConvNd

from spectrum.analysis.cost_columns import LAYER_COLUMNS, OTHER_MACS, SUMMED_COLUMNS
from spectrum.costs.inputs import shape_as_text
from spectrum.layers import SegmentedConv, UnevenConv2d

_TABLE = ("layer", "kind", "output_shape", "segments", "params", "macs", "activations")
_NO_COUNTS: Mapping[str, int] = MappingProxyType({})


class ModuleCosts(NamedTuple):
    """A module's own costs, without those of modules in it, which have rows of their own.

    Attributes:
        layer: the module's path in the network.
        kind: ``spatial`` or ``pointwise`` in a segmented convolution, else the module's class.
        output_shape: of its output, without the batch dimension; empty if it hasn't run.
        segments: of a convolution; None for other modules.
        params: trainable parameters, without those that an earlier row has.
        macs: multiply-adds of convolutions and linear layers.
        activations: elements of the outputs of convolutions and linear layers.
        weight_bytes: of all its parameters.
        part: ``"spatial"`` for a convolution larger than 1x1, ``"pointwise"`` for one of 1x1, else
            ``""``.
        whole: the path of the segmented convolution that it is in, else its own.
        regular_macs: of a regular convolution in place of a segmented one; 0 for other modules.
        separable_macs: of a depthwise separable convolution in its place.
        other_macs: multiply-adds of other products, such as those of attention.
    """

    layer: str = ""
    kind: str = ""
    output_shape: tuple[int, ...] = ()
    segments: PositiveInt | None = None
    params: NonNegativeInt = 0
    macs: NonNegativeInt = 0
    activations: NonNegativeInt = 0
    weight_bytes: NonNegativeInt = 0
    part: str = ""
    whole: str = ""
    regular_macs: NonNegativeInt = 0
    separable_macs: NonNegativeInt = 0
    other_macs: NonNegativeInt = 0


@dataclass(frozen=True, repr=False)
class Costs:
    """The counts of one network for one example of a given shape.

    Attributes:
        input_shape: the shape of the example, (C, H, W).
        fvcore_total: fvcore's total over all operators that it counts.
        modules: the costs of each module; parents come before the modules in them.
        unknown: the operators whose multiply-adds aren't known and aren't counted.
    """

    input_shape: tuple[int, int, int]
    fvcore_total: NonNegativeInt
    modules: tuple[ModuleCosts, ...]
    unknown: tuple[str, ...] = ()

    @property
    def params(self) -> int:
        """Trainable parameters."""
        return sum(row.params for row in self.modules)

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and linear layers."""
        return sum(row.macs for row in self.modules)

    @property
    def other_macs(self) -> int:
        """Multiply-adds of all other products of matrices and vectors, such as attention's.

        They are no part of ``macs``.
        """
        return sum(row.other_macs for row in self.modules)

    @property
    def activations(self) -> int:
        """Elements of the outputs of convolutions and linear layers."""
        return sum(row.activations for row in self.modules)

    @property
    def note(self) -> str:
        """What a user should know of the multiply-adds that ``macs`` leaves out; "" for none."""
        if not self.other_macs:
            return ""
        others = f"{self.other_macs:,} multiply-adds of other products, such as attention's"
        return f"the MACs are those of convolutions and linear layers, without {others}"

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each module with parameters or multiply-adds of its own.

        The columns are ``layer, kind, output_shape, segments, params, macs, activations, share``.
        ``share`` is the module's share of the network's MACs. The rows add up to ``params``,
        ``macs`` and ``activations``. Where a network has ``other_macs``, they are the last column.
        """
        rows = [row for row in self.modules if row.params or row.macs or row.other_macs]
        modules = pd.DataFrame(rows, columns=ModuleCosts._fields)
        table = modules[[*_TABLE]].assign(share=modules["macs"] / max(self.macs, 1))
        if self.other_macs:
            table[OTHER_MACS] = modules[OTHER_MACS]
        return table.astype({"segments": "Int64"})

    def __repr__(self) -> str:
        return (
            f"Costs(params={self.params:,}, macs={self.macs:,}, "
            + (f"other_macs={self.other_macs:,}, " if self.other_macs else "")
            + f"activations={self.activations:,}, input_shape={self.input_shape})"
        )

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False)


def module_costs(
    network: nn.Module,
    macs: Mapping[str, int],
    activations: Mapping[str, int],
    shapes: Mapping[str, tuple[int, ...]],
    other_macs: Mapping[str, int] = _NO_COUNTS,
) -> tuple[ModuleCosts, ...]:
    """The costs of each module that has some; an uneven convolution is one module.

    Args:
        network: the network.
        macs: multiply-adds of convolutions and linear layers in each module, by path.
        activations: output elements of the convolutions and linear layers in each module, by path.
        shapes: the shape of each module's output, without the batch dimension, by path.
        other_macs: multiply-adds of other products in each module, by path.
    """

    def own_part(counts: Mapping[str, int]) -> int:
        return counts.get(name, 0) - sum(counts.get(child, 0) for child in children)

    found: list[ModuleCosts] = []
    wholes: dict[str, str] = {}  # of the parts of segmented convolutions
    uneven: tuple[str, ...] = ()
    seen: set[nn.Parameter] = set()
    for name, module in network.named_modules():
        if name.startswith(uneven):
            continue  # a part of an uneven convolution, which is one row
        prefix = f"{name}." if name else ""
        children = [prefix + child for child, _ in module.named_children()]
        regular = separable = 0
        if isinstance(module, SegmentedConv):
            wholes |= dict.fromkeys((f"{prefix}spatial", f"{prefix}pointwise"), name)
            last = "pointwise" if module.order == "spatial_first" else "spatial"
            positions = activations.get(prefix + last, 0) // module.out_channels
            area = module.kernel_size[0] * module.kernel_size[1]
            regular = area * module.in_channels * module.out_channels * positions
            # The paper: 1/N + 1/D^2 of the regular convolution, for N outputs and a D x D kernel.
            separable = (area + module.out_channels) * module.in_channels * positions
        elif isinstance(module, UnevenConv2d):
            children = []
            uneven += (f"{prefix}convs",)
        own = [p for p in module.parameters(recurse=not children) if p not in seen]
        seen.update(own)
        row = ModuleCosts(
            layer=name,
            kind=name.rpartition(".")[2] if name in wholes else type(module).__name__,
            output_shape=shapes.get(name, ()),
            segments=_segment_count(module),
            params=sum(p.numel() for p in own if p.requires_grad),
            macs=own_part(macs),
            activations=own_part(activations),
            weight_bytes=sum(p.numel() * p.element_size() for p in own),
            part=_conv_part(module),
            whole=wholes.get(name, name),
            regular_macs=regular,
            separable_macs=separable,
            other_macs=own_part(other_macs),
        )
        if row.macs or row.other_macs or row.weight_bytes or isinstance(module, SegmentedConv):
            found.append(row)
    return tuple(found)


def layer_rows(costs: Costs) -> pd.DataFrame:
    """One row per layer, in order of depth; the parts of a segmented convolution are added up.

    A model without costs has one row too, without a name.
    """
    modules = pd.DataFrame(costs.modules or [ModuleCosts()], columns=ModuleCosts._fields)
    modules["output_shape"] = modules["output_shape"].map(shape_as_text)
    modules["segment_count"] = modules["segments"].astype("Int64")
    modules["flops"] = 2 * modules["macs"]
    for part in ("spatial", "pointwise"):
        for cost in ("params", "macs"):
            modules[f"{part}_{cost}"] = modules[cost].where(modules["part"] == part, 0)
    modules["segmented_macs"] = modules["macs"].where(modules["layer"] != modules["whole"], 0)
    layers = modules.groupby("whole", sort=False)
    # A segmented convolution comes before its parts.
    described = layers[["kind", "output_shape", "segment_count"]].first()
    counts = [*SUMMED_COLUMNS, *[OTHER_MACS] * bool(costs.other_macs)]
    rows = described.join(layers[counts].sum()).reset_index(names="layer")
    rows["flow"] = rows["layer"].str.partition(".")[0]
    return rows[[*LAYER_COLUMNS, *counts]]


def _segment_count(module: nn.Module) -> int | None:
    if isinstance(module, SegmentedConv):
        return module.segment_count
    if isinstance(module, UnevenConv2d):
        return sum(conv.groups for conv in module.convs)  # type: ignore[misc]
    return module.groups if isinstance(module, nn.Conv2d) else None


def _conv_part(module: nn.Module) -> str:
    """``"spatial"`` or ``"pointwise"`` for a convolution, ``""`` for any other module."""
    if isinstance(module, UnevenConv2d):
        return _conv_part(module.convs[0])
    if not isinstance(module, _ConvNd):
        return ""
    return "spatial" if max(module.kernel_size) > 1 else "pointwise"
