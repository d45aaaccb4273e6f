"""The dial from regular to depthwise separable convolution.

Between a regular convolution (one segment) and a depthwise separable one (one a channel) lies a
discrete spectrum. This package builds, counts, trains and compares networks along it.
"""

import lazy_loader

__version__ = "0.1.0"

# The names stand in __init__.pyi; each is imported when it is first asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
