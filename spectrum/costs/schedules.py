"""Counting many networks that differ in their segments and widths: each layer is counted once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from torch import nn

from spectrum.costs.budget import (
    Match,
    check_width_solvable,
    positions_of_layers,
    solve_width,
)
from spectrum.costs.choices import Matching
from spectrum.costs.fast import count_config
from spectrum.costs.inputs import checked_shape
from spectrum.layers import SegmentedConv
from spectrum.networks import NetworkConfig, build_on_meta, is_user_code
from spectrum.networks.replace import assign_segments
from spectrum.networks.widths import once_per_channels
from spectrum.segments import Segments, parse_setting


class Counts(NamedTuple):
    """The costs of a network or of a part of it.

    Attributes:
        params: trainable parameters.
        macs: multiply-adds of convolutions and linear layers for one example.
        activations: outputs of convolutions and linear layers for one example.
    """

    params: int
    macs: int
    activations: int


class _Parts(NamedTuple):
    """The costs of each layer on the dial, by its path, and of what is between them."""

    layers: dict[str, Counts]
    between: Counts


class ScheduleCounter:
    """Counts networks. Each layer is counted once with a setting and numbers of channels.

    A network with several settings costs what its layers cost in networks with one. Where those
    differ between these layers too, and for a user's own model, ``count_config`` counts.

    Args:
        input_shape: the shape of one example, such as ``(3, 299, 299)``.
    """

    def __init__(self, input_shape: Sequence[int]) -> None:
        self._shape = checked_shape(input_shape)
        self._paths = cache(lambda config: _paths(build_on_meta(config)))
        self._parts = cache(self._make_parts)

    def __call__(self, config: NetworkConfig) -> Counts:
        """Count a network.

        Raises:
            FieldError: as in ``count_config``.
        """
        setting = parse_setting(config.segments)
        if not is_user_code(config.name) and not isinstance(setting, Segments):
            base = config.model_copy(update={"segments": "C", "width": 1.0})
            settings = assign_segments(self._paths(base), setting)
            if not any(isinstance(segments.value, tuple) for segments in settings.values()):
                counts = self._add_up(base, config.width, settings)
                if counts is not None:
                    return counts
        costs = count_config(config, self._shape)
        return Counts(costs.params, costs.macs, costs.activations)

    def match_budget(self, config: NetworkConfig, name: Matching, budget: int) -> Match:
        """Solve the width of a network, as the function ``match_budget`` does.

        Args:
            config: the network; its own width is ignored.
            name: ``"params"`` or ``"macs"``.
            budget: the number of them.

        Raises:
            FieldError: as in ``match_budget``.
        """
        check_width_solvable(config)

        def cost(width: float) -> int:
            counted: int = getattr(self(config.model_copy(update={"width": width})), name)
            return counted

        return solve_width(config, name, budget, cost)

    def _add_up(
        self, base: NetworkConfig, width: float, settings: dict[str, Segments]
    ) -> Counts | None:
        """The sum of a network's parts; None if what is between the layers differs."""
        parts = {
            value: self._parts(base.model_copy(update={"segments": str(value)}))(width)
            for value in set(settings.values())
        }
        between, *others = [part.between for part in parts.values()]
        same_layers = all(part.layers.keys() == settings.keys() for part in parts.values())
        if not same_layers or any(other != between for other in others):
            return None
        chosen = [parts[value].layers[path] for path, value in settings.items()]
        return _sum([between, *chosen])

    def _make_parts(self, config: NetworkConfig) -> Callable[[float], _Parts]:
        positions_of = positions_of_layers(config, self._shape)

        def count(width: float) -> _Parts:
            network = build_on_meta(config.model_copy(update={"width": width}))
            paths = _paths(network)
            layers: dict[str, list[Counts]] = {path: [] for path in paths}
            between: list[Counts] = []
            for name, module in network.named_modules():
                params = sum(p.numel() for p in module.parameters(recurse=False))
                macs = activations = 0
                if isinstance(module, nn.Conv2d | nn.Linear):
                    positions = positions_of(name)
                    macs = module.weight.numel() * positions
                    activations = module.weight.shape[0] * positions
                layer = next((path for path in paths if f"{name}.".startswith(f"{path}.")), "")
                layers.get(layer, between).append(Counts(params, macs, activations))
            return _Parts({path: _sum(rows) for path, rows in layers.items()}, _sum(between))

        return once_per_channels(config, count)


def _paths(network: nn.Module) -> list[str]:
    return [name for name, part in network.named_modules() if isinstance(part, SegmentedConv)]


def _sum(counts: Sequence[Counts]) -> Counts:
    return Counts(
        sum(c.params for c in counts),
        sum(c.macs for c in counts),
        sum(c.activations for c in counts),
    )
