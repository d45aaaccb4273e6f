"""The costs of many networks, at equal budgets if that is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import pandas as pd

from spectrum.costs.budget import match_budget, reference_config
from spectrum.costs.fast import count_config
from spectrum.costs.inputs import checked_shape
from spectrum.costs.matching import Matching
from spectrum.costs.rows import cost_rows, unconverted_rows
from spectrum.networks import NetworkConfig, is_user_code, takes_argument

__all__ = ["CostGrid", "add_name_to_errors", "cost_grid"]


class CostGrid(NamedTuple):
    """The costs of many networks.

    Attributes:
        rows: the rows of ``cost_rows`` for every network, with a column ``miss``: the matched cost
            divided by the budget, minus one (missing where nothing is matched).
        notes: remarks for the user, such as layers that saturate.
    """

    rows: pd.DataFrame
    notes: tuple[str, ...]


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
        ValueError: ``match`` is ``"latency"``, which is measured and not counted; or a network
            can't be built, can't process the input or can't meet the budget.
    """
    if match == "latency":
        raise ValueError(
            f"match (={match!r}) must be one of params, macs, none: a grid has counted costs only"
        )
    shape = checked_shape(input_shape)
    with add_name_to_errors(configs[0].name):
        budget = _budget(configs[0], shape, match)
    parts: list[pd.DataFrame] = []
    notes: dict[str, None] = {}
    unconverted: set[str] = set()
    for done, config in enumerate(configs, 1):
        with add_name_to_errors(config.name), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if is_user_code(config.name) and config.name not in unconverted:
                unconverted.add(config.name)
                parts.append(unconverted_rows(config, shape).assign(miss=None))
            solved, miss = _solve(config, shape, match, budget)
            parts.append(cost_rows(solved, shape).assign(miss=miss))
        notes |= dict.fromkeys(f"{config.name}: {warning.message}" for warning in caught)
        if on_point:
            on_point(done)
    rows = pd.concat([rows.astype({"miss": float}) for rows in parts], ignore_index=True)
    return CostGrid(rows, tuple(notes))


@contextmanager
def add_name_to_errors(name: str) -> Iterator[None]:
    """Add a network's name to a ValueError that doesn't contain it: there may be several."""
    try:
        yield
    except ValueError as error:
        if name in str(error):
            raise
        raise ValueError(f"{error} [{name}]") from error


def _budget(first: NetworkConfig, shape: tuple[int, int, int], match: Matching) -> int | None:
    if match == "none":
        return None
    costs = count_config(reference_config(first), shape)
    return costs.params if match == "params" else costs.macs


def _solve(
    config: NetworkConfig, shape: tuple[int, int, int], match: Matching, budget: int | None
) -> tuple[NetworkConfig, float | None]:
    """The network with its width solved for the budget, and its miss."""
    if budget is None:
        return config, None
    if is_user_code(config.name) and not takes_argument(config.name, "width"):
        raise ValueError(f"match (={match!r}) must be 'none' for {config.name}: it takes no width")
    if match == "params":
        return match_budget(config, shape, params=budget)
    return match_budget(config, shape, macs=budget)
