"""Layers and networks give the same under ``torch.fx`` as without."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from spectrum.layers import ORDERS, BatchNormReLU, SegmentedConv
from spectrum.networks import NetworkConfig, build

SEGMENTS = (1, 3, 4, "C")


class OfLayers(fx.Tracer):
    """Takes segmented layers as wholes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        own = type(m).__module__.startswith("spectrum.layers")
        return own or super().is_leaf_module(m, module_qualified_name)


class OfAll(fx.Tracer):
    """Looks into every module, also torch's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.BatchNorm2d) and type(m).__module__.startswith("torch")


def assert_traced(module: nn.Module, x: Tensor, tracer: fx.Tracer) -> None:
    """The graph computes what the module does in both modes, and changes the same statistics."""
    module.train()
    own = copy.deepcopy(module)
    graph = fx.GraphModule(own, tracer.trace(own))
    graph.graph.lint()
    for training in (True, False):
        torch.testing.assert_close(graph.train(training)(x), module.train(training)(x))
    torch.testing.assert_close(graph.state_dict(), module.state_dict())


@pytest.mark.parametrize("tracer", [fx.Tracer, OfLayers, OfAll])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("segments", SEGMENTS)
@pytest.mark.parametrize("kernel_size", [3, 4])
def test_a_layer_is_traced(tracer: Any, order: Any, segments: Any, kernel_size: int) -> None:
    conv = SegmentedConv(8, 8, kernel_size, segments=segments, order=order, bias=True)
    x = torch.randn(2, 8, 6, 6)
    assert_traced(conv, x, tracer())
    if order == "pointwise_first":
        assert_traced(conv.to_towers(), x, tracer())
    torch.testing.assert_close(torch.jit.trace(conv, (x,))(x), conv(x))
    torch.testing.assert_close(torch.export.export(conv, (x,)).module()(x), conv(x))


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("hooks", ["", "forward", "forward_pre"])
def test_normalisation_keeps_its_mode_and_runs_its_hooks_once(momentum: Any, hooks: str) -> None:
    norm = BatchNormReLU(4, momentum=momentum)
    if hooks == "forward":
        norm.register_forward_hook(lambda _module, _inputs, y: 2 * y + 1)
    elif hooks:
        norm.register_forward_pre_hook(lambda _module, inputs: (inputs[0].exp(),))
    assert_traced(nn.Sequential(norm, nn.ReLU()), torch.randn(2, 4, 5, 5), fx.Tracer())


@pytest.mark.parametrize("training", [True, False])
def test_normalisation_alone_is_traced_in_its_mode(training: bool) -> None:
    norm = BatchNormReLU(4).train(training)
    x = 3 * torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(fx.symbolic_trace(copy.deepcopy(norm))(x), norm(x))


NETWORKS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "small": {"pooling": "keras", "repeats": 1},
    "inception_v2": {"pooling": "keras"},
    "inception_v3_tiny": {},
    "vgg_small": {},
    "resnet50": {},
    "regnety_tiny": {},
    "convnext_small_images": {},
    "convnextv2_small_images": {},
    "mobilenetv2_tiny": {},
    "efficientnetv2_tiny": {},
}


@pytest.mark.parametrize("segments", ["1", "3"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore:segments")
def test_a_network_is_traced(name: str, segments: str) -> None:
    fields = {"width": 0.02, "num_classes": 3, "segments": segments, **NETWORKS[name]}
    torch.manual_seed(0)
    network = build(NetworkConfig(name=name, **fields))
    side = 75 if name.startswith("inception") else 33
    assert_traced(network, torch.randn(2, 3, side, side), fx.Tracer())
