"""Ablating the named components: a planted head, brute force over passes, random sets, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from leadline.causal.components import _random_sets, check_components
from leadline.causal.decompose import decompose
from leadline.causal.examples import prompts
from leadline.errors import CausalError
from leadline.models.model import Model
from leadline.probes.probe import Probe
from leadline.testing.planted_models import COPY_A, COPY_LAYER, D_MODEL, word_model

WORDS = [f"w{i}" for i in range(40)]
TEXTS = (
    "The city of Paris is in France.",
    "A probe reads a concept",
    "one two three four five six seven eight nine ten",
    "layer by layer",
    "The city of Lima is in Peru. one two",
    "six seven eight",
)
Y = np.array([1, 0, 1, 0, 1, 0.0])


def planted(seed: int, n: int = 40) -> tuple[Model, list[str], np.ndarray]:
    """Texts of seven neutral words and, among the first, one of the concept, which head 0 of block 2 copies."""
    rng = np.random.default_rng([seed, 9])
    properties = np.zeros((len(WORDS), 2))
    properties[:10, 0], properties[10:20, 0] = 1, -1
    y = (np.arange(n) % 2).astype(float)
    texts = []
    for label in y:
        words = rng.integers(20, 40, 8)
        # The same last word everywhere, so that its own embedding tells nothing.
        words[-1] = 20
        words[rng.integers(7)] = rng.integers(0, 10) if label else rng.integers(10, 20)
        texts.append(" ".join(WORDS[w] for w in words))
    return word_model(WORDS, properties, seed), texts, y


@pytest.mark.parametrize("seed", range(3))
def test_the_planted_head_is_named_and_takes_the_score_with_it(seed):
    model, texts, y = planted(seed)
    vector = np.zeros(D_MODEL)
    vector[COPY_A] = 1
    found = decompose(model, texts, vector, site="resid_post.3", y=y)
    assert found.named(share=0.8) == (f"head {COPY_LAYER}.0",)
    check = check_components(model, texts, found, vector)
    assert check.names == (f"head {COPY_LAYER}.0",)
    assert check.share == pytest.approx(1, abs=1e-3)
    assert check.kept.value == pytest.approx(1, abs=1e-3)
    assert check.measured_together.value == pytest.approx(check.total, rel=1e-3)
    # The seven other heads are all the sets that there are.
    assert len(check.null) == 7
    assert np.abs(check.null).max() < 1e-3 * check.total
    assert check.p == check.smallest_p == 1 / 8
    verdict = check.verdict()
    assert (verdict.claim, verdict.verdict) == ("where from", "inconclusive")
    named = check_components(model, texts, found, vector, components=[f"head {COPY_LAYER}.0", "head 1.0", "mlp 2"])
    assert named.verdict().verdict == "supported"
    assert named.p == 1 / (1 + len(named.null)) < 0.05
    lost = dict(zip(named.table["component"], named.table["measured"], strict=True))
    assert lost["head 1.0"] == pytest.approx(0, abs=1e-3 * check.total)


def test_a_component_that_writes_nothing_is_refuted_or_undecided():
    model, texts, y = planted(5)
    vector = np.zeros(D_MODEL)
    vector[COPY_A] = 1
    found = decompose(model, texts, vector, site="resid_post.3", y=y)
    check = check_components(model, texts, found, vector, components=["head 0.1"])
    assert check.p > 0.1
    assert abs(check.measured_together.value) < 1e-3 * abs(check.total)
    assert check.verdict().verdict != "supported"


@pytest.mark.parametrize(
    ("family", "site", "tokens"),
    [
        ("llama", "resid_post.2", "last"),
        ("gpt_neox", "resid_post.1", "mean@1:"),
        ("gemma2", "final_norm", "last"),
        ("bert", "resid_post.2", "first"),
    ],
)
def test_measured_is_what_passes_with_the_means_put_in_by_hand_lose(tiny_model, family, site, tokens):
    model = tiny_model(family)
    vector = np.random.default_rng(3).standard_normal(model.d_model)
    found = decompose(model, TEXTS, vector, tokens, site=site, y=Y)
    names = ("head 0.1", "mlp 0", "head 1.3", "mlp 1")
    check = check_components(model, TEXTS, found, vector, components=names, n_random=3)

    def score(ablated: tuple[str, ...]) -> np.ndarray:
        scores = []
        for row in model.encode_rows(TEXTS):
            at = {"last": [-1], "first": [0]}.get(tokens, list(range(1, row.length)))
            means = {found.component(name).site: torch.from_numpy(mean(name)).float() for name in ablated}

            def put(where, x, at=at, means=means):
                x = x.clone()
                x[:, at] = means[where]
                return x

            with model.editing(list(means), put):
                h = model.read_rows([row], [found.site])[found.site][0, at].double().mean(0)
            scores.append(float(h.numpy() @ vector))
        return np.array(scores)

    def mean(name: str) -> np.ndarray:
        where = found.component(name).site
        pooled = model.activations_of(TEXTS, where, tokens).astype(np.float64)
        return pooled.mean(axis=0)

    def difference(values: np.ndarray) -> float:
        return values[Y == 1].mean() - values[Y == 0].mean()

    clean = found.scores
    expected = [difference(clean - score((name,))) for name in names]
    scale = np.abs(clean).max()
    np.testing.assert_allclose(check.measured.value, expected, atol=2e-4 * scale)
    together = difference(clean - score(names))
    assert check.measured_together.value == pytest.approx(together, abs=2e-4 * scale)
    assert check.kept.value == pytest.approx(together / check.predicted_together.value, rel=1e-2, abs=1e-3)
    assert check.predicted_together.value == pytest.approx(check.predicted.value.sum())


def test_at_the_block_that_writes_measured_is_predicted(tiny_model):
    """Nothing stands between the last block's components and its end, so that bookkeeping is all there is."""
    model = tiny_model("gpt_neox")
    vector = np.random.default_rng(4).standard_normal(model.d_model)
    found = decompose(model, TEXTS, vector, site="resid_post.2", y=Y)
    check = check_components(model, TEXTS, found, vector, components=("head 2.0", "head 2.3", "mlp 2"), n_random=2)
    np.testing.assert_allclose(check.measured.value, check.predicted.value, rtol=1e-3, atol=1e-4 * abs(check.total))
    assert check.kept.value == pytest.approx(1, abs=1e-3)


