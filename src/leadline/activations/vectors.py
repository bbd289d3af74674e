"""Where `Activations` gets its vectors from: arrays in memory, the shards of a store, or either seen token by token.

A vector is a row's, or where the selection keeps every token, a token's; then `lengths` says how many each row has.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from leadline.activations.layout import AGAIN, LENGTHS, MANIFEST, PLAN, POSITIONS, ROWS, Identity, read_json
from leadline.activations.mapped import MappedRows, MappedShard, ScatteredRows, ShardMaps
from leadline.activations.plan import BatchPlan
from leadline.activations.quantised import decode
from leadline.activations.ragged import position_problem, token_positions
from leadline.errors import StoreError
from leadline.files import sha256_file
from leadline.sites import Site

__all__ = ["Held", "Stored", "Vectors"]

# What is decoded at once.
_CHUNK_BYTES = 8 << 20
# Of a shard's vectors one in so many, or fewer, are read one by one.
_FEW = 16


class Vectors(Protocol):
    """Vectors at some sites, counted through all rows in data-set order."""

    @property
    def ragged(self) -> bool:
        """Whether they are vectors of tokens."""
        ...

    @property
    def n(self) -> int:
        """How many there are at a site."""
        ...

    @property
    def lengths(self) -> np.ndarray:
        """(n_rows,) int64: the vectors of each row."""
        ...

    @property
    def positions(self) -> np.ndarray:
        """(n,) int32: each token's position in its row; only where they are of tokens."""
        ...

    def take(self, site: Site, index: np.ndarray) -> np.ndarray:
        """The vectors of these numbers as (len(index), width) float32."""
        ...

    def of_row(self, site: Site, row: int) -> np.ndarray:
        """One row's vectors."""
        ...

    def mapped(self, site: Site) -> MappedRows | np.ndarray:
        """All vectors, left where they are."""
        ...

    def verify(self) -> None:
        """Raise where the bytes are not those that were written."""
        ...


class Held:
    """Arrays in memory.

    Parameters
    ----------
    arrays : for each site (n, width) float32. lengths : vectors of each row; None for one a row.
    """

    def __init__(self, arrays: Mapping[Site, np.ndarray], lengths: np.ndarray | None = None) -> None:
        self._arrays = arrays
        self.ragged = lengths is not None
        self.n = len(next(iter(arrays.values())))
        self.lengths = np.ones(self.n, dtype=np.int64) if lengths is None else lengths

    @cached_property
    def positions(self) -> np.ndarray:
        return token_positions(self.lengths)

    def take(self, site: Site, index: np.ndarray) -> np.ndarray:
        return self._arrays[site][index]

    def of_row(self, site: Site, row: int) -> np.ndarray:
        start = int(self.lengths[:row].sum())
        return self._arrays[site][start : start + int(self.lengths[row])].copy()

    def mapped(self, site: Site) -> np.ndarray:
        return self._arrays[site].copy()

    def verify(self) -> None:
        """Nothing was written."""


