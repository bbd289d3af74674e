"""Trees, structural probes on planted trees, and the baselines; real trees where the shared treebank is there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import minimum_spanning_tree

from leadline.errors import ProbeError
from leadline.probes.fit import Status
from leadline.probes.solvers.structural import pad, sentence_losses
from leadline.probes.structural import DepthProbe, DistanceProbe, score_random_map
from leadline.probes.structural_metrics import score_chain, score_depths, score_distances
from leadline.probes.trees import check_heads, spanning_edges, tree_depths, tree_distances, tree_edges

TREEBANK = Path(__file__).parents[3] / "shared" / "data" / "ud_ewt" / "en_ewt-ud-dev.conllu"


def random_tree(rng, n):
    order, heads = rng.permutation(n), np.full(n, -1)
    for i in range(1, n):
        heads[order[i]] = order[rng.integers(0, i)]
    return heads


def planted(n_sentences, width, d, seed, sizes=None):
    """Words whose squared distances under a hidden map are tree distances: a unit step along one axis an edge."""
    rng = np.random.default_rng(seed)
    write, noise = rng.normal(size=(d, width)), rng.normal(size=(d, d - width))
    sentences, trees = [], []
    for s in range(n_sentences):
        n = int(rng.integers(3, width + 1)) if sizes is None else sizes[s]
        heads, axis = random_tree(rng, n), rng.permutation(width)
        code = np.zeros((n, width))
        for i in range(n):
            at = i
            while heads[at] >= 0:
                code[i, axis[at]] = 1
                at = heads[at]
        sentences.append(code @ write.T + rng.normal(size=(n, d - width)) @ noise.T + 5)
        trees.append(heads)
    return sentences, trees


@pytest.fixture(scope="module")
def data():
    return planted(130, 8, 16, seed=0)


@pytest.fixture(scope="module")
def held_out():
    return np.arange(130) >= 100


@pytest.fixture(scope="module")
def fitted(data, held_out):
    return DistanceProbe(rank=16).fit(*data, test=held_out)


def test_depths_and_distances_follow_the_paths():
    heads = check_heads(np.array([1, 1, 1, 2, 3]))  # the root is its own head
    assert heads.tolist() == [1, -1, 1, 2, 3]
    assert tree_depths(heads).tolist() == [1, 0, 1, 2, 3]
    assert tree_distances(heads)[0].tolist() == [0, 1, 2, 3, 4]
    assert tree_edges(heads).tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]


def test_distances_are_the_shortest_paths_of_the_edges():
    rng = np.random.default_rng(1)
    heads = random_tree(rng, 40)
    steps = np.full((40, 40), np.inf)
    np.fill_diagonal(steps, 0)
    for i, j in tree_edges(heads):
        steps[i, j] = steps[j, i] = 1
    for k in range(40):
        steps = np.minimum(steps, steps[:, k, None] + steps[k])
    np.testing.assert_array_equal(tree_distances(heads), steps)
    np.testing.assert_array_equal(tree_depths(heads), steps[np.flatnonzero(heads == -1)[0]])


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        ([1, 2, 0], "0 roots"),
        ([-1, -1, 0], "2 roots"),
        ([-1, 2, 3, 1], r"cycle: from the words \[1, 2, 3\]"),
        ([2, 0, 3], "subtract 1"),
        ([-1, 7], "run from -1 to 7"),
        ([-1.0, 0.0], "whole numbers"),
        ([], "whole numbers"),
    ],
)
def test_heads_that_are_no_tree_are_refused(heads, said):
    with pytest.raises(ProbeError, match=said):
        check_heads(np.array(heads))


def test_the_spanning_tree_weighs_what_scipy_finds():
    rng = np.random.default_rng(2)
    for n in (2, 5, 30):
        x = rng.normal(size=(n, 3))
        distance = np.linalg.norm(x[:, None] - x, axis=2)
        edges = spanning_edges(distance)
        assert len(edges) == n - 1
        assert distance[edges[:, 0], edges[:, 1]].sum() == pytest.approx(minimum_spanning_tree(distance).sum())


def test_equal_words_are_joined_at_distance_zero():
    distance = np.array([[0.0, 0, 5], [0, 0, 5], [5, 5, 0]])
    assert spanning_edges(distance).tolist() == [[0, 1], [0, 2]]


def test_the_gradient_is_that_of_finite_differences():
    rng = np.random.default_rng(3)
    words, trees = planted(4, 6, 9, seed=3, sizes=[3, 5, 6, 6])
    for gold in ([tree_distances(t) for t in trees], [tree_depths(t) for t in trees]):
        batch = pad(words, gold, "cpu", torch.float64)
        B = torch.as_tensor(rng.normal(size=(3, 9)) * 0.2).requires_grad_(True)

        def loss(b, batch=batch):
            return sentence_losses(batch.words @ b.T, batch.gold, batch.mask).mean()

        (gradient,) = torch.autograd.grad(loss(B), B)
        for _ in range(5):
            step = torch.as_tensor(rng.normal(size=(3, 9)))
            at = B.detach()
            change = float(loss(at + 1e-6 * step) - loss(at - 1e-6 * step)) / 2e-6
            assert float((gradient * step).sum()) == pytest.approx(change, rel=1e-5)


def test_the_loss_is_the_papers_padded_or_alone_and_blind_to_a_rotation():
    rng = np.random.default_rng(4)
    words, trees = planted(4, 6, 9, seed=4, sizes=[3, 5, 6, 1 + 3])
    B = rng.normal(size=(4, 9)) * 0.3
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    distances, depths = [tree_distances(t) for t in trees], [tree_depths(t) for t in trees]
    by_hand = [np.abs(g - np.square((w[:, None] - w) @ B.T).sum(2)).mean() for w, g in zip(words, distances)]
    norms = [np.abs(g - np.square(w @ B.T).sum(1)).mean() for w, g in zip(words, depths)]
    for gold, expected in ((distances, by_hand), (depths, norms)):
        batch = pad(words, gold, "cpu", torch.float64)
        for used in (B, turn @ B):
            found = sentence_losses(batch.words @ torch.as_tensor(used).T, batch.gold, batch.mask)
            np.testing.assert_allclose(found, expected, rtol=1e-9)
        for s in range(4):
            one = pad(words[s : s + 1], gold[s : s + 1], "cpu", torch.float64)
            alone = sentence_losses(one.words @ torch.as_tensor(B).T, one.gold, one.mask)
            np.testing.assert_allclose(alone, expected[s], rtol=1e-9)


def test_a_planted_tree_is_recovered_on_held_out_sentences(fitted, data, held_out):
    assert fitted.converged
    assert fitted.scores.uuas.value == 1.0
    assert fitted.judged.tolist() == np.flatnonzero(held_out).tolist()
    for s, predicted in zip(fitted.judged, fitted.predicted):
        np.testing.assert_allclose(predicted, tree_distances(data[1][s]), atol=0.05)
        np.testing.assert_allclose(predicted, fitted.predict(data[0][s]), atol=1e-10)
    baselines = score_random_map(DistanceProbe(rank=16), *data), score_chain(data[1])
    assert all(b.uuas.high < 0.6 for b in baselines)


def test_too_small_a_rank_finds_less_and_a_sweep_equals_single_fits(data, held_out):
    spec = DistanceProbe(shrinkage=0.01, max_epochs=60)
    sweep = spec.rank_sweep(*data, (1, 4), test=held_out)
    assert sweep.table["rank"].to_list() == [1, 4]
    assert sweep.table["uuas"][0] < sweep.table["uuas"][1] < 1
    alone = replace(spec, rank=4).fit(*data, test=held_out)
    np.testing.assert_array_equal(sweep[1].map, alone.map)
    assert (alone.epochs, alone.train_loss) == (sweep[1].epochs, sweep[1].train_loss)
    other = replace(spec, rank=4).fit(*data, test=held_out, seed=1)
    assert not np.array_equal(other.map, alone.map)


def test_the_shrinkage_is_chosen_by_the_held_out_loss(data):
    grid = (0.01, 0.3, 1.0)
    chosen = DistanceProbe(rank=4, shrinkage=grid, max_epochs=40).fit(*data)
    single = [DistanceProbe(rank=4, shrinkage=x, max_epochs=40).fit(*data) for x in grid]
    losses = [float(f.held_out_loss[0]) for f in single]
    assert chosen.held_out_loss[0] == min(losses)
    assert chosen.shrinkage[0] == grid[int(np.argmin(losses))]
    with pytest.raises(ProbeError, match="up to 1"):
        DistanceProbe(shrinkage=(0.1, 2.0))


@pytest.mark.parametrize("has_offset", [False, True])
def test_planted_depths_are_recovered(data, held_out, has_offset):
    fit = DepthProbe(rank=12, shrinkage=0.01, has_offset=has_offset, max_epochs=300).fit(*data, test=held_out)
    assert fit.scores.root_accuracy.value > 0.95
    assert fit.scores.root_accuracy.low <= fit.scores.root_accuracy.value <= fit.scores.root_accuracy.high
    assert (fit.offset != 0).any() == has_offset
    np.testing.assert_allclose(fit.predict(data[0][120]), fit.predicted[20], atol=1e-10)


def test_folds_judge_every_sentence_by_a_fit_that_did_not_train_on_it(data):
    sentences, heads = data[0][:40], data[1][:40]
    fold = np.arange(40) % 2
    spec = DistanceProbe(rank=3, max_epochs=20)
    fit = spec.fit(sentences, heads, fold=fold)
    assert fit.fold_maps.shape == (2, 3, 16)
    assert fit.judged.tolist() == list(range(40))
    assert fit.status.shape == fit.epochs.shape == (3,)
    changed = [s.copy() for s in sentences]
    for s in np.flatnonzero(fold == 1):
        changed[s] += np.random.default_rng(s).normal(size=changed[s].shape)
    other = spec.fit(changed, heads, fold=fold)
    # Fold 1's fit trains on fold 0 alone, so that only fold 0's fit and the refit see the change.
    np.testing.assert_allclose(fit.fold_maps[1], other.fold_maps[1], rtol=1e-6, atol=1e-9)
    assert not np.allclose(fit.fold_maps[0], other.fold_maps[0])
    refit = spec.fit(sentences, heads, fold=np.full(40, -1))
    np.testing.assert_allclose(refit.map, fit.map, rtol=1e-6, atol=1e-9)
    assert refit.scores is None


def test_stopping_short_is_a_status(data):
    fit = DistanceProbe(rank=16, max_epochs=1).fit(*data)
    assert fit.status.tolist() == [Status.ITERATION_LIMIT]
    assert not fit.converged


def test_constant_duplicate_and_massive_features_and_few_sentences(data, held_out):
    sentences = [np.hstack([s[:, :1] * 1000, s, s[:, :1], np.full((len(s), 1), 3.0)]) for s in data[0]]
    fit = DistanceProbe(rank=16, shrinkage=0.01).fit(sentences, data[1], test=held_out)
    assert fit.scores.uuas.value > 0.99
    few = DistanceProbe(rank=2, max_epochs=20).fit(sentences[:2], data[1][:2])
    assert np.isfinite(few.map).all()
    wide = [np.random.default_rng(s).normal(size=(len(x), 300)) for s, x in enumerate(sentences[:6])]
    assert np.isfinite(DepthProbe(rank=4, max_epochs=20).fit(wide, data[1][:6]).map).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, h: (x, h[:-1]), "130 sentences and 129 trees"),
        (lambda x, h: ([x[0][:-1], *x[1:]], h), "sentence 0 has activations"),
        (lambda x, h: ([*x[:-1], x[-1][:, :5]], h), "sentence 129 has activations"),
        (lambda x, h: ([x[0] * np.nan, *x[1:]], h), "sentence 0 holds a NaN"),
        (lambda x, h: (x, [np.zeros_like(h[0]) - 1, *h[1:]]), "sentence 0 has"),
    ],
)
def test_what_does_not_fit_is_refused(data, change, said):
    with pytest.raises(ProbeError, match=said):
        DistanceProbe(rank=2).fit(*change(*data))


def test_bad_ranks_and_plans_are_refused(data, held_out):
    with pytest.raises(ProbeError, match="width 16"):
        DistanceProbe(rank=17).fit(*data)
    with pytest.raises(ProbeError, match="above 0"):
        DepthProbe(rank=0)
    with pytest.raises(ProbeError, match="either a fold"):
        DistanceProbe(rank=2).fit(*data, test=held_out, fold=np.arange(130) % 2)
    with pytest.raises(ProbeError, match="this probe reads"):
        DistanceProbe(rank=2, max_epochs=1).fit(*data).predict(np.zeros((3, 4)))


def test_correlations_are_averaged_within_lengths_first():
    chain = np.array([1, 2, 3, 4, 5, -1])
    other = np.array([1, 2, -1, 2, 3])
    place = np.arange(6)
    right = np.abs(place[:, None] - place).astype(float)
    heads = [chain, chain, chain, other]
    predicted = [right, right, right, -tree_distances(other).astype(float)]
    scores = score_distances(predicted, heads)
    assert scores.correlation.tolist() == pytest.approx([1, 1, 1, -1])
    assert scores.spearman.value == pytest.approx(0)  # not the 0.5 of a mean over sentences
    flat = score_depths([np.zeros(6)], [chain])
    assert flat.spearman.value == 0


def test_a_mask_leaves_words_out_of_the_spanning_tree():
    heads = np.array([1, -1, 1, 1])
    distance = np.array([[0, 9, 9, 1], [9, 0, 2, 1], [9, 2, 0, 1], [1, 1, 1, 0]], float)
    keep = np.array([True, True, True, False])
    scores = score_distances([distance], [heads], keep=[keep])
    assert (scores.correct[0], scores.edges[0]) == (2, 2)
    assert score_distances([distance], [heads]).correct[0] == 1
    assert score_depths([np.array([3, 2, 4, 0])], [heads], keep=[keep]).root_accuracy.value == 1
    assert score_depths([np.array([3, 2, 4, 0])], [heads]).root_accuracy.value == 0


@pytest.mark.real
@pytest.mark.skipif(not TREEBANK.is_file(), reason="the shared treebank is not here")
def test_trees_of_a_real_treebank():
    heads, keep, now = [], [], []
    for line in TREEBANK.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            columns = line.split("\t")
            if columns[0].isdigit():
                now.append((int(columns[6]) - 1, columns[3] != "PUNCT"))
        elif not line and now:
            heads.append(np.array([h for h, _ in now]))
            keep.append(np.array([k for _, k in now]))
            now = []
    assert len(heads) == 2001
    heads, keep = heads[:600], keep[:600]
    gold = [tree_distances(check_heads(h)) for h in heads]
    for mask in (None, keep):
        scores = score_distances(gold, heads, keep=mask, n_replicates=100)
        assert scores.uuas.value == scores.uuas.low == 1.0
        assert scores.spearman.value == pytest.approx(1)
        assert score_depths([tree_depths(h) for h in heads], heads, keep=mask).root_accuracy.value == 1.0
    # The count of neighbours that are joined, found without any spanning tree.
    joined = sum(int((np.abs(h - np.arange(len(h)))[h >= 0] == 1).sum()) for h in heads)
    chain = score_chain(heads)
    assert chain.uuas.value == pytest.approx(joined / sum(len(h) - 1 for h in heads))
    assert 0.35 < chain.uuas.low < chain.uuas.value < chain.uuas.high < 0.6


def test_intervals_draw_documents_whole():
    heads = [np.array([-1, 0, 1, 2])] * 30 + [np.array([-1, 0, 0, 0])] * 30
    # Sentences of one document are all right or all wrong, so that there are two independent draws, not sixty.
    documents = np.repeat(["a", "b"], 30)
    alone = score_chain(heads)
    whole = score_chain(heads, groups=documents)
    assert whole.uuas.value == alone.uuas.value
    assert whole.uuas.high - whole.uuas.low > 2 * (alone.uuas.high - alone.uuas.low)
    with pytest.raises(ProbeError, match="one for each of 60 sentences"):
        DistanceProbe(rank=2, max_epochs=1).fit([np.eye(4)] * 60, heads, groups=np.arange(3))
