"""The difference of class means, in raw activation space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from leadline.probes.fit import SiteFit
from leadline.probes.fitted import LinearFamily
from leadline.probes.folds import check_design, check_labels, training_rows

__all__ = ["MeanDifference"]


@dataclass(frozen=True)
class MeanDifference(LinearFamily):
    """w = mean of the positive class − mean of the negative one; the threshold lies halfway between the two means.

    No penalty, no scaling, nothing to choose ("mass-mean" probing).

    References
    ----------
    S. Marks and M. Tegmark (2023), The Geometry of Truth, arXiv:2310.06824.
    """

    @property
    def name(self) -> str:
        return "mean_difference"

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("binary",)

    @property
    def parameter(self) -> None:
        return None

    @property
    def loss(self) -> str:
        return "log_loss"

    def fit_site(self, X: np.ndarray, Y: np.ndarray, fold: np.ndarray, *, weights: np.ndarray | None = None) -> SiteFit:
        """Fit every (fold × target), and the refit on all rows; see `Family`."""
        n_folds = check_design(X, Y, fold, weights)
        check_labels(Y, "binary", "mean difference", fold, weights)
        n, d = X.shape
        m = Y.shape[1]
        origin = X.mean(axis=0, dtype=np.float64)
        centred = X - origin
        omega = np.ones((n, 1)) if weights is None else weights[:, None]
        shape = (1, n_folds + 1, m)
        coef, intercept = np.empty((*shape, d)), np.empty(shape)
        scores = np.full((1, n, m), np.nan, dtype=np.float32)
        for k in range(n_folds + 1):
            rows = training_rows(fold, k)
            of_positive, of_negative = Y[rows] * omega[rows], (1 - Y[rows]) * omega[rows]
            positive = (of_positive / of_positive.sum(axis=0)).T @ centred[rows]
            negative = (of_negative / of_negative.sum(axis=0)).T @ centred[rows]
            w = positive - negative
            b = -np.sum(w * (positive + negative), axis=1) / 2
            coef[0, k], intercept[0, k] = w, b - w @ origin
            scores[0, ~rows] = centred[~rows] @ w.T + b
        return SiteFit.closed_form((np.nan,), scores, coef, intercept)

    def smoothers(self, X: np.ndarray, fold: np.ndarray) -> Iterator[np.ndarray]:
        """(n_test, n_train) inner products a fold: with centred labels they give the score up to scale and constant."""
        for k in range(int(fold.max()) + 1):
            test = fold == k
            origin = X[~test].mean(axis=0, dtype=np.float64)
            yield np.asarray((X[test] - origin).astype(np.float32) @ (X[~test] - origin).astype(np.float32).T)