class Stored:
    """The shards of a complete store. Nothing is read before it is asked for.

    Parameters
    ----------
    folder : the store. manifest : its `manifest.json`. identity : what it is of.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any], identity: Identity) -> None:
        self.folder = folder
        self._manifest = manifest
        self._identity = identity
        self._entries: list[Mapping[str, Any]] = list(manifest["shards"])
        self._widths = dict(identity.sites)
        self._shards = ShardMaps([folder / str(entry["file"]) for entry in self._entries], self._check)

    # ---- where things lie

    @cached_property
    def _rows(self) -> list[np.ndarray]:
        """For each shard its rows: by the plan, so that few rows can be read without a look into every shard."""
        planned = self._planned()
        if planned is not None:
            return planned
        rows = [np.array(MappedShard(file).tensor(ROWS)) for file in self._shards.files]
        if not np.array_equal(np.sort(np.concatenate(rows)), np.arange(self._identity.n_rows)):
            raise StoreError(self._not_once("Extract again with overwrite=True."))
        return rows

    def _planned(self) -> list[np.ndarray] | None:
        content = (read_json(self.folder / PLAN) or {}).get("plan") or {}
        if content.get("fingerprint") != (self._manifest.get("plan") or {}).get("fingerprint", ""):
            return None
        plan = BatchPlan.from_json(content)
        rows = [np.asarray(plan.rows(i), dtype=np.int64) for i in range(len(plan.shards))]
        if [len(own) for own in rows] != [entry["rows"] for entry in self._entries]:
            raise StoreError(f"the {PLAN} and the {MANIFEST} in '{self.folder}' are of different stores; {AGAIN}.")
        return rows

    def _not_once(self, more: str) -> str:
        return f"the shards in '{self.folder}' do not hold each of the {self._identity.n_rows:,} rows once. {more}"

    @cached_property
    def _place(self) -> tuple[np.ndarray, np.ndarray]:
        """(n_rows,) each: a row's shard, and its number among the shard's rows."""
        shard = np.empty(self._identity.n_rows, dtype=np.int32)
        number = np.empty(self._identity.n_rows, dtype=np.int64)
        for i, rows in enumerate(self._rows):
            shard[rows], number[rows] = i, np.arange(len(rows))
        return shard, number

    def _check(self, i: int, shard: MappedShard) -> None:
        """A shard is what the plan and the manifest say."""
        rows = self._rows[i]
        n_vectors = int(self._entries[i]["tokens"]) if self.ragged else len(rows)
        for name, expected in self._identity.tensors(len(rows), n_vectors).items():
            found = shard.shapes.get(name)
            if found != expected:
                has = "nothing" if found is None else f"{found[0]} {found[1]}"
                raise StoreError(
                    f"'{shard.file}' holds {has} at {name}, expected {expected[0]} {expected[1]}; extract again with "
                    f"overwrite=True."
                )
        if not np.array_equal(shard.tensor(ROWS), rows):
            raise StoreError(self._not_once(f"'{shard.file}' holds others than planned: delete it, then {AGAIN}."))
        if self.ragged:
            lengths = shard.tensor(LENGTHS)
            if lengths.sum() != n_vectors or lengths.min(initial=0) < 0:
                raise StoreError(
                    f"'{shard.file}' holds {n_vectors:,} tokens, its rows have {lengths.sum():,}; delete it, then "
                    f"{AGAIN}."
                )

    @property
    def ragged(self) -> bool:
        return self._identity.ragged

    @cached_property
    def n(self) -> int:
        return sum(int(entry["tokens"]) for entry in self._entries) if self.ragged else self._identity.n_rows

    @cached_property
    def lengths(self) -> np.ndarray:
        if not self.ragged:
            return np.ones(self.n, dtype=np.int64)
        lengths = np.empty(self._identity.n_rows, dtype=np.int64)
        for i, rows in enumerate(self._rows):
            lengths[rows] = self._shards[i].tensor(LENGTHS)
        lengths.flags.writeable = False
        return lengths

    @cached_property
    def positions(self) -> np.ndarray:
        shard, place = self._locate(np.arange(self.n))
        out = np.empty(self.n, dtype=np.int32)
        for i, at, places in _by_shard(shard, place):
            out[at] = self._shards[i].tensor(POSITIONS)[places]
        return out

    @cached_property
    def _tokens(self) -> tuple[np.ndarray, np.ndarray]:
        """(n_rows + 1,) where a row's tokens begin in the data set, and (n_rows,) where in its shard."""
        starts = np.empty(self._identity.n_rows, dtype=np.int64)
        for rows in self._rows:
            own = self.lengths[rows]
            starts[rows] = np.cumsum(own) - own
        return np.concatenate([[0], np.cumsum(self.lengths)]), starts

    def _locate(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The shard of each vector, and its number there."""
        shard, number = self._place
        if not self.ragged:
            return shard[index], number[index]
        offsets, starts = self._tokens
        row = np.searchsorted(offsets, index, side="right") - 1
        return shard[row], starts[row] + index - offsets[row]

    # ---- reading

    def take(self, site: Site, index: np.ndarray) -> np.ndarray:
        out = np.empty((len(index), self._widths[site.name]), dtype=np.float32)
        for i, at, places in _by_shard(*self._locate(index)):
            self._decode(site, i, places, out, at)
        return out

    def of_row(self, site: Site, row: int) -> np.ndarray:
        if not self.ragged:
            return self.take(site, np.array([row]))
        # From the row's own shard alone.
        shard, number = (int(where[row]) for where in self._place)
        lengths = self._shards[shard].tensor(LENGTHS)
        places = int(lengths[:number].sum()) + np.arange(int(lengths[number]))
        out = np.empty((len(places), self._widths[site.name]), dtype=np.float32)
        self._decode(site, shard, places, out, np.arange(len(places)))
        return out

    def _decode(self, site: Site, i: int, places: np.ndarray, out: np.ndarray, at: np.ndarray) -> None:
        """Vectors of one shard, whose numbers rise, to their places in `out`; a part of them at a time."""
        shard = self._shards[i]
        size = max(1, _CHUNK_BYTES // (4 * out.shape[1]))
        n = shard.shapes[site.name][1][0]
        few = len(places) * _FEW <= n

        def tensor(name: str) -> Any:
            if not few:
                return shard.tensor(name)
            own = ScatteredRows(shard, name)
            # What belongs to all vectors of the shard is read whole, by one read too.
            return own if shard.shapes[name][1][0] == n and len(shard.shapes[name][1]) == 2 else own[:]

        for start in range(0, len(places), size):
            now, to = places[start : start + size], at[start : start + size]
            # Vectors that lie side by side are read as they lie.
            beside = now[-1] - now[0] + 1 == len(now) and bool((np.diff(now) == 1).all())
            rows = slice(int(now[0]), int(now[-1]) + 1) if beside else now
            values = np.empty((len(now), out.shape[1]), dtype=np.float32)
            decode(tensor, site.name, self._identity.stored, rows, values)
            out[to] = values

    def mapped(self, site: Site) -> MappedRows:
        return MappedRows(lambda index: self.take(site, index), self.n, self._widths[site.name])

    def verify(self) -> None:
        for i, entry in enumerate(self._entries):
            file = self.folder / entry["file"]
            try:
                found = sha256_file(file)
            except OSError as error:
                raise StoreError(f"cannot read the shard '{file}' ({error.strerror}); {AGAIN}.") from error
            if found != entry["sha256"]:
                raise StoreError(
                    f"the shard '{file}' is damaged: its SHA-256 is {found[:12]}…, expected {entry['sha256'][:12]}…. "
                    f"Delete that file, then {AGAIN}."
                )
            shard = MappedShard(file)
            self._check(i, shard)
            if self.ragged:
                problem = position_problem(shard.tensor(LENGTHS), shard.tensor(POSITIONS))
                if problem:
                    raise StoreError(f"in the shard '{file}' {problem}; delete it, then {AGAIN}.")


def _by_shard(shard: np.ndarray, place: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """For each shard that is needed: its number, which of what was asked for lies there, and where, in rising order."""
    order = np.lexsort((place, shard))
    ends = np.flatnonzero(np.diff(shard[order])) + 1
    return [(int(shard[at[0]]), at, place[at]) for at in np.split(order, ends) if len(at)]
