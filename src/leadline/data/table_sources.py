"""The ways into a `Dataset` from tables: files, rows, frames, minimal pairs and the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

import polars as pl

from leadline.data import assemble, hub, readers
from leadline.data import words as sentences
from leadline.data.pairs import pair_options, pair_table
from leadline.data.records import Input
from leadline.errors import DataError, did_you_mean

__all__ = ["LabelOptions", "ReadOptions", "RowOptions", "TableSources"]


class RowOptions(TypedDict, total=False):
    """What every reader takes, also that of pairs; `Dataset.from_frame` says what each means."""

    target: str | Sequence[str] | None
    group: str | None
    split: str | None
    type: str | None
    sample: int | None
    sample_test: int | None
    seed: int
    name: str | None


class LabelOptions(RowOptions, total=False):
    """What every reader takes beside its inputs; `Dataset.from_frame` says what each means."""

    pair: str | None
    kind: str | None
    positive: str | int | bool | None
    order: Sequence[Any] | None


class ReadOptions(LabelOptions, total=False):
    """What the readers of rows and files take; `Dataset.from_frame` says what each means."""

    text: str | None
    image: str | None
    audio: str | None


class TableSources:
    """What `Dataset` inherits: each method reads one kind of source, and all of them end in the same labelling."""

    @classmethod
    def from_frame(
        cls,
        frame: pl.DataFrame,
        *,
        text: str | None = None,
        image: str | None = None,
        audio: str | None = None,
        folder: str | Path | None = None,
        source: str = "rows",
        **labels: Unpack[LabelOptions],
    ) -> Self:
        """Read a polars frame; every reader of files and rows ends here and takes the same options.

        Parameters
        ----------
        text : the column of texts or of chat messages (a list column, or JSON text); `"text"` where neither `image`
            nor `audio` is given.
        image : a column of pictures: paths or encoded bytes (see `Picture`). With `text` given too, each input is a
            picture with a text (`Captioned`).
        audio : a column of sounds: paths or bytes of WAV files (see `Sound`).
        folder : where relative paths start: a file's own folder, else the working directory.
        source : where it came from, for messages.
        target : a column to predict, or several. Each column of classes is a target of its own; the continuous ones
            together are one, named with `+`. An empty tuple is for inputs that are only to be scored.
        group : the column whose equal values must stay together (a topic, a person, a country).
        split : a column with `train` / `test`, or true (1) for test rows; where its name has `train` in it, true is
            for training rows.
        pair : the column that names each row's minimal pair; empty for a row in none. Rows of a pair must be in one
            group, and where no group is given the pairs are the groups.
        type : the column of each row's type, whose recurrence a control task uses: a word, a template.
        kind : `"binary"`, `"continuous"`, `"multiclass"` or `"ordinal"`; by default binary for truth values and for
            two distinct values, continuous for other numbers, multiclass for other texts.
        positive : the class that counts as 1; by default `1`, `true` or `yes`, else the larger or later one. One of
            more than two classes is set against all others, which are called `not CLASS`.
        order : all levels of an ordinal target from the lowest, where they are not numbers; makes the kind ordinal.
        sample : how many training rows to draw, by `seed`; all by default. Pairs are drawn whole.
        sample_test : how many test rows to draw at most; all by default.
        name : what to call it; by default the source.

        Raises
        ------
        DataError : a column that is not there, or whose values cannot be read as what it was named for; files that
            are not there.
        """
        frame = assemble.plain_frame(frame)
        inputs, text_column, media_column = assemble.read_any_inputs(
            frame, text=text, image=image, audio=audio, folder=folder, source=source
        )
        return cls._labelled(frame, inputs, text_column, source, labels, media_column=media_column)

    @classmethod
    def _labelled(
        cls,
        frame: pl.DataFrame,
        inputs: tuple[Input, ...],
        text_column: str,
        source: str,
        options: LabelOptions,
        *,
        media_column: str | None = None,
        span_column: str | None = None,
    ) -> Self:
        """The data set of inputs and the frame beside them, sampled as the options say."""
        known = LabelOptions.__annotations__
        for key in options:
            if key not in known:
                raise DataError(
                    f"there is no option '{key}' for reading a data set; beside the inputs there are "
                    f"{', '.join(known)}." + did_you_mean(key, known)
                )
        labels = assemble.read_labels(
            frame,
            target=options.get("target"),
            group=options.get("group"),
            split=options.get("split"),
            pair=options.get("pair"),
            type_column=options.get("type"),
            kind=options.get("kind"),
            positive=options.get("positive"),
            order=options.get("order"),
            source=source,
            inputs=list(dict.fromkeys(c for c in (text_column, media_column, span_column) if c is not None)),
        )
        if span_column is not None and labels["types"] is None:
            labels["types"] = sentences.word_types(frame)
        make: Any = cls
        data = make(
            name=options.get("name") or source,
            source=source,
            inputs=inputs,
            frame=frame,
            text_column=text_column,
            media_column=media_column,
            span_column=span_column,
            **labels,
        )
        return data.sample(options.get("sample"), options.get("seed", 0), n_test=options.get("sample_test"))

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]], **options: Unpack[ReadOptions]) -> Self:
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
    ) -> Self:
        """Read a CSV file with a header; options as `from_frame`, and the name is the file's by default.

        Parameters
        ----------
        separator : by default a comma, or the tab or semicolon of a header without one.
        encoding : by default UTF-8.
        """
        return cls._from_file(path, readers.read_csv(path, separator=separator, encoding=encoding), options)

    @classmethod
    def from_jsonl(cls, path: str | Path, *, encoding: str | None = None, **options: Unpack[ReadOptions]) -> Self:
        """Read one JSON object a line (or one array of them); options as `from_frame`."""
        return cls._from_file(path, readers.read_jsonl(path, encoding=encoding), options)

    @classmethod
    def from_parquet(cls, path: str | Path, **options: Unpack[ReadOptions]) -> Self:
        """Read a Parquet file; options as `from_frame`."""
        return cls._from_file(path, readers.read_parquet(path), options)

    @classmethod
    def _from_file(cls, path: str | Path, frame: pl.DataFrame, options: ReadOptions) -> Self:
        named: ReadOptions = {**options, "name": options.get("name") or Path(path).stem}
        return cls.from_frame(frame, source=str(path), folder=Path(path).parent, **named)

    @classmethod
    def from_pairs(
        cls,
        path_or_rows: str | Path | pl.DataFrame | Sequence[Mapping[str, Any]],
        *,
        positive: str,
        negative: str,
        separator: str | None = None,
        encoding: str | None = None,
        **options: Unpack[RowOptions],
    ) -> Self:
        """Read minimal pairs that have a row each, with a column for either sentence, as BLiMP has them.

        Each pair becomes two rows, the positive one first, in one pair and, unless `group` is given, one group. All
        other columns stand in the frame in both.

        Parameters
        ----------
        path_or_rows : a CSV, JSONL or Parquet file, dictionaries, or a polars frame.
        positive, negative : the columns of the sentences; the classes are called as they are.
        target : what to call the target; `"label"` by default.
        separator, encoding : as in `from_csv`.
        options : `group`, `split`, `type`, `sample` (of rows, in whole pairs) and so on, as in `from_frame`.

        Raises
        ------
        DataError : no such file or column, a sentence that is missing, or an option that pairs leave no room for.

        Examples
        --------
        >>> from leadline.data import Dataset
        >>> rows = [{"good": f"The {w} sleeps.", "bad": f"The {w} sleep."} for w in ("cat", "dog", "cow")]
        >>> Dataset.from_pairs(rows, positive="good", negative="bad")
        Dataset('rows': 6 rows; label (binary: 3 × bad, 3 × good); 3 groups of pair; 3 pairs)
        """
        if isinstance(path_or_rows, (str, Path)):
            frame = readers.read_table(path_or_rows, separator=separator, encoding=encoding)
            named: RowOptions = {**options, "name": options.get("name") or Path(path_or_rows).stem}
            return cls._of_pairs(frame, positive, negative, str(path_or_rows), named)
        if isinstance(path_or_rows, pl.DataFrame):
            return cls._of_pairs(path_or_rows, positive, negative, "rows", options)
        return cls._of_pairs(readers.frame_of_rows(path_or_rows), positive, negative, "rows", options)

    @classmethod
    def _of_pairs(cls, frame: pl.DataFrame, positive: str, negative: str, source: str, options: RowOptions) -> Self:
        given: dict[str, Any] = {**options}
        for key in ("pair", "kind", "order", "positive", "text", "image", "audio"):
            if given.pop(key, None) is not None:
                raise DataError(
                    f"{key}={options.get(key)!r} was given with a column for either sentence of a pair, which says it "
                    f"already; leave it out."
                )
        target = options.get("target") or "label"
        if not isinstance(target, str):
            raise DataError(f"target={target!r} is no name; pairs have one target, as in target='label'.")
        table, text, pair = pair_table(assemble.plain_frame(frame), positive, negative, target, source)
        given |= {"target": target, "positive": positive, "pair": pair}
        return cls.from_frame(table, text=text, source=source, **given)

    @classmethod
    def from_hub(
        cls,
        name: str,
        *,
        split: str | None = None,
        config: str | None = None,
        revision: str | None = None,
        pairs: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Self:
        """Load a data set of the Hugging Face hub, or from its cache, through the package `datasets`.

        Parameters
        ----------
        name : as in `"nyu-mll/glue"`, or a folder that `datasets` can load.
        split : a split there, as in `"train"` or `"train[:1000]"`. By default the only one; or `train` and `test`,
            of which the latter's rows are test rows.
        config : the configuration (subset), where it has several.
        revision : a branch, tag or commit; give a commit to have the same rows for ever.
        pairs : `positive` and `negative`, the columns of both sentences, as in `from_pairs`.
        options : what `from_huggingface` takes.

        Raises
        ------
        DataError : `datasets` is not installed, the hub cannot be reached, or there is no such data set, configuration
            or split.
        """
        found = hub.load(name, split=split, config=config, revision=revision)
        given = {"name": name.rstrip("/").rsplit("/", 1)[-1], **{k: v for k, v in options.items() if v is not None}}
        return cls.from_huggingface(found, pairs=pairs, source=hub.source(name, split, config, revision), **given)

    @classmethod
    def from_huggingface(
        cls, found: Any, *, pairs: Mapping[str, str] | None = None, source: str = "huggingface", **options: Any
    ) -> Self:
        """Take a data set of the package `datasets` that is loaded already.

        Class labels are given by their names, in their order; of two the second is the positive class.

        Parameters
        ----------
        found : a `datasets.Dataset`, or a `DatasetDict` with one split or with `train` and `test`.
        pairs : `positive` and `negative`, the columns of both sentences, as in `from_pairs`.
        options : as in `from_frame`.

        Raises
        ------
        DataError : splits that leave a choice, or what `from_frame` raises.
        """
        frame, extra, notes = hub.table(found, options, source)
        given: Any = {**options, **extra}
        if pairs is None:
            data = cls.from_frame(frame, source=source, **given)
        else:
            named = pair_options(pairs)
            data = cls._of_pairs(frame, named["positive"], named["negative"], source, given)
        made: Any = data
        return made if not notes else replace(made, findings=(*made.findings, *notes))
