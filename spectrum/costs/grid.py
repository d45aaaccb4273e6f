"""The costs of many networks, at equal budgets if that is asked for."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import pandas as pd
import torch

from spectrum.analysis.cost_columns import (
    LAYER_COLUMNS,
    OTHER_MACS,
    POINT_COLUMNS,
    SUMMED_COLUMNS,
)
from spectrum.costs.budget import Match, count_reference, match_budget
from spectrum.costs.choices import Matching
from spectrum.costs.count import count_costs
from spectrum.costs.fast import count_config
from spectrum.costs.inputs import checked_shape, shape_as_text
from spectrum.costs.rows import Costs, layer_rows
from spectrum.errors import FieldError
from spectrum.networks import NetworkConfig, build, call_user_code, is_user_code, takes_argument
from spectrum.segments import UNCONVERTED


class CostGrid(NamedTuple):
    """The costs of many networks.

    Attributes:
        rows: the rows of ``cost_rows`` for every network, with a column ``miss``: the matched cost
            divided by the budget, minus one (missing where nothing is matched).
        notes: remarks for the user, such as layers that saturate.
    """

    rows: pd.DataFrame
    notes: tuple[str, ...]


def cost_rows(config: NetworkConfig, input_shape: Sequence[int]) -> pd.DataFrame:
    """The costs of a network, one row per layer; a segmented convolution is one layer.

    Args:
        config: the network.
        input_shape: the shape of one example, such as ``(3, 299, 299)``.

    Returns:
        The columns that describe the network: ``network``, ``order`` ("own" if no order is set),
        ``pointwise_segments``, ``shuffle``, ``segments`` (the setting), ``width``, ``classes``
        (missing for a user's model that doesn't take their number) and ``input``.

        The columns that describe the layer: ``flow`` (the first part of its path), ``layer,
        kind, output_shape, segment_count``.

        Its costs: ``params`` (trainable), ``macs``, ``flops`` (2 x MACs), ``activations``,
        ``weight_bytes`` (of all parameters); ``spatial_params`` and ``spatial_macs`` of
        convolutions larger than 1x1; ``pointwise_params`` and ``pointwise_macs`` of 1x1
        convolutions.

        For segmented convolutions (0 for other layers) the MACs of the alternatives with the same
        channels: ``segmented_macs`` of the layer itself; ``regular_macs`` of a regular
        convolution, k*k*c_in*c_out at each position of the output; ``separable_macs`` of the
        paper's depthwise separable convolution, which is that times 1/c_out + 1/(k*k).

        If the network has some, ``other_macs``: those of all other products, such as attention's,
        which ``macs`` leaves out.

    Raises:
        FieldError: the segments don't fit the layers, or the network can't process the input.
    """
    if not is_user_code(config.name):
        with torch.device("meta"):
            build(config)  # for its warnings, since its costs may be known
    costs = count_config(config, input_shape)
    settings = config.model_dump(include={"pointwise_segments", "shuffle", "segments"})
    return _point_rows(config, costs, {**settings, "order": config.order or "own"})


def unconverted_rows(config: NetworkConfig, input_shape: Sequence[int]) -> pd.DataFrame:
    """The rows of a user's model before it is converted.

    Its order and both of its settings are ``"-"``; its ``shuffle`` is missing.

    Args:
        config: a configuration named ``package.module:callable``. Its order, its
            segments and those of its 1x1 are ignored.
        input_shape: the shape of one example, such as ``(3, 299, 299)``.

    Raises:
        FieldError: the callable doesn't exist, fails or returns no module, or the module can't be
            counted.
    """
    network = call_user_code(
        config.name,
        num_classes=config.num_classes,
        in_channels=config.in_channels,
        width=config.width,
    )
    settings = dict.fromkeys(("order", "pointwise_segments", "segments"), UNCONVERTED)
    return _point_rows(config, count_costs(network, input_shape), {**settings, "shuffle": None})


def _point_rows(
    config: NetworkConfig, costs: Costs, settings: Mapping[str, str | bool | None]
) -> pd.DataFrame:
    has_classes = not is_user_code(config.name) or takes_argument(config.name, "num_classes")
    rows = layer_rows(costs).assign(
        network=config.name,
        **settings,
        width=config.width,
        classes=config.num_classes if has_classes else None,
        input=shape_as_text(costs.input_shape),
    )
    columns = [*POINT_COLUMNS, *LAYER_COLUMNS, *SUMMED_COLUMNS, OTHER_MACS]
    shown = rows[[name for name in columns if name in rows]]
    return shown.astype({"classes": "Int64", "shuffle": "boolean"})


def cost_grid(
    configs: Sequence[NetworkConfig],
    input_shape: Sequence[int],
    *,
    match: Matching = "none",
    on_point: Callable[[int], None] | None = None,
) -> CostGrid:
    """Count every layer of every network.

    The rows of a user's model are preceded by those of the model before it is converted.

    Args:
        configs: the networks, at least one.
        input_shape: the shape of one example, such as ``(3, 299, 299)``.
        match: the cost that all networks get alike, by solving their widths. The budget is the
            cost of the first network at ``"C"`` and width 1.
        on_point: is called after each network with the number of networks done.

    Raises:
        FieldError: ``match`` is ``"latency"``, which is measured and not counted; or a network
            can't be built, can't process the input or can't meet the budget.
    """
    if match == "latency":
        allowed = "must be one of params, macs, none: a grid has counted costs only"
        raise FieldError("match", match, allowed)
    shape = checked_shape(input_shape)
    budget: dict[str, int] = {}
    if match != "none":
        with add_name_to_errors(configs[0].name):
            budget = {match: count_reference(configs[0], shape, match)}
    parts: list[pd.DataFrame] = []
    notes: dict[str, None] = {}
    unconverted: set[str] = set()
    for done, config in enumerate(configs, 1):
        with add_name_to_errors(config.name), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if is_user_code(config.name) and config.name not in unconverted:
                unconverted.add(config.name)
                parts.append(unconverted_rows(config, shape).assign(miss=math.nan))
            solved = match_budget(config, shape, **budget) if budget else Match(config, math.nan)
            parts.append(cost_rows(solved.config, shape).assign(miss=solved.miss))
        notes |= dict.fromkeys(f"{config.name}: {warning.message}" for warning in caught)
        if on_point:
            on_point(done)
    rows = pd.concat(parts, ignore_index=True)
    if OTHER_MACS in rows:
        rows = rows.fillna({OTHER_MACS: 0}).astype({OTHER_MACS: int})
    return CostGrid(rows, tuple(notes))


@contextmanager
def add_name_to_errors(name: str) -> Iterator[None]:
    """Add a network's name to a FieldError that doesn't contain it: there may be several."""
    try:
        yield
    except FieldError as error:
        if name in str(error):
            raise
        raise FieldError(error.field, error.value, f"{error.allowed} [{name}]") from error
