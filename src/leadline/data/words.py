"""Sentences to a table with one row a word: each word's form, labels, and its place in the sentence's text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from leadline.data.readers import frame_of_columns
from leadline.errors import DataError, did_you_mean

__all__ = [
    "OWN_COLUMNS",
    "Sentence",
    "default_group",
    "join_forms",
    "locate_forms",
    "sentences_of_rows",
    "word_table",
    "word_types",
]

OWN_COLUMNS = ("text", "word", "form", "sentence", "position")
"""The columns that every table of words has; labels and other columns are called otherwise."""


@dataclass(frozen=True)
class Sentence:
    """One sentence and its words.

    Parameters
    ----------
    text : the sentence.
    forms : its m words.
    spans : m pairs [start, end) of characters in `text`.
    labels : m values for each label.
    about : values that all its words share.
    """

    text: str
    forms: Sequence[str]
    spans: Sequence[tuple[int, int]]
    labels: Mapping[str, Sequence[Any]]
    about: Mapping[str, Any] = field(default_factory=dict)


def join_forms(forms: Sequence[str], space_after: Sequence[bool] | None = None) -> str:
    """The forms with a space after each, or after those that have one; none at the end."""
    spaced = [True] * len(forms) if space_after is None else space_after
    return "".join(form + (" " if space else "") for form, space in zip(forms, spaced, strict=True)).removesuffix(" ")


def locate_forms(text: str, forms: Sequence[str]) -> list[tuple[int, int]] | int:
    """Where each form stands in the text, one after the other with nothing but white space between.

    Returns
    -------
    [start, end) of each form, or the index of the first form that does not come next in the text.
    """
    spans = []
    at = 0
    for i, form in enumerate(forms):
        while at < len(text) and text[at].isspace() and not text.startswith(form, at):
            at += 1
        if not form or not text.startswith(form, at):
            return i
        spans.append((at, at + len(form)))
        at += len(form)
    return spans


def sentences_of_rows(
    rows: Sequence[Mapping[str, Any]], words: str, labels: Mapping[str, Sequence[Any]] | str | Sequence[str], text: str
) -> list[Sentence]:
    """A sentence for each row; what `Dataset.from_words` takes.

    Raises
    ------
    DataError : no rows, a row without words, other numbers of labels than words, or words that its text has not.
    """
    if not rows:
        raise DataError("no rows were given; expected a list of dictionaries, one a sentence, with a list of words.")
    apart = labels if isinstance(labels, Mapping) else {}
    keys = [] if isinstance(labels, Mapping) else [labels] if isinstance(labels, str) else [str(x) for x in labels]
    for name, values in apart.items():
        if len(values) != len(rows):
            raise DataError(f"the labels '{name}' are of {len(values):,} sentences; expected {len(rows):,}, one a row.")
    taken = [name for name in (*apart, *keys) if name in (*OWN_COLUMNS, words)]
    if taken:
        raise DataError(f"a label is called '{taken[0]}', which is a column that every table of words has; rename it.")
    sentences = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise DataError(f"row {number:,} is of type {type(row).__name__}; expected a dictionary.")
        forms = _forms(row, words, number)
        given = {name: values[number - 1] for name, values in apart.items()}
        for key in keys:
            if key not in row:
                raise DataError(
                    f"row {number:,} has no labels '{key}'; it has {', '.join(row)}." + did_you_mean(key, row)
                )
            given[key] = row[key]
        for name, values in given.items():
            if isinstance(values, (str, bytes)) or not hasattr(values, "__len__") or len(values) != len(forms):
                shown = f"{len(values)} values" if hasattr(values, "__len__") else f"{values!r}"
                raise DataError(
                    f"row {number:,} has {len(forms)} words and {shown} of '{name}'; expected a list with one a word."
                )
        about = {key: value for key, value in row.items() if key not in (words, text, *keys)}
        clash = [key for key in about if key in (*OWN_COLUMNS, *apart)]
        if clash:
            raise DataError(f"row {number:,} has a value '{clash[0]}', the name of a column of words; rename it.")
        whole = row.get(text)
        if whole is None:
            whole = join_forms(forms)
        spans = locate_forms(str(whole), forms)
        if isinstance(spans, int):
            raise DataError(
                f"word {spans + 1} of row {number:,}, {forms[spans]!r}, does not come next in its text "
                f"{str(whole)[:60]!r}; expected the words in order with only white space between. Correct the text, "
                f"or leave it out to have the words joined by spaces."
            )
        sentences.append(Sentence(str(whole), forms, spans, given, about))
    return sentences


def _forms(row: Mapping[str, Any], words: str, number: int) -> list[str]:
    if words not in row:
        raise DataError(f"row {number:,} has no '{words}'; it has {', '.join(row)}." + did_you_mean(words, row))
    given = row[words]
    forms = [] if isinstance(given, (str, bytes)) or given is None else list(given)
    if not forms or not all(isinstance(form, str) and form.strip() for form in forms):
        raise DataError(
            f"'{words}' of row {number:,} is {str(given)[:60]!r}; expected a list of at least one word, none of them "
            f"empty."
        )
    return forms


def word_table(sentences: Iterable[Sentence]) -> tuple[tuple[str, ...], pl.DataFrame]:
    """A row for each word.

    Returns
    -------
    inputs : each word's sentence, the same object for all words of one.
    frame : `text`, `word` (a list column of [start, end]), `form`, `sentence` and `position` (both counted from 1),
        then the labels and the columns that words of a sentence share.
    """
    sentences = list(sentences)
    inputs: list[str] = []
    own: dict[str, list[Any]] = {name: [] for name in OWN_COLUMNS}
    shared = dict.fromkeys(name for s in sentences for name in s.about)
    rest: dict[str, list[Any]] = {name: [] for s in sentences for name in (*s.labels, *shared)}
    for number, s in enumerate(sentences, start=1):
        m = len(s.forms)
        inputs += [s.text] * m
        own["word"] += [list(span) for span in s.spans]
        own["form"] += s.forms
        own["sentence"] += [number] * m
        own["position"] += range(1, m + 1)
        for name, values in rest.items():
            values.extend(s.labels[name] if name in s.labels else [s.about.get(name)] * m)
    frame = frame_of_columns({name: values for name, values in {**own, **rest}.items() if name not in ("text", "word")})
    texts = pl.Series("text", inputs, dtype=pl.String)
    spans = pl.Series("word", own["word"], dtype=pl.List(pl.Int64))
    return tuple(inputs), pl.DataFrame([texts, spans, *frame])


def default_group(frame: pl.DataFrame) -> str:
    """`document` where every word has one, else `sentence`."""
    return "document" if "document" in frame.columns and not frame["document"].null_count() else "sentence"


def word_types(frame: pl.DataFrame) -> np.ndarray:
    """(n,) the type of each row's word as an object array: its form in lower case.

    The types of the control tasks of J. Hewitt and P. Liang (2019), Designing and Interpreting Probes with Control
    Tasks, EMNLP, but for their case.
    """
    types = np.empty(frame.height, dtype=object)
    types[:] = [str(form).lower() for form in frame["form"].to_list()]
    return types
