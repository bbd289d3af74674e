"""Every family against scikit-learn in float64, fit by fit, with scaling inside each fold."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SkRidge
from sklearn.preprocessing import StandardScaler

from leadline.probes import Logistic, MeanDifference, Ridge


def make_data(n, d, seed, m=1, binary=True):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d)) * np.geomspace(1, 0.05, d)
    X = (rng.normal(size=(n, d)) @ mix + 3 * rng.normal(size=d)).astype(np.float32)
    X[:, 0] *= 1000  # a massive activation
    logit = (X - X.mean(0)) / X.std(0) @ rng.normal(size=(d, m)) / np.sqrt(d)
    Y = (rng.random((n, m)) < 1 / (1 + np.exp(-3 * logit))).astype(float) if binary else logit + rng.normal(size=(n, m))
    fold = rng.permutation(n) % 4
    return X, Y, fold


def objective(Z, y, w, b, l2):
    margin = (2 * y - 1) * (Z @ w + b)
    return np.logaddexp(0, -margin).mean() + l2 / 2 * w @ w


@pytest.mark.parametrize(("n", "d"), [(300, 40), (120, 90), (80, 400)])
def test_logistic_equals_sklearn_in_every_fit(n, d):
    X, Y, fold = make_data(n, d, seed=n + d, m=2)
    fit = Logistic(l2=(1e-3, 1e-1, 10.0)).fit_site(X, Y, fold)
    assert fit.converged.all()
    assert (fit.gap <= 1e-5).all()
    for k in range(5):
        rows = fold != k
        scaler = StandardScaler().fit(X[rows].astype(np.float64))
        Z = scaler.transform(X.astype(np.float64))
        for index, l2 in enumerate(fit.settings):
            for column in range(2):
                y = Y[rows, column]
                model = LogisticRegression(C=1 / (rows.sum() * l2), tol=1e-10, max_iter=10_000, solver="lbfgs")
                model.fit(Z[rows], y)
                best = objective(Z[rows], y, model.coef_[0], model.intercept_[0], l2)
                w = (fit.coef[index, column] if k == 4 else fit.fold_coef[index, k, column]) * scaler.scale_
                b = (fit.intercept[index, column] if k == 4 else fit.fold_intercept[index, k, column]) + (
                    scaler.mean_ / scaler.scale_
                ) @ w
                assert objective(Z[rows], y, w, b, l2) <= best * (1 + 1e-5) + 1e-9
                assert fit.objective[index, k, column] == pytest.approx(best, rel=2e-5)
                # Strong convexity bounds the distance to the optimum by the objective's gap: ‖Δ‖² ≤ 2·gap/l2.
                reach = np.sqrt(2 * 1.1e-5 * best / l2)
                assert np.linalg.norm(w - model.coef_[0]) <= reach + 1e-6
                if k < 4:
                    expected = model.decision_function(Z[~rows])
                    error = np.abs(fit.scores[index, ~rows, column] - expected)
                    assert (error <= reach * np.linalg.norm(Z[~rows], axis=1) + 2e-3).all()


@pytest.mark.parametrize(("n", "d"), [(300, 40), (80, 200)])
def test_ridge_equals_sklearn_in_every_fit(n, d):
    X, Y, fold = make_data(n, d, seed=n + d, m=2, binary=False)
    fit = Ridge(l2=(1e-3, 1.0, 100.0)).fit_site(X, Y, fold)
    for k in range(5):
        rows = fold != k
        scaler = StandardScaler().fit(X[rows].astype(np.float64))
        Z = scaler.transform(X.astype(np.float64))
        for index, l2 in enumerate(fit.settings):
            model = SkRidge(alpha=rows.sum() * l2).fit(Z[rows], Y[rows])
            if k < 4:
                np.testing.assert_allclose(fit.scores[index, ~rows], model.predict(Z[~rows]), rtol=1e-4, atol=1e-4)
            else:
                np.testing.assert_allclose(fit.coef[index] * scaler.scale_, model.coef_, rtol=1e-6, atol=1e-8)
            residual = model.predict(Z[rows]) - Y[rows]
            expected = 0.5 * np.square(residual).mean(0) + l2 / 2 * np.square(model.coef_).sum(1)
            np.testing.assert_allclose(fit.objective[index, k], expected, rtol=1e-8)


def test_mean_difference_equals_its_definition():
    X, Y, fold = make_data(200, 30, seed=0)
    fit = MeanDifference().fit_site(X, Y, fold)
    for k in range(4):
        rows, y = fold != k, Y[:, 0] == 1
        positive, negative = X[rows & y].astype(float).mean(0), X[rows & ~y].astype(float).mean(0)
        w = positive - negative
        expected = (X[~rows] - (positive + negative) / 2) @ w
        np.testing.assert_allclose(fit.scores[0, ~rows, 0], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
