import tracemalloc

import numpy as np
import pytest
from scipy.stats import binom

from leadline.errors import EvidenceError
from leadline.evidence.duplicates import cluster_cap, split_duplicates
from leadline.evidence.near_rows import near_rows, standardised_rows
from leadline.evidence.near_texts import near_texts, normalised_text
from leadline.probes.logistic import Logistic


def copies(rng, d, jitter, *, n_base=100, n_copies=3):
    """Each base row and its jittered copies, in random order, with the number of the base."""
    base = np.repeat(np.arange(n_base), 1 + n_copies)
    is_copy = (np.arange(len(base)) % (1 + n_copies) > 0)[:, None]
    X = rng.normal(size=(n_base, d))[base] + jitter * is_copy * rng.normal(size=(len(base), d))
    order = rng.permutation(len(base))
    return X[order].astype(np.float32), base[order]


def pairs_of(X, **options):
    return near_rows(standardised_rows(X.astype(np.float32), 0), cluster_cap(len(X)), **options)


_letters = np.random.default_rng(0)
WORDS = ["".join(_letters.choice(list("abcdeimnorstu"), size)) for size in _letters.integers(2, 9, 1500)]


def sentences(rng, n, length=18):
    return [" ".join(rng.choice(WORDS, length)) for _ in range(n)]


@pytest.mark.parametrize(("d", "jitter"), [(16, 0.02), (64, 0.1), (576, 0.1), (1500, 0.02)])
def test_copies_with_the_labels_of_their_base_are_a_leak_until_they_are_grouped(d, jitter):
    rng = np.random.default_rng([1, d])
    X, base = copies(rng, d, jitter)
    Y = rng.integers(0, 2, 100)[base].astype(float)[:, None]
    fold = rng.permutation(400) % 5
    found = split_duplicates(X, None, Y, fold, None)
    assert found.leaks
    assert found.share > 0.95
    assert found.share_same_label == found.share
    assert found.agreement.value == 1.0
    assert found.n_clusters > 90
    assert found.largest_cluster == 4
    # The suggested groups are the bases.
    assert len(np.unique(found.suggested_groups)) == 100
    assert len(np.unique(np.stack([found.suggested_groups, base]), axis=1).T) == 100
    assert all(base[e.first] == base[e.second] and fold[e.first] != fold[e.second] for e in found.examples)
    # What it warns of: random labels that a probe reads out of fold.
    scores = Logistic(l2=0.01).fit_site(X, Y, fold).scores[0][:, 0]
    assert d < 500 or ((scores > 0) == (Y[:, 0] > 0)).mean() > 0.8
    grouped = split_duplicates(X, None, Y, found.suggested_groups % 5, found.suggested_groups)
    assert not grouped.leaks
    assert grouped.share == 0


def test_copies_whose_labels_are_opposite_or_unrelated_are_counted_but_are_no_leak():
    rng = np.random.default_rng(22)
    X, base = copies(rng, 64, 0.01, n_base=200, n_copies=1)
    fold = rng.permutation(400) % 5
    order = np.argsort(base, kind="stable")
    pairs = np.empty(400)
    pairs[order] = np.tile([0.0, 1.0], 200)
    opposite = split_duplicates(X, None, pairs[:, None], fold, None)
    assert not opposite.leaks
    assert opposite.share > 0.7
    assert opposite.share_same_label == 0
    assert opposite.share_opposite_label == opposite.share
    unrelated = split_duplicates(X, None, rng.integers(0, 2, (400, 1)).astype(float), fold, None)
    assert not unrelated.leaks
    assert unrelated.agreement.low < 0.5 < unrelated.agreement.high


def test_a_continuous_label_is_shared_within_a_tenth_of_its_spread():
    rng = np.random.default_rng(3)
    X, base = copies(rng, 64, 0.01)
    y = rng.normal(size=100)[base] + 0.01 * rng.normal(size=400)
    found = split_duplicates(X, None, y[:, None], rng.permutation(400) % 5, None)
    assert found.leaks
    assert found.chance_agreement < 0.15


def null_rows(name, rng):
    n = 400
    if name.startswith("gaussian"):
        return rng.normal(size=(n, int(name.split()[1])))
    if name.startswith("templates"):
        latent = int(name.split()[1])
        centres = rng.normal(size=(100, 256)) * np.sqrt(0.7)
        within = rng.normal(size=(n, latent)) @ rng.normal(size=(latent, 256)) / np.sqrt(latent)
        return centres[rng.integers(100, size=n)] + np.sqrt(0.3) * within
    if name == "curve":
        t = rng.uniform(0, 20, n)[:, None]
        return np.sin(t * np.arange(1, 17) / 3) + 0.02 * rng.normal(size=(n, 16))
    if name == "scales":
        return np.abs(rng.normal(size=(n, 1))) ** 3 * rng.normal(size=(n, 100))
    return rng.standard_t(1.5, size=(n, 100))


