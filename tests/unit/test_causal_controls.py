"""Control directions: what they are drawn from, what they are matched to, and what a p-value of them means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from leadline.causal.controls import (
    KINDS,
    class_gap,
    family_of,
    halves,
    mean_difference,
    natural_shift,
    orthogonal_equal_variance,
    p_value,
    random_directions,
    shuffled_label_probe,
    within_classes,
)
from leadline.errors import CausalError
from leadline.probes import LDA, Logistic, MeanDifference, Probe, Ridge


def planted(seed: int = 0, n: int = 400, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Anisotropic rows of two classes that differ by 3 along a fixed vector."""
    rng = np.random.default_rng([seed, 1])
    y = (np.arange(n) % 2).astype(float)
    scales = np.exp(rng.normal(size=d))
    return rng.normal(size=(n, d)) * scales + np.outer(y, 3 * np.ones(d) / np.sqrt(d)) + 5, y


# ---- random directions


@pytest.mark.parametrize("kind", KINDS)
def test_random_directions_are_unit_and_the_seeds_own(kind) -> None:
    X, y = planted()
    drawn = random_directions(X, y, 50, kind=kind, seed=3)
    assert drawn.shape == (50, 12)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1)
    np.testing.assert_array_equal(drawn, random_directions(X, y, 50, kind=kind, seed=3))
    other = random_directions(X, y, 50, kind=kind, seed=4)
    assert np.abs(np.einsum("bd,bd->b", drawn, other)).max() < 0.9999


def test_isotropic_directions_prefer_no_dimension() -> None:
    drawn = random_directions(np.zeros((1, 5)), None, 20_000, seed=0)
    np.testing.assert_allclose(drawn.T @ drawn / len(drawn), np.eye(5) / 5, atol=0.01)


def test_covariance_directions_are_normal_draws_made_unit() -> None:
    X, y = planted()
    drawn = random_directions(X, y, 20_000, kind="covariance", seed=0)
    residual = X - np.where(y[:, None] == 1, X[y == 1].mean(0), X[y == 0].mean(0))
    g = np.random.default_rng(8).multivariate_normal(np.zeros(12), residual.T @ residual / len(X), size=20_000)
    g /= np.linalg.norm(g, axis=1, keepdims=True)
    np.testing.assert_allclose(drawn.T @ drawn / len(drawn), g.T @ g / len(g), atol=0.02)
    # Far from isotropic, or nothing above was tested.
    assert np.square(drawn).mean(axis=0).max() > 3 / 12


@pytest.mark.parametrize("target", ["classes", "numbers"])
def test_what_sets_the_classes_apart_is_not_in_the_covariance_within_them(target) -> None:
    rng = np.random.default_rng(2)
    y = (np.arange(200) % 2).astype(float) if target == "classes" else rng.normal(size=200)
    X = np.column_stack([100 * y, rng.normal(size=(200, 4))])
    assert np.abs(random_directions(X, y, 99, kind="covariance")[:, 0]).max() < 1e-6
    np.testing.assert_allclose(within_classes(X, y).T @ (y - y.mean()), 0, atol=1e-8)


@pytest.mark.parametrize(
    ("X", "y", "kind", "said"),
    [
        (np.ones((4, 3)), np.array([0, 1, 0, 1]), "covariance", "do not vary within the classes"),
        (np.ones((4, 3)), None, "covariance", "give y"),
        (np.ones((4, 3)), None, "spherical", "expected one of isotropic, covariance"),
        (np.ones((4, 3)), np.ones(4), "covariance", "all alike"),
        (np.full((4, 3), np.nan), np.array([0, 1, 0, 1]), "covariance", "NaN"),
        (np.ones((4, 3)), np.array([0, 1, 0]), "covariance", "of one n"),
    ],
)
def test_what_no_direction_can_be_drawn_from_is_refused(X, y, kind, said) -> None:
    with pytest.raises(CausalError, match=said):
        random_directions(X, y, 5, kind=kind)


# ---- the others


def test_the_difference_of_means_of_classes_and_of_halves() -> None:
    X, y = planted()
    np.testing.assert_allclose(mean_difference(X, y), X[y == 1].mean(0) - X[y == 0].mean(0))
    z = np.random.default_rng(0).normal(size=len(y))
    np.testing.assert_array_equal(halves(z), z > np.median(z))
    np.testing.assert_allclose(mean_difference(X, z), X[z > np.median(z)].mean(0) - X[z <= np.median(z)].mean(0))
    with pytest.raises(CausalError, match="largest value"):
        mean_difference(X[:3], np.array([2.0, 5.0, 5.0]))


@pytest.mark.parametrize("shape", [(400, 12), (20, 50)])
@pytest.mark.parametrize("seed", range(5))
def test_the_orthogonal_direction_varies_as_much(shape, seed) -> None:
    rng = np.random.default_rng([seed, 9])
    X = rng.normal(size=shape) * np.exp(rng.normal(size=shape[1])) + 3
    v = rng.normal(size=shape[1])
    u = orthogonal_equal_variance(X, v, seed=seed)
    assert np.linalg.norm(u) == pytest.approx(1)
    assert abs(u @ v) < 1e-9 * np.linalg.norm(v)
    assert (X @ u).var() == pytest.approx((X @ v / np.linalg.norm(v)).var(), rel=1e-6)
    assert abs(u @ orthogonal_equal_variance(X, v, seed=seed + 10)) < 0.999


