"""Recall at a fixed false-positive rate: exact coverage by simulation, goldens against scipy, and classic mistakes."""

import numpy as np
import pytest
import scipy.stats

from leadline.errors import EvidenceError
from leadline.evidence.operating_point import cross_fitted_recall, exact_threshold, recall_at_fpr
from leadline.evidence.proportions import clopper_pearson, effective_size, grouped_proportion
from leadline.probes.splits import make_folds

# --- proportions


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (7, 7), (3, 11), (1, 200), (199, 200), (0, 1), (1, 1)])
def test_the_interval_is_scipys_exact_one(hits, n):
    found = clopper_pearson(hits, n)
    golden = scipy.stats.binomtest(hits, n).proportion_ci(method="exact")
    assert found.value == hits / n
    assert (found.low, found.high) == pytest.approx((golden.low, golden.high), abs=1e-12)


def test_a_proportion_of_nothing_is_not_a_number():
    found = clopper_pearson(0, 0)
    assert np.isnan([found.value, found.low, found.high]).all()
    assert np.isnan(grouped_proportion(np.zeros(0, dtype=bool), None)[0].value)


def test_the_interval_takes_fractions_and_grows_with_the_proportion():
    found = [clopper_pearson(x, 7.5) for x in np.linspace(0, 7.5, 40)]
    assert (np.diff([f.low for f in found]) >= 0).all()
    assert (np.diff([f.high for f in found]) >= 0).all()
    assert all(f.low <= f.value <= f.high for f in found)


def test_the_effective_size_counts_groups_not_rows():
    assert effective_size(None, 12) == 12
    assert effective_size(np.repeat(["a", "b", "c"], 4), 12) == pytest.approx(3)
    # A group that holds nearly all rows is nearly all there is: (9 + 1)² / (81 + 1).
    assert effective_size(np.array(["big"] * 9 + ["small"]), 10) == pytest.approx(100 / 82)


def test_the_grouped_interval_covers_where_the_rows_of_a_group_agree_and_the_plain_one_does_not():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(24), 10)
    covered = {True: 0, False: 0}
    for _ in range(300):
        hits = (rng.random(24) < 0.7)[groups]
        for grouped in covered:
            found, _ = grouped_proportion(hits, groups if grouped else None)
            covered[grouped] += found.low <= 0.7 <= found.high
    assert covered[True] >= 0.93 * 300
    assert covered[False] < 0.6 * 300


# --- the threshold


def test_the_threshold_is_the_kth_largest_negative():
    negatives = np.random.default_rng(1).permutation(np.arange(99.0))
    found = exact_threshold(negatives, 0.05)
    assert (found.rank, found.n_negatives, found.value) == (5, 99, 94.0)
    assert found.expected_rate == 0.05
    assert found.upper_rate == pytest.approx(scipy.stats.beta.ppf(0.95, 5, 95))


@pytest.mark.parametrize("n", [19, 29, 59, 99, 100, 163, 999])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.07, 0.29, 0.5, 0.58])
def test_the_expected_rate_is_never_above_the_asked_one_and_no_rank_is_wasted(n, rate):
    found = exact_threshold(np.arange(float(n)), rate)
    if found.value is None:
        assert 1 / (n + 1) > rate
        return
    assert found.expected_rate <= rate < (found.rank + 1) / (n + 1)


def test_the_nearest_rate_is_not_taken_where_it_is_above_the_asked_one():
    # With 22 negatives the steps are 1/23 = .043 and 2/23 = .087; .08 is nearer to the second and gets the first.
    found = exact_threshold(np.arange(22.0), 0.08)
    assert found.rank == 1
    assert found.expected_rate == pytest.approx(1 / 23)
    # A rate that is below a step by the last bit does not get that step.
    assert exact_threshold(np.arange(19.0), np.nextafter(0.05, 0)).value is None
    # The empirical quantile that other toolkits take would fire on 2 of 22, .0909.
    assert found.value == 21.0


