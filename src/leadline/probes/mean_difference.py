"""The difference of class means, in raw activation space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from leadline.errors import ProbeError
from leadline.probes.fit import SiteFit
from leadline.probes.folds import check_design, training_rows

__all__ = ["MeanDifference"]


@dataclass(frozen=True)
class MeanDifference:
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

    def fit_site(self, X: np.ndarray, Y: np.ndarray, fold: np.ndarray) -> SiteFit:
        """Fit every (fold × target), and the refit on all rows; see `SiteFit`."""
        n_folds = check_design(X, Y, fold)
        if not np.isin(Y, (0.0, 1.0)).all():
            raise ProbeError("a mean difference needs a binary target of 0 and 1; use Ridge for a continuous one.")
        n, d = X.shape
        m = Y.shape[1]
        origin = X.mean(axis=0, dtype=np.float64)
        centred = X - origin
        shape = (1, n_folds + 1, m)
        coef, intercept = np.empty((*shape, d)), np.empty(shape)
        scores = np.empty((1, n, m), dtype=np.float32)
        for k in range(n_folds + 1):
            rows = training_rows(fold, k)
            y = Y[rows]
            counts = y.sum(axis=0)
            if (counts == 0).any() or (counts == len(y)).any():
                raise ProbeError(f"the training rows of fold {k} hold one class only; use fewer folds or more groups.")
            positive = (y / counts).T @ centred[rows]
            negative = ((1 - y) / (len(y) - counts)).T @ centred[rows]
            w = positive - negative
            b = -np.sum(w * (positive + negative), axis=1) / 2
            coef[0, k], intercept[0, k] = w, b - w @ origin
            scores[0, ~rows] = centred[~rows] @ w.T + b
        return SiteFit(
            l2=np.array([np.nan]),
            scores=scores,
            coef=coef[:, -1],
            intercept=intercept[:, -1],
            fold_coef=coef[:, :-1].astype(np.float32),
            fold_intercept=intercept[:, :-1],
            objective=np.full(shape, np.nan),
            gap=np.zeros(shape),
            converged=np.ones(shape, dtype=bool),
            iterations=np.zeros(shape, dtype=np.int32),
        )

    def smoothers(self, X: np.ndarray, fold: np.ndarray) -> Iterator[np.ndarray]:
        """(n_test, n_train) inner products a fold: with centred labels they give the score up to scale and constant."""
        for k in range(int(fold.max()) + 1):
            test = fold == k
            origin = X[~test].mean(axis=0, dtype=np.float64)
            yield np.asarray((X[test] - origin).astype(np.float32) @ (X[~test] - origin).astype(np.float32).T)
