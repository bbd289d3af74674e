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
_COLUMNS = 1 << 13
_N_DIMENSION = 500
# Squared distances below this share of the squared norms lose digits in a product, and are measured directly.
_CANCELS = 1e-6
# Where pairs are counted, in units of a row's limit: half powers of two, from the smallest limit to the reach.
_EDGES = 2.0 ** (np.arange(-2 * (_N_HALVINGS - 1), 5) / 2)


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
    limit, n_crowded = np.zeros(n), 0
    candidates = [np.empty(0, dtype=np.int64)]
    for rows, squared in _blocks(Z, square, compared):
        # Four times as far as what counts, to see the gap.
        hit = np.flatnonzero((squared < (_BEYOND * _NEAR * median) ** 2).any(axis=1))
        if not len(hit):
            continue
        own, squared = rows[hit], squared[hit]
        reach = np.sqrt(np.maximum(np.partition(squared, k - 1, axis=1)[:, k - 1], 0))
        crowded = reach <= _CROWDED * median
        n_crowded += int(crowded.sum())
        limit[own] = np.where(crowded, 0, np.minimum(_NEAR * median, ratio * reach))
        # Rounding in a squared distance is a millionth of the squared norms; candidates are measured again below.
        nearest = squared.min(axis=1)
        candidates.append(own[~crowded & (nearest <= _BEYOND**2 * np.square(limit[own]) + 4e-6 * square[own])])
    if n_crowded > _COARSE * len(compared):
        return RowPairs(*empty, compared, n_crowded, dimension, median, few)
    found, distance, count = _within_limits(Z, np.concatenate(candidates), limit)
    of_limit, apart = distance / limit[found[:, 0]], distance / median
    # Rows that are equal to the last digit need no gap to show it.
    kept = (of_limit < _gap(count)) | (apart < _EQUAL)
    return RowPairs(found[kept], apart[kept], compared, n_crowded, dimension, median, "")


def _within_limits(Z: np.ndarray, rows: np.ndarray, limit: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of some rows that lie below the first one's limit, and how many pairs lie below each of `_EDGES`.

    Where rows stand in tight clusters, all pairs of a cluster lie within a few limits: they are counted block by block,
    and only those below the limit are kept, of which a row has fewer than k.

    Returns
    -------
    (p, 2) pairs, (p,) distances, and the counts (E,), in which a pair that stands in both orders counts once.
    """
    pairs, distances = [np.empty((0, 2), dtype=np.int64)], [np.empty(0)]
    count = np.zeros(len(_EDGES) + 1, dtype=np.int64)
    size = max(1, _BLOCK_VALUES // 4 // _COLUMNS)
    for at in range(0, len(rows), size):
        own = rows[at : at + size]
        first = Z[own].astype(np.float64)
        norm, unit = np.einsum("ij,ij->i", first, first), np.square(limit[own])
        for start in range(0, len(Z), _COLUMNS):
            other = Z[start : start + _COLUMNS].astype(np.float64)
            squared = first @ other.T
            squared *= -2
            squared += norm[:, None]
            squared += np.einsum("ij,ij->i", other, other)
            near = squared < (_BEYOND**2 * unit * (1 + _CANCELS) + _CANCELS * norm)[:, None]
            i, j = np.nonzero(near)
            squared = squared[near]
            again = np.flatnonzero((squared < unit[i] * (1 + _CANCELS)) | (squared < _CANCELS * norm[i]))
            squared[again] = _measured(first, other, i[again], j[again])
            j += start
            within = (squared < _BEYOND**2 * unit[i]) & (own[i] != j)
            i, j, squared = i[within], j[within], squared[within]
            below = squared < unit[i]
            pairs.append(np.stack([own[i[below]], j[below]], axis=1))
            distances.append(np.sqrt(squared[below]))
            # A pair of two compared rows stands in both orders; the first order that lies within reach counts.
            once = (own[i] < j) | (squared >= _BEYOND**2 * np.square(limit[j]))
            edge = np.searchsorted(np.square(_EDGES), squared[once] / unit[i[once]], side="right")
            count += np.bincount(edge, minlength=len(count))
    return np.concatenate(pairs), np.concatenate(distances), count[:-1].cumsum()


def _measured(first: np.ndarray, other: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Squared distances of pairs, a bounded number at a time."""
    size = max(1, _BLOCK_VALUES // 4 // first.shape[1])
    found = np.empty(len(i))
    for at in range(0, len(i), size):
        part = slice(at, at + size)
        found[part] = np.square(first[i[part]] - other[j[part]]).sum(axis=1)
    return found


def _gap(count: np.ndarray) -> float:
    """The largest limit that has a gap above it, 0 for none, from the number of pairs below each of `_EDGES`."""
    one = len(_EDGES) - 5
    for at in range(one, -1, -2):
        if not count[at]:
            break
        # The gap may begin at up to twice the limit: copies differ more from each other than from their origin.
        for edge in (at, at + 1, at + 2):
            below, twice = int(count[edge]), int(count[edge + 2])
            # Along a line, the densest case, a pair within twice the edge is as likely beyond the edge as below it.
            if twice <= _GAP * below and binom.cdf(twice - below, twice, 0.5) < _GAP_P:
                return float(_EDGES[at])
    return 0.0


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
