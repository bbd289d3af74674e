"""Which rows make a batch, and which batches make a shard.

Rows of like length stand together, so that little is padded, and a batch fits a budget of tokens. Rows that are equal,
or begin alike, may stand together instead, so that what they share is computed once. A shard is what is written at
once: what a killed run loses at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from leadline.activations.batches import Batch, least_work, plain_batches, total_work, unit_batches
from leadline.activations.prefix_choice import choose
from leadline.activations.prefixes import Beyond, Budget, Distinct, divide
from leadline.activations.sharing import Sharing, Work, arrange
from leadline.errors import ActivationsError, StoreError
from leadline.files import fingerprint

__all__ = ["BatchPlan"]

# What sharing has to save, in hundredths of the plain plan's work.
_LEAST_SAVING = 3


@dataclass(frozen=True)
class BatchPlan:
    """A division of rows into batches and shards.

    Parameters
    ----------
    batch_tokens : the most tokens of a batch, padding included. A longer row is a batch of its own.
    shards : for each shard its batches, for each batch its rows (numbers in the data set).
    sharing : for each shard and batch what its rows share, None where each is computed by itself; empty if that holds
        for all. The batches of a context stand one after the other.
    """

    batch_tokens: int
    shards: tuple[tuple[tuple[int, ...], ...], ...]
    sharing: tuple[tuple[Sharing | None, ...], ...] = ()

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
        _check(lengths, batch_tokens, batch_cost, shard_tokens, shard_rows)
        batches = plain_batches(lengths, batch_tokens, batch_cost)
        return cls._of(batches, batch_tokens, shard_tokens, shard_rows)

    @classmethod
    def build_shared(
        cls,
        ids: Sequence[Sequence[int]],
        *,
        batch_tokens: int,
        batch_cost: int = 0,
        shard_tokens: int | None = None,
        shard_rows: int | None = None,
        prefixes: bool = True,
        cache_tokens: int | None = None,
    ) -> BatchPlan:
        """Plan rows of token ids so that what they share is computed once, where that saves work.

        A batch has one context of c tokens (maybe none), S stems of p tokens each (maybe none) and U different tails,
        padded to the longest of t tokens: S p + U t tokens in one pass, or two if there are stems. The context is a
        pass of its own, once for all its batches. Where less than 3% of the work is saved, this is the plan of
        `build`, to the byte.

        Parameters
        ----------
        ids : n rows of token ids, each with at least one.
        batch_tokens : the budget of S p and of U t. Where one row alone is longer, it is a pass of its own.
        batch_cost, shard_tokens, shard_rows : as of `build`. Tokens are those computed. Because of rows that are equal
            no batch gets more rows than `shard_rows`, or than the largest batch of `build` if that has more.
        prefixes : False computes equal rows once and no more.
        cache_tokens : the most of U (c + p + t) in a batch with a context or stems, as a key-value cache may hold them
            all; None for no limit.

        Raises
        ------
        ActivationsError : as of `build`.

        Notes
        -----
        How a pass over a model goes by the plan, which rests on causal attention if there are contexts or stems:

            for rows, sharing in zip(plan.shards[i], plan.sharing_of(i)):
                if sharing is None:
                    ...                 # pad ids[row] for row in rows, as without sharing
                else:
                    parts = arrange([ids[row] for row in rows], *sharing)
                    ...                 # parts.context_ids: keep the cache while the next batch has the same
                    ...                 # parts.stems, after the context: pool them and cut their caches into tails'
                    ...                 # parts.tails, each after stem parts.tail_stem; row i is tail parts.row_tail[i]
        """
        lengths = [len(row) for row in ids]
        _check(lengths, batch_tokens, batch_cost, shard_tokens, shard_rows)
        if cache_tokens is not None and cache_tokens < 1:
            raise ActivationsError(f"cache_tokens is {cache_tokens}; expected at least 1.")
        plain = plain_batches(lengths, batch_tokens, batch_cost)
        distinct = Distinct.of(ids)
        most_rows = None if shard_rows is None else max(shard_rows, max(len(batch.rows) for batch in plain))
        budget = Budget(batch_tokens, batch_cost, most_rows, cache_tokens)
        least = _LEAST_SAVING * total_work(plain, batch_cost)
        found = plain

        def enough(work: int) -> bool:
            return 100 * (total_work(found, batch_cost) - work) >= least

        if len(distinct.lengths) < len(ids):
            alone = np.zeros(len(distinct.lengths), dtype=np.int64)
            merged = unit_batches(distinct, divide(distinct, Beyond.of(distinct, alone), alone, budget), budget)
            if enough(total_work(merged, batch_cost)):
                found = merged
        if prefixes and enough(distinct.least):
            shared = least_work(
                (unit_batches(distinct, units, budget) for units in choose(distinct, budget)), batch_cost
            )
            if enough(total_work(shared, batch_cost)):
                found = shared
        return cls._of(found, batch_tokens, shard_tokens, shard_rows)

    @classmethod
    def _of(
        cls, batches: Sequence[Batch], batch_tokens: int, shard_tokens: int | None, shard_rows: int | None
    ) -> BatchPlan:
        """Batches in order, divided into shards."""
        shards: list[list[Batch]] = []
        tokens = rows = 0
        for batch in batches:
            full = shards and (
                (shard_tokens is not None and tokens + batch.tokens > shard_tokens)
                or (shard_rows is not None and rows + len(batch.rows) > shard_rows)
            )
            if not shards or full:
                shards.append([])
                tokens = rows = 0
            shards[-1].append(batch)
            tokens += batch.tokens
            rows += len(batch.rows)
        sharing = tuple(tuple(batch.sharing for batch in shard) for shard in shards)
        if all(each is None for shard in sharing for each in shard):
            sharing = ()
        return cls(batch_tokens, tuple(tuple(batch.rows for batch in shard) for shard in shards), sharing)

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return sum(len(batch) for shard in self.shards for batch in shard)

    def rows(self, shard: int) -> list[int]:
        """The rows of a shard, in the order in which it holds them."""
        return [row for batch in self.shards[shard] for row in batch]

    def sharing_of(self, shard: int) -> tuple[Sharing | None, ...]:
        """What the rows of each batch of a shard share; None where each row is computed by itself."""
        return self.sharing[shard] if self.sharing else (None,) * len(self.shards[shard])

    def work(self, ids: Sequence[Sequence[int]]) -> Work:
        """What the plan computes for its rows of token ids, if its shards are done one after the other.

        Raises
        ------
        ActivationsError : rows other than those that it was made for.
        """
        if len(ids) != self.n_rows:
            raise ActivationsError(f"{len(ids)} rows are given and the plan has {self.n_rows}; give its own rows.")
        computed = passes = 0
        context: list[int] = []
        for i, shard in enumerate(self.shards):
            for rows, sharing in zip(shard, self.sharing_of(i), strict=True):
                batch = [ids[row] for row in rows]
                if sharing is None:
                    computed += len(batch) * max(map(len, batch))
                    passes += 1
                    context = []
                    continue
                parts = arrange(batch, *sharing)
                computed += parts.computed
                passes += 2 if sharing.stem else 1
                before, context = context, parts.context_ids.tolist()
                if context and context != before:
                    computed += len(context)
                    passes += 1
        return Work(computed, passes, sum(map(len, ids)))

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over the division itself."""
        return fingerprint("batch plan", self.shards, *([self.sharing] if self.sharing else []))

    def to_json(self) -> dict[str, Any]:
        """The plan, ready for JSON."""
        content: dict[str, Any] = {
            "batch_tokens": self.batch_tokens,
            "shards": [[list(batch) for batch in shard] for shard in self.shards],
        }
        if self.sharing:
            content["sharing"] = [[None if each is None else list(each) for each in shard] for shard in self.sharing]
        return content

    @classmethod
    def from_json(cls, value: Any) -> BatchPlan:
        """Read what `to_json` gave.

        Raises
        ------
        StoreError : it is something else, or does not hold every row once.
        """
        try:
            shards = tuple(tuple(tuple(int(row) for row in batch) for batch in shard) for shard in value["shards"])
            sharing = tuple(tuple(map(_read_sharing, shard)) for shard in value.get("sharing", ()))
            plan = cls(int(value["batch_tokens"]), shards, sharing)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"the batch plan cannot be read ({error!r}).") from error
        rows = sorted(row for shard in shards for batch in shard for row in batch)
        if not rows or rows != list(range(len(rows))) or not all(shard and all(shard) for shard in shards):
            raise StoreError("the batch plan does not hold every row once.")
        if sharing and [len(shard) for shard in sharing] != [len(shard) for shard in shards]:
            raise StoreError("the batch plan does not say of every batch what its rows share.")
        return plan


def _read_sharing(value: Any) -> Sharing | None:
    if value is None:
        return None
    context, stem = map(int, value)
    if context < 0 or stem < 0:
        raise ValueError(f"{value} are not two lengths")
    return Sharing(context, stem)


def _check(
    lengths: Sequence[int], batch_tokens: int, batch_cost: int, shard_tokens: int | None, shard_rows: int | None
) -> None:
    for name, limit in (("batch_tokens", batch_tokens), ("shard_tokens", shard_tokens), ("shard_rows", shard_rows)):
        if limit is not None and limit < 1:
            raise ActivationsError(f"{name} is {limit}; expected at least 1.")
    if batch_cost < 0:
        raise ActivationsError(f"batch_cost is {batch_cost}; expected at least 0.")
    if not lengths:
        raise ActivationsError("there are no rows to plan; give a data set with at least one.")
    if min(lengths) < 1:
        raise ActivationsError(f"row {min(range(len(lengths)), key=lengths.__getitem__)} has no tokens.")
