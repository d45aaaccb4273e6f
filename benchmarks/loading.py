"""Images per second when streamed, in memory and on the device, compared with other libraries.

python benchmarks/loading.py [WORKERS [REPEATS]]

The others are plain PyTorch with Pillow, and kornia. The files are written to a temporary folder.
All ways of loading take turns in every repeat. A ratio is the median of the ratios in each repeat,
followed by the smallest and the largest.
"""

from __future__ import annotations

import math
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from spectrum import DataConfig, load_data
from spectrum.data import Augmentation, Examples
from spectrum.data.augment import augment, sample_parameters

LARGE, SMALL = 600, 5000  # JPEG files of 500x375, PNG files of 32x32
ON_DEVICE = 20_000  # images of 32x32 on the device
SIZE, BATCH = 224, 64
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Plain(Dataset[tuple[Tensor, int]]):
    """A folder of images read in the usual way: one at a time, with Pillow, to float tensors."""

    def __init__(self, root: Path, *, area: float | None = None) -> None:
        self.paths = sorted(root.glob("*/*"))
        names = sorted({path.parent.name for path in self.paths})
        self.targets = [names.index(path.parent.name) for path in self.paths]
        self.area = area
        self.mean = torch.tensor(MEAN)[:, None, None]
        self.deviation = torch.tensor(DEVIATION)[:, None, None]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with self.paths[index].open("rb") as file:
            image = Image.open(file).convert("RGB")
        image = self._shifted(image) if self.area is None else self._resized(image, self.area)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        pixels = pixels.sub_(self.mean).div_(self.deviation)
        if self.area is None:
            y, x = random.randrange(32), random.randrange(32)
            pixels[:, max(0, y - 4) : y + 4, max(0, x - 4) : x + 4] = 0
        return pixels, self.targets[index]

    def _resized(self, image: Image.Image, area: float) -> Image.Image:
        width, height = image.size
        for _ in range(10):
            pixels = width * height * random.uniform(area, 1)
            ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
            if w <= width and h <= height:
                x, y = random.randint(0, width - w), random.randint(0, height - h)
                return image.crop((x, y, x + w, y + h)).resize((SIZE, SIZE), Image.BILINEAR)  # type: ignore[attr-defined]
        return image.resize((SIZE, SIZE), Image.BILINEAR)  # type: ignore[attr-defined]

    def _shifted(self, image: Image.Image) -> Image.Image:
        x, y = random.randrange(-4, 5), random.randrange(-4, 5)
        return image.crop((x, y, x + 32, y + 32))  # black beyond the edges


def write_images(root: Path, n: int, height: int, width: int, kind: str) -> None:
    """Write files of ten classes with smooth random pixels and some grain, like photographs."""
    rng = np.random.default_rng(0)
    for i in range(n):
        folder = root / f"class {i % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height)), np.int16)
        grain = rng.integers(-12, 13, (height, width, 3), np.int16)
        pixels = Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))
        options = {"quality": 90} if kind == "jpg" else {}
        pixels.save(folder / f"{i}.{kind}", **options)


def plain(data: Plain, workers: int, device: torch.device) -> Iterator[Tensor]:
    """The batches of an epoch of a plain DataLoader."""
    loader = DataLoader(
        data, BATCH, shuffle=True, num_workers=workers, pin_memory=device.type == "cuda"
    )
    for images, labels in loader:
        labels.to(device, non_blocking=True)
        yield images.to(device, non_blocking=True)


def ours(data: Examples, augmentation: Augmentation) -> Iterator[Tensor]:
    """The batches of an epoch of a split of this project."""
    for images, _ in data.batches(BATCH, torch.randperm(len(data)), augmentation, seed=0):
        yield images


def speed(epoch: Callable[[], Iterator[Tensor]], device: torch.device) -> tuple[float, float]:
    """Images of an epoch per second, and per second of processor time."""
    processor_start, start = processor_time(), time.perf_counter()
    n = sum(len(images) for images in epoch())
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return n / seconds, n / (processor_time() - processor_start)


def processor_time() -> float:
    """Seconds of processor time of this process and of its children that have ended."""
    both = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    own, children = (resource.getrusage(who) for who in both)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def device_images(device: torch.device) -> Tensor:
    """Random images on the device, (N, 3, 32, 32)."""
    generator = torch.Generator().manual_seed(0)
    shape = (ON_DEVICE, 3, 32, 32)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator).to(device)


