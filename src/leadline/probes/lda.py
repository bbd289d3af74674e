"""Linear discriminant analysis with a shrunk covariance, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leadline.errors import ProbeError
from leadline.probes.covariance import Spectrum, inverse_plus_diagonal, ledoit_wolf, oas, spread_of
from leadline.probes.fit import SiteFit
from leadline.probes.fitted import LinearFamily
from leadline.probes.folds import check_design, check_labels, fold_moments, training_rows

__all__ = ["LDA", "check_class_kind", "class_priors", "discriminants"]

_ESTIMATES = ("ledoit_wolf", "oas")


@dataclass(frozen=True)
class LDA(LinearFamily):
    """Linear discriminant analysis: score_c(x) = x'Σ⁻¹μ_c − ½ μ_c'Σ⁻¹μ_c + log π_c, features standardised in each fold.

    Σ = Σ_c π_c·S_c is the pooled within-class covariance, shrunk; nothing is iterated. A binary fit has one output,
    score_1 − score_0, the log odds of the positive class under Gaussian classes of one covariance. A multiclass fit has
    C, whose softmax are the posterior probabilities; a constant common to all of them is left free.

    On the standardised features it is the `LinearDiscriminantAnalysis(solver="lsqr")` of scikit-learn with
    `shrinkage="auto"`, with `covariance_estimator=OAS()`, or with a number. If d > n, matrices of n × n are factorised
    in place of d × d.

    Parameters
    ----------
    shrinkage : `"ledoit_wolf"` shrinks each class's S_c toward the diagonal of its variances by Ledoit and Wolf's
        estimate on its correlations; `"oas"` toward (tr S_c / d)·I by the oracle approximation; a number s in [0, 1]
        takes (1 − s)·Σ + s·(tr Σ / d)·I; several numbers, of which one is then chosen. Where Σ stays singular (s = 0
        and d > n), its pseudo-inverse is taken.
    priors : π_c, in the covariance and in the intercept: `"empirical"`, by the (weighted) rows of each class;
        `"uniform"`; or a positive number a class, in the order of their codes, scaled to a sum of 1. Class weights
        would do just this, so there are none.
    kind : `"binary"`, columns of 0 and 1, each with one output; `"multiclass"`, one column of codes 0 … C−1.

    Raises
    ------
    ProbeError : a shrinkage outside [0, 1], unknown names, or priors that are not positive.

    References
    ----------
    R. A. Fisher (1936), The use of multiple measurements in taxonomic problems. O. Ledoit and M. Wolf (2004), A
    well-conditioned estimator for large-dimensional covariance matrices. Y. Chen et al. (2010), Shrinkage algorithms
    for MMSE covariance estimation.

    Examples
    --------
    >>> import numpy as np
    >>> from leadline.probes.lda import LDA
    >>> X = np.random.default_rng(0).normal(size=(200, 8))
    >>> fitted = LDA(shrinkage=(0.01, 0.1, 0.5)).fit(X, X[:, 0] > 0)
    >>> fitted.setting in (0.01, 0.1, 0.5)
    True
    """

    shrinkage: str | float | tuple[float, ...] = "ledoit_wolf"
    priors: str | tuple[float, ...] = "empirical"
    kind: str = "binary"

    def __post_init__(self) -> None:
        if isinstance(self.shrinkage, str):
            if self.shrinkage not in _ESTIMATES:
                raise ProbeError(
                    f"shrinkage is {self.shrinkage!r}; expected 'ledoit_wolf', 'oas', or numbers from 0 to 1."
                )
        elif not self.grid or any(not 0 <= s <= 1 for s in self.grid):
            raise ProbeError(f"shrinkage is {self.shrinkage}; expected one or several numbers from 0 to 1.")
        if self.priors not in ("empirical", "uniform") and (
            isinstance(self.priors, str) or any(not 0 < float(p) < np.inf for p in self.priors)
        ):
            raise ProbeError(
                f"priors are {self.priors!r}; expected 'empirical', 'uniform', or a positive number for each class."
            )
        check_class_kind(self.kind, "LDA")

    @property
    def name(self) -> str:
        return "lda"

    @property
    def kinds(self) -> tuple[str, ...]:
        return (self.kind,)

    @property
    def parameter(self) -> str | None:
        return None if isinstance(self.shrinkage, str) else "shrinkage"

    @property
    def loss(self) -> str:
        return "log_loss" if self.kind == "binary" else "multiclass_log_loss"

    @property
    def grid(self) -> tuple[float, ...]:
        """The shrinkages that are tried; one NaN where it is estimated."""
        if isinstance(self.shrinkage, str):
            return (np.nan,)
        return (
            (float(self.shrinkage),) if isinstance(self.shrinkage, int | float) else tuple(map(float, self.shrinkage))
        )

    def fit_site(self, X: np.ndarray, Y: np.ndarray, fold: np.ndarray, *, weights: np.ndarray | None = None) -> SiteFit:
        """Fit every (shrinkage × fold × target), and the refit on all rows; see `Family`."""
        n_folds = check_design(X, Y, fold, weights)
        n_classes = check_labels(Y, self.kind, "LDA", fold, weights)
        moments = fold_moments(X, fold, n_folds, weights)
        n, d = X.shape
        omega = np.ones(n) if weights is None else weights
        outputs = Y.shape[1] if self.kind == "binary" else n_classes
        shape = (len(self.grid), n_folds + 1, outputs)
        coef, intercept = np.empty((*shape, d)), np.empty(shape)
        scores = np.full((len(self.grid), n, outputs), np.nan, dtype=np.float32)
        for k in range(n_folds + 1):
            test = ~training_rows(fold, k)
            rows = ~test & (omega > 0)
            mean, scale = moments.fold_mean[k], moments.fold_scale[k]
            Z = (X[rows] - mean) / scale
            fits = [self._fit(Z, column, omega[rows], n_classes) for column in Y[rows].T.astype(np.int64)]
            w = np.concatenate([each[0] for each in fits], axis=1)
            b = np.concatenate([each[1] for each in fits], axis=1)
            coef[:, k] = w / scale
            intercept[:, k] = b - coef[:, k] @ mean
            held = ((X[test] - mean) / scale) @ w.reshape(-1, d).T
            scores[:, test] = np.moveaxis(held.reshape(-1, *b.shape), 0, 1) + b[:, None]
        return SiteFit.closed_form(
            self.grid, scores, coef, intercept, problems=Y.shape[1] if self.kind == "binary" else 1
        )

    def _fit(
        self, Z: np.ndarray, codes: np.ndarray, omega: np.ndarray, n_classes: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(L, c, d) coefficients and (L, c) intercepts for standardised training rows (r, d)."""
        totals = np.bincount(codes, omega, n_classes)
        priors = class_priors(self.priors, totals)
        means = np.empty((n_classes, Z.shape[1]))
        own = np.empty_like(Z)
        diagonal = np.zeros(Z.shape[1])
        for c in range(n_classes):
            members = codes == c
            weight = omega[members]
            means[c] = weight / totals[c] @ Z[members]
            centred = Z[members] - means[c]
            s, target = 0.0, diagonal
            if self.shrinkage == "ledoit_wolf":
                s, target = ledoit_wolf(centred, weight)
            elif self.shrinkage == "oas":
                frobenius, trace = spread_of(centred, weight)
                s, target = (
                    oas(frobenius, trace, len(diagonal), totals[c]),
                    np.full(len(diagonal), trace / len(diagonal)),
                )
            diagonal = diagonal + priors[c] * s * target
            own[members] = centred * np.sqrt((1 - s) * priors[c] * weight / totals[c])[:, None]
        if isinstance(self.shrinkage, str):
            return discriminants(means, priors, None, diagonal, rows=own, binary=self.kind == "binary")
        return discriminants(means, priors, self.grid, None, rows=own, binary=self.kind == "binary")


