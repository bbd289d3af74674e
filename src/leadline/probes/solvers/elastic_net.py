"""A path of L1 penalties for all folds of one target: a working set, Newton on it, and a certificate over all features.

Each column (a fold's fit, or the refit) minimises, over w (d,) and b,

    Σ_i ω_i · loss(y_i, f_i)  +  l1·‖w‖₁  +  (l2/2)·‖w‖²,      f = Zᵀ(w / scale) + b,   Σ_i ω_i = 1

with its own row weights ω (folds are zero weights) and its own scale, for features Z that all columns share.

*Working set.* The penalties run downwards. A column keeps the features that have ever mattered to it and solves on them
alone; one matrix product then gives the gradient of every column over all features, and those that break the optimality
conditions join. *Newton.* The quadratic model on the working set is minimised exactly (`active_set`). For squared error
it is the objective itself; for the logistic loss its matrix is kept along the path, scaled to the present curvature,
and computed anew only when it stops paying. *Certificate.* Scaling the residuals until they are dual feasible bounds
the minimum from below (Kim et al. 2007); the bound's distance, relative to the objective, is compared with `tolerance`.

References
----------
S.-J. Kim et al. (2007), An interior-point method for large-scale l1-regularized least squares, IEEE J-STSP 1.
J. Lee, Y. Sun and M. Saunders (2014), Proximal Newton-type methods, SIAM J. Optim. 24.
T. Johnson and C. Guestrin (2015), Blitz: a principled meta-algorithm for scaling sparse optimization, ICML.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import expit, log_expit, xlogy

from leadline.probes.fit import Status
from leadline.probes.solvers.active_set import Factor, minimise_quadratic

__all__ = ["LogLoss", "PathSolution", "PointLoss", "SquaredError", "largest_l1", "solve_path"]

MAX_ROUNDS = 60
MAX_NEWTON = 50
# A kept matrix is computed anew when a Newton step leaves more than this share of the gap.
KEEP_BELOW = 0.25


class PointLoss(Protocol):
    """A convex loss of scores f (n,) for the labels of one target, with row weights (n,) given to each call."""

    @property
    def quadratic(self) -> bool:
        """Whether the curvature is the same everywhere."""
        ...

    def value(self, f: np.ndarray, weights: np.ndarray) -> float:
        """Σ ω·loss."""
        ...

    def residual(self, f: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(n,) the negative gradient by f."""
        ...

    def curvature(self, f: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(n,) the second derivative by f."""
        ...

    def intercept(self, e: np.ndarray, weights: np.ndarray, start: float) -> float:
        """The b that minimises the loss of e + b."""
        ...

    def dual(self, f: np.ndarray, weights: np.ndarray, reach: float, square: float) -> float:
        """The dual objective at the residuals times a factor of at most `reach`; `square` is l2·‖w‖²."""
        ...


@dataclass(frozen=True)
class SquaredError:
    """½·(y − f)²."""

    y: np.ndarray
    quadratic: bool = True

    def value(self, f: np.ndarray, weights: np.ndarray) -> float:
        return float(0.5 * weights @ np.square(self.y - f))

    def residual(self, f: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return weights * (self.y - f)

    def curvature(self, f: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return weights

    def intercept(self, e: np.ndarray, weights: np.ndarray, start: float) -> float:
        return float(weights @ (self.y - e))

    def dual(self, f: np.ndarray, weights: np.ndarray, reach: float, square: float) -> float:
        residual = self.y - f
        # Residuals sum to 0, so that the labels' mean drops out; without it the products keep their digits.
        linear = float((weights * residual) @ (self.y - weights @ self.y))
        total = float(weights @ np.square(residual)) + square
        factor = min(max(linear / total, -reach), reach) if total > 0 else 0.0
        return factor * linear - 0.5 * factor**2 * total


@dataclass(frozen=True)
class LogLoss:
    """log(1 + exp(−y·f)) for y of −1 and +1."""

    y: np.ndarray
    quadratic: bool = False

    def value(self, f: np.ndarray, weights: np.ndarray) -> float:
        return float(-weights @ log_expit(self.y * f))

    def residual(self, f: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.asarray(weights * self.y * expit(-self.y * f))

    def curvature(self, f: np.ndarray, weights: np.ndarray) -> np.ndarray:
        s = expit(f)
        return np.asarray(weights * s * (1 - s))

    def intercept(self, e: np.ndarray, weights: np.ndarray, start: float) -> float:
        low, high, b = -np.inf, np.inf, start
        for _ in range(60):
            slope = float(self.residual(e + b, weights).sum())
            if abs(slope) <= 1e-14:
                break
            low, high = (b, high) if slope > 0 else (low, b)
            # Flat tails would throw Newton far out; a bracket, once there is one, calls it back.
            b += float(np.clip(slope / max(float(self.curvature(e + b, weights).sum()), 1e-12), -4.0, 4.0))
            if not low < b < high:
                b = 0.5 * (low + high)
        return b

    def dual(self, f: np.ndarray, weights: np.ndarray, reach: float, square: float) -> float:
        factor = min(1.0, reach)
        t = factor * expit(-self.y * f)
        return float(-weights @ (xlogy(t, t) + xlogy(1 - t, 1 - t))) - 0.5 * factor**2 * square


@dataclass(frozen=True)
class PathSolution:
    """L penalties × C columns.

    Attributes
    ----------
    coef : (L, C, d) float64, for each column's own scaling. intercept : (L, C). fitted : (L, n, C) scores of all rows.
    objective, gap : (L, C). status : (L, C) int8. iterations : (L, C) int, Newton steps.
    """

    coef: np.ndarray
    intercept: np.ndarray
    fitted: np.ndarray
    objective: np.ndarray
    gap: np.ndarray
    status: np.ndarray
    iterations: np.ndarray


class _Column:
    """One fold's fit on its way down the path: its working set, and the curvature matrix on it.

    The matrix has the intercept eliminated and the column's scale; it is of the curvature `seen`, with l2 added. Arrays
    are kept with room to grow, since most working sets grow all the way down.
    """

    def __init__(self, weights: np.ndarray, scale: np.ndarray, l2: float, b: float, seen: np.ndarray) -> None:
        n = len(weights)
        self.weights, self.scale, self.l2, self.seen = weights, scale, l2, seen
        self.features = np.empty(0, dtype=np.int64)
        self.w = np.empty(0)
        self.b, self.f = b, np.full(n, b)
        self.factor = Factor()
        self.newton = 0
        self._rows = np.empty((0, n))
        self._matrix = np.empty((0, 0))

    @property
    def rows(self) -> np.ndarray:
        """(s, n) the working set's rows of the shared features."""
        return self._rows[: len(self.features)]

    @property
    def matrix(self) -> np.ndarray:
        """(s, s)."""
        s = len(self.features)
        return self._matrix[:s, :s]

    def admit(self, Z: np.ndarray, new: np.ndarray) -> None:
        """Take features into the working set, and extend the matrix by them at the curvature it was computed at."""
        if not len(new):
            return
        old = len(self.features)
        s = old + len(new)
        if s > len(self._rows):
            room = max(64, s + s // 2)
            rows, matrix = np.empty((room, Z.shape[1]), dtype=Z.dtype), np.empty((room, room))
            rows[:old], matrix[:old, :old] = self.rows, self.matrix
            self._rows, self._matrix = rows, matrix
        self.features = np.concatenate([self.features, new])
        self.w = np.concatenate([self.w, np.zeros(len(new))])
        self._rows[old:s] = Z[new]
        # Centring and scaling one side centres the product, and leaves no second large array to fill.
        root = np.sqrt(self.seen).astype(Z.dtype)
        mean = self._rows[old:s] @ self.seen.astype(Z.dtype) / Z.dtype.type(self.seen.sum())
        half = self._rows[old:s] - mean[:, None]
        half *= root
        scale = self.scale[self.features].astype(Z.dtype)
        half /= scale[old:, None]
        self._matrix[old:s, old:s] = half @ half.T
        if old:
            half *= root
            block = self._rows[:old] @ half.T
            block /= scale[:old, None]
            self._matrix[:old, old:s] = block
            self._matrix[old:s, :old] = block.T
        self._matrix[np.arange(old, s), np.arange(old, s)] += self.l2

    def renew(self, Z: np.ndarray, curvature: np.ndarray, keep: np.ndarray) -> None:
        """Compute the matrix at the present curvature, for the features that still matter alone."""
        features, w = self.features[keep], self.w[keep]
        self.features, self.w = np.empty(0, dtype=np.int64), np.empty(0)
        self.seen, self.factor = curvature, Factor()
        self.admit(Z, features)
        self.w = w


def largest_l1(Z: np.ndarray, loss: PointLoss, weights: np.ndarray, scale: np.ndarray, usable: np.ndarray) -> float:
    """The smallest l1 at which every coefficient is 0: the largest gradient of the fit without features."""
    zero = np.zeros(Z.shape[1])
    residual = loss.residual(zero + loss.intercept(zero, weights, 0.0), weights)
    return float(np.abs(np.where(usable, (Z @ residual.astype(Z.dtype)) / scale, 0.0)).max(initial=0.0))


def solve_path(
    Z: np.ndarray,
    loss: PointLoss,
    weights: np.ndarray,
    scale: np.ndarray,
    usable: np.ndarray,
    l1: np.ndarray,
    l2: float,
    *,
    tolerance: float = 1e-5,
) -> PathSolution:
    """Minimise every column at every penalty.

    Parameters
    ----------
    Z : (d, n) features by rows, float32 or float64, each centred at about 0.
    loss : of the target, (n,).
    weights : (n, C) ≥ 0, each column summing to 1; 0 for rows that a column does not train on.
    scale : (C, d) > 0, of each column's features relative to `Z`. usable : (C, d) bool, False where one is constant.
    l1 : (L,) > 0, from large to small. l2 : ≥ 0.
    """
    d, n = Z.shape
    C, L = weights.shape[1], len(l1)
    columns = []
    for c in range(C):
        own = np.ascontiguousarray(weights[:, c])
        b = loss.intercept(np.zeros(n), own, 0.0)
        columns.append(_Column(own, scale[c], l2, b, loss.curvature(np.full(n, b), own)))
    solution = PathSolution(
        np.zeros((L, C, d)),
        np.zeros((L, C)),
        np.zeros((L, n, C)),
        np.zeros((L, C)),
        np.full((L, C), np.inf),
        np.full((L, C), Status.ITERATION_LIMIT, dtype=np.int8),
        np.zeros((L, C), dtype=np.int32),
    )
    gradient = _gradients(Z, loss, columns, usable, l2, list(range(C)), None)
    for at, penalty in enumerate(l1):
        pending = list(range(C))
        inner = np.full(C, 0.3 * tolerance)
        for _ in range(MAX_ROUNDS):
            for c in pending:
                column = columns[c]
                _admit_violators(column, Z, gradient[c], penalty)
                _solve_restricted(column, Z, loss, penalty, l2, inner[c])
            gradient = _gradients(Z, loss, columns, usable, l2, pending, gradient)
            left = []
            for c in pending:
                column = columns[c]
                objective, gap = _certify(column, loss, penalty, l2, float(np.abs(gradient[c]).max(initial=0.0)))
                better = gap < solution.gap[at, c]
                solution.objective[at, c], solution.gap[at, c] = objective, gap
                if gap <= tolerance:
                    solution.status[at, c] = Status.CONVERGED
                    continue
                if not np.isfinite(objective):
                    solution.status[at, c] = Status.NOT_FINITE
                    continue
                outside = np.abs(gradient[c]) > penalty
                outside[column.features] = False
                if not outside.any():
                    if not better:
                        solution.status[at, c] = Status.STALLED
                        continue
                    inner[c] *= 0.1
                left.append(c)
            pending = left
            if not pending:
                break
        for c, column in enumerate(columns):
            solution.coef[at, c, column.features] = column.w
            solution.intercept[at, c] = column.b
            solution.fitted[at, :, c] = column.f
            solution.iterations[at, c], column.newton = column.newton, 0
    return solution


def _gradients(
    Z: np.ndarray,
    loss: PointLoss,
    columns: list[_Column],
    usable: np.ndarray,
    l2: float,
    pending: list[int],
    out: np.ndarray | None,
) -> np.ndarray:
    """(C, d) negative gradients of the smooth part over all features, brought up to date for the pending columns."""
    if out is None:
        out = np.zeros(usable.shape)
    residuals = np.stack([loss.residual(columns[c].f, columns[c].weights) for c in pending], axis=1)
    product = (Z @ residuals.astype(Z.dtype)).T
    for c, row in zip(pending, product, strict=True):
        out[c] = np.where(usable[c], row / columns[c].scale, 0.0)
        out[c, columns[c].features] -= l2 * columns[c].w
    return out


def _admit_violators(column: _Column, Z: np.ndarray, gradient: np.ndarray, l1: float) -> None:
    """The features whose gradient exceeds l1, the largest first, at most as many as doubles the working set."""
    size = np.abs(gradient)
    size[column.features] = 0.0
    new = np.flatnonzero(size > l1)
    room = max(64, len(column.features))
    if len(new) > room:
        new = np.sort(new[np.argsort(-size[new], kind="stable")[:room]])
    column.admit(Z, new)


def _penalised(column: _Column, loss: PointLoss, l1: float, l2: float) -> float:
    w = column.w
    return loss.value(column.f, column.weights) + l1 * float(np.abs(w).sum()) + 0.5 * l2 * float(w @ w)


def _certify(column: _Column, loss: PointLoss, l1: float, l2: float, largest: float) -> tuple[float, float]:
    """The objective, and its distance to the dual bound relative to it, for the largest gradient given."""
    objective = _penalised(column, loss, l1, l2)
    reach = l1 / largest if largest > 0 else np.inf
    bound = loss.dual(column.f, column.weights, reach, l2 * float(column.w @ column.w))
    return objective, max(objective - bound, 0.0) / objective if objective > 0 else 0.0


def _solve_restricted(column: _Column, Z: np.ndarray, loss: PointLoss, l1: float, l2: float, tolerance: float) -> None:
    """Newton steps on the working set until the gap there is within the tolerance."""
    if not len(column.features):
        return
    # Scores kept up to date by steps drift; each solve starts from the coefficients again.
    _refresh(column, loss)
    previous = np.inf
    rank = int((column.weights > 0).sum()) - 1 if l2 == 0 else len(column.weights) + len(column.features)
    exact = loss.quadratic
    for _ in range(MAX_NEWTON):
        scale = column.scale[column.features]
        residual = loss.residual(column.f, column.weights)
        gradient = (column.rows @ residual.astype(column.rows.dtype)).astype(np.float64) / scale - l2 * column.w
        objective, gap = _certify(column, loss, l1, l2, float(np.abs(gradient).max(initial=0.0)))
        if gap <= tolerance or not np.isfinite(objective):
            return
        # A step with the exact matrix that leaves most of the gap has met rounding.
        if exact and gap > 0.9 * previous:
            return
        curvature = loss.curvature(column.f, column.weights)
        exact = loss.quadratic
        if not exact and gap > KEEP_BELOW * previous:
            keep = (column.w != 0) | (np.abs(gradient) > 0.8 * l1)
            column.renew(Z, curvature, keep)
            gradient, scale, exact = gradient[keep], scale[keep], True
        previous = gap
        # An older matrix is brought to the present total curvature by scaling the rest of the problem; l2 has its own.
        share = 1.0 if loss.quadratic or l2 > 0 else float(curvature.sum() / column.seen.sum())
        H = column.matrix
        # A misfit of v·l1 costs about v·l1·‖w‖₁, which is below v times the objective: no less of it than the
        # tolerance asks, or than the model is good for.
        misfit = max(0.1 * tolerance, 0.0 if loss.quadratic else 0.02 * gap)
        target = minimise_quadratic(
            H,
            H @ column.w + gradient / share,
            l1 / share,
            column.w,
            factor=column.factor,
            rank=max(rank, 1),
            tolerance=float(np.clip(misfit, 1e-10, 1e-2)),
        )
        column.newton += 1
        if not _step(column, loss, l1, l2, objective, gradient, target, scale):
            if exact:
                return
            previous = 0.0


def _refresh(column: _Column, loss: PointLoss) -> None:
    """The scores and the intercept of the coefficients."""
    standard = (column.w / column.scale[column.features]).astype(column.rows.dtype)
    base = (standard @ column.rows).astype(np.float64)
    column.b = loss.intercept(base, column.weights, column.b)
    column.f = base + column.b


def _step(
    column: _Column,
    loss: PointLoss,
    l1: float,
    l2: float,
    objective: float,
    gradient: np.ndarray,
    target: np.ndarray,
    scale: np.ndarray,
) -> bool:
    """Go towards `target`, halving the step until the objective falls enough; False if it never does."""
    start, b, f = column.w, column.b, column.f
    move = target - start
    along = ((move / scale).astype(column.rows.dtype) @ column.rows).astype(np.float64)
    base = f - b
    expected = -float(gradient @ move) + l1 * float(np.abs(target).sum() - np.abs(start).sum())
    step = 1.0
    for _ in range(30):
        column.w = target if step == 1.0 else start + step * move
        scores = base + step * along
        column.b = loss.intercept(scores, column.weights, b)
        column.f = scores + column.b
        if _penalised(column, loss, l1, l2) <= objective + 1e-3 * step * min(expected, 0.0):
            return bool(move.any())
        step *= 0.5
    column.w, column.b, column.f = start, b, f
    return False
