"""Recall at a fixed false-positive rate, by exact order statistics.

The threshold is the k-th largest of n₀ calibration negatives, and a row fires where its score exceeds it strictly. The
rate of a new, exchangeable negative is then k / (n₀ + 1) in expectation, whatever the distribution of scores (the split
conformal argument; Vovk, Gammerman and Shafer 2005), and for continuous scores the rate that this one threshold has is
Beta(k, n₀ + 1 − k) distributed (Wilks 1941). k is the largest whole number with k / (n₀ + 1) ≤ the asked rate: never
the nearest, which may lie above. Where even k = 1 is too many, the rate is `unattainable`; nothing is extrapolated.
Ties only help: rows that tie with the threshold do not fire, so both statements become upper bounds.

**Groups.** Negatives of one group are not independent. Where a group holds several, its *largest* score is its one
calibration negative, n₀ counts groups, and the guarantee is about groups: the chance that a new group of negatives
fires at all. This is stricter than a rate of rows, uses every row, and depends on no draw. The realised rate then
counts groups as well, so that its Clopper-Pearson interval is exact; the rate of rows stands beside it without one.
Recall stays a share of rows, with the interval of its effective number of groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

from leadline.errors import EvidenceError
from leadline.evidence.proportions import binary_rows, check_folds, clopper_pearson, grouped_proportion
from leadline.probes.intervals import Estimate
from leadline.probes.splits import group_codes

__all__ = [
    "RATES",
    "OperatingPoint",
    "Threshold",
    "cross_fitted_recall",
    "exact_threshold",
    "recall_at_fpr",
]

RATES = (0.01, 0.05, 0.1)
UPPER_LEVEL = 0.95


@dataclass(frozen=True)
class Threshold:
    """A threshold by order statistics, and what is known of its false-positive rate before any test.

    Attributes
    ----------
    asked : the false-positive rate that was asked for. rank : k, 0 where it is unattainable. n_negatives : n₀.
    value : fire where the score is above it, strictly; None where the rate is unattainable.
    expected_rate : k / (n₀ + 1) ≤ asked, the expected rate of new negatives (a bound where scores tie).
    upper_rate : with 95% confidence the rate at this very threshold is no higher: Beta(.95; k, n₀ + 1 − k).
    smallest_rate : 1 / (n₀ + 1), the smallest rate that n₀ negatives can hold.
    """

    asked: float
    rank: int
    n_negatives: int
    value: float | None
    expected_rate: float
    upper_rate: float
    smallest_rate: float


@dataclass(frozen=True)
class OperatingPoint:
    """What a probe catches at a false-positive rate.

    Attributes
    ----------
    status : "attained" or "unattainable".
    threshold : for use, with its guarantee; its `value` is None where the rate is unattainable.
    unit : what n₀, `realised`, `n_negatives` and `n_false` count: "row", or "group" where a group has several
        negatives.
    realised : rate of false positives on held-out negatives, with a Clopper-Pearson interval; None if unattainable.
    n_false, n_negatives : the held-out negatives that fired, and all of them.
    row_rate : the share of held-out negative *rows* that fired; no interval.
    recall : share of held-out positive rows that fired, with a Clopper-Pearson interval on `n_effective` groups; it
        is the recall of this threshold, so the draw of the threshold is no part of it. None if unattainable.
    n_hits, n_positives : the held-out positive rows that fired, and all of them.
    fold_thresholds : those that the folds were judged at; empty where calibration and test rows were given apart.
    reason : why figures are missing, or an empty string.
    """

    status: str
    threshold: Threshold
    unit: str
    realised: Estimate | None
    n_false: int
    n_negatives: int
    row_rate: float
    recall: Estimate | None
    n_hits: int
    n_positives: int
    n_effective: float
    fold_thresholds: tuple[Threshold, ...]
    reason: str


def exact_threshold(negatives: np.ndarray, rate: float) -> Threshold:
    """The smallest threshold whose expected false-positive rate is at most `rate`.

    Parameters
    ----------
    negatives : (n₀,) scores of negatives that the probe was not fitted on, one an independent unit.
    rate : between 0 and 1, both excluded.

    Raises
    ------
    EvidenceError : a rate outside that range, or scores that are not finite.
    """
    if not 0 < rate < 1:
        raise EvidenceError(f"got a false-positive rate of {rate}; expected one above 0 and below 1.")
    scores = np.asarray(negatives, dtype=np.float64).ravel()
    if not np.isfinite(scores).all():
        raise EvidenceError("some negatives' scores are not finite; leave those rows out.")
    n = len(scores)
    # 0.29 · 100 is 28.999…96 in floating point, while 29 / 100 is the same number as 0.29.
    k = math.floor(rate * (n + 1) + 1e-9)
    if k / (n + 1) > rate:
        k -= 1
    smallest = 1 / (n + 1)
    if k < 1:
        return Threshold(rate, 0, n, None, float("nan"), float("nan"), smallest)
    value = float(np.partition(scores, n - k)[n - k])
    upper = float(scipy.stats.beta.ppf(UPPER_LEVEL, k, n + 1 - k))
    return Threshold(rate, k, n, value, k / (n + 1), upper, smallest)


def recall_at_fpr(
    cal_scores: np.ndarray,
    cal_y: np.ndarray,
    test_scores: np.ndarray,
    test_y: np.ndarray,
    rates: Sequence[float] = RATES,
    groups: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[OperatingPoint, ...]:
    """Thresholds from calibration rows, judged on test rows of the same probe; the probe was fitted on neither.

    Parameters
    ----------
    cal_scores, cal_y : (n,) or (n, 1) scores and 0/1 targets. test_scores, test_y : likewise, of other rows.
    rates : false-positive rates, between 0 and 1.
    groups : (labels of the calibration rows, labels of the test rows), or None where each row is its own.

    Returns
    -------
    One `OperatingPoint` a rate, in order.

    Raises
    ------
    EvidenceError : rows that `binary_rows` refuses, a rate out of range, or a group that stands on both sides.
    """
    cal, cal_positive = binary_rows(cal_scores, cal_y)
    test, test_positive = binary_rows(test_scores, test_y)
    if groups is None:
        codes = np.arange(len(cal) + len(test))
    else:
        sides = [np.asarray(side, dtype=str) for side in groups]
        if [side.shape for side in sides] != [cal.shape, test.shape]:
            raise EvidenceError(
                f"got groups of shapes {', '.join(str(s.shape) for s in sides)} for {len(cal)} calibration and "
                f"{len(test)} test rows; give one label a row of each."
            )
        shared = np.intersect1d(sides[0], sides[1])
        if len(shared):
            raise EvidenceError(
                f"{len(shared)} groups, {str(shared[0])!r} among them, stand in both calibration and test rows; "
                "keep groups whole."
            )
        codes = group_codes(np.concatenate(sides), len(cal) + len(test))
    cal_codes, test_codes = codes[: len(cal)], codes[len(cal) :]
    unit = _unit(codes, np.concatenate([cal_positive, test_positive]))
    negatives = _largest(cal[~cal_positive], cal_codes[~cal_positive])
    points = []
    for rate in rates:
        threshold = exact_threshold(negatives, rate)
        if threshold.value is None:
            points.append(_unattainable(threshold, unit))
            continue
        points.append(_judge(threshold, (), test > threshold.value, test_positive, test_codes, unit))
    return tuple(points)


def cross_fitted_recall(
    scores: np.ndarray,
    y: np.ndarray,
    fold: np.ndarray,
    rates: Sequence[float] = RATES,
    groups: np.ndarray | None = None,
) -> tuple[OperatingPoint, ...]:
    """Each fold is judged at the threshold that the negatives of the other folds set; counts are pooled.

    `threshold` is set by the out-of-fold negatives of all folds, for use with the probe that is refitted on all rows.

    *What holds.* Each fold was scored by its own probe, so the scores of different folds are exchangeable only as far
    as these probes agree in scale, and the guarantee is as good as that (cross-conformal prediction; Vovk 2015, Annals
    of Mathematics and Artificial Intelligence 74). Scores are not rescaled by fold: the refitted probe has a scale of
    its own too, and the mismatch between folds shows what that costs. *What the realised rate shows.* A negative that
    raises the thresholds of other folds is itself one that fires, so with equal scales the pooled rate is close to k /
    (n₀ + 1) by construction, closer than its interval. A rate well above the asked one betrays folds of different
    scale; one that is near it is no independent proof of the guarantee. For that, give `recall_at_fpr` rows apart.

    Parameters
    ----------
    scores : (n,) or (n, 1) out-of-fold scores. y : 0/1 targets. fold : (n,) the fold that tests a row.
    rates : between 0 and 1. groups : (n,) labels that the folds keep whole, or None where each row is its own.

    Returns
    -------
    One `OperatingPoint` a rate. It is unattainable where any fold's threshold is.

    Raises
    ------
    EvidenceError : rows that `binary_rows` refuses, folds that `check_folds` refuses, or a rate out of range.
    """
    score, positive = binary_rows(scores, y)
    n = len(score)
    part = check_folds(fold, groups, n)
    codes = group_codes(groups, n)
    unit = _unit(codes, positive)
    points = []
    for rate in rates:
        fired = np.zeros(n, dtype=bool)
        thresholds = []
        for k in np.unique(part):
            others = (part != k) & ~positive
            found = exact_threshold(_largest(score[others], codes[others]), rate)
            thresholds.append(found)
            if found.value is not None:
                fired[part == k] = score[part == k] > found.value
        fewest = min(thresholds, key=lambda t: t.n_negatives)
        if fewest.value is None:
            points.append(_unattainable(fewest, unit))
            continue
        threshold = exact_threshold(_largest(score[~positive], codes[~positive]), rate)
        points.append(_judge(threshold, tuple(thresholds), fired, positive, codes, unit))
    return tuple(points)


def _unit(codes: np.ndarray, positive: np.ndarray) -> str:
    counts = np.bincount(codes[~positive], minlength=1)
    return "group" if counts.max() > 1 else "row"


def _largest(scores: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(groups,) the largest score of each group."""
    members, local = np.unique(codes, return_inverse=True)
    largest = np.full(len(members), -np.inf)
    np.maximum.at(largest, local, scores)
    return largest


