"""What each column of a table means: inputs, targets, groups and split are read from it here.

Missing values pass through (an empty text, a NaN target, an empty group), so that `check` can name every bad row at
once. What cannot be given a meaning at all raises.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from leadline.data.records import Finding, Input, Target, name_rows
from leadline.errors import DataError, did_you_mean

__all__ = ["find_column", "read_groups", "read_inputs", "read_splits", "read_targets"]

_AFFIRMATIVE = {"1", "true", "yes"}
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
        f"{where} holds {_kind_of(column.dtype)}; expected text or chat messages. "
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


def read_targets(
    columns: Sequence[pl.Series], *, kind: str | None, positive: object, source: str
) -> tuple[tuple[Target, ...], tuple[Finding, ...]]:
    """Each binary column as a target of its own, and all continuous columns together as one.

    A column of more than two classes is binary where `positive` is one of them: that class against all others, which
    together are called `not CLASS`. For a column of numbers that takes kind='binary' too.

    Raises
    ------
    DataError : more than two classes, text where numbers belong, or a `positive` that no column has.
    """
    if kind not in (None, "binary", "continuous"):
        raise DataError(f"kind='{kind}' is unknown; expected 'binary', 'continuous' or nothing, to infer it.")
    wanted = None if positive is None else _class_name(positive)
    targets: list[Target | None] = []
    numbers: dict[str, np.ndarray] = {}
    findings: list[Finding] = []
    classes: set[str] = set()
    for column in columns:
        values = _scalars(column, source)
        found = sorted({_class_name(v) for v in values if v is not None}, key=_class_order(column))
        endless = any(isinstance(v, float) and math.isinf(v) for v in values)
        if one := _one_against_rest(column, values, found, kind, wanted):
            classes.add(str(one.positive))
            targets.append(one)
            continue
        if kind == "continuous" or (kind is None and (len(found) > 2 or endless)):
            if not numbers:
                targets.append(None)
            numbers[column.name] = _numbers(column, values, kind, wanted, source)
            continue
        if len(found) > 2:
            raise DataError(
                f"column '{column.name}' of '{source}' has {len(found):,} distinct values ({_few(found)}); expected "
                f"two for kind='binary'. Give positive='{found[0]}' to set one against the rest, keep two of them, or "
                f"give kind='continuous' for numbers." + ("" if wanted is None else did_you_mean(wanted, found))
            )
        classes.update(found)
        negative, chosen, note = _classes(column, found, wanted)
        if note:
            findings.append(Finding("positive_class", "note", note))
        coded = [math.nan if v is None else float(_class_name(v) == chosen) for v in values]
        targets.append(
            Target(column.name, (column.name,), "binary", np.array(coded)[:, None], negative, chosen),
        )
    if numbers:
        joint = Target("+".join(numbers), tuple(numbers), "continuous", np.stack(list(numbers.values()), axis=1))
        targets = [joint if t is None else t for t in targets]
    whole = tuple(t for t in targets if t is not None)
    if whole and wanted is not None and _match(wanted, classes) is None and not _one_class(whole):
        raise DataError(
            f"positive='{wanted}' is no class of '{source}'; "
            + (
                f"its classes are {', '.join(sorted(classes))}." + did_you_mean(wanted, classes)
                if classes
                else "its target is continuous and has no classes. Leave `positive` out, or give kind='binary'."
            )
        )
    return whole, tuple(findings)


def _one_against_rest(
    column: pl.Series, values: list[Any], found: list[str], kind: str | None, wanted: str | None
) -> Target | None:
    chosen = None if wanted is None or len(found) < 3 or kind == "continuous" else _match(wanted, found)
    if chosen is None or (kind is None and _mostly_numbers(values)):
        return None
    coded = [math.nan if v is None else float(_class_name(v) == chosen) for v in values]
    return Target(column.name, (column.name,), "binary", np.array(coded)[:, None], f"not {chosen}", chosen)


def _mostly_numbers(values: list[Any]) -> bool:
    known = [v for v in values if v is not None]
    return 2 * sum(_number(v) is None for v in known) <= len(known)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _one_class(targets: Sequence[Target]) -> bool:
    # `check` says this better than a complaint about a class that is not there.
    return any(t.kind == "binary" and (t.negative is None or t.positive is None) for t in targets)


def _scalars(column: pl.Series, source: str) -> list[Any]:
    """The column's values, with None for each null and NaN."""
    dtype = column.dtype
    if dtype in (pl.Categorical, pl.Enum) or dtype == pl.Null:
        column = column.cast(pl.String)
    elif dtype.is_decimal():
        column = column.cast(pl.Float64)
    elif not (dtype.is_numeric() or dtype in (pl.Boolean, pl.String)):
        raise DataError(
            f"column '{column.name}' of '{source}' holds {_kind_of(dtype)}; "
            f"expected two classes, or numbers, for a target."
        )
    return [None if v is None or (isinstance(v, float) and math.isnan(v)) else v for v in column.to_list()]


