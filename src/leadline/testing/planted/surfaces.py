"""Texts whose surface is the label, or says a part of it, or nothing; and pairs of texts that folds tear apart."""

from __future__ import annotations

import numpy as np

from leadline.testing.planted.record import (
    INCONCLUSIVE,
    NOT_SUPPORTED,
    SUPPORTED,
    TEXT_CONTROLS,
    WORDS,
    Planted,
    binary_labels,
    directions,
    family_for,
    labelled,
    sentences,
    stream,
)

__all__ = ["beyond_surface", "pairs_apart", "surface_length", "surface_spelling", "surface_word"]

_N_NEUTRAL = 80


def surface_word(
    seed: int,
    *,
    n_words: int = 1,
    n_classes: int = 2,
    flipped: float = 0.0,
    effect: float = 4.0,
    n: int = 300,
    d: int = 32,
    n_layers: int = 3,
    n_others: int = 7,
    text_controls: tuple[str, ...] = TEXT_CONTROLS,
) -> Planted:
    """A word of the text decides the label, and the activations hold that word's own embedding and nothing else.

    Parameters
    ----------
    n_words : how many words mean each of `n_classes`. flipped : the share of labels that are changed after that.
    n_others : how many other words a text has.
    """
    rng = np.random.default_rng([seed, 111])
    said = rng.permutation(np.arange(n) % n_classes)
    word = rng.integers(n_words, size=n) + n_words * said
    texts = sentences(rng, n, n_others, n_vocabulary=_N_NEUTRAL)
    for text, w, at in zip(texts, word, rng.integers(n_others + 1, size=n), strict=True):
        text.insert(int(at), WORDS[_N_NEUTRAL + int(w)])
    embeddings = effect * rng.normal(size=(n_classes * n_words, d)) / np.sqrt(d)
    turned = rng.permutation(n)[: round(flipped * n)]
    y = said.copy()
    y[turned] = (said[turned] + 1) % n_classes
    kind = "binary" if n_classes == 2 else "multiclass"
    return Planted(
        about=f"{n_words} words a class decide the label, {flipped:.0%} of labels turned; activations hold the word",
        activations=stream(rng, embeddings[word], n=n, d=d, n_layers=n_layers),
        labels=labelled(y, kind, texts=[" ".join(t) for t in texts]),
        truth={"beyond surface": NOT_SUPPORTED},
        family=family_for(kind),
        text_controls=text_controls,
    )


def surface_length(
    seed: int,
    *,
    kind: str = "binary",
    effect: float = 3.0,
    n: int = 300,
    d: int = 32,
    n_layers: int = 3,
    text_controls: tuple[str, ...] = TEXT_CONTROLS,
) -> Planted:
    """The target is the number of words (continuous), or whether there are more than 12 (binary)."""
    rng = np.random.default_rng([seed, 112])
    lengths = rng.integers(4, 21, size=n)
    y = lengths.astype(np.float64) if kind == "continuous" else (lengths > 12).astype(np.float64)
    standard = (lengths - lengths.mean()) / lengths.std()
    signal = effect * standard[:, None] * directions(rng, d, 1)
    return Planted(
        about=f"the {kind} target is the text's length; activations hold the length with effect {effect:g}",
        activations=stream(rng, signal, n=n, d=d, n_layers=n_layers),
        labels=labelled(y, kind, texts=[" ".join(t) for t in sentences(rng, n, lengths)]),
        truth={"beyond surface": NOT_SUPPORTED},
        family=family_for(kind),
        text_controls=text_controls,
    )


