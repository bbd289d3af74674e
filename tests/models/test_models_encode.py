"""Texts and chats to token ids."""

from __future__ import annotations

import pytest

from leadline.errors import DataError, ModelError
from leadline.models import load_model

CHAT = ({"role": "user", "content": "Where is Paris?"}, {"role": "assistant", "content": "In France."})


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model("llama")


def test_rows_are_encoded_as_the_tokenizer_does_alone(model) -> None:
    texts = ["The city of Lima is in Peru.", "a", "one two three four five six"]
    assert model.encode(texts) == [model.tokenizer(text)["input_ids"] for text in texts]
    assert len({len(row) for row in model.encode(texts)}) == 3
    assert model.encode([]) == []


def test_special_tokens_are_the_tokenizers_own(tiny_models, tiny_tokenizers) -> None:
    model = load_model(tiny_models("llama"), tokenizer=tiny_tokenizers(bos=True))
    assert [row[0] for row in model.encode(["Paris", "Lima"])] == [1, 1]
    assert model.encode(["Paris"])[0][1:] == tiny_tokenizers().encode("Paris")


def test_a_chat_goes_through_the_template_once(tiny_models, tiny_tokenizers) -> None:
    for bos in (False, True):
        model = load_model(tiny_models("llama"), tokenizer=tiny_tokenizers(bos=bos))
        text = "<bos>user\nWhere is Paris?<eos>\n<bos>assistant\nIn France.<eos>\n"
        mixed = model.encode(["Lima", CHAT, "Paris"])
        assert model.tokenizer.decode(mixed[1]) == text
        assert mixed[1].count(1) == 2
        assert mixed[0] == model.encode(["Lima"])[0]
        assert mixed[2] == model.encode(["Paris"])[0]
        assert model.encode([list(CHAT)]) == [mixed[1]]


def test_a_chat_without_a_template_is_refused(tiny_models, tiny_tokenizers) -> None:
    model = load_model(tiny_models("llama"), tokenizer=tiny_tokenizers(chat=False))
    with pytest.raises(DataError, match=r"row 1 is a chat, but the tokenizer of 'Llama\w+' has no chat template"):
        model.encode(["text", CHAT])


def test_a_chat_that_the_template_refuses_names_the_row(tiny_models, tiny_tokenizers) -> None:
    tokenizer = tiny_tokenizers()
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    model = load_model(tiny_models("llama"), tokenizer=tokenizer)
    with pytest.raises(DataError, match=r"row 0: the chat template .* refuses these messages \(roles must alternate\)"):
        model.encode([CHAT])


@pytest.mark.parametrize("row", [3, None, [], [{"role": "user"}], [["user", "hi"]], {"role": "user", "content": "hi"}])
def test_a_row_that_is_neither_text_nor_chat_is_refused(model, row) -> None:
    with pytest.raises(DataError, match="row 1 is neither a text nor a chat"):
        model.encode(["text", row])


def test_one_text_instead_of_a_list_is_refused(model) -> None:
    with pytest.raises(DataError, match="put it in a list"):
        model.encode("Paris")


def test_rows_without_tokens_are_named(model) -> None:
    with pytest.raises(DataError, match="no tokens in rows 1, 3;"):
        model.encode(["a", "", "b", ""])
    with pytest.raises(DataError, match="and 15 more"):
        model.encode([""] * 25)


def test_nothing_is_cut_off(model, caplog) -> None:
    text = "x" * 200
    with pytest.raises(DataError, match=r"longer than the 128 tokens .*: row 1 \(the longest has \d+\)"):
        model.encode(["short", text])
    longest = "x y" * 30
    assert model.tokenizer.decode(model.encode([longest])[0]) == longest
    assert not caplog.records


def test_a_state_left_on_the_tokenizer_does_not_cut_or_pad(model, tiny_tokenizers) -> None:
    texts, fresh = ["a", "b c d e f g"], tiny_tokenizers()
    model.tokenizer(texts, padding=True, truncation=True, max_length=3)
    assert model.encode(texts) == [fresh.encode(text) for text in texts]
    assert len(model.encode(texts)[1]) > 3


def test_a_foreign_tokenizer_is_noticed(tiny_models, tiny_tokenizer) -> None:
    model = load_model(tiny_models("llama", vocab_size=100), tokenizer=tiny_tokenizer)
    with pytest.raises(ModelError, match=r"ids up to \d+ in row 0, but '.*' has 100 embeddings"):
        model.encode(["The city of Paris"])
