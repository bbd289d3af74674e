"""What a sweep reads: labels with how their rows belong together, and a source of activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from leadline.errors import EvidenceError
from leadline.sites import Site

__all__ = ["KINDS", "Labels", "Source"]

KINDS = ("binary", "continuous", "multiclass", "ordinal")


class Source(Protocol):
    """What a sweep reads: the part of `leadline.activations.ActivationSource` that it needs."""

    @property
    def sites(self) -> tuple[Site, ...]: ...
    def read(self, site: Site) -> np.ndarray: ...


@dataclass(frozen=True)
class Labels:
    """What is to be read, and how rows belong together; every array is of the rows that the sweep may use.

    Parameters
    ----------
    name, columns, kind : of the target; `kind` is one of `KINDS`.
    Y : (n, m) float64; binary columns hold 0 and 1, a multiclass or ordinal one holds codes 0 … C−1.
    groups : (n,) labels that folds keep whole, or None.
    texts : n texts for the surface baselines, or None.
    rows : (n,) int, the rows of the source that the other arrays describe.
    negative, positive : names of a binary target's classes.
    classes : names of a multiclass or ordinal target's classes, in code order; numbers by default.
    types : (n,) what a control task may remember a row by (a word, a template), or None; "" for a row without one.
    pairs : (n,) which minimal pair a row belongs to, or None; "" for none.
    candidates : further columns, (n,) each, in which rows that belong together may betray themselves.

    Raises
    ------
    EvidenceError : an unknown kind, arrays of different lengths, or class names that do not fit the codes.
    """

    name: str
    columns: tuple[str, ...]
    kind: str
    Y: np.ndarray
    groups: np.ndarray | None
    texts: Sequence[str] | None
    rows: np.ndarray
    negative: str | None = None
    positive: str | None = None
    classes: tuple[str, ...] = ()
    types: np.ndarray | None = None
    pairs: np.ndarray | None = None
    candidates: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise EvidenceError(f"target '{self.name}' is of kind '{self.kind}'; expected one of {', '.join(KINDS)}.")
        n = len(self.Y)
        given = {"groups": self.groups, "texts": self.texts, "rows": self.rows, "types": self.types}
        for what, values in {**given, "pairs": self.pairs, **self.candidates}.items():
            if values is not None and len(values) != n:
                raise EvidenceError(f"{what} holds {len(values):,} values for {n:,} rows; give one a row.")
        for what in ("types", "pairs"):
            given = getattr(self, what)
            if given is not None:
                # A row without one shares it with no other.
                names = [f"\0{i}" if v is None or str(v) == "" else str(v) for i, v in enumerate(given)]
                object.__setattr__(self, what, np.array(names, dtype=object))
        if self.kind in ("multiclass", "ordinal"):
            codes = self.Y[:, 0]
            if self.Y.shape[1] != 1 or not np.isfinite(codes).all() or (codes != np.round(codes)).any():
                raise EvidenceError(f"the {self.kind} target '{self.name}' must be one column of codes 0 to C-1.")
            n_classes = int(codes.max()) + 1
            if not self.classes:
                object.__setattr__(self, "classes", tuple(str(c) for c in range(n_classes)))
            if len(self.classes) < n_classes or codes.min() < 0:
                raise EvidenceError(
                    f"target '{self.name}' has codes from {codes.min():g} to {codes.max():g} and {len(self.classes)} "
                    f"class names; expected a name for each code from 0."
                )
        elif self.kind == "binary" and not self.classes:
            object.__setattr__(self, "classes", (self.negative or "0", self.positive or "1"))

    @property
    def n_classes(self) -> int:
        """How many classes there are; 0 for a continuous target."""
        return 0 if self.kind == "continuous" else len(self.classes)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What each column of a probe's scores is called: a target column, a class, or a threshold between levels."""
        if self.kind == "multiclass":
            return tuple(f"{self.columns[0]}={c}" for c in self.classes)
        if self.kind == "ordinal":
            return tuple(f"{self.columns[0]}>{c}" for c in self.classes[:-1])
        return self.columns