def _class_name(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _class_order(column: pl.Series) -> Callable[[str], Any]:
    return float if column.dtype.is_numeric() else str


def _match(wanted: str, classes: Sequence[str] | set[str]) -> str | None:
    if wanted in classes:
        return wanted
    return next((c for c in classes if c.strip().casefold() == wanted.strip().casefold()), None)


def _classes(column: pl.Series, found: list[str], wanted: str | None) -> tuple[str | None, str | None, str | None]:
    """The negative and the positive class of at most two in order, and a note where the choice was arbitrary."""
    forced = None if wanted is None else _match(wanted, found)
    yes = [c for c in found if c.strip().casefold() in _AFFIRMATIVE]
    if len(found) < 2:
        is_positive = bool(found) and (forced is not None or (wanted is None and bool(yes)))
        only = found[0] if found else None
        return (None, only, None) if is_positive else (only, None, None)
    note = None
    chosen = forced
    # Of two numbers the larger is the positive class: 1 of {0, 1} and of {-1, 1}, but 2 of {1, 2}.
    if chosen is None and len(yes) == 1 and not column.dtype.is_numeric():
        chosen = yes[0]
    if chosen is None:
        chosen = found[1]
        if not (column.dtype == pl.Boolean or found in (["0", "1"], ["-1", "1"])):
            note = (
                f"'{chosen}' was taken for the positive class of '{column.name}', and '{found[0]}' for the negative; "
                f"positive='{found[0]}' turns them round."
            )
    negative = next(c for c in found if c != chosen)
    return negative, chosen, note


def _numbers(column: pl.Series, values: list[Any], kind: str | None, wanted: str | None, source: str) -> np.ndarray:
    found = [math.nan if value is None else _number(value) for value in values]
    bad = [row for row, number in enumerate(found) if number is None]
    if not bad:
        return np.array(found, dtype=np.float64)
    known = [v for v in values if v is not None]
    if kind is None and not _mostly_numbers(values):
        counts = Counter(str(v) for v in known).most_common()
        shown = ", ".join(f"'{c}' ({n:,})" for c, n in counts[:6]) + (", …" if len(counts) > 6 else "")
        raise DataError(
            f"column '{column.name}' of '{source}' has {len(counts):,} classes: {shown}. Targets of more than two "
            f"classes are not supported yet; set one against the rest, as in positive='{counts[0][0]}', keep the rows "
            f"of two of them, or give a column of numbers."
            + ("" if wanted is None else did_you_mean(wanted, [c for c, _ in counts]))
        )
    raise DataError(
        f"column '{column.name}' of '{source}' should hold numbers, but {name_rows(bad)} "
        f"{'does' if len(bad) == 1 else 'do'} not: {_few(dict.fromkeys(str(values[r]) for r in bad))}. "
        f"Leave these rows out, or write numbers there."
    )


def read_groups(column: pl.Series, source: str) -> np.ndarray:
    """(n,) group names as an object array of str; a null is an empty name, which `check` refuses."""
    if column.dtype.is_nested():
        raise DataError(
            f"column '{column.name}' of '{source}' holds {_kind_of(column.dtype)}; expected a name or number as group."
        )
    groups = np.empty(len(column), dtype=object)
    groups[:] = ["" if v is None or v != v else _class_name(v) for v in column.to_list()]
    return groups


def read_splits(column: pl.Series, source: str) -> tuple[np.ndarray, tuple[Finding, ...]]:
    """(n,) `"train"` or `"test"` as an object array; True and 1 are test, unless the column is named for training.

    Raises
    ------
    DataError : any other value, or none.
    """
    values = [None if v is None else _class_name(v).strip().casefold() for v in column.to_list()]
    found: list[str | None] = []
    bad: list[int] = []
    for row, value in enumerate(values):
        split = "test" if value in _TEST else "train" if value in _TRAIN else None
        found.append(split)
        if split is None:
            bad.append(row)
    if bad:
        given = _few(dict.fromkeys("" if values[r] is None else str(column[r]) for r in bad))
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


def _kind_of(dtype: pl.DataType) -> str:
    if dtype.is_integer():
        return "whole numbers"
    if dtype.is_numeric():
        return "numbers"
    return "true and false" if dtype == pl.Boolean else f"values of type {dtype}"


def _few(values: Sequence[str] | dict[str, None], limit: int = 4) -> str:
    shown = [f"'{v}'" for v in list(values)[:limit]]
    return ", ".join(shown) + (", …" if len(values) > limit else "")
