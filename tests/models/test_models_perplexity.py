"""The likelihood of texts under a causal model, and what else the surface of a row is to a model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from families import build_module
from leadline.data import Dataset
from leadline.errors import ModelError
from leadline.models import load_model, perplexity
from leadline.models.perplexity import mean_nll, nll_of_batch, why_no_perplexity
from leadline.study.surface import surface_arrays

TEXTS = [
    "The city of Lima is in Peru.",
    "a probe",
    "one two three four five six seven",
    "The city of Paris is in France.",
]
CHAT = ({"role": "user", "content": "Where is Paris?"}, {"role": "assistant", "content": "In France."})


def reference(model, text: str) -> float:
    """The loss that transformers gives."""
    ids = torch.tensor([model.encode([text])[0]])
    with torch.no_grad():
        return float(model.module(input_ids=ids, labels=ids, use_cache=False).loss)


# Logits that are scaled (granite, cohere) or capped (gemma2), experts, a trunk that the head reads otherwise (opt).
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "granite", "cohere", "mixtral", "opt"])
def test_a_text_has_the_loss_that_transformers_gives(tiny_model, family, monkeypatch) -> None:
    model = tiny_model(family)
    found = mean_nll(model, TEXTS)
    np.testing.assert_allclose(found, [reference(model, text) for text in TEXTS], rtol=1e-5)
    # Logits a few positions at a time are the same ones.
    monkeypatch.setattr(perplexity, "_LOGITS", 3 * 384)
    np.testing.assert_allclose(mean_nll(model, TEXTS), found, rtol=1e-5)
    assert "forward" not in model.module.base_model.__dict__


def test_neither_the_batch_nor_the_side_of_the_padding_changes_it(tiny_model) -> None:
    for family in ("llama", "gpt2", "opt"):
        model = tiny_model(family)
        alone = np.array([mean_nll(model, [text])[0] for text in TEXTS])
        for batch_tokens in (1, 40, 4096):
            np.testing.assert_allclose(mean_nll(model, TEXTS, batch_tokens=batch_tokens), alone, rtol=1e-5)
        rows = model.encode(TEXTS)
        width = max(map(len, rows)) + 3
        for left in (False, True):
            ids, mask = torch.full((len(rows), width), 7), torch.zeros((len(rows), width), dtype=torch.long)
            for i, row in enumerate(rows):
                at = slice(width - len(row), width) if left else slice(0, len(row))
                ids[i, at], mask[i, at] = torch.tensor(row), 1
            np.testing.assert_allclose(nll_of_batch(model, ids, mask), alone, rtol=1e-5)


def test_a_single_token_has_none_and_equal_texts_are_computed_once(tiny_model, monkeypatch) -> None:
    model = tiny_model()
    assert len(model.encode(["a"])[0]) == 1
    passed = []
    run = model.run
    monkeypatch.setattr(model, "run", lambda batch, part=None: passed.append(len(batch.mask)) or run(batch, part))
    found = mean_nll(model, ["a", TEXTS[0], TEXTS[1], TEXTS[0]])
    assert np.isnan(found[0])
    assert np.isfinite(found[1:]).all()
    assert found[1] == found[3]
    assert sum(passed) == 2
    assert np.isnan(mean_nll(model, ["a"])).all()


def test_a_chat_is_rendered_as_for_extraction(tiny_model) -> None:
    model = tiny_model()
    rendered = model.tokenizer.apply_chat_template(list(CHAT), tokenize=False)
    assert mean_nll(model, [CHAT])[0] == pytest.approx(mean_nll(model, [rendered])[0], rel=1e-6)


@pytest.mark.parametrize("family", ["bert", "t5", "whisper"])
def test_models_that_predict_no_text_say_why(tiny_tokenizer, family) -> None:
    model = load_model(build_module(family), tokenizer=tiny_tokenizer)
    assert why_no_perplexity(model)
    with pytest.raises(ModelError, match="no text has a likelihood here"):
        mean_nll(model, TEXTS)


def test_a_trunk_without_its_head_says_so(tiny_tokenizer) -> None:
    model = load_model(build_module("llama").model, tokenizer=tiny_tokenizer)
    assert "without a language-model head" in why_no_perplexity(model)


# ---- what the study hands to the evidence


class Notes:
    def __init__(self) -> None:
        self.events = []

    def emit(self, event) -> None:
        self.events.append(event)

    @property
    def notes(self) -> list[str]:
        return [event.message for event in self.events if event.kind == "note"]


def dataset(texts) -> Dataset:
    return Dataset.from_rows([{"text": t, "label": i % 2} for i, t in enumerate(texts)], target="label")


def test_the_ends_of_texts_pass_special_tokens_over(tiny_models, tiny_tokenizers) -> None:
    model = load_model(tiny_models("llama"), tokenizer=tiny_tokenizers(bos=True))
    found = surface_arrays(model, dataset(TEXTS), "last", ("first_token", "last_token", "position", "bag_of_words"))
    plain = [tiny_tokenizers().encode(text) for text in TEXTS]
    assert found["first_token"].tolist() == [ids[0] for ids in plain]
    assert found["last_token"].tolist() == [ids[-1] for ids in plain]
    # With the opening token there are as many before the last one as the text itself has.
    assert found["position"].tolist() == [[len(ids), 0, 1] for ids in plain]
    assert set(found) == {"first_token", "last_token", "position"}


def test_positions_follow_the_selection(tiny_model) -> None:
    model = tiny_model()
    lengths = [len(ids) for ids in model.encode(TEXTS)]
    data = dataset(TEXTS)

    def positions(tokens: str) -> list[list[float]]:
        return surface_arrays(model, data, tokens, ("position",))["position"].tolist()

    assert positions("first") == [[0, n - 1, 1] for n in lengths]
    assert positions("-2") == [[n - 2, 1, 1] for n in lengths]
    assert positions("mean") == [[n - 1, 0, n] for n in lengths]
    assert positions("mean@:2") == [[1, n - 2, 2] for n in lengths]
    notes = Notes()
    assert surface_arrays(model, data, "all", ("position",), notes) == {}
    assert "every token is kept" in notes.notes[0]


def test_a_row_that_stands_for_a_word_has_the_words_ends_and_its_place(tiny_model) -> None:
    model = tiny_model()
    rows = [{"words": ["The", "city", "of", "Paris"], "tag": ["D", "N", "P", "N"]}, {"words": ["one"], "tag": ["N"]}]
    data = Dataset.from_words(rows, words="words", labels="tag", target="tag", positive="N")
    found = surface_arrays(model, data, f"last@span:{data.span_column}")
    assert found["position"].tolist() == [[0, 3], [1, 2], [2, 1], [3, 0], [0, 0]]
    decode = model.tokenizer.decode
    assert [decode([i]).strip()[:1] for i in found["first_token"]] == ["T", "c", "o", "P", "o"]
    assert [decode([i]).strip()[-1:] for i in found["last_token"]] == ["e", "y", "f", "s", "e"]
    assert len(set(found["perplexity"][:4])) == 1


def test_the_ends_of_a_chat_are_those_of_its_messages(tiny_model) -> None:
    model = tiny_model()
    data = Dataset.from_rows([{"chat": list(CHAT), "label": i % 2} for i in range(2)], text="chat", target="label")
    found = surface_arrays(model, data, "last")
    assert model.tokenizer.decode([found["first_token"][0]]) == model.tokenizer.decode(model.encode(["Where"])[0][:1])
    assert model.tokenizer.decode([found["last_token"][0]]).endswith(".")
    assert np.isfinite(found["perplexity"]).all()


def test_perplexity_tells_of_progress_and_of_what_is_left_out(tiny_model, tiny_tokenizer) -> None:
    notes = Notes()
    model = tiny_model()
    found = surface_arrays(model, dataset([*TEXTS, "a", "b"]), "last", ("perplexity",), notes)
    np.testing.assert_allclose(found["perplexity"][:4], mean_nll(model, TEXTS), rtol=1e-6)
    assert np.isnan(found["perplexity"][4:]).all()
    assert "2 rows of one token" in notes.notes[0]
    progress = [event for event in notes.events if event.kind == "progress"]
    assert progress[-1].done == progress[-1].total > 0
    encoder = load_model(build_module("bert"), tokenizer=tiny_tokenizer)
    notes = Notes()
    assert set(surface_arrays(encoder, dataset(TEXTS), "mean", events=notes)) == {
        "first_token",
        "last_token",
        "position",
    }
    assert "'perplexity' is left out" in notes.notes[0]
    assert "encoder" in notes.notes[0]
