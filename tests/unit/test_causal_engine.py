"""Every plan on every example in one batched job equals one plan on one prompt at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from causal_plans import Shifts, shift
from leadline.activations.tokens import Selection
from leadline.causal import outcomes, passes, schedule
from leadline.causal.engine import run_plans
from leadline.causal.examples import prompts
from leadline.causal.generation import intervene
from leadline.causal.interventions import Ablate, Add, Clamp, Patch
from leadline.causal.plan import Plan
from leadline.errors import CausalError
from leadline.models.partial import can_start_at
from leadline.models.perplexity import has_plain_head
from leadline.probes.probe import Probe
from leadline.sites import Site

TEXTS = [
    "The city of Lima is in Peru.",
    "a probe",
    "one two three four five six seven",
    "The city of Paris is in France.",
    "The concept stream",
    "one two ten",
    "The city of Lima is in France.",
]
TEMPLATE = "A text: {text} Is it in"


def many_plans(n: int, kinds: tuple[str, ...] | None = None) -> list[Shifts]:
    """Last token, all tokens, spans, several sites and tokens, one that depends on the row, and none.

    Of `kinds`, which a model has; the rest are left out.
    """
    plans = [
        Shifts(shift("resid_post.1", "last", 1)),
        Shifts(shift("resid_post.0", "all", 2)),
        Shifts(shift("resid_pre.1", "last@span:text", 3)),
        Shifts(),
        Shifts(shift("resid_post.1", "all@span:text", 4), shift("mlp_out.2", "last", 5)),
        Shifts(shift("attn_out.1", "-3:", 6, rows=n), shift("attn_out.1", "last", 7)),
        Shifts(shift("resid_post.2", "last", 8, rows=n)),
        Shifts(shift("head_out.1.1", "1:", 9), shift("embed", "first", 10)),
        Shifts(shift("final_norm", "last", 11)),
        Shifts(shift("resid_post.1", "last", 12)),
        Shifts(shift("resid_mid.1", "-2", 13)),
    ]
    return [plan for plan in plans if kinds is None or all(site.kind in kinds for site in plan.sites)]


def probe(site: str, tokens: str, seed: int, d: int = 32) -> Probe:
    coef = np.random.default_rng(seed).normal(size=d)
    return Probe(Site.parse(site), coef, 0.3, coef / np.linalg.norm(coef), "given", "binary", "y", tokens=tokens)


READINGS = {
    "after": probe("resid_post.2", "last", 20),
    "at": probe("resid_post.1", "last@span:text", 21),
    "before": probe("resid_post.0", "mean", 22),
    "normed": probe("final_norm", "max@-2:", 23),
}


def one_by_one(model: Any, examples: Any, plans: Sequence[Any], readings: dict[str, Probe]) -> dict[str, np.ndarray]:
    """Whole passes of the model's own call, one plan, one prompt and one answer at a time."""
    shape = (len(plans), len(examples))
    found = {key: np.zeros(shape) for key in ("ld", "p", "q", "kl", *readings)}
    for v, plan in enumerate(bound.bind(model) for bound in plans):
        for i, row in enumerate(examples.rows):
            where = [
                (torch.zeros(len(at), dtype=torch.long), torch.from_numpy(at))
                for at in plan.positions(row, examples.span(i))
            ]

            def edit(site: Site, x: torch.Tensor, plan=plan, where=where, i=i) -> torch.Tensor:
                return plan.edit_checked(site, x, where, torch.tensor([i]))

            def passed(ids: list[int], plan=plan, edit=edit) -> torch.Tensor:
                if not plan.sites:
                    with torch.no_grad():
                        return model.module(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double()
                with torch.no_grad(), model.editing(plan.sites, edit):
                    return model.module(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double()

            prompt = list(row.ids)
            p = torch.log_softmax(passed(prompt)[-1], dim=-1)
            with torch.no_grad():
                clean = torch.log_softmax(
                    model.module(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1].double(), dim=-1
                )
            found["kl"][v, i] = float((clean.exp() * (clean - p)).sum())
            sides = []
            for side in (examples.positive[i], examples.negative[i]):
                sums = []
                for answer in side:
                    log_p = torch.log_softmax(passed([*prompt, *answer]), dim=-1)
                    sums.append(sum(float(log_p[len(prompt) - 1 + k, token]) for k, token in enumerate(answer)))
                sides.append(float(np.logaddexp.reduce(sums)))
            found["ld"][v, i] = sides[0] - sides[1]
            found["p"][v, i], found["q"][v, i] = np.exp(sides)
            for name, reader in readings.items():
                selection = Selection.parse(reader.tokens)
                at = selection.positions(row, examples.span(i) if selection.span else None)
                seen = {}
                sites = plan.sites or (reader.site,)
                with (
                    model.editing(sites, edit if plan.sites else lambda site, x: x),
                    model.reading([reader.site], lambda site, x, seen=seen: seen.update(x=x[0].clone())),
                ):
                    model.forward(torch.tensor([prompt]))
                h = seen["x"][torch.from_numpy(at)].double().numpy()
                pooled = {"last": h[-1], "mean": h.mean(0), "max": h.max(0)}[selection.pool]
                found[name][v, i] = pooled @ reader.coef + reader.intercept
    return found


# Selections of tokens in or behind the text.
LATE = ("last", "last@span:text", "all@span:text", "-3:", "-2")


def assert_equal(
    model: Any,
    examples: Any,
    plans: Sequence[Any],
    *,
    fast: bool = True,
    readings: dict[str, Probe] | None = None,
    **options: Any,
) -> None:
    readings = READINGS if readings is None else readings
    got = run_plans(model, examples, plans, readings=readings, **options)
    expected = one_by_one(model, examples, plans, readings)
    found = {"ld": got.logit_difference, "p": got.p_positive, "q": got.p_negative, "kl": got.kl, **got.readings}
    for key, value in expected.items():
        scale = max(1.0, float(np.abs(value).max()))
        np.testing.assert_allclose(found[key], value, atol=1e-4 * scale, rtol=0, err_msg=key)
    edited = [v for v, plan in enumerate(plans) if plan.interventions]
    # Every plan does something, so that nothing above is equal by being untouched.
    assert (got.kl[edited].max(axis=1) > 1e-5).all()
    # None of this was done by falling back on something slower.
    if fast:
        assert has_plain_head(model)
        assert model.can_share_prefixes
        assert all(can_start_at(model, start) for start in range(1, model.n_layers + 1))
    # What the plan without interventions gives are the clean outcomes.
    clean = got.clean
    assert clean is not None
    for v, plan in enumerate(plans):
        if not plan.interventions:
            np.testing.assert_array_equal(got.logit_difference[v], clean.logit_difference[0])
            np.testing.assert_array_equal(got.kl[v], 0)
    assert not any(module.__dict__.get("forward") for module in model.part.blocks)


def examples_of(model: Any, answers: str = "single") -> Any:
    sides: dict[str, Any] = {
        "single": {"positive": (" Peru", " the"), "negative": (" France",)},
        "several": {"positive": (" Peru. The city", " probe"), "negative": (" Peru. The probe", " Pe", " ten nine")},
        "by row": {
            "positive": [(" Peru. The city",) if i % 2 else (" ten", " stream") for i in range(len(TEXTS))],
            "negative": [(" five", " ten five", " one two") if i % 3 else (" France",) for i in range(len(TEXTS))],
        },
    }[answers]
    return prompts(model, TEXTS, template=TEMPLATE, **sides)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma2", "mamba", "opt"])
def test_one_batched_job_equals_one_prompt_at_a_time(tiny_model, family) -> None:
    model = tiny_model(family)
    assert_equal(model, examples_of(model), many_plans(len(TEXTS), model.kinds), fast=family not in ("opt", "mamba"))


@pytest.mark.parametrize("answers", ["several", "by row"])
def test_answers_of_several_tokens_are_read_token_by_token(tiny_model, answers) -> None:
    model = tiny_model()
    examples = examples_of(model, answers)
    assert max(len(a) for side in (examples.positive, examples.negative) for row in side for a in row) > 2
    assert_equal(model, examples, many_plans(len(TEXTS)))


def real_plans(model: Any, examples: Any) -> list[Plan]:
    """Plans of the library: doses, raw and by row, ablations, clamps, interchange with a row's partner, and several."""
    rng, n, d = np.random.default_rng(31), len(examples), model.d_model
    site = "resid_post.1"
    reader = probe(site, "last", 32)
    v, mean = rng.normal(size=d), 10 * rng.normal(size=d)
    partner = (np.arange(n) + 1) % n
    h = [model.read(torch.tensor([list(row.ids)]), None, model.sites(site)) for row in examples.rows]
    streams = [own[Site.parse(site)][0].numpy() for own in h]
    last = np.array([streams[i][-1] for i in partner])
    spans = [
        rng.normal(size=(len(Selection.parse("all@span:text").positions(row, examples.span(i))), d))
        for i, row in enumerate(examples.rows)
    ]
    return [
        Plan(Add(reader, 0.5, tokens="last")),
        Plan(Add(v, rng.normal(size=n), site="resid_post.0", tokens="1:", unit="raw")),
        Plan(Ablate(reader, to="mean", mean=mean, tokens="last@span:text")),
        Plan(Ablate(np.stack([v, mean]), site="attn_out.2")),
        Plan(Clamp(reader, rng.normal(size=n) * 3, tokens="last")),
        Plan(Patch(last, site=site)),
        Plan(Patch(spans, np.stack([v, mean]), site=site, tokens="all@span:text")),
        Plan(),
        Plan(Patch(last, reader), Add(reader, -0.3, tokens="all@span:text"), Add(v, 1.0, site="mlp_out.2")),
    ]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("batch_tokens", [50, 4096])
def test_interventions_of_the_library_mix_in_one_job(tiny_model, family, batch_tokens) -> None:
    model = tiny_model(family)
    examples = examples_of(model, "several")
    plans = real_plans(model, examples)
    assert_equal(model, examples, plans, batch_tokens=batch_tokens)
    got = run_plans(model, examples, plans, readings={"r": probe("resid_post.1", "last", 32)})
    # A clamped reading is what it was clamped to.
    np.testing.assert_allclose(got.readings["r"][4], plans[4].interventions[0].score, atol=1e-4)


@pytest.mark.parametrize("tokens", ["last", "all", "1:", "last@span:text"])
def test_it_does_what_the_context_manager_does(tiny_model, tokens) -> None:
    model = tiny_model()
    examples = examples_of(model)
    steer = Add(probe("resid_post.1", "last", 32), 0.7, tokens=tokens)
    other = Ablate(np.random.default_rng(33).normal(size=32), site="attn_out.2", tokens="last")
    got = run_plans(model, examples, [Plan(steer, other)])
    for i, row in enumerate(examples.rows):
        # The text is found by its own characters here.
        inputs = [row]
        one = steer
        if "span" in tokens:
            one = replace(steer, tokens=f"last@regex:{re.escape(TEXTS[i])}")
        with intervene(model, one, other, inputs=inputs), torch.no_grad():
            logits = model.module(input_ids=torch.tensor([list(row.ids)])).logits[0, -1].double()
        p, q = (torch.logsumexp(logits[[a[0] for a in side[i]]], 0) for side in (examples.positive, examples.negative))
        assert got.logit_difference[0, i] == pytest.approx(float(p - q), abs=1e-4)


def test_a_whole_site_exchanged_gives_the_other_row_s_answer(tiny_model) -> None:
    """At the last token of the last block nothing but that activation decides the answer."""
    model = tiny_model()
    examples = examples_of(model)
    other = np.roll(np.arange(len(TEXTS)), 1)
    sources = [examples.rows[i].text for i in other]
    patch = Patch.from_inputs(model, sources, site="resid_post.2", tokens="last")
    got = run_plans(model, examples, [Plan(patch)])
    np.testing.assert_allclose(got.logit_difference[0], got.clean.logit_difference[0, other], atol=1e-4)
    assert np.abs(got.change).max() > 1e-2


def test_small_batches_change_nothing(tiny_model, monkeypatch) -> None:
    model = tiny_model()
    monkeypatch.setattr(outcomes, "_LOGITS", 3 * 384)
    assert_equal(model, examples_of(model, "several"), many_plans(len(TEXTS)), batch_tokens=30)
    monkeypatch.setattr(passes, "_BATCH_BYTES", 1)
    monkeypatch.setattr(passes, "_CLEAN_LOGITS", 384 * 2)
    monkeypatch.setattr(schedule, "_PASS_TOKENS", 0)
    assert_equal(model, examples_of(model), many_plans(len(TEXTS)))


@pytest.mark.parametrize("lacking", ["caches", "starts", "both", "cut", "head"])
def test_what_a_model_lacks_is_done_without(tiny_model, monkeypatch, lacking) -> None:
    model = tiny_model("gpt2")
    if lacking in ("caches", "both"):
        model.__dict__["can_share_prefixes"] = False
    if lacking in ("starts", "both"):
        monkeypatch.setattr(passes, "can_start_at", lambda model, start: not start)
    if lacking == "cut":
        monkeypatch.setattr("leadline.models.prefix.Prefix.can_cut", False)
    if lacking == "head":
        model.__dict__["_plain_head"] = False
    assert_equal(model, examples_of(model, "several"), many_plans(len(TEXTS)), fast=False)


def test_a_sliding_window_shorter_than_the_prompts(tiny_model) -> None:
    model = tiny_model("gemma2", sliding_window=4)
    assert_equal(model, examples_of(model), many_plans(len(TEXTS)))


def test_what_comes_before_the_first_edit_is_computed_once(tiny_model, monkeypatch) -> None:
    model = tiny_model()
    examples = examples_of(model)
    tokens = []
    forward = type(model.part.blocks[2]).forward

    def counted(self, hidden_states, *args, **kwargs):
        tokens.append((self.self_attn.layer_idx, hidden_states.shape[0] * hidden_states.shape[1]))
        return forward(self, hidden_states, *args, **kwargs)

    plans = [Shifts(shift("resid_post.1", "last", seed)) for seed in range(5)]
    run_plans(model, examples, plans)
    monkeypatch.setattr(type(model.part.blocks[2]), "forward", counted)
    monkeypatch.setattr(schedule, "_PASS_TOKENS", 0)
    run_plans(model, examples, plans)
    # The beginning of the template once, then what follows it.
    ids = np.array([list(row.ids[:8]) for row in examples.rows])
    begins = int(np.argmin((ids == ids[0]).all(axis=0)))
    assert begins > 3
    width = max(row.length for row in examples.rows) - begins
    by_layer = {layer: sum(n for at, n in tokens if at == layer) for layer in range(3)}
    # The clean pass goes through every block; the five plans' through the last alone, a token a row.
    clean = begins + len(TEXTS) * width
    assert by_layer == {0: clean, 1: clean, 2: clean + 5 * len(TEXTS)}


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_examples_given_before_every_text_are_computed_once(tiny_model, monkeypatch, family) -> None:
    model = tiny_model(family)
    monkeypatch.setattr(schedule, "_PASS_TOKENS", 20)
    given = "The city of Paris is in France. yes The city of Lima is in France. no "
    examples = prompts(
        model, TEXTS, template=given + "{text} Is it in", positive=(" Peru", " Peru. The"), negative=(" France",)
    )
    plans = [plan for plan in many_plans(len(TEXTS)) if all(one.tokens in LATE for one in plan.interventions)]
    assert len(plans) > 5
    readings = {name: reader for name, reader in READINGS.items() if name != "before"}
    widths = []
    whole_pass = passes.whole_pass

    def counted(*args, **kwargs):
        whole = whole_pass(*args, **kwargs)
        widths.append((kwargs["begins"], whole.ids.shape[1]))
        return whole

    monkeypatch.setattr(passes, "whole_pass", counted)
    assert_equal(model, examples, plans, readings=readings)
    begins, width = widths[0]
    assert begins > 15
    longest = max(len(answer) for side in examples.positive for answer in side)
    assert begins + width == max(len(row.ids) for row in examples.rows) + longest - 1
    # An edit or a reading of the given examples needs them in every row.
    widths.clear()
    assert_equal(model, examples, [*plans, Shifts(shift("resid_post.1", "all", 2))])
    assert widths[0][0] == 0


def test_readings_without_answers_end_at_the_last_of_them(tiny_model, monkeypatch) -> None:
    model = tiny_model()
    examples = prompts(model, TEXTS, template=TEMPLATE, positive=(), negative=())
    plans = many_plans(len(TEXTS))
    readings = {name: READINGS[name] for name in ("at", "before")}
    # What the model can do is tried out in whole passes, once.
    run_plans(model, examples, plans, readings=readings)
    monkeypatch.setattr(model.part.blocks[2], "forward", lambda *_, **__: pytest.fail("block 2 was run"))
    got = run_plans(model, examples, plans, readings=readings)
    monkeypatch.undo()
    expected = one_by_one(model, examples_of(model), plans, readings)
    for name in readings:
        np.testing.assert_allclose(got.readings[name], expected[name], atol=1e-4)
    assert np.isnan(got.logit_difference).all()
    assert np.isnan(got.kl).all()


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_encoders_are_read_under_padding(tiny_model, family) -> None:
    model = tiny_model(family)
    examples = prompts(model, TEXTS, template=TEMPLATE, positive=(), negative=())
    plans = [
        Shifts(shift("resid_post.1", "last", 1)),
        Shifts(),
        Shifts(shift("resid_post.0", "all@span:text", 2), shift("mlp_out.2", "first", 3)),
    ]
    readings = {name: READINGS[name] for name in ("after", "at", "before")}
    got = run_plans(model, examples, plans, readings=readings)
    for name, reader in readings.items():
        selection = Selection.parse(reader.tokens)
        for v, plan in enumerate(plans):
            for i, row in enumerate(examples.rows):
                where = [
                    (torch.zeros(len(at), dtype=torch.long), torch.from_numpy(at))
                    for at in plan.positions(row, examples.span(i))
                ]
                seen = {}
                with (
                    model.editing(
                        plan.sites or ["embed"],
                        lambda s, x, p=plan, w=where: p.edit_checked(s, x, w, torch.tensor([0])),
                    ),
                    model.reading([reader.site], lambda site, x, seen=seen: seen.update(x=x[0].clone())),
                ):
                    model.forward(torch.tensor([list(row.ids)]))
                at = selection.positions(row, examples.span(i) if selection.span else None)
                h = seen["x"][torch.from_numpy(at)].double().numpy()
                score = (h[-1] if selection.pool == "last" else h.mean(0)) @ reader.coef + reader.intercept
                assert got.readings[name][v, i] == pytest.approx(score, abs=2e-4)
    assert np.abs(got.readings["after"][[0, 2]] - got.readings["after"][1]).min() > 1e-3


def test_norms_are_of_the_clean_activations_at_the_edited_tokens(tiny_model) -> None:
    model = tiny_model()
    examples = examples_of(model)
    got = run_plans(model, examples, many_plans(len(TEXTS)))
    h = model.read(torch.tensor([examples.rows[0].ids]), None, model.sites("resid_post.0"))
    expected = h[Site.parse("resid_post.0")][0].norm(dim=-1).mean()
    assert got.norms[1, 0] == pytest.approx(float(expected), rel=1e-5)
    assert np.isnan(got.norms[3]).all()
    assert np.isfinite(np.delete(got.norms, 3, axis=0)).all()


def test_what_cannot_be_asked_is_refused(tiny_model) -> None:
    model = tiny_model()
    examples = examples_of(model)
    plan = Shifts(shift("resid_post.1", "last", 1))
    with pytest.raises(CausalError, match="not generated"):
        run_plans(model, examples, [Plan(Add(np.ones(32), 1.0, site="resid_post.1", tokens="generated"))])
    with pytest.raises(CausalError, match="values for 3 rows, but runs on 7"):
        run_plans(model, examples, [Plan(Patch(np.ones((3, 32)), site="resid_post.1"))])
    with pytest.raises(CausalError, match="no plans"):
        run_plans(model, examples, [])
    with pytest.raises(CausalError, match="span 'other'"):
        run_plans(model, examples, [Shifts(shift("resid_post.1", "last@span:other", 1))])
    with pytest.raises(CausalError, match=r"row 1: .*found no token"):
        run_plans(model, examples, [Shifts(shift("resid_post.1", "regex:city|three|concept|ten", 1))])
    with pytest.raises(CausalError, match="nothing would be measured"):
        run_plans(model, prompts(model, TEXTS, positive=(), negative=()), [plan])
    with pytest.raises(CausalError, match="keeps every token"):
        run_plans(model, examples, [plan], readings={"r": probe("resid_post.1", "all", 1)})
    with pytest.raises(CausalError, match="attention patterns"):
        run_plans(model, examples, [plan], readings={"r": probe("attn_pattern.1", "last", 1, d=16)})
