"""How fast things are on this machine, beside what else there is: ``python -m spectrum.bench``.

Nothing else of the package imports this room.
"""

__all__: list[str] = []
