"""The L1 families against scikit-learn in float64, fit by fit, with scaling inside each fold."""

import numpy as np
import pytest
from sklearn.linear_model import ElasticNet as SkElasticNet
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from leadline.errors import ProbeError
from leadline.probes.elastic_net import ElasticNet, SparseLogistic
from leadline.probes.fit import Status
from leadline.probes.solvers.active_set import Factor, minimise_quadratic
from leadline.probes.solvers.elastic_net import LogLoss, SquaredError, solve_path


def make_data(n, d, seed, m=2, binary=True):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d)) * np.geomspace(1, 0.05, d)
    X = (rng.normal(size=(n, d)) @ mix + 3 * rng.normal(size=d)).astype(np.float32)
    X[:, 0] *= 1000  # a massive activation
    logit = (X - X.mean(0)) / X.std(0) @ rng.normal(size=(d, m)) / np.sqrt(d)
    Y = (rng.random((n, m)) < 1 / (1 + np.exp(-3 * logit))).astype(float) if binary else logit + rng.normal(size=(n, m))
    return X, Y, rng.permutation(n) % 3


def standard_fits(X, fold):
    """For each fold and the refit: its training rows, its scaler, and all rows scaled by it."""
    for k in range(fold.max() + 2):
        rows = fold != k
        scaler = StandardScaler().fit(X[rows].astype(np.float64))
        yield k, rows, scaler, scaler.transform(X.astype(np.float64))


def standard_coef(fit, at, k, column, scaler):
    refit = k == fit.fold_coef.shape[1]
    w = fit.coef[at, column] if refit else fit.fold_coef[at, k, column]
    b = fit.intercept[at, column] if refit else fit.fold_intercept[at, k, column]
    return w * scaler.scale_, b + scaler.mean_ @ w


@pytest.mark.parametrize(("n", "d"), [(300, 40), (120, 90), (60, 200)])
@pytest.mark.parametrize("l2", [0.0, 0.05])
def test_elastic_net_equals_sklearn_in_every_fit(n, d, l2):
    X, Y, fold = make_data(n, d, seed=n + d, binary=False)
    fit = ElasticNet(l1=(0.02, 0.3, 0.1), l2=l2, tolerance=1e-9).fit_site(X, Y, fold)
    assert fit.converged.all()
    assert (fit.gap <= 1e-9).all()
    for k, rows, scaler, Z in standard_fits(X, fold):
        for at, l1 in enumerate(fit.settings):
            model = SkElasticNet(alpha=l1 + l2, l1_ratio=l1 / (l1 + l2), tol=1e-10, max_iter=100_000)
            for column in range(2):
                y = Y[:, column]
                model.fit(Z[rows], y[rows])
                best = 0.5 * np.square(y[rows] - model.predict(Z[rows])).mean()
                best += l1 * np.abs(model.coef_).sum() + l2 / 2 * np.square(model.coef_).sum()
                assert fit.objective[at, k, column] == pytest.approx(best, rel=1e-8)
                w, _ = standard_coef(fit, at, k, column, scaler)
                np.testing.assert_allclose(w, model.coef_, atol=1e-3)
                if k < 3:
                    np.testing.assert_allclose(fit.scores[at, ~rows, column], model.predict(Z[~rows]), atol=3e-3)


@pytest.mark.parametrize(("n", "d"), [(300, 40), (60, 200)])
@pytest.mark.parametrize(("l2", "class_weight"), [(0.0, None), (0.02, "balanced")])
def test_sparse_logistic_equals_sklearn_in_every_fit(n, d, l2, class_weight):
    X, Y, fold = make_data(n, d, seed=n + d, m=1)
    fit = SparseLogistic(l1=(0.15, 0.03), l2=l2, class_weight=class_weight, tolerance=1e-9).fit_site(X, Y, fold)
    assert fit.converged.all()
    for k, rows, scaler, Z in standard_fits(X, fold):
        y = Y[rows, 0]
        share = np.ones(len(y)) if class_weight is None else len(y) / 2 / np.bincount(y.astype(int))[y.astype(int)]
        for at, l1 in enumerate(fit.settings):
            model = LogisticRegression(
                C=1 / (len(y) * (l1 + l2)),
                l1_ratio=l1 / (l1 + l2),
                solver="saga",
                class_weight=class_weight,
                tol=1e-7,
                max_iter=20_000,
                random_state=0,
            )
            model.fit(Z[rows], y)
            w, b = model.coef_[0], model.intercept_[0]
            best = (share * np.logaddexp(0, -(2 * y - 1) * (Z[rows] @ w + b))).mean()
            best += l1 * np.abs(w).sum() + l2 / 2 * w @ w
            # saga's own end is a little above the minimum; the certificate says that ours is not.
            assert best * (1 - 1e-5) <= fit.objective[at, k, 0] <= best * (1 + 1e-9)
            own, own_b = standard_coef(fit, at, k, 0, scaler)
            f = Z[rows] @ own + own_b
            value = (share * np.logaddexp(0, -(2 * y - 1) * f)).mean() + l1 * np.abs(own).sum() + l2 / 2 * own @ own
            assert value == pytest.approx(fit.objective[at, k, 0], rel=1e-5)
            if k < 3:
                np.testing.assert_allclose(fit.scores[at, ~rows, 0], model.decision_function(Z[~rows]), atol=0.02)
                np.testing.assert_allclose(fit.scores[at, ~rows, 0], Z[~rows] @ own + own_b, atol=1e-3)


