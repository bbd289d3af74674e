"""Minimal pairs, by a column or with both sentences in a row, and types: what belongs together stays together."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from leadline.data import Dataset, load_dataset
from leadline.errors import DataError

BLIMP = Path(__file__).parents[3] / "shared" / "data" / "blimp" / "blimp_part.zip"
COLUMNS = {"positive": "good", "negative": "bad"}


def rows_of(n=20, **columns):
    """Two rows for each pair."""
    rows = [
        {"text": f"{p} is {y}", "label": y, "item": f"p{p}", "topic": f"t{p // 3}"} for p in range(n) for y in (0, 1)
    ]
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return rows


def both(n=12):
    return [
        {"good": f"The {i} cats sleep.", "bad": f"The {i} cats sleeps.", "kind": "ab"[i % 2], "n": i} for i in range(n)
    ]


def test_pairs_are_the_groups_where_none_are_given():
    data = Dataset.from_rows(rows_of(), target="label", pair="item")
    assert data.pairs.tolist()[:4] == ["p0", "p0", "p1", "p1"]
    assert data.pairs.dtype == object
    assert (data.pair_column, data.group_column) == ("item", "item")
    assert data.groups.tolist() == data.pairs.tolist()
    (note,) = data.findings
    assert (note.code, note.severity) == ("group_by_pair", "note")
    assert repr(data).endswith("20 groups of item; 20 pairs)")
    assert data.check() == ()


def test_a_row_of_no_pair_is_a_group_of_its_own():
    items = ["a", "a", None, None, "row 3", "row 3"]
    data = Dataset.from_rows(rows_of(3, item=items), target="label", pair="item")
    assert data.pairs.tolist() == ["a", "a", "", "", "row 3", "row 3"]
    assert len(set(data.groups)) == 4
    assert "" not in data.groups
    assert data.groups[4] == "row 3"


def test_a_pair_within_its_group_is_kept_and_one_across_groups_is_named():
    data = Dataset.from_rows(rows_of(), target="label", pair="item", group="topic")
    assert (data.group_column, data.findings) == ("topic", ())
    rows = rows_of()
    rows[5]["topic"] = "elsewhere"
    with pytest.raises(
        DataError, match=r"pair 'p2' of 'item' .* has rows 5 and 6 in different groups of 'topic' \('t0'"
    ):
        Dataset.from_rows(rows, target="label", pair="item", group="topic")
    rows[5]["topic"] = None
    missing = Dataset.from_rows(rows, target="label", pair="item", group="topic")
    with pytest.raises(DataError, match="row 6 has no group"):
        missing.check()
    with pytest.raises(DataError, match=r"no column 'itme' for the pair.*Did you mean 'item'\?"):
        Dataset.from_rows(rows, target="label", pair="itme")


def test_pairs_that_contrast_nothing_are_told():
    rows = rows_of()
    rows[1]["label"] = 0
    rows[39]["item"] = "alone"
    rows[0]["label"] = 0
    (found,) = Dataset.from_rows(rows, target="label", pair="item").check()
    assert (found.code, found.severity, found.rows) == ("pairs", "warning", (0, 1, 38, 39))
    assert "3 of the 21 pairs of 'item'" in found.message


def test_pairs_and_types_move_with_their_rows_and_come_back_from_disk(tmp_path):
    data = Dataset.from_rows(rows_of(kind=["x", None] * 20), target="label", pair="item", type="kind")
    assert data.types.tolist()[:3] == ["x", "", "x"]
    assert data.type_column == "kind"
    part = data.select([3, 0])
    assert (part.pairs.tolist(), part.types.tolist()) == (["p1", "p0"], ["", "x"])
    data.write(tmp_path)
    back = Dataset.read(tmp_path)
    assert back.pairs.tolist() == data.pairs.tolist()
    assert back.types.tolist() == data.types.tolist()
    assert (back.pair_column, back.type_column, back.group_column) == ("item", "kind", "item")
    assert back.fingerprint == data.fingerprint
    assert json.loads((tmp_path / "dataset.json").read_text())["format"] == 3


def test_the_fingerprint_follows_pairs_and_types():
    rows = rows_of(kind=["x", "y"] * 20)
    made = [
        Dataset.from_rows(rows, target="label", group="item"),
        Dataset.from_rows(rows, target="label", group="item", pair="item"),
        Dataset.from_rows(rows, target="label", group="item", type="kind"),
        Dataset.from_rows(rows, target="label", group="item", type="item"),
        Dataset.from_rows(rows, target="label", group="item", type="kind", pair="item"),
    ]
    assert len({d.fingerprint for d in made}) == len(made)


def test_samples_hold_whole_pairs():
    data = Dataset.from_rows(rows_of(30), target="label", pair="item")
    for seed in range(10):
        drawn = data.sample(11, seed)
        assert drawn.n == 10
        assert all((drawn.pairs == pair).sum() == 2 for pair in drawn.pairs)
        assert (np.diff(drawn.source_rows) > 0).all()
    assert data.sample(11, 1).fingerprint == data.sample(11, 1).fingerprint
    assert "10 of 60 training rows were drawn (seed 0, pairs whole)" in data.sample(11).findings[-1].message
    assert len({p for seed in range(40) for p in data.sample(10, seed).pairs}) == 30
    with pytest.raises(DataError, match="1 training row holds no whole pair of 'item'; draw more"):
        data.sample(1)
    alone = Dataset.from_rows(rows_of(30, item=[None] * 60), target="label", pair="item")
    assert alone.sample(11).n == 11
    parts = Dataset.from_rows(
        rows_of(30, part=["train"] * 40 + ["test"] * 20), target="label", pair="item", split="part"
    )
    some = parts.sample(7, n_test=5)
    assert (len(some.train_rows), len(some.test_rows)) == (6, 4)
    assert len(parts.sample(7, n_test=0).test_rows) == 0


def test_arrays_and_words_have_pairs_and_types_too():
    data = Dataset.from_arrays(np.zeros((6, 2)), [0, 1] * 3, pairs=[1, 1, 2, 2, 3, 3], types=list("aabbcc"))
    assert (data.pairs.tolist(), data.types.tolist()) == (list("112233"), list("aabbcc"))
    assert data.group_column == "pair"
    words = [{"words": ["cats", "cat"], "plural": [True, False], "id": i} for i in range(3)]
    paired = Dataset.from_words(words, labels="plural", pair="id")
    assert paired.groups.tolist() == list("001122")
    assert paired.types.tolist() == ["cats", "cat"] * 3


def test_an_option_that_no_reader_has_is_refused():
    with pytest.raises(DataError, match=r"no option 'grup' for reading a data set.*Did you mean 'group'\?"):
        Dataset.from_rows(rows_of(), target="label", grup="topic")


@pytest.mark.parametrize("form", ["rows", "frame", ".csv", ".tsv", ".jsonl", ".parquet", "load_dataset"])
def test_a_row_with_both_sentences_becomes_two(tmp_path, form):
    given, frame = both(), pl.DataFrame(both())
    if form == "frame":
        given = frame
    elif form != "rows":
        given = tmp_path / f"cats{'.csv' if form == 'load_dataset' else form}"
        if form in (".csv", "load_dataset"):
            frame.write_csv(given)
        elif form == ".tsv":
            frame.write_csv(given, separator="\t")
        elif form == ".jsonl":
            frame.write_ndjson(given)
        else:
            frame.write_parquet(given)
    data = load_dataset(given, pairs=COLUMNS) if form == "load_dataset" else Dataset.from_pairs(given, **COLUMNS)
    assert data.n == 24
    assert data.inputs[:3] == ("The 0 cats sleep.", "The 0 cats sleeps.", "The 1 cats sleep.")
    target = data.target("label")
    assert (target.kind, target.negative, target.positive, target.classes) == ("binary", "bad", "good", ("bad", "good"))
    assert target.values[:, 0].tolist() == [1.0, 0.0] * 12
    assert data.pairs.tolist() == [str(i) for i in range(1, 13) for _ in range(2)]
    assert data.groups.tolist() == data.pairs.tolist()
    assert data.frame.columns == ["text", "label", "pair", "kind", "n"]
    assert data.frame["n"].to_list() == [i for i in range(12) for _ in range(2)]
    assert (data.text_column, data.pair_column) == ("text", "pair")
    assert data.name == ("rows" if form in ("rows", "frame") else "cats")
    assert [f.code for f in data.findings] == ["group_by_pair"]


def test_pairs_take_groups_types_names_and_samples():
    data = Dataset.from_pairs(both(), **COLUMNS, target="agrees", group="kind", type="n", name="cats", sample=7, seed=2)
    assert (data.name, data.n, data.targets[0].name) == ("cats", 6, "agrees")
    assert set(data.groups) <= {"a", "b"}
    assert data.type_column == "n"
    assert all((data.pairs == p).sum() == 2 for p in data.pairs)
    clash = [{**r, "text": "x", "pair": 9} for r in both()]
    free = Dataset.from_pairs(clash, **COLUMNS)
    assert (free.text_column, free.pair_column) == ("_text", "_pair")
    assert free.frame["text"].to_list() == ["x"] * 24


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"negative": "bed"}, r"no column 'bed' for the negative sentence.*Did you mean 'bad'\?"),
        ({}, {"negative": "good"}, "'good' was given for both sentences"),
        ({}, {"negative": "n"}, "column 'n' of 'rows' holds values of type Int64; expected sentences"),
        ({"bad": " "}, {}, "row 3 of column 'bad' of 'rows' has no sentence"),
        ({"good": None}, {}, "row 3 of column 'good' of 'rows' has no sentence"),
        ({"label": 1}, {}, "has a column 'label' already.*target='is_label'"),
        ({}, {"kind": "binary"}, "kind='binary' was given with a column for either sentence"),
        ({}, {"pair": "n"}, "pair='n' was given with a column for either sentence"),
        ({}, {"target": ["a", "b"]}, "pairs have one target"),
    ],
)
def test_pairs_that_are_none_are_refused(change, options, message):
    rows = both()
    rows[2] = {**rows[2], **change}
    with pytest.raises(DataError, match=message):
        Dataset.from_pairs(rows, **{**COLUMNS, **options})


def test_files_and_mappings_of_pairs_that_are_none(tmp_path):
    for pairs in (
        {"positive": "good"},
        {"positive": "good", "negtive": "bad"},
        ["good", "bad"],
        {"positive": 1, "negative": 2},
    ):
        with pytest.raises(DataError, match="does not name two columns"):
            load_dataset(tmp_path / "x.csv", pairs=pairs)
    (tmp_path / "x.csv").write_text("good,bad\na b,a c\n")
    with pytest.raises(DataError, match="text='good' was given with a column for either sentence"):
        load_dataset(tmp_path / "x.csv", pairs=COLUMNS, text="good")
    with pytest.raises(DataError, match="is no table; expected a name that ends in"):
        load_dataset(tmp_path / "x.conllu", pairs=COLUMNS)
    with pytest.raises(DataError, match="which is no CSV file"):
        Dataset.from_pairs(tmp_path / "x.jsonl", **COLUMNS, separator=";")
    with pytest.raises(DataError, match="has its columns already and takes no pairs"):
        load_dataset("city-facts", pairs=COLUMNS)


@pytest.mark.skipif(not BLIMP.is_file(), reason="the shared real data is not here")
def test_real_minimal_pairs(tmp_path):
    with zipfile.ZipFile(BLIMP) as archive:
        name = next(n for n in archive.namelist() if n.endswith("adjunct_island.jsonl"))
        path = Path(archive.extract(name, tmp_path))
    data = load_dataset(path, pairs={"positive": "sentence_good", "negative": "sentence_bad"}, sample=400)
    assert (data.n, len(set(data.pairs))) == (400, 200)
    assert data.targets[0].counts == {"sentence_bad": 200, "sentence_good": 200}
    assert {"field", "UID", "pairID"} <= set(data.frame.columns)
    # The words of a pair are the same in another order, so that neither its length nor its words tell them apart.
    assert [f.code for f in data.check()] == []
