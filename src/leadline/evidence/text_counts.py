"""Plain numbers of a text that anyone can check by eye: its length, marks, capitals, negations, beginning and end."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["FEATURES", "feature_values"]

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SENTENCE = re.compile(r"[.!?。！？]+(?:\s|$)")
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nothing|nobody|nowhere|neither|nor|cannot|without)\b|n['’]t\b", re.IGNORECASE
)
_CLAUSE = re.compile(r"[,;:]")
_QUOTE = re.compile(r"[\"“”«»]")


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


def _share(count: int, text: str) -> float:
    return count / max(len(text), 1)


FEATURES: dict[str, tuple[str, Callable[[str], float]]] = {
    "characters": ("number of characters", lambda t: float(len(t))),
    "words": ("number of words", lambda t: float(len(_words(t)))),
    "sentences": ("number of sentences", lambda t: float(max(len(_SENTENCE.findall(t)), 1))),
    "word_length": ("mean length of a word", lambda t: float(np.mean([len(w) for w in _words(t)] or [0]))),
    "longest_word": ("length of the longest word", lambda t: float(max((len(w) for w in _words(t)), default=0))),
    "distinct_words": (
        "share of words that are different",
        lambda t: len({w.casefold() for w in _words(t)}) / max(len(_words(t)), 1),
    ),
    "digits": ("number of digits", lambda t: float(sum(c.isdigit() for c in t))),
    "capitals": ("number of capital letters", lambda t: float(sum(c.isupper() for c in t))),
    "capitals_share": ("share of characters that are capitals", lambda t: _share(sum(c.isupper() for c in t), t)),
    "capitalised_words": (
        "words that begin with a capital, after the first",
        lambda t: float(sum(w[0].isupper() for w in _words(t)[1:])),
    ),
    "punctuation": (
        "number of punctuation marks",
        lambda t: float(sum(not c.isalnum() and not c.isspace() for c in t)),
    ),
    "commas": ("number of commas, colons and semicolons", lambda t: float(len(_CLAUSE.findall(t)))),
    "quotes": ("number of quotation marks", lambda t: float(len(_QUOTE.findall(t)))),
    "question_marks": ("number of question marks", lambda t: float(t.count("?") + t.count("？"))),
    "exclamation_marks": ("number of exclamation marks", lambda t: float(t.count("!") + t.count("！"))),
    "negations": ("number of English words of negation", lambda t: float(len(_NEGATION.findall(t)))),
    "not_ascii": ("characters beyond ASCII", lambda t: float(sum(ord(c) > 127 for c in t))),
    "line_breaks": ("number of line breaks", lambda t: float(t.count("\n"))),
    "starts_with_capital": ("first character is a capital", lambda t: float(t[:1].isupper())),
    "starts_with_digit": ("first character is a digit", lambda t: float(t[:1].isdigit())),
    "ends_with_letter": ("last character is a letter or digit", lambda t: float(t.rstrip()[-1:].isalnum())),
    "ends_with_period": ("last character is a full stop", lambda t: float(t.rstrip()[-1:] in {".", "。"})),
}
"""Name to (what it counts, function of the text)."""


def feature_values(texts: Sequence[str]) -> np.ndarray:
    """(n, F) the values of `FEATURES` for each text."""
    return np.array([[compute(t) for _, compute in FEATURES.values()] for t in texts], dtype=np.float64)
