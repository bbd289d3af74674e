"""What each column of a table means: inputs, groups, pairs, types and split are read from it here.

Missing values pass through (an empty text, a NaN target, an empty group), so that `check` can name every bad row at
once. What cannot be given a meaning at all raises.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from leadline.data.records import Finding, Input, name_rows
from leadline.errors import DataError, did_you_mean

__all__ = [
    "class_name",
    "few",
    "find_column",
    "groups_of_pairs",
    "kind_of",
    "read_inputs",
    "read_names",
    "read_splits",
]

_TEST = {"test", "true", "1"}
_TRAIN = {"train", "false", "0"}


def find_column(frame: pl.DataFrame, name: str, role: str, source: str) -> pl.Series:
    """The column of that name.

    Raises
    ------
    DataError : there is none; the columns are listed and the nearest offered.
    """
    if name not in frame.columns:
        raise DataError(
            f"'{source}' has no column '{name}' for the {role}; its columns are {', '.join(frame.columns)}."
            + did_you_mean(name, frame.columns)
        )
    return frame[name]


def read_inputs(column: pl.Series, frame: pl.DataFrame, source: str) -> tuple[Input, ...]:
    """Texts, or chats from a list column or from JSON text; a null is an empty text.

    Raises
    ------
    DataError : a column of numbers, or messages without a role and a text.
    """
    where = f"column '{column.name}' of '{source}'"
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        texts = [x or "" for x in column.to_list()]
        first = _parse_chat(next((x for x in texts if x.strip() not in ("", "[]")), ""))
        if not first or not {"role", "content"} & set(first[0]):
            return tuple(texts)
        chats = [_parse_chat(x) if x.strip() else [] for x in texts]
        for row, chat in enumerate(chats):
            if chat is None:
                raise DataError(
                    f"{name_rows([row])} of {where} is not a list of messages in JSON, as the first row is: "
                    f"{texts[row][:60]!r}."
                )
        return tuple(_messages(chat or [], row, where) for row, chat in enumerate(chats))
    if isinstance(column.dtype, pl.List) and isinstance(column.dtype.inner, pl.Struct):
        return tuple(_messages(chat or [], row, where) for row, chat in enumerate(column.to_list()))
    if column.dtype == pl.Null:
        return ("",) * len(column)
    texts = [s.name for s in frame if s.dtype == pl.String]
    encoded = f"Encoded files are read with image='{column.name}' or audio='{column.name}'. "
    raise DataError(
        f"{where} holds {kind_of(column.dtype)}; expected text or chat messages. "
        + (encoded if column.dtype == pl.Binary else "")
        + (f"Columns with text: {', '.join(texts)}." if texts else "No column of it holds text.")
    )


def _parse_chat(text: str) -> list[Any] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, list) and all(isinstance(m, dict) for m in found) else None


def _messages(chat: Sequence[Any], row: int, where: str) -> tuple[dict[str, Any], ...]:
    messages = []
    for message in chat:
        # Parquet fills the keys that one message has and another lacks with nulls.
        kept = {key: value for key, value in (message or {}).items() if value is not None}
        if not (isinstance(kept.get("role"), str) and isinstance(kept.get("content"), str)):
            raise DataError(
                f"{name_rows([row])} of {where} has a message without a text for 'role' and for 'content': "
                f"{str(message)[:80]}. Expected {{'role': 'user', 'content': '…'}}."
            )
        messages.append(kept)
    return tuple(messages)


def class_name(value: object) -> str:
    """A value as the name of a class or group: `true` for True, `1` for 1.0, a text without the space around it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def read_names(column: pl.Series, role: str, source: str) -> np.ndarray:
    """(n,) names of groups, pairs or types as an object array of str; a null is an empty name.

    Parameters
    ----------
    role : what the names are of, for messages.

    Raises
    ------
    DataError : a column of lists or records.
    """
    if column.dtype.is_nested():
        raise DataError(
            f"column '{column.name}' of '{source}' holds {kind_of(column.dtype)}; expected a name or number as {role}."
        )
    names = np.empty(len(column), dtype=object)
    names[:] = ["" if v is None or v != v else class_name(v) for v in column.to_list()]
    return names


def groups_of_pairs(
    pairs: np.ndarray, groups: np.ndarray | None, pair: str, group: str | None, source: str
) -> tuple[np.ndarray, tuple[Finding, ...]]:
    """Groups that keep every pair whole: those given, or else the pairs themselves.

    Parameters
    ----------
    pairs, groups : (n,) names; `""` for a row in no pair, which is a group of its own where none are given.
    pair, group : the columns that they were read from.

    Raises
    ------
    DataError : a pair whose rows are in different groups.
    """
    if groups is None:
        taken = set(pairs)
        alone = "row"
        while any(f"{alone} {i}" in taken for i in range(1, len(pairs) + 1)):
            alone += " of no pair"
        found = np.empty(len(pairs), dtype=object)
        found[:] = [name or f"{alone} {i}" for i, name in enumerate(pairs, start=1)]
        note = f"no group was given, so the pairs of '{pair}' are the groups, which folds keep whole."
        return found, (Finding("group_by_pair", "note", note),)
    first: dict[str, int] = {}
    for row, (name, own) in enumerate(zip(pairs, groups)):
        # A missing group is a finding of its own.
        if name and own and groups[first.setdefault(name, row)] != own:
            raise DataError(
                f"pair '{name}' of '{pair}' in '{source}' has {name_rows([first[name], row])} in different groups of "
                f"'{group}' ('{groups[first[name]]}' and '{own}'); rows of a pair belong together. Give a coarser "
                f"group, or leave it out to have the pairs as groups."
            )
    return groups, ()


def read_splits(column: pl.Series, source: str) -> tuple[np.ndarray, tuple[Finding, ...]]:
    """(n,) `"train"` or `"test"` as an object array; True and 1 are test, unless the column is named for training.

    Raises
    ------
    DataError : any other value, or none.
    """
    values = [None if v is None else class_name(v).strip().casefold() for v in column.to_list()]
    found: list[str | None] = []
    bad: list[int] = []
    for row, value in enumerate(values):
        split = "test" if value in _TEST else "train" if value in _TRAIN else None
        found.append(split)
        if split is None:
            bad.append(row)
    if bad:
        given = few(dict.fromkeys("" if values[r] is None else str(column[r]) for r in bad))
        raise DataError(
            f"the split column '{column.name}' of '{source}' holds {given} in {name_rows(bad)}; expected 'train' or "
            f"'test', or True (1) for test rows and False (0) for training rows."
        )
    findings: tuple[Finding, ...] = ()
    named = column.name.casefold()
    if "train" in named and "test" not in named and not set(values) & {"train", "test"}:
        found = ["train" if s == "test" else "test" for s in found]
        findings = (Finding("split_by_train", "note", f"rows with true in '{column.name}' are the training rows."),)
    splits = np.empty(len(found), dtype=object)
    splits[:] = found
    return splits, findings


def kind_of(dtype: pl.DataType) -> str:
    """What a column holds, in words."""
    if dtype.is_integer():
        return "whole numbers"
    if dtype.is_numeric():
        return "numbers"
    return "true and false" if dtype == pl.Boolean else f"values of type {dtype}"


def few(values: Sequence[str] | dict[str, None], limit: int = 4) -> str:
    """The first of some values, quoted."""
    shown = [f"'{v}'" for v in list(values)[:limit]]
    return ", ".join(shown) + (", …" if len(values) > limit else "")
