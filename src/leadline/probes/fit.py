"""What a family's fit at one site yields, and the Protocol that every family follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

__all__ = ["Family", "SiteFit"]


@dataclass(frozen=True)
class SiteFit:
    """Every fit at one site: L penalties × (K folds + the refit on all rows) × m target columns.

    Attributes
    ----------
    l2 : (L,) penalties; a single NaN for a family without one.
    scores : (L, n, m) float32, out of fold: row i is scored by the fit that did not train on its fold.
    coef : (L, m, d) float64 of the refit, for raw activations; intercept : (L, m).
    fold_coef : (L, K, m, d) float32 of the folds' fits, for raw activations; fold_intercept : (L, K, m).
    objective : (L, K + 1, m), mean loss + (l2/2)·‖w‖² in each fit's own standardised space; NaN without one.
    gap : (L, K + 1, m), upper bound of (objective − minimum) / objective; 0 for a closed form.
    converged : (L, K + 1, m) bool.
    iterations : (L, K + 1, m) int; 0 for a closed form.
    """

    l2: np.ndarray
    scores: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    fold_coef: np.ndarray
    fold_intercept: np.ndarray
    objective: np.ndarray
    gap: np.ndarray
    converged: np.ndarray
    iterations: np.ndarray


class Family(Protocol):
    """A kind of linear probe: a frozen specification that fits all folds and penalties of one site."""

    @property
    def name(self) -> str:
        """The name in files and tables, as in `"logistic"`."""
        ...

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of target that it takes: `"binary"`, `"continuous"`."""
        ...

    def fit_site(self, X: np.ndarray, Y: np.ndarray, fold: np.ndarray) -> SiteFit:
        """Fit at one site.

        Parameters
        ----------
        X : (n, d) raw activations. Y : (n, m); binary columns hold 0 and 1. fold : (n,) the fold that tests a row.
        """
        ...

    def smoothers(self, X: np.ndarray, fold: np.ndarray) -> Iterator[np.ndarray]:
        """For each fold, (n_test, n_train): maps centred training labels to test scores, without seeing a label.

        The permutation test scores thousands of shuffled labellings with it in one matrix product.
        """
        ...
