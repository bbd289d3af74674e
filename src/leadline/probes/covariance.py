"""Within-class covariance: its shrinkage, and its inverse applied to class means on the smaller side of n and d."""

from __future__ import annotations

import numpy as np
import scipy.linalg

__all__ = ["Spectrum", "inverse_plus_diagonal", "ledoit_wolf", "oas", "spread_of"]

_CONSTANT = 1e-10
"""A standard deviation, in units of the standardised feature, below which a class has one value only."""


class Spectrum:
    """Eigenvectors of a covariance S = R'R, and with them the inverse of every (1 − s)·S + s·τ·I.

    Taken from R (r, d) on its smaller side, or from S (d, d) itself. Eigenvalues below λ_max · max(r, d) · ε are
    rounding, and count as 0.

    Parameters
    ----------
    rows : R (r, d); or matrix : R'R (d, d).
    rounding : how many times that bound counts as 0, for a matrix that is itself a difference of larger ones.

    Attributes
    ----------
    values : (q,) the eigenvalues that are not 0, ascending. trace : of S.
    """

    def __init__(
        self, rows: np.ndarray | None = None, *, matrix: np.ndarray | None = None, rounding: float = 1.0
    ) -> None:
        d = rows.shape[1] if rows is not None else len(matrix) if matrix is not None else 0
        r = len(rows) if rows is not None else d
        if matrix is None and rows is not None and r >= d:
            matrix = rows.T @ rows
        self._rows = None if matrix is not None else rows
        gram = matrix if matrix is not None else rows @ rows.T if rows is not None else np.empty((0, 0))
        values, vectors = scipy.linalg.eigh(gram, driver="evd", check_finite=False)
        kept = values > max(values[-1], 0.0) * max(r, d) * np.finfo(np.float64).eps * rounding
        self.values, self._vectors = values[kept], vectors[:, kept]
        self.trace = float(np.trace(gram))

    def inverse(self, columns: np.ndarray, shrinkage: float = 0.0, target: float = 0.0) -> np.ndarray:
        """((1 − s)·S + s·τ·I)⁻¹ columns, (d, c); for s·τ = 0 the pseudo-inverse.

        Parameters
        ----------
        columns : (d, c). shrinkage : s. target : τ.
        """
        root = np.sqrt(self.values)[:, None]
        inner = self._vectors.T @ (columns if self._rows is None else self._rows @ columns)
        inner = inner if self._rows is None else inner / root
        floor = shrinkage * target
        along = inner / ((1 - shrinkage) * self.values[:, None] + floor)
        if floor == 0:
            return self._back(along, root)
        # Outside the span of the rows the covariance is s·τ·I alone.
        outside = columns - self._back(inner, root)
        return np.asarray(self._back(along, root) + outside / floor)

    def _back(self, inner: np.ndarray, root: np.ndarray) -> np.ndarray:
        if self._rows is None:
            return np.asarray(self._vectors @ inner)
        return np.asarray(self._rows.T @ (self._vectors @ (inner / root)))


def inverse_plus_diagonal(
    columns: np.ndarray, diagonal: np.ndarray, rows: np.ndarray | None = None, *, matrix: np.ndarray | None = None
) -> np.ndarray:
    """(R'R + diag(D))⁻¹ columns, (d, c), by Cholesky: of d × d, or of r × r (Woodbury) where r < d.

    Parameters
    ----------
    columns : (d, c). diagonal : (d,) > 0. rows : R (r, d); or matrix : R'R (d, d).
    """
    # Scaled by D^-1/2 the matrix is I plus a positive one, so that Cholesky cannot fail whatever the units are.
    half = 1 / np.sqrt(diagonal)[:, None]
    scaled = columns * half
    if rows is not None and len(rows) < rows.shape[1]:
        own = rows * half[:, 0]
        gram = own @ own.T
        gram[np.diag_indices_from(gram)] += 1
        factor = scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
        solved = scipy.linalg.cho_solve(factor, own @ scaled, check_finite=False)
        return np.asarray((scaled - own.T @ solved) * half)
    if matrix is None:
        own = (rows if rows is not None else np.empty((0, len(diagonal)))) * half[:, 0]
        gram = own.T @ own
    else:
        gram = matrix * half * half.T
    gram[np.diag_indices_from(gram)] += 1
    factor = scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    return np.asarray(scipy.linalg.cho_solve(factor, scaled, check_finite=False) * half)


def ledoit_wolf(rows: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """Shrinkage s and target D of (1 − s)·S + diag(s·D), by Ledoit and Wolf, on the correlations of one class.

    The class is standardised by its own spread before s is estimated and scaled back after, so D is μ times the
    variances, with μ the share of features that vary.

    Parameters
    ----------
    rows : (n_c, d), centred on their weighted mean. weights : (n_c,) > 0.

    Returns
    -------
    s in [0, 1], and D (d,).

    References
    ----------
    O. Ledoit and M. Wolf (2004), A well-conditioned estimator for large-dimensional covariance matrices.
    """
    d, total = rows.shape[1], weights.sum()
    spread = np.sqrt(np.einsum("n,nd,nd->d", weights, rows, rows) / total)
    varies = spread > _CONSTANT
    scale = np.where(varies, spread, 1.0)
    mu = float(varies.mean())
    target = mu * np.square(scale)
    if d == 1 or mu == 0:
        return 0.0, target
    own = rows / scale * varies
    norms = np.einsum("nd,nd->n", own, own)
    frobenius = _frobenius(own * np.sqrt(weights)[:, None]) / total**2
    beta = (weights @ np.square(norms) / total - frobenius) / (d * total)
    delta = frobenius / d - mu**2
    beta = min(beta, delta)
    return (0.0 if beta <= 0 else float(beta / delta)), target


def oas(frobenius: float, trace: float, d: int, total: float) -> float:
    """Shrinkage s of (1 − s)·S + s·(tr S / d)·I by oracle approximation, for Gaussian rows.

    Parameters
    ----------
    frobenius : squared Frobenius norm of S. trace : of S. total : number of rows, or the sum of their weights.

    References
    ----------
    Y. Chen, A. Wiesel, Y. C. Eldar and A. O. Hero (2010), Shrinkage algorithms for MMSE covariance estimation.
    """
    if d == 1:
        return 0.0
    alpha, mu = frobenius / d**2, (trace / d) ** 2
    below = (total + 1) * (alpha - mu / d)
    return 1.0 if below <= 0 else min((alpha + mu) / below, 1.0)


def spread_of(rows: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """The squared Frobenius norm and the trace of the covariance of centred rows (n_c, d), weighted (n_c,)."""
    own = rows * np.sqrt(weights / weights.sum())[:, None]
    return _frobenius(own), float(np.square(own).sum())


def _frobenius(own: np.ndarray) -> float:
    """‖R'R‖², which is ‖RR'‖² too."""
    gram = own @ own.T if len(own) < own.shape[1] else own.T @ own
    return float(np.square(gram).sum())
