"""Ridge's leave-one-out against n refits and against scikit-learn, for n > d and n < d."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as SkRidge
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from leadline.errors import ProbeError
from leadline.probes.ridge import Ridge

GRID = (1e-4, 1e-2, 1.0, 100.0)


def make_data(n, d, m=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) @ (rng.normal(size=(d, d)) * np.geomspace(1, 0.1, d)) + 3 * rng.normal(size=d)
    Y = (X - X.mean(0)) / X.std(0) @ rng.normal(size=(d, m)) / np.sqrt(d) + rng.normal(size=(n, m)) + 10
    return X, Y


@pytest.mark.parametrize(("n", "d"), [(60, 12), (30, 80), (30, 29), (30, 30)])
@pytest.mark.parametrize("weighted", [False, True])
def test_leave_one_out_equals_n_refits(n, d, weighted):
    X, Y = make_data(n, d)
    omega = np.random.default_rng(1).integers(0, 4, n).astype(float) if weighted else np.ones(n)
    fit = Ridge(GRID).leave_one_out(X, Y, omega if weighted else None)
    Z = StandardScaler().fit(X, sample_weight=omega).transform(X)
    for index, l2 in enumerate(GRID):
        for i in range(n):
            others = np.arange(n) != i
            model = SkRidge(alpha=omega.sum() * l2, solver="svd").fit(Z[others], Y[others], sample_weight=omega[others])
            np.testing.assert_allclose(fit.loo_predictions[index, i], model.predict(Z[i : i + 1])[0], rtol=1e-7)
    error = np.square(fit.loo_predictions - Y)
    np.testing.assert_allclose(fit.loo_error, np.einsum("n,lnm->lm", omega, error) / omega.sum(), rtol=1e-9)
    np.testing.assert_array_equal(fit.best, fit.loo_error.argmin(0))


@pytest.mark.parametrize(("n", "d"), [(80, 20), (40, 100)])
def test_leave_one_out_equals_ridge_cv(n, d):
    X, Y = make_data(n, d, seed=1)
    fit = Ridge(GRID).leave_one_out(X, Y)
    Z = StandardScaler().fit_transform(X)
    model = RidgeCV(alphas=n * np.array(GRID), store_cv_results=True, alpha_per_target=True).fit(Z, Y)
    expected = np.moveaxis(model.cv_results_, 2, 0)
    np.testing.assert_allclose(np.square(fit.loo_predictions - Y), expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(n * np.array(GRID)[fit.best], model.alpha_)


@pytest.mark.parametrize(("n", "d"), [(50, 10), (20, 60)])
def test_gcv_equals_its_definition_and_counts_weights_as_repeats(n, d):
    X, Y = make_data(n, d, seed=2)
    omega = np.random.default_rng(2).integers(0, 3, n).astype(float)
    again = np.repeat(np.arange(n), omega.astype(int))
    gcv = Ridge(GRID).leave_one_out(X, Y, omega).gcv
    np.testing.assert_allclose(gcv, Ridge(GRID).leave_one_out(X[again], Y[again]).gcv, rtol=1e-6)
    Z = StandardScaler().fit_transform(X[again])
    size = len(again)
    for index, l2 in enumerate(GRID):
        smoother = Z @ np.linalg.solve(Z.T @ Z + size * l2 * np.eye(d), Z.T) + 1 / size
        residual = Y[again] - smoother @ Y[again]
        expected = np.square(residual).mean(0) / (1 - np.trace(smoother) / size) ** 2
        np.testing.assert_allclose(gcv[index], expected, rtol=1e-6)


def test_where_the_fit_runs_through_every_point_no_digits_are_lost():
    X, Y = make_data(25, 90, seed=3)
    weak = Ridge((1e-12, 1e-9)).leave_one_out(X, Y)
    # As the penalty falls the predictions have a limit, which the shortcut without care misses by 0/0.
    np.testing.assert_allclose(weak.loo_predictions[0], weak.loo_predictions[1], rtol=1e-6)


def test_degenerate_features_and_targets():
    X, _ = make_data(40, 6)
    X[:, 1], X[:, 2], X[:, 3] = 7.0, X[:, 0], X[:, 3] * 1e4
    labels = (X[:, 0] > np.median(X[:, 0])).astype(float)
    fit = Ridge(GRID).leave_one_out(X, labels)
    np.testing.assert_allclose(fit.loo_predictions, Ridge(GRID).leave_one_out(X, 2 * labels - 1).loo_predictions)
    assert fit.loo_error[fit.best[0], 0] < 0.5
    with pytest.raises(ProbeError, match="2 or more"):
        Ridge(GRID).leave_one_out(X, labels, np.eye(40)[0])
    with pytest.raises(ProbeError, match="NaN"):
        Ridge(GRID).leave_one_out(X, np.full(40, np.nan))


@pytest.mark.parametrize("d", [15, 70])
def test_the_weights_of_ridge_are_repeats_and_the_refit_stands_alone(d):
    X, Y = make_data(50, d)
    omega = np.random.default_rng(3).integers(0, 3, 50).astype(float)
    again = np.repeat(np.arange(50), omega.astype(int))
    fold = np.arange(50) % 4
    one, other = Ridge(GRID).fit_site(X, Y, fold, weights=omega), Ridge(GRID).fit_site(X[again], Y[again], fold[again])
    np.testing.assert_allclose(one.coef, other.coef, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(one.objective, other.objective, rtol=1e-7)
    alone = Ridge(GRID).fit_site(X, Y, np.full(50, -1), weights=omega)
    np.testing.assert_allclose(alone.coef, one.coef, rtol=1e-7, atol=1e-10)
    assert alone.fold_coef.shape == (4, 0, 3, d)


@pytest.mark.parametrize("d", [20, 100])
def test_the_objective_of_ridge_is_what_its_formula_gives(d):
    X, Y = make_data(60, d, seed=4)
    fit = Ridge(GRID).fit_site(X, Y, np.full(60, -1))
    for index, l2 in enumerate(GRID):
        residual = Y - X @ fit.coef[index].T - fit.intercept[index]
        penalty = np.square(fit.coef[index] * X.std(0)).sum(1)
        expected = 0.5 * np.square(residual).mean(0) + l2 / 2 * penalty
        np.testing.assert_allclose(fit.objective[index, 0], expected, rtol=1e-8)
