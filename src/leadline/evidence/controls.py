"""Surface baselines: the same task, folds and penalties, from the text alone.

Each yields out-of-fold scores (L, n, c) that go through the same bootstrap as the probe's, so that differences are
paired. Vocabularies are learnt on the training rows of each fold.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SparseRidge

from leadline.errors import EvidenceError
from leadline.evidence.surface import categorical_scores, constant_scores, numeric_scores

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

_ANALYSERS: dict[str, dict[str, object]] = {
    "bag_of_words": {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"},
    "char_ngrams": {"analyzer": "char_wb", "ngram_range": (1, 4)},
}
_MAX_FEATURES = 50_000
# Penalties for rows of unit norm: mean loss + (l2/2)·‖w‖², as for the probes.
_TEXT_L2 = tuple(float(f"{x:.0e}") for x in np.logspace(-5, -1, 5))
_WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")


def control_scores(
    name: str,
    Y: np.ndarray,
    kind: str,
    fold: np.ndarray,
    *,
    texts: Sequence[str] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Out-of-fold scores of one of `TEXT_CONTROLS` or `ARRAY_CONTROLS`.

    Parameters
    ----------
    texts : the n texts. arrays : by the control's name, what was computed for the n rows elsewhere: (n,) ids for
        `first_token` and `last_token`, (n, k) numbers for `position` and `perplexity`.

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
        return read(given[name], Y, kind, fold)
    if name in ("position", "perplexity"):
        raise EvidenceError(f"the control '{name}' reads an array, and none was given; give arrays={{'{name}': …}}.")
    if texts is None:
        raise EvidenceError(f"the control '{name}' reads texts, and these activations come without; leave it out.")
    if name == "length":
        return length_scores(texts, Y, kind, fold)
    if name in ("first_token", "last_token"):
        return categorical_scores(end_words(texts)[0 if name == "first_token" else 1], Y, kind, fold)
    return tfidf_scores(name, texts, Y, kind, fold)


def end_words(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(n,) and (n,) str: the first and the last word or punctuation mark of each text, as written; "" for none."""
    found = [_WORD_OR_MARK.findall(text) or [""] for text in texts]
    return np.array([words[0] for words in found]), np.array([words[-1] for words in found])


def tfidf_scores(
    name: str, texts: Sequence[str], Y: np.ndarray, kind: str, fold: np.ndarray, *, folds: Iterable[int] | None = None
) -> np.ndarray:
    """Out-of-fold scores of TF-IDF with a linear model.

    Logistic regression for a binary target, ridge for a continuous one, multinomial logistic regression for a
    multiclass one; for an ordinal one ridge on the codes, whose column k is the prediction − (k + ½), so that its sign
    says whether y > k.

    Parameters
    ----------
    folds : score the rows of these folds alone, and leave the others NaN; all by default.

    Returns
    -------
    (L, n, c) float32, a slice a penalty.

    Raises
    ------
    EvidenceError : an unknown name.
    """
    if name not in _ANALYSERS:
        raise EvidenceError(f"unknown text control '{name}'; expected one of {', '.join(_ANALYSERS)}.")
    n = len(Y)
    n_classes = int(Y.max()) + 1 if kind in ("multiclass", "ordinal") else 0
    c = n_classes if kind == "multiclass" else n_classes - 1 if kind == "ordinal" else Y.shape[1]
    scores = np.full((len(_TEXT_L2), n, c), np.nan, dtype=np.float32)
    wanted = range(int(fold.max()) + 1) if folds is None else sorted(set(folds))
    for k, own, other in _tfidf(name, texts, fold, wanted):
        train, test = fold != k, fold == k
        if own is None or other is None or (kind != "continuous" and len(np.unique(Y[train])) < 2):
            # Of two classes neither is said: the sign of a fold's own rate would only mirror how the folds fell.
            scores[:, test] = 0 if kind == "binary" else constant_scores(Y[train], kind, n_classes)
        else:
            scores[:, test] = _fit_and_score(own, other, Y[train], kind, n_classes)
    return scores


