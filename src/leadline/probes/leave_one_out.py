"""Leave-one-out and generalised cross-validation of ridge regression, in closed form for every penalty and target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from leadline.errors import ProbeError

__all__ = ["LeaveOneOut", "leave_one_out"]


@dataclass(frozen=True)
class LeaveOneOut:
    """What ridge regression predicts for rows that it did not see, for L penalties and m targets.

    Attributes
    ----------
    grid : (L,) the penalties l2.
    loo_predictions : (L, n, m) of each row by the fit on the others.
    loo_error : (L, m) their mean squared error, each row counted by its weight.
    gcv : (L, m) generalised cross-validation: mean(r²) / (1 − tr H / n)², with r the residuals and H the smoother of
        the fit on all rows, intercept included.
    best : (m,) index into `grid` of the smallest `loo_error`.

    References
    ----------
    D. M. Allen (1974), The relationship between variable selection and data augmentation and a method for prediction.
    G. H. Golub, M. Heath and G. Wahba (1979), Generalized cross-validation as a method for choosing a good ridge
    parameter.
    """

    grid: np.ndarray
    loo_predictions: np.ndarray
    loo_error: np.ndarray
    gcv: np.ndarray
    best: np.ndarray


def leave_one_out(Z: np.ndarray, Y: np.ndarray, omega: np.ndarray, grid: tuple[float, ...]) -> LeaveOneOut:
    """Leave each row out of Σ_i ω_i·½(y_i − f(z_i))² / Σω + (l2/2)·‖w‖², with a free intercept.

    The residual of row i without it is r_i / (1 − h_i), with h_i the i-th diagonal element of H.

    Parameters
    ----------
    Z : (n, d) standardised features, of weighted mean 0. Y : (n, m). omega : (n,) ≥ 0.

    Raises
    ------
    ProbeError : fewer than two rows of positive weight.
    """
    kept = omega > 0
    if kept.sum() < 2:
        raise ProbeError(f"{int(kept.sum())} rows count, and leaving one out takes 2 or more; give more rows.")
    total = omega.sum()
    root = np.sqrt(omega[kept] / total)
    own = Z[kept] * root[:, None]
    centre = (omega / total) @ Y
    y = (Y[kept] - centre) * root[:, None]
    penalties = np.asarray(grid)
    n, d = own.shape
    if d < n:
        values, vectors = scipy.linalg.eigh(own.T @ own, driver="evd", check_finite=False)
        rotated = own @ vectors
        filters = 1 / (np.maximum(values, 0.0) + penalties[:, None])
        along = rotated.T @ y
        residual = y - np.stack([rotated @ (f[:, None] * along) for f in filters])
        remaining = 1 - np.square(root) - filters @ np.square(rotated).T
        slopes = np.stack([vectors @ (f[:, None] * along) for f in filters])
        trace = 1 + filters @ np.maximum(values, 0.0)
    else:
        # The rows are centred, so √ω is an eigenvector of value 0. Moved to the top it can be dropped, and 1 − h is a
        # sum of positive terms: no digits are lost where the fit runs through every point.
        gram = own @ own.T
        gram += np.outer(root, root) * (2 * np.trace(gram) + 1)
        values, vectors = scipy.linalg.eigh(gram, driver="evd", check_finite=False)
        values, vectors = np.maximum(values[:-1], 0.0), vectors[:, :-1]
        filters = 1 / (values + penalties[:, None])
        along = vectors.T @ y
        left = penalties[:, None] * filters
        residual = np.stack([vectors @ (f[:, None] * along) for f in left])
        remaining = left @ np.square(vectors).T
        slopes = np.stack([own.T @ (vectors @ (f[:, None] * along)) for f in filters])
        trace = 1 + filters @ values
    predictions = np.empty((len(grid), *Y.shape))
    predictions[:, ~kept] = centre + Z[~kept] @ slopes
    error = residual / remaining[:, :, None]
    predictions[:, kept] = Y[kept] - error / root[:, None]
    loo_error = np.square(error).sum(axis=1)
    gcv = np.square(residual).sum(axis=1) / np.square(1 - trace / total)[:, None]
    return LeaveOneOut(penalties, predictions, loo_error, gcv, np.argmin(loo_error, axis=0))
