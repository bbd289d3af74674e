"""Ridge regression in closed form, for every fold and penalty of a site."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from leadline.errors import ProbeError
from leadline.probes.fit import SiteFit
from leadline.probes.folds import check_design, fold_moments, training_rows

__all__ = ["DEFAULT_L2", "Ridge", "ridge_smoother"]

DEFAULT_L2 = tuple(float(f"{x:.0e}") for x in np.logspace(-3, 3, 7))


@dataclass(frozen=True)
class Ridge:
    """Ridge regression: mean of ½·(y − f)² + (l2/2)·‖w‖², intercept free, features standardised inside each fold.

    In closed form and in float64, from a d × d or n × n factorisation, whichever is smaller. `alpha` of scikit-learn
    is n · l2 with n the number of training rows. A binary target is fitted as −1 and +1, with the threshold at 0;
    several columns are fitted together.

    Parameters
    ----------
    l2 : one penalty, several (one is then chosen, and the choice corrected), or None for 1e-3, 1e-2, … 1e3.

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

    def smoother(self, X: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        """See `ridge_smoother`."""
        return ridge_smoother(X, train, test)


def _solve(gram: np.ndarray, right: np.ndarray, l2: float) -> np.ndarray:
    """(gram + l2·I)⁻¹ right by Cholesky; l2 > 0 keeps it positive definite but for rounding, which gets a floor."""
    shifted = gram.copy()
    floor = np.finfo(np.float64).eps * len(gram) * float(np.trace(gram)) / len(gram)
    shifted[np.diag_indices_from(shifted)] += max(l2, floor)
    factor = scipy.linalg.cho_factor(shifted, lower=True, overwrite_a=True, check_finite=False)
    return np.asarray(scipy.linalg.cho_solve(factor, right, check_finite=False))


def ridge_smoother(X: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """(n_test, n_train) ridge smoother whose penalty is set without labels.

    The penalty gives the fit a quarter of its possible degrees of freedom, Σ s/(s + l2) = min(n_train, d)/4 with s the
    eigenvalues of the training rows' correlation matrix: enough to read a concept that is spread over many
    directions, few enough to generalise.

    Parameters
    ----------
    X : (n, d) raw activations. train, test : (n,) bool.

    Returns
    -------
    (n_test, n_train) float32; times centred training labels it gives the test rows' scores, up to a constant.
    """
    rows = X[train].astype(np.float32)
    mean = rows.mean(axis=0, dtype=np.float64)
    scale = rows.std(axis=0, dtype=np.float64)
    scale = np.where(scale <= 1e-6 * np.abs(rows).max(axis=0), 1.0, scale)
    own = ((rows - mean) / scale).astype(np.float32)
    other = ((X[test] - mean) / scale).astype(np.float32)
    n, d = own.shape
    gram = (own.T @ own if d <= n else own @ own.T) / n
    values = np.clip(scipy.linalg.eigvalsh(gram, driver="evd", check_finite=False).astype(np.float64), 0, None)
    wanted = min(n, d, int((values > values.max() * 1e-6).sum())) / 4
    low, high = 1e-6, max(float(values.max()) * 1e3, 1e-3)
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        if (values / (values + middle)).sum() > wanted:
            low = middle
        else:
            high = middle
    gram[np.diag_indices_from(gram)] += np.float32(high)
    factor = scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    if d <= n:
        return np.asarray(other @ scipy.linalg.cho_solve(factor, own.T, check_finite=False) / n)
    return np.asarray(scipy.linalg.cho_solve(factor, own @ other.T, check_finite=False).T / n)
