"""What a data set is made of besides its inputs: targets, and findings about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from leadline.data.media import Array, Captioned, Modality, Picture, Sound
from leadline.errors import DataError, did_you_mean

__all__ = ["KINDS", "Finding", "Input", "Modality", "Target", "content_of", "modality_of", "name_rows"]

KINDS = ("binary", "continuous", "multiclass", "ordinal")
"""The kinds of target."""

_SHOWN_CLASSES = 6

Input = str | tuple[dict[str, Any], ...] | Picture | Sound | Array | Captioned
"""One input: a text, the messages of a chat (each `{"role": ..., "content": ...}`), or one of the kinds of `media`."""


def modality_of(item: Input) -> Modality:
    """What kind of input it is.

    Raises
    ------
    DataError : none of the kinds.
    """
    if isinstance(item, str):
        return "text"
    if isinstance(item, (tuple, list)):
        return "chat"
    if isinstance(item, (Picture, Sound, Array, Captioned)):
        return item.modality
    raise DataError(
        f"an input is of type {type(item).__name__}; expected a text, a tuple of messages, a Picture, Sound, Array "
        f"or Captioned. Arrays are given to Dataset.from_arrays."
    )


def content_of(item: Input) -> Any:
    """What the input holds, as JSON can say it: a text or chat itself, the digest of all others."""
    return item if isinstance(item, (str, tuple, list)) else [modality_of(item), item.digest]


@dataclass(frozen=True)
class Finding:
    """Something that reading or checking a data set noticed.

    Parameters
    ----------
    code : a short name that stays the same, as in `"length"`.
    severity : `"warning"` for what can mislead a probe, `"note"` for what is good to know.
    message : for a person; rows in it are counted from 1 in the source.
    rows : the rows concerned, 0-based in this data set.
    """

    code: str
    severity: Literal["warning", "note"]
    message: str
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Target:
    """One or several columns that are predicted and judged together.

    Parameters
    ----------
    name : `"label"`, or `"latitude+longitude"` for several columns.
    columns : the columns it was read from, m of them; one unless it is continuous.
    kind : `"binary"`, `"continuous"`, `"multiclass"` or `"ordinal"`.
    values : (n, m) float64, NaN where missing. Binary: 0.0 for the negative class and 1.0 for the positive. Multiclass
        and ordinal: codes 0 … C−1, of an ordinal target from its lowest level.
    negative, positive : the names of a binary target's classes; None for a class that no row has.
    classes : the names of the C classes in the order of their codes; of a binary target (negative, positive), and ()
        where one of these is unknown; () for a continuous one. A class may be without rows.

    Raises
    ------
    DataError : values of another shape, another kind, codes without a class, or a class named twice.
    """

    name: str
    columns: tuple[str, ...]
    kind: str
    values: np.ndarray
    negative: str | None = None
    positive: str | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64)
        if self.kind not in KINDS:
            named = ", ".join(f"'{kind}'" for kind in KINDS)
            raise DataError(f"target '{self.name}' is of kind '{self.kind}'; expected one of {named}.")
        if values.ndim != 2 or values.shape[1] != len(self.columns):
            raise DataError(
                f"target '{self.name}' has values of shape {values.shape}; expected (n, {len(self.columns)}), "
                f"a column for each of {', '.join(self.columns)}."
            )
        known = values[~np.isnan(values)]
        classes = tuple(self.classes)
        if self.kind == "binary":
            if values.shape[1] != 1 or not np.isin(known, (0.0, 1.0)).all():
                raise DataError(f"the binary target '{self.name}' must be one column of 0.0 and 1.0.")
            if self.negative is None and self.positive is None and len(classes) == 2:
                object.__setattr__(self, "negative", classes[0])
                object.__setattr__(self, "positive", classes[1])
            # The two names are what counts, so that one that is replaced is not contradicted.
            named_both = self.negative is not None and self.positive is not None
            classes = (str(self.negative), str(self.positive)) if named_both else ()
        elif self.kind == "continuous":
            classes = ()
        else:
            if values.shape[1] != 1 or not np.isin(known, np.arange(len(classes))).all():
                raise DataError(
                    f"the {self.kind} target '{self.name}' must be one column of codes from 0 to "
                    f"{len(classes) - 1}, one for each of its {len(classes):,} classes."
                )
            if len(set(classes)) < len(classes):
                twice = next(c for c in classes if classes.count(c) > 1)
                raise DataError(f"target '{self.name}' names the class '{twice}' twice; name each once.")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "classes", classes)

    @property
    def n_columns(self) -> int:
        """How many columns are judged together (1 unless it is continuous)."""
        return len(self.columns)

    @property
    def has_classes(self) -> bool:
        """Whether its values are codes of classes, and no amounts."""
        return self.kind != "continuous"

    @property
    def counts(self) -> dict[str, int]:
        """How many rows each named class has, in the order of the codes; empty for a continuous target."""
        named = (self.negative, self.positive) if self.kind == "binary" else self.classes
        return {name: int((self.values == code).sum()) for code, name in enumerate(named) if name is not None}

    def class_of(self, row: int) -> str | None:
        """The name of a row's class; None where it is missing, unnamed or the target continuous."""
        value = self.values[row, 0]
        if not self.has_classes or np.isnan(value):
            return None
        if self.kind == "binary":
            return self.positive if value else self.negative
        return self.classes[int(value)]

    def take(self, rows: np.ndarray) -> Target:
        """The same target for some rows, in the order given; kind and class names stay, also of absent classes."""
        return replace(self, values=self.values[rows])

    def aligned(self, classes: Sequence[str]) -> Target:
        """The same labels in the codes of other classes, as of the data that a probe was fitted on.

        Parameters
        ----------
        classes : names in the order of their codes, as `classes` of another target. Some may have no rows here.

        Raises
        ------
        DataError : a continuous target, a class of it that is not among them, or not two classes for a binary one.
        """
        order = tuple(classes)
        if not self.has_classes:
            raise DataError(f"target '{self.name}' is continuous and has no classes to align; leave it as it is.")
        if self.kind == "binary" and len(order) != 2:
            raise DataError(f"the binary target '{self.name}' was aligned to {len(order)} classes; give two.")
        own = (self.negative, self.positive) if self.kind == "binary" else self.classes
        codes = np.full(len(own), np.nan)
        for code, name in enumerate(own):
            if name in order:
                codes[code] = order.index(str(name))
            elif (self.values == code).any():
                raise DataError(
                    f"target '{self.name}' has rows of class '{name}', which is none of {', '.join(order)}; leave "
                    f"these rows out, or name the class alike." + did_you_mean(str(name), order)
                )
        values = np.full_like(self.values, np.nan)
        known = ~np.isnan(self.values)
        values[known] = codes[self.values[known].astype(np.int64)]
        if self.kind == "binary":
            return replace(self, values=values, negative=order[0], positive=order[1])
        return replace(self, values=values, classes=order)

    @property
    def summary(self) -> str:
        """For a person, as in `label (binary: 748 × 0, 748 × 1)`; the largest of many classes."""
        if self.kind == "continuous":
            return f"{self.name} (continuous)"
        counts = list(self.counts.items())
        many = len(counts) > _SHOWN_CLASSES
        head = f"{self.kind}, {len(counts):,} classes" if many else self.kind
        if many and self.kind == "multiclass":
            counts.sort(key=lambda pair: -pair[1])
        shown = ", ".join(f"{n:,} × {c}" for c, n in counts[:_SHOWN_CLASSES])
        return f"{self.name} ({head}: {shown}{', …' if many else ''})"

    def __repr__(self) -> str:
        return f"Target({self.summary}, {len(self.values):,} rows)"


def name_rows(rows: Sequence[int] | np.ndarray, limit: int = 5) -> str:
    """Name 0-based rows for a person, counted from 1.

    >>> name_rows([2, 6, 11])
    'rows 3, 7 and 12'
    """
    numbers = [f"{int(x) + 1:,}" for x in rows[:limit]]
    rest = len(rows) - len(numbers)
    if len(rows) == 1:
        return f"row {numbers[0]}"
    if rest:
        return f"rows {', '.join(numbers)} and {rest:,} more"
    return f"rows {', '.join(numbers[:-1])} and {numbers[-1]}"
