"""A table with both sentences of a minimal pair in a row, as BLiMP has it, to one with a row a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from leadline.data.columns import find_column
from leadline.data.records import name_rows
from leadline.errors import DataError

__all__ = ["PAIR_KEYS", "pair_options", "pair_table"]

PAIR_KEYS = ("positive", "negative")


def pair_options(pairs: object) -> dict[str, str]:
    """The two columns that `pairs` names.

    Raises
    ------
    DataError : no mapping of `positive` and `negative` to two columns.
    """
    named = isinstance(pairs, Mapping) and set(pairs) == set(PAIR_KEYS)
    if not isinstance(pairs, Mapping) or not named or not all(isinstance(one, str) for one in pairs.values()):
        raise DataError(
            f"pairs={pairs!r} does not name two columns; expected those of both sentences, as in "
            f"pairs={{'positive': 'sentence_good', 'negative': 'sentence_bad'}}."
        )
    return {key: pairs[key] for key in PAIR_KEYS}


def pair_table(
    frame: pl.DataFrame, positive: str, negative: str, target: str, source: str
) -> tuple[pl.DataFrame, str, str]:
    """Two rows for each: the positive sentence, then the negative one.

    Parameters
    ----------
    frame : n pairs. positive, negative : its columns of sentences, whose names become the classes.
    target : what to call the column of classes.

    Returns
    -------
    The table of 2n rows, the name of its column of sentences (`text`) and of its column of pairs (`pair`), which counts
    the rows of `frame` from 1; either has a `_` before it where `frame` has a column of that name. The two columns of
    sentences are left out, and all others stand in both rows.

    Raises
    ------
    DataError : a column that is not there, is given twice or holds no text, a sentence that is missing, or another
        column that is called as the target.
    """
    if positive == negative:
        raise DataError(f"'{positive}' was given for both sentences of the pairs; name two columns.")
    sides = []
    for name, role in ((positive, "positive sentence"), (negative, "negative sentence")):
        column = find_column(frame, name, role, source)
        if column.dtype in (pl.Categorical, pl.Enum):
            column = column.cast(pl.String)
        if column.dtype != pl.String:
            raise DataError(f"column '{name}' of '{source}' holds values of type {column.dtype}; expected sentences.")
        empty = [row for row, text in enumerate(column.to_list()) if text is None or not text.strip()]
        if empty:
            raise DataError(
                f"{name_rows(empty)} of column '{name}' of '{source}' {'has' if len(empty) == 1 else 'have'} no "
                f"sentence; a pair needs both. Fill in what is missing, or leave such rows out."
            )
        sides.append(column)
    rest = frame.drop(positive, negative)
    if target in rest.columns:
        raise DataError(
            f"'{source}' has a column '{target}' already, which is what the classes of its pairs would be called; "
            f"give another name, as in target='is_{target}'."
        )
    taken = {target, *rest.columns}
    text, pair = (_free(name, taken) for name in ("text", "pair"))
    n = frame.height
    order = [i for row in range(n) for i in (row, n + row)]
    numbers = pl.Series(pair, range(1, n + 1), dtype=pl.Int64)
    halves: list[pl.DataFrame] = []
    for column in sides:
        labels = pl.Series(target, [column.name] * n, dtype=pl.String)
        own: list[Any] = [column.alias(text), labels, numbers, *rest]
        halves.append(pl.DataFrame(own))
    return pl.concat(halves)[order], text, pair


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name = f"_{name}"
    return name
