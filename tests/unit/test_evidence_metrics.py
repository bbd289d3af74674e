"""Every weighted metric against scikit-learn, with ties, weights, and where it is undefined."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    f1_score,
    r2_score,
    roc_auc_score,
)

from leadline.evidence.metrics import (
    fold_mean,
    pair_accuracy,
    weighted_auroc,
    weighted_classes,
    weighted_concordance,
    weighted_decisions,
    weighted_levels,
    weighted_r2,
    weighted_spearman,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_equals_sklearn_under_every_weighting(rng, ties):
    n = 60
    scores = rng.integers(0, 5, n).astype(float) if ties else rng.normal(size=n)
    y = (rng.random(n) < 0.3).astype(float)
    W = rng.multinomial(n, np.full(n, 1 / n), size=20).T.astype(np.float32)
    found = weighted_auroc(scores, y, W)
    expected = [roc_auc_score(y, scores, sample_weight=w) for w in W.T]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_auroc_of_one_class_is_nan_and_of_constant_scores_one_half():
    W = np.ones((4, 1), dtype=np.float32)
    assert np.isnan(weighted_auroc(np.arange(4.0), np.ones(4), W))[0]
    assert weighted_auroc(np.zeros(4), np.array([0.0, 1, 0, 1]), W)[0] == 0.5


def test_decisions_equal_sklearn_under_every_weighting(rng):
    n = 50
    scores, y = rng.normal(size=n), (rng.random(n) < 0.4).astype(float)
    W = rng.multinomial(n, np.full(n, 1 / n), size=10).T.astype(np.float32)
    found = weighted_decisions(scores, y, W)
    said = scores > 0
    for b, w in enumerate(W.T):
        assert found["accuracy"][b] == pytest.approx(accuracy_score(y, said, sample_weight=w))
        assert found["balanced_accuracy"][b] == pytest.approx(balanced_accuracy_score(y, said, sample_weight=w))
        assert found["f1"][b] == pytest.approx(f1_score(y, said, sample_weight=w))


def test_r2_equals_sklearn_and_averages_columns(rng):
    y = rng.normal(size=(40, 2)) * [1, 1000] + [0, 5000]
    predicted = y + rng.normal(size=y.shape) * [0.5, 700]
    W = rng.multinomial(40, np.full(40, 1 / 40), size=10).T.astype(np.float32)
    expected = [r2_score(y, predicted, sample_weight=w, multioutput="uniform_average") for w in W.T]
    np.testing.assert_allclose(weighted_r2(predicted, y, W), expected, rtol=1e-4)


def test_r2_of_a_constant_target_is_nan(rng):
    assert np.isnan(weighted_r2(rng.normal(size=(9, 1)), np.ones((9, 1)), np.ones((9, 1)))).all()


def test_spearman_equals_scipy(rng):
    y = rng.normal(size=(40, 1))
    predicted = y + rng.normal(size=y.shape)
    expected = scipy.stats.spearmanr(predicted[:, 0], y[:, 0]).statistic
    assert weighted_spearman(predicted, y, np.ones((40, 1)))[0] == pytest.approx(expected)


def test_fold_mean_leaves_out_undefined_folds_and_says_nan_where_none_is_defined():
    found = fold_mean([np.array([1.0, np.nan, np.nan]), np.array([3.0, 2.0, np.nan])])
    np.testing.assert_array_equal(found, [2.0, 2.0, np.nan])


def weightings(rng, n, b=8):
    return np.hstack([np.ones((n, 1)), rng.multinomial(n, np.full(n, 1 / n), size=b).T]).astype(np.float32)


def test_several_classes_equal_sklearn_under_every_weighting(rng):
    n = 90
    codes = rng.integers(0, 4, n)
    scores = rng.normal(size=(n, 4)) + np.eye(4)[codes]
    W = weightings(rng, n)
    found = weighted_classes(scores, codes.astype(float), W)
    said = scores.argmax(axis=1)
    for b, w in enumerate(W.T):
        aurocs = [roc_auc_score(codes == c, scores[:, c], sample_weight=w) for c in range(4)]
        assert found["auroc"][b] == pytest.approx(np.mean(aurocs), rel=1e-6)
        assert found["accuracy"][b] == pytest.approx(accuracy_score(codes, said, sample_weight=w), rel=1e-6)
        expected = balanced_accuracy_score(codes, said, sample_weight=w)
        assert found["balanced_accuracy"][b] == pytest.approx(expected, rel=1e-6)
        assert found["f1"][b] == pytest.approx(f1_score(codes, said, average="macro", sample_weight=w), rel=1e-6)


def test_a_class_that_a_weighting_lacks_is_left_out_of_the_mean(rng):
    codes = np.array([0, 0, 1, 1, 2, 2])
    scores = np.eye(3)[codes] + 0.1 * rng.normal(size=(6, 3))
    W = np.ones((6, 1), dtype=np.float32)
    W[codes == 2] = 0
    found = weighted_classes(scores, codes.astype(float), W)
    assert found["auroc"][0] == found["balanced_accuracy"][0] == found["f1"][0] == 1.0


def test_concordance_equals_all_pairs_and_for_two_levels_is_auroc(rng):
    n = 40
    codes = rng.integers(0, 5, n).astype(float)
    scores = np.round(codes + rng.normal(size=n))
    W = weightings(rng, n)
    found = weighted_concordance(scores, codes, W)
    for b, w in enumerate(W.T.astype(np.float64)):
        wins = pairs = 0.0
        for i in range(n):
            for j in range(n):
                if codes[i] > codes[j]:
                    pairs += w[i] * w[j]
                    wins += w[i] * w[j] * ((scores[i] > scores[j]) + (scores[i] == scores[j]) / 2)
        assert found[b] == pytest.approx(wins / pairs, rel=1e-6)
    two = (codes > 2).astype(float)
    np.testing.assert_allclose(weighted_concordance(scores, two, W), weighted_auroc(scores, two, W), rtol=1e-6)


def test_levels_equal_sklearn_under_every_weighting(rng):
    n = 80
    codes = rng.integers(0, 4, n)
    latent = codes + rng.normal(size=n)
    scores = latent[:, None] - np.array([0.5, 1.5, 2.5])
    said = (scores > 0).sum(axis=1)
    W = weightings(rng, n)
    found = weighted_levels(scores, codes.astype(float), W)
    for b, w in enumerate(W.T):
        expected = cohen_kappa_score(codes, said, weights="quadratic", sample_weight=w)
        assert found["kappa"][b] == pytest.approx(expected, rel=1e-6)
        assert found["accuracy"][b] == pytest.approx(accuracy_score(codes, said, sample_weight=w), rel=1e-6)
        assert found["adjacent_accuracy"][b] == pytest.approx(np.average(abs(codes - said) <= 1, weights=w), rel=1e-6)


def test_one_level_alone_leaves_concordance_and_kappa_undefined():
    W = np.ones((3, 1), dtype=np.float32)
    found = weighted_levels(np.ones((3, 2)), np.full(3, 2.0), W)
    assert np.isnan(found["concordance"][0])
    assert np.isnan(found["kappa"][0])


def test_pair_accuracy_counts_pairs_ties_one_half_and_lone_rows_not_at_all():
    scores = np.array([2.0, 1.0, 0.0, 3.0, 5.0, 5.0, 9.0])
    y = np.array([1, 0, 1, 0, 1, 0, 1.0])
    pairs = np.array(["a", "a", "b", "b", "c", "c", "alone"])
    W = np.ones((7, 2), dtype=np.float32)
    W[:2, 1] = 3
    np.testing.assert_allclose(pair_accuracy(scores, y, pairs, W), [1.5 / 3, 3.5 / 5])
