import numpy as np
import pytest

from leadline.errors import EvidenceError
from leadline.evidence.label_issues import calibrated_probabilities, confident_joint, label_issues
from leadline.probes.logistic import Logistic
from leadline.probes.multinomial import Multinomial
from leadline.probes.ordinal import Ordinal
from leadline.probes.ridge import Ridge
from leadline.probes.splits import make_folds


def planted(rng, n, d, n_classes, shift):
    """Activations of classes in a row along one direction (or a simplex), with their true codes."""
    codes = rng.permutation(np.arange(n) % n_classes)
    centres = shift * np.linalg.qr(rng.normal(size=(d, d)))[0][:n_classes]
    return (rng.normal(size=(n, d)) + centres[codes]).astype(np.float32), codes


def flip(rng, codes, share, n_classes):
    wrong = rng.permutation(len(codes))[: round(share * len(codes))]
    given = codes.copy()
    given[wrong] = (codes[wrong] + rng.integers(1, n_classes, len(wrong))) % n_classes
    return given, wrong


def found_rows(result):
    return np.array([i.row for i in result.issues], dtype=int)


def test_the_joint_the_flags_and_the_ranking_equal_cleanlabs():
    """Golden: cleanlab 2.9.0's compute_confident_joint, find_label_issues(filter_by="confident_learning",
    return_indices_ranked_by="normalized_margin") and get_normalized_margin_for_each_label."""
    rng = np.random.default_rng(11)
    n = 400
    true = rng.integers(0, 3, n)
    codes = np.where(rng.random(n) < 0.1, (true + rng.integers(1, 3, n)) % 3, true)
    z = rng.normal(size=(n, 3)) + 3 * np.eye(3)[true]
    P = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    joint, confident = confident_joint(P, codes)
    raw = np.array([[102, 5, 9], [6, 83, 4], [4, 6, 88]])
    np.testing.assert_allclose(joint, raw / raw.sum(1, keepdims=True) * np.bincount(codes)[:, None])
    assert np.abs(joint - [[123, 6, 11], [8, 116, 6], [5, 8, 117]]).max() < 1
    others = np.where(np.eye(3, dtype=bool)[codes], -1, P).max(1)
    margin = (P[np.arange(n), codes] - others + 1) / 2
    flagged = np.flatnonzero((confident >= 0) & (confident != codes) & (P.argmax(1) != codes))
    ranked = flagged[np.argsort(margin[flagged])]
    # fmt: off
    assert ranked.tolist() == [
        1, 167, 289, 148, 35, 356, 110, 15, 214, 88, 254, 129, 155, 46, 373, 383, 120, 39, 165, 103, 384, 372, 133, 19,
        278, 389, 334, 287, 45, 58, 178, 16, 100, 219,
    ]
    # fmt: on
    np.testing.assert_allclose(
        margin[:5],
        [0.9791635708270588, 0.002079100365313502, 0.6112850875137766, 0.700459401430015, 0.8743557537141212],
    )


@pytest.mark.parametrize("kind", ["binary", "multiclass", "ordinal"])
def test_planted_wrong_labels_are_found_and_counted(kind):
    rng = np.random.default_rng(3)
    n_classes = {"binary": 2, "multiclass": 4, "ordinal": 3}[kind]
    X, codes = planted(rng, 1000, 30, n_classes, 5.0 if kind == "multiclass" else 4.0)
    if kind == "ordinal":
        X[:, 0] += 6 * codes
    given, wrong = flip(rng, codes, 0.05, n_classes)
    Y = given[:, None].astype(float)
    fold = make_folds(Y, None, 5, stratify=True, seed=0)
    family = {"binary": Logistic, "multiclass": Multinomial, "ordinal": Ordinal}[kind](l2=0.1)
    result = label_issues(family.fit_site(X, Y, fold).scores[0], Y, kind, fold, None, seed=1)
    found = found_rows(result)
    hits = len(np.intersect1d(found, wrong))
    assert result.reason == ""
    # Recall and precision. Confident learning flags a row only where it is surer than the class's mean, so that it
    # leaves out some wrong labels and few right ones; the joint's row shares correct the count for that.
    assert hits / len(wrong) >= {"binary": 0.9, "multiclass": 0.65, "ordinal": 0.65}[kind]
    assert hits / len(found) >= 0.9
    # The likeliest are right, and the suggestion is the true label.
    assert np.isin(found[:20], wrong).all()
    assert np.mean([codes[i.row] == i.suggested for i in result.issues if i.row in set(wrong)]) > 0.95
    assert result.expected_wrong.low <= len(wrong) <= result.expected_wrong.high
    assert result.table.height == result.n_flagged


def test_clean_separable_labels_are_left_alone():
    rng = np.random.default_rng(4)
    flagged = 0
    for _ in range(10):
        X, codes = planted(rng, 300, 20, 2, 8.0)
        Y = codes[:, None].astype(float)
        fold = make_folds(Y, None, 5, stratify=True, seed=0)
        result = label_issues(Logistic(l2=0.01).fit_site(X, Y, fold).scores[0], Y, "binary", fold, None)
        assert result.reason == ""
        flagged += result.n_flagged
        assert result.expected_wrong.value == result.n_flagged == 0
    assert flagged == 0


