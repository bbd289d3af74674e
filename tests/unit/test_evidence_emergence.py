"""Where information emerges: planted depths, the error rate of the rule, and the coverage of its interval."""

import numpy as np
import pytest

from leadline.errors import EvidenceError
from leadline.evidence.bootstrap import Selection, bootstrap_design, gain, metric_table, select
from leadline.evidence.emergence import emergence, first_of_last_run
from leadline.probes.intervals import Estimate
from leadline.probes.mean_difference import MeanDifference
from leadline.probes.splits import make_folds
from leadline.sites import Site

B = 200
DESIGN = bootstrap_design(np.arange(80) % 4, None, B, 0)


def judged(value, replicates):
    return Selection(0, {"auroc": value}, {"auroc": Estimate(value)}, {"auroc": replicates})


def drawn(seed, gains, shared=0.8, spread=0.02):
    """Selections whose errors are normal, `shared` of their variance common to all sites."""
    rng = np.random.default_rng([seed, 4])
    n = len(gains)

    def error(size):
        own, common = rng.normal(size=(n, size)), rng.normal(size=(1, size))
        return spread * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own)

    values = 0.5 + np.asarray(gains) + error(1)[:, 0]
    return [judged(v, v + e) for v, e in zip(values, error(B), strict=True)]


def names(n):
    return [f"resid_post.{i}" for i in range(n)]


def test_a_concept_written_at_one_depth_emerges_there():
    rng = np.random.default_rng(0)
    n, y = 200, np.tile([0.0, 1.0], 100)
    fold = make_folds(y[:, None], None, 4, stratify=True, seed=0)
    design = bootstrap_design(fold, None, B, 0)
    tables = []
    for depth in range(8):
        X = rng.normal(size=(n, 6))
        X[:, 0] += (2 * y - 1) * (depth >= 5)
        tables.append(metric_table(MeanDifference().fit_site(X, y[:, None], fold).scores, y[:, None], "binary", design))
    sites = [Site.parse("embed"), *(Site.parse(s) for s in names(7))]
    found = emergence(tables, sites, design)
    assert (found.site, found.index) == ("resid_post.4", 5)
    assert found.low == "resid_post.4"
    assert found.share_emerged == 1
    assert found.metric == "auroc"
    assert found.reference == "chance (0.5)"
    assert found.p_values[5:] == pytest.approx(1 / (1 + B))
    assert found.reason == ""
    # Selections and tables say the same.
    same = emergence([select(t, design) for t in tables], sites, design)
    assert (same.site, same.low, same.high, same.gains) == (found.site, found.low, found.high, found.gains)


def test_significance_that_does_not_last_is_no_emergence():
    gains = [0.0, 0.3, 0.3, 0.0, 0.3, 0.3]
    found = emergence(drawn(0, gains), names(6), DESIGN)
    assert found.site == "resid_post.4"
    assert found.p_values[1] < 0.05
    gone = emergence(drawn(0, [0.3, 0.3, 0.3, 0.0]), names(4), DESIGN)
    assert gone.site is None
    assert gone.index is None
    assert gone.high is None
    assert "not significant at the last site, resid_post.3" in gone.reason


def test_the_first_of_the_last_run_against_its_definition():
    passed = np.random.default_rng(0).random((6, 300)) < 0.7
    wanted = [next((s for s in range(6) if column[s:].all()), 6) for column in passed.T]
    np.testing.assert_array_equal(first_of_last_run(passed), wanted)


def test_the_gain_passes_the_critical_value_just_where_it_is_significant():
    for seed in range(30):
        found = emergence(drawn(seed, np.linspace(-0.02, 0.08, 9)), names(9), DESIGN, alpha=0.1, margin=0.01)
        values = np.array([g.value for g in found.gains])
        np.testing.assert_array_equal(values > found.critical, found.p_values <= 0.1)


@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_a_site_without_a_gain_is_claimed_at_most_at_the_level(shared):
    truth = np.array([0.0, 0.0, 0.0, 0.0, 0.1, 0.1])
    early = sum(emergence(drawn(seed, truth, shared), names(6), DESIGN).index < 4 for seed in range(300))
    null = sum(emergence(drawn(seed, np.zeros(6), shared), names(6), DESIGN).index is not None for seed in range(300))
    # 15 of 300 at 5%; 27 or more have a chance of 2e-3.
    assert early <= 26
    assert null <= 26
    # The rule uses its level: with Holm's levels, no more than α / 6 = 2.5 would be expected.
    assert null >= 6


