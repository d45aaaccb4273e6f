"""The presets for planted data: which layers see space, and which channels they mix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from spectrum.networks import xception
from tests.networks.parts import norms, segmented_convs

OPTIONS = {"num_classes": 8, "in_channels": 16}


@pytest.mark.parametrize(("preset", "stem"), [("pointwise_stem", 1), ("no_stem", 0)])
def test_only_segmented_convolutions_see_space(preset: str, stem: int) -> None:
    network = xception("C", preset=preset, **OPTIONS)
    segmented = list(segmented_convs(network).values())
    parts = {id(part) for layer in segmented for part in layer.modules()}
    others = [
        (name, m.kernel_size)
        for name, m in network.named_modules()
        if isinstance(m, nn.Conv2d) and id(m) not in parts
    ]
    assert [size for _, size in others] == [(1, 1)] * (stem + 2)  # and two shortcuts
    assert [name for name, _ in others if "shortcut" not in name] == ["stem.0.conv"] * stem
    assert len(segmented) == 6  # no middle flow
    assert not len(network.middle)
    assert segmented[0].in_channels == (37 if stem else 16)
    deeper = xception("C", preset=preset, repeats=2, **OPTIONS)
    assert len(segmented_convs(deeper)) == 12


@pytest.mark.parametrize("preset", ["pointwise_stem", "no_stem"])
def test_a_stem_is_normalised_and_has_a_relu_images_need_none(preset: str) -> None:
    network = xception("C", preset=preset, **OPTIONS).eval()
    seen: list[torch.Tensor] = []
    first = next(iter(segmented_convs(network).values()))
    first.register_forward_pre_hook(lambda _m, x: seen.append(x[0]))
    images = torch.randn(2, 16, 12, 12, generator=torch.Generator().manual_seed(0))
    network(images)
    assert torch.equal(seen[0], images) == (preset == "no_stem")
    assert (seen[0].min() == 0) == (preset == "pointwise_stem")
    assert seen[0].shape[2:] == (12, 12)


@pytest.mark.parametrize(("segments", "width"), [(1, 0.6), (2, 1.37), (8, 0.6), (16, 1.0)])
def test_a_network_without_pointwise_convolutions_keeps_its_segments_apart(
    segments: int, width: float
) -> None:
    torch.manual_seed(0)
    network = xception(
        segments,
        **{"preset": "no_stem", "num_classes": 8, "in_channels": 16, "width": width},
        **{"order": "spatial_only", "residual": False},
    ).eval()
    for norm in norms(network):
        nn.init.ones_(norm.bias)  # so few channels may all be cut off by a ReLU
    pooled: list[torch.Tensor] = []
    network.classifier.register_forward_pre_hook(lambda _m, x: pooled.append(x[0]))
    images = torch.randn(3, 16, 12, 12)
    network(images)
    features = pooled[0].shape[1]
    homes = np.concatenate(
        [[i] * len(range(i, features, segments)) for i in range(segments)]
    )  # the segment of each feature, the first ones a channel wider
    for i in range(segments):
        changed = images.clone()
        changed[:, 16 // segments * i : 16 // segments * (i + 1)] += 1
        network(changed)
        moved = (pooled[-1] != pooled[0]).any(dim=0).numpy()
        assert not moved[homes != i].any()
        assert moved[homes == i].any()
