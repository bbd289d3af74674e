"""Calibration: known sigmoids, goldens against scikit-learn and scipy, planted miscalibration, and no leak."""

import json

import numpy as np
import pytest
import scipy.optimize
from scipy.special import expit, logit, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, log_loss

from leadline.errors import EvidenceError
from leadline.evidence.calibration import calibrate, calibration_figures, top_label
from leadline.evidence.calibrators import RAW, Isotonic, Platt, cross_fit, fit_calibrator
from leadline.evidence.reliability import equal_mass_bins
from leadline.probes.splits import make_folds

FIGURES = ("brier", "log_loss", "ece", "reliability", "resolution", "uncertainty", "within_bin")


def planted(seed, n=600, slope=1.0, intercept=0.0):
    """Scores whose true log odds are slope · score + intercept."""
    rng = np.random.default_rng(seed)
    scores = 1.5 * rng.normal(size=n)
    y = (rng.random(n) < expit(slope * scores + intercept)).astype(float)
    return scores, y, make_folds(y, None, 5, stratify=True, seed=seed)


# --- calibrators


def test_platt_recovers_a_known_sigmoid():
    scores, y, _ = planted(0, 40_000, slope=0.4, intercept=-1.0)
    found = fit_calibrator(scores, y, "platt")
    assert (found.slope, found.intercept) == (pytest.approx(0.4, abs=0.03), pytest.approx(-1.0, abs=0.04))


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e4, -3e5), (1e-5, 2.0)])
def test_platt_is_the_minimum_that_a_general_optimiser_finds_at_any_scale(scale, shift):
    scores, y, _ = planted(1, 200, slope=2.0, intercept=0.5)
    found = fit_calibrator(scale * scores + shift, y, "platt")
    target = np.where(y > 0, (y.sum() + 1) / (y.sum() + 2), 1 / ((1 - y).sum() + 2))
    golden = scipy.optimize.minimize(
        lambda w: np.mean(np.logaddexp(0, w[0] * scores + w[1]) - target * (w[0] * scores + w[1])), [0, 0], tol=1e-12
    ).x
    assert found.probability(scale * scores + shift) == pytest.approx(expit(golden[0] * scores + golden[1]), abs=1e-5)


def test_platt_stays_finite_where_the_scores_separate_the_classes_and_where_they_say_nothing():
    found = fit_calibrator(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([0, 0, 1, 1]), "platt")
    assert np.isfinite([found.slope, found.intercept]).all()
    assert (np.diff(found.probability(np.array([-2.0, -1.0, 1.0, 2.0]))) > 0).all()
    flat = fit_calibrator(np.full(10, 3.0), np.repeat([0, 1], [6, 4]), "platt")
    # (6 · 1/8 + 4 · 5/6) / 10, the mean of Platt's targets.
    assert flat.probability(np.array([3.0])) == pytest.approx((6 / 8 + 4 * 5 / 6) / 10)


def test_platt_turns_a_reversed_score_and_isotonic_flattens_it():
    scores, y, _ = planted(2, 2000, slope=-1.0)
    assert fit_calibrator(scores, y, "platt").slope == pytest.approx(-1.0, abs=0.2)
    assert np.ptp(fit_calibrator(scores, y, "isotonic").probability(scores)) < 0.1


def test_isotonic_is_scikit_learns_and_monotone():
    scores, y, _ = planted(3)
    scores = scores.round(1)  # ties
    found = fit_calibrator(scores, y, "isotonic")
    grid = np.linspace(-8, 8, 400)
    golden = IsotonicRegression(out_of_bounds="clip").fit(scores, y)
    low, high = 1 / ((1 - y).sum() + 2), (y.sum() + 1) / (y.sum() + 2)
    assert found.probability(scores) == pytest.approx(np.clip(golden.predict(scores), low, high), abs=1e-12)
    golden = IsotonicRegression(out_of_bounds="clip", y_min=low, y_max=high).fit(scores, y)
    assert found.probability(grid) == pytest.approx(golden.predict(grid), abs=1e-12)
    assert (np.diff(found.probability(grid)) >= 0).all()


