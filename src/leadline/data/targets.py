"""Columns to targets: two classes, several, ordered levels, or amounts.

Missing values stay NaN, so that `check` can name every bad row at once. What cannot be given a meaning raises.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from leadline.data.columns import class_name, few, kind_of
from leadline.data.records import KINDS, Finding, Target, name_rows
from leadline.errors import DataError, did_you_mean

__all__ = ["MOST_CLASSES", "read_targets"]

MOST_CLASSES = 200
"""A text column of more classes is taken for something else, unless its kind is given."""

_AFFIRMATIVE = {"1", "true", "yes"}
_SHOWN = 12


def read_targets(
    columns: Sequence[pl.Series],
    *,
    kind: str | None,
    positive: object,
    order: Sequence[object] | None = None,
    source: str,
) -> tuple[tuple[Target, ...], tuple[Finding, ...]]:
    """Each column with classes as a target of its own, and all continuous columns together as one.

    A column of more than two classes is binary where `positive` is one of them: that class against all others, which
    together are called `not CLASS`. For a column of numbers that takes kind='binary' too.

    Parameters
    ----------
    kind : one of the kinds of target. By default two classes are binary, more numbers continuous, and more texts
        multiclass.
    positive : the class that counts as 1 in a binary target.
    order : the levels of an ordinal target from the lowest; makes the kind ordinal. Numbers have an order of their own.

    Returns
    -------
    The targets, and notes on what was chosen: `positive_class`, `many_classes`.

    Raises
    ------
    DataError : more than two classes for a binary target, text where numbers belong, a `positive` that no column has,
        levels without an order or not in it, text of more than `MOST_CLASSES` classes or of one row each.
    """
    kind = _checked_kind(kind, positive, order)
    wanted = None if positive is None else class_name(positive)
    levels = None if order is None else _levels(order)
    targets: list[Target | None] = []
    numbers: dict[str, np.ndarray] = {}
    findings: list[Finding] = []
    classes: set[str] = set()
    for column in columns:
        values = _scalars(column, source)
        found = _classes_of(column, values)
        endless = any(isinstance(v, float) and math.isinf(v) for v in values)
        if kind in ("multiclass", "ordinal"):
            ordered = _by_category(column, found)
            if kind == "ordinal":
                ordered = _in_order(column, values, found, levels, source)
            targets.append(_coded(column.name, kind, values, ordered))
            continue
        if one := _one_against_rest(column, values, found, kind, wanted):
            classes.add(str(one.positive))
            targets.append(one)
            continue
        if kind is None and len(found) > 2 and not _mostly_numbers(values):
            _refuse_names(column, values, found, wanted, source)
            classes.update(found)
            targets.append(_coded(column.name, "multiclass", values, _by_category(column, found)))
            findings.append(_many(column.name, found))
            continue
        if kind == "continuous" or (kind is None and (len(found) > 2 or endless)):
            if not numbers:
                targets.append(None)
            numbers[column.name] = _numbers(column, values, source)
            continue
        if len(found) > 2:
            raise DataError(
                f"column '{column.name}' of '{source}' has {len(found):,} distinct values ({few(found)}); expected "
                f"two for kind='binary'. Give positive='{found[0]}' to set one against the rest, keep two of them, "
                f"give kind='multiclass' for all of them, or kind='continuous' for numbers."
                + ("" if wanted is None else did_you_mean(wanted, found))
            )
        classes.update(found)
        negative, chosen, note = _two_classes(column, found, wanted)
        if note:
            findings.append(Finding("positive_class", "note", note))
        coded = [math.nan if v is None else float(class_name(v) == chosen) for v in values]
        targets.append(
            Target(column.name, (column.name,), "binary", np.array(coded)[:, None], negative, chosen),
        )
    if numbers:
        joint = Target("+".join(numbers), tuple(numbers), "continuous", np.stack(list(numbers.values()), axis=1))
        targets = [joint if t is None else t for t in targets]
    whole = tuple(t for t in targets if t is not None)
    if whole and wanted is not None and _match(wanted, classes) is None and not _one_class(whole):
        named = sorted(classes)
        raise DataError(
            f"positive='{wanted}' is no class of '{source}'; "
            + (
                f"its classes are {', '.join(named[:_SHOWN])}{', …' if len(named) > _SHOWN else ''}."
                + did_you_mean(wanted, classes)
                if classes
                else "its target is continuous and has no classes. Leave `positive` out, or give kind='binary'."
            )
        )
    return whole, tuple(findings)


def _checked_kind(kind: str | None, positive: object, order: Sequence[object] | None) -> str | None:
    if kind is not None and kind not in KINDS:
        named = ", ".join(f"'{one}'" for one in KINDS)
        raise DataError(
            f"kind='{kind}' is unknown; expected {named} or nothing, to infer it." + did_you_mean(kind, KINDS)
        )
    if order is not None and kind not in (None, "ordinal"):
        raise DataError(f"order was given for kind='{kind}'; it is of the levels of kind='ordinal'. Leave one out.")
    kind = "ordinal" if order is not None else kind
    if positive is not None and kind in ("multiclass", "ordinal"):
        raise DataError(
            f"positive='{positive}' was given for kind='{kind}', which has no positive class; leave it out to tell all "
            f"classes apart, or leave out the kind to set this one against the rest."
        )
    return kind


def _levels(order: Sequence[object]) -> list[str]:
    if isinstance(order, (str, bytes)) or not order:
        raise DataError(f"order={order!r} is no list of levels; give all of them, as in order=['low', 'high'].")
    levels = [class_name(level) for level in order]
    if len(set(levels)) < len(levels):
        twice = next(level for level in levels if levels.count(level) > 1)
        raise DataError(f"order names '{twice}' twice; name each level once, from the lowest.")
    return levels


def _coded(name: str, kind: str, values: Sequence[Any], classes: Sequence[str]) -> Target:
    codes = {one: float(code) for code, one in enumerate(classes)}
    coded = [math.nan if v is None else codes[class_name(v)] for v in values]
    return Target(name, (name,), kind, np.array(coded)[:, None], classes=tuple(classes))


def _classes_of(column: pl.Series, values: Sequence[Any]) -> list[str]:
    """The names of the values, numbers by value and all others by the alphabet."""
    found = {class_name(v) for v in values if v is not None}
    return sorted(found, key=float) if column.dtype.is_numeric() else sorted(found)


def _by_category(column: pl.Series, found: list[str]) -> list[str]:
    """In the order of the column's categories where its type has one, of numbers by value, else as they are."""
    if isinstance(column.dtype, pl.Enum):
        own = {class_name(c): i for i, c in enumerate(column.dtype.categories.to_list())}
        return sorted(found, key=lambda c: own[c])
    return sorted(found, key=float) if _are_amounts(found) else found


