"""What rows of token ids share, and how rows with contexts, stems and tails fill batches.

Rows are sorted, so that rows with a prefix in common stand side by side and every node of their trie is a run of
neighbours. A context is a node that is computed once for a run of batches, a stem one beyond it that is computed once
in a batch; the rest of a row is its tail. Which nodes to take is chosen in `prefix_choice`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

__all__ = ["Beyond", "Budget", "Distinct", "Units", "divide", "filled"]

# Tokens compared at a time.
_COMPARED = 1 << 20


@dataclass(frozen=True)
class Budget:
    """What bounds and what costs a batch.

    Parameters
    ----------
    batch_tokens : the most tokens of a pass, padding included.
    batch_cost : how many tokens' work a pass costs besides its tokens' own.
    batch_rows : the most rows of a batch that holds several tails; None for no limit.
    cache_tokens : the most tokens of a batch with what its tails continue, repeated for each tail; None for no limit.
    """

    batch_tokens: int
    batch_cost: int
    batch_rows: int | None = None
    cache_tokens: int | None = None


@dataclass(frozen=True)
class Distinct:
    """The u different rows among n, in lexicographic order of their ids' bytes.

    Parameters
    ----------
    lengths : (u,) tokens.
    shared : (u,) how many first tokens a row has in common with the one before it, so that both keep a tail: at most
        their lengths less one. The first has 0.
    members : (n,) the rows, equal ones side by side and in their own order.
    starts : (u + 1,) where in `members` the rows equal to each begin.
    """

    lengths: np.ndarray
    shared: np.ndarray
    members: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, ids: Sequence[Sequence[int]]) -> Distinct:
        """Sort rows of token ids, each with at least one."""
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        flat = np.fromiter(chain.from_iterable(ids), np.int64, int(lengths.sum()))
        ends = np.cumsum(lengths)
        begins = ends - lengths
        # Bytes compare faster than lists. Any total order serves, as long as equal prefixes stand together.
        raw = flat.tobytes()
        keys = [raw[8 * a : 8 * b] for a, b in zip(begins.tolist(), ends.tolist())]
        members = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
        lengths = lengths[members]
        common = np.append(0, _common(flat, begins[members], lengths))
        before = np.append(0, lengths[:-1])
        new = ~((common == lengths) & (common == before))
        new[0] = True
        shared = np.minimum(common, np.minimum(lengths, before) - 1)[new]
        shared[0] = 0
        return cls(lengths[new], shared, members, np.append(np.flatnonzero(new), len(keys)))

    @cached_property
    def copies(self) -> np.ndarray:
        """(u,) how many rows are equal to each."""
        return np.diff(self.starts)

    @property
    def least(self) -> int:
        """No division of the rows computes fewer tokens than this: those of their trie."""
        return int(self.lengths.sum() - self.shared.sum())


def _common(flat: np.ndarray, begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(n - 1,) the length of the longest common prefix of each row and the next."""
    shorter = np.minimum(lengths[:-1], lengths[1:])
    found = np.empty(len(shorter), dtype=np.int64)
    ends = np.cumsum(shorter)
    start = 0
    while start < len(shorter):
        done = ends[start] - shorter[start]
        stop = max(start + 1, int(np.searchsorted(ends, done + _COMPARED, side="right")))
        size = shorter[start:stop]
        first = ends[start:stop] - size - done
        offset = np.arange(ends[stop - 1] - done) - np.repeat(first, size)
        here = np.repeat(begins[start:stop], size) + offset
        there = np.repeat(begins[start + 1 : stop + 1], size) + offset
        # Where two tokens differ, their offset; the first such is the length in common.
        differ = np.where(flat[here] != flat[there], offset, np.repeat(size, size))
        found[start:stop] = np.minimum.reduceat(differ, first)
        start = stop
    return found


# ---- from contexts and stems to what batches are made of


