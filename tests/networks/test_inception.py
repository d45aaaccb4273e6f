"""Inception V2 and V3, against their modules written as functions on the state dict."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.networks import Logits, inception_v2, inception_v3
from spectrum.networks.inception_modules import AvgPool
from tests.networks.parts import norms, on_meta, segmented_convs, size


def test_the_auxiliary_head_adds_its_published_parameters() -> None:
    network = on_meta(inception_v3, aux_logits=True)
    assert size(network) == 27_161_264
    assert all(p.requires_grad for p in network.parameters())
    head = 768 * 128 + 2 * 128 + 25 * 128 * 768 + 2 * 768 + 768 * 1000 + 1000
    assert size(network) - size(on_meta(inception_v3)) == head
    aux = on_meta(inception_v3, aux_logits=True, width=0.5).aux
    assert [norm.num_features for norm in norms(aux)] == [64, 384]


def shapes(network: nn.Module, side: int, names: tuple[str, ...]) -> list[tuple[int, int]]:
    """Channels and height of the outputs of some modules."""
    seen: dict[str, tuple[int, int]] = {}

    def keep(name: str) -> Any:
        return lambda _m, _x, y: seen.update({name: (y.shape[1], y.shape[-1])})

    for name in names:
        network.get_submodule(name).register_forward_hook(keep(name))
    network.eval()(torch.empty(1, 3, side, side, device="meta"))
    return [seen[name] for name in names]


def test_v2_is_table_1_of_the_paper() -> None:
    network = on_meta(inception_v2)
    stem = [f"stem.{i}" for i in range(7)]
    assert shapes(network, 299, tuple(stem)) == [
        (32, 149),
        (32, 147),
        (64, 147),
        (64, 73),
        (80, 71),
        (192, 35),
        (288, 35),
    ]
    modules = [f"mixed5.{i}" for i in range(3)] + [f"mixed6.{i}" for i in range(6)]
    modules += [f"mixed7.{i}" for i in range(3)]
    table = [(288, 35)] * 3 + [(768, 17)] * 6 + [(1280, 8)] + [(2048, 8)] * 2
    assert shapes(network, 299, tuple(modules)) == table
    assert [len(network.get_submodule(f"mixed{i}")) for i in (5, 6, 7)] == [3, 6, 3]
    assert network.fc.in_features == 2048


def test_v3_has_its_published_maps() -> None:
    names = ("stem.2", "stem.3", "stem.4", "stem.5", "stem.6", "mixed5.0", "mixed5.1", "mixed5.2")
    expected = [(64, 147), (64, 73), (80, 73), (192, 71), (192, 35)]
    expected += [(256, 35), (288, 35), (288, 35)]
    assert (
        shapes(
            on_meta(
                inception_v3,
            ),
            299,
            names,
        )
        == expected
    )
    assert shapes(
        on_meta(
            inception_v3,
        ),
        299,
        ("mixed6", "mixed7"),
    ) == [(768, 17), (2048, 8)]


class Naive:
    """The networks' forward pass as functions on a state dict, with torchvision's names."""

    def __init__(self, network: nn.Module, pooling: str, padded: bool) -> None:
        self.state = {k.replace(".spatial.", "."): v for k, v in network.state_dict().items()}
        self.kinds = {k.rsplit(".conv.", 1)[0] for k in self.state}
        self.counted = pooling == "symmetric"
        self.padding = 1 if padded else 0

    def conv(self, name: str, x: Tensor, stride: int = 1, padding: Any = None) -> Tensor:
        weight = self.state[f"{name}.conv.weight"]
        same = tuple(k // 2 for k in weight.shape[2:])
        x = F.conv2d(x, weight, stride=stride, padding=same if padding is None else padding)
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(self.state[f"{name}.bn.{k}"] for k in keys), eps=1e-3).relu()

    def chain(self, at: str, x: Tensor, *names: str) -> Tensor:
        for name in names:
            x = self.conv(f"{at}.{name}", x)
        return x

    def pool(self, at: str, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 3, 1, 1, count_include_pad=self.counted)
        return self.conv(f"{at}.branch_pool", x)

    def first(self, at: str, x: Tensor) -> Tensor:
        deep = self.chain(at, x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
        five = self.chain(at, x, "branch5x5_1", "branch5x5_2")
        return torch.cat([self.chain(at, x, "branch1x1"), five, deep, self.pool(at, x)], 1)

    def second(self, at: str, x: Tensor) -> Tensor:
        seven = self.chain(at, x, *(f"branch7x7_{i}" for i in (1, 2, 3)))
        deep = self.chain(at, x, *(f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5)))
        return torch.cat([self.chain(at, x, "branch1x1"), seven, deep, self.pool(at, x)], 1)

    def third(self, at: str, x: Tensor) -> Tensor:
        three = self.chain(at, x, "branch3x3_1")
        deep = self.chain(at, x, "branch3x3dbl_1", "branch3x3dbl_2")
        ends = [self.chain(at, three, f"branch3x3_2{i}") for i in "ab"]
        ends += [self.chain(at, deep, f"branch3x3dbl_3{i}") for i in "ab"]
        return torch.cat([self.chain(at, x, "branch1x1"), *ends, self.pool(at, x)], 1)

    def halved(self, name: str, x: Tensor) -> Tensor:
        return self.conv(name, x, stride=2, padding=self.padding)

    def reduction(self, at: str, x: Tensor) -> Tensor:
        if f"{at}.branch3x3" in self.kinds:
            three = self.halved(f"{at}.branch3x3", x)
            deep = self.chain(at, x, "branch3x3dbl_1", "branch3x3dbl_2")
            deep = self.halved(f"{at}.branch3x3dbl_3", deep)
        else:
            three = self.halved(f"{at}.branch3x3_2", self.chain(at, x, "branch3x3_1"))
            deep = self.chain(at, x, *(f"branch7x7x3_{i}" for i in (1, 2, 3)))
            deep = self.halved(f"{at}.branch7x7x3_4", deep)
        return torch.cat([three, deep, F.max_pool2d(x, 3, 2, self.padding)], 1)

    def body(self, x: Tensor, modules: tuple[int, int, int]) -> Tensor:
        for i in range(modules[0]):
            x = self.first(f"mixed5.{i}", x)
        x = self.reduction("mixed6.0", x)
        for i in range(1, modules[1] + 1):
            x = self.second(f"mixed6.{i}", x)
        x = self.reduction("mixed7.0", x)
        for i in range(1, modules[2] + 1):
            x = self.third(f"mixed7.{i}", x)
        return F.linear(x.mean((2, 3)), self.state["fc.weight"], self.state["fc.bias"])

    def stem(self, x: Tensor, layers: tuple[tuple[int, int] | None, ...]) -> Tensor:
        for i, layer in enumerate(layers):
            x = F.max_pool2d(x, 3, 2) if layer is None else self.conv(f"stem.{i}", x, *layer)
        return x


def filled(network: nn.Module) -> nn.Module:
    for name, tensor in network.state_dict().items():
        if ".bn." in name and tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.2, 1.0)
    return network.double().eval()


V3_STEM = ((2, 0), (1, 0), (1, 1), None, (1, 0), (1, 0), None)
V2_STEM = ((2, 0), (1, 0), (1, 1), None, (1, 0), (2, 0), (1, 1))


@pytest.mark.parametrize(
    ("build", "options", "side", "stem", "modules"),
    [
        (inception_v3, {"width": 0.1}, 91, V3_STEM, (3, 4, 2)),
        (inception_v2, {"width": 0.1}, 91, V2_STEM, (3, 5, 2)),
        (inception_v3, {"width": 0.2, "preset": "small"}, 17, ((1, 1),) * 2, (2, 2, 1)),
        (inception_v3, {"width": 0.5, "preset": "tiny"}, 9, ((1, 1),), (1, 1, 1)),
    ],
)
def test_the_forward_pass_is_the_papers_modules_written_out(
    build: Any, options: dict[str, Any], side: int, stem: Any, modules: tuple[int, int, int]
) -> None:
    # Twice halved, both sides stay odd, where the max-pooling of small and tiny pads alike.
    x = torch.randn(2, 3, side, side + 8, generator=torch.Generator().manual_seed(1)).double()
    outputs = []
    for pooling in ("symmetric", "keras"):
        torch.manual_seed(0)
        network = filled(build(num_classes=5, pooling=pooling, **options))
        naive = Naive(network, pooling, padded="preset" in options)
        outputs.append(naive.body(naive.stem(x, stem), modules))
        torch.testing.assert_close(network(x), outputs[-1])
    assert not torch.allclose(*outputs)


@pytest.mark.parametrize(("preset", "params"), [("small", 2_885_610), ("tiny", 178_418)])
def test_the_small_presets_keep_their_parameters(preset: str, params: int) -> None:
    assert size(on_meta(inception_v3, preset=preset, num_classes=10)) == params


def test_v3_keeps_a_5x5_where_v2_has_two_3x3() -> None:
    kernels = {
        build: {m.kernel_size for m in segmented_convs(on_meta(build)).values()}
        for build in (inception_v2, inception_v3)
    }
    both = {(3, 3), (1, 7), (7, 1), (1, 3), (3, 1)}
    assert kernels == {inception_v2: both, inception_v3: both | {(5, 5)}}


@pytest.mark.parametrize("n", [1, 2, 5])
def test_average_pooling_counts_its_padding_or_not(n: int) -> None:
    x = torch.ones(1, 2, n, n)
    assert torch.equal(AvgPool("keras")(x), x)
    corner = min(n, 2) ** 2 / 9
    assert AvgPool("symmetric")(x)[0, 0, 0, 0].item() == pytest.approx(corner)


def test_the_auxiliary_head_gives_logits_of_the_17x17_grid_in_training_only() -> None:
    torch.manual_seed(0)
    network = inception_v3(num_classes=5, aux_logits=True, width=0.05)
    grids: list[Tensor] = []
    network.mixed6.register_forward_hook(lambda _m, _x, y: grids.append(y))
    x = torch.randn(2, 3, 299, 299)
    main, auxiliary = logits = network(x)
    assert isinstance(logits, Logits)
    assert main.shape == auxiliary.shape == (2, 5)
    auxiliary.sum().backward()
    reached = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert reached == {"stem", "mixed5", "mixed6", "aux"}
    with torch.no_grad():
        filled(network)
        speaking = network(x.double())
        naive = Naive(network, "symmetric", padded=False)
        y = naive.conv("aux.conv0", F.avg_pool2d(grids[-1], 5, 3))
        y = naive.conv("aux.conv1", y, padding=0).mean((2, 3))
        y = F.linear(y, naive.state["aux.fc.weight"], naive.state["aux.fc.bias"])
        torch.testing.assert_close(network.aux(grids[-1]), y)
    assert isinstance(speaking, Tensor)
    plain = inception_v3(num_classes=5, width=0.05)
    assert isinstance(plain.train()(torch.randn(2, 3, 80, 80)), Tensor)


@pytest.mark.parametrize("preset", ["small", "tiny"])
def test_the_small_presets_have_no_auxiliary_head(preset: str) -> None:
    with pytest.raises(ValueError, match=r"\Aaux_logits \(=True\)[^\n]*\Z"):
        on_meta(inception_v3, preset=preset, aux_logits=True)


def test_each_module_convolution_keeps_its_place_and_gains_a_1x1_beyond_one_segment() -> None:
    network, plain = on_meta(inception_v3, 4), on_meta(inception_v3)
    layers, others = segmented_convs(network), segmented_convs(plain)
    assert len(layers) == 9 + 3 + 4 * 6 + 4 + 2 * 5
    assert {m.order for m in layers.values()} == {"spatial_first"}
    assert {m.order for m in others.values()} == {"spatial_only"}
    weights = 0
    for name, other in others.items():
        layer = layers[name]
        for field in ("in_channels", "out_channels", "kernel_size", "stride", "padding"):
            assert getattr(layer, field) == getattr(other, field)
        height, width = layer.kernel_size
        weights += height * width * layer.in_channels**2 // 4
        weights += layer.in_channels * layer.out_channels - other.spatial.weight.numel()
    assert size(network) - size(plain) == weights
