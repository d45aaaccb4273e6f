"""Decoding, cropping and resizing, compared with plain NumPy."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from spectrum.data.images import (
    EVALUATION_CROP,
    UnknownRange,
    decode,
    is_grey,
    is_image_file,
    open_image,
    random_crop_box,
    random_resized_crop,
    resize_and_center_crop,
    resize_squares,
    to_array,
)
from tests.data.pictures import encoded, noise, resized

COLOURS = noise(1, 20, 30)
GREY = noise(2, 20, 30, 1)
ALPHA = noise(3, 20, 30, 1)
WIDE = np.linspace(0, 65535, 600).round().astype(np.uint16).reshape(20, 30)


def reopened(image: Image.Image, kind: str = "PNG", **options: Any) -> Image.Image:
    content = BytesIO()
    image.save(content, kind, **options)
    return Image.open(content)


INK = Image.fromarray(np.dstack([255 - COLOURS, np.zeros((20, 30), np.uint8)]), "CMYK")
PALETTE = Image.fromarray(COLOURS).quantize(256)
PORTABLE = Image.open(BytesIO(b"P5 30 20 65535\n" + WIDE.astype(">u2").tobytes()))


@pytest.mark.parametrize(
    ("image", "mode", "expected", "away"),
    [
        (reopened(Image.fromarray(COLOURS)), "RGB", COLOURS, 0),
        (reopened(Image.fromarray(np.dstack([COLOURS, ALPHA]))), "RGBA", COLOURS, 0),
        (reopened(PALETTE), "P", PALETTE.convert("RGB"), 0),
        (reopened(PALETTE, transparency=bytes(range(256))), "P", PALETTE.convert("RGB"), 0),
        (reopened(INK, "TIFF"), "CMYK", COLOURS, 0),
        (reopened(INK, "JPEG", quality=100), "CMYK", COLOURS, 4),
        (reopened(Image.fromarray(GREY > 100)), "1", 255 * (GREY > 100), 0),
        (reopened(Image.fromarray(GREY)), "L", GREY, 0),
        (reopened(Image.fromarray(np.dstack([GREY, ALPHA]))), "LA", GREY, 0),
        (reopened(Image.fromarray(WIDE)), "I;16", np.rint(WIDE / 257), 0),
        (reopened(Image.fromarray(WIDE), "TIFF", big_tiff=False), "I;16", np.rint(WIDE / 257), 0),
        (PORTABLE, "I", np.rint(WIDE / 257), 0),
    ],
)
def test_images_of_each_mode_are_decoded(
    image: Image.Image, mode: str, expected: Any, away: int
) -> None:
    assert image.mode == mode
    pixels = np.asarray(expected).astype(int)
    assert is_grey(image) == (pixels.ndim == 2)
    colours = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
    luma = pixels if pixels.ndim == 2 else pixels @ [0.299, 0.587, 0.114]
    for channels, mode_then, wanted in ((3, "RGB", colours), (1, "L", luma)):
        found = decode(image, channels)
        assert found.mode == mode_then
        rounding = channels == 1 and pixels.ndim == 3
        assert np.abs(np.asarray(found) - wanted).max() <= away + rounding


def test_what_another_program_would_decode_is_no_image(tmp_path: Path) -> None:
    content = BytesIO()
    Image.fromarray(COLOURS).save(content, "EPS")
    for name in ("a.eps", "a", "a.png"):
        (tmp_path / name).write_bytes(content.getvalue())
        assert is_image_file(tmp_path / name) == name.endswith(".png")
    with pytest.raises(UnidentifiedImageError):
        open_image(content.getvalue())


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_numbers_without_a_range_are_refused(dtype: type) -> None:
    image = reopened(Image.fromarray(GREY.astype(dtype)), "TIFF")
    with pytest.raises(UnknownRange):
        decode(image, 3)


@pytest.mark.parametrize("share", [1.0, EVALUATION_CROP])
@pytest.mark.parametrize(("height", "width"), [(40, 61), (61, 40), (17, 17), (9, 30)])
def test_the_centre_is_that_of_the_resized_image(height: int, width: int, share: float) -> None:
    size = 16
    pixels = noise(4, height, width)
    found = np.asarray(resize_and_center_crop(Image.fromarray(pixels), size, share))
    # Resize as a whole, then cut.
    shorter = round(size / share)
    assert shorter == (16 if share == 1 else 18)
    new_width = int(shorter * width / min(width, height))
    new_height = int(shorter * height / min(width, height))
    whole = Image.fromarray(pixels).resize((new_width, new_height), Image.Resampling.BILINEAR)
    upper, left = round((new_height - size) / 2), round((new_width - size) / 2)
    expected = np.asarray(whole)[upper : upper + size, left : left + size]
    assert found.shape == (size, size, 3)
    away = np.abs(found.astype(int) - expected)
    assert away.max() <= 2  # Pillow rounds between the two directions
    assert away.mean() < 0.05
    x, y = width / new_width, height / new_height
    slow = resized(pixels, size, (left * x, upper * y, (left + size) * x, (upper + size) * y))
    assert np.abs(found - slow).max() <= 1.5


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [7, 14, 28, 33])
def test_square_images_are_resized_as_one_by_one(size: int, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28, channels), np.uint8)
    one_by_one = [
        to_array(resize_and_center_crop(Image.fromarray(image.squeeze()), size)) for image in images
    ]
    assert np.array_equal(resize_squares(images, size).transpose(0, 3, 1, 2), one_by_one)


def test_an_image_of_the_size_stays() -> None:
    image = Image.fromarray(COLOURS[:16, :16])
    assert resize_and_center_crop(image, 16) is image
    assert resize_and_center_crop(image, 16, EVALUATION_CROP) is image


def test_a_line_of_pixels_can_be_brought_to_a_size() -> None:
    line = Image.fromarray(noise(5, 1, 20_000))
    assert resize_and_center_crop(line, 32).size == (32, 32)
    rng = np.random.default_rng(0)
    assert random_resized_crop(line, 32, 3, 0.08, rng).size == (32, 32)


def test_random_boxes_have_the_areas_and_sides_asked_for() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([random_crop_box(1000, 800, 0.25, rng) for _ in range(3000)])
    left, upper, right, lower = boxes.T
    assert min(left.min(), upper.min()) >= 0
    assert right.max() <= 1000
    assert lower.max() <= 800
    w, h = right - left, lower - upper
    share, ratio = w * h / 800_000, w / h
    assert 0.249 < share.min() < 0.26
    assert 0.95 < share.max() <= 1
    assert 0.745 < ratio.min() < 0.77
    assert 1.31 < ratio.max() < 1.34
    assert np.median(np.log(ratio)) == pytest.approx(0, abs=0.1)
    assert left.max() > 400
    assert upper.max() > 300


def test_if_no_box_fits_the_centre_is_taken() -> None:
    rng = np.random.default_rng(0)
    assert random_crop_box(400, 30, 1.0, rng) == (180, 0, 220, 30)
    assert random_crop_box(30, 400, 1.0, rng) == (0, 180, 30, 220)
    assert random_crop_box(1, 1, 0.5, rng) == (0, 0, 1, 1)


def test_a_random_crop_is_its_box_resized() -> None:
    pixels = noise(6, 60, 80)
    for seed in range(5):
        box = random_crop_box(80, 60, 0.1, np.random.default_rng(seed))
        found = random_resized_crop(
            Image.fromarray(pixels), 24, 3, 0.1, np.random.default_rng(seed)
        )
        assert np.abs(np.asarray(found) - resized(pixels, 24, box)).max() <= 1.5


@pytest.mark.parametrize("size", [20, 100])
def test_a_small_crop_of_a_large_file_is_decoded_at_a_smaller_scale(size: int) -> None:
    pixels = noise(7, 300, 400)
    content = encoded(pixels, "JPEG")
    for seed in range(2):
        box = random_crop_box(400, 300, 0.5, np.random.default_rng(seed))
        image = Image.open(BytesIO(content))
        found = random_resized_crop(image, size, 3, 0.5, np.random.default_rng(seed))
        least = min(box[2] - box[0], box[3] - box[1]) / size
        scale = 400 // image.size[0]
        assert scale == max(s for s in (1, 2, 4, 8) if s <= least)
        full = np.asarray(Image.open(BytesIO(content)))
        assert np.abs(np.asarray(found) - resized(full, size, box)).mean() < 1.5


def test_arrays_have_channels_first() -> None:
    assert np.array_equal(to_array(Image.fromarray(COLOURS)), COLOURS.transpose(2, 0, 1))
    assert np.array_equal(to_array(Image.fromarray(GREY)), GREY[None])
