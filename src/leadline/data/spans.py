"""Spans: which part of each row's text a column names, as character ranges.

A span is given either as a range [start, end), counted in characters (code points) from 0, or as a substring that
stands exactly once in its text. In a chat it is a substring of one message's content.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from leadline.data.media import Captioned
from leadline.data.records import Input, name_rows
from leadline.errors import DataError

__all__ = ["read_spans"]

_PAIR = re.compile(r"\s*\[\s*(-?\d{1,15})\s*,\s*(-?\d{1,15})\s*\]\s*")
_SHOWN = 3


@dataclass
class _Problems:
    """Rows that have no usable span, by what is wrong with them."""

    missing: list[int] = field(default_factory=list)
    no_pair: list[tuple[int, str]] = field(default_factory=list)
    outside: list[tuple[int, str]] = field(default_factory=list)
    counted: list[tuple[int, str]] = field(default_factory=list)


def read_spans(column: pl.Series, inputs: Sequence[Input], source_rows: np.ndarray, source: str) -> np.ndarray:
    """The part of each input that the column names.

    Parameters
    ----------
    column : [start, end] pairs (a list column, or JSON text in every row), or substrings.
    inputs : n texts, captioned pictures (whose text counts) or chats.
    source_rows : (n,) int, the rows' places in the source, by which messages name them.

    Returns
    -------
    (n, 2) int64 of [start, end) in texts; (n, 3) int64 of message index, start and end in chats.

    Raises
    ------
    DataError : rows without a span, a pair that is empty or reaches outside the text, a substring that stands there
        not at all or several times, or pairs for chats; names the rows.
    """
    where = f"the span column '{column.name}' of '{source}'"
    texts = [_texts_of(item) for item in inputs]
    is_chat = bool(inputs) and isinstance(inputs[0], (tuple, list))
    values, are_pairs = _values(column, where)
    if is_chat and are_pairs and isinstance(column.dtype, (pl.List, pl.Array)):
        raise DataError(f"{where} holds pairs of numbers; in chats a span is a substring of one message's content.")
    problems = _Problems()
    spans = np.full((len(texts), 3 if is_chat else 2), -1, dtype=np.int64)
    for row, (value, parts) in enumerate(zip(values, texts, strict=True)):
        if value is None or value == "":
            problems.missing.append(row)
        elif are_pairs and not is_chat:
            _place_pair(value, parts[0], row, spans, problems)
        else:
            _place_substring(str(value), parts, row, spans, problems)
    _refuse(problems, where, source_rows, is_chat)
    return spans


def _texts_of(item: Input) -> list[str]:
    if isinstance(item, str):
        return [item]
    if isinstance(item, Captioned):
        return [item.text]
    if isinstance(item, (tuple, list)):
        return [message["content"] for message in item]
    raise DataError(f"a {type(item).__name__} has no text, so no spans of it; spans are of texts, chats and captions.")


def _values(column: pl.Series, where: str) -> tuple[list[Any], bool]:
    """The column's values, and whether they are pairs; a text is one only where all texts of the column are."""
    dtype = column.dtype
    if isinstance(dtype, (pl.List, pl.Array)):
        return column.to_list(), True
    if dtype in (pl.Categorical, pl.Enum, pl.Null):
        column = column.cast(pl.String)
    elif dtype != pl.String:
        raise DataError(
            f"{where} holds values of type {dtype}; expected [start, end] pairs, or substrings of the texts."
        )
    values = column.to_list()
    matches = [None if value is None else _PAIR.fullmatch(value) for value in values]
    known = [match for value, match in zip(values, matches) if value]
    if known and all(known):
        return [None if match is None else [int(match[1]), int(match[2])] for match in matches], True
    return values, False


def _place_pair(pair: Any, text: str, row: int, spans: np.ndarray, problems: _Problems) -> None:
    numbers = list(pair)
    whole = all(isinstance(x, int) or (isinstance(x, float) and x.is_integer()) for x in numbers)
    if len(numbers) != 2 or not whole:
        problems.no_pair.append((row, str(numbers)[:40]))
        return
    start, end = int(numbers[0]), int(numbers[1])
    if not 0 <= start < end <= len(text):
        problems.outside.append((row, f"[{start}, {end}] of {len(text):,} characters"))
        return
    spans[row] = start, end


def _place_substring(part: str, texts: list[str], row: int, spans: np.ndarray, problems: _Problems) -> None:
    found = [(i, start) for i, text in enumerate(texts) for start in _starts(part, text)]
    if len(found) != 1:
        times = "not at all" if not found else f"{len(found)} times"
        problems.counted.append((row, f"{part[:40]!r} {times}"))
        return
    message, start = found[0]
    spans[row, -2:] = start, start + len(part)
    if spans.shape[1] == 3:
        spans[row, 0] = message


def _starts(part: str, text: str) -> list[int]:
    """Where the part begins, overlapping places too."""
    starts = []
    at = text.find(part)
    while at >= 0:
        starts.append(at)
        at = text.find(part, at + 1)
    return starts


def _refuse(problems: _Problems, where: str, source_rows: np.ndarray, is_chat: bool) -> None:
    if problems.missing:
        raise DataError(
            f"{where} has no value in {name_rows(source_rows[problems.missing])}; give a span for every row, or leave "
            f"such rows out."
        )
    for found, what, advice in (
        (problems.no_pair, "holds no pair of whole numbers", "give [start, end], counted in characters from 0"),
        (
            problems.outside,
            "is empty or reaches outside the text",
            "give 0 <= start < end <= the text's length, counted in characters",
        ),
        (
            problems.counted,
            "holds a substring that does not stand exactly once in its text",
            "give a longer substring that stands there once" if is_chat else "give [start, end] instead",
        ),
    ):
        if found:
            named = name_rows(source_rows[[row for row, _ in found]])
            shown = "; ".join(f"row {source_rows[row] + 1:,}: {about}" for row, about in found[:_SHOWN])
            rest = "; …" if len(found) > _SHOWN else ""
            raise DataError(f"{where} {what} in {named} ({shown}{rest}): {advice}.")
