"""Transfer: sets that share, flip and miss a direction; groups in common; the Mantel test; held-out sets."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.metrics import r2_score, roc_auc_score

from leadline.errors import EvidenceError
from leadline.evidence.labels import Labels
from leadline.evidence.mantel import mantel
from leadline.evidence.shared_folds import shared_folds
from leadline.evidence.sweep import sweep_target
from leadline.evidence.transfer import cosine, held_out_metrics, hold_out, mahalanobis_cosine
from leadline.evidence.transfer_matrix import TransferMatrix, transfer_matrix
from leadline.probes import Logistic, MeanDifference, Multinomial, Ordinal, Ridge
from leadline.sites import Site

D = 12
FIRST, SECOND = Site.parse("resid_post.0"), Site.parse("resid_post.1")


class Arrays:
    """A source over arrays."""

    def __init__(self, arrays: dict[Site, np.ndarray]) -> None:
        self.arrays = arrays
        self.sites = tuple(arrays)

    def read(self, site: Site) -> np.ndarray:
        return self.arrays[site]


def labels(y: np.ndarray, kind: str = "binary", **more: object) -> Labels:
    Y = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
    given = {"groups": None, "texts": None, **more}
    return Labels(name="truth", columns=("truth",), kind=kind, Y=Y, rows=np.arange(len(Y)), **given)  # type: ignore[arg-type]


def planted(direction: np.ndarray, seed: int, n: int = 160, size: float = 3.0) -> tuple[Arrays, Labels]:
    """Two sites: noise alone, and noise with the class along a direction."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % 2)
    noise = rng.normal(size=(2, n, D)).astype(np.float32)
    signal = ((2 * y[:, None] - 1) * direction * size / 2).astype(np.float32)
    return Arrays({FIRST: noise[0], SECOND: noise[1] + signal}), labels(y)


@pytest.fixture(scope="module")
def matrix() -> TransferMatrix:
    """A and B share a direction, C has it flipped, D has another, E lies between A's and D's."""
    e = np.eye(D)
    ways = {"A": e[0], "B": e[0], "C": -e[0], "D": e[1], "E": (e[0] + e[1]) / np.sqrt(2)}
    sources = {name: planted(way, seed, n=800) for seed, (name, way) in enumerate(ways.items())}
    return transfer_matrix(sources, Logistic(l2=(0.1, 1.0)), n_bootstraps=200)


def test_the_matrix_shows_which_sets_share_a_direction(matrix: TransferMatrix) -> None:
    auroc = matrix.values("auroc", SECOND)
    shared, flipped, orthogonal = auroc[0, 1], auroc[0, 2], auroc[0, 3]
    assert shared > 0.95
    assert flipped < 0.06
    assert abs(orthogonal - 0.5) < 0.12
    assert 0.8 < auroc[0, 4] < shared
    assert (np.diag(auroc) > 0.93).all()
    assert matrix.best_site == SECOND
    one = matrix.cell("A", "C", "resid_post.1")
    assert one.metrics["auroc"].low < one.metrics["auroc"].value < one.metrics["auroc"].high
    assert one.scored_by == "refit"
    assert one.setting in (0.1, 1.0)
    assert matrix.table.height == 2 * 25 * 5
    assert set(matrix.table["metric"]) == {"auroc", "accuracy", "balanced_accuracy", "f1", "centred_accuracy"}
    with pytest.raises(EvidenceError, match="the sets are A, B, C, D, E"):
        matrix.cell("A", "F", SECOND)


def test_the_cosines_predict_the_matrix(matrix: TransferMatrix) -> None:
    alike = matrix.values("mahalanobis_cosine", SECOND)
    np.testing.assert_allclose(np.diag(alike), 1)
    assert alike[0, 1] > 0.85
    assert alike[0, 2] < -0.85
    assert abs(alike[0, 3]) < 0.3
    for predictor in ("mahalanobis_cosine", "cosine", "cross_fitted_cosine"):
        test = matrix.prediction(predictor, SECOND).test
        assert test.correlation > 0.9
        assert test.exact
        assert test.n_permutations == 120
        assert test.n_pairs == 20
        # A and B are one direction: the permutation that swaps them changes next to nothing.
        assert test.p_value <= 4 / 120
    assert matrix.prediction("mahalanobis_cosine").test.n_pairs == 40
    assert matrix.cosines.height == 50
    with pytest.raises(EvidenceError, match="no prediction by 'dot'"):
        matrix.prediction("dot")


