"""Images and labels in three fixed splits, with one file per kind of source."""

import lazy_loader

# __init__.pyi lists the public names. Each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
