"""The smooth regularised families against float64 references, and their losses against finite differences."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_expit, logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from leadline.probes import LinearSVM, Logistic, Multinomial, Ordinal, Status
from leadline.probes.losses import LOSSES
from leadline.probes.solvers.losses import CumulativeLogit, LogisticLoss, MultinomialLoss, SquaredHinge


def make_classes(n, d, n_classes, seed):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d)) * np.geomspace(1, 0.05, d)
    X = (rng.normal(size=(n, d)) @ mix + 3 * rng.normal(size=d)).astype(np.float32)
    X[:, 0] *= 1000  # a massive activation
    latent = (X - X.mean(0)) / X.std(0) @ rng.normal(size=d) / np.sqrt(d) + 0.5 * rng.normal(size=n)
    codes = np.digitize(latent, np.quantile(latent, np.linspace(0, 1, n_classes + 1)[1:-1]))
    return X, codes.astype(float), rng.permutation(n) % 4


def standardised(X, rows):
    return StandardScaler().fit(X[rows].astype(np.float64)).transform(X.astype(np.float64))


def standard_coef(fit, index, k, X, rows):
    """Coefficients (c, d) and intercepts (c,) in the fold's standardised space."""
    scaler = StandardScaler().fit(X[rows].astype(np.float64))
    last = k == fit.objective.shape[1] - 1
    w = (fit.coef[index] if last else fit.fold_coef[index, k]) * scaler.scale_
    b = fit.intercept[index] if last else fit.fold_intercept[index, k]
    return w, b + (w / scaler.scale_) @ scaler.mean_


@pytest.mark.parametrize(("n", "d"), [(300, 30), (60, 300)])
def test_multinomial_equals_sklearn_in_every_fit(n, d):
    X, codes, fold = make_classes(n, d, 4, seed=n)
    fit = Multinomial(l2=(1e-3, 1.0)).fit_site(X, codes[:, None], fold)
    assert fit.converged.all()
    assert fit.scores.shape == (2, n, 4)
    y = codes.astype(int)
    for k in range(5):
        rows = fold != k
        Z = standardised(X, rows)
        for index, l2 in enumerate(fit.settings):
            model = LogisticRegression(C=1 / (rows.sum() * l2), tol=1e-11, max_iter=20_000).fit(Z[rows], y[rows])

            def objective(w, b, Z=Z, rows=rows, l2=l2):
                f = Z[rows] @ w.T + b
                loss = logsumexp(f, axis=1) - f[np.arange(len(f)), y[rows]]
                return loss.mean() + l2 / 2 * np.square(w).sum()

            best = objective(model.coef_, model.intercept_)
            w, b = standard_coef(fit, index, k, X, rows)
            assert objective(w, b) <= best * (1 + 1e-5) + 1e-9
            assert fit.objective[index, k, 0] == pytest.approx(best, rel=2e-5)
            reach = np.sqrt(2 * 1.1e-5 * best / l2)
            assert np.linalg.norm(w - model.coef_) <= reach + 1e-6


def test_two_classes_of_a_multinomial_are_logistic_at_half_the_penalty():
    X, codes, fold = make_classes(200, 12, 2, seed=1)
    many = Multinomial(l2=0.2, tolerance=1e-8).fit_site(X, codes[:, None], fold)
    one = Logistic(l2=0.1, tolerance=1e-8).fit_site(X, codes[:, None], fold)
    np.testing.assert_allclose(many.scores[0, :, 1] - many.scores[0, :, 0], one.scores[0, :, 0], atol=2e-3)


@pytest.mark.parametrize(("n", "d"), [(300, 30), (60, 300)])
def test_squared_hinge_reaches_the_float64_optimum(n, d):
    X, codes, fold = make_classes(n, d, 2, seed=n)
    fit = LinearSVM(l2=(1e-3, 1.0)).fit_site(X, codes[:, None], fold)
    assert fit.converged.all()
    for k in (0, 4):
        rows = fold != k
        Z = standardised(X, rows)[rows]
        y = 2 * codes[rows] - 1
        for index, l2 in enumerate(fit.settings):

            def objective(x, Z=Z, y=y, l2=l2):
                slack = np.maximum(1 - y * (Z @ x[:-1] + x[-1]), 0)
                pull = -2 * slack * y / len(y)
                return (
                    np.square(slack).mean() + l2 / 2 * x[:-1] @ x[:-1],
                    np.append(Z.T @ pull + l2 * x[:-1], pull.sum()),
                )

            best = minimize(objective, np.zeros(d + 1), jac=True, options={"gtol": 1e-10, "maxiter": 20_000})
            w, b = standard_coef(fit, index, k, X, rows)
            assert objective(np.append(w[0], b[0]))[0] <= best.fun * (1 + 1e-5) + 1e-9
            assert np.linalg.norm(w[0] - best.x[:-1]) <= np.sqrt(2 * 1.1e-5 * best.fun / l2) + 1e-5


