"""A network at its budget: its width, what it costs, and what a user should know of it."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spectrum.costs import (
    count_config,
    count_costs,
    is_out_of_memory,
    match_budget,
    reference,
)
from spectrum.data import Dataset
from spectrum.networks import NetworkConfig, build, code_fingerprint, is_code
from spectrum.study.grid import Matching
from spectrum.study.latency import Meter

__all__ = ["Solved", "cost_of_reference", "is_out_of_memory", "solve"]

_FAR = 0.05  # a miss of the budget that a reader should know of


class Solved(NamedTuple):
    """A network at its budget; the fields are those of ``Point``."""

    network: NetworkConfig
    params: int
    macs: int
    latency: float | None
    miss: float | None
    code: str
    notes: tuple[str, ...]


def cost_of_reference(
    network: NetworkConfig, dataset: Dataset, match: Matching, meter: Meter | None = None
) -> float | None:
    """The budget of a study: what the network costs at ``"C"`` and width 1; None for no match.

    Args:
        network: of the first combination of the study.
        dataset: its data.
        match: the cost; latency is in milliseconds.
        meter: with that network as its yardstick, for the latency.
    """
    if match == "none":
        return None
    if match == "latency":
        assert meter is not None
        return meter.budget
    costs = count_config(reference(network), dataset.shape)
    return costs.params if match == "params" else costs.macs


def solve(
    network: NetworkConfig,
    dataset: Dataset,
    match: Matching,
    budget: float | None,
    meter: Meter | None = None,
) -> Solved:
    """The network at its budget, what it costs, and what it had to say when it was built.

    Args:
        network: its width is solved, unless ``match`` is ``"none"``.
        dataset: what it classifies.
        match: the cost.
        budget: how much of it; None for the meter's yardstick, where latency is matched.
        meter: of latencies, where ``match`` needs them.
    """
    miss, latency, code = None, None, ""
    try:
        if match == "latency":
            assert meter is not None
            network, miss, latency = meter.match(network, dataset.shape, budget)
        elif match != "none":
            assert isinstance(budget, int)
            network, miss = match_budget(network, dataset.shape, **{match: budget})
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            if is_code(network.name):
                module = build(network)
                costs = count_costs(module, dataset.shape)
                _check_logits(module, network, dataset)
                code = code_fingerprint(network.name, module)
            else:
                with torch.device("meta"):
                    build(network)  # for what it has to say
                costs = count_config(network, dataset.shape)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"segments (={network.segments}) at width {network.width} need more memory "
            "than there is"
        ) from error
    notes = tuple(str(warning.message) for warning in said)
    if miss is not None and abs(miss) > _FAR:
        misses = "misses" if match == "latency" else "miss"
        notes += (f"segments (={network.segments}): {match} {misses} the budget by {miss:+.0%}",)
    return Solved(network, costs.params, costs.macs, latency, miss, code, notes)


def _check_logits(module: nn.Module, network: NetworkConfig, dataset: Dataset) -> None:
    """Raise a ValueError for a user's model that doesn't classify the data."""
    try:
        with torch.no_grad():
            logits = module.eval()(torch.zeros(1, *dataset.shape))
    except Exception as error:  # a user's module may raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"network (={network.name}) can't take float32 images: {reason}"
        ) from error
    given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if given != (1, network.num_classes):
        raise ValueError(
            f"network (={network.name}) must give logits (N, {network.num_classes}), one a class "
            f"of the data, not {given}; a callable that takes num_classes is told their number"
        )
