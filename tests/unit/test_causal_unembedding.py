"""Directions read through the unembedding, streams through the lens, and heads that can write a direction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from leadline.causal.overlap import head_overlap
from leadline.causal.unembedding import logit_lens, read_direction
from leadline.errors import CausalError
from leadline.models.model import Model
from leadline.probes.probe import Probe

TEXTS = ("The city of Paris is in France.", "one two three", "A probe reads a concept")
# RMSNorm; LayerNorm with a bias; a divisor of the logits; a cap of the logits, and 1 + gain.
FAMILIES = ("llama", "gpt2", "granite", "gemma2")


@pytest.fixture(scope="module")
def built(tiny_model):
    known: dict[str, Model] = {}

    def get(family: str) -> Model:
        if family not in known:
            known[family] = tiny_model(family)
        return known[family]

    return get


def random_vector(model: Model, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, 5]).standard_normal(model.d_model)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_the_unembedding_times_the_norms_gain(built, family):
    model = built(family)
    with torch.no_grad():
        for parameter in (
            model.module.base_model.norm if family != "gpt2" else model.module.transformer.ln_f
        ).parameters():
            parameter.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
        norm = model.module.base_model.norm if family != "gpt2" else model.module.transformer.ln_f
        gain = norm.weight.double().numpy() + (family == "gemma2")
        head = model.module.get_output_embeddings().weight.double().numpy()
    v = random_vector(model)
    unit = v / np.linalg.norm(v)
    if family == "gpt2":
        unit = unit - unit.mean()
    expected = head @ (gain * unit) * np.sqrt(model.d_model) / (3.0 if family == "granite" else 1.0)
    expected -= expected.mean()
    found = read_direction(model, v, k=4, by="score", n_random=0)
    np.testing.assert_allclose(found.scores, expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())
    order = np.argsort(expected)
    assert [token.id for token in found.top] == order[::-1][:4].tolist()
    assert [token.id for token in found.bottom] == order[:4].tolist()
    pulled = gain * (head - head.mean(axis=0))
    if family == "gpt2":
        pulled = pulled - pulled.mean(axis=1, keepdims=True)
    cosine = pulled @ unit / np.linalg.norm(pulled, axis=1) / np.linalg.norm(v / np.linalg.norm(v))
    np.testing.assert_allclose(found.z, np.sqrt(model.d_model) * cosine, rtol=5e-3, atol=5e-3)
    nearest = read_direction(model, v, k=1, n_random=0)
    assert (nearest.top[0].id, nearest.bottom[0].id) == (int(cosine.argmax()), int(cosine.argmin()))
    assert found.table.height == 8


def test_the_score_is_the_change_of_logits_at_dose_one(built):
    """With the norm's scale as it is, adding ‖h‖·v̂ to the last stream moves logits by the score."""
    model = built("llama")
    v = random_vector(model, 3)
    rows = model.encode_rows(TEXTS)
    last = model.sites([f"resid_post.{model.n_layers - 1}"])[0]
    h = model.read_rows(rows[:1], [last])[last][0, -1].double()
    norm = model.module.model.norm
    rms = (h.square().mean() + norm.variance_epsilon).sqrt()
    moved = h.norm() * torch.from_numpy(v / np.linalg.norm(v)) / rms * norm.weight.double()
    change = (moved @ model.module.lm_head.weight.double().T).detach().numpy()
    np.testing.assert_allclose(
        read_direction(model, v, n_random=0).scores, change - change.mean(), rtol=2e-3, atol=1e-4
    )


def test_a_tokens_own_direction_names_it_beyond_chance_and_random_directions_name_nothing(built):
    model = built("llama")
    with torch.no_grad():
        weight = model.module.lm_head.weight
        own = ((weight[123] - weight.mean(0)) * model.module.model.norm.weight).double().numpy()
    found = read_direction(model, own)
    assert found.top[0].id == 123
    assert found.p_top == pytest.approx(1 / 100)
    assert found.top[0].text == model.tokenizer.decode([123])
    probe = Probe(
        site=model.sites(["resid_post.1"])[0],
        coef=random_vector(model),
        intercept=0.0,
        pattern=-own,
        family="x",
        kind="binary",
        target="t",
    )
    assert read_direction(model, probe).bottom[0].id == 123
    p = [read_direction(model, random_vector(model, seed), n_random=39, seed=seed).p_top for seed in range(40)]
    assert 0.35 < np.mean(p) < 0.65


