"""How far a fit is from its optimum, in float64 and apart from the solvers that are measured.

Every function takes coefficients for raw activations, as all sides return them, and standardises by the training rows
itself; a fit is judged in the space in which its penalty acts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import expit, log_expit, xlogy
from sklearn.linear_model import LogisticRegression

from leadline.probes.solvers.batched import minimise
from leadline.probes.solvers.features import DenseFeatures
from leadline.probes.solvers.losses import LogisticLoss
from leadline.probes.solvers.precondition import LowRank, leading_eigenvectors

__all__ = ["Standard", "l1_gap", "logistic_minima", "logistic_objective", "ridge_excess", "ridge_optima", "standard"]

# Up to so many features (or rows, where they are fewer) scikit-learn's Newton solver is the reference.
NEWTON_UP_TO = 1000
OWN_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Standard:
    """Training rows standardised in float64: `Z` (n, d), by `mean` and `scale` (d,)."""

    Z: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    def from_raw(self, coef: np.ndarray, intercept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(…, d) and (…) of the standardised features."""
        w = coef * self.scale
        return w, intercept + coef @ self.mean


def standard(X: np.ndarray, rows: np.ndarray) -> Standard:
    """Standardise the rows by their own moments; a constant feature keeps the scale 1."""
    own = X[rows].astype(np.float64)
    mean, scale = own.mean(axis=0), own.std(axis=0)
    scale[scale == 0] = 1.0
    own -= mean
    own /= scale
    return Standard(own, mean, scale)


def logistic_objective(Z: np.ndarray, y: np.ndarray, w: np.ndarray, b: np.ndarray, l2: np.ndarray) -> np.ndarray:
    """(L,) mean log-loss + (l2/2)·‖w‖², for w (L, d), b and l2 (L,), y (n,) of 0 and 1."""
    loss = -log_expit((2 * y - 1)[:, None] * (Z @ w.T + b)).mean(axis=0)
    return np.asarray(loss + 0.5 * l2 * np.square(w).sum(axis=1))


def logistic_minima(Z: np.ndarray, y: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, str]:
    """(L,) the least objective for each penalty, and in words how it was found.

    With fewer rows than features the problem is solved in the rows' own space, which holds every optimum.
    """
    n, d = Z.shape
    if n < d:
        # ‖w‖² and Zw are kept by a rotation, and w has no part outside the rows' span.
        values, vectors = np.linalg.eigh(Z @ Z.T)
        keep = values > values[-1] * 1e-14
        Z = vectors[:, keep] * np.sqrt(values[keep])
        d = Z.shape[1]
    if d > NEWTON_UP_TO:
        return _own_minima(Z, y, grid), f"our solver in float64 at tolerance {OWN_TOLERANCE:g}"
    least = [newton_minimum(Z, y, float(l2)) for l2 in grid]
    return np.array(least), "scikit-learn's newton-cholesky in float64 at tol 1e-10"


def newton_minimum(Z: np.ndarray, y: np.ndarray, l2: float) -> float:
    """The least objective for one penalty by scikit-learn's newton-cholesky in float64."""
    best = LogisticRegression(C=1 / (len(y) * l2), max_iter=500, tol=1e-10, solver="newton-cholesky").fit(Z, y)
    return float(logistic_objective(Z, y, best.coef_, best.intercept_, np.array([l2]))[0])


def _own_minima(Z: np.ndarray, y: np.ndarray, grid: np.ndarray) -> np.ndarray:
    L, n = len(grid), len(y)
    features = DenseFeatures(torch.from_numpy(Z))
    share = torch.full((n,), 1 / n, dtype=torch.float64)
    labels = torch.from_numpy(2 * y - 1).expand(L, n)
    solution = minimise(
        features,
        LogisticLoss(labels, share.expand(L, n)),
        torch.from_numpy(grid.astype(np.float64)),
        LowRank(*leading_eigenvectors(features, share, min(256, n))),
        group=torch.arange(L),
        tolerance=OWN_TOLERANCE,
        max_iterations=3000,
    )
    return logistic_objective(Z, y, solution.coef[:, 0].numpy(), solution.offsets[:, 0].numpy(), grid)


