"""Faster ways to execute convolutions and batch normalisation.

Nothing here changes what a layer computes, except for rounding. Without this package all layers
run torch's own operators. ``spectrum.layers.acceleration`` is the only module through which layers
reach it; a function returns None where torch's operator is to run.

A *plan* is one way to execute a grouped convolution:

- ``native``: torch's own grouped convolution.
- ``merged``: torch's convolution with fewer, wider groups. Neighbouring segments share a block of
  the weight, of up to 16 channels, which is zero outside of their own parts. ``merged8``,
  ``merged32`` and ``merged64`` have blocks of up to so many channels.
- ``relaid``: torch's convolution on a copy of the images in channels_last.
- ``kernel``: a compiled kernel of this package, on the CPU alone.

``plan_of`` (``plans.py``) chooses the plan for a layer and its input. ``using_plan`` overrides its
choice. Else a training keeps to the plans that it began with (``keep_plans``), also when it is
resumed. Else it takes the plan that ``tune`` has found and stored for such a layer on this device.
Else, on a CPU of a kind that was measured, it takes the plan that is expected to be the fastest
(``plan_costs.py``), if that is faster by a fifth. Else, and wherever something needs to see the
module itself (a hook, a trace, an export), it is ``native``.
``execute.py`` carries the plan out.

``convolution.py`` says which compiled kernel computes a convolution: that of ``depthwise.py``,
``lanes.py`` or ``segments.py``. These and that of batch normalisation (``norm.py``) are Numba
functions written with explicit vector instructions (``simd.py``). They are compiled on the user's
machine (``compiled.py``), before a training begins (``prepare.py``), and cached on disk
(``cache.py``). Where one can't be compiled, torch's operators run from then on
(``availability.py``). Their modules are imported inside the functions that call a kernel, because
Numba takes long to import.
"""

from spectrum.kernels.eligibility import can_use_kernel
from spectrum.kernels.execute import convolve, pointwise_conv
from spectrum.kernels.normalize import normalize
from spectrum.kernels.plans import keep_plans, name_plans, plan_of, using_plan
from spectrum.kernels.prepare import compile_kernels
from spectrum.kernels.stored_plans import PLANS, Plan, check_plans
from spectrum.kernels.tune import time_plans, tune

__all__ = [
    "PLANS",
    "Plan",
    "can_use_kernel",
    "check_plans",
    "compile_kernels",
    "convolve",
    "keep_plans",
    "name_plans",
    "normalize",
    "plan_of",
    "pointwise_conv",
    "time_plans",
    "tune",
    "using_plan",
]
