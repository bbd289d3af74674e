"""LEACE's theorems on random data: guarded means, least change, idempotence, rank, invariance, streams."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from leadline.causal.eraser import Eraser
from leadline.causal.erasure import LeaceFitter, Whitening, leace, mean_difference_eraser
from leadline.causal.inlp import inlp
from leadline.errors import CausalError
from leadline.sites import Site

SHAPES = [(400, 12, 2), (400, 12, 5), (30, 50, 2), (60, 200, 4)]


def draw(n: int, d: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Correlated activations far from 0, whose class means differ."""
    rng = np.random.default_rng([seed, n, d, k])
    y = np.concatenate([np.arange(k), rng.choice(k, size=n - k, p=np.arange(1, k + 1) / (k * (k + 1) / 2))])
    X = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 2 * rng.normal(size=(k, d))[y] + 30
    return X, y


def means(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([X[y == c].mean(axis=0) for c in np.unique(y)])


def change(eraser: Eraser, X: np.ndarray, metric: np.ndarray | None = None) -> float:
    moved = eraser.apply(X) - X
    return float((moved @ (np.eye(X.shape[1]) if metric is None else metric) * moved).sum(axis=1).mean())


@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_class_means_are_equal_and_the_mean_stays(n, d, k):
    X, y = draw(n, d, k)
    assert np.ptp(means(X, y), axis=0).max() > 1
    erased = leace(X, y).apply(X)
    np.testing.assert_allclose(means(erased, y), np.tile(X.mean(axis=0), (k, 1)), atol=1e-9)


@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_it_is_the_formula_of_the_paper(n, d, k):
    X, y = draw(n, d, k)
    Z = np.eye(k)[y]
    covariance = np.cov(X.T, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    kept = values > values[-1] * 1e-12
    root, values = vectors[:, kept], values[kept]
    W, back = (root / np.sqrt(values)) @ root.T, (root * np.sqrt(values)) @ root.T
    onto = scipy.linalg.orth(W @ (X - X.mean(0)).T @ (Z - Z.mean(0)) / n, rcond=1e-8)
    np.testing.assert_allclose(leace(X, y).matrix, np.eye(d) - back @ onto @ onto.T @ W, atol=1e-8)


@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_rank_is_classes_less_one_and_erasing_twice_is_erasing_once(n, d, k):
    X, y = draw(n, d, k)
    eraser = leace(X, y)
    assert eraser.rank == k - 1
    assert np.linalg.matrix_rank(np.eye(d) - eraser.matrix) == k - 1
    once = eraser.apply(X)
    np.testing.assert_allclose(eraser.apply(once), once, atol=1e-9)
    assert leace(once, y).rank == 0  # nothing is left to erase


@pytest.mark.parametrize("k", [2, 4])
def test_the_best_linear_loss_is_the_priors(k):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    X, y = draw(500, 10, k)
    prior = np.bincount(y) / len(y)
    entropy = -float(prior @ np.log(prior))

    def best(rows):
        rows = (rows - rows.mean(0)) / rows.std(0)
        fit = LogisticRegression(C=1e6, max_iter=5000, tol=1e-10).fit(rows, y)
        return log_loss(y, fit.predict_proba(rows))

    erased = leace(X, y).apply(X)
    assert best(X) < 0.8 * entropy
    assert best(erased) == pytest.approx(entropy, abs=1e-7)
    # The reason: at the prior's constant the gradient of the convex loss in the weights is exactly 0.
    centred = erased - erased.mean(0)
    assert np.abs(centred.T @ (np.eye(k)[y] - prior)).max() / len(y) < 1e-9


def test_no_affine_map_that_erases_changes_less_in_any_metric():
    X, y = draw(400, 12, 3)
    rng = np.random.default_rng(1)
    eraser = leace(X, y)
    centred = X - X.mean(0)
    cross = centred.T @ np.eye(3)[y][:, :2]
    free = scipy.linalg.null_space(cross.T)  # every map whose rows are made of these keeps Cov(r(x), z) = 0
    assert free.shape == (12, 10)
    half = rng.normal(size=(12, 12))
    for metric in (np.eye(12), half @ half.T, np.diag(rng.uniform(size=12)), np.outer(half[0], half[0])):
        least = change(eraser, X, metric)
        for size in (1e-3, 1e-1, 1.0):
            step = size * rng.normal(size=(12, 10)) @ free.T
            shift = size * rng.normal(size=12)
            moved = centred @ (eraser.matrix + step).T + X.mean(0) + shift
            np.testing.assert_allclose(np.diff(means(moved, y), axis=0), 0, atol=1e-9)
            other = ((moved - X) @ metric * (moved - X)).sum(axis=1).mean()
            # Pythagoras: the least change and the step are orthogonal, so the excess is the step's own size.
            extra = centred @ step.T + shift
            assert other - least == pytest.approx(((extra @ metric) * extra).sum(axis=1).mean(), rel=1e-6, abs=1e-12)
            assert other > least


def test_rivals_change_more_or_erase_less():
    X, y = draw(600, 12, 2)
    eraser, projection = leace(X, y), mean_difference_eraser(X, y)
    np.testing.assert_allclose(np.diff(means(projection.apply(X), y), axis=0), 0, atol=1e-9)
    assert change(eraser, X) < change(projection, X)
    gap = float(np.linalg.norm(np.diff(means(X, y), axis=0)))
    single, many = inlp(X, y, 1), inlp(X, y, 6)
    assert np.linalg.norm(np.diff(means(single.apply(X), y), axis=0)) > 0.01 * gap
    assert change(many, X) > change(eraser, X)


def test_inlp_projects_orthogonally_and_takes_the_planted_direction():
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 400)
    X = rng.normal(size=(400, 20))
    X[:, 4] += 4 * y
    for n_directions in (1, 3):
        eraser = inlp(X, y, n_directions)
        assert eraser.rank == n_directions
        np.testing.assert_allclose(eraser.left @ eraser.left.T, np.eye(n_directions), atol=1e-10)
        np.testing.assert_allclose(eraser.left, eraser.right)
        assert np.linalg.norm(eraser.left[:, 4]) > 0.9
    np.testing.assert_allclose(inlp(X, y, 3).left[0], inlp(X, y, 1).left[0])
    assert inlp(X, rng.integers(0, 3, 400), 4).rank == 4
    numbers = X[:, 7] + 0.1 * rng.normal(size=400)
    assert abs(inlp(X, numbers, 1).left[0, 7]) > 0.95
    # Of activations that vary in three directions alone, no more are found.
    thin = (rng.normal(size=(400, 2)) @ rng.normal(size=(2, 20)) + y[:, None]) * np.geomspace(0.1, 10, 20)
    for n_directions in (2, 10):
        eraser = inlp(thin, y, n_directions)
        assert eraser.rank == min(n_directions, 3)
        span = scipy.linalg.orth((thin - thin.mean(0)).T, rcond=1e-10)
        np.testing.assert_allclose(eraser.left @ span @ span.T, eraser.left, atol=1e-9)


def test_continuous_targets_are_uncorrelated_after_it():
    rng = np.random.default_rng(4)
    X, _ = draw(300, 10, 2)
    Z = X @ rng.normal(size=(10, 2)) * 1e-3 + rng.normal(size=(300, 2))
    for target, rank in ((Z[:, 0], 1), (Z, 2), (np.hstack([Z, Z.sum(1, keepdims=True)]), 2)):
        eraser = leace(X, target)
        assert eraser.rank == rank
        erased = eraser.apply(X)
        columns = target.reshape(300, -1)
        assert np.abs((erased - erased.mean(0)).T @ (columns - columns.mean(0))).max() / 300 < 1e-9


def test_two_classes_are_the_same_as_codes_names_or_numbers():
    X, y = draw(200, 8, 2)
    expected = leace(X, y).matrix
    for same in (y.astype(bool), np.array(["no", "yes"])[y], y.astype(float), 3 - 7.0 * y, np.eye(2)[y]):
        np.testing.assert_allclose(leace(X, same).matrix, expected, atol=1e-10)
    X, y = draw(200, 8, 3)
    assert leace(X, y.astype(float)).rank == 1
    assert leace(X, y.astype(float), kind="classes").rank == 2


@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_a_stream_equals_all_at_once(n, d, k):
    X, y = draw(n, d, k)
    exact = leace(X, y)
    fitter = LeaceFitter(d, k)
    order = np.random.default_rng(5).permutation(n)
    for part in np.array_split(order, 7):
        fitter.update(X[part], y[part])
    np.testing.assert_allclose(fitter.eraser.matrix, exact.matrix, atol=1e-8)
    np.testing.assert_allclose(fitter.eraser.mean, exact.mean, atol=1e-12)
    numbers = LeaceFitter(d, n_targets=k)
    for part in np.array_split(order, 3):
        numbers.update(torch.from_numpy(X[part]), torch.from_numpy(np.eye(k)[y[part]]))
    np.testing.assert_allclose(numbers.eraser.matrix, exact.matrix, atol=1e-8)


def test_a_small_spread_beside_a_large_mean_survives_a_stream():
    X, y = draw(300, 6, 2)
    X = X + 1e6
    fitter = LeaceFitter(6, 2)
    for rows in np.array_split(np.argsort(y), 10):  # the classes come one after the other
        fitter.update(X[rows], y[rows])
    erased = fitter.eraser.apply(X)
    np.testing.assert_allclose(np.diff(means(erased, y), axis=0), 0, atol=1e-7)


def test_it_goes_along_with_any_invertible_affine_map():
    X, y = draw(400, 9, 3)
    rng = np.random.default_rng(6)
    A, b = rng.normal(size=(9, 9)), rng.normal(size=9)
    np.testing.assert_allclose(leace(X @ A.T + b, y).apply(X @ A.T + b), leace(X, y).apply(X) @ A.T + b, atol=1e-7)
    # Features of units as far apart as a massive activation's are handled alike.
    units = 10.0 ** np.linspace(-9, 9, 9)
    scaled = leace(X * units, y)
    assert scaled.rank == 2
    np.testing.assert_allclose(scaled.apply(X * units) / units, leace(X, y).apply(X), atol=1e-7)


def test_constant_and_repeated_features_do_not_disturb():
    X, y = draw(100, 5, 2)
    wide = np.hstack([X, X[:, :2], np.full((100, 1), 0.1), np.zeros((100, 1))])
    eraser = leace(wide, y)
    erased = eraser.apply(wide)
    np.testing.assert_allclose(erased[:, :5], leace(X, y).apply(X), atol=1e-8)
    np.testing.assert_allclose(erased[:, 5:7], erased[:, :2], atol=1e-9)
    np.testing.assert_allclose(erased[:, 7:], wide[:, 7:], atol=1e-12)
    assert leace(np.full((100, 3), 0.1), y).rank == 0


def test_outside_the_span_of_the_rows_nothing_moves():
    X, y = draw(30, 50, 2)
    units = np.random.default_rng(7).uniform(0.1, 10, size=50)
    X = X * units
    outside = scipy.linalg.null_space(X - X.mean(0))[:, 0]
    moved = leace(X, y).apply((X.mean(0) + outside)[None])
    np.testing.assert_allclose(moved[0], X.mean(0) + outside, atol=1e-9)


def test_a_fresh_probe_needs_rows_of_its_own():
    from sklearn.metrics import roc_auc_score

    few, many, leaning = [], [], []
    for seed in range(6):
        X, y = draw(4000, 20, 2, seed)
        part = np.random.default_rng([9, seed]).permutation(4000)
        train, test = part < 400, (part >= 400) & (part < 1000)
        for rows, scores in (((part >= 1000) & (part < 1060), few), (part >= 1000, many), (part < 1000, leaning)):
            erased = leace(X[rows], y[rows]).apply(X)
            design = np.hstack([erased, np.ones((4000, 1))])
            weights = np.linalg.lstsq(design[train], y[train].astype(float), rcond=1e-9)[0]
            scores.append(roc_auc_score(y[test], design[test] @ weights))
    # What the eraser could not know of the concept shrinks with its rows; on its own rows the reading leans over.
    assert np.mean(few) > 0.65
    assert 0.45 < np.mean(many) < 0.58
    assert np.mean(leaning) < 0.45


def test_permuted_labels_share_one_whitening():
    X, y = draw(200, 10, 2)
    whitening = Whitening(X)
    shuffled = np.random.default_rng(8).permutation(y)
    np.testing.assert_allclose(whitening.eraser(shuffled).matrix, leace(X, shuffled).matrix)
    # What erases shuffled labels leaves the concept.
    gap = np.linalg.norm(np.diff(means(X, y), axis=0))
    assert np.linalg.norm(np.diff(means(whitening.eraser(shuffled).apply(X), y), axis=0)) > 0.5 * gap


def test_tensors_and_arrays_give_the_same_in_their_own_type():
    X, y = draw(100, 12, 2)
    eraser = leace(X, y)
    expected = eraser.apply(X)
    given = X.astype(np.float32)
    assert eraser.apply(given).dtype == np.float32
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-4), (torch.bfloat16, 0.5)):
        h = torch.from_numpy(X).to(dtype)
        before = h.clone()
        out = eraser.apply(h)
        assert out.dtype is dtype
        assert torch.equal(h, before)
        np.testing.assert_allclose(out.double().numpy(), expected, atol=tolerance)
    np.testing.assert_allclose(eraser.apply(X.reshape(4, 25, 12)).reshape(100, 12), expected)
    with pytest.raises(CausalError, match=r"takes \(\.\.\., 12\)"):
        eraser.apply(torch.zeros(3, 5))


