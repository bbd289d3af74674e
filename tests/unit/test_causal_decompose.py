"""The decomposition of a score: sums on every family, terms against brute force, shares, names and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from families import build_module, example_inputs
from leadline.causal.contrast import Contrast
from leadline.causal.decompose import decompose
from leadline.causal.examples import prompts
from leadline.causal.frozen import Frozen
from leadline.causal.intervals import difference_interval
from leadline.errors import CausalError, ProbeError
from leadline.models.encoded import Encoded
from leadline.models.load import load_model
from leadline.models.model import Model
from leadline.probes.probe import Probe

TEXTS = (
    "The city of Paris is in France.",
    "A probe reads a concept",
    "one two three four five six seven eight nine ten",
    "layer by layer",
    "The city of Lima is in Peru. one two",
)
# Sequential, parallel, scaled branches, sandwich norms, post-norm, a norm behind attention alone, attention beside a
# mixer, cross-attention, experts, heads wider than the stream.
FAMILIES = (
    "llama",
    "gpt2",
    "gpt_neox",
    "falcon_new",
    "cohere",
    "gemma2",
    "gemma3_text",
    "granite",
    "bert",
    "opt_post_norm",
    "distilbert",
    "olmo",
    "olmo2",
    "bloom",
    "phi",
    "qwen3",
    "mixtral",
    "deepseek_v3",
    "gpt_oss",
    "modernbert",
    "falcon_h1",
    "jamba",
    "mamba",
    "bart",
    "t5",
)


@pytest.fixture(scope="module")
def built(tiny_tokenizer):
    known: dict[str, Model] = {}

    def get(family: str) -> Model:
        if family not in known:
            known[family] = load_model(build_module(family), tokenizer=tiny_tokenizer, dtype="float32", device="cpu")
        return known[family]

    return get


def vector_at(model: Model, site: str, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, 17]).standard_normal(model.width(site))


@pytest.mark.parametrize("tokens", ["last", "mean@1:"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_terms_add_up_to_the_score_at_every_kind_of_site(built, family, tokens):
    model = built(family)
    for name, part in model.parts.items():
        before = f"{name}:" if name else ""
        for kind in part.kinds:
            if kind in ("mlp_hidden", "attn_pattern"):
                continue
            # The last block that has the kind, since hybrids have some in some blocks.
            there = [k for k in range(part.n_layers) if kind in part.block_ports(k)]
            ending = f".{there[-1]}" if there else ""
            site = f"{before}{kind}{ending}" + (".2" if kind == "head_out" else "")
            found = decompose(model, TEXTS, vector_at(model, site), tokens, site=site)
            assert found.error.max() < 1e-5, (site, found.error)
            together = model.activations_of(TEXTS, site, tokens).astype(np.float64) @ vector_at(model, site)
            np.testing.assert_allclose(found.scores, together, rtol=1e-4, atol=1e-5)
            # A term more or less than there is would show.
            assert np.abs(found.terms).sum(axis=1).min() > 0


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma2", "granite", "olmo2"])
def test_each_term_is_what_the_component_writes_along_the_vector(built, family):
    model = built(family)
    site = f"resid_post.{model.n_layers - 1}"
    vector = vector_at(model, site)
    found = decompose(model, TEXTS, vector, "last", site=site)
    post_normed = family in ("gemma2", "olmo2")
    checked = 0
    for i, component in enumerate(found.components):
        if component.site is None or (component.kind == "head" and post_normed):
            continue
        read = model.activations_of(TEXTS, component.site, "last").astype(np.float64)
        np.testing.assert_allclose(found.terms[:, i], read @ vector, rtol=1e-3, atol=1e-5, err_msg=component.name)
        np.testing.assert_allclose(found.mean_at(model, component.name), read.mean(axis=0), rtol=1e-3, atol=1e-5)
        checked += 1
    heads = 0 if post_normed else model.n_layers * model.n_heads
    assert checked == 1 + model.n_layers + heads
    if post_normed:
        # The heads of a block add up to what attention adds.
        for layer in range(model.n_layers):
            of_block = [i for i, c in enumerate(found.components) if c.name.startswith(f"head {layer}.")]
            added = model.activations_of(TEXTS, f"attn_out.{layer}", "last").astype(np.float64) @ vector
            np.testing.assert_allclose(found.terms[:, of_block].sum(axis=1), added, rtol=1e-3, atol=1e-5)


def test_behind_post_norms_each_term_is_the_branch_sent_alone_through_the_frozen_norms(built):
    model = built("bert")
    last = model.n_layers - 1
    vector = vector_at(model, f"resid_post.{last}")
    found = decompose(model, TEXTS, vector, "first", site=f"resid_post.{last}")
    names = [f"{kind}.{layer}" for layer in range(last + 1) for kind in ("attn_out", "mlp_out")]
    branches = {name: model.activations_of(TEXTS, name, "first").astype(np.float64) for name in names}
    start = model.activations_of(TEXTS, "embed", "first").astype(np.float64)

    def score(given: dict[str, np.ndarray], embed: np.ndarray, offset: bool) -> np.ndarray:
        """The blocks from their branches, with the statistics of the norms from the true pass."""
        true, x = start, embed
        for layer, block in enumerate(model.module.bert.encoder.layer):
            for kind, norm in (("attn_out", block.attention.output.LayerNorm), ("mlp_out", block.output.LayerNorm)):
                true_sum, x = true + branches[f"{kind}.{layer}"], x + given[f"{kind}.{layer}"]
                deviation = np.sqrt(true_sum.var(axis=1, keepdims=True) + norm.eps)
                gain, bias = norm.weight.detach().double().numpy(), norm.bias.detach().double().numpy()
                true = gain * (true_sum - true_sum.mean(axis=1, keepdims=True)) / deviation + bias
                x = gain * (x - x.mean(axis=1, keepdims=True)) / deviation + bias * offset
        return x @ vector

    nothing = {name: np.zeros_like(value) for name, value in branches.items()}
    by_name = dict(zip(found.names, found.terms.T, strict=True))
    np.testing.assert_allclose(by_name["embed"], score(nothing, start, False), rtol=1e-4, atol=1e-5)
    for layer in range(last + 1):
        alone = score(nothing | {f"mlp_out.{layer}": branches[f"mlp_out.{layer}"]}, 0 * start, False)
        np.testing.assert_allclose(by_name[f"mlp {layer}"], alone, rtol=1e-4, atol=1e-5)
        attention = score(nothing | {f"attn_out.{layer}": branches[f"attn_out.{layer}"]}, 0 * start, False)
        own = [t for name, t in by_name.items() if name.startswith((f"head {layer}.", f"attn_bias {layer}"))]
        assert len(own) == model.n_heads + 1
        np.testing.assert_allclose(sum(own), attention, rtol=1e-4, atol=1e-5)
    biases = sum(t for name, t in by_name.items() if name.startswith("norm_bias"))
    np.testing.assert_allclose(biases, score(nothing, 0 * start, True), rtol=1e-4, atol=1e-5)


def test_terms_stand_in_the_order_of_computation(built):
    found = decompose(built("gpt2"), TEXTS, vector_at(built("gpt2"), "resid_mid.1"), site="resid_mid.1")
    heads = [[f"head {layer}.{head}" for head in range(4)] for layer in (0, 1)]
    assert found.names == ("embed", *heads[0], "attn_bias 0", "mlp 0", *heads[1], "attn_bias 1")


def test_a_picture_model_with_layer_scales_adds_up(tiny_models):
    module = tiny_models("dinov2")
    with torch.no_grad():
        for layer in module.encoder.layer:
            layer.layer_scale1.lambda1.uniform_(0.1, 2, generator=torch.Generator().manual_seed(2))
    model = load_model(module, dtype="float32", device="cpu")
    pictures = example_inputs("dinov2", module)["pixel_values"].numpy()
    rows = [Encoded(length=17, arrays={"pixel_values": picture}) for picture in pictures]
    vector = vector_at(model, "resid_post.2")
    found = decompose(model, rows, vector, "mean", site="resid_post.2")
    assert found.error.max() < 1e-5
    read = model.read_rows(rows, model.sites(["attn_out.1"]))[model.sites(["attn_out.1"])[0]].double().mean(1).numpy()
    own = [i for i, c in enumerate(found.components) if c.name.startswith(("head 1.", "attn_bias 1"))]
    np.testing.assert_allclose(found.terms[:, own].sum(axis=1), read @ vector, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "bert"])
def test_half_precision_is_off_by_its_rounding_and_says_so(tiny_model, family):
    model = tiny_model(family, dtype="bfloat16")
    found = decompose(model, TEXTS, vector_at(model, "resid_post.2"), site="resid_post.2")
    assert 1e-6 < found.error.max() < 1e-2


def test_padding_batches_and_order_change_nothing(built):
    model = built("gpt2")
    vector = vector_at(model, "final_norm")
    together = decompose(model, TEXTS, vector, "mean", site="final_norm")
    turned = decompose(model, TEXTS[::-1], vector, "mean", site="final_norm", batch_tokens=1)
    np.testing.assert_allclose(together.terms, turned.terms[::-1], rtol=1e-4, atol=1e-5)
    assert together.names == turned.names


def test_the_vector_scales_the_terms_and_the_intercept_stays_apart(built):
    model = built("llama")
    vector = vector_at(model, "resid_post.1")
    one = decompose(model, TEXTS, vector, site="resid_post.1")
    probe = Probe(site=one.site, coef=-3 * vector, intercept=2.5, pattern=vector, family="x", kind="binary", target="t")
    other = decompose(model, TEXTS, probe)
    np.testing.assert_allclose(other.terms, -3 * one.terms, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(other.scores, probe.score(model, TEXTS), rtol=1e-4)
    assert other.intercept == 2.5


def test_differences_and_shares_add_up_and_name_the_largest(built):
    model = built("llama")
    y = np.array([1, 0, 1, 0, 1.0])
    found = decompose(model, TEXTS, vector_at(model, "resid_post.2"), site="resid_post.2", y=y)
    assert found.difference.value.sum() == pytest.approx(found.total, rel=1e-4)
    assert found.shares.sum() == pytest.approx(1, rel=1e-4)
    raw = found.terms[y == 1].mean(axis=0) - found.terms[y == 0].mean(axis=0)
    np.testing.assert_allclose(found.difference.value, raw, rtol=1e-9)
    five = found.named(5)
    shares = dict(zip(found.names, found.shares, strict=True))
    assert [shares[name] for name in five] == sorted((shares[n] for n in five), reverse=True)
    assert "embed" not in five
    assert max(shares[n] for n in found.names if n not in five and n != "embed") <= min(shares[n] for n in five)
    few = found.named(share=0.2)
    assert few == found.named(len(few))
    assert sum(shares[n] for n in few) >= 0.2 > sum(shares[n] for n in few[:-1])
    assert set(found.table["component"]) == set(found.names)
    # Without labels, of the variance of the score.
    free = decompose(model, TEXTS, vector_at(model, "resid_post.2"), site="resid_post.2")
    assert free.shares.sum() == pytest.approx(1, rel=1e-4)


def test_a_contrast_of_classes_is_a_difference_and_of_numbers_a_slope():
    rng = np.random.default_rng(3)
    y, x, groups = rng.integers(0, 2, 40).astype(float), rng.standard_normal((3, 40)), np.arange(40) // 2
    ours, theirs = Contrast.of(y, groups).estimate(x), difference_interval(x, y, groups)
    for name in ("value", "low", "high"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-10)
    number = rng.standard_normal(40)
    slope = Contrast.of(number).estimate(2.5 * number + 7)
    assert slope.value == pytest.approx(2.5 * number.std())
    assert slope.high - slope.low < 1e-9
    # A fixed share of every row is that share exactly.
    ratio = Contrast.of(y).ratio(0.4 * x[0] + 1, x[0])
    assert ratio.estimate().value == pytest.approx(0.4)
    assert ratio.estimate().high == pytest.approx(0.4)
    labelled = np.where(np.arange(40) < 30, y, np.nan)
    assert Contrast.of(labelled).value(x[0]) == pytest.approx(difference_interval(x[0, :30], y[:30]).value)
    with pytest.raises(CausalError, match="all alike"):
        Contrast.of(np.ones(4))


def test_examples_bring_their_spans_labels_and_groups(built):
    model = built("llama")
    made = prompts(
        model, TEXTS, template="{text} Is this true?", positive=(), negative=(), y=[1, 0, 1, 0, 1], groups=list("aabbc")
    )
    vector = vector_at(model, "resid_post.1")
    found = decompose(model, made, vector, "last@span:text", site="resid_post.1")
    whole = []
    for i, row in enumerate(made.rows):
        end = max(k for k, (start, stop) in enumerate(row.offsets) if start < made.span(i)[1] and stop > start)
        whole.append(model.read_rows([row], [found.site])[found.site][0, end].double().numpy())
    np.testing.assert_allclose(found.scores, np.stack(whole) @ vector, rtol=1e-4)
    np.testing.assert_array_equal(found.y, made.y)
    np.testing.assert_array_equal(found.groups, made.groups)


@pytest.mark.parametrize("d", [7, 8])
@pytest.mark.parametrize("make", [nn.LayerNorm, nn.RMSNorm])
def test_a_frozen_norm_gives_the_norm(make, d):
    generator = torch.Generator().manual_seed(d)
    norm = make(d)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_(1, 0.5, generator=generator)
    frozen = Frozen.of(norm, d, torch.zeros(()), "norm")
    assert frozen.centred == (make is nn.LayerNorm)
    assert frozen.scales
    torch.testing.assert_close(frozen.gain, norm.weight.detach().double(), rtol=1e-5, atol=1e-6)
    x, c = (torch.randn(5, d, generator=generator) * 3 + 1).double(), torch.randn(1, d, generator=generator).double()
    y = norm(x.float()).detach().double()
    s = frozen.scale(x, y)
    pulled = (frozen.pull(c, s) * x).sum(-1) + (c * frozen.offset).sum()
    torch.testing.assert_close(pulled, (c * y).sum(-1), rtol=1e-5, atol=1e-5)


def test_what_is_no_norm_is_refused():
    curve = nn.GELU()
    x = torch.linspace(-2, 2, 24).view(3, 8).double()
    with pytest.raises(CausalError, match="no norm or scale"):
        Frozen.of(curve, 8, torch.zeros(()), "curve").scale(x, curve(x))


def test_what_cannot_be_decomposed_says_so(built):
    model = built("llama")
    vector = vector_at(model, "resid_post.1")
    with pytest.raises(CausalError, match="no sum of what heads and MLPs write"):
        decompose(model, TEXTS, np.ones(model.width("mlp_hidden.1")), site="mlp_hidden.1")
    with pytest.raises(CausalError, match="in a stack of blocks"):
        decompose(model, TEXTS, vector, site="module:model.norm")
    with pytest.raises(CausalError, match="expected last, first or mean"):
        decompose(model, TEXTS, vector, "max", site="resid_post.1")
    with pytest.raises(CausalError, match="give site="):
        decompose(model, TEXTS, vector)
    with pytest.raises(ProbeError, match="finite numbers"):
        decompose(model, TEXTS, vector[:-1], site="resid_post.1")
    with pytest.raises(CausalError, match="give spans="):
        decompose(model, TEXTS, vector, "last@span:text", site="resid_post.1")
    with pytest.raises(CausalError, match="no rows"):
        decompose(model, [], vector, site="resid_post.1")
    with pytest.raises(CausalError, match="got y of shape"):
        decompose(model, TEXTS, vector, site="resid_post.1", y=[0, 1])
    with pytest.raises(CausalError, match="give y="):
        _ = decompose(model, TEXTS, vector, site="resid_post.1").difference
    with pytest.raises(CausalError, match="no head, MLP or mixer"):
        decompose(model, TEXTS, vector, site="embed").named(3)
    foreign = Probe(
        site=model.sites(["resid_post.1"])[0],
        coef=vector,
        intercept=0.0,
        pattern=vector,
        family="x",
        kind="binary",
        target="t",
        model_fingerprint="0" * 16,
    )
    with pytest.raises(ProbeError, match="fingerprint"):
        decompose(model, TEXTS, foreign)


def test_an_open_intervention_is_noticed_where_it_breaks_the_sum(built):
    model = built("llama")
    with (
        model.editing("resid_post.1", lambda site, x: x + 5.0),
        pytest.raises(CausalError, match="do not add up"),
    ):
        decompose(model, TEXTS, vector_at(model, "resid_post.2"), site="resid_post.2")
    assert not model._hooks._handles
    assert decompose(model, TEXTS, vector_at(model, "resid_post.2"), site="resid_post.2").error.max() < 1e-5
