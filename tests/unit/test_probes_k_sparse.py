import numpy as np
import pytest
from sklearn.feature_selection import f_classif, f_regression
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from leadline.errors import ProbeError
from leadline.probes.fit import SiteFit
from leadline.probes.k_sparse import KSparse, _newton


def planted(n=600, d=80, m=1, seed=0, kind="binary", strength=4.0):
    """SAE-like latents (none below 0, most of them 0, many always 0), and a target of three of them a column."""
    rng = np.random.default_rng(seed)
    X = np.maximum(rng.normal(size=(n, d)) - 0.3, 0) * rng.uniform(0.5, 2, d)
    X[:, d // 2 :: 3] = 0.0
    support = np.stack([rng.permutation(d // 2)[:3] for _ in range(m)])
    Z = X / np.where(X.std(0) > 0, X.std(0), 1)
    logit = np.stack([Z[:, s] @ [1.0, -0.9, 0.8] for s in support], axis=1)
    logit = strength * (logit - np.median(logit, axis=0))
    Y = (rng.random((n, m)) < 1 / (1 + np.exp(-logit))).astype(float)
    if kind == "continuous":
        Y = logit + 0.3 * rng.normal(size=(n, m))
    return X.astype(np.float32), Y, rng.permutation(n) % 4, support


@pytest.mark.parametrize(
    ("kind", "select"),
    [
        ("binary", "f_statistic"),
        ("binary", "mean_difference"),
        ("binary", "l1"),
        ("continuous", "f_statistic"),
        ("continuous", "l1"),
    ],
)
def test_a_planted_support_is_recovered_in_every_fit(kind, select):
    X, Y, fold, support = planted(m=2, kind=kind)
    # One unit for all: a difference of raw means is only comparable then.
    X = X / np.where(X.std(0) > 0, X.std(0), 1)
    fit = KSparse(k=(1, 3, 8), select=select, kind=kind).fit_site(X, Y, fold)
    assert isinstance(fit, SiteFit)
    assert fit.converged.all()
    assert fit.support.shape == (3, 5, 2, 8)
    for column in range(2):
        for k in range(5):
            assert set(fit.support[1, k, column, :3]) == set(support[column])
            assert set(fit.support[2, k, column, :3]) == set(support[column])
        assert set(np.flatnonzero(fit.coef[1, column])) == set(support[column])
        assert (fit.fold_coef[1, :, column] != 0).sum(axis=-1).tolist() == [3] * 4
    assert (fit.support[0, :, :, 1:] == -1).all()


@pytest.mark.parametrize(("kind", "class_weight"), [("binary", None), ("binary", "balanced"), ("continuous", None)])
def test_selection_and_refit_equal_sklearn(kind, class_weight):
    X, Y, fold, _ = planted(kind=kind, seed=3)
    X[:, 1] *= 1000  # a massive activation
    l2 = 0.01
    fit = KSparse(k=(2, 10), l2=l2, kind=kind, class_weight=class_weight).fit_site(X, Y, fold)
    alive = np.flatnonzero(X.any(axis=0))
    for k in range(5):
        rows, y = fold != k, Y[fold != k, 0]
        scaler = StandardScaler().fit(X[rows].astype(float))
        Z = scaler.transform(X.astype(float))
        score = (f_classif if kind == "binary" else f_regression)(Z[rows][:, alive], y)[0]
        for at, size in enumerate((2, 10)):
            chosen = fit.support[at, k, 0, :size]
            if class_weight is None:
                assert chosen.tolist() == alive[np.argsort(-score)[:size]].tolist()
            if kind == "binary":
                model = LogisticRegression(
                    C=1 / (rows.sum() * l2), tol=1e-10, max_iter=10_000, class_weight=class_weight
                )
                model.fit(Z[rows][:, chosen], y)
                expected = model.decision_function(Z[:, chosen])
                share = (
                    np.ones(len(y)) if class_weight is None else len(y) / 2 / np.bincount(y.astype(int))[y.astype(int)]
                )
                loss = (share * np.logaddexp(0, -(2 * y - 1) * expected[rows])).mean()
            else:
                model = Ridge(alpha=rows.sum() * l2).fit(Z[rows][:, chosen], y)
                expected = model.predict(Z[:, chosen])
                loss = 0.5 * np.square(y - expected[rows]).mean()
            assert fit.objective[at, k, 0] == pytest.approx(loss + l2 / 2 * np.square(model.coef_).sum(), rel=1e-8)
            if k < 4:
                np.testing.assert_allclose(fit.scores[at, ~rows, 0], expected[~rows], rtol=1e-4, atol=1e-4)
            else:
                np.testing.assert_allclose(X @ fit.coef[at, 0] + fit.intercept[at, 0], expected, atol=1e-4)


@pytest.mark.parametrize("select", ["f_statistic", "mean_difference", "l1"])
def test_neither_selection_nor_refit_sees_the_test_rows(select):
    X, Y, fold, _ = planted(seed=4, strength=1.0)
    spec = KSparse(k=(2, 6), select=select)
    one = spec.fit_site(X, Y, fold)
    other_Y, other_X = Y.copy(), X.copy()
    other_Y[fold == 2] = 1 - Y[fold == 2]
    other_X[fold == 2] = other_X[fold == 2][:, ::-1]
    other = spec.fit_site(other_X, other_Y, fold)
    assert (one.support[:, 2] == other.support[:, 2]).all()
    np.testing.assert_allclose(other.fold_coef[:, 2], one.fold_coef[:, 2], rtol=1e-4, atol=1e-7)
    # The other fits did train on these rows.
    assert (one.support[:, [0, 1, 3, 4]] != other.support[:, [0, 1, 3, 4]]).any()


@pytest.mark.parametrize("select", ["f_statistic", "mean_difference", "l1"])
def test_weights_are_repetitions(select):
    X, Y, fold, _ = planted(n=200, seed=5, m=2)
    weights = np.random.default_rng(0).integers(0, 3, 200).astype(float)
    spec = KSparse(k=(1, 4), select=select, class_weight="balanced")
    weighed = spec.fit_site(X, Y, fold, weights=weights)
    again = np.repeat(np.arange(200), weights.astype(int))
    repeated = spec.fit_site(X[again], Y[again], fold[again])
    assert (weighed.support == repeated.support).all()
    np.testing.assert_allclose(weighed.coef, repeated.coef, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(weighed.scores[:, again], repeated.scores, atol=1e-4)


def test_an_l1_path_passes_over_a_second_copy():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 20))
    Y = (X[:, :1] + 0.4 * X[:, 1:2] + 0.3 * rng.normal(size=(500, 1)) > 0).astype(float)
    X[:, 2] = X[:, 0] + 0.2 * rng.normal(size=500)
    fold = np.full(500, -1)
    by_f = KSparse(k=2).fit_site(X, Y, fold).support[0, 0, 0]
    by_path = KSparse(k=2, select="l1").fit_site(X, Y, fold).support[0, 0, 0]
    assert by_f.tolist() == [0, 2]
    assert by_path.tolist() == [0, 1]


def test_constant_duplicate_and_few_features():
    rng = np.random.default_rng(0)
    X = np.zeros((60, 9), np.float32)
    X[:, 2] = rng.normal(size=60)
    X[:, 5] = X[:, 2]
    X[:, 7] = 3.0
    Y = (X[:, 2:3] > 0).astype(float)  # separable
    fit = KSparse(k=(1, 2, 9)).fit_site(X, Y, np.arange(60) % 3)
    assert fit.converged.all()
    assert np.isfinite(fit.scores).all()
    assert set(fit.support[2, -1, 0].tolist()) == {2, 5, -1}
    nothing = KSparse(k=2).fit_site(X[:, [0, 7]], Y, np.arange(60) % 3)
    assert nothing.converged.all()
    assert (nothing.coef == 0).all()


def test_the_grid_and_the_choice():
    X, Y, _, support = planted(seed=6)
    fitted = KSparse().fit(X, Y)
    assert fitted.fit.settings.tolist() == [1, 2, 4, 8, 16, 32, 64]
    assert fitted.loss[0] > fitted.loss[2]
    assert fitted.setting >= 3
    assert fitted.probe.extra["k"] == fitted.setting
    assert set(support[0]) <= set(np.flatnonzero(fitted.probe.coef))
    assert KSparse(kind="continuous", k=2).fit(X, X[:, 0] - X[:, 1]).family.loss == "squared_error"


def test_the_newton_solution_has_no_gradient_left():
    rng = np.random.default_rng(0)
    Z, y, omega = rng.normal(size=(50, 4)), (rng.random(50) < 0.3).astype(float), rng.random(50)
    omega /= omega.sum()
    x, value, gap, _, _ = _newton(Z, y, omega, 0.1, np.zeros(5))

    def objective(x):
        return omega @ np.logaddexp(0, -(2 * y - 1) * (Z @ x[:4] + x[4])) + 0.05 * x[:4] @ x[:4]

    assert value == pytest.approx(objective(x), rel=1e-12)
    assert gap <= 1e-10
    for e in np.eye(5) * 1e-5:
        assert (objective(x + e) - objective(x - e)) / 2e-5 == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: KSparse(k=0), "k is 0"),
        (lambda: KSparse(k=(2, 2)), "different whole numbers"),
        (lambda: KSparse(k=()), "different whole numbers"),
        (lambda: KSparse(select="best"), "f_statistic, mean_difference, l1"),
        (lambda: KSparse(kind="ordinal"), "'binary' or 'continuous'"),
        (lambda: KSparse(kind="continuous", select="mean_difference"), "no classes"),
        (lambda: KSparse(kind="continuous", class_weight="balanced"), "no classes"),
        (lambda: KSparse(l2=0.0), "l2 is 0.0"),
        (lambda: KSparse(k=7).fit_site(np.eye(6), np.eye(6)[:, :1], np.full(6, -1)), "have 6 features"),
        (lambda: KSparse(k=1).fit_site(np.eye(6), np.zeros((6, 1)), np.arange(6) % 2), "one class only"),
    ],
)
def test_what_cannot_be_fitted_is_refused(make, said):
    with pytest.raises(ProbeError, match=said):
        make()
