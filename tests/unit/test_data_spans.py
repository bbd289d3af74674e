"""Which part of a text a column names: ranges, substrings, and what is said where there is none."""

from __future__ import annotations

import polars as pl
import pytest

from leadline.data import Dataset
from leadline.errors import DataError

TEXTS = ["Paris is in France.", "Rome is in Peru.", "Is it? It is: 🙂 ok"]
PLACES = [[0, 5], [11, 15], [14, 15]]


def with_column(values, texts=TEXTS, **options):
    rows = [{"text": text, "part": value} for text, value in zip(texts, values, strict=True)]
    return Dataset.from_rows(rows, target=(), **options)


def parts(data, spans):
    return [text[start:end] for text, (start, end) in zip(data.texts, spans.tolist(), strict=True)]


@pytest.mark.parametrize(
    "values",
    [
        PLACES,
        ["[0, 5]", " [11,15] ", "[14, 15]"],
        ["Paris", "Peru", "🙂"],
    ],
    ids=["pairs", "pairs as text", "substrings"],
)
def test_ranges_and_substrings_say_the_same(values):
    data = with_column(values)
    spans = data.span("part")
    assert spans.tolist() == PLACES
    assert spans.dtype == "int64"
    assert parts(data, spans) == ["Paris", "Peru", "🙂"]
    assert data.span_fingerprint("part") == with_column(PLACES).span_fingerprint("part")


def test_lists_and_arrays_of_parquet_are_ranges(tmp_path):
    for dtype in (pl.List(pl.Int64), pl.Array(pl.Int32, 2), pl.List(pl.Float64)):
        pl.DataFrame({"text": TEXTS, "part": pl.Series(PLACES, dtype=dtype)}).write_parquet(tmp_path / "x.parquet")
        assert Dataset.from_parquet(tmp_path / "x.parquet", target=()).span("part").tolist() == PLACES


def test_spans_follow_the_rows_that_are_chosen(tmp_path):
    data = with_column(["Paris", "Peru", "🙂"]).select([2, 0])
    assert data.span("part").tolist() == [[14, 15], [0, 5]]
    assert data.span_fingerprint("part") != with_column(["Paris", "Peru", "🙂"]).span_fingerprint("part")
    data.write(tmp_path)
    assert Dataset.read(tmp_path).span("part").tolist() == [[14, 15], [0, 5]]
    assert with_column(["Paris", "Peru", "🙂"]).select([]).span("part").shape == (0, 2)


def test_spans_take_no_part_in_the_fingerprint_of_texts():
    assert with_column(PLACES).fingerprint == with_column(["is", "is", "ok"]).fingerprint


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            ["Paris", "Lima", "ok"],
            r"does not stand exactly once .* in row 2 \(row 2: 'Lima' not at all\): give \[start",
        ),
        (["is", "ss", "Is"], r"in rows 1 and 2 \(row 1: 'is' 2 times; row 2: 'ss' not at all\)"),
        (["Paris", None, ""], r"no value in rows 2 and 3; give a span"),
        ([[0, 5], [3, 3], [0, 5]], r"is empty or reaches outside .* in row 2 \(row 2: \[3, 3\] of 16 characters\)"),
        ([[0, 5], [-1, 3], [0, 19]], r"in rows 2 and 3 \(row 2: \[-1, 3\].*; row 3: \[0, 19\] of 18"),
        (["[0, 5]", "[4, 3]", "[1, 2]"], r"row 2: \[4, 3\]"),
        # One text that is no pair makes all of them substrings.
        (["[0, 5]", "Peru", "ok"], r"row 1: '\[0, 5\]' not at all"),
        ([1, 2, 3], "values of type Int64; expected"),
    ],
)
def test_what_is_no_span_is_named_by_its_row(values, message):
    with pytest.raises(DataError, match=message):
        with_column(values).span("part")


@pytest.mark.parametrize("bad", [[0], [0, 1, 2], [0.5, 1.0], [None, 3]])
def test_pairs_have_two_whole_numbers(bad):
    frame = pl.DataFrame({"text": ["abc"], "part": [bad]})
    with pytest.raises(DataError, match="holds no pair of whole numbers in row 1"):
        Dataset.from_frame(frame, target=()).span("part")


def test_rows_are_counted_as_in_the_source():
    with pytest.raises(DataError, match=r"in row 3 \(row 3: 'Lima'"):
        with_column(["Paris", "Peru", "Lima"]).select([2, 1]).span("part")


def test_overlapping_places_count_as_several():
    with pytest.raises(DataError, match="'aa' 2 times"):
        with_column(["aa"], ["aaa"]).span("part")


def test_a_text_may_hold_what_looks_like_a_range():
    assert with_column(["[1, 2]", "x"], ["see [1, 2] there", "y x"]).span("part").tolist() == [[4, 10], [2, 3]]


def test_columns_that_are_not_there():
    with pytest.raises(DataError, match=r"no column 'prat' for the span.*Did you mean 'part'"):
        with_column(PLACES).span("prat")


def test_inputs_without_text_have_no_spans():
    with pytest.raises(DataError, match="'arrays' holds arrays, which have no text and so no span 'part'"):
        Dataset.from_arrays([[1.0]]).span("part")


def test_spans_of_captions_are_of_their_texts():
    rows = [{"image": b"x", "text": "a red ball", "part": "red"}]
    data = Dataset.from_rows(rows, image="image", text="text", target=())
    assert data.span("part").tolist() == [[2, 5]]


def chat(*contents):
    return [{"role": "user" if i % 2 == 0 else "assistant", "content": c} for i, c in enumerate(contents)]


def test_spans_of_chats_name_the_message():
    chats = [chat("Where is Rome?", "In Italy."), chat("Hi", "Hello", "Is user here?")]
    data = with_column(["Italy", "user"], chats)
    # The role's own name is no content.
    assert data.span("part").tolist() == [[1, 3, 8], [2, 3, 7]]
    assert data.select([]).span("part").size == 0


def test_chats_take_substrings_alone():
    chats = [chat("Where is Rome?", "In Rome.")]
    with pytest.raises(DataError, match=r"'Rome' 2 times\): give a longer substring"):
        with_column(["Rome"], chats).span("part")
    frame = pl.DataFrame({"text": chats, "part": [[0, 3]]})
    with pytest.raises(DataError, match="holds pairs of numbers; in chats a span is a substring"):
        Dataset.from_frame(frame, target=()).span("part")
    with pytest.raises(DataError, match=r"'\[0, 3\]' not at all"):
        with_column(["[0, 3]"], chats).span("part")
    assert with_column(["[0, 3]"], [chat("see [0, 3]")]).span("part").tolist() == [[0, 4, 10]]
