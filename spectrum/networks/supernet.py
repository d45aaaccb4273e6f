"""One network whose weights serve every number of segments, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from torch import Tensor, nn
from torch.func import functional_call

from spectrum.copying import copy_module
from spectrum.errors import FieldError, counted
from spectrum.layers import SegmentedConv, from_conv2d
from spectrum.layers.shared import Ranges, SharedConv, detached
from spectrum.networks.build import build, build_on_meta
from spectrum.networks.channels import Slice, input_sources, slice_channels
from spectrum.networks.config import NetworkConfig, is_user_code
from spectrum.networks.replace import assign_segments, display_name, select, weight_owners
from spectrum.networks.resegment import resegment
from spectrum.segments import Segments, SegmentsLike, Setting, format_setting


class _Width(NamedTuple):
    """What the networks of a width have in common.

    Attributes:
        layers: for each candidate its segmented convolutions by name, on the meta device.
        slices: of each parameter and buffer that is narrower, but for those of these layers.
        inputs: the input channels of these layers; empty if they have all.
    """

    layers: Mapping[Segments, Mapping[str, SegmentedConv]]
    slices: Mapping[str, Slice]
    inputs: Mapping[str, Ranges]


class Supernet(nn.Module):
    """Networks that differ in their segments and widths and share their weights.

    Each segmented convolution has one dense kernel. With n segments it has the n blocks on the
    kernel's diagonal, and a narrower network has the first channels of every layer. A forward pass
    executes the chosen network's own operators on views of the shared weights. Batch normalisation
    has one set of statistics, so they must be computed anew for a schedule before it is evaluated,
    as ``torch.optim.swa_utils.update_bn`` does. ``docs/supernet.md`` says more.

    Args:
        config: the configuration of the networks, whose segments aren't used, nor its width if
            ``widths`` are given. Or a converted model: its weights are taken over, and the other
            numbers of segments are those that ``resegment`` can give it.
        segments: the candidates of each layer. A layer with fewer channels than segments gets one
            segment per channel, as in the networks themselves.
        widths: the widths, from which the narrowest and the widest network follow; None for the
            configuration's own. Must be None for a user's own model.

    Attributes:
        segments: the candidates, those with the most parameters first.
        widths: the widths, the widest first.
        layer_count: the number of segmented convolutions.
        schedule: the setting that is executed, as text; at first the first candidate.
        width: the width that is executed; at first the widest.
        network: the modules that hold the shared weights.

    Raises:
        FieldError: a candidate can't be set in a layer, a width has less than one channel per
            segment, a user's model is given with widths or shares weights between layers, or an
            argument is out of its range.
    """

    def __init__(
        self,
        config: NetworkConfig | nn.Module,
        segments: Sequence[SegmentsLike],
        widths: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        candidates = _check_candidates(segments)
        self.widths = _check_widths(config, widths)
        networks = {value: _on_meta(config, value, self.widths[0]) for value in candidates}
        self.segments = tuple(sorted(candidates, key=lambda value: -_size(networks[value])))
        widest = networks[self.segments[0]]
        selected, _ = select(widest, lambda _name, _conv: None)
        self._names = [name for name, conv in selected.items() if isinstance(conv, SegmentedConv)]
        if not self._names:
            raise FieldError("config", _describe(config), "must have layers that segments divide")
        self.layer_count = len(self._names)
        self._config = config if _can_be_narrower(config) else None
        self._widest = (widest, input_sources(widest)) if len(self.widths) > 1 else None
        self._widths = {self.widths[0]: self._at_width(networks)}
        for width in self.widths[1:]:
            at = self._at_width({value: _on_meta(config, value, width) for value in candidates})
            self._check_channels(width, at)
            self._widths[width] = at
        self.network = self._initialise(config)
        self.training = self.network.training
        self.set(self.segments[0])

    def forward(self, x: Tensor) -> Any:
        """Compute what the network of the schedule and width that are set does of ``x``."""
        if not self._slices:
            return self.network(x)
        return functional_call(self.network, self._sliced(self._slices), (x,))

    def set(self, schedule: Setting, width: float | None = None) -> None:
        """Choose the network that is executed.

        Args:
            schedule: one candidate for all layers, a mapping by flow, or a list with one candidate
                per layer.
            width: any from the narrowest to the widest; None for the widest. Networks of a width
                that isn't one of ``widths`` are made for this call, which takes some tens of
                milliseconds.

        Raises:
            FieldError: the schedule has segments that are no candidates, or doesn't name each flow
                or layer, or the width is out of the range.
        """
        settings = self._settings(schedule)
        width, at = self._choose(settings, width)
        for name, value in settings.items():
            self._layer(name).set(at.layers[value][name], at.inputs.get(name))
        self.schedule, self.width, self._slices = format_setting(schedule), width, at.slices

    def extract(self, schedule: Setting, width: float | None = None) -> nn.Module:
        """Make the plain network of a schedule, with copies of its weights.

        It is the network that ``build`` makes of the configuration with these segments and this
        width; of a user's own model, the model with these segments. What is executed isn't changed.

        Args:
            schedule: as in ``set``.
            width: as in ``set``.

        Returns:
            The network, in the mode that this one is in.

        Raises:
            FieldError: as in ``set``.
        """
        settings = self._settings(schedule)
        width, at = self._choose(settings, width)
        chosen = {name: at.layers[value][name] for name, value in settings.items()}
        if self._config is None:
            layers: dict[nn.Module, nn.Module] = {}
            for name, layer in chosen.items():
                layers[self._layer(name)] = self._layer(name).extract(layer)
            return copy_module(self.network, layers)
        plain = _on_meta(self._config, schedule, width)
        tensors = {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}
        tensors |= self._sliced(at.slices)
        for name, layer in chosen.items():
            weights = self._layer(name).weights(layer, at.inputs.get(name))
            tensors |= {f"{name}.{kind}": weight for kind, weight in weights.items()}
        plain.load_state_dict(detached({n: tensors[n] for n in plain.state_dict()}), assign=True)
        return plain.train(self.training)

    def extra_repr(self) -> str:
        """The candidates and what is executed."""
        candidates = ",".join(map(str, self.segments))
        return f"segments={candidates}, schedule={self.schedule}, width={self.width:g}"

    def _layer(self, name: str) -> SharedConv:
        layer = self.network.get_submodule(name)
        assert isinstance(layer, SharedConv)
        return layer

    def _settings(self, schedule: Setting) -> dict[str, Segments]:
        """The candidate of each layer."""
        try:
            settings = assign_segments(self._names, schedule)
        except FieldError as error:
            raise error.renamed("schedule") from None
        unknown = next((value for value in settings.values() if value not in self.segments), None)
        if unknown is not None:
            known = ", ".join(map(str, self.segments))
            raise FieldError("schedule", str(unknown), f"must be of the candidates {known}")
        return settings

    def _choose(
        self, settings: Mapping[str, Segments], width: float | None
    ) -> tuple[float, _Width]:
        """A width, if it is possible, and its networks."""
        narrowest, widest = self.widths[-1], self.widths[0]
        width = widest if width is None else width
        if not narrowest <= width <= widest:
            raise FieldError("width", width, f"must be in {narrowest:g}..{widest:g}")
        if width not in self._widths:
            assert self._config is not None  # other models have one width
            values = dict.fromkeys(settings.values())
            networks = {value: _on_meta(self._config, value, width) for value in values}
            return width, self._at_width(networks)
        return width, self._widths[width]

    def _sliced(self, slices: Mapping[str, Slice]) -> dict[str, Tensor]:
        """The parameters and buffers of a narrower network, but for those of its layers."""
        tensors = {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}
        return {name: part.of(tensors[name]) for name, part in slices.items()}

    def _at_width(self, networks: Mapping[Segments, nn.Module]) -> _Width:
        """What networks with the candidates, on the meta device, have in common."""
        layers: dict[Segments, dict[str, Any]] = {
            value: {name: network.get_submodule(name) for name in self._names}
            for value, network in networks.items()
        }
        first = next(iter(networks.values()))
        if self._widest is None or first is self._widest[0]:
            return _Width(layers, {}, {})
        return _Width(layers, *slice_channels(self._widest[0], first, self._widest[1]))

    def _check_channels(self, width: float, at: _Width) -> None:
        """Raise a FieldError if the segments of a layer are too many at a width alone."""
        for value, layers in at.layers.items():
            for name, layer in layers.items():
                wide = self._widths[self.widths[0]].layers[value][name]
                if layer.segment_count < wide.segment_count == value.value:
                    raise FieldError(
                        "widths",
                        width,
                        f"must leave one channel per segment: {name} has "
                        f"{counted(layer.segment_count, 'channel')} for {value} segments",
                    )

    def _initialise(self, config: NetworkConfig | nn.Module) -> nn.Module:
        """The widest network with new weights, or a user's model, with layers that share theirs."""
        all_layers = self._widths[self.widths[0]].layers.values()
        shared = {name: SharedConv([layers[name] for layers in all_layers]) for name in self._names}
        if isinstance(config, nn.Module):
            network = config
            _fill(shared, network)
        else:
            # The first candidate, which has the most parameters, is the last to set its weights.
            for value in reversed(self.segments):
                network = build(_with(config, value, self.widths[0]))
                _fill(shared, network)
        return copy_module(network, {network.get_submodule(n): c for n, c in shared.items()})