def test_random_sets_are_others_of_the_same_kinds_each_once(tiny_model):
    model = tiny_model("llama")
    found = decompose(model, TEXTS, np.ones(model.d_model), site="resid_post.2", y=Y)
    names = ("head 0.0", "mlp 1", "head 2.1")
    sets = list(_random_sets(found, names, 50, 0))
    assert len({frozenset(one) for one in sets}) == 50
    for one in sets:
        assert [name.split()[0] for name in sorted(one)] == ["head", "head", "mlp"]
        assert not set(one) & set(names)
    assert sets == list(_random_sets(found, names, 50, 0)) != list(_random_sets(found, names, 50, 1))
    # Eleven other heads and two other MLPs: fewer sets than were asked for.
    assert len(list(_random_sets(found, ("head 0.0", "mlp 1"), 99, 0))) == 11 * 2
    # One other MLP for two: it, and one of the two.
    few = list(_random_sets(found, ("mlp 0", "mlp 2"), 99, 0))
    assert sorted(few) == [("mlp 1", "mlp 0"), ("mlp 1", "mlp 2")]
    assert not list(_random_sets(found, ("mlp 0", "mlp 1", "mlp 2"), 99, 0))


def test_examples_with_spans_are_ablated_where_they_are_read(tiny_model):
    model = tiny_model("llama")
    made = prompts(model, TEXTS, template="{text} Is this true?", positive=(), negative=(), y=Y)
    probe = Probe(
        site=model.sites(["resid_post.2"])[0],
        coef=np.random.default_rng(5).standard_normal(model.d_model),
        intercept=0.7,
        pattern=np.ones(model.d_model),
        family="x",
        kind="binary",
        target="t",
        tokens="last@span:text",
    )
    found = decompose(model, made, probe)
    check = check_components(model, made, found, probe, components=("mlp 2",), n_random=2)
    assert check.kept.value == pytest.approx(1, abs=1e-3)
    assert check.n_groups == len(TEXTS)


def test_what_does_not_go_together_says_so(tiny_model):
    model = tiny_model("llama")
    vector = np.ones(model.d_model)
    found = decompose(model, TEXTS, vector, site="resid_post.2", y=Y)
    with pytest.raises(CausalError, match="give the same rows"):
        check_components(model, TEXTS[:4], found, vector)
    with pytest.raises(CausalError, match="not those that were decomposed"):
        check_components(model, TEXTS[::-1], found, vector, components=("mlp 0",), n_random=2)
    with pytest.raises(CausalError, match="has no term"):
        check_components(model, TEXTS, found, vector, components=("mlp 9",))
    with pytest.raises(CausalError, match="cannot ablate"):
        check_components(model, TEXTS, found, vector, components=("embed",))
    with pytest.raises(CausalError, match="give y="):
        check_components(model, TEXTS, decompose(model, TEXTS, vector, site="resid_post.2"), vector)
