"""Online codes against codes by hand and by scikit-learn, theorems about what they may know, and planted concepts."""

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from leadline.errors import EvidenceError, ProbeError
from leadline.evidence.codelength import code_length
from leadline.evidence.learning_curve import MIN_ROWS, CurvePoint, draw_orders, rows_to_reach
from leadline.evidence.prequential import OnlineCode
from leadline.probes.elastic_net import SparseLogistic
from leadline.probes.intervals import Estimate
from leadline.probes.k_sparse import KSparse
from leadline.probes.lda import LDA
from leadline.probes.logistic import Logistic
from leadline.probes.losses import probabilities_of
from leadline.probes.mean_difference import MeanDifference
from leadline.probes.multinomial import Multinomial
from leadline.probes.ordinal import Ordinal
from leadline.probes.ridge import Ridge

QUARTERS = (0.125, 0.25, 0.5, 1.0)


def planted(n=320, d=6, seed=0, n_classes=2, noise=0.3):
    """Activations whose first coordinates hold the classes (multi: by argmax; two: by sign), and binary codes."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + 3 * rng.normal(size=d)
    centred = X - X.mean(axis=0) + noise * rng.normal(size=X.shape)
    y = centred[:, 0] > 0 if n_classes == 2 else centred[:, :n_classes].argmax(axis=1)
    return X, y.astype(float)[:, None]


def levels(X, n_classes=4, noise=0.2, seed=0):
    z = X[:, 0] + noise * np.random.default_rng(seed).normal(size=len(X))
    return np.searchsorted(np.quantile(z, np.arange(1, n_classes) / n_classes), z).astype(float)[:, None]


def smoothed(past, n_classes):
    return (np.bincount(past.astype(int), minlength=n_classes) + 0.5) / (len(past) + 0.5 * n_classes)


# By hand and by brute force


@pytest.mark.parametrize(("kind", "n_classes", "family"), [("binary", 2, Logistic()), ("multiclass", 3, Multinomial())])
def test_the_first_portion_is_uniform_and_the_second_is_the_prior(kind, n_classes, family):
    X, Y = planted(n=24, n_classes=n_classes)
    found = code_length(family, X, Y, kind, portions=(0.5, 1.0), n_orders=3, random=False, seed=5)
    assert found.uniform_bits == pytest.approx(24 * np.log2(n_classes))
    for order, code in zip(draw_orders(None, 24, (0.5, 1.0), 3, 5), found.orders, strict=True):
        past, own = Y[order.rows[:12], 0], Y[order.rows[12:], 0].astype(int)
        second = -np.log2(smoothed(past, n_classes)[own]).sum()
        np.testing.assert_allclose(code.bits, [12 * np.log2(n_classes), second])
        np.testing.assert_allclose(code.prior_bits, code.bits)
    totals = [code.bits.sum() for code in found.orders]
    assert (found.bits.value, found.bits.low, found.bits.high) == (np.mean(totals), min(totals), max(totals))
    assert found.compression.value == pytest.approx(found.uniform_bits / np.mean(totals))
    assert found.compression.high == pytest.approx(found.uniform_bits / min(totals))


def reference(X, Y, order, grid, n_classes, choice):
    """Bits of each portion by scikit-learn; the penalty by the code so far, the prior among them and first."""
    so_far = np.zeros(1 + len(grid))
    bits = [order.ends[0] * np.log2(n_classes)]
    for start, end in zip(order.ends, order.ends[1:]):
        past, own = order.rows[:start], order.rows[start:end]
        y, target = Y[past, 0], Y[own, 0].astype(int)
        losses = [-np.log2(smoothed(y, n_classes)[target]).sum()]
        scaler = StandardScaler().fit(X[past])
        for l2 in grid:
            model = LogisticRegression(C=1 / (len(past) * l2), tol=1e-10, max_iter=10_000)
            model.fit(scaler.transform(X[past]), y)
            chances = model.predict_proba(scaler.transform(X[own]))
            losses.append(-np.log2(chances[np.arange(len(own)), target]).sum())
        losses = np.array(losses)
        if choice == "leader":
            bits.append(losses[np.argmin(so_far)])
        else:
            weights = 2.0 ** -(so_far - so_far.min())
            bits.append(-np.log2((weights / weights.sum()) @ 2.0**-losses))
        so_far += losses
    return np.array(bits)


@pytest.mark.parametrize("choice", ["leader", "mixture"])
@pytest.mark.parametrize(("kind", "n_classes", "make"), [("binary", 2, Logistic), ("multiclass", 3, Multinomial)])
def test_the_code_is_that_of_refits_by_scikit_learn(kind, n_classes, make, choice):
    X, Y = planted(n=160, d=4, n_classes=n_classes, noise=1.0)
    grid = (1.0, 0.1, 0.01)
    family = make(l2=grid, tolerance=1e-9)
    found = code_length(family, X, Y, kind, portions=QUARTERS, n_orders=3, choice=choice, random=False, seed=1)
    probes = 0
    for order, code in zip(draw_orders(None, 160, QUARTERS, 3, 1), found.orders, strict=True):
        np.testing.assert_allclose(code.bits, reference(X, Y, order, grid, n_classes, choice), rtol=2e-4)
        probes += code.by_probe.sum()
    assert probes >= 5


def test_ordinal_labels_are_coded_by_the_probabilities_between_two_thresholds():
    X, _ = planted(n=200, d=4)
    Y = levels(X)
    family = Ordinal(l2=0.01)
    found = code_length(family, X, Y, "ordinal", portions=QUARTERS, n_orders=2, random=False)
    for order, code in zip(draw_orders(None, 200, QUARTERS, 2, 0), found.orders, strict=True):
        assert code.by_probe[3]
        past, own = order.rows[: order.ends[2]], order.rows[order.ends[2] :]
        fit = family.fit_site(X[past], Y[past], np.full(len(past), -1))
        chances = probabilities_of("ordinal_log_loss", X[own] @ fit.coef[0].T + fit.intercept[0])
        expected = -np.log2(chances[np.arange(len(own)), Y[own, 0].astype(int)]).sum()
        assert code.bits[3] == pytest.approx(expected)


# Theorems


@pytest.mark.parametrize(
    ("kind", "family"), [("multiclass", Multinomial(l2=0.01)), ("ordinal", Ordinal(l2=0.01)), ("binary", Logistic())]
)
@pytest.mark.parametrize("seen", [(0, 1, 2, 3), (0, 2), (1, 2), (1, 3), (0, 3), (2,)])
@pytest.mark.parametrize("choice", ["leader", "mixture"])
def test_the_chances_of_all_classes_sum_to_one_whatever_the_past_lacks(kind, family, seen, choice):
    n_classes = 2 if kind == "binary" else 4
    rng = np.random.default_rng(0)
    y = np.array([c % n_classes for c in seen])[rng.integers(len(seen), size=40)]
    X = rng.normal(size=(42, 3)) + y.mean()
    X[:40, 0] += 2 * y
    chances = []
    for c in range(n_classes):
        code = OnlineCode(kind, n_classes, family, choice)
        code.begin(10)
        for past, own in ((20, np.arange(20, 40)), (40, np.array([40]))):
            codes = np.append(y, c).astype(float)[:, None]
            wanted = code.prepare(codes[:past])
            fitted = None
            if wanted is not None:
                fit = family.fit_site(X[:past], wanted, np.full(past, -1))
                fitted = fit.settings, np.stack([X[own] @ w.T + b for w, b in zip(fit.coef, fit.intercept)])
            judged = code.code(fitted, codes[own])
            assert judged.shape == (len(own), {"binary": 1, "multiclass": 4, "ordinal": 3}[kind])
        chances.append(2 ** -code.bits[-1])
    assert sum(chances) == pytest.approx(1)
    assert code.by_probe[-1] == (len(set(y)) > 1)


@pytest.mark.parametrize("choice", ["leader", "mixture"])
def test_labels_to_come_change_nothing_in_the_code_of_earlier_portions(choice):
    X, Y = planted(n=200, noise=0.8)
    order = draw_orders(None, 200, QUARTERS, 1, 0)[0]
    other = Y.copy()
    later = order.rows[order.ends[2] :]
    other[later] = 1 - other[later]
    options = {"portions": QUARTERS, "n_orders": 1, "choice": choice, "random": False}
    one, two = (code_length(Logistic(), X, y, "binary", **options).orders[0] for y in (Y, other))
    np.testing.assert_array_equal(one.bits[:3], two.bits[:3])
    # The penalty of the last portion was settled before it, and the flipped labels pay for it.
    np.testing.assert_array_equal(one.setting, two.setting)
    assert one.by_probe[3]
    assert two.bits[3] > one.bits[3] + 15


@pytest.mark.parametrize("seed", range(4))
def test_a_mixture_exceeds_the_prior_by_the_logarithm_of_the_settings_at_most(seed):
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(300, 80)), rng.integers(2, size=(300, 1)).astype(float)
    found = code_length(Logistic(), X, Y, "binary", choice="mixture", random=False, seed=seed)
    for code in found.orders:
        assert code.bits.sum() <= code.prior_bits.sum() + np.log2(1 + len(Logistic().grid)) + 1e-9


def test_groups_stand_in_one_portion_and_portions_have_rows_enough():
    rng = np.random.default_rng(0)
    groups = rng.choice(40, p=rng.dirichlet(np.ones(40)), size=600)
    orders = draw_orders(groups, 600, (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0), 20, 3)
    for order in orders:
        assert sorted(order.rows) == list(range(600))
        assert order.ends[-1] == 600
        assert (np.diff(order.ends[:-1], prepend=0) >= MIN_ROWS).all()
        assert len(order.ends) == len(order.share) >= 3
        portion = np.searchsorted(order.ends, np.arange(600), side="right")
        for g in set(groups):
            assert len(set(portion[groups[order.rows] == g])) == 1
    assert len({tuple(order.rows) for order in orders}) == 20


def test_a_cut_stands_at_the_border_of_groups_nearest_to_its_share():
    order = draw_orders(np.repeat(["a", "b", "c", "d"], 25), 100, (0.1, 0.3, 0.45, 0.7, 1.0), 1, 0)[0]
    # .1 and .3 are both nearest to the border at 25, so that they are one.
    assert order.ends.tolist() == [25, 50, 75, 100]
    assert order.share.tolist() == [0, 2, 3, 4]


def test_a_seed_decides_everything():
    X, Y = planted(n=120)
    one, again, other = (code_length(Logistic(), X, Y, "binary", seed=s, n_orders=2) for s in (1, 1, 2))
    assert repr(one) == repr(again)
    assert one.bits != other.bits
    assert one.random_bits != other.random_bits


# Planted concepts


@pytest.mark.parametrize(
    ("kind", "family", "n_classes"),
    [("binary", Logistic(), 2), ("binary", LDA(), 2), ("multiclass", Multinomial(), 4), ("ordinal", Ordinal(), 4)],
)
def test_a_clean_concept_is_short_and_random_labels_are_as_long_as_the_prior(kind, family, n_classes):
    X, Y = planted(n=400, d=16, n_classes=n_classes, noise=0.05)
    if kind == "ordinal":
        Y = levels(X, noise=0.05)
    found = code_length(family, X, Y, kind, n_orders=3, n_shuffles=2)
    assert found.compression.low > 1.7
    assert found.bits.low <= found.bits.value <= found.bits.high < found.entropy_bits < found.prior_bits.low
    ratio = np.array([code.random_bits / code.random_prior_bits for code in found.orders])
    assert ratio.shape == (3, 2)
    # Whichever setting random labels happen to favour early, the next portions pay for.
    assert 0.98 < ratio.min() <= ratio.mean() < 1.02
    assert ratio.max() < 1.06
    assert found.gap.value == pytest.approx((found.random_bits.value - found.bits.value) / 400)
    assert found.gap.low > 0.4 * np.log2(n_classes)
    assert found.scheme
    assert not found.reason
    values = [point.metric.value for point in found.curve]
    assert values[-1] > 0.93
    assert np.isfinite(found.rows_to_reach())
    assert found.curve[-1].bits_per_label.value < found.curve[0].bits_per_label.value
    assert found.curve[-1].n_train == 200


def test_labels_without_a_concept_do_not_compress_and_have_no_gap():
    rng = np.random.default_rng(3)
    X, Y = rng.normal(size=(400, 40)), (rng.random((400, 1)) < 0.2).astype(float)
    found = code_length(Logistic(), X, Y, "binary")
    # Against uniform coding a rare class compresses; against the prior's entropy nothing does.
    assert found.compression.low > 1.2
    assert found.compression_prior.high < 1.02
    assert found.gap.low < 0.02
    assert found.bits.value < 1.03 * found.prior_bits.value


def test_labels_that_are_the_groups_own_compress_by_rows_and_not_by_groups():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    own = rng.normal(size=(40, 60))
    X = own[groups] + 0.1 * rng.normal(size=(400, 60))
    Y = rng.permutation(np.repeat([0.0, 1.0], 20))[groups][:, None]
    by_rows = code_length(Logistic(), X, Y, "binary", random=False)
    by_groups = code_length(Logistic(), X, Y, "binary", groups)
    assert by_rows.compression.low > 1.5
    assert by_groups.compression.value < 1.1
    assert by_groups.compression.value < by_rows.compression.low - 0.4
    # The shuffles move whole groups: within a group nothing varies, and labels at random cost as much.
    assert "whole groups" in by_groups.scheme
    assert abs(by_groups.gap.value) < 0.15


def test_duplicates_in_a_group_teach_nothing_that_one_of_them_does_not():
    rng = np.random.default_rng(1)
    X, Y = rng.normal(size=(160, 100)), rng.integers(2, size=(160, 1)).astype(float)
    twice = np.repeat(np.arange(160), 2)
    options = {"portions": (0.1, 0.25, 0.5, 1.0), "choice": "mixture", "random": False}
    one = code_length(Logistic(), X, Y, "binary", **options)
    grouped = code_length(Logistic(), X[twice], Y[twice], "binary", twice, **options)
    loose = code_length(Logistic(), X[twice], Y[twice], "binary", **options)
    # A half-row of smoothing weighs half as much among twice the rows, which is all that differs.
    assert grouped.bits_per_label.value == pytest.approx(one.bits_per_label.value, abs=0.02)
    assert loose.bits_per_label.value < one.bits_per_label.value - 0.05


def test_a_continuous_target_has_a_curve_and_no_code():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 10))
    Y = X[:, :2] * [1, 100] + rng.normal(size=(400, 2)) * [0.3, 30]
    found = code_length(Ridge(), X, Y, "continuous")
    assert "continuous" in found.reason
    for figure in (found.bits, found.compression, found.gap, found.random_bits):
        assert np.isnan([figure.value, figure.low, figure.high]).all()
    assert np.isnan(found.uniform_bits)
    values = [point.metric.value for point in found.curve]
    assert found.metric == "r2"
    # R² of the truth is 1/1.09.
    assert values[-1] == pytest.approx(1 / 1.09, abs=0.03)
    assert values[0] < values[-1]
    assert np.isnan([point.bits_per_label.value for point in found.curve]).all()
    assert 0 < found.rows_to_reach(0.5) <= found.rows_to_reach(0.9) <= 200


# What a family may be


@pytest.mark.parametrize("family", [Ridge(), MeanDifference()])
def test_scores_that_are_no_log_odds_are_coded_by_the_likelihood_of_the_kind(family):
    X, Y = planted(n=120)
    found = code_length(family, X, Y, "binary", n_orders=2)
    expected = code_length(Logistic(), X, Y, "binary", n_orders=2)
    assert found.bits == expected.bits
    assert found.family == "logistic"
    assert "no log odds" in found.notes[0]
    assert not expected.notes
    many = code_length(family, X, levels(X), "ordinal", n_orders=2, random=False)
    assert many.family == "ordinal"
    assert "stands in" in many.notes[0]


def test_weights_that_tilt_the_chances_are_left_out():
    X, Y = planted(n=120)
    found = code_length(Logistic(class_weight=(1.0, 9.0)), X, Y, "binary", n_orders=2)
    assert found.bits == code_length(Logistic(), X, Y, "binary", n_orders=2).bits
    assert "class weights" in found.notes[0]


@pytest.mark.parametrize("family", [SparseLogistic(), KSparse()])
def test_families_that_choose_features_code_by_their_own_log_odds(family):
    X, Y = planted(n=200, d=12, noise=0.05)
    found = code_length(family, X, Y, "binary", n_orders=2)
    assert found.family == family.name
    assert found.compression.low > 1.5
    assert found.random_bits.value > 1.3 * found.bits.value
    # Nothing is changed without a word: of a derived grid, what takes minutes on shuffled labels is left out.
    assert [("l1" in note) for note in found.notes] == [True] * isinstance(family, SparseLogistic)
    settings = np.concatenate([code.setting[code.by_probe] for code in found.orders])
    assert len(settings)
    assert np.isfinite(settings).all()


@dataclass(frozen=True)
class Timid(Logistic):
    """Refuses a past of few rows, and columns together."""

    def fit_site(self, X, Y, fold, *, weights=None):
        if len(X) < 60 or Y.shape[1] > 1:
            raise ProbeError("too few")
        return super().fit_site(X, Y, fold, weights=weights)


def test_a_past_that_a_family_refuses_is_coded_by_the_prior_and_said():
    X, Y = planted(n=200)
    found = code_length(Timid(), X, Y, "binary", portions=QUARTERS, n_orders=2)
    plain = code_length(Logistic(), X, Y, "binary", portions=QUARTERS, n_orders=2)
    # Two orders, two pasts below 60 rows, the labels and their shuffle; together they were refused, and each again.
    assert "8 fits were refused" in found.notes[0]
    assert "25 rows: too few" in found.notes[0]
    for own, other in zip(found.orders, plain.orders, strict=True):
        np.testing.assert_array_equal(own.bits, own.prior_bits)
        np.testing.assert_array_equal(own.prior_bits, other.prior_bits)
    # The last past was fitted column by column; the prior led before it, and the probe is judged all the same.
    assert [point.metric.value for point in found.curve[:2]] == [0.5, 0.5]
    assert found.curve[2].metric.value > 0.9


def test_what_cannot_be_coded_says_why():
    X, Y = planted(n=12)
    few = code_length(Logistic(), X, Y, "binary")
    assert "12 rows" in few.reason
    assert np.isnan(few.bits.value)
    assert few.curve == ()
    assert np.isnan(few.rows_to_reach())
    X, Y = planted(n=100)
    assert "1 groups" in code_length(Logistic(), X, Y, "binary", np.zeros(100)).reason
    for change in ({"kind": "nominal"}, {"Y": np.ones((100, 1))}, {"Y": Y[:50]}, {"Y": Y + 1}, {"X": X * np.nan}):
        with pytest.raises(EvidenceError):
            code_length(Logistic(), **({"X": X, "Y": Y, "kind": "binary"} | change))
    for option in (
        {"portions": (0.5,)}, {"portions": (0.5, 0.2, 1.0)}, {"n_orders": 0}, {"choice": "best"}, {"n_shuffles": 0},
    ):  # fmt: skip
        with pytest.raises(EvidenceError):
            code_length(Logistic(), X, Y, "binary", **option)


def test_a_class_without_rows_lengthens_the_uniform_code_alone():
    X, Y = planted(n=200, n_classes=3)
    found, more = (
        code_length(Multinomial(), X, Y, "multiclass", n_classes=c, n_orders=2, random=False) for c in (3, 4)
    )
    assert more.uniform_bits == 400
    assert more.entropy_bits == found.entropy_bits
    assert found.bits.value < more.bits.value < found.bits.value + 40


def test_rows_to_reach_is_where_the_metric_stays():
    curve = [CurvePoint(n, Estimate(m), Estimate(0.0)) for n, m in ((10, 0.87), (20, 0.7), (40, 0.86), (80, 0.9))]
    # 90% of .9 − .5 above .5 is .86.
    assert rows_to_reach(curve, 0.5) == 40
    assert rows_to_reach(curve, 0.5, 0.5) == 10
    assert rows_to_reach(curve, 0.5, 1.0) == 80
    assert np.isnan(rows_to_reach(curve, 0.5, 0.9, final=0.99))
    assert np.isnan(rows_to_reach(curve, 0.95))
    with pytest.raises(EvidenceError):
        rows_to_reach(curve, 0.5, 1.5)