def test_in_sample_scores_of_a_memorising_probe_find_nothing_and_out_of_fold_ones_do():
    rng = np.random.default_rng(5)
    X, codes = planted(rng, 200, 800, 2, 12.0)
    given, wrong = flip(rng, codes, 0.05, 2)
    Y = given[:, None].astype(float)
    fold = make_folds(Y, None, 5, stratify=True, seed=0)
    fit = Logistic(l2=1e-4).fit_site(X, Y, fold)
    honest = found_rows(label_issues(fit.scores[0], Y, "binary", fold, None))
    memorised = label_issues(X @ fit.coef[0].T + fit.intercept[0], Y, "binary", fold, None)
    assert np.isin(wrong, honest).mean() >= 0.8
    assert memorised.n_flagged == 0


@pytest.mark.parametrize("kind", ["binary", "continuous"])
def test_a_probe_that_reads_nothing_points_nowhere(kind):
    rng = np.random.default_rng(6)
    Y = rng.integers(0, 2, (300, 1)).astype(float) if kind == "binary" else rng.normal(size=(300, 1))
    fold = rng.permutation(300) % 5
    result = label_issues(rng.normal(size=(300, 1)), Y, kind, fold, None)
    assert "point at no label" in result.reason
    assert result.issues == ()
    assert np.isnan(result.expected_wrong.value)
    assert result.table.height == 0


def test_one_group_a_fold_gives_no_verdict_on_the_scores():
    Y = np.tile([0.0, 1.0], 50)[:, None]
    fold = np.repeat(np.arange(2), 50)
    result = label_issues(2 * Y - 1, Y, "binary", fold, fold)
    assert "group" in result.reason


def test_probabilities_are_calibrated_out_of_fold_and_sum_to_one():
    rng = np.random.default_rng(7)
    fold = rng.permutation(4000) % 5
    z = rng.normal(size=4000) * 2
    y = (rng.random(4000) < 1 / (1 + np.exp(-z))).astype(int)
    P = calibrated_probabilities(7 * z[:, None] + 3, y, "binary", fold)
    np.testing.assert_allclose(P.sum(1), 1)
    assert np.abs(P[:, 1] - 1 / (1 + np.exp(-z))).max() < 0.05
    # Two classes by a softmax are the same thing.
    two = calibrated_probabilities(np.stack([-3.5 * z, 3.5 * z], 1), y, "multiclass", fold)
    assert np.abs(two - P).max() < 0.02
    # A fold's own labels have no part in its scaling.
    changed = np.where(fold == 2, 1 - y, y)
    np.testing.assert_array_equal(
        calibrated_probabilities(z[:, None], changed, "binary", fold)[fold == 2, 1],
        calibrated_probabilities(z[:, None], y, "binary", fold)[fold == 2, 1],
    )
    level = np.digitize(z + rng.logistic(size=4000), [-2, 0, 2])
    Q = calibrated_probabilities(np.stack([z + 2, z, z - 2], 1), level, "ordinal", fold)
    np.testing.assert_allclose(Q.sum(1), 1)
    assert Q.min() >= 0
    assert np.abs(Q.mean(0) - np.bincount(level) / 4000).max() < 0.02


def test_outliers_of_a_continuous_target_are_found_and_normal_noise_is_not():
    rng = np.random.default_rng(8)
    n = 600
    X = rng.normal(size=(n, 20)).astype(np.float32)
    Y = X[:, :2] * 3 + rng.normal(size=(n, 2))
    fold = rng.permutation(n) % 5
    clean = label_issues(Ridge(l2=0.01).fit_site(X, Y, fold).scores[0], Y, "continuous", fold, None)
    assert clean.n_flagged <= 1
    assert clean.expected_wrong.low <= 5
    assert clean.expected_wrong.value <= 10
    wrong = rng.permutation(n)[:30]
    Y[wrong, 1] += rng.choice([-12, 12], 30)
    scores = Ridge(l2=0.01).fit_site(X, Y, fold).scores[0]
    result = label_issues(scores, Y, "continuous", fold, None)
    found = found_rows(result)
    assert np.isin(wrong, found).mean() >= 0.95
    assert np.isin(found, wrong).mean() >= 0.9
    assert all(i.column == 1 for i in result.issues if i.row in set(wrong))
    assert result.expected_wrong.low <= 30 <= result.expected_wrong.high
    assert result.issues[0].suggested == scores[result.issues[0].row, 1]


def test_overlapping_classes_are_said_to_overlap():
    rng = np.random.default_rng(9)
    y = np.tile([0.0, 1.0], 300)
    result = label_issues((y + rng.normal(size=600))[:, None], y[:, None], "binary", np.arange(600) // 2 % 5, None)
    assert "overlap" in result.caution
    assert result.reason == ""


def test_scores_that_are_not_finite_are_refused():
    Y = np.tile([0.0, 1.0], 50)[:, None]
    with pytest.raises(EvidenceError, match="finite"):
        label_issues(np.full((100, 1), np.nan), Y, "binary", np.arange(100) // 2 % 5, None)
