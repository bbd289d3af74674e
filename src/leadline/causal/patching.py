"""Activation patching: which activations carry the difference between a prompt and its counterfactual.

One activation of the clean pass, at one site and token, is replaced by the counterfactual's, and what the pass ends in
changes from m(clean) to m(clean | h_st ← h'_st). The exact map makes a pass for each (site, token); attribution takes
the first-order estimate of all of them from one pass on the counterfactual and one on the clean prompt and back:

    (h'_st − h_st) · ∂m/∂h_st

References
----------
J. Vig et al. (2020), Investigating Gender Bias in Language Models Using Causal Mediation Analysis, NeurIPS.
K. Meng et al. (2022), Locating and Editing Factual Associations in GPT, NeurIPS.
N. Nanda (2023), Attribution Patching: Activation Patching at Industrial Scale.
A. Syed, C. Rager and A. Conmy (2023), Attribution Patching Outperforms Automated Circuit Discovery, arXiv:2310.10348.
J. Kramár et al. (2024), AtP*, arXiv:2403.00745: where the estimate fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from leadline.causal.engine import run_plans
from leadline.causal.examples import Examples
from leadline.causal.outcomes import Outcomes
from leadline.causal.pairs import Pairs, pair_up
from leadline.causal.patch import Patch
from leadline.causal.patch_map import PatchMap
from leadline.causal.plan import Plan
from leadline.causal.quantity import LogOdds, Quantity, Score
from leadline.errors import CausalError
from leadline.events import SILENT, Event, EventSink, stage
from leadline.models.gradients import gradients
from leadline.probes.probe import Probe

if TYPE_CHECKING:
    from leadline.models.model import Model
    from leadline.sites import Site

__all__ = ["activation_patching", "attribution_patching"]

_STAGE = "patching"
# What the values of plans that run together may take.
_VALUES_BYTES = 1 << 28


def activation_patching(
    model: Model,
    clean: Examples | Sequence[str],
    counterfactual: Examples | Sequence[str] | None = None,
    metric: Probe | None = None,
    sites: str | Site | Iterable[str | Site] = "resid_post.*",
    *,
    positions: int | None = None,
    groups: np.ndarray | None = None,
    span: str = "text",
    batch_tokens: int = 4096,
    events: EventSink = SILENT,
) -> PatchMap:
    """The exact map: a pass for every pair, site and token.

    All go in batches, each from its own token and block on (`run_plans`). What stands before the first token in which a
    pair differs is not run, since nothing can change there.

    Parameters
    ----------
    clean : n prompts with answers (`Examples`), or texts.
    counterfactual : n prompts, one for each; None takes the examples' partners. Pairs of unequal numbers of tokens are
        left out, and named in the result.
    metric : a probe, whose score is explained; None for the log odds of the clean prompts' answers.
    sites : sites or patterns, of the part of the model that reads the prompts.
    positions : so many of the last tokens; None for all.
    groups : (n,) labels of pairs that err together; by default the examples' own.
    span : the name by which the probe's tokens call the original text inside the prompt.
    batch_tokens : the most tokens of a pass, padding included.
    events : receives progress, in (site, token) cells of a pair.

    Raises
    ------
    CausalError : pairs, probe, answers or sites that cannot be used so. SiteError : an unknown site.
    """
    pairs, wanted = pair_up(model, clean, counterfactual, groups), _patchable(model, sites)
    _quantity(model, pairs.clean, metric, span)
    width = _columns(pairs, positions)
    values = _empty(pairs, wanted, width)
    clean_m = np.empty(len(pairs))
    with stage(events, _STAGE, f"{len(wanted)} sites on {len(pairs)} pairs", values.size, "cells"):
        done = 0
        for some in _alike(pairs.lengths):
            own = pairs.take(some)
            length = int(own.lengths[0])
            first = max(int(own.begins.min()), length - width)
            for chunk in _chunks(model, wanted, len(own) * (length - first)):
                at = np.array([wanted.index(site) for site in chunk])
                plans = _plans(model, own, chunk, range(first, length), batch_tokens) or [Plan()]
                found = _measured(model, own.clean, plans, metric, span, batch_tokens)
                clean_m[some] = _of(found.clean, metric)[0]
                if first < length:
                    change = (_of(found, metric) - clean_m[some]).reshape(len(chunk), length - first, len(own))
                    values[np.ix_(some, at, np.arange(first - length, 0) + width)] = change.transpose(2, 0, 1)
                done += len(chunk) * len(own) * width
                events.emit(Event("progress", _STAGE, done=done, total=values.size, unit="cells"))
    other = _of(_measured(model, pairs.counterfactual, [Plan()], metric, span, batch_tokens), metric)[0]
    return _map(model, "exact", metric, pairs, wanted, values, clean_m, other)


def attribution_patching(
    model: Model,
    clean: Examples | Sequence[str],
    counterfactual: Examples | Sequence[str] | None = None,
    metric: Probe | None = None,
    sites: str | Site | Iterable[str | Site] = "resid_post.*",
    *,
    positions: int | None = None,
    groups: np.ndarray | None = None,
    span: str = "text",
    batch_tokens: int = 512,
    events: EventSink = SILENT,
) -> PatchMap:
    """The estimate of `activation_patching` by gradients, for all sites and tokens at once.

    Exact where m is linear in the activation between the two prompts' values; poor where it is flat at the clean prompt
    and moves later (a saturated softmax, a norm after a large change).

    Parameters
    ----------
    batch_tokens : the most tokens of a pass, padding included; what a pass keeps for its way back grows with them.
    events : receives progress, in pairs. The other parameters are those of `activation_patching`.

    Raises
    ------
    As `activation_patching`.
    """
    # Tensors of inference mode, in which a caller may be, cannot take part in gradients.
    with torch.inference_mode(False):
        pairs, wanted = pair_up(model, clean, counterfactual, groups), _patchable(model, sites)
        ours = _quantity(model, pairs.clean, metric, span)
        theirs = _quantity(model, pairs.counterfactual, metric, span)
        values = _empty(pairs, wanted, _columns(pairs, positions))
        m = np.empty((2, len(pairs)))
        with stage(events, _STAGE, f"{len(wanted)} sites on {len(pairs)} pairs, by gradients", len(pairs), "pairs"):
            done = 0
            for some in _batches(ours, batch_tokens):
                m[0, some], m[1, some], found = _attributed(model, ours, theirs, wanted, some)
                # A row may have several sequences, all of which an activation of its prompt changes.
                rows = [i for i in some for _ in ours.sequences[i]]
                for s, site in enumerate(wanted):
                    for i, own in zip(rows, found.get(site, ()), strict=False):
                        length = int(pairs.lengths[i])
                        kept = min(values.shape[2], length)
                        values[i, s, -kept:] += own[length - kept : length]
                done += len(some)
                events.emit(Event("progress", _STAGE, done=done, total=len(pairs), unit="pairs"))
    return _map(model, "attribution", metric, pairs, wanted, values, m[0], m[1])


def _attributed(
    model: Model, ours: Quantity, theirs: Quantity, sites: Sequence[Site], rows: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, dict[Site, np.ndarray]]:
    """m of either prompt, and by site (sequences, seq) the estimates."""
    kept: dict[Site, torch.Tensor] = {}
    found: dict[Site, np.ndarray] = {}

    def observe(site: Site, x: torch.Tensor) -> torch.Tensor:
        kept[site] = x.clone()
        return x

    def take(site: Site, x: torch.Tensor) -> Callable[[torch.Tensor], None]:
        difference = kept.pop(site).float() - x.float()

        def receive(gradient: torch.Tensor) -> None:
            found[site] = (gradient.float() * difference).sum(dim=-1).double().cpu().numpy()

        return receive

    # A reading would end the pass.
    with model.editing(sites, observe):
        other = theirs.measure(rows)
    own = gradients(model, sites, lambda: ours.measure(rows, grad=True), take)
    return own.double().cpu().numpy(), other.double().cpu().numpy(), found


# ---- what both maps share


def _quantity(model: Model, examples: Examples, metric: Probe | None, span: str) -> Quantity:
    if metric is None:
        return LogOdds(model, examples)
    return Score(model, metric, _without_answers(examples), span)


def _without_answers(examples: Examples) -> Examples:
    none: tuple[tuple[()], ...] = ((),) * len(examples)
    return replace(examples, positive=none, negative=none)


def _patchable(model: Model, sites: str | Site | Iterable[str | Site]) -> list[Site]:
    found = list(model.sites(sites))
    for site in found:
        if site.kind in ("module", "attn_pattern") or site.part != model.part.name:
            raise CausalError(
                f"'{site}' has no vector for each token of the prompt that could be exchanged; give sites of the "
                f"stream or of what is added to it, as in 'resid_post.*' or 'head_out.*.*'."
            )
    if not found:
        raise CausalError("no sites were given; give some, as in 'resid_post.*'.")
    return found


def _columns(pairs: Pairs, positions: int | None) -> int:
    longest = int(pairs.lengths.max())
    if positions is not None and positions < 1:
        raise CausalError(f"got positions={positions}; expected how many of the last tokens, 1 or more.")
    return longest if positions is None else min(positions, longest)


def _empty(pairs: Pairs, sites: Sequence[Site], width: int) -> np.ndarray:
    """(n, S, K) zeros, NaN where a prompt has no such token."""
    lacking = np.arange(width) < (width - pairs.lengths)[:, None]
    return np.repeat(np.where(lacking, np.nan, 0.0)[:, None], len(sites), axis=1)


def _map(
    model: Model,
    method: Literal["exact", "attribution"],
    metric: Probe | None,
    pairs: Pairs,
    sites: Sequence[Site],
    values: np.ndarray,
    clean: np.ndarray,
    counterfactual: np.ndarray,
) -> PatchMap:
    width = values.shape[2]
    at = np.arange(width) - width + pairs.lengths[:, None]
    live = at >= np.maximum(pairs.begins, 0)[:, None]
    # Of equal activations, what passes of another shape make of them differs in its last bits.
    values = np.where(live[:, None] | np.isnan(values), values, 0.0)
    return PatchMap(
        method=method,
        metric=LogOdds.name if metric is None else Score.name,
        sites=tuple(sites),
        tokens=tuple(str(k - width) for k in range(width)),
        words=tuple(_word(model, pairs, k - width) for k in range(width)),
        values=values,
        live=live & (at >= 0),
        clean=clean,
        counterfactual=counterfactual,
        rows=pairs.rows,
        unequal=pairs.unequal,
        groups=pairs.clean.groups,
        partners=pairs.partners,
    )


def _word(model: Model, pairs: Pairs, at: int) -> str:
    found = {row.ids[at] for row in pairs.clean.rows if row.length >= -at}
    if len(found) != 1 or model.tokenizer is None:
        return ""
    return str(model.tokenizer.decode([found.pop()]))


# ---- the exact map's passes


def _alike(lengths: np.ndarray) -> Iterator[np.ndarray]:
    for length in np.unique(lengths):
        yield np.flatnonzero(lengths == length)


def _chunks(model: Model, sites: Sequence[Site], n_vectors: int) -> Iterator[list[Site]]:
    """Sites whose values, in float64, may be held together."""
    chunk: list[Site] = []
    held = 0
    for site in sites:
        size = 8 * max(1, n_vectors) * model.width(site)
        if chunk and held + size > _VALUES_BYTES:
            yield chunk
            chunk, held = [], 0
        chunk.append(site)
        held += size
    yield chunk


def _plans(model: Model, pairs: Pairs, sites: Sequence[Site], tokens: range, batch_tokens: int) -> list[Plan]:
    """An interchange for every site and token, of prompts of one length."""
    rows = pairs.counterfactual.rows
    length = rows[0].length
    values = {site: np.empty((len(rows), len(tokens), model.width(site))) for site in sites}
    size = max(1, batch_tokens // length)
    if not len(tokens):
        return []
    for start in range(0, len(rows), size):
        for site, x in model.read_rows(rows[start : start + size], sites).items():
            values[site][start : start + len(x)] = x[:, tokens.start :].double().cpu().numpy()
    return [
        Plan(Patch(values[site][:, k], site=site, tokens=str(token - length)))
        for site in sites
        for k, token in enumerate(tokens)
    ]


def _measured(
    model: Model, examples: Examples, plans: Sequence[Plan], metric: Probe | None, span: str, batch_tokens: int
) -> Outcomes:
    if metric is None:
        return run_plans(model, examples, plans, span=span, batch_tokens=batch_tokens)
    bare = _without_answers(examples)
    return run_plans(model, bare, plans, readings={Score.name: metric}, span=span, batch_tokens=batch_tokens)


def _of(outcomes: Outcomes | None, metric: Probe | None) -> np.ndarray:
    assert outcomes is not None
    return outcomes.logit_difference if metric is None else outcomes.readings[Score.name]


# ---- the estimate's passes


def _batches(quantity: Quantity, batch_tokens: int) -> Iterator[list[int]]:
    """Rows of like length, whose sequences fill a pass."""
    longest = [max(len(own.ids) for own in sequences) for sequences in quantity.sequences]
    batch: list[int] = []
    count = 0
    for i in sorted(range(len(longest)), key=lambda i: -longest[i]):
        more = len(quantity.sequences[i])
        if batch and (count + more) * longest[batch[0]] > batch_tokens:
            yield batch
            batch, count = [], 0
        batch.append(i)
        count += more
    yield batch
