"""Helices and circles: planted ones are found, curves that are none are not taken for one."""

import numpy as np
import pytest

from leadline.errors import ProbeError
from leadline.probes.periodic import DAYS, MONTHS, Fourier, Helix, spectrum


def write(basis, seed, d=30, noise=0.1, scale=1.0):
    rng = np.random.default_rng(seed)
    signal = (basis - basis.mean(0)) / np.maximum(basis.std(0), 1e-9)
    return signal @ rng.normal(size=(basis.shape[1], d)) * scale + noise * rng.normal(size=(len(basis), d)) + 7


@pytest.fixture(scope="module")
def numbers():
    return np.arange(100)


@pytest.fixture(scope="module")
def helix(numbers):
    return write(Helix().basis(numbers), seed=0)


def test_the_basis_is_the_papers(numbers):
    basis = Helix().basis(numbers)
    assert Helix().columns == ("linear", "cos_2", "sin_2", "cos_5", "sin_5", "cos_10", "sin_10", "cos_100", "sin_100")
    np.testing.assert_allclose(basis[:, 0], numbers)
    np.testing.assert_allclose(basis[:, 1], (-1.0) ** numbers)
    assert (basis[:, 2] == 0).all()  # sin of period 2 on whole numbers
    np.testing.assert_allclose(basis[7, 5:7], [np.cos(1.4 * np.pi), np.sin(1.4 * np.pi)])
    assert Fourier(periods=DAYS).columns == ("cos_7", "sin_7")


def test_a_planted_helix_is_found_and_beats_a_polynomial(helix, numbers):
    fit = Helix().fit(helix, numbers)
    assert fit.n_parameters == 8  # nine columns, of which sin_2 is 0
    truth = write(Helix().basis(numbers), seed=0, noise=0.0)
    ceiling = 1 - 0.1**2 * 30 / np.square(truth - truth.mean(0)).sum(1).mean()
    assert fit.r2["basis"].value == pytest.approx(ceiling, abs=2e-3)
    assert fit.advantage.low > 0.3
    assert fit.advantage.value == pytest.approx(fit.r2["basis"].value - fit.r2["polynomial"].value)
    assert abs(fit.shortfall.value) < 0.01
    np.testing.assert_allclose(fit.predict(numbers), truth, atol=0.2)
    np.testing.assert_allclose(fit.residual, helix - fit.predict(numbers), atol=1e-9)
    assert fit.table["model"].to_list() == ["basis", "polynomial", "pca"]


def test_a_polynomial_is_not_taken_for_a_helix(numbers):
    t = numbers / 50 - 1
    X = write(np.stack([t, t**2, t**3], axis=1), seed=1)
    fit = Helix().fit(X, numbers)
    assert fit.r2["polynomial"].value > 0.95
    assert fit.advantage.high < 0


def test_noise_explains_nothing(numbers):
    fit = Helix().fit(np.random.default_rng(2).normal(size=(100, 30)), numbers)
    assert fit.r2["basis"].high < 0.05
    assert (fit.reader_r2 < 0.3).all()


