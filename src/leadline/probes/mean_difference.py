"""The difference of class means in raw activation space, plain or divided by the pooled covariance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from leadline.errors import ProbeError
from leadline.probes.covariance import Spectrum
from leadline.probes.fit import SiteFit
from leadline.probes.fitted import LinearFamily
from leadline.probes.folds import check_design, check_labels, training_rows

__all__ = ["MeanDifference", "pooled_difference"]


@dataclass(frozen=True)
class MeanDifference(LinearFamily):
    """w = μ₊ − μ₋, or Σ⁻¹(μ₊ − μ₋); the threshold lies halfway between the two means: f(x) = w'(x − (μ₊ + μ₋)/2).

    μ₊ and μ₋ are the means of the positive and the negative class ("mass-mean" probing). No penalty, no scaling,
    nothing to choose.

    Parameters
    ----------
    covariance : `"identity"`, the plain difference; `"pooled"`, divided by the covariance within the classes,
        Σ = 1/n · Σ_i (x_i − μ_y(i))(x_i − μ_y(i))', for test rows from the same distribution. Where Σ is singular,
        as for d ≥ n, its pseudo-inverse is taken. It is the unshrunk `LDA` but for the threshold.

    Raises
    ------
    ProbeError : an unknown covariance.

    References
    ----------
    S. Marks and M. Tegmark (2023), The Geometry of Truth, arXiv:2310.06824.
    """

    covariance: str = "identity"

    def __post_init__(self) -> None:
        if self.covariance not in ("identity", "pooled"):
            raise ProbeError(f"covariance is {self.covariance!r}; expected 'identity' or 'pooled'.")

    @property
    def name(self) -> str:
        return "mean_difference" if self.covariance == "identity" else "mean_difference_pooled"

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("binary",)

    @property
    def parameter(self) -> None:
        return None

    @property
    def loss(self) -> str:
        return "log_loss"

    def fit_site(self, X: np.ndarray, Y: np.ndarray, fold: np.ndarray, *, weights: np.ndarray | None = None) -> SiteFit:
        """Fit every (fold × target), and the refit on all rows; see `Family`."""
        n_folds = check_design(X, Y, fold, weights)
        check_labels(Y, "binary", "mean difference", fold, weights)
        n, d = X.shape
        m = Y.shape[1]
        origin = X.mean(axis=0, dtype=np.float64)
        centred = X - origin
        omega = np.ones((n, 1)) if weights is None else weights[:, None]
        shape = (1, n_folds + 1, m)
        coef, intercept = np.empty((*shape, d)), np.empty(shape)
        scores = np.full((1, n, m), np.nan, dtype=np.float32)
        for k in range(n_folds + 1):
            rows = training_rows(fold, k)
            of_positive, of_negative = Y[rows] * omega[rows], (1 - Y[rows]) * omega[rows]
            positive = (of_positive / of_positive.sum(axis=0)).T @ centred[rows]
            negative = (of_negative / of_negative.sum(axis=0)).T @ centred[rows]
            w = positive - negative
            if self.covariance == "pooled":
                w = _divided(centred[rows], Y[rows], omega[rows], positive, negative)
            b = -np.sum(w * (positive + negative), axis=1) / 2
            coef[0, k], intercept[0, k] = w, b - w @ origin
            scores[0, ~rows] = centred[~rows] @ w.T + b
        return SiteFit.closed_form((np.nan,), scores, coef, intercept)

    def smoothers(self, X: np.ndarray, fold: np.ndarray) -> Iterator[np.ndarray]:
        """(n_test, n_train) inner products a fold: with centred labels they give the score up to scale and constant.

        For a pooled covariance, which needs the labels, least squares; see `leadline.probes.smoothers`.
        """
        if self.covariance == "pooled":
            yield from super().smoothers(X, fold)
            return
        for k in range(int(fold.max()) + 1):
            test = fold == k
            origin = X[~test].mean(axis=0, dtype=np.float64)
            yield np.asarray((X[test] - origin).astype(np.float32) @ (X[~test] - origin).astype(np.float32).T)


def _divided(
    rows: np.ndarray, Y: np.ndarray, omega: np.ndarray, positive: np.ndarray, negative: np.ndarray
) -> np.ndarray:
    """(m, d) the differences of means, times the pseudo-inverse of each target's within-class covariance."""
    root = np.sqrt(omega / omega.sum())
    w = np.empty_like(positive)
    for column, (one, zero) in enumerate(zip(positive, negative, strict=True)):
        own = (rows - np.where(Y[:, column, None] > 0, one, zero)) * root
        w[column] = pooled_difference(Spectrum(own), one - zero)
    return w


def pooled_difference(within: Spectrum, difference: np.ndarray) -> np.ndarray:
    """(d,) Σ⁻¹ times a difference of means (d,), from the spectrum of the within-class covariance Σ.

    Raises
    ------
    ProbeError : no class varies.
    """
    if within.trace <= 0:
        raise ProbeError(
            "no class varies in the training rows of some fold, so there is no within-class covariance; give more rows "
            "a class, or use covariance='identity'."
        )
    return np.asarray(within.inverse(difference[:, None])[:, 0])
