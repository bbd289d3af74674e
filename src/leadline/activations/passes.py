"""Batches through a model: each site pooled as it appears, what rows share computed once, and memory that ran out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from leadline.activations.pooling import Pool, pool_positions
from leadline.activations.sharing import Arrangement, Sharing, arrange
from leadline.activations.tokens import Selection
from leadline.errors import ActivationsError
from leadline.sites import Site

if TYPE_CHECKING:
    import torch

    from leadline.models import Model
    from leadline.models.encoded import Encoded
    from leadline.models.part import Part
    from leadline.models.prefix import Prefix

__all__ = ["Block", "Passes"]


@dataclass(frozen=True)
class Block:
    """What a batch leaves in the store.

    Parameters
    ----------
    values : (rows, sum of widths) float32, sites side by side; (tokens, sum of widths) where every token is kept.
    positions : for each row the positions that were read, in its own unpadded tokens.
    halved : into how many passes the batch was divided since it did not fit into memory; 1 if it did.
    """

    values: np.ndarray
    positions: list[np.ndarray]
    halved: int = 1


@dataclass
class _Context:
    """A prefix whose cache is kept while the batches that share it are done."""

    ids: tuple[int, ...]
    prefix: Prefix
    tensors: dict[Site, torch.Tensor] = field(default_factory=dict)


class Passes:
    """Reads batches of encoded rows at some sites.

    Parameters
    ----------
    model, part, sites : what is read; `part` None for named modules of a module that is no transformer.
    selection : which tokens, and how they are pooled.
    rows : all rows of the data set, encoded.
    spans : (n, 2) the character ranges that a `span:` selection reads; None for others.
    name_row : names a row for a person.
    """

    def __init__(
        self,
        model: Model,
        part: Part | None,
        sites: Sequence[Site],
        selection: Selection,
        rows: Sequence[Encoded],
        spans: np.ndarray | None,
        name_row: Callable[[int], str],
    ) -> None:
        self.model, self.part, self.sites, self.selection = model, part, tuple(sites), selection
        self.rows, self.spans, self.name_row = rows, spans, name_row
        self._context: _Context | None = None
        # The least work, in tokens, that has not fitted into memory so far.
        self._too_much: float = float("inf")

    def positions(self, row: int) -> np.ndarray:
        """The positions that are read of a row.

        Raises
        ------
        ActivationsError : there is none; names the row.
        """
        try:
            span = None if self.spans is None else (int(self.spans[row][0]), int(self.spans[row][1]))
            return self.selection.positions(self.rows[row], span)
        except ActivationsError as error:
            raise ActivationsError(f"{self.name_row(row)}: {error}") from error

    def check(self) -> None:
        """Find the positions of every row of text before the first pass, which may be hours from the last.

        Raises
        ------
        ActivationsError : rows in which there are none; the first of them, and how many there are.
        """
        if not self.selection.which or self.part is None:
            return
        if not self.rows[0].ids:
            # Pictures and sounds are read when their turn comes; the first shows a selection that is not for them.
            self.positions(0)
            return
        failed: list[tuple[int, ActivationsError]] = []
        for row in range(len(self.rows)):
            try:
                self.positions(row)
            except ActivationsError as error:
                failed.append((row, error))
        if failed:
            more = f" The same holds of {len(failed) - 1:,} more rows." if len(failed) > 1 else ""
            raise ActivationsError(f"{failed[0][1]}{more}") from failed[0][1]

    def read(self, rows: Sequence[int], sharing: Sharing | None) -> Block:
        """One batch; halved for as long as it does not fit into memory.

        Raises
        ------
        ActivationsError : a single row does not fit.
        """
        work = sum(self.rows[row].length for row in rows)
        if work < self._too_much or len(rows) == 1:
            try:
                return self._read(rows, sharing)
            except Exception as error:
                if not _out_of_memory(error):
                    raise
                if len(rows) == 1:
                    raise ActivationsError(
                        f"{self.name_row(rows[0])} alone ({work:,} tokens) does not fit into the memory of "
                        f"{self.model.device}; shorten it, read fewer sites, or load the model in bfloat16 or on "
                        f"another device."
                    ) from error
                self._too_much = min(self._too_much, work)
            self._give_back()
        middle = len(rows) // 2
        parts = [self.read(rows[:middle], sharing), self.read(rows[middle:], sharing)]
        return Block(
            np.concatenate([part.values for part in parts]),
            [positions for part in parts for positions in part.positions],
            sum(part.halved for part in parts),
        )

    def _give_back(self) -> None:
        import torch

        self._context = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _read(self, rows: Sequence[int], sharing: Sharing | None) -> Block:
        if self.part is None:
            return self._read_modules(rows)
        positions = [self.positions(row) for row in rows]
        if sharing is None:
            values = self._plain(rows, positions)
        else:
            values = self._shared(arrange([self.rows[row].ids for row in rows], *sharing), positions)
        return Block(values, positions)

    # ---- each row by itself

    def _plain(self, rows: Sequence[int], positions: Sequence[np.ndarray]) -> np.ndarray:
        batch = self.model.batch([self.rows[row] for row in rows], self.part)
        pool = pool_positions(self.selection.pool, np.arange(len(rows)), positions, self.model.device)
        return self._collect(pool, lambda: self.model.run(batch, self.part))

    def _collect(
        self, pool: Pool, run: Callable[[], object], ahead: Callable[[Site, torch.Tensor], torch.Tensor] | None = None
    ) -> np.ndarray:
        """Run with every site pooled as it appears; the sites side by side."""
        import torch

        pooled: dict[Site, torch.Tensor] = {}

        def receive(site: Site, x: torch.Tensor) -> None:
            pooled[site] = pool(x if ahead is None else ahead(site, x))

        with self.model.reading(self.sites, receive):
            run()
        with torch.inference_mode():
            # One copy off the device rather than one a site.
            return torch.cat([pooled[site] for site in self.sites], dim=1).cpu().numpy()

    def _read_modules(self, rows: Sequence[int]) -> Block:
        """Named modules of any module: how many positions there are, a tensor tells."""
        import torch

        from leadline.models.encoded import Encoded

        batch = self.model.batch([self.rows[row] for row in rows], None)
        longest, texts = max(self.rows[row].length for row in rows), bool(self.rows[rows[0]].ids)
        seen: dict[Site, list[np.ndarray]] = {}
        pooled: dict[Site, torch.Tensor] = {}

        def receive(site: Site, x: torch.Tensor) -> None:
            if x.shape[0] != len(rows):
                raise ActivationsError(
                    f"{site.name} gives {x.shape[0]} rows for a batch of {len(rows)}, so they cannot be told apart; "
                    f"name a module that keeps the batch as its first dimension."
                )
            if texts and x.shape[1] == longest:
                # A vector a token: padding stands to the right.
                seen[site] = [self.positions(row) for row in rows]
            else:
                seen[site] = [self.selection.positions(Encoded(length=x.shape[1]))] * len(rows)
            pooled[site] = pool_positions(self.selection.pool, np.arange(len(rows)), seen[site], x.device)(x)

        with self.model.reading(self.sites, receive):
            self.model.run(batch)
        if self.selection.ragged and len({len(own[0]) for own in seen.values()}) > 1:
            counts = ", ".join(f"{site.name} {len(own[0])}" for site, own in seen.items())
            raise ActivationsError(
                f"the modules have different numbers of positions ({counts}), so not every position can be kept in one "
                f"store; extract them apart, or pool them (mean, max)."
            )
        values = torch.cat([pooled[site].cpu() for site in self.sites], dim=1).numpy()
        return Block(values, seen[self.sites[0]])

    # ---- what rows share, once

    def _shared(self, parts: Arrangement, positions: Sequence[np.ndarray]) -> np.ndarray:
        import torch

        c, p = len(parts.context_ids), parts.stems.shape[1]
        least = min(int(own[0]) for own in positions)
        mask = torch.arange(max(map(len, parts.tails))) < torch.tensor([[len(tail)] for tail in parts.tails])
        width = mask.shape[1]
        ids = torch.tensor([[*tail, *[tail[0]] * (width - len(tail))] for tail in parts.tails])
        if not c and not p:
            pool = pool_positions(self.selection.pool, parts.row_tail, positions, self.model.device)
            return self._collect(pool, lambda: self._forward(ids, mask))
        context = self._context_of(parts.context_ids, wanted=least < c) if c else None
        prefix = context.prefix if context is not None else None
        stems: dict[Site, torch.Tensor] = {}
        tail_stem = torch.from_numpy(parts.tail_stem)
        if p:
            prefix, stems = self._prefix(torch.from_numpy(parts.stems), prefix, wanted=least < c + p)
        # Of what stands before the tails only what is read is put in front of them.
        cut = 0 if least < c else c if least < c + p else c + p
        shifted = [own - cut for own in positions]
        pool = pool_positions(self.selection.pool, parts.row_tail, shifted, self.model.device)

        def ahead(site: Site, x: torch.Tensor) -> torch.Tensor:
            pieces = [x]
            if p and cut < c + p:
                pieces.insert(0, stems[site][tail_stem.to(x.device)])
            if c and cut < c:
                assert context is not None
                pieces.insert(0, context.tensors[site].expand(x.shape[0], -1, -1))
            return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)

        rows = tail_stem if p else torch.zeros(len(parts.tails), dtype=torch.long)
        return self._collect(pool, lambda: self.model.forward(ids, mask.long(), after=prefix, rows=rows), ahead)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor) -> object:
        """Token ids through the part, whichever it is."""
        from leadline.models.batches import Batch, text_arguments

        assert self.part is not None
        arguments = text_arguments(ids, mask.long(), self.part)
        moved = {key: value.to(self.model.device) for key, value in arguments.items()}
        return self.model.run(Batch(moved, mask), self.part)

    def _context_of(self, ids: np.ndarray, *, wanted: bool) -> _Context:
        import torch

        key = tuple(ids.tolist())
        there = self._context
        if there is None or there.ids != key or (wanted and not there.tensors):
            self._context = None
            prefix, tensors = self._prefix(torch.from_numpy(ids)[None], None, wanted=wanted)
            there = self._context = _Context(key, prefix, tensors)
        return there

    def _prefix(
        self, ids: torch.Tensor, after: Prefix | None, *, wanted: bool
    ) -> tuple[Prefix, dict[Site, torch.Tensor]]:
        """Compute prefixes; their own activations too where they are wanted."""
        found: dict[Site, torch.Tensor] = {}

        def keep(site: Site, x: torch.Tensor) -> None:
            if wanted:
                found[site] = x.clone()

        # What is not wanted is still waited for, so that the pass ends where the rows' own will.
        with self.model.reading(self.sites if wanted else self.sites[-1:], keep):
            return self.model.prefix(ids, after=after), found


def _out_of_memory(error: BaseException) -> bool:
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # The CPU's allocator has no error of its own.
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
