from dataclasses import dataclass, field

import numpy as np
import pytest

from leadline.errors import EvidenceError
from leadline.evidence.bootstrap import bootstrap_design, metric_table
from leadline.evidence.conditions import wrong_labels
from leadline.evidence.robustness import robustness
from leadline.probes.fit import SiteFit
from leadline.probes.logistic import Logistic
from leadline.probes.multinomial import Multinomial
from leadline.probes.ordinal import Ordinal
from leadline.probes.ridge import Ridge
from leadline.probes.splits import make_folds

OPTIONS = {"setting": 0.1, "n_bootstraps": 200}


def concept(rng, n=300, d=12, shift=1.2):
    y = rng.permutation(np.arange(n) % 2).astype(float)
    X = rng.normal(size=(n, d))
    X[:, 0] += shift * (2 * y - 1)
    return X.astype(np.float32), y[:, None]


def by_name(result):
    return {c.name: c for c in result.conditions}


@dataclass(frozen=True)
class Recorder:
    """A family that remembers what it was asked to train on, and scores a row by its first feature."""

    l2: float = 1.0
    kinds: tuple[str, ...] = ("binary",)
    name: str = "recorder"
    parameter: str = "l2"
    calls: list = field(default_factory=list)

    def fit_site(self, X, Y, fold, *, weights=None):
        self.calls.append((Y.copy(), fold, np.ones(len(Y)) if weights is None else weights, self.l2))
        scores = X[None, :, :1].astype(np.float32)
        return SiteFit.closed_form((self.l2,), scores, np.zeros((1, 6, 1, X.shape[1])), np.zeros((1, 6, 1)))


def test_a_concept_that_holds_passes_and_its_baseline_is_the_probes_own():
    rng = np.random.default_rng(0)
    X, Y = concept(rng)
    groups = np.arange(300) // 2
    texts = ["x" * int(k) for k in rng.integers(5, 50, 300)]
    result = robustness(Logistic(), X, Y, "binary", groups, texts=texts, paraphrase=rng.integers(0, 3, 300), **OPTIONS)
    fold = make_folds(Y, groups, 5, stratify=True, seed=0)
    scores = Logistic(l2=0.1).fit_site(X, Y, fold).scores
    design = bootstrap_design(fold, groups, 200, 0)
    assert result.baseline.value == pytest.approx(metric_table(scores, Y, "binary", design).point["auroc"][0], abs=1e-4)
    ran = [c for c in result.conditions if not c.reason]
    assert [c.name for c in result.conditions if c.reason] == ["balanced"]
    assert all(c.passes for c in ran)
    assert result.failing == ()
    for c in ran:
        assert c.metric.value - c.baseline.value == pytest.approx(c.difference.value)
        assert c.difference.low <= c.difference.value <= c.difference.high
        assert abs(c.difference.value) < 0.05
    assert result.line == 0.55
    assert result.table["condition"].to_list() == [c.name for c in result.conditions]
    assert by_name(result)["fold seeds"].spread < 0.02
    assert by_name(result)["fold seeds"].labels == ("seed 0", "seed 1", "seed 2", "seed 3", "seed 4")
    again = robustness(Logistic(), X, Y, "binary", groups, texts=texts, paraphrase=rng.integers(0, 3, 300), **OPTIONS)
    assert again.conditions[:3] == result.conditions[:3]


def test_columns_of_one_fit_are_what_separate_fits_give():
    rng = np.random.default_rng(1)
    X, Y = concept(rng, shift=0.5)
    texts = ["x" * int(k) for k in rng.integers(5, 50, 300)]
    together = by_name(robustness(Logistic(tolerance=1e-8), X, Y, "binary", None, texts=texts, **OPTIONS))
    short = np.array([len(t) for t in texts]) <= np.median([len(t) for t in texts])
    fold = make_folds(Y, None, 5, stratify=True, seed=0)
    design = bootstrap_design(fold, None, 200, 0)

    def metric(scores, rows):
        part = bootstrap_design(fold[rows], None, 200, 0)
        return metric_table(scores[:, rows], Y[rows], "binary", part).point["auroc"][0]

    family = Logistic(l2=0.1, tolerance=1e-8)
    left_out = family.fit_site(X, Y, fold, weights=short.astype(float)).scores
    # The features' scale is of all training rows there, and of the short ones here: the penalty differs by a little.
    assert together["trained short, tested long"].metric.value == pytest.approx(metric(left_out, ~short), abs=0.01)
    draw = np.random.default_rng([0, 51, 100000])
    noisy = [
        metric_table(family.fit_site(X, wrong_labels(Y, "binary", None, 0.1, draw), fold).scores, Y, "binary", design)
        for _ in range(2)
    ]
    found = [n.point["auroc"][0] for n in noisy]
    np.testing.assert_allclose(together["label noise 10%"].values, found, atol=2e-4)