def ordinal_objective(x, Z, y, l2, n_classes):
    w, theta = x[: Z.shape[1]], x[Z.shape[1] :]
    f = Z @ w
    ends = np.concatenate([[-np.inf], theta, [np.inf]])
    upper, lower = f - ends[y], f - ends[y + 1]
    probability = np.exp(log_expit(upper)) - np.exp(log_expit(lower))
    return -np.log(np.maximum(probability, 1e-300)).mean() + l2 / 2 * w @ w


@pytest.mark.parametrize(("n", "d", "n_classes"), [(300, 12, 5), (60, 150, 3)])
def test_ordinal_reaches_the_float64_optimum(n, d, n_classes):
    X, codes, fold = make_classes(n, d, n_classes, seed=n)
    fit = Ordinal(l2=(1e-2, 1.0)).fit_site(X, codes[:, None], fold)
    assert fit.converged.all()
    assert fit.scores.shape == (2, n, n_classes - 1)
    for k in (0, 4):
        rows = fold != k
        Z, y = standardised(X, rows)[rows], codes[rows].astype(int)
        for index, l2 in enumerate(fit.settings):
            w, b = standard_coef(fit, index, k, X, rows)
            np.testing.assert_allclose(w, np.repeat(w[:1], n_classes - 1, axis=0))
            assert (np.diff(-b) > 0).all()
            mine = np.concatenate([w[0], -b])
            value = ordinal_objective(mine, Z, y, l2, n_classes)
            assert fit.objective[index, k, 0] == pytest.approx(value, rel=2e-5)
            better = minimize(ordinal_objective, mine, args=(Z, y, l2, n_classes), options={"maxiter": 400})
            assert value <= better.fun * (1 + 1e-5)


def test_ordinal_of_two_classes_is_logistic():
    X, codes, fold = make_classes(200, 12, 2, seed=3)
    one = Ordinal(l2=0.1, tolerance=1e-8).fit_site(X, codes[:, None], fold)
    other = Logistic(l2=0.1, tolerance=1e-8).fit_site(X, codes[:, None], fold)
    np.testing.assert_allclose(one.scores, other.scores, atol=2e-3)


def test_ordinal_loss_of_scores_is_its_objective_without_the_penalty():
    X, codes, _ = make_classes(200, 12, 4, seed=3)
    fit = Ordinal(l2=0.1).fit_site(X, codes[:, None], np.full(200, -1))
    scores = X.astype(np.float64) @ fit.coef[0].T + fit.intercept[0]
    w = fit.coef[0, 0] * X.astype(np.float64).std(0)
    total = LOSSES["ordinal_log_loss"](scores, codes[:, None]).mean() + 0.05 * w @ w
    assert total == pytest.approx(fit.objective[0, 0, 0], rel=1e-5)


def losses(n=40):
    g = torch.Generator().manual_seed(0)
    w = torch.rand(3, n, generator=g, dtype=torch.float64)
    w /= w.sum(1, keepdim=True)
    y = (torch.rand(3, n, generator=g) < 0.5).double()
    codes = torch.arange(n).remainder(4).expand(3, -1).contiguous()
    onehot = (codes[:, None] == torch.arange(4)[None, :, None]).double()
    return [
        LogisticLoss(2 * y - 1, w),
        SquaredHinge(2 * y - 1, w),
        MultinomialLoss(onehot, w),
        CumulativeLogit(codes, w, torch.empty(3, 4)),
    ]


