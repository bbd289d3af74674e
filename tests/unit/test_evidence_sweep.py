"""The whole sweep on planted activations: verdicts, p-values, leaks, probes."""

import numpy as np
import polars as pl
import pytest

from leadline.activations import Activations
from leadline.data import Dataset
from leadline.errors import EvidenceError
from leadline.evidence.permutation import deal, draw_shuffles, max_test, null_at_site
from leadline.probes import Logistic, MeanDifference, Ridge
from leadline.probes.splits import make_folds
from leadline.study.sweep import fold_findings, leak_findings, sweep


def planted(seed=0, n=240, d=12, strength=1.5, from_site=2):
    rng = np.random.default_rng(seed)
    y = np.tile([0, 1], n // 2)
    direction = rng.normal(size=d)
    direction /= np.linalg.norm(direction)
    arrays = {}
    for layer in range(4):
        x = rng.normal(size=(n, d))
        if layer >= from_site:
            x = x + strength * np.outer(y - 0.5, direction)
        arrays[f"resid_post.{layer}"] = x
    return arrays, y, direction


@pytest.mark.parametrize("family", [Logistic(), Ridge(), MeanDifference()])
def test_a_planted_concept_is_found_where_it_stands(family):
    arrays, y, direction = planted()
    acts = Activations.from_arrays(arrays, targets={"concept": y})
    found = sweep(acts, family, controls=None, permutations=99, bootstraps=200)
    assert found.best_site.layer in (2, 3)
    words = {v.claim: v.verdict for v in found.verdicts}
    assert words["decodable"] == "supported"
    assert words["beyond surface"] == "not tested"
    assert found.permutation.p_values[2:].max() == 0.01
    assert found.permutation.p_values[:2].min() > 0.01
    assert abs(found.best.direction @ direction) > 0.8
    assert found.best.pattern @ found.best.direction > 0
    assert found.table.height == 4


def test_p_values_of_random_labels_are_small_no_oftener_than_they_say():
    p_values = []
    for seed in range(80):
        arrays, y, _ = planted(seed, n=100, strength=0)
        Y = y[:, None].astype(float)
        fold = make_folds(Y, None, 4, stratify=True, seed=seed)
        shuffles = draw_shuffles(Y, None, 39, seed=seed)
        dealt = deal(Y, "binary", shuffles)
        sites = [null_at_site(Ridge(), x.astype(np.float32), dealt, "binary", fold) for x in arrays.values()]
        p_values.append(max_test(sites, "binary", Ridge(), shuffles).p_max)
    # Of 80 draws 4 are expected at .05; more than 11 have a chance of 1e-3.
    assert np.sum(np.array(p_values) <= 0.05) <= 11
    assert 0.35 < np.mean(p_values) < 0.65


def test_random_labels_are_not_decodable():
    arrays, y, _ = planted(strength=0)
    acts = Activations.from_arrays(arrays, targets={"concept": y})
    found = sweep(acts, Logistic(), controls=None, permutations=99, bootstraps=200)
    assert found.verdicts[0].verdict in ("refuted", "inconclusive")
    assert found.permutation.p_max > 0.05


def test_flipped_labels_flip_the_probe_and_nothing_else():
    arrays, y, _ = planted()
    one, other = (
        sweep(
            Activations.from_arrays(arrays, targets={"t": labels}),
            Logistic(l2=0.1),
            controls=None,
            permutations=0,
            bootstraps=100,
        )
        for labels in (y, 1 - y)
    )
    np.testing.assert_allclose(one.scores, -other.scores, atol=2e-2)
    np.testing.assert_allclose(one.selection.metrics["auroc"].value, other.selection.metrics["auroc"].value, atol=2e-3)
    assert one.verdicts[0].verdict == "not tested"


def test_a_continuous_target_of_two_columns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 10))
    y = x[:, :2] @ np.array([[1.0, 50.0], [-1.0, 20.0]]) + rng.normal(size=(200, 2)) * [0.3, 10]
    frame = pl.DataFrame({"text": [f"row {i}" for i in range(200)], "a": y[:, 0], "b": y[:, 1]})
    data = Dataset.from_frame(frame, target=["a", "b"])
    acts = Activations.from_arrays({"embed": rng.normal(size=(200, 10)), "final_norm": x}, dataset=data)
    found = sweep(acts, Ridge(), permutations=99, bootstraps=200)
    assert found.best_site.name == "final_norm"
    assert found.selection.metrics["r2"].low > 0.8
    assert len(found.best) == 2
    words = {v.claim: v.verdict for v in found.verdicts}
    assert words["decodable"] == words["beyond surface"] == "supported"
    expected = np.corrcoef(found.best.score(x)[:, 1], y[:, 1])[0, 1]
    assert expected > 0.9