def test_the_map_equals_least_squares_in_raw_space(helix, numbers):
    design = np.hstack([np.ones((100, 1)), Helix().basis(numbers)])
    expected = np.linalg.lstsq(design, helix, rcond=None)[0]
    fit = Helix(n_components=30).fit(helix, numbers, n_folds=0)
    np.testing.assert_allclose(fit.origin, expected[0], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(fit.C.T, expected[1:], rtol=1e-7, atol=1e-9)
    assert fit.r2 is None
    assert np.isnan(fit.reader_r2).all()


def test_few_components_project_the_map_on_their_span(helix, numbers):
    fit = Helix(n_components=3).fit(helix, numbers, n_folds=0)
    assert fit.components.shape == (3, 30)
    full = Helix().fit(helix, numbers, n_folds=0)
    np.testing.assert_allclose(fit.C, fit.components.T @ fit.components @ full.C, atol=1e-9)


def test_out_of_fold_r2_is_that_of_a_loop(helix, numbers):
    fold = numbers % 4
    fit = Helix(periods=(10,), n_components=30).fit(helix, numbers, fold=fold)
    design = np.hstack([np.ones((100, 1)), Helix(periods=(10,)).basis(numbers)])
    error = total = 0.0
    for k in range(4):
        train = fold != k
        solved = np.linalg.lstsq(design[train], helix[train], rcond=None)[0]
        error += np.square(helix[~train] - design[~train] @ solved).sum()
        total += np.square(helix[~train] - helix[train].mean(0)).sum()
    assert fit.r2["basis"].value == pytest.approx(1 - error / total, rel=1e-9)


def test_readers_read_the_columns_and_the_phase(helix, numbers):
    fit = Helix().fit(helix, numbers)
    assert fit.reader_columns == tuple(c for c in Helix().columns if c != "sin_2")
    assert (fit.reader_r2 > 0.95).all()
    fresh = write(Helix().basis(numbers), seed=0, noise=0.0)
    for period in (5, 10, 100):
        off = fit.read_phase(fresh, period) - 2 * np.pi * numbers / period
        assert np.abs(np.angle(np.exp(1j * off))).max() < 0.2
    parity = fit.read_phase(fresh, 2)
    np.testing.assert_allclose(parity, np.where(numbers % 2, np.pi, 0))
    scores = fit.readers.score(fresh)
    assert np.abs(scores[:, 0] - numbers).max() < 5  # in units of the number, not of its spread
    with pytest.raises(ProbeError, match="no reader of period 7"):
        fit.read_phase(fresh, 7)


@pytest.mark.parametrize("period", [DAYS[0], MONTHS[0]])
def test_circles_of_few_values_with_several_rows_each(period):
    values = np.tile(np.arange(int(period)), 12)
    X = write(Fourier(periods=(period,)).basis(values), seed=3, noise=0.3)
    fit = Fourier(periods=(period,)).fit(X, values, n_folds=int(period))
    assert fit.n_parameters == 2
    assert fit.advantage.low > 0
    assert all(len(np.unique(fit.fold[values == v])) == 1 for v in range(int(period)))
    off = fit.read_phase(X, period) - 2 * np.pi * values / period
    assert np.abs(np.angle(np.exp(1j * off))).max() < 0.6


def test_weights_count_rows(numbers):
    X = write(Helix().basis(numbers), seed=4)
    weights = np.random.default_rng(0).integers(0, 3, size=100).astype(float)
    weights[:5] = 1, 0, 2, 1, 0
    fold = numbers % 4
    often = np.repeat(numbers, weights.astype(int))
    one = Helix().fit(X, numbers, fold=fold, weights=weights)
    other = Helix().fit(X[often], numbers[often], fold=fold[often])
    np.testing.assert_allclose(one.C, other.C, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(one.origin, other.origin, rtol=1e-6)
    for name, found in one.r2.items():
        assert found.value == pytest.approx(other.r2[name].value, rel=1e-8)
    np.testing.assert_allclose(one.readers[0].coef, other.readers[0].coef, rtol=1e-6, atol=1e-8)


def test_constant_duplicate_and_massive_features_and_wide_data(helix, numbers):
    X = np.hstack([helix, helix[:, :1], np.full((100, 1), 4.0), helix[:, :1] * 1000])
    fit = Helix().fit(X, numbers)
    assert fit.r2["basis"].value > 0.9
    wide = Helix().fit(write(Helix().basis(numbers), seed=5, d=400), numbers)
    assert len(wide.components) == 99
    assert wide.advantage.low > 0
    assert np.isfinite(wide.C).all()


def test_the_spectrum_holds_the_planted_periods(numbers):
    X = write(Fourier(periods=(5, 20)).basis(numbers), seed=6, noise=0.0)
    X += 3 * numbers[:, None]
    found = spectrum(X, numbers)
    assert found["power"].sum() == pytest.approx(1)
    top = found.sort("power", descending=True)["period"][:2].to_list()
    assert sorted(top) == pytest.approx([5, 20])
    assert found.height == 50
    # Without a trend in the data, power is the variance itself (Parseval).
    flat = write(Fourier(periods=(5, 20)).basis(numbers), seed=6, noise=1.0)
    share = spectrum(flat, numbers, detrend=False)
    column = flat - flat.mean(0)
    wave = np.exp(-2j * np.pi * numbers / 5)
    expected = 2 * np.square(np.abs(wave @ column)).sum() / 100 / np.square(column).sum()
    assert share.filter(share["period"] == 5)["power"][0] == pytest.approx(expected)
    assert share["power"].sum() == pytest.approx(1)
    odd = spectrum(flat[:99], numbers[:99], standardise=True)
    assert odd["power"].sum() == pytest.approx(1)
    assert odd.height == 49


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda X, a: Helix(periods=(0,)), "above 0"),
        (lambda X, a: Helix(periods=(5, 5)), "different periods"),
        (lambda X, a: Fourier(periods=()), "nothing to fit"),
        (lambda X, a: Helix().fit(X, a[:-1]), "n finite numbers"),
        (lambda X, a: Helix().fit(X[:9], a[:9], n_folds=0), "cannot carry a basis of rank"),
        (lambda X, a: Helix().fit(X, a // 2, fold=a % 2), "several folds"),
        (lambda X, a: Helix().fit(X * np.nan, a), "NaN"),
        (lambda X, a: Helix().fit(X, a, weights=-np.ones(100)), "none below 0"),
        (lambda X, a: Helix().fit(X * 0 + 1.0, a), "do not vary"),
        (lambda X, a: spectrum(X, a * 2), "without a gap"),
        (lambda X, a: spectrum(X * 0, a), "do not vary"),
    ],
)
def test_what_cannot_be_fitted_is_refused(helix, numbers, call, said):
    with pytest.raises(ProbeError, match=said):
        call(helix, numbers)
