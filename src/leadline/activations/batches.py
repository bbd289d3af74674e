"""Rows cut into batches, with the least work.

The work is that of all tokens, padding included, and a fixed cost for each pass through the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby, pairwise

import numpy as np

from leadline.activations.prefixes import Budget, Distinct, Units
from leadline.activations.sharing import Sharing

__all__ = ["Batch", "least_work", "plain_batches", "total_work", "unit_batches"]


@dataclass(frozen=True)
class Batch:
    """Rows, the tokens and passes that they take (with the context, where they are its first), what they share."""

    rows: tuple[int, ...]
    tokens: int
    passes: int = 1
    sharing: Sharing | None = None


def total_work(batches: Sequence[Batch], batch_cost: int) -> int:
    """The tokens of all batches and the cost of all their passes."""
    return sum(batch.tokens + batch_cost * batch.passes for batch in batches)


def least_work(choices: Iterable[list[Batch]], batch_cost: int) -> list[Batch]:
    """The first of the divisions with the least work."""
    return min(choices, key=lambda batches: total_work(batches, batch_cost))


def plain_batches(lengths: Sequence[int], batch_tokens: int, batch_cost: int) -> list[Batch]:
    """Each row by itself, longest first."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    widths = np.array([lengths[row] for row in order], dtype=np.int64)
    last = np.minimum(np.arange(len(order)) + np.maximum(1, batch_tokens // widths), len(order))
    ends = _cut(widths, np.arange(len(order) + 1), last, batch_cost)
    return [
        Batch(tuple(order[start:end]), (end - start) * lengths[order[start]]) for start, end in pairwise([0, *ends])
    ]


def unit_batches(distinct: Distinct, units: Units, budget: Budget) -> list[Batch]:
    """Cut units into batches: the longest row of all in the first context, and that of each context in its first."""
    order = distinct.members[_runs(distinct.starts[units.order], distinct.copies[units.order])]
    rows_before = np.append(0, np.cumsum(distinct.copies[units.order]))[units.starts].tolist()
    tails_before, width = units.starts.tolist(), units.width.tolist()
    found: list[tuple[int, int, list[Batch]]] = []
    for first, end in pairwise([0, *units.ends.tolist()]):
        here = slice(first, end)
        context, stem, group = (int(a[first]) for a in (units.context, units.stem, units.group))
        passes = 2 if stem else 1
        counts = units.starts[first : end + 1]
        ends = _cut(units.width[here], counts, units.last[here] - first, passes * budget.batch_cost, stem)
        for a, b in pairwise([first, *(first + each for each in ends)]):
            rows = order[rows_before[a] : rows_before[b]].tolist()
            tails = tails_before[b] - tails_before[a]
            # Equal rows beyond the limit are computed again.
            most = budget.batch_rows if tails == 1 and budget.batch_rows else len(rows)
            sharing = Sharing(context, stem) if context or stem or len(rows) > tails else None
            tokens = stem * (b - a) + width[a] * tails
            parts = [Batch(tuple(rows[i : i + most]), tokens, passes, sharing) for i in range(0, len(rows), most)]
            found.append((group, context + stem + width[a], parts))
    return _in_order(found)


def _runs(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The numbers of runs that start at `starts`, one run after the other."""
    before = np.cumsum(sizes) - sizes
    return np.arange(int(sizes.sum())) + np.repeat(starts - before, sizes)


def _in_order(found: Sequence[tuple[int, int, list[Batch]]]) -> list[Batch]:
    """Batches, given with context and longest row, by context, and within and among contexts the longest row first."""
    contexts: list[tuple[int, list[Batch]]] = []
    for group, members in groupby(found, key=lambda each: each[0]):
        # Stable: of equal length in their order.
        by_length = sorted(members, key=lambda each: -each[1])
        batches = list(chain.from_iterable(parts for _, _, parts in by_length))
        if group:
            first = batches[0]
            assert first.sharing is not None
            batches[0] = replace(first, tokens=first.tokens + first.sharing.context, passes=first.passes + 1)
        contexts.append((by_length[0][1], batches))
    contexts.sort(key=lambda each: -each[0])
    return list(chain.from_iterable(batches for _, batches in contexts))


def _cut(widths: np.ndarray, counts: np.ndarray, last: np.ndarray, fixed: int, each: int = 0) -> list[int]:
    """Where to cut units, widest first, into batches: the end of each. The least work, found unit by unit.

    Parameters
    ----------
    widths : (n,) tokens of a unit's widest tail.
    counts : (n + 1,) tails before each unit, from any number on.
    last : (n,) where a batch that begins with a unit has to end, at the latest.
    fixed, each : tokens' work of a batch and of each of its units besides the tails.
    """
    n = len(widths)
    beside = each * np.arange(n + 1)
    # The least work for the first so many units, and where its last batch starts.
    work = np.full(n + 1, np.iinfo(np.int64).max)
    work[0] = 0
    starts = np.zeros(n + 1, dtype=np.int64)
    for start, (width, end) in enumerate(zip(widths.tolist(), last.tolist())):
        # The first unit of a batch is its widest.
        ends = slice(start + 1, end + 1)
        cost = width * counts[ends]
        if each:
            cost += beside[ends]
        cost += int(work[start]) + fixed - width * int(counts[start]) - int(beside[start])
        # Of equal work the earlier start: fewer and fuller batches.
        better = cost < work[ends]
        work[ends][better] = cost[better]
        starts[ends][better] = start
    ends_found = [n]
    while starts[ends_found[-1]]:
        ends_found.append(int(starts[ends_found[-1]]))
    return ends_found[::-1]
