"""Planted images taken apart: what is added to the noise, where, and what the class decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from spectrum import DataConfig
from spectrum.data.planted import NUM_CLASSES, generate_planted, templates

FIELDS = {"images": 200, "side": 9, "template": 3, "copies": 1, "signal": 4.0, "image_seed": 3}
RANK = DataConfig(name="planted", rank=2, channels=6, **FIELDS)
BLOCK = DataConfig(name="planted", block=8, channels=16, **FIELDS)
BOTH = pytest.mark.parametrize("config", [RANK, BLOCK], ids=["rank", "block"])
Floats = NDArray[np.float64]


def replace(config: DataConfig, **changes: Any) -> DataConfig:
    return DataConfig(**{**config.model_dump(exclude_none=True), **changes})


def taken_apart(config: DataConfig) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """The noise, what a signal of 1 adds, and the classes: images are linear in the signal."""
    weak, labels = generate_planted(config)
    strong, again = generate_planted(replace(config, signal=2 * config.signal))
    assert np.array_equal(labels, again)
    added = (strong.astype(float) - weak) / config.signal
    return 2 * weak.astype(float) - strong, added, labels


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 99), st.data())
def test_templates_have_the_rank_asked_for_and_norm_1(
    channels: int, size: int, seed: int, data: Any
) -> None:
    rank = data.draw(st.integers(1, min(channels, size * size)))
    config = replace(RANK, rank=rank, channels=channels, template=size, image_seed=seed)
    found = templates(config)
    assert found.shape == (NUM_CLASSES, 1, 1, channels, size, size)
    matrices = found.reshape(NUM_CLASSES, channels, size * size)
    assert np.linalg.matrix_rank(matrices, tol=1e-9).tolist() == [rank] * NUM_CLASSES
    assert np.allclose(np.linalg.norm(matrices, axis=(1, 2)), 1)


def test_every_class_has_a_template_of_its_own() -> None:
    flat = templates(RANK).reshape(NUM_CLASSES, -1)
    assert np.abs(flat @ flat.T - np.eye(NUM_CLASSES)).max() < 0.9


@pytest.mark.parametrize(("block", "channels"), [(4, 4), (12, 36)])
def test_a_class_is_the_signs_of_a_blocks_quarters_up_to_its_own(block: int, channels: int) -> None:
    found = templates(replace(BLOCK, block=block, channels=channels))
    blocks = channels // block
    assert found.shape == (NUM_CLASSES, blocks, 2, channels, 3, 3)
    assert np.allclose((found**2).sum(axis=(3, 4, 5)), 1)
    assert np.array_equal(found[:, :, 0], -found[:, :, 1])
    pattern = found[0, 0, 0, 0]
    for i in range(blocks):
        own = found[:, i, 0, i * block : (i + 1) * block]
        others = np.delete(found[:, i], np.s_[i * block : (i + 1) * block], axis=2)
        assert not others.any()
        signs = (own * pattern).sum(axis=(2, 3)) / (pattern**2).sum()  # (8, block)
        assert np.allclose(own, signs[:, :, None, None] * pattern)
        assert np.allclose(np.abs(signs), 1)
        quarters = signs.reshape(NUM_CLASSES, 4, -1)
        assert np.allclose(quarters, quarters[:, :, :1])  # one sign a quarter
        relative = np.rint(quarters[:, 1:, 0] * quarters[:, :1, 0]).astype(int)
        assert len({tuple(row) for row in relative.tolist()}) == NUM_CLASSES == 2**3
        if i == 0:
            first = relative
        assert np.array_equal(relative, first)


@BOTH
def test_the_same_seed_gives_the_same_images_and_another_others(config: DataConfig) -> None:
    images, labels = generate_planted(config)
    assert (images.dtype, labels.dtype) == (np.float32, np.int64)
    assert images.shape == (200, config.channels, 9, 9)
    noise, added, same = taken_apart(config)
    assert np.array_equal(labels, same)
    other_noise, other_added, other_labels = taken_apart(replace(config, image_seed=4))
    assert abs(np.corrcoef(noise.ravel(), other_noise.ravel())[0, 1]) < 0.03
    assert not np.allclose(added, other_added)
    assert not np.array_equal(labels, other_labels)


def test_classes_are_as_many_of_each_but_for_one_and_in_no_order() -> None:
    _, labels = generate_planted(replace(RANK, images=93))
    counts = np.bincount(labels, minlength=NUM_CLASSES)
    assert counts.max() - counts.min() == 1
    assert counts.sum() == 93
    assert len({*np.diff(labels) % NUM_CLASSES}) > 2


@BOTH
def test_the_noise_is_white_of_variance_1(config: DataConfig) -> None:
    noise, _, _ = taken_apart(replace(config, images=300))
    assert stats.kstest(noise.ravel(), "norm").pvalue > 0.001
    assert abs((noise[..., 1:] * noise[..., :-1]).mean()) < 0.01
    assert abs((noise[:, 1:] * noise[:, :-1]).mean()) < 0.01


@BOTH
def test_each_copy_is_the_template_of_its_images_class_whole_and_inside(
    config: DataConfig,
) -> None:
    # One copy at each place: found by trying them all.
    _, added, labels = taken_apart(config)
    known = templates(config)
    places: list[tuple[int, int]] = []
    signs: list[list[int]] = []
    for image, label in zip(added, labels, strict=True):
        signs.append([])
        for i in range(known.shape[1]):
            matches = [
                (y, x, sign)
                for y in range(9 - 2)
                for x in range(9 - 2)
                for sign in range(known.shape[2])
                if np.isclose((image[:, y : y + 3, x : x + 3] * known[label, i, sign]).sum(), 1)
            ]
            ((y, x, sign),) = matches
            places.append((y, x))
            signs[-1].append(sign)
            image[:, y : y + 3, x : x + 3] -= known[label, i, sign]
        assert np.allclose(image, 0, atol=1e-5)
    assert {y for y, _ in places} == {x for _, x in places} == set(range(7))
    if config.block:
        share = np.mean(signs, axis=0)
        assert np.abs(share - 0.5).max() < 0.15  # 200 coins: a deviation of 0.035
        assert abs(np.corrcoef(np.array(signs).T)[0, 1]) < 0.3  # each block has its own
        lying = np.array(places).reshape(200, 2, 2)
        assert 0 < (lying[:, 0] == lying[:, 1]).all(axis=1).mean() < 0.1  # 1/49, and places too


@pytest.mark.parametrize("copies", [1, 5])
def test_there_are_as_many_copies_as_asked_for(copies: int) -> None:
    # Summed over space, copies add up wherever they lie, over each other too.
    _, added, labels = taken_apart(replace(RANK, copies=copies))
    expected = copies * templates(RANK).sum(axis=(4, 5))[labels, 0, 0]
    assert np.allclose(added.sum(axis=(2, 3)), expected, atol=1e-4)


def test_a_channel_alone_says_nothing_of_the_class_and_two_quarters_do() -> None:
    config = replace(BLOCK, images=1600, signal=12.0, side=5)
    images, labels = generate_planted(config)
    pattern = templates(config)[0, 0, 0, 0]
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(2, 3))
    found = np.einsum("nchwij,ij->nchw", windows, pattern).reshape(1600, 16, 9)
    strongest = np.abs(found).max(axis=2)
    signed = np.take_along_axis(found, np.abs(found).argmax(axis=2)[..., None], axis=2)[..., 0]
    for statistic in (strongest, signed, images.var(axis=(2, 3)), images.mean(axis=(2, 3))):
        groups = [statistic[labels == k] for k in range(NUM_CLASSES)]
        assert stats.f_oneway(*groups).pvalue.min() > 0.001
    together = signed[:, 0] * signed[:, 2]  # channels of the first two quarters
    groups = [together[labels == k] for k in range(NUM_CLASSES)]
    assert stats.f_oneway(*groups).pvalue < 1e-10


@pytest.mark.parametrize("changes", [{"template": 9}, {"rank": 6}, {"rank": 1}, {"copies": 30}])
def test_fields_at_their_bounds_are_allowed(changes: dict[str, Any]) -> None:
    assert np.isfinite(generate_planted(replace(RANK, **changes))[0]).all()
