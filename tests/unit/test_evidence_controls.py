import numpy as np
import pytest

from leadline.errors import EvidenceError
from leadline.evidence.controls import length_scores, tfidf_scores


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
