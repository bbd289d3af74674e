"""Fingerprints and random weights."""

from __future__ import annotations

import pytest
import torch

from leadline.models import load_model


@pytest.fixture
def load(tiny_tokenizer):
    def load(module, tokenizer=tiny_tokenizer, **options):
        return load_model(module, tokenizer=tokenizer, **options)

    return load


def test_the_fingerprint_is_the_same_for_the_same_model(tiny_models, load, tmp_path) -> None:
    model = load(tiny_models("gpt2"))
    assert model.fingerprint == load(tiny_models("gpt2")).fingerprint
    assert len(model.fingerprint) == 16
    model.module.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    assert load_model(tmp_path, dtype="float32", device="cpu").fingerprint == model.fingerprint


def test_using_a_model_does_not_change_its_fingerprint(tiny_models, tiny_tokenizers, load) -> None:
    used, fresh = (load(tiny_models("llama"), tiny_tokenizers()) for _ in range(2))
    used.encode(["a b c"])
    used.tokenizer(["a", "b c"], padding=True, truncation=True, max_length=2)
    used.read(torch.tensor([[4, 5]]), None, ["final_norm"])
    used.config._name_or_path = "elsewhere"
    used.config.use_cache = not used.config.use_cache
    assert used.fingerprint == fresh.fingerprint


def test_each_part_changes_the_fingerprint(tiny_models, tiny_tokenizers, load) -> None:
    seen = [load(tiny_models("llama")).fingerprint]

    last_weight = tiny_models("llama")
    with torch.no_grad():
        last_weight.lm_head.weight[-1, -1] += 1e-3
    seen.append(load(last_weight).fingerprint)

    buffer = tiny_models("llama")
    buffer.model.rotary_emb.inv_freq[0] = 0.5
    seen.append(load(buffer).fingerprint)

    seen.append(load(tiny_models("llama", rms_norm_eps=1e-4)).fingerprint)
    seen.append(load(tiny_models("llama"), dtype="bfloat16").fingerprint)
    seen.append(load(tiny_models("llama"), tiny_tokenizers(bos=True)).fingerprint)
    seen.append(load(tiny_models("llama"), tiny_tokenizers(chat=False)).fingerprint)
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma2"])
def test_random_weights_keep_all_but_the_weights(tiny_models, load, family) -> None:
    model = load(tiny_models(family), dtype="bfloat16")
    before = torch.get_rng_state()
    fresh, again, other = (model.randomised(seed) for seed in (7, 7, 8))
    assert torch.equal(before, torch.get_rng_state())
    assert fresh.fingerprint == again.fingerprint
    assert len({model.fingerprint, fresh.fingerprint, other.fingerprint}) == 3
    assert type(fresh.module) is type(model.module)
    assert fresh.dtype is torch.bfloat16
    assert fresh.device == model.device
    assert fresh.tokenizer is model.tokenizer
    assert fresh.architecture is model.architecture
    assert fresh.n_parameters == model.n_parameters
    assert "random weights, seed 7" in fresh.name
    assert not fresh.module.training
    ids = torch.tensor([[5, 6, 7]])
    a, b = (m.read(ids, None, ["final_norm"])[m.sites("final_norm")[0]] for m in (fresh, again))
    assert torch.equal(a, b)


def test_random_weights_do_not_depend_on_the_global_seed(tiny_models, load) -> None:
    model = load(tiny_models("llama"))
    prints = set()
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.default_generator.manual_seed(seed)
            prints.add(model.randomised(0).fingerprint)
    assert len(prints) == 1