def test_isotonic_is_idempotent_and_beats_every_shift_of_itself():
    scores, y, _ = planted(4)
    once = fit_calibrator(scores, y, "isotonic").probability(scores)
    again = IsotonicRegression(out_of_bounds="clip").fit(once, y).predict(once)
    inside = (again > once.min()) & (again < once.max())
    assert again[inside] == pytest.approx(once[inside], abs=1e-12)
    # Pooled blocks have the rate of their rows.
    for value in np.unique(once[inside]):
        assert y[once == value].mean() == pytest.approx(value)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_calibrator_survives_json(method):
    scores, y, _ = planted(5, 100)
    found = fit_calibrator(scores, y, method)
    back = type(found).from_list(json.loads(json.dumps(found.to_list())))
    assert back == found
    assert back.probability(scores[:, None]).shape == (100, 1)
    assert (back.probability(scores) == found.probability(scores)).all()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Platt, [1.0]),
        (Platt, [1.0, float("nan")]),
        (Isotonic, [[0.0, 1.0], [0.5]]),
        (Isotonic, [[], []]),
        (Isotonic, [[1.0, 0.0], [0.2, 0.5]]),
        (Isotonic, [[0.0, 1.0], [0.5, 0.2]]),
        (Isotonic, [[0.0, 1.0], [0.5, 1.2]]),
        (Isotonic, [[0.0, 1.0], [float("nan"), 0.5]]),
    ],
)
def test_a_damaged_calibrator_is_refused(kind, values):
    with pytest.raises(EvidenceError):
        kind.from_list(values)


# --- figures


def test_a_calibrated_probe_is_within_its_noise_floor_about_as_often_as_it_says():
    excess, false = [], 0
    for seed in range(100):
        scores, y, fold = planted(100 + seed, 200)
        found = calibration_figures(expit(scores), y, fold, seed=seed, n_replicates=100)
        excess.append(found.ece.value - found.ece_floor)
        false += found.p_calibrated <= 0.05
        assert found.ece_floor > 0.03
    assert abs(np.mean(excess)) < 3 * np.std(excess) / 10
    assert false <= 12


def test_overconfidence_is_found_and_platt_and_isotonic_mend_it():
    scores, y, fold = planted(6, 2000, slope=0.3)
    found = calibrate(scores, y, fold, n_replicates=200)
    assert found.raw.p_calibrated < 0.01
    assert found.raw.ece.low > found.raw.ece_floor_high
    for mended in (found.platt, found.isotonic):
        assert mended.ece.value < found.raw.ece.value / 3
        assert mended.brier.high < found.raw.brier.low
        assert mended.log_loss.value < found.raw.log_loss.value
    assert found.platt.p_calibrated > 0.05
    assert found.calibrator == fit_calibrator(scores, y, "platt")
    assert found.scale_ratio < 1.2
    assert found.reason == ""


def test_brier_and_log_loss_are_scikit_learns():
    scores, y, fold = planted(7)
    found = calibrate(scores, y, fold, n_replicates=100)
    for figures in (found.raw, found.platt, found.isotonic):
        assert figures.brier.value == pytest.approx(brier_score_loss(y, figures.probability), abs=1e-12)
        assert figures.log_loss.value == pytest.approx(log_loss(y, figures.probability), abs=1e-10)
        assert figures.brier.low < figures.brier.value < figures.brier.high


def test_murphys_terms_are_those_of_a_loop_and_sum_to_brier():
    scores, y, fold = planted(8)
    p = expit(scores)
    found = calibration_figures(p, y, fold, n_replicates=100)
    bins = equal_mass_bins(p, 10)
    reliability = resolution = variance = covariance = ece = 0.0
    for b in range(10):
        p_b, y_b = p[bins == b], y[bins == b]
        reliability += len(p_b) * (p_b.mean() - y_b.mean()) ** 2 / len(p)
        resolution += len(p_b) * (y_b.mean() - y.mean()) ** 2 / len(p)
        ece += len(p_b) * abs(p_b.mean() - y_b.mean()) / len(p)
        variance += ((p_b - p_b.mean()) ** 2).sum() / len(p)
        covariance += ((p_b - p_b.mean()) * (y_b - y_b.mean())).sum() / len(p)
    assert found.ece.value == pytest.approx(ece)
    assert found.reliability.value == pytest.approx(reliability)
    assert found.resolution.value == pytest.approx(resolution)
    assert found.uncertainty.value == pytest.approx(y.mean() * (1 - y.mean()))
    # Stephenson, Coelho and Jolliffe 2008: the within-bin terms are WBV − 2 WBC here.
    assert found.within_bin.value == pytest.approx(variance - 2 * covariance)
    total = reliability - resolution + y.mean() * (1 - y.mean()) + found.within_bin.value
    assert found.brier.value == pytest.approx(total)


def test_the_brier_interval_covers_its_expectation():
    rng = np.random.default_rng(9)
    big = expit(1.5 * rng.normal(size=400_000))
    truth = np.mean(big * (1 - big))
    covered = 0
    for seed in range(100):
        scores, y, fold = planted(300 + seed, 150)
        found = calibration_figures(expit(scores), y, fold, seed=seed, n_replicates=200)
        covered += found.brier.low <= truth <= found.brier.high
    assert covered >= 88


