"""`Dataset`: labelled inputs, with the groups and split by which a probe on them may be judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import polars as pl

from leadline import files
from leadline.data import columns, readers
from leadline.data.records import Finding, Input, Target
from leadline.errors import DataError, did_you_mean

__all__ = ["Dataset", "ReadOptions"]


class ReadOptions(TypedDict, total=False):
    """What every reader takes; `Dataset.from_frame` says what each means."""

    text: str
    target: str | Sequence[str] | None
    group: str | None
    split: str | None
    kind: str | None
    positive: str | int | bool | None
    sample: int | None
    sample_test: int | None
    seed: int
    name: str | None


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled inputs. Made by `from_csv`, `from_jsonl`, `from_parquet`, `from_rows`, `from_frame` or `load_dataset`.

    Parameters
    ----------
    name, source : what to call it, and where it came from.
    inputs : n texts, or n chats (tuples of messages `{"role", "content"}`).
    targets : what is predicted; each has values of shape (n, m).
    groups : (n,) object array of str, or None. Rows of a group belong on one side of a fold. "" where it is missing.
    splits : (n,) object array of `"train"` / `"test"`, or None where all rows are for training.
    frame : all columns as given, rows aligned with `inputs`; nested JSON values as JSON text.
    text_column, group_column, split_column : the columns that were read.
    n_given : rows in the source, of which `n` were kept.
    findings : what reading noticed; `check` adds its own.
    source_rows : (n,) int, each row's 0-based place in the source.

    Raises
    ------
    DataError : parts of different lengths.

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
            for part, values in (("groups", self.groups), ("splits", self.splits), ("source_rows", self.source_rows))
            if values is not None
        ]
        for part, length in parts:
            if length != n:
                raise DataError(
                    f"the {part} of '{self.name}' has {length:,} rows, its inputs {n:,}; give one for each."
                )
        if len({isinstance(x, str) for x in self.inputs}) > 1:
            raise DataError(f"'{self.name}' mixes texts and chats; give either texts or messages in every row.")

    @classmethod
    def from_frame(
        cls,
        frame: pl.DataFrame,
        *,
        text: str = "text",
        target: str | Sequence[str] | None = None,
        group: str | None = None,
        split: str | None = None,
        kind: str | None = None,
        positive: str | int | bool | None = None,
        sample: int | None = None,
        sample_test: int | None = None,
        seed: int = 0,
        name: str | None = None,
        source: str = "rows",
    ) -> Dataset:
        """Read a polars frame; every other reader ends here and takes the same options.

        Parameters
        ----------
        text : the column of texts or of chat messages (a list column, or JSON text).
        target : a column to predict, or several. Each binary column is a target of its own; the continuous ones
            together are one, named with `+`. An empty tuple is for texts that are only to be scored.
        group : the column whose equal values must stay together (a topic, a person, a country).
        split : a column with `train` / `test`, or true (1) for test rows; where its name has `train` in it, true is
            for training rows.
        kind : `"binary"` or `"continuous"`; by default binary for truth values and for two distinct values,
            continuous for other numbers.
        positive : the class that counts as 1; by default `1`, `true` or `yes`, else the larger or later one.
        sample : how many training rows to draw, by `seed`; all by default.
        sample_test : how many test rows to draw at most; all by default.

        Raises
        ------
        DataError : a column that is not there, or whose values cannot be read as what it was named for.
        """
        if target is None:
            raise DataError(
                f"no target column was named for '{source}'; give the column to predict, as in target='label'. "
                f"Its columns are {', '.join(frame.columns)}."
            )
        names = [target] if isinstance(target, str) else [str(t) for t in target]
        if len(set(names)) < len(names) or text in names:
            raise DataError(f"target {names} names a column twice, or the text column '{text}'; name each once.")
        objects = [c for c in frame.columns if frame[c].dtype == pl.Object]
        frame = frame.with_columns([pl.Series(c, [str(v) for v in frame[c].to_list()]) for c in objects])
        inputs = columns.read_inputs(columns.find_column(frame, text, "text", source), frame, source)
        targets, findings = columns.read_targets(
            [columns.find_column(frame, t, "target", source) for t in names],
            kind=kind,
            positive=positive,
            source=source,
        )
        groups = splits = None
        if group is not None:
            groups = columns.read_groups(columns.find_column(frame, group, "group", source), source)
        if split is not None:
            splits, noticed = columns.read_splits(columns.find_column(frame, split, "split", source), source)
            findings += noticed
        data = cls(
            name or source, source, inputs, targets, groups, splits, frame, text, group, split, len(inputs), findings
        )
        if sample is None and sample_test is None:
            return data
        return data.sample(sample, seed, n_test=sample_test)

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]], **options: Unpack[ReadOptions]) -> Dataset:
        """Read a list of dictionaries; options as `from_frame`. A key that a row lacks is missing there."""
        return cls.from_frame(readers.frame_of_rows(rows), **options)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        *,
        separator: str | None = None,
        encoding: str | None = None,
        **options: Unpack[ReadOptions],
    ) -> Dataset:
        """Read a CSV file with a header; options as `from_frame`, and the name is the file's by default.

        Parameters
        ----------
        separator : by default a comma, or the tab or semicolon of a header without one.
        encoding : by default UTF-8.
        """
        return cls._from_file(path, readers.read_csv(path, separator=separator, encoding=encoding), options)

    @classmethod
    def from_jsonl(cls, path: str | Path, *, encoding: str | None = None, **options: Unpack[ReadOptions]) -> Dataset:
        """Read one JSON object a line (or one array of them); options as `from_frame`."""
        return cls._from_file(path, readers.read_jsonl(path, encoding=encoding), options)

    @classmethod
    def from_parquet(cls, path: str | Path, **options: Unpack[ReadOptions]) -> Dataset:
        """Read a Parquet file; options as `from_frame`."""
        return cls._from_file(path, readers.read_parquet(path), options)

    @classmethod
    def _from_file(cls, path: str | Path, frame: pl.DataFrame, options: ReadOptions) -> Dataset:
        named: ReadOptions = {**options, "name": options.get("name") or Path(path).stem}
        return cls.from_frame(frame, source=str(path), **named)

    @property
    def n(self) -> int:
        """How many rows there are."""
        return len(self.inputs)

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def is_chat(self) -> bool:
        """Whether the inputs are chats rather than texts."""
        return bool(self.inputs) and not isinstance(self.inputs[0], str)

    @cached_property
    def texts(self) -> list[str]:
        """The inputs as plain text; a chat as one `role: content` line a message."""
        return [
            x if isinstance(x, str) else "\n".join(f"{message['role']}: {message['content']}" for message in x)
            for x in self.inputs
        ]

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over inputs, targets, groups and splits; the name and the other columns do not count."""
        return files.fingerprint(
            self.inputs,
            [[t.name, t.columns, t.kind, t.negative, t.positive, t.values.tolist()] for t in self.targets],
            None if self.groups is None else self.groups.tolist(),
            None if self.splits is None else self.splits.tolist(),
        )

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
            frame=self.frame[index.tolist()],
            findings=tuple(findings),
            source_rows=self.source_rows[index],
        )

    def sample(self, n: int | None, seed: int = 0, *, n_test: int | None = None) -> Dataset:
        """Draw training rows, and test rows, without replacement; they stay in the order of the source.

        Parameters
        ----------
        n : how many training rows; None, or more than there are, keeps all.
        n_test : how many test rows at most; None keeps all.

        Raises
        ------
        DataError : a number below 1 (`n_test` may be 0).
        """
        if (n is not None and n < 1) or (n_test is not None and n_test < 0):
            raise DataError(f"cannot draw {n} training and {n_test} test rows; give numbers of at least 1 and 0.")
        generator = np.random.default_rng(seed)
        drawn: list[np.ndarray] = []
        notes: list[Finding] = []
        for what, rows, size in (("training", self.train_rows, n), ("test", self.test_rows, n_test)):
            if size is not None and size < len(rows):
                notes.append(
                    Finding("sampled", "note", f"{size:,} of {len(rows):,} {what} rows were drawn (seed {seed}).")
                )
                rows = generator.choice(rows, size, replace=False)
            drawn.append(rows)
        if not notes:
            return self
        found = self.select(np.sort(np.concatenate(drawn)))
        return replace(found, findings=(*found.findings, *notes))

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
        parts = [f"{self.n:,} {'chats' if self.is_chat else 'rows'}"]
        parts += [t.summary for t in self.targets]
        if self.groups is not None:
            parts.append(f"{len(set(self.groups)):,} groups of {self.group_column}")
        if self.splits is not None:
            parts.append(f"{len(self.train_rows):,} train, {len(self.test_rows):,} test")
        return f"Dataset('{self.name}': {'; '.join(parts)})"
