"""One network whose weights serve every number of segments, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from spectrum.copying import copy_module
from spectrum.errors import FieldError
from spectrum.layers import SegmentedConv, from_conv2d
from spectrum.layers.shared import SharedConv, detached
from spectrum.networks.build import build, build_on_meta
from spectrum.networks.channels import Slice
from spectrum.networks.config import NetworkConfig
from spectrum.networks.members import Members, with_segments
from spectrum.networks.replace import display_name, weight_owners
from spectrum.segments import SegmentsLike, Setting, format_setting


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
        config: the configuration; None for a user's own model.
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
        self._members = Members(config, segments, widths)
        self.config = self._members.config
        self.segments, self.widths = self._members.segments, self._members.widths
        self.layer_count = len(self._members.names)
        self.network = self._initialise(config)
        self.training = self.network.training
        self.set(self.segments[0])

    def forward(self, x: Tensor) -> Any:
        """Compute what the network of the schedule and width that are set does of ``x``."""
        if not self._slices:
            return self.network(x)
        tensors = self._sliced(self._slices)
        return functional_call(self.network, tensors, (x,), tie_weights=False)

    def set(self, schedule: Setting, width: float | None = None) -> None:
        """Choose the network that is executed.

        Args:
            schedule: one candidate for all layers, a mapping by flow, or a list with one candidate
                per layer.
            width: any from the narrowest to the widest; None for the widest. For a width that
                isn't one of ``widths`` the shapes of its layers are computed first, which takes
                some tens of milliseconds.

        Raises:
            FieldError: the schedule has segments that are no candidates, or doesn't name each flow
                or layer, or the width is out of the range.
        """
        member = self._members.member(schedule, width)
        for name, layer in member.layers.items():
            self._layer(name).set(layer, member.inputs.get(name))
        self.schedule, self.width = format_setting(schedule), member.width
        self._slices = member.slices

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
        member = self._members.member(schedule, width)
        if self.config is None:
            layers: dict[nn.Module, nn.Module] = {}
            for name, layer in member.layers.items():
                layers[self._layer(name)] = self._layer(name).extract(layer)
            return copy_module(self.network, layers)
        plain = build_on_meta(with_segments(self.config, schedule, member.width))
        tensors = self._tensors() | self._sliced(member.slices)
        for name, layer in member.layers.items():
            weights = self._layer(name).weights(layer, member.inputs.get(name))
            tensors |= {f"{name}.{kind}": weight for kind, weight in weights.items()}
        plain.load_state_dict(detached({n: tensors[n] for n in plain.state_dict()}), assign=True)
        return plain.train(self.training)

    def member_layers(self) -> nn.ModuleList:
        """The segmented convolutions of all candidates and ``widths``, on the meta device."""
        return nn.ModuleList(self._members.all_layers())

    def extra_repr(self) -> str:
        """The candidates and what is executed."""
        candidates = ",".join(map(str, self.segments))
        return f"segments={candidates}, schedule={self.schedule}, width={self.width:g}"

    def _layer(self, name: str) -> SharedConv:
        layer = self.network.get_submodule(name)
        assert isinstance(layer, SharedConv)
        return layer

    def _tensors(self) -> dict[str, Tensor]:
        return {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}

    def _sliced(self, slices: Mapping[str, Slice]) -> dict[str, Tensor]:
        tensors = self._tensors()
        return {name: part.of(tensors[name]) for name, part in slices.items()}

    def _initialise(self, config: NetworkConfig | nn.Module) -> nn.Module:
        """The widest network with new weights, or a user's model, with layers that share theirs."""
        names = self._members.names
        shared = {name: SharedConv(self._members.wide_layers(name)) for name in names}
        if isinstance(config, nn.Module):
            network = config
            _fill(shared, network)
        else:
            # The first candidate, which has the most parameters, is the last to set its weights.
            for value in reversed(self.segments):
                network = build(with_segments(config, value, self.widths[0]))
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
