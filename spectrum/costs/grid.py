"""The costs of many points of the dial, at equal budgets where that is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple, TypeAlias

import pandas as pd

from spectrum.costs.budget import match_budget, reference
from spectrum.costs.fast import count_config
from spectrum.costs.inputs import checked_shape
from spectrum.costs.rows import cost_rows, rows_as_it_is
from spectrum.networks import NetworkConfig, is_code, takes

__all__ = ["CostGrid", "cost_grid", "telling_network"]

Matching: TypeAlias = Literal["params", "macs", "none"]


class CostGrid(NamedTuple):
    """The costs of many points.

    Attributes:
        rows: of every point, as ``cost_rows`` gives them, and ``miss``, the matched cost over the
            budget less one (missing where nothing is matched).
        notes: what a user should know of them, such as layers that saturate.
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
    """Count every layer of every point; a user's model comes first as it is, then on the dial.

    Args:
        configs: the points, one at least.
        input_shape: of one example, as in ``(3, 299, 299)``.
        match: what all points shall cost alike, by their widths: what the first of them costs at
            ``"C"`` and width 1.
        on_point: called after each point with their number so far.

    Raises:
        ValueError: a point can't be built, can't take the input or can't meet the budget.
    """
    shape = checked_shape(input_shape)
    with telling_network(configs[0].name):
        budget = _budget(configs[0], shape, match)
    found: list[pd.DataFrame] = []
    notes: dict[str, None] = {}
    as_they_are: set[str] = set()
    for done, config in enumerate(configs, 1):
        with telling_network(config.name), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            if is_code(config.name) and config.name not in as_they_are:
                as_they_are.add(config.name)
                found.append(rows_as_it_is(config, shape).assign(miss=None))
            solved, miss = _solve(config, shape, match, budget)
            found.append(cost_rows(solved, shape).assign(miss=miss))
        notes |= dict.fromkeys(f"{config.name}: {warning.message}" for warning in said)
        if on_point:
            on_point(done)
    rows = pd.concat([rows.astype({"miss": float}) for rows in found], ignore_index=True)
    return CostGrid(rows, tuple(notes))


@contextmanager
def telling_network(name: str) -> Iterator[None]:
    """Say which network is at fault: there may be several."""
    try:
        yield
    except ValueError as error:
        if name in str(error):
            raise
        raise ValueError(f"{error} [{name}]") from error


def _budget(first: NetworkConfig, shape: tuple[int, int, int], match: Matching) -> int | None:
    if match == "none":
        return None
    costs = count_config(reference(first), shape)
    return costs.params if match == "params" else costs.macs


def _solve(
    config: NetworkConfig, shape: tuple[int, int, int], match: Matching, budget: int | None
) -> tuple[NetworkConfig, float | None]:
    """The network at its budget, and by how much it misses."""
    if budget is None:
        return config, None
    if is_code(config.name) and not takes(config.name, "width"):
        raise ValueError(f"match (={match!r}) must be 'none' for {config.name}: it takes no width")
    if match == "params":
        return match_budget(config, shape, params=budget)
    return match_budget(config, shape, macs=budget)