@pytest.mark.parametrize("family", [ElasticNet(), SparseLogistic()])
def test_the_default_grid_starts_where_the_refit_is_empty(family):
    X, Y, fold = make_data(150, 30, seed=1)
    fit = family.fit_site(X, Y, fold)
    assert fit.settings.shape == (20,)
    assert fit.settings[-1] == pytest.approx(fit.settings[0] / 100)
    assert fit.converged.all()
    assert (fit.coef[0] == 0).all()
    # Just below the largest l1 the first feature of some target is in.
    below = type(family)(l1=float(fit.settings[0]) * 0.99, tolerance=1e-9).fit_site(X, Y, fold)
    assert (below.coef[0] != 0).sum() >= 1
    support = (fit.coef != 0).sum(axis=(1, 2))
    assert support[-1] > support[10] > support[3]


@pytest.mark.parametrize("family", [ElasticNet, SparseLogistic])
def test_weights_are_repetitions(family):
    X, Y, fold = make_data(120, 25, seed=3)
    weights = np.random.default_rng(0).integers(0, 3, 120).astype(float)
    spec = family(l1=(0.1, 0.02), tolerance=1e-9)
    weighed = spec.fit_site(X, Y, fold, weights=weights)
    again = np.repeat(np.arange(120), weights.astype(int))
    repeated = spec.fit_site(X[again], Y[again], fold[again])
    np.testing.assert_allclose(weighed.objective, repeated.objective, rtol=1e-8)
    scale = X[again].std(0)
    np.testing.assert_allclose(weighed.coef * scale, repeated.coef * scale, atol=1e-3)
    np.testing.assert_allclose(weighed.scores[:, again], repeated.scores, atol=1e-2)


@pytest.mark.parametrize("family", [ElasticNet(l1=(0.2, 1e-3)), SparseLogistic(l1=(0.2, 1e-3))])
def test_constant_duplicate_and_massive_features_converge(family):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 8)).astype(np.float32)
    X[:, 1] = 7.0
    X[:, 2] = X[:, 0]
    X[:, 3] *= 1e4
    X[:, 4] = 0.0
    X[0, 4] = 5.0  # constant in the training rows of the fold that holds row 0
    Y = (X[:, :1] > 0).astype(float)  # separable
    fit = family.fit_site(X, Y, np.arange(150) % 3)
    assert fit.converged.all()
    assert np.isfinite(fit.scores).all()
    assert (fit.coef[:, 0, 1] == 0).all()
    assert (fit.fold_coef[:, 0, 0, 4] == 0).all()


@pytest.mark.parametrize("family", [ElasticNet(l1=0.05), SparseLogistic(l1=0.05)])
def test_the_refit_alone_equals_the_refit_beside_folds(family):
    X, Y, fold = make_data(100, 20, seed=5)
    alone = family.fit_site(X, Y, np.full(100, -1))
    beside = family.fit_site(X, Y, fold)
    assert alone.fold_coef.shape == (1, 0, 2, 20)
    assert np.isnan(alone.scores).all()
    np.testing.assert_allclose(alone.objective[:, 0], beside.objective[:, -1], rtol=1e-5)


