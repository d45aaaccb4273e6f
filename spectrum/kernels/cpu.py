"""The compiled kernels of this package, in one place.

This module is imported when a kernel is first needed, inside the functions that call one: Numba
takes long to import, and longer to compile a kernel for the first time.
"""

from spectrum.kernels.depthwise import depthwise_backward
from spectrum.kernels.norm import moments, norm_backward, scale_shift
from spectrum.kernels.segments import segments_backward, segments_forward

__all__ = [
    "depthwise_backward",
    "moments",
    "norm_backward",
    "scale_shift",
    "segments_backward",
    "segments_forward",
]
