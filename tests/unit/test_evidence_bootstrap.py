"""The corrected estimate and its interval, on simulations whose answer is known."""

import numpy as np
import pytest

from leadline.evidence.bootstrap import bootstrap_design, gain, metric_table, select
from leadline.probes.splits import make_folds


def null_scores(seed, n_configurations, n=200):
    rng = np.random.default_rng(seed)
    y = np.repeat([0.0, 1.0], n // 2)[:, None]
    fold = make_folds(y, None, 5, stratify=True, seed=seed)
    return rng.normal(size=(n_configurations, n, 1)), y, fold


def test_choosing_among_many_null_configurations_is_corrected():
    naive, corrected = [], []
    for seed in range(30):
        scores, y, fold = null_scores(seed, 40)
        design = bootstrap_design(fold, None, 200, seed)
        found = select(metric_table(scores, y, "binary", design), design)
        naive.append(found.naive["auroc"])
        corrected.append(found.metrics["auroc"].value)
    # The best of 40 nulls looks like .58; corrected, it is chance within two standard errors of the mean.
    assert np.mean(naive) > 0.56
    assert abs(np.mean(corrected) - 0.5) < 2.5 * np.std(corrected) / np.sqrt(30) + 0.005


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    truth = 0.7602  # P(N(1,1) > N(0,1))
    covered = 0
    for seed in range(120):
        rng = np.random.default_rng(1000 + seed)
        y = np.repeat([0.0, 1.0], 60)[:, None]
        scores = (rng.normal(size=120) + y[:, 0])[None, :, None]
        fold = make_folds(y, None, 3, stratify=True, seed=seed)
        design = bootstrap_design(fold, None, 200, seed)
        e = select(metric_table(scores, y, "binary", design), design).metrics["auroc"]
        covered += e.low <= truth <= e.high
    # 95% of 120 is 114; fewer than 105 has a chance below 1e-3.
    assert covered >= 105


def test_nothing_to_choose_from_is_not_corrected():
    scores, y, fold = null_scores(0, 1)
    design = bootstrap_design(fold, None, 100, 0)
    found = select(metric_table(scores, y, "binary", design), design)
    assert found.metrics["auroc"].value == found.naive["auroc"]
    assert found.metrics["auroc"].low < found.naive["auroc"] < found.metrics["auroc"].high


def test_one_group_a_fold_gives_no_interval_rather_than_a_width_of_zero():
    groups = np.repeat(np.arange(5), 20).astype(str)
    y = np.tile([0.0, 1.0], 50)[:, None]
    fold = make_folds(y, groups, 5, stratify=True, seed=0)
    design = bootstrap_design(fold, groups, 100, 0)
    found = select(metric_table(np.random.default_rng(0).normal(size=(1, 100, 1)), y, "binary", design), design)
    assert np.isfinite(found.metrics["auroc"].value)
    assert np.isnan([found.metrics["auroc"].low, found.metrics["auroc"].high]).all()
    assert "group" in design.reason


def test_groups_widen_the_interval():
    rng = np.random.default_rng(0)
    # 40 groups of 10 copies: 400 rows that are worth 40.
    one = rng.normal(size=40)
    label = np.tile([0.0, 1.0], 20)
    groups = np.repeat(np.arange(40), 10).astype(str)
    y = np.repeat(label, 10)[:, None]
    scores = np.repeat(one + label, 10)[None, :, None]
    fold = make_folds(y, groups, 4, stratify=True, seed=0)
    widths = []
    for g in (None, groups):
        design = bootstrap_design(fold, g, 400, 0)
        e = select(metric_table(scores, y, "binary", design), design).metrics["auroc"]
        widths.append(e.high - e.low)
    assert widths[1] > 2 * widths[0]


def test_gain_is_paired_and_antisymmetric():
    scores, y, fold = null_scores(2, 1)
    good = scores + 2 * y[None]
    design = bootstrap_design(fold, None, 300, 0)
    one = select(metric_table(good, y, "binary", design), design)
    # The same scores with a little noise: unpaired, the difference would be as uncertain as either.
    noisy = good + 0.05 * np.random.default_rng(1).normal(size=good.shape)
    other = select(metric_table(noisy, y, "binary", design), design)
    difference, _ = gain(one, other, "auroc", design)
    back, _ = gain(other, one, "auroc", design)
    assert difference.value == pytest.approx(-back.value)
    assert difference.high - difference.low < 0.3 * (one.metrics["auroc"].high - one.metrics["auroc"].low)
    null = select(metric_table(scores, y, "binary", design), design)
    clear, p = gain(one, null, "auroc", design)
    assert clear.low > 0.2
    assert p == pytest.approx(1 / 301)
