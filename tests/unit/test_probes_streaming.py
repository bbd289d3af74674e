"""One pass over chunks gives the fits that all rows in memory give, for every family, fold and order of merging."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from leadline.errors import ProbeError
from leadline.probes.lda import LDA
from leadline.probes.mean_difference import MeanDifference
from leadline.probes.nearest_centroid import NearestCentroid
from leadline.probes.ridge import Ridge
from leadline.probes.streamed_fits import fit_streamed, principal_components
from leadline.probes.streaming import StreamedMoments

N, D = 240, 17


def make_rows(kind, seed=0, n=N, d=D):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d)) * np.geomspace(1, 0.1, d)
    codes = rng.permutation(np.arange(n) % 3)
    X = rng.normal(size=(n, d)) @ mix + rng.normal(size=(3, d))[codes] + 20 * rng.normal(size=d)
    X[:, 1] = 7.0  # a constant feature
    Y = {
        "binary": np.stack([codes > 0, rng.random(n) < 0.4], axis=1).astype(float),
        "multiclass": codes[:, None].astype(float),
        "continuous": X[:, :2] @ rng.normal(size=(2, 2)) + rng.normal(size=(n, 2)) + 100,
    }[kind]
    return X.astype(np.float32), Y, rng.permutation(n) % 4, rng.integers(0, 3, n).astype(float)


def gather(rows, size=37, **options):
    X, Y, fold, weights = rows
    chunks = (
        (X[i : i + size], Y[i : i + size], weights[i : i + size], fold[i : i + size]) for i in range(0, len(X), size)
    )
    return StreamedMoments.from_chunks(chunks, n_folds=4, **options)


CASES = [
    (Ridge(l2=(1e-3, 1.0)), "continuous"),
    (Ridge(l2=(1e-3, 1.0)), "binary"),
    (LDA((0.01, 0.5, 1.0)), "binary"),
    (LDA((0.01, 0.5), priors="uniform"), "binary"),
    (LDA("oas"), "binary"),
    (LDA("oas", kind="multiclass"), "multiclass"),
    (LDA(0.1, kind="multiclass"), "multiclass"),
    (LDA(0.1, priors=(1.0, 2.0, 3.0), kind="multiclass"), "multiclass"),
    (MeanDifference(), "binary"),
    (MeanDifference("pooled"), "binary"),
    (NearestCentroid(), "binary"),
    (NearestCentroid(scale=False), "binary"),
    (NearestCentroid(kind="multiclass"), "multiclass"),
]


def options_for(kind):
    return {"n_classes": 3 if kind == "multiclass" else None, "class_moments": kind != "continuous"}


def assert_equal(streamed, memory, rel=1e-8):
    scale = np.abs(memory.coef).max(axis=-1, keepdims=True)
    np.testing.assert_allclose(streamed.coef / scale, memory.coef / scale, atol=rel, rtol=0)
    np.testing.assert_allclose(
        streamed.intercept, memory.intercept, rtol=rel, atol=rel * np.abs(memory.intercept).max()
    )


@pytest.mark.parametrize(("family", "kind"), CASES)
@pytest.mark.parametrize("weighted", [False, True])
def test_streamed_fits_equal_those_in_memory(family, kind, weighted):
    X, Y, fold, weights = make_rows(kind)
    weights = weights if weighted else np.ones(N)
    streamed = fit_streamed(family, gather((X, Y, fold, weights), **options_for(kind)))
    assert_equal(streamed, family.fit_site(X, Y, fold, weights=weights))
    for k in range(4):
        # The folds' coefficients are kept in float32 in memory; a refit on the same rows is exact.
        alone = family.fit_site(X[fold != k], Y[fold != k], np.full((fold != k).sum(), -1), weights=weights[fold != k])
        scale = np.abs(alone.coef).max(axis=-1, keepdims=True)
        np.testing.assert_allclose(streamed.fold_coef[:, k] / scale, alone.coef / scale, atol=1e-8, rtol=0)
        np.testing.assert_allclose(streamed.objective[:, k], alone.objective[:, 0], rtol=1e-8)


@pytest.mark.parametrize(("family", "kind"), [CASES[0], CASES[2], CASES[6]])
def test_a_second_pass_gives_the_out_of_fold_scores(family, kind):
    X, Y, fold, weights = make_rows(kind)
    streamed = fit_streamed(family, gather((X, Y, fold, weights), **options_for(kind)))
    scores = np.concatenate([streamed.score(X[i : i + 50], fold[i : i + 50]) for i in range(0, N, 50)], axis=1)
    memory = family.fit_site(X, Y, fold, weights=weights)
    np.testing.assert_allclose(scores, memory.scores, rtol=1e-5, atol=1e-5)
    fit = streamed.site_fit(scores)
    assert fit.scores.shape == memory.scores.shape
    assert fit.status.shape == memory.status.shape
    np.testing.assert_array_equal(fit.coef, streamed.coef)
    with pytest.raises(ProbeError, match="a fold from 0 to 3"):
        streamed.score(X, np.full(N, 4))


@pytest.mark.parametrize("kind", ["continuous", "binary", "multiclass"])
def test_merging_and_the_order_of_chunks_do_not_matter(kind):
    X, Y, fold, weights = make_rows(kind)
    family = {"continuous": Ridge(l2=0.1), "binary": LDA("oas"), "multiclass": LDA("oas", kind="multiclass")}[kind]
    whole = fit_streamed(family, gather((X, Y, fold, weights), **options_for(kind)))
    order = np.argsort(X[:, 0])  # the parts lie far apart, and so do the origins of their sums
    merged = StreamedMoments(n_folds=4, **options_for(kind))
    for part in np.array_split(order, 5)[::-1]:
        merged.merge(gather((X[part], Y[part], fold[part], weights[part]), size=11, **options_for(kind)))
    merged.merge(StreamedMoments(n_folds=4, **options_for(kind)))
    assert merged.n_rows == N
    other = fit_streamed(family, merged)
    assert_equal(other, whole)
    np.testing.assert_allclose(other.fold_coef, whole.fold_coef, atol=1e-8 * np.abs(whole.fold_coef).max())


def test_weights_are_repeats():
    X, Y, fold, weights = make_rows("binary")
    again = np.repeat(np.arange(N), weights.astype(int))
    one = gather((X, Y, fold, weights), class_moments=True)
    other = gather((X[again], Y[again], fold[again], np.ones(len(again))), class_moments=True)
    for family in (Ridge(l2=0.1), LDA("oas"), MeanDifference("pooled"), NearestCentroid()):
        assert_equal(fit_streamed(family, one), fit_streamed(family, other))


def test_features_far_from_zero_keep_their_digits():
    X, Y, fold, weights = make_rows("binary")
    far = (X.astype(np.float64) - X.mean(0)) * 0.01 + 1000
    family = Ridge(l2=0.01)
    assert_equal(fit_streamed(family, gather((far, Y, fold, weights))), family.fit_site(far, Y, fold, weights=weights))


@pytest.mark.parametrize("family", [Ridge(l2=0.1), LDA(0.1), MeanDifference("pooled"), NearestCentroid()])
def test_more_features_than_rows_and_no_folds(family):
    X, Y, _, _ = make_rows("binary", n=30, d=60)
    moments = StreamedMoments()
    for rows in np.array_split(np.arange(30), 3):
        moments.add(X[rows], Y[rows])
    streamed, memory = fit_streamed(family, moments), family.fit_site(X, Y, np.full(30, -1))
    assert_equal(streamed, memory, rel=1e-6 if family.name == "mean_difference_pooled" else 1e-8)
    assert streamed.fold_coef.shape[1] == 0
    reading = X.astype(np.float64) - X.mean(0, dtype=np.float64)
    expected = reading.T @ (reading @ memory.coef[0, 0])
    np.testing.assert_allclose(streamed.pattern[0, 0], expected / np.linalg.norm(expected), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("scale", [False, True])
def test_principal_components_equal_sklearn_in_every_fold(scale):
    X, Y, fold, _ = make_rows("binary")
    directions, variances = principal_components(gather((X, Y, fold, np.ones(N))), 3, scale=scale)
    for k in range(5):
        rows = X[fold != k].astype(np.float64)
        spread = rows.std(0)
        pca = PCA(3, svd_solver="full").fit((rows - rows.mean(0)) / np.where(spread > 0, spread, 1) if scale else rows)
        np.testing.assert_allclose(variances[k], pca.explained_variance_ * (len(rows) - 1) / len(rows), rtol=1e-8)
        np.testing.assert_allclose(np.abs(np.sum(directions[k] * pca.components_, axis=1)), 1, rtol=1e-9)
        assert (np.take_along_axis(directions[k], np.abs(directions[k]).argmax(1)[:, None], 1) > 0).all()
    with pytest.raises(ProbeError, match="from 1 to 17"):
        principal_components(gather((X, Y, fold, np.ones(N))), 18)


def test_memory_does_not_grow_with_the_rows():
    X, Y, fold, weights = make_rows("binary")

    def size(moments):
        return sum(a.nbytes for a in vars(moments).values() if isinstance(a, np.ndarray))

    moments = gather((X, Y, fold, weights))
    before = size(moments)
    moments.add(X, Y, weights, fold)
    assert size(moments) == before < 5 * 8 * 4 * (D + 2) ** 2


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda m: m.add(np.ones((3, 5)), np.ones((3, 2)), None, np.zeros(3)), "expected"),
        (lambda m: m.add(np.full((1, D), np.nan), np.ones((1, 2)), None, np.zeros(1)), "NaN"),
        (lambda m: m.add(np.ones((1, D)), np.full((1, 2), np.nan), None, np.zeros(1)), "NaN"),
        (lambda m: m.add(np.ones((1, D)), np.ones((2, 2)), None, np.zeros(1)), "1 rows and targets"),
        (lambda m: m.add(np.ones((1, D)), np.ones((1, 2)), -np.ones(1), np.zeros(1)), "none below 0"),
        (lambda m: m.add(np.ones((1, D)), np.ones((1, 2))), "a fold from 0 to 3"),
        (lambda m: m.add(np.ones((1, D)), np.ones((1, 2)), None, np.full(1, 4)), "a fold from 0 to 3"),
        (lambda m: m.merge(gather(make_rows("binary", d=5))), "cannot merge"),
        (lambda m: StreamedMoments().merge(m), "cannot merge"),
        (lambda m: StreamedMoments(n_folds=1), "1 folds"),
        (lambda m: StreamedMoments(n_classes=3).add(np.ones((2, 3)), np.array([0, 3])), "codes 0"),
        (lambda m: StreamedMoments(class_moments=True).add(np.ones((2, 3)), np.array([0.5, 3])), "0 and 1"),
        (lambda m: fit_streamed(Ridge(l2=1.0), StreamedMoments()), "add chunks first"),
        (lambda m: fit_streamed(LDA(), m), "fourth moments"),
        (lambda m: fit_streamed(LDA("oas"), m), "class_moments=True"),
        (lambda m: fit_streamed(LDA(0.1, priors="uniform"), m), "class_moments=True"),
        (lambda m: fit_streamed(LDA(0.1, kind="multiclass"), m), "multiclass lda"),
        (lambda m: fit_streamed(MeanDifference(), gather(make_rows("continuous"))), "continuous"),
    ],
)
def test_what_cannot_be_streamed_is_refused(act, said):
    with pytest.raises(ProbeError, match=said):
        act(gather(make_rows("binary")))


def test_a_fold_that_lacks_a_class_is_refused():
    X, _, fold, weights = make_rows("binary")
    with pytest.raises(ProbeError, match="lack a class"):
        fit_streamed(MeanDifference(), gather((X, (fold == 2)[:, None].astype(float), fold, weights)))
