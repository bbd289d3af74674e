"""Intervals of means, differences and ratios over examples, some of which belong together.

All go by influence: an estimate θ̂ that depends smoothly on sums over rows has θ̂ − θ ≈ Σ_i ψ_i, and rows of a group are
added before they are squared, since rows about one city or of one pair err together:

    Var θ̂ ≈ G/(G − 1) · Σ_g (Σ_{i∈g} ψ_i)²,        θ̂ ± t_{.975, G − 1} · √Var

A row that was exchanged with a partner errs with all rows that share its own group or its partner's, on either side:

    Var θ̂ ≈ G/(G − 1) · Σ_{i,j that share a group} ψ_i ψ_j

References
----------
K.-Y. Liang and S. L. Zeger (1986), Longitudinal data analysis using generalized linear models, Biometrika 73.
A. C. Cameron and D. L. Miller (2015), A practitioner's guide to cluster-robust inference, J. Human Resources 50.
P. M. Aronow, C. Samii and V. A. Assenova (2015), Cluster-robust variance estimation for dyadic data, Political Analysis
23: rows of two groups each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from leadline.errors import CausalError
from leadline.probes.intervals import LEVEL, Estimate
from leadline.probes.splits import group_codes

__all__ = ["Intervals", "difference_interval", "influence_interval", "mean_interval", "paired", "ratio_interval"]

# With two groups t has one degree of freedom, and an interval says nothing.
_LEAST_GROUPS = 3


@dataclass(frozen=True, eq=False)
class Intervals:
    """Figures with their 95% intervals, in arrays of any shape (...); bounds are NaN where there are too few groups.

    Parameters
    ----------
    value, low, high : (...) float64.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """(...) half the width of the intervals."""
        return np.asarray((self.high - self.low) / 2)

    def __getitem__(self, index: int | tuple[int, ...]) -> Estimate:
        return Estimate(float(self.value[index]), float(self.low[index]), float(self.high[index]))

    def __len__(self) -> int:
        return len(self.value)

    def estimate(self) -> Estimate:
        """The one figure, where the shape is ().

        Raises
        ------
        CausalError : there are several.
        """
        if self.value.ndim:
            raise CausalError(
                f"there are {self.value.size} figures of shape {self.value.shape}; expected one. Take one by its "
                f"index, as in intervals[0]."
            )
        return self[()]


def influence_interval(
    value: np.ndarray, influence: np.ndarray, groups: np.ndarray | None = None, partners: np.ndarray | None = None
) -> Intervals:
    """The interval of an estimate from the influence of each row.

    Parameters
    ----------
    value : (...) the estimates.
    influence : (..., n) ψ, what each row adds to the estimate's error; over all rows it sums to 0.
    groups : (n,) labels of rows that err together; each row is its own without them.
    partners : (n,) labels, of the same groups, of what each row was exchanged with; a row's own for none.

    Raises
    ------
    CausalError : no rows, groups for another number of them, or partners without groups.
    """
    value, psi = np.asarray(value, dtype=np.float64), np.asarray(influence, dtype=np.float64)
    n = psi.shape[-1] if psi.ndim else 0
    codes = _codes(groups, n)
    n_groups = int(codes.max()) + 1
    if n_groups < _LEAST_GROUPS:
        nothing = np.full(value.shape, np.nan)
        return Intervals(value, nothing, nothing)
    variance = _squares(psi, codes)
    if partners is not None:
        variance = np.maximum(variance, _shared_squares(psi, groups, partners))
    spread = np.sqrt(n_groups / (n_groups - 1) * variance)
    error = stats.t.ppf(0.5 + LEVEL / 2, df=n_groups - 1) * spread
    return Intervals(value, value - error, value + error)