@pytest.mark.parametrize("loss", [SquaredError, LogLoss])
def test_float32_is_certified_by_float64(loss):
    X, Y, _ = make_data(200, 50, seed=6, m=1)
    Z = ((X - X.mean(0, dtype=float)) / X.std(0, dtype=float)).T
    y, omega = 2 * Y[:, 0] - 1, np.full((200, 1), 1 / 200)
    ones, grid = np.ones((1, 50)), np.array([0.1, 0.02, 0.005])
    solve = lambda Z: solve_path(Z, loss(y), omega, ones, ones > 0, grid, 0.0)  # noqa: E731
    single, double = solve(np.ascontiguousarray(Z, dtype=np.float32)), solve(np.ascontiguousarray(Z))
    assert (single.status == Status.CONVERGED).all()
    assert (double.status == Status.CONVERGED).all()
    # The two certificates bound how far the objectives can lie apart.
    np.testing.assert_allclose(single.objective, double.objective, rtol=2e-5)
    # In float32 hardly anything reaches 1e-15; that is a status, and no exception. Whether rounding cancels in one of
    # the fits depends on the processor; what says that it converged has such a gap.
    tight = solve_path(
        np.ascontiguousarray(Z, dtype=np.float32), loss(y), omega, ones, ones > 0, grid, 0.0, tolerance=1e-15
    )
    converged = tight.status == Status.CONVERGED
    assert (tight.gap[converged] <= 1e-15).all()
    assert set(tight.status[~converged].ravel()) <= {Status.STALLED, Status.ITERATION_LIMIT}
    assert not converged.all()


@pytest.mark.parametrize("loss", [SquaredError, LogLoss])
def test_residual_and_curvature_are_the_derivatives(loss):
    rng = np.random.default_rng(0)
    point = loss(np.sign(rng.normal(size=30)))
    weights, f, step = rng.random(30), rng.normal(size=30), 1e-6
    for i in range(30):
        e = np.zeros(30)
        e[i] = step
        slope = (point.value(f + e, weights) - point.value(f - e, weights)) / (2 * step)
        assert point.residual(f, weights)[i] == pytest.approx(-slope, abs=1e-8)
        bend = -(point.residual(f + e, weights) - point.residual(f - e, weights))[i] / (2 * step)
        assert point.curvature(f, weights)[i] == pytest.approx(bend, abs=1e-8)
    share = weights / weights.sum()
    b = point.intercept(f, share, 0.0)
    assert point.residual(f + b, share).sum() == pytest.approx(0, abs=1e-12)


def test_a_factor_solves_for_sets_that_change():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(80, 60))
    H = A.T @ A / 80
    factor = Factor()
    wanted = np.arange(60) < 40
    for _ in range(40):
        wanted[rng.integers(0, 60, 2)] ^= True
        at = np.flatnonzero(wanted)
        right = rng.normal(size=len(at))
        found = factor.solve(H, right, at, 0.0)
        np.testing.assert_allclose(H[np.ix_(at, at)] @ found, right, atol=1e-8)


@pytest.mark.parametrize("rank", [20, 80])
def test_the_quadratic_meets_its_conditions_from_any_start(rank):
    rng = np.random.default_rng(rank)
    A = rng.normal(size=(rank, 60))
    H, c, l1 = A.T @ A / rank, A.T @ rng.normal(size=rank) / rank, 0.05
    for start in (np.zeros(60), rng.normal(size=60) * 10):
        w = minimise_quadratic(H, c, l1, start, factor=Factor(), rank=rank)
        gradient = H @ w - c
        assert (np.abs(gradient) <= l1 * (1 + 1e-7)).all()
        np.testing.assert_allclose(gradient[w != 0], -l1 * np.sign(w[w != 0]), rtol=1e-7)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ElasticNet(l1=0.0), "l1 is 0.0"),
        (lambda: ElasticNet(l2=-1.0), "l2 is -1.0"),
        (lambda: ElasticNet(n_l1=0), "n_l1 is 0"),
        (lambda: SparseLogistic(smallest_l1=2.0), "smallest_l1 2.0"),
        (lambda: SparseLogistic(tolerance=0.0), "tolerance is 0.0"),
        (lambda: SparseLogistic(class_weight="even"), "class_weight"),
        (lambda: ElasticNet().fit_site(np.eye(6), np.ones((6, 1)) * 3, np.arange(6) % 2), "no feature varies"),
        (lambda: SparseLogistic().fit_site(np.eye(6), np.zeros((6, 1)), np.arange(6) % 2), "one class only"),
        (lambda: SparseLogistic().fit_site(np.eye(6), np.full((6, 1), 0.3), np.arange(6) % 2), "binary target"),
    ],
)
def test_what_cannot_be_fitted_is_refused(make, said):
    with pytest.raises(ProbeError, match=said):
        make()


def test_fit_on_plain_arrays_chooses_a_setting():
    X, Y, _ = make_data(200, 30, seed=9, m=1)
    fitted = SparseLogistic().fit(X, Y)
    assert fitted.converged
    assert fitted.setting in fitted.fit.settings
    assert fitted.probe.extra["l1"] == fitted.setting
