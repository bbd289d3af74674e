"""Whether a model acts on what a probe reads: every figure against direct passes, and planted transformers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from leadline.causal import used
from leadline.causal.controls import mean_difference, natural_shift, p_value, random_directions
from leadline.causal.examples import Examples, prompts
from leadline.causal.generation import intervene
from leadline.causal.intervals import mean_interval
from leadline.causal.interventions import Ablate, Add, Patch
from leadline.causal.separation import Separation
from leadline.errors import CausalError, ProbeError
from leadline.probes import Ridge
from leadline.testing import planted_causal as plant
from leadline.testing.planted_causal import DRAW, PlantedUse

N_RANDOM = 19


def examples_of(planted: PlantedUse, **options: Any) -> Examples:
    yes, no = plant.ANSWERS
    return prompts(
        planted.model,
        planted.texts,
        template=plant.TEMPLATE,
        positive=(f" {yes}",),
        negative=(f" {no}",),
        **{"y": planted.y, **options},
    )


@pytest.fixture(scope="module")
def case() -> tuple[PlantedUse, Examples, np.ndarray]:
    planted = plant.used(0, DRAW)
    return planted, examples_of(planted), planted.activations(planted.fitted)


@pytest.fixture(scope="module")
def use(case) -> used.Use:
    planted, examples, X = case
    return used.test_use(planted.model, examples, planted.direction, X, planted.y_fitted, n_random=N_RANDOM)


def odds(planted: PlantedUse, examples: Examples, *interventions: Any) -> np.ndarray:
    """(n,) by the module's own call, in one pass."""
    ids = torch.tensor([row.ids for row in examples.rows])
    yes, no = (planted.model.tokenizer(a)["input_ids"][0] for a in plant.ANSWERS)
    with torch.no_grad(), intervene(planted.model, *interventions):
        logits = planted.model.module(ids).logits[:, -1].double().numpy()
    return logits[:, yes] - logits[:, no]


# ---- figures against direct passes


def test_examples_are_moved_along_both_vectors_by_the_gap_of_the_fitted_rows(case, use) -> None:
    planted, examples, X = case
    probe, sign = planted.direction, 1 - 2 * planted.y
    clean = odds(planted, examples)
    h = planted.activations(planted.texts).astype(float)
    for name in ("pattern", "direction"):
        alpha = natural_shift(probe, getattr(probe, name), X, planted.y_fitted)
        edit = Add(probe, alpha * sign, vector=name, tokens="last", unit="raw")
        e = sign * (odds(planted, examples, edit) - clean)
        found = use.vectors[name]
        assert found.effect.value == pytest.approx(e.mean(), abs=1e-4)
        assert found.effect.low == pytest.approx(mean_interval(e).estimate().low, abs=1e-4)
        assert found.norm == pytest.approx(alpha)
        assert found.dose == pytest.approx((alpha / np.linalg.norm(h, axis=1)).mean(), rel=1e-4)
        flips = (clean > 0) != (clean + sign * e > 0)
        assert found.flips.value == pytest.approx(flips.mean())
        assert found.nie.value == pytest.approx(e.mean() / use.natural.value, abs=1e-4)
    assert use.natural.value == pytest.approx(clean[planted.y == 1].mean() - clean[planted.y == 0].mean(), abs=1e-4)
    gaps = [
        probe.score(A[own == 1]).mean() - probe.score(A[own == 0]).mean()
        for A, own in ((h, planted.y), (X, planted.y_fitted))
    ]
    assert use.gap_share == pytest.approx(gaps[0] / gaps[1], rel=1e-4)
    assert use.accuracy.value == pytest.approx(((clean > 0) == (planted.y == 1)).mean())
    difference = mean_difference(X, planted.y_fitted)
    e = sign * (
        odds(
            planted,
            examples,
            Add(difference, np.linalg.norm(difference) * sign, site=planted.site, tokens="last", unit="raw"),
        )
        - clean
    )
    assert use.vectors["mean_difference"].effect.value == pytest.approx(e.mean(), abs=1e-4)


