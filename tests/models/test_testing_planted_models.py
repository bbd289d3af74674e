"""Transformers with hand-set weights: they do what was set, exactly, and from the stated block on."""

from __future__ import annotations

import numpy as np
import pytest

from leadline.testing import planted_models as made
from leadline.testing.cases import CASES
from leadline.testing.judge import judge
from leadline.testing.planted.record import WORDS

N_WORDS = 20
# Neutral words, then words of −1 and 1 in the first property, then in the second.
PROPERTIES = np.zeros((N_WORDS + 4, 2))
PROPERTIES[N_WORDS:] = [(-1, 0), (1, 0), (0, -1), (0, 1)]
OWN = slice(0, made.N_OWN)


@pytest.fixture(scope="module")
def model():
    return made.word_model(WORDS[: len(PROPERTIES)], PROPERTIES, 0, multiply=True)


def texts(a: int, b: int, n: int = 12) -> list[str]:
    """Texts with one word of each property, a and b in −1 and 1, elsewhere equal whatever a and b are."""
    rng = np.random.default_rng(0)
    words = rng.integers(N_WORDS, size=(n, made.N_TOKENS))
    words[:, 1] = N_WORDS + (a > 0)
    words[:, 4] = N_WORDS + 2 + (b > 0)
    return [" ".join(WORDS[w] for w in row) for row in words]


def read(model, a: int, b: int, sites: str = "embed resid_post.*") -> dict[str, np.ndarray]:
    return dict(made._read(model, texts(a, b), sites, "last"))


def test_a_property_of_an_earlier_word_is_at_the_last_position_from_the_copying_block_on(model) -> None:
    low, high = read(model, -1, 1), read(model, 1, 1)
    for site in ("embed", "resid_post.0", "resid_post.1"):
        np.testing.assert_array_equal(low[site][:, OWN], high[site][:, OWN])
    for layer in (2, 3):
        step = high[f"resid_post.{layer}"][:, OWN] - low[f"resid_post.{layer}"][:, OWN]
        assert (step[:, made.COPY_A] > made._STRENGTH).all()
        np.testing.assert_allclose(step[:, [made.A, made.B]], 0, atol=1e-6)


def test_the_mlp_multiplies_the_two_copies_exactly(model) -> None:
    for a, b in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        found = read(model, a, b, f"resid_mid.{made.MLP_LAYER} resid_post.{made.MLP_LAYER}")
        before, after = found[f"resid_mid.{made.MLP_LAYER}"], found[f"resid_post.{made.MLP_LAYER}"]
        scale = np.sqrt(np.mean(np.square(before), axis=1) + 1e-6)
        product = before[:, made.COPY_A] * before[:, made.COPY_B] / np.square(scale)
        np.testing.assert_allclose(after[:, made.PRODUCT] - before[:, made.PRODUCT], product, rtol=1e-4, atol=1e-4)


def test_without_multiplying_the_product_is_nowhere() -> None:
    plain = made.word_model(WORDS[: len(PROPERTIES)], PROPERTIES, 0)
    found = read(plain, 1, 1)
    np.testing.assert_allclose(found["resid_post.3"][:, made.PRODUCT], found["embed"][:, made.PRODUCT], atol=1e-6)


def test_weights_are_those_of_the_seed() -> None:
    one, again, other = (read(made.word_model(WORDS[: len(PROPERTIES)], PROPERTIES, s), 1, 1) for s in (0, 0, 1))
    np.testing.assert_array_equal(one["resid_post.3"], again["resid_post.3"])
    assert not np.allclose(one["resid_post.3"], other["resid_post.3"])


def test_no_word_of_the_copied_concept_stands_in_two_texts() -> None:
    planted = made.copied_concept(0, n=60)
    neutral = set(WORDS[: made._N_NEUTRAL])
    marked = [[w for w in text.split() if w not in neutral] for text in planted.labels.texts]
    assert all(len(words) == 1 for words in marked)
    assert len({words[0] for words in marked}) == 60
    assert all(text.split()[-1] in neutral for text in planted.labels.texts)


@pytest.mark.parametrize("case", [case for case in CASES if case.name.startswith("model:")], ids=lambda case: case.name)
def test_each_is_judged_right(case) -> None:
    judged = judge(case.make(1), n_permutations=99, n_bootstraps=100, seed=1)
    assert judged.right
    assert all(judged.right.values()), judged.sentences
