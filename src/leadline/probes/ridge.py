"""Ridge regression in closed form, for every fold and penalty of a site."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from leadline.probes.fit import SiteFit
from leadline.probes.fitted import LinearFamily
from leadline.probes.folds import check_design, check_labels, fold_moments, training_rows
from leadline.probes.grid import penalties

__all__ = ["DEFAULT_L2", "Ridge"]

DEFAULT_L2 = tuple(float(f"{x:.0e}") for x in np.logspace(-3, 3, 13))


@dataclass(frozen=True)
class Ridge(LinearFamily):
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
        _ = self.grid

    @property
    def name(self) -> str:
        return "ridge"

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("binary", "continuous")

    @property
    def parameter(self) -> str:
        return "l2"

    @property
    def loss(self) -> str:
        return "squared_margin"

    @property
    def grid(self) -> tuple[float, ...]:
        """The penalties that are tried."""
        return penalties(self.l2, DEFAULT_L2)

    def fit_site(self, X: np.ndarray, Y: np.ndarray, fold: np.ndarray, *, weights: np.ndarray | None = None) -> SiteFit:
        """Fit every (l2 × fold × target), and the refit on all rows; see `Family`."""
        n_folds = check_design(X, Y, fold, weights)
        check_labels(Y, "continuous", self.name, fold, weights)
        moments = fold_moments(X, fold, n_folds, weights)
        targets = 2 * Y - 1 if np.isin(Y, (0.0, 1.0)).all() else Y.astype(np.float64)
        n, d = X.shape
        m, grid = Y.shape[1], self.grid
        omega = np.ones(n) if weights is None else weights
        Z = (X - moments.mean) / moments.scale
        # Every fold's Gram matrix is the sum of the other folds' parts: one pass over the rows serves them all.
        primal = d <= n
        parts = [(Z[fold == k].T * omega[fold == k]) @ Z[fold == k] for k in range(n_folds)] if primal else []
        total = np.sum(parts, axis=0) if parts else (Z.T * omega) @ Z if primal else np.empty(0)
        shape = (len(grid), n_folds + 1, m)
        coef, intercept = np.empty((*shape, d)), np.empty(shape)
        objective = np.empty(shape)
        scores = np.full((len(grid), n, m), np.nan, dtype=np.float32)
        for k in range(n_folds + 1):
            rows = training_rows(fold, k)
            share = omega[rows] / omega[rows].sum()
            centre = share @ targets[rows]
            relative = moments.fold_scale[k] / moments.scale
            shift = (moments.fold_mean[k] - moments.mean) / moments.scale
            y = targets[rows] - centre
            if primal:
                gram = (total - parts[k] if k < n_folds else total) / omega[rows].sum() - np.outer(shift, shift)
                gram /= np.outer(relative, relative)
                right = (Z[rows].T * share) @ y / relative[:, None]
            else:
                root = np.sqrt(share)[:, None]
                own = (Z[rows] - shift) / relative * root
                gram, right = own @ own.T, root * y
            for index, l2 in enumerate(grid):
                solved = _solve(gram, right, l2)
                standard = solved if primal else own.T @ solved
                w = (standard / moments.fold_scale[k][:, None]).T
                coef[index, k] = w
                intercept[index, k] = centre - w @ moments.fold_mean[k]
                fitted = X @ w.T + intercept[index, k]
                residual = fitted[rows] - targets[rows]
                objective[index, k] = 0.5 * share @ np.square(residual) + 0.5 * l2 * np.square(standard).sum(0)
                scores[index, ~rows] = fitted[~rows]
        return SiteFit.closed_form(grid, scores, coef, intercept, objective)


def _solve(gram: np.ndarray, right: np.ndarray, l2: float) -> np.ndarray:
    """(gram + l2·I)⁻¹ right by Cholesky; l2 > 0 keeps it positive definite but for rounding, which gets a floor."""
    shifted = gram.copy()
    floor = np.finfo(np.float64).eps * len(gram) * float(np.trace(gram)) / len(gram)
    shifted[np.diag_indices_from(shifted)] += max(l2, floor)
    factor = scipy.linalg.cho_factor(shifted, lower=True, overwrite_a=True, check_finite=False)
    return np.asarray(scipy.linalg.cho_solve(factor, right, check_finite=False))
