"""What a data set is made of besides its inputs: targets, and findings about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from leadline.data.media import Array, Captioned, Modality, Picture, Sound
from leadline.errors import DataError

__all__ = ["Finding", "Input", "Modality", "Target", "content_of", "modality_of", "name_rows"]

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
    columns : the columns it was read from, m of them.
    kind : `"binary"` or `"continuous"`.
    values : (n, m) float64. Binary: m = 1, 0.0 for the negative class and 1.0 for the positive. NaN where missing.
    negative, positive : the names of a binary target's classes; None for a class that no row has.

    Raises
    ------
    DataError : values of another shape, or another kind.
    """

    name: str
    columns: tuple[str, ...]
    kind: str
    values: np.ndarray
    negative: str | None = None
    positive: str | None = None

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64)
        if self.kind not in ("binary", "continuous"):
            raise DataError(f"target '{self.name}' is of kind '{self.kind}'; expected 'binary' or 'continuous'.")
        if values.ndim != 2 or values.shape[1] != len(self.columns):
            raise DataError(
                f"target '{self.name}' has values of shape {values.shape}; expected (n, {len(self.columns)}), "
                f"a column for each of {', '.join(self.columns)}."
            )
        if self.kind == "binary":
            known = values[~np.isnan(values)]
            if values.shape[1] != 1 or not np.isin(known, (0.0, 1.0)).all():
                raise DataError(f"the binary target '{self.name}' must be one column of 0.0 and 1.0.")
        object.__setattr__(self, "values", values)

    @property
    def n_columns(self) -> int:
        """How many columns are judged together (1 for a binary target)."""
        return len(self.columns)

    def take(self, rows: np.ndarray) -> Target:
        """The same target for some rows, in the order given; kind and class names stay."""
        return replace(self, values=self.values[rows])

    @property
    def summary(self) -> str:
        """For a person, as in `label (binary: 748 × 0, 748 × 1)`."""
        if self.kind == "continuous":
            return f"{self.name} (continuous)"
        counts = ((self.values == 0).sum(), self.negative), ((self.values == 1).sum(), self.positive)
        return f"{self.name} (binary: " + ", ".join(f"{n:,} × {c}" for n, c in counts if c is not None) + ")"

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
