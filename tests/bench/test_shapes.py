"""Layers of a file of shapes: what is read, timed, compared and printed."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from spectrum.bench.config import SHAPE, LayerBenchConfig
from spectrum.bench.shapes import bench_shapes, compare_best, read_shapes
from spectrum.bench.summary import means_over_shapes
from spectrum.kernels import tune
from spectrum.kernels.plans import forget_plans
from spectrum.kernels.stored_plans import stored_plans
from tests.bench.conftest import Bench

ROOT = Path(__file__).parents[2]
HEAD = "channels,size,batch,kernel,stride\n"


def read(path: Path, text: str, **changes: object) -> list[LayerBenchConfig]:
    path.write_text(text)
    return read_shapes(LayerBenchConfig.checked({"shapes": path, "seconds": 0.01} | changes))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Two layers of 8 channels, one of them with a stride."""
    path = tmp_path_factory.mktemp("shapes") / "shapes.csv"
    return bench_shapes(read(path, HEAD + "8,6,2,3,1\n8,7,1,5,2\n"))


def test_each_row_is_a_layer_with_all_points_that_differ(tmp_path: Path) -> None:
    path = tmp_path / "shapes.csv"
    small, large = read(path, HEAD + "8,6,2,3,1\n64,7,1,5,2\n", precision="bfloat16")
    assert [getattr(small, name) for name in SHAPE] == [8, 6, 2, 3, 1]
    assert [getattr(large, name) for name in SHAPE] == [64, 7, 1, 5, 2]
    assert small.points == ("1", "C/4", "C/2", "C")  # C/8 is one segment too
    assert large.points == ("1", "C/16", "C/8", "C/4", "C/2", "C")
    assert small.precision == "bfloat16"
    (typed,) = read(path, HEAD + "8,6,2,3,1\n", segments="2,C")
    assert typed.points == ("2", "C")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "can't be read: No columns to parse"),
        (HEAD, "must have rows with the columns channels, size, batch, kernel, stride"),
        ("channels,size\n8,6\n", "must have rows with the columns channels, size, batch"),
        (HEAD + "8,6,2,3,1\n8,six,2,3,1\n", "line 3: size (='six') must be a valid integer"),
        (HEAD + "0,6,2,3,1\n", "line 2: channels (='0') must be greater than or equal to 1"),
        (HEAD + ",6,2,3,1\n", "line 2: channels (='') must be a valid integer"),
        (HEAD + "8,6,2,4,2\n", "line 2: stride (=2) must be 1 if the kernel is even"),
        ("\0\xff", "must have rows with the columns channels"),
    ],
)
def test_a_file_that_holds_no_shapes_is_refused(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(ValueError, match=r"shapes \(=") as raised:
        read(tmp_path / "shapes.csv", text)
    assert error in str(raised.value)
    assert "\n" not in str(raised.value)


def test_flags_that_the_file_decides_are_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "shapes.csv").write_text(HEAD + "8,6,2,3,1\n")
    result = bench("layer", f"--shapes={tmp_path / 'shapes.csv'}", "--kernel=5")
    assert result.status == 2
    assert "can't be combined with kernel" in result.err
    missing = bench("layer", "--shapes=missing.csv")
    assert "--shapes (='missing.csv') must be a file, such as benchmarks/layer_sh" in missing.err


def test_every_layer_is_compared_in_each_mode_and_layout(rows: pd.DataFrame) -> None:
    assert len(rows) == 2 * 2 * 4 * 2
    assert not rows.duplicated([*SHAPE, "mode", "segments", "layout"]).any()
    assert set(rows["channels_per_segment"]) == {8, 4, 2, 1}
    assert (rows["ratio_low"] <= rows["ratio"]).all()
    assert (rows["ratio"] <= rows["ratio_high"]).all()
    assert not (rows["slower"] & (rows["ratio"] >= 0.97)).any()


def test_the_better_layouts_are_compared(rows: pd.DataFrame) -> None:
    best = compare_best(rows)
    assert len(best) == 2 * 2 * 4
    for row in best.itertuples():
        same = rows[(rows["stride"] == row.stride) & (rows["mode"] == row.mode)]
        same = same[same["segments"] == row.segments]
        assert row.ratio == same["native_ms"].min() / same["ms"].min()
    means = means_over_shapes(best)
    narrow = best[(best["stride"] == 1) & best["segments"].isin(["C/4", "C/2"])]["ratio"]
    assert means["narrow"] == pytest.approx(math.prod(narrow) ** (1 / len(narrow)))
    training = best[best["mode"] == "training"]["ratio"]
    assert means["training"] == pytest.approx(math.prod(training) ** (1 / len(training)))


def test_shapes_are_printed_written_and_drawn(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "shapes.csv").write_text(HEAD + "8,6,2,3,1\n12,6,1,3,2\n")
    flags = (f"--shapes={tmp_path / 'shapes.csv'}", f"--out={tmp_path}", "--seconds=0.01")
    result = bench("layer", *flags, "--threads=1")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("2 convolutions along the dial, float32\n")
    assert "geometric means of the library's time over ours, each in its better" in result.out
    written = pd.read_csv(tmp_path / "bench" / "shapes.csv", dtype={"segments": str})
    assert f"in the same layout: {written['slower'].sum()} of {len(written)}\n" in result.out
    assert (tmp_path / "bench" / "shapes.png").read_bytes().startswith(b"\x89PNG")


def test_tuning_stores_plans_of_all_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("spectrum.bench.layer.tune", partial(tune, seconds=0))
    forget_plans()
    shapes = read(tmp_path / "shapes.csv", HEAD + "8,6,2,3,1\n", segments="2,4,C", tune=True)
    bench_shapes(shapes)
    assert len(stored_plans()) == 3 * 2 * 2  # points, layouts, modes
    forget_plans()


def test_running_out_of_memory_names_the_batch(tmp_path: Path) -> None:
    shapes = read(tmp_path / "shapes.csv", HEAD + "8,100000,1000000,3,1\n", segments="C")
    with pytest.raises(ValueError, match=r"batch \(=1000000\) must be smaller"):
        bench_shapes(shapes)


def test_the_shapes_of_the_project_can_be_read() -> None:
    shapes = read_shapes(LayerBenchConfig(shapes=ROOT / "benchmarks" / "layer_shapes.csv"))
    assert len(shapes) == 17
    assert [shapes[0].channels, shapes[0].size, shapes[0].batch] == [96, 56, 8]
