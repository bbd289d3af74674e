"""What a planted case is, and the noise, labels and texts that all of them are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from leadline.evidence import Labels
from leadline.probes import Logistic, Multinomial, Ordinal, Ridge
from leadline.probes.fit import Family

__all__ = [
    "INCONCLUSIVE",
    "NOT_SUPPORTED",
    "NOT_TESTED",
    "REFUTED",
    "SUPPORTED",
    "TEXT_CONTROLS",
    "WORDS",
    "Arrays",
    "Planted",
    "binary_labels",
    "directions",
    "family_for",
    "labelled",
    "sentences",
    "stream",
    "targets",
]

SUPPORTED = frozenset({"supported"})
REFUTED = frozenset({"refuted"})
INCONCLUSIVE = frozenset({"inconclusive"})
NOT_TESTED = frozenset({"not tested"})
NOT_SUPPORTED = frozenset({"refuted", "inconclusive", "not tested"})

TEXT_CONTROLS = ("bag_of_words", "char_ngrams", "length")

# A grid that holds the best penalty of every case; the families' own is longer and as good here.
_L2 = (0.01, 0.1, 1.0)

# Words that mean nothing, in an order that has nothing to do with their spelling: what a baseline reads was planted.
_SPELLED = [a + b + c + "o" for a in "bdfgklmnprtvz" for b in "aeiu" for c in "bdfgklmnprtvz"]
WORDS = tuple(_SPELLED[i] for i in np.random.default_rng(0).permutation(len(_SPELLED)))

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Planted:
    """Activations and labels of which the truth is known.

    Attributes
    ----------
    about : the truth and its size, in words and numbers.
    activations : {site: (n, d) float32}. labels : of the same rows.
    truth : {claim: the verdicts that are right}; a claim that is not named is not judged.
    family : the probe. n_folds : of the sweep.
    held_out : {name: (activations, labels)} of sets off the training distribution.
    sources : {control: activations} to hold the probe against. text_controls : the surface baselines to run.
    measures : what the sweep is asked for beyond its verdict of decodable.
    first_layer : the first `resid_post` layer at which the concept is linear; the chosen site must not lie before it,
        and the interval of where it emerges must hold it.
    nonlinear : whether an MLP reads significantly more than a linear probe; None where that is not judged.
    misled : whether some simplified representation loses more on a held-out set than it showed at home; None where that
        is not judged.
    """

    about: str
    activations: Arrays
    labels: Labels
    truth: Mapping[str, frozenset[str]]
    family: Family
    n_folds: int = 5
    held_out: Mapping[str, tuple[Arrays, Labels]] = field(default_factory=dict)
    sources: Mapping[str, Arrays] = field(default_factory=dict)
    text_controls: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()
    first_layer: int | None = None
    nonlinear: bool | None = None
    misled: bool | None = None


def family_for(kind: str) -> Family:
    """The probe of a kind of target, over a short grid of penalties."""
    families: dict[str, Family] = {
        "binary": Logistic(l2=_L2),
        "continuous": Ridge(l2=_L2),
        "multiclass": Multinomial(l2=_L2),
        "ordinal": Ordinal(l2=_L2),
    }
    return families[kind]


def labelled(
    Y: np.ndarray,
    kind: str = "binary",
    *,
    groups: np.ndarray | None = None,
    texts: list[str] | None = None,
    types: np.ndarray | None = None,
    candidates: Mapping[str, np.ndarray] | None = None,
) -> Labels:
    """`Labels` of n rows from targets (n,) or (n, m), with class names where there are classes."""
    values = np.asarray(Y, dtype=np.float64).reshape(len(Y), -1)
    names: tuple[str, ...] = ()
    if kind == "binary":
        names = ("negative", "positive")
    elif kind != "continuous":
        names = tuple(f"class {c}" for c in range(int(values.max()) + 1))
    return Labels(
        name="concept",
        columns=tuple(f"concept {c}" for c in range(values.shape[1])) if values.shape[1] > 1 else ("concept",),
        kind=kind,
        Y=values,
        groups=groups,
        texts=texts,
        rows=np.arange(len(values)),
        negative="negative" if kind == "binary" else None,
        positive="positive" if kind == "binary" else None,
        classes=names,
        types=types,
        candidates=dict(candidates or {}),
    )


def binary_labels(rng: np.random.Generator, n: int, share: float = 0.5) -> np.ndarray:
    """(n,) 0 and 1 in random order, with exactly round(share·n) ones."""
    y = np.zeros(n)
    y[: round(share * n)] = 1
    return rng.permutation(y)


def targets(
    rng: np.random.Generator, kind: str, n: int, *, n_classes: int = 4, n_columns: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Targets (n, m), and where their rows stand along orthonormal directions (n, r), a unit apart."""
    if kind == "binary":
        y = binary_labels(rng, n)
        return y[:, None], y[:, None] - 0.5
    if kind == "continuous":
        Y = rng.normal(size=(n, n_columns))
        return Y, Y
    codes = rng.permutation(np.arange(n) % n_classes)
    if kind == "multiclass":
        # Corners of a simplex, whose edges are 1.
        return codes[:, None].astype(np.float64), np.eye(n_classes)[codes] / np.sqrt(2)
    return codes[:, None].astype(np.float64), (codes - (n_classes - 1) / 2)[:, None]


def directions(rng: np.random.Generator, d: int, n_directions: int) -> np.ndarray:
    """(n_directions, d) orthonormal rows, uniformly at random."""
    q, r = np.linalg.qr(rng.normal(size=(d, n_directions)))
    # Without the signs of R's diagonal the directions would not be uniform.
    return np.asarray((q * np.sign(np.diag(r))).T)


def stream(
    rng: np.random.Generator,
    signal: np.ndarray | None,
    *,
    n: int,
    d: int,
    n_layers: int,
    first: int = 0,
    kept: float = 0.8,
    tails: bool = False,
) -> dict[str, np.ndarray]:
    """A residual stream of noise with unit variance, to which `signal` (n, d) is added from layer `first` on.

    Parameters
    ----------
    kept : the correlation of a layer's noise with that of the layer before.
    tails : noise of Student's t with 3 degrees of freedom, and one dimension a hundred times as large, as an attention
        sink's.

    Returns
    -------
    {`resid_post.0`: (n, d) float32, …}.
    """

    def draw() -> np.ndarray:
        return rng.standard_t(3, size=(n, d)) / np.sqrt(3) if tails else rng.normal(size=(n, d))

    noise, found = draw(), {}
    size = np.ones(d)
    if tails:
        size[rng.integers(d)] = 100.0
    for layer in range(n_layers):
        if layer:
            noise = kept * noise + np.sqrt(1 - kept**2) * draw()
        X = noise if signal is None or layer < first else noise + signal
        found[f"resid_post.{layer}"] = (X * size).astype(np.float32)
    return found


def sentences(
    rng: np.random.Generator, n: int, n_words: int | np.ndarray = 8, *, n_vocabulary: int = 80
) -> list[list[str]]:
    """n lists of words drawn at random from the first `n_vocabulary` of `WORDS`."""
    lengths = np.broadcast_to(n_words, (n,))
    drawn = rng.integers(n_vocabulary, size=(n, int(lengths.max())))
    return [[WORDS[w] for w in row[:length]] for row, length in zip(drawn, lengths, strict=True)]
