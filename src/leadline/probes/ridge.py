"""Ridge regression in closed form, for every fold and penalty of a site."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from leadline.errors import ProbeError
from leadline.probes.fit import SiteFit
from leadline.probes.folds import check_design, fold_moments, training_rows

__all__ = ["DEFAULT_L2", "Ridge", "ridge_smoothers"]

DEFAULT_L2 = tuple(float(f"{x:.0e}") for x in np.logspace(-3, 3, 13))


@dataclass(frozen=True)
class Ridge:
    """Ridge regression: mean of ½·(y − f)² + (l2/2)·‖w‖², intercept free, features standardised inside each fold.

    In closed form and in float64, from a d × d or n × n factorisation, whichever is smaller. `alpha` of scikit-learn
    is n · l2 with n the number of training rows. A binary target is fitted as −1 and +1, with the threshold at 0;
    several columns are fitted together.

    Parameters
    ----------
    l2 : one penalty, several (one is then chosen, and the choice corrected), or None for 1e-3, 3e-3, 1e-2, … 1e3.

    Raises
    ------
    ProbeError : a penalty that is not positive.

    References
    ----------
    A. E. Hoerl and R. W. Kennard (1970), Ridge regression, Technometrics 12.
    """

    l2: float | tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if any(not x > 0 for x in self.grid):
            raise ProbeError(f"l2 is {self.l2}; expected one or several positive numbers.")

    @property
    def name(self) -> str:
        return "ridge"

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("binary", "continuous")

    @property
    def grid(self) -> tuple[float, ...]:
        """The penalties that are tried."""
        if self.l2 is None:
            return DEFAULT_L2
        return (float(self.l2),) if isinstance(self.l2, int | float) else tuple(float(x) for x in self.l2)

    def fit_site(self, X: np.ndarray, Y: np.ndarray, fold: np.ndarray) -> SiteFit:
        """Fit every (l2 × fold × target), and the refit on all rows; see `SiteFit`."""
        n_folds = check_design(X, Y, fold)
        moments = fold_moments(X, fold, n_folds)
        targets = 2 * Y - 1 if np.isin(Y, (0.0, 1.0)).all() else Y.astype(np.float64)
        n, d = X.shape
        m, grid = Y.shape[1], self.grid
        Z = (X - moments.mean) / moments.scale
        # Every fold's Gram matrix is the sum of the other folds' parts: one pass over the rows serves them all.
        parts = [Z[fold == k].T @ Z[fold == k] for k in range(n_folds)] if d <= n else []
        total = np.sum(parts, axis=0) if parts else np.empty(0)
        shape = (len(grid), n_folds + 1, m)
        coef, intercept = np.empty((*shape, d)), np.empty(shape)
        objective = np.empty(shape)
        scores = np.empty((len(grid), n, m), dtype=np.float32)
        for k in range(n_folds + 1):
            rows = training_rows(fold, k)
            size = int(rows.sum())
            centre = targets[rows].mean(axis=0)
            relative = moments.fold_scale[k] / moments.scale
            shift = (moments.fold_mean[k] - moments.mean) / moments.scale
            y = targets[rows] - centre
            if parts:
                gram = (total - parts[k] if k < n_folds else total) / size - np.outer(shift, shift)
                gram /= np.outer(relative, relative)
                right = (Z[rows].T @ y / size - np.outer(shift, y.mean(axis=0))) / relative[:, None]
            else:
                own = (Z[rows] - shift) / relative
                gram, right = own @ own.T / size, y
            for index, l2 in enumerate(grid):
                solved = _solve(gram, right, l2)
                standard = solved if parts else own.T @ solved / size
                w = (standard / moments.fold_scale[k][:, None]).T
                coef[index, k] = w
                intercept[index, k] = centre - w @ moments.fold_mean[k]
                fitted = X @ w.T + intercept[index, k]
                residual = fitted[rows] - targets[rows]
                objective[index, k] = 0.5 * np.square(residual).mean(axis=0) + 0.5 * l2 * np.square(standard).sum(0)
                scores[index, ~rows] = fitted[~rows]
        return SiteFit(
            l2=np.array(grid),
            scores=scores,
            coef=coef[:, -1],
            intercept=intercept[:, -1],
            fold_coef=coef[:, :-1].astype(np.float32),
            fold_intercept=intercept[:, :-1],
            objective=objective,
            gap=np.zeros(shape),
            converged=np.ones(shape, dtype=bool),
            iterations=np.zeros(shape, dtype=np.int32),
        )

    def smoothers(self, X: np.ndarray, fold: np.ndarray) -> Iterator[np.ndarray]:
        """See `ridge_smoothers`."""
        return ridge_smoothers(X, fold)


def _solve(gram: np.ndarray, right: np.ndarray, l2: float) -> np.ndarray:
    """(gram + l2·I)⁻¹ right by Cholesky; l2 > 0 keeps it positive definite but for rounding, which gets a floor."""
    shifted = gram.copy()
    floor = np.finfo(np.float64).eps * len(gram) * float(np.trace(gram)) / len(gram)
    shifted[np.diag_indices_from(shifted)] += max(l2, floor)
    factor = scipy.linalg.cho_factor(shifted, lower=True, overwrite_a=True, check_finite=False)
    return np.asarray(scipy.linalg.cho_solve(factor, right, check_finite=False))


def ridge_smoothers(X: np.ndarray, fold: np.ndarray) -> Iterator[np.ndarray]:
    """Ridge smoothers of each fold, with a penalty set without labels: a tenth of the mean non-zero eigenvalue.

    The features are standardised over all rows, which needs no label either.

    Parameters
    ----------
    X : (n, d) raw activations. fold : (n,) the fold that tests a row.

    Yields
    ------
    (n_test, n_train) float32 for fold 0, 1, …; times centred training labels it gives the test rows' scores, up to a
    constant.
    """
    moments = fold_moments(X, fold, int(fold.max()) + 1)
    Z = ((X - moments.mean) / moments.scale).astype(np.float32)
    n, d = Z.shape
    penalty = np.float32(0.1 * max(float(np.square(Z, dtype=np.float64).sum()) / n / min(n, d), 1e-6))
    primal = d <= n
    parts = [Z[fold == k].T @ Z[fold == k] for k in range(int(fold.max()) + 1)] if primal else []
    total = np.sum(parts, axis=0) if primal else Z @ Z.T
    for k in range(int(fold.max()) + 1):
        test = fold == k
        own, other = Z[~test], Z[test]
        size = len(own)
        mean = own.mean(axis=0, dtype=np.float64).astype(np.float32)
        if primal:
            gram = (total - parts[k]) / size - np.outer(mean, mean)
            gram[np.diag_indices_from(gram)] += penalty
            factor = scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
            half = scipy.linalg.cho_solve(factor, (other - mean).T, check_finite=False).T
            yield np.asarray(half @ (own - mean).T / size)
        else:
            inner, cross = total[np.ix_(~test, ~test)], total[np.ix_(test, ~test)]
            column = inner.mean(axis=0)
            cross = cross - cross.mean(axis=1, keepdims=True) - column + column.mean()
            inner = (inner - column - column[:, None] + column.mean()) / size
            inner[np.diag_indices_from(inner)] += penalty
            factor = scipy.linalg.cho_factor(inner, lower=True, overwrite_a=True, check_finite=False)
            yield np.asarray(scipy.linalg.cho_solve(factor, cross.T, check_finite=False).T / size)
