"""Ridge regression in closed form, for every fold and penalty of a site."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from leadline.probes.fit import SiteFit
from leadline.probes.fitted import LinearFamily
from leadline.probes.folds import check_design, check_labels, fold_moments, training_rows
from leadline.probes.grid import penalties
from leadline.probes.leave_one_out import LeaveOneOut, leave_one_out

__all__ = ["DEFAULT_L2", "Ridge", "signed_targets", "solve_primal"]

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
        targets = signed_targets(Y)
        n, d = X.shape
        m, grid = Y.shape[1], self.grid
        omega = np.ones(n) if weights is None else weights
        Z = (X - moments.mean) / moments.scale
        origin = omega @ targets / omega.sum()
        targets = targets - origin
        # Every fold's Gram matrix is the sum of the other folds' parts: one pass over the rows serves them all.
        primal = d <= n
        parts = (
            [_products(Z[fold == k], targets[fold == k], omega[fold == k]) for k in range(n_folds)] if primal else []
        )
        total = parts[0] if parts else _products(Z, targets, omega) if primal else ()
        for part in parts[1:]:
            total = tuple(one + other for one, other in zip(total, part, strict=True))
        shape = (len(grid), n_folds + 1, m)
        # With many targets the folds' coefficients are the largest array by far, and their use needs no more digits.
        fold_coef = np.empty((len(grid), n_folds, m, d), dtype=np.float32)
        coef, intercept = np.empty((len(grid), m, d)), np.empty(shape)
        objective = np.empty(shape)
        scores = np.full((len(grid), n, m), np.nan, dtype=np.float32)
        for k in range(n_folds + 1):
            rows = training_rows(fold, k)
            share = omega[rows] / omega[rows].sum()
            centre = share @ targets[rows]
            relative = moments.fold_scale[k] / moments.scale
            shift = (moments.fold_mean[k] - moments.mean) / moments.scale
            if primal:
                gram, cross = (a - b for a, b in zip(total, parts[k], strict=True)) if k < n_folds else total
                weight = omega[rows].sum()
                gram = (gram / weight - np.outer(shift, shift)) / np.outer(relative, relative)
                cross = (cross / weight - np.outer(shift, centre)) / relative[:, None]
                standard, objective[:, k] = solve_primal(gram, cross, share @ np.square(targets[rows] - centre), grid)
            else:
                root = np.sqrt(share)[:, None]
                own = (Z[rows] - shift) / relative * root
                dual, objective[:, k] = _solve_dual(own, root * (targets[rows] - centre), grid)
                if k < n_folds:
                    # Scores by way of the rows, whose number is small here; then the coefficients in float32.
                    lift = own / moments.fold_scale[k]
                    held = ((X[~rows] - moments.fold_mean[k]) @ lift.T) @ dual.T
                    fold_coef[:, k] = (dual.astype(np.float32) @ lift.astype(np.float32)).reshape(len(grid), m, d)
                    at_mean = (dual @ (lift @ moments.fold_mean[k])).reshape(len(grid), m)
                    intercept[:, k] = centre + origin - at_mean
                    scores[:, ~rows] = held.reshape(-1, len(grid), m).swapaxes(0, 1) + centre + origin
                    continue
                standard = (dual @ own).reshape(len(grid), m, d)
            standard /= moments.fold_scale[k]
            intercept[:, k] = centre + origin - standard @ moments.fold_mean[k]
            if k < n_folds:
                fold_coef[:, k] = standard
                held = (X[~rows] - moments.fold_mean[k]) @ standard.reshape(-1, d).T
                scores[:, ~rows] = held.reshape(-1, len(grid), m).swapaxes(0, 1) + centre + origin
            else:
                coef = standard
        return SiteFit(
            settings=np.array(grid),
            scores=scores,
            coef=coef,
            intercept=intercept[:, -1],
            fold_coef=fold_coef,
            fold_intercept=intercept[:, :-1],
            objective=objective,
            gap=np.zeros(shape),
            status=np.zeros(shape, dtype=np.int8),
            iterations=np.zeros(shape, dtype=np.int32),
        )

    def leave_one_out(self, X: np.ndarray, Y: np.ndarray, weights: np.ndarray | None = None) -> LeaveOneOut:
        """Predict every row by the fit without it, and generalised cross-validation, for the whole grid at once.

        In closed form from one eigendecomposition, with the free intercept refitted for each row left out. The
        features are standardised once, over all rows, and a penalty stands for the same `alpha` = n·l2 whether a row
        is left out or not, as in scikit-learn's `RidgeCV`. Use it to choose a penalty; out-of-fold scores, which
        standardise inside the folds, are for judging.

        Parameters
        ----------
        X : (n, d) raw activations. Y : (n,) or (n, m); a binary target counts as −1 and +1.
        weights : (n,) ≥ 0. A row is left out whole, whatever its weight; one of weight 0 is predicted by the fit.

        Raises
        ------
        ProbeError : shapes or values that do not fit, or fewer than two rows that count.
        """
        Y = np.asarray(Y, dtype=np.float64)
        Y = Y[:, None] if Y.ndim == 1 else Y
        fold = np.full(len(Y), -1)
        check_design(X, Y, fold, weights)
        check_labels(Y, "continuous", self.name, fold, weights)
        moments = fold_moments(X, fold, 0, weights)
        omega = np.ones(len(X)) if weights is None else weights
        Z = (X - moments.mean) / moments.scale
        return leave_one_out(Z, signed_targets(Y), omega, self.grid)


def signed_targets(Y: np.ndarray) -> np.ndarray:
    """(n, m) float64: −1 and +1 where all values are 0 and 1, else as given."""
    return 2.0 * Y - 1 if np.isin(Y, (0.0, 1.0)).all() else Y.astype(np.float64)


def solve_primal(
    gram: np.ndarray, cross: np.ndarray, square: np.ndarray, grid: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Solve for every penalty from second moments of centred features and targets.

    A Cholesky factor a penalty costs no more than one eigendecomposition does for a dozen, and less for fewer.

    Parameters
    ----------
    gram : (d, d) Z'Z/n. cross : (d, m) Z'y/n. square : (m,) y'y/n.

    Returns
    -------
    (L, m, d) coefficients and (L, m) objectives.
    """
    solved = [_solve(gram, cross, l2) for l2 in grid]
    # At the minimum ½·mean(y − f)² + l2/2·‖w‖² is ½·(y'y/n − w'Z'y/n), so no pass over the rows is needed.
    objective = [0.5 * (square - np.einsum("dm,dm->m", cross, w)) for w in solved]
    return np.stack([w.T for w in solved]), np.maximum(objective, 0.0)


