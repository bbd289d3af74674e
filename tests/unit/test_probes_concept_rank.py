"""The rank of planted concepts: none, one, two and three directions, among classes and among columns."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score

from leadline.errors import ProbeError
from leadline.probes.concept_rank import ConceptRank, _auroc


def classes(k, n=600, d=30, seed=0, n_classes=6):
    """Six classes whose means span k dimensions, in correlated features."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    place = rng.normal(size=(n_classes, k)) if k else np.zeros((n_classes, 0))
    place = np.linalg.qr(place - place.mean(0))[0] * np.sqrt(n_classes) * 2
    means = place @ np.linalg.qr(rng.normal(size=(d, max(k, 1))))[0].T[:k]
    mix = np.eye(d) + 0.3 * rng.normal(size=(d, d)) / np.sqrt(d)
    return (means[y] + rng.normal(size=(n, d))) @ mix + 3, y


def columns(k, n=600, d=30, seed=0, m=5):
    """Five columns that k directions of the features drive."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    signal = X @ rng.normal(size=(d, k)) / np.sqrt(d) @ rng.normal(size=(k, m)) if k else 0
    return X * 3 + 1, signal + rng.normal(size=(n, m))


@pytest.mark.parametrize("method", ["erasure", "reduced_rank"])
@pytest.mark.parametrize("make", [classes, columns])
@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_the_planted_rank_is_found(method, make, k):
    found = [ConceptRank(method=method).fit(*make(k, seed=s), n_replicates=200) for s in range(3)]
    assert [f.rank for f in found] == [k] * 3
    for f in found:
        assert f.interval[0] <= k <= f.interval[1]
        assert not f.saturated
        assert f.directions.shape == f.patterns.shape == f.basis.shape == (k, 30)
        np.testing.assert_allclose(f.basis @ f.basis.T, np.eye(k), atol=1e-10)
        assert f.table.filter(f.table["chosen"])["directions"].to_list() == [k]


@pytest.mark.parametrize("method", ["erasure", "reduced_rank"])
def test_noise_seldom_has_a_rank(method):
    ranks = [
        ConceptRank(method=method, max_rank=3).fit(*make(0, n=200, d=20, seed=s), n_replicates=100).rank
        for make in (classes, columns)
        for s in range(20)
    ]
    assert sum(r > 0 for r in ranks) <= 4


def test_the_directions_span_what_was_planted():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(3000, 12)), rng.integers(0, 4, 3000)
    X[:, 2] += 3.0 * (y == 1)
    X[:, 5] += 3.0 * (y == 2)
    fit = ConceptRank().fit(X, y, n_replicates=200)
    assert fit.rank == 2
    inside = np.linalg.norm(fit.basis[:, [2, 5]])
    assert inside == pytest.approx(np.sqrt(2), abs=0.02)


def test_a_binary_concept_is_one_line_however_wide():
    rng = np.random.default_rng(1)
    y = np.repeat([0, 1], 200)
    X = rng.normal(size=(400, 150)) + y[:, None] * rng.normal(size=150) * 0.3
    for method in ("erasure", "reduced_rank"):
        fit = ConceptRank(method=method).fit(X, y, n_replicates=200)
        assert (fit.rank, fit.saturated) == (1, False)
        assert len(fit.curve) == 2
    erased = ConceptRank().fit(X, y, n_replicates=200).erase(X)
    np.testing.assert_allclose(erased[y == 1].mean(0), erased[y == 0].mean(0), atol=1e-9)


def test_what_is_left_is_read_by_no_other_probe():
    X, y = classes(2, n=1500)
    fit = ConceptRank(max_rank=5, l2=1e-6).fit(X, y, n_replicates=200)
    half = np.arange(1500) < 750
    lda = LinearDiscriminantAnalysis(solver="lsqr")
    before = lda.fit(X[half], y[half]).score(X[~half], y[~half])
    after = lda.fit(fit.erase(X)[half], y[half]).score(fit.erase(X)[~half], y[~half])
    assert before > 0.6
    assert after < 1 / 6 + 0.05
    assert np.linalg.matrix_rank(X - fit.erase(X) - (X - fit.erase(X)).mean(0), tol=1e-6) == 2


def test_the_full_rank_is_least_squares_and_none_is_the_mean():
    X, Y = columns(2, n=300)
    fold = np.arange(300) % 4
    fit = ConceptRank(method="reduced_rank", l2=1e-10).fit(X, Y, fold=fold, n_replicates=100)
    error = base = 0.0
    for k in range(4):
        train = fold != k
        spread = Y[train].std(0)
        model = LinearRegression().fit(X[train], Y[train])
        error += np.square((model.predict(X[~train]) - Y[~train]) / spread).sum()
        base += np.square((Y[train].mean(0) - Y[~train]) / spread).sum()
    assert fit.curve[0].value == 1
    assert fit.curve[5].value == pytest.approx(error / base, rel=1e-6)
    truncated = [e.value for e in fit.curve]
    assert min(truncated[2:4]) < truncated[1] < truncated[0]


def test_the_auroc_equals_sklearns_under_weights():
    rng = np.random.default_rng(0)
    scores, y = rng.integers(0, 8, 80).astype(float), rng.random(80) < 0.4
    W = rng.integers(0, 3, size=(80, 4)).astype(float)
    expected = [roc_auc_score(y, scores, sample_weight=W[:, b]) for b in range(4)]
    np.testing.assert_allclose(_auroc(scores, y, W), expected)


@pytest.mark.parametrize("method", ["erasure", "reduced_rank"])
@pytest.mark.parametrize("make", [classes, columns])
def test_weights_count_rows(method, make):
    X, y = make(2, n=240)
    weights = np.random.default_rng(9).integers(0, 3, size=240).astype(float)
    fold = np.arange(240) % 4
    often = np.repeat(np.arange(240), weights.astype(int))
    spec = ConceptRank(method=method)
    one = spec.fit(X, y, fold=fold, weights=weights, n_replicates=100)
    other = spec.fit(X[often], y[often], fold=fold[often], n_replicates=100)
    np.testing.assert_allclose([e.value for e in one.curve], [e.value for e in other.curve], rtol=1e-8)
    np.testing.assert_allclose(one.strengths[:5], other.strengths[:5], rtol=1e-8)


def test_class_weights_count_classes():
    X, y = classes(2, n=300, n_classes=3)
    fold = np.arange(300) % 3
    by_class = ConceptRank(class_weight=(1.0, 2.0, 1.0)).fit(X, y, fold=fold, n_replicates=100)
    assert not np.allclose(by_class.strengths, ConceptRank().fit(X, y, fold=fold, n_replicates=100).strengths)
    balanced = ConceptRank(class_weight="balanced").fit(X, y, fold=fold, n_replicates=100)
    counts = 300 / 3 / np.bincount(y)
    same = ConceptRank(class_weight=tuple(counts)).fit(X, y, fold=fold, n_replicates=100)
    np.testing.assert_allclose(balanced.strengths, same.strengths, rtol=1e-9)
    with pytest.raises(ProbeError, match="for class codes"):
        ConceptRank(class_weight="balanced").fit(*columns(1))


def test_groups_stay_whole_and_widen_the_interval():
    X, y = classes(1, n=200)
    groups = np.repeat(np.arange(200), 4)
    often = np.repeat(np.arange(200), 4)
    fit = ConceptRank().fit(X[often], y[often], groups=groups, n_replicates=200)
    assert all(len(np.unique(fit.fold[groups == g])) == 1 for g in range(200))
    rows = ConceptRank().fit(X[often], y[often], fold=fit.fold, n_replicates=200)
    assert fit.curve[0].high - fit.curve[0].low > 1.5 * (rows.curve[0].high - rows.curve[0].low)


def test_scale_shift_and_odd_features_do_not_matter():
    X, y = classes(2)
    odd = np.hstack([X * np.geomspace(0.01, 1000, 30) + 5, X[:, :1], np.full((600, 1), 3.0)])
    fit = ConceptRank().fit(odd, y, n_replicates=200)
    assert fit.rank == 2
    assert np.isfinite(fit.directions).all()
    plain = ConceptRank().fit(X, y, n_replicates=200)
    moved = ConceptRank().fit(X * np.geomspace(0.01, 1000, 30) + 5, y, n_replicates=200)
    np.testing.assert_allclose(plain.strengths, moved.strengths, rtol=1e-6, atol=1e-9)


def test_a_limit_below_the_need_is_said():
    fit = ConceptRank(max_rank=1).fit(*classes(3), n_replicates=200)
    assert (fit.rank, fit.saturated) == (1, True)
    assert "1 or more" in repr(fit)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda X, y: ConceptRank(method="inlp"), "'erasure' or 'reduced_rank'"),
        (lambda X, y: ConceptRank(l2=0), "positive penalty"),
        (lambda X, y: ConceptRank().fit(X, y, fold=np.full(len(y), -1)), "give folds"),
        (lambda X, y: ConceptRank().fit(X, y[:-1]), "of one n"),
        (lambda X, y: ConceptRank().fit(X, y * 0, fold=np.arange(len(y)) % 2), "two classes"),
        (lambda X, y: ConceptRank().fit(X, y, fold=(y == 0).astype(int)), "of 6 classes"),
        (lambda X, y: ConceptRank().fit(X, np.ones((len(y), 2))), "does not vary"),
        (lambda X, y: ConceptRank().fit(X, y, n_replicates=10), "100 or more"),
        (lambda X, y: ConceptRank().fit(X, y, weights=-np.ones(len(y))), "none below 0"),
    ],
)
def test_what_cannot_be_judged_is_refused(call, said):
    with pytest.raises(ProbeError, match=said):
        call(*classes(1, n=120))
