"""What holds for any data set: nothing is lost on the way in, on disk, or when rows are chosen."""

from __future__ import annotations

import contextlib
import csv
import io
import tempfile
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from leadline.data import Dataset, Picture, Sound
from leadline.data.readers import read_csv, read_jsonl
from leadline.errors import DataError

# No byte order mark, which a reader may take off, and no half surrogate pairs, which no file can hold.
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\ufeff\x00"), min_size=1, max_size=30)
tables = st.lists(st.tuples(texts, st.booleans(), st.floats(-1e6, 1e6), st.sampled_from("abcd")), min_size=3)
few = settings(max_examples=60, deadline=None)


def to_data(table):
    rows = [{"text": "x" + text, "label": label, "size": size, "g": g} for text, label, size, g in table]
    return Dataset.from_rows(rows, target=["label", "size"], group="g")


@few
@given(st.lists(texts, min_size=1, max_size=8))
def test_csv_returns_any_text_unchanged(items):
    with tempfile.TemporaryDirectory() as folder:
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
        writer.writerow(["text", "n"])
        writer.writerows([["x" + item, i] for i, item in enumerate(items)])
        path = Path(folder, "x.csv")
        path.write_bytes(buffer.getvalue().encode("utf-8"))
        frame = read_csv(path)
    assert frame["text"].to_list() == ["x" + item for item in items]
    assert frame["n"].to_list() == list(range(len(items)))


@few
@given(st.lists(texts, min_size=1, max_size=8))
def test_jsonl_returns_any_text_unchanged(items):
    import json

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.jsonl")
        path.write_bytes("\n".join(json.dumps({"text": i}, ensure_ascii=False) for i in items).encode("utf-8"))
        assert read_jsonl(path)["text"].to_list() == items


