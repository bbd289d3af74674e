"""Sweeps of several classes and of levels: what is planted is found, what is not is not, and balance is of training."""

import numpy as np
import pytest

from leadline.errors import EvidenceError
from leadline.evidence import Labels, sweep_target
from leadline.evidence.permutation import deal, draw_shuffles, max_test, null_at_site
from leadline.probes import LDA, Logistic, MeanDifference, Ridge, make_folds
from leadline.sites import Site


class Arrays:
    def __init__(self, arrays):
        self.arrays = {Site.parse(name): x.astype(np.float32) for name, x in arrays.items()}
        self.sites = tuple(self.arrays)

    def read(self, site):
        return self.arrays[site]


def planted(kind, n=240, d=12, strength=2.0, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 3
    centres = np.eye(d)[:3] if kind == "multiclass" else np.outer(np.arange(3) - 1.0, np.eye(d)[0])
    arrays = {
        "resid_post.0": rng.normal(size=(n, d)),
        "resid_post.1": rng.normal(size=(n, d)) + strength * centres[codes],
    }
    return Arrays(arrays), Labels(
        "t", ("level",), kind, codes[:, None].astype(float), None, None, np.arange(n), classes=("a", "b", "c")
    )


SMALL = {"n_permutations": 99, "n_bootstraps": 200, "text_controls": ()}


@pytest.mark.parametrize("kind", ["multiclass", "ordinal"])
def test_planted_classes_are_decodable_where_they_stand_and_each_output_is_a_named_probe(kind):
    source, labels = planted(kind)
    found = sweep_target(source, Logistic(), labels, **SMALL)
    assert found.best_site.name == "resid_post.1"
    assert found.family.name == {"multiclass": "multinomial", "ordinal": "ordinal"}[kind]
    assert found.verdicts[0].verdict == "supported"
    assert found.permutation.p_values[0] > 0.05
    probes = found.best
    wanted = ["level=a", "level=b", "level=c"] if kind == "multiclass" else ["level>a", "level>b"]
    assert [p.target for p in probes] == wanted
    X = source.read(found.best_site)
    np.testing.assert_allclose(probes.score(X).shape, (240, len(wanted)))
    metric = {"multiclass": "auroc", "ordinal": "concordance"}[kind]
    assert found.table[metric][1] > 0.85
    # The refit's probes are those of the outcome, in order.
    np.testing.assert_allclose(probes.score(X)[:, 0], X @ found.outcomes[1].coef[0] + found.outcomes[1].intercept[0])


@pytest.mark.parametrize("kind", ["multiclass", "ordinal"])
def test_random_classes_are_not_supported(kind):
    source, labels = planted(kind, strength=0.0, seed=3)
    assert sweep_target(source, Logistic(l2=1.0), labels, **SMALL).verdicts[0].verdict != "supported"


def test_the_multiclass_null_is_the_mean_over_classes_of_one_against_rest():
    source, labels = planted("multiclass", n=90)
    X = source.read(source.sites[1])
    fold = make_folds(labels.Y, None, 3, stratify=True, seed=0)
    shuffles = draw_shuffles(labels.Y, None, 19, seed=0)
    whole = null_at_site(Ridge(), X, deal(labels.Y, "multiclass", shuffles), "multiclass", fold)["auroc"]
    by_class = []
    for c in range(3):
        Y = (c == labels.Y).astype(float)
        by_class.append(null_at_site(Ridge(), X, deal(Y, "binary", shuffles), "binary", fold)["auroc"])
    np.testing.assert_allclose(whole, np.mean(by_class, axis=0), rtol=1e-6)


def test_a_shuffle_without_a_statistic_counts_against_the_probe():
    shuffles = draw_shuffles(np.array([[0.0], [1.0]] * 10), None, 19, seed=0)
    null = np.r_[0.9, np.full(10, np.nan), np.full(9, 0.5)]
    found = max_test([{"auroc": null}], "binary", Logistic(), shuffles)
    assert found.p_max == found.p_values[0] == (1 + 10) / 20
    assert found.null_mean[0] == 0.5


def test_lda_takes_its_form_for_several_classes_and_mean_difference_is_refused():
    source, labels = planted("multiclass")
    assert sweep_target(source, LDA(), labels, **SMALL).verdicts[0].verdict == "supported"
    with pytest.raises(EvidenceError, match="Use logistic, lda or nearest_centroid"):
        sweep_target(source, MeanDifference(), labels, **SMALL)


def test_balance_trains_on_as_many_rows_of_each_class_and_judges_all():
    rng = np.random.default_rng(1)
    y = (np.arange(300) % 10 == 0).astype(float)
    source = Arrays({"resid_post.0": rng.normal(size=(300, 6)) + 1.5 * y[:, None] * np.eye(6)[0]})
    labels = Labels("t", ("t",), "binary", y[:, None], None, None, np.arange(300))
    plain = sweep_target(source, Logistic(l2=0.1), labels, **SMALL)
    even = sweep_target(source, Logistic(l2=0.1), labels, balance=True, **SMALL)
    # A probe of rare positives hardly ever names one; trained on even classes, it does.
    assert even.selection.metrics["balanced_accuracy"].value > plain.selection.metrics["balanced_accuracy"].value + 0.05
    assert even.scores.shape == plain.scores.shape
    with pytest.raises(EvidenceError, match="continuous"):
        sweep_target(
            source, Ridge(), Labels("t", ("t",), "continuous", y[:, None], None, None, np.arange(300)), balance=True
        )


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(EvidenceError, match="codes 0 to C-1"):
        Labels("t", ("t",), "multiclass", np.array([[0.5], [1.0]]), None, None, np.arange(2))
    with pytest.raises(EvidenceError, match="class names"):
        Labels("t", ("t",), "ordinal", np.array([[0.0], [4.0]]), None, None, np.arange(2), classes=("a", "b"))
    with pytest.raises(EvidenceError, match="types holds 1 values for 2 rows"):
        Labels("t", ("t",), "binary", np.array([[0.0], [1.0]]), None, None, np.arange(2), types=np.array(["x"]))


def test_rows_without_a_type_or_a_pair_share_none():
    Y = np.tile([[0.0], [1.0]], (20, 1))
    blank = np.array(["", "a", None, "a"] * 10, dtype=object)
    found = Labels("t", ("t",), "binary", Y, None, None, np.arange(40), types=blank, pairs=blank)
    assert len(set(found.types)) == len(set(found.pairs)) == 21


def test_one_of_several_targets_is_judged_by_its_q_value():
    from dataclasses import replace

    source, labels = planted("multiclass")
    found = sweep_target(source, Logistic(), labels, **SMALL)
    assert found.verdicts[0].verdict == "supported"
    assert replace(found, q_value=0.2).verdicts[0].verdict == "inconclusive"


def test_a_measure_that_the_data_do_not_carry_loses_no_run(monkeypatch):
    from leadline.evidence import measures

    def fails(*args, **kwargs):
        raise EvidenceError("too few rows for this.")

    monkeypatch.setattr(measures, "code_length", fails)
    source, labels = planted("multiclass")
    found = sweep_target(source, Logistic(), labels, measures=("code_length", "emergence"), **SMALL)
    assert found.measures.code_length is None
    assert found.measures.not_taken["code_length"] == "too few rows for this."
    assert found.measures.emergence[0].site == "resid_post.1"
