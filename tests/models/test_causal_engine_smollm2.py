"""The batched job on SmolLM2 equals one prompt at a time, and computes what it says it does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from causal_plans import Shifts, shift
from leadline.causal.engine import run_plans
from leadline.causal.examples import prompts
from leadline.models.partial import can_start_at
from leadline.models.perplexity import has_plain_head
from leadline.probes.probe import Probe
from leadline.sites import Site

pytestmark = pytest.mark.real

TEXTS = ["The city of Lima is in Peru.", "The city of Oslo is in Italy.", "The city of Manchester is in the UK."]


def test_the_batched_job_equals_one_prompt_at_a_time(smollm2) -> None:
    model, d = smollm2, smollm2.d_model
    examples = prompts(
        model, TEXTS, template="{text} This statement is", positive=(" true",), negative=(" false", " not true")
    )
    assert [len(answer) for answer in examples.negative[0]] == [1, 2]
    plans = [
        Shifts(shift("resid_post.15", "last@span:text", 1, d=d)),
        Shifts(shift("resid_post.3", "all", 2, d=d), shift("mlp_out.20", "last", 3, d=d)),
        Shifts(shift("resid_post.29", "last", 4, d=d)),
    ]
    coef = np.random.default_rng(5).normal(size=d)
    reader = Probe(Site.parse("resid_post.24"), coef, 0.0, coef, "given", "binary", "y")
    got = run_plans(model, examples, plans, readings={"r": reader})
    assert has_plain_head(model)
    assert model.can_share_prefixes
    assert all(can_start_at(model, start) for start in (4, 16, 30))
    for v, plan in enumerate(plans):
        for i, row in enumerate(examples.rows):
            where = [
                (torch.zeros(len(at), dtype=torch.long), torch.from_numpy(at))
                for at in plan.positions(row, examples.span(i))
            ]
            sums, seen = [], {}

            def keep(site: Site, x: torch.Tensor, seen=seen) -> torch.Tensor:
                seen["x"] = x.clone()
                return x

            for answer in (*examples.positive[i], *examples.negative[i]):
                with (
                    torch.no_grad(),
                    model.editing(plan.sites, lambda s, x, p=plan, w=where: p.edit_checked(s, x, w, torch.tensor([0]))),
                    model.editing([reader.site], keep),
                ):
                    logits = model.module(input_ids=torch.tensor([[*row.ids, *answer]]), use_cache=False).logits[0]
                log_p = torch.log_softmax(logits.double(), dim=-1)
                sums.append(sum(float(log_p[row.length - 1 + k, token]) for k, token in enumerate(answer)))
            expected = sums[0] - np.logaddexp(sums[1], sums[2])
            assert got.logit_difference[v, i] == pytest.approx(expected, abs=1e-3)
            h = seen["x"][0, row.length - 1].double().numpy()
            assert got.readings["r"][v, i] == pytest.approx(h @ coef, abs=1e-4 * float(np.linalg.norm(h)) * d**0.5)
    assert (got.kl.max(axis=1) > 1e-3).all()
    assert not any("forward" in block.__dict__ for block in model.part.blocks)
