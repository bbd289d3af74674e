"""Every site of every family against values computed another way."""

from __future__ import annotations

import pytest
import torch

from leadline.errors import ModelError, SiteError
from leadline.sites import Site

FAMILIES = ("llama", "gpt2", "gpt_neox", "gpt_neox_sequential", "gemma2")
WIDE = ("embed", "final_norm")


@pytest.fixture(scope="module")
def models(tiny_model):
    return {family: tiny_model(family) for family in FAMILIES}


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(3, 350, (3, 13), generator=torch.Generator().manual_seed(5))


def every_site(model):
    # Patterns make attention take its slow way, whose rounding is another; test_models_families has them.
    kinds = [kind for kind in model.kinds if kind not in ("head_out", "attn_pattern")]
    return model.sites([kind if kind in WIDE else f"{kind}.*" for kind in kinds] + ["head_out.*.*"])


def read_all(model, ids, mask=None):
    return {site.name: tensor for site, tensor in model.read(ids, mask, every_site(model)).items()}


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-5) -> bool:
    return bool((a - b).norm() <= tolerance * b.norm()) and float(b.norm()) > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_kinds_and_sizes(models, family) -> None:
    model = models[family]
    expected = {"embed", "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "final_norm"}
    expected |= {"head_out", "mlp_hidden", "attn_pattern"}
    assert set(model.kinds) == expected - ({"resid_mid"} if family == "gpt_neox" else set())
    assert (model.n_layers, model.d_model, model.n_heads, model.max_tokens) == (3, 32, 4, 128)
    assert model.n_parameters == sum(p.numel() for p in model.module.parameters())
    assert model.dtype is torch.float32
    widths = {"mlp_hidden": 128 if family == "gpt2" else 64}
    assert all(model.width(site) == widths.get(site.kind, 32) for site in every_site(model))


@pytest.mark.parametrize("family", FAMILIES)
def test_streams_equal_the_hidden_states_of_transformers(models, family, ids) -> None:
    model = models[family]
    found = read_all(model, ids)
    with torch.no_grad():
        theirs = model.trunk(input_ids=ids, output_hidden_states=True, use_cache=False)
    assert torch.equal(found["embed"], theirs.hidden_states[0])
    for layer in range(model.n_layers):
        assert torch.equal(found[f"resid_pre.{layer}"], theirs.hidden_states[layer])
    for layer in range(model.n_layers - 1):
        assert torch.equal(found[f"resid_post.{layer}"], theirs.hidden_states[layer + 1])
    assert torch.equal(found["final_norm"], theirs.last_hidden_state)


@pytest.mark.parametrize("family", FAMILIES)
def test_branches_add_up_to_the_stream(models, family, ids) -> None:
    found = read_all(models[family], ids)
    for layer in range(3):
        pre, attn, mlp, post = (found[f"{kind}.{layer}"] for kind in ("resid_pre", "attn_out", "mlp_out", "resid_post"))
        assert close(pre + attn + mlp, post)
        assert float(attn.norm()) > 1e-3 * float(pre.norm())
        assert float(mlp.norm()) > 1e-3 * float(pre.norm())
        if family != "gpt_neox":
            assert close(pre + attn, found[f"resid_mid.{layer}"])


def mlp_branch(family, block, found, layer):
    """What the MLP adds, from its definition."""
    if family == "gpt_neox":
        return block.mlp(block.post_attention_layernorm(found[f"resid_pre.{layer}"]))
    mid = found[f"resid_mid.{layer}"]
    if family == "gpt2":
        return block.mlp(block.ln_2(mid))
    if family == "gemma2":
        return block.post_feedforward_layernorm(block.mlp(block.pre_feedforward_layernorm(mid)))
    return block.mlp(block.post_attention_layernorm(mid))


@pytest.mark.parametrize("family", FAMILIES)
def test_mlp_out_and_final_norm_follow_from_the_stream(models, family, ids) -> None:
    model = models[family]
    found = read_all(model, ids)
    blocks = model.trunk.h if family == "gpt2" else model.trunk.layers
    norm = {"gpt2": "ln_f", "llama": "norm", "gemma2": "norm"}.get(family, "final_layer_norm")
    with torch.no_grad():
        for layer, block in enumerate(blocks):
            assert close(mlp_branch(family, block, found, layer), found[f"mlp_out.{layer}"])
        assert close(getattr(model.trunk, norm)(found["resid_post.2"]), found["final_norm"])


def test_embed_is_what_enters_the_first_block(models, ids) -> None:
    gpt2, gemma = models["gpt2"].trunk, models["gemma2"].trunk
    with torch.no_grad():
        with_positions = gpt2.wte.weight[ids] + gpt2.wpe.weight[: ids.shape[1]]
        scaled = gemma.embed_tokens.weight[ids] * 32**0.5
    assert close(read_all(models["gpt2"], ids)["embed"], with_positions)
    assert close(read_all(models["gemma2"], ids)["embed"], scaled)


def padded(rows: list[list[int]], side: str, pad: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    n = max(map(len, rows))
    fill = [[pad] * (n - len(row)) for row in rows]
    ones = [[1] * len(row) for row in rows]
    zeros = [[0] * len(blank) for blank in fill]
    pairs = (fill, rows, zeros, ones) if side == "left" else (rows, fill, ones, zeros)
    a, b, c, d = pairs
    return torch.tensor([x + y for x, y in zip(a, b)]), torch.tensor([x + y for x, y in zip(c, d)])


@pytest.mark.parametrize("family", FAMILIES)
def test_neither_padding_nor_its_side_nor_the_batch_changes_a_token(models, family) -> None:
    model = models[family]
    rows = model.encode(["The city of Lima is in Peru, where a river runs to the sea.", "A probe.", "one two three"])
    assert max(map(len, rows)) > 12 > min(map(len, rows))
    together = {side: (padded(rows, side), read_all(model, *padded(rows, side))) for side in ("left", "right")}
    for i, row in enumerate(rows):
        alone = read_all(model, torch.tensor([row]))
        for (_, mask), found in together.values():
            for name, tensor in found.items():
                assert torch.isfinite(tensor).all()
                torch.testing.assert_close(tensor[i][mask[i].bool()], alone[name][0], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("pad", [-100, 10**6])
@pytest.mark.parametrize("side", ["left", "right"])
def test_an_id_that_pads_need_not_be_one_that_the_model_embeds(models, side, pad, capfd) -> None:
    model, rows = models["gpt2"], [[5, 6, 7], [9]]
    ids, mask = padded(rows, side, pad)
    found = read_all(model, ids, mask)["resid_post.2"]
    torch.testing.assert_close(found[1][mask[1].bool()], read_all(model, torch.tensor([[9]]))["resid_post.2"][0])
    assert capfd.readouterr().err == ""


def test_right_padding_needs_no_mask_and_gets_none(models) -> None:
    model = models["llama"]
    seen = []
    handle = model.trunk.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    for side in ("right", "left"):
        model.read(*padded([[5, 6, 7], [9]], side), ["embed"])
    handle.remove()
    assert "attention_mask" not in seen[0]
    assert seen[1]["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert seen[1]["position_ids"].tolist() == [[0, 1, 2], [0, 0, 0]]


def test_a_hole_in_the_mask_is_skipped(models) -> None:
    model = models["gpt2"]
    found = read_all(model, torch.tensor([[5, 77, 6]]), torch.tensor([[1, 0, 1]]))["resid_post.2"]
    whole = read_all(model, torch.tensor([[5, 6]]))["resid_post.2"]
    torch.testing.assert_close(found[0][[0, 2]], whole[0], rtol=1e-4, atol=1e-5)


def test_what_read_returns_is_owned_and_in_order(models, ids) -> None:
    model = models["llama"]
    wanted = [Site("final_norm"), Site("resid_pre", 0), Site("embed")]
    found = model.read(ids, None, wanted)
    assert [site.name for site in found] == ["embed", "resid_pre.0", "final_norm"]
    assert len({tensor.data_ptr() for tensor in found.values()}) == 3
    assert not any(tensor.requires_grad for tensor in found.values())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_near_float32(tiny_model, models, ids, dtype) -> None:
    half = tiny_model("llama", dtype=dtype)
    found, exact = read_all(half, ids)["resid_post.1"], read_all(models["llama"], ids)["resid_post.1"]
    assert found.dtype is half.dtype is getattr(torch, dtype)
    assert torch.nn.functional.cosine_similarity(found.float(), exact, dim=-1).min() > 0.999


@pytest.mark.parametrize(
    ("family", "site", "part"),
    [
        ("gpt_neox", "resid_mid.0", "offers no 'resid_mid'"),
        ("llama", "resid_post.3", "layers 0 to 2"),
        ("llama", "head_out.0.4", "heads 0 to 3"),
        ("llama", "mixer_out.0", "offers no 'mixer_out'"),
        ("llama", "encoder:resid_post.0", "has no part 'encoder'"),
        ("llama", "module:model.layers.9", "has no module 'model.layers.9'"),
        ("llama", "resid_pots.1", "Did you mean 'resid_post'"),
    ],
)
def test_a_site_that_is_not_there_is_refused(models, ids, family, site, part) -> None:
    for ask in (lambda: models[family].read(ids, None, [site]), lambda: models[family].width(site)):
        with pytest.raises(SiteError, match=part):
            ask()


def test_width_takes_one_site(models) -> None:
    with pytest.raises(SiteError, match="names 3 sites"):
        models["llama"].width("resid_post.*")


@pytest.mark.parametrize(
    ("ids", "mask", "part"),
    [
        (torch.tensor([1, 2]), None, r"shape \(2,\)"),
        (torch.zeros((0, 4), dtype=torch.long), None, r"shape \(0, 4\)"),
        (torch.tensor([[1, 2]]), torch.tensor([[1]]), "expected the same"),
        (torch.tensor([[1, 2], [3, 4]]), torch.tensor([[1, 1], [0, 0]]), "no token in row 1"),
    ],
)
def test_misshapen_input_is_refused(models, ids, mask, part) -> None:
    with pytest.raises(ModelError, match=part):
        models["llama"].read(ids, mask, ["embed"])


def test_patterns_of_rows_padded_on_the_left_are_refused(models) -> None:
    model = models["llama"]
    with pytest.raises(ModelError, match="pad the rows on the right"):
        model.read(*padded([[5, 6, 7], [9]], "left"), ["attn_pattern.0"])
    assert model.read(*padded([[5, 6, 7], [9]], "right"), ["attn_pattern.0"])


def test_any_module_is_a_site_too(models, ids) -> None:
    model = models["llama"]
    found = model.read(ids, None, ["module:model.layers.1.mlp.gate_proj", "mlp_out.1", "module:model.layers.1.mlp"])
    assert [site.name for site in found] == [
        "mlp_out.1",
        "module:model.layers.1.mlp",
        "module:model.layers.1.mlp.gate_proj",
    ]
    gate, out, whole = (
        found[Site.parse(name)]
        for name in ("module:model.layers.1.mlp.gate_proj", "mlp_out.1", "module:model.layers.1.mlp")
    )
    assert gate.shape == (3, 13, 64)
    assert torch.equal(out, whole)
    with pytest.raises(SiteError, match="known from a pass alone"):
        model.width("module:model.layers.1.mlp")
