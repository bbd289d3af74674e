"""Interventions: their formulas, the tokens that they touch, composition, refusals, and that nothing is left behind."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch

from leadline.activations.tokens import Selection
from leadline.causal import (
    Ablate,
    Add,
    Clamp,
    Erase,
    Eraser,
    HelixSubspace,
    Patch,
    Plan,
    Rotate,
    generate,
    intervene,
    leace,
)
from leadline.errors import ActivationsError, CausalError, ProbeError, SiteError
from leadline.probes.probe import Probe
from leadline.sites import Site

D = 32
SITE = "resid_post.1"
FAMILIES = ["llama", "gpt2", "gpt_neox"]
TEXTS = ["The city of Paris is in France.", "one two three four", "A probe reads a concept from the stream, layer by"]


def vector(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=D)


def unit(seed: int = 0) -> np.ndarray:
    return vector(seed) / np.linalg.norm(vector(seed))


def probe(seed: int = 0, **options) -> Probe:
    options = {"site": Site.parse(SITE), "coef": vector(seed), "pattern": unit(seed + 1), "intercept": 0.7} | options
    return Probe(family="logistic", kind="binary", target="truth", **options)


def n_hooks(model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules())


def padded(model, texts: list[str], side: str) -> tuple[torch.Tensor, torch.Tensor]:
    rows = model.encode(texts)
    width = max(map(len, rows)) + 2
    ids, mask = torch.full((len(rows), width), 3), torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        at = slice(width - len(row), width) if side == "left" else slice(len(row))
        ids[i, at], mask[i, at] = torch.tensor(row), 1
    return ids, mask


def clean_and_edited(model, *interventions, site: str = SITE, side: str = "right", inputs=None):
    """(rows of clean, rows of edited) activations, float64, the real tokens of each text alone."""
    ids, mask = padded(model, TEXTS, side)
    found = []
    for own in ((), interventions):
        seen: dict[str, torch.Tensor] = {}
        with ExitStack() as stack:
            if own:
                stack.enter_context(intervene(model, *own, inputs=inputs))
            with model.reading([Site.parse(site)], lambda _, x, seen=seen: seen.update(x=x.clone())):
                model.forward(ids, mask)
        found.append([seen["x"][i, mask[i].bool()].double().numpy() for i in range(len(ids))])
    return found


# ---- what each does


def norms(h: np.ndarray) -> np.ndarray:
    return np.linalg.norm(h, axis=-1, keepdims=True)


def onto(h: np.ndarray, V: np.ndarray) -> np.ndarray:
    return h @ V.T @ V


SPAN = np.linalg.qr(np.stack([vector(5), vector(6), vector(7)]).T)[0].T
MEAN = vector(9)
W, B, U = vector(0), 0.7, unit(1)

FORMULAS = {
    "dose": (Add(vector(), 0.3, site=SITE), lambda h: h + 0.3 * norms(h) * unit()),
    "raw": (Add(vector(), -2.0, site=SITE, unit="raw"), lambda h: h - 2 * unit()),
    "the pattern by default": (Add(probe(), 0.3), lambda h: h + 0.3 * norms(h) * unit(1)),
    "the direction": (Add(probe(), 0.3, vector="direction"), lambda h: h + 0.3 * norms(h) * unit(0)),
    "to zero": (Ablate(vector(), site=SITE), lambda h: h - onto(h, unit()[None])),
    "to a value": (Ablate(vector(), to=1.5, site=SITE), lambda h: h - (h @ unit() - 1.5)[:, None] * unit()),
    "to the mean": (Ablate(probe(), to="mean", mean=MEAN), lambda h: h - onto(h - MEAN, unit()[None])),
    "a subspace": (
        Ablate(np.stack([vector(5), vector(6), vector(7), vector(5) + vector(6)]), site=SITE),
        lambda h: h - onto(h, SPAN),
    ),
    "a subspace to the mean": (
        Ablate(np.stack([vector(5), vector(6), vector(7)]), to="mean", mean=MEAN, site=SITE),
        lambda h: h - onto(h - MEAN, SPAN),
    ),
    "the whole site": (Ablate(site=SITE), lambda h: 0 * h),
    "the whole site to the mean": (Ablate(to="mean", mean=MEAN, site=SITE), lambda h: 0 * h + MEAN),
    "clamp along the pattern": (Clamp(probe(), 2.0), lambda h: h + ((2 - B - h @ W) / (W @ U))[:, None] * U),
    "clamp along the direction": (
        Clamp(probe(), 2.0, "direction"),
        lambda h: h + ((2 - B - h @ W) / (W @ W))[:, None] * W,
    ),
    "clamp a plain vector": (Clamp(vector(3), -1.0, site=SITE), lambda h: h + (-1 - h @ unit(3))[:, None] * unit(3)),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", FORMULAS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_each_does_what_its_formula_says(tiny_model, family, case, side) -> None:
    intervention, formula = FORMULAS[case]
    clean, edited = clean_and_edited(tiny_model(family), intervention, side=side)
    for h, new in zip(clean, edited, strict=True):
        np.testing.assert_allclose(new, formula(h), atol=2e-5)
        assert np.abs(new - h).max() > 1e-2


def test_a_dose_is_the_share_of_each_tokens_norm(tiny_model) -> None:
    clean, edited = clean_and_edited(tiny_model(), Add(probe(), 0.25))
    for h, new in zip(clean, edited, strict=True):
        np.testing.assert_allclose(np.linalg.norm(new - h, axis=1) / np.linalg.norm(h, axis=1), 0.25, rtol=1e-4)


def test_a_clamped_score_is_what_the_probe_then_reads(tiny_model) -> None:
    model = tiny_model()
    scores = np.array([-3.0, 0.0, 5.0])
    for along in ("pattern", "direction", vector(8)):
        _, edited = clean_and_edited(model, Clamp(probe(), scores, along))
        for row, score in zip(edited, scores, strict=True):
            np.testing.assert_allclose(probe().score(row), score, atol=1e-4)


def test_values_by_row_are_each_rows_own(tiny_model) -> None:
    strengths = np.array([0.1, 0.0, -0.4])
    for scale, how in ((norms, "dose"), (lambda h: 1.0, "raw")):
        clean, edited = clean_and_edited(tiny_model(), Add(vector(), strengths, site=SITE, unit=how, tokens="1:"))
        for h, new, strength in zip(clean, edited, strengths, strict=True):
            np.testing.assert_allclose(new[1:], (h + strength * scale(h) * unit())[1:], atol=1e-5)
            np.testing.assert_array_equal(new[0], h[0])


def test_erasers_and_helices_act_as_they_do_on_arrays(tiny_model) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, D))
    eraser = leace(X, (X[:, 0] + X[:, 1] > 0).astype(int)).at(SITE)
    a = np.arange(40.0)
    columns = np.stack([a, np.cos(2 * np.pi * a / 10), np.sin(2 * np.pi * a / 10)], axis=1)
    helix = HelixSubspace.fit(columns @ rng.normal(size=(3, D)), a, periods=(10,))
    steps = np.array([1.0, 2.0, -3.0])
    model = tiny_model()
    clean, edited = clean_and_edited(model, Erase(eraser))
    for h, new in zip(clean, edited, strict=True):
        np.testing.assert_allclose(new, eraser.apply(h), atol=1e-5)
        assert np.abs(new - h).max() > 1e-2
    for own in (3.0, steps):
        clean, edited = clean_and_edited(model, Rotate(helix, own, site=SITE, tokens="2:"))
        for i, (h, new) in enumerate(zip(clean, edited, strict=True)):
            by = own if isinstance(own, float) else own[i]
            np.testing.assert_allclose(new[2:], helix.rotate(h[2:], by), atol=1e-4)
            np.testing.assert_array_equal(new[:2], h[:2])
    clean, edited = clean_and_edited(model, Rotate(helix, to=7.0, current=steps, site=SITE))
    for h, new, current in zip(clean, edited, steps, strict=True):
        np.testing.assert_allclose(new, helix.rotate(h, to=7.0, current=current), atol=1e-4)


# ---- interchange


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_an_interchange_puts_the_others_activations_in(tiny_model, family, side) -> None:
    model = tiny_model(family)
    sources = TEXTS[1:] + TEXTS[:1]
    given = model.activations_of(sources, SITE).astype(np.float64)
    whole = Patch.from_inputs(model, sources, SITE)
    np.testing.assert_allclose(np.concatenate(whole.values), given, atol=1e-5)
    clean, edited = clean_and_edited(model, whole, side=side)
    for h, new, source in zip(clean, edited, given, strict=True):
        np.testing.assert_allclose(new[-1], source, atol=1e-5)
        np.testing.assert_array_equal(new[:-1], h[:-1])
    clean, edited = clean_and_edited(model, Patch(given, SPAN, site=SITE), side=side)
    for h, new, source in zip(clean, edited, given, strict=True):
        np.testing.assert_allclose(new[-1], h[-1] + onto(source - h[-1], SPAN), atol=1e-5)
    clean, edited = clean_and_edited(model, Patch(given, probe(), vector="pattern"), side=side)
    for h, new, source in zip(clean, edited, given, strict=True):
        np.testing.assert_allclose(new[-1], h[-1] + onto(source - h[-1], unit(1)[None]), atol=1e-5)


def test_several_tokens_are_exchanged_in_their_order(tiny_model) -> None:
    model = tiny_model()
    sources = ["ten nine eight", "The city of Lima is in Peru.", "one two three four five six seven"]
    patch = Patch.from_inputs(model, sources, SITE, "-2:", source_tokens=":2")
    clean, edited = clean_and_edited(model, patch, side="left")
    for h, new, row in zip(clean, edited, patch.values, strict=True):
        assert row.shape == (2, D)
        np.testing.assert_allclose(new[-2:], row, atol=1e-5)
        np.testing.assert_array_equal(new[:-2], h[:-2])


def test_patched_at_the_first_site_with_all_tokens_a_row_is_its_source(tiny_model) -> None:
    model = tiny_model()
    one, other = "one two three four", "one three two four"
    assert len(model.encode([one])[0]) == len(model.encode([other])[0])
    with intervene(model, Patch.from_inputs(model, [other], "embed", "all")):
        patched = model.forward(torch.tensor(model.encode([one])))
    torch.testing.assert_close(patched, model.forward(torch.tensor(model.encode([other]))), rtol=1e-5, atol=1e-5)


def test_rows_whose_counts_differ_are_named(tiny_model) -> None:
    model = tiny_model()
    sources = [TEXTS[0], TEXTS[1] + " five six", TEXTS[2]]
    with pytest.raises(CausalError, match=r"row 1: 4 of its tokens are selected, but its source has 6"):
        Patch.from_inputs(model, sources, SITE, "all", inputs=TEXTS)
    with pytest.raises(CausalError, match=r"row 1: 4 of its tokens are selected, but its source has 6"):
        clean_and_edited(model, Patch.from_inputs(model, sources, SITE, "all"))
    with pytest.raises(CausalError, match="2 rows, but runs on 3"):
        clean_and_edited(model, Patch.from_inputs(model, sources[:2], SITE))
    with pytest.raises(CausalError, match="3 inputs and 2 sources"):
        Patch.from_inputs(model, sources[:2], SITE, inputs=TEXTS)


# ---- which tokens


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ("last", slice(-1, None)),
        ("first", slice(0, 1)),
        ("all", slice(None)),
        ("mean", slice(None)),
        ("1:", slice(1, None)),
        ("-3:", slice(-3, None)),
        (":2", slice(0, 2)),
        ("last@:3", slice(2, 3)),
        ("1", slice(1, 2)),
        ("every:2", slice(0, None, 2)),
        ("generated", slice(0, 0)),
    ],
)
def test_tokens_are_counted_among_the_real_ones(tiny_model, family, side, tokens, expected) -> None:
    model = tiny_model(family)
    clean, edited = clean_and_edited(model, Add(vector(), 0.5, site=SITE, tokens=tokens), side=side)
    for h, new in zip(clean, edited, strict=True):
        touched = np.zeros(len(h), dtype=bool)
        touched[expected] = True
        np.testing.assert_array_equal(np.any(h != new, axis=1), touched)


@pytest.mark.parametrize(
    ("side", "call"), [("left", "trunk"), ("right", "trunk"), ("left", "forward"), ("right", "run")]
)
def test_every_kind_of_pass_tells_the_same_tokens(tiny_model, side, call) -> None:
    model = tiny_model()
    ids, mask = padded(model, TEXTS, side)
    seen = []
    with (
        intervene(model, Ablate(site=SITE, tokens="last")),
        model.editing(SITE, lambda _, x: seen.append(x.clone()) or x),
        torch.no_grad(),
    ):
        if call == "trunk":
            model.trunk(input_ids=ids, attention_mask=mask)
        elif call == "forward":
            model.forward(ids, mask)
        else:
            model.run(model.batch(model.encode_rows(TEXTS)))
    for i, x in enumerate(seen[0]):
        own = x[mask[i].bool()] if call != "run" else x[: int(mask[i].sum())]
        assert not own[-1].any()
        assert own[:-1].any(dim=-1).all()


@pytest.mark.parametrize(
    ("family", "site"),
    [
        ("bert", "resid_post.1"),
        ("t5", "encoder:resid_post.1"),
        ("t5", "decoder:resid_post.1"),
        ("bart", "decoder:embed"),
    ],
)
@pytest.mark.parametrize("tokens", ["last", "regex:Paris|two|probe"])
def test_encoders_and_decoders_beside_them(tiny_model, family, site, tokens) -> None:
    model = tiny_model(family)
    part = model.part_of(model.sites([site]))
    rows = model.encode_rows(TEXTS, part=part, offsets=True)
    seen = []
    with (
        intervene(model, Ablate(site=site, tokens=tokens), inputs=rows),
        model.editing(site, lambda _, x: seen.append(x.clone()) or x),
    ):
        model.run(model.batch(rows, part), part)
    assert len(seen) == 1
    for x, row in zip(seen[0], rows, strict=True):
        zero = ~x[: row.length].any(dim=-1).numpy()
        assert np.flatnonzero(zero).tolist() == Selection.parse(tokens).positions(row)[-1:].tolist()


def test_selections_that_read_text_need_the_rows(tiny_model) -> None:
    model = tiny_model()
    steer = Add(vector(), 0.5, site=SITE, tokens="regex:(Paris|two|probe)")
    with pytest.raises(CausalError, match="give the texts or encoded rows"), intervene(model, steer):
        pass
    for inputs in (TEXTS, model.encode_rows(TEXTS, offsets=True)):
        for side in ("left", "right"):
            clean, edited = clean_and_edited(model, steer, side=side, inputs=inputs)
            rows = model.encode_rows(TEXTS, offsets=True)
            for h, new, row in zip(clean, edited, rows, strict=True):
                at = np.flatnonzero(np.any(h != new, axis=1))
                words = "".join(row.text[slice(*row.offsets[p])] for p in at)
                assert words.strip() in ("Paris", "two", "probe")
    with pytest.raises(CausalError, match=r"row 0 of inputs= is not what is run"):
        clean_and_edited(model, steer, inputs=[TEXTS[0].replace("Paris", "Paris two"), *TEXTS[1:]])
    with pytest.raises(CausalError, match=r"inputs= holds 2 rows, but 3 are run"):
        clean_and_edited(model, steer, inputs=TEXTS[:2])
    with pytest.raises(ActivationsError, match=r"row 1: .*found no token"):
        clean_and_edited(model, replace(steer, tokens="regex:Paris"), inputs=TEXTS)


def test_spans_are_taken_from_their_own_argument(tiny_model) -> None:
    model = tiny_model()
    ids, mask = padded(model, TEXTS[:1], "left")
    start = TEXTS[0].index("Paris")
    steer = Ablate(site=SITE, tokens="span:word")
    seen = []
    with (
        intervene(model, steer, inputs=TEXTS[:1], spans=np.array([[start, start + 5]])),
        model.reading([Site.parse(SITE)], lambda _, x: seen.append(x.clone())),
    ):
        model.forward(ids, mask)
    (row,) = model.encode_rows(TEXTS[:1], offsets=True)
    zero = np.flatnonzero(~seen[0][0, mask[0].bool()].numpy().any(axis=1))
    assert "".join(row.text[slice(*row.offsets[p])] for p in zero).strip() == "Paris"


# ---- together


def test_several_are_made_in_the_order_of_the_plan(tiny_model) -> None:
    model = tiny_model()
    add, ablate = Add(vector(), 0.5, site=SITE), Ablate(vector(), site=SITE)
    _, edited = clean_and_edited(model, add, ablate)
    for new in edited:
        np.testing.assert_allclose(new @ unit(), 0, atol=1e-5)
    clean, edited = clean_and_edited(model, Plan(ablate, add))
    for h, new in zip(clean, edited, strict=True):
        out = h - onto(h, unit()[None])
        np.testing.assert_allclose(new, out + 0.5 * norms(out) * unit(), atol=1e-5)
    assert Plan(Plan(ablate), add).interventions == (ablate, add)


@pytest.mark.parametrize("family", FAMILIES)
def test_several_sites_are_as_edits_made_by_hand(tiny_model, family) -> None:
    model = tiny_model(family)
    kinds = ["embed", "attn_out.0", "head_out.1.2", "mlp_out.1", "resid_post.2"]
    sites = [*kinds, *(["resid_mid.1"] if "resid_mid" in model.kinds else [])]
    v = torch.from_numpy(unit()).float()
    ids = torch.tensor(model.encode(TEXTS[:1]))
    with model.editing(sites, lambda _, x: x + 0.3 * x.norm(dim=-1, keepdim=True) * v):
        expected = model.forward(ids)
    with intervene(model, *(Add(vector(), 0.3, site=site) for site in reversed(sites))) as bound:
        torch.testing.assert_close(model.forward(ids), expected, rtol=1e-5, atol=1e-5)
    assert [site.name for site in bound.sites] == sorted(sites, key=lambda name: Site.parse(name).depth)


def test_nested_contexts_act_outer_first_and_end_each_by_itself(tiny_model) -> None:
    model = tiny_model()
    ids = torch.tensor(model.encode(TEXTS[:1]))
    before, plain = n_hooks(model), model.forward(ids)
    with intervene(model, Add(vector(), 0.5, site=SITE)):
        steered = model.forward(ids)
        with intervene(model, Ablate(vector(), site=SITE)):
            both = model.forward(ids)
        torch.testing.assert_close(model.forward(ids), steered)
    with intervene(model, Ablate(vector(), site=SITE)):
        torch.testing.assert_close(model.forward(ids), both, rtol=1e-4, atol=1e-4)
    assert torch.equal(model.forward(ids), plain)
    assert n_hooks(model) == before


def test_edit_writes_into_nothing_and_touches_only_what_it_is_told(tiny_model) -> None:
    model = tiny_model()
    bound = Plan(
        Add(vector(), np.array([0.1, 0.2, 0.3]), site=SITE),
        Ablate(site="resid_post.0"),
        Clamp(probe(), 1.0),
    ).bind(model)
    x = torch.randn((2, 5, D), generator=torch.Generator().manual_seed(0))
    kept = x.clone()
    where = [
        (torch.tensor([0, 0, 1]), torch.tensor([1, 3, 4])),
        (torch.tensor([0, 1]), torch.tensor([0, 0])),
        (torch.tensor([1]), torch.tensor([4])),
    ]
    new = bound.edit(Site.parse(SITE), x, where, torch.tensor([2, 1]))
    assert torch.equal(x, kept)
    v = torch.from_numpy(unit()).float()
    expected = x.clone()
    for b, s, strength in ((0, 1, 0.3), (0, 3, 0.3), (1, 4, 0.2)):
        expected[b, s] += strength * x[b, s].norm() * v
    torch.testing.assert_close(new[0], expected[0])
    np.testing.assert_allclose(probe().score(new[1, 4:].numpy()), 1.0, atol=1e-5)
    assert torch.equal(new[1, :4], x[1, :4])
    # A row of a batch may stand in it twice, as with two beginnings of an answer.
    patch = Plan(Patch([np.ones((2, D)), 2 * np.ones((1, D))], site=SITE, tokens="1:")).bind(model)
    places = (torch.tensor([0, 0, 1, 1]), torch.tensor([1, 2, 1, 2]))
    twice = patch.edit(Site.parse(SITE), x, [places], torch.tensor([0, 0]))
    assert torch.equal(twice[:, 1:3], torch.ones(2, 2, D))
    with pytest.raises(CausalError, match="values for 3 rows, but runs on 4"):
        bound.edit(Site.parse(SITE), x, where, torch.tensor([3, 1]))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_changed_in_float32_and_rounded_once(tiny_model, dtype) -> None:
    model = tiny_model(dtype=dtype)
    bound = Plan(Add(vector(), 0.3, site=SITE), Ablate(vector(1), site=SITE)).bind(model)
    # The square of this norm is beyond float16.
    x = torch.randn((1, 4, D), generator=torch.Generator().manual_seed(0)).to(model.dtype) * 200
    add = bound.edit(Site.parse(SITE), x, [None, (torch.tensor([], dtype=torch.long),) * 2], torch.tensor([0]))
    h = x[0].double().numpy()
    assert add.dtype == model.dtype
    eps = torch.finfo(model.dtype).eps
    np.testing.assert_allclose(add[0].double().numpy(), h + 0.3 * norms(h) * unit(), rtol=eps, atol=eps)
    zero = Plan(Add(vector(), 0.0, site=SITE)).bind(model)
    assert torch.equal(zero.edit(Site.parse(SITE), x, [None], torch.tensor([0])), x)


# ---- generation


# OPT's head calls the stack of blocks past the model around it.
@pytest.mark.parametrize("family", [*FAMILIES, "opt", "mamba"])
@pytest.mark.parametrize("tokens", ["all", "last", "1:", "generated", "-2:"])
def test_with_the_cache_as_without(tiny_model, family, tokens) -> None:
    """Without a cache each step is a whole pass: what the edits of a growing row are is written out by hand."""
    model = tiny_model(family)
    n_steps = 6
    rows = model.encode(TEXTS)
    steer = Add(vector(2), 0.8, site=SITE, tokens=tokens)
    v = torch.from_numpy(unit(2)).float()

    def by_hand(row: list[int]) -> list[int]:
        ids, n = list(row), len(row)
        for _ in range(n_steps):
            own = {
                "all": list(range(len(ids))),
                "last": [n - 1],
                "1:": list(range(1, len(ids))),
                "generated": list(range(n, len(ids))),
                "-2:": list(range(n - 2, len(ids))),
            }[tokens]

            def edit(_: Site, x: torch.Tensor, own=own) -> torch.Tensor:
                x = x.clone()
                x[:, own] += 0.8 * x[:, own].norm(dim=-1, keepdim=True) * v
                return x

            with model.editing(SITE, edit), torch.no_grad():
                logits = model.module(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
            ids.append(int(logits.argmax()))
        return ids[n:]

    ids, mask = padded(model, TEXTS, "left")
    options = {"max_new_tokens": n_steps, "min_new_tokens": n_steps, "do_sample": False, "pad_token_id": 0}
    with intervene(model, steer):
        written = model.module.generate(input_ids=ids, attention_mask=mask, eos_token_id=None, **options)
    expected = [by_hand(row) for row in rows]
    assert written[:, ids.shape[1] :].tolist() == expected
    plain = model.module.generate(input_ids=ids, attention_mask=mask, eos_token_id=None, **options)
    if tokens == "all":
        assert plain[:, ids.shape[1] :].tolist() != expected


def test_generate_is_greedy_and_by_the_order_of_its_prompts(tiny_model) -> None:
    model = tiny_model()
    chat = [{"role": "user", "content": "Is Lima in Peru?"}]
    prompts = [*TEXTS, chat]
    strengths = np.array([0.0, 0.9, -0.9, 0.5])
    steer = Add(vector(2), strengths, site=SITE)
    together = generate(model, prompts, steer, max_new_tokens=8, batch_size=3)
    alone = [
        generate(model, [prompt], Add(vector(2), float(s), site=SITE), max_new_tokens=8)[0]
        for prompt, s in zip(prompts, strengths, strict=True)
    ]
    assert together == alone
    plain = generate(model, prompts, max_new_tokens=8)
    assert together[0] == plain[0]
    assert together != plain
    assert generate(model, prompts, Add(vector(2), 0.0, site=SITE), max_new_tokens=8, batch_size=1) == plain
    # A chat's answer follows what opens it.
    (row,) = model.encode_rows([chat], generation_prompt=True)
    out = model.module.generate(input_ids=torch.tensor([list(row.ids)]), max_new_tokens=8, do_sample=False)
    assert plain[3] == model.tokenizer.decode(out[0, row.length :], skip_special_tokens=True)


def test_generate_finds_tokens_by_text(tiny_model) -> None:
    model = tiny_model()
    steer = Add(vector(2), 1.5, site=SITE, tokens="regex:(Paris|two|probe)")
    together = generate(model, TEXTS, steer, max_new_tokens=6)
    ids = [torch.tensor([row]) for row in model.encode(TEXTS)]
    for text, own, found in zip(TEXTS, ids, together, strict=True):
        with intervene(model, steer, inputs=[text]):
            out = model.module.generate(input_ids=own, max_new_tokens=6, do_sample=False)
        assert found == model.tokenizer.decode(out[0, own.shape[1] :], skip_special_tokens=True)


def test_beams_are_refused_where_rows_differ_and_fine_where_not(tiny_model) -> None:
    model = tiny_model()
    ids, mask = padded(model, TEXTS, "left")
    options = {"max_new_tokens": 3, "num_beams": 2, "do_sample": False, "pad_token_id": 0}
    with intervene(model, Add(vector(), 0.2, site=SITE, tokens="last")):
        model.module.generate(input_ids=ids, attention_mask=mask, **options)
    with (
        pytest.raises(CausalError, match="values for 3 rows, but runs on 6"),
        intervene(model, Add(vector(), np.ones(3), site=SITE)),
    ):
        model.module.generate(input_ids=ids, attention_mask=mask, **options)


def test_a_row_cut_in_parts_is_refused_but_for_all(tiny_model) -> None:
    model = tiny_model()
    (ids,) = (torch.tensor([row]) for row in model.encode(TEXTS[:1]))
    with intervene(model, Add(vector(), 0.5, site=SITE)):
        whole = model.forward(ids)
        prefix = model.prefix(ids[:, :4])
        torch.testing.assert_close(model.forward(ids[:, 4:], after=prefix), whole[:, 4:], rtol=1e-4, atol=1e-4)
    with intervene(model, Add(vector(), 0.5, site=SITE, tokens="last")):
        prefix = model.prefix(ids[:, :4])
        with pytest.raises(CausalError, match="goes on from a cache of 4 tokens"):
            model.forward(ids[:, 4:], after=prefix)


# ---- refusals


@pytest.mark.parametrize("where", ["in the body", "in an edit", "at opening"])
def test_after_an_exception_no_hook_is_left(tiny_model, where) -> None:
    model = tiny_model()
    ids = torch.tensor(model.encode(TEXTS[:1]))
    before, plain = n_hooks(model), model.forward(ids)
    model.module.train()
    if where == "in the body":
        with pytest.raises(ZeroDivisionError), intervene(model, Add(vector(), 1.0, site=SITE)):
            raise ZeroDivisionError
    elif where == "in an edit":
        steer = Add(vector(), 1.0, site=SITE, tokens="900")
        with pytest.raises(ActivationsError, match="found no token"), intervene(model, steer):
            model.forward(ids)
    else:
        with pytest.raises(SiteError), intervene(model, Add(vector(), 1.0, site="resid_post.9")):
            pytest.fail("opened")
    assert n_hooks(model) == before
    assert model.module.training
    assert torch.equal(model.forward(ids), plain)


def test_what_belongs_to_another_model_is_refused(tiny_model) -> None:
    model = tiny_model()
    other = tiny_model(seed=1)
    own = probe(model="mine", model_fingerprint=model.fingerprint)
    helix = HelixSubspace(np.random.default_rng(0).normal(size=(D, 3)), np.zeros(D), _spec(), np.arange(20.0))
    eraser = Eraser(unit()[None], unit()[None], np.zeros(D))
    for one in (
        Add(own, 0.5),
        Ablate(own),
        Clamp(own, 0.0),
        Patch(np.ones((1, D)), own),
        Erase(eraser.at(SITE, model.fingerprint)),
        Rotate(helix.at(SITE, model.fingerprint), 2.0),
    ):
        Plan(one).bind(model)
        with pytest.raises(ProbeError, match=f"fingerprint {model.fingerprint}"):
            Plan(one).bind(other)


def _spec():
    from leadline.probes.periodic import Helix

    return Helix(periods=(10,))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Add(vector(), 1.0), "states no site"),
        (lambda: Add(np.zeros(D), 1.0, site=SITE), "vector of zeros"),
        (lambda: Add(np.full(D, np.nan), 1.0, site=SITE), "NaN or an infinity"),
        (lambda: Add(np.ones((2, D)), 1.0, site=SITE), r"\(2, 32\); expected one vector"),
        (lambda: Add(vector(), np.inf, site=SITE), "the strength holds a NaN or an infinity"),
        (lambda: Add(vector(), np.ones((2, 2)), site=SITE), r"\(2, 2\); expected one number"),
        (lambda: Add(vector(), 1.0, site=SITE, unit="percent"), "unknown unit 'percent'"),
        (lambda: Add(probe(), 1.0, vector="coef"), "unknown vector 'coef'"),
        (lambda: Add(probe(pattern=np.zeros(D)), 1.0), "the pattern of the logistic probe"),
        (lambda: Ablate(vector(), to="median", site=SITE), "cannot ablate to 'median'"),
        (lambda: Ablate(vector(), to="mean", site=SITE), "needs mean="),
        (lambda: Ablate(vector(), mean=MEAN, site=SITE), "give both or neither"),
        (lambda: Ablate(to=2.0, site=SITE), "projection on one direction"),
        (lambda: Ablate(SPAN, to=2.0, site=SITE), "projection on one direction"),
        (lambda: Ablate(vector(), to="mean", mean=np.ones(4), site=SITE), "the mean has 4 dimensions"),
        (lambda: Clamp(probe(pattern=_orthogonal(vector())), 0.0), "does not change along"),
        (lambda: Clamp(probe(), 0.0, np.ones(4)), "give one space"),
        (lambda: Patch(np.ones((2, D)), np.ones(4), site=SITE), "give one space"),
        (lambda: Patch([], site=SITE), "expected \\(n, d\\)"),
        (lambda: Patch([np.ones((2, D)), np.ones((2, 4))], site=SITE), "expected \\(n, d\\)"),
        (lambda: Patch(np.full((2, D), np.nan), site=SITE), "row 0 hold a NaN"),
        (lambda: Erase(unit(), site=SITE), "cannot erase with a ndarray"),
        (lambda: Plan(vector()), "a ndarray is no intervention"),
    ],
)
def test_what_makes_no_sense_is_refused_when_made(make, told) -> None:
    with pytest.raises(CausalError, match=told):
        make()


def _orthogonal(w: np.ndarray) -> np.ndarray:
    u = vector(11)
    return u - (u @ w) / (w @ w) * w


def test_what_the_model_cannot_carry_is_refused_when_bound(tiny_model) -> None:
    model = tiny_model()
    with pytest.raises(CausalError, match=r"has 4 dimensions, but 'resid_post.1' of '.*' has 32"):
        Plan(Add(np.ones(4), 1.0, site=SITE)).bind(model)
    with pytest.raises(CausalError, match="can be read but not edited"):
        Plan(Ablate(site="attn_pattern.1")).bind(model)
    with pytest.raises(CausalError, match=r"values for \[2, 3\] rows"):
        Plan(Add(vector(), np.ones(2), site=SITE), Clamp(probe(), np.ones(3))).bind(model)
    with pytest.raises(SiteError, match="layers 0 to 2"):
        Plan(Add(vector(), 1.0, site="resid_post.7")).bind(model)
    with pytest.raises(ActivationsError, match="unknown token selection"):
        Add(vector(), 1.0, site=SITE, tokens="everything")
    # The width of a named module shows in the pass.
    with (
        pytest.raises(CausalError, match="it has 4 dimensions"),
        intervene(model, Add(np.ones(4), 1.0, site="module:model.layers.1.mlp")),
    ):
        model.forward(torch.tensor([[5, 6]]))
    with pytest.raises(CausalError, match="shorten the prompts or lower max_new_tokens"):
        generate(model, TEXTS, max_new_tokens=10_000)
    with pytest.raises(CausalError, match="put it in a list"):
        generate(model, TEXTS[0])


# ---- told before it runs


def test_explain_names_sites_tokens_and_moves_and_runs_nothing(tiny_model, monkeypatch) -> None:
    model = tiny_model()
    plan = Plan(
        Add(probe(), 0.25),
        Ablate(vector(), site="resid_post.0", tokens="regex:Paris|two|probe"),
        Add(vector(), 3.0, site="mlp_out.1", unit="raw", tokens="generated"),
    )
    monkeypatch.setattr(type(model), "editing", lambda *_: pytest.fail("an intervention was run"))
    told = plan.explain(model, TEXTS, n=2)
    lines = told.splitlines()
    assert "resid_post.1, tokens 'all', and those generated after them" in lines[1]
    assert "add 0.25 × ‖h‖ along the pattern of the logistic probe for 'truth'" in lines[1]
    assert "8 of 8" in lines[2]
    assert "(dose 0.25)" in lines[2]
    assert "' Paris'" in lines[5]
    assert "1 of 8" in lines[5]
    assert "no token of the prompt" in lines[8]
    assert "row 2" not in told
    h = model.activations_of(TEXTS[:1], "resid_post.0", "regex:Paris")[0]
    assert f"moved by {abs(h @ unit()):.4g}"[:12] in lines[5]
    assert "changes nothing" in Plan().explain(model)
    assert len(plan.explain(model).splitlines()) == 4