def test_behind_the_final_norm_no_norm_follows(built):
    model = built("llama")
    v = random_vector(model)
    head = model.module.lm_head.weight.detach().double().numpy()
    expected = head @ v / np.linalg.norm(v) * np.sqrt(model.d_model)
    found = read_direction(model, v, site="final_norm", n_random=0)
    np.testing.assert_allclose(found.scores, expected - expected.mean(), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_lens_at_the_end_is_the_model_itself(built, family):
    model = built(family)
    lens = logit_lens(model, TEXTS, "embed resid_post.* final_norm", k=3)
    assert [site.name for site in lens.sites][:2] == ["embed", "resid_post.0"]
    for i, text in enumerate(TEXTS):
        ids = torch.tensor([model.encode([text])[0]])
        with torch.no_grad():
            p = torch.softmax(model.module(input_ids=ids).logits[0, -1].double(), -1).numpy()
        for s in (-1, -2):
            np.testing.assert_allclose(lens.p[i, s], np.sort(p)[::-1][:3], rtol=1e-3)
            assert p[lens.ids[i, s]] == pytest.approx(lens.p[i, s], rel=1e-3)
        assert lens.entropy[i, -1] == pytest.approx(-(p * np.log(p)).sum(), rel=1e-4)
    assert lens.kl[:, -2:].max() < 1e-6
    assert lens.kl[:, 0].min() > 1e-6
    assert lens.table.height == len(TEXTS) * len(lens.sites) * 3


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "granite", "gpt_neox"])
def test_a_head_can_write_what_it_writes_and_nothing_across_it(built, family):
    model = built(family)
    read = model.activations_of(TEXTS, "head_out.1.2", "all").astype(np.float64)
    v = read[4]
    if family == "gemma2":
        # The norm behind attention scales each dimension on the way into the stream.
        v = v * (1 + model.module.model.layers[1].post_attention_layernorm.weight.detach().double().numpy())
    found = head_overlap(model, v, site="resid_post.2")
    assert found.table["head"][0] == "head 1.2"
    shares = {site.name: share for site, share in zip(found.sites, found.share, strict=True)}
    assert shares["head_out.1.2"] == pytest.approx(1, abs=1e-5)
    assert max(share for name, share in shares.items() if name != "head_out.1.2") < 0.99
    best = found.table.row(0, named=True)
    assert best["p"] < 1e-6
    assert best["q"] < 1e-4
    # What is across all that the head wrote, it cannot write.
    if family == "llama":
        weight = model.module.model.layers[1].self_attn.o_proj.weight[:, 16:24].detach().double().numpy()
        basis = np.linalg.qr(weight)[0]
        across = random_vector(model) - basis @ (basis.T @ random_vector(model))
        row = head_overlap(model, across).table.filter(pl_head("head 1.2")).row(0, named=True)
        assert row["share"] < 1e-12
        assert row["p"] == pytest.approx(1)
        assert row["gain"] < 1e-6
        plain = head_overlap(model, random_vector(model)).table.filter(pl_head("head 1.2")).row(0, named=True)
        unit = random_vector(model) / np.linalg.norm(random_vector(model))
        assert plain["share"] == pytest.approx(np.square(basis.T @ unit).sum())
        assert plain["gain"] == pytest.approx(np.linalg.norm(weight.T @ unit))


def pl_head(name: str):
    import polars as pl

    return pl.col("head") == name


def test_the_share_of_random_directions_has_the_stated_distribution(built):
    model = built("llama")
    p = np.array([head_overlap(model, random_vector(model, seed), n_random=0).p for seed in range(60)])
    # 60 × 12 uniform values, of which those of one direction hang together.
    assert abs(p.mean() - 0.5) < 0.06
    assert abs((p < 0.1).mean() - 0.1) < 0.05
    ours = head_overlap(model, random_vector(model), n_random=999)
    assert np.all((ours.p_gain > 0) & (ours.p_gain <= 1))


def test_only_heads_before_the_site_count_and_the_final_norm_is_undone(built):
    model = built("llama")
    v = random_vector(model)
    layers = {
        site: {s.layer for s in head_overlap(model, v, site=site, n_random=0).sites}
        for site in ("resid_pre.1", "resid_mid.1", "resid_post.0", "final_norm")
    }
    assert layers == {"resid_pre.1": {0}, "resid_mid.1": {0, 1}, "resid_post.0": {0}, "final_norm": {0, 1, 2}}
    gain = model.module.model.norm.weight.detach().double().numpy()
    behind, before = head_overlap(model, v, site="final_norm", n_random=0), head_overlap(model, gain * v, n_random=0)
    np.testing.assert_allclose(behind.share, before.share, rtol=1e-4)


def test_what_cannot_be_read_says_so(built, tiny_model):
    bert, llama = tiny_model("bert"), built("llama")
    with pytest.raises(CausalError, match="encoder"):
        read_direction(bert, random_vector(bert))
    with pytest.raises(CausalError, match="passes a norm in every block"):
        head_overlap(bert, random_vector(bert))
    with pytest.raises(CausalError, match="sorted by"):
        read_direction(llama, np.ones(llama.d_model), by="logit")
    with pytest.raises(CausalError, match="not all 0"):
        read_direction(llama, np.zeros(llama.d_model))
    with pytest.raises(CausalError, match="not all 0"):
        head_overlap(llama, np.ones(3))
    with pytest.raises(CausalError, match="writes nothing into the stream"):
        read_direction(llama, np.ones(llama.d_model), site="mlp_hidden.1")
    with pytest.raises(CausalError, match="not the stream"):
        logit_lens(llama, TEXTS, "mlp_out.1")
    with pytest.raises(CausalError, match="not the stream"):
        head_overlap(llama, np.ones(llama.d_model), site="embed")
    with pytest.raises(CausalError, match="no head"):
        head_overlap(llama, np.ones(llama.d_model), site="resid_pre.0")
