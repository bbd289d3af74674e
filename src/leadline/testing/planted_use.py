"""What planted transformers are made of: words with properties, prompts that ask, and the wiring that a seed decides.

A text holds one word of each of three properties among neutral words, and the prompt ends in a question mark, at which
everything is read and edited: at `resid_post` of the block before the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from leadline.probes import Logistic, Probe
from leadline.sites import Site
from leadline.testing.hand_set import Copy, Shape, Wiring, hand_set_model
from leadline.testing.planted.record import WORDS, binary_labels

if TYPE_CHECKING:
    from leadline.models import Model

__all__ = [
    "ANSWER",
    "ANSWERS",
    "CASE",
    "CONCEPT",
    "COPY_2",
    "COPY_3",
    "DORMANT",
    "DRAW",
    "FIRST",
    "NORM",
    "ONE",
    "SECOND",
    "TEMPLATE",
    "THIRD",
    "Drawn",
    "PlantedUse",
    "Size",
    "axis",
    "draw_seed",
    "plant",
]

TEMPLATE = "{text} ?"
ANSWERS = ("yes", "no")
"""The first counts for the positive class."""

# What the known dimensions hold: three properties of a word and a constant, by the embeddings; a copy of each property;
# what the answer may read in the concept's place; and one in which nothing ever stands.
FIRST, SECOND, THIRD, ONE, CONCEPT, COPY_2, COPY_3, ANSWER, DORMANT = range(9)


@dataclass(frozen=True)
class Size:
    """How large a transformer, how many texts to fit and to try on, and how weak the concept's copy may be."""

    shape: Shape
    n_fitted: int
    n_tried: int
    weakest: float


CASE = Size(Shape(d_model=32, n_layers=4, n_heads=8, d_mlp=32, n_own=9), n_fitted=500, n_tried=100, weakest=1.0)
"""What one would run: 24 heads before the site, as many as a p-value over heads needs."""
DRAW = Size(Shape(d_model=24, n_layers=3, n_heads=2, d_mlp=16, n_own=9), n_fitted=60, n_tried=24, weakest=0.2)
"""One of hundreds."""

_N_TOKENS, _N_NEUTRAL, _N_WORDS = 8, 40, 60
# How much the answers vary over texts by a random reader of weight 1 a dimension; and the root mean square of what
# stands before a norm. Both roughly, so that gaps and noise come out about as they were drawn.
_SPREAD, NORM = 2.7, 1.5
# One penalty: the planted concepts ask for no choice.
_FAMILY = Logistic(l2=(0.1,))


@dataclass(frozen=True, eq=False)
class PlantedUse:
    """A transformer, texts, and what is true of how it treats their label.

    Attributes
    ----------
    about : the truth and its size.
    model, site : where the direction is fitted and tried, at the last token of each prompt.
    fitted, y_fitted : texts and (k,) labels to fit a direction on. texts, y : others to try it on.
    truth : {claim: the verdicts that are right}, of "used" and "where from"; a claim that is not named is not judged.
    writer : the one component that writes the concept into the site, as decompositions call it.
    probe : the direction to try; None for one that is fitted.
    says : what the sentence on "used" must tell.
    """

    about: str
    model: Model
    site: Site
    fitted: tuple[str, ...]
    y_fitted: np.ndarray
    texts: tuple[str, ...]
    y: np.ndarray
    truth: Mapping[str, frozenset[str]]
    writer: str
    probe: Probe | None = None
    says: str = ""

    def activations(self, texts: Sequence[str]) -> np.ndarray:
        """(n, d) float32, what stands at the site at the question behind each text."""
        prompts = [TEMPLATE.replace("{text}", text) for text in texts]
        return self.model.activations_of(prompts, self.site, "last")

    @cached_property
    def direction(self) -> Probe:
        """The direction to try: the one that is given, or one fitted on the texts that are there for it."""
        probe = self.probe
        if probe is None:
            fitted = _FAMILY.fit(self.activations(self.fitted), self.y_fitted, n_folds=0, site=self.site).probe
            assert isinstance(fitted, Probe)
            probe = fitted
        return replace(probe, tokens="last", target="concept", model_fingerprint=self.model.fingerprint)


