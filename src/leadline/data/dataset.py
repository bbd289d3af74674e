"""`Dataset`: labelled inputs, with the groups and split by which a probe on them may be judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from leadline import files
from leadline.data import spans
from leadline.data.columns import find_column
from leadline.data.media import Captioned
from leadline.data.records import Finding, Input, Modality, Target, content_of, modality_of
from leadline.data.sources import Sources
from leadline.errors import DataError, did_you_mean

__all__ = ["Dataset"]


_PLURAL = {
    "text": "texts",
    "chat": "chats",
    "image": "pictures",
    "audio": "sounds",
    "array": "arrays",
    "captioned": "captioned pictures",
}


@dataclass(frozen=True, eq=False)
class Dataset(Sources):
    """Labelled inputs. Made by `load_dataset` or one of the readers, `from_csv` to `from_arrays`.

    Parameters
    ----------
    name, source : what to call it, and where it came from.
    inputs : n texts, chats (tuples of messages `{"role", "content"}`), pictures, sounds, arrays or captioned
        pictures; one kind in a data set.
    targets : what is predicted; each has values of shape (n, m).
    groups : (n,) object array of str, or None. Rows of a group belong on one side of a fold. "" where it is missing.
    splits : (n,) object array of `"train"` / `"test"`, or None where all rows are for training.
    frame : all columns as given, rows aligned with `inputs`; nested JSON values as JSON text.
    text_column, group_column, split_column : the columns that were read; where the inputs are no texts, `text_column`
        is the column that they came from.
    pairs : (n,) object array of str, or None: which minimal pair a row belongs to, "" for none. Rows of a pair are in
        one group.
    types : (n,) object array of str, or None: what recurs in a row, as the same word or template, by which a control
        task assigns its labels. "" where it is missing.
    pair_column, type_column : the columns of these; `type_column` is None where types are words in lower case.
    n_given : rows in the source, of which `n` were kept.
    findings : what reading noticed; `check` adds its own.
    source_rows : (n,) int, each row's 0-based place in the source.
    media_column : the column of pictures or sounds.
    span_column : the column of spans where a row stands for a part of its text (a word) and not for all of it.

    Raises
    ------
    DataError : parts of different lengths, or inputs of several kinds.

    Examples
    --------
    >>> rows = [{"text": f"{i} is even", "label": i % 2 == 0} for i in range(30)]
    >>> Dataset.from_rows(rows, target="label")
    Dataset('rows': 30 rows; label (binary: 15 × false, 15 × true))
    """

    name: str
    source: str
    inputs: tuple[Input, ...]
    targets: tuple[Target, ...]
    groups: np.ndarray | None
    splits: np.ndarray | None
    frame: pl.DataFrame
    text_column: str
    group_column: str | None = None
    split_column: str | None = None
    n_given: int = -1
    findings: tuple[Finding, ...] = ()
    source_rows: np.ndarray = field(default_factory=lambda: np.arange(0))
    media_column: str | None = None
    span_column: str | None = None
    pairs: np.ndarray | None = None
    types: np.ndarray | None = None
    pair_column: str | None = None
    type_column: str | None = None

    def __post_init__(self) -> None:
        n = len(self.inputs)
        if self.n_given < 0:
            object.__setattr__(self, "n_given", n)
        if not len(self.source_rows):
            object.__setattr__(self, "source_rows", np.arange(n))
        parts: list[tuple[str, int]] = [(f"target '{t.name}'", len(t.values)) for t in self.targets]
        parts += [("frame", self.frame.height)]
        parts += [
            (part, len(values))
            for part, values in (
                ("groups", self.groups),
                ("splits", self.splits),
                ("pairs", self.pairs),
                ("types", self.types),
                ("source_rows", self.source_rows),
            )
            if values is not None
        ]
        for part, length in parts:
            if length != n:
                raise DataError(
                    f"the {part} of '{self.name}' has {length:,} rows, its inputs {n:,}; give one for each."
                )
        kinds = dict.fromkeys(modality_of(x) for x in self.inputs)
        if len(kinds) > 1:
            named = " and ".join(_PLURAL[kind] for kind in kinds)
            raise DataError(f"'{self.name}' mixes {named}; a data set has inputs of one kind. Make one of each.")

    @property
    def n(self) -> int:
        """How many rows there are."""
        return len(self.inputs)

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def modality(self) -> Modality:
        """`text` (also where there are no rows), `chat`, `image`, `audio`, `array` or `captioned`."""
        return modality_of(self.inputs[0]) if self.inputs else "text"

    @property
    def is_chat(self) -> bool:
        """Whether the inputs are chats."""
        return self.modality == "chat"

    @property
    def has_text(self) -> bool:
        """Whether `texts` are inputs, and not only names of inputs."""
        return self.modality in ("text", "chat", "captioned")

    @cached_property
    def texts(self) -> list[str]:
        """The inputs as plain text; a chat as one `role: content` line a message.

        For a captioned picture its text; for a picture, sound or array its name, else its row in the source.
        """
        return [self._text_of(x, row) for x, row in zip(self.inputs, self.source_rows, strict=True)]

    @staticmethod
    def _text_of(item: Input, row: int) -> str:
        if isinstance(item, str):
            return item
        if isinstance(item, (tuple, list)):
            return "\n".join(f"{message['role']}: {message['content']}" for message in item)
        if isinstance(item, Captioned):
            return item.text
        return getattr(item, "name", "") or f"row {row + 1:,}"

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over inputs, targets, groups, splits, pairs and types; name and other columns do not count.

        Pictures, sounds and arrays count with their contents, not their paths. Where a row stands for a part of its
        text (`span_column`), the parts count too, and the types that follow from them do not.

        Raises
        ------
        DataError : a file of a picture or sound cannot be read.
        """
        return files.fingerprint(
            [content_of(x) for x in self.inputs],
            [
                [t.name, t.columns, t.kind, t.negative, t.positive, t.values.tolist()]
                + ([] if t.kind in ("binary", "continuous") else [t.classes])
                for t in self.targets
            ],
            None if self.groups is None else self.groups.tolist(),
            None if self.splits is None else self.splits.tolist(),
            *([] if self.span_column is None else [self.span(self.span_column).tolist()]),
            # Named, so that a data set without one of them keeps the fingerprint that it has always had.
            *([] if self.pairs is None else [["pairs", self.pairs.tolist()]]),
            *([] if self.types is None or self.type_column is None else [["types", self.types.tolist()]]),
        )

    def span(self, name: str) -> np.ndarray:
        """Which part of each row's text a column names.

        Parameters
        ----------
        name : a column of [start, end] pairs (lists, or JSON text), or of substrings, each of which stands exactly
            once in its text. For chats substrings alone, looked for in the messages' contents.

        Returns
        -------
        (n, 2) int64: [start, end) in characters from 0. For chats (n, 3): message index, start and end in its content.

        Raises
        ------
        DataError : no such column, inputs without text, or rows without a usable span (named).
        """
        if not self.has_text:
            raise DataError(
                f"'{self.name}' holds {_PLURAL[self.modality]}, which have no text and so no span '{name}'; "
                f"spans are of texts, chats and captions."
            )
        column = find_column(self.frame, name, "span", self.name)
        return spans.read_spans(column, self.inputs, self.source_rows, self.name)

    def span_fingerprint(self, name: str) -> str:
        """16 hex digits over what `span` returns; raises as it does."""
        return files.fingerprint(self.span(name).tolist())

    def target(self, name: str) -> Target:
        """The target of that name.

        Raises
        ------
        DataError : there is none.
        """
        names = [t.name for t in self.targets]
        if name not in names:
            raise DataError(
                f"'{self.name}' has no target '{name}'; it has {', '.join(names)}." + did_you_mean(name, names)
            )
        return self.targets[names.index(name)]

    @property
    def train_rows(self) -> np.ndarray:
        """(n_train,) int: the training rows; all of them where there is no split."""
        return np.arange(self.n) if self.splits is None else np.flatnonzero(self.splits == "train")

    @property
    def test_rows(self) -> np.ndarray:
        """(n_test,) int: the test rows; none where there is no split."""
        return np.arange(0) if self.splits is None else np.flatnonzero(self.splits == "test")

    def select(self, rows: Sequence[int] | np.ndarray) -> Dataset:
        """The data set of some rows, in the order given; targets keep their kind and class names.

        Exactly these rows: a pair may be left with one of its rows (`sample` draws pairs whole).

        Parameters
        ----------
        rows : 0-based rows, or n truth values.

        Raises
        ------
        DataError : a row that is not there.
        """
        index = np.asarray(rows)
        if index.dtype == bool:
            if index.shape != (self.n,):
                raise DataError(
                    f"{index.size:,} truth values were given to select from {self.n:,} rows; give one a row."
                )
            index = np.flatnonzero(index)
        index = index.astype(np.int64).reshape(-1)
        if index.size and (index.min() < 0 or index.max() >= self.n):
            bad = index[(index < 0) | (index >= self.n)][0]
            raise DataError(f"row {bad} of '{self.name}' does not exist; its rows count from 0 to {self.n - 1:,}.")
        place = {int(old): new for new, old in enumerate(index)}
        findings = []
        for finding in self.findings:
            kept = tuple(place[r] for r in finding.rows if r in place)
            if kept or not finding.rows:
                findings.append(replace(finding, rows=kept))
        return replace(
            self,
            inputs=tuple(self.inputs[i] for i in index),
            targets=tuple(t.take(index) for t in self.targets),
            groups=None if self.groups is None else self.groups[index],
            splits=None if self.splits is None else self.splits[index],
            pairs=None if self.pairs is None else self.pairs[index],
            types=None if self.types is None else self.types[index],
            frame=self.frame[index.tolist()],
            findings=tuple(findings),
            source_rows=self.source_rows[index],
        )

    def sample(self, n: int | None, seed: int = 0, *, n_test: int | None = None) -> Dataset:
        """Draw training rows, and test rows, without replacement; they stay in the order of the source.

        Pairs are drawn whole, so that with them there may be some rows less than were asked for.

        Parameters
        ----------
        n : how many training rows; None, or more than there are, keeps all.
        n_test : how many test rows at most; None keeps all.

        Raises
        ------
        DataError : a number below 1 (`n_test` may be 0), or too small for the pair that was drawn first.
        """
        if (n is not None and n < 1) or (n_test is not None and n_test < 0):
            raise DataError(f"cannot draw {n} training and {n_test} test rows; give numbers of at least 1 and 0.")
        generator = np.random.default_rng(seed)
        drawn: list[np.ndarray] = []
        notes: list[Finding] = []
        for what, rows, size in (("training", self.train_rows, n), ("test", self.test_rows, n_test)):
            if size is not None and size < len(rows):
                n_rows, how = len(rows), ""
                if self.pairs is None:
                    rows = generator.choice(rows, size, replace=False)
                else:
                    rows, how = _whole_pairs(rows, self.pairs[rows], size, generator), ", pairs whole"
                    if size and not len(rows):
                        raise DataError(
                            f"{size:,} {what} row{'s hold' if size > 1 else ' holds'} no whole pair of "
                            f"'{self.pair_column}'; draw more."
                        )
                drawn_rows = f"{len(rows):,} of {n_rows:,} {what} rows were drawn (seed {seed}{how})."
                notes.append(Finding("sampled", "note", drawn_rows))
            drawn.append(rows)
        if not notes:
            return self
        found = self.select(np.sort(np.concatenate(drawn)))
        return replace(found, findings=(*found.findings, *notes))

    def keep_classes(self, target: str, classes: Sequence[str]) -> Dataset:
        """The rows of some classes of a target, which then has no others.

        Parameters
        ----------
        target : the name of a multiclass or ordinal target.
        classes : two or more of its classes; their codes stay in the order that they have.

        Raises
        ------
        DataError : no such target or class, a target of another kind, or fewer than two classes.
        """
        one = self.target(target)
        if one.kind not in ("multiclass", "ordinal"):
            raise DataError(f"target '{target}' is {one.kind}; classes are left out of multiclass and ordinal ones.")
        for name in classes:
            if name not in one.classes:
                raise DataError(
                    f"target '{target}' has no class '{name}'; it has {', '.join(one.classes)}."
                    + did_you_mean(name, one.classes)
                )
        kept = [name for name in one.classes if name in classes]
        if len(kept) < 2:
            raise DataError(f"{len(kept)} classes of '{target}' were to be kept; a probe tells two or more apart.")
        codes = [one.classes.index(name) for name in kept]
        found = self.select(np.isin(one.values[:, 0], codes))
        return replace(found, targets=tuple(t.aligned(kept) if t.name == target else t for t in found.targets))

    def check(self, *, n_folds: int = 5) -> tuple[Finding, ...]:
        """Raise for what no probe could be judged on, and return what could mislead one; see `check.check`."""
        from leadline.data.check import check

        return check(self, n_folds=n_folds)

    def write(self, folder: str | Path) -> Path:
        """Write `dataset.parquet` and `dataset.json` into a folder, for `read`; see `storage`."""
        from leadline.data.storage import write

        return write(self, folder)

    @classmethod
    def read(cls, folder: str | Path) -> Dataset:
        """Read what `write` wrote; its fingerprint is the same.

        Raises
        ------
        DataError : nothing was written there, or it was damaged or edited since.
        """
        from leadline.data.storage import read

        return read(folder)

    def __repr__(self) -> str:
        parts = [f"{self.n:,} {'rows' if self.modality == 'text' else _PLURAL[self.modality]}"]
        if self.span_column is not None:
            parts = [f"{self.n:,} {self.span_column}s"]
        parts += [t.summary for t in self.targets]
        if self.groups is not None:
            parts.append(f"{len(set(self.groups)):,} groups of {self.group_column}")
        if self.pairs is not None:
            parts.append(f"{len(set(self.pairs) - {''}):,} pairs")
        if self.splits is not None:
            parts.append(f"{len(self.train_rows):,} train, {len(self.test_rows):,} test")
        return f"Dataset('{self.name}': {'; '.join(parts)})"


def _whole_pairs(rows: np.ndarray, pairs: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """At most `size` of the rows, pairs whole: pairs and rows of none in a random order, as long as they fit."""
    units: dict[object, list[int]] = {}
    for row, pair in zip(rows.tolist(), pairs.tolist(), strict=True):
        units.setdefault(pair or (row,), []).append(row)
    listed = list(units.values())
    drawn: list[int] = []
    for i in generator.permutation(len(listed)):
        if len(drawn) + len(listed[i]) > size:
            break
        drawn += listed[i]
    return np.array(drawn, dtype=np.int64)
