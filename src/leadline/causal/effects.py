"""Dose-response studies of an intervention, beside controls, in one batched job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from leadline.causal.controls import (
    KINDS,
    Fits,
    checked_rows,
    family_of,
    mean_difference,
    orthogonal_equal_variance,
    p_value,
    random_directions,
    shuffled_label_probe,
)
from leadline.causal.cost import Cost, perplexity_cost
from leadline.causal.curves import Band, Curve, Effect, usable_range
from leadline.causal.engine import run_plans
from leadline.causal.examples import Examples, prompts
from leadline.causal.intervals import Intervals, mean_interval
from leadline.causal.interventions import Ablate, Add, Clamp, Intervention, Patch
from leadline.causal.neutral import NEUTRAL
from leadline.causal.outcomes import Outcomes
from leadline.causal.plan import Plan
from leadline.errors import CausalError
from leadline.events import SILENT, EventSink
from leadline.probes import MeanDifference
from leadline.probes.probe import Probe

if TYPE_CHECKING:
    from leadline.models.model import Model

__all__ = ["DOSES", "measure_effect"]

DOSES = (-0.4, -0.2, -0.1, 0.1, 0.2, 0.4)
"""Strengths of `Add` where none are given, in norms of the activation."""


def measure_effect(
    model: Model,
    inputs: Examples | Sequence[str] | Any,
    intervention: Add | Clamp | Ablate | Probe,
    strengths: Sequence[float] | None = None,
    *,
    positive: Sequence[Any] | None = None,
    negative: Sequence[Any] | None = None,
    template: str | Sequence[Mapping[str, str]] = "{text}",
    groups: np.ndarray | None = None,
    X: np.ndarray | None = None,
    y: np.ndarray | None = None,
    family: Fits | None = None,
    fitted_groups: np.ndarray | None = None,
    readings: Mapping[str, Probe] | None = None,
    n_random: int = 99,
    neutral: Sequence[str] | None = NEUTRAL,
    budget: float = 0.1,
    seed: int = 0,
    batch_tokens: int = 4096,
    events: EventSink = SILENT,
) -> Effect:
    """What an intervention does at each strength, beside random directions and other controls of the same norm.

    Parameters
    ----------
    inputs : `Examples`; or n texts, or a data set's, with `positive` and `negative` answers, `template` and `groups` as
        in `prompts`.
    intervention : `Add`, whose strength is varied; `Clamp`, whose score is; `Ablate`, which has one strength, 1. A
        probe stands for `Add(probe, …)` at all tokens.
    strengths : by default `DOSES` for `Add` in doses, and the intervention's own for any other.
    X, y : (m, d) activations at the site and labels of other rows than the examples, such as those the probe was fitted
        on. With them come random directions from the covariance within classes, the difference of means, an orthogonal
        direction of equal variance and a probe on shuffled labels (of `family`, by default the probe's own;
        `fitted_groups` as in `shuffled_label_probe`).
    readings : probes by name, whose scores are read in the same passes, further down or at the prompt's end.
    n_random : B directions of each kind. For `Clamp` each moves an example as far as the clamp moves it.
    neutral : texts on which the cost is measured, at every token but the first; None leaves it out.
    budget : the share by which perplexity may rise in the usable range.

    Raises
    ------
    CausalError : an intervention of another kind or with values row by row, strengths that are not finite, answers
        that are given twice or not at all, X without y, fewer than 19 random directions. Else as `run_plans`.
    """
    one = Add(intervention, 1.0) if isinstance(intervention, Probe) else intervention
    levels = _levels(one, strengths)
    if n_random < 19:
        raise CausalError(f"got {n_random} random directions; a p-value of .05 needs 19 or more.")
    if (X is None) != (y is None):
        raise CausalError("controls from activations need both X and y; give both, or neither.")
    examples = _examples(model, inputs, positive, negative, template, groups)
    if not examples.has_answers and not readings:
        raise CausalError("neither answers nor readings were given; give positive= and negative=, or readings=.")
    Plan(one).bind(model)

    data = None if X is None or y is None else checked_rows(X, y)
    scale = _Matched.of(model, examples, one, levels)
    named = _named(one, data, family, fitted_groups, seed)
    drawn = _drawn(one, data, n_random, seed)
    plans: list[Plan] = []
    for vector in named.values():
        plans += [Plan(scale.own(s) if vector is None else scale.along(vector, s)) for s in range(len(levels))]
    for directions in drawn.values():
        plans += [Plan(scale.along(v, s)) for s in range(len(levels)) for v in directions]
    found = run_plans(model, examples, plans, readings=readings, batch_tokens=batch_tokens, events=events)
    n_named = len(named) * len(levels)
    cost = None
    if neutral is not None and not isinstance(one, Clamp):
        cost = perplexity_cost(model, plans[:n_named], neutral, batch_tokens=batch_tokens, events=events)
    elif neutral is not None:
        # Controls of a clamp move each example by its own amount, which no neutral text has.
        cost = perplexity_cost(model, plans[: len(levels)], neutral, batch_tokens=batch_tokens, events=events)
    shape = (len(drawn), len(levels), n_random)
    changes = found.change[n_named:].mean(axis=1).reshape(shape)
    bands = {kind: Band(own) for kind, own in zip(drawn, changes, strict=True)} if examples.has_answers else {}
    curves = {
        name: _curve(found, cost, scale, bands, examples.groups, k * len(levels), budget)
        for k, name in enumerate(named)
    }
    assert found.clean is not None
    return Effect(
        description=f"{one.describe()} at {one.site}",
        main=next(iter(named)),
        curves=curves,
        bands=bands,
        n=len(examples),
        n_groups=len(np.unique(examples.groups)),
        budget=budget,
        clean=mean_interval(found.clean.logit_difference[0], examples.groups),
    )


def _levels(one: Any, strengths: Sequence[float] | None) -> np.ndarray:
    if not isinstance(one, (Add, Clamp, Ablate)):
        raise CausalError(f"a {type(one).__name__} has no strength to vary; give Add, Clamp, Ablate or a probe.")
    if one.n_rows is not None:
        raise CausalError("the intervention has values row by row; give one number, and the others as strengths=.")
    if isinstance(one, Ablate):
        if strengths is not None:
            raise CausalError("an ablation has one strength; leave strengths out.")
        return np.ones(1)
    own = (
        DOSES if isinstance(one, Add) and one.unit == "dose" else (one.strength if isinstance(one, Add) else one.score,)
    )
    levels = np.unique(np.asarray(own if strengths is None else strengths, dtype=np.float64))
    if not len(levels) or not np.isfinite(levels).all():
        raise CausalError(f"the strengths are {strengths}; expected finite numbers.")
    return levels


def _examples(
    model: Model, inputs: Any, positive: Any, negative: Any, template: Any, groups: np.ndarray | None
) -> Examples:
    if isinstance(inputs, Examples):
        if positive is not None or negative is not None or groups is not None or template != "{text}":
            raise CausalError("the examples have their answers, template and groups; give texts to choose others.")
        return inputs
    # A data set brings its texts.
    texts = list(getattr(inputs, "texts", inputs)) if not isinstance(inputs, str) else inputs
    return prompts(model, texts, template=template, positive=positive or (), negative=negative or (), groups=groups)


# ---- what is done


@dataclass(frozen=True, eq=False)
class _Matched:
    """The intervention at each level, and the same shift along other vectors.

    Parameters
    ----------
    shifts : (S, n) signed, how far a clamp moves each example along its own vector; None for others.
    norms : (n,) mean ‖h‖ of the clean activations, with `shifts`.
    """

    one: Add | Clamp | Ablate
    levels: np.ndarray
    shifts: np.ndarray | None = None
    norms: np.ndarray | None = None

    @classmethod
    def of(cls, model: Model, examples: Examples, one: Add | Clamp | Ablate, levels: np.ndarray) -> _Matched:
        if not isinstance(one, Clamp):
            return cls(one, levels)
        rows = Patch.from_inputs(model, examples.rows, one.site, one.tokens, spans=examples.spans).values
        (w, b), u = one.reader, one.unit_vector
        scores = np.array([(own @ w + b).mean() for own in rows])
        norms = np.array([np.linalg.norm(own, axis=1).mean() for own in rows])
        return cls(one, levels, (levels[:, None] - scores) / (w @ u), norms)

    def own(self, s: int) -> Intervention:
        """The intervention at a level."""
        level = float(self.levels[s])
        if isinstance(self.one, Add):
            return replace(self.one, strength=level)
        return replace(self.one, score=level) if isinstance(self.one, Clamp) else self.one

    def along(self, vector: np.ndarray, s: int) -> Intervention:
        """As much along another vector (d,); of a subspace along vectors (k, d)."""
        if isinstance(self.one, Add):
            return replace(self.one, direction=vector, strength=float(self.levels[s]))
        if isinstance(self.one, Ablate):
            return replace(self.one, direction=vector)
        assert self.shifts is not None
        return Add(vector, self.shifts[s], site=self.one.site, tokens=self.one.tokens, unit="raw")

    def dose(self, norms: np.ndarray) -> np.ndarray:
        """(S,) signed mean ‖shift‖/‖h‖, for (n,) mean ‖h‖."""
        if isinstance(self.one, Ablate):
            return np.full(len(self.levels), np.nan)
        if self.shifts is not None and self.norms is not None:
            return np.asarray((self.shifts / self.norms).mean(axis=1))
        return (
            self.levels if isinstance(self.one, Add) and self.one.unit == "dose" else self.levels * (1 / norms).mean()
        )


def _named(
    one: Add | Clamp | Ablate,
    data: tuple[np.ndarray, np.ndarray] | None,
    family: Fits | None,
    fitted_groups: np.ndarray | None,
    seed: int,
) -> dict[str, np.ndarray | None]:
    """By name the vectors of the curves, the intervention's own (None) first."""
    source = one.probe if isinstance(one, Clamp) else one.direction
    if isinstance(one, Clamp):
        main, vector = "clamp", one.unit_vector
    elif isinstance(source, Probe):
        main, vector = one.vector, getattr(source, one.vector)
    elif source is None or np.ndim(source) == 2:
        # No one vector stands for a subspace.
        return {"subspace" if source is not None else "site": None}
    else:
        main, vector = "vector", np.asarray(source)
    found: dict[str, np.ndarray | None] = {main: None}
    if isinstance(source, Probe) and not isinstance(one, Clamp):
        other = "direction" if main == "pattern" else "pattern"
        if getattr(source, other).any():
            found[other] = getattr(source, other)
    if data is None:
        return found
    X, y = data
    shuffled = shuffled_label_probe(
        family or (family_of(source) if isinstance(source, Probe) else MeanDifference()), X, y, fitted_groups, seed=seed
    )
    extra = {
        "mean_difference": mean_difference(X, y),
        "orthogonal": orthogonal_equal_variance(X, vector, seed=seed),
        "shuffled_labels": shuffled.pattern,
    }
    return found | {name: own for name, own in extra.items() if own.any()}


