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


def test_r2_is_not_charged_for_small_sets_where_nothing_is_chosen():
    """Settings that hardly differ leave nothing to correct, however few groups a fold has."""
    rng = np.random.default_rng(3)
    n, n_groups = 90, 15
    group = np.repeat(np.arange(n_groups), n // n_groups)
    fold = group % 5
    y = (rng.normal(size=n_groups)[group] + rng.normal(size=n))[:, None]
    one = y + rng.normal(size=(n, 1))
    scores = np.stack([one + 1e-6 * rng.normal(size=(n, 1)) for _ in range(7)]).astype(np.float32)
    design = bootstrap_design(fold, group, 400, 0)
    table = metric_table(scores, y, "continuous", design)
    found = select(table, design)
    assert found.metrics["r2"].value == pytest.approx(found.naive["r2"], abs=0.02)
    # Left-out thirds alone put it far lower.
    assert np.nanmean(table.left_out["r2"]) < found.naive["r2"] - 0.05


def test_intervals_of_few_groups_cover_as_often_as_they_say():
    """Means of group effects, 3 groups in each of 5 folds: n draws of n groups would cover in some 80%."""
    hits = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(15), 10)
        fold = group % 5
        y = np.tile([0.0, 1.0], 75)
        # A score that separates the classes by as much as its group has it; the mean AUROC over groups is one half.
        scores = (np.where(y > 0, 1, -1) * rng.normal(size=15)[group] + rng.normal(size=150))[None, :, None]
        design = bootstrap_design(fold, group, 200, seed)
        e = select(metric_table(scores.astype(np.float32), y[:, None], "binary", design), design).metrics["auroc"]
        hits += e.low <= 0.5 <= e.high
    assert hits / 120 >= 0.88
