"""The columns of a table of costs, which counts fill in and reports sum and show."""

from __future__ import annotations

DIAL_COLUMNS = ("network", "order", "pointwise_segments", "shuffle")
"""The points of one dial share them."""

POINT_COLUMNS = (*DIAL_COLUMNS, "segments", "width", "miss", "classes", "input")
"""They tell one point from another."""

LAYER_COLUMNS = ("flow", "layer", "kind", "output_shape", "segment_count")
"""They describe one layer of a point."""

SUMMED_COLUMNS = (
    "params",
    "macs",
    "flops",
    "activations",
    "weight_bytes",
    "spatial_params",
    "pointwise_params",
    "spatial_macs",
    "pointwise_macs",
    "segmented_macs",
    "regular_macs",
    "separable_macs",
)
"""The costs of a layer; those of a flow or a network are their sums."""

OTHER_MACS = "other_macs"
"""A further cost, which tables have only if a network has some."""