def _drawn(
    one: Add | Clamp | Ablate, data: tuple[np.ndarray, np.ndarray] | None, n: int, seed: int
) -> dict[str, np.ndarray]:
    """By kind (B, d) random directions, or (B, k, d) for a subspace; none for a whole site."""
    source = one.direction if isinstance(one, Ablate) else None
    if isinstance(one, Ablate) and one.basis is None:
        return {}
    k = len(one.basis) if isinstance(one, Ablate) and one.basis is not None else 1
    X, y = data if data is not None else (np.zeros((1, one.width or 0)), None)
    found = {}
    for kind in KINDS if data is not None else KINDS[:1]:
        directions = random_directions(X, y, n * k, kind=kind, seed=seed)
        subspace = source is not None and not isinstance(source, Probe) and np.ndim(source) == 2
        found[kind] = directions.reshape(n, k, -1) if subspace else directions
    return found


# ---- what it does


def _curve(
    found: Outcomes,
    cost: Cost | None,
    scale: _Matched,
    bands: Mapping[str, Band],
    groups: np.ndarray,
    first: int,
    budget: float,
) -> Curve:
    rows = slice(first, first + len(scale.levels))
    clean = found.clean
    assert clean is not None

    def mean(values: np.ndarray) -> Intervals:
        return mean_interval(values, groups)

    change = found.change[rows]
    flips = ((found.logit_difference[rows] > 0) != (clean.logit_difference > 0)).astype(np.float64)
    costs = divergence = usable = None
    if cost is not None and first < len(cost.change):
        costs, divergence = (
            Intervals(own.value[rows], own.low[rows], own.high[rows]) for own in (cost.change, cost.kl)
        )
        usable = usable_range(scale.levels, costs.value, float(np.log1p(budget))) if not _fixed(scale) else None
    means = change.mean(axis=1)
    return Curve(
        strengths=scale.levels,
        dose=scale.dose(found.norms[first]),
        change=mean(change),
        probability=mean(found.p_positive[rows]),
        flips=mean(np.where(np.isfinite(change), flips, np.nan)),
        kl=mean(found.kl[rows]),
        readings={name: mean(own[rows] - clean.readings[name]) for name, own in found.readings.items()},
        cost=costs,
        cost_kl=divergence,
        p={
            kind: np.array([p_value(null, m, one_sided=False) for null, m in zip(band.changes, means, strict=True)])
            for kind, band in bands.items()
        },
        usable=usable,
    )


def _fixed(scale: _Matched) -> bool:
    """Whether 0 is no strength at which nothing happens."""
    return not isinstance(scale.one, Add)
