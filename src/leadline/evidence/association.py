"""Whether the presence of a word goes with the label: one test a word, conditional and exact where labels are classes.

Under the null the labels of the units of a stratum may be dealt out anew among them, whatever the units hold. Given the
numbers of units with the word and of units of the class in each stratum, how many are both is a sum of hypergeometric
variables, one a stratum: Fisher's exact test with one stratum, the exact form of Cochran, Mantel and Haenszel's with
several. For numbers in place of classes the sum of ranks, ties in a random order, is normal to a good approximation
(Wilcoxon; van Elteren).

References
----------
N. Mantel and W. Haenszel (1959), Statistical aspects of the analysis of data from retrospective studies of disease,
J. Natl. Cancer Inst. 22. Y. Benjamini and Y. Hochberg (1995), Controlling the false discovery rate, J. R. Statist. Soc.
B 57. P. van Elteren (1960), On the combination of independent two sample tests of Wilcoxon, Bull. Int. Stat. Inst. 37.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.stats
from scipy.special import gammaln

from leadline.evidence.surface import indicators

__all__ = ["Association", "associate"]

# Beyond this p-value by the normal approximation, no word is worth the exact one.
_WORTH_EXACT = 0.3


@dataclass(frozen=True)
class Association:
    """How the presence of each of V words goes with the label.

    Attributes
    ----------
    p : (V,) two-sided, corrected for the number of classes, thresholds or columns that were tried.
    correlation : (V,) within strata, of the presence (0 or 1) with the class, with y > k or with the rank of the value,
        where it is strongest: φ, whose absolute value is Cramér's V. Below 0 where the word speaks against it.
    outcome : (V,) int, that class (1 for a binary target), threshold or column.
    """

    p: np.ndarray
    correlation: np.ndarray
    outcome: np.ndarray


def associate(presence: scipy.sparse.csc_matrix, Y: np.ndarray, kind: str, stratum: np.ndarray) -> Association:
    """Test each word.

    Parameters
    ----------
    presence : (u, V) of 0 and 1, units by words. Y : (u, m), as `kind` says. stratum : (u,) codes from 0 on.
    """
    outcomes = indicators(Y, kind)
    S = scipy.sparse.csr_matrix((np.ones(len(stratum)), (stratum, np.arange(len(stratum)))))
    size = np.asarray(S.sum(axis=1)).ravel()
    held = scipy.sparse.csc_matrix(S @ presence)
    each = np.array([_one(presence, held, outcomes[:, t], kind, stratum, size) for t in range(outcomes.shape[1])])
    # The first strongest; a tie of p-values goes to the stronger correlation.
    best = np.lexsort((-np.abs(each[:, 1]), each[:, 0]), axis=0)[0] if len(each) > 1 else np.zeros(held.shape[1], int)
    at = np.arange(held.shape[1])
    first = np.ones(len(at), dtype=np.int64) if kind == "binary" else best
    return Association(np.minimum(each[best, 0, at] * len(each), 1.0), each[best, 1, at], first)


def _one(
    presence: scipy.sparse.csc_matrix,
    held: scipy.sparse.csc_matrix,
    outcome: np.ndarray,
    kind: str,
    stratum: np.ndarray,
    size: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(V,) p-values and (V,) correlations for one outcome."""
    n_strata = len(size)
    z = _ranks_within(outcome, stratum) if kind == "continuous" else outcome
    total = np.bincount(stratum, z, n_strata)
    centred = z - (total / size)[stratum]
    square = np.bincount(stratum, np.square(centred), n_strata)
    # With K of N units holding the word, Σ centred over them has the variance K (N − K) / (N (N − 1)) · square.
    each = np.divide(square, size * (size - 1), out=np.zeros(n_strata), where=size > 1)
    shared = presence.T @ centred
    held_square = held.multiply(held).T
    variance = held.T @ (each * size) - held_square @ each
    # Only where the label varies within the stratum can presence go with it.
    varies = square > 0
    spread = held.T @ varies.astype(np.float64) - held_square @ (varies / size)
    bottom = np.sqrt(np.maximum(spread, 0) * square.sum())
    correlation = np.divide(shared, bottom, out=np.zeros(len(shared)), where=bottom > 1e-12)
    z_score = np.divide(shared, np.sqrt(np.maximum(variance, 0)), out=np.zeros(len(shared)), where=variance > 1e-12)
    p = 2 * scipy.stats.norm.sf(np.abs(z_score))
    if kind != "continuous":
        _make_exact(p, presence.T @ outcome, held, total, size)
    elif not np.array_equal(z, fair := _ranks_within(outcome, stratum, break_ties=True)):
        # Mid-ranks of values that are mostly one have a long tail, which a few units with the word reach often.
        p, _ = _one(presence, held, fair, kind, stratum, size)
    return p, correlation