def test_every_condition_trains_on_what_it_says():
    rng = np.random.default_rng(2)
    X, Y = concept(rng, n=400)
    groups = np.arange(400) // 4
    variant = np.arange(400) % 4
    length = rng.integers(1, 100, 400)
    family = Recorder()
    robustness(
        family, X, Y, "binary", groups, texts=["x" * k for k in length], paraphrase=variant, noise=(0.1,), **OPTIONS
    )
    assert all(l2 == 0.1 for *_, l2 in family.calls)
    masks = [w > 0 for _, _, w, _ in family.calls]
    full = [c for c, mask in zip(family.calls, masks) if mask.all()]
    # The baseline, two draws of noise, and four other seeds.
    assert len(full) == 1 + 2 + 4
    assert len({tuple(fold) for _, fold, _, _ in full}) == 5
    changed = [int((target != Y).sum()) for target, *_ in full]
    assert sorted(changed) == [0, 0, 0, 0, 0, 40, 40]
    # No group is in two folds, whatever the seed.
    assert all(len({(g, k) for g, k in zip(groups, fold)}) == 100 for _, fold, _, _ in family.calls)
    partial = {tuple(mask) for mask in masks if not mask.all()}
    short = length <= np.median(length)
    assert {tuple(short), tuple(~short)} <= partial
    assert {tuple(variant != v) for v in range(4)} <= partial
    thinned = [np.array(m) for m in partial if np.array(m)[Y[:, 0] == 0].all()]
    assert len(thinned) == 2
    assert all(m[Y[:, 0] == 1].sum() == pytest.approx(20, abs=5) for m in thinned)
    assert len(partial) == 2 + 4 + 2


def test_a_concept_that_turns_round_with_length_or_paraphrase_is_caught():
    rng = np.random.default_rng(3)
    n = 600
    y = rng.permutation(np.arange(n) % 2)
    length = rng.integers(1, 100, n)
    variant = rng.integers(0, 2, n)
    Y = y[:, None].astype(float)
    long = length > np.median(length)
    X = rng.normal(size=(n, 10))
    X[:, 0] += 2 * (2 * y - 1) * np.where(long, -1, 1)
    X[:, 1] += 4 * long
    # Beside it a concept that holds on both halves, so that the unchanged probe reads it.
    X[:, 2] += 1.5 * (2 * y - 1)
    result = robustness(Logistic(), X, Y, "binary", None, texts=["x" * int(k) for k in length], **OPTIONS)
    turned = by_name(result)["trained short, tested long"]
    assert turned.baseline.low > 0.8
    assert turned.passes is False
    assert turned.difference.high < -0.3
    assert set(result.failing) == {"trained short, tested long", "trained long, tested short"}
    groups = rng.integers(0, 150, n)
    template = rng.normal(size=(n, 10))
    template[:, 0] += 2 * (2 * y - 1) * (variant == 0)
    template[:, 1] += 2 * (2 * y - 1) * (variant == 1)
    result = robustness(Logistic(), template, Y, "binary", groups, paraphrase=variant, noise=(), seeds=1, **OPTIONS)
    unseen = by_name(result)["unseen paraphrase"]
    assert unseen.baseline.value > 0.9
    assert unseen.passes is False
    assert result.failing == ("unseen paraphrase",)
    assert unseen.labels == ("0", "1")
    assert unseen.difference.high < -0.2


def test_a_memorising_probe_loses_more_to_wrong_labels_than_a_shrunk_one():
    rng = np.random.default_rng(4)
    X, Y = concept(rng, n=200, d=400, shift=2.0)
    weak = by_name(robustness(Logistic(), X, Y, "binary", None, noise=(0.2,), seeds=1, setting=1e-3, n_bootstraps=200))
    strong = by_name(robustness(Logistic(), X, Y, "binary", None, noise=(0.2,), seeds=1, setting=10, n_bootstraps=200))
    assert weak["label noise 20%"].difference.high < 0
    assert weak["label noise 20%"].difference.value < strong["label noise 20%"].difference.value


def test_nothing_passes_on_random_labels():
    rng = np.random.default_rng(5)
    X, Y = concept(rng, shift=0.0)
    result = robustness(Logistic(), X, Y, "binary", None, texts=["x" * (i % 40) for i in range(300)], **OPTIONS)
    assert not any(c.passes for c in result.conditions)
    assert len(result.failing) == 7


@pytest.mark.parametrize(
    ("kind", "family"), [("multiclass", Multinomial()), ("ordinal", Ordinal()), ("binary", Ridge())]
)
def test_classes_of_every_kind_and_an_imbalanced_set(kind, family):
    rng = np.random.default_rng(6)
    n_classes = 2 if kind == "binary" else 3
    codes = rng.choice(n_classes, 400, p=[0.8, 0.2] if kind == "binary" else [0.6, 0.2, 0.2])
    X = rng.normal(size=(400, 8)).astype(np.float32)
    X[:, 0] += 2 * codes
    result = robustness(family, X, codes[:, None].astype(float), kind, None, **OPTIONS)
    named = by_name(result)
    assert named["balanced"].passes
    assert len(named["balanced"].values) == 2
    assert "imbalanced as they are" in named["imbalanced 1:10"].reason
    assert named["label noise 20%"].passes
    assert result.metric_name == ("concordance" if kind == "ordinal" else "auroc")


