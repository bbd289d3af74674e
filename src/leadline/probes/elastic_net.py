"""Linear and logistic probes with an L1 penalty: the coefficients of most features are exactly 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leadline.errors import ProbeError
from leadline.probes.fit import SiteFit
from leadline.probes.fitted import LinearFamily
from leadline.probes.folds import FoldMoments, check_design, check_labels, fold_moments, training_rows, varying_features
from leadline.probes.grid import penalties
from leadline.probes.solvers.elastic_net import LogLoss, PathSolution, PointLoss, SquaredError, largest_l1, solve_path
from leadline.probes.weights import ClassWeight, check_class_weight, class_weights

__all__ = ["ElasticNet", "SparseLogistic"]

# Up to this many values the features are kept in float64; beyond, in float32 first, and in float64 for fits that
# float32 cannot certify.
_DOUBLE_VALUES = 1 << 22
_SINGLE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class _SparseFamily(LinearFamily):
    """What the two families share: their grid of l1, and the path over it."""

    l1: float | tuple[float, ...] | None = None
    l2: float = 0.0
    n_l1: int = 20
    smallest_l1: float = 1e-2
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        if self.l1 is not None:
            penalties(self.l1, (), "l1")
        if not 0 <= self.l2 < np.inf:
            raise ProbeError(f"l2 is {self.l2}; expected 0 (the lasso) or a positive number.")
        if self.n_l1 < 1 or not 0 < self.smallest_l1 < 1:
            raise ProbeError(
                f"n_l1 is {self.n_l1} and smallest_l1 {self.smallest_l1}; expected 1 or more penalties, down to a "
                "share of the largest between 0 and 1."
            )
        if not 0 < self.tolerance < 1:
            raise ProbeError(f"tolerance is {self.tolerance}; expected a number between 0 and 1, as in 1e-5.")

    @property
    def parameter(self) -> str:
        return "l1"

    def _fit(
        self,
        X: np.ndarray,
        fold: np.ndarray,
        n_folds: int,
        moments: FoldMoments,
        losses: list[PointLoss],
        omega: list[np.ndarray],
    ) -> SiteFit:
        """Every (l1 × fold) of every target; `omega` holds (n, K + 1) row weights a target, summing to 1 a column."""
        n, d = X.shape
        double = n * d <= _DOUBLE_VALUES or self.tolerance < _SINGLE_TOLERANCE
        Z = _standardised(X, moments, np.dtype(np.float64 if double else np.float32))
        scale = moments.fold_scale / moments.scale
        usable = varying_features(X, fold, moments, np.asarray(omega[0][:, -1] > 0))
        grid = self._grid(Z, losses, omega, scale, usable)
        order = np.argsort(-grid, kind="stable")
        shape = (len(grid), n_folds + 1, len(losses))
        coef, intercept = np.empty((*shape, d)), np.empty(shape)
        scores = np.full((len(grid), n, len(losses)), np.nan, dtype=np.float32)
        objective, gap = np.empty(shape), np.empty(shape)
        status, iterations = np.empty(shape, dtype=np.int8), np.empty(shape, dtype=np.int32)
        exact = Z if double else None
        for target, (loss, weights) in enumerate(zip(losses, omega, strict=True)):
            path = solve_path(Z, loss, weights, scale, usable, grid[order], self.l2, tolerance=self.tolerance)
            failed = np.flatnonzero((path.status != 0).any(axis=0))
            if len(failed) and not double:
                exact = _standardised(X, moments, np.dtype(np.float64)) if exact is None else exact
                again = solve_path(
                    exact,
                    loss,
                    weights[:, failed],
                    scale[failed],
                    usable[failed],
                    grid[order],
                    self.l2,
                    tolerance=self.tolerance,
                )
                _replace(path, again, failed)
            standard = path.coef / moments.fold_scale
            coef[order, :, target] = standard
            intercept[order, :, target] = path.intercept - standard @ moments.mean
            for k in range(n_folds):
                tested = np.flatnonzero(fold == k)
                scores[order[:, None], tested, target] = path.fitted[:, tested, k]
            for out, value in (
                (objective, path.objective),
                (gap, path.gap),
                (status, path.status),
                (iterations, path.iterations),
            ):
                out[order, :, target] = value
        return SiteFit(
            settings=grid,
            scores=scores,
            coef=coef[:, -1],
            intercept=intercept[:, -1],
            fold_coef=coef[:, :-1].astype(np.float32),
            fold_intercept=intercept[:, :-1],
            objective=objective,
            gap=gap,
            status=status,
            iterations=iterations,
        )

    def _grid(
        self,
        Z: np.ndarray,
        losses: list[PointLoss],
        omega: list[np.ndarray],
        scale: np.ndarray,
        usable: np.ndarray,
    ) -> np.ndarray:
        if self.l1 is not None:
            return np.array(penalties(self.l1, (), "l1"))
        largest = max(
            largest_l1(Z, loss, weights[:, -1], scale[-1], usable[-1])
            for loss, weights in zip(losses, omega, strict=True)
        )
        if largest == 0:
            raise ProbeError("no feature varies with any target, so no l1 can be derived from them; give l1.")
        return np.asarray(largest * np.geomspace(1.0, self.smallest_l1, self.n_l1))


@dataclass(frozen=True)
class ElasticNet(_SparseFamily):
    """Least squares with L1: mean of ½·(y − f)² + l1·‖w‖₁ + (l2/2)·‖w‖², intercept free, scaled inside each fold.

    l2 = 0 is the lasso. `Lasso` of scikit-learn has alpha = l1; its `ElasticNet` has alpha·l1_ratio = l1 and
    alpha·(1 − l1_ratio) = l2. A binary target is fitted as −1 and +1, with the threshold at 0.

    Parameters
    ----------
    l1 : one penalty, several (one is then chosen, and the choice corrected), or None for `n_l1` in geometric steps from
        the smallest that leaves no feature in the refit (of any target, with several) down to `smallest_l1` times it.
        The default grid therefore depends on the labels; give numbers where it must not.
    l2 : one penalty, 0 or more, for every l1.
    n_l1, smallest_l1 : of the default grid.
    tolerance : a fit has converged when (objective − minimum) / objective is proved to be at most this.

    Raises
    ------
    ProbeError : an l1 that is not positive, a negative l2, or a default grid for targets without any variation.

    References
    ----------
    R. Tibshirani (1996), Regression shrinkage and selection via the lasso, J. R. Stat. Soc. B 58.
    H. Zou and T. Hastie (2005), Regularization and variable selection via the elastic net, J. R. Stat. Soc. B 67.

    Examples
    --------
    >>> import numpy as np
    >>> from leadline.probes.elastic_net import ElasticNet
    >>> X = np.random.default_rng(0).normal(size=(200, 30))
    >>> fitted = ElasticNet(l1=0.5).fit(X, 2 * X[:, 3])
    >>> np.flatnonzero(fitted.probe.coef).tolist()
    [3]
    """

    @property
    def name(self) -> str:
        return "elastic_net"

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("binary", "continuous")

    @property
    def loss(self) -> str:
        return "squared_margin"

    def fit_site(self, X: np.ndarray, Y: np.ndarray, fold: np.ndarray, *, weights: np.ndarray | None = None) -> SiteFit:
        """Fit every (l1 × fold × target), and the refit on all rows; see `Family`."""
        n_folds = check_design(X, Y, fold, weights)
        check_labels(Y, "continuous", self.name, fold, weights)
        moments = fold_moments(X, fold, n_folds, weights)
        targets = 2.0 * Y - 1 if np.isin(Y, (0.0, 1.0)).all() else Y.astype(np.float64)
        counted = np.ones(len(X)) if weights is None else weights
        train = np.stack([training_rows(fold, k) * counted for k in range(n_folds + 1)], axis=1)
        omega = train / train.sum(axis=0)
        losses: list[PointLoss] = [SquaredError(np.ascontiguousarray(column)) for column in targets.T]
        return self._fit(X, fold, n_folds, moments, losses, [omega] * len(losses))


@dataclass(frozen=True)
class SparseLogistic(_SparseFamily):
    """Logistic regression with L1: mean log-loss + l1·‖w‖₁ + (l2/2)·‖w‖², intercept free, scaled inside each fold.

    `LogisticRegression(penalty="l1")` of scikit-learn has C = 1/(n·l1) with n the number of training rows.

    Parameters
    ----------
    l1, l2, n_l1, smallest_l1, tolerance : as in `ElasticNet`.
    class_weight : None, `"balanced"`, or a positive number for each class.

    Raises
    ------
    ProbeError : an l1 that is not positive, a negative l2, a target that is not binary, or a default grid for targets
        that no feature varies with.

    References
    ----------
    K. Koh, S.-J. Kim and S. Boyd (2007), An interior-point method for large-scale l1-regularized logistic regression,
    JMLR 8.
    """

    class_weight: ClassWeight = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_class_weight(self.class_weight, self.name)

    @property
    def name(self) -> str:
        return "sparse_logistic"

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("binary",)

    @property
    def loss(self) -> str:
        return "log_loss"

    def fit_site(self, X: np.ndarray, Y: np.ndarray, fold: np.ndarray, *, weights: np.ndarray | None = None) -> SiteFit:
        """Fit every (l1 × fold × target), and the refit on all rows; see `Family`."""
        n_folds = check_design(X, Y, fold, weights)
        check_labels(Y, "binary", "sparse logistic", fold, weights)
        moments = fold_moments(X, fold, n_folds, weights)
        counted = np.ones(len(X)) if weights is None else weights
        losses: list[PointLoss] = []
        omega = []
        for column in Y.T:
            train = np.stack(
                [
                    class_weights(column, training_rows(fold, k) * counted, 2, self.class_weight)
                    for k in range(n_folds + 1)
                ],
                axis=1,
            )
            omega.append(train / train.sum(axis=0))
            losses.append(LogLoss(2.0 * column - 1))
        return self._fit(X, fold, n_folds, moments, losses, omega)


def _standardised(X: np.ndarray, moments: FoldMoments, dtype: np.dtype[np.floating]) -> np.ndarray:
    """(d, n) features by rows, by the moments of all rows: what a working set gathers lies together."""
    n, d = X.shape
    Z = np.empty((d, n), dtype=dtype)
    block = max(1, (1 << 22) // n)
    for start in range(0, d, block):
        part = slice(start, start + block)
        Z[part] = ((X[:, part] - moments.mean[part]) / moments.scale[part]).T
    return Z


def _replace(path: PathSolution, again: PathSolution, columns: np.ndarray) -> None:
    """Put the columns solved in float64 in place of those that float32 left uncertified."""
    path.coef[:, columns], path.fitted[..., columns] = again.coef, again.fitted
    for name in ("intercept", "objective", "gap", "status", "iterations"):
        getattr(path, name)[:, columns] = getattr(again, name)
