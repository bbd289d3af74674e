"""Steered generation on SmolLM2: dose 0 is plain, batch is single, with the cache is without, no hook is left."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from leadline.causal import Ablate, Add, Plan, generate, intervene
from leadline.models import Model
from leadline.sites import Site

PROMPTS = [
    "The capital of France is",
    "My favourite season of the year is spring, because",
    [{"role": "user", "content": "Name three colours."}],
]
SITE = "resid_post.12"
N = 12


def direction(model: Model) -> np.ndarray:
    """From one topic to another: it changes what is written, without breaking it."""
    sea = model.activations_of(["The sea, the waves and the ships", "A sailor on the ocean"], SITE, "mean@1:")
    office = model.activations_of(["The meeting, the budget and the plan", "A clerk in the office"], SITE, "mean@1:")
    return sea.mean(axis=0) - office.mean(axis=0)


def n_hooks(model: Model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules())


def plain_tokens(model: Model, prompt: object) -> list[int]:
    """Greedy tokens by transformers alone, one prompt without padding."""
    (row,) = model.encode_rows([prompt], generation_prompt=True)
    ids = torch.tensor([list(row.ids)])
    out = model.module.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=N,
        do_sample=False,
        repetition_penalty=1.0,
        pad_token_id=model.tokenizer.pad_token_id,
    )
    return out[0, row.length :].tolist()


def test_dose_0_is_plain_token_for_token(smollm2) -> None:
    steer = Add(direction(smollm2), 0.0, site=SITE)
    plain = [plain_tokens(smollm2, prompt) for prompt in PROMPTS]
    with intervene(smollm2, steer):
        assert [plain_tokens(smollm2, prompt) for prompt in PROMPTS] == plain
    expected = smollm2.tokenizer.batch_decode(plain, skip_special_tokens=True)
    assert generate(smollm2, PROMPTS, steer, max_new_tokens=N) == expected
    assert generate(smollm2, PROMPTS, max_new_tokens=N) == expected


def test_a_batch_is_as_each_prompt_alone(smollm2) -> None:
    v, doses = direction(smollm2), np.array([0.3, -0.3, 0.2])
    for tokens in ("all", "last", "1:"):
        together = generate(smollm2, PROMPTS, Add(v, doses, site=SITE, tokens=tokens), max_new_tokens=N)
        alone = [
            generate(smollm2, [prompt], Add(v, float(dose), site=SITE, tokens=tokens), max_new_tokens=N)[0]
            for prompt, dose in zip(PROMPTS, doses, strict=True)
        ]
        assert together == alone
    assert together != generate(smollm2, PROMPTS, max_new_tokens=N)


@pytest.mark.parametrize(("tokens", "dose"), [("all", 0.4), ("generated", 0.4), ("last", 2.0)])
def test_steered_with_the_cache_as_without(smollm2, tokens, dose) -> None:
    (row,) = smollm2.encode_rows(PROMPTS[1:2])
    v, n = direction(smollm2), row.length
    unit = torch.from_numpy(v / np.linalg.norm(v)).float()
    steer = Plan(Add(v, dose, site=SITE, tokens=tokens), Ablate(site="head_out.5.1", tokens=tokens))
    out = generate(smollm2, PROMPTS[1:2], steer, max_new_tokens=N)[0]
    ids = list(row.ids)
    for _ in range(N):
        own = {"all": slice(None), "generated": slice(n, None), "last": slice(n - 1, n)}[tokens]

        def edit(site: Site, x: torch.Tensor, own=own) -> torch.Tensor:
            x = x.clone()
            h = x[:, own]
            x[:, own] = h + dose * h.norm(dim=-1, keepdim=True) * unit if site.kind == "resid_post" else 0 * h
            return x

        with smollm2.editing([SITE, "head_out.5.1"], edit), torch.no_grad():
            ids.append(int(smollm2.module(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    assert out == smollm2.tokenizer.decode(ids[n:], skip_special_tokens=True)
    assert ids[n:] != plain_tokens(smollm2, PROMPTS[1])


def test_an_exception_amid_generation_leaves_no_hook(smollm2) -> None:
    before, plain = n_hooks(smollm2), plain_tokens(smollm2, PROMPTS[0])
    v = direction(smollm2)
    steps = []

    class Stop(RuntimeError):
        pass

    def stop(_: Site, x: torch.Tensor) -> torch.Tensor:
        steps.append(x.shape[1])
        if len(steps) == 4:
            raise Stop
        return x

    with pytest.raises(Stop), smollm2.editing("resid_post.20", stop):
        generate(smollm2, PROMPTS[:1], Add(v, 0.4, site=SITE), max_new_tokens=N)
    # The prompt, then a token at a time: the cache was used.
    assert steps[0] > 1
    assert steps[1:] == [1, 1, 1]
    assert n_hooks(smollm2) == before
    assert plain_tokens(smollm2, PROMPTS[0]) == plain
    with pytest.raises(ZeroDivisionError), intervene(smollm2, Add(v, 0.4, site=SITE)):
        raise ZeroDivisionError
    assert n_hooks(smollm2) == before