def _squares(psi: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(...) Σ over codes of the square of the sum of their rows."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    return np.asarray(np.square(np.add.reduceat(psi[..., order], starts, axis=-1)).sum(axis=-1))


def _shared_squares(psi: np.ndarray, groups: np.ndarray | None, partners: np.ndarray) -> np.ndarray:
    """(...) Σ of ψ_i ψ_j over rows that share a group on either side.

    By group, what shares both groups comes twice, so that the pairs of groups are taken off once.
    """
    n = psi.shape[-1]
    if groups is None or np.shape(partners) != (n,):
        raise CausalError(
            f"partners of shape {np.shape(partners)} for {n} rows; give one a row, and groups to which they belong."
        )
    own, other = np.split(np.unique(np.concatenate([groups, partners]), return_inverse=True)[1].reshape(-1), 2)
    apart = own != other
    pair = np.minimum(own, other) * (n + int(own.max()) + int(other.max())) + np.maximum(own, other)
    both = np.concatenate([psi, psi[..., apart]], axis=-1)
    total = _squares(both, np.concatenate([own, other[apart]]))
    return total - _squares(psi[..., apart], pair[apart]) if apart.any() else total


def mean_interval(
    values: np.ndarray, groups: np.ndarray | None = None, partners: np.ndarray | None = None
) -> Intervals:
    """The mean over rows, m = Σ x_i / n, with ψ_i = (x_i − m)/n.

    Without groups this is Student's interval of a mean.

    Parameters
    ----------
    values : (..., n) a figure a row; a NaN makes the mean NaN.
    groups, partners : as of `influence_interval`.
    """
    x = np.asarray(values, dtype=np.float64)
    mean = _checked(x).mean(axis=-1)
    return influence_interval(mean, (x - mean[..., None]) / x.shape[-1], groups, partners)


def paired(first: np.ndarray, second: np.ndarray, groups: np.ndarray | None = None) -> Intervals:
    """The mean of first − second (..., n), row by row: what rows have in common cancels."""
    return mean_interval(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64), groups)


def difference_interval(values: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> Intervals:
    """The mean where y is 1 minus the mean where y is 0; groups may hold rows of both.

    ψ_i = ±(x_i − m_{y_i}) / n_{y_i}

    Parameters
    ----------
    values : (..., n). y : (n,) 0 or 1.

    Raises
    ------
    CausalError : a class without rows, or another value in `y`.
    """
    x, label = _checked(np.asarray(values, dtype=np.float64)), np.asarray(y, dtype=np.float64)
    ones, zeros = label == 1, label == 0
    if not (ones | zeros).all() or not ones.any() or not zeros.any() or label.shape != x.shape[-1:]:
        raise CausalError(
            f"a difference of classes needs y of 0 and 1 for {x.shape[-1]} rows, both there; got {len(label)} values, "
            f"{int(ones.sum())} of them 1 and {int(zeros.sum())} of them 0."
        )
    high, low = x[..., ones].mean(axis=-1), x[..., zeros].mean(axis=-1)
    psi = np.where(
        ones, (x - high[..., None]) / np.count_nonzero(ones), -(x - low[..., None]) / np.count_nonzero(zeros)
    )
    return influence_interval(high - low, psi, groups)


def ratio_interval(
    num: np.ndarray, den: np.ndarray, groups: np.ndarray | None = None, partners: np.ndarray | None = None
) -> Intervals:
    """The ratio of sums r = Σ a_i / Σ b_i, linearised: ψ_i = (a_i − r·b_i) / Σ b.

    Good where the denominator is far from 0 in its own standard errors; where it is 0 the ratio is NaN.

    Parameters
    ----------
    num, den : (..., n), of shapes that go together.
    """
    a, b = np.broadcast_arrays(np.asarray(num, dtype=np.float64), np.asarray(den, dtype=np.float64))
    _checked(a)
    total = b.sum(axis=-1)
    total = np.where(total == 0, np.nan, total)
    ratio = a.sum(axis=-1) / total
    return influence_interval(ratio, (a - ratio[..., None] * b) / total[..., None], groups, partners)


def _checked(x: np.ndarray) -> np.ndarray:
    if not x.ndim or not x.shape[-1]:
        raise CausalError(f"got values of shape {x.shape}; an interval over examples needs (..., n) with n over 0.")
    return x


def _codes(groups: np.ndarray | None, n: int) -> np.ndarray:
    if not n:
        raise CausalError("there are no rows; an interval over examples needs some.")
    if groups is not None and np.shape(groups) != (n,):
        raise CausalError(f"got groups of shape {np.shape(groups)} for {n} rows; give one a row.")
    return group_codes(groups, n)
