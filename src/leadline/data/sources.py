"""The ways into a `Dataset`: those from tables (`table_sources`), sentences and arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, Unpack

from leadline.data import assemble, conllu
from leadline.data import words as sentences
from leadline.data.table_sources import LabelOptions, TableSources

__all__ = ["Sources"]


class Sources(TableSources):
    """What `Dataset` inherits: each method reads one kind of source, and all of them end in the same labelling."""

    @classmethod
    def from_conllu(cls, path: str | Path, *, encoding: str | None = None, **options: Unpack[LabelOptions]) -> Self:
        """Read a CoNLL-U file, with a row for each syntactic word; see `conllu`.

        The inputs are whole sentences, and the span `word` says where in it a row's word stands. Columns: `text`,
        `word`, `form`, `sentence`, `position`, `lemma`, `upos`, `xpos`, `feats`, `head`, `deprel`, `document`,
        `sent_id`.

        Parameters
        ----------
        target : by default `upos`, as multiclass; `positive` names a class to set against the rest.
        group : by default `document` where every word has one, else `sentence`.
        type : by default a word's form in lower case.
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
        type : by default a word's form in lower case.
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
        # Pairs are the groups where none are given.
        grouped = options if options.get("pair") else {"group": sentences.default_group(frame), **options}
        return cls._labelled(frame, inputs, "text", source, grouped, span_column="word")

    @classmethod
    def from_arrays(
        cls,
        inputs: Any,
        targets: Any = None,
        *,
        groups: Sequence[Any] | None = None,
        splits: Sequence[Any] | None = None,
        pairs: Sequence[Any] | None = None,
        types: Sequence[Any] | None = None,
        kind: str | None = None,
        positive: str | int | bool | None = None,
        order: Sequence[Any] | None = None,
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
        pairs : (n,) names of minimal pairs. types : (n,) names of what recurs.
        kind, positive, order : as in `from_frame`.

        Raises
        ------
        DataError : no rows, inputs that are no finite numbers, or a part of another length.
        """
        beside = {"group": groups, "split": splits, "pair": pairs, "type": types}
        arrays, frame, names = assemble.array_inputs(inputs, targets, beside)
        options: LabelOptions = {
            "target": names,
            "group": None if groups is None else "group",
            "split": None if splits is None else "split",
            "pair": None if pairs is None else "pair",
            "type": None if types is None else "type",
            "kind": kind,
            "positive": positive,
            "order": order,
            "name": name,
        }
        return cls._labelled(frame, arrays, frame.columns[0], "arrays", options)


def _given(options: LabelOptions) -> LabelOptions:
    """The options without those that are None, which stand for a default."""
    return {key: value for key, value in options.items() if value is not None}  # type: ignore[return-value]
