"""Draw schedules that spread over what a dial offers, and print them as a study's `segments`.

    python studies/shared_weights/draw.py 6 1,2,4,8 100

Layers that draw their segments independently make networks that are all alike: each has every
candidate about as often. So a schedule first draws how often it has each candidate (Dirichlet with
concentration 0.5), then its layers. Most schedules lean towards one or two candidates.
"""

from __future__ import annotations

import sys

import numpy as np


def draw(layers: int, candidates: list[str], count: int) -> list[str]:
    """Distinct schedules, each as text with one candidate for every layer."""
    rng, found = np.random.default_rng(0), {}
    while len(found) < count:
        shares = rng.dirichlet([0.5] * len(candidates))
        found["+".join(rng.choice(candidates, size=layers, p=shares))] = None
    return list(found)


if __name__ == "__main__":
    layer_count, named, wanted = sys.argv[1:4]
    lines = [f'    "{line}",' for line in draw(int(layer_count), named.split(","), int(wanted))]
    print("\n".join(["segments = [", *lines, "]"]))
