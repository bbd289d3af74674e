"""Control tasks on planted answers: memory alone, a concept beyond the types, and types that do not recur."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from leadline.errors import EvidenceError
from leadline.evidence.bootstrap import bootstrap_design
from leadline.evidence.control_task import control_labels, control_task, recurring_rows
from leadline.evidence.metrics import CHANCE, JUDGED_BY
from leadline.probes.k_sparse import KSparse
from leadline.probes.logistic import Logistic
from leadline.probes.mean_difference import MeanDifference
from leadline.probes.multinomial import Multinomial
from leadline.probes.ordinal import Ordinal
from leadline.probes.ridge import Ridge
from leadline.probes.splits import make_folds

FAMILIES = {
    "binary": Logistic(l2=1e-2),
    "continuous": Ridge(l2=1e-2),
    "multiclass": Multinomial(l2=1e-2),
    "ordinal": Ordinal(l2=1e-2),
}


def words(seed, n_types=30, per=10, d=40, identity=1.0, noise=0.3):
    """Rows of `n_types` words: each word has a vector of its own."""
    rng = np.random.default_rng([seed, 9])
    types = np.repeat(np.arange(n_types), per)
    vectors = identity * rng.normal(size=(n_types, d))
    return (vectors[types] + noise * rng.normal(size=(len(types), d))).astype(np.float32), types, rng


def judged(kind, Y, n_folds=3, n_replicates=200, seed=0):
    fold = make_folds(Y, None, n_folds, stratify=kind != "continuous", seed=seed)
    return fold, bootstrap_design(fold, None, n_replicates, seed)


def target(kind, value):
    if kind == "continuous":
        return value[:, None]
    cuts = [0.0] if kind == "binary" else [-0.6, 0.6]
    return np.digitize(value, cuts).astype(float)[:, None]


@pytest.mark.parametrize("kind", ["binary", "continuous", "multiclass", "ordinal"])
def test_labels_that_are_a_function_of_the_word_are_learnt_by_memory_and_not_selective(kind):
    X, types, rng = words(0)
    Y = target(kind, rng.normal(size=30)[types])
    fold, design = judged(kind, Y)
    found = control_task(FAMILIES[kind], X, Y, kind, fold, types, design)
    # More dimensions than words: whatever the labels, memory gives most of them.
    assert found.metric == JUDGED_BY[kind]
    assert found.task.value > 0.75
    assert found.control.value > 0.75
    assert abs(found.selectivity.value) < 0.05
    assert found.p_value > 0.05
    assert found.share_constant == 1
    assert (found.n_types, found.n_recurring, found.share_recurring) == (30, 30, 1.0)
    assert found.reason == ""


@pytest.mark.parametrize("kind", ["binary", "continuous", "multiclass", "ordinal"])
def test_a_concept_of_the_context_is_selective_where_words_cannot_be_told_apart(kind):
    X, types, rng = words(1, n_types=40, d=8, identity=0.0)
    context = rng.normal(size=len(types))
    X[:, 0] += 3 * context
    Y = target(kind, context)
    fold, design = judged(kind, Y)
    found = control_task(FAMILIES[kind], X, Y, kind, fold, types, design)
    assert found.task.value > 0.8
    # Random labels of C classes are guessed rightly in about one of C rows.
    chance = 1 / len(np.unique(Y)) if found.metric == "accuracy" else CHANCE[found.metric]
    assert abs(found.control.value - chance) < 0.15
    assert found.selectivity.low > 0.2
    assert found.p_value <= 0.05
    assert found.share_constant < 0.1
    assert len(found.draws) == 5
    assert found.control.value == pytest.approx(np.mean(found.draws))
    assert found.selectivity.value == pytest.approx(found.task.value - found.control.value)


def test_fewer_features_take_memory_away_and_leave_the_concept():
    X, types, rng = words(2)
    Y = rng.permutation(np.tile([0.0, 1.0], 150))[:, None]
    X[:, 0] = 2 * Y[:, 0] + rng.normal(size=300)
    fold, design = judged("binary", Y)
    one, many = (
        control_task(KSparse(), X, Y, "binary", fold, types, design, setting=k, n_tasks=3) for k in (1.0, 40.0)
    )
    assert (one.setting, many.setting) == (1.0, 40.0)
    assert one.task.value > 0.85
    assert many.control.value > 0.9 > 0.75 > one.control.value
    assert one.selectivity.value > many.selectivity.value + 0.1


def test_a_task_that_is_itself_a_random_labelling_is_called_selective_at_the_stated_rate():
    p, selectivity = [], []
    for seed in range(80):
        X, types, rng = words(seed, n_types=24, per=8, d=12, noise=1.0)
        Y = rng.permutation(np.tile([0.0, 1.0], 12))[types][:, None]
        fold, design = judged("binary", Y, seed=seed, n_replicates=100)
        found = control_task(Ridge(l2=0.1), X, Y, "binary", fold, types, design, seed=seed)
        p.append(found.p_value)
        selectivity.append(found.selectivity.value)
    # One task among exchangeable ones: at 5%, 11 or more of 80 have a chance of 2e-3.
    assert (np.array(p) <= 0.05).sum() <= 10
    assert abs(np.mean(selectivity)) < 4 * np.std(selectivity) / np.sqrt(80)


def test_where_no_type_recurs_nothing_is_computed_and_the_figures_say_so():
    X, _, rng = words(3)
    Y = rng.permutation(np.tile([0.0, 1.0], 150))[:, None]
    fold, design = judged("binary", Y)
    family = Counted()
    found = control_task(family, X, Y, "binary", fold, np.arange(300), design)
    assert "no type recurs" in found.reason
    assert "0 of 300 types" in found.reason
    assert np.isnan([found.task.value, found.control.value, found.selectivity.value, found.p_value]).all()
    assert family.calls == []
    # Nine words are too few to tell memory from luck; a fold that holds a word whole cannot learn it by heart.
    assert "9 of 9" in control_task(family, X, Y, "binary", fold, np.arange(300) % 9, design).reason
    by_fold = np.char.add(fold.astype(str), (np.arange(300) % 20).astype(str))
    assert control_task(family, X, Y, "binary", fold, by_fold, design).share_recurring == 0
    assert control_task(family, X, Y, "binary", fold, np.arange(300) % 50, design, min_share=0.9).reason == ""


@dataclass
class Counted:
    """A ridge that notes the labels of each fit."""

    calls: list = field(default_factory=list)
    name: str = "ridge"
    parameter: None = None

    def fit_site(self, X, Y, fold, *, weights=None):
        self.calls.append(Y)
        return Ridge(l2=1.0).fit_site(X, Y, fold, weights=weights)


def test_all_draws_are_columns_of_one_fit_and_given_scores_are_not_fitted_again():
    X, types, rng = words(4)
    Y = rng.permutation(np.tile([0.0, 1.0], 150))[:, None]
    fold, design = judged("binary", Y)
    family = Counted()
    whole = control_task(family, X, Y, "binary", fold, types, design)
    assert [y.shape for y in family.calls] == [(300, 6)]
    scores = Ridge(l2=1.0).fit_site(X, Y, fold).scores[0]
    given = control_task(family, X, Y, "binary", fold, types, design, scores=scores)
    assert [y.shape for y in family.calls] == [(300, 6), (300, 5)]
    assert replace(given, setting=0.0) == replace(whole, setting=0.0)
    # The columns' control labels, each fitted alone.
    for column, value in zip(family.calls[1].T, whole.draws, strict=True):
        alone = Ridge(l2=1.0).fit_site(X, column[:, None], fold).scores[0, :, 0]
        by_fold = [roc_auc_score(column[fold == k], alone[fold == k]) for k in range(3)]
        assert value == pytest.approx(np.mean(by_fold), abs=1e-6)


def test_only_rows_whose_type_recurs_are_judged():
    X, types, rng = words(5, n_types=20, per=10)
    once = 1000 + np.arange(40)
    X = np.vstack([X, rng.normal(size=(40, 40))]).astype(np.float32)
    types = np.concatenate([types, once])
    Y = rng.permutation(np.tile([0.0, 1.0], 120))[:, None]
    fold, design = judged("binary", Y)
    scores = Logistic(l2=0.1).fit_site(X, Y, fold).scores[0]
    found = control_task(Logistic(), X, Y, "binary", fold, types, design, setting=0.1, scores=scores)
    kept = types < 1000
    by_fold = [roc_auc_score(Y[kept & (fold == k), 0], scores[kept & (fold == k), 0]) for k in range(3)]
    assert found.task.value == pytest.approx(np.mean(by_fold), abs=1e-6)
    assert found.share_recurring == pytest.approx(200 / 240)
    # What the other rows score makes no difference at all.
    wild = scores.copy()
    wild[~kept] = 1e3 * (1 - 2 * Y[~kept])
    assert control_task(Logistic(), X, Y, "binary", fold, types, design, setting=0.1, scores=wild) == found


def test_without_a_setting_task_and_control_each_choose_and_are_corrected():
    X, types, rng = words(6)
    Y = rng.permutation(np.tile([0.0, 1.0], 150))[:, None]
    fold, design = judged("binary", Y)
    every = Ridge(l2=(1e-2, 1.0, 1e2))
    found = control_task(every, X, Y, "binary", fold, types, design, n_tasks=2)
    again = control_task(
        every, X, Y, "binary", fold, types, design, n_tasks=2, scores=every.fit_site(X, Y, fold).scores
    )
    assert np.isnan(found.setting)
    assert replace(found, setting=0.0) == replace(again, setting=0.0)
    plain = control_task(MeanDifference(), X, Y, "binary", fold, types, design, setting=float("nan"), n_tasks=2)
    assert np.isfinite(plain.selectivity.low)


def test_recurring_rows_against_their_definition():
    rng = np.random.default_rng(0)
    codes, fold = rng.integers(0, 40, size=100), rng.integers(0, 4, size=100)
    codes[:40] = np.arange(40)
    weights = (rng.random(100) < 0.7).astype(float)
    for w in (None, weights):
        counted = np.ones(100) if w is None else w
        rows, types = recurring_rows(codes, fold, w)
        want = [((codes == codes[i]) & (fold != fold[i]) & (counted > 0)).any() for i in range(100)]
        np.testing.assert_array_equal(rows, want)
        every = [all(((codes == t) & (fold != k) & (counted > 0)).any() for k in range(4)) for t in range(40)]
        np.testing.assert_array_equal(types, every)


def test_random_labels_are_constant_in_a_type_follow_the_types_labels_and_leave_no_class_out():
    rng = np.random.default_rng(0)
    # One word makes half of all rows: by types, class 1 has a tenth.
    codes = np.concatenate([np.zeros(500, dtype=int), np.repeat(np.arange(1, 101), 5)])
    Y = ((codes % 10 == 0) & (codes > 0)).astype(float)[:, None]
    recurring = np.ones(101, dtype=bool)
    drawn = control_labels(Y, "binary", codes, recurring, 300, 0)
    for labels in drawn:
        assert all(len(np.unique(labels[codes == t])) == 1 for t in (0, 7, 100))
    share = [np.mean([labels[codes == t][0, 0] for t in range(101)]) for labels in drawn]
    assert abs(np.mean(share) - 10 / 101) < 4 * np.std(share) / np.sqrt(300)
    # A class of one type in a hundred is drawn by none a third of the time, and must stand in all folds' training rows.
    rare = rng.integers(0, 2, size=(101, 1)).astype(float)
    rare[5] = 2
    recurring[50:] = False
    for labels in control_labels(rare[codes], "multiclass", codes, recurring, 50, 0):
        assert set(labels[codes < 50, 0]) == {0.0, 1.0, 2.0}
    assert control_labels(np.ones((1000, 1)), "binary", codes, recurring, 2, 0) == []


def test_values_are_dealt_among_the_types():
    codes = np.repeat(np.arange(12), [1, 2, 3] * 4)
    values = np.random.default_rng(0).normal(size=(len(codes), 2))
    means = np.stack([values[codes == t].mean(axis=0) for t in range(12)])
    one, other = control_labels(values, "continuous", codes, np.ones(12, dtype=bool), 2, 0)
    for labels in (one, other):
        by_type = np.stack([labels[codes == t][0] for t in range(12)])
        # Columns stay together: the rows of the table of means, in another order.
        np.testing.assert_allclose(by_type[np.argsort(by_type[:, 0])], means[np.argsort(means[:, 0])])
    assert (one != other).any()


def test_what_cannot_be_judged_says_why():
    X, types, rng = words(7)
    Y = rng.permutation(np.tile([0.0, 1.0], 150))[:, None]
    fold, design = judged("binary", Y)
    same = control_task(Ridge(l2=1.0), X, np.ones((300, 1)), "binary", fold, types, design)
    assert "all have the same" in same.reason
    groups = fold.astype(str)
    one = control_task(Ridge(l2=1.0), X, Y, "binary", fold, types, bootstrap_design(fold, groups, 100, 0))
    assert np.isfinite(one.selectivity.value)
    assert np.isnan([one.selectivity.low, one.p_value]).all()
    assert "group" in one.reason
    with pytest.raises(EvidenceError, match="one a row"):
        control_task(Ridge(), X, Y, "binary", fold, types[:5], design)
    with pytest.raises(EvidenceError, match="2 or more"):
        control_task(Ridge(), X, Y, "binary", fold, types, design, n_tasks=1)
    with pytest.raises(EvidenceError, match="scores of shape"):
        control_task(Ridge(), X, Y, "binary", fold, types, design, setting=1.0, scores=np.zeros((2, 300, 1)))


def test_one_group_of_recurring_rows_a_fold_leaves_no_interval():
    X, types, rng = words(8, n_types=20, per=10)
    Y = rng.permutation(np.tile([0.0, 1.0], 100))[:, None]
    fold = np.arange(200) % 2
    # Three groups a fold; the rows of two of them have types of their own.
    groups = np.char.add(fold.astype(str), (np.arange(200) // 20).clip(7).astype(str))
    names = np.where(np.arange(200) >= 160, np.arange(200) + 500, types)
    design = bootstrap_design(fold, groups, 100, 0)
    found = control_task(Ridge(l2=1.0), X, Y, "binary", fold, names, design)
    assert design.reason == ""
    assert "type that recurs" in found.reason
    assert np.isnan(found.selectivity.low)
