"""How well predicted distances and depths agree with trees: UUAS, root accuracy and rank correlations.

Each figure has a 95% percentile interval of a bootstrap over sentences, with the fitted probe as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

from leadline.errors import ProbeError
from leadline.probes.intervals import Estimate, draw_groups, percentile
from leadline.probes.trees import check_heads, spanning_edges, tree_depths, tree_distances, tree_edges

__all__ = ["LENGTHS", "DepthScores", "DistanceScores", "score_chain", "score_depths", "score_distances"]

LENGTHS = (5, 50)
"""The sentence lengths over which rank correlations are averaged, both ends included, as in the paper."""


@dataclass(frozen=True, eq=False)
class DistanceScores:
    """Predicted distances against trees.

    Attributes
    ----------
    uuas : undirected unlabelled attachment score: the share of all trees' edges that the minimum spanning trees of the
        predicted distances hold.
    spearman : DSpr.: a word's rank correlation between predicted and true distances, itself included at 0 as in the
        authors' evaluation; averaged over the words of a length, then over lengths 5 to 50.
    correct, edges : (S,) int, edges found and edges there, a sentence each.
    correlation : (S,) the mean correlation over a sentence's words; NaN below two words. A word to which all
        predicted distances are equal has correlation 0.
    """

    uuas: Estimate
    spearman: Estimate
    correct: np.ndarray
    edges: np.ndarray
    correlation: np.ndarray


@dataclass(frozen=True, eq=False)
class DepthScores:
    """Predicted depths against trees.

    Attributes
    ----------
    root_accuracy : the share of sentences whose root has the smallest predicted depth of the kept words.
    spearman : NSpr.: a sentence's rank correlation between predicted and true depths, averaged over the sentences of
        a length, then over lengths 5 to 50.
    root_found : (S,) bool. counted : (S,) bool, False for sentences of one kept word or none, where nothing is to be
        found; `root_accuracy` leaves them out.
    correlation : (S,); NaN below two words.
    """

    root_accuracy: Estimate
    spearman: Estimate
    root_found: np.ndarray
    counted: np.ndarray
    correlation: np.ndarray


def score_distances(
    predicted: Sequence[np.ndarray],
    heads: Sequence[np.ndarray],
    *,
    keep: Sequence[np.ndarray] | None = None,
    groups: np.ndarray | None = None,
    n_replicates: int = 1000,
    seed: int = 0,
) -> DistanceScores:
    """UUAS and DSpr. of predicted distances.

    Parameters
    ----------
    predicted : S symmetric (T_i, T_i) matrices; only their order matters. heads : S (T_i,) trees, see `check_heads`.
    keep : S (T_i,) bool, False for words (punctuation) that UUAS leaves out: the spanning tree spans the others, and
        the edges to be found are those between two others. Correlations use every word.
    groups : (S,) labels of documents, which the bootstrap then draws whole. n_replicates : of the bootstrap over
        sentences or groups.

    Raises
    ------
    ProbeError : numbers or shapes that do not fit, heads that are no tree, predictions that are not finite.
    """
    trees, kept = _check(predicted, heads, keep, square=True)
    n = len(trees)
    correct, edges, correlation = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64), np.full(n, np.nan)
    for s, (distance, tree, words) in enumerate(zip(predicted, trees, kept, strict=True)):
        gold = tree_edges(tree, words)
        size = len(tree)
        found = spanning_edges(np.asarray(distance), words)
        edges[s] = len(gold)
        correct[s] = np.intersect1d(gold @ [size, 1], found @ [size, 1]).size
        if size > 1:
            correlation[s] = _rank_correlation(np.asarray(distance), tree_distances(tree)).mean()
    drawn = draw_groups(n, n_replicates, seed, groups=groups)
    return DistanceScores(
        percentile(_ratio(correct @ drawn, edges @ drawn)),
        percentile(_by_length(correlation, np.array([len(t) for t in trees]), drawn)),
        correct,
        edges,
        correlation,
    )


def score_depths(
    predicted: Sequence[np.ndarray],
    heads: Sequence[np.ndarray],
    *,
    keep: Sequence[np.ndarray] | None = None,
    groups: np.ndarray | None = None,
    n_replicates: int = 1000,
    seed: int = 0,
) -> DepthScores:
    """Root accuracy and NSpr. of predicted depths.

    Parameters
    ----------
    predicted : S (T_i,) depths; only their order matters. The rest as for `score_distances`; `keep` bears on the
        root accuracy alone.
    """
    trees, kept = _check(predicted, heads, keep, square=False)
    n = len(trees)
    found, counted, correlation = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool), np.full(n, np.nan)
    for s, (depth, tree, words) in enumerate(zip(predicted, trees, kept, strict=True)):
        counted[s] = words.sum() > 1
        found[s] = counted[s] and tree[int(np.argmin(np.where(words, depth, np.inf)))] == -1
        if len(tree) > 1:
            correlation[s] = _rank_correlation(np.asarray(depth)[None], tree_depths(tree)[None])[0]
    drawn = draw_groups(n, n_replicates, seed, groups=groups)
    return DepthScores(
        percentile(_ratio(found @ drawn, counted @ drawn)),
        percentile(_by_length(correlation, np.array([len(t) for t in trees]), drawn)),
        found,
        counted,
        correlation,
    )


def score_chain(
    heads: Sequence[np.ndarray],
    *,
    keep: Sequence[np.ndarray] | None = None,
    groups: np.ndarray | None = None,
    n_replicates: int = 1000,
    seed: int = 0,
) -> DistanceScores:
    """The baseline that sees no activations: the distance of two words is how far apart they stand in the sentence."""
    places = [np.arange(len(h)) for h in heads]
    chains = [np.abs(place[:, None] - place).astype(np.float64) for place in places]
    return score_distances(chains, heads, keep=keep, groups=groups, n_replicates=n_replicates, seed=seed)


def _check(
    predicted: Sequence[np.ndarray], heads: Sequence[np.ndarray], keep: Sequence[np.ndarray] | None, *, square: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    if not len(heads) or len(predicted) != len(heads) or (keep is not None and len(keep) != len(heads)):
        raise ProbeError(
            f"got predictions for {len(predicted)} sentences, {len(heads)} trees"
            f"{'' if keep is None else f' and {len(keep)} masks'}; expected one of each a sentence."
        )
    trees = [check_heads(h, f"sentence {s}") for s, h in enumerate(heads)]
    kept = [np.ones(len(t), dtype=bool) for t in trees] if keep is None else [np.asarray(k, dtype=bool) for k in keep]
    for s, (tree, words, values) in enumerate(zip(trees, kept, predicted, strict=True)):
        size = len(tree)
        if np.shape(values) != ((size, size) if square else (size,)) or words.shape != (size,):
            raise ProbeError(
                f"sentence {s} has {size} heads, predictions of shape {np.shape(values)} and a mask of shape "
                f"{words.shape}; expected {'(T, T)' if square else '(T,)'} predictions and a (T,) mask."
            )
        if not np.isfinite(values).all():
            raise ProbeError(f"the predictions of sentence {s} hold a NaN or an infinity; see the fit's status.")
    return trees, kept


def _rank_correlation(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(R,) Spearman's correlation of each row, 0 where a row is constant."""
    a, b = scipy.stats.rankdata(predicted, axis=1), scipy.stats.rankdata(true, axis=1)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    size = np.sqrt(np.square(a).sum(axis=1) * np.square(b).sum(axis=1))
    return np.divide((a * b).sum(axis=1), size, out=np.zeros(len(a)), where=size > 0)


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0)


def _by_length(values: np.ndarray, lengths: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(1 + B,): weighted mean within each length, then the mean over those lengths that a replicate drew."""
    held = [length for length in np.unique(lengths) if LENGTHS[0] <= length <= LENGTHS[1]]
    if not held:
        return np.full(drawn.shape[1], np.nan)
    means = np.stack([_ratio(values[lengths == x] @ drawn[lengths == x], drawn[lengths == x].sum(0)) for x in held])
    known = np.isfinite(means)
    return _ratio(np.where(known, means, 0).sum(axis=0), known.sum(axis=0))
