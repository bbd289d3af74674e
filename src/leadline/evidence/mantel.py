"""The Mantel test: whether two matrices over the same items go together.

The cells of a matrix of train × test sets are not independent: those of a row share a probe, those of a column share
its test rows. So the items are permuted and never the cells: rows and columns of one matrix together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from leadline.errors import EvidenceError

__all__ = ["Mantel", "mantel"]

MOST_EXACT = 5040
"""All permutations are gone through where there are at most this many: up to 7 items."""
LEVEL = 0.05
_CHUNK = 2048
_ALTERNATIVES = ("greater", "two-sided")


@dataclass(frozen=True)
class Mantel:
    """A Mantel test.

    Attributes
    ----------
    correlation : Pearson's, over all ordered pairs of different items; NaN where it is undefined.
    p_value : of that correlation, or of one further from what independence gives. NaN where it is undefined.
    n_items, n_pairs : items, and the cells that were correlated.
    n_permutations, exact : how many were gone through; `exact` where these are all n!, the identity among them.
    smallest_p : the least p-value that this many items, or permutations, could have given.
    alternative : `"greater"` or `"two-sided"`.
    reason : why there is no p-value, or an empty string.
    note : a limit that a reader must know of, or an empty string.
    """

    correlation: float
    p_value: float
    n_items: int
    n_pairs: int
    n_permutations: int
    exact: bool
    smallest_p: float
    alternative: str
    reason: str = ""
    note: str = ""


def mantel(
    A: np.ndarray, B: np.ndarray, *, n_permutations: int = 9999, seed: int = 0, alternative: str = "greater"
) -> Mantel:
    """Correlate two matrices over the same n items, and test it by permuting the items of one.

    r is Pearson's correlation of A_ij with B_ij over all ordered pairs i ≠ j: neither matrix need be symmetric. A
    permutation π takes B_ij to B_π(i)π(j). Where n! ≤ 5,040 all are gone through, and p = #{r_π ≥ r} / n!, the identity
    included; else n_permutations are drawn, and p = (1 + #{r_π ≥ r}) / (1 + n_permutations).

    Parameters
    ----------
    A, B : (n, n), or (S, n, n) for S layers that are pooled: items are permuted in all layers at once, so that levels
        that differ between layers add to r but not to its significance. Diagonals are not read. A pair that is NaN in
        either matrix is left out, in every permutation anew.
    n_permutations : drawn where not all are gone through. seed : of the draw.
    alternative : `"greater"`: they rise together. `"two-sided"`: |r_π| ≥ |r|.

    Raises
    ------
    EvidenceError : shapes that do not fit, fewer than two items, or an unknown alternative.

    References
    ----------
    N. Mantel (1967), The detection of disease clustering and a generalized regression approach, Cancer Research 27.
    """
    one, other = (np.asarray(M, dtype=np.float64) for M in (A, B))
    if one.shape != other.shape or one.ndim not in (2, 3) or one.shape[-1] != one.shape[-2]:
        raise EvidenceError(f"got matrices {one.shape} and {other.shape}; expected two (n, n) or two (layers, n, n).")
    n = one.shape[-1]
    if n < 2:
        raise EvidenceError(f"got matrices over {n} item; a correlation over pairs needs two items or more.")
    if alternative not in _ALTERNATIVES:
        raise EvidenceError(f"alternative is '{alternative}'; expected one of {', '.join(_ALTERNATIVES)}.")
    exact = math.factorial(n) <= MOST_EXACT
    if not exact and n_permutations < 1:
        raise EvidenceError(f"got {n_permutations} permutations of {n} items; expected 1 or more.")
    one, other = one.reshape(-1, n, n), other.reshape(-1, n, n)
    off = ~np.eye(n, dtype=bool)
    a = one[:, off].ravel()
    b = other[:, off].ravel()
    observed = float(_correlations(a, b[None])[0])
    n_pairs = int((np.isfinite(a) & np.isfinite(b)).sum())
    total = math.factorial(n) if exact else n_permutations
    smallest = 1 / total if exact else 1 / (1 + total)
    note = (
        f"With {n} sets there are {total} ways to permute them: no p-value can be below {smallest:.2g}, so nothing "
        f"can be significant at {LEVEL}."
        if smallest > LEVEL
        else ""
    )
    p, reason = float("nan"), ""
    if math.isfinite(observed):
        drawn = np.concatenate(
            [_correlations(a, _permuted(other, part, off)) for part in _orders(n, total, exact, seed)]
        )
        # The same sum in another order of its terms must not count as smaller.
        slack = 1e-10
        reached = np.abs(drawn) >= abs(observed) - slack if alternative == "two-sided" else drawn >= observed - slack
        # A permutation that leaves the correlation undefined speaks neither way; it counts against.
        k = int((reached | ~np.isfinite(drawn)).sum())
        p = k / total if exact else (1 + k) / (1 + total)
    else:
        reason = "one of the matrices has the same value in all pairs, or fewer than two pairs are known in both"
    return Mantel(observed, p, n, n_pairs, total, exact, smallest, alternative, reason, note)


def _orders(n: int, total: int, exact: bool, seed: int) -> Iterator[np.ndarray]:
    """(chunk, n) orders of the items, in chunks."""
    if exact:
        every = np.array(list(permutations(range(n))))
        yield from (every[at : at + _CHUNK] for at in range(0, total, _CHUNK))
        return
    rng = np.random.default_rng([seed, 61])
    for at in range(0, total, _CHUNK):
        yield rng.permuted(np.tile(np.arange(n), (min(_CHUNK, total - at), 1)), axis=1)


def _permuted(layers: np.ndarray, orders: np.ndarray, off: np.ndarray) -> np.ndarray:
    """(chunk, S·n·(n − 1)): the pairs of every layer in each order of the items."""
    moved = layers[:, orders[:, :, None], orders[:, None, :]]
    return np.asarray(moved[:, :, off].transpose(1, 0, 2).reshape(len(orders), -1))


def _correlations(a: np.ndarray, B: np.ndarray) -> np.ndarray:
    """(chunk,) Pearson's correlation of a (P,) with each row of B (chunk, P), over what is known in both."""
    known = np.isfinite(a) & np.isfinite(B)
    count = np.maximum(known.sum(axis=1), 1)
    x, y = np.where(known, a, 0.0), np.where(known, B, 0.0)
    x = np.where(known, x - (x.sum(axis=1) / count)[:, None], 0.0)
    y = np.where(known, y - (y.sum(axis=1) / count)[:, None], 0.0)
    spread = np.square(x).sum(axis=1) * np.square(y).sum(axis=1)
    # Equal values leave rounding in place of a spread.
    size = np.square(np.where(known, a, 0.0)).sum(axis=1) * np.square(np.where(known, B, 0.0)).sum(axis=1)
    defined = (spread > 1e-24 * size) & (known.sum(axis=1) >= 2)
    return np.divide((x * y).sum(axis=1), np.sqrt(spread), out=np.full(len(B), np.nan), where=defined)
