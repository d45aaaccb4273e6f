"""Figures, tables and pages from DataFrames, and the command that reports costs.

Only that command, in ``__main__``, imports torch.
"""

import lazy_loader

# The names stand in __init__.pyi; each is imported when it is first asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
