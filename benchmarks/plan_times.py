"""Time each plan of the spatial convolution on layers of random shapes.

The model of costs in spectrum.kernels is fitted to these times (`python benchmarks/fit_plans.py`).
These calls add the rows of the machine at hand to plan_times.csv, for narrow segments, for unusual
ones, and for large inputs. The arguments are the number of shapes, the seed, the widths of
segments, and the least and the most values of an input, as powers of two:

    python benchmarks/plan_times.py 120 0 1,2,3,4,5,6,7,8,12,16,24,32,64 13 22
    python benchmarks/plan_times.py 40 1 9,10,13,14,20,26,28,40,52,91 13 22
    python benchmarks/plan_times.py 12 2 1,2,4,8 22 24
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from spectrum import SegmentedConv
from spectrum.kernels import time_plans
from spectrum.kernels.stored_plans import Plan
from spectrum.machine import device_name, keep_freed_memory

TABLE = Path(__file__).with_name("plan_times.csv")
WIDTHS_OF_A_SHAPE = 5
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
TYPES = (torch.float32, torch.bfloat16)
PLANS: tuple[Plan, ...] = ("native", "merged8", "merged", "merged32", "relaid", "kernel")
SECONDS = 0.15  # for all plans of a layer


def draw_shape(rng: np.random.Generator, fewest: int, most: int) -> dict[str, int]:
    """Draw the shape of a layer at random, most of them with round numbers of channels.

    Args:
        rng: draws it.
        fewest: the least number of values of the input, as a power of two.
        most: the greatest number.
    """
    while True:
        channels = round(2 ** rng.uniform(4, 10.6))
        if rng.random() < 0.8:
            channels = max(16, 8 * round(channels / 8))
        shape = {
            "channels": channels,
            "size": round(2 ** rng.uniform(2, 6.8)),
            "batch": 2 ** int(rng.integers(0, 8)),
            "kernel": int(rng.choice([3, 3, 3, 5, 7])),
            "stride": int(rng.choice([1, 1, 1, 2])),
            "threads": int(rng.integers(1, 3)),
        }
        values = channels * shape["size"] ** 2 * shape["batch"]
        if 2**fewest <= values <= 2**most:
            return shape


def time_shape(shape: dict[str, int], widths: list[int]) -> Iterator[dict[str, object]]:
    """Time all plans of a layer in each type, layout and mode; in milliseconds."""
    torch.set_num_threads(shape["threads"])
    channels, size, batch = shape["channels"], shape["size"], shape["batch"]
    for width, dtype, layout, mode in product(widths, TYPES, LAYOUTS, ("training", "inference")):
        conv = SegmentedConv(
            channels,
            channels,
            shape["kernel"],
            segments=channels // width,
            stride=shape["stride"],
            order="spatial_only",
        ).spatial
        memory_format = LAYOUTS[layout]
        conv.to(dtype).to(memory_format=memory_format)  # type: ignore[call-overload]
        x = torch.randn(batch, channels, size, size).to(dtype)
        x = x.contiguous(memory_format=memory_format)
        times = time_plans(
            conv,  # type: ignore[arg-type]
            x,
            seconds=SECONDS,
            forward_only=mode == "inference",
            plans=PLANS,
        )
        milliseconds = {plan: f"{1000 * times[plan]:.4g}" for plan in times}
        yield {
            "processor": device_name("cpu"),
            "precision": str(dtype).removeprefix("torch."),
            "layout": layout,
            "mode": mode,
            **shape,
            "channels_per_segment": width,
            **{f"{plan}_ms": milliseconds.get(plan, "") for plan in PLANS},
        }


def main() -> None:
    """Time random shapes; the first lines of this file explain the arguments."""
    count, seed, fewest, most = (int(sys.argv[i]) for i in (1, 2, 4, 5))
    keep_freed_memory()  # as in a run
    wanted, rng = [int(width) for width in sys.argv[3].split(",")], np.random.default_rng(seed)
    while count:
        shape = draw_shape(rng, fewest, most)
        possible = [w for w in wanted if shape["channels"] % w == 0 and w < shape["channels"]]
        if not possible:
            continue
        chosen = sorted(int(w) for w in rng.permutation(possible)[:WIDTHS_OF_A_SHAPE])
        rows = pd.DataFrame(time_shape(shape, chosen))
        rows.to_csv(TABLE, mode="a", header=not TABLE.exists(), index=False)
        count -= 1
        print(count, shape, chosen, flush=True)


if __name__ == "__main__":
    main()
