"""Planted data: what is said to be in it is in it, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from leadline.errors import EvidenceError
from leadline.evidence import CLAIMS
from leadline.testing import planted as plant
from leadline.testing.cases import CASES
from leadline.testing.nulls import NULLS
from leadline.testing.peer import cross_validate_layers
from leadline.testing.planted import Planted

WORDS = {"supported", "refuted", "inconclusive", "not tested"}
DATA_CASES = [case for case in CASES if not case.name.startswith("model:")]


def column(planted: Planted) -> np.ndarray:
    return planted.labels.Y[:, 0]


def separation(X: np.ndarray, y: np.ndarray) -> float:
    """AUROC along the difference of the means of one half of the rows, on the other half."""
    half = np.arange(len(y)) % 2 == 0
    w = X[half & (y > 0)].mean(axis=0) - X[half & (y == 0)].mean(axis=0)
    return float(roc_auc_score(y[~half], X[~half] @ w))


def layers(planted: Planted) -> list[np.ndarray]:
    return list(planted.activations.values())


@pytest.mark.parametrize("case", DATA_CASES, ids=lambda case: case.name)
def test_every_case_is_whole_and_the_same_for_the_same_seed(case) -> None:
    one, again, other = case.make(3), case.make(3), case.make(4)
    n = len(one.labels.Y)
    for site, X in one.activations.items():
        assert X.dtype == np.float32
        assert len(X) == n
        assert np.isfinite(X).all()
        np.testing.assert_array_equal(X, again.activations[site])
        assert not np.array_equal(X, other.activations[site])
    np.testing.assert_array_equal(one.labels.Y, again.labels.Y)
    assert set(one.truth) <= set(CLAIMS)
    assert one.truth
    assert all(allowed <= WORDS for allowed in one.truth.values())
    assert one.about


def test_the_tables_cover_what_they_should() -> None:
    names = [one.name for one in (*CASES, *NULLS)]
    assert len(set(names)) == len(names)
    assert len(CASES) >= 40
    assert {case.make(0).labels.kind for case in DATA_CASES} == {"binary", "continuous", "multiclass", "ordinal"}
    assert {null.claim for null in NULLS} == {"decodable", "selective", "beyond surface", "general"}


@pytest.mark.parametrize("null", NULLS, ids=lambda null: null.name)
def test_a_null_family_draws_data_on_which_its_claim_is_false(null) -> None:
    drawn = null.draw(0)
    if null.name != "at the margin":
        assert "supported" not in drawn.truth[null.claim]
    assert not np.array_equal(layers(drawn)[0], layers(null.draw(1))[0])


@pytest.mark.parametrize("effect", [1.2, 2.0, 3.0])
def test_a_linear_concept_has_the_stated_size_from_its_layer_on(effect: float) -> None:
    planted = plant.linear_concept(0, effect=effect, n=20_000, d=4, n_layers=4, first=2)
    found = [separation(X, column(planted)) for X in layers(planted)]
    expected = norm.cdf(effect / np.sqrt(2))
    assert found[:2] == pytest.approx([0.5, 0.5], abs=0.02)
    assert found[2:] == pytest.approx([expected, expected], abs=0.01)


def test_a_linear_number_has_the_stated_r2() -> None:
    planted = plant.linear_concept(0, kind="continuous", effect=1.5, n=20_000, d=4, n_layers=1, first=0)
    X = layers(planted)[0]
    residual = column(planted) - X @ np.linalg.lstsq(X, column(planted), rcond=None)[0]
    assert 1 - residual.var() / column(planted).var() == pytest.approx(1.5**2 / (1 + 1.5**2), abs=0.01)


def test_classes_lie_the_stated_distance_apart() -> None:
    planted = plant.linear_concept(0, kind="multiclass", effect=3.0, n=20_000, d=8, n_layers=1, first=0)
    means = np.stack([layers(planted)[0][column(planted) == c].mean(axis=0) for c in range(4)])
    distances = np.linalg.norm(means[:, None] - means[None], axis=2)
    np.testing.assert_allclose(distances[~np.eye(4, dtype=bool)], 3.0, atol=0.1)


def test_levels_lie_in_their_order_on_a_line() -> None:
    planted = plant.linear_concept(0, kind="ordinal", effect=1.0, n_classes=5, n=20_000, d=8, n_layers=1, first=0)
    means = np.stack([layers(planted)[0][column(planted) == c].mean(axis=0) for c in range(5)])
    steps = np.diff(means, axis=0)
    np.testing.assert_allclose(np.linalg.norm(steps, axis=1), 1.0, atol=0.1)
    np.testing.assert_allclose(np.linalg.norm(means[4] - means[0]), 4.0, atol=0.1)


def test_each_of_two_directions_marks_half_of_the_positive_rows() -> None:
    planted = plant.two_directions(0, effect=3.0, n=20_000, d=8, first=0, n_layers=1)
    positive = layers(planted)[0][column(planted) == 1]
    values, vectors = np.linalg.eigh(np.cov(positive.T))
    # Along u − v the two halves stand 3·√2 apart, which adds half of that, squared, to the noise's variance.
    assert values[-1] == pytest.approx(1 + (3 * np.sqrt(2) / 2) ** 2, rel=0.05)
    scores = positive @ vectors[:, -1]
    assert np.mean(scores > np.median(scores)) == pytest.approx(0.5, abs=0.01)
    # The means differ by (u + v)·effect/2.
    assert np.linalg.norm(positive.mean(axis=0)) == pytest.approx(3 / np.sqrt(2), abs=0.1)


def test_exclusive_or_is_in_no_direction_but_in_their_product() -> None:
    planted = plant.xor(0, effect=4.0, n=2000, d=6, n_layers=1)
    X, y = layers(planted)[0], column(planted)
    z = np.abs(X[y > 0].mean(axis=0) - X[y == 0].mean(axis=0)) * np.sqrt(len(y)) / 2 / X.std(axis=0)
    assert z.max() < 3.5
    model = make_pipeline(PolynomialFeatures(2), LogisticRegression(max_iter=2000))
    assert cross_val_score(model, X, y, scoring="roc_auc").mean() > 0.95


def test_random_labels_are_in_no_direction() -> None:
    planted = plant.nothing(0, n=4000, d=4, n_layers=3)
    assert [separation(X, column(planted)) for X in layers(planted)] == pytest.approx([0.5] * 3, abs=0.04)


def test_a_layer_keeps_the_stated_share_of_the_noise_before_it() -> None:
    first, second, third = layers(plant.nothing(0, n=4000, d=4, n_layers=3, kept=0.8))
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] == pytest.approx(0.8, abs=0.02)
    assert np.corrcoef(first.ravel(), third.ravel())[0, 1] == pytest.approx(0.64, abs=0.02)


def test_heavy_tails_have_one_dimension_that_dwarfs_the_others() -> None:
    spread = layers(plant.nothing(0, n=2000, tails=True))[0].std(axis=0)
    assert np.sort(spread)[-1] > 30 * np.sort(spread)[-2]


def test_a_rare_class_has_its_share() -> None:
    assert column(plant.rare_class(0, share=0.02, n=1500)).sum() == 30


@pytest.mark.parametrize(("n_words", "flipped"), [(1, 0.0), (10, 0.0), (1, 0.15)])
def test_a_surface_word_decides_the_label_and_activations_hold_the_word_alone(n_words: int, flipped: float) -> None:
    planted = plant.surface_word(0, n_words=n_words, flipped=flipped, n=2000, n_layers=1)
    y, texts = column(planted), [set(text.split()) for text in planted.labels.texts]
    always = {}
    for word in set.union(*texts):
        with_word = np.array([word in text for text in texts])
        always[word] = max(y[with_word].mean(), 1 - y[with_word].mean())
    marks = sorted(always, key=always.get)[-2 * n_words :]
    assert np.mean([always[word] for word in marks]) == pytest.approx(1 - flipped, abs=0.02)
    # Given the word there is noise alone, which says nothing of the labels that were turned.
    for mark in marks:
        rows = np.array([mark in text for text in texts])
        X = layers(planted)[0][rows]
        assert X.var(axis=0).mean() == pytest.approx(1.0, abs=0.1)
        if flipped:
            assert separation(X, y[rows]) == pytest.approx(0.5, abs=0.08)


def test_endings_that_decide_stand_on_words_that_recur_nowhere() -> None:
    planted = plant.surface_spelling(0)
    last = [text.split()[-1] for text in planted.labels.texts]
    assert len(set(last)) == len(last)
    assert [word.endswith("ing") for word in last] == (column(planted) == 1).tolist()
    assert all(word.endswith(("ing", "ist")) for word in last)


def test_the_length_is_the_target() -> None:
    numbers = plant.surface_length(0, kind="continuous")
    assert [len(text.split()) for text in numbers.labels.texts] == column(numbers).tolist()
    classes = plant.surface_length(0)
    assert [len(text.split()) > 12 for text in classes.labels.texts] == (column(classes) > 0).tolist()


def test_a_word_agrees_with_a_concept_as_often_as_stated() -> None:
    planted = plant.beyond_surface(0, agreement=0.75, n=4000)
    last = np.array([text.split()[-1] for text in planted.labels.texts])
    assert len(set(last)) == 2
    rate = np.mean((last == last[0]) == (column(planted) > 0))
    assert max(rate, 1 - rate) == pytest.approx(0.75, abs=0.02)


def test_pairs_share_words_with_each_other_alone_and_have_opposite_labels() -> None:
    planted = plant.pairs_apart(0, n_pairs=50)
    y, texts = column(planted), [text.split()[:3] for text in planted.labels.texts]
    for i, words in enumerate(texts):
        shared = [j for j, other in enumerate(texts) if j != i and set(words) & set(other)]
        assert len(shared) == 1
        assert texts[shared[0]] == words
        assert y[shared[0]] == 1 - y[i]
    assert planted.labels.groups is None


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("uneven", [True, False])
def test_a_group_is_the_label(grouped: bool, uneven: bool) -> None:
    planted = plant.group_is_label(0, n_groups=20, n=400, grouped=grouped, uneven=uneven)
    labels = planted.labels
    groups = labels.groups if grouped else labels.candidates["topic"]
    assert (labels.groups is None) != grouped
    sizes = []
    for name in np.unique(groups.astype(str)):
        held = column(planted)[groups == name]
        assert len(np.unique(held)) == 1
        sizes.append(len(held))
    assert len(sizes) == 20
    assert (max(sizes) > 3 * min(sizes)) == uneven
    if not grouped:
        assert len(np.unique(column(planted)[labels.candidates["weekday"] == "day 0"])) == 2


def test_labels_vary_within_groups_that_lie_apart() -> None:
    planted = plant.group_offsets(0, effect=0, n=2000, apart=6.0)
    X, groups = layers(planted)[0], planted.labels.groups
    means = np.stack([X[groups == name].mean(axis=0) for name in np.unique(groups.astype(str))])
    assert np.linalg.norm(means, axis=1).mean() == pytest.approx(6.0, rel=0.1)
    assert all(0.2 < column(planted)[groups == name].mean() < 0.8 for name in np.unique(groups.astype(str)))


def test_near_duplicates_lie_far_closer_than_others_and_share_their_label() -> None:
    planted = plant.near_duplicates(0, n_clusters=20, copies=4, blur=0.02)
    X = layers(planted)[0]
    distance = np.linalg.norm(X[:, None] - X[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1)[:, :3]
    assert (column(planted)[nearest] == column(planted)[:, None]).all()
    assert np.sort(distance, axis=1)[:, 2].max() < 0.1 * np.sort(distance, axis=1)[:, 3].min()
    stripped = [text[:-1] for text in planted.labels.texts]
    assert all(stripped[i] == stripped[j] for i, row in enumerate(nearest) for j in row)
    assert len(set(planted.labels.texts)) == 80


def test_rows_of_one_word_and_label_lie_close_and_were_not_copied() -> None:
    planted = plant.recurring_words(0)
    X, y = layers(planted)[0], column(planted)
    last = np.array([text.split()[-1] for text in planted.labels.texts])
    distance = np.linalg.norm(X[:, None] - X[None], axis=2)
    alike = (last[:, None] == last) & (y[:, None] == y) & ~np.eye(len(y), dtype=bool)
    assert distance[alike].max() < 0.2 * np.median(distance)
    assert len({text.rsplit(" ", 1)[0] for text in planted.labels.texts}) == len(y)


def test_rows_without_a_copy_have_none() -> None:
    planted = plant.near_duplicates(0, n_clusters=5, copies=2, n_single=90)
    stripped = [text[:-1] for text in planted.labels.texts]
    assert (len(stripped), len(set(stripped))) == (100, 95)


def test_as_many_labels_are_wrong_as_stated() -> None:
    right, wrong = (plant.linear_concept(0, n=500, wrong=share) for share in (0.0, 0.2))
    assert np.sum(column(right) != column(wrong)) == 100
    np.testing.assert_array_equal(layers(right)[0], layers(wrong)[0])


def test_groups_that_give_nothing_away_are_named_where_folds_split_them() -> None:
    labels = plant.group_offsets(0, grouped=False).labels
    assert labels.groups is None
    assert len(set(labels.candidates["topic"])) == 20


@pytest.mark.parametrize(
    ("how", "n_types", "constant"), [("context", 30, False), ("linear", 30, True), ("arbitrary", 30, True)]
)
def test_a_type_recurs_and_decides_the_label_or_does_not(how: str, n_types: int, constant: bool) -> None:
    planted = plant.typed_concept(0, how=how, n_types=n_types, n=300)
    types, y = planted.labels.types, column(planted)
    held = [np.unique(y[types == name]) for name in np.unique(types.astype(str))]
    assert len(held) == n_types
    assert all(len(values) == 1 for values in held) == constant


def test_a_type_of_one_row_recurs_nowhere() -> None:
    assert len(set(plant.typed_concept(0, how="unique", n=50).labels.types)) == 50


@pytest.mark.parametrize(("relation", "expected"), [("same", 0.98), ("flipped", 0.02), ("gone", 0.5)])
def test_a_direction_from_home_means_elsewhere_what_it_should(relation: str, expected: float) -> None:
    planted = plant.domains(0, relations=(relation,), effect=3.0, n=2000, n_other=2000)
    (arrays, labels) = planted.held_out["domain B"]
    home, y = layers(planted)[0], column(planted)
    w = home[y > 0].mean(axis=0) - home[y == 0].mean(axis=0)
    assert roc_auc_score(labels.Y[:, 0], arrays["resid_post.0"] @ w) == pytest.approx(expected, abs=0.02)
    # Further from home than rows of home are from each other's mean.
    assert np.linalg.norm(arrays["resid_post.0"].mean(axis=0) - home.mean(axis=0)) == pytest.approx(2.0, abs=0.2)


def test_simplified_representations_have_the_stated_size_and_one_map_for_both_sets() -> None:
    components = plant.simplified(0, how="components", size=2)
    assert layers(components)[0].shape[1] == 2
    clusters = plant.simplified(0, how="clusters", size=6)
    home = np.unique(layers(clusters)[0], axis=0)
    elsewhere = np.unique(clusters.held_out["elsewhere"][0]["resid_post.0"], axis=0)
    assert len(home) == 6
    assert all((home == row).all(axis=1).any() for row in elsewhere)
    with pytest.raises(EvidenceError, match="full, components or clusters"):
        plant.simplified(0, how="half")


def test_what_is_kept_of_a_simplified_representation_turns_round_and_the_whole_does_not() -> None:
    def elsewhere(how: str) -> float:
        planted = plant.simplified(0, how=how, n=2000, n_other=2000)
        arrays, labels = planted.held_out["elsewhere"]
        model = LogisticRegression(max_iter=5000).fit(layers(planted)[0], column(planted))
        return float(roc_auc_score(labels.Y[:, 0], model.decision_function(arrays["resid_post.0"])))

    assert elsewhere("full") > 0.9
    assert elsewhere("components") < 0.3
    assert elsewhere("clusters") < 0.3


def test_the_peer_is_cross_validation_of_scikit_learn_at_its_best_layer() -> None:
    planted = plant.linear_concept(0, effect=1.0, n=200, d=8, n_layers=3, first=1)
    found = cross_validate_layers(planted, seed=5)
    splitter = StratifiedKFold(5, shuffle=True, random_state=5)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    means = {
        site: cross_val_score(model, X, column(planted), cv=splitter, scoring="roc_auc").mean()
        for site, X in planted.activations.items()
    }
    assert found.site == max(means, key=means.get)
    assert found.value == pytest.approx(max(means.values()))
    assert found.verdict == "supported"
    assert found.p < 0.05


@pytest.mark.parametrize("kind", ["continuous", "multiclass", "ordinal"])
def test_the_peer_takes_every_kind_of_target(kind: str) -> None:
    assert cross_validate_layers(plant.linear_concept(0, kind=kind, effect=3.0, n_layers=1, first=0)).verdict == (
        "supported"
    )


def test_the_peer_believes_a_group_that_is_the_label() -> None:
    makers: list[Callable[..., Planted]] = [plant.group_is_label]
    assert all(cross_validate_layers(make(0, n_groups=10)).verdict == "supported" for make in makers)
