"""Giveaway tokens: which words carry the label on the surface, and the texts without them.

Each fold names its words from its training rows alone, and its test rows are masked by these, so that no row takes part
in choosing what is taken out of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import scipy.sparse
from sklearn.feature_extraction.text import CountVectorizer

from leadline.errors import EvidenceError
from leadline.evidence.association import Association, associate
from leadline.evidence.multiplicity import benjamini_hochberg
from leadline.probes.splits import group_codes

__all__ = ["GiveawayWord", "Giveaways", "MaskedTexts", "giveaway_words", "mask_text", "mask_texts"]

_WORD = re.compile(r"\w+")
# Stands where a text had nothing but giveaways, since no model reads an empty text.
_NOTHING = "…"


@dataclass(frozen=True)
class GiveawayWord:
    """A word that some fold chose.

    Attributes
    ----------
    n_texts : how many of all texts hold it. n_folds : how many folds chose it.
    association : the mean of these folds' correlations (φ) of its presence with the label; below 0 where it speaks
        against `outcome`. q : the largest of their q-values.
    outcome : 1 for a binary target; the class, the threshold k (as in y > k) or the column that it goes with most.
    """

    word: str
    n_texts: int
    n_folds: int
    association: float
    q: float
    outcome: int


@dataclass(frozen=True)
class Giveaways:
    """The words that carry the label on the surface.

    Attributes
    ----------
    words : one tuple a fold, chosen from its training rows, the strongest first.
    merged : every word that some fold chose; those of most folds, then the strongest, first.
    n_tested : how many words each fold tested. unit : what was counted once, for a person.
    reason : why there was nothing to look for, or an empty string.
    """

    words: tuple[tuple[str, ...], ...]
    merged: tuple[GiveawayWord, ...]
    n_tested: tuple[int, ...]
    unit: str
    reason: str = ""

    @property
    def table(self) -> pl.DataFrame:
        """A row a word, with the columns of `GiveawayWord`."""
        columns = {name: [getattr(w, name) for w in self.merged] for name in GiveawayWord.__dataclass_fields__}
        types = {"word": pl.String, "n_texts": pl.Int64, "n_folds": pl.Int64, "association": pl.Float64}
        return pl.DataFrame(columns, schema={**types, "q": pl.Float64, "outcome": pl.Int64})


def giveaway_words(
    texts: Sequence[str] | None,
    Y: np.ndarray,
    kind: str,
    fold: np.ndarray,
    groups: np.ndarray | None,
    *,
    max_words: int = 20,
    q: float = 0.05,
    min_association: float = 0.1,
    min_units: int = 5,
) -> Giveaways:
    """Words whose presence goes with the label, for each fold from its training rows alone.

    A word is a run of letters, digits and underscores in lower case. Rows of a group are no independent witnesses. If
    the label varies within groups (for most rows), labels are compared within each group, as a permutation within
    groups would; else each group is counted once, with its commonest class or mean value, and holds a word where the
    word's share of its rows is above the mean share. The test of each word is exact for classes (`association`); words
    are chosen by Benjamini and Hochberg's procedure at level `q`, so that random labels give a fold any giveaway with a
    chance of at most `q` (and some of five folds, which share most rows, with about twice that).

    Parameters
    ----------
    texts : n texts, or None where the inputs are none. Y : (n, m). fold : (n,). groups : (n,) or None.
    max_words : the most a fold keeps, by strength. min_association : the least |φ| of a giveaway.
    min_units : a word stands in at least that many units (rows or groups) and is absent from as many.

    Raises
    ------
    EvidenceError : as many texts, labels and folds as do not fit; a level outside 0 to 1.
    """
    n_folds = int(fold.max()) + 1
    if texts is None:
        return Giveaways(((),) * n_folds, (), (0,) * n_folds, "", "the inputs are no texts, so they have no words")
    if not len(texts) == len(Y) == len(fold):
        raise EvidenceError(f"got {len(texts)} texts, {len(Y)} labels and {len(fold)} folds; give one of each a row.")
    if not 0 < q < 1:
        raise EvidenceError(f"q is {q}; expected a false discovery rate between 0 and 1.")
    counter = CountVectorizer(analyzer=_words_of, binary=True)
    if not any(map(_words_of, texts)):
        return Giveaways(((),) * n_folds, (), (0,) * n_folds, "", "no text holds a word")
    presence = counter.fit_transform(texts).astype(np.float64)
    vocabulary = counter.get_feature_names_out()
    codes = None if groups is None else group_codes(groups, len(Y))
    chosen: list[list[tuple[int, float, float, int]]] = []
    n_tested: list[int] = []
    units: list[str] = []
    for k in range(n_folds):
        train = fold != k
        own, labels, stratum, unit = _units(presence[train], Y[train], kind, None if codes is None else codes[train])
        count = np.asarray(own.sum(axis=0)).ravel()
        tested = np.flatnonzero((count >= min_units) & (own.shape[0] - count >= min_units))
        n_tested.append(len(tested))
        units.append(unit)
        found = associate(own[:, tested], labels, kind, stratum)
        chosen.append(_choose(found, tested, max_words, q, min_association))
    words = tuple(tuple(str(vocabulary[w]) for w, *_ in own) for own in chosen)
    merged = _merge(chosen, vocabulary, np.asarray(presence.sum(axis=0)).ravel())
    reason = "" if any(n_tested) else f"no word stands in {min_units} or more units of the training rows"
    return Giveaways(words, merged, tuple(n_tested), max(set(units), key=units.count), reason)


def _words_of(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _units(
    presence: scipy.sparse.csr_matrix, Y: np.ndarray, kind: str, codes: np.ndarray | None
) -> tuple[scipy.sparse.csc_matrix, np.ndarray, np.ndarray, str]:
    """What is counted once: presence (u, V) of 0 and 1, labels (u, m), strata (u,), and its name."""
    n = len(Y)
    if codes is None or len(np.unique(codes)) == n:
        return presence.tocsc(), Y, np.zeros(n, dtype=np.int64), "text"
    _, codes = np.unique(codes, return_inverse=True)
    size = np.bincount(codes)
    low, high = np.full((len(size), Y.shape[1]), np.inf), np.full((len(size), Y.shape[1]), -np.inf)
    np.minimum.at(low, codes, Y)
    np.maximum.at(high, codes, Y)
    if size[(low < high).any(axis=1)].sum() > n / 2:
        return presence.tocsc(), Y, codes, "text, within its group"
    S = scipy.sparse.csr_matrix((1 / size[codes], (codes, np.arange(n))))
    share = scipy.sparse.csc_matrix(S @ presence)
    mean = np.asarray(share.mean(axis=0)).ravel()
    share.data = (share.data > np.repeat(mean, np.diff(share.indptr))).astype(np.float64)
    share.eliminate_zeros()
    if kind == "continuous":
        labels = S @ Y
    else:
        votes = np.zeros((len(size), int(Y.max()) + 1))
        np.add.at(votes, (codes, Y[:, 0].astype(np.int64)), 1)
        labels = votes.argmax(axis=1)[:, None].astype(np.float64)
    return share, labels, np.zeros(len(size), dtype=np.int64), "group"


def _choose(
    found: Association, tested: np.ndarray, max_words: int, q: float, min_association: float
) -> list[tuple[int, float, float, int]]:
    """(word, correlation, q-value, outcome) of the words that pass, the strongest first."""
    # An exact sum of probabilities may exceed 1 by its rounding.
    rates = benjamini_hochberg(np.minimum(found.p, 1.0))
    strength = np.abs(found.correlation)
    passed = np.flatnonzero((rates <= q) & (strength >= min_association))
    passed = passed[np.argsort(-strength[passed], kind="stable")][:max_words]
    return [(int(tested[i]), float(found.correlation[i]), float(rates[i]), int(found.outcome[i])) for i in passed]


def _merge(
    chosen: list[list[tuple[int, float, float, int]]], vocabulary: np.ndarray, n_texts: np.ndarray
) -> tuple[GiveawayWord, ...]:
    by_word: dict[int, list[tuple[float, float, int]]] = {}
    for own in chosen:
        for word, correlation, rate, outcome in own:
            by_word.setdefault(word, []).append((correlation, rate, outcome))
    merged = []
    for word, rows in by_word.items():
        outcomes = [outcome for *_, outcome in rows]
        most = max(sorted(set(outcomes)), key=outcomes.count)
        agreeing = [correlation for correlation, _, outcome in rows if outcome == most]
        merged.append(
            GiveawayWord(
                word=str(vocabulary[word]),
                n_texts=int(n_texts[word]),
                n_folds=len(rows),
                association=float(np.mean(agreeing)),
                q=max(rate for _, rate, _ in rows),
                outcome=most,
            )
        )
    return tuple(sorted(merged, key=lambda w: (-w.n_folds, -abs(w.association), w.word)))


# ---- masking


@dataclass(frozen=True)
class MaskedTexts:
    """Texts without their giveaways.

    Attributes
    ----------
    texts : n texts; the same object where nothing was taken out.
    changed : (n,) bool.
    """

    texts: tuple[str, ...]
    changed: np.ndarray


def mask_texts(texts: Sequence[str], giveaways: Giveaways, fold: np.ndarray, *, mask: str = "") -> MaskedTexts:
    """Take each row's giveaways out of it: those that were chosen without its fold.

    Whole words alone, whatever their case. A word that is removed takes the white space before it along; a text of
    which nothing is left becomes "…".

    Parameters
    ----------
    mask : what stands in a giveaway's place; "" removes it. A placeholder is itself a mark of the label where the words
        of one class alone are giveaways, so nothing is the more neutral.
    """
    found = [mask_text(text, giveaways.words[int(k)], mask) for text, k in zip(texts, fold, strict=True)]
    changed = np.array([new is not old for new, old in zip(found, texts, strict=True)], dtype=bool)
    return MaskedTexts(tuple(found), changed)


def mask_text(text: str, words: Sequence[str], mask: str = "") -> str:
    """One text without some words; see `mask_texts`. The same object where none stands in it."""
    own = frozenset(words)
    spans = [match.span() for match in _WORD.finditer(text) if match[0].lower() in own]
    if not spans:
        return text
    parts, at = [], 0
    for start, end in spans:
        before = text[at:start]
        parts.append(before + mask if mask else before.rstrip(" \t"))
        at = end
    whole = "".join([*parts, text[at:]])
    if not mask and not text[: spans[0][0]].strip():
        # What opened the text is gone, and the space behind it leads no more.
        whole = whole.lstrip(" \t")
    return whole if whole.strip() else _NOTHING
