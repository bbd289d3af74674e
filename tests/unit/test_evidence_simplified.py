"""Simplified representations: as scikit-learn by hand, and planted ones that fail off the training distribution."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from leadline.errors import EvidenceError
from leadline.evidence.simplified import Simplified, fit_folded, simplified_transfer
from leadline.probes import Logistic, Multinomial, Ridge

D = 10


def sample(n: int, seed: int, *, wide_tells: bool) -> tuple[np.ndarray, np.ndarray]:
    """The label stands in a narrow direction always, and in a wide one only where `wide_tells`."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % 2)
    sign = 2 * y - 1
    X = 0.3 * rng.normal(size=(n, D))
    X[:, 0] = 10 * (sign if wide_tells else rng.choice([-1, 1], size=n)) + 4 * rng.normal(size=n)
    X[:, 1] = sign + 0.2 * rng.normal(size=n)
    return X.astype(np.float32), y[:, None].astype(np.float64)


@pytest.fixture(scope="module")
def planted() -> tuple[Simplified, ...]:
    X, Y = sample(300, 0, wide_tells=True)
    elsewhere, own = sample(300, 1, wide_tells=False), sample(300, 2, wide_tells=True)
    tests = {"elsewhere": (*elsewhere, None), "own": (*own, None)}
    return simplified_transfer(
        X, Y, "binary", np.arange(300) % 5, Logistic(l2=0.01), tests, ranks=(1, 2, D), clusters=(2,), n_replicates=200
    )


def test_what_looks_right_on_the_training_distribution_fails_off_it(planted: tuple[Simplified, ...]) -> None:
    one, two, every, clusters = planted
    for simple in (one, clusters):
        assert simple.explained > 0.8
        assert simple.inside.full["auroc"].value > 0.99
        assert simple.inside.simplified["auroc"].value > 0.97
        assert simple.inside.agreement.value > 0.95
        off = simple.outside["elsewhere"]
        assert off.full["auroc"].value > 0.9
        assert abs(off.simplified["auroc"].value - 0.5) < 0.1
        assert off.agreement.value < 0.75
        assert simple.gap["elsewhere"]["auroc"].low > 0.3
        # A new sample of the training distribution shows no such gap.
        assert simple.outside["own"].agreement.value > 0.95
        assert simple.misleads_on == ("elsewhere",)
    # The second component is the narrow direction: nothing is lost.
    assert two.outside["elsewhere"].agreement.value > 0.93
    assert abs(two.gap["elsewhere"]["auroc"].value) < 0.03
    # All components are the representation itself.
    assert every.explained == pytest.approx(1)
    assert every.inside.agreement.value == 1
    for compared in (every.inside, *every.outside.values()):
        assert compared.difference["auroc"].value == pytest.approx(0, abs=1e-9)
        assert compared.difference["auroc"].high == pytest.approx(0, abs=1e-9)


def test_figures_equal_scikit_learn_fold_by_fold() -> None:
    X, Y = sample(90, 3, wide_tells=True)
    other, theirs = sample(60, 4, wide_tells=False)
    fold = np.arange(90) % 3
    family = Logistic(l2=0.1)
    probe = fit_folded(family, X, Y, "binary", fold)
    found = simplified_transfer(
        X, Y, "binary", fold, probe, {"other": (other, theirs, None)}, ranks=(1, 3), clusters=(4,), n_replicates=100
    )
    for simple in found:
        assert simple.reason == ""
        inside, agree, full = [], [], []
        for k in range(3):
            train, held = X[fold != k].astype(np.float64), X[fold == k].astype(np.float64)
            w, b = probe.fold_coef[k, 0].astype(np.float64), probe.fold_intercept[k, 0]
            if simple.method == "clusters":
                state = int(np.random.default_rng([0, 63, 4]).integers(2**31))
                model = KMeans(4, n_init=4, random_state=state).fit(X[fold != k])
                replaced = model.cluster_centers_[model.predict(X[fold == k])]
            else:
                pca = PCA(simple.size).fit(train)
                replaced = pca.inverse_transform(pca.transform(held))
            scores = replaced @ w + b
            inside.append(roc_auc_score(Y[fold == k, 0], np.round(scores, 9)))
            full.append(roc_auc_score(Y[fold == k, 0], held @ w + b))
            agree.append(np.mean((scores > 0) == (held @ w + b > 0)))
        assert simple.inside.simplified["auroc"].value == pytest.approx(np.mean(inside), abs=1e-6)
        assert simple.inside.full["auroc"].value == pytest.approx(np.mean(full), abs=1e-6)
        assert simple.inside.agreement.value == pytest.approx(np.mean(agree), abs=1e-6)
        assert simple.inside.n_rows == 90
    pca = PCA(3).fit(X.astype(np.float64))
    scores = pca.inverse_transform(pca.transform(other.astype(np.float64))) @ probe.coef[0] + probe.intercept[0]
    off = found[1].outside["other"]
    assert off.simplified["auroc"].value == pytest.approx(roc_auc_score(theirs[:, 0], scores), abs=1e-6)
    assert off.difference["auroc"].value == pytest.approx(off.full["auroc"].value - off.simplified["auroc"].value)
    gap = found[1].gap["other"]["auroc"].value
    assert gap == pytest.approx(off.difference["auroc"].value - found[1].inside.difference["auroc"].value)
    assert found[1].explained == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-6)


