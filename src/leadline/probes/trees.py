"""Dependency trees as arrays: heads in; depths, distances and edges out; and the spanning tree of any distances.

`heads` is (T,) int, 0-based: `heads[i]` is the word that word i depends on. The root has −1, or itself. A treebank in
CoNLL-U counts from 1 with 0 for the root: subtract 1 from its HEAD column.
"""

from __future__ import annotations

import numpy as np

from leadline.errors import ProbeError

__all__ = ["check_heads", "spanning_edges", "tree_depths", "tree_distances", "tree_edges"]


def check_heads(heads: np.ndarray, where: str = "the sentence") -> np.ndarray:
    """Check that heads form one tree, and return them as (T,) int64 with −1 at the root.

    Parameters
    ----------
    where : names the sentence in a message.

    Raises
    ------
    ProbeError : not one row of whole numbers, a head outside the sentence, no root, several, or a cycle.
    """
    given = np.asarray(heads)
    if given.ndim != 1 or not given.size or not np.issubdtype(given.dtype, np.integer):
        raise ProbeError(
            f"the heads of {where} have shape {given.shape} and dtype {given.dtype}; expected (T,) whole numbers, "
            "T of 1 or more."
        )
    n = len(given)
    if given.min() < -1 or given.max() >= n:
        hint = " These look counted from 1, as in CoNLL-U: subtract 1." if given.min() == 0 and given.max() == n else ""
        raise ProbeError(
            f"the heads of {where} run from {given.min()} to {given.max()}; expected −1 or the root's own index for "
            f"the root, and 0 to {n - 1} for the others.{hint}"
        )
    found = given.astype(np.int64)
    roots = np.flatnonzero((found == -1) | (found == np.arange(n)))
    if len(roots) != 1:
        hint = " If 0 marks the root, the heads count from 1: subtract 1." if not len(roots) else ""
        raise ProbeError(f"{where} has {len(roots)} roots {roots[:8].tolist()}; expected exactly one.{hint}")
    found[roots] = roots
    reached = found
    for _ in range(max(n - 1, 1).bit_length()):
        reached = reached[reached]
    lost = np.flatnonzero(reached != roots[0])
    if len(lost):
        raise ProbeError(
            f"the heads of {where} run in a cycle: from the words {lost[:8].tolist()} no path leads to the root "
            f"{roots[0]}; correct these heads or leave the sentence out."
        )
    found[roots] = -1
    return found


def tree_depths(heads: np.ndarray) -> np.ndarray:
    """(T,) int64: edges from each word to the root. `heads` are as `check_heads` returns them."""
    depth = np.zeros(len(heads), dtype=np.int64)
    at = heads
    while (moving := at >= 0).any():
        depth += moving
        at = np.where(moving, heads[at], -1)
    return depth


def tree_distances(heads: np.ndarray) -> np.ndarray:
    """(T, T) int64: edges on the path between each two words. `heads` are as `check_heads` returns them."""
    n = len(heads)
    distance = np.zeros((n, n), dtype=np.int64)
    order = np.argsort(tree_depths(heads), kind="stable")
    for index, word in enumerate(order[1:], start=1):
        # Every path from a word to those placed before it leads through its head, which is placed already.
        before = order[:index]
        distance[word, before] = distance[heads[word], before] + 1
        distance[before, word] = distance[word, before]
    return distance


def tree_edges(heads: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
    """(E, 2) int64 edges without direction, smaller index first; with `keep` (T,) bool, those between kept words."""
    words = np.flatnonzero(heads >= 0)
    if keep is not None:
        words = words[keep[words] & keep[heads[words]]]
    return np.sort(np.stack([words, heads[words]], axis=1), axis=1)


def spanning_edges(distances: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
    """(E, 2) int64: the minimum spanning tree of a dense symmetric matrix, by Prim's algorithm.

    Of equal distances that of the lower index wins, so the result is the same everywhere. Zeros are distances too.

    Parameters
    ----------
    distances : (T, T). keep : (T,) bool, the words to span; all without it.

    References
    ----------
    R. C. Prim (1957), Shortest connection networks and some generalizations, Bell System Technical Journal 36.
    """
    words = np.arange(len(distances)) if keep is None else np.flatnonzero(keep)
    if len(words) < 2:
        return np.empty((0, 2), dtype=np.int64)
    among = distances[np.ix_(words, words)]
    nearest, link = among[0].copy(), np.zeros(len(words), dtype=np.int64)
    outside = np.ones(len(words), dtype=bool)
    outside[0] = False
    edges = np.empty((len(words) - 1, 2), dtype=np.int64)
    for index in range(len(edges)):
        word = int(np.argmin(np.where(outside, nearest, np.inf)))
        edges[index] = word, link[word]
        outside[word] = False
        closer = outside & (among[word] < nearest)
        nearest[closer] = among[word][closer]
        link[closer] = word
    return np.sort(words[edges], axis=1)
