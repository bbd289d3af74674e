"""What holds for any data set: nothing is lost on the way in, on disk, or when rows are chosen."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.data import Dataset
from leadline.data.readers import read_csv, read_jsonl

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
