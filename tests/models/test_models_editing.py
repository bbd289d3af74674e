"""Edits: what they change, in which order, in generation, and that nothing is left behind."""

from __future__ import annotations

import pytest
import torch

from leadline.errors import SiteError
from leadline.sites import Site

IDS = torch.tensor([[5, 6, 7, 8, 9]])


@pytest.fixture
def model(tiny_model):
    return tiny_model("llama")


def n_hooks(model) -> int:
    """Hooks beyond those that transformers itself hangs on its blocks at the proof."""
    n = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules())
    return n - model.hooks_before


@pytest.fixture(autouse=True)
def _count(request) -> None:
    if "model" in request.fixturenames:
        model = request.getfixturevalue("model")
        model.hooks_before = 0
        model.hooks_before = n_hooks(model)


def read(model, *names: str) -> list[torch.Tensor]:
    found = model.read(IDS, None, list(names))
    return [found[Site.parse(name)] for name in names]


def test_readings_see_the_edits_opened_before_them(model) -> None:
    plain = read(model, "resid_post.1")[0]
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str):
        return lambda _, x: seen.__setitem__(name, x.clone())

    sites = [Site("resid_post", 1)]
    with (
        model.reading(sites, keep("around")),
        model.editing("resid_post.1", lambda _, x: x * 2),
        model.reading(sites, keep("between")),
        model.editing("resid_post.1", lambda _, x: x + 1),
        model.reading(sites, keep("inside")),
    ):
        model.forward(IDS)
    assert torch.equal(seen["around"], plain)
    assert torch.equal(seen["between"], plain * 2)
    assert torch.equal(seen["inside"], plain * 2 + 1)
    assert torch.equal(read(model, "resid_post.1")[0], plain)
    assert n_hooks(model) == 0


def test_an_edit_in_place_counts_too(model) -> None:
    plain, after = read(model, "head_out.1.2", "resid_post.2")

    def zero(_, x):
        x.zero_()
        return x

    for site in ("head_out.1.2", "resid_post.1", "mlp_hidden.1", "resid_mid.1"):
        with model.editing(site, zero):
            now, changed = read(model, site, "resid_post.2")
        assert not now.any(), site
        assert not torch.allclose(changed, after), site
    assert torch.equal(read(model, "head_out.1.2")[0], plain)


def test_a_silenced_head_is_what_is_left_without_it(model) -> None:
    heads = read(model, *[f"head_out.1.{h}" for h in range(4)])
    with model.editing("head_out.1.1", lambda _, x: torch.zeros_like(x)):
        attn = read(model, "attn_out.1")[0]
    torch.testing.assert_close(attn, heads[0] + heads[2] + heads[3], rtol=1e-4, atol=1e-6)
    with model.editing(["head_out.1.*"], lambda _, x: torch.zeros_like(x)):
        attn = read(model, "attn_out.1")[0]
    torch.testing.assert_close(attn, torch.zeros_like(attn), rtol=0, atol=1e-6)


def test_several_sites_and_several_edits_at_once(model) -> None:
    with (
        model.editing("resid_post.0 resid_post.1", lambda site, x: x + site.layer + 1),
        model.editing("attn_out.2", lambda _, x: torch.zeros_like(x)),
    ):
        pre, mid = read(model, "resid_pre.2", "resid_mid.2")
    assert torch.equal(pre, mid)
    with model.editing("resid_post.1", lambda site, x: x + 2), model.editing("resid_post.0", lambda site, x: x + 1):
        torch.testing.assert_close(read(model, "resid_pre.2")[0], pre)


def test_an_exception_in_an_edit_comes_out_and_leaves_nothing_behind(model) -> None:
    plain = read(model, "final_norm")[0]

    def fail(_, x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), model.editing("resid_post.1", fail):
        model.forward(IDS)
    with pytest.raises(ZeroDivisionError), model.editing("resid_post.1", lambda _, x: x * 2):
        raise ZeroDivisionError
    assert n_hooks(model) == 0
    assert torch.equal(read(model, "final_norm")[0], plain)


@pytest.mark.parametrize(
    ("site", "edit", "told"),
    [
        ("resid_post.1", lambda _, x: x[:, :1], r"an edit gave a tensor of shape \(1, 1, 32\); expected \(1, 5, 32\)"),
        ("resid_post.1", lambda _, x: None, "an edit gave a NoneType; expected a tensor"),
        ("attn_pattern.1", lambda _, x: x, "can be read but not edited"),
        ("resid_post.7", lambda _, x: x, "layers 0 to 2"),
    ],
)
def test_what_cannot_be_edited_is_refused(model, site, edit, told) -> None:
    with pytest.raises(SiteError, match=told), model.editing(site, edit):
        model.forward(IDS)
    assert n_hooks(model) == 0


def test_an_edit_of_another_dtype_is_cast(tiny_model) -> None:
    model = tiny_model("llama", dtype="bfloat16")
    with model.editing("resid_post.1", lambda _, x: x.float() * 2):
        assert read(model, "resid_post.1")[0].dtype == torch.bfloat16


def test_edits_work_in_generation_with_the_cache(model) -> None:
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    mask = torch.ones_like(IDS)
    plain = model.module.generate(input_ids=IDS, attention_mask=mask, **options)
    push = torch.randn(32, generator=torch.Generator().manual_seed(0)) * 40
    lengths: list[int] = []

    def add(_, x):
        lengths.append(x.shape[1])
        return x + push

    with model.editing("resid_post.1", add):
        steered = model.module.generate(input_ids=IDS, attention_mask=mask, **options)
        without = model.module.generate(input_ids=IDS, attention_mask=mask, use_cache=False, **options)
    assert lengths[:6] == [5, 1, 1, 1, 1, 1]
    assert lengths[6:] == [5, 6, 7, 8, 9, 10]
    assert torch.equal(steered, without)
    assert not torch.equal(steered, plain)
    assert torch.equal(model.module.generate(input_ids=IDS, attention_mask=mask, **options), plain)


def test_a_pass_inside_an_edit_is_not_edited_by_it(model) -> None:
    plain = read(model, "resid_post.1")[0]
    inner: list[torch.Tensor] = []

    def edit(_, x):
        inner.append(read(model, "resid_post.1")[0])
        return x + 1

    with model.editing("resid_post.1", edit):
        assert torch.equal(read(model, "resid_post.1")[0], plain + 1)
    assert torch.equal(inner[0], plain)


def test_edits_of_a_padded_batch_and_of_a_shared_prefix(model) -> None:
    push = torch.linspace(-1, 1, 32)
    tails = torch.tensor([[7, 8, 9], [4, 5, 6]])
    with model.editing("resid_post.0", lambda _, x: x + push):
        whole = model.read(torch.cat([IDS.expand(2, -1), tails], 1), None, ["resid_post.2"])[Site("resid_post", 2)]
        prefix = model.prefix(IDS)
        parts = model._read(model.sites("resid_post.2"), lambda: model.forward(tails, after=prefix))
    torch.testing.assert_close(parts[Site("resid_post", 2)], whole[:, 5:], rtol=1e-4, atol=1e-5)