def test_the_interval_covers_where_the_gain_becomes_detectable():
    truth = np.linspace(0, 0.2, 10)
    covered, held, widths = 0, 0, []
    for seed in range(150):
        found = emergence(drawn(seed, truth), names(10), DESIGN)
        detectable = first_of_last_run((truth > found.critical)[:, None])[0]
        low = names(10).index(found.low)
        high = 10 if found.high is None else names(10).index(found.high)
        covered += low <= detectable <= high
        held += low <= found.index <= high
        widths.append(high - low)
    # 142 of 150 at 95%; 133 or fewer have a chance of 1e-3.
    assert covered >= 134
    assert held == 150
    assert 0 < np.mean(widths) < 5


def test_over_a_baseline_the_gain_is_paired():
    shared = np.random.default_rng(1).normal(size=B) * 0.05
    small = np.random.default_rng(2).normal(size=(3, B)) * 0.002
    surface = judged(0.7, 0.7 + shared)
    sites = [judged(v, v + shared + e) for v, e in zip((0.6, 0.72, 0.73), small, strict=True)]
    found = emergence(sites, names(3), DESIGN, baseline=surface)
    # A shift of 0.02 is far below the spread of either, and well above that of their difference.
    assert found.site == "resid_post.1"
    assert found.reference == "the baseline"
    for each, (estimate, p) in zip(sites, zip(found.gains, found.p_values, strict=True), strict=True):
        wanted, wanted_p = gain(each, surface, "auroc", DESIGN)
        assert estimate == wanted
        assert p == pytest.approx(wanted_p)
    assert emergence(sites, names(3), DESIGN, baseline=judged(0.9, 0.9 + shared)).site is None


def test_a_margin_and_a_chance_of_ones_own_move_the_bar():
    steps = drawn(3, [0.0, 0.1, 0.2, 0.3])
    assert emergence(steps, names(4), DESIGN).site == "resid_post.1"
    assert emergence(steps, names(4), DESIGN, margin=0.15).site == "resid_post.2"
    assert emergence(steps, names(4), DESIGN, chance=0.65).site == "resid_post.2"


def test_what_cannot_be_judged_says_why():
    one_group = bootstrap_design(np.arange(8) % 4, (np.arange(8) % 4).astype(str), B, 0)
    none = emergence(drawn(0, [0.2, 0.3]), names(2), one_group)
    assert none.site is None
    assert none.low is None
    assert "1 group" in none.reason
    assert np.isnan(none.p_values).all()
    assert np.isnan(none.gains[0].low)
    holes = drawn(0, [0.2, 0.3])
    holes[0].centred["auroc"][: B // 4] = np.nan
    assert "undefined" in emergence(holes, names(2), DESIGN).reason
    # Too few replicates for so small a level: nothing can be significant.
    assert emergence(drawn(0, [0.4]), names(1), DESIGN, alpha=0.001).site is None
    with pytest.raises(EvidenceError, match="one a site"):
        emergence(drawn(0, [0.1]), names(2), DESIGN)
    with pytest.raises(EvidenceError, match="alpha"):
        emergence(drawn(0, [0.1]), names(1), DESIGN, alpha=0)
    with pytest.raises(EvidenceError, match="not judged"):
        emergence(drawn(0, [0.1]), names(1), DESIGN, metric="r2")
    with pytest.raises(EvidenceError, match="the one"):
        emergence(drawn(0, [0.1]), names(1), DESIGN, chance=0.5, baseline=drawn(0, [0.1])[0])


def test_a_site_that_the_permutation_test_refuses_neither_emerges_nor_stands_in_the_interval():
    steps = drawn(3, [0.0, 0.1, 0.2, 0.3])
    assert emergence(steps, names(4), DESIGN).site == "resid_post.1"
    found = emergence(steps, names(4), DESIGN, permutation_p=np.array([0.6, 0.2, 0.01, 0.01]))
    assert (found.site, found.low) == ("resid_post.2", "resid_post.2")
    assert found.p_values[1] == 0.2
