"""Probes that read k features alone: is a concept held by a few neurons, or latents, or spread over many?"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import numpy as np
import scipy.linalg
from scipy.special import expit, log_expit

from leadline.errors import ProbeError
from leadline.probes.elastic_net import ElasticNet, SparseLogistic
from leadline.probes.fit import SiteFit, Status
from leadline.probes.fitted import LinearFamily
from leadline.probes.folds import check_design, check_labels, fold_moments, training_rows
from leadline.probes.weights import ClassWeight, check_class_weight, class_weights

__all__ = ["DEFAULT_K", "SELECTIONS", "KSparse", "KSparseFit"]

DEFAULT_K = (1, 2, 4, 8, 16, 32, 64, 128)
LARGEST_K = 1024
SELECTIONS = ("f_statistic", "mean_difference", "l1")

MAX_NEWTON = 100
_TOLERANCE = 1e-10
_PATH = 40


@dataclass(frozen=True)
class KSparseFit(SiteFit):
    """A `SiteFit`, and which features it reads.

    Attributes
    ----------
    support : (L, K + 1, m, largest k) int64, the chosen features of each fit, the best first; −1 where it has fewer.
    """

    support: np.ndarray


@dataclass(frozen=True)
class KSparse(LinearFamily):
    """Choose k features on the training rows, then fit those: mean loss + (l2/2)·‖w‖² over w with k entries.

    Both happen inside each fold: a test row has no say in which features are read. The loss is the log-loss for a
    binary target and ½·(y − f)² for a continuous one, the intercept is free, and the chosen features are standardised
    by the training rows. The features of a smaller k are among those of a larger one, so that the settings trace how
    much every further feature adds. A constant feature is never chosen; a fit has fewer than k where fewer vary.

    Parameters
    ----------
    k : one number of features, several (one is then chosen, and the choice corrected), or None for 1, 2, 4, … 128, as
        far as the width allows.
    select : how features are ranked, every target column on its own:
        `"f_statistic"`: by the F statistic of the target on the feature, the ANOVA one for classes. A difference of
        class means in units of the feature's own spread ranks them just so.
        `"mean_difference"`: by |mean of the positive class − mean of the negative one| in raw activations, as fits
        neurons and latents that share a unit. A binary target only.
        `"l1"`: by the order in which features enter the L1 path of `SparseLogistic` (or `ElasticNet`), which does not
        choose a second feature that says what the first has said; among features that enter together, the larger
        coefficient on standardised features comes first. Features that never enter follow by F statistic.
    l2 : the penalty of the refit.
    kind : `"binary"` or `"continuous"`.
    class_weight : of a binary target: None, `"balanced"`, or a positive number for each class.

    Raises
    ------
    ProbeError : a k that is no positive integer or exceeds the width, an unknown `select` or `kind`, a mean difference
        of a continuous target.

    References
    ----------
    W. Gurnee et al. (2023), Finding Neurons in a Haystack: Case Studies with Sparse Probing, TMLR, arXiv:2305.01610.

    Examples
    --------
    >>> import numpy as np
    >>> from leadline.probes.k_sparse import KSparse
    >>> X = np.random.default_rng(0).normal(size=(300, 20))
    >>> fitted = KSparse(k=2).fit(X, X[:, 3] + X[:, 11] > 0)
    >>> sorted(fitted.fit.support[0, -1, 0].tolist())
    [3, 11]
    """

    k: int | tuple[int, ...] | None = None
    select: str = "f_statistic"
    l2: float = 1e-3
    kind: str = "binary"
    class_weight: ClassWeight = None

    def __post_init__(self) -> None:
        given = () if self.k is None else (self.k,) if isinstance(self.k, int | Integral) else tuple(self.k)
        whole = all(isinstance(x, Integral) and not isinstance(x, bool) and 1 <= x <= LARGEST_K for x in given)
        if not whole or (self.k is not None and not given) or len(set(given)) < len(given):
            raise ProbeError(f"k is {self.k}; expected one or several different whole numbers from 1 to {LARGEST_K}.")
        if self.select not in SELECTIONS:
            raise ProbeError(f"select is {self.select!r}; expected one of {', '.join(SELECTIONS)}.")
        if self.kind not in ("binary", "continuous"):
            raise ProbeError(f"kind is {self.kind!r}; expected 'binary' or 'continuous'.")
        if self.kind == "continuous" and (self.select == "mean_difference" or self.class_weight is not None):
            raise ProbeError(
                "a continuous target has no classes; use select='f_statistic' or 'l1', and no class_weight."
            )
        if not 0 < self.l2 < np.inf:
            raise ProbeError(f"l2 is {self.l2}; expected a positive number.")
        check_class_weight(self.class_weight, self.name)

    @property
    def name(self) -> str:
        return "k_sparse"

    @property
    def kinds(self) -> tuple[str, ...]:
        return (self.kind,)

    @property
    def parameter(self) -> str:
        return "k"

    @property
    def loss(self) -> str:
        return "log_loss" if self.kind == "binary" else "squared_error"

    def grid(self, d: int) -> tuple[int, ...]:
        """The numbers of features that are tried at width `d`."""
        if self.k is None:
            return tuple(k for k in DEFAULT_K if k <= d)
        grid = (int(self.k),) if isinstance(self.k, int | Integral) else tuple(int(x) for x in self.k)
        if max(grid) > d:
            raise ProbeError(f"k is {max(grid)}, and the activations have {d} features; give at most that.")
        return grid

    def fit_site(
        self, X: np.ndarray, Y: np.ndarray, fold: np.ndarray, *, weights: np.ndarray | None = None
    ) -> KSparseFit:
        """Fit every (k × fold × target), and the refit on all rows; see `Family`."""
        n_folds = check_design(X, Y, fold, weights)
        check_labels(Y, self.kind, "k-sparse", fold, weights)
        moments = fold_moments(X, fold, n_folds, weights)
        n, d = X.shape
        grid = self.grid(d)
        m, widest = Y.shape[1], max(grid)
        shape = (len(grid), n_folds + 1, m)
        coef, intercept = np.zeros((*shape, d)), np.empty(shape)
        support = np.full((*shape, widest), -1)
        objective, gap = np.empty(shape), np.empty(shape)
        status, iterations = np.empty(shape, dtype=np.int8), np.zeros(shape, dtype=np.int32)
        scores = np.full((len(grid), n, m), np.nan, dtype=np.float32)
        counted = np.ones(n) if weights is None else weights
        for k in range(n_folds + 1):
            rows = training_rows(fold, k) & (counted > 0)
            test = fold == k
            mean, scale = moments.fold_mean[k], moments.fold_scale[k]
            for column in range(m):
                y = Y[rows, column].astype(np.float64)
                omega = counted[rows]
                if self.kind == "binary":
                    omega = class_weights(y, omega, 2, self.class_weight)
                omega = omega / omega.sum()
                chosen = self._rank(X[rows], y, omega, counted[rows], mean, scale, widest)
                Z = (X[np.ix_(rows, chosen)] - mean[chosen]) / scale[chosen]
                start = np.zeros(1)
                # In growing order, so that each starts from the fit of fewer features.
                for at in np.argsort(grid, kind="stable"):
                    own = chosen[: grid[at]]
                    w, b = np.zeros(len(own)), 0.0
                    part = Z[:, : len(own)]
                    if self.kind == "binary":
                        w[: len(start) - 1], b = start[:-1], float(start[-1])
                        solved = _newton(part, y, omega, self.l2, np.append(w, b))
                        start, *certificate = solved
                    else:
                        start, *certificate = _ridge(part, y, omega, self.l2)
                    w, b = start[:-1], float(start[-1])
                    objective[at, k, column], gap[at, k, column] = certificate[0], certificate[1]
                    status[at, k, column], iterations[at, k, column] = certificate[2], certificate[3]
                    support[at, k, column, : len(own)] = own
                    raw = w / scale[own]
                    coef[at, k, column, own] = raw
                    intercept[at, k, column] = b - raw @ mean[own]
                    scores[at, test, column] = (X[np.ix_(test, own)] - mean[own]) @ raw + b
        return KSparseFit(
            settings=np.array(grid, dtype=np.float64),
            scores=scores,
            coef=coef[:, -1],
            intercept=intercept[:, -1],
            fold_coef=coef[:, :-1].astype(np.float32),
            fold_intercept=intercept[:, :-1],
            objective=objective,
            gap=gap,
            status=status,
            iterations=iterations,
            support=support,
        )

    def _rank(
        self,
        X: np.ndarray,
        y: np.ndarray,
        omega: np.ndarray,
        counted: np.ndarray,
        mean: np.ndarray,
        scale: np.ndarray,
        count: int,
    ) -> np.ndarray:
        """The best `count` features by these rows, the best first, equal ones in their order, and no constant one.

        omega : weights times class weights. counted : weights alone.
        """
        share = _explained(X, y, omega, mean, scale)
        if self.select == "mean_difference":
            positive, negative = omega * y, omega * (1 - y)
            size = np.abs((positive / positive.sum() - negative / negative.sum()) @ (X - mean))
            size[share == 0] = 0.0
            order = np.argsort(-size, kind="stable")
        elif self.select == "f_statistic":
            order = np.argsort(-share, kind="stable")
        else:
            order = self._path_order(X, y, counted, scale, share)
        # A feature that does not vary has no share, and one that varies has rounding at least.
        return np.asarray(order[share[order] > 0][:count])

    def _path_order(
        self, X: np.ndarray, y: np.ndarray, counted: np.ndarray, scale: np.ndarray, share: np.ndarray
    ) -> np.ndarray:
        if share.max() <= np.finfo(np.float64).tiny:
            return np.argsort(-share, kind="stable")
        refit = np.full(len(X), -1)
        path = (
            SparseLogistic(n_l1=_PATH, class_weight=self.class_weight)
            if self.kind == "binary"
            else ElasticNet(n_l1=_PATH)
        ).fit_site(X, y[:, None], refit, weights=counted)
        size = np.abs(path.coef[:, 0] * scale)
        entered = np.where((size > 0).any(axis=0), (size > 0).argmax(axis=0), len(size))
        at_entry = np.where(
            entered < len(size), size[np.minimum(entered, len(size) - 1), np.arange(size.shape[1])], 0.0
        )
        return np.lexsort((-share, -at_entry, entered))


def _explained(X: np.ndarray, y: np.ndarray, omega: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(d,) the squared correlation r² with the target; F = (n − 2)·r²/(1 − r²) grows with it, and so ranks the same."""
    residual = omega * (y - omega @ y)
    spread = float(residual @ (y - omega @ y))
    centre = omega @ X
    # Σω(x − x̄)² about the fold's mean, shifted to the mean under omega, which class weights move.
    variance = np.einsum("n,nd,nd->d", omega, X - mean, X - mean) - np.square(centre - mean)
    varies = (scale != 1.0) | (X.max(axis=0) - X.min(axis=0) >= 0.5)
    if spread <= 0:
        return np.where(varies, np.finfo(np.float64).tiny, 0.0)
    covariance = residual @ (X - mean)
    share = np.divide(covariance**2, variance * spread, out=np.zeros(X.shape[1]), where=varies & (variance > 0))
    return np.where(varies, np.maximum(share, np.finfo(np.float64).tiny), 0.0)


