"""The cost on neutral text equals whole passes over one text with one plan at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from causal_plans import Shifts, shift
from leadline.causal import cost
from leadline.causal.cost import perplexity_cost
from leadline.errors import CausalError
from leadline.models.perplexity import mean_nll

TEXTS = [
    "The city of Lima is in Peru.",
    "a probe",
    "one two three four five six seven",
    "The city of Paris is in France.",
    "The concept stream",
]
PLANS = [
    # Whatever they select elsewhere, here it is all tokens but the first.
    Shifts(shift("resid_post.1", "last@span:text", 1)),
    Shifts(),
    Shifts(shift("resid_post.0", "last", 2), shift("mlp_out.2", "all", 3)),
]


def one_by_one(model, text: str, plan: Shifts) -> tuple[float, float]:
    """Mean loss and mean KL from clean to edited, over the predicted tokens."""
    ids = torch.tensor([model.encode([text])[0]])
    positions = torch.arange(1, ids.shape[1])
    where = [(torch.zeros_like(positions), positions)] * len(plan.interventions)
    with torch.no_grad():
        clean = torch.log_softmax(model.module(input_ids=ids, use_cache=False).logits[0, :-1].double(), dim=-1)
        edited = clean
        if plan.sites:
            with model.editing(plan.sites, lambda site, x: plan.edit_checked(site, x, where, torch.tensor([0]))):
                logits = model.module(input_ids=ids, use_cache=False).logits[0, :-1]
            edited = torch.log_softmax(logits.double(), dim=-1)
    nll = -edited.gather(1, ids[0, 1:, None]).mean()
    return float(nll), float((clean.exp() * (clean - edited)).sum(dim=-1).mean())


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("small", [False, True])
def test_the_cost_equals_one_text_at_a_time(tiny_model, monkeypatch, family, small) -> None:
    if small:
        monkeypatch.setattr(cost, "_LOGITS", 3 * 384)
        monkeypatch.setattr(cost, "_KEPT", 0)
    model = tiny_model(family)
    found = perplexity_cost(model, PLANS, TEXTS, batch_tokens=20 if small else 4096)
    expected = np.array([[one_by_one(model, text, plan) for text in TEXTS] for plan in PLANS])
    np.testing.assert_allclose(found.nll, expected[..., 0], atol=1e-4)
    np.testing.assert_allclose(found.token_kl, expected[..., 1], atol=1e-5)
    np.testing.assert_allclose(found.clean_nll, mean_nll(model, TEXTS), rtol=1e-5)
    weights = found.n_tokens / found.n_tokens.sum()
    np.testing.assert_allclose(found.change.value, (expected[..., 0] - expected[1, :, 0]) @ weights, atol=1e-4)
    np.testing.assert_allclose(found.kl.value, expected[..., 1] @ weights, atol=1e-5)
    np.testing.assert_array_equal([found.change.value[1], found.kl.value[1]], 0)
    assert (found.kl.value[[0, 2]] > 1e-3).all()
    assert (found.change.low < found.change.value)[[0, 2]].all()
    ratio = found.perplexity_ratio
    assert ratio[0].low < ratio[0].value < ratio[0].high
    assert ratio[0].value == pytest.approx(np.exp(found.change.value[0]))


def test_what_has_no_cost_is_refused(tiny_model) -> None:
    model = tiny_model()
    with pytest.raises(CausalError, match="row by row"):
        perplexity_cost(model, [Shifts(shift("resid_post.1", "last", 1, rows=5))], TEXTS)
    with pytest.raises(CausalError, match="one token: row 1"):
        perplexity_cost(model, PLANS, [TEXTS[0], "a"])
    with pytest.raises(CausalError, match="encoder"):
        perplexity_cost(tiny_model("bert"), PLANS, TEXTS)
