"""Any model is converted: what changes, which weights are kept, and what the log says."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spectrum.layers import ORDERS
from spectrum.networks import convert, xception
from tests.networks.parts import images, messages, on_meta, segmented_convs


class Padded(nn.Conv2d):
    """A subclass with a constructor and a method of its own, and nn.Conv2d's forward."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 3, padding=1)

    def gain(self) -> Tensor:
        return self.weight.norm()


class Odd(nn.Module):
    """A model with every kind of convolution that ``convert`` must deal with."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 7, 7, stride=2, padding=3, bias=False)
        self.block = nn.Sequential(
            nn.BatchNorm2d(7),
            nn.Conv2d(7, 7, 3, padding=2, dilation=2, groups=7),
            nn.Conv2d(7, 13, 1),
            Padded(13, 13),
            nn.Conv2d(13, 13, (4, 3), padding="same"),
        )
        self.grouped = nn.Conv2d(13, 26, (1, 5), groups=13, padding=(0, 2), stride=(2, 1))
        self.reflect = nn.Conv2d(26, 8, 3, padding=1, padding_mode="reflect")
        self.shared = nn.Conv2d(8, 8, 3, padding=1)
        self.again = self.shared
        self.pair = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=d, dilation=d) for d in (1, 2))
        self.pair[1].weight = self.pair[0].weight
        self.tied = nn.Conv2d(8, 4, 2, bias=False)
        self.up = nn.ConvTranspose2d(4, 4, 2)
        self.line = nn.Conv1d(4, 4, 3, padding=1)
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.reflect(self.grouped(self.block(self.stem(x))))
        x = self.again(self.shared(x).relu())
        for conv in self.pair:
            x = conv(x)
        # The kernel of `tied` is used as a matrix too.
        x = self.line((self.up(self.tied(x)) * self.scale).mean(2))
        return x.mean(2) @ self.tied.weight.sum((2, 3))


CHANGED = ["stem", "block.1", "block.3", "block.4", "grouped", "shared", "pair.0", "pair.1"]


def odd() -> Odd:
    torch.manual_seed(0)
    network = Odd()
    network.extra = nn.Linear(1, 1)
    network.extra.weight = network.tied.weight
    return network


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_an_unknown_model_keeps_its_shapes_with_any_segments(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = odd()
    y = network(images(side=16))
    before = copy.deepcopy(network.state_dict())
    for segments in (1, 2, "C/3", "C"):
        caplog.clear()
        converted = convert(network, segments)
        assert list(segmented_convs(converted)) == CHANGED
        assert converted(images(side=16)).shape == y.shape
        assert converted.again is converted.shared
        log = messages(caplog)
        assert {n for n, line in log.items() if "now" in line} == set(CHANGED)
        left = {n: line for n, line in log.items() if line.startswith("skipped, ")}
        assert left == {
            "block.2": "skipped, pointwise",
            "reflect": "skipped, padding_mode 'reflect'",
            "tied": "skipped, it shares weights with extra",
            "up": "skipped, ConvTranspose2d is no nn.Conv2d",
            "line": "skipped, Conv1d is no nn.Conv2d",
        }
        assert set(left) | set(CHANGED) == set(log)
        assert converted.scale == 2
        assert converted.extra.weight is converted.tied.weight
    assert not segmented_convs(network)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_dense_ones_get_the_order_and_grouped_ones_change_only_their_segments() -> None:
    for order in ORDERS:
        converted = segmented_convs(convert(odd(), 2, order=order))
        for name in ("stem", "block.3", "block.4", "shared"):
            assert converted[name].order == order
            assert (converted[name].pointwise is None) == (order == "spatial_only")
        for name, channels in [("block.1", 7), ("grouped", 13)]:
            assert converted[name].order == "spatial_only"
            assert converted[name].pointwise is None
            assert converted[name].in_channels == channels
        assert {layer.segment_count for layer in converted.values()} == {2}


def test_new_weights_come_from_torchs_generator_and_kept_ones_draw_as_many() -> None:
    def drawn(seed: int) -> dict[str, Tensor]:
        network = odd()
        torch.manual_seed(seed)
        return convert(network, 3).state_dict()

    one, same, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert not torch.equal(one["stem.pointwise.weight"], other["stem.pointwise.weight"])


def test_where_chooses_by_name_and_module(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    def where(name: str, module: nn.Module) -> bool:
        assert isinstance(module, nn.Conv2d)
        asked.append(name)
        return name.startswith("block") or name == "pair.1"

    assert list(segmented_convs(convert(odd(), 2, where=where))) == [
        "block.1",
        "block.3",
        "block.4",
    ]
    assert asked == ["stem", "block.1", "block.3", "block.4", "grouped", "shared",
                     "pair.0", "pair.1", "tied"]  # fmt: skip
    log = messages(caplog)
    assert log["stem"] == "skipped, not chosen by where"
    assert log["pair.1"] == "skipped, it shares weights with pair.0"


def test_dtype_mode_and_memory_format_keep() -> None:
    dtype = torch.float64
    network = odd().to(dtype).to(memory_format=torch.channels_last)
    network.block.eval()
    modes = {name: module.training for name, module in network.named_modules()}
    converted = convert(network, 1, order="spatial_only")
    assert {p.dtype for p in converted.parameters()} == {dtype}
    assert {n: m.training for n, m in converted.named_modules() if n in modes} == modes
    for order in ORDERS:
        for name, layer in segmented_convs(convert(network, 2, order=order)).items():
            assert {module.training for module in layer.modules()} == {modes[name]}
            assert {p.dtype for p in layer.parameters()} == {dtype}
    x = images(side=16).double().to(memory_format=torch.channels_last)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of even kernels with padding "same"
        torch.testing.assert_close(converted.eval()(x), network.eval()(x))


def test_a_model_on_the_meta_device_stays_there() -> None:
    network = on_meta(Odd)
    for segments in (1, 3):
        for order in ORDERS:
            converted = convert(network, segments, order=order)
            assert all(t.is_meta for t in converted.state_dict().values())
    network = odd()
    with torch.device("meta"):  # the default device isn't the model's
        assert not any(t.is_meta for t in convert(network, 2).state_dict().values())


def test_a_model_with_segments_gets_others() -> None:
    torch.manual_seed(0)
    network = xception("C", preset="tiny", num_classes=5, width=0.3).eval()
    own = segmented_convs(network)
    moved = convert(network, 4, where=lambda name, _: name in own)
    assert list(segmented_convs(moved)) == list(own)
    assert {layer.segment_count for layer in segmented_convs(moved).values()} == {4}
    torch.testing.assert_close(moved(images()), network(images()))
    assert list(segmented_convs(convert(network, "C"))) == ["stem.0.conv", *own]
    twice = segmented_convs(convert(convert(odd(), 3), 2))
    assert [layer.segment_count for layer in twice.values()] == [2] * 6 + [3] * 2  # the pair


def test_segments_by_child_or_by_layer() -> None:
    network = odd()
    points = {"stem": 1, "block": "C", "grouped": 2, "shared": 4, "pair": "C/4"}
    counts = [1, 7, 13, 13, 2, 4, 2, 2]
    layers = segmented_convs(convert(network, points)).values()
    assert [layer.segment_count for layer in layers] == counts
    layers = segmented_convs(convert(network, ["1", "C", "C", 13, 2, 4, 2])).values()
    assert [layer.segment_count for layer in layers] == counts  # the pair share one
    assert [str(layer.segments) for layer in layers][:3] == ["1", "C", "C"]


@pytest.mark.parametrize("segments", [["C"] * 3, {"stem": 1}, 0, "x", {}], ids=str)
def test_segments_that_do_not_fit_the_model_are_refused(segments: Any) -> None:
    with pytest.raises(ValueError, match=r"\Asegments \(=[^\n]*\Z"):
        convert(odd(), segments)


def test_a_bad_layer_is_named_and_other_arguments_are_checked() -> None:
    network = nn.Sequential(nn.Conv2d(6, 4, 3))
    with pytest.raises(ValueError, match=r"\Asegments \(='4:4'\)[^\n]*\(layer 0\)\Z"):
        convert(network, "4:4")
    with pytest.raises(ValueError, match=r"\(layer \(the module itself\)\)\Z"):
        convert(network[0], "4:4")
    with pytest.raises(ValueError, match=r"\Aorder \(='depth'\)[^\n]*\Z"):
        convert(nn.Conv2d(4, 4, 3, groups=2), 2, order="depth")  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        scripted = torch.jit.script(network)
    for wrong in (5, nn.Conv2d, None):
        with pytest.raises(ValueError, match=r"\Amodule \(=.*must be a torch.nn.Module"):
            convert(wrong, 2)
    with pytest.raises(ValueError, match=r"\Awhere \(='x'\)"):
        convert(network, 2, where="x")
    with pytest.raises(ValueError, match=r"\Amodule \(='\w*ScriptModule'\)[^\n]*\Z"):
        convert(scripted, 2)


def test_too_few_channels_and_no_convolution_give_a_warning_at_the_callers_line() -> None:
    with pytest.warns(UserWarning, match=r"segments \(=8\): 1 of 2 layers") as caught:
        converted = convert(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)), 8)
    assert [w.filename for w in caught] == [__file__]
    assert [layer.segment_count for layer in segmented_convs(converted).values()] == [3, 8]
    linear = nn.Linear(2, 2)
    with pytest.warns(UserWarning, match="is converted: it has none") as caught:
        same = convert(linear, 4)
    assert [w.filename for w in caught] == [__file__]
    assert same is not linear
    assert torch.equal(same.weight, linear.weight)
    with pytest.warns(UserWarning, match=r"is converted: \(the module itself\) is skipped, point"):
        convert(nn.Conv2d(2, 2, 1), 4)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_a_converted_model_is_exported_pickled_compiled_and_filled() -> None:
    network = convert(odd(), 3).eval()
    x = images(side=16)
    y = network(x)
    filled = convert(odd(), 3).eval()
    filled.load_state_dict(network.state_dict())
    for copied in (filled, pickle.loads(pickle.dumps(network))):
        assert torch.equal(copied(x), y)
        assert copied.again is copied.shared
    # In a compiled model torch's own operators run.
    torch.testing.assert_close(torch.compile(network, backend="eager", fullgraph=True)(x), y)
    torch.testing.assert_close(torch.export.export(network, (x,)).module()(x), y)
