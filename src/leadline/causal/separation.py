"""How far a model's answers set the classes apart, how far edits move them, and what edits take away of it.

With LD the log odds of the positive answers against the negative ones, and y the class of an example,

    natural difference   D = mean(LD | y = 1) − mean(LD | y = 0)
    signed effect        e = (1 − 2y) · (LD_edited − LD_clean), positive toward the other class
    indirect effect      NIE = mean e / D: 0 where nothing moves, 1 where the classes change places
    what is lost         1 − D_edited / D

Ratios are given an interval where that of D does not hold 0: otherwise they could be anything.

References
----------
S. Marks and M. Tegmark (2023), The Geometry of Truth, arXiv:2310.06824: the normalised indirect effect.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leadline.causal.contrast import Contrast
from leadline.causal.intervals import difference_interval, mean_interval, ratio_interval
from leadline.errors import CausalError
from leadline.probes.intervals import Estimate

__all__ = ["Separation"]


@dataclass(frozen=True, eq=False)
class Separation:
    """The clean log odds of labelled examples, to hold edited ones against.

    Parameters
    ----------
    clean : (n,) LD without interventions. y : (n,) 0 or 1. groups : (n,) rows that err together.
    partners : (n,) for edits that put in what another row has: the group of that row. Intervals then take into account
        that one row is in the effects on several.

    Raises
    ------
    CausalError : an example without a class or an answer, or of one class alone.
    """

    clean: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    partners: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not np.isin(self.y, (0.0, 1.0)).all() or len(np.unique(self.y)) < 2:
            raise CausalError(
                "examples need the class 0 or 1 (y=), some of each, to tell toward which class an answer moves."
            )
        if not np.isfinite(self.clean).all():
            raise CausalError("an example has no finite log odds of its answers; give positive and negative answers.")

    @property
    def sign(self) -> np.ndarray:
        """(n,) 1 − 2y: +1 where the other class is the positive one."""
        return np.asarray(1 - 2 * self.y)

    @property
    def n_groups(self) -> int:
        """How many groups the examples are of."""
        return len(np.unique(self.groups))

    @property
    def natural(self) -> Estimate:
        """D."""
        return difference_interval(self.clean, self.y, self.groups).estimate()

    @property
    def accuracy(self) -> Estimate:
        """The share of examples whose answer is their class."""
        return mean_interval(((self.clean > 0) == (self.y == 1)).astype(np.float64), self.groups).estimate()

    def signed(self, edited: np.ndarray) -> np.ndarray:
        """(..., n) e of edited log odds (..., n)."""
        return np.asarray(self.sign * (edited - self.clean))

    def mean(self, values: np.ndarray, rows: np.ndarray | None = None) -> Estimate:
        """The mean of a figure (n,) over the examples, or over `rows` (n,) bool; NaN without any."""
        some = self._some(rows)
        if not some.any():
            return Estimate(float("nan"))
        return mean_interval(np.asarray(values)[some], self.groups[some], self._partners(some)).estimate()

    def effect(self, edited: np.ndarray, rows: np.ndarray | None = None) -> Estimate:
        """Mean e of one edit (n,)."""
        return self.mean(self.signed(edited), rows)

    def share(self, edited: np.ndarray, rows: np.ndarray | None = None) -> Estimate:
        """NIE of one edit; NaN where `rows` are of one class."""
        some = self._some(rows)
        if len(np.unique(self.y[some])) < 2:
            return Estimate(float("nan"))
        return self._ratio(self.signed(edited)[some], self._natural_parts(self.clean, some), some)

    def flips(self, edited: np.ndarray, rows: np.ndarray | None = None) -> Estimate:
        """The share of examples that one edit makes answered otherwise."""
        return self.mean(((edited > 0) != (self.clean > 0)).astype(np.float64), rows)

    def lost(self, edited: np.ndarray) -> np.ndarray:
        """(...) D − D_edited, in nats."""
        contrast = Contrast.of(self.y)
        return np.asarray(contrast.value(self.clean) - contrast.value(edited))

    def lost_estimate(self, edited: np.ndarray) -> Estimate:
        """D − D_edited of one edit (n,), with an interval."""
        return difference_interval(self.clean - edited, self.y, self.groups).estimate()

    def lost_share(self, edited: np.ndarray) -> Estimate:
        """1 − D_edited/D of one edit."""
        some = self._some(None)
        return self._ratio(self._natural_parts(self.clean - edited, some), self._natural_parts(self.clean, some), some)

    def _some(self, rows: np.ndarray | None) -> np.ndarray:
        return np.ones(len(self.y), dtype=bool) if rows is None else np.asarray(rows, dtype=bool)

    def _partners(self, some: np.ndarray) -> np.ndarray | None:
        return None if self.partners is None else self.partners[some]

    def _natural_parts(self, values: np.ndarray, some: np.ndarray) -> np.ndarray:
        """(k,) a figure a row whose mean is the difference of the classes, with the influence of each row in it."""
        x, ones = values[some], self.y[some] == 1
        high, low = x[ones].mean(), x[~ones].mean()
        k = len(x)
        psi = np.where(ones, (x - high) / np.count_nonzero(ones), -(x - low) / np.count_nonzero(~ones))
        return np.asarray(k * psi + (high - low))

    def _ratio(self, num: np.ndarray, den: np.ndarray, some: np.ndarray) -> Estimate:
        groups = self.groups[some]
        found = ratio_interval(num, den, groups, self._partners(some)).estimate()
        whole = mean_interval(den, groups).estimate()
        if not (whole.low > 0 or whole.high < 0):
            return Estimate(found.value)
        return found
