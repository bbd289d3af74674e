"""What Leadline says of a planted transformer's use of a concept, and whether that is right."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from leadline.causal.components import check_components
from leadline.causal.decompose import decompose
from leadline.causal.examples import prompts
from leadline.causal.used import test_use
from leadline.testing.planted_causal import ANSWERS, TEMPLATE, PlantedUse

__all__ = ["JudgedUse", "judge_use"]


@dataclass(frozen=True)
class JudgedUse:
    """The judgement of a planted transformer.

    Attributes
    ----------
    verdicts : {claim: word}. sentences : {claim: what a person is told}. figures : {claim: those that decided}.
    named : the components that the decomposition names; none where "where from" is not judged.
    peer : what the field's habit says of "used": `supported` where an interchange along the probe's direction moves the
        answers toward the other class (interval above 0), with no control beside it; else `refuted`.
    right : {claim or check: whether it is what was planted}; "writer" is whether exactly the planted head is named,
        "sentence" whether the sentence on "used" tells what it must.
    """

    verdicts: Mapping[str, str]
    sentences: Mapping[str, str]
    figures: Mapping[str, Mapping[str, float]]
    named: tuple[str, ...]
    peer: str
    right: Mapping[str, bool]


def judge_use(
    planted: PlantedUse, *, n_random: int = 99, claims: Collection[str] | None = None, seed: int = 0
) -> JudgedUse:
    """Try a planted transformer's direction on its texts, trace its score, and hold the verdicts against the truth.

    That the concept is decodable is taken for granted, as it is true of every planted transformer and makes "used" no
    harder to reach.

    Parameters
    ----------
    n_random : random directions of each kind. claims : of those that the truth names, the ones to judge.
    """
    truth = {claim: words for claim, words in planted.truth.items() if claims is None or claim in claims}
    model, probe, X = planted.model, planted.direction, planted.activations(planted.fitted)
    examples = prompts(
        model,
        planted.texts,
        template=TEMPLATE,
        positive=(f" {ANSWERS[0]}",),
        negative=(f" {ANSWERS[1]}",),
        y=planted.y,
        seed=seed,
    )
    use = test_use(model, examples, probe, X, planted.y_fitted, tokens="last", n_random=n_random, seed=seed)
    found = [use.verdict()]
    named: tuple[str, ...] = ()
    if "where from" in truth:
        decomposition = decompose(model, examples, probe, "last")
        check = check_components(model, examples, decomposition, probe, n_random=n_random, seed=seed)
        found.append(check.verdict())
        named = check.names
    verdicts = {one.claim: one.verdict for one in found}
    sentences = {one.claim: one.sentence for one in found}
    right = {claim: verdicts[claim] in allowed for claim, allowed in truth.items()}
    if named:
        right["writer"] = named == (planted.writer,)
    if planted.says:
        right["sentence"] = planted.says in sentences["used"]
    return JudgedUse(
        verdicts=verdicts,
        sentences=sentences,
        figures={one.claim: one.figures for one in found},
        named=named,
        peer="supported" if use.interchange["direction"].effect.low > 0 else "refuted",
        right=right,
    )