@dataclass(frozen=True)
class Units:
    """Stems with their tails, in the order in which they fill batches; what belongs together is in one batch.

    A class is the units of one context and one length of stem; a batch holds units of one class. Within a class the
    widest come first. A row that shares no stem is a unit of its own.

    Parameters
    ----------
    order : (u,) the distinct rows, a unit's side by side, its longest first.
    starts : (units + 1,) where in `order` each unit begins.
    group : (units,) the number of the context; 0 for none.
    context, stem : (units,) tokens.
    width : (units,) tokens of the longest tail.
    last : (units,) where a batch that begins with a unit has to end.
    ends : (classes,) the end of each class.
    """

    order: np.ndarray
    starts: np.ndarray
    group: np.ndarray
    context: np.ndarray
    stem: np.ndarray
    width: np.ndarray
    last: np.ndarray
    ends: np.ndarray

    @cached_property
    def tails(self) -> np.ndarray:
        """(units,) how many tails each has."""
        return np.diff(self.starts)


@dataclass(frozen=True)
class Beyond:
    """The distinct rows beyond their contexts, context by context.

    Parameters
    ----------
    rows : (u,) which distinct row each is.
    group, context : (u,) the number of its context, 0 for none, and that context's tokens.
    lengths, shared : (u,) as of `Distinct`, less the context's tokens; 0 shared where another context begins.
    """

    rows: np.ndarray
    group: np.ndarray
    context: np.ndarray
    lengths: np.ndarray
    shared: np.ndarray

    @classmethod
    def of(cls, distinct: Distinct, context: np.ndarray) -> Beyond:
        """Cut off each row's context: the tokens in `context` (u,)."""
        begins = (context > 0) & ((context != np.append(0, context[:-1])) | (distinct.shared < context))
        group = np.where(context > 0, np.cumsum(begins), 0)
        shared = np.where(begins, 0, distinct.shared - context)
        free = np.flatnonzero(group == 0)
        if len(free):
            # What a row shares with one further ahead is the least that the neighbours between them share.
            gaps = np.append(0, free[:-1] + 1)
            shared[free] = np.minimum.reduceat(distinct.shared[: free[-1] + 1], gaps)
            shared[free[0]] = 0
        rows = np.argsort(group, kind="stable")
        return cls(rows, group[rows], context[rows], (distinct.lengths - context)[rows], shared[rows])