def ridge_optima(Z: np.ndarray, targets: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(L, m, d) coefficients and (L, m) objectives of ridge regression by a float64 singular value decomposition.

    The objective is mean ½·(y − f)² + (l2/2)·‖w‖². `targets` (n, m).
    """
    y = targets - targets.mean(axis=0)
    U, s, Vt = np.linalg.svd(Z, full_matrices=False)
    n = len(Z)
    along = U.T @ y
    outside = np.maximum(np.square(y).sum(axis=0) - np.square(along).sum(axis=0), 0.0)
    w = np.stack([(Vt.T @ ((s / (s**2 + n * l2))[:, None] * along)).T for l2 in grid])
    least = np.stack([0.5 * l2 * ((1 / (s**2 + n * l2)) @ np.square(along)) + 0.5 * outside / n for l2 in grid])
    return w, least


def ridge_excess(
    Z: np.ndarray, l2: np.ndarray, w: np.ndarray, b: np.ndarray, centre: np.ndarray, best: np.ndarray, least: np.ndarray
) -> np.ndarray:
    """(L, m) how far the objective is above its least value, relative to it.

    From the distance to the optimum, δ: the excess is exactly ½·mean((Zδ + β)²) + (l2/2)·‖δ‖², without cancellation.

    Parameters
    ----------
    w : (L, m, d), b : (L, m) of the fit; best, least : the optimum. centre : (m,) mean targets. l2 : (L,).
    """
    excess = np.empty(least.shape)
    for at, penalty in enumerate(l2):
        delta = w[at] - best[at]
        moved = Z @ delta.T + (b[at] - centre)
        excess[at] = 0.5 * np.square(moved).mean(axis=0) + 0.5 * penalty * np.square(delta).sum(axis=1)
    return np.asarray(excess / least)


def l1_gap(
    Z: np.ndarray, y: np.ndarray, w: np.ndarray, l1: float, *, logistic: bool, intercept: bool = True
) -> tuple[float, float]:
    """(objective, duality gap relative to it) of mean loss + l1·‖w‖₁: a bound that needs no reference.

    The loss is ½·(y − f)², or log-loss for y of 0 and 1. The intercept is brought to its optimum first, for every
    side alike, so that the residuals sum to 0; without one it stays 0.
    """
    n = len(y)
    base = Z @ w
    norm = float(np.abs(w).sum())
    if not logistic:
        residual = y - base
        shift = residual.mean() if intercept else 0.0
        residual = residual - shift
        objective = 0.5 * float(np.square(residual).mean()) + l1 * norm
        largest = float(np.abs(Z.T @ residual).max()) / n
        centred = y - y.mean() if intercept else y
        # The best multiple of the residual that is dual feasible.
        factor = float(residual @ centred / max(residual @ residual, 1e-300))
        reach = l1 / max(largest, 1e-300)
        factor = min(max(factor, -reach), reach)
        dual = factor * float(residual @ centred) / n - 0.5 * factor**2 * float(residual @ residual) / n
        return objective, (objective - dual) / objective
    sign = 2 * y - 1
    b = _best_intercept(base, sign) if intercept else 0.0
    f = base + b
    objective = float(-log_expit(sign * f).mean()) + l1 * norm
    miss = expit(-sign * f)
    largest = float(np.abs(Z.T @ (sign * miss)).max()) / n
    t = min(1.0, l1 / max(largest, 1e-300)) * miss
    dual = float(-(xlogy(t, t) + xlogy(1 - t, 1 - t)).mean())
    return objective, (objective - dual) / objective


def _best_intercept(base: np.ndarray, sign: np.ndarray) -> float:
    """The root of the loss's derivative by b, which increases with b, by bisection."""
    low, high = -float(np.abs(base).max()) - 40, float(np.abs(base).max()) + 40
    for _ in range(200):
        middle = 0.5 * (low + high)
        slope = -float((sign * expit(-sign * (base + middle))).mean())
        low, high = (middle, high) if slope < 0 else (low, middle)
    return 0.5 * (low + high)