def test_wide_rows_give_the_components_of_the_same_space() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 80)) + 50
    Y = X[:, :2] @ rng.normal(size=(2, 1))
    fold = np.arange(30) % 3
    probe = fit_folded(Ridge(l2=1.0), X, Y, "continuous", fold)
    found = simplified_transfer(X, Y, "continuous", fold, probe, {}, ranks=(4, 19, 20), clusters=(), n_replicates=100)
    expected = []
    for k in range(3):
        pca = PCA(4, svd_solver="full").fit(X[fold != k])
        w, b = probe.fold_coef[k].astype(np.float64), probe.fold_intercept[k]
        simple = pca.inverse_transform(pca.transform(X[fold == k])) @ w.T + b
        full = X[fold == k] @ w.T + b
        expected.append(1 - np.sum((simple - full) ** 2) / np.sum((full - full.mean()) ** 2))
    assert found[0].inside.agreement.value == pytest.approx(np.mean(expected), abs=1e-6)
    assert found[0].inside.agreement.value < found[1].inside.agreement.value
    # 20 training rows span 19 directions about their mean.
    assert "span 19 directions" in found[2].reason
    assert np.isnan(found[2].inside.simplified["r2"].value)
    assert np.isfinite(found[2].inside.full["r2"].value)
    assert np.isnan(found[2].explained)


def test_sets_that_share_groups_are_scored_by_the_fold_that_left_them_out() -> None:
    X, Y = sample(60, 5, wide_tells=True)
    Y[::5] = 1 - Y[::5]
    fold = np.arange(60) % 3
    probe = fit_folded(Logistic(l2=0.1), X, Y, "binary", fold)
    # The training rows themselves as a test set: by folds the figures are those out of fold.
    found = simplified_transfer(
        X, Y, "binary", fold, probe, {"same": (X, Y, None)}, test_folds={"same": fold}, ranks=(1,), clusters=(3,)
    )
    for simple in found:
        same = simple.outside["same"]
        for metric, estimate in simple.inside.full.items():
            assert same.full[metric].value == estimate.value
            assert same.simplified[metric].value == simple.inside.simplified[metric].value
        assert simple.gap["same"]["auroc"].value == 0
        # Draws of the two are apart: the gap of a set to itself has an interval all the same.
        assert simple.gap["same"]["accuracy"].low < 0 < simple.gap["same"]["accuracy"].high


def test_several_classes_and_one_group() -> None:
    rng = np.random.default_rng(0)
    codes = np.arange(90) % 3
    X = (4 * np.eye(3, 6)[codes] + rng.normal(size=(90, 6))).astype(np.float32)
    Y = codes[:, None].astype(np.float64)
    (found,) = simplified_transfer(
        X,
        Y,
        "multiclass",
        np.arange(90) // 3 % 3,
        Multinomial(l2=0.1),
        {"one group": (X, Y, np.full(90, "x"))},
        ranks=(2,),
        clusters=(),
        n_replicates=100,
    )
    assert found.inside.agreement.value > 0.9
    assert np.isfinite(found.inside.agreement.low)
    assert np.isfinite(found.outside["one group"].simplified["auroc"].value)
    assert np.isnan(found.outside["one group"].simplified["auroc"].low)
    assert np.isnan(found.gap["one group"]["auroc"].low)
    assert found.misleads_on == ()


def test_what_cannot_be_simplified_is_told() -> None:
    X, Y = sample(40, 6, wide_tells=True)
    X = np.repeat(X[:8], 5, axis=0)
    Y = np.repeat(np.array([0.0, 1.0]), 20)[:, None]
    fold = np.arange(40) % 2
    family = Logistic(l2=1.0)
    found = simplified_transfer(X, Y, "binary", fold, family, {}, ranks=(), clusters=(2, 9), n_replicates=100)
    assert found[0].reason == ""
    assert "8 different vectors" in found[1].reason
    with pytest.raises(EvidenceError, match="sizes of 1 or more"):
        simplified_transfer(X, Y, "binary", fold, family, {}, ranks=(0,), clusters=())
    with pytest.raises(EvidenceError, match=r"the set 'narrow' has X \(40, 4\)"):
        simplified_transfer(X, Y, "binary", fold, family, {"narrow": (X[:, :4], Y, None)})
    with pytest.raises(EvidenceError, match="'b', which is no test set"):
        simplified_transfer(X, Y, "binary", fold, family, {"a": (X, Y, None)}, test_folds={"b": fold})
    with pytest.raises(EvidenceError, match="one of each a row"):
        simplified_transfer(X, Y[:-1], "binary", fold, family, {})