def divide(distinct: Distinct, beyond: Beyond, stem: np.ndarray, budget: Budget) -> Units:
    """The units of a choice of contexts and stems.

    Parameters
    ----------
    stem : (u,) the tokens of each row's stem, in the order of `beyond`; 0 for none.
    """
    n = len(beyond.rows)
    # The first row of the run that shares a row's stem names the stem.
    head = np.arange(n)
    for depth in np.flatnonzero(np.bincount(stem[stem > 0])):
        runs = np.maximum.accumulate(np.where(beyond.shared < depth, np.arange(n), 0))
        head = np.where(stem == depth, runs, head)
    order = np.lexsort((-beyond.lengths, head, stem, beyond.group))
    new = np.append(True, (np.diff(head[order]) != 0) | (np.diff(stem[order]) != 0))
    tails = (beyond.lengths - stem)[order]
    rows, group, context, stem = (a[order] for a in (beyond.rows, beyond.group, beyond.context, stem))
    copies = distinct.copies[rows]
    starts = _broken(np.flatnonzero(new), tails, copies, context, stem, budget)

    # Widest first within a class.
    first = starts[:-1]
    by_width = np.lexsort((-tails[first], stem[first], group[first]))
    sizes = np.diff(starts)[by_width]
    first = first[by_width]
    ends = np.cumsum(sizes)
    order = np.arange(n) - np.repeat(ends - sizes, sizes) + np.repeat(first, sizes)
    starts = np.append(0, ends)
    group, context, stem, width = (a[first] for a in (group, context, stem, tails))
    units = len(first)
    ends = np.append(np.flatnonzero((np.diff(group) != 0) | (np.diff(stem) != 0)) + 1, units)

    # Where a batch that begins with a unit has to end: its tails, its stems, its rows, its class.
    begin = np.arange(units)
    most = starts[:-1] + _most_tails(width, context + stem, budget)
    last = np.searchsorted(starts, most, side="right") - 1
    last = np.minimum(last, begin + budget.batch_tokens // np.maximum(stem, 1))
    if budget.batch_rows is not None:
        so_far = np.append(0, np.cumsum(copies[order]))[starts]
        last = np.minimum(last, np.searchsorted(so_far, so_far[:-1] + budget.batch_rows, side="right") - 1)
    last = np.minimum(np.maximum(last, begin + 1), np.repeat(ends, np.diff(np.append(0, ends))))
    return Units(rows[order], starts, group, context, stem, width, last, ends)


def _most_tails(width: np.ndarray, ahead: np.ndarray, budget: Budget) -> np.ndarray:
    """How many tails of a width fit a batch, at least 1, with so many tokens ahead of each."""
    most = budget.batch_tokens // width
    if budget.cache_tokens is not None:
        most = np.where(ahead > 0, np.minimum(most, budget.cache_tokens // (ahead + width)), most)
    return np.maximum(1, most)


def _broken(
    starts: np.ndarray, tails: np.ndarray, copies: np.ndarray, context: np.ndarray, stem: np.ndarray, budget: Budget
) -> np.ndarray:
    """Where units start, and the end, once those are broken that do not fit a batch, or are padded more than a stem."""
    n = len(tails)
    ends = np.append(starts[1:], n)
    size = ends - starts
    most = _most_tails(tails, context + stem, budget)
    rows_before, tokens_before = (np.append(0, np.cumsum(a)) for a in (copies, tails))
    rows = int(rows_before[-1]) if budget.batch_rows is None else budget.batch_rows
    many = (size > most[starts]) | (rows_before[ends] - rows_before[starts] > rows)
    padding = size * tails[starts] - (tokens_before[ends] - tokens_before[starts])
    to_break = (size > 1) & (many | (padding > stem[starts]))
    # For each row where a part that begins with it ends, found by halving: padding grows with the part.
    at = np.flatnonzero(np.repeat(to_break, size))
    high = np.minimum(np.repeat(ends, size)[at], at + most[at])
    high = np.minimum(high, np.searchsorted(rows_before, rows_before[at] + rows, side="right") - 1)
    low, high = at + 1, np.maximum(high, at + 1)
    while (low < high).any():
        middle = (low + high + 1) // 2
        fits = tails[at] * (middle - at) - (tokens_before[middle] - tokens_before[at]) <= stem[at]
        low, high = np.where(fits, middle, low), np.where(fits, high, middle - 1)
    part_end = np.arange(1, n + 1)
    part_end[at] = low
    following = part_end.tolist()
    more = []
    for start, end in zip(starts[to_break].tolist(), ends[to_break].tolist()):
        while (start := following[start]) < end:
            more.append(start)
    return np.append(np.sort(np.concatenate([starts, np.array(more, dtype=np.int64)])), n)


def filled(units: Units, budget: Budget) -> np.ndarray:
    """(contexts + 1,) about the work of the batches of each context, the context itself left out.

    A batch is filled until it is full or its padding costs more than another would: quicker than the best cut.
    """
    work = [0] * (int(units.group.max()) + 1)
    width, stem, group, last = (a.tolist() for a in (units.width, units.stem, units.group, units.last))
    count: list[int] = units.starts.tolist()
    real: list[int] = np.append(0, np.cumsum(units.width * units.tails)).tolist()
    start, n = 0, len(width)
    while start < n:
        wide = width[start]
        fixed = budget.batch_cost * (2 if stem[start] else 1)
        slack = fixed + wide * count[start] - real[start]
        end = last[start]
        if wide * count[end] - real[end] > slack:
            end = bisect_right(range(start + 1, end), slack, key=lambda i: wide * count[i] - real[i]) + start
        work[group[start]] += fixed + stem[start] * (end - start) + wide * (count[end] - count[start])
        start = end
    return np.array(work, dtype=np.int64)
