"""Variances over few seeds, moderated by those of other pairs (empirical Bayes).

A variance over three seeds is hardly known, and other pairs of the study vary about as much. Smyth
(Linear models and empirical Bayes methods for assessing differential expression, 2004) takes the
true variances for draws from a scaled inverse chi-squared distribution, estimates its two
parameters from all of them, and uses the posterior means.

Pairs of a study aren't independent, and points may differ in how much their seeds vary. So the
prior is given at most the weight of a pair's own seeds, and half that of the other independent
variances, and no variance is made smaller than the pair's own seeds say. On simulated studies the
family-wise error then stays at 5%, or little above it in small studies where the seeds of one point
vary four times as much (``tests/analysis/test_moderation.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import scipy  # its parts are imported when they are first used

from spectrum.analysis.estimates import Estimate, Floats

_LARGEST = 1e6  # degrees of freedom that stand for a variance that all pairs share


def moderate(estimates: Sequence[Estimate], independent: float) -> list[Estimate]:
    """Moderate the variances over seeds.

    Estimates of one seed, or whose seeds don't differ at all, are left as they are.

    Args:
        estimates: of the differences of pairs.
        independent: the degrees of freedom of the independent variances among them: for p points
            with n seeds each, (p - 1)(n - 1).

    Returns:
        The estimates with other variances over seeds and their degrees of freedom.
    """
    varies = np.array([one.seeds > 1 and one.seed_variance > 0 for one in estimates], bool)
    if varies.sum() < 2:
        return list(estimates)
    # The variance of one seed, so that pairs with other numbers of seeds are alike.
    variances = np.array([one.seed_variance * one.seeds for one in estimates])
    dfs = np.array([one.seed_df for one in estimates])
    prior_df, prior = _fit_prior(variances[varies], dfs[varies])
    weights = np.minimum(np.minimum(prior_df, dfs), ((independent - dfs) / 2).clip(min=0))
    mixed = np.maximum((weights * prior + dfs * variances) / (weights + dfs), variances)
    return [
        one._replace(seed_variance=float(variance) / one.seeds, seed_df=float(df))
        if is_moderated
        else one
        for one, variance, df, is_moderated in zip(
            estimates, mixed, dfs + weights, varies, strict=True
        )
    ]


def _fit_prior(variances: Floats, dfs: Floats) -> tuple[float, float]:
    """The degrees of freedom and the variance of the prior, by the moments of the logarithms."""
    logs = np.log(variances) - scipy.special.digamma(dfs / 2) + np.log(dfs / 2)
    mean = float(logs.mean())
    trigamma = partial(scipy.special.zeta, 2)
    spread = float(logs.var(ddof=1)) - float(trigamma(dfs / 2).mean())
    if spread <= trigamma(_LARGEST / 2):
        return _LARGEST, float(np.exp(mean))
    half = scipy.optimize.brentq(lambda x: trigamma(x) - spread, 1e-8, _LARGEST / 2)
    return 2 * half, float(np.exp(mean + scipy.special.digamma(half) - np.log(half)))
