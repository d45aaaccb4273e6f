"""Published networks and published results, for comparison with points of the dial.

Parameters and multiply-adds are those of convolutions and linear layers. They were counted with
fvcore on torchvision's networks (Inception V3 without its auxiliary head), and for Xception as in
table 3 of its paper (arXiv:1610.02357), each at the input size that its authors use.
"""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

import pandas as pd

from spectrum.errors import FieldError

_CURVE_COLUMNS = ["source", "architecture", "dataset", "budget", "metric"]


class PublishedNetwork(NamedTuple):
    """A published network and its costs.

    Attributes:
        name: its name in its paper.
        params: its trainable parameters, for 1000 classes.
        macs: the multiply-adds of its convolutions and linear layers for one image.
        side: the height and width of that image, in pixels.
    """

    name: str
    params: int
    macs: int
    side: int


PUBLISHED = (
    PublishedNetwork("Inception V3", 23_834_568, 5_713_216_096, 299),
    PublishedNetwork("VGG-16", 138_357_544, 15_470_264_320, 224),
    PublishedNetwork("ResNet-50", 25_557_032, 4_089_184_256, 224),
    PublishedNetwork("ResNeXt-50", 25_028_904, 4_230_479_872, 224),
    PublishedNetwork("Xception", 22_855_952, 8_357_403_496, 299),
)


def load_published(spatial_only: bool = True) -> pd.DataFrame:
    """Load published accuracies of networks with several numbers of segments.

    The sources are ResNeXt (Xie et al., arXiv:1611.05431, table 3), Deep Roots (Ioannou et al.,
    arXiv:1605.06489, the tables that its authors released), MobileNet (Howard et al.,
    arXiv:1704.04861, table 4), Xception (Chollet, arXiv:1610.02357, table 1) and ShuffleNet (Zhang
    et al., arXiv:1707.01083, table 2).

    Args:
        spatial_only: whether to leave out ShuffleNet, which divides its 1x1 convolutions and so
            has no place on this dial. Its networks are ``shufflenet_g1`` to ``shufflenet_g8``,
            whose ``pointwise_segments`` are the ``segments`` of the rows.

    Returns:
        One row per network: ``source``, ``architecture`` and ``dataset``; ``grouped_op``, the
        operation that is divided; ``budget``, what the networks of one curve have in common;
        ``segments`` as text, and ``segment_width``, the channels of one segment; ``metric`` and its
        ``value`` as a fraction; ``params`` and ``macs``; and ``provenance``. Numbers that the
        source doesn't print are missing (NaN).
    """
    with files("spectrum.analysis").joinpath("published.csv").open(encoding="utf-8") as file:
        numbers = dict.fromkeys(("segment_width", "value", "params", "macs"), float)
        rows = pd.read_csv(file, dtype={"segments": str, **numbers})
    if spatial_only:
        rows = rows[rows["grouped_op"].str.startswith("spatial")].reset_index(drop=True)
    return rows


def published_differences(reference: str) -> pd.DataFrame:
    """Compute how each published curve differs from its own value at the reference.

    Args:
        reference: the segments that differences are taken to, such as ``"1"`` or ``"C"``.

    Returns:
        One row per point of each curve that has the reference and another point: ``name`` (the
        paper, the architecture and the budget), ``segments``, and ``difference`` as a fraction.

    Raises:
        ValueError: If no curve has the reference.
    """
    curves = []
    rows = load_published()
    for (source, architecture, _, budget, _), curve in rows.groupby(_CURVE_COLUMNS, sort=False):
        at_reference = curve.loc[curve["segments"] == reference, "value"]
        if len(at_reference) == 1 and len(curve) > 1:
            curves.append(
                pd.DataFrame(
                    {
                        "name": f"{str(source).partition(' (')[0]}, {architecture}, {budget}",
                        "segments": curve["segments"],
                        "difference": curve["value"] - at_reference.iloc[0],
                    }
                )
            )
    if not curves:
        raise FieldError("reference", reference, "must be on a published curve, as '1' is")
    return pd.concat(curves, ignore_index=True)
