"""Baselines from a few numbers or one category a row, for the four kinds of target."""

from __future__ import annotations

import numpy as np
import pytest

from leadline.errors import EvidenceError
from leadline.evidence.bootstrap import bootstrap_design, metric_table
from leadline.evidence.metrics import PRIMARY
from leadline.evidence.surface import categorical_scores, numeric_scores

KINDS = ("binary", "continuous", "multiclass", "ordinal")
N = 200


@pytest.fixture
def fold():
    return np.random.default_rng(0).permutation(N) % 4


def targets(values: np.ndarray) -> dict[str, np.ndarray]:
    """The kinds of target that one number decides."""
    levels = np.digitize(values, np.quantile(values, [0.25, 0.5, 0.75])).astype(float)
    return {
        "binary": (values > np.median(values)).astype(float)[:, None],
        "continuous": np.stack([values, -2 * values + 1], axis=1),
        "multiclass": levels[:, None],
        "ordinal": levels[:, None],
    }


def primary(scores: np.ndarray, Y: np.ndarray, kind: str, fold: np.ndarray) -> np.ndarray:
    return metric_table(scores, Y, kind, bootstrap_design(fold, None, 100, 0)).point[PRIMARY[kind]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_that_decides_the_target_is_read_and_noise_is_not(kind, fold) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=N)
    Y = targets(values)[kind]
    n_outputs = {"binary": 1, "continuous": 2, "multiclass": 4, "ordinal": 3}[kind]
    scores = numeric_scores(values, Y, kind, fold)
    assert scores.shape[1:] == (N, n_outputs)
    assert np.isfinite(scores).all()
    # One direction cannot single out the middle of four classes, so that theirs is lower.
    assert primary(scores, Y, kind, fold).max() > 0.8
    noise = primary(numeric_scores(rng.normal(size=(N, 2)), Y, kind, fold), Y, kind, fold)
    assert noise.max() < (0.1 if kind == "continuous" else 0.62)


@pytest.mark.parametrize("kind", KINDS)
def test_a_category_that_decides_the_target_is_read(kind, fold) -> None:
    category = np.random.default_rng(2).integers(0, 8, N)
    Y = targets(category + np.random.default_rng(3).normal(0, 0.01, N))[kind]
    for names in (category, np.array([f"word{c}" for c in category])):
        assert primary(categorical_scores(names, Y, kind, fold), Y, kind, fold).min() > 0.88
    shuffled = np.random.default_rng(4).permutation(category)
    assert primary(categorical_scores(shuffled, Y, kind, fold), Y, kind, fold).max() < 0.62


def test_a_category_has_the_smoothed_rate_of_its_training_rows_and_an_unseen_one_that_of_all() -> None:
    fold = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    category = np.array(["a", "b", "new", "a", "a", "a", "b", "c"])
    Y = np.array([0, 0, 0, 1, 1, 0, 0, 1.0])[:, None]
    scores = categorical_scores(category, Y, "binary", fold)
    prior = 3 / 5
    for score, strength in zip(scores[:, :3, 0], (0.5, 2.0, 8.0), strict=True):
        rates = np.array([(2 + strength * prior) / (3 + strength), strength * prior / (1 + strength), prior])
        np.testing.assert_allclose(score, np.log(rates / (1 - rates)), rtol=1e-5)


def test_a_continuous_category_is_ridge_on_the_one_hot_category() -> None:
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    category, fold = rng.integers(0, 5, N), rng.permutation(N) % 4
    Y = rng.normal(size=(N, 1)) + category[:, None]
    scores = categorical_scores(category, Y, "continuous", fold)
    one_hot = np.eye(5)[category]
    for k in range(4):
        train, test = fold != k, fold == k
        mean = Y[train].mean(axis=0)
        ridge = Ridge(alpha=2.0, fit_intercept=False).fit(one_hot[train], Y[train] - mean)
        np.testing.assert_allclose(scores[1, test], ridge.predict(one_hot[test]).reshape(-1, 1) + mean, rtol=1e-5)


def test_an_ordinal_category_orders_its_thresholds_and_a_sign_says_whether_y_is_above(fold) -> None:
    category = np.random.default_rng(2).integers(0, 4, N)
    Y = category[:, None].astype(float)
    scores = categorical_scores(category, Y, "ordinal", fold)
    assert (np.diff(scores, axis=2) <= 0).all()
    np.testing.assert_array_equal((scores[0] > 0).sum(axis=1), category)
    np.testing.assert_array_equal(categorical_scores(category, Y, "multiclass", fold)[0].argmax(axis=1), category)


def test_a_missing_number_counts_as_the_mean_and_that_it_is_missing_can_be_read(fold) -> None:
    rng = np.random.default_rng(5)
    Y = np.tile([0.0, 1.0], N // 2)[:, None]
    values = rng.normal(size=N)
    values[(Y[:, 0] == 1) & (rng.random(N) < 0.9)] = np.nan
    scores = numeric_scores(values, Y, "binary", fold)
    assert np.isfinite(scores).all()
    assert primary(scores, Y, "binary", fold).max() > 0.9
    assert np.isfinite(numeric_scores(np.full(N, np.nan), Y, "binary", fold)).all()


def test_what_a_row_is_scored_by_does_not_know_its_label(fold) -> None:
    rng = np.random.default_rng(6)
    category, values = rng.integers(0, 9, N), rng.normal(size=(N, 2))
    Y = rng.integers(0, 2, (N, 1)).astype(float)
    flipped = np.where((fold == 1)[:, None], 1 - Y, Y)
    for read, features in ((categorical_scores, category), (numeric_scores, values)):
        one, other = read(features, Y, "binary", fold), read(features, flipped, "binary", fold)
        np.testing.assert_allclose(one[:, fold == 1], other[:, fold == 1], atol=1e-6)
        assert np.abs(one[:, fold != 1] - other[:, fold != 1]).max() > 1e-3


def test_what_does_not_fit_is_refused(fold) -> None:
    Y = np.zeros((N, 1))
    with pytest.raises(EvidenceError, match="unknown kind of target 'nominal'"):
        categorical_scores(np.zeros(N), Y, "nominal", fold)
    with pytest.raises(EvidenceError, match="3 rows of features, 200 of labels"):
        numeric_scores(np.zeros(3), Y, "binary", fold)
    with pytest.raises(EvidenceError, match="infinite"):
        numeric_scores(np.full(N, np.inf), Y, "binary", fold)
