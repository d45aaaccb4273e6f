"""The published numbers against the lines of their file and against the papers."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import spectrum.analysis.published as module
from spectrum.analysis import load_published
from spectrum.analysis.published import published_differences

TEXT = Path(module.__file__).with_suffix(".csv").read_text(encoding="utf-8")
LINES = list(csv.DictReader(TEXT.splitlines()))


@pytest.mark.parametrize("spatial_only", [True, False])
def test_the_rows_are_those_of_the_file(spatial_only: bool) -> None:
    rows = load_published(spatial_only)
    lines = [line for line in LINES if not spatial_only or line["grouped_op"].startswith("spatial")]
    assert list(rows.columns) == list(LINES[0])
    assert rows.index.tolist() == list(range(len(lines)))
    for name in ("segment_width", "value", "params", "macs"):
        values = [float(line[name] or "nan") for line in lines]
        np.testing.assert_array_equal(rows[name], values)
    for name in ("source", "architecture", "dataset", "grouped_op", "budget", "segments"):
        assert rows[name].tolist() == [line[name] for line in lines]


def test_grouped_pointwise_convolutions_are_left_out() -> None:
    assert "ShuffleNet" not in "".join(load_published()["source"])
    assert load_published(spatial_only=False)["source"].str.startswith("ShuffleNet").sum() == 10


def test_the_differences_are_those_of_the_papers() -> None:
    rows = published_differences("1")
    resnext = rows[rows["name"] == "ResNeXt, ResNet-50 bottleneck, equal MACs"]
    assert resnext["segments"].tolist() == ["1", "2", "4", "8", "32"]
    assert resnext["difference"].tolist() == pytest.approx([0, 0.009, 0.013, 0.016, 0.017])
    assert rows["name"].unique().tolist() == [
        "ResNeXt, ResNet-50 bottleneck, equal MACs",
        "ResNeXt, ResNet-101 bottleneck, equal MACs",
        "Deep Roots, Network-in-Network, fixed width",
        "Deep Roots, ResNet-50, fixed width",
        "MobileNet, MobileNet, fixed width",
    ]


def test_a_curve_needs_the_reference_and_another_point() -> None:
    rows = published_differences("C")  # Xception is alone at C, Inception V3 at 4
    assert rows["name"].unique().tolist() == ["MobileNet, MobileNet, fixed width"]
    assert dict(zip(rows["segments"], rows["difference"], strict=True)) == pytest.approx(
        {"1": 0.011, "C": 0}
    )
    assert len(published_differences("16")["name"].unique()) == 2
    with pytest.raises(ValueError, match=r"reference \(='C/8'\) must be on a published curve"):
        published_differences("C/8")
