"""Each point of a space is the network that it describes, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectrum.layers import SegmentedConv, segmented_channels
from spectrum.networks import NetworkConfig
from spectrum.search import SearchConfig
from spectrum.search.config import Granularity
from spectrum.search.space import Space, make_space, segmented_layers
from spectrum.segments import Segments

GRANULARITIES: tuple[Granularity, ...] = ("network", "flow", "block", "layer")
POINTS = "1,3,C/4,1000,C"
# One with flows, one whose layers lie flat, one with branches; narrow, since they are built.
NETWORKS = {
    "tiny": {"name": "tiny", "width": 0.2},
    "vgg_small": {"name": "vgg_small", "width": 0.1},
    "inception": {"name": "inception_v3_tiny", "width": 0.2},
}
SPACES = {
    (name, per): make_space(SearchConfig(segments=POINTS, per=per, network=fields, match="none"))
    for name, fields in NETWORKS.items()
    for per in GRANULARITIES
}


@st.composite
def points_of(draw: st.DrawFn, space: Space) -> dict[str, str]:
    """Any point; points with few different settings are more likely."""
    some = draw(st.lists(st.sampled_from(POINTS.split(",")), min_size=1, max_size=5))
    return {name: draw(st.sampled_from(some)) for name in space.choices}


@pytest.mark.parametrize("key", SPACES, ids="-".join)
@settings(max_examples=10)
@given(st.data())
def test_the_network_of_a_point_has_its_segments_in_every_layer(
    key: tuple[str, Granularity], data: st.DataObject
) -> None:
    space = SPACES[key]
    params = data.draw(points_of(space))
    network = space.combination(params).network
    layers = segmented_layers(network)
    assert tuple(layers) == space.layers
    asked = dict.fromkeys(layers, "")
    for name, setting in params.items():
        for path in layers:
            if key[1] == "network" or path == name or path.startswith(f"{name}."):
                asked[path] = setting
    counts = {
        path: Segments(asked[path]).count(
            segmented_channels(layer.in_channels, layer.out_channels, layer.order), saturate=True
        )
        for path, layer in layers.items()
    }
    assert {path: layer.segment_count for path, layer in layers.items()} == counts


@pytest.mark.parametrize("key", SPACES, ids="-".join)
@settings(max_examples=40)
@given(st.data())
def test_different_points_have_different_settings_and_equal_ones_the_shortest(
    key: tuple[str, Granularity], data: st.DataObject
) -> None:
    space = SPACES[key]
    one, other = data.draw(points_of(space)), data.draw(points_of(space))
    assert (space.segments(one) == space.segments(other)) == (one == other)
    if len(set(one.values())) == 1:
        assert space.segments(one) == next(iter(one.values()))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_finer_grain_can_do_whatever_a_coarser_one_can(network: str) -> None:
    sizes = [SPACES[network, per].size for per in GRANULARITIES]
    assert sizes == sorted(sizes)
    for per in GRANULARITIES:
        space = SPACES[network, per]
        covered = [place for places in space.layer_indices.values() for place in places]
        assert sorted(covered) == list(range(len(space.layers)))
    assert list(SPACES[network, "layer"].layer_indices) == list(SPACES[network, "layer"].layers)


def test_the_flows_and_blocks_of_the_tiny_network() -> None:
    assert list(SPACES["tiny", "flow"].choices) == ["entry", "middle", "exit"]
    assert list(SPACES["tiny", "block"].choices) == [
        "entry.0",
        "middle.0",
        "exit.block",
        "exit.conv3",
        "exit.conv4",
    ]
    assert list(SPACES["tiny", "network"].choices) == ["segments"]
    assert len(SPACES["tiny", "layer"].choices) == 9


def test_the_settings_of_the_dial_ascend() -> None:
    space = make_space(SearchConfig(segments="C,200,C/2,32,C/8,4,1", network="tiny"))
    layers = [*segmented_layers(NetworkConfig(name="tiny")).values()]
    channels = sorted(layer.in_channels for layer in layers)
    assert 64 < channels[len(channels) // 2] < 80  # so C/8 is 9 or 10 segments, C/2 33 to 40
    assert space.choices["entry"][:3] == ("1", "4", "C/8")
    assert space.choices["entry"][3:5] == ("32", "C/2")
    assert {*space.choices["entry"][5:]} == {"C", "200"}


def test_uniform_points_are_written_as_a_study_writes_them() -> None:
    for space in SPACES.values():
        uniform = space.uniform_points()
        assert [space.segments(params) for params in uniform] == POINTS.split(",")
        assert all(space.is_uniform(params) for params in uniform)


def test_a_point_is_uniform_by_the_dial_alone(small_search: Callable[..., SearchConfig]) -> None:
    space = make_space(small_search(order=["spatial_first", "pointwise_first"]))
    everywhere = {"entry": "C", "middle": "C", "exit": "C"}
    assert space.is_uniform({**everywhere, "order": "spatial_first"})
    assert space.is_uniform({**everywhere, "order": "pointwise_first"})
    assert not space.is_uniform({**everywhere, "middle": "1", "order": "spatial_first"})


def test_segments_of_the_1x1_are_searched_in_order(
    small_search: Callable[..., SearchConfig],
) -> None:
    space = make_space(small_search(network="tiny", pointwise_segments="C/8,1,4,2", shuffle=True))
    # The layer with median channels has tens of them, so C/8 is more than 4.
    assert space.choices["pointwise_segments"] == ("1", "2", "4", "C/8")
    assert space.ordered == {"entry", "middle", "exit", "pointwise_segments"}
    chosen = {"entry": "C", "middle": "1", "exit": "C", "pointwise_segments": "4"}
    network = space.combination(chosen).network
    assert (network.pointwise_segments, network.shuffle) == ("4", True)
    assert {layer.pointwise_segment_count for layer in segmented_layers(network).values()} == {4}
    assert all(params["pointwise_segments"] == "1" for params in space.uniform_points())
    # One value isn't searched, and may be a setting by flow.
    by_flow = make_space(small_search(pointwise_segments="entry=1+middle=4+exit=2"))
    assert by_flow.ordered == {"entry", "middle", "exit"}


def test_other_fields_reach_what_is_trained(small_search: Callable[..., SearchConfig]) -> None:
    space = make_space(
        small_search(
            order=["spatial_first", "pointwise_first"],
            activation=["none", "relu"],
            network={"name": "tiny", "width": ["0.20", 1], "hidden": [[], [7, 9]]},
            recipe={"batch_size": 256, "lr": [0.01, 0.002], "channels_last": [True, False]},
            precision=["float32", "bfloat16"],
        )
    )
    chosen: dict[str, Any] = {
        "entry": "C",
        "middle": "1",
        "exit": "C",
        "order": "pointwise_first",
        "activation": "relu",
        "width": "1.0",
        "hidden": "(7, 9)",
        "lr": "0.002",
        "channels_last": "False",
        "precision": "bfloat16",
    }
    assert {*chosen} == {*space.choices}
    assert all(value in space.choices[name] for name, value in chosen.items())
    network, _, recipe, precision = space.combination(chosen)
    assert (network.order, network.activation) == ("pointwise_first", "relu")
    assert (network.width, network.hidden) == (1.0, (7, 9))
    assert (recipe.lr, recipe.channels_last, recipe.epochs) == (0.002, False, 2)
    assert precision == "bfloat16"
    first, *_ = space.uniform_points()
    network, _, recipe, precision = space.combination(first)
    assert (network.order, network.activation) == ("spatial_first", None)
    assert (network.width, network.hidden) == (0.2, ())
    assert (recipe.lr, recipe.channels_last, precision) == (0.01, True, "float32")


@pytest.mark.parametrize("width", [1, 2.0, "0.20", "1e-1"])
def test_a_width_has_one_name_however_it_is_written(
    width: Any, small_search: Callable[..., SearchConfig]
) -> None:
    space = make_space(small_search(network={"name": "tiny", "width": [width, 0.5]}))
    name = space.choices["width"][0]
    first, *_ = space.uniform_points()
    assert str(space.combination({**first, "width": name}).network.width) == name


def test_another_space_is_described_otherwise(small_search: Callable[..., SearchConfig]) -> None:
    kinds: list[dict[str, Any]] = [
        {},
        {"per": "block"},
        {"segments": "1,4"},
        {"segments": "1,4,C"},
        {"order": ["spatial_first", "pointwise_first"]},
        {"activation": ["none", "elu"]},
    ]
    described = [make_space(small_search(**kind)).describe() for kind in kinds]
    assert all(described.count(space) == 1 for space in described)
    assert make_space(small_search(segments="C,1")).describe() == described[0]


def test_a_part_of_the_network_must_not_be_called_like_a_field(
    monkeypatch: pytest.MonkeyPatch, small_search: Callable[..., SearchConfig]
) -> None:
    layers = {f"order.{i}": SegmentedConv(4, 4) for i in range(2)}
    monkeypatch.setattr("spectrum.search.space.segmented_layers", lambda _: layers)
    with pytest.raises(ValueError, match="has a flow order, which is also a field's name"):
        make_space(small_search(order=["spatial_first", "pointwise_first"]))
    assert list(make_space(small_search()).choices) == ["order"]
