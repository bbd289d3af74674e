"""Rows of activations that are nearly equal, told apart from rows that merely lie close.

A pair counts if its distance, in standardised features, passes three tests.

*Near*: it is below a tenth of the median distance between random rows.
*Beyond chance*: it is below q·r_k, r_k the distance to the row's k-th neighbour. Where rows spread smoothly in D
dimensions, (r_1/r_k)^D is the smallest of k − 1 uniform numbers, so that q = (α / (n(k − 1)))^(1/D) lets fewer than α
rows pass by chance in all. In two dimensions that asks for almost equal rows; in a hundred the tenth of the median
decides. D = (ψ(2k) − ψ(k)) / mean log(r_2k / r_k), beyond the reach of the duplicates themselves.
*A gap*: duplicates stand apart from what comes next. Over a smooth density, even one along a line within small
clusters, twice the distance holds twice the pairs or more; the limit is halved until it holds at most half as many
again, and surely fewer than twice. Fewer than ten pairs cannot show that, unless their rows are equal.

k − 1 is the largest number of copies that is taken for duplicates. Where more rows than that are equal, they share a
token or a template rather than an origin: such rows are crowded, and do not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import digamma
from scipy.stats import binom

__all__ = ["MIN_ROWS", "RowPairs", "near_rows", "standardised_rows"]

MIN_ROWS = 40

_NEAR = 0.1
_ALPHA = 0.05
# Twice the distance may hold this many times the pairs; one dimension, the fewest, would make it twice.
_GAP = 1.5
_BEYOND = 4
_GAP_P = 1e-3
_N_HALVINGS = 8
_EQUAL = 1e-5
# The k-th neighbour this near, as a share of the median distance, makes a row crowded. In one dimension, the densest
# smooth case, the nearest hundredth of the rows still reaches twice as far.
_CROWDED = 5e-3
# Beyond this share of crowded rows the site holds few distinct values.
_COARSE = 0.2
_MAX_FEATURES = 1024
_PROJECTED = 512
_BLOCK_VALUES = 1 << 23
_N_DIMENSION = 500


@dataclass(frozen=True)
class RowPairs:
    """What `near_rows` found.

    Attributes
    ----------
    pairs : (p, 2) rows, the first compared with all others. distance : (p,) as a share of the median distance.
    compared : (q,) the rows that were compared with all others. n_crowded : of them, those with too many equals.
    dimension : D, NaN where it could not be estimated. median : the median distance between random rows.
    reason : why no pair can be told from chance, or an empty string.
    """

    pairs: np.ndarray
    distance: np.ndarray
    compared: np.ndarray
    n_crowded: int
    dimension: float
    median: float
    reason: str


def standardised_rows(X: np.ndarray, seed: int) -> np.ndarray:
    """(n, r) float32 of unit variance; beyond 1,024 features a random projection to 512, which keeps distances."""
    mean = X.mean(axis=0, dtype=np.float64)
    size = max(1, _BLOCK_VALUES // X.shape[1])
    spread = np.zeros(X.shape[1])
    for at in range(0, len(X), size):
        spread += np.square(X[at : at + size] - mean).sum(axis=0)
    scale = np.sqrt(spread / len(X))
    varies = scale > 1e-6 * np.maximum(np.abs(mean), 1e-3 * float(np.abs(mean).max(initial=0.0)))
    factor = np.where(varies, 1 / np.where(varies, scale, 1), 0)
    to = None
    if X.shape[1] > _MAX_FEATURES:
        rng = np.random.default_rng([seed, 41])
        to = (rng.standard_normal((X.shape[1], _PROJECTED)) / np.sqrt(_PROJECTED)).astype(np.float32)
    parts = []
    for at in range(0, len(X), size):
        part = ((X[at : at + size] - mean) * factor).astype(np.float32)
        parts.append(part if to is None else part @ to)
    return np.concatenate(parts)


def near_rows(Z: np.ndarray, cap: int, *, max_rows: int = 10_000, seed: int = 0) -> RowPairs:
    """Pair nearly equal rows.

    Parameters
    ----------
    Z : (n, r) float32, as `standardised_rows` gives them. cap : the largest cluster of duplicates.
    max_rows : at most this many rows, drawn by the seed, are compared with all others.
    """
    n, k = len(Z), cap + 1
    rng = np.random.default_rng([seed, 42])
    compared = np.arange(n) if n <= max_rows else np.sort(rng.choice(n, max_rows, replace=False))
    empty = (np.empty((0, 2), dtype=np.int64), np.empty(0))
    nan = float("nan")
    if n < max(MIN_ROWS, 2 * k + 2):
        return RowPairs(*empty, compared, 0, nan, nan, f"{n} rows are too few to tell near rows from chance")
    one, other = rng.integers(n, size=4000), rng.integers(n, size=4000)
    apart = one != other
    median = float(np.median(np.linalg.norm(Z[one[apart]] - Z[other[apart]], axis=1)))
    few = "the rows take few distinct values at this site: equal rows share a token or a template, not an origin"
    if not median > 1e-6:
        return RowPairs(*empty, compared, len(compared), nan, median, few)
    square = np.einsum("ij,ij->i", Z, Z)
    some = compared if len(compared) <= _N_DIMENSION else rng.choice(compared, _N_DIMENSION, replace=False)
    dimension = _dimension(Z, square, some, k, median)
    if not np.isfinite(dimension):
        return RowPairs(*empty, compared, len(compared), nan, median, few)
    ratio = (_ALPHA / (len(compared) * (k - 1))) ** (1 / dimension)
    pairs, distances, relative, n_crowded = [], [], [], 0
    for rows, squared in _blocks(Z, square, compared):
        # Four times as far as what counts, to see the gap. Rounding in a squared distance is a millionth of the squared
        # norms; candidates are measured again below.
        hit = np.flatnonzero((squared < (_BEYOND * _NEAR * median) ** 2).any(axis=1))
        if not len(hit):
            continue
        reach = np.sqrt(np.maximum(np.partition(squared[hit], k - 1, axis=1)[:, k - 1], 0))
        crowded = reach <= _CROWDED * median
        n_crowded += int(crowded.sum())
        limit = np.minimum(_NEAR * median, ratio * reach)
        slack = 4e-6 * square[rows[hit]]
        close = (squared[hit] <= (_BEYOND**2 * np.square(limit) + slack)[:, None]) & ~crowded[:, None]
        i, j = np.nonzero(close)
        exact = np.linalg.norm(Z[rows[hit[i]]].astype(np.float64) - Z[j], axis=1)
        keep = exact < _BEYOND * limit[i]
        pairs.append(np.stack([rows[hit[i[keep]]], j[keep]], axis=1))
        distances.append(exact[keep] / median)
        relative.append(exact[keep] / limit[i[keep]])
    if n_crowded > _COARSE * len(compared):
        return RowPairs(*empty, compared, n_crowded, dimension, median, few)
    if not pairs:
        return RowPairs(*empty, compared, n_crowded, dimension, median, "")
    found, apart = np.concatenate(pairs), np.concatenate(distances)
    of_limit = np.concatenate(relative)
    # Rows that are equal to the last digit need no gap to show it.
    kept = _before_gap(found, of_limit) | ((of_limit < 1) & (apart < _EQUAL))
    return RowPairs(found[kept], apart[kept], compared, n_crowded, dimension, median, "")


def _before_gap(pairs: np.ndarray, relative: np.ndarray) -> np.ndarray:
    """Which pairs lie below the largest limit that has a gap above it; their distances are in units of the first."""
    # A pair of two compared rows stands in both orders; each counts once.
    once = np.unique(np.sort(pairs, axis=1), axis=0, return_index=True)[1]
    for limit in 2.0 ** -np.arange(_N_HALVINGS):
        if not (relative[once] < limit).any():
            break
        # The gap may begin at up to twice the limit: copies differ more from each other than from their origin.
        for edge in (limit, np.sqrt(2) * limit, 2 * limit):
            below, twice = int((relative[once] < edge).sum()), int((relative[once] < 2 * edge).sum())
            # Along a line, the densest case, a pair within twice the edge is as likely beyond the edge as below it.
            if twice <= _GAP * below and binom.cdf(twice - below, twice, 0.5) < _GAP_P:
                return np.asarray(relative < limit)
    return np.zeros(len(relative), dtype=bool)


def _blocks(Z: np.ndarray, square: np.ndarray, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of rows and their squared distances (b, n) to all rows, infinite to themselves."""
    size = max(1, _BLOCK_VALUES // len(Z))
    for at in range(0, len(rows), size):
        own = rows[at : at + size]
        squared = Z[own] @ Z.T
        squared *= -2
        squared += square[own][:, None]
        squared += square
        np.maximum(squared, 0, out=squared)
        squared[np.arange(len(own)), own] = np.inf
        yield own, squared


def _dimension(Z: np.ndarray, square: np.ndarray, rows: np.ndarray, k: int, median: float) -> float:
    """D over the k-th to 2k-th neighbours of some rows; NaN where most of them are crowded."""
    growth, n_rows = 0.0, 0
    for _, squared in _blocks(Z, square, rows):
        reach = np.partition(squared, (k - 1, 2 * k - 1), axis=1)[:, [k - 1, 2 * k - 1]]
        reach = reach[reach[:, 0] > (_CROWDED * median) ** 2]
        # Half the logarithm of a squared distance is that of the distance.
        growth += float(np.log(reach[:, 1] / reach[:, 0]).sum() / 2)
        n_rows += len(reach)
    if n_rows < max(len(rows) / 2, 10):
        return float("nan")
    return float((digamma(2 * k) - digamma(k)) * n_rows / max(growth, 1e-12))
