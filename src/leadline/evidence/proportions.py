"""Proportions of rows that may come in groups: exact binomial intervals, and the checks that binary rows must pass.

Rows of one group are not independent, so an interval over rows would claim more than the data say. Here each group
counts as one observation, as if all its rows said the same: the widest interval that grouping can ask for.
"""

from __future__ import annotations

import numpy as np
import scipy.stats

from leadline.errors import EvidenceError
from leadline.probes.intervals import LEVEL, Estimate
from leadline.probes.splits import group_codes

__all__ = ["binary_rows", "check_folds", "clopper_pearson", "effective_size", "grouped_proportion"]


def clopper_pearson(hits: float, n: float) -> Estimate:
    """The proportion hits / n and its exact 95% interval (Clopper and Pearson 1934).

    low = Beta(α/2; x, n − x + 1), high = Beta(1 − α/2; x + 1, n − x), quantiles that also take fractional x and n, as
    effective sizes are. NaN where n is 0.
    """
    if not n:
        return Estimate(float("nan"))
    tail = (1 - LEVEL) / 2
    misses = n - hits
    # Sums of fractions may miss an end by rounding, and a quantile of Beta(0, ·) is not a number.
    low = 0.0 if hits <= 1e-9 * n else float(scipy.stats.beta.ppf(tail, hits, misses + 1))
    high = 1.0 if misses <= 1e-9 * n else float(scipy.stats.beta.ppf(1 - tail, hits + 1, misses))
    return Estimate(float(hits / n), low, high)


def effective_size(groups: np.ndarray | None, n: int) -> float:
    """Kish's number of independent rows, (Σ n_g)² / Σ n_g², if the rows of a group all say the same.

    It is the number of groups where they are equally large, and n without groups (Kish 1965, Survey Sampling).
    """
    if not n:
        return 0.0
    sizes = np.bincount(group_codes(groups, n)).astype(np.float64)
    return float(n**2 / np.square(sizes).sum())


def grouped_proportion(hits: np.ndarray, groups: np.ndarray | None) -> tuple[Estimate, float]:
    """The share of rows that are hits, with a Clopper-Pearson interval on the effective number of groups.

    The mean of values in [0, 1] varies no more than a coin of the same mean, so a group whose rows disagree makes the
    interval too wide, never too narrow; with singleton groups it is exact.

    Parameters
    ----------
    hits : (n,) bool. groups : (n,) labels, or None where each row is its own.

    Returns
    -------
    (the proportion with its interval, NaN without rows; the effective size that the interval stands on).
    """
    n = len(hits)
    size = effective_size(groups, n)
    return clopper_pearson(size * float(np.mean(hits)) if n else 0.0, size), size


def binary_rows(scores: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores as (n,) float64 and binary targets as (n,) bool.

    Raises
    ------
    EvidenceError : several columns, lengths that differ, scores that are not finite, or targets other than 0 and 1.
    """
    score, target = np.asarray(scores, dtype=np.float64), np.asarray(y, dtype=np.float64)
    for name, array in (("scores", score), ("targets", target)):
        if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] != 1):
            raise EvidenceError(f"got {name} of shape {array.shape}; expected (n,) or (n, 1): give one binary column.")
    score, target = score.reshape(-1), target.reshape(-1)
    if len(score) != len(target):
        raise EvidenceError(f"got {len(score)} scores and {len(target)} targets; give one of each a row.")
    if not np.isfinite(score).all():
        raise EvidenceError(f"{int((~np.isfinite(score)).sum())} scores are not finite; leave those rows out.")
    if not np.isin(target, (0.0, 1.0)).all():
        raise EvidenceError("got targets other than 0 and 1; code the classes so, and leave out rows without a label.")
    return score, target > 0


def check_folds(fold: np.ndarray, groups: np.ndarray | None, n: int) -> np.ndarray:
    """(n,) int folds, 2 or more of them, that keep groups whole.

    Raises
    ------
    EvidenceError : another shape, a row without a fold, one fold only, or a group that stands in several folds.
    """
    part = np.asarray(fold)
    if part.shape != (n,):
        raise EvidenceError(f"got folds of shape {part.shape} for {n} rows; give one a row.")
    if n and part.min() < 0:
        raise EvidenceError("got rows with a negative fold, which no fold tests; leave those rows out.")
    if len(np.unique(part)) < 2:
        raise EvidenceError("got fewer than 2 folds; what is fitted on one fold must be judged on another.")
    pairs = np.unique(np.stack([group_codes(groups, n), part]), axis=1)
    split = len(pairs[0]) - len(np.unique(pairs[0]))
    if split:
        raise EvidenceError(f"groups stand in more than one fold ({split} times); use folds that keep groups whole.")
    return part
