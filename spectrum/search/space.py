"""The space of a search: the parts of a network with a setting of their own, and their settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median_low
from typing import Any, TypeAlias

from spectrum.errors import FieldError
from spectrum.layers import SegmentedConv, segmented_channels
from spectrum.networks import NetworkConfig, build_on_meta
from spectrum.search.config import Granularity, SearchConfig
from spectrum.segments import Segments
from spectrum.study.grid import Combination

MAX_LISTED = 4096
"""The largest space whose points are listed one by one to find those within the limits."""

POINTWISE = "pointwise_segments"
"""The parameter of the segments of the 1x1 convolutions."""

Params: TypeAlias = Mapping[str, str]
"""A point of a space: the value of every parameter, as text."""


@dataclass(frozen=True)
class Space:
    """The points that a search chooses from.

    Attributes:
        config: the configuration of the search.
        layers: the paths of the layers on the dial, in order of depth.
        layer_indices: the layers, as indices into ``layers``, that each parameter of the dial sets.
        choices: the values of every parameter as text. Parameters of the dial come first, and their
            settings go from few segments to many. So do those of the 1x1 convolutions, if they are
            searched.
    """

    config: SearchConfig
    layers: tuple[str, ...]
    layer_indices: dict[str, tuple[int, ...]]
    choices: dict[str, tuple[str, ...]]

    @property
    def size(self) -> int:
        """The number of points."""
        return math.prod(map(len, self.choices.values()))

    @property
    def ordered(self) -> frozenset[str]:
        """The parameters whose values go from few segments to many."""
        return frozenset({*self.layer_indices, POINTWISE} & self.choices.keys())

    def segments(self, params: Params) -> str:
        """The setting of the whole network in its shortest form. Equal settings are equal text.

        A uniform point is written as a study writes it, and so shares the study's runs.
        """
        setting_of = {
            i: params[name] for name, indices in self.layer_indices.items() for i in indices
        }
        if len(set(setting_of.values())) == 1:
            return setting_of[0]
        flows: dict[str, set[str]] = {}
        for i, path in enumerate(self.layers):
            flows.setdefault(path.partition(".")[0], set()).add(setting_of[i])
        if all(len(settings) == 1 for settings in flows.values()):
            return "+".join(f"{flow}={setting}" for flow, (setting,) in flows.items())
        return "+".join(setting_of[i] for i in range(len(self.layers)))

    def combination(self, params: Params) -> Combination:
        """The configuration that a point trains, before its width is solved.

        Raises:
            ValueError: its fields contradict each other.
        """
        axes = self.config.axes()
        values_by_axis = {axis: values[0] for axis, values in axes.items()}
        for name, axis in self.config.searched_axes().items():
            if name in params and name not in self.layer_indices:
                by_text = {_value_text(axis, value): value for value in axes[axis]}
                values_by_axis[axis] = by_text[params[name]]
        return self.config.make_combination(
            {**values_by_axis, ("network", "segments"): self.segments(params)}
        )

    def uniform_points(self) -> list[dict[str, str]]:
        """The points with one setting everywhere and the first value of every other field."""
        first = {name: values[0] for name, values in self.choices.items()}
        return [
            {**first, **dict.fromkeys(self.layer_indices, setting)}
            for setting in self.config.segments
        ]

    def every_uniform_point(self) -> Iterator[dict[str, str]]:
        """Yield the points with one setting everywhere, whatever their other fields.

        Those of ``uniform_points`` come first.
        """
        others = [name for name in self.choices if name not in self.layer_indices]
        for *values, setting in product(
            *(self.choices[name] for name in others), self.config.segments
        ):
            other_values = dict(zip(others, values, strict=True))
            yield {**dict.fromkeys(self.layer_indices, setting), **other_values}

    def all_points(self) -> Iterator[dict[str, str]]:
        """Yield every point, in order."""
        for values in product(*self.choices.values()):
            yield dict(zip(self.choices, values, strict=True))

    def is_uniform(self, params: Params) -> bool:
        """Whether a point has one setting of the dial everywhere, whatever its other fields."""
        return len({params[name] for name in self.layer_indices}) == 1

    def describe(self) -> dict[str, Any]:
        """The space as plain values. Only a search of the same space can continue its trials."""
        return {"per": self.config.per, **{name: list(v) for name, v in self.choices.items()}}


def make_space(config: SearchConfig) -> Space:
    """Make the space of a search.

    Raises:
        ValueError: the network can't be built or has no layer on the dial, or the space is too
            large for the sampler.
    """
    network = next(config.combinations()).network
    layers = segmented_layers(network)
    layer_indices: dict[str, list[int]] = {}
    for i, path in enumerate(layers):
        layer_indices.setdefault(_parameter_of(path, config.per), []).append(i)
    axes = config.axes()
    other_choices = {
        name: tuple(_value_text(axis, value) for value in axes[axis])
        for name, axis in config.searched_axes().items()
        if name != "segments"
    }
    if POINTWISE in other_choices:
        divided = [min(layer.in_channels, layer.out_channels) for layer in layers.values()]
        other_choices[POINTWISE] = _sort_by_count(other_choices[POINTWISE], divided)
    clash = sorted(layer_indices.keys() & other_choices.keys())
    if clash:
        has_part = f"has a {config.per} {clash[0]}, which is also a field's name"
        raise FieldError("network", config.network["name"][0], has_part)
    channels = [segmented_channels(x.in_channels, x.out_channels, x.order) for x in layers.values()]
    space = Space(
        config,
        tuple(layers),
        {name: tuple(indices) for name, indices in layer_indices.items()},
        {
            **dict.fromkeys(layer_indices, _sort_by_count(config.segments, channels)),
            **other_choices,
        },
    )
    limited = {config.max_params, config.max_macs, config.max_activations} != {None}
    if config.sampler == "grid" and limited and space.size > MAX_LISTED:
        raise FieldError(
            "sampler",
            config.sampler,
            f"must be another one for {space.size:,} points with a limit: it searches one by one "
            f"for points within the limit, among {MAX_LISTED:,} at most",
        )
    return space


def segmented_layers(network: NetworkConfig) -> dict[str, SegmentedConv]:
    """The layers on the dial of a network, by path, in order of depth, without weights."""
    modules = build_on_meta(network).named_modules()
    return {path: layer for path, layer in modules if isinstance(layer, SegmentedConv)}


def _value_text(axis: tuple[str, str], value: object) -> str:
    """The text of a field's value as a parameter of the space."""
    # A width may be given as text such as "0.20", but rows of results hold it as a number.
    return str(float(str(value)) if axis == ("network", "width") else value)


def _sort_by_count(points: Sequence[str], channels: Sequence[int]) -> tuple[str, ...]:
    """Sort points of the dial from few segments to many, by the layer with median channels."""
    typical = median_low(channels)
    return tuple(sorted(points, key=lambda point: Segments(point).count(typical, saturate=True)))


def _parameter_of(path: str, per: Granularity) -> str:
    """The parameter that sets a layer. A block is a child of a flow."""
    depth = {"network": 0, "flow": 1, "block": 2, "layer": None}[per]
    return "segments" if depth == 0 else ".".join(path.split(".")[:depth])