def test_a_leak_between_paired_rows_is_named_with_the_column_that_groups_them():
    words = [f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(150)]
    rows = [
        {"text": f"{w} is {'big' if label else 'small'} x{w}", "word": w, "label": label, "other": "same"}
        for w in words
        for label in (0, 1)
    ]
    # Neither word says which label: the text differs in a filler that is equal for both.
    rows = [{**r, "text": f"the {r['word']} is here"} for r in rows]
    data = Dataset.from_rows(rows, target="label")
    rng = np.random.default_rng(0)
    acts = Activations.from_arrays({"embed": rng.normal(size=(300, 5))}, dataset=data)
    found = sweep(acts, Logistic(l2=0.1), controls=["bag_of_words"], permutations=0, bootstraps=200)
    (finding,) = leak_findings(data, data.targets[0], found)
    assert finding.severity == "warning"
    assert "'word'" in finding.message
    grouped = Dataset.from_rows(rows, target="label", group="word")
    acts = Activations.from_arrays({"embed": rng.normal(size=(300, 5))}, dataset=grouped)
    found = sweep(acts, Logistic(l2=0.1), controls=["bag_of_words"], permutations=0, bootstraps=200)
    assert leak_findings(grouped, grouped.targets[0], found) == ()


def test_a_surface_word_that_is_the_label_is_never_beyond_surface():
    arrays, y, _ = planted(strength=4)
    texts = [f"this is {'good' if label else 'bad'} number {i}" for i, label in enumerate(y)]
    acts = Activations.from_arrays(arrays, targets={"concept": y}, texts=texts)
    found = sweep(acts, Logistic(), controls=["bag_of_words"], permutations=99, bootstraps=200)
    words = {v.claim: v.verdict for v in found.verdicts}
    assert words["decodable"] == "supported"
    assert words["beyond surface"] in ("refuted", "inconclusive")


def test_the_max_null_is_the_maximum_over_sites():
    arrays, y, _ = planted(strength=0)
    Y = y[:, None].astype(float)
    fold = make_folds(Y, None, 4, stratify=True, seed=0)
    shuffles = draw_shuffles(Y, None, 60, seed=0)
    dealt = deal(Y, "binary", shuffles)
    by_site = [null_at_site(Ridge(), x.astype(np.float32), dealt, "binary", fold) for x in arrays.values()]
    test = max_test(by_site, "binary", Ridge(), shuffles)
    values = np.stack([s["auroc"] for s in by_site])
    expected = (1 + np.sum(values[:, 1:].max(0) >= values[:, 0].max())) / 61
    assert test.p_max == pytest.approx(expected)
    assert test.p_max >= test.p_values.min()


def test_the_observed_statistic_is_what_the_smoother_gives():
    arrays, y, _ = planted()
    x, Y = arrays["resid_post.3"].astype(np.float32), y[:, None].astype(float)
    fold = make_folds(Y, None, 4, stratify=True, seed=0)
    shuffles = draw_shuffles(Y, None, 19, seed=0)
    observed = null_at_site(Ridge(), x, deal(Y, "binary", shuffles), "binary", fold)["auroc"][0]
    # An own fit with the smoother's penalty: a tenth of the mean eigenvalue, 0.1 for standardised features.
    fit = Ridge(l2=0.1).fit_site(x, Y, fold)
    from sklearn.metrics import roc_auc_score

    expected = np.mean([roc_auc_score(y[fold == k], fit.scores[0, fold == k, 0]) for k in range(4)])
    assert observed == pytest.approx(expected, abs=5e-3)


def test_constant_activations_are_chance_with_p_one():
    _, y, _ = planted()
    acts = Activations.from_arrays({"embed": np.ones((240, 4))}, targets={"t": y})
    found = sweep(acts, Logistic(), controls=None, permutations=49, bootstraps=100)
    assert found.selection.metrics["auroc"].value == 0.5
    assert found.permutation.p_max == 1.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"controls": ["random_weights"]}, "unknown control 'random_weights'"),
        ({"permutations": 5}, "needs 19 or more"),
        ({"bootstraps": 10}, "needs 100 or more"),
        ({"folds": 500}, "cannot fill 500 folds"),
        ({"alpha": 2.0}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_done_is_refused(arguments, said):
    arrays, y, _ = planted()
    acts = Activations.from_arrays(arrays, targets={"concept": y})
    with pytest.raises(EvidenceError, match=said):
        sweep(acts, Logistic(), **{"controls": None, **arguments})


def test_a_logistic_probe_on_a_continuous_target_is_refused():
    arrays, _, _ = planted()
    acts = Activations.from_arrays(arrays, targets={"value": np.linspace(0, 1, 240)})
    with pytest.raises(EvidenceError, match="Use ridge"):
        sweep(acts, Logistic(), controls=None)


def test_a_group_larger_than_a_fold_is_warned_of():
    arrays, y, _ = planted()
    groups = np.array(["big"] * 80 + [f"g{i // 4}" for i in range(160)])
    acts = Activations.from_arrays(arrays, targets={"concept": y}, groups=groups)
    found = sweep(acts, Logistic(l2=0.1), controls=None, permutations=0, bootstraps=100)
    (finding,) = fold_findings(acts.dataset, acts.dataset.targets[0], found)
    assert "'big'" in finding.message
    assert "33%" in finding.message
    even = Activations.from_arrays(arrays, targets={"concept": y}, groups=[f"g{i // 4}" for i in range(240)])
    found = sweep(even, Logistic(l2=0.1), controls=None, permutations=0, bootstraps=100)
    assert fold_findings(even.dataset, even.dataset.targets[0], found) == ()
