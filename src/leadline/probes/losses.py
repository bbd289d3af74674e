"""Losses of out-of-fold scores, by which `fit` chooses among a family's settings. Nothing here is minimised."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit, log_expit, logsumexp, softmax

__all__ = ["LOSSES", "decide", "probabilities_of"]


def _log_loss(scores: np.ndarray, Y: np.ndarray) -> np.ndarray:
    return -log_expit(np.where(Y > 0.5, scores, -scores))


def _squared_error(scores: np.ndarray, Y: np.ndarray) -> np.ndarray:
    return np.square(scores - Y)


def _squared_margin(scores: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """For fits to −1 and +1 by least squares, where binary labels are given as 0 and 1."""
    return np.square(scores - (2 * Y - 1)) if np.isin(Y[~np.isnan(Y)], (0.0, 1.0)).all() else np.square(scores - Y)


def _squared_hinge(scores: np.ndarray, Y: np.ndarray) -> np.ndarray:
    return np.square(np.maximum(1 - np.where(Y > 0.5, scores, -scores), 0))


def _multiclass_log_loss(scores: np.ndarray, Y: np.ndarray) -> np.ndarray:
    codes = Y[:, 0].astype(np.int64)
    return (logsumexp(scores, axis=1) - scores[np.arange(len(codes)), codes])[:, None]


def _ordinal_log_loss(scores: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Scores are the log odds of y > 0, y > 1, …; a class's probability is the difference of two neighbours."""
    codes = Y[:, 0].astype(np.int64)
    ends = np.full((len(codes), 1), np.inf)
    bounded = np.hstack([ends, scores, -ends])
    at = np.arange(len(codes))
    upper, lower = bounded[at, codes], bounded[at, codes + 1]
    # log(σ(u) − σ(l)) = log σ(u) + log σ(−l) + log(1 − e^(l−u)), which keeps its digits in the tails.
    with np.errstate(divide="ignore"):
        return -(log_expit(upper) + log_expit(-lower) + np.log1p(-np.exp(np.minimum(lower - upper, 0.0))))[:, None]


def probabilities_of(loss: str, scores: np.ndarray) -> np.ndarray:
    """Class probabilities (n, C) from scores (n, c) that are log odds; (n, m) of class 1 for several binary columns."""
    if loss == "multiclass_log_loss":
        return np.asarray(softmax(scores.astype(np.float64), axis=1))
    above = expit(scores.astype(np.float64))
    if loss == "ordinal_log_loss":
        ends = np.ones((len(above), 1))
        return np.asarray(-np.diff(np.hstack([ends, above, 0 * ends]), axis=1))
    return np.hstack([1 - above, above]) if above.shape[1] == 1 else np.asarray(above)


def decide(loss: str, scores: np.ndarray, continuous: bool = False) -> np.ndarray:
    """Class codes from scores (n, c): (n,), or (n, m) for several binary columns. Continuous scores as they are."""
    if loss == "multiclass_log_loss":
        return np.asarray(scores.argmax(axis=1))
    if loss == "ordinal_log_loss":
        return np.asarray(probabilities_of(loss, scores).argmax(axis=1))
    found = scores if continuous else (scores > 0).astype(np.int64)
    return np.asarray(found[:, 0] if found.shape[1] == 1 else found)


LOSSES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "log_loss": _log_loss,
    "squared_error": _squared_error,
    "squared_margin": _squared_margin,
    "squared_hinge": _squared_hinge,
    "multiclass_log_loss": _multiclass_log_loss,
    "ordinal_log_loss": _ordinal_log_loss,
}
"""Each maps scores (n, c) and targets (n, m) to losses (n, p); a NaN target gives a NaN."""