def _are_amounts(found: Sequence[str]) -> bool:
    """Whether the names are numbers, no two of them the same one."""
    amounts = {_number(c) for c in found}
    return len(amounts) == len(found) and all(a is not None and not math.isnan(a) for a in amounts)


def _in_order(
    column: pl.Series, values: Sequence[Any], found: list[str], levels: list[str] | None, source: str
) -> list[str]:
    """The levels from the lowest; those given, or numbers, truth values and categories in their own order."""
    where = f"column '{column.name}' of '{source}'"
    if levels is None:
        if isinstance(column.dtype, pl.Enum) or column.dtype == pl.Boolean or len(found) < 2 or _are_amounts(found):
            return _by_category(column, found)
        shown = "', '".join(found[:_SHOWN]) + ("', …" if len(found) > _SHOWN else "'")
        raise DataError(
            f"{where} has levels in words and no order ('{shown}); give all of them from the lowest, as in "
            f"order=['low', 'middle', 'high']."
        )
    absent = [c for c in found if c not in levels]
    if absent:
        counts = Counter(class_name(v) for v in values if v is not None)
        unused = [level for level in levels if level not in found]
        raise DataError(
            f"{where} has {len(absent):,} level{'' if len(absent) == 1 else 's'} that the order does not name: "
            + ", ".join(f"'{c}' ({counts[c]:,} rows)" for c in absent[:_SHOWN])
            + f"{', …' if len(absent) > _SHOWN else ''}. The order names {', '.join(levels[:_SHOWN])}"
            + (f", of which no row is {few(unused)}" if unused else "")
            + "; name every level once, or leave such rows out."
            + did_you_mean(absent[0], unused)
        )
    return levels


def _many(name: str, found: Sequence[str]) -> Finding:
    return Finding(
        "many_classes",
        "note",
        f"'{name}' has {len(found):,} classes and is read as multiclass; positive='{found[0]}' sets one against the "
        f"rest, and kind='ordinal' with an order is for classes that have one.",
    )


def _refuse_names(
    column: pl.Series, values: Sequence[Any], found: Sequence[str], wanted: str | None, source: str
) -> None:
    """Raise where a column of text names its rows rather than classes of them."""
    counts = Counter(class_name(v) for v in values if v is not None)
    alone = max(counts.values()) == 1
    if isinstance(column.dtype, pl.Enum):
        return
    if not alone and len(counts) <= MOST_CLASSES:
        return
    common = [name for name, _ in counts.most_common(6)]
    shown = ", ".join(f"'{name[:40]}'" + ("" if alone else f" ({counts[name]:,})") for name in common)
    what = "a value of its own in every row" if alone else f"{len(counts):,} classes"
    why = "which names the rows" if alone else f"more than the {MOST_CLASSES} that are taken for classes"
    raise DataError(
        f"column '{column.name}' of '{source}' has {what} ({shown}, …), {why}; name the column that holds "
        f"the labels, set one against the rest, as in positive='{common[0][:40]}', or give kind='multiclass' to tell "
        f"all of them apart." + ("" if wanted is None else did_you_mean(wanted, found))
    )


def _one_against_rest(
    column: pl.Series, values: list[Any], found: list[str], kind: str | None, wanted: str | None
) -> Target | None:
    chosen = None if wanted is None or len(found) < 3 or kind == "continuous" else _match(wanted, found)
    if chosen is None or (kind is None and _mostly_numbers(values)):
        return None
    coded = [math.nan if v is None else float(class_name(v) == chosen) for v in values]
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
            f"column '{column.name}' of '{source}' holds {kind_of(dtype)}; expected classes, or numbers, for a target."
        )
    return [None if v is None or (isinstance(v, float) and math.isnan(v)) else v for v in column.to_list()]


def _match(wanted: str, classes: Sequence[str] | set[str]) -> str | None:
    if wanted in classes:
        return wanted
    return next((c for c in classes if c.strip().casefold() == wanted.strip().casefold()), None)


def _two_classes(column: pl.Series, found: list[str], wanted: str | None) -> tuple[str | None, str | None, str | None]:
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


def _numbers(column: pl.Series, values: list[Any], source: str) -> np.ndarray:
    found = [math.nan if value is None else _number(value) for value in values]
    bad = [row for row, number in enumerate(found) if number is None]
    if not bad:
        return np.array(found, dtype=np.float64)
    raise DataError(
        f"column '{column.name}' of '{source}' should hold numbers, but {name_rows(bad)} "
        f"{'does' if len(bad) == 1 else 'do'} not: {few(dict.fromkeys(str(values[r]) for r in bad))}. "
        f"Leave these rows out, or write numbers there."
    )