def test_a_file_holds_all_of_it(tmp_path):
    X, y = draw(50, 6, 3)
    eraser = leace(X, y, site="resid_post.3", label="number", model_fingerprint="abc")
    back = Eraser.read(eraser.write(tmp_path / "e.safetensors"))
    for name in ("left", "right", "mean"):
        np.testing.assert_array_equal(getattr(back, name), getattr(eraser, name))
    assert (back.site, back.label, back.model_fingerprint) == (Site.parse("resid_post.3"), "number", "abc")
    assert eraser.at(None).site is None
    assert "number (rank 2 of 6) at resid_post" in eraser.describe()
    (tmp_path / "broken").write_bytes(b"no such thing")
    for path, message in (("broken", "cannot be read"), ("absent", "no eraser")):
        with pytest.raises(CausalError, match=message):
            Eraser.read(tmp_path / path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken", "e.safetensors"]


def test_what_cannot_be_erased_says_so():
    X, y = draw(20, 4, 2)
    holed = X.copy()
    holed[0, 0] = np.nan
    for call, message in (
        (lambda: leace(X, np.zeros(20, int)), "every row is of class 0"),
        (lambda: leace(X, np.zeros(20)), "do not vary"),
        (lambda: leace(X, y[:5]), "for 20 rows"),
        (lambda: leace(holed, y), "NaN"),
        (lambda: leace(X, y, kind="ordinal"), "kind is 'ordinal'"),
        (lambda: leace(X[0], y), "shape"),
        (lambda: inlp(X, y, 5), "expected 1 to 4"),
        (lambda: LeaceFitter(4), "either two classes"),
        (lambda: LeaceFitter(4, 2).update(X, y + 1), "one code of 0 to 1"),
        (lambda: LeaceFitter(4, 2).update(X, y * 0).eraser, "do not differ"),
        (lambda: LeaceFitter(4, n_targets=2).update(X, y), "takes 2"),
        (lambda: Eraser(np.eye(3), np.eye(3), np.zeros(2)), "expected"),
    ):
        with pytest.raises(CausalError, match=message):
            call()
