"""The check of a converted model: gradients reach its own parameters, and only those."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spectrum.networks import NetworkConfig, build, convert, resegment
from spectrum.networks.gradients import check_gradients

IMAGES = torch.randn(2, 3, 75, 75, generator=torch.Generator().manual_seed(0))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.unused = nn.Conv2d(3, 3, 3)

    def forward(self, x: Tensor, scale: float = 1.0) -> dict[str, Any]:
        return {"features": [self.norm(self.conv(x)) * scale], "size": 3}


def test_a_sound_copy_passes_and_nothing_changes() -> None:
    model = Model()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    check_gradients(model, copy.deepcopy(model), IMAGES)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(model.state_dict(), before, atol=0, rtol=0)
    assert all(parameter.grad is None for parameter in model.parameters())
    for segments in (1, 3):
        converted = convert(model, segments, check=(IMAGES, 2.0))
        assert converted.norm.num_batches_tracked == 0


def test_a_copy_that_uses_the_original_is_refused() -> None:
    model, changed = Model(), Model()
    changed.forward = lambda x: changed.norm(model.conv(x))  # type: ignore[method-assign, assignment]
    with pytest.raises(ValueError, match=r"its copy still uses conv.weight of the original\Z"):
        check_gradients(model, changed, IMAGES)


def test_a_copy_that_leaves_out_a_layer_is_refused() -> None:
    model = Model()
    changed = convert(model, 3)
    conv = nn.Conv2d(3, 3, 3)
    changed.forward = lambda x: changed.norm(conv(x))  # type: ignore[method-assign, assignment]
    with pytest.raises(ValueError, match=r"conv\.spatial\.weight has no effect in its copy\Z"):
        check_gradients(model, changed, IMAGES)


@pytest.mark.parametrize("check", [torch.ones(2, 5, 9, 9), (), "x", (IMAGES, 1, 2)], ids=str)
def test_an_example_that_the_model_does_not_take(check: Any) -> None:
    with pytest.raises(ValueError, match=r"\Acheck \(=.*must be an input that the module takes"):
        convert(Model(), 3, check=check)


NAMES = ["tiny", "inception_v2", "inception_v3_tiny", "vgg_small", "vgg16", "resnet50"]
SMALL = ["regnety_tiny", "convnextv2_small_images"]
NAMES += ["mobilenetv2_tiny", "efficientnetv2_tiny"]


@pytest.mark.parametrize("name", [*NAMES, "resnext50_32x4d", *SMALL])
@pytest.mark.filterwarnings("ignore:segments")
def test_every_network_stays_whole(name: str) -> None:
    network = build(NetworkConfig(name=name, width=0.02, num_classes=3, segments="C"))
    images = IMAGES if name.startswith("inception") else IMAGES[..., :33, :33]
    for segments in ("1", "3"):
        convert(network, segments, check=images)
        resegment(network, segments, check=images)
