"""TF-IDF of a text's words or characters with a linear model: what the vocabulary or the spelling gives away."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SparseRidge

from leadline.errors import EvidenceError
from leadline.evidence.surface import constant_scores

__all__ = ["tfidf_scores"]

_ANALYSERS: dict[str, dict[str, object]] = {
    "bag_of_words": {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"},
    "char_ngrams": {"analyzer": "char_wb", "ngram_range": (1, 4)},
}
_MAX_FEATURES = 50_000
# Penalties for rows of unit norm: mean loss + (l2/2)·‖w‖², as for the probes.
_TEXT_L2 = tuple(float(f"{x:.0e}") for x in np.logspace(-5, -1, 5))


def tfidf_scores(
    name: str,
    texts: Sequence[str],
    Y: np.ndarray,
    kind: str,
    fold: np.ndarray,
    *,
    folds: Iterable[int] | None = None,
    kept: np.ndarray | None = None,
) -> np.ndarray:
    """Out-of-fold scores of TF-IDF with a linear model.

    Logistic regression for a binary target, ridge for a continuous one, multinomial logistic regression for a
    multiclass one; for an ordinal one ridge on the codes, whose column k is the prediction − (k + ½), so that its sign
    says whether y > k.

    Parameters
    ----------
    folds : score the rows of these folds alone, and leave the others NaN; all by default.
    kept : (n,) bool, the rows that may be trained on, as a balanced draw keeps them; every row is scored.

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
    allowed = np.ones(n, dtype=bool) if kept is None else kept
    for k, own, other in _tfidf(name, texts, fold, wanted, allowed):
        train, test = (fold != k) & allowed, fold == k
        if own is None or other is None or (kind != "continuous" and len(np.unique(Y[train])) < 2):
            # Of two classes neither is said: the sign of a fold's own rate would only mirror how the folds fell.
            scores[:, test] = 0 if kind == "binary" else constant_scores(Y[train], kind, n_classes)
        else:
            scores[:, test] = _fit_and_score(own, other, Y[train], kind, n_classes)
    return scores


def _tfidf(
    name: str, texts: Sequence[str], fold: np.ndarray, folds: Iterable[int], allowed: np.ndarray
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
        own, other = counts[(fold != k) & allowed], counts[fold == k]
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
    if kind in ("continuous", "ordinal"):
        found = []
        for l2 in _TEXT_L2:
            ridge = SparseRidge(alpha=len(Y) * l2, solver="sparse_cg", max_iter=1000).fit(own, Y)
            predicted = ridge.predict(other).reshape(other.shape[0], -1)
            found.append(predicted - (np.arange(n_classes - 1) + 0.5) if kind == "ordinal" else predicted)
        return np.stack(found)
    # Newton's method takes a fifth of the iterations, each of which pays with several classes.
    model = LogisticRegression(solver="newton-cg" if kind == "multiclass" else "lbfgs", max_iter=1000, warm_start=True)
    found = []
    # From the strongest penalty on, each fit starts where the one before ended.
    for l2 in sorted(_TEXT_L2, reverse=True):
        model.set_params(C=1 / (len(Y) * l2))
        with warnings.catch_warnings():
            # A baseline that stops early, after 1,000 iterations or at the limit of rounding, is still a baseline.
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", message="Line Search failed")
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