def _newton(
    Z: np.ndarray, y: np.ndarray, omega: np.ndarray, l2: float, start: np.ndarray
) -> tuple[np.ndarray, float, float, Status, int]:
    """Newton's method for Σ ω·log-loss + (l2/2)·‖w‖² over few features.

    Parameters
    ----------
    Z : (n, k). y : (n,) of 0 and 1. omega : (n,), sum 1. start : (k + 1,) coefficients, and the intercept at the end.

    Returns
    -------
    (k + 1,) the solution, its objective, the bound of (objective − minimum) / objective, a status, iterations.
    """
    k = Z.shape[1]
    sign = 2 * y - 1
    x = start.copy()
    penalty = np.append(np.full(k, l2), 0.0)
    f = Z @ x[:k] + x[k]
    value = float(-omega @ log_expit(sign * f)) + 0.5 * float(penalty @ np.square(x))
    for iteration in range(MAX_NEWTON + 1):
        probability = expit(f)
        residual = omega * (probability - y)
        gradient = np.append(Z.T @ residual, residual.sum()) + penalty * x
        h = omega * probability * (1 - probability)
        hessian = np.empty((k + 1, k + 1))
        weighted = Z * h[:, None]
        hessian[:k, :k] = Z.T @ weighted
        hessian[:k, k] = hessian[k, :k] = weighted.sum(axis=0)
        hessian[k, k] = max(float(h.sum()), 1e-12)
        hessian[np.diag_indices(k)] += l2
        if not np.isfinite(value):
            return x, value, np.inf, Status.NOT_FINITE, iteration
        try:
            step = scipy.linalg.cho_solve(scipy.linalg.cho_factor(hessian, check_finite=False), -gradient)
        except np.linalg.LinAlgError:
            step = -gradient / np.maximum(hessian.diagonal(), 1e-12)
        slope = float(gradient @ step)
        # ‖g‖²/(2·l2) bounds the coefficients' share of the excess; the intercept's is taken at its own curvature.
        gap = (float(np.square(gradient[:k]).sum()) / (2 * l2) + gradient[k] ** 2 / (2 * hessian[k, k])) / value
        if gap <= _TOLERANCE:
            return x, value, gap, Status.CONVERGED, iteration
        along = Z @ step[:k] + step[k]
        size = 1.0
        for _ in range(40):
            trial = x + size * step
            scores = f + size * along
            found = float(-omega @ log_expit(sign * scores)) + 0.5 * float(penalty @ np.square(trial))
            if found <= value + 1e-4 * size * slope:
                break
            size *= 0.5
        else:
            return x, value, gap, Status.STALLED, iteration
        x, f, value = trial, scores, found
    return x, value, gap, Status.ITERATION_LIMIT, MAX_NEWTON


def _ridge(Z: np.ndarray, y: np.ndarray, omega: np.ndarray, l2: float) -> tuple[np.ndarray, float, float, Status, int]:
    """The minimiser of Σ ω·½(y − f)² + (l2/2)·‖w‖², as `_newton` returns it."""
    centre, middle = omega @ Z, omega @ y
    weighted = (Z - centre) * omega[:, None]
    gram = weighted.T @ (Z - centre)
    gram[np.diag_indices_from(gram)] += l2
    w = np.linalg.solve(gram, weighted.T @ (y - middle))
    b = middle - centre @ w
    value = 0.5 * float(omega @ np.square(y - Z @ w - b)) + 0.5 * l2 * float(w @ w)
    return np.append(w, b), value, 0.0, Status.CONVERGED, 0
