"""Hooks: early stop, nesting, exceptions, and nothing left behind."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from leadline.errors import ArchitectureError, SiteError
from leadline.sites import Site


@pytest.fixture
def model(tiny_model):
    return tiny_model("llama")


IDS = torch.tensor([[5, 6, 7, 8]])


def hooks(model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules())


@pytest.fixture
def calls(model):
    """Counts how often each named module runs."""
    counted: Counter[str] = Counter()
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: counted.update([name]))
        for name, module in model.module.named_modules()
    ]
    yield counted
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize(
    ("site", "ran", "spared"),
    [
        ("embed", ["model.embed_tokens"], ["model.layers.0.input_layernorm", "model.layers.0.self_attn"]),
        ("attn_out.0", ["model.layers.0.self_attn"], ["model.layers.0.mlp", "model.layers.1"]),
        ("resid_mid.1", ["model.layers.1.self_attn"], ["model.layers.1.mlp", "model.layers.2"]),
        ("resid_post.1", ["model.layers.1.mlp"], ["model.layers.2.input_layernorm", "model.norm"]),
        ("final_norm", ["model.norm"], ["lm_head"]),
    ],
)
def test_nothing_after_the_last_wanted_site_is_computed(model, calls, site, ran, spared) -> None:
    model.read(IDS, None, [site, "embed"])
    assert all(calls[name] == 1 for name in ran)
    assert not any(calls[name] for name in spared)


def test_a_pass_without_readings_runs_to_the_final_norm(model, calls) -> None:
    last = model.forward(IDS)
    assert torch.equal(last, model.read(IDS, None, ["final_norm"])[Site("final_norm")])
    assert calls["lm_head"] == 0


def test_no_hook_is_left_after_success_or_an_early_stop(model) -> None:
    before = hooks(model)
    model.read(IDS, None, ["resid_post.0"])
    model.read(IDS, None, ["final_norm"])
    with model.reading(model.sites("resid_post.*"), lambda site, tensor: None):
        assert hooks(model) == before + 3
    assert hooks(model) == before


def test_an_exception_in_receive_comes_out_and_leaves_nothing_behind(model) -> None:
    before = hooks(model)

    def fail(site, tensor) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"), model.reading(model.sites("resid_mid.1"), fail):
        model.forward(IDS)
    assert hooks(model) == before
    assert model.read(IDS, None, ["resid_post.2"])[Site("resid_post", 2)].shape == (1, 4, 32)


def test_an_exception_in_the_body_or_in_the_model_leaves_nothing_behind(model) -> None:
    before = hooks(model)
    with pytest.raises(KeyError), model.reading(model.sites("embed"), lambda *_: None):
        raise KeyError
    with pytest.raises(IndexError):
        model.read(torch.tensor([[10**6]]), None, ["embed"])
    with pytest.raises(SiteError), model.reading(["resid_post.9"], lambda *_: None):
        pass
    assert hooks(model) == before


def test_nested_readings_each_get_all_they_want(model, calls) -> None:
    alone = model.read(IDS, None, model.sites("resid_post.*"))
    calls.clear()
    inner: list[Site] = []
    outer: dict[Site, torch.Tensor] = {}
    with model.reading(model.sites("resid_post.0,1"), lambda site, t: outer.__setitem__(site, t.clone())):
        with model.reading(model.sites("resid_post.0"), lambda site, t: inner.append(site)):
            model.forward(IDS)
        assert inner == [Site("resid_post", 0)]
        assert calls["model.layers.1.mlp"] == 1
        assert calls["model.layers.2"] == 0
        model.forward(IDS)
    assert inner == [Site("resid_post", 0)]
    assert set(outer) == set(model.sites("resid_post.0,1"))
    assert all(torch.equal(outer[site], alone[site]) for site in outer)


def test_a_read_inside_a_receive_does_not_reach_the_outer_reading(model) -> None:
    others = torch.tensor([[40, 41]])
    expected = model.read(IDS, None, model.sites("resid_post.*"))
    inner = model.read(others, None, ["resid_post.2"])[Site("resid_post", 2)]
    found: dict[Site, torch.Tensor] = {}
    again: list[torch.Tensor] = []

    def receive(site, tensor) -> None:
        assert site not in found
        found[site] = tensor.clone()
        again.append(model.read(others, None, ["resid_post.2"])[Site("resid_post", 2)])

    with model.reading(model.sites("resid_post.*"), receive):
        model.forward(IDS)
    assert all(torch.equal(found[site], expected[site]) for site in expected)
    assert len(again) == 3
    assert all(torch.equal(tensor, inner) for tensor in again)


def test_the_module_itself_may_be_called_inside_a_reading(model) -> None:
    found: list[Site] = []
    with model.reading(model.sites("embed"), lambda site, t: found.append(site)), torch.no_grad():
        logits = model.module(input_ids=IDS).logits
    assert found == [Site("embed")]
    assert logits.shape == (1, 4, 384)


def test_sites_come_in_the_order_of_computation(model) -> None:
    order: list[Site] = []
    wanted = model.sites("embed resid_pre.* attn_out.* resid_mid.* mlp_out.* resid_post.* final_norm")
    with model.reading(reversed(wanted), lambda site, t: order.append(site)):
        model.forward(IDS)
    assert tuple(order) == wanted


def test_training_is_suspended_and_restored(tiny_model) -> None:
    model = tiny_model("gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    expected = model.read(IDS, None, ["resid_post.2"])[Site("resid_post", 2)]
    model.module.train()
    model.trunk.h[1].eval()
    modes = [part.training for part in model.module.modules()]
    assert torch.equal(model.read(IDS, None, ["resid_post.2"])[Site("resid_post", 2)], expected)
    with model.reading(model.sites("embed"), lambda *_: None):
        assert not any(part.training for part in model.module.modules())
    assert [part.training for part in model.module.modules()] == modes
    assert set(modes) == {True, False}


def test_what_receive_gets_has_no_gradient(model) -> None:
    states: list[bool] = []
    with model.reading(model.sites("resid_post.0"), lambda site, t: states.append(t.requires_grad)):
        model.forward(IDS)
    assert states == [False]


def test_a_site_that_the_pass_does_not_reach_is_an_error(model) -> None:
    # A model that leaves after its second block, as one with an early exit does.
    full = model.trunk.config.num_hidden_layers
    model.trunk.config.num_hidden_layers = 2
    try:
        with pytest.raises(ArchitectureError, match=r"without passing resid_post\.2"):
            model.read(IDS, None, ["resid_post.2"])
    finally:
        model.trunk.config.num_hidden_layers = full
