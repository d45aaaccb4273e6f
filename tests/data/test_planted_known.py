"""The best accuracy on planted images: of a matched filter, and of a sum over segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from spectrum import DataConfig, load_data
from spectrum.data.load import ceiling
from spectrum.data.planted import NUM_CLASSES, generate_planted, matched_filter, templates

FIELDS = {"images": 80, "side": 4, "template": 2, "copies": 1, "image_seed": 1}
RANK = DataConfig(name="planted", rank=2, channels=3, signal=2.5, **FIELDS)
BLOCK = DataConfig(name="planted", block=4, channels=8, signal=3.5, **FIELDS)


def density(image: NDArray[np.float64], mean: NDArray[np.float64]) -> float:
    """Density of an image in white noise, up to a factor that is the same for all means."""
    return float(np.exp(-((image - mean) ** 2).sum() / 2 + (image**2).sum() / 2))


@pytest.mark.parametrize("config", [RANK, BLOCK], ids=["rank", "block"])
def test_the_filter_answers_the_most_likely_class(config: DataConfig) -> None:
    # The likelihood of a class written out: the mean over all places and signs of one copy.
    images, labels = generate_planted(config)
    known = config.signal * templates(config)
    _, blocks, signs, channels, size, _ = known.shape
    answers = []
    for image in images.astype(float):
        likelihoods = []
        for k in range(NUM_CLASSES):
            product = 1.0
            for i in range(blocks):
                total = 0.0
                for y in range(config.side - size + 1):
                    for x in range(config.side - size + 1):
                        for sign in range(signs):
                            mean = np.zeros((channels, config.side, config.side))
                            mean[:, y : y + size, x : x + size] = known[k, i, sign]
                            total += density(image, mean)
                product *= total
            likelihoods.append(product)
        answers.append(int(np.argmax(likelihoods)))
    found = matched_filter(images, config)
    assert found.tolist() == answers
    assert 0.3 < (found == labels).mean() < 0.99  # neither a foregone conclusion


def test_many_images_are_classified_as_each_alone() -> None:
    config = RANK.model_copy(update={"images": 1203})
    images, labels = generate_planted(config)
    found = matched_filter(images, config)
    alone = [int(matched_filter(images[i : i + 1], config)[0]) for i in (0, 499, 500, 1000, 1202)]
    assert found[[0, 499, 500, 1000, 1202]].tolist() == alone
    assert found.shape == labels.shape


@pytest.mark.parametrize("kind", [{"rank": 8}, {"block": 16}], ids=str)
def test_the_ceiling_is_near_1_at_a_high_signal_and_chance_at_none(kind: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"name": "planted", "images": 240, **kind}
    found = [ceiling(DataConfig(**fields, signal=signal)) for signal in (1e-3, 2, 3, 4.5, 9)]
    assert found == sorted(found)
    assert found[0] == pytest.approx(1 / 8, abs=0.07)
    assert found[-1] > 0.98


@pytest.mark.parametrize("kind", [{"rank": 1}, {"block": 16}], ids=str)
def test_the_defaults_leave_room_to_be_better_or_worse(kind: dict[str, Any]) -> None:
    assert 0.6 < ceiling(DataConfig(name="planted", images=240, **kind)) <= 1


def test_more_copies_help_the_filter() -> None:
    fields: dict[str, Any] = {"name": "planted", "images": 240, "side": 16, "signal": 3.0}
    one, four = (ceiling(DataConfig(**fields, copies=copies)) for copies in (1, 4))
    assert four > one + 0.1


def test_what_isnt_planted_has_no_ceiling() -> None:
    with pytest.raises(ValueError, match=r"\Adata \(='digits'\) must be planted[^\n]*\Z"):
        ceiling(DataConfig())


@pytest.mark.parametrize(("segments", "accuracy"), [(1, 1.0), (2, 0.5), (4, 1 / 8), (8, 1 / 8)])
def test_a_sum_over_segments_tells_no_more_than_its_segments_hold(
    segments: int, accuracy: float
) -> None:
    # All that an image of a pixel can be without noise, and each segment's part of it by name:
    # any function of a segment is linear in these, so the fit is the best sum over segments.
    config = DataConfig(name="planted", block=8, channels=8, template=1, side=1)
    patterns = np.sign(templates(config)[:, 0]).reshape(16, 8)  # of 8 classes and both signs
    labels = np.repeat(np.arange(NUM_CLASSES), 2)
    parts = patterns.reshape(16, segments, -1)
    features = []
    for i in range(segments):
        kinds, which = np.unique(parts[:, i], axis=0, return_inverse=True)
        features.append(np.eye(len(kinds))[which.ravel()])
    fitted = LogisticRegression(C=1e4, max_iter=2000).fit(np.hstack(features), labels)
    chances = fitted.predict_proba(np.hstack(features))[np.arange(16), labels]
    assert chances == pytest.approx([accuracy] * 16, abs=0.01)


def test_planted_images_are_a_data_set_like_any_other() -> None:
    config = DataConfig(name="planted", images=400, block=16)
    data = load_data(config)
    assert (data.shape, data.classes) == ((16, 12, 12), tuple("01234567"))
    images, labels = generate_planted(config)
    parts = [data.train, data.validation, data.test]
    assert [len(part) for part in parts] == [240, 80, 80]
    assert sorted(torch.cat([part.labels for part in parts]).tolist()) == sorted(labels)
    for part in parts:
        assert part.labels.bincount(minlength=8).float().std() < 1
    everything = torch.cat([part.images for part in parts])  # type: ignore[attr-defined]
    found, wanted = everything[:, 0, 0, 0].sort().values, np.sort(images[:, 0, 0, 0])
    assert np.corrcoef(found, wanted)[0, 1] > 0.9999  # they are normalised
