"""LDA, mean difference, nearest centroid and ridge's leave-one-out against scikit-learn, and against their theorems."""

import numpy as np
import pytest
from sklearn.covariance import OAS
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NearestCentroid as SkCentroid
from sklearn.preprocessing import StandardScaler

from leadline.errors import ProbeError
from leadline.probes.lda import LDA
from leadline.probes.mean_difference import MeanDifference
from leadline.probes.nearest_centroid import NearestCentroid


def make_classes(n, d, n_classes, seed):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d)) * np.geomspace(1, 0.05, d)
    codes = rng.permutation(np.arange(n) % (n_classes + 1) % n_classes)  # class 0 has twice the rows
    X = rng.normal(size=(n, d)) @ mix + rng.normal(size=(n_classes, d))[codes] + 3 * rng.normal(size=d)
    X[:, 0] *= 1000  # a massive activation
    return X.astype(np.float32), codes[:, None].astype(float), rng.permutation(n) % 4


def every_fit(X, fold):
    for k in range(int(fold.max()) + 2):
        rows = fold != k
        scaler = StandardScaler().fit(X[rows].astype(np.float64))
        yield k, rows, scaler, scaler.transform(X.astype(np.float64))


def in_raw_space(fit, index, k):
    n_folds = fit.fold_coef.shape[1]
    return (
        (fit.coef[index], fit.intercept[index])
        if k == n_folds
        else (fit.fold_coef[index, k].astype(np.float64), fit.fold_intercept[index, k])
    )


SHRINKAGES = ["ledoit_wolf", "oas", 0.0, 0.3]


def cases(*shapes):
    """Without shrinkage and with few rows, scikit-learn divides by rounding, and so is no reference."""
    return [(s, n, d) for s in SHRINKAGES for n, d in shapes if s != 0 or d < n / 2]


def sklearn_lda(shrinkage, priors=None):
    if shrinkage == "oas":
        return LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=OAS(), priors=priors)
    return LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage="auto" if shrinkage == "ledoit_wolf" else shrinkage, priors=priors
    )


