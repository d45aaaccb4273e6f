"""Numbers from DataFrames of results: the measure, statistics, comparisons and fronts.

Nothing here imports torch or matplotlib.
"""

import lazy_loader

# The names stand in __init__.pyi; each is imported when it is first asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
