"""Which rows make a batch, and which batches make a shard.

Rows of like length stand together, so that little is padded, and a batch fits a budget of tokens. A shard is what is
written at once: what a killed run loses at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from leadline.errors import ActivationsError, StoreError
from leadline.files import fingerprint

__all__ = ["BatchPlan"]


@dataclass(frozen=True)
class BatchPlan:
    """A division of rows into batches and shards.

    Parameters
    ----------
    batch_tokens : the most tokens of a batch, padding included. A longer row is a batch of its own.
    shards : for each shard its batches, for each batch its rows (numbers in the data set).
    """

    batch_tokens: int
    shards: tuple[tuple[tuple[int, ...], ...], ...]

    @classmethod
    def build(
        cls,
        lengths: Sequence[int],
        *,
        batch_tokens: int,
        batch_cost: int = 0,
        shard_tokens: int | None = None,
        shard_rows: int | None = None,
    ) -> BatchPlan:
        """Plan rows of the given lengths, in tokens: the division with the least work.

        The work is that of all tokens, padding included, and `batch_cost` for each batch. Longest rows first, so that
        a batch that does not fit into memory shows at once; equal lengths keep their order. The same arguments give
        the same plan.

        Parameters
        ----------
        lengths : (n,) the tokens of each row, at least 1.
        batch_tokens : the budget.
        batch_cost : how many tokens' work a batch costs besides its tokens' own (the weights are read once a batch).
        shard_tokens, shard_rows : a shard is closed before a batch with which it would pass either; None for no limit.
            A shard holds one batch at least.

        Raises
        ------
        ActivationsError : no rows, a row without tokens, a limit below 1 or a cost below 0.
        """
        for name, limit in (("batch_tokens", batch_tokens), ("shard_tokens", shard_tokens), ("shard_rows", shard_rows)):
            if limit is not None and limit < 1:
                raise ActivationsError(f"{name} is {limit}; expected at least 1.")
        if batch_cost < 0:
            raise ActivationsError(f"batch_cost is {batch_cost}; expected at least 0.")
        if not lengths:
            raise ActivationsError("there are no rows to plan; give a data set with at least one.")
        if min(lengths) < 1:
            raise ActivationsError(f"row {min(range(len(lengths)), key=lengths.__getitem__)} has no tokens.")

        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        ends = _cut([lengths[row] for row in order], batch_tokens, batch_cost)
        batches = [order[start:end] for start, end in pairwise([0, *ends])]

        shards: list[list[tuple[int, ...]]] = []
        tokens = rows = 0
        for batch in batches:
            size = len(batch) * lengths[batch[0]]
            full = shards and (
                (shard_tokens is not None and tokens + size > shard_tokens)
                or (shard_rows is not None and rows + len(batch) > shard_rows)
            )
            if not shards or full:
                shards.append([])
                tokens = rows = 0
            shards[-1].append(tuple(batch))
            tokens += size
            rows += len(batch)
        return cls(batch_tokens, tuple(tuple(shard) for shard in shards))

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return sum(len(batch) for shard in self.shards for batch in shard)

    def rows(self, shard: int) -> list[int]:
        """The rows of a shard, in the order in which it holds them."""
        return [row for batch in self.shards[shard] for row in batch]

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over the division itself."""
        return fingerprint("batch plan", self.shards)

    def to_json(self) -> dict[str, Any]:
        """The plan, ready for JSON."""
        return {"batch_tokens": self.batch_tokens, "shards": [[list(b) for b in shard] for shard in self.shards]}

    @classmethod
    def from_json(cls, value: Any) -> BatchPlan:
        """Read what `to_json` gave.

        Raises
        ------
        StoreError : it is something else, or does not hold every row once.
        """
        try:
            shards = tuple(tuple(tuple(int(row) for row in batch) for batch in shard) for shard in value["shards"])
            plan = cls(int(value["batch_tokens"]), shards)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"the batch plan cannot be read ({error!r}).") from error
        rows = sorted(row for shard in shards for batch in shard for row in batch)
        if not rows or rows != list(range(len(rows))) or not all(shard and all(shard) for shard in shards):
            raise StoreError("the batch plan does not hold every row once.")
        return plan


def _cut(widths: Sequence[int], batch_tokens: int, batch_cost: int) -> list[int]:
    """Where to cut rows, longest first, into batches: the end of each. The least work, found row by row."""
    n = len(widths)
    numbers = np.arange(n + 1)
    # The least work for the first so many rows, and where its last batch starts.
    work = np.full(n + 1, np.iinfo(np.int64).max)
    work[0] = 0
    starts = np.zeros(n + 1, dtype=np.int64)
    for start, width in enumerate(widths):
        # The first row of a batch is its longest.
        most = min(n - start, max(1, batch_tokens // width))
        cost = work[start] + batch_cost + width * numbers[1 : most + 1]
        # Of equal work the earlier start: fewer and fuller batches.
        better = cost < work[start + 1 : start + most + 1]
        work[start + 1 : start + most + 1][better] = cost[better]
        starts[start + 1 : start + most + 1][better] = start
    ends = [n]
    while starts[ends[-1]]:
        ends.append(int(starts[ends[-1]]))
    return ends[::-1]
