"""Every plan on every example in one batched job, and what it does to the answers and to probes downstream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from leadline.activations.tokens import Selection
from leadline.causal.outcomes import Collected, Outcomes
from leadline.causal.passes import EditedPasses
from leadline.causal.places import GENERATED
from leadline.causal.schedule import Continued
from leadline.errors import ActivationsError, CausalError
from leadline.events import SILENT, Event, EventSink, stage
from leadline.models.perplexity import n_vocab, why_no_perplexity
from leadline.probes.probe import Probe

if TYPE_CHECKING:
    from leadline.causal.examples import Examples
    from leadline.causal.plan import Bound, Plan
    from leadline.models.model import Model
    from leadline.sites import Site

__all__ = ["places_of", "reads_of", "run_plans", "sequences_of"]

_STAGE = "interventions"


def run_plans(
    model: Model,
    examples: Examples,
    plans: Sequence[Plan],
    *,
    readings: Mapping[str, Probe] | None = None,
    span: str = "text",
    batch_tokens: int = 4096,
    events: EventSink = SILENT,
) -> Outcomes:
    """Run every plan on every example.

    Interventions act on tokens of the prompt alone, never on those of a longer answer behind it. What stands before the
    first edited token and block is computed once for all plans, where that has proved exact on the loaded model.

    Parameters
    ----------
    model : a causal language model with its head; any model of text where the examples have no answers.
    examples : n prompts with their answers, as `prompts` makes them.
    plans : V plans; one without interventions gives the clean outcomes.
    readings : probes by name, read in the edited pass at their own site and at what their `tokens` selects of the
        prompt. At a site that a plan edits they see the edited activations.
    span : the name by which selections call the original text inside the prompt, as in `last@span:text`.
    batch_tokens : the most tokens of a pass, padding included.
    events : receives progress, in passes of one plan on one example.

    Raises
    ------
    CausalError : no plans, a selection that finds no token in some row or reads another span, or a probe or model that
        cannot be used so.
    """
    probes = dict(readings or {})
    if not plans:
        raise CausalError("no plans were given; give at least one, Plan() for the clean outcomes.")
    behaviour = examples.has_answers
    reason = why_no_perplexity(model) if behaviour else ""
    if reason:
        raise CausalError(f"no answer has a probability here: {reason}. Give a causal language model with its head.")
    if not behaviour and not probes:
        raise CausalError("the examples have no answers and there are no readings; nothing would be measured.")
    bounds = [plan.bind(model) for plan in plans]
    keys, places, sites = places_of(plans, bounds, examples, span)
    sequences = sequences_of(examples)
    passes = EditedPasses(
        model,
        bounds,
        keys,
        places,
        sequences,
        first_sites=sites,
        readings={name: (probe, reads_of(model, probe, name, examples, span)) for name, probe in probes.items()},
        behaviour=behaviour,
        batch_tokens=batch_tokens,
    )
    collected = Collected(examples, sequences, keys, tuple(probes), n_vocab(model.module) if behaviour else 1)
    total, done = len(plans) * len(sequences), 0
    with stage(events, _STAGE, f"{len(plans)} plans on {len(examples)} examples", total, "passes"):
        for more in passes.run(collected):
            done += more
            events.emit(Event("progress", _STAGE, done=done, total=total, unit="passes"))
    return collected.outcomes()


# ---- which tokens


def places_of(
    plans: Sequence[Plan], bounds: Sequence[Bound], examples: Examples, span: str = "text"
) -> tuple[np.ndarray, list[list[list[np.ndarray]]], list[Site | None]]:
    """Where plans act, found once for all plans that select the same tokens.

    Returns
    -------
    (V,) a key for each plan; for each key, intervention and row the sorted positions; for each key the site of the
    first intervention, None without any.

    Raises
    ------
    CausalError : a selection that reads a span of another name, of generated tokens, or that finds no token (names the
        row); values for another number of rows.
    """
    known: dict[tuple[tuple[str, str], ...], int] = {}
    keys = np.empty(len(plans), dtype=np.int64)
    places: list[list[list[np.ndarray]]] = []
    sites: list[Site | None] = []
    for v, (plan, bound) in enumerate(zip(plans, bounds, strict=True)):
        bound.check_rows(len(examples))
        if any(one.tokens == GENERATED for one in plan.interventions):
            raise CausalError(
                f"an intervention acts on '{GENERATED}' tokens, but here answers are given, not generated; select "
                f"tokens of the prompt, as in 'last' or 'all'."
            )
        chosen = [Selection.parse(one.tokens) for one in plan.interventions]
        other = next((s for s in chosen if s.span not in (None, span)), None)
        if other is not None:
            raise CausalError(
                f"'{other}' reads the span '{other.span}', but the examples have one span, called '{span}'; write "
                f"'span:{span}' for the original text inside the prompt."
            )
        key = tuple((s.name, str(one.site)) for s, one in zip(chosen, plan.interventions, strict=True))
        if key not in known:
            known[key] = len(places)
            by_row = [_positions(bound, examples, row) for row in range(len(examples))]
            places.append([[own[j] for own in by_row] for j in range(len(chosen))])
            sites.append(plan.interventions[0].site if chosen else None)
        keys[v] = known[key]
    return keys, places, sites


def _positions(bound: Bound, examples: Examples, row: int) -> list[np.ndarray]:
    try:
        return bound.positions(examples.rows[row], examples.span(row))
    except ActivationsError as error:
        raise CausalError(f"row {row}: {error}") from error


def reads_of(model: Model, probe: Probe, name: str, examples: Examples, span: str) -> list[np.ndarray]:
    """The positions that a probe pools, row by row."""
    selection = Selection.parse(probe.tokens)
    if probe.site is None:
        raise CausalError(f"the probe of the reading '{name}' states no site, so no model can be read for it.")
    model.sites([probe.site])
    if probe.site.part != model.part.name and probe.site.kind != "module":
        raise CausalError(f"the reading '{name}' is of another part than the prompts; read '{model.part.name}' sites.")
    if probe.model_fingerprint is not None and probe.model_fingerprint != model.fingerprint:
        raise CausalError(
            f"the reading '{name}' was fitted on {probe.model or 'a model'} with fingerprint "
            f"{probe.model_fingerprint}; this model has {model.fingerprint}. Load the same model, in the same dtype."
        )
    if selection.ragged:
        raise CausalError(f"the reading '{name}' keeps every token ('{selection}'); give it a pool, as in 'last'.")
    if selection.span not in (None, span):
        raise CausalError(f"the reading '{name}' reads the span '{selection.span}'; the examples have '{span}' alone.")
    found = []
    for row, encoded in enumerate(examples.rows):
        try:
            own = selection.positions(encoded, examples.span(row) if selection.span else None)
        except ActivationsError as error:
            raise CausalError(f"the reading '{name}', row {row}: {error}") from error
        # Of a range that a pool takes one end of, the rest need not be computed.
        found.append(own[-1:] if selection.pool == "last" else own[:1] if selection.pool == "first" else own)
    return found


def sequences_of(examples: Examples) -> list[Continued]:
    """The prompts; one for each beginning of an answer where answers are longer than a token."""
    found = []
    for row, encoded in enumerate(examples.rows):
        answers = (*examples.positive[row], *examples.negative[row])
        beginnings = sorted({answer[:-1] for answer in answers} or {()}, key=len, reverse=True)
        kept: list[tuple[int, ...]] = []
        for own in beginnings:
            if not any(other[: len(own)] == own for other in kept):
                kept.append(own)
        prompt = tuple(encoded.ids)
        found += [Continued(row, (*prompt, *own), len(prompt) - 1) for own in kept]
    return found
