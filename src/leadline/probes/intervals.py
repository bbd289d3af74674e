"""Percentile intervals by a bootstrap over groups, for figures that a probe of this room reports on its own.

A replicate is a vector of weights: how often each group was drawn. A figure that is a function of weighted sums then
has all its replicates in one matrix product. The fitted probes stay as they are; the intervals condition on them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leadline.errors import ProbeError
from leadline.probes.splits import group_codes

__all__ = ["LEVEL", "Estimate", "draw_groups", "percentile"]

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95% interval; NaN where the data cannot carry one."""

    value: float
    low: float = float("nan")
    high: float = float("nan")

    def __repr__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def draw_groups(
    n: int,
    n_replicates: int,
    seed: int,
    *,
    groups: np.ndarray | None = None,
    fold: np.ndarray | None = None,
) -> np.ndarray:
    """(n, 1 + B) float64: a column of ones, then how often each replicate drew the group of each row.

    Parameters
    ----------
    n : rows. n_replicates : B. groups : (n,) labels that are drawn whole; each row is its own without them.
    fold : (n,) int; each fold draws one group fewer than it has (Rao and Wu 1988), with weights that make up for it.

    Raises
    ------
    ProbeError : fewer than 100 replicates, of which no 95% interval can be read.
    """
    if n_replicates < 100:
        raise ProbeError(f"got {n_replicates} bootstrap replicates; a 95% interval needs 100 or more.")
    rng = np.random.default_rng([seed, 1])
    codes = group_codes(groups, n)
    part = np.zeros(n, dtype=np.int64) if fold is None else np.asarray(fold)
    drawn = np.ones((n, 1 + n_replicates))
    for k in np.unique(part):
        members, local = np.unique(codes[part == k], return_inverse=True)
        size = len(members)
        # One draw fewer than groups, weighted up to as many: n of n would understate a variance by (n − 1)/n.
        times = rng.multinomial(max(size - 1, 1), np.full(size, 1 / size), size=n_replicates).T
        drawn[part == k, 1:] = times[local.ravel()] * (size / max(size - 1, 1))
    return drawn


def percentile(replicates: np.ndarray) -> Estimate:
    """The figure and its interval from (1 + B,) values, the observed one first.

    Replicates that leave the figure undefined are left out; where more than a tenth do, there is no interval.
    """
    value, drawn = float(replicates[0]), replicates[1:]
    known = drawn[np.isfinite(drawn)]
    if len(known) < 0.9 * len(drawn) or not np.isfinite(value):
        return Estimate(value)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))
