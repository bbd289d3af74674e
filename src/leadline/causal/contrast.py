"""How much a figure differs between the classes, or along a number: one linear functional for both, with its influence.

For classes, the mean where y is 1 minus the mean where it is 0. For numbers, the covariance with y in units of y's own
standard deviation: what the figure moves by over one standard deviation, by least squares. Either is Σ w_i x_i, so that
the contrasts of parts add up to that of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leadline.causal.intervals import Intervals, influence_interval, ratio_interval
from leadline.errors import CausalError

__all__ = ["Contrast"]


@dataclass(frozen=True, eq=False)
class Contrast:
    """Σ w_i x_i over the rows that have a label.

    Parameters
    ----------
    rows : the rows that count. y : (k,) their labels. weights : (k,) w. groups : (k,) of rows that err together.
    binary : y holds 0 and 1 alone.
    """

    rows: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    groups: np.ndarray | None
    binary: bool

    @classmethod
    def of(cls, y: np.ndarray, groups: np.ndarray | None = None) -> Contrast:
        """The contrast that labels (n,) define; NaN counts for nothing.

        Raises
        ------
        CausalError : fewer than two different labels, or groups for another number of rows.
        """
        label = np.asarray(y, dtype=np.float64)
        if label.ndim != 1:
            raise CausalError(f"got labels of shape {label.shape}; expected one a row.")
        rows = np.flatnonzero(np.isfinite(label))
        own = label[rows]
        if groups is not None and len(np.asarray(groups)) != len(label):
            raise CausalError(f"got {len(np.asarray(groups))} groups for {len(label)} rows; give one a row.")
        some = None if groups is None else np.asarray(groups)[rows]
        if len(np.unique(own)) < 2:
            raise CausalError(f"the {len(own)} labels are all alike; a difference needs rows of both classes.")
        binary = bool(np.isin(own, (0.0, 1.0)).all())
        if binary:
            weights = np.where(own == 1, 1 / np.count_nonzero(own == 1), -1 / np.count_nonzero(own == 0))
        else:
            weights = (own - own.mean()) / (len(own) * own.std())
        return cls(rows, own, weights, some, binary)

    def value(self, values: np.ndarray) -> np.ndarray:
        """(...) of values (..., n)."""
        return np.asarray(np.asarray(values, dtype=np.float64)[..., self.rows] @ self.weights)

    def estimate(self, values: np.ndarray) -> Intervals:
        """(...) of values (..., n), with intervals over groups."""
        x = np.asarray(values, dtype=np.float64)[..., self.rows]
        return influence_interval(x @ self.weights, self._influence(x), self.groups)

    def ratio(self, num: np.ndarray, den: np.ndarray) -> Intervals:
        """The contrast of one figure over that of another, both (..., n), with intervals over groups."""
        parts = []
        for values in (num, den):
            x = np.asarray(values, dtype=np.float64)[..., self.rows]
            # Sums to the contrast, and leaves its influence where the ratio is linearised.
            parts.append(self._influence(x) + (x @ self.weights)[..., None] / len(self.rows))
        return ratio_interval(parts[0], parts[1], self.groups)

    def _influence(self, x: np.ndarray) -> np.ndarray:
        """w_i times what is left of each row after its class's mean, or after the least-squares line."""
        if self.binary:
            ones = self.y == 1
            fitted = np.where(ones, x[..., ones].mean(-1, keepdims=True), x[..., ~ones].mean(-1, keepdims=True))
        else:
            z = (self.y - self.y.mean()) / self.y.std()
            fitted = x.mean(-1, keepdims=True) + (x @ self.weights)[..., None] * z
        return np.asarray(self.weights * (x - fitted))
