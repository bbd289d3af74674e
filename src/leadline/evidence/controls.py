"""Surface baselines: the same task, folds and penalties, from the text alone.

Each yields out-of-fold scores (L, n, c) that go through the same bootstrap as the probe's, so that differences are
paired. Vocabularies are learnt on the training rows of each fold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from leadline.errors import EvidenceError
from leadline.evidence.surface import categorical_scores, numeric_scores
from leadline.evidence.tfidf import tfidf_scores

__all__ = [
    "ARRAY_CONTROLS",
    "CONTROLS",
    "TEXT_CONTROLS",
    "Control",
    "control_scores",
    "end_words",
    "length_scores",
    "tfidf_scores",
]


@dataclass(frozen=True)
class Control:
    """A baseline's name and what it says to a reader."""

    name: str
    title: str
    explanation: str


CONTROLS = {
    c.name: c
    for c in (
        Control(
            "bag_of_words",
            "Bag of words",
            "TF-IDF of the text's words and word pairs, without the model: what the vocabulary alone gives away.",
        ),
        Control(
            "char_ngrams",
            "Character n-grams",
            "TF-IDF of runs of one to four characters within words, without the model: what spelling gives away.",
        ),
        Control("length", "Length", "The number of characters and of words: what the text's length alone gives away."),
        Control(
            "first_token",
            "First token",
            "Which token (or word) the text begins with: what the way it opens gives away.",
        ),
        Control(
            "last_token",
            "Last token",
            "Which token (or word) the text ends with: what a probe at the last position reads off its own input.",
        ),
        Control(
            "position",
            "Position",
            "Where the token or word that is read stands, counted from the start and from the end.",
        ),
        Control(
            "perplexity",
            "Perplexity",
            "The model's mean negative log-likelihood of the text's tokens: how likely the text is, whatever it says.",
        ),
        Control(
            "token_embeddings",
            "Token embeddings",
            "The mean of the model's input embeddings over all tokens, before any layer has worked on them.",
        ),
        Control(
            "embed_site",
            "Embedding site",
            "The model's input embedding at the probe's own tokens, before any layer has worked on it: what the token "
            "that is read gives away.",
        ),
        Control(
            "random_weights",
            "Random weights",
            "The same architecture and tokenizer with fresh random weights, its best site: what structure without "
            "training gives.",
        ),
    )
}
TEXT_CONTROLS = ("bag_of_words", "char_ngrams", "length")
"""Baselines that need the texts alone."""
ARRAY_CONTROLS = ("first_token", "last_token", "position", "perplexity")
"""Baselines from arrays that the caller gives; `first_token` and `last_token` fall back to words of the texts."""

_WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")


def control_scores(
    name: str,
    Y: np.ndarray,
    kind: str,
    fold: np.ndarray,
    *,
    texts: Sequence[str] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    kept: np.ndarray | None = None,
) -> np.ndarray:
    """Out-of-fold scores of one of `TEXT_CONTROLS` or `ARRAY_CONTROLS`.

    Parameters
    ----------
    texts : the n texts. arrays : by the control's name, what was computed for the n rows elsewhere: (n,) ids for
        `first_token` and `last_token`, (n, k) numbers for `position` and `perplexity`.
    kept : (n,) bool, the rows that may be trained on, as a balanced draw keeps them; every row is scored.

    Returns
    -------
    (L, n, c) float32.

    Raises
    ------
    EvidenceError : an unknown name, or neither the array nor the texts that the control reads.
    """
    given = arrays or {}
    if name not in (*TEXT_CONTROLS, *ARRAY_CONTROLS):
        raise EvidenceError(
            f"unknown control '{name}'; expected one of {', '.join((*TEXT_CONTROLS, *ARRAY_CONTROLS))}."
        )
    if name in ARRAY_CONTROLS and name in given:
        read = categorical_scores if name in ("first_token", "last_token") else numeric_scores
        return read(given[name], Y, kind, fold, kept=kept)
    if name in ("position", "perplexity"):
        raise EvidenceError(f"the control '{name}' reads an array, and none was given; give arrays={{'{name}': …}}.")
    if texts is None:
        raise EvidenceError(f"the control '{name}' reads texts, and these activations come without; leave it out.")
    if name == "length":
        return length_scores(texts, Y, kind, fold, kept=kept)
    if name in ("first_token", "last_token"):
        return categorical_scores(end_words(texts)[0 if name == "first_token" else 1], Y, kind, fold, kept=kept)
    return tfidf_scores(name, texts, Y, kind, fold, kept=kept)


def end_words(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(n,) and (n,) str: the first and the last word or punctuation mark of each text, as written; "" for none."""
    found = [_WORD_OR_MARK.findall(text) or [""] for text in texts]
    return np.array([words[0] for words in found]), np.array([words[-1] for words in found])


def length_scores(
    texts: Sequence[str], Y: np.ndarray, kind: str, fold: np.ndarray, *, kept: np.ndarray | None = None
) -> np.ndarray:
    """(L, n, c) out-of-fold scores from the counts of characters and words, and their logarithms."""
    counts = np.array([[len(t), len(t.split())] for t in texts], dtype=np.float64)
    return numeric_scores(counts, Y, kind, fold, kept=kept)
