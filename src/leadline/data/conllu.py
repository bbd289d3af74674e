"""CoNLL-U files, the format of Universal Dependencies: sentences with a line a word.

A syntactic word is a row. Where several make one written word (a multiword token, `3-4`), each of them has the
written word's place in the text. Empty nodes (`5.1`) are written nowhere and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leadline.data.readers import read_text
from leadline.data.words import Sentence, join_forms, locate_forms
from leadline.errors import DataError

__all__ = ["read_conllu"]

_COLUMNS = 10
_ID = re.compile(r"([1-9]\d*)(?:-([1-9]\d*))?")
_EMPTY_NODE = re.compile(r"\d+\.[1-9]\d*")
_COMMENT = re.compile(r"#\s*([^=]*?)\s*(?:=\s*(.*))?")
_NAMED = {"lemma": 2, "upos": 3, "xpos": 4, "feats": 5, "deprel": 7}


@dataclass
class _Open:
    """The sentence that is being read."""

    line: int
    comments: dict[str, str] = field(default_factory=dict)
    words: list[list[str]] = field(default_factory=list)
    # The written words: their form, whether a space follows, and the line for messages.
    written: list[tuple[str, bool, int]] = field(default_factory=list)
    # For each syntactic word, which written word it is a part of.
    part_of: list[int] = field(default_factory=list)
    # The last syntactic word that the last multiword token covers.
    covered: int = 0


def read_conllu(path: str | Path, *, encoding: str | None = None) -> list[Sentence]:
    """Read a CoNLL-U file.

    Returns
    -------
    Sentences with the labels `lemma`, `upos`, `xpos`, `feats`, `head` (int, 0 for the root), `deprel` (None where
    the file has `_`), and `document` and `sent_id` from the comments. Words are located in the text of the `# text`
    comment; without one the text is built from the words, with a space after each but those with `SpaceAfter=No`.

    Raises
    ------
    DataError : no such file, an empty one, or a line that is not CoNLL-U or not in the sentence's text (with its
        number).
    """
    sentences: list[Sentence] = []
    document: str | None = None
    n_documents = 0
    for one in _blocks(path, read_text(path, encoding)):
        for key in ("newdoc id", "newdoc"):
            if key in one.comments:
                n_documents += 1
                document = one.comments[key] or f"document {n_documents}"
                break
        if one.words:
            sentences.append(_sentence(one, path, document))
    if not sentences:
        raise DataError(f"'{path}' holds no words; expected a CoNLL-U file with a line of 10 columns for each word.")
    return sentences


def _blocks(path: str | Path, text: str) -> Iterator[_Open]:
    one = _Open(1)
    # Not splitlines(): a form may hold U+2028 and other marks that it takes for line ends.
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line.strip():
            yield one
            one = _Open(number + 1)
        elif line.startswith("#"):
            match = _COMMENT.fullmatch(line)
            if match is not None:
                one.comments.setdefault(match[1], (match[2] or "").strip())
        else:
            _add(one, line, number, path)
    yield one


def _add(one: _Open, line: str, number: int, path: str | Path) -> None:
    where = f"line {number:,} of '{path}'"
    fields = line.split("\t")
    if len(fields) != _COLUMNS:
        raise DataError(
            f"{where} has {len(fields)} columns; expected the {_COLUMNS} of CoNLL-U with tabs between: {line[:60]!r}."
        )
    if _EMPTY_NODE.fullmatch(fields[0]):
        return
    match = _ID.fullmatch(fields[0])
    first = 0 if match is None else int(match[1])
    last = first if match is None or match[2] is None else int(match[2])
    if first != len(one.words) + 1 or last < first:
        raise DataError(
            f"{where} has the ID '{fields[0]}'; expected {len(one.words) + 1}, a range from it as in "
            f"{len(one.words) + 1}-{len(one.words) + 2}, or an empty node."
        )
    if not fields[1].strip():
        raise DataError(f"{where} has no form; expected the word in its second column.")
    written = (fields[1], "SpaceAfter=No" not in fields[9].split("|"), number)
    if "-" in fields[0]:
        one.written.append(written)
        one.covered = last
        return
    if first > one.covered:
        one.written.append(written)
    one.words.append(fields)
    one.part_of.append(len(one.written) - 1)


def _sentence(one: _Open, path: str | Path, document: str | None) -> Sentence:
    if one.covered > len(one.words):
        raise DataError(
            f"the sentence at line {one.line:,} of '{path}' ends at word {len(one.words)}, but has a multiword token "
            f"up to {one.covered}; complete it."
        )
    forms = [form for form, _, _ in one.written]
    text = one.comments.get("text") or join_forms(forms, [space for _, space, _ in one.written])
    spans = locate_forms(text, forms)
    if isinstance(spans, int):
        form, _, line = one.written[spans]
        raise DataError(
            f"line {line:,} of '{path}': {form!r} does not come next in the sentence's text {text[:80]!r}; expected "
            f"its words in order with only white space between. Correct the '# text' comment, or take it out."
        )
    labels: dict[str, list[Any]] = {
        name: [None if w[i] == "_" and not (name == "lemma" and w[1] == "_") else w[i] for w in one.words]
        for name, i in _NAMED.items()
    }
    heads = [_head(fields[6], len(one.words), one, path) for fields in one.words]
    return Sentence(
        text=text,
        forms=[fields[1] for fields in one.words],
        spans=[spans[i] for i in one.part_of],
        labels={
            **{name: labels[name] for name in ("lemma", "upos", "xpos", "feats")},
            "head": heads,
            "deprel": labels["deprel"],
        },
        about={"document": document, "sent_id": one.comments.get("sent_id") or None},
    )


def _head(given: str, n_words: int, one: _Open, path: str | Path) -> int | None:
    if given == "_":
        return None
    if not given.isdecimal() or int(given) > n_words:
        raise DataError(
            f"the sentence at line {one.line:,} of '{path}' has the head '{given}'; expected 0 for the root, or one of "
            f"its {n_words} words."
        )
    return int(given)
