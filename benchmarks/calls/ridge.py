"""Ridge regression by every side: mean ½·(y − f)² + (l2/2)·‖w‖², alpha = n·l2, a free intercept."""

from __future__ import annotations

import numpy as np

from calls.design import Fits, Part, parts


def leadline(X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray) -> dict[str, object]:
    """Ours, whole, for its memory; the coefficients are not written back."""
    from leadline.probes import Ridge

    family = Ridge(l2=tuple(grid.tolist()))
    for site in X:
        family.fit_site(site, Y, fold)
    return {"settings": repr(family)}


def sklearn_loop(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray
) -> dict[str, object]:
    """The notebook's loop; all targets in one call."""
    from sklearn.linear_model import Ridge

    fits = Fits(X, Y.shape[1], folds, grid)
    for part in parts(X, fold, folds):
        y = Y[part.rows].astype(np.float32)
        for index, l2 in enumerate(grid):
            model = Ridge(alpha=len(y) * float(l2)).fit(part.Z, y)
            fits.put(part, slice(None), index, np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_))
    return fits.result("StandardScaler and Ridge one after the other, float32, all targets in one call")


def sklearn_leave_one_out(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray
) -> dict[str, object]:
    """RidgeCV's leave-one-out of every penalty and target, one scaling over all rows; `error` (S, m, L)."""
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    error = np.empty((len(X), Y.shape[1], len(grid)))
    for s, site in enumerate(X):
        Z = StandardScaler().fit_transform(site.astype(np.float64))
        model = RidgeCV(alphas=len(Z) * grid, store_cv_results=True, alpha_per_target=True).fit(Z, Y)
        error[s] = model.cv_results_.reshape(len(Z), -1, len(grid)).mean(axis=0)
    words = "StandardScaler and RidgeCV, leave-one-out, float64, alpha_per_target"
    return {"error": error, "settings": words}


def _himalaya(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray, backend: str
) -> dict[str, object]:
    from himalaya.backend import set_backend  # type: ignore[import-not-found]
    from himalaya.kernel_ridge import KernelRidgeCV  # type: ignore[import-not-found]
    from himalaya.ridge import RidgeCV  # type: ignore[import-not-found]
    from sklearn.model_selection import PredefinedSplit
    from sklearn.preprocessing import StandardScaler

    set_backend(backend)
    n, d = X.shape[1:]
    n_folds = int(fold.max()) + 1
    whole = np.array([n_folds])
    fits = Fits(X, Y.shape[1], whole, grid)
    # The package itself sends problems with fewer rows than features to its kernel solver.
    kernel = n < d
    family = KernelRidgeCV if kernel else RidgeCV
    # One penalty at a time: a smoother a penalty, test × training rows, is what it keeps.
    solver_params = {} if kernel else {"n_alphas_batch": 1}
    for s, site in enumerate(X):
        scaler = StandardScaler().fit(site)
        Z = scaler.transform(site)
        alphas = (n * grid).astype(np.float32)
        model = family(alphas=alphas, fit_intercept=True, cv=PredefinedSplit(fold), solver_params=solver_params)
        model.fit(Z, Y.astype(np.float32))
        w = np.asarray(model.get_primal_coef() if kernel else model.coef_, dtype=np.float64).T
        b = np.asarray(model.intercept_, dtype=np.float64)
        part = Part(s, 0, np.ones(n, dtype=bool), Z, None, scaler.mean_, scaler.scale_)
        best = np.asarray(model.best_alphas_, dtype=np.float64) / n
        for target, l2 in enumerate(best):
            index = int(np.argmin(np.abs(np.log(grid / l2))))
            fits.put(part, target, index, w[target], b[target])
    words = (
        f"{family.__name__}, {backend} backend, float32, its own scheme: one scaling for all folds, the same alphas in "
        "every fold, a refit at each target's chosen alpha alone"
    )
    return fits.result(words)


def himalaya_numpy(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray
) -> dict[str, object]:
    """All folds always: it has no other way."""
    return _himalaya(X, Y, fold, grid, folds, "numpy")


def himalaya_torch(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray
) -> dict[str, object]:
    """The same in torch."""
    return _himalaya(X, Y, fold, grid, folds, "torch")