def _tfidf(
    name: str, texts: Sequence[str], fold: np.ndarray, folds: Iterable[int]
) -> Iterator[tuple[int, scipy.sparse.csr_matrix | None, scipy.sparse.csr_matrix | None]]:
    """For each fold its training and its test rows, with the vocabulary and the weights that its training rows give.

    What stands in a text is counted once for all folds, in every text; a fold then keeps the features that its training
    rows have (the commonest, where there are too many) and weighs them by these rows, as a `TfidfVectorizer` that was
    fitted on them would.
    """
    # Word-level rows repeat their texts many times over.
    unique, back = np.unique(np.asarray(texts, dtype=object).astype(str), return_inverse=True)
    try:
        counts = CountVectorizer(**_ANALYSERS[name]).fit_transform(unique.tolist())[back.ravel()]
    except ValueError as error:
        # Chinese, punctuation or digits alone can leave a vocabulary empty; such texts have nothing to read.
        if "empty vocabulary" not in str(error):
            raise
        yield from ((k, None, None) for k in folds)
        return
    for k in folds:
        own, other = counts[fold != k], counts[fold == k]
        total = np.asarray(own.sum(axis=0)).ravel()
        kept = np.flatnonzero(total)
        if len(kept) > _MAX_FEATURES:
            kept = np.sort(kept[np.argsort(-total[kept], kind="stable")[:_MAX_FEATURES]])
        if not len(kept):
            yield k, None, None
            continue
        transformer = TfidfTransformer(sublinear_tf=True)
        own = transformer.fit_transform(own[:, kept].astype(np.float64))
        yield k, own, transformer.transform(other[:, kept].astype(np.float64))


def _fit_and_score(
    own: scipy.sparse.csr_matrix, other: scipy.sparse.csr_matrix, Y: np.ndarray, kind: str, n_classes: int
) -> np.ndarray:
    """(L, n_test, c) scores of the test rows by fits on the training rows."""
    found = []
    model = None
    # From the strongest penalty on, each fit starts where the one before ended.
    for l2 in sorted(_TEXT_L2, reverse=True):
        with warnings.catch_warnings():
            # A baseline that stops early at 1,000 iterations is still a baseline.
            warnings.simplefilter("ignore", ConvergenceWarning)
            if kind in ("continuous", "ordinal"):
                ridge = SparseRidge(alpha=len(Y) * l2, solver="sparse_cg", max_iter=1000).fit(own, Y)
                predicted = ridge.predict(other).reshape(other.shape[0], -1)
                found.append(predicted - (np.arange(n_classes - 1) + 0.5) if kind == "ordinal" else predicted)
                continue
            model = model or LogisticRegression(max_iter=1000, warm_start=True)
            model.set_params(C=1 / (len(Y) * l2))
            decision = model.fit(own, Y[:, 0]).decision_function(other)
        found.append(decision[:, None] if kind == "binary" else _by_class(decision, model.classes_, n_classes))
    return np.stack(found[::-1])


def _by_class(decision: np.ndarray, classes: np.ndarray, n_classes: int) -> np.ndarray:
    """(n_test, C) from the scores of the classes that were trained on; a class that was not never wins."""
    if decision.ndim == 1:
        decision = np.stack([-decision / 2, decision / 2], axis=1)
    scores = np.full((len(decision), n_classes), decision.min() - 1)
    scores[:, classes.astype(np.int64)] = decision
    return scores


def length_scores(texts: Sequence[str], Y: np.ndarray, kind: str, fold: np.ndarray) -> np.ndarray:
    """(L, n, c) out-of-fold scores from the counts of characters and words, and their logarithms."""
    return numeric_scores(np.array([[len(t), len(t.split())] for t in texts], dtype=np.float64), Y, kind, fold)