def _make_exact(
    p: np.ndarray, both: np.ndarray, held: scipy.sparse.csc_matrix, positives: np.ndarray, size: np.ndarray
) -> None:
    """Replace the p-values that could matter by 2·min(P(A ≤ a), P(A ≥ a)) of the conditional distribution."""
    kept: dict[bytes, tuple[int, np.ndarray]] = {}
    for word in np.flatnonzero(p < _WORTH_EXACT):
        own = slice(held.indptr[word], held.indptr[word + 1])
        strata, counts = held.indices[own], held.data[own]
        tables = np.stack([size[strata], positives[strata], counts], axis=1).astype(np.int64)
        kinds, repeats = np.unique(tables, axis=0, return_counts=True)
        key = kinds.tobytes() + repeats.tobytes()
        if key not in kept:
            kept[key] = _distribution(kinds, repeats)
        lowest, chances = kept[key]
        at = round(float(both[word])) - lowest
        p[word] = min(1.0, 2 * min(chances[: at + 1].sum(), chances[at:].sum()))


def _distribution(kinds: np.ndarray, repeats: np.ndarray) -> tuple[int, np.ndarray]:
    """The sum of independent hypergeometric variables: its lowest value, and the chance of each from there on."""
    lowest, chances = 0, np.ones(1)
    for (n, n_positive, n_held), times in zip(kinds, repeats, strict=True):
        low, one = hypergeometric(int(n), int(n_positive), int(n_held))
        lowest += low * int(times)
        power = int(times)
        while power:
            if power & 1:
                chances = np.convolve(chances, one)
            power >>= 1
            one = np.convolve(one, one) if power else one
    return lowest, chances


def hypergeometric(n: int, n_positive: int, n_held: int) -> tuple[int, np.ndarray]:
    """The lowest number of positives among `n_held` of `n` units, and the chance of each number from there on."""
    low, high = max(0, n_held - (n - n_positive)), min(n_held, n_positive)
    a = np.arange(low, high + 1)

    def log_choose(top: int, bottom: np.ndarray | int) -> np.ndarray:
        return np.asarray(gammaln(top + 1) - gammaln(np.add(bottom, 1)) - gammaln(top - np.asarray(bottom) + 1))

    chances = np.exp(log_choose(n_positive, a) + log_choose(n - n_positive, n_held - a) - log_choose(n, n_held))
    return low, chances / chances.sum()


def _ranks_within(values: np.ndarray, stratum: np.ndarray, *, break_ties: bool = False) -> np.ndarray:
    """(u,) ranks within the stratum over N + 1, van Elteren's weights; ties get their mean rank, or a random order."""
    order = np.random.default_rng([0, 41]).permutation(len(values))
    ranks = np.empty(len(values))
    for rows in np.split(np.argsort(stratum, kind="stable"), np.cumsum(np.bincount(stratum))[:-1]):
        if break_ties:
            ranks[rows[np.lexsort((order[rows], values[rows]))]] = np.arange(1, len(rows) + 1) / (len(rows) + 1)
        else:
            ranks[rows] = scipy.stats.rankdata(values[rows]) / (len(rows) + 1)
    return ranks