def test_the_ece_interval_stands_about_its_figure_though_replicates_add_noise_to_noise():
    below = []
    for seed in range(40):
        scores, y, fold = planted(700 + seed, 400, slope=0.5)
        ece = calibration_figures(expit(scores), y, fold, seed=seed, n_replicates=200).ece
        assert ece.low < ece.value < ece.high
        below.append((ece.value - ece.low) / (ece.high - ece.low))
    assert np.mean(below) == pytest.approx(0.5, abs=0.03)


def test_bins_have_equal_mass_and_equal_probabilities_share_one():
    p = np.random.default_rng(10).random(1000)
    assert (np.bincount(equal_mass_bins(p, 10)) == 100).all()
    tied = np.repeat([0.2, 0.7], 50)
    assert sorted(set(equal_mass_bins(tied, 10))) == [0, 1]
    # Rows that are sorted by label would otherwise fall apart into bins of one class, with an ECE of a half.
    y = np.repeat([0.0, 1.0], 50)
    found = calibration_figures(np.full(100, 0.5), y, np.arange(100) % 2, n_replicates=100)
    assert found.ece.value == pytest.approx(0)
    assert found.curve.n.tolist() == [100]


def test_the_curve_has_exact_intervals_over_rows():
    scores, y, fold = planted(11, 400)
    curve = calibration_figures(expit(scores), y, fold, n_replicates=100).curve
    for b in range(10):
        golden = scipy.stats.binomtest(round(curve.observed[b] * 40), 40).proportion_ci(method="exact")
        assert (curve.low[b], curve.high[b]) == pytest.approx((golden.low, golden.high))
    assert (np.diff(curve.predicted) > 0).all()
    assert curve.n_effective.tolist() == [40] * 10


# --- groups


def test_rows_that_repeat_within_a_group_are_no_evidence_of_miscalibration():
    false = {True: 0, False: 0}
    for seed in range(60):
        scores, y, fold = planted(500 + seed, 60)
        again = np.repeat(np.arange(60), 8)
        for grouped in false:
            found = calibration_figures(
                expit(scores)[again], y[again], fold[again], again if grouped else None, seed=seed, n_replicates=100
            )
            false[grouped] += found.p_calibrated <= 0.05
    assert false[True] <= 7
    assert false[False] > 30


def test_figures_of_repeated_rows_have_the_intervals_of_the_groups():
    scores, y, fold = planted(12, 100)
    again = np.repeat(np.arange(100), 6)
    once = calibration_figures(expit(scores), y, fold, n_replicates=300)
    repeated = calibration_figures(expit(scores)[again], y[again], fold[again], again, n_replicates=300)
    for name in ("brier", "log_loss"):
        one, other = getattr(once, name), getattr(repeated, name)
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))
    assert repeated.curve.n_effective == pytest.approx(once.curve.n)
    assert "groups" in repeated.curve.scheme
    assert "groups" in repeated.floor_scheme


def test_a_fold_of_one_group_has_figures_without_an_interval():
    scores, y, _ = planted(13, 100)
    groups = np.repeat([0, 1, 2], [50, 25, 25])
    found = calibration_figures(expit(scores), y, (groups > 0).astype(int), groups, n_replicates=100)
    assert np.isfinite(found.brier.value)
    assert np.isnan([found.brier.low, found.brier.high, found.ece.low]).all()
    assert "a fold holds 1 group" in found.reason


# --- cross-fitting


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_no_label_and_no_score_of_a_fold_reaches_its_own_calibrator(method):
    scores, y, fold = planted(14, 300)
    before = cross_fit(scores, y, fold, method)
    after = cross_fit(scores, np.where(fold == 3, 1 - y, y), fold, method)
    moved = cross_fit(np.where(fold == 3, 5 * scores, scores), y, fold, method)
    assert before[3] == after[3] == moved[3]
    assert before[1] != after[1]
    found = calibrate(scores, y, fold, method=method, n_replicates=100)
    assert found.fold_calibrators[method] == before
    for k, calibrator in before.items():
        judged = getattr(found, method).probability[fold == k]
        assert (judged == calibrator.probability(scores[fold == k])).all()


