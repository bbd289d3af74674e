import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from leadline.errors import ProbeError
from leadline.probes import Logistic
from leadline.probes.fit import Status
from leadline.probes.mlp import MLP

FAST = {"weight_decay": 0.01, "hidden": (16,), "epochs": 20}


def xor(n=800, d=12, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    Y = (X[:, :1] * X[:, 1:2] > 0).astype(float)
    X[:, 0] *= 1000  # a massive activation
    return (X + 5).astype(np.float32), Y, rng.permutation(n) % 4


def auroc(scores, Y, fold):
    return np.mean([roc_auc_score(Y[fold == k, 0], scores[fold == k, 0]) for k in range(fold.max() + 1)])


def test_it_reads_an_exclusive_or_that_no_linear_probe_reads():
    X, Y, fold = xor()
    fit = MLP(weight_decay=0.01).fit_site(X, Y, fold)
    linear = Logistic(l2=0.01).fit_site(X, Y, fold)
    assert fit.scores.shape == (1, 800, 1)
    assert auroc(fit.scores[0], Y, fold) > 0.95
    # Four folds of 200 rows: a score without information strays from ½ by 0.02 in one standard deviation.
    assert abs(auroc(linear.scores[0], Y, fold) - 0.5) < 0.08
    # The refit reads new rows.
    new, labels, _ = xor(seed=1)
    assert roc_auc_score(labels[:, 0], fit.score(new)[:, 0]) > 0.95


def test_where_the_concept_is_linear_it_reads_no_more_than_a_linear_probe():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(800, 20)).astype(np.float32)
    Y = (X[:, :5].sum(1, keepdims=True) + 2 * rng.normal(size=(800, 1)) > 0).astype(float)
    fold = rng.permutation(800) % 4
    fit = MLP().fit_site(X, Y, fold)
    linear = Logistic(l2=0.01).fit_site(X, Y, fold)
    mlp, logistic = auroc(fit.scores[fit.chosen], Y, fold), auroc(linear.scores[0], Y, fold)
    # The standard error of a paired difference of AUROCs is about 0.01 here.
    assert mlp < logistic + 0.02
    assert mlp > logistic - 0.04


def test_sites_together_equal_sites_one_by_one():
    sites = [xor(n=240, seed=s)[0] for s in range(3)]
    _, Y, fold = xor(n=240)
    spec = MLP(hidden=(16, 8), weight_decay=(0.01, 1.0), epochs=15, dropout=0.1, patience=3)
    together = spec.fit_sites(sites, Y, fold)
    for X, joint in zip(sites, together, strict=True):
        alone = spec.fit_site(X, Y, fold)
        np.testing.assert_allclose(joint.scores, alone.scores, atol=1e-4)
        assert (joint.best_epoch == alone.best_epoch).all()
        assert (joint.status == alone.status).all()
        np.testing.assert_allclose(joint.score(X), alone.score(X), atol=1e-4)


def test_settings_folds_and_columns_together_equal_each_alone():
    X, Y, fold = xor(n=240)
    Y = np.hstack([Y, (X[:, 2:3] > 5).astype(float)])
    both = MLP(weight_decay=(0.01, 5.0), epochs=8).fit_site(X, Y, fold)
    one = MLP(weight_decay=5.0, epochs=8).fit_site(X, Y[:, 1:], fold)
    np.testing.assert_allclose(both.scores[1, :, 1], one.scores[0, :, 0], atol=1e-4)
    assert np.abs(both.scores[0] - both.scores[1]).max() > 0.01


def test_it_is_deterministic_and_touches_no_global_state():
    X, Y, fold = xor(n=200)
    before = torch.random.get_rng_state()
    spec = MLP(**FAST, dropout=0.2, seed=3)
    one, again, other = (s.fit_site(X, Y, fold) for s in (spec, spec, MLP(**FAST, dropout=0.2, seed=4)))
    assert (one.scores == again.scores).all()
    assert (one.scores != other.scores).any()
    assert (torch.random.get_rng_state() == before).all()


def test_a_fold_sees_nothing_of_its_test_rows():
    X, Y, fold = xor(n=200)
    one = MLP(**FAST).fit_site(X, Y, fold)
    flipped = Y.copy()
    flipped[fold == 1] = 1 - flipped[fold == 1]
    other = MLP(**FAST).fit_site(X, flipped, fold)
    np.testing.assert_array_equal(one.scores[:, fold == 1], other.scores[:, fold == 1])
    assert (one.scores[:, fold == 0] != other.scores[:, fold == 0]).any()


def test_the_validation_part_keeps_groups_whole():
    _, Y, fold = xor(n=240)
    groups = np.arange(240) // 4
    fold = groups % 4
    train, held = MLP()._parts(Y, fold, 4, np.ones(240), groups)
    for k in range(5):
        assert ((train[k, 0] > 0) ^ (held[k, 0] > 0) == (fold != k)).all()
        assert not set(groups[train[k, 0] > 0]) & set(groups[held[k, 0] > 0])
        assert 0.05 < (held[k, 0] > 0).sum() / (fold != k).sum() < 0.2


