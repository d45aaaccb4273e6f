"""What is claimed of pairs of points: that they differ, or that they are equal within a margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from spectrum.analysis.estimates import Estimate, Floats, bounds

Verdict: TypeAlias = Literal["different", "slightly different", "equal", "unknown"]
ERROR = 1 - 0.95


@dataclass(frozen=True)
class Criteria:
    """What a study claims, and how surely. It is fixed before training.

    Attributes:
        against: the point that all others are compared with; None for all pairs.
        equal_within: points are equal if they differ by less than this, in percentage points.
        look: how often the results have been looked at, 1 for the first time. A study that has
            grown is looked at again. 0 while runs are missing, when nothing is claimed.
    """

    against: str | None = None
    equal_within: float = 1.0
    look: int = 1

    @property
    def error(self) -> float:
        """The probability of a false claim at this look. It sums to 10% over all looks.

        The first look spends half of the 10%, and each further look half of what is left. Look 0
        spends nothing.
        """
        return ERROR * 0.5 ** (self.look - 1) if self.look else 0.0


CRITERIA = Criteria()
"""Those of a study that says nothing else."""


def judge(pairs: Sequence[Estimate], criteria: Criteria) -> list[Verdict]:
    """Judge all pairs about which a study makes claims.

    Points are different if the interval of their difference excludes 0, by Holm's method over all
    pairs. They are equal if the interval at the level 1 - 2 error / pairs lies within the margin
    (two one-sided tests, with Bonferroni's correction). The probability of a false difference
    among all pairs is at most the error, and so is that of a false equality. With one seed nothing
    is claimed to be equal, since other seeds may differ. At look 0 all pairs are unknown.
    """
    if criteria.error == 0:
        return ["unknown"] * len(pairs)
    within = _are_within(pairs, criteria.equal_within, criteria.error)
    verdicts: list[Verdict] = []
    for pair, sign, is_within in zip(
        pairs, significant_signs(pairs, criteria.error), within, strict=True
    ):
        is_equal = bool(is_within) and pair.seeds > 1
        if sign:
            verdicts.append("slightly different" if is_equal else "different")
        else:
            verdicts.append("equal" if is_equal else "unknown")
    return verdicts


def _are_within(pairs: Sequence[Estimate], margin: float, error: float) -> Floats:
    """Whether each of the pairs is shown to differ by less than a margin in percentage points."""
    ends = bounds(pairs, 1 - 2 * error / max(len(pairs), 1))
    return np.asarray(100 * np.abs(ends).max(axis=1, initial=0) < margin)


def significant_signs(pairs: Sequence[Estimate], error: float = ERROR) -> list[int]:
    """The sign of each difference that is significant, and 0 for the others.

    Holm's procedure corrects for the number of pairs that aren't significant yet.
    """
    found = np.zeros(len(pairs), dtype=int)
    while (found == 0).any():
        ends = bounds(pairs, 1 - error / np.count_nonzero(found == 0))
        now = (ends[:, 0] > 0).astype(int) - (ends[:, 1] < 0)
        if (now == found).all():
            break
        found = now
    return [int(sign) for sign in found]