@pytest.mark.parametrize(("shrinkage", "n", "d"), cases((300, 40), (120, 90), (80, 200)))
@pytest.mark.parametrize("priors", ["empirical", "uniform"])
def test_binary_lda_equals_sklearn_in_every_fit(shrinkage, n, d, priors):
    X, Y, fold = make_classes(n, d, 2, seed=n + d)
    fit = LDA(shrinkage, priors=priors).fit_site(X, Y, fold)
    assert fit.converged.all()
    for k, rows, scaler, Z in every_fit(X, fold):
        model = sklearn_lda(shrinkage, None if priors == "empirical" else [0.5, 0.5]).fit(Z[rows], Y[rows, 0])
        w, _ = in_raw_space(fit, 0, k)
        tight = 1e-9 if k == 4 else 1e-5  # the folds' coefficients are kept in float32
        scale = np.abs(model.coef_).max()
        np.testing.assert_allclose(w * scaler.scale_, model.coef_, rtol=tight, atol=tight * scale)
        if k < 4:
            expected = model.decision_function(Z[~rows])
            atol = 2e-6 * np.abs(expected).max()
            np.testing.assert_allclose(fit.scores[0, ~rows, 0], expected, rtol=1e-6, atol=atol)
        else:
            mine = X.astype(np.float64) @ fit.coef[0, 0] + fit.intercept[0, 0]
            expected = model.decision_function(Z)
            np.testing.assert_allclose(mine, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize(("shrinkage", "n", "d"), cases((300, 30), (100, 150)))
def test_multiclass_lda_equals_sklearn_up_to_what_all_classes_share(shrinkage, n, d):
    X, Y, fold = make_classes(n, d, 4, seed=n + d)
    fit = LDA(shrinkage, kind="multiclass").fit_site(X, Y, fold)
    assert fit.coef.shape == (1, 4, d)
    assert fit.status.shape == (1, 5, 1)
    for k, rows, scaler, Z in every_fit(X, fold):
        model = sklearn_lda(shrinkage).fit(Z[rows], Y[rows, 0])
        if k < 4:
            expected = model.decision_function(Z[~rows])
            expected -= expected.mean(1, keepdims=True)
            mine = fit.scores[0, ~rows] - fit.scores[0, ~rows].mean(1, keepdims=True)
            np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
        else:
            expected = model.coef_ - model.coef_.mean(0)
            mine = (fit.coef[0] - fit.coef[0].mean(0)) * scaler.scale_
            np.testing.assert_allclose(mine, expected, rtol=1e-8, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("d", [12, 130])
def test_ledoit_wolf_counts_constant_features_as_sklearn_does(d):
    X, Y, fold = make_classes(100, d, 2, seed=2)
    X[:, 5] = 7.0
    X[Y[:, 0] == 0, 6] = 3.0  # constant in one class
    fit = LDA().fit_site(X, Y, fold)
    *_, (_, _, scaler, Z) = every_fit(X, fold)
    model = sklearn_lda("ledoit_wolf").fit(Z, Y[:, 0])
    atol = 1e-9 * np.abs(model.coef_).max()
    np.testing.assert_allclose(fit.coef[0] * scaler.scale_, model.coef_, rtol=1e-9, atol=atol)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_lda_without_shrinkage_takes_the_pseudo_inverse_of_a_singular_covariance(n_classes):
    X, Y, fold = make_classes(80, 200, n_classes, seed=0)
    fit = LDA(0.0, kind="binary" if n_classes == 2 else "multiclass").fit_site(X, Y, fold)
    *_, (_, rows, scaler, Z) = every_fit(X, fold)
    model = sklearn_lda(0.0).fit(Z[rows], Y[rows, 0])
    expected = np.linalg.pinv(model.covariance_, rcond=1e-10, hermitian=True) @ (model.means_ - model.means_.mean(0)).T
    expected = expected.T if n_classes > 2 else expected.T[1:] - expected.T[:1]
    mine = fit.coef[0] * scaler.scale_
    mine = mine - mine.mean(0) if n_classes > 2 else mine
    np.testing.assert_allclose(mine, expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())


def test_several_shrinkages_equal_one_by_one_and_the_best_is_chosen():
    X, Y, fold = make_classes(90, 120, 2, seed=3)
    grid = (0.0, 0.01, 0.4, 1.0)
    together = LDA(grid).fit_site(X, Y, fold)
    for index, s in enumerate(grid):
        alone = LDA(s).fit_site(X, Y, fold)
        np.testing.assert_array_equal(together.scores[index], alone.scores[0])
        np.testing.assert_array_equal(together.coef[index], alone.coef[0])
    fitted = LDA(grid).fit(X, Y, fold=fold)
    assert fitted.setting == grid[int(np.argmin(fitted.loss))]
    assert fitted.probe.extra["shrinkage"] == fitted.setting


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
@pytest.mark.parametrize("shrinkage", SHRINKAGES)
@pytest.mark.parametrize("d", [20, 90])
def test_lda_weights_are_repeats(kind, shrinkage, d):
    X, Y, fold = make_classes(80, d, 2 if kind == "binary" else 3, seed=5)
    weights = np.random.default_rng(0).integers(0, 3, 80).astype(float)
    again = np.repeat(np.arange(80), weights.astype(int))
    weighted = LDA(shrinkage, kind=kind).fit_site(X, Y, fold, weights=weights)
    repeated = LDA(shrinkage, kind=kind).fit_site(X[again], Y[again], fold[again])
    scale = np.abs(repeated.coef).max()
    np.testing.assert_allclose(weighted.coef, repeated.coef, rtol=1e-7, atol=1e-9 * scale)
    np.testing.assert_allclose(weighted.intercept, repeated.intercept, rtol=1e-7)


def test_lda_under_whitening_is_the_difference_of_means():
    X, Y, _ = make_classes(200, 12, 2, seed=1)
    X, y = X.astype(np.float64), Y[:, 0] == 1
    within = (np.cov(X[y].T, bias=True) * y.sum() + np.cov(X[~y].T, bias=True) * (~y).sum()) / len(X)
    white = (X - X.mean(0)) @ np.linalg.inv(np.linalg.cholesky(within)).T
    fit = LDA(0.0).fit_site(white, Y, np.full(200, -1))
    np.testing.assert_allclose(fit.coef[0, 0], white[y].mean(0) - white[~y].mean(0), rtol=1e-7, atol=1e-9)


def test_lda_finds_a_planted_direction_that_the_mean_difference_misses():
    rng = np.random.default_rng(0)
    y = rng.random(4000) < 0.5
    noise = rng.normal(size=(4000, 2)) @ np.linalg.cholesky(np.array([[1, 0.95], [0.95, 1]])).T
    X = noise + np.outer(y, [1.0, 0.0])
    w = LDA(0.0).fit_site(X, y[:, None].astype(float), np.full(4000, -1)).coef[0, 0]
    planted = np.linalg.solve([[1, 0.95], [0.95, 1]], [1, 0])
    assert w @ planted / np.linalg.norm(w) / np.linalg.norm(planted) > 0.999
    assert planted @ [1, 0] / np.linalg.norm(planted) < 0.8


@pytest.mark.parametrize("shrinkage", SHRINKAGES)
@pytest.mark.parametrize("n", [6, 150])
def test_lda_takes_constant_duplicate_and_massive_features(shrinkage, n):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 8)).astype(np.float32)
    x[:, 1] = 7.0
    x[:, 2] = x[:, 0]
    x[:, 3] *= 1e4
    y = (np.arange(n) % 2)[:, None].astype(float)
    fit = LDA(shrinkage).fit_site(x, y, np.arange(n) % 6 // 2)
    assert fit.converged.all()
    assert np.isfinite(fit.scores).all()
    assert fit.coef[0, 0, 1] == pytest.approx(0, abs=1e-9 * np.abs(fit.coef).max())
    assert fit.coef[0, 0, 2] == pytest.approx(fit.coef[0, 0, 0], rel=1e-6)


def test_lda_of_two_rows_a_class_without_variance_is_refused():
    x = np.repeat(np.eye(2), 3, axis=0)
    with pytest.raises(ProbeError, match="no class varies"):
        LDA().fit_site(x, np.repeat([[0.0], [1.0]], 3, axis=0), np.full(6, -1))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LDA("lw"), "'ledoit_wolf'"),
        (lambda: LDA(1.5), "from 0 to 1"),
        (lambda: LDA(()), "from 0 to 1"),
        (lambda: LDA(priors="flat"), "'uniform'"),
        (lambda: LDA(kind="ordinal"), "'multiclass'"),
        (lambda: LDA(priors=(1.0, 1.0, 1.0)).fit_site(*make_classes(40, 3, 2, 0)), "3 priors for 2 classes"),
        (lambda: LDA().fit_site(np.eye(4), np.array([[1.0], [0], [0], [0]]), np.array([0, 0, 1, 1])), "one class only"),
    ],
)
def test_bad_lda_specifications_are_refused(make, said):
    with pytest.raises(ProbeError, match=said):
        make()


