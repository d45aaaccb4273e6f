"""The networks of a benchmark, and the settings that they are timed with."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import nn

from spectrum.bench.config import NetworkBenchConfig, NetworkCase
from spectrum.costs import (
    count_config,
    count_costs,
    count_parameters,
    match_budget,
)
from spectrum.costs.budget import count_reference
from spectrum.errors import FieldError
from spectrum.networks import PRESETS, NetworkConfig, build, call_user_code, is_user_code
from spectrum.networks.config import NAMED_NETWORKS
from spectrum.segments import UNCONVERTED


class BuiltNetwork(NamedTuple):
    """A network with its costs.

    Attributes:
        network: the module.
        width: its width; NaN for a user's model that isn't converted.
        params: trainable parameters.
        macs: multiply-adds for one image; None if the cost of an operator isn't known.
    """

    network: nn.Module
    width: float
    params: int
    macs: int | None


def add_points(typed: Sequence[NetworkCase], bench: NetworkBenchConfig) -> list[NetworkCase]:
    """Set the segments of the cases for which none were typed; duplicates are left out.

    Each gets a case for every point of ``bench``. Without points it has its published setting, and
    a user's model isn't converted.
    """
    cases: dict[NetworkCase, None] = {}
    for case in typed:
        points = bench.segments or [_published(case.name)]
        for segments in [case.segments] if case.segments else points:
            cases[case._replace(segments=segments)] = None
    return list(cases)


def build_case(case: NetworkCase, bench: NetworkBenchConfig) -> BuiltNetwork:
    """Build the network of a case with random weights, its width solved if costs are matched.

    Raises:
        FieldError: the network can't be built, counted or matched, or can't process the images.
    """
    shape = bench.shape
    if case.segments == UNCONVERTED:
        network = call_user_code(
            case.name, num_classes=bench.classes, in_channels=shape[0], width=1.0
        )
        return BuiltNetwork(network, math.nan, count_parameters(network), _macs(network, shape))
    config = _configure(case, bench)
    if bench.match != "none":
        budget = {bench.match: count_reference(config, shape, bench.match)}
        config = match_budget(config, shape, **budget).config
    network = build(config)
    is_family = not is_user_code(config.name)
    macs = count_config(config, shape).macs if is_family else _macs(network, shape)
    return BuiltNetwork(network, config.width, count_parameters(network), macs)


def _published(name: str) -> str:
    """The segments with which a network was published; ``"-"`` for a user's model."""
    if is_user_code(name):
        return UNCONVERTED
    if name in PRESETS:
        return "C"
    if name.startswith("resnext"):
        return "32"
    known = NAMED_NETWORKS.get(name)  # an unknown name is refused when it is built
    return "1" if known is None else str(known.defaults.get("segments", "1"))


def _configure(case: NetworkCase, bench: NetworkBenchConfig) -> NetworkConfig:
    fields: dict[str, Any] = {"name": case.name, "segments": case.segments}
    fields |= {"num_classes": bench.classes, "in_channels": bench.shape[0]}
    try:
        return NetworkConfig.checked(fields)
    except FieldError as error:
        raise error.renamed("network") if error.field == "name" else error from None


def _macs(network: nn.Module, shape: tuple[int, int, int]) -> int | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of operators whose cost isn't known
            costs = count_costs(network, shape)
    except FieldError as error:
        if error.field == "input_shape":
            raise
        return None  # it can't be traced
    return None if costs.unknown else costs.macs
