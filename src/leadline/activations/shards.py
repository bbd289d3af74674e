"""What a shard is made of: the tensors and notes that it is written with, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leadline.activations.layout import LENGTHS, POSITIONS, ROWS, Identity
from leadline.activations.quantised import LIMITS, encode, too_large
from leadline.activations.ragged import position_problem, token_positions
from leadline.errors import ActivationsError

__all__ = ["ENTRY_KEYS", "checked_notes", "shard_tensors"]

# What a shard's entry in the manifest says of itself; notes stand beside it under other keys.
ENTRY_KEYS = ("file", "rows", "tokens", "bytes", "sha256", "environment")


def shard_tensors(
    identity: Identity,
    rows: Sequence[int],
    arrays: Mapping[str, np.ndarray],
    lengths: np.ndarray | None,
    positions: np.ndarray | None,
) -> tuple[dict[str, np.ndarray], int]:
    """The tensors of a shard, as they are stored, and the number of its vectors at a site.

    Parameters
    ----------
    rows : their numbers in the data set. The rest as in `StoreWriter.write_shard`.

    Raises
    ------
    ActivationsError : arrays of other shapes, or values that the store's dtype cannot hold (names site and rows).
    """
    owners = np.asarray(rows, dtype=np.int64)
    tensors = {ROWS: owners}
    if identity.ragged:
        counts, at = _tokens(identity.tokens, len(owners), lengths, positions)
        tensors |= {LENGTHS: counts, POSITIONS: at}
        owners = np.repeat(owners, counts)
    elif lengths is not None or positions is not None:
        raise ActivationsError(
            f"lengths or positions were given for the tokens '{identity.tokens}', which leave one vector a row; "
            f"expected none."
        )
    _check_arrays(identity, arrays, len(owners))
    for name, values in arrays.items():
        _check_range(name, owners[too_large(values, identity.stored)], identity.stored)
        tensors |= encode(name, values, identity.stored)
    return tensors, len(owners)


def _tokens(
    selection: str, n_rows: int, lengths: np.ndarray | None, positions: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    if lengths is None or np.shape(lengths) != (n_rows,):
        given = "none were given" if lengths is None else f"the shape {np.shape(lengths)} was given"
        raise ActivationsError(
            f"the tokens '{selection}' leave several vectors a row, so a shard of {n_rows} rows needs lengths of the "
            f"shape ({n_rows},), the tokens of each; {given}."
        )
    counts = np.asarray(lengths, dtype=np.int64)
    at = token_positions(np.maximum(counts, 0)) if positions is None else np.asarray(positions, dtype=np.int32)
    problem = position_problem(counts, at)
    if problem:
        raise ActivationsError(f"a shard cannot be written: {problem}. Expected a sorted position for each token.")
    return counts, at


def _check_arrays(identity: Identity, arrays: Mapping[str, np.ndarray], n_vectors: int) -> None:
    expected = {name: ("float32", (n_vectors, width)) for name, width in identity.sites}
    found = {name: (str(values.dtype), values.shape) for name, values in arrays.items()}
    if found == expected:
        return
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            raise ActivationsError(
                f"a shard was given {found.get(name, 'nothing')} for {name}; expected {expected.get(name, 'nothing')}, "
                f"a vector a {'token' if identity.ragged else 'row'} for each site of its store."
            )


def _check_range(name: str, rows: np.ndarray, stored: str) -> None:
    if not len(rows):
        return
    from leadline.data.records import name_rows

    other = "int8 or float32" if stored == "float16" else "float32"
    raise ActivationsError(
        f"activations at {name} in {name_rows(np.unique(rows))} are beyond ±{LIMITS[stored]:,.0f} or not finite, which "
        f"{stored} cannot store. Store them as {other}, or leave those rows out."
    )


def checked_notes(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Notes that do not take the name of what an entry says already.

    Raises
    ------
    ActivationsError : one does.
    """
    taken = [key for key in notes if key in ENTRY_KEYS]
    if taken:
        raise ActivationsError(f"a shard's note cannot be called '{taken[0]}', which its entry says already.")
    return dict(notes)
