"""What is left once a concept is erased: of a fresh probe, and of the answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from leadline.causal.erasure import leace
from leadline.causal.examples import Examples, prompts
from leadline.causal.generation import intervene
from leadline.causal.interventions import Erase
from leadline.causal.silence import ERASERS, Silence, silence
from leadline.errors import CausalError, EvidenceError
from leadline.evidence.metrics import weighted_auroc
from leadline.probes import Logistic
from leadline.testing import planted_causal as plant
from leadline.testing.planted_causal import PlantedUse


def tried(planted: PlantedUse) -> tuple[Examples, np.ndarray]:
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
    return examples, planted.activations(planted.fitted)


def silenced(planted: PlantedUse, **options: Any) -> Silence:
    examples, X = tried(planted)
    return silence(
        planted.model, examples, X, planted.y_fitted, **{"site": planted.site, "downstream": ["final_norm"], **options}
    )


@pytest.fixture(scope="module")
def used() -> tuple[PlantedUse, Silence]:
    planted = plant.used(0)
    return planted, silenced(planted)


def test_figures_are_those_of_direct_passes(used) -> None:
    planted, found = used
    examples, X = tried(planted)
    ids = torch.tensor([row.ids for row in examples.rows])
    yes, no = (planted.model.tokenizer(a)["input_ids"][0] for a in plant.ANSWERS)
    y = planted.y

    def passed(*edits: Any) -> tuple[float, np.ndarray]:
        with torch.no_grad(), intervene(planted.model, *edits):
            logits = planted.model.module(ids).logits[:, -1].double().numpy()
            stream = planted.model.read_rows(examples.rows, [planted.site])[planted.site][:, -1].double().numpy()
        odds = logits[:, yes] - logits[:, no]
        return odds[y == 1].mean() - odds[y == 0].mean(), stream

    eraser = leace(X, planted.y_fitted.astype(int), site=planted.site)
    before, h = passed()
    after, erased = passed(Erase(eraser, tokens="last"))
    np.testing.assert_allclose(erased, eraser.apply(h), atol=1e-4)
    leaced = found.outcomes["leace"]
    assert found.outcomes["none"].separation.value == pytest.approx(before, abs=1e-4)
    assert leaced.separation.value == pytest.approx(after, abs=1e-4)
    assert leaced.lost.value == pytest.approx(before - after, abs=1e-4)
    assert leaced.share.value == pytest.approx(1 - after / before, abs=1e-4)
    for name, values in (("none", h), ("leace", erased)):
        fit = Logistic(l2=(0.1,)).fit(values, y, groups=examples.groups)
        folds = [fit.fold == k for k in range(5)]
        aurocs = [weighted_auroc(fit.scores[f, 0], y[f], np.ones((f.sum(), 1)))[0] for f in folds]
        assert found.outcomes[name].auroc[planted.site.name].value == pytest.approx(np.mean(aurocs), abs=0.02)


def test_a_used_concept_is_silenced_by_leace_and_by_no_eraser_of_nothing(used) -> None:
    planted, found = used
    site = planted.site.name
    assert list(found.outcomes) == list(ERASERS)
    before, after = found.outcomes["none"], found.outcomes["leace"]
    assert before.auroc[site].low > 0.9
    assert after.auroc[site].low < 0.5 < after.auroc[site].high
    assert after.share.low > 0.5
    assert after.p == 1 / 20
    shuffled = found.outcomes["shuffled"]
    assert shuffled.auroc[site].low > 0.9
    assert abs(shuffled.share.value) < 0.2
    assert len(found.null) == 19
    assert (after.rank, shuffled.rank, before.rank) == (1, 1, 0)
    assert shuffled.p is None
    assert found.null[0] == pytest.approx(shuffled.lost.value)
    assert "a fresh probe's AUROC goes from" in found.sentence
    assert "answers" in found.sentence


def test_an_idle_concept_is_erased_and_the_answers_stay() -> None:
    planted = plant.another_route(0)
    found = silenced(planted)
    after = found.outcomes["leace"]
    assert found.outcomes["none"].auroc[planted.site.name].low > 0.9
    assert after.auroc[planted.site.name].value < 0.7
    assert abs(after.share.value) < 0.1
    # It arrives behind the site by another route, where it can still be read.
    assert after.auroc["final_norm"].low > 0.7


def test_the_table_has_a_row_for_each_eraser_and_site(used) -> None:
    _, found = used
    assert found.table.shape[0] == 8
    assert found.table["eraser"].unique(maintain_order=True).to_list() == list(ERASERS)
    assert found.table["p"].null_count() == 4
    assert "Silence(" in repr(found)


def test_without_answers_only_probes_are_asked(used) -> None:
    planted, found = used
    examples, X = tried(planted)
    nothing = ((),) * len(examples)
    mute = replace(examples, positive=nothing, negative=nothing)
    again = silence(planted.model, mute, X, planted.y_fitted, site=planted.site, downstream=["final_norm"])
    for name in ERASERS:
        assert again.outcomes[name].auroc == found.outcomes[name].auroc
        assert np.isnan(again.outcomes[name].lost.value)
        assert again.outcomes[name].p is None
    assert "answers" not in again.sentence


def test_folds_of_few_groups_have_no_interval(used) -> None:
    planted, _ = used
    examples, X = tried(planted)
    some = replace(examples, groups=np.arange(len(examples)) // 8)
    site = planted.site.name

    def auroc(**options: Any) -> Any:
        found = silence(planted.model, some, X, planted.y_fitted, site=planted.site, **options)
        return found.outcomes["none"].auroc[site]

    # 13 groups fill four folds with three each, and not five.
    assert np.isfinite(auroc().low)
    assert np.isnan(auroc(n_folds=5).low)
    assert auroc(n_folds=5).value > 0.9


def test_numbers_are_erased_as_numbers() -> None:
    planted = plant.used(0)
    examples, X = tried(planted)
    number = planted.y_fitted * 3 + np.random.default_rng(0).normal(size=len(X))
    found = silence(planted.model, examples, X, number, site=planted.site)
    assert found.outcomes["leace"].rank == 1
    assert found.outcomes["leace"].share.low > 0.4


def test_what_cannot_be_silenced_is_refused(used) -> None:
    planted, _ = used
    examples, X = tried(planted)
    y = planted.y_fitted
    with pytest.raises(CausalError, match="does not come behind"):
        silenced(planted, downstream=["resid_post.0"])
    with pytest.raises(CausalError, match="some of each"):
        silence(planted.model, replace(examples, y=np.zeros(len(examples))), X, y, site=planted.site)
    with pytest.raises(EvidenceError, match="19 or more"):
        silenced(planted, n_shuffles=5)
    with pytest.raises(CausalError, match="dimensions"):
        silence(planted.model, examples, X[:, :7], y, site=planted.site)