@pytest.mark.parametrize(("n", "d"), [(300, 40), (60, 150)])
def test_pooled_mean_difference_equals_its_definition(n, d):
    X, Y, fold = make_classes(n, d, 2, seed=n)
    X[:, 0] /= 1000  # numpy's inverse of the raw covariance is the reference, and must keep its digits
    fit = MeanDifference("pooled").fit_site(X, Y, fold)
    for k in range(5):
        rows, y = fold != k, Y[:, 0] == 1
        one, zero = X[rows & y].astype(float), X[rows & ~y].astype(float)
        own = np.vstack([one - one.mean(0), zero - zero.mean(0)])
        w = np.linalg.pinv(own.T @ own / len(own), rcond=1e-11, hermitian=True) @ (one.mean(0) - zero.mean(0))
        mine, b = in_raw_space(fit, 0, k)
        tight = 1e-6 if k == 4 else 1e-5
        np.testing.assert_allclose(mine[0], w, rtol=tight, atol=tight * np.abs(w).max())
        assert b[0] == pytest.approx(-w @ (one.mean(0) + zero.mean(0)) / 2, rel=1e-5)
        if k < 4:
            expected = (X[~rows] - (one.mean(0) + zero.mean(0)) / 2) @ w
            np.testing.assert_allclose(fit.scores[0, ~rows, 0], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_pooled_mean_difference_is_the_unshrunk_lda_with_equal_rows():
    """Both are invariant to the scale of a feature, and with equal classes their thresholds agree too."""
    rng = np.random.default_rng(0)
    Y = (np.arange(200) % 2)[:, None].astype(float)
    X = (rng.normal(size=(200, 12)) + Y * rng.normal(size=12)) * np.geomspace(1, 100, 12)
    fold = np.arange(200) // 2 % 4
    one, other = MeanDifference("pooled").fit_site(X, Y, fold), LDA(0.0).fit_site(X, Y, fold)
    np.testing.assert_allclose(one.coef, other.coef, rtol=1e-6)
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", [MeanDifference("pooled"), NearestCentroid(), NearestCentroid(scale=False)])
@pytest.mark.parametrize("d", [10, 90])
def test_weights_are_repeats(family, d):
    X, Y, fold = make_classes(80, d, 2, seed=5)
    X[:, 0] /= 1000
    weights = np.random.default_rng(0).integers(0, 3, 80).astype(float)
    again = np.repeat(np.arange(80), weights.astype(int))
    weighted = family.fit_site(X, Y, fold, weights=weights)
    repeated = family.fit_site(X[again], Y[again], fold[again])
    scale = np.abs(repeated.coef).max()
    np.testing.assert_allclose(weighted.coef, repeated.coef, rtol=1e-6, atol=1e-8 * scale)
    np.testing.assert_allclose(weighted.intercept, repeated.intercept, rtol=1e-6)


def test_mean_difference_names_and_specifications():
    assert MeanDifference().name == "mean_difference"
    assert MeanDifference("pooled").name == "mean_difference_pooled"
    X, _, fold = make_classes(60, 8, 2, seed=0)
    pooled, plain = (next(iter(MeanDifference(c).smoothers(X, fold))) for c in ("pooled", "identity"))
    assert pooled.shape == plain.shape
    assert not np.allclose(pooled, plain)
    with pytest.raises(ProbeError, match="'pooled'"):
        MeanDifference("full")
    with pytest.raises(ProbeError, match="no class varies"):
        MeanDifference("pooled").fit_site(np.repeat(np.eye(2), 3, 0), np.repeat([[0.0], [1]], 3, 0), np.full(6, -1))


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize(("n_classes", "kind"), [(2, "binary"), (2, "multiclass"), (4, "multiclass")])
def test_nearest_centroid_decides_as_sklearn_and_scores_are_distances(scale, n_classes, kind):
    X, Y, fold = make_classes(200, 15, n_classes, seed=n_classes)
    if not scale:
        X[:, 0] /= 1000
    fit = NearestCentroid(scale=scale, kind=kind).fit_site(X, Y, fold)
    for k, rows, _, Z in every_fit(X, fold):
        space = Z if scale else X.astype(np.float64)
        model = SkCentroid().fit(space[rows], Y[rows, 0])
        tested = ~rows if k < 4 else rows
        w, b = in_raw_space(fit, 0, k)
        scores = X[tested].astype(np.float64) @ w.T + b if k == 4 else fit.scores[0, tested]
        decided = scores.argmax(1) if kind == "multiclass" else (scores[:, 0] > 0).astype(float)
        np.testing.assert_array_equal(decided, model.predict(space[tested]))
        half = -0.5 * np.square(space[tested][:, None] - model.centroids_).sum(2)
        expected = half - half.mean(1, keepdims=True) if kind == "multiclass" else half[:, 1:] - half[:, :1]
        mine = scores - scores.mean(1, keepdims=True) if kind == "multiclass" else scores
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_nearest_centroid_takes_degenerate_features_and_refuses_unknown_kinds():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(8, 30)).astype(np.float32)
    X[:, 1], X[:, 2], X[:, 3] = 7.0, X[:, 0], X[:, 3] * 1e4
    fit = NearestCentroid().fit_site(X, (np.arange(8) % 2)[:, None].astype(float), np.arange(8) // 4)
    assert np.isfinite(fit.scores).all()
    assert fit.coef[0, 0, 1] == 0
    with pytest.raises(ProbeError, match="'multiclass'"):
        NearestCentroid(kind="ordinal")
