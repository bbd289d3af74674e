"""Surface baselines: the same task, folds and penalties, from the text alone.

Each yields out-of-fold scores (L, n, m) that go through the same bootstrap as the probe's, so that differences are
paired. Vocabularies are learnt on the training rows of each fold.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SparseRidge

from leadline.errors import EvidenceError
from leadline.probes.fit import Family
from leadline.probes.logistic import Logistic
from leadline.probes.ridge import Ridge

__all__ = ["CONTROLS", "TEXT_CONTROLS", "Control", "length_scores", "tfidf_scores"]


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
            "token_embeddings",
            "Token embeddings",
            "The mean of the model's input embeddings over all tokens, before any layer has worked on them.",
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

_ANALYSERS: dict[str, dict[str, object]] = {
    "bag_of_words": {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"},
    "char_ngrams": {"analyzer": "char_wb", "ngram_range": (1, 4)},
}
# Penalties for rows of unit norm: mean loss + (l2/2)·‖w‖², as for the probes.
_TEXT_L2 = tuple(float(f"{x:.0e}") for x in np.logspace(-5, -1, 5))


def tfidf_scores(name: str, texts: Sequence[str], Y: np.ndarray, kind: str, fold: np.ndarray) -> np.ndarray:
    """Out-of-fold scores of TF-IDF with logistic regression (binary) or ridge (continuous).

    Returns
    -------
    (L, n, m) float32, a slice a penalty.

    Raises
    ------
    EvidenceError : an unknown name.
    """
    if name not in _ANALYSERS:
        raise EvidenceError(f"unknown text control '{name}'; expected one of {', '.join(_ANALYSERS)}.")
    n, m = Y.shape
    scores = np.zeros((len(_TEXT_L2), n, m), dtype=np.float32)
    # Chinese, punctuation or digits alone can leave a vocabulary empty; such a text has nothing to read.
    docs = [t if t.strip() else "∅" for t in texts]
    for k in range(int(fold.max()) + 1):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        vectoriser = TfidfVectorizer(max_features=50_000, sublinear_tf=True, **_ANALYSERS[name])
        try:
            own = vectoriser.fit_transform([docs[i] for i in train])
        except ValueError as error:
            if "empty vocabulary" not in str(error):
                raise
            scores[:, test] = 0 if kind == "binary" else Y[train].mean(axis=0)
            continue
        other = vectoriser.transform([docs[i] for i in test])
        for index, l2 in enumerate(_TEXT_L2):
            for column in range(m):
                y = Y[train, column]
                with warnings.catch_warnings():
                    # A baseline that stops early at 1,000 iterations is still a baseline.
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    if kind == "binary":
                        model = LogisticRegression(C=1 / (len(train) * l2), max_iter=1000).fit(own, y)
                        scores[index, test, column] = model.decision_function(other)
                    else:
                        model = SparseRidge(alpha=len(train) * l2, solver="sparse_cg", max_iter=1000).fit(own, y)
                        scores[index, test, column] = model.predict(other)
    return scores


def length_scores(texts: Sequence[str], Y: np.ndarray, kind: str, fold: np.ndarray) -> np.ndarray:
    """(L, n, m) out-of-fold scores from the counts of characters and words, and their logarithms."""
    counts = np.array([[len(t), len(t.split())] for t in texts], dtype=np.float64)
    X = np.hstack([counts, np.log1p(counts)]).astype(np.float32)
    family: Family = Logistic(l2=(1e-3, 1e-1)) if kind == "binary" else Ridge(l2=(1e-3, 1e-1))
    return family.fit_site(X, Y, fold).scores
