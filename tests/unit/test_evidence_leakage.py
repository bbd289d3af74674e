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
    assert "Group the folds by it" in found.sentence
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
