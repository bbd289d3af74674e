"""What cannot be judged raises; what can mislead is warned of; the column that pairs rows is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leadline.data import Dataset, pairing_column
from leadline.errors import DataError

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared real data is not here")


def make(n=40, **changed):
    """A data set that passes every check, with some columns changed."""
    columns = {
        "text": [f"text {i:03d}" for i in range(n)],
        "label": [i % 2 for i in range(n)],
        "group": [f"g{i // 4}" for i in range(n)],
        **changed,
    }
    options = {"target": "label", "group": "group", **({"split": "part"} if "part" in columns else {})}
    rows = [dict(zip(columns, values)) for values in zip(*columns.values())]
    return Dataset.from_rows(rows, **options)


def replaced(values, **at):
    values = list(values)
    for key, value in at.items():
        values[int(key[1:])] = value
    return values


def codes(data, **options):
    return [f.code for f in data.check(**options)]


def test_sound_data_has_no_findings():
    assert make().check() == ()


def test_empty_texts_are_named_by_their_rows():
    texts = replaced([f"text {i}" for i in range(40)], _2="", _7="  \n", _9=None)
    with pytest.raises(DataError, match="rows 3, 8 and 10 of column 'text' are empty"):
        make(text=texts).check()


def test_rows_are_counted_as_in_the_source_after_sampling():
    texts = replaced([f"text {i}" for i in range(40)], _30="")
    with pytest.raises(DataError, match="row 31 of column 'text' is empty"):
        make(text=texts).select(range(10, 40)).check()


def test_empty_chats_are_empty():
    rows = [{"text": [{"role": "user", "content": "x" if i else " "}], "label": i % 2} for i in range(30)]
    with pytest.raises(DataError, match="row 1 of column 'text' is empty"):
        Dataset.from_rows(rows, target="label").check()


@pytest.mark.parametrize("bad", [None, float("nan")])
def test_missing_targets_are_named_by_their_rows(bad):
    with pytest.raises(DataError, match="row 5 has no finite value for target 'label'"):
        make(label=replaced([i % 2 for i in range(40)], _4=bad)).check()


def test_infinite_targets_are_named_by_their_rows():
    with pytest.raises(DataError, match="rows 1 and 2 have no finite value"):
        make(label=replaced([float(i) for i in range(40)], _0=float("inf"), _1=-float("inf"))).check()


def test_missing_groups_are_named_by_their_rows():
    with pytest.raises(DataError, match="row 1 has no group in column 'group'"):
        make(group=replaced([f"g{i // 4}" for i in range(40)], _0=None)).check()


def test_one_class_or_one_value():
    with pytest.raises(DataError, match="'label' is '1' in every training row"):
        make(label=[1] * 40).check()
    with pytest.raises(DataError, match="'label' is 'unsafe' in every training row"):
        make(label=["unsafe"] * 40).check()
    with pytest.raises(DataError, match="'label' is '1' in every training row"):
        make(label=[1] * 30 + [0] * 10, part=[False] * 30 + [True] * 10).check()
    joint = Dataset.from_rows(
        [{"text": f"text {i}", "x": i, "y": 2.5} for i in range(30)], target=["x", "y"], kind="continuous"
    )
    with pytest.raises(DataError, match=r"'y' is 2\.5 in every training row"):
        joint.check()


def test_too_few_rows():
    with pytest.raises(DataError, match="there are 19 training rows; at least 20"):
        Dataset.from_rows([{"text": f"t{i}", "label": i % 2} for i in range(19)], target="label").check()
    with pytest.raises(DataError, match=r"there are 0 training rows \(column 'part'\)"):
        make(part=["test"] * 40).check()


def test_too_few_groups_in_all_or_in_a_class():
    with pytest.raises(DataError, match="column 'group' has 4 groups; 5 folds"):
        make(group=[f"g{i // 10}" for i in range(40)]).check()
    labels = [int(i < 16) for i in range(40)]
    with pytest.raises(DataError, match="class '1' of target 'label' stands in 4 groups; 5 folds"):
        make(label=labels).check()
    make(label=labels).check(n_folds=4)
    few = [int(i < 4) for i in range(40)]
    with pytest.raises(DataError, match="class '1' of target 'label' stands in 4 rows"):
        Dataset.from_rows([{"text": f"t{i}", "label": y} for i, y in enumerate(few)], target="label").check()


def test_data_that_is_only_scored_needs_no_folds():
    assert codes(make(group=["one"] * 40), n_folds=1) == []


def test_all_problems_are_told_at_once():
    with pytest.raises(DataError, match=r"for 3 reasons:\n  1\. row 1 of column 'text' is empty.*\n  2\..*\n  3\. "):
        make(
            text=replaced([f"text {i}" for i in range(40)], _0=""),
            label=replaced([i % 2 for i in range(40)], _1=None),
            group=["one"] * 40,
        ).check()


def test_duplicates_are_warned_of_by_what_their_labels_say():
    texts = replaced([f"text {i:03d}" for i in range(40)], _2="text 000", _5="text 001", _6="text 002", _3="text 003")
    labels = replaced([i % 2 for i in range(40)], _5=0)
    found = {f.code: f for f in make(text=texts, label=labels).check()}
    assert set(found) == {"duplicate_rows", "conflicting_duplicates"}
    assert found["duplicate_rows"].rows == (0, 2)
    assert found["conflicting_duplicates"].rows == (1, 5)
    assert all(f.severity == "warning" for f in found.values())


def test_the_same_text_on_both_sides_of_the_split():
    texts = replaced([f"text {i:03d}" for i in range(40)], _39="text 001")
    groups = [f"g{i % 5}" if i < 30 else f"h{i % 5}" for i in range(40)]
    found = make(text=texts, group=groups, part=[i >= 30 for i in range(40)]).check()
    assert {f.code: f.rows for f in found} == {"duplicate_rows": (1, 39), "text_crosses_split": (1, 39)}


def test_a_group_that_crosses_the_split():
    part = ["test" if i >= 30 else "train" for i in range(40)]
    (found,) = make(part=part).check()
    # Group g7 has rows 28 to 31.
    assert (found.code, found.severity, found.rows) == ("group_crosses_split", "warning", (30, 31))
    assert "1 of the 3 test groups of 'group' (g7) also stands in training: 2 of 10 test rows" in found.message


def test_a_label_that_follows_from_length_is_warned_of():
    longer = [f"text {i:03d}" + " and more" * (i % 2) for i in range(40)]
    (found,) = make(text=longer).check()
    assert found.code == "length"
    assert "AUROC 1.00; longer ones are more often '1'" in found.message
    assert "shorter ones" in make(text=longer, label=[1 - i % 2 for i in range(40)]).check()[0].message


def test_a_number_that_follows_from_length_is_warned_of():
    rng = np.random.default_rng(0)
    rows = [{"text": "x" * (i + 1), "x": float(-i), "y": float(y)} for i, y in enumerate(rng.normal(size=60))]
    (found,) = Dataset.from_rows(rows, target=["x", "y"]).check()
    assert found.code == "length"
    assert "'x' (Spearman correlation -1.00)" in found.message


def test_a_rare_class_and_a_test_part_of_one_class():
    assert codes(make(100, label=[int(i % 16 == 0) for i in range(100)])) == ["rare_class"]
    groups = [f"g{i // 4}" for i in range(40)]
    data = make(label=[i % 2 if i < 32 else 1 for i in range(40)], group=groups, part=[i >= 32 for i in range(40)])
    assert codes(data) == ["test_one_class"]


def paired(n_pairs=50, **extra):
    rows = []
    for i in range(n_pairs):
        for label in (0, 1):
            rows.append({"text": f"{i} is {label}", "label": label, "item": f"item {i}", "half": f"h{i // 2}"})
    for name, values in extra.items():
        for row, value in zip(rows, values):
            row[name] = value
    return rows


def test_the_column_that_pairs_opposite_labels_is_the_finest():
    data = Dataset.from_rows(paired(), target="label")
    assert pairing_column(data, data.targets[0]) == ("item", 1.0)


def test_pairs_that_groups_keep_together_are_no_longer_named():
    data = Dataset.from_rows(paired(), target="label", group="item")
    assert pairing_column(data, data.targets[0]) is None
    coarser = Dataset.from_rows(paired(), target="label", group="half")
    assert pairing_column(coarser, coarser.targets[0]) is None


def test_the_share_counts_only_rows_in_pairs():
    rows = paired()
    for row in rows[:20]:
        row["item"] = None if row["label"] else f"alone {row['text']}"
    data = Dataset.from_rows([{k: v for k, v in r.items() if k != "half"} for r in rows], target="label")
    assert pairing_column(data, data.targets[0]) == ("item", 0.8)


@pytest.mark.parametrize("size", [2, 3, 4, 8])
def test_a_column_that_ignores_the_labels_pairs_nothing(size):
    # Values shared by 8 rows nearly always have a mean label near .5; only an excess over that pairs.
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.arange(240) % 2)
        rows = [{"text": f"t{i}", "label": int(y), "c": f"c{i // size}"} for i, y in enumerate(labels)]
        data = Dataset.from_rows(rows, target="label")
        assert pairing_column(data, data.targets[0]) is None


def test_a_column_constant_in_the_label_pairs_nothing():
    rows = [{"text": f"t{i}", "label": i // 2 % 2, "c": i // 2} for i in range(80)]
    data = Dataset.from_rows(rows, target="label")
    assert pairing_column(data, data.targets[0]) is None


def test_a_continuous_target_has_no_pairs():
    data = Dataset.from_rows([{"text": f"t{i}", "x": i, "c": i // 2} for i in range(40)], target="x")
    assert pairing_column(data, data.targets[0]) is None


@needs_shared
def test_cities_are_paired_by_city():
    path = SHARED / "truth" / "cities.csv"
    data = Dataset.from_csv(path, text="statement", target="label")
    assert data.check() == ()
    assert (data.n, data.n_given, data.name) == (1496, 1496, "cities")
    column, share = pairing_column(data, data.target("label"))
    assert column == "city"
    assert share > 0.95
    by_country = Dataset.from_csv(path, text="statement", target="label", group="country")
    assert pairing_column(by_country, by_country.target("label"))[0] == "city"
    by_city = Dataset.from_csv(path, text="statement", target="label", group="city")
    assert pairing_column(by_city, by_city.target("label")) is None


@needs_shared
def test_places_share_countries_between_training_and_test():
    data = Dataset.from_csv(
        SHARED / "world_models" / "world_place.csv",
        text="name",
        target=["latitude", "longitude"],
        group="country",
        split="is_test",
    )
    assert [t.name for t in data.targets] == ["latitude+longitude"]
    assert (data.n, len(data.train_rows), len(data.test_rows)) == (39585, 31668, 7917)
    found = {f.code: f for f in data.check()}
    assert "268 of the 281 test groups of 'country'" in found["group_crosses_split"].message
    sampled = data.sample(3000, seed=0, n_test=1000)
    assert (len(sampled.train_rows), len(sampled.test_rows)) == (3000, 1000)


@needs_shared
def test_other_real_files_read_as_they_should():
    safe = Dataset.from_csv(SHARED / "xstest" / "xstest_prompts.csv", text="prompt", target="label", group="type")
    assert (safe.targets[0].negative, safe.targets[0].positive) == ("safe", "unsafe")
    safe.check()
    bloom = SHARED / "bloom" / "bloom_questions.csv"
    named = Dataset.from_csv(bloom, text="question", target="level_name", group="group")
    assert named.targets[0].counts == dict.fromkeys(sorted(named.targets[0].classes), 425)
    assert "length" in codes(named)
    level = Dataset.from_csv(bloom, text="question", target="level", group="group")
    assert level.targets[0].kind == "continuous"
    assert "length" in codes(level)
    answers = Dataset.from_jsonl(
        SHARED / "anthropic_evals" / "risk-averse.jsonl", text="question", target="answer_matching_behavior"
    )
    assert (answers.targets[0].negative, answers.targets[0].positive) == ("No", "Yes")


@needs_shared
def test_question_answers_are_paired_by_question():
    frame = Dataset.from_csv(SHARED / "truthfulqa" / "TruthfulQA.csv", text="Question", target=()).frame
    rows = [
        {"text": f"{r['Question']} {r[column]}", "true": column == "Best Answer", "question": r["Question"]}
        for r in frame.iter_rows(named=True)
        for column in ("Best Answer", "Best Incorrect Answer")
    ]
    data = Dataset.from_rows(rows, target="true")
    assert pairing_column(data, data.target("true"))[0] == "question"