@pytest.mark.parametrize("kind", ["isotropic", "covariance"])
def test_each_random_direction_moves_each_example_as_far(case, use, kind) -> None:
    planted, examples, X = case
    sign, clean = 1 - 2 * planted.y, odds(planted, examples)
    drawn = random_directions(X, planted.y_fitted, N_RANDOM, kind=kind)
    for name in ("pattern", "direction"):
        size = use.vectors[name].norm
        for b in (0, N_RANDOM - 1):
            edit = Add(drawn[b], size * sign, site=planted.site, tokens="last", unit="raw")
            e = sign * (odds(planted, examples, edit) - clean)
            assert use.nulls[name, kind][b] == pytest.approx(e.mean(), abs=1e-4)
        assert getattr(use.vectors[name], f"p_{kind}") == p_value(use.nulls[name, kind], use.vectors[name].effect.value)
    mean = X.mean(axis=0, dtype=float)
    ablated = odds(planted, examples, Ablate(drawn[1], to="mean", mean=mean, site=planted.site, tokens="last"))
    lost = (clean - ablated)[planted.y == 1].mean() - (clean - ablated)[planted.y == 0].mean()
    assert use.nulls["ablation", kind][1] == pytest.approx(lost, abs=1e-4)
    # Controls of the pattern's norm are held against the same directions.
    for name in ("orthogonal", "shuffled_labels"):
        assert use.vectors[name].norm == pytest.approx(use.vectors["pattern"].norm)
        assert getattr(use.vectors[name], f"p_{kind}") == p_value(
            use.nulls["pattern", kind], use.vectors[name].effect.value
        )
    assert use.vectors["mean_difference"].p_isotropic is None


def test_partners_are_exchanged_and_directions_ablated(case, use) -> None:
    planted, examples, X = case
    probe, sign, clean = planted.direction, 1 - 2 * planted.y, odds(planted, examples)
    h = planted.activations(planted.texts).astype(float)
    sources = h[examples.partner]
    assert (planted.y[examples.partner] == 1 - planted.y).all()
    for name, direction in (("site", None), ("direction", probe.direction), ("pattern", probe.pattern)):
        e = sign * (odds(planted, examples, Patch(sources, direction, site=planted.site)) - clean)
        assert use.interchange[name].effect.value == pytest.approx(e.mean(), abs=1e-4)
    assert use.n_exchanged == len(examples)
    mean = X.mean(axis=0, dtype=float)
    for name in ("direction", "pattern"):
        edit = Ablate(probe, vector=name, to="mean", mean=mean, tokens="last")
        lost = clean - odds(planted, examples, edit)
        expected = lost[planted.y == 1].mean() - lost[planted.y == 0].mean()
        assert use.ablation[name].effect.value == pytest.approx(expected, abs=1e-4)
        assert use.ablation[name].nie.value == pytest.approx(expected / use.natural.value, abs=1e-4)


def test_examples_without_a_class_or_a_partner_are_left_out(case) -> None:
    planted, examples, X = case
    y, partner = examples.y.copy(), examples.partner.copy()
    y[:3] = np.nan
    partner[5:8] = -1
    probe = planted.direction
    some = used.test_use(
        planted.model, replace(examples, y=y, partner=partner), probe, X, planted.y_fitted, n_random=N_RANDOM
    )
    assert some.n == len(examples) - 3
    kept = np.arange(len(examples)) >= 3
    whole = kept & (partner >= 3)
    assert some.n_exchanged == whole.sum()
    sign, clean = 1 - 2 * planted.y, odds(planted, examples)
    h = planted.activations(planted.texts).astype(float)
    e = sign * (odds(planted, examples, Patch(h[examples.partner], site=planted.site)) - clean)
    assert some.interchange["site"].effect.value == pytest.approx(e[whole].mean(), abs=1e-4)


def test_the_same_seed_gives_the_same_and_another_other_directions(case, use) -> None:
    planted, examples, X = case
    again, other = (
        used.test_use(planted.model, examples, planted.direction, X, planted.y_fitted, n_random=N_RANDOM, seed=seed)
        for seed in (0, 1)
    )
    for key, values in use.nulls.items():
        np.testing.assert_array_equal(again.nulls[key], values)
        assert not np.allclose(other.nulls[key], values)
    assert other.vectors["pattern"].effect.value == pytest.approx(use.vectors["pattern"].effect.value)


