"""Dose and response against direct passes, the usable range, and probe families at equal cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from leadline.causal import effects
from leadline.causal.controls import mean_difference, p_value, random_directions
from leadline.causal.cost import perplexity_cost
from leadline.causal.curves import crossing, usable_range
from leadline.causal.examples import Examples, prompts
from leadline.causal.family_scores import Latents, family_scores
from leadline.causal.generation import intervene
from leadline.causal.intervals import mean_interval
from leadline.causal.interventions import Ablate, Add, Clamp
from leadline.causal.plan import Plan
from leadline.errors import CausalError
from leadline.probes import LDA, Logistic
from leadline.testing import planted_causal as plant
from leadline.testing.planted_causal import CONCEPT, DRAW, PlantedUse

N_RANDOM, STRENGTHS = 19, (-0.3, 0.2, 0.5)


@pytest.fixture(scope="module")
def case() -> tuple[PlantedUse, Examples, np.ndarray]:
    planted = plant.used(0, DRAW)
    yes, no = plant.ANSWERS
    examples = prompts(
        planted.model,
        planted.texts,
        template=plant.TEMPLATE,
        positive=(f" {yes}",),
        negative=(f" {no}",),
        y=planted.y,
        groups=np.arange(len(planted.texts)) // 2,
    )
    return planted, examples, planted.activations(planted.fitted)


def neutral(planted: PlantedUse) -> list[str]:
    return [plant.TEMPLATE.replace("{text}", text) for text in planted.fitted[:8]]


def measured(case: Any, intervention: Any, strengths: Any = None, **options: Any) -> effects.Effect:
    planted, examples, X = case
    options = {"X": X, "y": planted.y_fitted, "neutral": neutral(planted), "n_random": N_RANDOM, **options}
    return effects.measure_effect(planted.model, examples, intervention, strengths, **options)


@pytest.fixture(scope="module")
def effect(case) -> effects.Effect:
    planted, _, _ = case
    downstream = replace(planted.direction, site=planted.direction.site.parse("final_norm"))
    return measured(
        case,
        Add(planted.direction, 1.0, tokens="last"),
        STRENGTHS,
        readings={"own": planted.direction, "end": downstream},
    )


def odds(planted: PlantedUse, examples: Examples, *interventions: Any) -> np.ndarray:
    ids = torch.tensor([row.ids for row in examples.rows])
    yes, no = (planted.model.tokenizer(a)["input_ids"][0] for a in plant.ANSWERS)
    with torch.no_grad(), intervene(planted.model, *interventions):
        logits = planted.model.module(ids).logits[:, -1].double().numpy()
    return logits[:, yes] - logits[:, no]


# ---- dose and response


def test_every_strength_of_every_vector_is_a_direct_pass(case, effect) -> None:
    planted, examples, X = case
    probe, clean = planted.direction, odds(planted, examples)
    own = {
        "pattern": probe.pattern,
        "direction": probe.direction,
        "mean_difference": mean_difference(X, planted.y_fitted),
    }
    assert list(effect.curves) == ["pattern", "direction", "mean_difference", "orthogonal", "shuffled_labels"]
    for name, vector in own.items():
        for s, strength in enumerate(STRENGTHS):
            edited = odds(planted, examples, Add(vector, strength, site=planted.site, tokens="last"))
            expected = mean_interval(edited - clean, examples.groups).estimate()
            found = effect.curves[name].change[s]
            assert (found.value, found.low) == pytest.approx((expected.value, expected.low), abs=1e-4)
            assert effect.curves[name].flips[s].value == pytest.approx(((edited > 0) != (clean > 0)).mean())
    assert effect.curve is effect.curves["pattern"]
    np.testing.assert_array_equal(effect.curve.dose, STRENGTHS)
    assert effect.clean.value == pytest.approx(clean.mean(), abs=1e-4)
    assert (effect.n, effect.n_groups) == (24, 12)


def test_bands_are_of_random_directions_at_the_same_doses(case, effect) -> None:
    planted, examples, X = case
    clean = odds(planted, examples)
    for kind in ("isotropic", "covariance"):
        drawn = random_directions(X, planted.y_fitted, N_RANDOM, kind=kind)
        band = effect.bands[kind]
        assert band.changes.shape == (3, N_RANDOM)
        for s, b in ((0, 0), (2, 5)):
            edit = Add(drawn[b], STRENGTHS[s], site=planted.site, tokens="last")
            expected = (odds(planted, examples, edit) - clean).mean()
            assert band.changes[s, b] == pytest.approx(expected, abs=1e-4)
        assert (band.low <= band.mean).all()
        assert (band.mean <= band.high).all()
        for s in range(3):
            assert effect.curve.p[kind][s] == p_value(band.changes[s], effect.curve.change.value[s], one_sided=False)


def test_the_cost_is_that_of_neutral_text_and_bounds_the_usable_strengths(case, effect) -> None:
    planted, _, _ = case
    plans = [Plan(Add(planted.direction, s, tokens="last")) for s in STRENGTHS]
    cost = perplexity_cost(planted.model, plans, neutral(planted))
    np.testing.assert_allclose(effect.curve.cost.value, cost.change.value, atol=1e-6)
    np.testing.assert_allclose(effect.curve.cost_kl.value, cost.kl.value, atol=1e-6)
    assert effect.usable == usable_range(np.array(STRENGTHS), cost.change.value, np.log(1.1))


def test_readings_are_changes_of_scores(case, effect) -> None:
    planted, _, _ = case
    probe = planted.direction
    h = planted.activations(planted.texts).astype(float)
    step = (np.linalg.norm(h, axis=1) * (probe.coef @ probe.pattern)).mean()
    np.testing.assert_allclose(effect.curve.readings["own"].value, np.array(STRENGTHS) * step, rtol=1e-4)
    assert (np.abs(effect.curve.readings["end"].value) > 0).all()


def test_the_table_holds_curves_and_bands(effect) -> None:
    table = effect.table
    assert len(table) == 5 * 3
    row = table.filter((pl.col("vector") == "pattern") & (pl.col("strength") == 0.2)).row(0, named=True)
    assert row["change"] == effect.curve.change.value[1]
    assert row["covariance_high"] == effect.bands["covariance"].high[1]
    assert {"cost", "p_isotropic", "reading own", "flips_low"} <= set(table.columns)
    assert "usable" in repr(effect)


def test_a_probe_or_texts_will_do(case) -> None:
    planted, _, _ = case
    yes, no = plant.ANSWERS
    options: dict[str, Any] = {"X": None, "y": None, "neutral": None}
    short = effects.measure_effect(
        planted.model,
        planted.texts,
        planted.direction,
        (0.2,),
        positive=(f" {yes}",),
        negative=(f" {no}",),
        template=plant.TEMPLATE,
        n_random=N_RANDOM,
        neutral=None,
    )
    found = measured(case, Add(planted.direction, 1.0), (0.2,), **options)
    np.testing.assert_allclose(short.curve.change.value, found.curve.change.value, atol=1e-5)
    assert list(found.bands) == ["isotropic"]
    assert list(found.curves) == ["pattern", "direction"]
    assert found.usable is None
    raw = measured(case, Add(planted.direction, 2.0, tokens="last", unit="raw"), **options)
    h = planted.activations(planted.texts).astype(float)
    assert raw.curve.strengths.tolist() == [2.0]
    assert raw.curve.dose[0] == pytest.approx((2 / np.linalg.norm(h, axis=1)).mean(), rel=1e-4)
    assert list(measured(case, planted.direction, **options).curve.strengths) == list(effects.DOSES)


def test_a_clamp_holds_its_score_and_random_directions_move_as_far(case) -> None:
    planted, examples, X = case
    probe = planted.direction
    found = measured(case, Clamp(probe, 0.0, tokens="last"), (-2.0, 3.0), readings={"own": probe})
    h = planted.activations(planted.texts).astype(float)
    scores = probe.score(h)
    np.testing.assert_allclose(found.curve.readings["own"].value, np.array([-2, 3]) - scores.mean(), atol=1e-4)
    shifts = (np.array([-2.0, 3.0])[:, None] - scores) / (probe.coef @ probe.pattern)
    np.testing.assert_allclose(found.curve.dose, (shifts / np.linalg.norm(h, axis=1)).mean(axis=1), rtol=1e-4)
    drawn = random_directions(X, planted.y_fitted, N_RANDOM)
    edit = Add(drawn[3], shifts[1], site=planted.site, tokens="last", unit="raw")
    expected = (odds(planted, examples, edit) - odds(planted, examples)).mean()
    assert found.bands["isotropic"].changes[1, 3] == pytest.approx(expected, abs=1e-4)
    assert found.curves["clamp"].cost is not None
    assert found.curves["orthogonal"].cost is None


@pytest.mark.parametrize("what", ["probe", "subspace", "site"])
def test_an_ablation_has_one_strength_and_controls_of_its_rank(case, what) -> None:
    planted, examples, X = case
    rng = np.random.default_rng(0)
    direction = {"probe": planted.direction, "subspace": rng.normal(size=(3, X.shape[1])), "site": None}[what]
    edit = Ablate(direction, site=planted.site, tokens="last")
    found = measured(case, edit)
    expected = (odds(planted, examples, edit) - odds(planted, examples)).mean()
    assert found.curve.change.value == pytest.approx([expected], abs=1e-4)
    assert found.curve.strengths.tolist() == [1.0]
    assert found.usable is None
    if what == "site":
        assert not found.bands
        return
    k = 3 if what == "subspace" else 1
    drawn = random_directions(X, planted.y_fitted, N_RANDOM * k).reshape(N_RANDOM, k, -1)[4]
    change = odds(planted, examples, Ablate(drawn, site=planted.site, tokens="last")) - odds(planted, examples)
    assert found.bands["isotropic"].changes[0, 4] == pytest.approx(change.mean(), abs=1e-4)


def test_without_answers_readings_are_left(case) -> None:
    planted, _, _ = case
    texts = [plant.TEMPLATE.replace("{text}", text) for text in planted.texts]
    found = effects.measure_effect(
        planted.model,
        texts,
        Add(planted.direction, 1.0, tokens="last"),
        (0.1,),
        readings={"own": planted.direction},
        n_random=N_RANDOM,
        neutral=None,
    )
    assert np.isnan(found.curve.change.value).all()
    assert np.isnan(found.curve.flips.value).all()
    assert found.curve.readings["own"].value[0] > 0
    assert not found.bands
    with pytest.raises(CausalError, match="neither answers nor readings"):
        effects.measure_effect(planted.model, texts, planted.direction)


def test_what_cannot_be_measured_is_refused(case) -> None:
    planted, _, _ = case
    add = Add(planted.direction, 1.0)
    for intervention, strengths, options, said in (
        (Ablate(planted.direction), (1.0,), {}, "one strength"),
        (Add(planted.direction, np.ones(24)), None, {}, "row by row"),
        (add, (np.nan,), {}, "finite"),
        (add, (), {}, "finite"),
        (add, None, {"n_random": 5}, "19 or more"),
        (add, None, {"y": None}, "both X and y"),
        (add, None, {"positive": (" yes",)}, "have their answers"),
        (Plan(add), None, {}, "no strength to vary"),
    ):
        with pytest.raises(CausalError, match=said):
            measured(case, intervention, strengths, **options)


# ---- the usable range


def test_the_usable_range_ends_where_the_cost_passes_the_budget() -> None:
    s = np.array([-0.4, -0.2, 0.2, 0.4])
    # From 0 over .05 at .2 to .25 at .4: .1 is passed at .25. Below, it never is.
    assert usable_range(s, np.array([0.02, -0.1, 0.05, 0.25]), 0.1) == pytest.approx((-0.4, 0.25))
    assert usable_range(s[::-1], np.array([0.25, 0.05, -0.1, 0.02]), 0.1) == pytest.approx((-0.4, 0.25))
    # What comes behind is out of reach even if it costs less.
    assert usable_range(s, np.array([0.0, 1.0, 0.4, 0.0]), 0.1) == pytest.approx((-0.02, 0.05))
    assert usable_range(s, np.array([0.0, np.inf, np.nan, 0.0]), 0.1) == pytest.approx((0.0, 0.0))
    assert usable_range(np.array([0.1]), np.array([0.0]), 0.1) == pytest.approx((0.0, 0.1))


def test_of_a_straight_cost_the_crossing_is_exact() -> None:
    doses = np.array([0.1, 0.3, 0.7])
    for rate in (0.2, 0.5, 2.0):
        k, t, reached = crossing(doses, rate * doses, 0.1)
        start = 0.0 if k == 0 else doses[k - 1]
        assert start + t * (doses[k] - start) == pytest.approx(0.1 / rate if rate > 0.15 else 0.7)
        assert reached
    assert crossing(doses, 0.01 * doses, 0.1) == (2, 1.0, False)


# ---- families


def test_families_are_compared_where_their_cost_is_the_budget(case) -> None:
    planted, examples, X = case
    doses, budget = (0.3, 0.9, 2.0), 0.02
    found = family_scores(
        planted.model,
        examples,
        X,
        planted.y_fitted,
        site=planted.site,
        doses=doses,
        budget=budget,
        n_random=19,
        neutral=neutral(planted),
    )
    probe = Logistic(l2=(0.1,)).fit(X.astype(float), planted.y_fitted, n_folds=0).probe
    sign, clean = 1 - 2 * planted.y, odds(planted, examples)
    for name in ("direction", "pattern"):
        (one,) = (s for s in found.scores if (s.family, s.vector) == ("logistic", name))
        vector = getattr(probe, name)
        both = [Plan(Add(vector, s * dose, site=planted.site)) for dose in doses for s in (1, -1)]
        cost = perplexity_cost(planted.model, both, neutral(planted)).change.value.reshape(3, 2).mean(axis=1)
        np.testing.assert_allclose(one.costs, cost, atol=1e-6)
        k, t, reached = crossing(np.array(doses), cost, np.log1p(budget))
        assert one.reached == reached
        at = [clean] + [odds(planted, examples, Add(vector, d * sign, site=planted.site, tokens="last")) for d in doses]
        e = sign * (at[k] + t * (at[k + 1] - at[k]) - clean)
        expected = mean_interval(e, examples.groups).estimate()
        assert (one.effect.value, one.effect.high) == pytest.approx((expected.value, expected.high), abs=1e-4)
        assert one.dose == pytest.approx((0, *doses)[k] + t * (doses[k] - (0, *doses)[k]))
        assert one.p == p_value(found.random, one.effect.value)
    assert any(one.reached for one in found.scores)
    names = {(s.family, s.vector) for s in found.scores}
    assert names == {(f, v) for f in ("logistic", "lda", "mean difference") for v in ("direction", "pattern")} | {
        ("PCA", "direction")
    }
    assert found.table["effect"].head(7).to_list() == sorted((s.effect.value for s in found.scores), reverse=True)
    assert found.table["family"][-1] == "random"
    assert "FamilyScores(7 directions" in repr(found)


def test_of_latents_the_one_that_tells_the_classes_apart_is_taken() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(100) % 2 == 1
    X = rng.normal(size=(100, 6))
    X[:, 2] -= 3 * y
    assert Latents(np.eye(6), np.eye(6)).best(X, y)[0] == 2
    assert Latents(np.eye(6), np.eye(6)).best(X, y)[1] == -1
    assert Latents(-np.eye(6), -np.eye(6), bias=np.ones(6)).best(X, y) == (2, 1.0)
    with pytest.raises(CausalError, match="encoder"):
        Latents(np.eye(5), np.eye(5)).best(X, y)


def test_a_latent_of_the_concept_edits_as_its_dimension_does(case) -> None:
    planted, examples, X = case
    sae = Latents(np.eye(X.shape[1]), np.eye(X.shape[1]))
    found = family_scores(
        planted.model,
        examples,
        X,
        planted.y_fitted,
        {"lda": LDA()},
        site=planted.site,
        sae=sae,
        doses=(0.3,),
        budget=10.0,
        n_random=19,
        neutral=neutral(planted)[:2],
    )
    (one,) = (s for s in found.scores if s.family.startswith("SAE") and s.vector == "pattern")
    assert one.family == f"SAE latent {CONCEPT}"
    sign = 1 - 2 * planted.y
    axis = np.eye(X.shape[1])[CONCEPT]
    edit = Add(axis, 0.3 * sign, site=planted.site, tokens="last")
    expected = (sign * (odds(planted, examples, edit) - odds(planted, examples))).mean()
    assert one.effect.value == pytest.approx(expected, abs=1e-4)
    assert not one.reached
    assert one.effect.value > np.abs(found.random).mean()


@pytest.mark.parametrize(
    ("options", "said"), [({"doses": ()}, "positive"), ({"doses": (-0.1,)}, "positive"), ({"budget": 0.0}, "positive")]
)
def test_doses_and_budget_must_be_positive(case, options, said) -> None:
    planted, examples, X = case
    with pytest.raises(CausalError, match=said):
        family_scores(planted.model, examples, X, planted.y_fitted, site=planted.site, **options)
