"""L2-regularised logistic regression by every side: mean log-loss + (l2/2)·‖w‖², C = 1/(n·l2), a free intercept."""

from __future__ import annotations

import warnings

import numpy as np

from calls.design import Fits, Part, parts

MAX_ITER = 1000
PROBEKIT_TOL = 1e-4


def leadline(X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray) -> dict[str, object]:
    """Ours, whole, for its memory; the coefficients are not written back."""
    from leadline.probes import Logistic

    family = Logistic(l2=tuple(grid.tolist()))
    unconverged = sum(int((~family.fit_site(site, Y, fold).converged).sum()) for site in X)
    return {"unconverged": np.array(unconverged), "settings": repr(family)}


def _loop(
    X: np.ndarray,
    Y: np.ndarray,
    fold: np.ndarray,
    grid: np.ndarray,
    folds: np.ndarray,
    solver: str,
    settings: str,
    *,
    tol: float = 1e-4,
    max_iter: int = MAX_ITER,
    dtype: type = np.float32,
) -> dict[str, object]:
    from sklearn.linear_model import LogisticRegression

    fits = Fits(X, Y.shape[1], folds, grid)
    for part in parts(X, fold, folds):
        Z = part.Z.astype(dtype, copy=False)
        for target, column in enumerate(Y.T):
            y = column[part.rows]
            for index, l2 in enumerate(grid):
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    model = LogisticRegression(C=1 / (len(y) * l2), max_iter=max_iter, tol=tol, solver=solver)
                    model.fit(Z, y)
                # ConvergenceWarning, or LinAlgWarning where a factorisation gave way.
                fits.unconverged += any("Warning" in c.category.__name__ for c in caught)
                fits.put(part, target, index, model.coef_[0], float(model.intercept_[0]))
    return fits.result(settings)


def sklearn_default(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray
) -> dict[str, object]:
    """The notebook's loop."""
    words = f"StandardScaler and LogisticRegression one after the other, lbfgs, float32, max_iter {MAX_ITER}, tol 1e-4"
    return _loop(X, Y, fold, grid, folds, "lbfgs", words)


def sklearn_converged(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray
) -> dict[str, object]:
    """The notebook's loop, in the precision and to the tolerance that its certificate would need."""
    words = "the same loop, lbfgs, float64, max_iter 20000, tol 1e-7"
    return _loop(X, Y, fold, grid, folds, "lbfgs", words, tol=1e-7, max_iter=20_000, dtype=np.float64)


def sklearn_newton(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray
) -> dict[str, object]:
    """The same loop with scikit-learn's fastest solver for n much larger than d."""
    words = f"the same loop, newton-cholesky, float32, max_iter {MAX_ITER}, tol 1e-4"
    return _loop(X, Y, fold, grid, folds, "newton-cholesky", words)


def sklearn_cv(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray
) -> dict[str, object]:
    """LogisticRegressionCV in a scheme of its own, so that its coefficients have no objective of ours to compare."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.preprocessing import StandardScaler

    n_folds = int(fold.max()) + 1
    splits = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in folds if k < n_folds]
    refit = n_folds in folds
    n_train = len(splits[0][0])
    unconverged = 0
    for site in X:
        Z = StandardScaler().fit_transform(site)
        for y in Y.T:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                LogisticRegressionCV(
                    Cs=np.sort(1 / (n_train * grid)),
                    cv=splits,
                    l1_ratios=(0.0,),
                    scoring="neg_log_loss",
                    max_iter=MAX_ITER,
                    refit=refit,
                    use_legacy_attributes=False,
                ).fit(Z, y)
            unconverged += sum("Convergence" in c.category.__name__ for c in caught)
    words = (
        f"its own scheme: one scaling for all folds, warm starts along C, refit at the chosen C alone; lbfgs, float32, "
        f"max_iter {MAX_ITER}, tol 1e-4"
    )
    return {"unconverged": np.array(unconverged), "settings": words}


def _probekit(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray, solver: str
) -> dict[str, object]:
    """All sampled sites and targets of a fold as one batch, a penalty at a time, scaled by the package itself."""
    import torch
    from probekit.fitters.batch.logistic import fit_logistic_batch  # type: ignore[import-not-found]

    S, m = len(X), Y.shape[1]
    fits = Fits(X, m, folds, grid)
    taken = ""
    for at, k in enumerate(folds):
        rows = fold != k
        n = int(rows.sum())
        x = torch.from_numpy(np.repeat(X[:, rows], m, axis=0))
        y = torch.from_numpy(np.tile(Y[rows].T, (S, 1)))
        # It divides by the unbiased deviation: the same problem has its penalty (n − 1)/n times as strong.
        unbiased = n / (n - 1)
        for index, l2 in enumerate(grid):
            found = fit_logistic_batch(x, y, c_param=unbiased / (n * float(l2)), tol=PROBEKIT_TOL, solver=solver)
            w, b = (np.asarray(part, dtype=np.float64) for part in (found.weights, found.biases))
            for i in range(S * m):
                norm, meta = found.normalizations[i], found.metadatas[i]
                fits.unconverged += not meta["converged"]
                taken = meta["newton_solver"]
                rest = None if rows.all() else (X[i // m, ~rows] - norm.mean) / norm.std
                mean, scale = norm.mean.astype(float), norm.std.astype(float)
                part = Part(i // m, at, rows, X[0, :0], rest, mean, scale)
                fits.put(part, i % m, index, w[i], b[i])
    return fits.result(
        f"fit_logistic_batch, {S * m} at once, float32, max_iter 100, tol {PROBEKIT_TOL:g}, looser than its own 1e-6, "
        f"solver {solver}, which took {taken}"
    )


def probekit_auto(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray
) -> dict[str, object]:
    """Its own choice: Cholesky factors up to 64 MB of Hessians, conjugate gradients beyond."""
    return _probekit(X, Y, fold, grid, folds, "auto")


def probekit_cg(
    X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray
) -> dict[str, object]:
    """Conjugate gradients, which can be the faster one where its own choice is not."""
    return _probekit(X, Y, fold, grid, folds, "newton-cg")


def probelab(X: np.ndarray, Y: np.ndarray, fold: np.ndarray, grid: np.ndarray, folds: np.ndarray) -> dict[str, object]:
    """One fit after the other, scaled by the package itself."""
    import torch
    from probelab import Activations  # type: ignore[import-not-found]
    from probelab.probes import Logistic  # type: ignore[import-not-found]

    fits = Fits(X, Y.shape[1], folds, grid)
    for s, site in enumerate(X):
        for at, k in enumerate(folds):
            rows = fold != k
            own = Activations(data=torch.from_numpy(site[rows]), dims="bh")
            for target, column in enumerate(Y.T):
                y = torch.from_numpy(column[rows])
                for index, l2 in enumerate(grid):
                    probe = Logistic(C=1 / (len(y) * float(l2)), max_iter=MAX_ITER).fit(own, y)
                    mean, scale = (x.numpy().astype(float) for x in (probe.scaler_mean, probe.scaler_std))
                    w = probe.linear.weight.detach().numpy()[0].astype(float)
                    rest = None if rows.all() else (site[~rows] - mean.astype(np.float32)) / scale.astype(np.float32)
                    part = Part(s, at, rows, site[:0], rest, mean, scale)
                    fits.put(part, target, index, w, float(probe.linear.bias))
    fits.unconverged = -1
    words = (
        f"Logistic, torch's L-BFGS with strong Wolfe steps, float32, max_iter {MAX_ITER}, its tolerances 1e-7 and 1e-9"
    )
    return fits.result(words)