def test_where_nothing_varies_as_much_the_orthogonal_direction_is_the_axis_that_comes_nearest() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 6)) * [100, 5, 1, 1, 1, 1]
    u = orthogonal_equal_variance(X, np.eye(6)[0])
    rest = X - X.mean(0)
    rest[:, 0] = 0
    assert (X @ u).var() == pytest.approx(np.linalg.eigvalsh(rest.T @ rest / 500)[-1], rel=1e-6)
    with pytest.raises(CausalError, match="along the direction alone"):
        orthogonal_equal_variance(np.outer(np.arange(5.0), [1, 0]), np.array([1.0, 0.0]))


@dataclass(frozen=True)
class _Spy:
    """A family that keeps the labels it was fitted on."""

    seen: list[np.ndarray]
    name: str = "spy"
    kinds: tuple[str, ...] = ("binary",)
    parameter: None = None

    def fit(self, X: np.ndarray, y: np.ndarray, **options: Any) -> Any:
        self.seen.append(y)
        return MeanDifference().fit(X, y, **options)


def test_labels_are_shuffled_as_their_groups_hold_them() -> None:
    X, y = planted()
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), 10)
    constant = rng.permutation(np.arange(40) % 2)[groups].astype(float)
    for label, whole in ((constant, True), (y, False)):
        spy = _Spy([])
        shuffled_label_probe(spy, X, label, groups, seed=2)
        (found,) = spy.seen
        assert not np.array_equal(found, label)
        per_group = [found[groups == g] for g in range(40)]
        if whole:
            assert all(len(set(own)) == 1 for own in per_group)
        else:
            assert all(own.sum() == 5 for own in per_group)


def test_probes_of_shuffled_labels_do_not_find_the_concept() -> None:
    X, y = planted()
    true = Logistic(l2=(0.1,)).fit(X, y, n_folds=0).probe
    scores = [shuffled_label_probe(Logistic(l2=(0.1,)), X, y, seed=s).score(X) for s in range(20)]
    gaps = [(own[y == 1].mean() - own[y == 0].mean()) / own.std() for own in scores]
    assert abs(np.mean(gaps)) < 0.3
    own = true.score(X)
    assert (own[y == 1].mean() - own[y == 0].mean()) / own.std() > 1
    # The means of both classes lie by numbers on both sides of nothing.
    assert min(gaps) < 0 < max(gaps)


def test_the_family_of_a_probe_is_its_own() -> None:
    X, y = planted()
    for family in (Logistic(l2=(0.1,)), Ridge(l2=(2.0,)), LDA(), MeanDifference()):
        probe = family.fit(X, y, n_folds=0).probe
        assert isinstance(probe, Probe)
        again = family_of(probe)
        assert again.name == family.name
        np.testing.assert_allclose(again.fit(X, y, n_folds=0).probe.coef, probe.coef)


# ---- shifts


@pytest.mark.parametrize("family", [Logistic(l2=(0.1,)), LDA(), MeanDifference()])
@pytest.mark.parametrize("vector", ["pattern", "direction"])
def test_a_natural_shift_moves_the_mean_score_of_one_class_to_that_of_the_other(family, vector) -> None:
    X, y = planted()
    probe = family.fit(X, y, n_folds=0).probe
    alpha = natural_shift(probe, getattr(probe, vector), X, y)
    moved = X[y == 0] + alpha * getattr(probe, vector)
    assert probe.score(moved).mean() == pytest.approx(probe.score(X[y == 1]).mean())
    assert alpha > 0
    # The vector's length and sign are no matter.
    assert natural_shift(probe, -7 * getattr(probe, vector), X, y) == pytest.approx(-alpha)


def test_along_the_pattern_of_the_best_discriminant_the_shift_is_the_difference_of_means() -> None:
    X, y = planted()
    probe = MeanDifference(covariance="pooled").fit(X, y, n_folds=0).probe
    np.testing.assert_allclose(
        natural_shift(probe, probe.pattern, X, y) * probe.pattern, mean_difference(X, y), atol=1e-8
    )
    assert class_gap(probe.coef, X, y) == pytest.approx(probe.coef @ mean_difference(X, y))


def test_a_vector_along_which_the_score_does_not_change_has_no_shift() -> None:
    X, y = planted()
    probe = MeanDifference().fit(X, y, n_folds=0).probe
    flat = np.eye(12)[0] - probe.direction[0] * probe.direction
    with pytest.raises(CausalError, match="does not change along"):
        natural_shift(probe, flat, X, y)


# ---- p


def test_p_counts_random_directions_of_either_sign() -> None:
    null = np.array([-3.0, -1.0, 0.5, 2.0])
    assert p_value(null, 2.0) == 3 / 5
    assert p_value(null, 3.5) == 1 / 5
    assert p_value(null, -3.5) == 1.0
    assert p_value(null, -3.5, one_sided=False) == 1 / 5
    # What is unknown is not significant.
    assert np.isnan(p_value(null, np.nan))
    assert np.isnan(p_value(np.append(null, np.nan), 1.0))


def test_a_direction_like_the_random_ones_is_significant_as_often_as_said() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4000, 100))
    p = np.array([p_value(own[1:], float(own[0]), one_sided=False) for own in draws])
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.012)
    # Said beforehand in which direction, half of them go the other way.
    p = np.array([p_value(own[1:], float(own[0])) for own in draws])
    assert np.mean(p <= 0.05) == pytest.approx(0.025, abs=0.009)
