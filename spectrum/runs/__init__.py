"""Runs: one network, trained once on one data set with one recipe and one seed.

A run is configured and named by its id (``config``), as one seed of a point (``point``, ``solve``,
``latency``, ``initial_weights``). A worker executes it (``execute``) and reports what happens
(``events``). Its files and its result are in the store (``store``).
"""

import lazy_loader

# The names are listed in __init__.pyi; each is imported on its first use.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
