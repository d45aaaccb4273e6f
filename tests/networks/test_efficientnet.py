"""EfficientNet-B0 and V2-S: their published sizes, their dial, their blocks beside plain torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from spectrum import NetworkConfig, efficientnet_b0, efficientnetv2_s, load_weights, match_budget
from spectrum.costs import count_config
from spectrum.costs.budget import count_reference
from spectrum.networks.config import V2_SEGMENTS
from spectrum.networks.weights import read_weights
from tests.networks.parts import gradients, images, on_meta, segmented_convs, size
from tests.networks.weights import peers

# The papers' tables 1 and 4: t, kernel (0 for a fused block), c, n, s; with the stem.
B0 = ((1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2))
B0 += ((6, 5, 112, 3, 1), (6, 5, 192, 4, 2), (6, 3, 320, 1, 1))
V2_S = ((1, 0, 24, 2, 1), (4, 0, 48, 4, 2), (4, 0, 64, 4, 2))
V2_S += ((4, 3, 128, 6, 2), (6, 3, 160, 9, 1), (6, 3, 256, 15, 2))


def counts(stem: int, rows: Any, side: int, fused: bool) -> tuple[int, int]:
    """Parameters and multiply-adds by hand; without ``fused``, all blocks are at C."""
    side //= 2
    c = stem
    params, macs = 29 * c, 27 * c * side**2
    for t, kernel, c_out, n, s in rows:
        for stride in (s, *[1] * (n - 1)):
            inner = t * c
            expand = c * inner if t > 1 and (kernel or not fused) else 0
            macs += expand * side**2
            side //= stride
            if kernel:
                params += 2 * inner * (t > 1)  # the norm after the expansion
                spatial, se = kernel**2 * inner, 2 * inner * (c // 4)
                params += se + inner + c // 4
                macs += se
            else:
                spatial = 9 * c * inner if fused else 9 * inner
            project = 0 if not kernel and t == 1 and fused else inner * c_out
            norms = 2 * inner + 2 * c_out * (kernel > 0 or t > 1)
            params += expand + spatial + project + norms
            macs += (spatial + project) * side**2
            c = c_out
    macs += c * 1280 * side**2 + 1280 * 1000
    return params + (c + 2) * 1280 + 1281 * 1000, macs


def test_they_cost_what_is_published() -> None:
    b0 = count_config(NetworkConfig(name="efficientnet_b0"), (3, 224, 224))
    assert (b0.params, b0.macs) == counts(32, B0, 224, fused=True)
    assert b0.params == size(on_meta(efficientnet_b0)) == 5_288_548
    for segments, fused in ((V2_SEGMENTS, True), ("C", False)):
        config = NetworkConfig(name="efficientnetv2_s", segments=segments)
        v2 = count_config(config, (3, 384, 384))
        assert (v2.params, v2.macs) == counts(24, V2_S, 384, fused)
    assert size(on_meta(efficientnetv2_s)) == 21_458_488
    assert NetworkConfig(name="efficientnetv2_s").segments == V2_SEGMENTS


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("make", [efficientnet_b0, efficientnetv2_s])
def test_they_compute_and_learn_what_a_plain_network_does(make: Any, training: bool) -> None:
    sizes = peers.B0_QUARTER if make is efficientnet_b0 else peers.V2_S_QUARTER
    peer = peers.randomised(peers.TimmEfficientNet(5, sizes)).double()
    network = make(width=0.25, num_classes=5).double()
    load_weights(network, peer.state_dict())
    x = images(4, side=32).double()
    expected, their_gradients = gradients(peer.train(training), x)
    logits, own_gradients = gradients(network.train(training), x)
    torch.testing.assert_close(logits, expected)
    state = dict(read_weights(their_gradients).state)
    # The gradients of V2-S reach 1e8: a change of x by one unit in the last place changes them by
    # about 1e-8 of each tensor's largest.
    for name, wanted in state.items():
        error = (own_gradients.pop(name) - wanted).abs().max()
        assert error <= 1e-6 * max(1, wanted.abs().max()), name
    assert not own_gradients


def test_a_fused_block_gets_its_1x1_back_at_more_than_one_segment() -> None:
    def layers(segments: str, **options: Any) -> list[tuple[str, int]]:
        network = on_meta(efficientnetv2_s, segments, preset="tiny", **options)
        return [(conv.order, conv.segment_count) for conv in segmented_convs(network).values()]

    # Fused blocks with 13, 4 x 13, 4 x 17 and 4 x 19 channels, then 4 x 19, 4 x 23, ...
    assert layers("1")[:5] == [("spatial_only", 1)] * 5
    expanding = [("pointwise_first", n) for n in (4 * 13, 4 * 17, 4 * 19)]
    assert layers("C")[:5] == [("spatial_first", 13), *expanding, ("spatial_only", 4 * 19)]
    assert layers("C/20")[:2] == [("spatial_only", 1), ("pointwise_first", 3)]
    assert {order for order, _ in layers("2", order="spatial_first")} == {"spatial_first"}


@pytest.mark.parametrize("match", ["params", "macs"])
@pytest.mark.parametrize("segments", ["1", "4", "C/8"])
def test_tiny_meets_a_budget(segments: str, match: Any) -> None:
    config = NetworkConfig(name="efficientnetv2_tiny", segments=segments, num_classes=10)
    budget = count_reference(config, (3, 14, 14), match)
    assert abs(match_budget(config, (3, 14, 14), **{match: budget}).miss) < 0.01


@pytest.mark.parametrize("side", [14, 32])
def test_tiny_takes_small_images(side: int) -> None:
    network = efficientnetv2_s(
        "stage1=1+stage2=C/8+stage3=1+stage4=C+stage5=4+stage6=C/4", preset="tiny", num_classes=10
    ).eval()
    x = images(2, side=side)
    expected = network(x)
    assert expected.shape == (2, 10)
    network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(x.contiguous(memory_format=torch.channels_last)), expected)
    if side == 14:
        torch.testing.assert_close(torch.export.export(network, (x,)).module()(x), expected)
