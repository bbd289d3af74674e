"""Small transformers of which it is known whether the model acts on a concept, and which head writes it.

A head copies the first property of a text's words, which is the label unless said otherwise, to dimension `CONCEPT` at
the question. Whether the answer then reads that dimension is what the makers differ in. Strengths, noise, blocks, heads
and confounds are drawn by the seed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from leadline.testing.hand_set import Product, Wiring
from leadline.testing.planted.record import NOT_SUPPORTED, SUPPORTED
from leadline.testing.planted_use import (
    ANSWER,
    ANSWERS,
    CASE,
    CONCEPT,
    COPY_2,
    COPY_3,
    DORMANT,
    DRAW,
    NORM,
    ONE,
    SECOND,
    TEMPLATE,
    THIRD,
    Drawn,
    PlantedUse,
    Size,
    axis,
    draw_seed,
    plant,
)

__all__ = [
    "ANSWERS",
    "CASE",
    "CONCEPT",
    "DORMANT",
    "DRAW",
    "TEMPLATE",
    "PlantedUse",
    "Size",
    "another_route",
    "dormant",
    "idle",
    "nonlinear",
    "one_head_of_many",
    "read_like_noise",
    "used",
]


# ---- used


def _wired_to_answer(drawn: Drawn) -> tuple[Wiring, str]:
    """The answer reads the concept, directly or by an MLP of the last block, and an unrelated property beside it."""
    by_mlp = bool(drawn.rng.random() < 0.5)
    other = drawn.copy(SECOND, COPY_2, int(drawn.rng.integers(drawn.shape.n_layers)), drawn.other_head)
    wiring = Wiring(
        copies=(drawn.concept, other, drawn.copy(THIRD, COPY_3, drawn.layer, drawn.other_head)),
        products=(Product(drawn.last, CONCEPT, ONE, ANSWER, NORM**2),) if by_mlp else (),
        reads={ANSWER if by_mlp else CONCEPT: drawn.reading(), COPY_2: drawn.reading() * drawn.rng.uniform(0, 0.7)},
        noise=drawn.noise,
    )
    return wiring, f"read by {'the last MLP' if by_mlp else 'the unembedding'}"


def used(seed: int, size: Size = CASE) -> PlantedUse:
    """One head copies the concept, and the answer is decided by it."""
    drawn = draw_seed(seed, 161, size)
    wiring, by = _wired_to_answer(drawn)
    about = f"a concept copied by one head and {by}"
    return plant(drawn, seed, wiring, about, {"used": SUPPORTED, "where from": SUPPORTED})


def one_head_of_many(seed: int, size: Size = CASE) -> PlantedUse:
    """As `used`, where pairs of heads write an unrelated property along the concept's dimension and cancel each other,
    and others write it loudly elsewhere.
    """
    drawn = draw_seed(seed, 162, size)
    rng = drawn.rng
    wiring, by = _wired_to_answer(drawn)
    decoys = []
    for layer in range(drawn.last):
        free = [head for head in range(drawn.shape.n_heads) if (layer, head) != (drawn.layer, drawn.head)]
        plus, minus, loud = (int(head) for head in rng.choice(free, 3, replace=False))
        strength = drawn.strength * rng.uniform(0.5, 1.5)
        decoys += [
            drawn.copy(THIRD, CONCEPT, layer, plus, strength),
            drawn.copy(THIRD, CONCEPT, layer, minus, -strength),
            drawn.copy(THIRD, int(rng.integers(drawn.shape.n_own, drawn.shape.d_model)), layer, loud, 3.0),
        ]
    wiring = Wiring((*wiring.copies, *decoys), wiring.products, wiring.reads, wiring.noise)
    about = f"a concept copied by one head among {len(decoys)} decoys and {by}"
    return plant(drawn, seed, wiring, about, {"used": SUPPORTED, "where from": SUPPORTED})


# ---- not used


def idle(seed: int, size: Size = CASE) -> PlantedUse:
    """The concept's copy is read by nothing; the answer is decided by an unrelated property, and by noise."""
    drawn = draw_seed(seed, 163, size)
    other = drawn.copy(SECOND, ANSWER, int(drawn.rng.integers(drawn.shape.n_layers)), drawn.other_head, 2.0)
    wiring = Wiring(copies=(drawn.concept, other), reads={ANSWER: drawn.reading(2.0)}, noise=drawn.noise)
    truth = {"used": NOT_SUPPORTED, "where from": SUPPORTED}
    return plant(drawn, seed, wiring, "a copied concept that nothing reads, and answers that vary", truth)


