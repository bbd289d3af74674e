import numpy as np
import pytest

from leadline.errors import EvidenceError
from leadline.evidence import tfidf
from leadline.evidence.controls import (
    ARRAY_CONTROLS,
    CONTROLS,
    TEXT_CONTROLS,
    control_scores,
    end_words,
    length_scores,
    tfidf_scores,
)


@pytest.fixture
def fold():
    return np.random.default_rng(0).permutation(120) % 4


def accuracy(scores, y):
    return max(((s[:, 0] > 0) == (y[:, 0] > 0)).mean() for s in scores)


def test_a_word_that_is_the_label_is_read_and_its_absence_is_not(fold):
    y = np.tile([0.0, 1.0], 60)[:, None]
    told = [f"it is {'fine' if label else 'poor'} {i}" for i, label in enumerate(y[:, 0])]
    assert accuracy(tfidf_scores("bag_of_words", told, y, "binary", fold), y) == 1.0
    silent = [f"it is row {i}" for i in range(120)]
    assert accuracy(tfidf_scores("bag_of_words", silent, y, "binary", fold), y) < 0.7


def test_spelling_is_read_by_characters_where_no_word_recurs(fold):
    rng = np.random.default_rng(1)
    y = np.tile([0.0, 1.0], 60)[:, None]
    letters = ["aeiou", "bcdfg"]
    texts = ["".join(rng.choice(list(letters[int(label)]), 9)) for label in y[:, 0]]
    assert accuracy(tfidf_scores("char_ngrams", texts, y, "binary", fold), y) > 0.95
    assert accuracy(tfidf_scores("bag_of_words", texts, y, "binary", fold), y) < 0.7


def test_each_fold_learns_its_vocabulary_from_its_own_training_rows(fold):
    # A word that stands in one fold alone tells nothing there, whatever its label is elsewhere.
    y = (fold == 2).astype(float)[:, None]
    y[:6] = [[0.0], [1.0]] * 3
    texts = [f"only{k}" for k in fold]
    scores = tfidf_scores("bag_of_words", texts, y, "binary", fold)
    for k in range(4):
        assert np.ptp(scores[:, fold == k, 0], axis=1).max() < 1e-6


def test_texts_without_any_word_give_a_constant(fold):
    y = np.tile([0.0, 1.0], 60)[:, None]
    assert np.ptp(tfidf_scores("bag_of_words", ["?!"] * 120, y, "binary", fold)) < 1e-6
    values = np.random.default_rng(0).normal(size=(120, 1)) + 5
    assert np.abs(tfidf_scores("bag_of_words", [""] * 120, values, "continuous", fold) - 5).max() < 1


def test_length_reads_length_for_both_kinds_of_target(fold):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 60, 120)
    texts = ["x" * int(n) for n in lengths]
    y = (lengths > 30).astype(float)[:, None]
    assert accuracy(length_scores(texts, y, "binary", fold), y) > 0.9
    values = 3.0 * lengths[:, None] + 7
    assert np.corrcoef(length_scores(texts, values, "continuous", fold)[0, :, 0], values[:, 0])[0, 1] > 0.98


def test_an_unknown_control_is_refused(fold):
    with pytest.raises(EvidenceError, match="unknown text control"):
        tfidf_scores("syntax", ["a"] * 120, np.zeros((120, 1)), "binary", fold)


def test_a_word_is_read_for_classes_and_for_levels(fold):
    classes = np.random.default_rng(9).permutation(120) % 4
    texts = [f"row {i} is {('red', 'green', 'blue', 'grey')[c]}" for i, c in enumerate(classes)]
    y = classes[:, None].astype(float)
    for name in ("bag_of_words", "char_ngrams"):
        scores = tfidf_scores(name, texts, y, "multiclass", fold)
        assert scores.shape == (5, 120, 4)
        assert (scores[:3].argmax(axis=2) == classes).mean() > 0.98
        levels = tfidf_scores(name, texts, y, "ordinal", fold)
        assert levels.shape == (5, 120, 3)
        # A prediction less k + ½: the columns are apart by one, and the number above 0 is the level.
        np.testing.assert_allclose(np.diff(levels, axis=2), -1, atol=1e-5)
        assert ((levels[0] > 0).sum(axis=1) == classes).mean() > 0.8


def test_a_class_that_no_training_row_has_never_wins():
    fold = np.arange(60) % 3
    y = np.where(fold == 0, 2, np.arange(60) % 2).astype(float)[:, None]
    texts = [f"word{i % 7} other{i % 2}" for i in range(60)]
    scores = tfidf_scores("bag_of_words", texts, y, "multiclass", fold)
    assert np.isfinite(scores).all()
    assert (scores[:, fold == 0].argmax(axis=2) != 2).all()