def test_the_realised_rate_is_beta_distributed_and_exact_in_expectation():
    rng = np.random.default_rng(2)
    n0, rate, draws = 58, 0.1, 4000
    k = 5
    # Uniform negatives: the false-positive rate of a threshold t is exactly 1 − t.
    realised = np.array([1 - exact_threshold(rng.random(n0), rate).value for _ in range(draws)])
    law = scipy.stats.beta(k, n0 + 1 - k)
    assert scipy.stats.kstest(realised, law.cdf).pvalue > 0.01
    assert realised.mean() == pytest.approx(k / (n0 + 1), abs=4 * law.std() / np.sqrt(draws))
    assert realised.mean() <= rate
    upper = exact_threshold(rng.random(n0), rate).upper_rate
    assert (realised <= upper).mean() == pytest.approx(0.95, abs=0.015)


def test_ties_at_the_threshold_do_not_fire_and_the_rate_stays_below():
    rng = np.random.default_rng(3)
    found = exact_threshold(np.array([3.0] * 10 + [1.0] * 29), 0.1)
    assert found.value == 3.0
    points = recall_at_fpr(
        np.array([3.0] * 10 + [1.0] * 29), np.zeros(39), np.array([3.0, 3.0, 3.5]), np.array([0, 1, 1]), (0.1,)
    )
    assert (points[0].n_false, points[0].n_hits) == (0, 1)
    # Scores of five values: far from continuous, so the rate is a bound that is not reached.
    rates = [np.mean(np.arange(5) > exact_threshold(rng.integers(0, 5, 40), 0.25).value) for _ in range(500)]
    assert np.mean(rates) <= 0.25


def test_too_few_negatives_are_unattainable_and_never_extrapolated():
    scores, y = np.arange(40.0), np.repeat([0, 1], 20)
    one, five = recall_at_fpr(scores, y, scores + 100, y, (0.01, 0.05))
    assert one.status == "unattainable"
    assert (one.threshold.value, one.recall, one.realised) == (None, None, None)
    assert np.isnan([one.threshold.expected_rate, one.threshold.upper_rate, one.row_rate]).all()
    assert one.threshold.smallest_rate == pytest.approx(1 / 21)
    assert "unattainable: 20 negative rows" in one.reason
    assert "99 negative rows or more" in one.reason
    assert five.status == "attained"
    # As many negatives as the reason asks for are indeed enough, and one fewer is not.
    assert exact_threshold(np.arange(99.0), 0.01).value is not None
    assert exact_threshold(np.arange(98.0), 0.01).value is None
    assert exact_threshold(np.empty(0), 0.5).value is None


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 5, float("nan")])
def test_a_rate_outside_its_range_is_refused(rate):
    with pytest.raises(EvidenceError, match="false-positive rate"):
        exact_threshold(np.arange(10.0), rate)


# --- calibration and test rows apart


def test_counts_and_intervals_are_those_of_the_held_out_rows():
    rng = np.random.default_rng(4)
    cal, test = rng.normal(size=300), rng.normal(size=500)
    y = np.repeat([0, 1], [300, 200])
    test = test + 1.5 * y
    (point,) = recall_at_fpr(cal, np.zeros(300), test, y, (0.05,))
    fired = test > np.sort(cal)[-15]
    assert (point.unit, point.n_negatives, point.n_positives) == ("row", 300, 200)
    assert (point.n_false, point.n_hits) == (fired[y == 0].sum(), fired[y == 1].sum())
    golden = scipy.stats.binomtest(point.n_hits, 200).proportion_ci(method="exact")
    assert (point.recall.low, point.recall.high) == pytest.approx((golden.low, golden.high))
    golden = scipy.stats.binomtest(point.n_false, 300).proportion_ci(method="exact")
    assert (point.realised.low, point.realised.high) == pytest.approx((golden.low, golden.high))
    # P(N(1.5, 1) > Φ⁻¹(.95)) = .442, at a threshold that is itself drawn.
    assert point.recall.low < 0.442 < point.recall.high


def test_mean_realised_rate_over_many_draws_is_at_most_the_asked_one():
    rng = np.random.default_rng(5)
    rates = []
    for _ in range(400):
        (point,) = recall_at_fpr(rng.normal(size=45), np.zeros(45), rng.normal(size=200), np.zeros(200), (0.1,))
        rates.append(point.realised.value)
    assert np.mean(rates) == pytest.approx(4 / 46, abs=4 * np.std(rates) / 20)
    assert np.mean(rates) < 0.1


