"""`fit` on plain arrays: what it takes, what it refuses and how it says so, and the decisions of what it gives."""

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

from leadline.errors import LeadlineError, ProbeError
from leadline.probes import CCS, LAT, LDA, MLP, ConceptRank, KSparse, Logistic, Multinomial, Ordinal, Ridge

RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 6))
LATENT = X[:, 0] + 0.2 * RNG.normal(size=150)
CODES = np.digitize(LATENT, [-0.5, 0.5])


@pytest.mark.parametrize(
    ("family", "y", "more", "said"),
    [
        (Logistic(), np.where(LATENT > 0, 1, -1), {}, "are -1, 1; expected codes 0 and 1"),
        (Multinomial(), CODES + 1, {}, "are 1, 2, 3; expected codes 0 to 2"),
        (LDA(), CODES, {}, "kind='multiclass'"),
        (Logistic(), np.where(LATENT > 0, "yes", "no"), {}, "no numbers"),
        (Logistic(), LATENT > 0, {"groups": np.arange(7)}, r"groups of shape \(7,\) for 150 rows"),
        (Logistic(), LATENT > 0, {"weights": np.ones(3)}, r"weights of shape \(3,\)"),
        (Ridge(), LATENT, {"balance": True}, "has none"),
        (MLP(), np.where(LATENT > 0, 2, 1), {}, "expected codes 0 and 1"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(family, y, more, said):
    with pytest.raises(ProbeError, match=said):
        family.fit(X, y, **more)


@pytest.mark.parametrize("family", [Logistic(), Ridge(), Multinomial(), MLP()])
def test_no_rows_are_said_to_be_none(family):
    with pytest.raises(LeadlineError, match="no rows"):
        family.fit(X[:0], np.zeros(0))


def test_lists_and_tensors_are_arrays():
    whole = Logistic(l2=0.1).fit(X.astype(np.float32), LATENT > 0)
    for given in (X.astype(np.float32).tolist(), torch.from_numpy(X.astype(np.float32))):
        np.testing.assert_allclose(Logistic(l2=0.1).fit(given, LATENT > 0).scores, whole.scores, atol=1e-4)
    assert KSparse(k=np.int64(2)).fit(X, LATENT > 0).setting == 2


def test_probabilities_and_predictions_follow_from_the_scores():
    many = Multinomial(l2=0.1).fit(X, CODES)
    np.testing.assert_allclose(many.probabilities, softmax(many.scores.astype(float), axis=1))
    np.testing.assert_array_equal(many.predictions, many.scores.argmax(1))
    ordered = Ordinal(l2=0.01).fit(X, CODES)
    np.testing.assert_allclose(ordered.probabilities.sum(1), 1)
    np.testing.assert_allclose(ordered.probabilities[:, 0], 1 - expit(ordered.scores[:, 0].astype(float)))
    assert np.mean(ordered.predictions == CODES) > 0.8
    assert np.mean(ordered.predict(X) == CODES) > 0.8
    binary = Logistic(l2=0.01).fit(X, LATENT > 0)
    np.testing.assert_array_equal(binary.predictions, binary.probabilities[:, 1] > 0.5)
    number = Ridge(l2=0.01).fit(X, LATENT)
    np.testing.assert_array_equal(number.predictions, number.scores[:, 0])
    with pytest.raises(ProbeError, match="no log odds"):
        _ = number.probabilities


def test_a_balanced_fit_keeps_which_rows_it_drew():
    fitted = Logistic(l2=0.1).fit(X, LATENT > 0.8, balance=True, seed=3)
    kept = fitted.weights > 0
    assert kept.sum() == 2 * (LATENT[kept] > 0.8).sum() < 150
    assert np.isfinite(fitted.scores).all()


def test_the_mlp_has_the_splits_of_a_linear_family():
    groups = np.arange(150) // 3
    control = MLP(weight_decay=0.1, epochs=3).fit(X, LATENT > 0, groups=groups, seed=2)
    assert control.scores.shape == (1, 150, 1)
    folds = Logistic(l2=0.1).fit(X, LATENT > 0, groups=groups, seed=2).fold
    again = MLP(weight_decay=0.1, epochs=3).fit(X, LATENT > 0, groups=groups, fold=folds)
    np.testing.assert_array_equal(control.scores, again.scores)


def test_whole_numbers_as_floats_are_not_guessed_at():
    with pytest.raises(ProbeError, match="classes=True"):
        ConceptRank().fit(X, CODES.astype(float))
    as_codes = ConceptRank().fit(X, CODES, n_replicates=100)
    np.testing.assert_array_equal(
        ConceptRank().fit(X, CODES.astype(float), classes=True, n_replicates=100).directions, as_codes.directions
    )


def test_pairs_take_ready_made_folds_and_show_every_restart():
    first = X + 2 * np.eye(6)[1]
    fold = np.arange(150) % 3
    fitted = CCS(n_restarts=2).fit(first, X, fold=fold)
    np.testing.assert_array_equal(fitted.fold, fold)
    table = fitted.table
    assert table.height == 4 * 2
    assert table["taken"].sum() == 4
    taken = table.filter(table["taken"])["loss"].to_numpy()
    np.testing.assert_allclose(taken, fitted.fit.losses.min(axis=1))
    with pytest.raises(ProbeError, match="one a pair"):
        LAT().fit(first, X, groups=np.arange(7))
    with pytest.raises(ProbeError, match="labels of pairs are 1"):
        LAT().fit(first, X, labels=np.where(LATENT > 0, 1, -1))


@pytest.mark.parametrize("family", [Logistic(), Ridge()])
@pytest.mark.parametrize("d", [5, 60])
def test_features_that_never_vary_score_every_row_alike(family, d):
    # The embedding of a last token that is a full stop everywhere, with more rows than dimensions and with fewer.
    fitted = family.fit(np.ones((40, d)), np.arange(40) % 2, seed=0)
    assert not fitted.fit.coef.any()
    np.testing.assert_allclose(fitted.scores, fitted.scores[0, 0], atol=0.2)
