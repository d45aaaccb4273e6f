"""Augmentation against a slow version that loops over pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spectrum import Split
from spectrum.data.augment import augment, sample_parameters
from spectrum.data.augmentation import Augmentation

EVERYTHING = Augmentation(crop=2, flip=True, cutout=4)


def images(n: int = 20) -> Tensor:
    return torch.randn(n, 3, 7, 5, generator=torch.Generator().manual_seed(0))


def slowly(image: Tensor, augmentation: Augmentation, shift: Tensor, flip: bool, hole: Tensor):
    """One image (C, H, W), varied by loops over its pixels."""
    _, height, width = image.shape
    result = torch.zeros_like(image)
    for y in range(height):
        for x in range(width):
            from_y = y + int(shift[0]) - augmentation.crop
            from_x = (width - 1 - x if flip else x) + int(shift[1]) - augmentation.crop
            if 0 <= from_y < height and 0 <= from_x < width:
                result[:, y, x] = image[:, from_y, from_x]
            first = hole - augmentation.cutout // 2
            if all(
                0 <= at - int(f) < augmentation.cutout for at, f in zip((y, x), first, strict=True)
            ):
                result[:, y, x] = 0
    return result


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "varied", [EVERYTHING, Augmentation(crop=2), Augmentation(flip=True), Augmentation(cutout=3)]
)
def test_augment_equals_the_slow_version(varied: Augmentation, layout: torch.memory_format) -> None:
    given = images().to(memory_format=layout)
    parameters = sample_parameters(varied, len(given), (7, 5), 3, torch.device("cpu"))
    shift, flipped, hole = (
        torch.zeros(20, 2) if values is None else values
        for values in (parameters.offset, parameters.flipped, parameters.hole)
    )
    found = augment(given, varied, parameters)
    for i, image in enumerate(given):
        expected = slowly(image, varied, shift[i], bool(flipped[i].any()), hole[i])
        assert torch.equal(found[i], expected), i
    assert not torch.equal(found, given)


def test_all_values_of_a_parameter_are_equally_likely() -> None:
    parameters = sample_parameters(EVERYTHING, 20_000, (7, 5), 0, torch.device("cpu"))
    assert parameters.offset is not None
    assert parameters.flipped is not None
    assert parameters.hole is not None
    rows, columns = parameters.offset.unbind(1)
    for values, n in [(rows, 5), (columns, 5), (parameters.flipped, 2)]:
        counts = values.long().bincount(minlength=n)
        assert len(counts) == n
        assert counts.min() > 20_000 / n * 0.9
    assert parameters.hole.amax(0).tolist() == [6, 4]
    assert parameters.hole.amin(0).tolist() == [0, 0]


def test_an_image_is_varied_alike_wherever_it_stands_in_the_order() -> None:
    split = Split(images(), torch.arange(20))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    straight = torch.cat([x for x, _ in split.batches(6, torch.arange(20), EVERYTHING, 5)])
    batches = list(split.batches(4, order, EVERYTHING, 5))
    assert [len(labels) for _, labels in batches] == [4] * 5
    assert torch.equal(torch.cat([labels for _, labels in batches]), order)
    assert torch.equal(torch.cat([x for x, _ in batches]), straight[order])
    other = torch.cat([x for x, _ in split.batches(6, torch.arange(20), EVERYTHING, 6)])
    assert not torch.equal(straight, other)


def test_bytes_are_normalised_before_they_are_varied() -> None:
    pixels = torch.randint(256, (20, 3, 7, 5), dtype=torch.uint8)
    mean, deviation = torch.rand(3, 1, 1) * 100, torch.rand(3, 1, 1) * 50 + 1
    split = Split(pixels, torch.arange(20), mean, deviation)
    ((plain, _),) = split.batches(20)
    torch.testing.assert_close(plain, (pixels.float() - mean) / deviation)
    floats = Split(plain, torch.arange(20))
    order = torch.arange(20)
    ((ours, _),) = split.batches(20, order, EVERYTHING, 2)
    ((theirs, _),) = floats.batches(20, order, EVERYTHING, 2)
    assert torch.equal(ours, theirs)  # what is added around an image is the mean colour