def test_a_class_that_the_held_out_rows_lack_gives_nan_and_a_reason():
    (point,) = recall_at_fpr(np.arange(30.0), np.zeros(30), np.arange(5.0), np.zeros(5), (0.1,))
    assert np.isnan([point.recall.value, point.recall.low, point.recall.high]).all()
    assert point.realised.value == 0
    assert point.reason == "the held-out rows hold no positives"
    (point,) = recall_at_fpr(np.arange(30.0), np.zeros(30), np.arange(5.0), np.ones(5), (0.1,))
    assert np.isnan([point.realised.value, point.row_rate]).all()
    assert point.reason == "the held-out rows hold no negatives"


def draw_types(rng, n_types, n_rows):
    """Negatives of types whose rows share most of their score."""
    return (rng.normal(size=n_types)[:, None] + 0.3 * rng.normal(size=(n_types, n_rows))).ravel()


def test_the_rate_of_groups_holds_where_negatives_come_in_groups():
    rng = np.random.default_rng(6)
    groups = (np.repeat(np.arange(39), 8), np.repeat(np.arange(100, 150), 8))
    by_group, by_row = [], []
    for _ in range(300):
        cal, test = draw_types(rng, 39, 8), draw_types(rng, 50, 8)
        (point,) = recall_at_fpr(cal, np.zeros(312), test, np.zeros(400), (0.1,), groups)
        assert (point.unit, point.threshold.n_negatives, point.n_negatives) == ("group", 39, 50)
        by_group.append(point.realised.value)
        by_row.append(point.row_rate)
    assert np.mean(by_group) == pytest.approx(4 / 40, abs=4 * np.std(by_group) / np.sqrt(300))
    assert np.mean(by_row) < np.mean(by_group)


def test_many_rows_of_few_groups_cannot_reach_a_small_rate():
    rng = np.random.default_rng(7)
    groups = np.repeat(np.arange(18), 25)
    scores, y = draw_types(rng, 18, 25), (groups < 9).astype(float)
    rows, grouped = (cross_fitted_recall(scores, y, groups % 3, (0.05,), g)[0] for g in (None, groups))
    assert rows.status == "attained"
    assert grouped.status == "unattainable"
    assert "6 negative groups" in grouped.reason


def test_pairs_with_one_negative_each_count_rows():
    groups = np.tile(np.arange(60), 2)
    scores = np.concatenate([np.arange(60.0), np.arange(60.0) + 5])
    (point,) = cross_fitted_recall(scores, np.repeat([0, 1], 60), groups % 3, (0.1,), groups)
    assert point.unit == "row"
    assert point.n_effective == pytest.approx(60)


def test_recall_of_grouped_positives_has_the_interval_of_the_groups():
    groups = np.concatenate([np.arange(50), np.repeat(np.arange(100, 110), 20)])
    scores = np.concatenate([np.zeros(50), np.repeat([1.0] * 7 + [-1.0] * 3, 20)])
    y = np.repeat([0, 1], [50, 200])
    (point,) = recall_at_fpr(np.zeros(30), np.zeros(30), scores, y, (0.1,), (np.arange(200, 230), groups))
    golden = scipy.stats.binomtest(7, 10).proportion_ci(method="exact")
    assert (point.recall.value, point.n_hits, point.n_positives) == (pytest.approx(0.7), 140, 200)
    assert (point.recall.low, point.recall.high) == pytest.approx((golden.low, golden.high))


def test_a_group_on_both_sides_or_in_two_folds_is_refused():
    y = np.zeros(4)
    with pytest.raises(EvidenceError, match="'b' among them, stand in both"):
        recall_at_fpr(y, y, y, y, (0.5,), (np.array(list("aabb")), np.array(list("bccd"))))
    with pytest.raises(EvidenceError, match="more than one fold"):
        cross_fitted_recall(y, y, np.array([0, 1, 0, 1]), (0.5,), np.array(list("aabb")))


# --- cross-fitted


