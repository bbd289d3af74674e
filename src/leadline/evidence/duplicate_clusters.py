"""Clusters of rows joined by pairs, how they lie across folds, and whether their labels agree."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["agreeing", "chains", "components", "in_other_fold", "label_shares"]


def chains(codes: np.ndarray) -> np.ndarray:
    """(p, 2) each row with the next of its code, which joins all rows of a code."""
    order = np.argsort(codes, kind="stable")
    same = np.flatnonzero(codes[order][1:] == codes[order][:-1])
    return np.stack([order[same], order[same + 1]], axis=1)


def components(n: int, pairs: np.ndarray) -> np.ndarray:
    """(n,) the cluster of each row, where pairs (p, 2) join rows."""
    graph = coo_array((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1])


def agreeing(one: np.ndarray, other: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Whether labels (…, m) are equal within a tolerance (m,) in every column."""
    return np.asarray((np.abs(one - other) <= tolerance).all(axis=-1))


def in_other_fold(cluster: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """(n,) bool: whether a row's cluster stands in another fold too."""
    low = np.full(int(cluster.max()) + 1, fold.max() + 1)
    high = np.full(int(cluster.max()) + 1, -1)
    np.minimum.at(low, cluster, fold)
    np.maximum.at(high, cluster, fold)
    return np.asarray((low < high)[cluster])


def label_shares(
    cluster: np.ndarray, crossing: np.ndarray, Y: np.ndarray, fold: np.ndarray, tolerance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The crossing rows, and of each the share of its cluster in other folds that has its label."""
    order = np.flatnonzero(crossing)[np.argsort(cluster[crossing], kind="stable")]
    if not len(order):
        return order, np.empty(0)
    shares = np.empty(len(order))
    start = 0
    for members in np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1):
        elsewhere = fold[members][:, None] != fold[members]
        same = agreeing(Y[members][:, None], Y[members], tolerance)
        shares[start : start + len(members)] = (same & elsewhere).sum(axis=1) / elsewhere.sum(axis=1)
        start += len(members)
    return order, shares