def test_the_diagonal_is_that_of_a_sweep_and_nothing_is_in_sample(matrix: TransferMatrix) -> None:
    source, own = planted(np.eye(D)[0], 0, n=800)
    swept = sweep_target(
        source, Logistic(l2=(0.1, 1.0)), own, n_permutations=0, n_bootstraps=200, text_controls=()
    ).outcomes
    for site, outcome in zip((FIRST, SECOND), swept, strict=True):
        cell = matrix.cell("A", "A", site)
        assert cell.setting == outcome.setting
        assert cell.metrics["auroc"].value == pytest.approx(outcome.selection.metrics["auroc"].value, abs=1e-6)
    assert abs(matrix.cell("A", "A", FIRST).metrics["auroc"].value - 0.5) < 0.15


def test_the_mahalanobis_cosine_is_the_correlation_of_scores() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6)) + 100
    w1, w2 = rng.normal(size=(2, 6))
    S = np.cov(X.T)
    brute = w1 @ S @ w2 / np.sqrt((w1 @ S @ w1) * (w2 @ S @ w2))
    assert mahalanobis_cosine(w1, w2, X) == pytest.approx(brute, abs=1e-12)
    assert mahalanobis_cosine(w1, w2, X) == pytest.approx(np.corrcoef(X @ w1, X @ w2)[0, 1], abs=1e-10)
    assert mahalanobis_cosine(3 * w1, -w1, X) == pytest.approx(-1)
    several = rng.normal(size=(2, 3, 6))
    traces = [np.trace(a @ S @ b.T) for a, b in ((several[0], several[1]), *((w, w) for w in several))]
    assert mahalanobis_cosine(*several, X) == pytest.approx(traces[0] / np.sqrt(traces[1] * traces[2]), abs=1e-12)
    # A direction in which the rows do not vary: rounding is no correlation.
    flat = np.hstack([X, np.full((50, 1), 0.1)]).astype(np.float32)
    assert np.isnan(mahalanobis_cosine(np.eye(7)[6], np.eye(7)[0], flat))
    assert np.isnan(cosine(np.zeros(3), np.ones(3)))
    with pytest.raises(EvidenceError, match="expected one width"):
        mahalanobis_cosine(w1, w2[:5], X)


def grouped(seed: int, codes: dict[str, np.ndarray], truth: dict[str, int], names: list[str]) -> tuple[Arrays, Labels]:
    """Every group has a vector of its own and a label of its own, and nothing else tells the label."""
    rng = np.random.default_rng(seed)
    groups = np.array([name for name in names for _ in range(4)])
    y = np.array([truth[name] for name in groups])
    X = np.stack([codes[name] for name in groups]) + 0.1 * rng.normal(size=(len(groups), 80))
    return Arrays({FIRST: X.astype(np.float32)}), labels(y, groups=groups)


def test_groups_that_sets_share_are_never_both_trained_on_and_tested() -> None:
    rng = np.random.default_rng(5)
    names = [f"city {i}" for i in range(60)]
    codes = {name: rng.normal(size=80) for name in names}
    truth = {name: int(i % 2) for i, name in enumerate(rng.permutation(names))}
    sources = {"A": grouped(1, codes, truth, names), "B": grouped(2, codes, truth, names[::-1])}
    found = transfer_matrix(sources, Logistic(l2=0.01), n_bootstraps=100)
    for one, other in (("A", "B"), ("B", "A")):
        cell = found.cell(one, other, FIRST)
        assert cell.scored_by == "folds"
        assert cell.n_shared == cell.n_rows == 240
        assert cell.metrics["auroc"].value < 0.65
    # The same probes without the guard have the cities by heart.
    (a, of_a), (b, of_b) = sources["A"], sources["B"]
    naive = Logistic(l2=0.01).fit_site(a.read(FIRST), of_a.Y, np.full(240, -1))
    assert roc_auc_score(of_b.Y[:, 0], b.read(FIRST) @ naive.coef[0, 0]) > 0.99
    for k in range(5):
        kept = set(of_a.groups[found.folds.folds["A"] != k])  # type: ignore[index]
        held = set(of_b.groups[found.folds.folds["B"] == k])  # type: ignore[index]
        assert not kept & held
    # One city in common is enough, and its sets stay apart from a third that shares none.
    sources["B"] = grouped(2, codes, truth, names[:1] + names[30:])
    sources["A"] = grouped(1, codes, truth, names[:30])
    other = {f"other {name}": value for name, value in codes.items()}
    sources["C"] = grouped(3, other, {f"other {name}": value for name, value in truth.items()}, list(other))
    found = transfer_matrix(sources, Logistic(l2=0.01), n_bootstraps=100)
    assert found.cell("A", "B", FIRST).scored_by == "folds"
    assert found.cell("A", "B", FIRST).n_shared == 4
    assert found.cell("A", "C", FIRST).scored_by == "refit"


