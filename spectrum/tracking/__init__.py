"""What happens in a study or search, and the trackers that record it."""

import lazy_loader

# __init__.pyi lists the public names. Each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
