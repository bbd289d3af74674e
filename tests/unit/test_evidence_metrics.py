"""Every weighted metric against scikit-learn, with ties, weights, and where it is undefined."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, r2_score, roc_auc_score

from leadline.evidence.metrics import (
    fold_mean,
    weighted_auroc,
    weighted_decisions,
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
