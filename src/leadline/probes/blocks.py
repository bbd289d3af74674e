"""Rows a block at a time, so that activations larger than memory can be fitted where they lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

__all__ = ["RowSource", "blocks", "is_mapped"]

_BLOCK_BYTES = 1 << 25


class RowSource(Protocol):
    """Rows on disk: a `numpy.memmap`, or what `Activations.mapped` gives."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""
        ...

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Some rows in a row, as an array in memory or mapped."""
        ...


def is_mapped(X: RowSource) -> bool:
    """Whether the rows are to stay where they are, and be read a block at a time."""
    return not isinstance(X, np.ndarray) or isinstance(X, np.memmap)


def blocks(X: RowSource, n_bytes: int = _BLOCK_BYTES) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (rows, block) with blocks of about `n_bytes` in float64, in order."""
    n, d = X.shape
    size = max(1, n_bytes // (8 * max(d, 1)))
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        yield rows, np.asarray(X[rows])