def discriminants(
    means: np.ndarray,
    priors: np.ndarray,
    grid: tuple[float, ...] | None,
    diagonal: np.ndarray | None,
    *,
    rows: np.ndarray | None = None,
    matrix: np.ndarray | None = None,
    rounding: float = 1.0,
    binary: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """The linear discriminants of classes with one covariance.

    Parameters
    ----------
    means : (C, d), in a basis whose origin lies near them. priors : (C,).
    grid : (L,) shrinkages of the covariance R'R toward a multiple of the identity; or None with
    diagonal : (d,), which is added to R'R as it is.
    rows : R (r, d); or matrix : R'R (d, d). rounding : see `Spectrum`.
    binary : whether to return score_1 − score_0 alone.

    Returns
    -------
    (L, c, d) coefficients and (L, c) intercepts.

    Raises
    ------
    ProbeError : no class varies.
    """
    if grid is not None or diagonal is None or not diagonal.any():
        spectrum = Spectrum(rows, matrix=matrix, rounding=rounding)
        if spectrum.trace <= 0:
            raise ProbeError(
                "no class varies in the training rows of some fold, so there is no within-class covariance; "
                "give more rows a class, or use MeanDifference or NearestCentroid."
            )
        target = spectrum.trace / means.shape[1]
        solved = np.stack([spectrum.inverse(means.T, s, target).T for s in grid or (0.0,)])
    else:
        solved = inverse_plus_diagonal(means.T, diagonal, rows, matrix=matrix).T[None]
    offset = np.log(priors) - 0.5 * np.einsum("lcd,cd->lc", solved, means)
    if not binary:
        return solved, offset
    w = solved[:, 1] - solved[:, 0]
    # As a product of a difference and a sum, the intercept keeps its digits where the means are close.
    b = np.log(priors[1] / priors[0]) - 0.5 * w @ (means[1] + means[0])
    return w[:, None], b[:, None]


def class_priors(priors: str | tuple[float, ...], totals: np.ndarray) -> np.ndarray:
    """(C,) priors that sum to 1, from a specification and the (weighted) rows of each class.

    Raises
    ------
    ProbeError : a number of priors other than of classes.
    """
    if priors == "empirical":
        return np.asarray(totals / totals.sum())
    if isinstance(priors, str):
        return np.full(len(totals), 1 / len(totals))
    if len(priors) != len(totals):
        raise ProbeError(f"got {len(priors)} priors for {len(totals)} classes; give one for each.")
    given = np.array([float(p) for p in priors])
    return np.asarray(given / given.sum())


def check_class_kind(kind: str, family: str) -> None:
    """Check the `kind` of a family that takes two classes or several.

    Raises
    ------
    ProbeError : neither "binary" nor "multiclass".
    """
    if kind not in ("binary", "multiclass"):
        raise ProbeError(f"kind of a {family} probe is {kind!r}; expected 'binary' or 'multiclass'.")
