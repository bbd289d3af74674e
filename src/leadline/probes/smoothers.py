"""Label-free smoothers: what the permutation test multiplies thousands of shuffled labellings with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.linalg

from leadline.probes.folds import fold_moments

__all__ = ["ridge_smoothers"]


def ridge_smoothers(X: np.ndarray, fold: np.ndarray) -> Iterator[np.ndarray]:
    """Ridge smoothers of each fold, with a penalty set without labels: a tenth of the mean non-zero eigenvalue.

    The features are standardised over all rows, which needs no label either.

    Parameters
    ----------
    X : (n, d) raw activations. fold : (n,) the fold that tests a row.

    Yields
    ------
    (n_test, n_train) float32 for fold 0, 1, …; times centred training labels it gives the test rows' scores, up to a
    constant.
    """
    moments = fold_moments(X, fold, int(fold.max()) + 1)
    Z = ((X - moments.mean) / moments.scale).astype(np.float32)
    n, d = Z.shape
    penalty = np.float32(0.1 * max(float(np.square(Z, dtype=np.float64).sum()) / n / min(n, d), 1e-6))
    primal = d <= n
    parts = [Z[fold == k].T @ Z[fold == k] for k in range(int(fold.max()) + 1)] if primal else []
    total = np.sum(parts, axis=0) if primal else Z @ Z.T
    for k in range(int(fold.max()) + 1):
        test = fold == k
        own, other = Z[~test], Z[test]
        size = len(own)
        mean = own.mean(axis=0, dtype=np.float64).astype(np.float32)
        if primal:
            gram = (total - parts[k]) / size - np.outer(mean, mean)
            gram[np.diag_indices_from(gram)] += penalty
            factor = scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
            half = scipy.linalg.cho_solve(factor, (other - mean).T, check_finite=False).T
            yield np.asarray(half @ (own - mean).T / size)
        else:
            inner, cross = total[np.ix_(~test, ~test)], total[np.ix_(test, ~test)]
            column = inner.mean(axis=0)
            cross = cross - cross.mean(axis=1, keepdims=True) - column + column.mean()
            inner = (inner - column - column[:, None] + column.mean()) / size
            inner[np.diag_indices_from(inner)] += penalty
            factor = scipy.linalg.cho_factor(inner, lower=True, overwrite_a=True, check_finite=False)
            yield np.asarray(scipy.linalg.cho_solve(factor, cross.T, check_finite=False).T / size)