def another_route(seed: int, size: Size = CASE) -> PlantedUse:
    """The answer follows the label nearly always, by a property of other words that arrives behind the site alone."""
    drawn = draw_seed(seed, 164, size)
    agreement = float(drawn.rng.uniform(0.85, 1.0))
    route = drawn.copy(SECOND, ANSWER, drawn.last, drawn.other_head, 2.0)
    wiring = Wiring(copies=(drawn.concept, route), reads={ANSWER: drawn.reading(2.0)}, noise=drawn.noise)
    about = f"a copied concept that nothing reads, and answers that follow it in {agreement:.0%} by another route"
    truth = {"used": NOT_SUPPORTED, "where from": SUPPORTED}
    return plant(drawn, seed, wiring, about, truth, agreement=agreement)


def nonlinear(seed: int, size: Size = CASE) -> PlantedUse:
    """The answer is the product of two bits at the site. The label is that product, and linear in a copy that nothing
    reads: so the site decides the answer, and no direction in it does.
    """
    drawn = draw_seed(seed, 165, size)
    head, strength = drawn.other_head, 1.5
    wiring = Wiring(
        copies=(
            drawn.concept,
            drawn.copy(SECOND, COPY_2, drawn.layer, head, strength),
            drawn.copy(THIRD, COPY_3, drawn.layer, head, strength),
        ),
        products=(Product(drawn.last, COPY_2, COPY_3, ANSWER, NORM**2),),
        reads={ANSWER: drawn.reading(strength**2)},
        noise=drawn.noise,
    )
    return plant(
        drawn,
        seed,
        wiring,
        "answers that are the product of two bits, and a linear copy of it that nothing reads",
        {"used": NOT_SUPPORTED, "where from": SUPPORTED},
        exclusive=True,
        says="The model acts on this site, ",
    )


def dormant(seed: int, size: Size = CASE) -> PlantedUse:
    """An interpretability illusion: the direction given is half what reads the concept and is read by nothing, half a
    dimension in which nothing ever stands and which the answer would read.

    References
    ----------
    A. Makelov, G. Lange and N. Nanda (2023), Is this the subspace you are looking for? An interpretability illusion
    for subspace activation patching.
    """
    drawn = draw_seed(seed, 166, size)
    agreement = float(drawn.rng.uniform(0.85, 1.0)) if drawn.rng.random() < 0.5 else 0.5
    wiring = Wiring(
        copies=(drawn.concept, drawn.copy(SECOND, ANSWER, drawn.last, drawn.other_head, 2.0)),
        reads={ANSWER: drawn.reading(2.0), DORMANT: 2 * drawn.reading()},
        noise=drawn.noise / 3,
    )
    return plant(
        drawn,
        seed,
        wiring,
        "a direction that wakes a dormant dimension, and answers that follow the label in "
        f"{agreement:.0%} by another route",
        {"used": NOT_SUPPORTED, "where from": SUPPORTED},
        agreement=agreement,
        probe=(axis(drawn.shape, CONCEPT) + axis(drawn.shape, DORMANT)) / np.sqrt(2),
    )


def read_like_noise(seed: int, size: Size = DRAW) -> PlantedUse:
    """What stands behind the site reads the concept's dimension as it reads any other: by random weights.

    Dimensions differ in size, and what reads them may prefer the large ones, as in trained models.
    """
    drawn = draw_seed(seed, 167, size)
    rng = drawn.rng
    scales = np.exp(rng.uniform(0, 1) * rng.normal(size=drawn.shape.d_model))
    # The concept's dimension is one of them, its size drawn as theirs.
    drawn = replace(drawn, strength=float(scales[CONCEPT]))
    wiring = Wiring(
        copies=(drawn.concept,),
        noise=float(np.exp(rng.uniform(np.log(0.05), np.log(3.0)))),
        reads_all_from=drawn.last,
        scales=scales,
        prefers=float(rng.integers(2)),
    )
    about = f"a concept of strength {drawn.strength:.1f} that is read by random weights as noise is"
    return plant(drawn, seed, wiring, about, {"used": NOT_SUPPORTED})
