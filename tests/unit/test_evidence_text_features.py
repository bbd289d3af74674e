import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from leadline.errors import EvidenceError
from leadline.evidence.text_features import FEATURES, feature_values, text_features

WORDS = ["river", "stone", "lantern", "of", "the", "quiet", "market", "seven", "hill"]
OPTIONS = {"n_permutations": 199, "n_bootstraps": 200}


def written(rng, n, lengths=None, ends=None):
    lengths = rng.integers(4, 12, n) if lengths is None else lengths
    ends = ["."] * n if ends is None else ends
    return [" ".join(rng.choice(WORDS, k)).capitalize() + e for k, e in zip(lengths, ends)]


def named(result):
    return {f.name: f for f in result.features}


def test_each_feature_counts_what_it_says():
    text = 'The "Old" town isn\'t in Peru, is it?\nNo: 42 stood in Älm. Wow!'
    values = dict(zip(FEATURES, feature_values([text])[0], strict=True))
    expected = {
        "characters": len(text),
        "words": 14,
        "sentences": 3,
        "longest_word": 5,
        "digits": 2,
        "capitals": 6,
        "capitals_share": 6 / len(text),
        "capitalised_words": 5,
        "distinct_words": 13 / 14,
        "commas": 2,
        "quotes": 2,
        "question_marks": 1,
        "exclamation_marks": 1,
        "negations": 2,
        "not_ascii": 1,
        "line_breaks": 1,
        "starts_with_capital": 1,
        "starts_with_digit": 0,
        "ends_with_letter": 0,
        "ends_with_period": 0,
    }
    for name, value in expected.items():
        assert values[name] == pytest.approx(value), name
    empty = feature_values(["", "  "])
    assert np.isfinite(empty).all()


def test_a_mark_that_is_the_label_is_named_and_its_auroc_is_sklearns():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    asked = rng.random(300) < np.where(y, 0.2, 0.8)
    texts = written(rng, 300, ends=["?" if a else "." for a in asked])
    fold = rng.permutation(300) % 5
    result = text_features(texts, y[:, None].astype(float), "binary", fold, None, **OPTIONS)
    asks = named(result)["question_marks"]
    expected = np.mean([roc_auc_score(y[fold == k], -asked[fold == k].astype(float)) for k in range(5)])
    assert asks.label.value == pytest.approx(expected)
    assert asks.label.low < expected < asks.label.high
    assert asks.label.low > 0.7
    assert asks.sign == -1
    assert named(result)["ends_with_period"].sign == 1
    assert {f.name for f in result.explain_label} == {"question_marks", "ends_with_period"}
    assert named(result)["digits"].reason == "every text has the same value"
    assert result.features[-1].reason
    assert result.table.height == len(FEATURES)
    assert result.table["probe_partial"].null_count() == len(FEATURES)


@pytest.mark.parametrize("kind", ["continuous", "ordinal", "multiclass"])
def test_length_that_goes_with_the_label_is_found_in_every_kind(kind):
    rng = np.random.default_rng(1)
    y = rng.normal(size=400) if kind == "continuous" else rng.integers(0, 3, 400).astype(float)
    # For classes the middle one is the longest, which no correlation shows.
    mean = {"continuous": 20 - 5 * y, "ordinal": 10 + 5 * y, "multiclass": 10 + 8 * (y == 1)}[kind]
    texts = written(rng, 400, lengths=np.maximum(mean + rng.normal(size=400) * 3, 2).astype(int))
    fold = rng.permutation(400) % 5
    result = text_features(texts, y[:, None], kind, fold, None, **OPTIONS)
    words = named(result)["words"]
    assert words.label.low > 0.3
    assert words.q_label <= 0.05
    assert words.sign == {"continuous": -1, "ordinal": 1, "multiclass": 0}[kind]
    if kind != "multiclass":
        x = feature_values(texts)[:, list(FEATURES).index("words")]
        by_fold = [scipy.stats.spearmanr(x[fold == k], y[fold == k])[0] for k in range(5)]
        assert words.label.value == pytest.approx(abs(np.mean(by_fold)))
    assert "starts_with_capital" not in {f.name for f in result.explain_label}