def test_texts_that_sets_share_are_guarded_without_groups_and_told_with_them() -> None:
    source, own = planted(np.eye(D)[0], 0, n=40)
    texts = [f"text {i}" for i in range(40)]
    bare = {"A": (source, replace(own, texts=texts)), "B": (source, replace(own, texts=texts))}
    found = transfer_matrix(bare, Logistic(l2=1.0), n_folds=4, n_bootstraps=100)
    np.testing.assert_array_equal(found.folds.folds["A"], found.folds.folds["B"])
    assert found.cell("A", "B", SECOND).scored_by == "folds"
    assert found.notes == ()
    # Empty texts are of arrays from elsewhere, and say nothing.
    empty = {name: (source, replace(own, texts=[""] * 40)) for name in bare}
    found = transfer_matrix(empty, Logistic(l2=1.0), n_folds=4, n_bootstraps=100)
    assert found.cell("A", "B", SECOND).scored_by == "refit"
    assert found.notes == ()
    named = replace(own, texts=texts, groups=np.arange(40).astype(str))
    found = transfer_matrix({"A": bare["A"], "B": (source, named)}, Logistic(l2=1.0), n_folds=4, n_bootstraps=100)
    assert "40 of 40 rows of 'B' have a text that 'A' has too" in found.notes[1]


def test_shared_folds_balance_every_set_and_refuse_what_cannot_be_balanced() -> None:
    groups = np.repeat([f"g{i}" for i in range(20)], 4)
    y = np.tile([0, 0, 1, 1], 20)
    given = {"A": labels(y, groups=groups), "B": labels(1 - y[:40], groups=groups[:40])}
    found = shared_folds(given, 5, 0)
    for name in given:
        for k in range(5):
            held = given[name].Y[found.folds[name] == k, 0]
            assert held.mean() == 0.5
    np.testing.assert_array_equal(found.folds["A"][:40], found.folds["B"])
    numbers = {name: labels(np.arange(len(one.Y)), "continuous", groups=one.groups) for name, one in given.items()}
    assert set(shared_folds(numbers, 5, 0).folds["B"]) == set(range(5))
    with pytest.raises(EvidenceError, match="class 1 of the set 'B' stands in 3 groups and cannot be in all of 5"):
        shared_folds({"A": given["A"], "B": labels(np.array([0] * 28 + [1] * 12), groups=groups[:40])}, 5, 0)
    with pytest.raises(EvidenceError, match="the set 'B': 3 groups cannot fill 5 folds"):
        shared_folds({"A": given["A"], "B": labels(y[:12], groups=np.repeat(["x", "y", "z"], 4))}, 5, 0)


def test_cells_equal_scikit_learn_by_hand() -> None:
    rng = np.random.default_rng(3)
    w = rng.normal(size=(5, 1))
    sources, arrays = {}, {}
    for name, n in (("A", 40), ("B", 50)):
        X = rng.normal(size=(n, 5)).astype(np.float32)
        y = X @ w + 0.5 * rng.normal(size=(n, 1))
        arrays[name] = X, y
        sources[name] = (Arrays({FIRST: X}), labels(y, "continuous"))
    found = transfer_matrix(sources, Ridge(l2=0.3), n_folds=4, n_bootstraps=100)
    (X, y), (X2, y2) = arrays["A"], arrays["B"]

    def predicted(rows: np.ndarray, test: np.ndarray) -> np.ndarray:
        mean, spread = X[rows].mean(axis=0), X[rows].std(axis=0)
        model = SklearnRidge(alpha=0.3 * rows.sum()).fit((X[rows] - mean) / spread, y[rows])
        return np.asarray(model.predict((test - mean) / spread))

    every = np.ones(40, dtype=bool)
    off = found.cell("A", "B", FIRST).metrics
    assert off["r2"].value == pytest.approx(r2_score(y2, predicted(every, X2)), abs=1e-5)
    fold = found.folds.folds["A"]
    own = np.mean([r2_score(y[fold == k], predicted(fold != k, X[fold == k])) for k in range(4)])
    assert found.cell("A", "A", FIRST).metrics["r2"].value == pytest.approx(own, abs=1e-5)
    # By shared folds: B now has A's groups, so each of its folds is scored by A's fit without that fold.
    groups = {"A": np.arange(40).astype(str), "B": np.arange(50).astype(str)}
    sources = {name: (source, replace(one, groups=groups[name])) for name, (source, one) in sources.items()}
    found = transfer_matrix(sources, Ridge(l2=0.3), n_folds=4, n_bootstraps=100)
    one, other = found.folds.folds["A"], found.folds.folds["B"]
    np.testing.assert_array_equal(one, other[:40])
    by_hand = np.mean([r2_score(y2[other == k], predicted(one != k, X2[other == k])) for k in range(4)])
    assert found.cell("A", "B", FIRST).metrics["r2"].value == pytest.approx(by_hand, abs=1e-5)
    assert found.cell("A", "B", FIRST).metrics["spearman"].value > 0.8


