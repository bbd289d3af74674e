"""Moments of the training rows of every fold, so that each fold is standardised by its own rows alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leadline.errors import ProbeError

__all__ = ["FoldMoments", "check_design", "fold_moments", "training_rows"]


@dataclass(frozen=True)
class FoldMoments:
    """Means and standard deviations of the features.

    Attributes
    ----------
    mean, scale : (d,) float64, over all rows. A constant feature has scale 1: after centring it is 0 everywhere.
    fold_mean, fold_scale : (K + 1, d) float64, over the training rows of each fold; the last row is over all rows
        (the refit), and so equals `mean` and `scale`.
    """

    mean: np.ndarray
    scale: np.ndarray
    fold_mean: np.ndarray
    fold_scale: np.ndarray


def training_rows(fold: np.ndarray, k: int) -> np.ndarray:
    """(n,) bool: the rows that fold `k` trains on; for `k` = number of folds, all of them (the refit)."""
    return np.asarray(fold != k)


def check_design(X: np.ndarray, Y: np.ndarray, fold: np.ndarray) -> int:
    """Check shapes and values, and return the number of folds.

    Raises
    ------
    ProbeError : shapes that do not fit, values that are not finite, fold numbers with gaps, fewer than two folds.
    """
    if X.ndim != 2 or Y.ndim != 2 or len(X) != len(Y) or fold.shape != (len(X),):
        raise ProbeError(
            f"got X {X.shape}, Y {Y.shape}, fold {fold.shape}; expected X (n, d), Y (n, m) and fold (n,) of one n."
        )
    if not np.isfinite(X).all():
        raise ProbeError(
            f"{int((~np.isfinite(X)).any(axis=1).sum())} of {len(X)} rows hold a NaN or an infinity; "
            "extract them again in float32 or bfloat16, or leave them out."
        )
    if not np.isfinite(Y).all():
        raise ProbeError("the targets hold a NaN or an infinity; leave those rows out.")
    n_folds = int(fold.max()) + 1
    if n_folds < 2 or set(np.unique(fold)) != set(range(n_folds)):
        raise ProbeError(f"fold numbers are {sorted(set(fold.tolist()))[:8]}; expected 0 to K-1 with K of 2 or more.")
    return n_folds


def fold_moments(X: np.ndarray, fold: np.ndarray, n_folds: int) -> FoldMoments:
    """Moments in float64, one pass over the rows of each fold.

    A feature whose spread is below 1e-6 of its own magnitude is taken as constant: in float32 it is rounding.
    """
    n, d = X.shape
    mean = X.mean(axis=0, dtype=np.float64)
    sums = np.zeros((n_folds, d))
    squares = np.zeros((n_folds, d))
    counts = np.zeros(n_folds)
    for k in range(n_folds):
        part = X[fold == k].astype(np.float64) - mean
        sums[k], squares[k], counts[k] = part.sum(0), np.square(part).sum(0), len(part)
    train_n = np.append(n - counts, n)[:, None]
    train_mean = np.vstack([sums.sum(0) - sums, sums.sum(0)]) / train_n
    train_square = np.vstack([squares.sum(0) - squares, squares.sum(0)]) / train_n
    scale = np.sqrt(np.maximum(train_square - np.square(train_mean), 0.0))
    constant = scale <= 1e-6 * np.maximum(np.abs(mean), np.abs(X).max(axis=0) * 1e-3)
    scale = np.where(constant, 1.0, scale)
    return FoldMoments(mean, scale[-1], train_mean + mean, scale)
