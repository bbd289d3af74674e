import numpy as np
import pytest

from leadline.errors import EvidenceError
from leadline.evidence.permutation import draw_shuffles
from leadline.probes.splits import make_folds


@pytest.fixture
def grouped():
    rng = np.random.default_rng(1)
    groups = np.array([f"g{i}" for i in rng.integers(0, 60, 500)], dtype=object)
    y = (rng.random(500) < 0.2).astype(float)[:, None]
    return y, groups


def test_folds_keep_groups_whole_and_classes_balanced(grouped):
    y, groups = grouped
    fold = make_folds(y, groups, 5, stratify=True, seed=0)
    for g in set(groups):
        assert len(set(fold[groups == g])) == 1
    rates = [y[fold == k].mean() for k in range(5)]
    sizes = [np.sum(fold == k) for k in range(5)]
    assert max(rates) - min(rates) < 0.05
    assert max(sizes) - min(sizes) < 50


def test_ungrouped_folds_are_of_one_size_and_stratified():
    y = np.repeat([0.0, 1.0], [80, 20])[:, None]
    fold = make_folds(y, None, 5, stratify=True, seed=3)
    assert np.bincount(fold).tolist() == [20] * 5
    assert [int(y[fold == k].sum()) for k in range(5)] == [4] * 5


def test_the_seed_decides(grouped):
    y, groups = grouped
    one, two, three = (make_folds(y, groups, 5, stratify=True, seed=s) for s in (0, 0, 1))
    assert (one == two).all()
    assert (one != three).any()


@pytest.mark.parametrize(
    ("y", "groups", "k", "said"),
    [
        ([0, 1] * 10, ["a", "b"] * 10, 5, "2 groups cannot fill 5 folds"),
        ([1] + [0] * 19, [str(i) for i in range(20)], 5, "positive class stands in 1 groups"),
        ([0, 1] * 10, None, 1, "expected 2 or more"),
    ],
)
def test_what_no_folds_can_judge_is_refused(y, groups, k, said):
    with pytest.raises(EvidenceError, match=said):
        make_folds(np.array(y, float), None if groups is None else np.array(groups), k, stratify=True, seed=0)


def test_shuffles_stay_within_groups_where_labels_vary(grouped):
    y, groups = grouped
    shuffles = draw_shuffles(y, groups, 50, seed=0)
    assert (shuffles.index[0] == np.arange(500)).all()
    moved = y[shuffles.index[1:], 0]
    for g in set(groups):
        rows = groups == g
        assert (moved[:, rows].sum(axis=1) == y[rows].sum()).all()
    assert (moved != y[:, 0]).any(axis=1).all()


def test_whole_groups_move_where_labels_do_not_vary():
    groups = np.repeat(np.array(list("abcdefghij")), 7)
    y = np.repeat([0.0, 1.0] * 5, 7)[:, None]
    shuffles = draw_shuffles(y, groups, 30, seed=0)
    moved = y[shuffles.index[1:], 0]
    for g in "abcdefghij":
        assert (moved[:, groups == g] == moved[:, groups == g][:, :1]).all()
    assert (moved.sum(axis=1) == 35).all()
    assert len({tuple(m) for m in moved}) > 10
    assert "whole groups" in shuffles.scheme


def test_labels_that_cannot_move_are_refused():
    with pytest.raises(EvidenceError, match="no shuffle can move"):
        draw_shuffles(np.ones((20, 1)), np.repeat(["a", "b"], 10), 50, seed=0)
