"""Image files for tests, and a slow but plain way to resize them."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image


def noise(seed: int, height: int, width: int, channels: int = 3) -> npt.NDArray[np.uint8]:
    """Smooth random pixels (H, W, C), or (H, W) of one channel."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (3, 3, channels), dtype=np.uint8)
    found = [
        np.asarray(Image.fromarray(coarse[:, :, i]).resize((width, height)))
        for i in range(channels)
    ]
    return found[0] if channels == 1 else np.stack(found, axis=2)


def encoded(pixels: npt.NDArray[np.uint8], kind: str = "PNG") -> bytes:
    content = BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def write_classes(
    root: Path,
    counts: dict[str, int],
    *,
    height: int = 8,
    width: int = 8,
    channels: int = 3,
    kind: str = "png",
) -> Path:
    """Folders of images that all differ; a folder may be ``split/class``."""
    seed = 0
    for folder, n in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            pixels = noise(seed, height, width, channels)
            (root / folder / f"{i}.{kind}").write_bytes(
                encoded(pixels, "JPEG" if kind == "jpg" else "PNG")
            )
            seed += 1
    return root


def resized(
    pixels: npt.NDArray[np.uint8], size: int, box: tuple[float, float, float, float]
) -> npt.NDArray[np.float64]:
    """A box of (H, W, C) pixels at a size: a triangle filter, as wide as the pixels that are new.

    As the definition has it, one output pixel at a time, in float64.
    """
    across = _filter(pixels.shape[1], box[0], box[2], size)
    down = _filter(pixels.shape[0], box[1], box[3], size)
    return np.einsum("yh,hwc,xw->yxc", down, pixels.astype(np.float64), across, optimize=True)


def _filter(n: int, first: float, last: float, size: int) -> npt.NDArray[np.float64]:
    weights = np.zeros((size, n))
    scale = (last - first) / size
    reach = max(scale, 1)
    for i in range(size):
        middle = first + (i + 0.5) * scale
        for j in range(n):
            weights[i, j] = max(0.0, 1 - abs(j + 0.5 - middle) / reach)
        weights[i] /= math.fsum(weights[i])
    return weights
