"""Which tokens a selection means, and how they are pooled."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from leadline.activations import SELECTIONS, Selection
from leadline.activations.tokens import pool_positions
from leadline.errors import ActivationsError

torch = pytest.importorskip("torch")


def pool(name, x, mask):
    return Selection.parse(name).pooler(torch.tensor(mask))(x)


def test_unknown_selection_lists_what_there_is_and_the_nearest():
    with pytest.raises(ActivationsError, match=r"'lsat'.*last, first, mean, max.*Did you mean 'last'"):
        Selection.parse("lsat")


def test_a_selection_is_parsed_once_and_kept():
    selection = Selection.parse(" mean ")
    assert selection == Selection("mean")
    assert Selection.parse(selection) is selection
    assert str(selection) == "mean"


def test_last_and_first_follow_the_mask_on_either_side_and_across_holes():
    x = torch.arange(5.0).reshape(1, 5, 1).expand(4, 5, 1)
    mask = [[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [0, 1, 0, 1, 0], [1, 1, 1, 1, 1]]
    assert pool("last", x, mask).flatten().tolist() == [2, 4, 3, 4]
    assert pool("first", x, mask).flatten().tolist() == [0, 2, 1, 0]


def test_max_of_negative_values_is_not_the_padding():
    x = torch.full((1, 3, 2), -7.0)
    assert pool("max", x, [[1, 1, 0]]).tolist() == [[-7.0, -7.0]]


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
def test_what_stands_at_padding_does_not_matter(name, garbage):
    x = torch.tensor([[[1.0], [3.0], [garbage]], [[garbage], [2.0], [4.0]]])
    expected = {"last": [3, 4], "first": [1, 2], "mean": [2, 3], "max": [3, 4]}[name]
    assert pool(name, x, [[1, 1, 0], [0, 1, 1]]).flatten().tolist() == expected


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_result_is_float32_and_its_own_memory(name, dtype):
    x = torch.ones(2, 3, 4, dtype=dtype)
    pooled = pool(name, x, [[1, 1, 0], [1, 1, 1]])
    assert pooled.dtype == torch.float32
    assert pooled.shape == (2, 4)
    x.zero_()
    assert bool((pooled == 1).all())


def test_the_mean_of_bfloat16_is_accumulated_in_float32():
    # 256 + 1 is 256 in bfloat16, so a bfloat16 sum would stand still.
    x = torch.ones(1, 1000, 1, dtype=torch.bfloat16)
    x[0, 0] = 256
    assert pool("mean", x, [[1] * 1000]).item() == pytest.approx((256 + 999) / 1000, rel=1e-6)


def test_the_mean_beside_an_attention_sink_keeps_what_the_other_tokens_say():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 64, 32, generator=generator) * 5.7
    x[:, 0] *= 20_000 / 5.7
    expected = x.double().mean(dim=1)
    error = (pool("mean", x, [[1] * 64] * 8).double() - expected).abs()
    # Within a few roundings of the largest term's share of the mean.
    assert bool((error <= 4 * 2**-24 * x.abs().amax(dim=1).double() / 64 + 1e-9).all())


def test_a_row_without_tokens_is_refused():
    with pytest.raises(ActivationsError, match="no real token in row 1"):
        pool("last", torch.zeros(2, 3, 1), [[1, 0, 0], [0, 0, 0]])


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ActivationsError, match=r"\(2, 3, 1\); expected \(batch, seq\)"):
        Selection("mean").pooler(torch.ones(2, 3, 1))


# ---- the grammar


@pytest.mark.parametrize(
    ("text", "name", "pool", "which"),
    [
        ("last", "last", "last", ""),
        (" first ", "first", "first", ""),
        ("all", "all", "all", ""),
        ("-3:", "mean@-3:", "mean", "-3:"),
        ("max @ 2:5", "max@2:5", "max", "2:5"),
        (":4", "mean@:4", "mean", ":4"),
        ("0:4", "mean@:4", "mean", ":4"),
        ("1:-1", "mean@1:-1", "mean", "1:-1"),
        (":", "mean", "mean", ""),
        ("max@0:", "max", "max", ""),
        ("-2", "last@-2", "last", "-2"),
        ("+0", "last@0", "last", "0"),
        ("mean@-2", "mean@-2", "mean", "-2"),
        ("all@-3:", "all@-3:", "all", "-3:"),
        ("span:subject", "mean@span:subject", "mean", "span:subject"),
        ("last@span: subject", "last@span:subject", "last", "span:subject"),
        ("role:assistant", "mean@role:assistant", "mean", "role:assistant"),
        (r"regex:\w+@(\w+) ", r"mean@regex:\w+@(\w+) ", "mean", r"regex:\w+@(\w+) "),
        ("all@regex:a|b", "all@regex:a|b", "all", "regex:a|b"),
        ("every:4", "mean@every:4", "mean", "every:4"),
        ("max@image", "max@image", "max", "image"),
        ("text", "mean@text", "mean", "text"),
        ("patches", "mean@patches", "mean", "patches"),
        ("content", "mean@content", "mean", "content"),
    ],
)
def test_a_selection_has_one_canonical_name(text, name, pool, which):
    selection = Selection.parse(text)
    assert (selection.name, selection.pool, selection.which) == (name, pool, which)
    assert Selection.parse(name) == selection
    assert hash(Selection.parse(name)) == hash(selection)
    assert selection.ragged == (pool == "all")
    assert selection.needs_offsets == which.startswith(("span", "role", "regex", "content"))
    assert selection.span == ("subject" if which.startswith("span") else None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "maen@-3:",
            r"unknown pool 'maen' in .*'maen@-3:'; expected one of last, first, mean, max, all.*Did you mean 'm",
        ),
        ("mean@", "nothing stands behind the '@'"),
        ("@-3:", "unknown pool ''"),
        ("mean@lost", "unknown token selection 'mean@lost'.*Did you mean 'last'"),
        ("rol:user", r"unknown token selection 'rol:user'.*Did you mean 'role:user'"),
        ("contnet", "Did you mean 'content'"),
        ("span:", "nothing stands behind 'span:'"),
        ("regex:", "nothing stands behind 'regex:'"),
        ("regex:(a", r"pattern of the token selection 'regex:\(a' is no regular expression \(missing \), unterminated"),
        ("every:0", "step '0'; expected a whole number of at least 1"),
        ("every:-2", "step '-2'"),
        ("every:x", "step 'x'"),
        ("5:2", "'5:2' names no token of any row"),
        ("-1:-3", "names no token"),
        ("mean@:0", "'mean@:0' names no token"),
        ("1:2:3", "unknown token selection '1:2:3'"),
        ("", "unknown token selection ''"),
    ],
)
def test_what_is_outside_the_grammar_is_refused(text, said):
    with pytest.raises(ActivationsError, match=said):
        Selection.parse(text)


# ---- positions


@dataclass
class Row:
    """An encoded row; tokens by their character ranges in the text."""

    length: int
    text: str | None = None
    offsets: np.ndarray | None = None
    messages: tuple = ()
    parts: dict = field(default_factory=dict)


def cut(text: str, tokens: list[str], **more) -> Row:
    """A row of tokens that stand in the text one after another; "" for a special token."""
    offsets, at = [], 0
    for token in tokens:
        if token:
            at = text.index(token, at)
        offsets.append((at, at + len(token)) if token else (0, 0))
        at += len(token)
    return Row(len(tokens), text, np.array(offsets), **more)


def positions(selection: str, row: Row, **more) -> list[int]:
    found = Selection.parse(selection).positions(row, **more)
    assert found.dtype == np.int64
    return found.tolist()


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("last", [0, 1, 2, 3, 4]),
        ("all", [0, 1, 2, 3, 4]),
        ("-3:", [2, 3, 4]),
        ("-9:", [0, 1, 2, 3, 4]),
        ("2:5", [2, 3, 4]),
        ("2:50", [2, 3, 4]),
        (":4", [0, 1, 2, 3]),
        ("1:-1", [1, 2, 3]),
        ("-2", [3]),
        ("0", [0]),
        ("every:1", [0, 1, 2, 3, 4]),
        ("every:2", [0, 2, 4]),
        ("every:9", [0]),
        ("image", [1, 2]),
    ],
)
def test_positions_that_need_no_text(selection, expected):
    assert positions(selection, Row(5, parts={"image": np.array([0, 1, 1, 0, 0], bool)})) == expected


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        ("5:", r"'mean@5:' found no token: it looked for tokens 5:; the row has 5"),
        ("5", "looked for token 5; the row has 5"),
        ("-6", "looked for token -6"),
        ("text", r"the row has no part 'text' \(its parts: image\)"),
        ("image", "a token of the part 'image'"),
        ("content", "needs the character range of each token.*was not made of text"),
        ("role:user", "needs the character range"),
    ],
)
def test_positions_that_are_not_there_say_what_was_looked_for(selection, said):
    with pytest.raises(ActivationsError, match=said):
        positions(selection, Row(5, parts={"image": np.zeros(5, bool)}))


def test_a_row_without_offsets_names_the_tokenizer():
    with pytest.raises(ActivationsError, match=r"'span:x' needs .*fast tokenizer"):
        positions("span:x", Row(1, "word"), span=(0, 4))


SENTENCE = "The city of Paris is in France."


@pytest.mark.parametrize("before", [True, False])
def test_a_span_is_the_same_whether_tokens_hold_the_space_before_a_word_or_not(before):
    words = SENTENCE[:-1].split(" ")
    tokens = [words[0], *[f" {word}" if before else word for word in words[1:]], "."]
    row = cut(SENTENCE, ["", *tokens, ""])
    start = SENTENCE.index("Paris")
    assert positions("span:x", row, span=(start, start + 5)) == [4]
    # The space after it belongs to the next token, by which it is not meant.
    assert positions("span:x", row, span=(start - 1, start + 6)) == [4]
    assert positions("span:x", row, span=(start - 2, start + 1)) == [3, 4]
    assert positions("last@span:x", row, span=(0, len(SENTENCE))) == list(range(1, 9))
    assert positions("content", row) == list(range(1, 9))
    with pytest.raises(ActivationsError, match=r"range of 'span:x' \(ranges of spaces have none\)"):
        positions("span:x", row, span=(start - 1, start))


@pytest.mark.parametrize("span", [(-1, 3), (3, 3), (5, 2), (0, 99)])
def test_a_span_outside_the_text_is_refused(span):
    with pytest.raises(ActivationsError, match=rf"range \[{span[0]}, {span[1]}\) of 'span:x' is not in the row's text"):
        positions("span:x", cut(SENTENCE, ["The"]), span=span)


def test_a_span_is_given_to_span_selections_and_only_to_them():
    with pytest.raises(ActivationsError, match=r"'span:x' needs the row's character range.*given none"):
        positions("span:x", cut(SENTENCE, ["The"]))
    with pytest.raises(ActivationsError, match="a span was given for 'last', which reads none"):
        positions("last", cut(SENTENCE, ["The"]), span=(0, 3))


def test_roles_of_a_chat():
    text = "<user>Is it?</><bot>Yes.</><user>And  now?</>"
    tokens = ["<user>", "Is", " it", "?", "</>", "<bot>", "Yes", ".", "</>", "<user>", "And", "  ", "now", "?</>"]
    contents = [("user", "Is it?"), ("assistant", "Yes."), ("user", "And  now?")]
    messages = tuple((role, text.index(said), text.index(said) + len(said)) for role, said in contents)
    row = cut(text, tokens, messages=messages)
    # A token that is half the content's is the content's; one of spaces alone is nobody's.
    assert positions("role:user", row) == [1, 2, 3, 10, 12, 13]
    assert positions("all@role:assistant", row) == [6, 7]
    with pytest.raises(
        ActivationsError, match=r"role 'asistant'; the roles here: user, assistant\. Did you mean 'assis"
    ):
        positions("role:asistant", row)
    with pytest.raises(ActivationsError, match="the row is no chat"):
        positions("role:user", cut(SENTENCE, ["The"]))


def test_patterns_and_their_group():
    row = cut(SENTENCE, ["The", " city", " of", " Par", "is", " is", " in", " France", "."])
    assert positions(r"regex:of (\w+)", row) == [3, 4]
    assert positions(r"regex:of \w+", row) == [2, 3, 4]
    assert positions(r"regex:[A-Z]", row) == [0, 3, 7]
    assert positions(r"regex:(Lima)|France", cut(SENTENCE + " Lima", [" France", " Lima"])) == [1]
    with pytest.raises(ActivationsError, match=r"overlaps a match of the pattern 'Lima'"):
        positions("regex:Lima", row)
    # An empty match holds no token.
    with pytest.raises(ActivationsError, match="overlaps a match"):
        positions("regex:x*", row)


def test_a_pattern_for_white_space_finds_the_tokens_that_hold_it():
    row = cut("one\ntwo three\n\nfour", ["one", "\n", "two", " three", "\n\n", "four"])
    assert positions(r"regex:\n", row) == [1, 4]
    assert positions(r"regex:\n+|t\w+", row) == [1, 2, 3, 4]


def test_wide_spaces_and_characters_beyond_the_basic_plane():
    text = "a\u3000\u2003𝒳𝒴 b"
    row = cut(text, ["a", "\u3000", "\u2003", "𝒳", "𝒴 ", "b"])
    assert positions("span:x", row, span=(0, len(text))) == [0, 3, 4, 5]
    assert positions("span:x", row, span=(4, 6)) == [4]


def test_all_tokens_of_a_character_that_was_split_belong(tiny_tokenizers):
    tokenizer = tiny_tokenizers(bos=True)
    text = "a 🙂 probe"
    encoded = tokenizer(text, return_offsets_mapping=True)
    row = Row(len(encoded["input_ids"]), text, np.array(encoded["offset_mapping"]))
    found = positions("span:x", row, span=(2, 3))
    assert len(found) >= 4
    pieces = tokenizer.convert_ids_to_tokens([encoded["input_ids"][i] for i in found])
    assert tokenizer.convert_tokens_to_string(pieces).strip() == "🙂"
    assert positions("content", row) == list(range(1, row.length))
    word = positions("span:x", row, span=(4, 9))
    assert tokenizer.decode([encoded["input_ids"][i] for i in word]).strip() == "probe"


# ---- pooling some positions


def test_every_pool_of_some_positions():
    x = torch.arange(24.0).reshape(2, 4, 3)
    source, where = [1, 0, 1], [np.array([0, 3]), np.array([2]), np.array([1, 2, 3])]
    expected = {
        "last": [x[1, 3], x[0, 2], x[1, 3]],
        "first": [x[1, 0], x[0, 2], x[1, 1]],
        "mean": [(x[1, 0] + x[1, 3]) / 2, x[0, 2], x[1, 1:].mean(0)],
        "max": [x[1, 3], x[0, 2], x[1, 3]],
        "all": [x[1, 0], x[1, 3], x[0, 2], *x[1, 1:]],
    }
    for pool_name, rows in expected.items():
        torch.testing.assert_close(pool_positions(pool_name, np.array(source), where)(x), torch.stack(rows))


def test_what_cannot_be_pooled_is_refused():
    one = [np.array([0])]
    for arguments, said in [
        (("meen", [0], one), "unknown pool 'meen'.*Did you mean 'mean'"),
        (("mean", [0, 1], one), "2 batch rows and 1 sets"),
        (("mean", [], []), "at least one row"),
        (("mean", [0], [np.array([], int)]), "output row 0 has no positions"),
        (("mean", [0], [np.array([1, 1])]), "must be sorted"),
        (("mean", [0], [np.array([-1])]), "count from 0"),
        (("mean", [-1], one), "count from 0"),
    ]:
        with pytest.raises(ActivationsError, match=said):
            pool_positions(*arguments)
    for source, where in [([2], one), ([0], [np.array([3])])]:
        with pytest.raises(ActivationsError, match=r"the activations have the shape \(2, 3, 4\)"):
            pool_positions("max", source, where)(torch.zeros(2, 3, 4))


def test_a_mask_alone_does_not_pool_some_positions_and_all_keeps_each():
    with pytest.raises(ActivationsError, match=r"'mean@-3:' reads some tokens.*pool_positions"):
        Selection.parse("-3:").pooler(torch.ones(1, 3))
    x = torch.arange(12.0).reshape(2, 3, 2)
    kept = pool("all", x, [[1, 1, 0], [0, 1, 1]])
    assert kept.tolist() == [[0, 1], [2, 3], [8, 9], [10, 11]]
