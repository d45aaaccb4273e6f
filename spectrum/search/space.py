"""The space of a search: what has a setting of its own, and the settings to choose from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median_low
from typing import Any, TypeAlias

from spectrum.costs import build_on_meta
from spectrum.layers import SegmentedConv, dialled_channels
from spectrum.networks import NetworkConfig
from spectrum.search.config import Grain, SearchConfig
from spectrum.segments import Segments
from spectrum.study.grid import Combination

__all__ = ["LISTED", "Params", "Space", "dialled_layers", "make_space"]

LISTED = 4096
"""How many points at most are gone through one by one to find some that are allowed."""

Params: TypeAlias = Mapping[str, str]
"""A point of a space: the chosen value, as text, of every parameter."""


@dataclass(frozen=True)
class Space:
    """The points that a search chooses from.

    Attributes:
        config: the search.
        layers: paths of the dialled layers, in order of depth.
        places: the layers (their places in ``layers``) that each parameter of the dial sets.
        choices: the values of every parameter as text, those of the dial first, and these from
            few segments to many.
    """

    config: SearchConfig
    layers: tuple[str, ...]
    places: dict[str, tuple[int, ...]]
    choices: dict[str, tuple[str, ...]]

    @property
    def size(self) -> int:
        """How many points there are."""
        return math.prod(map(len, self.choices.values()))

    def segments(self, params: Params) -> str:
        """The setting of the whole network, in its shortest form, so that equal ones are equal.

        A point that is the same everywhere is written as a study writes it, and so shares its
        runs.
        """
        of_layer = {i: params[name] for name, places in self.places.items() for i in places}
        if len(set(of_layer.values())) == 1:
            return of_layer[0]
        flows: dict[str, set[str]] = {}
        for i, path in enumerate(self.layers):
            flows.setdefault(path.partition(".")[0], set()).add(of_layer[i])
        if all(len(settings) == 1 for settings in flows.values()):
            return "+".join(f"{flow}={setting}" for flow, (setting,) in flows.items())
        return "+".join(of_layer[i] for i in range(len(self.layers)))

    def combination(self, params: Params) -> Combination:
        """What a point trains, before its width is solved.

        Raises:
            ValueError: its fields don't go together.
        """
        axes = self.config.axes()
        chosen = {axis: values[0] for axis, values in axes.items()}
        for name, axis in self.config.searched().items():
            if name in params and name not in self.places:
                by_text = {_text(axis, value): value for value in axes[axis]}
                chosen[axis] = by_text[params[name]]
        return self.config.combine({**chosen, ("network", "segments"): self.segments(params)})

    def uniform(self) -> list[dict[str, str]]:
        """The points with one setting everywhere and the first value of every other field."""
        first = {name: values[0] for name, values in self.choices.items()}
        return [
            {**first, **dict.fromkeys(self.places, setting)} for setting in self.config.segments
        ]

    def listed(self) -> Iterator[dict[str, str]]:
        """Every point, in order."""
        for values in product(*self.choices.values()):
            yield dict(zip(self.choices, values, strict=True))

    def is_uniform(self, params: Params) -> bool:
        """Whether a point has one setting of the dial everywhere, whatever else it has."""
        return len({params[name] for name in self.places}) == 1

    def describe(self) -> dict[str, Any]:
        """The space as plain values; another one can't go on from its trials."""
        return {"per": self.config.per, **{name: list(v) for name, v in self.choices.items()}}


def make_space(config: SearchConfig) -> Space:
    """The space of a search.

    Raises:
        ValueError: the network can't be built, or has no layer on the dial, or the space is too
            large for the sampler.
    """
    network = next(config.combinations()).network
    layers = dialled_layers(network)
    places: dict[str, list[int]] = {}
    for i, path in enumerate(layers):
        places.setdefault(_owner(path, config.per), []).append(i)
    axes = config.axes()
    others = {
        name: tuple(_text(axis, value) for value in axes[axis])
        for name, axis in config.searched().items()
        if name != "segments"
    }
    clash = sorted(places.keys() & others.keys())
    if clash:
        raise ValueError(f"network has a {config.per} {clash[0]}, which is also a field's name")
    space = Space(
        config,
        tuple(layers),
        {name: tuple(of_name) for name, of_name in places.items()},
        {**dict.fromkeys(places, _by_count(config.segments, layers.values())), **others},
    )
    limited = config.max_params is not None or config.max_macs is not None
    if config.sampler == "grid" and limited and space.size > LISTED:
        raise ValueError(
            f"sampler (='grid') must be another one for {space.size:,} points with a limit: those "
            f"within it are looked for one by one, among {LISTED:,} at most"
        )
    return space


def dialled_layers(network: NetworkConfig) -> dict[str, SegmentedConv]:
    """A network's layers on the dial by their paths, in order of depth, without weights."""
    modules = build_on_meta(network).named_modules()
    return {path: layer for path, layer in modules if isinstance(layer, SegmentedConv)}


def _text(axis: tuple[str, str], value: object) -> str:
    """A value of a field as a parameter of the space has it."""
    # Rows of results have the width as a number, whatever it was written like.
    return str(float(str(value)) if axis == ("network", "width") else value)


def _by_count(points: Sequence[str], layers: Iterable[SegmentedConv]) -> tuple[str, ...]:
    """Points of the dial from few segments to many, in the layer of middling channels."""
    channels = [dialled_channels(x.in_channels, x.out_channels, x.order) for x in layers]
    usual = median_low(channels)
    return tuple(sorted(points, key=lambda point: Segments(point).count(usual, saturate=True)))


def _owner(path: str, grain: Grain) -> str:
    """The parameter that sets a layer; a block is a child of a flow."""
    depth = {"network": 0, "flow": 1, "block": 2, "layer": None}[grain]
    return "segments" if depth == 0 else ".".join(path.split(".")[:depth])
