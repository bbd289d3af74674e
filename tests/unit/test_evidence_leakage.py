import numpy as np
import pytest

from leadline.errors import EvidenceError
from leadline.evidence.leakage import leaking_columns
from leadline.probes.splits import make_folds


def labelled(rng, kind, n_values, n=600):
    """Values of a column and a target that each value holds one of."""
    value = rng.permutation(np.arange(n) % n_values)
    if kind == "continuous":
        return value, rng.normal(size=n_values)[value][:, None]
    n_classes = {"binary": 2, "multiclass": 4, "ordinal": 3}[kind]
    return value, rng.permutation(np.arange(n_values) % n_classes)[value].astype(float)[:, None]


KINDS = ["binary", "multiclass", "ordinal", "continuous"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_values", [18, 150])
def test_an_identity_that_holds_the_label_is_found_until_the_folds_keep_it_whole(kind, n_values):
    rng = np.random.default_rng([1, n_values])
    value, Y = labelled(rng, kind, n_values)
    names = np.array([f"person {v}" for v in value])
    fold = rng.permutation(600) % 5
    (found,) = leaking_columns({"person": names, "noise": rng.integers(0, n_values, 600)}, Y, kind, fold, None)
    assert (found.name, found.kind, found.n_values) == ("person", "identity", n_values)
    assert found.p == found.smallest_p == 0.001
    assert found.covered > 0.9
    assert found.metric.value > 0.95
    assert found.metric.low > 0.9
    assert found.sentence.endswith(
        "Group the folds by it, or leave the column out if it only describes the concept in finer words."
    )
    grouped = make_folds(Y, value, 3, stratify=kind != "continuous", seed=0)
    assert leaking_columns({"person": names}, Y, kind, grouped, value) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_the_label_under_another_name_is_told_apart(kind):
    rng = np.random.default_rng(2)
    _, Y = labelled(rng, kind, 60)
    y = Y[:, 0]
    other = np.exp(y) if kind == "continuous" else np.array([f"class {int(v)}" for v in y])
    fold = rng.permutation(600) % 5
    (found,) = leaking_columns({"alias": other}, Y, kind, fold, None)
    assert found.kind == "synonym"
    assert "another name" in found.sentence


def cut_score(kind, rng, sign):
    """A whole number that recurs, and a label that was cut from it."""
    score = rng.integers(-40, 41, 800)
    if kind == "continuous":
        return score, (np.sinh(sign * score / 20) + 0.3 * rng.normal(size=800))[:, None]
    cuts = {"binary": [0], "multiclass": [-20, 3, 30], "ordinal": [25, 35]}[kind]
    # The codes of classes have no order.
    names = np.array([2, 0, 3, 1]) if kind == "multiclass" else np.arange(4)
    return score, names[np.digitize(sign * score, cuts)].astype(float)[:, None]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("as_text", [False, True])
def test_a_number_that_the_label_was_cut_from_is_the_label_under_another_name(kind, sign, as_text):
    rng = np.random.default_rng([11, KINDS.index(kind)])
    score, Y = cut_score(kind, rng, sign)
    some = rng.random(800) < 0.1
    column = np.where(some, "" if as_text else None, (score.astype(str) if as_text else score).astype(object))
    # The same values as names are an identity: nothing tells them from one. A number still varies within them.
    columns = {"score": column, "name": np.array([f"s{v}" for v in score])}
    found = leaking_columns(columns, Y, kind, rng.permutation(800) % 5, None, n_permutations=199)
    named = "coarse" if kind == "continuous" else "identity"
    assert {c.name: c.kind for c in found} == {"score": "synonym", "name": named}


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_for_a_name_stays_an_identity(kind):
    value, Y = labelled(np.random.default_rng(12), kind, 60)
    fold = np.random.default_rng(13).permutation(600) % 5
    for column in (value, value.astype(str), value + 0.5):
        assert [c.kind for c in leaking_columns({"id": column}, Y, kind, fold, None)] == ["identity"]


def test_a_finer_name_of_the_label_is_given_as_an_identity_that_may_be_left_out():
    rng = np.random.default_rng(14)
    tag = rng.integers(0, 6, 500)
    (found,) = leaking_columns(
        {"tag": np.array(list("abcdef"))[tag]}, (tag % 2)[:, None] * 1.0, "binary", rng.permutation(500) % 5, None
    )
    assert found.kind == "identity"
    assert "leave the column out" in found.sentence


@pytest.mark.parametrize("missing", ["", "  ", None, float("nan")])
def test_a_column_that_names_the_rows_of_one_class_alone_raises_no_alarm(missing):
    rng = np.random.default_rng(15)
    y = np.arange(400) % 2
    note = np.where(y == 1, np.array(["violence", "theft", "slur"], dtype=object)[rng.integers(0, 3, 400)], missing)
    fold = rng.permutation(400) % 5
    assert leaking_columns({"note": note}, y[:, None] * 1.0, "binary", fold, None) == ()
    # Of three classes, the two that it names.
    level = rng.integers(0, 3, 400)
    some = np.where(level > 0, np.array(["low", "mid", "high", "top"], dtype=object)[2 * (level > 1) + y], missing)
    kinds = [c.kind for c in leaking_columns({"some": some}, level[:, None] * 1.0, "multiclass", fold, None)]
    assert kinds == ["identity"]


def test_what_is_known_of_one_class_mostly_is_judged_among_the_known():
    alarms = 0
    for draw in range(50):
        rng = np.random.default_rng(draw)
        y = np.repeat([0.0, 1.0], 100)[:, None]
        column = np.array([None] * 200, dtype=object)
        column[100:150] = rng.integers(0, 10, 50)
        column[:2] = rng.integers(0, 10, 2)
        fold = rng.permutation(200) % 5
        alarms += len(leaking_columns({"note": column}, y, "binary", fold, None, n_permutations=199))
    assert alarms == 0


def test_numbers_of_their_own_missing_values_and_pairs_give_nothing_away():
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 400)
    pair = np.arange(400) // 2
    y[1::2] = 1 - y[::2]
    fold = rng.permutation(400) % 5
    columns = {
        "id": np.arange(400),
        "empty": np.array([None] * 400, dtype=object),
        "pair": pair,
        "constant": np.ones(400),
        "float": rng.normal(size=400),
    }
    assert leaking_columns(columns, y[:, None].astype(float), "binary", fold, None) == ()