@few
@given(st.lists(st.one_of(st.none(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)), min_size=1))
def test_csv_numbers_come_back_as_numbers(values):
    if all(v is None for v in values):
        values = [*values, 1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.csv")
        path.write_text("a,b\n" + "".join(f"t,{'' if v is None else v}\n" for v in values), encoding="utf-8")
        column = read_csv(path)["b"]
    for value, found in zip(values, column.to_list()):
        assert (found is None) == (value is None)
        if value is not None and not isinstance(found, str):
            assert float(found) == float(value)
        elif value is not None:
            # Kept as text only where 64 bits would not hold the column.
            assert found == str(value)
            assert any(isinstance(v, int) and abs(v) >= 2**63 for v in values)


@few
@given(tables)
def test_writing_and_reading_keeps_the_fingerprint(table):
    data = to_data(table)
    with tempfile.TemporaryDirectory() as folder:
        data.write(folder)
        back = Dataset.read(folder)
    assert back.fingerprint == data.fingerprint
    assert back.frame.equals(data.frame)


@few
@given(tables, st.randoms(use_true_random=False))
def test_selecting_in_turn_is_selecting_at_once(table, random):
    data = to_data(table)
    order = list(range(data.n))
    random.shuffle(order)
    some = list(range(0, data.n, 2))
    at_once = data.select([order[i] for i in some])
    in_turn = data.select(order).select(some)
    assert in_turn.fingerprint == at_once.fingerprint
    assert in_turn.source_rows.tolist() == at_once.source_rows.tolist()
    inverse = np.argsort(order)
    assert data.select(order).select(inverse).fingerprint == data.fingerprint


@few
@given(tables, st.integers(1, 10), st.integers(0, 5))
def test_a_sample_is_a_part_of_the_whole_without_repeats(table, n, seed):
    data = to_data(table)
    drawn = data.sample(n, seed)
    assert drawn.n == min(n, data.n)
    assert len(set(drawn.source_rows.tolist())) == drawn.n
    assert all(drawn.inputs[i] == data.inputs[row] for i, row in enumerate(drawn.source_rows))


@few
@given(st.lists(st.sampled_from(["left", "right"]), min_size=2).filter(lambda x: len(set(x)) == 2))
def test_turning_the_positive_class_round_turns_every_label_round(labels):
    rows = [{"text": "t", "label": label} for label in labels]
    one, other = (Dataset.from_rows(rows, target="label", positive=p).targets[0] for p in ("left", "right"))
    assert (one.values == 1 - other.values).all()
    assert (one.negative, one.positive) == (other.positive, other.negative)


labels_of_many = st.lists(st.one_of(st.none(), texts.filter(str.strip)), min_size=1, max_size=25)


@few
@given(labels_of_many, st.sampled_from(["multiclass", "ordinal"]), st.randoms(use_true_random=False))
def test_codes_name_the_classes_that_were_given(labels, kind, random):
    order = sorted({label.strip() for label in labels if label is not None})
    random.shuffle(order)
    options = {"kind": kind} if kind == "multiclass" or not order else {"order": order}
    data = Dataset.from_rows([{"text": "t", "label": label} for label in labels], target="label", **options)
    target = data.targets[0]
    assert [target.class_of(row) for row in range(data.n)] == [None if x is None else x.strip() for x in labels]
    assert sum(target.counts.values()) == sum(label is not None for label in labels)
    if "order" in options:
        assert target.classes == tuple(order)
    with tempfile.TemporaryDirectory() as folder:
        data.write(folder)
        back = Dataset.read(folder)
    assert back.fingerprint == data.fingerprint
    assert back.targets[0].classes == target.classes
    # In any other order of classes, and back.
    other = [*target.classes, "a class of\nno row"]
    random.shuffle(other)
    turned = target.aligned(other)
    assert [turned.class_of(row) for row in range(data.n)] == [target.class_of(row) for row in range(data.n)]
    np.testing.assert_array_equal(turned.aligned(target.classes).values, target.values)


@few
@given(st.lists(st.sampled_from([None, *"abcdefgh"]), min_size=2, max_size=40), st.integers(1, 30), st.integers(0, 5))
def test_a_sample_parts_no_pair_and_leaves_no_room_for_another(pairs, n, seed):
    rows = [{"text": f"t{i}", "label": i % 2, "pair": pair} for i, pair in enumerate(pairs)]
    data = Dataset.from_rows(rows, target="label", pair="pair")
    assert all(len(set(data.groups[data.pairs == pair])) == 1 for pair in set(data.pairs) - {""})
    try:
        drawn = data.sample(n, seed)
    except DataError:
        assert n < max((data.pairs == pair).sum() for pair in set(data.pairs) - {""})
        return
    assert 0 < drawn.n <= n
    for pair in set(drawn.pairs) - {""}:
        assert (drawn.pairs == pair).sum() == (data.pairs == pair).sum()
    largest = max([1, *((data.pairs == pair).sum() for pair in set(data.pairs) - {""})])
    assert drawn.n == data.n or drawn.n > n - largest


@few
@given(st.lists(st.tuples(texts.filter(str.strip), texts.filter(str.strip), st.integers()), min_size=1, max_size=12))
def test_both_sentences_of_every_pair_are_there_and_know_their_side(pairs):
    rows = [{"good": good, "bad": bad, "n": n} for good, bad, n in pairs]
    data = Dataset.from_pairs(rows, positive="good", negative="bad")
    assert data.inputs == tuple(text for good, bad, _ in pairs for text in (good, bad))
    assert [data.targets[0].class_of(i) for i in range(data.n)] == ["good", "bad"] * len(pairs)
    assert data.pairs.tolist() == [str(i + 1) for i in range(len(pairs)) for _ in range(2)]


shapes = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple)
numbers = st.one_of(
    arrays(np.float32, shapes, elements=st.floats(-1e6, 1e6, width=32)),
    arrays(np.float64, shapes, elements=st.floats(-1e30, 1e30)),
    arrays(st.sampled_from(["int8", "uint8", "int64", ">i2", "bool"]), shapes),
)


