"""The plain networks that share the weights of a ``Supernet``, as shapes without weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from torch import nn

from spectrum.errors import FieldError, counted
from spectrum.layers import SegmentedConv
from spectrum.layers.shared import Ranges
from spectrum.networks.build import build, build_on_meta
from spectrum.networks.channels import Slice, input_sources, slice_channels
from spectrum.networks.config import NetworkConfig, is_user_code
from spectrum.networks.replace import assign_segments, select
from spectrum.networks.resegment import resegment
from spectrum.networks.widths import once_per_channels
from spectrum.segments import Segments, SegmentsLike, Setting, format_setting

Config = NetworkConfig | nn.Module
_KEPT = 256  # numbers of channels whose layers are kept, besides those of ``widths``


class Member(NamedTuple):
    """One of the networks.

    Attributes:
        width: its width.
        layers: its segmented convolutions by name, on the meta device.
        slices: of each parameter and buffer that is narrower than in the widest network, but for
            those of these layers.
        inputs: the input channels of these layers; empty if they have all.
    """

    width: float
    layers: Mapping[str, SegmentedConv]
    slices: Mapping[str, Slice]
    inputs: Mapping[str, Ranges]


class _Width(NamedTuple):
    """The layers of a width, by candidate and name; the others as in ``Member``."""

    layers: Mapping[Segments, Mapping[str, SegmentedConv]]
    slices: Mapping[str, Slice]
    inputs: Mapping[str, Ranges]


class Members:
    """The networks with all schedules of some candidates, at all widths within a range.

    Args:
        config: this and the others are as in ``Supernet``.
        segments: the candidates.
        widths: the widths.

    Attributes:
        config: the configuration; None for a user's own model.
        segments: the candidates, those with the most parameters first.
        widths: the widths, the widest first.
        names: the names of the segmented convolutions, in order of depth.

    Raises:
        FieldError: as in ``Supernet``.
    """

    def __init__(
        self, config: Config, segments: Sequence[SegmentsLike], widths: Sequence[float] | None
    ) -> None:
        candidates = _check_candidates(segments)
        self.widths = _check_widths(config, widths)
        self.config = config if _is_family(config) else None
        networks = {value: _on_meta(config, value, self.widths[0]) for value in candidates}
        self.segments = tuple(sorted(candidates, key=lambda value: -_size(networks[value])))
        self._widest = networks[self.segments[0]]
        selected, _ = select(self._widest, lambda _name, _conv: None)
        self.names = [name for name, conv in selected.items() if isinstance(conv, SegmentedConv)]
        if not self.names:
            name = config.name if isinstance(config, NetworkConfig) else type(config).__name__
            raise FieldError("config", name, "must have layers that segments divide")
        layers = {value: self._layers(networks[value]) for value in self.segments}
        divided = (layer.pointwise_segment_count > 1 for layer in layers[self.segments[0]].values())
        given = getattr(config, "pointwise_segments", type(config).__name__)
        if any(divided) or (self.config is not None and given != "1"):
            allowed = "must be 1: the networks of a Supernet share 1x1 convolutions in one segment"
            raise FieldError("pointwise_segments", given, allowed)
        self._widths = {self.widths[0]: _Width(layers, {}, {})}
        self._sources = input_sources(self._widest) if len(self.widths) > 1 else {}
        if self.config is not None:
            self._at_width = once_per_channels(self.config, self._make_width, _KEPT)
        for width in self.widths[1:]:
            self._widths[width] = self._at_width(width)
            self._check_channels(width)

    def member(self, schedule: Setting, width: float | None) -> Member:
        """The network of a schedule and a width, as in ``Supernet.set``.

        Raises:
            FieldError: as in ``Supernet.set``.
        """
        try:
            settings = assign_segments(self.names, schedule)
        except FieldError as error:
            raise error.renamed("schedule") from None
        unknown = next((value for value in settings.values() if value not in self.segments), None)
        if unknown is not None:
            known = ", ".join(map(str, self.segments))
            raise FieldError("schedule", str(unknown), f"must be one of the candidates {known}")
        narrowest, widest = self.widths[-1], self.widths[0]
        width = widest if width is None else width
        if width not in self._widths and not narrowest <= _check_width("width", width) <= widest:
            raise FieldError("width", width, f"must be in {narrowest:g}..{widest:g}")
        at = self._widths.get(width) or self._at_width(width)
        layers = {name: at.layers[value][name] for name, value in settings.items()}
        return Member(width, layers, at.slices, at.inputs)

    def wide_layers(self, name: str) -> list[SegmentedConv]:
        """A layer of the widest network, once with each candidate."""
        return [layers[name] for layers in self._widths[self.widths[0]].layers.values()]

    def all_layers(self) -> list[SegmentedConv]:
        """The layers of all candidates at all widths."""
        at = [layers for width in self._widths.values() for layers in width.layers.values()]
        return [layer for layers in at for layer in layers.values()]

    def _layers(self, network: nn.Module) -> dict[str, Any]:
        return {name: network.get_submodule(name) for name in self.names}

    def _make_width(self, width: float) -> _Width:
        assert self.config is not None  # other models have one width
        networks = {value: _on_meta(self.config, value, width) for value in self.segments}
        network = next(iter(networks.values()))  # all have the same channels
        layers = {value: self._layers(own) for value, own in networks.items()}
        return _Width(layers, *slice_channels(self._widest, network, self._sources))

    def _check_channels(self, width: float) -> None:
        """Raise a FieldError if a layer has too few channels for a candidate at a width alone."""
        for value, layers in self._widths[width].layers.items():
            for name, layer in layers.items():
                wide = self._widths[self.widths[0]].layers[value][name]
                if layer.segment_count < wide.segment_count == value.value:
                    raise FieldError(
                        "widths",
                        width,
                        f"must leave one channel per segment: {name} has "
                        f"{counted(layer.segment_count, 'channel')} for {value} segments",
                    )


def _check_candidates(segments: Sequence[SegmentsLike]) -> tuple[Segments, ...]:
    if isinstance(segments, str) or not isinstance(segments, Sequence) or not segments:
        raise FieldError("segments", segments, "must be a list of candidates, such as [1, 4, 'C']")
    candidates = tuple(map(Segments, segments))
    if len(set(candidates)) < len(candidates):
        raise FieldError("segments", segments, "must name each candidate once")
    return candidates


def _check_widths(config: Config, widths: Sequence[float] | None) -> tuple[float, ...]:
    """The widths, the widest first."""
    if not isinstance(config, Config):
        raise FieldError("config", config, "must be a NetworkConfig or a converted model")
    if widths is None:
        return (config.width if isinstance(config, NetworkConfig) else 1.0,)
    if not _is_family(config):
        raise FieldError("widths", widths, "must not be given for a user's own model")
    if not isinstance(widths, Sequence) or not widths:
        raise FieldError("widths", widths, "must be a list of widths, such as [0.5, 1.0]")
    return tuple(sorted({_check_width("widths", width) for width in widths}, reverse=True))


def _check_width(field: str, width: float) -> float:
    try:
        return NetworkConfig.checked({"width": width}).width
    except FieldError as error:
        raise error.renamed(field) from None


def _is_family(config: Config) -> TypeGuard[NetworkConfig]:
    """Whether this is the configuration of one of the package's own networks."""
    return isinstance(config, NetworkConfig) and not is_user_code(config.name)


def with_segments(config: NetworkConfig, segments: Setting, width: float) -> NetworkConfig:
    """The configuration with other segments and another width."""
    return config.model_copy(update={"segments": format_setting(segments), "width": width})


def _on_meta(config: Config, segments: Setting, width: float) -> nn.Module:
    """The plain network with these segments, on the meta device."""
    if _is_family(config):
        return build_on_meta(with_segments(config, segments, width))
    if isinstance(config, NetworkConfig):
        return build(with_segments(config, segments, width)).to("meta")
    return resegment(config, segments).to("meta")


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
