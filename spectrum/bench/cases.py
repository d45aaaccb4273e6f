"""The networks of a benchmark, and the settings that they are timed with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import ValidationError
from torch import nn

from spectrum.bench.arguments import Layout, PlanName, Precision
from spectrum.bench.names import NetworkSpec
from spectrum.costs import Matching, count_config, count_costs, count_parameters, match_budget
from spectrum.costs.budget import reference_config
from spectrum.networks import PRESETS, NetworkConfig, build, call_user_code, is_user_code
from spectrum.segments import UNCONVERTED

__all__ = ["BuiltNetwork", "NetworkBenchConfig", "NetworkCase", "build_case", "make_cases"]


@dataclass(frozen=True)
class NetworkBenchConfig:
    """How networks are timed.

    Attributes:
        input_shape: the shape of one image, such as ``(3, 299, 299)``.
        classes: outputs of the networks.
        batch: images per step; None for the largest batch of each network that fits in memory.
        modes: ``"training"``, ``"inference"`` or both.
        match: the cost that is equal for all points of a network: that at ``"C"`` and width 1.
        device: where the networks compute.
        seconds: the time for all measurements together.
    """

    input_shape: tuple[int, int, int]
    classes: int
    batch: int | None
    modes: tuple[str, ...]
    match: Matching
    device: str
    seconds: float


@dataclass(frozen=True)
class NetworkCase:
    """A network to be timed, with its settings.

    Attributes:
        name: the name as it was typed, without the settings.
        config: the configuration; None for a user's model that isn't converted.
        precision: of the forward pass.
        layout: the memory layout of images and weights.
        plan: the plan by which its segmented layers are executed.
    """

    name: str
    config: NetworkConfig | None
    precision: Precision
    layout: Layout
    plan: PlanName

    @property
    def segments(self) -> str:
        """The setting of its segments; ``"-"`` for a model that isn't converted."""
        return self.config.segments if self.config else UNCONVERTED


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


def make_cases(
    specs: Sequence[NetworkSpec],
    points: Sequence[str] | None,
    precision: Precision,
    layout: Layout,
    bench: NetworkBenchConfig,
) -> list[NetworkCase]:
    """Make the networks to time, without duplicates.

    Args:
        specs: the networks with the settings that were typed for them.
        points: the settings of the segments for networks without one of their own. None means the
            published setting of each network, and no conversion of a user's model.
        precision: for networks without one of their own.
        layout: for networks without one of their own.
        bench: gives the classes and the channels of the images.

    Raises:
        ValueError: a network isn't known.
    """
    cases: list[NetworkCase] = []
    for spec in specs:
        settings = [spec.segments] if spec.segments is not None else points
        for segments in settings or [_published(spec.name)]:
            config = None
            if segments != UNCONVERTED:
                config = _configure(spec.name, segments, bench)
            cases.append(
                NetworkCase(
                    spec.name,
                    config,
                    spec.precision or precision,
                    spec.layout or layout,
                    spec.plan or "auto",
                )
            )
    return [case for i, case in enumerate(cases) if case not in cases[:i]]


def build_case(case: NetworkCase, bench: NetworkBenchConfig) -> BuiltNetwork:
    """Build the network of a case with random weights, its width solved if costs are matched.

    Raises:
        ValueError: the network can't be built, counted or matched, or can't process the images.
    """
    config, shape = case.config, bench.input_shape
    if config is None:
        network = call_user_code(
            case.name, num_classes=bench.classes, in_channels=shape[0], width=1.0
        )
        return BuiltNetwork(network, math.nan, count_parameters(network), _macs(network, shape))
    if bench.match == "params":
        config = match_budget(config, shape).config
    elif bench.match == "macs":
        budget = count_config(reference_config(config), shape).macs
        config = match_budget(config, shape, macs=budget).config
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
    return "32" if name.startswith("resnext") else "1"


def _configure(name: str, segments: str, bench: NetworkBenchConfig) -> NetworkConfig:
    try:
        return NetworkConfig(
            name=name,
            segments=segments,
            num_classes=bench.classes,
            in_channels=bench.input_shape[0],
        )
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ValueError(f"network (={name!r}) {message}") from None


def _macs(network: nn.Module, shape: tuple[int, int, int]) -> int | None:
    try:
        return count_costs(network, shape).macs
    except ValueError as error:
        if str(error).startswith("input_shape"):
            raise
        return None  # the cost of an operator isn't known
