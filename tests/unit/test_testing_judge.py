"""A planted truth that is not found is called wrong, whichever it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leadline.testing.judge import Judged, judge
from leadline.testing.planted import Planted, linear_concept, nothing, simplified, xor
from leadline.testing.planted.record import REFUTED, SUPPORTED


def judged(planted: Planted) -> Judged:
    return judge(planted, n_permutations=49, n_bootstraps=100, seed=0)


@pytest.fixture(scope="module")
def concept() -> Planted:
    return linear_concept(0, effect=4.0, n=200, d=4, n_layers=4, first=2)


def test_what_was_planted_is_right(concept: Planted) -> None:
    found = judged(concept)
    assert found.right == {"decodable": True, "best site": True, "emergence": True}
    assert found.verdicts["decodable"] == "supported"
    assert "AUROC" in found.sentences["decodable"]


def test_another_verdict_is_wrong(concept: Planted) -> None:
    assert judged(replace(concept, truth={"decodable": REFUTED})).right["decodable"] is False
    # Nothing was given to test it on.
    assert judged(replace(concept, truth={"general": SUPPORTED})).right["general"] is False


def test_a_site_before_the_concept_is_wrong(concept: Planted) -> None:
    assert judged(replace(concept, first_layer=4)).right["best site"] is False


@pytest.mark.parametrize("layer", [0, 3])
def test_a_concept_that_emerges_elsewhere_is_wrong(concept: Planted, layer: int) -> None:
    assert judged(replace(concept, first_layer=layer)).right["emergence"] is False


@pytest.mark.parametrize("stated", [True, False])
def test_a_network_that_reads_more_is_right_where_that_is_stated(stated: bool) -> None:
    planted = replace(xor(0, effect=6.0, n=200, d=3, n_layers=1), nonlinear=stated)
    assert judged(planted).right["nonlinearity"] is stated


@pytest.mark.parametrize("stated", [True, False])
def test_a_simplification_that_misleads_is_right_where_that_is_stated(stated: bool) -> None:
    assert judged(replace(simplified(0, d=8), misled=stated)).right["simplified"] is stated


def test_what_never_emerges_emerges_nowhere() -> None:
    planted = replace(nothing(0, n=400, d=4, n_layers=4), measures=("emergence",), first_layer=0)
    assert judged(planted).right["emergence"] is False