def ours_on_device(images: Tensor, augmentation: Augmentation) -> Iterator[Tensor]:
    """The batches of an epoch of augmented images, whose random draws are made at once."""
    parameters = sample_parameters(augmentation, len(images), (32, 32), 0, images.device)
    for chosen in torch.randperm(len(images), device=images.device).split(BATCH):
        yield augment(images[chosen] / 128 - 1, augmentation, parameters.select(chosen))


def kornia_epoch(images: Tensor) -> Callable[[], Iterator[Tensor]] | None:
    """An epoch of the same augmentation by kornia; None if it isn't installed."""
    try:
        import kornia.augmentation as K
    except ImportError:
        return None
    augmentation = torch.nn.Sequential(
        K.RandomCrop((32, 32), padding=4),
        K.RandomHorizontalFlip(0.5),
        K.RandomErasing(p=1.0, scale=(1 / 16, 1 / 16), ratio=(1.0, 1.0)),
    )

    def epoch() -> Iterator[Tensor]:
        for chosen in torch.randperm(len(images), device=images.device).split(BATCH):
            yield augmentation(images[chosen] / 128 - 1)

    return epoch


def compare(
    table: Table,
    name: str,
    device: torch.device,
    repeats: int,
    our_epoch: Callable[[], Iterator[Tensor]],
    other_epoch: Callable[[], Iterator[Tensor]],
) -> None:
    """Add two rows with both speeds and their ratio: by wall-clock and by processor time."""
    for epoch in (our_epoch, other_epoch):
        next(iter(epoch()))  # the first batch may prepare something
    pairs = [(speed(our_epoch, device), speed(other_epoch, device)) for _ in range(repeats)]
    for i, unit in enumerate(("images/s", "images/processor s")):
        ratios = [a[i] / b[i] for a, b in pairs]
        median_ours, median_others = (
            statistics.median(pair[k][i] for pair in pairs) for k in range(2)
        )
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        table.add_row(
            name if i == 0 else "", unit, f"{median_ours:,.0f}", f"{median_others:,.0f}", spread
        )


def main() -> None:
    """Print a table of images per second, ours and others', and their ratios."""
    given = [int(text) for text in sys.argv[1:]]
    workers, repeats = (*given, *(2, 5)[len(given) :])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)  # as in a run on the CPU
    table = Table("what", "in", "ours", "others", "ratio", title=f"on {device.type}")
    small = Augmentation(crop=4, flip=True, cutout=8)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        large_files, small_files = Path(folder, "large"), Path(folder, "small")
        write_images(large_files, LARGE, 375, 500, "jpg")
        write_images(small_files, SMALL, 32, 32, "png")
        shares = {"validation": 0.02, "test": 0.02}
        config = DataConfig(
            name=f"folder:{large_files}", image_size=SIZE, loading="stream", **shares
        )
        stream = load_data(config).train.to(device)
        stream = replace(stream, num_workers=workers)  # type: ignore[type-var]
        crops = Augmentation(flip=True, crop_area=0.08)
        compare(
            table,
            f"stream, 500x375 to {SIZE}, {workers} workers",
            device,
            repeats,
            lambda: ours(stream, crops),
            lambda: plain(Plain(large_files, area=0.08), workers, device),
        )
        memory = load_data(DataConfig(name=f"folder:{small_files}", **shares)).train.to(device)
        compare(
            table,
            f"memory, 32x32, beside {workers} workers",
            device,
            repeats,
            lambda: ours(memory, small),
            lambda: plain(Plain(small_files), workers, device),
        )
    images = device_images(device)
    kornia = kornia_epoch(images)
    if kornia is None:
        print("kornia isn't installed: its variation on the device isn't timed")
    else:
        compare(
            table,
            "variation on the device, 32x32, beside kornia",
            device,
            repeats,
            lambda: ours_on_device(images, small),
            kornia,
        )
    Console(width=110).print(table)
    print(
        f"{len(os.sched_getaffinity(0))} cores, torch {torch.__version__}, "
        f"Pillow {PIL.__version__}, numpy {np.__version__}, batches of {BATCH}"
    )


if __name__ == "__main__":
    main()
