"""LAT, CRC and CCS: planted directions, signs, folds, weights, restarts and refusals."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from leadline.errors import ProbeError
from leadline.probes.ccs import CCS, _Objective
from leadline.probes.crc import CRC
from leadline.probes.fit import Status
from leadline.probes.lat import LAT
from leadline.probes.pairs import _moments

FAMILIES = [LAT(), LAT(scale=True), CRC(), CRC(scale=False), CCS(n_restarts=4)]


def make_pairs(n, d, seed=0, strength=3.0, phrasing=5.0):
    """Pairs whose truth lies along one axis and whose phrasing (yes, no) along another, far more strongly."""
    rng = np.random.default_rng(seed)
    truth, yes = np.linalg.qr(rng.normal(size=(d, 2)))[0].T
    labels = rng.permutation(n) % 2
    shared = rng.normal(size=(n, d))
    sides = []
    for sign in (1, -1):
        noise = 0.3 * rng.normal(size=(n, d))
        sides.append(shared + noise + sign * strength / 2 * np.outer(2 * labels - 1, truth) + sign * phrasing * yes)
    return sides[0] + 4, sides[1] + 4, labels, truth


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("d", [12, 150])
@pytest.mark.parametrize("family", [CRC(), CRC(scale=False), CCS(n_restarts=6)])
def test_the_planted_truth_is_found_without_labels_and_signed_with_them(family, d):
    first, second, labels, truth = make_pairs(120, d)
    blind = family.fit(first, second, n_folds=4)
    accuracy = np.mean((blind.scores > 0) == labels)
    assert max(accuracy, 1 - accuracy) > 0.95  # one sign for all folds
    assert blind.fit.sign_rule == "largest_coordinate"
    assert blind.fit.coef[np.abs(blind.fit.coef).argmax()] > 0
    told = family.fit(first, second, labels, n_folds=4)
    assert told.fit.sign_rule == "labels"
    assert np.mean((told.scores > 0) == labels) > 0.95
    if d == 12:
        assert cosine(told.probe.coef, truth) > 0.95
    assert told.converged


def test_lat_keeps_the_mean_difference_that_a_centred_pca_loses():
    rng = np.random.default_rng(0)
    concept, other = np.eye(10)[3], np.eye(10)[7]
    second = rng.normal(size=(200, 10))
    first = second + np.outer(2 + 0.1 * rng.normal(size=200), concept) + np.outer(rng.normal(size=200), other)
    fitted = LAT().fit(first, second)
    assert cosine(fitted.probe.coef, concept) > 0.99
    assert abs(cosine(PCA(1).fit(first - second).components_[0], concept)) < 0.5
    assert fitted.fit.sign_rule == "first_positive"
    assert (fitted.scores > 0).all()
    flipped = LAT().fit(second, first)
    np.testing.assert_allclose(flipped.probe.coef, -fitted.probe.coef, atol=1e-12)


def test_lat_is_the_mean_over_random_flips_and_equals_pca_of_all_of_them():
    first, second, _, _ = make_pairs(60, 8)
    delta = first - second
    both = PCA(1).fit(np.concatenate([delta, -delta])).components_[0]
    w = LAT().fit_pairs(first, second, np.full(60, -1)).coef
    assert abs(cosine(w, both)) == pytest.approx(1, abs=1e-12)
    assert np.linalg.norm(w) == pytest.approx(1)


@pytest.mark.parametrize(("n", "d"), [(80, 9), (30, 70)])
def test_crc_equals_pca_of_the_normalised_differences_in_every_fit(n, d):
    first, second, labels, _ = make_pairs(n, d, seed=1)
    fold = np.arange(n) // 2 % 3
    fit = CRC().fit_pairs(first, second, fold, labels)
    for k in range(4):
        rows = fold != k
        own = [X[rows] - X[rows].mean(0) for X in (first, second)]
        scale = np.sqrt((own[0].var(0) + own[1].var(0)) / 2)
        pca = PCA(1, svd_solver="full").fit((own[0] - own[1]) / scale)
        w = fit.coef if k == 3 else fit.fold_coef[k]
        assert abs(cosine(w * scale, pca.components_[0])) == pytest.approx(1, abs=1e-9)
        centred = own[0] - own[1]
        total = np.square(centred / scale).mean(0).sum()
        assert fit.losses[k, 0] == pytest.approx(1 - np.square(centred @ w).mean() / total, rel=1e-7)
        if k < 3:
            gap = first[rows].mean(0) - second[rows].mean(0)
            np.testing.assert_allclose(fit.scores[~rows], (first - second - gap)[~rows] @ w, rtol=1e-8, atol=1e-10)


def ccs_loss(family, first, second, rows, w, b1, b2):
    p, q = (1 / (1 + np.exp(-(X[rows] @ w + b))) for X, b in ((first, b1), (second, b2)))
    scale = np.sqrt((first[rows].var(0) + second[rows].var(0)) / 2)
    return np.mean((p + q - 1) ** 2 + np.minimum(p, q) ** 2) + family.l2 / 2 * np.sum((w * scale) ** 2)


def test_ccs_losses_are_its_formula_and_the_smallest_is_taken():
    first, second, _, _ = make_pairs(60, 7, strength=1.0)
    family = CCS(n_restarts=5, l2=0.02)
    fold = np.arange(60) % 3
    fit = family.fit_pairs(first, second, fold)
    assert fit.losses.shape == fit.status.shape == fit.iterations.shape == (4, 5)
    np.testing.assert_array_equal(fit.taken, fit.losses.argmin(1))
    for k in range(4):
        rows = fold != k
        w, b, pair = (
            (fit.coef, fit.intercept, fit.pair_intercept)
            if k == 3
            else (fit.fold_coef[k], fit.fold_intercept[k], fit.fold_pair_intercept[k])
        )
        both = [ccs_loss(family, first, second, rows, s * w, s * (b + pair / 2), s * (b - pair / 2)) for s in (1, -1)]
        assert min(both) == pytest.approx(fit.losses[k].min(), rel=1e-9)  # flipped by the sign, or not


def test_ccs_gradient_is_that_of_its_objective():
    first, second, _, _ = make_pairs(40, 6)
    rng = np.random.default_rng(0)
    fold, omega = np.arange(40) % 2, rng.random(40)
    moments = _moments(first, second, fold, omega, 2)
    objective = _Objective(first, second, fold, omega, moments, moments.scale, 0.1, 2)
    theta = torch.from_numpy(rng.normal(size=(6, 7)))

    def value(t):
        return objective.value(objective.scores(t), torch.square(t[:, :-1]).sum(1))

    gradient = objective.gradient(objective.scores(theta), theta)
    for column in range(7):
        step = torch.zeros(7, dtype=torch.float64)
        step[column] = 1e-6
        numeric = (value(theta + step) - value(theta - step)) / 2e-6
        np.testing.assert_allclose(gradient[:, column], numeric, atol=1e-8)


def test_ccs_stands_by_its_seed_and_every_fold_is_its_own_fit():
    first, second, _, _ = make_pairs(60, 8, strength=2.0)
    fold = np.arange(60) % 3
    state = torch.random.get_rng_state()
    one, again = (CCS(n_restarts=3, seed=1).fit_pairs(first, second, fold) for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(one.coef, again.coef)
    for k in range(3):
        rows = fold != k
        alone = CCS(n_restarts=3, seed=1).fit_pairs(first[rows], second[rows], np.full(rows.sum(), -1))
        np.testing.assert_allclose(alone.losses[0], one.losses[k], rtol=1e-6)
        assert abs(cosine(alone.coef, one.fold_coef[k])) == pytest.approx(1, abs=1e-6)


def test_ccs_says_when_it_did_not_converge():
    first, second, _, _ = make_pairs(30, 60)
    fit = CCS(n_restarts=2, max_iterations=2).fit_pairs(first, second, np.full(30, -1))
    assert (fit.status == Status.ITERATION_LIMIT).all()
    assert (fit.iterations == 2).all()
    assert not fit.converged.any()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("d", [6, 60])
def test_weights_are_repeats(family, d):
    first, second, labels, _ = make_pairs(40, d)
    fold = np.arange(40) // 2 % 2
    weights = np.random.default_rng(0).integers(0, 3, 40).astype(float)
    again = np.repeat(np.arange(40), weights.astype(int))
    weighted = family.fit_pairs(first, second, fold, labels, weights)
    repeated = family.fit_pairs(first[again], second[again], fold[again], labels[again])
    assert cosine(weighted.coef, repeated.coef) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(weighted.losses, repeated.losses, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_exchanging_the_sides_and_the_labels_negates_the_pairs_and_keeps_the_probe(family):
    first, second, labels, _ = make_pairs(60, 8)
    fold = np.arange(60) % 3
    one, other = family.fit_pairs(first, second, fold, labels), family.fit_pairs(second, first, fold, 1 - labels)
    assert cosine(one.coef, other.coef) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(one.scores, -other.scores, atol=1e-3 * np.abs(one.scores).max())


@pytest.mark.parametrize("family", [LAT(scale=True), CRC(), CCS(n_restarts=3)])
def test_shift_and_scale_of_features_do_not_matter(family):
    first, second, labels, _ = make_pairs(60, 8)
    fold, factor = np.arange(60) % 3, np.geomspace(1e-2, 1e3, 8)
    one = family.fit_pairs(first, second, fold, labels)
    other = family.fit_pairs(first * factor + 5, second * factor + 5, fold, labels)
    np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n", [8, 90])
def test_constant_duplicate_and_massive_features_work(family, n):
    first, second, labels, _ = make_pairs(n, 12)
    for X in (first, second):
        X[:, 1], X[:, 2], X[:, 3] = 7.0, X[:, 0], X[:, 3] * 1e4
    fit = family.fit_pairs(first.astype(np.float32), second.astype(np.float32), np.arange(n) // 4 % 2, labels)
    assert np.isfinite(fit.scores).all()
    assert fit.coef[1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_folds_there_is_the_refit_alone(family):
    first, second, _, _ = make_pairs(20, 5)
    fitted = family.fit(first, second, n_folds=0)
    assert np.isnan(fitted.scores).all()
    assert fitted.fit.fold_coef.shape == (0, 5)
    np.testing.assert_allclose(fitted.probe.score(first), first @ fitted.fit.coef + fitted.fit.intercept)
    assert fitted.probe.extra["sign_rule"] == fitted.fit.sign_rule
    middle = (first.mean(0) + second.mean(0)) / 2
    if fitted.family.name != "ccs":
        assert fitted.probe.score(middle[None])[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_cannot_be_fitted_is_refused(family):
    first, second, labels, _ = make_pairs(20, 5)
    none = np.full(20, -1)
    with pytest.raises(ProbeError, match="second sides"):
        family.fit_pairs(first, second[:10], none)
    with pytest.raises(ProbeError, match="do not differ"):
        family.fit_pairs(first, first, none)
    with pytest.raises(ProbeError, match="NaN"):
        family.fit_pairs(first, np.full_like(second, np.nan), none)
    with pytest.raises(ProbeError, match="1 where the first"):
        family.fit_pairs(first, second, none, labels + 1)
    if family.centred:
        with pytest.raises(ProbeError, match="one class only"):
            family.fit_pairs(first, second, none, np.ones(20))


def test_bad_ccs_specifications_are_refused():
    with pytest.raises(ProbeError, match="l2"):
        CCS(l2=-1)
    with pytest.raises(ProbeError, match="restarts"):
        CCS(n_restarts=0)