def _fill(shared: Mapping[str, SharedConv], network: nn.Module) -> None:
    """Take over the weights of a plain network's layers."""
    owners = weight_owners(network)
    for name, conv in shared.items():
        layer: Any = network.get_submodule(name)
        if any(len(owners[id(parameter)]) > 1 for parameter in layer.parameters()):
            allowed = f"must have no layers that share weights, as {display_name(name)} does"
            raise FieldError("config", type(network).__name__, allowed)
        conv.fill(layer if isinstance(layer, SegmentedConv) else from_conv2d(layer))


def _check_candidates(segments: Sequence[SegmentsLike]) -> tuple[Segments, ...]:
    if isinstance(segments, str) or not isinstance(segments, Sequence) or not segments:
        raise FieldError("segments", segments, "must be a list of candidates, such as [1, 4, 'C']")
    candidates = tuple(map(Segments, segments))
    if len(set(candidates)) < len(candidates):
        raise FieldError("segments", segments, "must name each candidate once")
    return candidates


def _check_widths(
    config: NetworkConfig | nn.Module, widths: Sequence[float] | None
) -> tuple[float, ...]:
    """The widths, the widest first."""
    if not isinstance(config, NetworkConfig | nn.Module):
        raise FieldError("config", config, "must be a NetworkConfig or a converted model")
    if widths is None:
        return (config.width if isinstance(config, NetworkConfig) else 1.0,)
    if not _can_be_narrower(config):
        raise FieldError("widths", widths, "must not be given for a user's own model")
    if not isinstance(widths, Sequence) or not widths:
        raise FieldError("widths", widths, "must be a list of widths, such as [0.5, 1.0]")
    checked = []
    for width in widths:
        try:
            checked.append(NetworkConfig.checked({"width": width}).width)
        except FieldError as error:
            raise error.renamed("widths") from None
    return tuple(sorted(set(checked), reverse=True))


def _can_be_narrower(config: NetworkConfig | nn.Module) -> TypeGuard[NetworkConfig]:
    return isinstance(config, NetworkConfig) and not is_user_code(config.name)


def _with(config: NetworkConfig, segments: Setting, width: float) -> NetworkConfig:
    return config.model_copy(update={"segments": format_setting(segments), "width": width})


def _on_meta(config: NetworkConfig | nn.Module, segments: Setting, width: float) -> nn.Module:
    """The plain network with these segments, on the meta device."""
    if _can_be_narrower(config):
        return build_on_meta(_with(config, segments, width))
    if isinstance(config, NetworkConfig):
        return build(_with(config, segments, width)).to("meta")
    return resegment(config, segments).to("meta")


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _describe(config: NetworkConfig | nn.Module) -> str:
    return config.name if isinstance(config, NetworkConfig) else type(config).__name__