@pytest.mark.parametrize(("family", "kind"), [(Multinomial(l2=0.1), "multiclass"), (Ordinal(l2=0.1), "ordinal")])
def test_several_classes_carry_over(family: Multinomial | Ordinal, kind: str) -> None:
    centres = np.eye(4)[[0, 1, 2]] * 4 if kind == "multiclass" else np.outer([-1, 0, 1], np.eye(4)[0]) * 4
    sources = {}
    for seed, name in enumerate("ABC"):
        rng = np.random.default_rng(seed)
        y = rng.permutation(np.arange(90) % 3)
        X = centres[y] * (-1 if name == "C" and kind == "ordinal" else 1) + rng.normal(size=(90, 4))
        sources[name] = (Arrays({FIRST: X.astype(np.float32)}), labels(y, kind))
    found = transfer_matrix(sources, family, n_folds=3, n_bootstraps=100)
    metric = "auroc" if kind == "multiclass" else "concordance"
    assert found.cell("A", "B", FIRST).metrics[metric].value > 0.9
    assert found.cell("A", "B", FIRST).mahalanobis_cosine > 0.9
    if kind == "ordinal":
        assert found.cell("A", "C", FIRST).metrics[metric].value < 0.1
        assert found.cell("A", "C", FIRST).mahalanobis_cosine < -0.9
    renamed = replace(sources["B"][1], classes=("x", "y", "z"))
    with pytest.raises(EvidenceError, match="different classes"):
        transfer_matrix({"A": sources["A"], "B": (sources["B"][0], renamed)}, family)


def test_sets_that_do_not_go_together_are_refused() -> None:
    (source, own), (other, theirs) = planted(np.eye(D)[0], 0), planted(np.eye(D)[0], 1)
    family = MeanDifference()
    with pytest.raises(EvidenceError, match="two or more"):
        transfer_matrix({"A": (source, own)}, family)
    with pytest.raises(EvidenceError, match="A binary with 1 column, B continuous with 1 column"):
        transfer_matrix({"A": (source, own), "B": (other, replace(theirs, kind="continuous"))}, family)
    with pytest.raises(EvidenceError, match="no site in common"):
        transfer_matrix(
            {
                "A": (Arrays({FIRST: source.read(FIRST)}), own),
                "B": (Arrays({SECOND: other.read(SECOND)}), theirs),
            },
            family,
        )
    narrow = Arrays({FIRST: other.read(FIRST)[:, :5]})
    with pytest.raises(EvidenceError, match=r"differ in width at resid_post.0 \(A 12, B 5\)"):
        transfer_matrix({"A": (source, own), "B": (narrow, theirs)}, family)
    with pytest.raises(EvidenceError, match=r"resid_post\.7 is not a site of every set"):
        transfer_matrix({"A": (source, own), "B": (other, theirs)}, family, sites=["resid_post.7"])
    numbers = {n: (s, replace(o, kind="continuous")) for n, s, o in (("A", source, own), ("B", other, theirs))}
    with pytest.raises(EvidenceError, match="takes binary targets"):
        transfer_matrix(numbers, family)
    renamed = replace(theirs, classes=("no", "yes"))
    notes = transfer_matrix({"A": (source, own), "B": (other, renamed)}, family, n_bootstraps=100).notes
    assert "A: 1; B: yes" in notes[0]