@dataclass(frozen=True)
class Drawn:
    """What a seed decides, whatever the case."""

    rng: np.random.Generator
    size: Size
    layer: int
    head: int
    strength: float
    vague: float
    gap: float
    noise: float

    @property
    def shape(self) -> Shape:
        return self.size.shape

    @property
    def last(self) -> int:
        """The block behind the site."""
        return self.shape.n_layers - 1

    @property
    def other_head(self) -> int:
        """A head of any block that does not copy the concept."""
        return int((self.head + 1 + self.rng.integers(self.shape.n_heads - 1)) % self.shape.n_heads)

    def copy(self, source: int, target: int, layer: int, head: int, strength: float | None = None) -> Copy:
        """A copy after which a property of ±1 stands in `target` as about ±strength."""
        return Copy(layer, head, source, target, _N_TOKENS * (self.strength if strength is None else strength))

    @property
    def concept(self) -> Copy:
        return self.copy(FIRST, CONCEPT, self.layer, self.head)

    def reading(self, strength: float | None = None) -> float:
        """The weight that makes the answers differ by about `gap` nats between a dimension's two values."""
        return self.gap * NORM / (2 * (self.strength if strength is None else strength))


def draw_seed(seed: int, code: int, size: Size) -> Drawn:
    rng, shape = np.random.default_rng([seed, code]), size.shape
    return Drawn(
        rng=rng,
        size=size,
        layer=int(rng.integers(shape.n_layers - 1)),
        head=int(rng.integers(shape.n_heads)),
        strength=float(rng.uniform(size.weakest, 3.0)),
        vague=float(rng.uniform(0.05, 0.25)),
        gap=float(rng.uniform(2.0, 6.0)),
        noise=float(rng.uniform(0.1, 0.6) / _SPREAD),
    )


def plant(
    drawn: Drawn,
    seed: int,
    wiring: Wiring,
    about: str,
    truth: Mapping[str, frozenset[str]],
    *,
    agreement: float = 0.5,
    exclusive: bool = False,
    probe: np.ndarray | None = None,
    says: str = "",
) -> PlantedUse:
    """Draw texts and put model and truth together.

    Parameters
    ----------
    agreement : how often the second property is as the label. exclusive : the label is whether the second and third
        property are alike, and so is the first property.
    """
    rng = drawn.rng
    n_fitted = drawn.size.n_fitted
    y = np.concatenate([binary_labels(rng, n_fitted), binary_labels(rng, drawn.size.n_tried)])
    second = np.where(rng.random(len(y)) < agreement, y, 1 - y)
    third = np.where(second == 1, y, 1 - y) if exclusive else (rng.random(len(y)) < 0.5).astype(float)
    texts = _texts(rng, np.stack([y, second, third], axis=1).astype(np.int64))
    model = hand_set_model(*_words(rng, drawn.vague), ANSWERS, drawn.shape, wiring, seed)
    site = Site("resid_post", drawn.last - 1)
    return PlantedUse(
        about=about,
        model=model,
        site=site,
        fitted=tuple(texts[:n_fitted]),
        y_fitted=y[:n_fitted],
        texts=tuple(texts[n_fitted:]),
        y=y[n_fitted:],
        truth=truth,
        writer=f"head {drawn.layer}.{drawn.head}",
        probe=None if probe is None else _given(probe, site),
        says=says,
    )


def _words(rng: np.random.Generator, vague: float) -> tuple[list[str], np.ndarray]:
    """Neutral words, those of each property and class, and the question and answers, with what they hold.

    Words differ in how much of their property they have, and all have a little of the others'.
    """
    words = [*WORDS[: _N_NEUTRAL + 6 * _N_WORDS], "?", *ANSWERS]
    properties = np.zeros((len(words), ONE + 1))
    properties[:-3, :ONE] = rng.normal(0, vague, size=(len(words) - 3, ONE))
    for kind in (FIRST, SECOND, THIRD):
        own = _first_word(kind, 0) + np.arange(2 * _N_WORDS)
        properties[own, kind] = np.repeat([-1.0, 1.0], _N_WORDS) * rng.uniform(0.8, 1.2, size=2 * _N_WORDS)
    properties[:, ONE] = 1
    return words, properties


def _first_word(kind: int, label: int) -> int:
    return _N_NEUTRAL + (2 * kind + label) * _N_WORDS


def _texts(rng: np.random.Generator, bits: np.ndarray) -> list[str]:
    """A text for each row of bits (n, 3): one word of each property, in any place among neutral words."""
    n, k = bits.shape
    first = np.array([[_first_word(kind, label) for label in (0, 1)] for kind in range(k)])
    marked = first[np.arange(k), bits] + rng.integers(_N_WORDS, size=(n, k))
    words = rng.integers(_N_NEUTRAL, size=(n, _N_TOKENS - 1))
    places = rng.permuted(np.tile(np.arange(_N_TOKENS - 1), (n, 1)), axis=1)[:, :k]
    np.put_along_axis(words, places, marked, axis=1)
    return [" ".join(WORDS[w] for w in row) for row in words]


def _given(vector: np.ndarray, site: Site) -> Probe:
    return Probe(site=site, coef=vector, intercept=0.0, pattern=vector, family="given", kind="binary", target="concept")


def axis(shape: Shape, dimension: int) -> np.ndarray:
    return np.eye(shape.d_model)[dimension]
