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
    "JUDGED_BY",
    "METRICS",
    "PRIMARY",
    "all_metrics",
    "decided_codes",
    "fold_mean",
    "pair_accuracy",
    "weighted_auroc",
    "weighted_classes",
    "weighted_concordance",
    "weighted_decisions",
    "weighted_levels",
    "weighted_r2",
    "weighted_spearman",
]

PRIMARY = {"binary": "auroc", "continuous": "r2", "multiclass": "auroc", "ordinal": "concordance"}
# By which differences are judged: the macro AUROC of several classes is near 1 where a third of the rows are still read
# wrongly, and leaves no room for a margin.
JUDGED_BY = {**PRIMARY, "multiclass": "accuracy"}
METRICS = {
    "binary": ("auroc", "accuracy", "balanced_accuracy", "f1"),
    "continuous": ("r2", "spearman"),
    "multiclass": ("auroc", "accuracy", "balanced_accuracy", "f1"),
    "ordinal": ("concordance", "accuracy", "adjacent_accuracy", "kappa"),
}
CHANCE = {"auroc": 0.5, "r2": 0.0, "concordance": 0.5}


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


def decided_codes(kind: str, scores: np.ndarray) -> np.ndarray:
    """(n,) the class codes that scores (n, c) of a binary, multiclass or ordinal target decide on."""
    if kind == "multiclass":
        return np.asarray(scores.argmax(axis=1))
    return np.asarray((scores > 0).sum(axis=1))


def weighted_classes(scores: np.ndarray, codes: np.ndarray, W: np.ndarray) -> dict[str, np.ndarray]:
    """Several classes: macro AUROC (each class against the rest), accuracy, balanced accuracy and macro F1.

    A class that a weighting leaves without rows, or the only one left, is not in that weighting's means.

    Parameters
    ----------
    scores : (n, C) a score a class. codes : (n,) of 0 … C−1. W : (n, B).
    """
    said = decided_codes("multiclass", scores)
    total = W.sum(axis=0, dtype=np.float64)
    auroc, recall, f1 = [], [], []
    for c in range(scores.shape[1]):
        is_c, says_c = codes == c, said == c
        auroc.append(weighted_auroc(scores[:, c].astype(np.float64), is_c.astype(np.float64), W))
        held, hit, given = (rows.astype(np.float64) @ W for rows in (is_c, is_c & says_c, says_c))
        recall.append(_ratio(hit, held))
        # A class that is neither there nor named says nothing; one that is named in vain scores 0.
        f1.append(_ratio(2 * hit, held + given))
    right = (said == codes).astype(np.float64) @ W
    return {
        "auroc": _defined_mean(auroc),
        "accuracy": _ratio(right, total),
        "balanced_accuracy": _defined_mean(recall),
        "f1": _defined_mean(f1),
    }


def weighted_concordance(scores: np.ndarray, codes: np.ndarray, W: np.ndarray) -> np.ndarray:
    """The share of pairs of rows of different levels that the scores order rightly, ties counting one half.

    The c-index (Harrell et al. 1982); with two levels it is AUROC.

    Parameters
    ----------
    scores : (n,). codes : (n,) levels. W : (n, B).
    """
    wins = np.zeros(W.shape[1])
    pairs = np.zeros(W.shape[1])
    for level in np.unique(codes)[1:]:
        rows = codes <= level
        own, above = W[rows], codes[rows] == level
        higher, lower = own[above].sum(axis=0, dtype=np.float64), own[~above].sum(axis=0, dtype=np.float64)
        found = weighted_auroc(scores[rows], above.astype(np.float64), own)
        wins += np.where(np.isfinite(found), found, 0) * higher * lower
        pairs += higher * lower
    return _ratio(wins, pairs)


def weighted_levels(scores: np.ndarray, codes: np.ndarray, W: np.ndarray) -> dict[str, np.ndarray]:
    """An ordered target: concordance, accuracy, accuracy within one level, and quadratically weighted kappa.

    Parameters
    ----------
    scores : (n, C−1), column k for "above level k". codes : (n,) of 0 … C−1. W : (n, B).

    References
    ----------
    J. Cohen (1968), Weighted kappa, Psychological Bulletin 70.
    """
    said = decided_codes("ordinal", scores).astype(np.float64)
    codes = codes.astype(np.float64)
    total = W.sum(axis=0, dtype=np.float64)
    off = np.abs(said - codes)
    # Kappa's expected disagreement is that of independent margins: E(a − b)² = E a² + E b² − 2 E a E b.
    mean_said, mean_true = _ratio(said @ W, total), _ratio(codes @ W, total)
    expected = _ratio(np.square(said) @ W + np.square(codes) @ W, total) - 2 * mean_said * mean_true
    return {
        "concordance": weighted_concordance(scores.mean(axis=1, dtype=np.float64), codes, W),
        "accuracy": _ratio((off == 0).astype(np.float64) @ W, total),
        "adjacent_accuracy": _ratio((off <= 1).astype(np.float64) @ W, total),
        "kappa": 1 - _ratio(_ratio(np.square(off) @ W, total), np.where(expected > 1e-12, expected, 0)),
    }


def pair_accuracy(scores: np.ndarray, y: np.ndarray, pairs: np.ndarray, W: np.ndarray) -> np.ndarray:
    """(B,) the share of minimal pairs whose positive row scores above its negative one, ties counting one half.

    Parameters
    ----------
    scores : (n,). y : (n,) of 0 and 1. pairs : (n,) which pair a row belongs to; a pair without both a positive and a
        negative row does not count, and one of several rows counts once for each two of them.
    W : (n, B); a pair has the weight of its positive row, and members of a pair are drawn together.
    """
    codes = np.unique(np.asarray(pairs, dtype=str), return_inverse=True)[1].ravel()
    right, count = np.zeros(W.shape[1]), np.zeros(W.shape[1])
    order = np.argsort(codes, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        up, down = rows[y[rows] > 0], rows[y[rows] <= 0]
        if len(up) and len(down):
            difference = scores[up][:, None] - scores[down]
            right += (np.sign(difference).mean(axis=1) / 2 + 0.5) @ W[up]
            count += W[up].sum(axis=0)
    return _ratio(right, count)


def _defined_mean(values: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of (B,) arrays over those that are defined."""
    stacked = np.stack(values)
    known = np.isfinite(stacked)
    return _ratio(np.where(known, stacked, 0).sum(axis=0), known.sum(axis=0))


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
    return _defined_mean(values)


def all_metrics(kind: str, scores: np.ndarray, y: np.ndarray, W: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric of a kind of target in one fold: scores (n, c), y (n, m), W (n, B) to {name: (B,)}."""
    if kind == "binary":
        column, labels = scores[:, 0].astype(np.float64), y[:, 0]
        return {"auroc": weighted_auroc(column, labels, W), **weighted_decisions(column, labels, W)}
    if kind == "multiclass":
        return weighted_classes(scores, y[:, 0], W)
    if kind == "ordinal":
        return weighted_levels(scores, y[:, 0], W)
    return {"r2": weighted_r2(scores, y, W), "spearman": weighted_spearman(scores, y, W)}
