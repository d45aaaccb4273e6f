"""Speed on this machine, compared with other libraries: ``python -m spectrum.bench``.

No other part of the package imports this one.
"""

__all__: list[str] = []