def test_mantel_equals_brute_force() -> None:
    rng = np.random.default_rng(0)
    A = rng.normal(size=(4, 4))
    B = A + rng.normal(size=(4, 4))
    off = ~np.eye(4, dtype=bool)

    def r(order: tuple[int, ...]) -> float:
        moved = B[np.ix_(order, order)]
        return float(np.corrcoef(A[off], moved[off])[0, 1])

    every = [r(order) for order in permutations(range(4))]
    found = mantel(A, B)
    assert found.correlation == pytest.approx(every[0])
    assert found.p_value == pytest.approx(np.mean([x >= every[0] - 1e-12 for x in every]))
    assert (found.exact, found.n_permutations, found.smallest_p) == (True, 24, 1 / 24)
    both = mantel(A, -B, alternative="two-sided")
    assert both.p_value == pytest.approx(np.mean([abs(x) >= abs(every[0]) - 1e-12 for x in every]))
    assert mantel(A, -B).p_value > 0.5
    # Three sets cannot be significant, and this is said.
    few = mantel(A[:3, :3], A[:3, :3])
    assert few.p_value == pytest.approx(1 / 6)
    assert "below 0.17" in few.note
    assert found.note == ""


def test_mantel_pools_layers_without_credit_for_their_levels() -> None:
    rng = np.random.default_rng(1)
    levels = np.array([0.0, 10.0])[:, None, None]
    A, B = rng.normal(size=(2, 2, 6, 6)) + levels
    pooled = mantel(A, B)
    assert pooled.correlation > 0.9
    assert pooled.p_value > 0.05
    assert pooled.n_pairs == 60


def test_mantel_samples_where_items_are_many_and_is_level_under_independence() -> None:
    rng = np.random.default_rng(2)
    found = mantel(rng.normal(size=(9, 9)), rng.normal(size=(9, 9)), n_permutations=99)
    assert (found.exact, found.n_permutations, found.smallest_p) == (False, 99, 0.01)
    A = rng.normal(size=(9, 9))
    assert mantel(A, A, n_permutations=99).p_value == 0.01
    # Rows share a level, as cells of one probe do: a test over cells would reject far too often.
    ps = []
    for _ in range(200):
        one, other = (rng.normal(size=(7, 7)) + 2 * rng.normal(size=(7, 1)) for _ in range(2))
        ps.append(mantel(one, other).p_value)
    assert np.mean(np.array(ps) <= 0.05) < 0.10


def test_mantel_says_what_it_cannot_do() -> None:
    A = np.random.default_rng(0).normal(size=(5, 5))
    found = mantel(A, np.ones((5, 5)))
    assert np.isnan(found.p_value)
    assert "same value" in found.reason
    B = A.copy()
    B[0, 1] = np.nan
    assert mantel(A, B).n_pairs == 19
    assert mantel(A, B).correlation == pytest.approx(1)
    with pytest.raises(EvidenceError, match="expected two"):
        mantel(A, A[:4])
    with pytest.raises(EvidenceError, match="two items or more"):
        mantel(np.ones((1, 1)), np.ones((1, 1)))
    with pytest.raises(EvidenceError, match="alternative is 'less'"):
        mantel(A, A, alternative="less")


def test_held_out_probes_are_scored_and_compared() -> None:
    source, own = planted(np.eye(D)[0], 0)
    swept = sweep_target(source, Logistic(l2=(0.1, 1.0)), own, n_permutations=0, n_bootstraps=100, text_controls=())
    other, theirs = planted(-np.eye(D)[0], 1, n=60)
    found = hold_out(swept, other, theirs, name="flipped", n_replicates=100)
    X = other.read(SECOND).astype(np.float64)
    outcome = swept.outcomes[1]
    scores = X @ outcome.coef.T + outcome.intercept
    assert found.best["auroc"].value == pytest.approx(roc_auc_score(theirs.Y[:, 0], scores[:, 0]), abs=1e-6)
    assert found.metrics["resid_post.1"] == held_out_metrics(scores, theirs.Y, "binary", None, n_replicates=100, seed=0)
    assert (found.n_rows, found.n_groups, found.n_shared, found.best_site) == (60, 60, 0, "resid_post.1")
    assert found.best["auroc"].value < 0.06
    assert found.cosine["resid_post.1"] < -0.8
    assert np.isnan(found.cosine["resid_post.0"])
    w2 = Logistic(l2=outcome.setting).fit_site(other.read(SECOND), theirs.Y, np.full(60, -1)).coef[0]
    assert found.cosine["resid_post.1"] == pytest.approx(mahalanobis_cosine(outcome.coef, w2, X), abs=1e-9)

    rows = np.flatnonzero(theirs.Y[:, 0] > 0)
    one_class = replace(theirs, Y=theirs.Y[rows], rows=rows)
    alone = hold_out(swept, other, one_class, name="positives", n_replicates=100)
    assert np.isnan(alone.best["auroc"].value)
    assert np.isfinite(alone.best["accuracy"].value)
    assert "1 of the 2 classes" in alone.reason
    with pytest.raises(EvidenceError, match="'numbers' is continuous"):
        hold_out(swept, other, replace(theirs, kind="continuous"), name="numbers")
    with pytest.raises(EvidenceError, match=r"5 dimensions at resid_post\.0"):
        hold_out(swept, Arrays({s: other.read(s)[:, :5] for s in other.sites}), theirs, name="narrow")