def test_classes_and_continuous_targets():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 6)).astype(np.float32)
    fold = rng.permutation(500) % 4
    codes = ((X[:, 0] * X[:, 1] > 0) + 2 * (X[:, 2] > 0)).astype(float)[:, None]
    fit = MLP(weight_decay=0.01, kind="multiclass").fit_site(X, codes, fold)
    assert fit.scores.shape == (1, 500, 4)
    assert fit.status.shape == (1, 5, 1)
    assert (fit.scores[0].argmax(1) == codes[:, 0]).mean() > 0.8
    assert fit.score(X).shape == (500, 4)
    values = 1000 + 50 * np.stack([np.abs(X[:, 0]), X[:, 1] ** 2], axis=1)
    fit = MLP(weight_decay=0.01, kind="continuous").fit_site(X, values, fold)
    error = np.square(fit.scores[0] - values).mean(0) / values.var(0)
    assert (error < 0.2).all()
    assert fit.loss[0] == pytest.approx(np.square(fit.scores[0] - values).mean(), rel=1e-5)


def test_several_weight_decays_of_classes_are_each_as_if_trained_alone():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4)).astype(np.float32)
    Y = (np.argmax(X[:, :3], axis=1)).astype(float)[:, None]
    fold = np.arange(120) % 3
    both = MLP(hidden=(8,), epochs=5, weight_decay=(0.1, 3.0), kind="multiclass").fit_site(X, Y, fold)
    for index, decay in enumerate((0.1, 3.0)):
        alone = MLP(hidden=(8,), epochs=5, weight_decay=decay, kind="multiclass").fit_site(X, Y, fold)
        np.testing.assert_allclose(both.scores[index], alone.scores[0], atol=1e-4)
        np.testing.assert_allclose(both.score(X, index), alone.score(X), atol=1e-4)


def test_weights_are_repetitions_where_every_step_sees_all_rows():
    X, Y, fold = xor(n=120)
    weights = np.random.default_rng(0).integers(0, 3, 120).astype(float)
    spec = MLP(hidden=(8,), weight_decay=0.01, epochs=15, batch_size=None, validation=0.0)
    weighed = spec.fit_site(X, Y, fold, weights=weights)
    again = np.repeat(np.arange(120), weights.astype(int))
    repeated = spec.fit_site(X[again], Y[again], fold[again])
    np.testing.assert_allclose(weighed.scores[:, again], repeated.scores, atol=1e-3)
    np.testing.assert_allclose(weighed.train_loss, repeated.train_loss, atol=1e-4)
    unweighed = spec.fit_site(X, Y, fold)
    assert np.abs(unweighed.scores - weighed.scores).max() > 0.01


def test_stopping_keeps_the_best_epoch():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 40)).astype(np.float32)
    Y = (rng.random((150, 1)) < 0.5).astype(float)  # nothing to learn but noise
    fit = MLP(weight_decay=0.01, patience=3).fit_site(X, Y, np.arange(150) % 3)
    assert fit.train_loss.shape[-1] < 60
    curve = np.take_along_axis(fit.validation_loss, fit.best_epoch[..., None], -1)[..., 0]
    for at in np.ndindex(curve.shape):
        assert curve[at] == fit.validation_loss[at][: fit.best_epoch[at] + 4].min()
    assert fit.converged.all()
    # Six small steps cannot be enough, and say so; a loss beyond floating point does too.
    Y, fold = (X[:, :1] > 0).astype(float), np.arange(150) % 3
    assert (
        MLP(weight_decay=0.01, epochs=6, batch_size=None, validation=0.0).fit_site(X, Y, fold).status
        == Status.ITERATION_LIMIT
    ).all()
    broken = MLP(weight_decay=0.0, epochs=5, learning_rate=1e30).fit_site(X, Y, fold)
    assert (broken.status == Status.NOT_FINITE).all()


def test_constant_and_duplicate_features_and_no_folds():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 6)).astype(np.float32)
    X[:, 1], X[:, 2] = 7.0, X[:, 0]
    X[:, 4] = 0.0
    X[0, 4] = 1e6  # constant in the training rows of the fold that tests row 0
    Y = (X[:, :1] > 0).astype(float)
    fold = np.arange(120) % 3
    fit = MLP(**FAST).fit_site(X, Y, fold)
    assert np.isfinite(fit.scores).all()
    assert np.abs(fit.scores[0, 0]) < 50
    alone = MLP(**FAST).fit_site(X, Y, np.full(120, -1))
    assert np.isnan(alone.scores).all()
    assert alone.status.shape == (1, 1, 1)
    assert np.isfinite(alone.score(X)).all()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MLP(hidden=()), "hidden of an MLP is"),
        (lambda: MLP(weight_decay=-1.0), "weight_decay of an MLP"),
        (lambda: MLP(validation=0.9), "validation of an MLP is 0.9"),
        (lambda: MLP(activation="tanh"), "gelu, relu"),
        (lambda: MLP(kind="ordinal"), "binary, multiclass, continuous"),
        (lambda: MLP(dropout=1.0), "dropout"),
        (lambda: MLP().fit_site(np.eye(12), np.eye(12)[:, :1], np.arange(12) % 2), "one class only"),
        (lambda: MLP().fit_site(np.eye(12), np.arange(12)[:, None] % 2.0, np.arange(12) // 6), "validation=0"),
        (lambda: MLP().fit_sites([np.eye(4), np.eye(5)], np.ones((4, 1)), np.arange(4)), "one width"),
        (lambda: MLP(**FAST).fit_site(*xor(n=80)).score(np.ones((3, 5))), r"reads \(n, 12\)"),
    ],
)
def test_what_cannot_be_trained_is_refused(make, said):
    with pytest.raises(ProbeError, match=said):
        make()