def test_a_continuous_target_has_no_classes_and_two_columns():
    rng = np.random.default_rng(7)
    X = rng.normal(size=(300, 8)).astype(np.float32)
    Y = X[:, :2] + rng.normal(size=(300, 2))
    named = by_name(robustness(Ridge(), X, Y, "continuous", None, texts=["x" * i for i in range(300)], **OPTIONS))
    assert named["label noise 20%"].metric.value < named["label noise 20%"].baseline.value
    assert named["trained long, tested short"].passes
    assert "no classes" in named["balanced"].reason
    assert "no classes" in named["imbalanced 1:10"].reason


def test_what_the_data_do_not_allow_has_a_reason():
    rng = np.random.default_rng(8)
    X, Y = concept(rng)

    def reasons(**more):
        return {
            c.name: c.reason for c in robustness(Logistic(), X, Y, "binary", **OPTIONS, noise=(), **more).conditions
        }

    plain = reasons(groups=None, seeds=1)
    assert "one seed" in plain["fold seeds"]
    assert "no texts" in plain["trained short, tested long"]
    assert "no column names" in plain["unseen paraphrase"]
    assert "balanced already" in plain["balanced"]
    assert "groups name the meaning" in reasons(groups=None, paraphrase=np.arange(300) % 2)["unseen paraphrase"]
    groups = np.arange(300) // 3
    assert "the same variant" in reasons(groups=groups, paraphrase=np.zeros(300))["unseen paraphrase"]
    assert "of a class" in reasons(groups=groups, paraphrase=Y[:, 0])["unseen paraphrase"]
    assert "the same" in reasons(groups=None, texts=["same"] * 300)["trained short, tested long"]
    by_label = ["x" * (5 + 20 * int(y)) for y in Y[:, 0]]
    assert "goes with the label" in reasons(groups=None, texts=by_label)["trained short, tested long"]
    few = np.where(Y[:, 0] > 0, "p", "n")
    few = np.char.add(few, (np.arange(300) % 8).astype(str))
    result = robustness(Logistic(), X, Y, "binary", few, seeds=1, noise=(0.1,), **OPTIONS)
    assert by_name(result)["label noise 10%"].passes is not None


def test_a_seed_without_folds_is_a_reason(monkeypatch):
    def refusing(y, groups, n_folds, *, stratify, seed):
        if seed == 2:
            raise EvidenceError("fold 1 of 5 would test one class only.")
        return make_folds(y, groups, n_folds, stratify=stratify, seed=seed)

    monkeypatch.setattr("leadline.evidence.robustness.make_folds", refusing)
    X, Y = concept(np.random.default_rng(11))
    seeds = by_name(robustness(Logistic(), X, Y, "binary", None, noise=(), **OPTIONS))["fold seeds"]
    assert seeds.reason == "seed 2 gives no folds: fold 1 of 5 would test one class only."
    assert seeds.passes is None


def test_wrong_labels_are_wrong_as_many_as_asked_and_whole_groups_where_groups_hold_one():
    rng = np.random.default_rng(9)
    y = rng.integers(0, 4, 500).astype(float)[:, None]
    found = wrong_labels(y, "multiclass", None, 0.2, rng)
    assert (found != y).sum() == 100
    assert set(np.unique(found)) <= {0.0, 1.0, 2.0, 3.0}
    groups = np.repeat(np.arange(100), 5)
    by_group = np.repeat(rng.integers(0, 2, 100), 5).astype(float)[:, None]
    turned = (wrong_labels(by_group, "binary", groups, 0.1, rng) != by_group)[:, 0]
    assert turned.sum() == 50
    assert set(turned.reshape(100, 5).sum(axis=1)) == {0, 5}
    # Labels that vary within groups are flipped row by row.
    assert (wrong_labels(y % 2, "binary", groups, 0.1, rng) != y % 2).sum() == 50
    numbers = rng.normal(size=(500, 2))
    other = wrong_labels(numbers, "continuous", None, 0.1, rng)
    moved = (other != numbers).any(axis=1)
    assert moved.sum() == 50
    assert all(tuple(row) in set(map(tuple, numbers)) for row in other[moved])


def test_what_does_not_fit_is_refused():
    X, Y = concept(np.random.default_rng(10))
    with pytest.raises(EvidenceError, match="rows of texts"):
        robustness(Logistic(), X, Y, "binary", None, texts=["a"], **OPTIONS)
    with pytest.raises(EvidenceError, match="between 0 and 1"):
        robustness(Logistic(), X, Y, "binary", None, noise=(1.5,), **OPTIONS)
