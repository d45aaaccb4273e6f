"""Kernels of our own for the CPU, compiled on the user's machine by Numba.

Imported when a plan first wants one: Numba takes a while to import, and to compile once.
"""

from spectrum.layers.kernels.depthwise import depthwise_backward
from spectrum.layers.kernels.norm import moments, norm_backward, scale_shift
from spectrum.layers.kernels.segments import segments_backward, segments_forward

__all__ = [
    "depthwise_backward",
    "moments",
    "norm_backward",
    "scale_shift",
    "segments_backward",
    "segments_forward",
]