@few
@given(st.lists(numbers, min_size=1, max_size=6))
def test_any_arrays_come_back_from_disk(items):
    data = Dataset.from_arrays(items)
    with tempfile.TemporaryDirectory() as folder:
        data.write(folder)
        back = Dataset.read(folder)
    assert back.inputs == data.inputs
    assert back.fingerprint == data.fingerprint
    for given_array, kept in zip(items, back.inputs, strict=True):
        np.testing.assert_array_equal(kept.values, given_array.astype(kept.values.dtype))


@few
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=20), texts, st.booleans()), min_size=1, max_size=6))
def test_any_bytes_and_captions_come_back_from_disk(items):
    rows = [{"image": data, "prompt": text, "label": label} for data, text, label in items]
    for options in ({"image": "image"}, {"audio": "image"}, {"image": "image", "text": "prompt"}):
        data = Dataset.from_rows(rows, target="label", **options)
        with tempfile.TemporaryDirectory() as folder:
            data.write(folder)
            back = Dataset.read(folder)
        assert back.inputs == data.inputs
        assert back.fingerprint == data.fingerprint


forms = st.text(st.characters(categories=("L", "N", "P", "S", "M")), min_size=1, max_size=6)


@few
@given(st.lists(st.lists(st.tuples(forms, st.sampled_from(["", " ", "  ", "\u00a0"])), min_size=1), min_size=1))
def test_words_are_found_where_they_stand(sentences):
    rows = [{"words": [form for form, _ in s], "text": "".join(form + gap for form, gap in s)} for s in sentences]
    data = Dataset.from_words(rows)
    expected = []
    for s in sentences:
        at = 0
        for form, gap in s:
            expected.append([at, at + len(form)])
            at += len(form) + len(gap)
    assert data.span("word").tolist() == expected
    joined = Dataset.from_words([{"words": r["words"]} for r in rows])
    spelled = [text[a:b] for text, (a, b) in zip(joined.inputs, joined.span("word").tolist(), strict=True)]
    assert spelled == [form for s in sentences for form, _ in s]


@few
@given(st.lists(st.tuples(st.text("ab\u00e9\U0001f642", min_size=1, max_size=8), st.data()), min_size=1, max_size=4))
def test_a_substring_is_found_exactly_where_it_stands_once(items):
    for text, draw in items:
        start = draw.draw(st.integers(0, len(text) - 1))
        end = draw.draw(st.integers(start + 1, len(text)))
        part = text[start:end]
        places = [i for i in range(len(text)) if text.startswith(part, i)]
        data = Dataset.from_rows([{"text": text, "part": part}], target=())
        if len(places) == 1:
            assert data.span("part").tolist() == [[start, end]]
        else:
            with pytest.raises(DataError, match=f"{len(places)} times"):
                data.span("part")


def media_files():
    """Small sound and picture files; the pictures only where Pillow is there."""
    from scipy.io import wavfile

    made = []
    for samples in (np.arange(40, dtype=np.int16), np.zeros((9, 2), np.float32), np.arange(30, dtype=np.uint8)):
        held = io.BytesIO()
        wavfile.write(held, 8000, samples)
        made.append((Sound, held.getvalue()))
    if util.find_spec("PIL") is not None:
        from PIL import Image

        for mode, form in (("RGB", "PNG"), ("P", "PNG"), ("LA", "PNG"), ("RGB", "JPEG"), ("RGBA", "WEBP")):
            held = io.BytesIO()
            Image.fromarray(np.arange(189, dtype=np.uint8).reshape(7, 9, 3)).convert(mode).save(held, form)
            made.append((Picture, held.getvalue()))
    return made


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning" if util.find_spec("PIL") else "ignore:none")
@settings(max_examples=400, deadline=None)
@given(st.sampled_from(media_files()), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255))), st.floats(0.3, 1.5))
def test_any_damage_to_a_file_is_either_read_or_named(file, changes, share):
    kind, whole = file
    raw = bytearray(whole[: int(len(whole) * share)])
    for place, value in changes:
        if raw:
            raw[min(int(place * len(raw)), len(raw) - 1)] = value
    # Any other error, or a warning, fails the test.
    with contextlib.suppress(DataError):
        kind(data=bytes(raw)).load()
