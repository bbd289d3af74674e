"""Metrics within a fold, for many weightings of its rows at once, and their mean over folds.

A bootstrap replicate is a vector of row weights, so that an estimate (weights of one) and its replicates come from the
same code. Every function takes `W` (n, B), one column a weighting, and returns (B,); NaN where a weighting leaves the
metric undefined (one class only, no spread), never a stand-in value.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.stats

__all__ = [
    "CHANCE",
    "METRICS",
    "PRIMARY",
    "fold_mean",
    "weighted_auroc",
    "weighted_decisions",
    "weighted_r2",
    "weighted_spearman",
]

PRIMARY = {"binary": "auroc", "continuous": "r2"}
METRICS = {
    "binary": ("auroc", "accuracy", "balanced_accuracy", "f1"),
    "continuous": ("r2", "spearman"),
}
CHANCE = {"auroc": 0.5, "r2": 0.0}


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan, dtype=np.float64), where=bottom > 0)


def weighted_auroc(scores: np.ndarray, y: np.ndarray, W: np.ndarray) -> np.ndarray:
    """Area under the ROC curve; tied scores count one half (Mann and Whitney 1947).

    Parameters
    ----------
    scores : (n,). y : (n,) of 0 and 1. W : (n, B).
    """
    order = np.argsort(scores, kind="stable")
    sorted_scores = scores[order]
    positive = y[order] > 0
    negative_weights = np.where(positive[:, None], 0, W[order]).astype(np.float32)
    below = np.zeros((len(scores) + 1, W.shape[1]), dtype=np.float32)
    np.cumsum(negative_weights, axis=0, out=below[1:])
    at = np.flatnonzero(positive)
    start = np.searchsorted(sorted_scores, sorted_scores[at], side="left")
    end = np.searchsorted(sorted_scores, sorted_scores[at], side="right")
    weights = W[order[at]]
    wins = np.einsum("ib,ib->b", weights, below[start] + below[end], dtype=np.float64) / 2
    return _ratio(wins, weights.sum(axis=0, dtype=np.float64) * below[-1])


def weighted_decisions(scores: np.ndarray, y: np.ndarray, W: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, balanced accuracy and F1 of the decision score > 0."""
    said, true = scores > 0, y > 0
    masks = np.stack([said & true, said & ~true, ~said & true, ~said & ~true]).astype(np.float64)
    tp, fp, fn, tn = masks @ W
    recall, specificity = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
    return {
        "accuracy": _ratio(tp + tn, tp + fp + fn + tn),
        "balanced_accuracy": (recall + specificity) / 2,
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
    }


def weighted_r2(predicted: np.ndarray, y: np.ndarray, W: np.ndarray) -> np.ndarray:
    """1 − residual / total sum of squares about the fold's own mean, averaged over the m columns of `y` (n, m)."""
    total = W.sum(axis=0)
    mean = _ratio(y.T @ W, np.broadcast_to(total, (y.shape[1], W.shape[1])))
    spread = np.square(y).T @ W - total * np.square(mean)
    residual = np.square(predicted - y).T @ W
    return np.asarray((1 - _ratio(residual, np.where(spread > 1e-12 * np.abs(residual), spread, 0))).mean(axis=0))


def weighted_spearman(predicted: np.ndarray, y: np.ndarray, W: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation, averaged over columns; a replicate weighs the fold's ranks, it does not re-rank."""
    a = scipy.stats.rankdata(predicted, axis=0)
    b = scipy.stats.rankdata(y, axis=0)
    a, b = a - a.mean(0), b - b.mean(0)
    total = np.broadcast_to(W.sum(axis=0), (y.shape[1], W.shape[1]))
    mean_a, mean_b = _ratio(a.T @ W, total), _ratio(b.T @ W, total)
    cov = _ratio((a * b).T @ W, total) - mean_a * mean_b
    var_a = _ratio(np.square(a).T @ W, total) - np.square(mean_a)
    var_b = _ratio(np.square(b).T @ W, total) - np.square(mean_b)
    product = var_a * var_b
    return np.asarray(_ratio(cov, np.sqrt(np.where(product > 1e-9, product, 0))).mean(axis=0))


def fold_mean(values: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over folds of (B,) arrays, over those folds where each is defined; NaN where none is."""
    stacked = np.stack(values)
    defined = np.isfinite(stacked)
    return _ratio(np.where(defined, stacked, 0).sum(axis=0), defined.sum(axis=0))


def all_metrics(kind: str, scores: np.ndarray, y: np.ndarray, W: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric of a kind of target in one fold: scores (n, m), y (n, m), W (n, B) to {name: (B,)}."""
    if kind == "binary":
        column, labels = scores[:, 0].astype(np.float64), y[:, 0]
        return {"auroc": weighted_auroc(column, labels, W), **weighted_decisions(column, labels, W)}
    return {"r2": weighted_r2(scores, y, W), "spearman": weighted_spearman(scores, y, W)}
