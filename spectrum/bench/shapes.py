"""Layers of many shapes along the dial, each layout compared with the library in that layout."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pandas as pd

from spectrum.bench.config import SHAPE, LayerBenchConfig
from spectrum.bench.layer import LAYOUTS, name_plan, prepared_layers
from spectrum.bench.summary import interval_columns
from spectrum.costs.timing import ratio, time_interleaved
from spectrum.errors import FieldError
from spectrum.segments import Segments

POINTS = ("1", "C/16", "C/8", "C/4", "C/2", "C")
"""The points that are timed by default: all channels a segment, then 16 to 1."""
ENOUGH = 0.97  # of the library's speed, below which a layer is measured again
REPEATS = 3  # times that it is measured again
_MODES = {"training": False, "inference": True}


def read_shapes(bench: LayerBenchConfig) -> list[LayerBenchConfig]:
    """Read the file of shapes.

    Returns:
        One configuration per row, with the settings of ``bench`` for all else.

    Raises:
        FieldError: the file can't be read, its columns are others, it has no rows, or a row can't
            be the shape of a layer.
    """
    path, others = bench.shapes, bench.model_dump(exclude={*SHAPE, "shapes"})
    assert path is not None
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise FieldError("shapes", str(path), f"can't be read: {error}") from error
    if [*rows.columns] != [*SHAPE] or rows.empty:
        allowed = f"must have rows with the columns {', '.join(SHAPE)}"
        raise FieldError("shapes", str(path), allowed)
    shapes = []
    for number, row in enumerate(rows.to_dict("records"), 2):
        shape = {name: row[name] for name in SHAPE}
        segments = ",".join(bench.segments or _distinct_points(shape["channels"]))
        try:
            shapes.append(LayerBenchConfig.checked(others | shape | {"segments": segments}))
        except FieldError as error:
            raise FieldError("shapes", str(path), f"line {number}: {error}") from None
    return shapes


def bench_shapes(shapes: list[LayerBenchConfig]) -> pd.DataFrame:
    """Time each layer along the dial in training and in inference.

    The layers of a shape are timed in turns, ours and the library's in both memory layouts, with
    inputs that lie in that layout. Where ours has less than 0.97 of the library's speed, it is
    measured again three times. It counts as slower if each of these intervals lies below 0.97.

    Args:
        shapes: the configurations of ``read_shapes``. Each gets an equal share of the ``seconds``
            for its first measurement.

    Returns:
        One row per shape, mode, point and layout: ``ms`` and ``native_ms``, and the library's time
        divided by ours as ``ratio``, with its 95% interval, and whether it is ``slower``.
    """
    return pd.DataFrame(
        row
        for shape, (mode, forward_only) in product(shapes, _MODES.items())
        for row in _time_shape(
            shape.model_copy(
                # Tuning once does for both modes.
                update={"forward_only": forward_only, "tune": shape.tune and not forward_only}
            ),
            mode,
            shape.seconds / len(shapes) / len(_MODES),
        )
    )


def compare_best(rows: pd.DataFrame) -> pd.DataFrame:
    """Compare our better layout with the library's better layout.

    Args:
        rows: the rows of ``bench_shapes``.

    Returns:
        One row per shape, mode and point, with its ``ratio``.
    """
    keys = [*SHAPE, "mode", "segments", "channels_per_segment"]
    best = rows.groupby(keys, sort=False, as_index=False)[["ms", "native_ms"]].min()
    return best.assign(ratio=best["native_ms"] / best["ms"])


def _distinct_points(channels: str) -> list[str]:
    """The default points that differ for a layer, such as those of more than one segment."""
    if not channels.isdecimal() or not int(channels):
        return [*POINTS]  # the configuration refuses it
    by_count = {Segments(point).count(int(channels)): point for point in reversed(POINTS)}
    return [*by_count.values()][::-1]


def _time_shape(
    config: LayerBenchConfig, mode: str, seconds: float
) -> Iterator[dict[str, str | float | bool]]:
    with prepared_layers(config) as (ours, x, steps):
        times = time_interleaved(steps, seconds=seconds, device=config.device)
        for (i, point), layout in product(enumerate(config.points), LAYOUTS):
            pair = [(kind, i, layout) for kind in ("ours", "native")]
            mine, native = (times[key] for key in pair)
            found = ratio(native, mine)
            slower = found.median < ENOUGH
            for _ in range(REPEATS if slower else 0):
                again = time_interleaved(
                    {key: steps[key] for key in pair},
                    seconds=seconds / len(steps),
                    device=config.device,
                )
                slower &= ratio(again[pair[1]], again[pair[0]]).interval[1] < ENOUGH
            yield {
                **config.model_dump(include={*SHAPE}),
                "mode": mode,
                "segments": point,
                "channels_per_segment": config.channels / ours[i].segment_count,
                "layout": layout,
                "plan": name_plan(config, ours[i], x, layout),
                "ms": 1000 * mine.median,
                "native_ms": 1000 * native.median,
                **interval_columns("ratio", *found),
                "slower": slower,
            }