def test_missing_values_are_no_value():
    rng = np.random.default_rng(4)
    value, Y = labelled(rng, "binary", 40, n=400)
    some = np.where(rng.random(400) < 0.5, value.astype(object), None)
    fold = rng.permutation(400) % 5
    (found,) = leaking_columns({"some": some}, Y, "binary", fold, None)
    assert found.covered < 0.6
    assert found.n_values == 40
    # Rows without a value would otherwise be one large value of mixed labels.
    floats = np.array([np.nan if v is None else v for v in some], dtype=float)
    assert leaking_columns({"some": floats}, Y, "binary", fold, None)[0].covered == found.covered


def test_a_column_that_merely_predicts_the_label_is_no_identity():
    rng = np.random.default_rng(5)
    value = rng.integers(0, 50, 600)
    y = (rng.random(600) < np.where(rng.random(50) < 0.5, 0.2, 0.8)[value]).astype(float)[:, None]
    assert leaking_columns({"topic": value}, y, "binary", rng.permutation(600) % 5, None) == ()


def test_a_rare_class_is_not_pure_for_being_rare():
    rng = np.random.default_rng(6)
    y = (rng.random((800, 1)) < 0.02).astype(float)
    y[:20] = 1
    fold = make_folds(y, None, 5, stratify=True, seed=0)
    assert leaking_columns({"value": rng.integers(0, 100, 800)}, y, "binary", fold, None) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_random_columns_raise_no_alarm(kind):
    alarms, n_columns = 0, 0
    for draw in range(25):
        rng = np.random.default_rng([7, draw])
        n = 200
        Y = rng.normal(size=(n, 1)) if kind == "continuous" else rng.integers(0, 3 - (kind == "binary"), (n, 1)) * 1.0
        if kind == "binary" and draw % 2:
            Y = (rng.random((n, 1)) < 0.1).astype(float)
        groups = None if draw % 3 else rng.integers(0, 40, n)
        if groups is not None and draw % 6:
            # A label for each group.
            Y = Y[groups % n]
        fold = rng.permutation(n) % 4 if groups is None else groups % 4
        columns = {f"{k}": rng.integers(0, k, n) for k in (2, 3, 5, 10, 30, 60, 90, 150)}
        alarms += len(leaking_columns(columns, Y, kind, fold, groups, n_permutations=199))
        n_columns += len(columns)
    assert n_columns == 200
    assert alarms <= 1


def test_a_column_of_another_length_and_too_few_shuffles_are_refused():
    y = np.tile([0.0, 1.0], 10)[:, None]
    with pytest.raises(EvidenceError, match="20 rows"):
        leaking_columns({"a": np.zeros(3)}, y, "binary", np.arange(20) // 4 % 5, None)
    with pytest.raises(EvidenceError, match="100 or more"):
        leaking_columns({}, y, "binary", np.arange(20) // 4 % 5, None, n_permutations=50)
