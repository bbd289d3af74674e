"""Patching maps on the real weights: where the number of a subject stands until the verb."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from leadline.causal.examples import Examples, prompts
from leadline.causal.patch_map import rank_correlation
from leadline.causal.patching import activation_patching, attribution_patching
from leadline.probes.probe import Probe
from leadline.sites import Site

pytestmark = pytest.mark.real

FILE = Path(__file__).parents[3] / "shared" / "data" / "agreement" / "nounpp_test.jsonl"
N_PAIRS = 8
SITES = "resid_post.0 resid_post.8 resid_post.16 resid_post.22 resid_post.29"


@pytest.fixture(scope="module")
def pairs(smollm2) -> tuple[Examples, list[str]]:
    """Subjects behind which another noun stands, asked for the verb of the counterfactual's number."""
    if not FILE.is_file():
        pytest.skip("the pairs of ../shared/data/agreement are not there")
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()[:N_PAIRS]]
    examples = prompts(
        smollm2,
        [row["clean_prefix"] for row in rows],
        positive=[[row["patch_answer"]] for row in rows],
        negative=[[row["clean_answer"]] for row in rows],
    )
    return examples, [row["patch_prefix"] for row in rows]


@pytest.fixture(scope="module")
def maps(smollm2, pairs):
    return [make(smollm2, *pairs, None, SITES) for make in (activation_patching, attribution_patching)]


def test_number_is_at_the_subject_first_and_at_the_last_token_in_the_end(maps) -> None:
    exact, _ = maps
    # Of the, subject, behind, the, noun.
    assert len(exact.tokens) == 5
    assert exact.total.estimate().low > 1
    assert exact.share[0, 1].value > 0.9
    assert exact.share[-1, -1].value == pytest.approx(1, abs=1e-3)
    assert np.abs(exact.share.value[-1, :-1]).max() < 1e-3
    assert np.abs(exact.share.value[0, 2:]).max() < 0.1
    assert (exact.values[:, :, 0] == 0).all()


def test_a_cell_is_what_one_edit_in_one_full_pass_does(smollm2, pairs, maps) -> None:
    examples, others = pairs
    exact, estimate = maps
    pair, site, token = 0, Site("resid_post", 16), 1
    i = int(exact.rows[pair])
    source = smollm2.read(torch.tensor([smollm2.encode([others[i]])[0]]), None, [site])[site]
    ids = torch.tensor([list(examples.rows[i].ids)])

    def put(_: Site, x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[:, token] = source[:, token]
        return x

    def odds() -> float:
        with torch.no_grad():
            logits = smollm2.module(input_ids=ids, use_cache=False).logits[0, -1].double()
        return float(logits[examples.positive[i][0][0]] - logits[examples.negative[i][0][0]])

    before = odds()
    with smollm2.editing([site], put):
        after = odds()
    assert exact.values[pair, exact.sites.index(site), token] == pytest.approx(after - before, abs=1e-3)
    for one in maps:
        assert one.clean[pair] == pytest.approx(before, abs=1e-3)
    np.testing.assert_allclose(estimate.counterfactual, exact.counterfactual, atol=1e-3)


def test_the_estimate_orders_cells_much_as_the_exact_map_does(maps) -> None:
    found = rank_correlation(*maps)
    assert found.of_means > 0.7
    assert found.by_pair.low > 0.4


def test_a_score_is_explained_as_well_and_exactly_where_it_is_linear(smollm2, pairs) -> None:
    examples, others = pairs
    coef = np.random.default_rng(3).standard_normal(smollm2.d_model)
    probe = Probe(Site("resid_post", 12), coef, 0.0, coef, "given", "binary", "y")
    sites = "mlp_out.12 resid_post.12 head_out.6.*"
    exact = activation_patching(smollm2, examples, others, probe, "mlp_out.12 resid_post.12")
    estimate = attribution_patching(smollm2, examples, others, probe, sites)
    assert len(estimate.sites) == 2 + smollm2.n_heads
    scale = np.abs(exact.values).max()
    np.testing.assert_allclose(estimate.values[:, -2:], exact.values, atol=1e-4 * scale)
    heads = estimate.values[:, : smollm2.n_heads].sum(axis=1)
    together = attribution_patching(smollm2, examples, others, probe, "attn_out.6").values[:, 0]
    # The estimate is linear, so heads add up to what attention adds.
    np.testing.assert_allclose(heads, together, atol=1e-4 * scale)