def cross_data(seed=8, n=400):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat([0.0, 1.0], n // 2))
    return rng.normal(size=n) + 1.5 * y, y, make_folds(y, None, 5, stratify=True, seed=seed)


def test_the_threshold_of_a_fold_comes_from_the_negatives_of_the_others():
    scores, y, fold = cross_data()
    (point,) = cross_fitted_recall(scores, y, fold, (0.05,))
    hits = false = 0
    for k in range(5):
        negatives = np.sort(scores[(fold != k) & (y == 0)])
        rank = int(0.05 * (len(negatives) + 1))
        threshold = negatives[-rank]
        assert point.fold_thresholds[k].value == threshold
        hits += (scores[(fold == k) & (y == 1)] > threshold).sum()
        false += (scores[(fold == k) & (y == 0)] > threshold).sum()
    assert (point.n_hits, point.n_false) == (hits, false)
    assert (point.n_positives, point.n_negatives) == (200, 200)
    assert point.threshold.value == np.sort(scores[y == 0])[-10]


def test_no_score_of_a_fold_moves_its_own_threshold():
    scores, y, fold = cross_data()
    moved = np.where(fold == 2, scores * 3 + 7, scores)
    flipped = np.where(fold == 2, 1 - y, y)
    before = cross_fitted_recall(scores, y, fold, (0.05,))[0].fold_thresholds
    for changed in (
        cross_fitted_recall(moved, y, fold, (0.05,))[0],
        cross_fitted_recall(scores, flipped, fold, (0.05,))[0],
    ):
        assert changed.fold_thresholds[2] == before[2]
        assert changed.fold_thresholds[1] != before[1]


def test_ties_do_not_fire_in_cross_fitting_either():
    y, fold = np.repeat([0, 1], 40), np.tile([0, 1], 40)
    (point,) = cross_fitted_recall(np.ones(80), y, fold, (0.1,))
    assert (point.n_false, point.n_hits, point.recall.value) == (0, 0, 0)


def test_the_mean_cross_fitted_rate_is_at_most_the_asked_one():
    rates = []
    for seed in range(60):
        scores, y, fold = cross_data(seed, 200)
        rates.append(cross_fitted_recall(scores, y, fold, (0.1,))[0].realised.value)
    assert 0.08 < np.mean(rates) <= 0.1


def test_folds_of_different_scale_show_in_the_realised_rate():
    scores, y, fold = cross_data()
    wide = np.where(fold == 0, 20 * scores, scores)
    same, apart = (cross_fitted_recall(s, y, fold, (0.05,))[0] for s in (scores, wide))
    assert same.realised.low <= 0.05
    assert apart.realised.low > 0.05


def test_one_fold_that_cannot_hold_the_rate_makes_it_unattainable():
    y = np.array([0] * 30 + [1] * 30)
    fold = np.concatenate([np.repeat([0, 1], [25, 5]), np.arange(30) % 2])
    (point,) = cross_fitted_recall(np.arange(60.0), y, fold, (0.1,))
    # Fold 0 has the five negatives of fold 1 to go by.
    assert point.status == "unattainable"
    assert point.threshold.n_negatives == 5


@pytest.mark.parametrize(
    ("scores", "y", "fold", "message"),
    [
        ([1.0, np.nan], [0, 1], [0, 1], "not finite"),
        ([1.0, 2.0], [0, 2], [0, 1], "other than 0 and 1"),
        ([1.0, 2.0], [0, np.nan], [0, 1], "other than 0 and 1"),
        ([1.0, 2.0, 3.0], [0, 1], [0, 1], "3 scores and 2 targets"),
        ([[1.0, 2.0]], [0], [0], "one binary column"),
        ([1.0, 2.0], [0, 1], [0, 0], "fewer than 2 folds"),
        ([1.0, 2.0], [0, 1], [0, -1], "negative fold"),
        ([1.0, 2.0], [0, 1], [0], "folds of shape"),
    ],
)
def test_rows_that_cannot_be_judged_are_refused(scores, y, fold, message):
    with pytest.raises(EvidenceError, match=message):
        cross_fitted_recall(np.array(scores), np.array(y), np.array(fold), (0.5,))
