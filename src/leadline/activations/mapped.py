"""Shards left on disk: their headers, memory maps of a few at a time, and rows read as they are asked for."""

from __future__ import annotations

import json
import mmap
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from leadline.activations.layout import AGAIN, SHARD_NOTE
from leadline.errors import ActivationsError, StoreError

__all__ = ["MappedRows", "MappedShard", "ScatteredRows", "ShardMaps", "checked_rows", "read_shapes"]

# Each mapping holds a file descriptor, of which a process may have as few as 256.
_OPEN_SHARDS = 64

_DTYPES = {"F32": "<f4", "F16": "<f2", "I8": "i1", "I32": "<i4", "I64": "<i8"}

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class _Header:
    note: dict[str, Any]
    shapes: dict[str, tuple[str, tuple[int, ...]]]
    starts: dict[str, int]


def _read_header(file: Path) -> _Header:
    """The header of a safetensors file, if its tensors fill the file exactly.

    Raises
    ------
    StoreError : it is no such file, or was cut short.
    """
    try:
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            length = opened.seek(0, 2)
            if 8 + size > length:
                raise ValueError("it ends within its header")
            opened.seek(8)
            entries = json.loads(opened.read(size))
        note = json.loads(entries.pop("__metadata__", {}).get(SHARD_NOTE, "{}"))
        shapes, starts, end = {}, {}, 0
        for name, entry in sorted(entries.items(), key=lambda item: int(item[1]["data_offsets"][0])):
            start, stop = (int(x) for x in entry["data_offsets"])
            dtype, shape = str(entry["dtype"]), tuple(int(x) for x in entry["shape"])
            if start != end or (dtype in _DTYPES and stop - start != prod(shape) * np.dtype(_DTYPES[dtype]).itemsize):
                raise ValueError(f"{name} does not lie where its header says")
            shapes[name], starts[name], end = (dtype, shape), 8 + size + start, stop
        if 8 + size + end != length:
            raise ValueError(f"it has {length:,} bytes, its header says {8 + size + end:,}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise StoreError(f"cannot read the shard '{file}' ({said}). Delete it if it is there, then {AGAIN}.") from error
    return _Header(note if isinstance(note, dict) else {}, shapes, starts)


def read_shapes(file: Path) -> tuple[dict[str, Any], dict[str, tuple[str, tuple[int, ...]]]]:
    """The note in a shard's header, and its tensors as (dtype, shape) by name.

    Raises
    ------
    StoreError : it is no such file, or was cut short.
    """
    header = _read_header(file)
    return header.note, header.shapes


class MappedShard:
    """A shard as a memory map: only what is looked at is read.

    Raises
    ------
    StoreError : it is no shard, or was cut short.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._header = _read_header(file)
        try:
            with file.open("rb") as opened:
                self._map = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot map the shard '{file}' ({error}); {AGAIN}.") from error

    @property
    def shapes(self) -> Shapes:
        """Its tensors as (safetensors dtype, shape) by name."""
        return self._header.shapes

    def layout(self, name: str) -> tuple[str, tuple[int, ...], int]:
        """A tensor's numpy dtype and shape, and where in the file it begins."""
        dtype, shape = self._header.shapes[name]
        return _DTYPES[dtype], shape, self._header.starts[name]

    def tensor(self, name: str) -> np.ndarray:
        """A read-only view of one tensor."""
        dtype, shape = self._header.shapes[name]
        return np.ndarray(shape, dtype=_DTYPES[dtype], buffer=self._map, offset=self._header.starts[name])


class ScatteredRows:
    """A tensor of a shard, of which few vectors are read: each by a read of its own.

    A memory map would bring in what the system reads ahead, which is hundreds of vectors for each that is wanted.

    Parameters
    ----------
    shard : the shard. name : the tensor's, with the vectors along its first dimension.
    """

    def __init__(self, shard: MappedShard, name: str) -> None:
        self._shard, self._name = shard, name

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """The vectors of these numbers, in rising order."""
        dtype, shape, start = self._shard.layout(self._name)
        index = np.arange(shape[0])[rows]
        row_bytes = int(np.dtype(dtype).itemsize * prod(shape[1:]))
        out = np.empty((len(index), *shape[1:]), dtype=dtype)
        # Vectors that lie side by side are read at once.
        runs = np.split(np.arange(len(index)), np.flatnonzero(np.diff(index) != 1) + 1)
        try:
            with self._shard.file.open("rb", buffering=0) as opened:
                for run in runs:
                    opened.seek(start + int(index[run[0]]) * row_bytes)
                    wanted: Any = out[run[0] : run[-1] + 1].view(np.uint8).reshape(-1)
                    if opened.readinto(wanted) != wanted.nbytes:
                        raise StoreError(f"the shard '{self._shard.file}' was cut short; {AGAIN}.")
        except OSError as error:
            raise StoreError(f"cannot read the shard '{self._shard.file}' ({error.strerror}); {AGAIN}.") from error
        return out


class ShardMaps:
    """A folder's shards, of which the ones used last stay mapped.

    Parameters
    ----------
    files : all shards. check : called with the number of a shard and the shard when it is first mapped.
    """

    def __init__(self, files: list[Path], check: Callable[[int, MappedShard], None]) -> None:
        self.files = files
        self._check = check
        self._checked: set[int] = set()
        self._open: OrderedDict[int, MappedShard] = OrderedDict()
        # Probes are fitted in several threads.
        self._lock = Lock()

    def __getitem__(self, i: int) -> MappedShard:
        with self._lock:
            shard = self._open.pop(i, None)
            if shard is None:
                shard = MappedShard(self.files[i])
                # Views of it that are still in use keep their map; this only forgets it.
                while len(self._open) >= _OPEN_SHARDS:
                    self._open.popitem(last=False)
            self._open[i] = shard
            new = i not in self._checked
        if new:
            self._check(i, shard)
            self._checked.add(i)
        return shard


class MappedRows:
    """Rows at one site, in data-set order, over the shards of a store; tokens of a ragged one.

    Attributes
    ----------
    shape : (n_rows, width).
    """

    dtype = np.dtype(np.float32)

    def __init__(self, take: Callable[[np.ndarray], np.ndarray], n: int, width: int) -> None:
        self._take = take
        self.shape = (n, width)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """The rows as a (len, width) float32 array of the caller's own, and no others read.

        Raises
        ------
        ActivationsError : a row that is not here.
        StoreError : a shard is missing, cut short or not this store's.
        """
        if isinstance(rows, slice):
            return self._take(np.arange(*rows.indices(len(self))))
        return self._take(checked_rows(rows, len(self)))


def checked_rows(rows: Any, n: int) -> np.ndarray:
    """Row numbers as (len,) int64.

    Parameters
    ----------
    rows : 0-based rows, or n truth values.

    Raises
    ------
    ActivationsError : they are no rows of n.
    """
    index = np.asarray(rows)
    if index.dtype == bool and index.shape == (n,):
        return np.flatnonzero(index)
    if index.ndim != 1 or (index.size and index.dtype.kind not in "iu"):
        raise ActivationsError(
            f"rows of the shape {index.shape} and dtype {index.dtype} were asked for; expected a list of row numbers, "
            f"or {n:,} truth values."
        )
    wrong = (index < 0) | (index >= n) if index.size else np.zeros(0, dtype=bool)
    if wrong.any():
        raise ActivationsError(f"row {index[wrong][0]} is not here; rows count from 0 to {n - 1:,}.")
    return index.astype(np.int64)
