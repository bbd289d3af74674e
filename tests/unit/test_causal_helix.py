"""Turning a planted helix: from a number to another exactly, turns that add up, and what cannot be turned."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from leadline.causal.helix import HelixSubspace
from leadline.errors import CausalError
from leadline.probes.periodic import NUMBERS, Helix
from leadline.sites import Site

NUMBERS_FITTED = np.arange(100.0)


def plant(values: np.ndarray, periods=NUMBERS, linear=True, d=40, seed=0) -> tuple[np.ndarray, np.ndarray]:
    """Numbers written along random directions (not orthogonal), plus what stands at right angles to all of them."""
    rng = np.random.default_rng([seed, 1])
    basis = Helix(periods, linear).basis(values)
    scale = np.array([0.02] * linear + [1.0] * 2 * len(periods))
    write = rng.normal(size=(basis.shape[1], d)) * scale[:, None]
    other = rng.normal(size=(len(values), d))
    other -= other @ np.linalg.pinv(write) @ write
    return basis @ write + 5, other


@pytest.fixture(scope="module")
def planted():
    X, other = plant(NUMBERS_FITTED)
    return HelixSubspace.fit(X, NUMBERS_FITTED), X, other


def test_a_turn_moves_a_number_to_another_exactly(planted):
    helix, X, other = planted
    for step in (1, 7, 30, 99):
        h = X[: 100 - step] + other[: 100 - step]
        np.testing.assert_allclose(helix.rotate(h, by=step), X[step:] + other[: 100 - step], atol=1e-7)
        np.testing.assert_allclose(helix.rotate(X[step:], by=-step), X[:-step], atol=1e-7)


def test_turns_add_up_and_a_common_period_returns(planted):
    helix, _, _ = planted
    h = np.random.default_rng(2).normal(size=(20, 40)) * 3
    np.testing.assert_allclose(helix.rotate(helix.rotate(h, 4), 9), helix.rotate(h, 13), atol=1e-9)
    np.testing.assert_allclose(helix.rotate(helix.rotate(h, 17), -17), h, atol=1e-9)
    np.testing.assert_array_equal(helix.rotate(h, 0), h)
    circles = HelixSubspace.fit(plant(NUMBERS_FITTED, linear=False)[0], NUMBERS_FITTED, linear=False)
    np.testing.assert_array_equal(circles.rotate(h, 100), h)  # 100 is the least common multiple of 2, 5, 10 and 100
    assert np.abs(circles.rotate(h, 50) - h).max() > 0.1
    # With a line, a common period moves along the line alone.
    np.testing.assert_allclose(helix.rotate(h, 100) - h, np.tile(100 * helix.C[:, 0], (20, 1)), atol=1e-9)


def test_only_the_helix_subspace_moves(planted):
    helix, _, _ = planted
    h = np.random.default_rng(3).normal(size=(5, 40))
    basis = helix.basis
    assert basis.shape == (8, 40)  # a line, three circles, and half of the circle of period 2
    np.testing.assert_allclose(basis @ basis.T, np.eye(8), atol=1e-10)
    moved = helix.rotate(h, 3) - h
    np.testing.assert_allclose(moved @ basis.T @ basis, moved, atol=1e-9)
    assert np.abs(moved).max() > 0.1


def test_to_a_number_from_the_known_or_the_decoded_one(planted):
    helix, X, other = planted
    rows, targets = X[:90] + other[:90], np.random.default_rng(4).permutation(100)[:90].astype(float)
    np.testing.assert_array_equal(helix.decode(rows), NUMBERS_FITTED[:90])
    np.testing.assert_array_equal(helix.decode(rows[:3], candidates=np.array([0.2, 50.0])), [0.2, 0.2, 0.2])
    expected = X[targets.astype(int)] + other[:90]
    np.testing.assert_allclose(helix.rotate(rows, to=targets), expected, atol=1e-7)
    np.testing.assert_allclose(helix.rotate(rows, to=targets, current=NUMBERS_FITTED[:90]), expected, atol=1e-7)
    np.testing.assert_allclose(helix.rotate(rows[:4], to=7), X[[7] * 4] + other[:4], atol=1e-7)


def test_noise_leaves_the_turn_nearly_right():
    X, _ = plant(NUMBERS_FITTED)
    rng = np.random.default_rng(5)
    rows, numbers = np.tile(X, (5, 1)), np.tile(NUMBERS_FITTED, 5)
    noisy = rows + 0.05 * rng.normal(size=rows.shape)
    helix = HelixSubspace.fit(noisy, numbers)
    moved = helix.rotate(noisy[:60], by=23)
    assert np.sqrt(np.square(moved - X[23:83]).mean()) < 0.1
    assert (helix.decode(noisy) == numbers).mean() > 0.95
    assert (helix.decode(moved) == NUMBERS_FITTED[23:83]).mean() > 0.95


def test_half_a_circle_turns_by_half_periods_only(planted):
    helix, X, _ = planted
    assert helix.half == (2.0,)
    with pytest.raises(CausalError, match=r"period 2 only, which turns by multiples of 1; got a step of 0\.5"):
        helix.rotate(X, 0.5)
    whole = HelixSubspace.fit(plant(NUMBERS_FITTED / 4)[0], NUMBERS_FITTED / 4)
    assert whole.half == ()
    h = plant(NUMBERS_FITTED / 4)[0]
    np.testing.assert_allclose(whole.rotate(h[:-2], 0.5), h[2:], atol=1e-6)
    # Numbers off the axes of the circle: its one direction lies between cos and sin.
    odd = NUMBERS_FITTED + 0.1
    h, other = plant(odd)
    between = HelixSubspace.fit(h, odd)
    assert between.half == (2.0,)
    np.testing.assert_allclose(between.rotate(h[:-5] + other[:-5], 5), h[5:] + other[:-5], atol=1e-6)


def test_rounding_is_no_direction():
    rng = np.random.default_rng(6)
    C = rng.normal(size=(12, 3))
    C[:, 2] *= 1e-14  # what a fit by other means may leave of sin πa
    helix = HelixSubspace(C, np.zeros(12), Helix((2,)), np.arange(10))
    assert helix.half == (2.0,)
    assert helix.basis.shape == (2, 12)
    h = rng.normal(size=(4, 12))
    np.testing.assert_allclose(helix.rotate(h, 2) - h, np.tile(2 * C[:, 0], (4, 1)), atol=1e-9)


def test_every_row_has_its_own_step_and_the_type_is_kept(planted):
    helix, X, _ = planted
    steps = np.arange(10)
    expected = np.stack([helix.rotate(X[i : i + 1], by=s)[0] for i, s in enumerate(steps)])
    np.testing.assert_allclose(helix.rotate(X[:10], by=steps), expected)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-4), (torch.bfloat16, 0.2)):
        h = torch.from_numpy(X[:10]).to(dtype)
        before = h.clone()
        out = helix.rotate(h, by=torch.from_numpy(steps))
        assert out.dtype is dtype
        assert torch.equal(h, before)
        np.testing.assert_allclose(out.double().numpy(), expected, atol=tolerance)
        assert torch.equal(helix.rotate(h, by=0), h)
    assert helix.rotate(X.astype(np.float32), 1).dtype == np.float32


def test_a_fit_that_exists_is_taken_over(planted):
    helix, X, _ = planted
    fitted = Helix().fit(X, NUMBERS_FITTED, n_folds=0)
    taken = HelixSubspace.of(fitted, NUMBERS_FITTED, site="resid_post.3", label="the addend", model_fingerprint="abc")
    np.testing.assert_array_equal(taken.rotate(X, 3), helix.rotate(X, 3))
    assert (taken.site, taken.model_fingerprint) == (Site.parse("resid_post.3"), "abc")
    assert taken.describe() == "the helix of the addend (a line and periods 2, 5, 10, 100) at resid_post.3"
    assert taken.at(None).site is None


def test_what_cannot_be_turned_says_so(planted):
    helix, X, _ = planted
    tens = np.arange(0.0, 400, 10)
    circle = plant(NUMBERS_FITTED, (10,), linear=False)[0]
    two = plant(NUMBERS_FITTED, (7,), linear=False)[0]
    for call, message in (
        (lambda: helix.rotate(X[:, :5], 1), r"takes \(m, 40\)"),
        (lambda: helix.rotate(X), "give `by`"),
        (lambda: helix.rotate(X, 1, to=2), "give `by`"),
        (lambda: helix.rotate(X, np.arange(3)), "one a row"),
        (lambda: helix.rotate(X, np.nan), "finite"),
        (lambda: helix.decode(X, np.array([])), "one number or more"),
        (lambda: HelixSubspace.fit(plant(tens)[0], tens, periods=(10, 70)), "period 10, or the numbers"),
        (lambda: HelixSubspace.fit(circle, NUMBERS_FITTED, periods=(10,)), "no line along"),
        (lambda: HelixSubspace.fit(two, NUMBERS_FITTED, periods=(7, 7 / 6), linear=False), "periods coincide"),
        (lambda: HelixSubspace.fit(X, NUMBERS_FITTED, n_components=3), "more components"),
        (lambda: HelixSubspace(np.ones((4, 2)), np.ones(4), Helix((5,)), np.arange(3)), "expected"),
    ):
        with pytest.raises(CausalError, match=message):
            call()