def test_cross_fitted_isotonic_finds_nothing_in_noise_where_fitting_on_itself_would():
    rng = np.random.default_rng(15)
    y = np.tile([0.0, 1.0], 100)
    scores = rng.normal(size=200)
    found = calibrate(scores, y, np.arange(200) // 2 % 5, n_replicates=100)
    fitted_on_itself = fit_calibrator(scores, y, "isotonic").probability(scores)
    assert np.mean((fitted_on_itself - y) ** 2) < 0.25
    assert found.isotonic.brier.value > 0.25


def test_folds_of_different_scale_are_not_rescaled_and_show():
    scores, y, fold = planted(16, 2000)
    apart = np.where(fold == 0, 6 * scores, scores)
    same, other = (calibrate(s, y, fold, n_replicates=100) for s in (scores, apart))
    assert other.scale_ratio == pytest.approx(same.scale_ratio * 6, rel=0.1)
    assert same.platt.p_calibrated > 0.05
    assert other.platt.p_calibrated < 0.02


# --- what cannot be judged


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_gives_nan_and_a_reason(label):
    found = calibrate(np.arange(20.0), np.full(20, label), np.arange(20) % 2, n_replicates=100)
    for figures in (found.raw, found.platt, found.isotonic):
        for name in FIGURES:
            estimate = getattr(figures, name)
            assert np.isnan([estimate.value, estimate.low, estimate.high]).all()
        assert np.isnan([figures.ece_floor, figures.p_calibrated]).all()
        assert np.isnan(figures.curve.observed).all()
        assert f"no {'negative' if label else 'positive'};" in figures.reason
    assert found.calibrator is None


def test_a_class_that_stands_in_one_fold_alone_leaves_raw_figures_and_no_calibrator():
    y = np.array([1.0, 1.0] + [0.0] * 18)
    found = calibrate(np.linspace(3, -3, 20), y, np.repeat([0, 1], 10), n_replicates=100)
    assert np.isfinite(found.raw.brier.value)
    assert np.isnan(found.platt.brier.value)
    assert "outside fold 0" in found.platt.reason
    assert found.calibrator is None
    assert found.reason == found.platt.reason
    assert calibrate(np.linspace(3, -3, 20), y, np.repeat([0, 1], 10), method="raw", n_replicates=100).calibrator == RAW


def test_what_cannot_be_used_is_refused():
    scores, y, fold = planted(17, 50)
    with pytest.raises(EvidenceError, match="calibration method 'plat'"):
        calibrate(scores, y, fold, method="plat")
    with pytest.raises(EvidenceError, match="99 bootstrap replicates"):
        calibrate(scores, y, fold, n_replicates=99)
    with pytest.raises(EvidenceError, match="more than one fold"):
        calibrate(scores, y, fold, np.repeat(np.arange(25), 2))
    with pytest.raises(EvidenceError, match="expected them in"):
        calibration_figures(scores, y, fold)
    with pytest.raises(EvidenceError, match="0 bins"):
        equal_mass_bins(scores, 0)
    with pytest.raises(EvidenceError, match="needs both"):
        fit_calibrator(scores, np.ones(50), "platt")


def test_the_same_seed_gives_the_same_figures_and_another_seed_others():
    scores, y, fold = planted(18, 100)
    one, same, other = (calibrate(scores, y, fold, seed=s, n_replicates=100).platt for s in (1, 1, 2))
    assert (one.brier, one.ece, one.ece_floor) == (same.brier, same.ece, same.ece_floor)
    assert one.brier.low != other.brier.low
    assert one.ece_floor != other.ece_floor


# --- multiclass


def test_the_top_label_has_its_softmax_probability_even_where_the_probe_is_sure():
    rng = np.random.default_rng(19)
    scores = rng.normal(size=(300, 4))
    y = np.array([rng.choice(4, p=row) for row in softmax(scores, axis=1)])
    log_odds, right = top_label(scores, y)
    assert expit(log_odds) == pytest.approx(softmax(scores, axis=1).max(axis=1))
    assert (right == (scores.argmax(axis=1) == y)).all()
    assert log_odds == pytest.approx(logit(softmax(scores, axis=1).max(axis=1)))
    # σ(400) rounds to 1; its log odds do not.
    assert top_label(np.array([[400.0, 0.0]]), np.array([1]))[0] == pytest.approx(400)
    found = calibrate(log_odds, right, np.arange(300) % 3, n_replicates=100)
    assert found.raw.p_calibrated > 0.05


def test_a_sure_and_wrong_row_has_a_finite_log_loss():
    scores = np.array([800.0, -3.0, 3.0, -2.0])
    found = calibrate(scores, np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), method="raw", n_replicates=100)
    assert found.raw.log_loss.value == pytest.approx(np.logaddexp(0, [800, -3, -3, 2]).mean())
    # A probability of exactly 0 that came true has an infinite one, and the other figures do not suffer.
    rng = np.random.default_rng(20)
    p, y = rng.random(40), np.tile([0, 1], 20)
    p[1] = 0.0
    figures = calibration_figures(p, y, np.arange(40) // 2 % 2, n_replicates=100)
    assert figures.log_loss.value == np.inf
    assert np.isnan(figures.log_loss.low)
    assert np.isfinite([figures.brier.low, figures.ece.low]).all()


@pytest.mark.parametrize(
    ("scores", "y"), [(np.zeros((3, 1)), [0, 0, 0]), (np.zeros((3, 2)), [0, 1, 2]), (np.full((1, 2), np.inf), [0])]
)
def test_multiclass_scores_that_fit_no_codes_are_refused(scores, y):
    with pytest.raises(EvidenceError):
        top_label(scores, np.array(y))
