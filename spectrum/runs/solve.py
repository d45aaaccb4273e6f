"""A network at its budget: its width, its costs and the notes on it.

This happens while runs are planned, before any of them has an id, since the width is part of the
id.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spectrum.costs import Costs, count_config, count_costs, match_budget
from spectrum.costs.budget import count_reference
from spectrum.costs.choices import Matching
from spectrum.costs.schedules import Counts, ScheduleCounter
from spectrum.data import Dataset
from spectrum.errors import FieldError
from spectrum.machine import is_out_of_memory
from spectrum.networks import NetworkConfig, build, code_fingerprint, is_user_code
from spectrum.runs.latency import LatencyCache

_NOTED_MISS = 0.05  # a larger relative miss of the budget is noted


@dataclass(frozen=True)
class Solved:
    """A network at its budget.

    Attributes:
        network: the network, with its width solved.
        params: the number of trainable parameters.
        macs: the MACs of convolutions and linear layers for one example.
        activations: the outputs of convolutions and linear layers for one example.
        latency: the measured milliseconds per batch in inference; None if it wasn't needed.
        miss: the matched cost divided by the budget, minus 1; None if no cost is matched.
        code: a fingerprint of the source files of a user's own model; "" for other networks.
        notes: messages for the user, such as layers that saturate.
    """

    network: NetworkConfig
    params: int
    macs: int
    activations: int
    latency: float | None
    miss: float | None
    code: str
    notes: tuple[str, ...]


def reference_cost(
    network: NetworkConfig, dataset: Dataset, match: Matching, latencies: LatencyCache | None = None
) -> float | None:
    """The default budget of a study: the cost of its network at ``"C"`` and width 1.

    Args:
        network: the network of the study's first combination.
        dataset: the data of that combination.
        match: the kind of cost.
        latencies: the latency cache whose reference is that network; needed to match latency.

    Returns:
        The number of parameters or MACs, or the latency in milliseconds; None for ``"none"``.
    """
    if match == "none":
        return None
    if match == "latency":
        assert latencies is not None
        return latencies.budget
    return count_reference(network, dataset.shape, match)


def solve(
    network: NetworkConfig,
    dataset: Dataset,
    match: Matching,
    budget: float | None,
    latencies: LatencyCache | None = None,
    counter: ScheduleCounter | None = None,
) -> Solved:
    """Solve the width of a network for a budget, count its costs and collect its warnings.

    Args:
        network: the network. Its own width is kept only if ``match`` is ``"none"``.
        dataset: the data that the network classifies.
        match: the kind of cost.
        budget: the number of parameters or MACs, or the latency in milliseconds; for latency None
            is that of the reference network.
        latencies: the latency cache; needed to match latency.
        counter: counts a network of a family in less time, without its warnings.

    Raises:
        ValueError: no width meets the budget, the network can't be built or doesn't classify the
            data, or it needs too much memory.
    """
    miss, latency, code = None, None, ""
    costs: Costs | Counts
    try:
        if match == "latency":
            assert latencies is not None
            network, miss, latency = latencies.match(network, dataset.shape, budget)
        elif match != "none":
            assert isinstance(budget, int)
            if counter is None:
                network, miss = match_budget(network, dataset.shape, **{match: budget})
            else:
                network, miss = counter.match_budget(network, match, budget)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if is_user_code(network.name):
                module = build(network)
                costs = count_costs(module, dataset.shape)
                _check_logits(module, network, dataset)
                code = code_fingerprint(network.name, module)
            elif counter is not None:
                costs = counter(network)
            else:
                with torch.device("meta"):
                    build(network)  # for its warnings alone
                costs = count_config(network, dataset.shape)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise FieldError(
            "segments",
            network.segments,
            f"at width {network.width} must need less memory: it needs more than there is",
        ) from error
    notes = tuple(str(warning.message) for warning in caught)
    if isinstance(costs, Costs) and costs.note:
        notes += (f"{network.name}: {costs.note}",)
    if miss is not None and abs(miss) > _NOTED_MISS:
        verb = "misses" if match == "latency" else "miss"
        notes += (f"segments (={network.segments}): {match} {verb} the budget by {miss:+.0%}",)
    counts = costs.params, costs.macs, costs.activations
    return Solved(network, *counts, latency, miss, code, notes)


def _check_logits(module: nn.Module, network: NetworkConfig, dataset: Dataset) -> None:
    """Raise a ValueError if a user's own model doesn't classify images of the data."""
    try:
        with torch.no_grad():
            logits = module.eval()(torch.zeros(1, *dataset.shape))
    except Exception as error:  # a user's module may raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FieldError("network", network.name, f"can't take float32 images: {reason}") from error
    output = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if output != (1, network.num_classes):
        raise FieldError(
            "network",
            network.name,
            f"must give logits (N, {network.num_classes}), one per class of the data, not "
            f"{output}; a callable with a parameter num_classes receives their number",
        )
