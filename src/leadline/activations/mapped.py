"""A site left on disk: rows of a store's shards, read as they are asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from leadline.errors import StoreError

__all__ = ["MappedRows", "map_tensor"]


def map_tensor(file: Path, name: str) -> np.ndarray:
    """A float32 tensor of a safetensors file, as a read-only memory map.

    Raises
    ------
    StoreError : there is no such float32 tensor in the file.
    """
    try:
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(size))
        entry = header[name]
        start, _ = entry["data_offsets"]
        if entry["dtype"] != "F32":
            raise StoreError(f"'{file}' holds {name} in {entry['dtype']}, expected F32; extract again.")
        shape = tuple(int(x) for x in entry["shape"])
        return np.memmap(file, dtype="<f4", mode="r", offset=8 + size + int(start), shape=shape)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"cannot map {name} in the shard '{file}' ({error!r}); extract again.") from error


class MappedRows:
    """Rows at one site, in data-set order, over the shards of a store.

    Attributes
    ----------
    shape : (n_rows, width).
    """

    def __init__(self, parts: Sequence[np.ndarray], rows: Sequence[np.ndarray], width: int) -> None:
        self._parts = list(parts)
        n = sum(len(r) for r in rows)
        self.shape = (n, width)
        # Where each row of the data set lies: its shard, and its place there.
        self._shard = np.empty(n, dtype=np.int32)
        self._place = np.empty(n, dtype=np.int64)
        for index, own in enumerate(rows):
            self._shard[own] = index
            self._place[own] = np.arange(len(own))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """The rows as a (len, width) float32 array of the caller's own."""
        shard, place = self._shard[rows], self._place[rows]
        out = np.empty((len(shard), self.shape[1]), dtype=np.float32)
        for index in np.unique(shard):
            at = shard == index
            out[at] = self._parts[index][place[at]]
        return out