def _unattainable(threshold: Threshold, unit: str) -> OperatingPoint:
    reason = (
        f"unattainable: {threshold.n_negatives:,} negative {unit}s can hold a false-positive rate of "
        f"{threshold.smallest_rate:.2g} at least, and {threshold.asked:g} was asked; it needs "
        f"{math.ceil(1 / threshold.asked - 1e-9) - 1:,} negative {unit}s or more"
    )
    return OperatingPoint(
        "unattainable", threshold, unit, None, 0, 0, float("nan"), None, 0, 0, float("nan"), (), reason
    )


def _judge(
    threshold: Threshold,
    fold_thresholds: tuple[Threshold, ...],
    fired: np.ndarray,
    positive: np.ndarray,
    codes: np.ndarray,
    unit: str,
) -> OperatingPoint:
    false = fired[~positive]
    by_unit = _largest(false.astype(np.float64), codes[~positive]) > 0
    recall, n_effective = grouped_proportion(fired[positive], codes[positive])
    lacking = [name for name, rows in (("negatives", false), ("positives", fired[positive])) if not len(rows)]
    return OperatingPoint(
        status="attained",
        threshold=threshold,
        unit=unit,
        realised=clopper_pearson(int(by_unit.sum()), len(by_unit)),
        n_false=int(by_unit.sum()),
        n_negatives=len(by_unit),
        row_rate=float(false.mean()) if len(false) else float("nan"),
        recall=recall,
        n_hits=int(fired[positive].sum()),
        n_positives=int(positive.sum()),
        n_effective=n_effective,
        fold_thresholds=fold_thresholds,
        reason=f"the held-out rows hold no {' and no '.join(lacking)}" if lacking else "",
    )
