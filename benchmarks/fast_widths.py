"""Print which widths of segments are fast, by torch and by this project's plans.

    python benchmarks/fast_widths.py

The times are those of plan_times.csv: 3x3 convolutions of stride 1 on layers of random shapes. A
number is nanoseconds of one core for each value of the output, the median over layers. At the same
number of channels it is the time of the convolution, up to a factor. ``default`` and ``last``
are torch's convolution in its two memory layouts, ``ours`` is the plan that ``SegmentedConv`` takes
in channels_last, and ``layers`` says of how many layers the medians are.
"""

from __future__ import annotations

import pandas as pd
from fit_plans import choose, fit, read_times

FEWEST = 3  # layers that a median is of
PRECISIONS = ("float32", "bfloat16")
COLUMNS = ("default", "last", "ours", "layers")


def by_width(precision: str) -> pd.DataFrame:
    """Return the medians: a row for each width, columns by processor and mode."""
    times, x = read_times()
    for fitted, maker in zip(fit(times, x), ("AMD", "Intel"), strict=True):
        rows = times["maker"] == maker
        times.loc[rows, "ours_ms"] = choose(fitted, times[rows], x[rows])
    times = times[(times["precision"] == precision) & (times["kernel"] == 3)]
    times = times[times["stride"] == 1]
    values = times["channels"] * times["size"] ** 2 * times["batch"]
    last = times["layout"] == "channels_last"
    ways = {
        "default": times["native_ms"].where(~last),
        "last": times["native_ms"].where(last),
        "ours": times["ours_ms"].where(last),
    }
    core_ns = {way: ms * 1e6 * times["threads"] / values for way, ms in ways.items()}
    keys = [times["maker"], times["mode"], times["channels_per_segment"].rename("channels")]
    groups = pd.DataFrame(core_ns).groupby(keys)
    medians = groups.median().assign(layers=groups["ours"].count())
    medians = medians[medians["layers"] >= FEWEST]
    return medians.unstack([0, 1]).reorder_levels([1, 2, 0], axis=1).dropna(axis=1, how="all")


def main() -> None:
    """Print a table for each precision."""
    for precision in PRECISIONS:
        table = by_width(precision)
        calls = dict.fromkeys(column[:2] for column in table)
        columns = [(*call, column) for call in calls for column in COLUMNS]
        print(f"{precision}: ns per value of the output, by channels of a segment")
        print(f"{'':8}" + "".join(f"{', '.join(call):>32}" for call in calls))
        print(f"{'channels':8}" + "".join(f"{name:>8}" for *_, name in columns))
        for width, row in table[columns].iterrows():
            cells = (
                "-" if cell != cell else f"{cell:.0f}" if name == "layers" else f"{cell:.2f}"
                for (*_, name), cell in row.items()
            )
            print(f"{width:8}" + "".join(f"{cell:>8}" for cell in cells))
        print()


if __name__ == "__main__":
    main()