def surface_spelling(seed: int, *, effect: float = 4.0, n: int = 300, d: int = 32, n_layers: int = 3) -> Planted:
    """One word a text ends in `ing` or in `ist`, which is the label; no such word stands in two texts."""
    rng = np.random.default_rng([seed, 113])
    y = binary_labels(rng, n)
    stems = rng.permutation(len(WORDS) - _N_NEUTRAL)[:n] + _N_NEUTRAL
    texts = sentences(rng, n, 6, n_vocabulary=_N_NEUTRAL)
    for text, stem, label in zip(texts, stems, y, strict=True):
        text.append(WORDS[stem] + ("ing" if label else "ist"))
    signal = effect * (y[:, None] - 0.5) * directions(rng, d, 1)
    return Planted(
        about="the ending of a word that recurs nowhere is the label; activations hold the ending",
        activations=stream(rng, signal, n=n, d=d, n_layers=n_layers),
        labels=labelled(y, texts=[" ".join(t) for t in texts]),
        truth={"beyond surface": NOT_SUPPORTED},
        family=family_for("binary"),
        text_controls=TEXT_CONTROLS,
    )


def beyond_surface(
    seed: int,
    *,
    agreement: float = 0.75,
    effect: float = 3.0,
    kind: str = "binary",
    n: int = 400,
    d: int = 32,
    n_layers: int = 3,
) -> Planted:
    """The activations hold the concept; a word of the text goes with it in `agreement` of the rows.

    For a continuous target the word says on which side of the median the target lies.
    """
    rng = np.random.default_rng([seed, 114])
    y = rng.normal(size=n) if kind == "continuous" else binary_labels(rng, n)
    high = y > np.median(y) if kind == "continuous" else y > 0
    word = np.where(rng.random(n) < agreement, high, ~high).astype(np.int64)
    texts = sentences(rng, n, 7, n_vocabulary=_N_NEUTRAL)
    for text, w in zip(texts, word, strict=True):
        text.append(WORDS[_N_NEUTRAL + int(w)])
    place = y if kind == "continuous" else y - 0.5
    signal = effect * place[:, None] * directions(rng, d, 1)
    return Planted(
        about=f"a {kind} concept of effect {effect:g}; a word agrees with it in {agreement:.0%} of the rows",
        activations=stream(rng, signal, n=n, d=d, n_layers=n_layers),
        labels=labelled(y, kind, texts=[" ".join(t) for t in texts]),
        truth={"decodable": SUPPORTED, "beyond surface": SUPPORTED},
        family=family_for(kind),
        text_controls=TEXT_CONTROLS,
    )


def pairs_apart(
    seed: int,
    *,
    effect: float = 4.0,
    n_pairs: int = 150,
    d: int = 32,
    n_layers: int = 3,
    text_controls: tuple[str, ...] = TEXT_CONTROLS,
) -> Planted:
    """Two texts share three words that no other text has and have opposite labels; nothing groups them.

    A baseline of words then learns from a text's partner in the training rows the opposite of its label, and falls
    below chance: any gain over it is worthless.
    """
    rng = np.random.default_rng([seed, 115])
    y = np.tile([0.0, 1.0], n_pairs)
    pair = np.repeat(np.arange(n_pairs), 2)
    shared = rng.permutation(len(WORDS) - _N_NEUTRAL)[: 3 * n_pairs].reshape(n_pairs, 3) + _N_NEUTRAL
    texts = [
        " ".join([*(WORDS[w] for w in shared[p]), *own])
        for p, own in zip(pair, sentences(rng, 2 * n_pairs, 4, n_vocabulary=_N_NEUTRAL), strict=True)
    ]
    signal = effect * (y[:, None] - 0.5) * directions(rng, d, 1)
    order = rng.permutation(2 * n_pairs)
    return Planted(
        about=f"{n_pairs} pairs of texts with opposite labels, torn apart by the folds; concept of effect {effect:g}",
        activations=stream(rng, signal[order], n=2 * n_pairs, d=d, n_layers=n_layers),
        labels=labelled(y[order], texts=[texts[i] for i in order]),
        truth={"beyond surface": INCONCLUSIVE},
        family=family_for("binary"),
        text_controls=text_controls,
    )
