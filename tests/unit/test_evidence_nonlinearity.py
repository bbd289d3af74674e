"""The nonlinearity gap on planted answers: XOR, which no linear map reads, and concepts that one reads as well."""

import numpy as np
import pytest

from leadline.evidence.bootstrap import bootstrap_design, metric_table, select
from leadline.evidence.nonlinearity import level_scores, network_for, nonlinearity_gap
from leadline.probes.logistic import Logistic
from leadline.probes.mlp import MLP
from leadline.probes.multinomial import Multinomial
from leadline.probes.ordinal import Ordinal
from leadline.probes.ridge import Ridge
from leadline.probes.splits import make_folds


def gap_of(X, y, kind, family, n_folds=3, groups=None, mlp=None, n_replicates=200):
    Y = np.asarray(y, dtype=np.float64)[:, None]
    fold = make_folds(Y, groups, n_folds, stratify=kind != "continuous", seed=0)
    design = bootstrap_design(fold, groups, n_replicates, 0)
    linear = select(metric_table(family.fit_site(X, Y, fold).scores, Y, kind, design), design)
    return nonlinearity_gap(X, Y, kind, fold, groups, design, linear, mlp=mlp), linear, design


def two_directions(seed, n, d):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)).astype(np.float32)
    return X, X @ np.linalg.qr(rng.normal(size=(d, 2)))[0]


def test_xor_of_two_directions_is_read_by_the_network_alone():
    X, part = two_directions(0, 1000, 32)
    found, linear, _ = gap_of(X, part[:, 0] * part[:, 1] > 0, "binary", Ridge())
    assert abs(linear.metrics["auroc"].value - 0.5) < 0.06
    assert found.mlp.value > 0.85
    assert found.gap.low > 0.25
    assert found.p_value == pytest.approx(1 / 201)
    assert found.gap.value == pytest.approx(found.mlp.value - linear.metrics["auroc"].value)
    assert found.reason == ""


def test_a_linear_concept_leaves_no_gap():
    X, part = two_directions(1, 500, 16)
    found, _, _ = gap_of(X, part[:, 0] + 0.5 * np.random.default_rng(1).normal(size=500) > 0, "binary", Logistic())
    assert found.mlp.value > 0.9
    assert found.gap.low < 0.01
    assert found.p_value > 0.05


def test_noise_leaves_no_gap():
    rejected = 0
    for seed in range(10):
        X, _ = two_directions(seed, 200, 8)
        y = np.random.default_rng([seed, 5]).permutation(np.tile([0.0, 1.0], 100))
        found, _, _ = gap_of(
            X, y, "binary", Ridge(), mlp=MLP(hidden=(16,), epochs=20, validation=0.0, weight_decay=1.0)
        )
        rejected += found.p_value <= 0.05
    # At 5% a run, four or more of ten have a chance of 1e-3.
    assert rejected <= 3


def test_a_parabola_is_out_of_a_linear_map_and_in_reach_of_the_network():
    X, part = two_directions(2, 500, 8)
    found, linear, _ = gap_of(X, np.square(part[:, 0]), "continuous", Ridge())
    assert linear.metrics["r2"].value < 0.1
    assert found.gap.low > 0.5


def test_classes_at_the_corners_of_a_square_need_the_network():
    X, part = two_directions(3, 500, 8)
    # Class 0: both large or both small in absolute value; 1 and 2: the one or the other larger.
    large = np.abs(part) > 0.67
    codes = np.where(large[:, 0] == large[:, 1], 0, np.where(large[:, 0], 1, 2))
    found, linear, _ = gap_of(X, codes, "multiclass", Multinomial(l2=(1e-2, 1.0)))
    assert linear.metrics["auroc"].value < 0.6
    assert found.gap.low > 0.1
    assert found.metric == "auroc"


def test_an_order_by_distance_from_the_origin_needs_the_network():
    X, part = two_directions(4, 500, 8)
    codes = np.digitize(np.abs(part[:, 0]), [0.4, 1.0])
    found, linear, _ = gap_of(X, codes, "ordinal", Ordinal(l2=(1e-2, 1.0)))
    assert linear.metrics["concordance"].value < 0.6
    assert found.gap.low > 0.1
    assert found.metric == "concordance"
    assert set(found.selection.metrics) >= {"concordance", "accuracy"}


def test_levels_have_the_log_odds_of_the_classes_probabilities():
    logits = np.random.default_rng(0).normal(size=(5, 4)) * 3
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    above = np.stack([p[:, k + 1 :].sum(axis=1) for k in range(3)], axis=1)
    np.testing.assert_allclose(level_scores(logits), np.log(above / (1 - above)), rtol=1e-5)
    # The number of columns above 0 is the median of the classes' distribution.
    median = (np.cumsum(p, axis=1) < 0.5).sum(axis=1)
    np.testing.assert_array_equal((level_scores(logits) > 0).sum(axis=1), median)


def test_one_group_a_fold_leaves_no_interval_and_says_why():
    X, part = two_directions(5, 120, 4)
    groups = np.repeat(np.arange(3), 40).astype(str)
    found, _, design = gap_of(X, part[:, 0] > 0, "binary", Ridge(), groups=groups)
    assert np.isnan([found.gap.low, found.gap.high, found.p_value]).all()
    assert found.reason == design.reason != ""


def test_the_same_seed_gives_the_same_gap_and_the_network_is_trained_on_whole_rows():
    X, part = two_directions(6, 120, 4)
    one, _, _ = gap_of(X, part[:, 0] > 0, "binary", Ridge())
    other, _, _ = gap_of(X, part[:, 0] > 0, "binary", Ridge())
    assert one.gap == other.gap
    assert one.weight_decay in one.weight_decays
    assert network_for("ordinal", 5000).kind == "multiclass"
    # Neither too few steps to learn in, nor more than a demo has the time for.
    for n in (200, 300, 999, 1000, 1400, 20_000):
        network = network_for("binary", n)
        assert 300 <= 0.8 * n / network.batch_size * network.epochs <= 2500
