"""Prompts with answers: where the text stands, which tokens answers are, and who is interchanged with whom."""

from __future__ import annotations

import numpy as np
import pytest

from leadline.activations.tokens import Selection
from leadline.causal.examples import prompts
from leadline.causal.neutral import NEUTRAL
from leadline.errors import CausalError
from leadline.models import load_model

TEXTS = ["The city of Lima is in Peru.", " a probe ", "one two", "The city of Paris is in France."]


def test_the_text_is_found_inside_its_prompt(tiny_model) -> None:
    model = tiny_model()
    examples = prompts(model, TEXTS, template="Is it so? {text} Answer:")
    last = Selection.parse("last@span:text")
    for i, text in enumerate(TEXTS):
        start, end = examples.span(i)
        row = examples.rows[i]
        assert row.text[start:end] == text
        assert row.text == f"Is it so? {text} Answer:"
        at = last.positions(row, examples.span(i))[-1]
        assert row.offsets[at, 0] < start + len(text.rstrip()) <= row.offsets[at, 1]
        assert at < row.length - 1
    assert examples.texts == tuple(TEXTS)
    assert np.isnan(examples.y).all()
    np.testing.assert_array_equal(examples.partner, -1)
    np.testing.assert_array_equal(examples.groups, np.arange(4))


def test_a_chat_ends_with_what_opens_the_answer(tiny_model) -> None:
    model = tiny_model()
    template = [{"role": "system", "content": "Say yes."}, {"role": "user", "content": "Is it so? {text} Well?"}]
    examples = prompts(model, TEXTS, template=template, positive=("yes",), negative=("no",))
    for i, text in enumerate(TEXTS):
        row, (start, end) = examples.rows[i], examples.span(i)
        assert row.text.endswith("Well?<eos>\n<bos>assistant\n")
        assert row.text[start:end] == text
        assert list(row.ids) == model.tokenizer(row.text, add_special_tokens=False)["input_ids"]
    # Extraction's own rows still end where the chat ends.
    assert not model.encode_rows([template], offsets=True)[0].text.endswith("assistant\n")


def test_answers_are_what_follows_the_prompt(tiny_model, tiny_models, tiny_tokenizers) -> None:
    for model in (
        tiny_model(),
        load_model(tiny_models("llama"), tokenizer=tiny_tokenizers(bos=True), dtype="float32", device="cpu"),
    ):
        by_row = [(" Peru", " Peru. The city"), (" a",), " two", (" ten",)]
        examples = prompts(model, TEXTS, template="{text} in", positive=by_row, negative=(" France",))
        for i, answers in enumerate(by_row):
            for ids, answer in zip(
                examples.positive[i], (answers,) if isinstance(answers, str) else answers, strict=True
            ):
                whole = model.encode([f"{TEXTS[i]} in{answer}"])[0]
                assert [*examples.rows[i].ids, *ids] == whole
        assert len(examples.positive[0][1]) > 1
        assert examples.has_answers


def test_no_answers_are_readings_alone(tiny_model) -> None:
    examples = prompts(tiny_model(), TEXTS, positive=(), negative=())
    assert not examples.has_answers
    assert [examples.span(i) for i in range(4)] == [(0, len(text)) for text in TEXTS]


def test_partners_are_of_the_other_class_and_as_near_as_can_be(tiny_model) -> None:
    model = tiny_model()
    n = 24
    texts = [f"{'Paris' if i % 2 else 'Lima'} {i}" for i in range(n)]
    y = (np.arange(n) % 2).astype(float)
    pairs = np.arange(n) // 2
    pairs[:4] = [90, 91, 92, 93]
    groups = np.arange(n) // 4
    groups[2:4] = 99
    y[-1] = np.nan
    groups[2] = 100
    groups[3] = 101
    examples = prompts(model, texts, y=y, groups=groups, pairs=pairs)
    # Of the same pair,
    np.testing.assert_array_equal(examples.partner[4:-2], np.arange(4, n - 2) ^ 1)
    # else of the same group,
    np.testing.assert_array_equal(examples.partner[:2], [1, 0])
    # else any.
    assert (y[examples.partner[[2, 3, n - 2]]] == 1 - y[[2, 3, n - 2]]).all()
    assert examples.partner[-1] == -1
    drawn = {int(prompts(model, texts, y=y, groups=groups, pairs=pairs, seed=s).partner[2]) for s in range(8)}
    assert len(drawn) > 1
    again = prompts(model, texts, y=y, groups=groups, pairs=pairs)
    np.testing.assert_array_equal(again.partner, examples.partner)
    # One class alone has no partners.
    np.testing.assert_array_equal(prompts(model, texts, y=np.ones(n)).partner, -1)


def test_some_rows_keep_partners_among_themselves(tiny_model) -> None:
    texts = [f"one two {i}" for i in range(6)]
    examples = prompts(tiny_model(), texts, y=[0, 1, 0, 1, 0, 1], pairs=[0, 0, 1, 1, 2, 2])
    some = examples.take([5, 1, 0])
    np.testing.assert_array_equal(some.partner, [-1, 2, 1])
    assert some.texts == (texts[5], texts[1], texts[0])
    assert some.rows[1] is examples.rows[1]
    np.testing.assert_array_equal(some.y, [1, 1, 0])
    np.testing.assert_array_equal(examples.take(examples.y == 1).groups, examples.groups[[1, 3, 5]])


def test_what_makes_no_examples_is_refused(tiny_model) -> None:
    model = tiny_model()
    for match, options in (
        ("a list of texts", {"texts": "one"}),
        ("expected one", {"template": "no place"}),
        ("expected once", {"template": [{"role": "user", "content": "none"}]}),
        ("one side alone", {"negative": ()}),
        (
            "row 2 without answers",
            {"positive": [("a",)] * 2 + [()] + [("a",)], "negative": [("b",)] * 2 + [()] + [("b",)]},
        ),
        ("is empty", {"positive": (" yes", "")}),
        ("positive and negative", {"positive": (" no", " yes")}),
        ("one text", {"positive": " yes"}),
        ("2 lists of answers for 4 rows", {"positive": [(" yes",), (" no",)]}),
        ("expected 0 or 1", {"y": [0, 1, 2, 1]}),
        ("y of shape", {"y": [0, 1]}),
        ("does not stand", {"texts": ["a", "b", "c", "  "]}),
    ):
        given = {"texts": TEXTS, **options}
        with pytest.raises(CausalError, match=match):
            prompts(model, given.pop("texts"), **given)


def test_answers_outside_the_vocabulary_are_refused() -> None:
    from leadline.testing.planted_models import word_model

    model = word_model(["ja", "nein", "wer"], np.ones((3, 2)), 0)
    examples = prompts(model, ["ja wer", "wer"], positive=(" ja",), negative=(" nein",))
    assert examples.positive == (((1,),), ((1,),))
    with pytest.raises(CausalError, match="does not know the answer ' yes'"):
        prompts(model, ["ja wer"], positive=(" yes",), negative=(" nein",))


def test_neutral_sentences_are_many_and_varied() -> None:
    assert len(NEUTRAL) == len(set(NEUTRAL)) == 48
    starts = {text.split()[0] for text in NEUTRAL}
    assert len(starts) > 15
    assert all(8 <= len(text.split()) <= 25 for text in NEUTRAL)
    concepts = {"true", "false", "good", "bad", "love", "hate", "terrible", "wonderful", "sorry", "cannot", "city"}
    assert not concepts & {word.strip(".,").lower() for text in NEUTRAL for word in text.split()}