NULLS = [f"gaussian {d}" for d in (1, 2, 3, 5, 10, 50, 500, 2000)] + ["templates 1", "templates 2", "templates 256"]


@pytest.mark.parametrize("name", [*NULLS, "curve", "scales", "heavy tails"])
def test_rows_that_are_no_copies_raise_no_alarm(name):
    rows, alarms = 0, 0
    n_draws = 5 if name == "gaussian 2000" else 20
    for draw in range(n_draws):
        rng = np.random.default_rng([draw, 4])
        X = null_rows(name, rng).astype(np.float32)
        found = split_duplicates(X, None, rng.integers(0, 2, (len(X), 1)).astype(float), rng.permutation(400) % 5, None)
        assert found.reason == ""
        rows += round(found.share * len(X))
        alarms += found.leaks
    assert alarms == 0
    # At most .05 rows a draw are let through where rows spread smoothly.
    assert rows / n_draws <= 0.1


@pytest.mark.parametrize("name", ["one token", "twenty tokens", "Zipf's law"])
def test_sites_of_few_distinct_values_are_told_from_duplicates(name):
    rng = np.random.default_rng(5)
    table = rng.normal(size=(3000, 64))
    token = {
        "one token": np.zeros(600, dtype=int),
        "twenty tokens": rng.integers(0, 20, 600),
        "Zipf's law": rng.zipf(1.4, 600) % 3000,
    }[name]
    X = table[token].astype(np.float32)
    if name != "one token":
        # The same token in two batches differs by rounding.
        X *= 1 + 1e-4 * rng.normal(size=(600, 64)).astype(np.float32)
    Y = (token % 2).astype(float)[:, None]
    found = split_duplicates(X, None, Y, rng.permutation(600) % 5, None)
    assert "few distinct values" in found.reason
    assert not found.leaks
    assert np.isnan(found.share)
    # The texts are compared all the same.
    texts = sentences(rng, 600)
    with_texts = split_duplicates(X, texts, Y, rng.permutation(600) % 5, None)
    assert with_texts.reason == ""
    assert with_texts.share == 0
    assert any("few distinct values" in note for note in with_texts.notes)


