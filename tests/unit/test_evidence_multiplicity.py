"""Adjusted p-values against scipy, against their definitions by brute force, and by the error rates they promise."""

from itertools import combinations

import numpy as np
import pytest
import scipy.stats

from leadline.errors import EvidenceError
from leadline.evidence.multiplicity import benjamini_hochberg, benjamini_yekutieli, holm


@pytest.mark.parametrize(("ours", "method"), [(benjamini_hochberg, "bh"), (benjamini_yekutieli, "by")])
@pytest.mark.parametrize("seed", range(5))
def test_q_values_are_scipys(ours, method, seed):
    p = np.random.default_rng(seed).uniform(size=1 + 13 * seed) ** 2
    p[: seed // 2] = p[-1]  # ties
    np.testing.assert_allclose(ours(p), scipy.stats.false_discovery_control(p, method=method), rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_the_closed_test_of_bonferroni(seed):
    p = np.random.default_rng(seed).uniform(size=7) ** 3
    p[3] = p[5]
    # A hypothesis is rejected if every intersection that holds it is: the largest Bonferroni p over those subsets.
    closed = [
        max(
            min(1.0, size * min(p[list(subset)]))
            for size in range(1, 8)
            for subset in combinations(range(7), size)
            if i in subset
        )
        for i in range(7)
    ]
    np.testing.assert_allclose(holm(p), closed, rtol=1e-12)


@pytest.mark.parametrize("adjust", [benjamini_hochberg, benjamini_yekutieli, holm])
def test_what_was_not_tested_stays_so_and_does_not_count(adjust):
    p = np.array([0.01, np.nan, 0.04, 0.6, np.nan])
    found = adjust(p)
    assert np.isnan(found[[1, 4]]).all()
    np.testing.assert_array_equal(found[[0, 2, 3]], adjust(p[[0, 2, 3]]))
    assert np.isnan(adjust([np.nan, np.nan])).all()
    assert adjust([]).shape == (0,)
    assert adjust(np.full((2, 3), 0.5)).shape == (2, 3)


@pytest.mark.parametrize("adjust", [benjamini_hochberg, benjamini_yekutieli, holm])
def test_order_of_the_hypotheses_does_not_matter_and_none_gets_smaller(adjust):
    rng = np.random.default_rng(0)
    p = rng.uniform(size=50)
    mixed = rng.permutation(50)
    np.testing.assert_array_equal(adjust(p)[mixed], adjust(p[mixed]))
    assert (adjust(p) >= p).all()
    assert (adjust(p) <= 1).all()
    assert (np.diff(adjust(np.sort(p))) >= 0).all()


def test_the_false_discovery_rate_of_independent_tests_is_the_share_of_nulls_times_the_level():
    # Benjamini and Hochberg's theorem holds with equality for independent continuous p-values.
    rng = np.random.default_rng(1)
    z = rng.normal(size=(4000, 20))
    z[:, :5] += 3
    false = []
    for p in scipy.stats.norm.sf(z):
        rejected = benjamini_hochberg(p) <= 0.2
        false.append(rejected[5:].sum() / max(rejected.sum(), 1))
    error = np.std(false) / np.sqrt(len(false))
    assert abs(np.mean(false) - 0.2 * 15 / 20) < 4 * error


def test_the_family_wise_error_of_holm_is_at_most_the_level():
    rng = np.random.default_rng(2)
    z = rng.normal(size=(4000, 20))
    z[:, :5] += 3
    wrong = np.mean([(holm(p)[5:] <= 0.1).any() for p in scipy.stats.norm.sf(z)])
    assert wrong < 0.1 + 3 * np.sqrt(0.1 * 0.9 / 4000)
    # Unadjusted, four in five of such families hold a false rejection.
    assert np.mean((scipy.stats.norm.sf(z)[:, 5:] <= 0.1).any(axis=1)) > 0.7


@pytest.mark.parametrize("wrong", [-0.1, 1.5, np.inf])
def test_a_number_that_is_no_p_value_is_refused(wrong):
    for adjust in (benjamini_hochberg, benjamini_yekutieli, holm):
        with pytest.raises(EvidenceError, match="from 0 to 1"):
            adjust([0.5, wrong])