def test_counting_once_for_all_folds_equals_a_vectoriser_a_fold(fold, monkeypatch):
    from sklearn.feature_extraction.text import TfidfVectorizer

    rng = np.random.default_rng(3)
    words = [f"w{i}" for i in range(60)]
    texts = [" ".join(rng.choice(words, rng.integers(0, 9))) for _ in range(120)]
    for name, kept in (("bag_of_words", 50_000), ("char_ngrams", 50_000), ("bag_of_words", 40)):
        monkeypatch.setattr(tfidf, "_MAX_FEATURES", kept)
        for k, own, other in tfidf._tfidf(name, texts, fold, range(4), np.ones(len(texts), dtype=bool)):
            # Of features of equal number at the cap, either may stay, so their products are compared without one.
            alone = TfidfVectorizer(max_features=kept, sublinear_tf=True, **tfidf._ANALYSERS[name])
            expected = alone.fit_transform([t for t, f in zip(texts, fold, strict=True) if f != k])
            assert own.shape == expected.shape
            if kept > 40:
                held = alone.transform([t for t, f in zip(texts, fold, strict=True) if f == k])
                np.testing.assert_allclose(own.toarray(), expected.toarray(), rtol=1e-12)
                np.testing.assert_allclose(other.toarray(), held.toarray(), rtol=1e-12)


def test_some_folds_alone_are_scored_as_among_all(fold):
    y = np.tile([0.0, 1.0], 60)[:, None]
    texts = [f"it is {'fine' if label else 'poor'} {i}" for i, label in enumerate(y[:, 0])]
    every = tfidf_scores("bag_of_words", texts, y, "binary", fold)
    some = tfidf_scores("bag_of_words", texts, y, "binary", fold, folds=[1, 3])
    np.testing.assert_array_equal(some[:, np.isin(fold, [1, 3])], every[:, np.isin(fold, [1, 3])])
    assert np.isnan(some[:, np.isin(fold, [0, 2])]).all()


def test_the_ends_of_a_text_are_words_or_marks():
    first, last = end_words(['"Well," he said.', "one", "  ", "Über-Mensch"])
    assert first.tolist() == ['"', "one", "", "Über"]
    assert last.tolist() == [".", "one", "", "Mensch"]


def test_every_control_is_scored_by_its_name(fold):
    rng = np.random.default_rng(0)
    y = np.tile([0.0, 1.0], 60)[:, None]
    texts = [f"{'Yes' if label else 'No'} it is {i}{'!' if label else '.'}" for i, label in enumerate(y[:, 0])]
    arrays = {"position": y + rng.normal(0, 0.1, (120, 2)), "perplexity": y[:, 0] + rng.normal(0, 0.1, 120)}
    for name in (*TEXT_CONTROLS, *ARRAY_CONTROLS):
        assert name in CONTROLS
        scores = control_scores(name, y, "binary", fold, texts=texts, arrays=arrays)
        assert name == "length" or accuracy(scores, y) > 0.95
    # Ids from the model's own tokenizer go before the words of the text.
    ids = {"last_token": np.zeros(120, dtype=int)}
    assert np.ptp(control_scores("last_token", y, "binary", fold, texts=texts, arrays=ids)[0, fold == 0]) == 0
    with pytest.raises(EvidenceError, match="reads an array"):
        control_scores("perplexity", y, "binary", fold, texts=texts)
    with pytest.raises(EvidenceError, match="reads texts"):
        control_scores("length", y, "binary", fold)
    with pytest.raises(EvidenceError, match="unknown control"):
        control_scores("syntax", y, "binary", fold)


@pytest.mark.parametrize("name", ["bag_of_words", "length", "first_token", "perplexity"])
def test_rows_that_a_balanced_draw_leaves_out_are_scored_and_never_trained_on(name):
    rng = np.random.default_rng(8)
    n = 120
    fold, kept = np.arange(n) % 3, rng.random(n) < 0.5
    y = rng.integers(0, 2, n).astype(float)
    texts = [f"{'good' if v else 'bad'} {'word ' * int(rng.integers(1, 6))}{i % 7}" for i, v in enumerate(y)]
    arrays = {"perplexity": rng.normal(size=n)}
    scores = control_scores(name, y[:, None], "binary", fold, texts=texts, arrays=arrays, kept=kept)
    turned = np.where(kept, y, 1 - y)
    again = control_scores(name, turned[:, None], "binary", fold, texts=texts, arrays=arrays, kept=kept)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores, again, atol=1e-4)
    # Without the draw their labels count.
    without = control_scores(name, turned[:, None], "binary", fold, texts=texts, arrays=arrays)
    assert np.abs(without - scores).max() > 1e-3
