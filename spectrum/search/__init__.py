"""Searches of the dial with Optuna, on one machine or several. They share runs with studies."""

import lazy_loader

# __init__.pyi lists the public names. Each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