def test_what_the_probe_reads_beyond_the_label_is_told_from_what_goes_with_the_label():
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 400)
    lengths = rng.integers(4, 20, 400) + 8 * y
    asked = rng.random(400) < 0.5
    texts = written(rng, 400, lengths=lengths, ends=["?" if a else "." for a in asked])
    fold = rng.permutation(400) % 5
    Y = y[:, None].astype(float)
    reads_marks = (3 * y + 1.5 * asked + rng.normal(size=400) + 10 * fold)[:, None]
    result = text_features(texts, Y, "binary", fold, None, reads_marks, **OPTIONS)
    assert {f.name for f in result.explain_probe} == {"question_marks", "ends_with_period"}
    assert named(result)["question_marks"].probe.low > 0.3
    assert named(result)["words"].q_label <= 0.05
    # A score that is the label and nothing else follows no feature, though length goes with the label.
    honest = text_features(texts, Y, "binary", fold, None, 2.0 * Y - 1, **OPTIONS)
    assert honest.explain_probe == ()
    noisy = text_features(texts, Y, "binary", fold, None, Y * 3 + rng.normal(size=(400, 1)), **OPTIONS)
    assert abs(named(noisy)["words"].probe.value) < 0.15
    # The partial correlation of one fold and class by hand.
    part = np.flatnonzero((fold == 0) & (y == 1))
    one = text_features(
        [texts[i] for i in np.tile(part, 4)],
        np.tile(np.repeat([[0.0], [1.0]], len(part), axis=0), (2, 1)),
        "binary",
        np.repeat([0, 1], 2 * len(part)),
        None,
        np.tile(reads_marks[part], (4, 1)),
        **OPTIONS,
    )
    expected = scipy.stats.spearmanr(lengths[part], reads_marks[part, 0])[0]
    assert named(one)["words"].probe.value == pytest.approx(expected)


def test_a_continuous_probe_is_read_beyond_its_label_too():
    rng = np.random.default_rng(3)
    y = rng.normal(size=(400, 1))
    lengths = np.maximum(10 + 3 * y[:, 0] + rng.normal(size=400) * 3, 2).astype(int)
    texts = written(rng, 400, lengths=lengths)
    fold = rng.permutation(400) % 5
    follows = y + 0.2 * (lengths[:, None] - 10) + 0.2 * rng.normal(size=(400, 1))
    assert "words" in {
        f.name for f in text_features(texts, y, "continuous", fold, None, follows, **OPTIONS).explain_probe
    }
    honest = y + 0.5 * rng.normal(size=(400, 1))
    assert text_features(texts, y, "continuous", fold, None, honest, **OPTIONS).explain_probe == ()


@pytest.mark.parametrize("kind", ["binary", "multiclass", "ordinal", "continuous"])
def test_features_of_random_texts_explain_nothing(kind):
    alarms, of_probe = 0, 0
    for draw in range(20):
        rng = np.random.default_rng([4, draw])
        # Texts of a group are alike, and its label is one: shuffles that ignored groups would find something.
        group = np.repeat(np.arange(30), 4)
        lengths = rng.integers(4, 25, 30)[group] + rng.integers(0, 2, 120)
        texts = written(rng, 120, lengths=lengths)
        label = rng.normal(size=30) if kind == "continuous" else np.arange(30) % (2 if kind == "binary" else 3)
        y = rng.permutation(label).astype(float)[group][:, None]
        fold = group % 3
        scores = rng.normal(size=(30, 3 if kind == "multiclass" else 1))[group]
        result = text_features(texts, y, kind, fold, group, scores, **OPTIONS)
        alarms += bool(result.explain_label)
        of_probe += bool(result.explain_probe)
    # A rate of .05 gives more than 4 of 20 in one of 300 runs.
    assert alarms <= 4
    assert of_probe <= 4


def test_one_group_a_fold_gives_no_interval():
    rng = np.random.default_rng(5)
    fold = np.repeat(np.arange(3), 20)
    y = np.tile([0.0, 1.0], 30)[:, None]
    result = text_features(written(rng, 60), y, "binary", fold, fold, rng.normal(size=(60, 1)), **OPTIONS)
    words = named(result)["words"]
    assert np.isfinite(words.label.value)
    assert np.isnan(words.label.low)
    assert np.isnan(words.p_probe)
    assert result.explain_probe == ()


def test_lengths_that_do_not_fit_are_refused():
    with pytest.raises(EvidenceError, match="3 rows of texts"):
        text_features(["a"] * 3, np.zeros((4, 1)), "binary", np.zeros(4, dtype=int), None)
