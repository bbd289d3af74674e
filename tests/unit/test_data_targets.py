"""Targets of several classes and of ordered levels: their codes, their names, and what no class is."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from leadline.data import Dataset, Target, pairing_column
from leadline.data.pairing import _chance_of_a_pair
from leadline.data.targets import MOST_CLASSES
from leadline.errors import DataError

BLOOM = Path(__file__).parents[3] / "shared" / "data" / "bloom" / "bloom_questions.csv"
LEVELS = ["remember", "understand", "apply", "analyze", "evaluate", "create"]


def read(labels, **options):
    rows = [{"text": f"text {i:03d}", "label": label} for i, label in enumerate(labels)]
    return Dataset.from_rows(rows, target="label", **options)


def codes_of(target):
    return [None if math.isnan(v) else int(v) for v in target.values[:, 0]]


def test_texts_of_more_than_two_classes_are_multiclass_and_noted():
    data = read(["b", "a", None, "c", "a"])
    target = data.target("label")
    assert (target.kind, target.classes, codes_of(target)) == ("multiclass", ("a", "b", "c"), [1, 0, None, 2, 0])
    assert (target.negative, target.positive) == (None, None)
    assert target.counts == {"a": 2, "b": 1, "c": 1}
    assert [target.class_of(row) for row in range(5)] == ["b", "a", None, "c", "a"]
    assert target.summary == "label (multiclass: 2 × a, 1 × b, 1 × c)"
    (note,) = data.findings
    assert (note.code, note.severity) == ("many_classes", "note")
    assert "3 classes" in note.message
    assert "positive='a'" in note.message
    assert "kind='ordinal'" in note.message


def test_the_two_classes_of_a_binary_target_are_its_classes():
    target = read(["no", "yes", "no"]).target("label")
    assert target.classes == ("no", "yes")
    assert target.counts == {"no": 2, "yes": 1}
    assert read(["a", "b", "c", "b"], positive="b").target("label").classes == ("not b", "b")
    assert read(["only", "only"]).target("label").classes == ()
    assert read(["only", "only"]).target("label").counts == {"only": 2}
    assert read([1.5, 2.5, 3.0]).target("label").classes == ()
    made = Target("x", ("x",), "binary", np.array([[0.0], [1.0]]), classes=("n", "p"))
    assert (made.negative, made.positive) == ("n", "p")


def test_numbers_are_classes_where_their_kind_is_given_and_stand_by_value():
    target = read([10, 2, 1, 2, 10], kind="multiclass").target("label")
    assert (target.classes, codes_of(target)) == (("1", "2", "10"), [2, 1, 0, 1, 2])
    assert read([10, 2, 1], kind="ordinal").target("label").classes == ("1", "2", "10")
    assert read(["10", "2", "1"], kind="ordinal").target("label").classes == ("1", "2", "10")
    assert read([0.5, -1.0, 2.0], kind="ordinal").target("label").classes == ("-1", "0.5", "2")
    assert read([True, False], kind="ordinal").target("label").classes == ("false", "true")
    assert read([10, 2, 1]).target("label").kind == "continuous"


def test_two_classes_can_be_told_apart_as_several():
    target = read(["b", "a", "b"], kind="multiclass").target("label")
    assert (target.kind, target.classes, codes_of(target)) == ("multiclass", ("a", "b"), [1, 0, 1])


def test_levels_in_words_need_their_order():
    with pytest.raises(DataError, match=r"levels in words and no order \('high', 'low', 'mid'\).*order=\["):
        read(["low", "high", "mid"], kind="ordinal")
    data = read(["low", "high", "mid", None], order=["low", "mid", "high"])
    target = data.target("label")
    assert (target.kind, target.classes, codes_of(target)) == ("ordinal", ("low", "mid", "high"), [0, 2, 1, None])
    assert data.findings == ()
    turned = read(["low", "high", "mid", None], kind="ordinal", order=["high", "mid", "low"]).target("label")
    np.testing.assert_array_equal(turned.values, 2 - target.values)
    # A level that no row has keeps its place, as a file for testing may lack one.
    assert codes_of(read(["low", "high"], order=["low", "mid", "high"]).target("label")) == [0, 2]
    # Numbers are named as they are read.
    assert read([3, 1, 2], order=[3, 2.0, "1"]).target("label").classes == ("3", "2", "1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"order": ["low", "hihg", "mid"]},
            r"1 level that the order does not name: 'high' \(1 rows\).*no row is 'hihg'",
        ),
        ({"order": ["low", "hihg", "mid"]}, r"Did you mean 'hihg'\?"),
        ({"order": ["low"]}, r"2 levels that the order does not name: 'high' \(1 rows\), 'mid' \(1 rows\)"),
        ({"order": ["low", "mid", "low"]}, "order names 'low' twice"),
        ({"order": "low"}, "is no list of levels"),
        ({"order": []}, "is no list of levels"),
        ({"order": ["low", "mid", "high"], "kind": "multiclass"}, "order was given for kind='multiclass'"),
        ({"kind": "multiclass", "positive": "low"}, "positive='low' was given for kind='multiclass'"),
        ({"order": ["low", "mid", "high"], "positive": "low"}, "positive='low' was given for kind='ordinal'"),
        ({"kind": "binary"}, "kind='multiclass' for all of them"),
        ({"kind": "multi"}, "kind='multi' is unknown; expected 'binary', 'continuous', 'multiclass', 'ordinal'"),
    ],
)
def test_orders_and_kinds_that_do_not_fit_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        read(["low", "high", "mid"], **options)


def test_categories_stand_in_their_own_order():
    kind = pl.Enum(["low", "mid", "never", "high"])
    frame = pl.DataFrame({"text": list("abc"), "label": pl.Series(["high", "low", "mid"], dtype=kind)})
    for given in (None, "ordinal", "multiclass"):
        target = Dataset.from_frame(frame, target="label", kind=given).target("label")
        assert target.kind == (given or "multiclass")
        assert target.classes == ("low", "mid", "high")


def test_a_column_that_names_its_rows_is_no_target():
    with pytest.raises(DataError, match=r"has a value of its own in every row \('id 0', .*names the rows"):
        read([f"id {i}" for i in range(30)])
    many = [f"c{i % (MOST_CLASSES + 1)}" for i in range(3 * MOST_CLASSES)]
    with pytest.raises(DataError, match=rf"201 classes \('c0' \(3\).*more than the {MOST_CLASSES}.*kind='multiclass'"):
        read(many)
    assert len(read(many, kind="multiclass").target("label").classes) == MOST_CLASSES + 1
    assert len(read(many[:-1][: 2 * MOST_CLASSES + 2], positive="c7").target("label").classes) == 2
    assert len(read([f"c{i % MOST_CLASSES}" for i in range(500)]).target("label").classes) == MOST_CLASSES
    with pytest.raises(DataError, match=r"in every row.*Did you mean 'id 7'\?"):
        read([f"id {i}" for i in range(9)], positive="id_7")


def test_each_column_of_classes_is_a_target_of_its_own_and_numbers_are_one():
    rows = [{"text": str(i), "a": "xyz"[i % 3], "n": float(i), "b": i % 2 == 0, "m": i / 7} for i in range(9)]
    data = Dataset.from_rows(rows, target=["a", "n", "b", "m"])
    assert [(t.name, t.kind) for t in data.targets] == [("a", "multiclass"), ("n+m", "continuous"), ("b", "binary")]
    # One class against the rest in the column that has it, all classes in the other.
    more = Dataset.from_rows([{**r, "c": "uvw"[i % 3]} for i, r in enumerate(rows)], target=["a", "c"], positive="v")
    assert [(t.name, t.kind) for t in more.targets] == [("a", "multiclass"), ("c", "binary")]


@pytest.mark.parametrize(
    ("values", "classes", "message"),
    [
        ([[0.0], [2.0]], ("a", "b"), "codes from 0 to 1, one for each of its 2 classes"),
        ([[0.5], [1.0]], ("a", "b"), "codes from 0 to 1"),
        ([[-1.0], [1.0]], ("a", "b"), "codes from 0 to 1"),
        ([[0.0], [1.0]], ("a", "a"), "names the class 'a' twice"),
    ],
)
@pytest.mark.parametrize("kind", ["multiclass", "ordinal"])
def test_codes_without_a_class_are_refused(kind, values, classes, message):
    with pytest.raises(DataError, match=message):
        Target("x", ("x",), kind, np.array(values), classes=classes)


def test_several_columns_of_codes_and_unknown_kinds_are_refused():
    with pytest.raises(DataError, match="must be one column of codes"):
        Target("x", ("x", "y"), "ordinal", np.zeros((3, 2)), classes=("a", "b"))
    with pytest.raises(DataError, match="kind 'nominal'; expected one of 'binary', 'continuous', 'multiclass'"):
        Target("x", ("x",), "nominal", np.zeros((3, 1)))


def test_classes_without_rows_stay_when_rows_are_chosen():
    data = read(["a", "b", "c", "a"])
    assert data.select([0, 2]).target("label").classes == ("a", "b", "c")
    assert codes_of(data.select([0, 2]).target("label")) == [0, 2]
    two = data.keep_classes("label", ["c", "a"])
    assert (two.target("label").classes, codes_of(two.target("label"))) == (("a", "c"), [0, 1, 0])
    assert two.source_rows.tolist() == [0, 2, 3]
    with pytest.raises(DataError, match=r"no class 'bb'; it has a, b, c. Did you mean 'b'\?"):
        data.keep_classes("label", ["a", "bb"])
    with pytest.raises(DataError, match="tells two or more apart"):
        data.keep_classes("label", ["a"])
    with pytest.raises(DataError, match="is binary"):
        read(["a", "b"]).keep_classes("label", ["a", "b"])


def test_labels_are_aligned_by_the_names_of_their_classes():
    here = read(["c", "a", None, "d", "c"]).target("label")
    there = here.aligned(("a", "b", "c", "d"))
    assert (there.classes, codes_of(there)) == (("a", "b", "c", "d"), [2, 0, None, 3, 2])
    assert [there.class_of(i) for i in range(5)] == [here.class_of(i) for i in range(5)]
    with pytest.raises(DataError, match="rows of class 'd', which is none of a, b, c"):
        here.aligned(("a", "b", "c"))
    binary = read(["no", "yes", "no"]).target("label")
    turned = binary.aligned(("yes", "no"))
    assert (turned.negative, turned.positive, codes_of(turned)) == ("yes", "no", [1, 0, 1])
    with pytest.raises(DataError, match="aligned to 3 classes"):
        binary.aligned(("yes", "no", "so"))
    with pytest.raises(DataError, match="continuous and has no classes"):
        read([1.5, 2.0, 3.0]).target("label").aligned(("a", "b"))


@pytest.mark.parametrize(
    "options", [{}, {"order": ["b", "a", "c"]}, {"kind": "multiclass"}, {"kind": "ordinal", "order": list("abcd")}]
)
def test_several_classes_come_back_from_disk(tmp_path, options):
    data = read(["b", "a", None, "c", "a"], **options)
    data.write(tmp_path)
    back = Dataset.read(tmp_path)
    one, other = data.target("label"), back.target("label")
    assert (one.kind, one.classes, codes_of(one)) == (other.kind, other.classes, codes_of(other))
    assert back.fingerprint == data.fingerprint


def test_the_fingerprint_follows_kind_classes_and_codes():
    given = [
        read(["1", "2", "3"], kind="multiclass"),
        read(["1", "2", "3"], kind="ordinal"),
        read(["1", "2", "3"], order=["1", "2", "3", "4"]),
        read(["1", "2", "3"], order=["3", "2", "1"]),
        read(["1", "2", "3"]),
        read(["1", "2", "4"], kind="ordinal"),
    ]
    assert len({d.fingerprint for d in given}) == len(given)


def checked(labels, **extra):
    """Sound texts, a group for four rows, and the labels."""
    columns = {"label": labels, "group": [f"g{i // 4}" for i in range(len(labels))], **extra}
    rows = [{"text": f"text {i:04d}", **{k: v[i] for k, v in columns.items()}} for i in range(len(labels))]
    return rows


def test_sound_classes_have_no_findings():
    data = Dataset.from_rows(checked(list("abc") * 20), target="label", group="group")
    assert data.check() == ()
    assert Dataset.from_rows(checked(list("abc") * 20), target="label", group="group", order=list("cba")).check() == ()


@pytest.mark.parametrize("kind", ["multiclass", "ordinal"])
def test_one_class_and_too_small_classes_are_refused(kind):
    order = {"order": list("abcd")} if kind == "ordinal" else {"kind": kind}
    with pytest.raises(DataError, match="'label' is 'a' in every training row"):
        Dataset.from_rows(checked(["a"] * 40), target="label", **order).check()
    labels = ["a", "b"] * 30 + ["c"] * 4 + ["d"] * 2
    with pytest.raises(
        DataError, match=r"of the 4 classes of target 'label' 2 stand in too few rows: 'c' \(4 rows\), 'd' \(2 rows\)"
    ):
        Dataset.from_rows(checked(labels), target="label", **order).check()
    with pytest.raises(DataError, match=r"in too few groups: 'c' \(1 group\), 'd' \(1 group\); 5 folds.*keep_classes"):
        Dataset.from_rows(checked(labels), target="label", group="group", **order).check()
    kept = Dataset.from_rows(checked(labels), target="label", **order).keep_classes("label", ["a", "b"])
    assert [f.code for f in kept.check()] == []


def test_a_missing_class_is_named_by_its_row():
    labels = list("abc") * 20
    labels[7] = None
    with pytest.raises(DataError, match="row 8 has no finite value for target 'label'"):
        Dataset.from_rows(checked(labels), target="label").check()


def test_rare_classes_and_a_test_split_that_lacks_some_are_told():
    labels = list("ab") * 200 + ["c"] * 6
    (note,) = Dataset.from_rows(checked(labels), target="label").check()
    assert (note.code, note.severity) == ("rare_class", "note")
    assert "a class of target 'label' has under 6.7% of the training rows: 'c' 1.5%" in note.message
    labels = list("abc") * 20 + list("ab") * 10
    part = ["train"] * 60 + ["test"] * 20
    rows = checked(labels, part=part)
    (found,) = Dataset.from_rows(rows, target="label", split="part").check()
    assert (found.code, found.severity) == ("test_lacks_class", "warning")
    assert "has no 'c' among the test rows" in found.message
    rows = checked(list("abc") * 20 + ["a"] * 20, part=part)
    assert [f.code for f in Dataset.from_rows(rows, target="label", split="part").check()] == ["test_one_class"]


def test_classes_that_follow_from_length_are_warned_of():
    rows = checked(list("abc") * 30)
    for i, row in enumerate(rows):
        row["text"] += " and more" * "bac".index(row["label"]) + "!" * (i % 4)
    data = Dataset.from_rows(rows, target="label", group="group")
    found = {f.code: f.message for f in data.check()}
    assert list(found) == ["length"]
    assert "the shortest are 'b'" in found["length"]
    assert "the longest 'c'" in found["length"]
    ordered = Dataset.from_rows(rows, target="label", group="group", order=["c", "a", "b"])
    assert "Spearman correlation -0.9" in next(f.message for f in ordered.check())


def test_the_length_of_classes_warns_where_that_of_two_does():
    # Kruskal-Wallis on two classes of one size is Mann-Whitney, so that both warn at the same AUROC.
    rng = np.random.default_rng(0)
    seen = set()
    for shift in np.linspace(0, 6, 25):
        lengths = np.clip(rng.normal(30, 5, 400) + np.tile([0, shift], 200), 1, None).astype(int)
        rows = [{"text": f"{i:04d}" + "x" * n, "label": "ab"[i % 2]} for i, n in enumerate(lengths)]
        told = [
            [f.code for f in Dataset.from_rows(rows, target="label", kind=kind).check()]
            for kind in ("binary", "multiclass")
        ]
        assert told[0] == told[1]
        seen.add(tuple(told[0]))
    assert seen == {(), ("length",)}


def test_the_same_input_with_another_class_is_told():
    rows = checked(list("abc") * 20)
    rows[5]["text"] = rows[4]["text"]
    rows[10]["text"] = rows[7]["text"]
    found = {f.code: f.rows for f in Dataset.from_rows(rows, target="label").check()}
    assert found == {"conflicting_duplicates": (4, 5), "duplicate_rows": (7, 10)}


def test_the_column_that_pairs_other_classes_is_found():
    rows = [
        {"text": f"{i} {c}", "label": c, "item": f"item {i}", "same": f"{c} {i // 2}"} for i in range(40) for c in "abc"
    ]
    data = Dataset.from_rows(rows, target="label")
    assert pairing_column(data, data.target("label")) == ("item", 1.0)
    ordered = Dataset.from_rows(rows, target="label", order=list("abc"))
    assert pairing_column(ordered, ordered.target("label")) == ("item", 1.0)
    whole = Dataset.from_rows(rows, target="label", group="item")
    assert pairing_column(whole, whole.target("label")) is None


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_a_column_that_ignores_the_classes_pairs_nothing(size):
    found = []
    for seed in range(40):
        labels = np.random.default_rng(seed).permutation(np.arange(240) % 3)
        rows = [{"text": f"t{i}", "label": "abc"[y], "c": f"c{i // size}"} for i, y in enumerate(labels)]
        data = Dataset.from_rows(rows, target="label")
        found.append(pairing_column(data, data.targets[0]))
    # Three standard deviations are passed by chance now and then.
    assert sum(one is not None for one in found) <= 1


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.9, 0.1], [0.2, 0.3, 0.5], [0.7, 0.1, 0.1, 0.1]])
def test_the_chance_of_a_pair_is_that_of_all_draws(shares):
    from itertools import product

    for size in (2, 3, 4, 5, 6):
        total = 0.0
        for drawn in product(range(len(shares)), repeat=size):
            if max(drawn.count(c) for c in set(drawn)) <= (0.75 if len(shares) == 2 else 0.5) * size:
                total += math.prod(shares[c] for c in drawn)
        assert _chance_of_a_pair(size, shares) == pytest.approx(total, abs=1e-12)


@pytest.mark.skipif(not BLOOM.is_file(), reason="the shared real data is not here")
def test_the_levels_of_real_questions_are_the_same_by_name_and_by_number():
    named = Dataset.from_csv(BLOOM, text="question", target="level_name", group="group", order=LEVELS)
    numbered = Dataset.from_csv(BLOOM, text="question", target="level", kind="ordinal")
    # Each question is asked at all six levels.
    assert pairing_column(numbered, numbered.targets[0]) == ("group", 1.0)
    np.testing.assert_array_equal(named.targets[0].values, numbered.targets[0].values)
    assert named.targets[0].counts == dict.fromkeys(LEVELS, 425)
    with pytest.raises(
        DataError, match=r"levels that the order does not name: 'analyze' \(425 rows\).*no row is 'analyse'"
    ):
        Dataset.from_csv(BLOOM, text="question", target="level_name", order=[*LEVELS[:3], "analyse"])