def _products(Z: np.ndarray, targets: np.ndarray, omega: np.ndarray) -> tuple[np.ndarray, ...]:
    """(d, d) and (d, m): weighted sums over the rows of zz' and of zy'."""
    weighted = Z * omega[:, None]
    return Z.T @ weighted, weighted.T @ targets


def _solve_dual(own: np.ndarray, right: np.ndarray, grid: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """From rows (r, d) and targets (r, m), both centred and times the root of their share.

    Returns
    -------
    (L·m, r) whose product with the rows are the coefficients, and (L, m) objectives.
    """
    gram = own @ own.T
    solved = [_solve(gram, right, l2) for l2 in grid]
    # Here the minimum is l2/2·y'(K + l2·I)⁻¹y, which keeps its digits where the fit runs through every point.
    objective = [0.5 * l2 * np.einsum("rm,rm->m", right, a) for l2, a in zip(grid, solved, strict=True)]
    return np.concatenate(solved, axis=1).T, np.stack(objective)


def _solve(gram: np.ndarray, right: np.ndarray, l2: float) -> np.ndarray:
    """(gram + l2·I)⁻¹ right by Cholesky; l2 > 0 keeps it positive definite but for rounding, which gets a floor."""
    shifted = gram.copy()
    floor = np.finfo(np.float64).eps * len(gram) * float(np.trace(gram)) / len(gram)
    shifted[np.diag_indices_from(shifted)] += max(l2, floor)
    factor = scipy.linalg.cho_factor(shifted, lower=True, overwrite_a=True, check_finite=False)
    return np.asarray(scipy.linalg.cho_solve(factor, right, check_finite=False))