@pytest.mark.parametrize("loss", losses(), ids=lambda x: type(x).__name__)
def test_gradients_and_curvatures_equal_finite_differences(loss):
    g = torch.Generator().manual_seed(1)
    n = loss.weights.shape[1]
    F = torch.randn(3, loss.n_outputs, n, generator=g, dtype=torch.float64)
    offsets = loss.start()
    T = torch.randn(F.shape, generator=g, dtype=torch.float64)
    d_off = 0.1 * torch.randn(offsets.shape, generator=g, dtype=torch.float64)

    def value(step):
        moved = offsets + step * d_off
        scores = F + step * T
        if loss.offsets_in_scores:
            scores = scores + moved[..., None]
        return loss.value(scores, moved)

    here = F + offsets[..., None] if loss.offsets_in_scores else F
    along = T + d_off[..., None] if loss.offsets_in_scores else T
    G, g_off, _, _ = loss.gradient(here, offsets)
    eps = 1e-5
    slope = (value(eps) - value(-eps)) / (2 * eps)
    inner = (G * T).sum((1, 2)) + (g_off * d_off).sum(1)
    torch.testing.assert_close(inner, slope, rtol=1e-7, atol=1e-9)
    first, second = loss.along(here, along, offsets, d_off, torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(first, slope, rtol=1e-7, atol=1e-9)
    if not isinstance(loss, SquaredHinge):  # its second derivative jumps
        bend = (value(1e-4) - 2 * value(0.0) + value(-1e-4)) / 1e-8
        torch.testing.assert_close(second, bend, rtol=1e-4, atol=1e-6)
    step = torch.full((3,), 0.3, dtype=torch.float64)
    first, _ = loss.along(here, along, offsets, d_off, step)
    torch.testing.assert_close(first, (value(0.3 + eps) - value(0.3 - eps)) / (2 * eps), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("family", [Logistic, LinearSVM, Multinomial, Ordinal])
@pytest.mark.parametrize("d", [8, 250])
def test_a_weight_of_two_is_a_row_twice_and_zero_a_row_left_out(family, d):
    X, codes, fold = make_classes(100, d, 3 if family in (Multinomial, Ordinal) else 2, seed=5)
    weights = np.random.default_rng(0).integers(0, 3, 100).astype(float)
    twice = np.repeat(np.arange(100), weights.astype(int))
    spec = family(l2=0.1, tolerance=1e-7)
    weighted = spec.fit_site(X, codes[:, None], fold, weights=weights)
    repeated = spec.fit_site(X[twice], codes[twice, None], fold[twice])
    np.testing.assert_allclose(weighted.objective, repeated.objective, rtol=1e-5)
    np.testing.assert_allclose(weighted.scores[:, twice], repeated.scores, atol=5e-3)


def test_balanced_class_weights_equal_sklearn():
    X, _, fold = make_classes(200, 10, 2, seed=2)
    codes = (np.random.default_rng(0).random(200) < 0.2).astype(float)
    fit = Logistic(l2=0.05, class_weight="balanced", tolerance=1e-8).fit_site(X, codes[:, None], fold)
    Z = standardised(X, np.full(200, True))
    model = LogisticRegression(C=1 / (200 * 0.05), class_weight="balanced", tol=1e-11, max_iter=9999).fit(Z, codes)
    w, b = standard_coef(fit, 0, 4, X, np.full(200, True))
    np.testing.assert_allclose(w, model.coef_, atol=1e-4)
    np.testing.assert_allclose(b, model.intercept_, atol=1e-4)


def test_a_missing_label_takes_the_row_out_of_its_column_alone():
    X, codes, fold = make_classes(150, 8, 2, seed=4)
    Y = np.stack([codes, codes[::-1]], axis=1)
    Y[::3, 1] = np.nan
    both = Logistic(l2=0.1, tolerance=1e-8).fit_site(X, Y, fold)
    whole = Logistic(l2=0.1, tolerance=1e-8).fit_site(X, Y[:, :1], fold)
    np.testing.assert_allclose(both.scores[:, :, 0], whole.scores[:, :, 0], atol=1e-3)
    # Scaling uses all rows, labelled or not, so the reference is weighted in the loss alone.
    Z = standardised(X, np.full(150, True))
    known = ~np.isnan(Y[:, 1])
    model = LogisticRegression(C=1 / (known.sum() * 0.1), tol=1e-11, max_iter=9999).fit(Z[known], Y[known, 1])
    np.testing.assert_allclose(both.coef[0, 1] * X.astype(np.float64).std(0), model.coef_[0], atol=1e-4)


def test_separable_data_at_a_tiny_penalty_converges_or_says_so():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 40)).astype(np.float32)
    y = (X[:, :1] > 0).astype(float)
    fit = Logistic(l2=(1e-7, 1e-9)).fit_site(X, y, np.arange(120) % 4)
    for status, gap in zip(fit.status.ravel(), fit.gap.ravel(), strict=True):
        assert (gap <= 1e-5) == (status == Status.CONVERGED)
    assert np.isfinite(fit.coef).all()
    fitted = Logistic(l2=1e-9, tolerance=1e-12).fit(X, y)
    unfinished = fitted.table["status"].to_list()
    assert fitted.converged == (set(unfinished) == {"converged"})


def test_fit_on_plain_arrays_chooses_and_yields_raw_probes():
    X, codes, _ = make_classes(200, 10, 3, seed=7)
    groups = np.arange(200) // 4
    fitted = Multinomial().fit(X, codes, groups=groups, names=["a", "b", "c"])
    assert len({*fitted.fold[groups == 3]}) == 1
    assert [p.target for p in fitted.probe] == ["a", "b", "c"]
    assert fitted.loss[fitted.chosen] == fitted.loss.min()
    assert (fitted.probe.score(X).argmax(1) == codes).mean() > 0.6
    balanced = Logistic(l2=0.1).fit(X, codes == 0, balance=True, seed=1)
    again = Logistic(l2=0.1).fit(X, codes == 0, balance=True, seed=1)
    np.testing.assert_array_equal(balanced.scores, again.scores)
    # With as many rows of each class, the mean training score is near 0; unbalanced it leans to the larger class.
    plain = Logistic(l2=0.1).fit(X, codes == 0)
    assert balanced.probe.intercept != plain.probe.intercept
    assert balanced.probe.score(X).mean() > plain.probe.score(X).mean()