def test_random_directions_are_tried_for_what_is_asked(case, use) -> None:
    planted, examples, X = case
    found = used.test_use(
        planted.model, examples, planted.direction, X, planted.y_fitted, n_random=N_RANDOM, nulls=("pattern",)
    )
    assert set(found.nulls) == {("pattern", "isotropic"), ("pattern", "covariance")}
    for key, values in found.nulls.items():
        np.testing.assert_allclose(values, use.nulls[key], atol=1e-5)
    assert found.vectors["direction"].p_isotropic is None
    assert found.ablation["pattern"].p_covariance is None
    assert found.vectors["pattern"].p_covariance == use.vectors["pattern"].p_covariance
    assert found.verdict().verdict == use.verdict().verdict


def test_intervals_are_over_groups(case, use) -> None:
    planted, examples, X = case
    groups = np.arange(len(examples)) // 4
    grouped = used.test_use(
        planted.model, replace(examples, groups=groups), planted.direction, X, planted.y_fitted, n_random=N_RANDOM
    )
    sign, clean = 1 - 2 * planted.y, odds(planted, examples)
    size = grouped.vectors["pattern"].norm
    e = sign * (odds(planted, examples, Add(planted.direction, size * sign, tokens="last", unit="raw")) - clean)
    assert grouped.n_groups == 6
    assert grouped.vectors["pattern"].effect.low == pytest.approx(mean_interval(e, groups).estimate().low, abs=1e-4)
    few = used.test_use(
        planted.model, replace(examples, groups=groups // 3), planted.direction, X, planted.y_fitted, n_random=N_RANDOM
    )
    assert few.verdict().verdict == "not tested"


def test_flipped_labels_turn_the_direction_and_leave_the_effects(case, use) -> None:
    planted, examples, X = case
    probe = planted.direction
    turned = replace(probe, coef=-probe.coef, intercept=-probe.intercept, pattern=-probe.pattern)
    flipped = replace(examples, y=1 - examples.y, positive=examples.negative, negative=examples.positive)
    found = used.test_use(planted.model, flipped, turned, X, 1 - planted.y_fitted, n_random=N_RANDOM)
    assert found.natural.value == pytest.approx(use.natural.value, abs=1e-5)
    for name in ("pattern", "direction", "mean_difference"):
        assert found.vectors[name].effect.value == pytest.approx(use.vectors[name].effect.value, abs=1e-5)


def test_the_table_has_a_row_for_each_intervention(use) -> None:
    table = use.table
    assert table["what"].to_list() == ["move"] * 5 + ["exchange"] * 3 + ["ablate"] * 2
    row = table.filter((pl.col("what") == "move") & (pl.col("along") == "pattern")).row(0, named=True)
    assert row["effect"] == use.vectors["pattern"].effect.value
    assert row["p_covariance"] == use.vectors["pattern"].p_covariance
    assert "Use(resid_post.1" in repr(use)


# ---- planted truths


@pytest.mark.parametrize(
    ("make", "expected", "said"),
    [
        (plant.used, {"supported"}, "acts on what the probe reads"),
        (plant.idle, {"refuted", "inconclusive"}, ""),
        (plant.another_route, {"refuted"}, ""),
        (plant.dormant, {"refuted", "inconclusive"}, "wakes a pathway"),
    ],
)
def test_verdicts_are_what_was_planted(make, expected, said) -> None:
    for seed in range(2):
        planted = make(seed)
        X = planted.activations(planted.fitted)
        found = used.test_use(planted.model, examples_of(planted), planted.direction, X, planted.y_fitted)
        verdict = found.verdict()
        assert verdict.verdict in expected, (seed, found, verdict.sentence)
        assert said in verdict.sentence


def test_a_concept_that_is_not_decodable_is_not_used(use) -> None:
    assert use.verdict("refuted").verdict != "supported"


# ---- refusals


def test_what_cannot_be_tried_is_refused(case) -> None:
    planted, examples, X = case
    model, probe, y = planted.model, planted.direction, planted.y_fitted
    run = used.test_use
    with pytest.raises(CausalError, match="19 or more"):
        run(model, examples, probe, X, y, n_random=9)
    with pytest.raises(CausalError, match="the pattern among them"):
        run(model, examples, probe, X, y, nulls=("direction",))
    with pytest.raises(CausalError, match="expected some of pattern, direction"):
        run(model, examples, probe, X, y, nulls=("pattern", "site"))
    with pytest.raises(CausalError, match="have no answers"):
        run(model, _mute(examples), probe, X, y)
    with pytest.raises(CausalError, match="need the class 0 or 1"):
        run(model, replace(examples, y=np.ones(len(examples))), probe, X, y, n_random=N_RANDOM)
    with pytest.raises(CausalError, match="dimensions"):
        run(model, examples, probe, X[:, :5], y)
    with pytest.raises(ProbeError, match="fingerprint"):
        run(model, examples, replace(probe, model_fingerprint="other"), X, y)


def _mute(examples: Examples) -> Examples:
    nothing = ((),) * len(examples)
    return replace(examples, positive=nothing, negative=nothing)


def test_numbers_are_split_at_the_median(case) -> None:
    planted, examples, X = case
    rng = np.random.default_rng(0)
    number = planted.y_fitted * 4 + rng.normal(size=len(X))
    probe = Ridge(l2=(1.0,)).fit(X, number, n_folds=0, site=planted.site).probe
    found = used.test_use(planted.model, examples, probe, X, number, n_random=N_RANDOM)
    upper = number > np.median(number)
    gap = probe.score(X[upper]).mean() - probe.score(X[~upper]).mean()
    assert found.vectors["direction"].norm == pytest.approx(gap / np.linalg.norm(probe.coef))
    assert found.vectors["pattern"].effect.low > 0


# ---- separation


def test_classes_that_change_places_have_an_indirect_effect_of_one() -> None:
    rng = np.random.default_rng(0)
    y = (np.arange(40) % 2).astype(float)
    clean = 3 * y + rng.normal(size=40)
    apart = Separation(clean, y, np.arange(40))
    swapped = clean + (1 - 2 * y) * apart.natural.value
    assert apart.share(swapped).value == pytest.approx(1)
    assert apart.effect(swapped).value == pytest.approx(apart.natural.value)
    assert apart.share(clean).value == 0
    assert apart.lost_share(np.zeros(40)).value == pytest.approx(1)
    assert apart.lost_estimate(np.zeros(40)).value == pytest.approx(apart.natural.value)
    np.testing.assert_allclose(apart.lost(np.stack([clean, 0.25 * clean])), [0, 0.75 * apart.natural.value], atol=1e-12)
    assert apart.flips(-clean).value == 1


def test_shares_of_a_difference_that_may_be_nothing_have_no_interval() -> None:
    rng = np.random.default_rng(1)
    y = (np.arange(40) % 2).astype(float)
    apart = Separation(rng.normal(size=40), y, np.arange(40))
    assert apart.natural.low < 0 < apart.natural.high
    found = apart.share(rng.normal(size=40))
    assert np.isfinite(found.value)
    assert np.isnan([found.low, found.high]).all()


def test_intervals_of_shares_hold_what_they_should() -> None:
    rng = np.random.default_rng(2)
    y, inside = np.tile([0.0, 1.0], 40), 0
    for _ in range(400):
        own = rng.normal(size=80)
        clean = 2 * y + own
        # A shift whose true share is .5, and which varies with the example.
        edited = clean + (1 - 2 * y) * (1.0 + 0.5 * own + 0.3 * rng.normal(size=80))
        found = Separation(clean, y, np.arange(80)).share(edited)
        inside += found.low < 0.5 < found.high
    assert 0.92 < inside / 400 < 0.975


def test_labels_other_than_two_classes_are_refused() -> None:
    for y in (np.ones(6), np.arange(6.0), np.array([0, 1, np.nan, 0, 1, 1])):
        with pytest.raises(CausalError, match="need the class 0 or 1"):
            Separation(np.zeros(6), y, np.arange(6))
    with pytest.raises(CausalError, match="no finite log odds"):
        Separation(np.full(4, np.nan), np.array([0.0, 1, 0, 1]), np.arange(4))