def test_held_out_rows_of_known_groups_are_counted() -> None:
    source, own = planted(np.eye(D)[0], 0)
    own = replace(own, groups=np.array([f"g{i // 4}" for i in range(160)]))
    swept = sweep_target(source, Logistic(l2=1.0), own, n_permutations=0, n_bootstraps=100, text_controls=())
    theirs = replace(planted(np.eye(D)[0], 1)[1], groups=np.array([f"g{i // 4 + 35}" for i in range(160)]))
    found = hold_out(swept, planted(np.eye(D)[0], 1)[0], theirs, name="other", n_replicates=100)
    assert found.n_shared == 20
    assert found.n_groups == 40


def test_rows_that_were_trained_on_are_scored_by_a_fold_that_never_saw_them() -> None:
    """A set of the same groups in which a probe can only remember must not look as if the concept carried over."""
    rng = np.random.default_rng(5)
    n, n_groups = 400, 40
    group = np.repeat(np.arange(n_groups), n // n_groups)
    label = rng.permutation(np.arange(n_groups) % 2)[group].astype(float)
    identity = 3 * rng.normal(size=(n_groups, 30))[group]
    names = np.array([f"g{g}" for g in group])
    home = Arrays({SECOND: (identity + rng.normal(size=(n, 30))).astype(np.float32)})
    own = replace(labels(label), groups=names)
    swept = sweep_target(home, Logistic(l2=0.1), own, n_permutations=0, n_bootstraps=100, text_controls=())
    again = Arrays({SECOND: (identity + rng.normal(size=(n, 30))).astype(np.float32)})
    found = hold_out(swept, again, own, name="again", n_replicates=100)
    assert found.n_shared == n
    assert np.array_equal(found.fold, swept.fold)
    assert found.best["auroc"].value < 0.75
    # The refit has seen every group: it remembers them all. It is used for a split of the same set alone.
    assert hold_out(swept, again, own, name="split", shifted=False, n_replicates=100).best["auroc"].value > 0.85
    texts = [f"text {i}" for i in range(n)]
    swept = sweep_target(
        home,
        Logistic(l2=0.1),
        replace(labels(label), texts=texts),
        n_permutations=0,
        n_bootstraps=100,
        text_controls=(),
    )
    same = hold_out(swept, home, replace(labels(label), texts=texts), name="same", n_replicates=100)
    assert same.n_shared == n
    assert same.best["auroc"].value == pytest.approx(swept.selection.naive["auroc"], abs=1e-6)


def test_the_p_value_on_another_set_is_level_where_its_groups_mean_nothing() -> None:
    source, own = planted(np.eye(D)[0], 0)
    swept = sweep_target(source, Logistic(l2=1.0), own, n_permutations=0, n_bootstraps=100, text_controls=())
    low = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(12), 10)
        y = rng.permutation(np.arange(12) % 2)[group].astype(float)
        X = rng.normal(size=(120, D)) + 3 * np.outer(rng.normal(size=12)[group], np.eye(D)[0])
        theirs = replace(labels(y), groups=np.array([f"x{g}" for g in group]))
        arrays = Arrays({s: X.astype(np.float32) for s in source.sites})
        low += hold_out(swept, arrays, theirs, name="null", n_replicates=100).p_value <= 0.05
    assert low <= 8
    flipped = planted(-np.eye(D)[0], 1)
    assert hold_out(swept, *flipped, name="flipped", n_replicates=100).p_value == 1.0
    same = planted(np.eye(D)[0], 1)
    assert hold_out(swept, *same, name="same", n_replicates=100).p_value <= 0.02
