"""L1-penalised paths by every side: mean loss + l1·‖w‖₁ with a free intercept; `grid` holds l1 from large to small.

`*_lasso` take a binary target as −1 and +1 with the loss ½·(y − f)²; `*_logistic` minimise the log-loss.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from calls.design import Fits, parts

# Features by rows in float64 (Fortran order): what coordinate descent runs on.
Path = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

# The tolerances mean different things; each was set so that the relative duality gap comes near to 1e-5.
SKLEARN_ITER, SKLEARN_TOL, LIBLINEAR_TOL = 10_000, 1e-6, 1e-7
SKGLM_LASSO_TOL, SKGLM_LOGISTIC_TOL = 1e-7, 1e-7
CELER_LASSO_TOL, CELER_LOGISTIC_TOL = 1e-9, 1e-8
# liblinear penalises its intercept; the larger its constant feature, the less.
INTERCEPT_SCALING = 1000.0


def _leadline(X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, name: str) -> dict[str, object]:
    from leadline.probes import elastic_net

    family = getattr(elastic_net, name)(l1=tuple(grid.tolist()))
    unconverged = sum(int((~family.fit_site(site, Y, fold).converged).sum()) for site in X)
    return {"unconverged": np.array(unconverged), "settings": repr(family)}


def leadline_lasso(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray
) -> dict[str, object]:
    """Ours, whole, for its memory; the coefficients are not written back."""
    return _leadline(X, Y, fold, grid, "ElasticNet")


def leadline_logistic(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray
) -> dict[str, object]:
    """The same for the log-loss."""
    return _leadline(X, Y, fold, grid, "SparseLogistic")


def _paths(
    X: np.ndarray,
    Y: np.ndarray,
    fold: np.ndarray,
    grid: np.ndarray,
    folds: np.ndarray,
    path: Path,
    settings: str,
    signed: bool,
) -> dict[str, object]:
    """Run `path` (Z, y, grid → coefficients (L, d), intercepts (L,)) on every fold, and count its warnings."""
    fits = Fits(X, Y.shape[1], folds, grid)
    for part in parts(X, fold, folds, np.float64):
        Z = np.asfortranarray(part.Z)
        for target, column in enumerate(Y.T):
            y = column[part.rows]
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                w, b = path(Z, 2 * y - 1 if signed else y, grid)
            fits.unconverged += sum("Convergence" in c.category.__name__ for c in caught)
            for index in range(len(grid)):
                fits.put(part, target, index, w[index], float(b[index]))
    return fits.result(settings)


def sklearn_lasso(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray
) -> dict[str, object]:
    """scikit-learn's coordinate descent along the path."""
    from sklearn.linear_model import lasso_path

    def path(Z: np.ndarray, y: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = lasso_path(Z, y - y.mean(), alphas=grid, max_iter=SKLEARN_ITER, tol=SKLEARN_TOL)[1]
        return found.T, np.full(len(grid), y.mean())

    words = f"lasso_path, float64, max_iter {SKLEARN_ITER}, tol {SKLEARN_TOL:g}"
    return _paths(X, Y, fold, grid, folds, path, words, signed=True)


def skglm_lasso(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray
) -> dict[str, object]:
    """Working sets and Anderson-accelerated coordinate descent."""
    from skglm import Lasso  # type: ignore[import-not-found]

    def path(Z: np.ndarray, y: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = Lasso(tol=SKGLM_LASSO_TOL, fit_intercept=True).path(Z, y, grid)[1]
        return found[:-1].T, found[-1]

    words = f"Lasso.path, float64, tol {SKGLM_LASSO_TOL:g}, warm starts"
    return _paths(X, Y, fold, grid, folds, path, words, signed=True)


def celer_lasso(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray
) -> dict[str, object]:
    """Working sets with dual extrapolation."""
    from celer import celer_path  # type: ignore[import-not-found]

    def path(Z: np.ndarray, y: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = celer_path(Z, y - y.mean(), "lasso", alphas=grid, tol=CELER_LASSO_TOL, max_iter=100, prune=1)[1]
        return found.T, np.full(len(grid), y.mean())

    words = f"celer_path, float64, tol {CELER_LASSO_TOL:g}, max_iter 100, warm starts"
    return _paths(X, Y, fold, grid, folds, path, words, signed=True)


def sklearn_logistic(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray
) -> dict[str, object]:
    """liblinear, one penalty after the other: scikit-learn's usual solver for L1."""
    from sklearn.linear_model import LogisticRegression

    def path(Z: np.ndarray, y: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        models = [
            LogisticRegression(
                C=1 / (len(y) * l1),
                l1_ratio=1.0,
                solver="liblinear",
                intercept_scaling=INTERCEPT_SCALING,
                max_iter=1000,
                tol=LIBLINEAR_TOL,
                random_state=0,
            ).fit(Z, y)
            for l1 in grid
        ]
        return np.stack([m.coef_[0] for m in models]), np.array([m.intercept_[0] for m in models])

    words = (
        f"LogisticRegression, liblinear, float64, tol {LIBLINEAR_TOL:g}, max_iter 1000, no warm starts, intercept "
        f"penalised a little (intercept_scaling {INTERCEPT_SCALING:g})"
    )
    return _paths(X, Y, fold, grid, folds, path, words, signed=False)


def skglm_logistic(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray
) -> dict[str, object]:
    """Proximal Newton on working sets, warm starts along the path."""
    from skglm import SparseLogisticRegression

    def path(Z: np.ndarray, y: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        model = SparseLogisticRegression(tol=SKGLM_LOGISTIC_TOL, warm_start=True, max_iter=100)
        coef, intercept = [], []
        for l1 in grid:
            model.alpha = float(l1)
            model.fit(Z, y)
            coef.append(model.coef_[0].copy())
            intercept.append(float(np.ravel(model.intercept_)[0]))
        return np.stack(coef), np.array(intercept)

    words = f"SparseLogisticRegression, float64, tol {SKGLM_LOGISTIC_TOL:g}, max_iter 100, warm starts"
    return _paths(X, Y, fold, grid, folds, path, words, signed=False)


def celer_logistic(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray
) -> dict[str, object]:
    """Proximal Newton on working sets; it has no intercept, and its gap is that of the problem without one."""
    from celer import celer_path

    def path(Z: np.ndarray, y: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = celer_path(
            Z, 2 * y - 1, "logreg", alphas=len(y) * grid, tol=CELER_LOGISTIC_TOL, max_iter=100, use_PN=True
        )[1]
        return found.T, np.zeros(len(grid))

    words = (
        f"celer_path, float64, tol {CELER_LOGISTIC_TOL:g}, max_iter 100, warm starts; no intercept: an easier problem"
    )
    return _paths(X, Y, fold, grid, folds, path, words, signed=False)
