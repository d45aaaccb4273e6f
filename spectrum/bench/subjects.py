"""The networks of a benchmark: what they are, and what they are timed with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import ValidationError
from torch import nn

from spectrum.bench.arguments import Layout, PlanName, Precision
from spectrum.bench.names import Entry
from spectrum.costs import Matching, count_config, count_costs, count_parameters, match_budget
from spectrum.costs.budget import reference
from spectrum.networks import PRESETS, NetworkConfig, build, call_code, is_code

__all__ = ["Built", "NetworkBench", "Subject", "build_subject", "make_subjects"]

AS_IT_IS = "-"  # the segments of a user's model that isn't put on the dial


@dataclass(frozen=True)
class NetworkBench:
    """How networks are timed.

    Attributes:
        input_shape: of one image, as in ``(3, 299, 299)``.
        classes: outputs of the networks.
        batch: images a step; None for the largest that memory has room for, of each network.
        modes: ``"training"``, ``"inference"`` or both.
        match: what all points of a network cost alike: what it costs at ``"C"`` and width 1.
        device: where.
        seconds: how long to measure, all together.
    """

    input_shape: tuple[int, int, int]
    classes: int
    batch: int | None
    modes: tuple[str, ...]
    match: Matching
    device: str
    seconds: float


@dataclass(frozen=True)
class Subject:
    """A network to be timed.

    Attributes:
        name: as it was typed, without what it is timed with.
        config: None for a user's model as it is.
        precision: of the forward pass.
        layout: of images and weights in memory.
        plan: by which its dialled layers are executed.
    """

    name: str
    config: NetworkConfig | None
    precision: Precision
    layout: Layout
    plan: PlanName

    @property
    def segments(self) -> str:
        """The point of the dial, ``"-"`` where it has none."""
        return self.config.segments if self.config else AS_IT_IS


class Built(NamedTuple):
    """A network with what it costs.

    Attributes:
        network: the module.
        width: NaN for a user's model as it is.
        params: trainable parameters.
        macs: multiply-adds for one image; None where an operator's aren't known.
    """

    network: nn.Module
    width: float
    params: int
    macs: int | None


def make_subjects(
    entries: Sequence[Entry],
    points: Sequence[str] | None,
    precision: Precision,
    layout: Layout,
    bench: NetworkBench,
) -> list[Subject]:
    """The networks to time, each once.

    Args:
        entries: the networks, with what they say themselves.
        points: of the dial, for those that don't; None for the published one of each, and for a
            user's model as it is.
        precision: for those that don't say.
        layout: likewise.
        bench: the classes and the channels of the images.

    Raises:
        ValueError: a network isn't known.
    """
    found: list[Subject] = []
    for entry in entries:
        own = [entry.segments] if entry.segments is not None else points
        for segments in own or [_published(entry.name)]:
            config = None
            if segments != AS_IT_IS:
                config = _configure(entry.name, segments, bench)
            found.append(
                Subject(
                    entry.name,
                    config,
                    entry.precision or precision,
                    entry.layout or layout,
                    entry.plan or "auto",
                )
            )
    return [subject for i, subject in enumerate(found) if subject not in found[:i]]


def build_subject(subject: Subject, bench: NetworkBench) -> Built:
    """The network of a subject, its width solved where costs are matched, with fresh weights.

    Raises:
        ValueError: it can't be built, counted or matched, or doesn't take the images.
    """
    config, shape = subject.config, bench.input_shape
    if config is None:
        network = call_code(
            subject.name, num_classes=bench.classes, in_channels=shape[0], width=1.0
        )
        return Built(network, math.nan, count_parameters(network), _macs(network, shape))
    if bench.match == "params":
        config = match_budget(config, shape).config
    elif bench.match == "macs":
        budget = count_config(reference(config), shape).macs
        config = match_budget(config, shape, macs=budget).config
    network = build(config)
    named = not is_code(config.name)
    macs = count_config(config, shape).macs if named else _macs(network, shape)
    return Built(network, config.width, count_parameters(network), macs)


def _published(name: str) -> str:
    """The point at which a network was published; ``"-"`` for a user's model."""
    if is_code(name):
        return AS_IT_IS
    if name in PRESETS:
        return "C"
    return "32" if name.startswith("resnext") else "1"


def _configure(name: str, segments: str, bench: NetworkBench) -> NetworkConfig:
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
        return None  # an operator whose cost isn't known
