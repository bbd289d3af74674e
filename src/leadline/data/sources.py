"""The ways into a `Dataset`: files, rows, frames, sentences and arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

import polars as pl

from leadline.data import assemble, conllu, readers
from leadline.data import words as sentences
from leadline.data.records import Input

__all__ = ["LabelOptions", "ReadOptions", "Sources"]


class LabelOptions(TypedDict, total=False):
    """What every reader takes beside its inputs; `Dataset.from_frame` says what each means."""

    target: str | Sequence[str] | None
    group: str | None
    split: str | None
    kind: str | None
    positive: str | int | bool | None
    sample: int | None
    sample_test: int | None
    seed: int
    name: str | None


class ReadOptions(LabelOptions, total=False):
    """What the readers of rows and files take; `Dataset.from_frame` says what each means."""

    text: str | None
    image: str | None
    audio: str | None


class Sources:
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
        target : a column to predict, or several. Each binary column is a target of its own; the continuous ones
            together are one, named with `+`. An empty tuple is for inputs that are only to be scored.
        group : the column whose equal values must stay together (a topic, a person, a country).
        split : a column with `train` / `test`, or true (1) for test rows; where its name has `train` in it, true is
            for training rows.
        kind : `"binary"` or `"continuous"`; by default binary for truth values and for two distinct values,
            continuous for other numbers.
        positive : the class that counts as 1; by default `1`, `true` or `yes`, else the larger or later one. One of
            more than two classes is set against all others, which are called `not CLASS`.
        sample : how many training rows to draw, by `seed`; all by default.
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
        labels = assemble.read_labels(
            frame,
            target=options.get("target"),
            group=options.get("group"),
            split=options.get("split"),
            kind=options.get("kind"),
            positive=options.get("positive"),
            source=source,
            inputs=list(dict.fromkeys(c for c in (text_column, media_column, span_column) if c is not None)),
        )
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
    def from_conllu(cls, path: str | Path, *, encoding: str | None = None, **options: Unpack[LabelOptions]) -> Self:
        """Read a CoNLL-U file, with a row for each syntactic word; see `conllu`.

        The inputs are whole sentences, and the span `word` says where in it a row's word stands. Columns: `text`,
        `word`, `form`, `sentence`, `position`, `lemma`, `upos`, `xpos`, `feats`, `head`, `deprel`, `document`,
        `sent_id`.

        Parameters
        ----------
        target : by default `upos`, of which `positive` names the class to set against the rest.
        group : by default `document` where every word has one, else `sentence`.
        options : as in `from_frame`; `sample` counts words.

        Raises
        ------
        DataError : no such file, or a line that is not CoNLL-U or not in its sentence's text.
        """
        found = conllu.read_conllu(path, encoding=encoding)
        given: LabelOptions = {"target": "upos", "name": Path(path).stem, **_given(options)}
        return cls._of_words(found, str(path), given)

    @classmethod
    def from_words(
        cls,
        rows: Sequence[Mapping[str, Any]],
        *,
        words: str = "words",
        labels: Mapping[str, Sequence[Any]] | str | Sequence[str] = (),
        text: str = "text",
        **options: Unpack[LabelOptions],
    ) -> Self:
        """Read sentences, with a row for each word.

        The inputs are whole sentences, and the span `word` says where in it a row's word stands. Columns: `text`,
        `word`, `form`, `sentence`, `position`, the labels, and what else the rows have.

        Parameters
        ----------
        rows : one a sentence.
        words : the key of its list of words.
        labels : the keys of lists with a value for each word; or such lists for all rows, by the label's name.
        text : the key of the sentence itself, in which the words stand in order; joined by spaces where it is missing.
        target : by default all labels; an empty tuple leaves them in the frame alone.
        group : by default `document` where every row has one, else `sentence`.
        options : as in `from_frame`; `sample` counts words.

        Raises
        ------
        DataError : rows without words, other numbers of labels than words, words that are not in the text.

        Examples
        --------
        >>> from leadline.data import Dataset
        >>> rows = [{"words": ["Dogs", "bark"], "noun": [True, False]}] * 10
        >>> Dataset.from_words(rows, labels="noun")
        Dataset('words': 20 words; noun (binary: 10 × false, 10 × true); 10 groups of sentence)
        """
        found = sentences.sentences_of_rows(rows, words, labels, text)
        names = [labels] if isinstance(labels, str) else [str(name) for name in labels]
        return cls._of_words(found, "words", {"target": names, **_given(options)})

    @classmethod
    def _of_words(cls, found: Sequence[sentences.Sentence], source: str, options: LabelOptions) -> Self:
        inputs, frame = sentences.word_table(found)
        grouped: LabelOptions = {"group": sentences.default_group(frame), **options}
        return cls._labelled(frame, inputs, "text", source, grouped, span_column="word")

    @classmethod
    def from_arrays(
        cls,
        inputs: Any,
        targets: Any = None,
        *,
        groups: Sequence[Any] | None = None,
        splits: Sequence[Any] | None = None,
        kind: str | None = None,
        positive: str | int | bool | None = None,
        name: str = "arrays",
    ) -> Self:
        """Take arrays as they are fed to a model: pixel values, features, positions on a board.

        Parameters
        ----------
        inputs : an array of shape (n, ...), or n arrays, whose shapes may differ. They are copied; see `Array`.
        targets : (n,) labels, called `label`, or a mapping of names to such. None for inputs that are only to be
            scored.
        groups : (n,) names of what must stay together.
        splits : (n,) `"train"` / `"test"`, or true for test rows.
        kind, positive : as in `from_frame`.

        Raises
        ------
        DataError : no rows, inputs that are no finite numbers, or a part of another length.
        """
        arrays, frame, names = assemble.array_inputs(inputs, targets, groups, splits)
        options: LabelOptions = {
            "target": names,
            "group": None if groups is None else "group",
            "split": None if splits is None else "split",
            "kind": kind,
            "positive": positive,
            "name": name,
        }
        return cls._labelled(frame, arrays, frame.columns[0], "arrays", options)


def _given(options: LabelOptions) -> LabelOptions:
    """The options without those that are None, which stand for a default."""
    return {key: value for key, value in options.items() if value is not None}  # type: ignore[return-value]