def test_equal_activations_of_different_texts_are_the_sites_doing():
    rng = np.random.default_rng(6)
    token = rng.permutation(np.arange(600) // 2)
    X = rng.normal(size=(300, 64)).astype(np.float32)[token]
    Y = (token % 2).astype(float)[:, None]
    fold = rng.permutation(600) % 5
    texts = sentences(rng, 600)
    found = split_duplicates(X, texts, Y, fold, None)
    assert found.share == 0
    assert any("different texts" in note for note in found.notes)
    assert split_duplicates(X, [texts[t] for t in token], Y, fold, None).leaks


def test_the_same_word_in_other_sentences_is_no_duplicate_where_activations_say_so():
    rng = np.random.default_rng(7)
    word = rng.permutation(np.arange(600) // 3)
    texts = [f"word{w}" for w in word]
    Y = (word % 2).astype(float)[:, None]
    fold = rng.permutation(600) % 5
    X = (rng.normal(size=(200, 64))[word] + rng.normal(size=(600, 64))).astype(np.float32)
    found = split_duplicates(X, texts, Y, fold, None)
    assert found.share == 0
    assert any("not all that the model read" in note for note in found.notes)
    assert split_duplicates(None, texts, Y, fold, None).leaks


def test_many_equal_rows_are_no_duplicates_of_one_origin():
    rng = np.random.default_rng(8)
    X = rng.normal(size=(600, 64)).astype(np.float32)
    X[:50] = X[0]
    found = split_duplicates(X, None, rng.integers(0, 2, (600, 1)).astype(float), rng.permutation(600) % 5, None)
    assert found.share == 0
    assert any("more than 10 equals" in note for note in found.notes)
    texts = ["yes"] * 50 + sentences(rng, 550)
    told = split_duplicates(None, texts, np.tile([[0.0], [1.0]], (300, 1)), np.arange(600) % 5, None)
    assert (told.share, told.n_in_large_clusters) == (0, 50)


def test_a_blockwise_search_equals_brute_force_and_says_what_it_sampled():
    rng = np.random.default_rng(9)
    X, base = copies(rng, 32, 0.01)
    Z = standardised_rows(X, 0)
    found = near_rows(Z, 10)
    distance = np.linalg.norm(Z[:, None].astype(np.float64) - Z, axis=2)
    expected = (base[:, None] == base) & ~np.eye(400, dtype=bool)
    assert set(map(tuple, found.pairs)) == set(map(tuple, np.argwhere(expected)))
    np.testing.assert_allclose(found.distance, distance[tuple(found.pairs.T)] / found.median)
    some = near_rows(Z, 10, max_rows=150)
    assert len(some.compared) == 150
    assert set(map(tuple, some.pairs)) == {p for p in map(tuple, found.pairs) if p[0] in set(some.compared)}
    Y = rng.integers(0, 2, 100)[base].astype(float)[:, None]
    sampled = split_duplicates(X, None, Y, np.arange(400) % 5, None, max_rows=150)
    assert sampled.leaks
    assert sampled.n_compared == 150
    assert any("150 of 400" in note for note in sampled.notes)


def near_pairs_by_brute_force(Z, k, dimension, median):
    """The rules of `near_rows` on the whole matrix of distances, in loops."""
    n = len(Z)
    distance = np.linalg.norm(Z[:, None].astype(np.float64) - Z, axis=2)
    np.fill_diagonal(distance, np.inf)
    reach = np.sort(distance, axis=1)[:, k - 1]
    limit = np.minimum(0.1 * median, (0.05 / (n * (k - 1))) ** (1 / dimension) * reach)
    relative = np.where((reach > 5e-3 * median)[:, None], distance / limit[:, None], np.inf)
    # A pair counts once: in units of the earlier row, where it lies within that row's reach.
    once = [
        relative[j, i] if relative[j, i] < 4 else relative[i, j]
        for i in range(n)
        for j in range(i)
        if min(relative[i, j], relative[j, i]) < 4
    ]
    once = np.array(once)
    found = 0.0
    for limit_at in 2.0 ** -np.arange(8):
        if found or not (once < limit_at).any():
            break
        for edge in (limit_at, np.sqrt(2) * limit_at, 2 * limit_at):
            below, twice = (once < edge).sum(), (once < 2 * edge).sum()
            if twice <= 1.5 * below and binom.cdf(twice - below, twice, 0.5) < 1e-3:
                found = limit_at
    return set(map(tuple, np.argwhere((relative < found) | ((relative < 1) & (distance < 1e-5 * median)))))


@pytest.mark.parametrize("d", [4, 32, 200])
@pytest.mark.parametrize("jitter", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("clusters", [None, 2, 30])
def test_pairs_by_block_equal_those_of_the_whole_matrix_of_distances(d, jitter, clusters):
    rng = np.random.default_rng([18, d, clusters or 0])
    X, _ = copies(rng, d, jitter, n_base=75)
    if clusters:
        X = rng.normal(size=(clusters, d))[rng.integers(clusters, size=300)] + 0.07 * X
    Z = standardised_rows(X.astype(np.float32), 0)
    found = near_rows(Z, 10)
    assert found.reason == ""
    assert set(map(tuple, found.pairs)) == near_pairs_by_brute_force(Z, 11, found.dimension, found.median)
    assert len(found.pairs) > 500 or d == 4 or clusters


def test_tight_clusters_take_no_memory_for_each_pair_of_their_rows():
    rng = np.random.default_rng(19)
    X = (rng.normal(size=(3, 64))[np.arange(1200) % 3] + 0.05 * rng.normal(size=(1200, 64))).astype(np.float32)
    Z = standardised_rows(X, 0)
    tracemalloc.start()
    try:
        found = near_rows(Z, 10)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # One float64 row of features for each of 480,000 pairs would take 250 MB.
    assert peak < 100e6
    assert (len(found.pairs), found.reason) == (0, "")


def test_two_equal_pairs_are_found_and_two_near_ones_are_not_told_from_chance():
    rng = np.random.default_rng(16)
    X = rng.normal(size=(300, 64))
    X[1], X[3] = X[0], X[2]
    assert set(map(tuple, np.sort(pairs_of(X).pairs, axis=1))) == {(0, 1), (2, 3)}
    X[[1, 3]] += 0.01 * rng.normal(size=(2, 64))
    assert not len(pairs_of(X).pairs)


def test_the_dimension_is_that_of_a_smooth_sheet_whatever_holds_it():
    for true, d in ((1, 1), (2, 40), (4, 40)):
        rng = np.random.default_rng([10, true])
        X = rng.normal(size=(1000, true)) @ rng.normal(size=(true, d))
        assert pairs_of(X).dimension == pytest.approx(true, rel=0.15)


def test_a_projection_keeps_distances():
    rng = np.random.default_rng(11)
    X = rng.normal(size=(60, 3000)).astype(np.float32)
    Z = standardised_rows(X, 0)
    assert Z.shape == (60, 512)
    whole = (X - X.mean(0)) / X.std(0)
    ratio = np.linalg.norm(Z[:30] - Z[30:], axis=1) / np.linalg.norm(whole[:30] - whole[30:], axis=1)
    assert np.abs(ratio - 1).max() < 0.15


def test_texts_are_equal_but_for_case_space_and_punctuation():
    assert normalised_text("  The  CITY—of Paris! ") == normalised_text("the city of paris")
    assert normalised_text("?!") == "?!"
    found = near_texts(["A b.", "a  B", "c", "?!"], 10)
    assert found.codes.tolist() == [0, 0, 1, 2]


def test_near_texts_equal_brute_force():
    rng = np.random.default_rng(12)
    texts = sentences(rng, 150)
    for i in range(60):
        words = texts[i].split()
        for _ in range(rng.integers(1, 4)):
            words[rng.integers(len(words))] = str(rng.choice(WORDS))
        texts.append(" ".join(words))
        texts.append(texts[i][:-2])
    texts = list(dict.fromkeys(texts))
    found = near_texts(texts, cap=10**6)
    shingles = [{t[i : i + 5] for i in range(len(t) - 4)} for t in map(normalised_text, texts)]
    expected = {
        (a, b)
        for a in range(len(texts))
        for b in range(a + 1, len(texts))
        if len(shingles[a] & shingles[b]) >= 0.9 * len(shingles[a] | shingles[b])
    }
    assert found.codes.tolist() == list(range(len(texts)))
    assert set(map(tuple, found.near.tolist())) == expected
    assert len(expected) >= 60


def test_long_texts_are_compared_by_a_sample_of_their_runs_and_that_is_said(monkeypatch):
    monkeypatch.setattr("leadline.evidence.near_texts._MAX_SHINGLES", 40_000)
    rng = np.random.default_rng(15)
    texts = sentences(rng, 100, 200)
    found = near_texts([*texts, *(t + " indeed" for t in texts[:50])], 10)
    assert "one in" in found.note
    assert found.near.tolist() == [[i, 100 + i] for i in range(50)]
    assert found.similarity.min() > 0.95


def test_a_shared_template_or_prompt_makes_no_rows_alike():
    rng = np.random.default_rng(13)
    prompt = "You are a careful assistant. Read the statement below and say whether it is true or false. " * 5
    texts = [f"{prompt} The city of {a} is in {b}." for a, b in zip(rng.choice(WORDS, 300), rng.choice(WORDS, 300))]
    fold = rng.permutation(300) % 5
    y = rng.integers(0, 2, (300, 1)).astype(float)
    assert split_duplicates(None, texts, y, fold, None).share_near_text == 0
    body = sentences(rng, 150)
    twins = [prompt + t for t in body] + [prompt + t + "s" for t in body]
    labels = np.tile(rng.integers(0, 2, (150, 1)), (2, 1)).astype(float)
    found = split_duplicates(None, twins, labels, fold, None)
    assert found.leaks
    assert found.share_near_text > 0.6
    assert found.share_equal_text == 0


def test_given_groups_stay_together_in_the_suggested_ones():
    groups = np.array(["a", "a", "b", "c"] * 20)
    texts = [f"text number {i} of a row without a twin" for i in range(80)]
    texts[2] = texts[3]
    y = np.tile([0.0, 1.0], 40)[:, None]
    found = split_duplicates(None, texts, y, np.arange(80) % 2, groups)
    assert found.suggested_groups[2] == found.suggested_groups[3]
    assert len(np.unique(found.suggested_groups)) == 2


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(EvidenceError, match="neither"):
        split_duplicates(None, None, np.zeros((4, 1)), np.zeros(4, dtype=int), None)
    with pytest.raises(EvidenceError, match="3 rows of texts"):
        split_duplicates(None, ["a"] * 3, np.zeros((4, 1)), np.zeros(4, dtype=int), None)
