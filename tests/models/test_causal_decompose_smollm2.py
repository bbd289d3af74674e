"""The decomposition on the real weights: a truth direction of cities, its components, and their ablation."""

from __future__ import annotations

import numpy as np
import pytest

from leadline.causal.components import check_components
from leadline.causal.decompose import decompose
from leadline.causal.overlap import head_overlap
from leadline.causal.unembedding import logit_lens, read_direction
from leadline.data import load_dataset
from leadline.probes.probe import Probe

pytestmark = pytest.mark.real

SITE = "resid_post.14"
N_TRAIN = 160


@pytest.fixture(scope="module")
def cities(smollm2):
    """Statements, their truth, their groups, and a direction that tells them apart, by ridge on the first rows."""
    data = load_dataset("city-facts").sample(240, seed=1)
    y = np.asarray(data.target("label").values, dtype=np.float64).ravel()
    X = smollm2.activations_of(data.texts, SITE, "last").astype(np.float64)
    train = np.arange(N_TRAIN)
    centred = X[train] - X[train].mean(axis=0)
    scale = centred.std(axis=0)
    Z = centred / scale
    dual = np.linalg.solve(Z @ Z.T + 100 * np.eye(N_TRAIN), y[train] - y[train].mean())
    coef = Z.T @ dual / scale
    held = np.arange(N_TRAIN, len(y))
    probe = Probe(
        site=smollm2.sites([SITE])[0],
        coef=coef,
        intercept=-float(X[train].mean(axis=0) @ coef),
        pattern=centred.T @ (centred @ coef),
        family="ridge",
        kind="binary",
        target="label",
    )
    return [data.texts[i] for i in held], y[held], np.asarray(data.groups)[held], X[held], probe


def test_the_score_is_the_sum_of_its_terms_in_one_pass(smollm2, cities):
    texts, y, groups, X, probe = cities
    passes = []
    with smollm2.reading(smollm2.sites(["embed"]), lambda site, x: passes.append(len(x))):
        found = decompose(smollm2, texts, probe, y=y, groups=groups)
    # Embedding, nine heads and an MLP for each of fifteen blocks.
    assert len(found.names) == 1 + 15 * (9 + 1)
    assert found.error.max() < 1e-5
    assert sum(passes) == len(texts)
    np.testing.assert_allclose(found.scores, X @ probe.coef + probe.intercept, rtol=1e-3, atol=1e-4)
    assert found.shares.sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("site", ["final_norm", "resid_mid.20", "attn_out.9"])
def test_other_sites_add_up_too_and_heads_are_what_their_sites_hold(smollm2, cities, site):
    texts = cities[0][:12]
    vector = np.random.default_rng(1).standard_normal(smollm2.d_model)
    found = decompose(smollm2, texts, vector, "mean", site=site)
    assert found.error.max() < 1e-5
    if site != "final_norm":
        held = smollm2.activations_of(texts, "head_out.9.4", "mean").astype(np.float64) @ vector
        term = found.terms[:, found.names.index("head 9.4")]
        np.testing.assert_allclose(term, held, rtol=1e-3, atol=1e-4 * np.abs(held).max())


def test_the_named_components_take_the_difference_with_them(smollm2, cities):
    texts, y, groups, X, probe = cities
    scores = X @ probe.coef
    assert (scores[y == 1][:, None] > scores[y == 0]).mean() > 0.75
    found = decompose(smollm2, texts, probe, y=y, groups=groups)
    check = check_components(smollm2, texts, found, probe, n_random=24)
    assert check.share > 0.6
    assert check.kept.low > 0.5
    assert check.p == check.smallest_p == 1 / 25
    assert check.verdict().verdict == "supported"
    # What the last block's MLP writes goes nowhere else.
    if "mlp 14" in check.names:
        at = check.names.index("mlp 14")
        assert check.measured.value[at] == pytest.approx(check.predicted.value[at], rel=1e-3)


def test_directions_and_streams_in_the_models_words(smollm2, cities):
    texts, _, _, _, probe = cities
    capital = smollm2.tokenizer(" France", add_special_tokens=False)["input_ids"][0]
    norm, head = smollm2.module.model.norm.weight, smollm2.module.lm_head.weight
    own = ((head[capital] - head.mean(0)) * norm).detach().double().numpy()
    found = read_direction(smollm2, own, k=3, n_random=19)
    assert found.top[0].text == " France"
    assert found.p_top == pytest.approx(1 / 20)
    lens = logit_lens(smollm2, texts[:3], "resid_post.10 resid_post.29 final_norm", k=2)
    assert lens.kl[:, 1:].max() < 1e-5 < lens.kl[:, 0].min()
    overlap = head_overlap(smollm2, probe, n_random=99)
    assert len(overlap.sites) == 15 * 9
    assert overlap.table["share"][0] > 64 / 576
