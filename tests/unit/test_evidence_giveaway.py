"""Words that carry the label: found where they are, not found where they are not, and what is left without them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse
import scipy.stats

from leadline.errors import EvidenceError
from leadline.evidence.association import associate, hypergeometric
from leadline.evidence.bootstrap import bootstrap_design, metric_table
from leadline.evidence.controls import tfidf_scores
from leadline.evidence.giveaway import giveaway_words, mask_text, mask_texts
from leadline.evidence.giveaway_effect import giveaway_effect, masked_bag_of_words, score_by_fold
from leadline.evidence.multiplicity import benjamini_hochberg
from leadline.probes.splits import make_folds

FILLER = [f"word{i}" for i in range(60)]


def filler(rng: np.random.Generator, n: int, size: int = 8) -> list[str]:
    return [" ".join(rng.choice(FILLER, size)) for _ in range(n)]


def planted(n: int = 240, seed: int = 0) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Texts of which "Wonderful" and "awful" are the label, among random words."""
    rng = np.random.default_rng(seed)
    y = np.tile([0.0, 1.0], n // 2)
    base = filler(rng, n)
    texts = [
        f"{text[:20]} {'Wonderful' if label else 'awful'}, {text[20:]}" for text, label in zip(base, y, strict=True)
    ]
    return texts, y[:, None], rng.permutation(n) % 4


# ---- the tests of association


def pattern(seed: int, n: int = 40, v: int = 6) -> tuple[np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return (rng.random((n, v)) < rng.uniform(0.2, 0.7, v)).astype(float), rng


def test_one_stratum_is_fishers_exact_test() -> None:
    P, rng = pattern(0)
    y = (rng.random(40) < 0.3).astype(float)
    y[P[:, 0] > 0] = 1
    found = associate(scipy.sparse.csc_matrix(P), y[:, None], "binary", np.zeros(40, dtype=int))
    for j in range(P.shape[1]):
        a, b = int((P[:, j] * y).sum()), int((P[:, j] * (1 - y)).sum())
        table = [[a, b], [int(y.sum()) - a, int((1 - y).sum()) - b]]
        one_sided = [scipy.stats.fisher_exact(table, alternative=s).pvalue for s in ("less", "greater")]
        if found.p[j] < 0.3:
            assert found.p[j] == pytest.approx(min(1, 2 * min(one_sided)), rel=1e-9)
        assert found.correlation[j] == pytest.approx(np.corrcoef(P[:, j], y)[0, 1], rel=1e-9)
    assert found.p[0] < 1e-4
    assert (found.outcome == 1).all()


def test_several_strata_are_permutations_within_each_counted_out() -> None:
    P, _ = pattern(1, n=12, v=4)
    stratum = np.repeat([0, 1, 2], [4, 4, 4])
    y = np.array([1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0], dtype=float)
    P[:, 0] = y
    found = associate(scipy.sparse.csc_matrix(P), y[:, None], "binary", stratum)
    draws = []
    for parts in itertools.product(*(sorted(set(itertools.permutations(y[stratum == s]))) for s in range(3))):
        draws.append(P.T @ np.concatenate(parts))
    null = np.array(draws)
    observed = P.T @ y
    exact = 2 * np.minimum((null <= observed + 1e-9).mean(axis=0), (null >= observed - 1e-9).mean(axis=0))
    small = found.p < 0.3
    assert small.any()
    np.testing.assert_allclose(found.p[small], np.minimum(exact, 1)[small], rtol=1e-9)


def test_classes_and_thresholds_are_corrected_for_their_number_and_named() -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(0, 4, 200).astype(float)
    P = np.stack([y == 2, y != 1, y > 1, rng.random(200) < 0.5], axis=1).astype(float)
    by_class = associate(scipy.sparse.csc_matrix(P), y[:, None], "multiclass", np.zeros(200, dtype=int))
    assert by_class.outcome[:2].tolist() == [2, 1]
    np.testing.assert_allclose(by_class.correlation[:2], [1, -1])
    one = associate(scipy.sparse.csc_matrix(P), (y == 2)[:, None].astype(float), "binary", np.zeros(200, dtype=int))
    assert by_class.p[0] == pytest.approx(4 * one.p[0])
    by_level = associate(scipy.sparse.csc_matrix(P), y[:, None], "ordinal", np.zeros(200, dtype=int))
    assert by_level.outcome[2] == 1
    assert by_level.correlation[2] == pytest.approx(1)


def test_numbers_are_tested_by_their_ranks() -> None:
    P, rng = pattern(3, n=120)
    y = rng.normal(size=120) + P[:, 0]
    found = associate(scipy.sparse.csc_matrix(P), y[:, None], "continuous", np.zeros(120, dtype=int))
    for j in range(P.shape[1]):
        u = scipy.stats.mannwhitneyu(y[P[:, j] > 0], y[P[:, j] == 0], method="asymptotic", use_continuity=False)
        assert found.p[j] == pytest.approx(u.pvalue, rel=1e-6)
        assert found.correlation[j] == pytest.approx(scipy.stats.spearmanr(P[:, j], y).statistic, rel=1e-6)


def test_hypergeometric_chances_and_q_values_are_scipys() -> None:
    for n, n_positive, n_held in ((20, 7, 5), (9, 9, 4), (12, 1, 11)):
        low, chances = hypergeometric(n, n_positive, n_held)
        a = np.arange(low, low + len(chances))
        np.testing.assert_allclose(chances, scipy.stats.hypergeom.pmf(a, n, n_positive, n_held), rtol=1e-9)
    p = np.random.default_rng(0).random(50) ** 2
    np.testing.assert_allclose(benjamini_hochberg(p), scipy.stats.false_discovery_control(p))
    assert len(benjamini_hochberg(np.zeros(0))) == 0


# ---- finding


def test_a_word_that_is_the_label_is_found_and_nothing_is_left_without_it() -> None:
    texts, Y, fold = planted()
    found = giveaway_words(texts, Y, "binary", fold, None)
    assert all(set(own) == {"wonderful", "awful"} for own in found.words)
    by_word = {w.word: w for w in found.merged}
    assert set(by_word) == {"wonderful", "awful"}
    assert by_word["wonderful"].association == pytest.approx(1)
    assert by_word["awful"].association == pytest.approx(-1)
    assert (by_word["awful"].n_texts, by_word["awful"].n_folds) == (120, 4)
    assert found.table["word"].to_list() == [w.word for w in found.merged]
    assert found.unit == "text"
    assert not found.reason

    masked = mask_texts(texts, found, fold)
    assert masked.changed.all()
    assert not any("wonderful" in text.lower() or "awful" in text.lower() for text in masked.texts)
    design = bootstrap_design(fold, None, 100, 0)

    def auroc(scores: np.ndarray) -> np.ndarray:
        return metric_table(scores, Y, "binary", design).point["auroc"]

    assert auroc(tfidf_scores("bag_of_words", texts, Y, "binary", fold)).max() > 0.99
    assert np.abs(auroc(masked_bag_of_words(texts, found, Y, "binary", fold)) - 0.5).max() < 0.12


@pytest.mark.parametrize("kind", ["continuous", "multiclass", "ordinal"])
def test_words_are_found_for_every_kind_of_target(kind: str) -> None:
    rng = np.random.default_rng(4)
    level = rng.integers(0, 4, 240)
    names = ("lowest", "lower", "higher", "highest")
    texts = [f"{text} {names[c]}" for text, c in zip(filler(rng, 240), level, strict=True)]
    Y = level[:, None] + (rng.normal(0, 0.1, (240, 2)) if kind == "continuous" else 0.0)
    found = giveaway_words(texts, Y, kind, rng.permutation(240) % 4, None)
    assert set(names) == {w.word for w in found.merged if w.n_folds == 4} | (
        # Between four levels, the middle ones go less with a rank; they may be missed by some fold.
        {"lower", "higher"} if kind != "multiclass" else set()
    )
    if kind == "multiclass":
        assert {w.word: w.outcome for w in found.merged if w.word in names} == {n: c for c, n in enumerate(names)}


@pytest.mark.parametrize("kind", ["binary", "ordinal", "continuous"])
def test_random_labels_give_a_fold_giveaways_no_oftener_than_stated(kind: str) -> None:
    n_draws, folds_found = 60, 0
    for seed in range(n_draws):
        rng = np.random.default_rng([seed, 3])
        # Rare classes, and numbers that are mostly 0, are where an approximation would fail.
        Y = (rng.random((80, 1)) < 0.2).astype(float)
        if kind != "binary":
            Y *= rng.integers(1, 4, (80, 1)) if kind == "ordinal" else rng.lognormal(size=(80, 1))
        found = giveaway_words(filler(rng, 80, 6), Y, kind, rng.permutation(80) % 4, None, min_association=0.0)
        assert min(found.n_tested) > 20
        folds_found += sum(bool(own) for own in found.words)
    # A fold's rate is at most q; the limit is the 99.9% quantile of as many folds at that rate, as if apart.
    assert folds_found <= scipy.stats.binom.ppf(0.999, n_draws * 4, 0.05)


@pytest.mark.parametrize("shared", [False, True])
def test_the_words_of_a_group_are_no_giveaways_where_its_label_is_constant(shared: bool) -> None:
    false, inflated = 0, 0
    for seed in range(25):
        rng = np.random.default_rng([seed, 4])
        groups = np.repeat(np.arange(16), 15)
        label = rng.permutation(np.tile([0.0, 1.0], 8))
        # Words of its own (or of a topic that several groups share) stand in most of a group's texts.
        topic = rng.integers(0, 6, 16) if shared else np.arange(16)
        texts = [
            " ".join([*rng.choice(FILLER[:20], 3), *(f"topic{topic[g]}x{i}" for i in range(6) if rng.random() < 0.8)])
            for g in groups
        ]
        Y = label[groups][:, None]
        fold = make_folds(Y, groups, 4, stratify=True, seed=seed)
        found = giveaway_words(texts, Y, "binary", fold, groups, min_units=2)
        assert found.unit == "group"
        false += bool(found.merged)
        inflated += bool(giveaway_words(texts, Y, "binary", fold, None).merged)
    assert false <= scipy.stats.binom.ppf(0.999, 25, 0.05)
    # Rows counted each for itself would find some nearly always, so that the test can fail.
    assert inflated > 20


def test_labels_that_vary_within_groups_are_compared_there() -> None:
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(60), 4)
    Y = np.tile([0.0, 0.0, 1.0, 1.0], 60)[:, None]
    texts = [
        f"{text} own{g} {'marked' if y and rng.random() < 0.7 else ''}"
        for text, g, y in zip(filler(rng, 240), groups, Y[:, 0], strict=True)
    ]
    found = giveaway_words(texts, Y, "binary", make_folds(Y, groups, 4, stratify=True, seed=0), groups)
    assert found.unit == "text, within its group"
    assert [w.word for w in found.merged] == ["marked"]


def test_the_words_of_a_fold_do_not_depend_on_its_own_rows() -> None:
    texts, Y, fold = planted()
    other_labels, other_texts = Y.copy(), list(texts)
    other_labels[fold == 2] = 1 - Y[fold == 2]
    for i in np.flatnonzero(fold == 2):
        other_texts[i] = f"entirely other {i % 2} giveaway" if Y[i, 0] else "nothing"
    before = giveaway_words(texts, Y, "binary", fold, None)
    after = giveaway_words(other_texts, other_labels, "binary", fold, None)
    assert after.words[2] == before.words[2]
    assert after.words[0] != before.words[0]


def test_only_the_strongest_are_kept() -> None:
    rng = np.random.default_rng(6)
    Y = np.tile([0.0, 1.0], 120)[:, None]
    texts = [
        " ".join(f"good{i}" for i in range(9) if y and rng.random() < 0.3 + 0.07 * i) or "nothing" for y in Y[:, 0]
    ]
    found = giveaway_words(texts, Y, "binary", rng.permutation(240) % 4, None, max_words=3)
    assert all(len(own) == 3 for own in found.words)
    assert {"good8", "good7"} <= set(found.words[0])


def test_what_has_no_words_says_so() -> None:
    Y, fold = np.tile([0.0, 1.0], 20)[:, None], np.arange(40) % 4
    assert "no texts" in giveaway_words(None, Y, "binary", fold, None).reason
    assert "holds a word" in giveaway_words(["?!"] * 40, Y, "binary", fold, None).reason
    alone = giveaway_words([f"only{i}" for i in range(40)], Y, "binary", fold, None)
    assert "no word stands in 5" in alone.reason
    assert not alone.table.height
    with pytest.raises(EvidenceError, match="3 texts, 40 labels"):
        giveaway_words(["a"] * 3, Y, "binary", fold, None)
    with pytest.raises(EvidenceError, match="q is 5"):
        giveaway_words(["a"] * 40, Y, "binary", fold, None, q=5)


# ---- masking


@pytest.mark.parametrize(
    ("text", "without", "hidden"),
    [
        ("A wonderful, Good film.", "A, film.", "A _, _ film."),
        ("Good film", "film", "_ film"),
        ("goods are not good", "goods are not", "goods are not _"),
        ("GOOD-natured\n good\nnews", "-natured\n\nnews", "_-natured\n _\nnews"),
        ("good", "…", "_"),
        (" spaced  out ", " spaced  out ", " spaced  out "),
    ],
)
def test_whole_words_alone_are_masked(text: str, without: str, hidden: str) -> None:
    words = ("good", "wonderful")
    assert mask_text(text, words) == without
    assert mask_text(text, words, "_") == hidden
    assert mask_text(without, words) == without


def test_a_row_is_masked_by_the_words_of_its_own_fold() -> None:
    texts, Y, fold = planted()
    found = giveaway_words(texts, Y, "binary", fold, None)
    only = type(found)((("awful",), (), ("wonderful",), ()), found.merged, found.n_tested, found.unit)
    masked = mask_texts(texts, only, fold)
    expected = ((fold == 0) & (Y[:, 0] == 0)) | ((fold == 2) & (Y[:, 0] == 1))
    np.testing.assert_array_equal(masked.changed, expected)
    assert all(new is old for new, old, c in zip(masked.texts, texts, masked.changed, strict=True) if not c)


# ---- the effect


def test_rows_are_scored_by_the_probe_that_never_saw_them() -> None:
    from leadline.probes.logistic import Logistic

    rng = np.random.default_rng(7)
    X, fold = rng.normal(size=(90, 5)).astype(np.float32) + 3, rng.permutation(90) % 3
    Y = (X[:, :1] > 3).astype(float)
    fit = Logistic(l2=0.01).fit_site(X, Y, fold)
    scores = score_by_fold(X, fold, fit.fold_coef[0], fit.fold_intercept[0])
    np.testing.assert_allclose(scores, fit.scores[0], atol=1e-4)
    with pytest.raises(EvidenceError, match="do not fit probes of shape"):
        score_by_fold(X[:, :4], fold, fit.fold_coef[0], fit.fold_intercept[0])


def test_the_loss_is_paired_and_what_was_not_measured_says_why() -> None:
    rng = np.random.default_rng(8)
    Y = np.tile([0.0, 1.0], 150)[:, None]
    fold = rng.permutation(300) % 5
    design = bootstrap_design(fold, None, 300, 0)
    before = (Y + rng.normal(0, 0.4, Y.shape)).astype(np.float32)
    noise = rng.normal(size=Y.shape).astype(np.float32)
    changed = np.ones(300, dtype=bool)
    lost = giveaway_effect(before, noise, Y, "binary", design, changed, bag_before=before[None], bag_after=noise[None])
    assert lost.metric == "auroc"
    assert lost.loss.value == pytest.approx(lost.before.value - lost.after.value)
    assert lost.loss.low > 0.3
    assert lost.p_loss < 0.01
    assert lost.after.low < 0.5 < lost.after.high
    assert lost.bag_before == lost.before
    assert lost.bag_after == lost.after
    kept = giveaway_effect(before, before + 1e-3 * noise, Y, "binary", design, changed)
    # Paired: the interval of no loss is far narrower than that of either figure.
    assert kept.loss.high - kept.loss.low < (kept.after.high - kept.after.low) / 5
    assert kept.loss.low <= 0 <= kept.loss.high
    none = giveaway_effect(before, None, Y, "binary", design, np.zeros(300, dtype=bool))
    assert "nothing was masked" in none.reason
    assert np.isnan(none.after.value)
    assert np.isfinite(none.before.value)
    assert "not run through" in giveaway_effect(before, None, Y, "binary", design, changed).reason
    assert giveaway_effect(before, None, Y, "binary", design, changed, reason="chats").reason == "chats"
