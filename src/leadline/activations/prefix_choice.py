"""Which prefixes to compute once: the contexts and the stems that are estimated to be the least work.

Nodes are chosen by dynamic programming over the trie of the rows, from its leaves up, at a few dozen depths. A batch
has stems of one length; which lengths there are is chosen by filling batches with each of a few sets of them. No
recursion and whole numbers only: the same rows give the same choice on every machine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from leadline.activations.prefixes import Beyond, Budget, Distinct, Units, divide, filled

__all__ = ["choose"]

# Depths looked at: of stems, when their lengths are chosen; of contexts, and of stems inside each.
_STEM_DEPTHS = 48
_CONTEXT_DEPTHS = 16
# A context has stems of so many lengths at most.
_CLASSES = 6
_FAR = np.iinfo(np.int64).max
# Parts of a stem's work are counted in such fractions of a token.
_FINE = 1024


def choose(distinct: Distinct, budget: Budget) -> list[Units]:
    """The units of the contexts and stems estimated to be the least work: one choice, or two that come close.

    The estimate fills batches instead of cutting them best; which of two is less work, their batches tell.
    """
    alone = np.zeros(len(distinct.lengths), dtype=np.int64)
    context = _choose_contexts(distinct, budget)
    found = [_choose_stems(distinct, each, budget) for each in ([alone, context] if context.any() else [alone])]
    least = min(int(each.work.sum()) for each in found)
    return [
        divide(distinct, each.beyond, each.stem, budget) for each in found if 10 * int(each.work.sum()) <= 11 * least
    ]


class _Choice(NamedTuple):
    """Rows beyond their contexts, their stems, and about the work of each context, 0 for none, with its own."""

    beyond: Beyond
    stem: np.ndarray
    work: np.ndarray


def _choose_stems(distinct: Distinct, context: np.ndarray, budget: Budget) -> _Choice:
    """About the least work with the given contexts.

    Each context takes the best of a few sets of stem lengths, tried on all contexts at once.
    """
    beyond = Beyond.of(distinct, context)
    depths = _depths(beyond.shared, _STEM_DEPTHS)
    stem, _ = _stems(beyond, depths, budget)
    best_stem = np.zeros_like(stem)
    best = filled(divide(distinct, beyond, best_stem, budget), budget)
    for lengths in _few(depths, _weights(beyond, stem, depths), _CLASSES):
        stem, _ = _stems(beyond, lengths, budget)
        # A row that shares no stem makes a class of its own, or fills up one that is there.
        filled_up = np.append(0, lengths)[np.searchsorted(lengths, beyond.lengths)]
        for trial in (stem, np.where(stem > 0, stem, filled_up)):
            work = filled(divide(distinct, beyond, trial, budget), budget)
            better = work < best
            best = np.where(better, work, best)
            best_stem = np.where(better[beyond.group], trial, best_stem)
    begins = np.diff(beyond.group, prepend=0) > 0
    best[beyond.group[begins]] += beyond.context[begins] + budget.batch_cost
    return _Choice(beyond, best_stem, best)


def _depths(shared: np.ndarray, most: int) -> np.ndarray:
    """The lengths of prefixes, ascending: all that occur, or the most frequent and a geometric series."""
    found, times = np.unique(shared[shared > 0], return_counts=True)
    if len(found) <= most:
        return found
    often = found[np.argsort(-times, kind="stable")[: most // 2]]
    series = found[np.searchsorted(found, _series(int(found[0]), int(found[-1]), most // 2))]
    return np.union1d(often, series)


def _series(low: int, high: int, most: int) -> list[int]:
    """Whole numbers from low to high, each a like part above the one before: about `most`, or doubling at least."""
    for parts in (16, 8, 4, 2, 1):
        series = [low]
        while series[-1] < high:
            series.append(min(high, series[-1] + max(1, series[-1] // parts)))
        if len(series) <= most:
            break
    return series


def _stems(beyond: Beyond, depths: np.ndarray, budget: Budget) -> tuple[np.ndarray, np.ndarray]:
    """The stems, at the given depths, that leave the fewest tokens: each row's stem, and its part of the work.

    From the deepest nodes upwards. At a node, either its rows are one stem with tails as wide as the longest; or the
    rows that deeper nodes left alone are; or nothing is.

    Returns
    -------
    stem : (u,) tokens, 0 for a row left alone.
    work : (u,) in 1/1024 tokens.
    """
    n = len(beyond.rows)
    stem = np.zeros(n, dtype=np.int64)
    starts = np.arange(n)
    # For each node: rows and tokens, of all and of those left alone, and the work of the others.
    sums = np.stack([np.ones(n, np.int64), beyond.lengths, np.ones(n, np.int64), beyond.lengths, np.zeros(n, np.int64)])
    longest = np.stack([beyond.lengths, beyond.lengths])
    part = beyond.lengths * _FINE
    for depth in depths[::-1].tolist():
        runs = np.flatnonzero(beyond.shared < depth)
        at = np.searchsorted(starts, runs)
        starts = runs
        sums = np.add.reduceat(sums, at, axis=1)
        longest = np.maximum.reduceat(longest, at, axis=1)
        apart = sums[3] + sums[4]
        whole = _stem_work(depth, sums[0], sums[1], longest[0], budget)
        rest = _stem_work(depth, sums[2], sums[3], longest[1], budget)
        as_whole = (sums[0] > 1) & (whole < apart) & ((sums[2] < 2) | (whole < rest + sums[4]))
        as_rest = ~as_whole & (sums[2] > 1) & (rest < sums[3])
        taken = as_whole | as_rest
        size = np.diff(np.append(runs, n))
        rows = np.repeat(as_whole, size) | (np.repeat(as_rest, size) & (stem == 0))
        stem[rows] = depth
        share = np.where(as_whole, whole * _FINE // sums[0], rest * _FINE // np.maximum(sums[2], 1))
        part[rows] = np.repeat(share, size)[rows]
        sums[4] = np.where(as_whole, whole, np.where(as_rest, rest + sums[4], sums[4]))
        sums[2:4, taken] = 0
        longest[1, taken] = 0
    return stem, part


def _stem_work(depth: int, rows: np.ndarray, tokens: np.ndarray, longest: np.ndarray, budget: Budget) -> np.ndarray:
    """The tokens of a stem with so many rows: padded to the longest if they fit a batch, else about those of parts."""
    padded = rows * (longest - depth)
    real = tokens - rows * depth
    parts = depth * (2 + real // budget.batch_tokens) + real
    return np.where(padded <= budget.batch_tokens, depth + padded, parts)


def _weights(beyond: Beyond, stem: np.ndarray, depths: np.ndarray) -> np.ndarray:
    """(depths,) how many tokens more are computed for each token by which the stems of a depth are shortened."""
    weights = np.zeros(len(depths), dtype=np.int64)
    for i, depth in enumerate(depths.tolist()):
        mine = stem == depth
        runs = np.cumsum(beyond.shared < depth)[mine]
        # Runs are numbered in order.
        weights[i] = len(runs) - np.count_nonzero(np.diff(runs, prepend=-1))
    return weights


def _few(depths: np.ndarray, weights: np.ndarray, most: int) -> list[np.ndarray]:
    """The best one, two, ... `most` of the depths, if stems between them are shortened to the next below."""
    n = len(depths)
    count, tokens = (np.append(0, np.cumsum(a)) for a in (weights, weights * depths))
    # (from, to): the loss of the depths from one on, up to before another, shortened to the first of them.
    loss = (tokens[None, :] - tokens[:-1, None]) - depths[:, None] * (count[None, :] - count[:-1, None])
    best = tokens[:-1]
    chosen = [[i] for i in range(n)]
    found = []
    for _ in range(min(most, n)):
        whole = best + loss[:, n]
        found.append(depths[chosen[int(np.argmin(whole))]])
        if whole.min() == 0:
            break
        before = np.where(np.arange(n)[:, None] < np.arange(n), best[:, None] + loss[:, :n], _FAR)
        source = np.argmin(before, axis=0)
        best = np.minimum(best, before[source, np.arange(n)])
        chosen = [[*chosen[int(source[i])], i] if i else [0] for i in range(n)]
    return found


def _choose_contexts(distinct: Distinct, budget: Budget) -> np.ndarray:
    """(u,) the tokens of the context chosen for each distinct row, 0 for none.

    From the deepest nodes upwards, a node becomes a context if its rows are then less work than by what was chosen
    below it: its own tokens and pass, those of the stems and tails beyond it, and a part-filled batch.
    """
    n = len(distinct.lengths)
    context = np.zeros(n, dtype=np.int64)
    alone = Beyond.of(distinct, context)
    stems = _stems(alone, _depths(distinct.shared, _STEM_DEPTHS), budget)
    work = _with_passes(distinct.lengths, *stems, budget)
    starts = np.arange(n)
    for depth in _depths(distinct.shared, _CONTEXT_DEPTHS)[::-1].tolist():
        runs = np.flatnonzero(distinct.shared < depth)
        work = np.add.reduceat(work, np.searchsorted(starts, runs))
        starts = runs
        size = np.diff(np.append(runs, n))
        inner = distinct.shared.copy()
        inner[runs] = _FAR
        tokens = np.minimum.reduceat(inner, runs)
        likely = (size > 1) & ((size - 1) * np.where(size > 1, tokens, 0) > budget.batch_cost)
        if not likely.any():
            continue
        beyond, sizes = _below(distinct, likely, size, tokens)
        stem, part = _stems(beyond, _depths(beyond.shared, _CONTEXT_DEPTHS), budget)
        first = np.cumsum(sizes) - sizes
        passes = np.where(np.maximum.reduceat(stem, first) > 0, 3, 2)
        found = np.add.reduceat(_with_passes(beyond.lengths, stem, part, budget), first)
        found += (tokens[likely] + passes * budget.batch_cost) * _FINE
        better = found < work[likely]
        taken = np.flatnonzero(likely)[better]
        work[taken] = found[better]
        mask = np.zeros(len(runs), dtype=bool)
        mask[taken] = True
        context = np.where(np.repeat(mask, size), np.repeat(tokens, size), context)
    return context


def _with_passes(lengths: np.ndarray, stem: np.ndarray, part: np.ndarray, budget: Budget) -> np.ndarray:
    """(u,) each row's part of the work, with that of the passes of full batches, in 1/1024 tokens, or without stem.

    A batch is full of tokens or of rows.
    """
    least = 0 if budget.batch_rows is None else _FINE * budget.batch_tokens // budget.batch_rows

    def passes(work: np.ndarray) -> np.ndarray:
        return budget.batch_cost * np.maximum(work, least) // budget.batch_tokens

    alone = lengths * _FINE
    return np.minimum(alone + passes(alone), part + np.where(stem > 0, 2, 1) * passes(part))


def _below(distinct: Distinct, wanted: np.ndarray, size: np.ndarray, tokens: np.ndarray) -> tuple[Beyond, np.ndarray]:
    """The rows of the wanted runs, beyond the tokens that each run shares, and the runs' sizes."""
    rows = np.flatnonzero(np.repeat(wanted, size))
    sizes = size[wanted]
    context = np.repeat(tokens[wanted], sizes)
    shared = distinct.shared[rows] - context
    shared[np.cumsum(sizes) - sizes] = 0
    group = np.repeat(np.arange(1, len(sizes) + 1), sizes)
    return Beyond(rows, group, context, distinct.lengths[rows] - context, shared), sizes
