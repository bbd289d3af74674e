"""Intervals over examples: against closed forms, SciPy, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from leadline.causal.intervals import difference_interval, mean_interval, paired, ratio_interval
from leadline.errors import CausalError
from leadline.probes.intervals import Estimate


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng([611, *seed])


def test_without_groups_a_mean_has_students_interval() -> None:
    x = rng(1).normal(2, 3, size=(4, 25))
    found = mean_interval(x)
    for row, value in enumerate(x):
        low, high = stats.t.interval(0.95, df=24, loc=value.mean(), scale=stats.sem(value))
        assert found[row] == Estimate(pytest.approx(value.mean()), pytest.approx(low), pytest.approx(high))
    np.testing.assert_allclose(found.error, (found.high - found.low) / 2)


def test_rows_copied_within_a_group_add_nothing() -> None:
    x = rng(2).normal(size=12)
    once = mean_interval(x).estimate()
    copied = mean_interval(np.repeat(x, 5), np.repeat(np.arange(12), 5)).estimate()
    assert (copied.value, copied.low, copied.high) == pytest.approx((once.value, once.low, once.high))
    # As rows of their own they would pretend to be sixty.
    naive = mean_interval(np.repeat(x, 5)).estimate()
    assert naive.high - naive.low < 0.5 * (once.high - once.low)


def test_the_order_of_rows_and_the_names_of_groups_do_not_matter() -> None:
    x, groups = rng(3).normal(size=(2, 30)), rng(3).integers(7, size=30)
    order = rng(4).permutation(30)
    a, b = mean_interval(x, groups), mean_interval(x[:, order], np.array([f"g{g}" for g in groups])[order])
    np.testing.assert_allclose([a.low, a.high], [b.low, b.high])


def test_scaling_and_shifting_go_through() -> None:
    x, groups = rng(5).normal(size=40), np.arange(40) // 4
    a, b = mean_interval(x, groups).estimate(), mean_interval(3 * x - 1, groups).estimate()
    assert (b.value, b.low, b.high) == pytest.approx((3 * a.value - 1, 3 * a.low - 1, 3 * a.high - 1))
    y = rng(6).normal(size=40)
    assert paired(x, y, groups).estimate() == mean_interval(x - y, groups).estimate()


def test_a_ratio_of_a_constant_denominator_is_the_mean() -> None:
    x, groups = rng(7).normal(3, 1, size=(2, 40)), np.arange(40) // 4
    a, b = ratio_interval(x, np.full(40, 2.0), groups), mean_interval(x / 2, groups)
    for one, other in ((a.value, b.value), (a.low, b.low), (a.high, b.high)):
        np.testing.assert_allclose(one, other)
    exact = ratio_interval(2.5 * x[0], x[0], groups).estimate()
    assert (exact.value, exact.low, exact.high) == pytest.approx((2.5, 2.5, 2.5))
    assert np.isnan(ratio_interval(np.ones(5), np.array([1, -1, 1, -1, 0])).value)


def test_a_difference_of_classes_is_welchs_up_to_its_degrees_of_freedom() -> None:
    x, y = rng(8).normal(size=50), (np.arange(50) % 5 < 2).astype(float)
    found = difference_interval(x, y).estimate()
    one, zero = x[y == 1], x[y == 0]
    assert found.value == pytest.approx(one.mean() - zero.mean())
    # Squared residuals over n squared, with n of the class.
    spread = np.sqrt(50 / 49 * (np.var(one) / len(one) + np.var(zero) / len(zero)))
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 49) * spread)
    # Pairs that share an error have it cancelled.
    common = np.repeat(rng(9).normal(size=25), 2) * 100
    of_pair = np.tile([1.0, 0.0], 25)
    shared = difference_interval(x + common, of_pair, np.arange(50) // 2).estimate()
    alone = difference_interval(x, of_pair, np.arange(50) // 2).estimate()
    assert (shared.low, shared.high) == pytest.approx((alone.low, alone.high))


@pytest.mark.parametrize("kind", ["mean", "ratio", "difference"])
def test_the_truth_is_inside_as_often_as_is_said(kind) -> None:
    """2,000 draws of 20 groups of unequal size whose rows share an error; binomial error is 0.5 points."""
    held = []
    codes = np.repeat(np.arange(20), rng(10).integers(1, 9, size=20))
    n = len(codes)
    for draw in range(2000):
        r = rng(11, draw)
        x = 1 + r.normal(size=20)[codes] + r.normal(size=n)
        if kind == "mean":
            found, truth = mean_interval(x, codes), 1.0
        elif kind == "ratio":
            b = 5 + r.normal(size=20)[codes] + r.normal(size=n)
            found, truth = ratio_interval(x, b, codes), 1 / 5
        else:
            y = (np.arange(n) % 2).astype(float)
            found, truth = difference_interval(x + 2 * y, y, codes), 2.0
        held.append(found.low <= truth <= found.high)
    assert 0.925 < np.mean(held) < 0.97
    if kind == "mean":
        naive = []
        for draw in range(500):
            r = rng(11, draw)
            found = mean_interval(1 + r.normal(size=20)[codes] + r.normal(size=n))
            naive.append(found.low <= 1 <= found.high)
        assert np.mean(naive) < 0.85


def test_rows_that_share_a_group_on_either_side_err_together() -> None:
    groups, partners, x = rng(11).permutation(30) % 8, rng(12).integers(8, size=30), rng(13).normal(size=(2, 30))
    same = groups[:, None] == groups
    shares = same | (groups[:, None] == partners) | (partners[:, None] == groups) | (partners[:, None] == partners)

    def error(psi: np.ndarray) -> float:
        return float(stats.t.ppf(0.975, 7) * np.sqrt(max(psi @ shares @ psi, psi @ same @ psi) * 8 / 7))

    found = mean_interval(x, groups, partners)
    assert found.error.tolist() == pytest.approx([error((row - row.mean()) / 30) for row in x])
    a, b = x[0], x[1] + 5
    ratio = ratio_interval(a, b, groups, partners)
    assert float(ratio.error) == pytest.approx(error((a - ratio.value * b) / b.sum()))
    # Exchanged within its group, a row errs with that group alone.
    np.testing.assert_allclose(mean_interval(x, groups, groups).error, mean_interval(x, groups).error)
    names = np.array([f"g{i}" for i in range(8)])
    np.testing.assert_allclose(mean_interval(x, names[groups], names[partners]).error, found.error)
    with pytest.raises(CausalError, match="partners of shape"):
        mean_interval(x, None, partners)


def test_exchanges_with_partners_hold_the_truth_as_often_as_is_said() -> None:
    draw, n, n_draws = rng(14), 60, 1500
    groups, held = np.arange(n), np.zeros(2)
    for _ in range(n_draws):
        y, values = draw.permutation(np.arange(n) % 2), draw.normal(size=n)
        partner = np.array([draw.choice(np.flatnonzero(y != label)) for label in y])
        moved = (1 - 2 * y) * (values[partner] - values)
        for i, found in enumerate((mean_interval(moved, groups), mean_interval(moved, groups, groups[partner]))):
            held[i] += found.low <= 0 <= found.high
    plain, dyadic = held / n_draws
    assert plain < 0.85
    assert 0.91 < dyadic < 0.97


def test_two_groups_carry_no_interval_and_nonsense_is_refused() -> None:
    found = mean_interval(np.arange(6.0), np.array([0, 0, 0, 1, 1, 1])).estimate()
    assert found.value == 2.5
    assert np.isnan([found.low, found.high]).all()
    with pytest.raises(CausalError, match="groups of shape"):
        mean_interval(np.arange(6.0), np.arange(5))
    with pytest.raises(CausalError, match="n over 0"):
        mean_interval(np.empty((3, 0)))
    with pytest.raises(CausalError, match="difference of classes"):
        difference_interval(np.arange(4.0), np.ones(4))
    with pytest.raises(CausalError, match="Take one by its index"):
        mean_interval(np.ones((2, 5))).estimate()
