"""Passes from the middle equal whole ones, and a model that does not bear them is found out."""

from __future__ import annotations

import pytest
import torch

from leadline.errors import ModelError
from leadline.models.partial import can_start_at, later_pass, whole_pass

LENGTHS = (9, 6, 9, 7)


def padded() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(3, 380, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(1))
    return ids, torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text", "bloom", "olmo2", "gpt_neox", "mamba", "bert"])
def test_an_edited_pass_from_the_middle_equals_a_whole_one(tiny_model, family) -> None:
    model = tiny_model(family)
    share = model.can_share_prefixes
    assert share == (family not in ("mamba", "bert"))
    ids, mask = padded()
    whole = whole_pass(model, ids, mask, keep_cache=share, starts=[1, 2, 3])
    # Its window is shorter than the rows.
    cuts = (0, 4) if share and family != "gemma3_text" else (0,)
    rows = torch.tensor([3, 1, 1, 0, 2])
    at = torch.tensor([6, 5, 5, 8, 8])
    v = torch.randn(32, generator=torch.Generator().manual_seed(2))

    def edited(start: int, cut: int, *, middle: bool) -> tuple[torch.Tensor, torch.Tensor]:
        def edit(site, x):
            x = x.clone()
            x[torch.arange(5), at - cut] += v
            return x

        seen = []

        def read(site, x):
            seen.append(x[torch.arange(5), at - cut].clone())
            return x

        with model.editing([f"resid_post.{start - 1}"], edit), model.editing([f"resid_post.{start - 1}"], read):
            if middle:
                hidden = later_pass(model, whole, rows, cut=cut, start=start)
            else:
                hidden = model.forward(ids[rows], mask[rows].long())
        assert hidden is not None
        return hidden[torch.arange(5), at - cut], seen[0]

    for start in (1, 2, 3):
        expected = edited(start, 0, middle=False)
        for cut in cuts:
            assert can_start_at(model, start)
            for found, reference in zip(edited(start, cut, middle=True), expected, strict=True):
                torch.testing.assert_close(found, reference, atol=1e-5, rtol=1e-4)
    assert not any("forward" in block.__dict__ for block in model.part.blocks)


def test_only_what_follows_is_run_and_nothing_stays_behind(tiny_model, monkeypatch) -> None:
    model = tiny_model()
    ids, mask = padded()
    whole = whole_pass(model, ids, mask, keep_cache=True, starts=[2])
    run = []
    for k, block in enumerate(model.part.blocks):
        block.self_attn.register_forward_pre_hook(lambda *_, k=k: run.append(k))
    later_pass(model, whole, torch.tensor([0]), cut=3, start=2)
    assert run == [2]

    def fail(site, x):
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"), model.editing(["resid_post.2"], fail):
        later_pass(model, whole, torch.tensor([0]), cut=3, start=2)
    assert not any("forward" in block.__dict__ for block in model.part.blocks)
    run.clear()
    model.forward(ids)
    assert run == [0, 1, 2]


def test_a_model_whose_later_blocks_need_earlier_ones_is_found_out(tiny_model) -> None:
    model = tiny_model()
    first, last = model.part.blocks[0].mlp, model.part.blocks[2]
    held = {}
    first.register_forward_hook(lambda module, args, output: held.update(x=output))

    def add(module, args, output):
        x = held.pop("x", None)
        return output if x is None or x.shape != output.shape else output + x

    last.register_forward_hook(add)
    assert can_start_at(model, 0)
    # Block 0 is run when passes begin before it alone.
    assert not can_start_at(model, 1)
    assert not can_start_at(model, 2)
    assert can_start_at(tiny_model(), 2)


def test_a_window_that_let_go_of_tokens_cannot_be_cut(tiny_model) -> None:
    model = tiny_model("gemma2", sliding_window=4)
    ids, mask = padded()
    whole = whole_pass(model, ids, mask, keep_cache=True)
    assert not whole.prefix.can_cut
    with pytest.raises(ModelError, match="sliding window"):
        later_pass(model, whole, torch.tensor([0]), cut=3)
    assert whole_pass(model, ids[:, :3], mask[:, :3], keep_cache=True).prefix.can_cut


def test_parts_of_several_begin_at_the_first_block(tiny_model) -> None:
    assert not can_start_at(tiny_model("t5"), 1)
