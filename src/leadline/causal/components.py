"""Do the components that a decomposition names write the score? Ablated, they should take with them what it gives them.

A decomposition is bookkeeping: exact, but blind to what later components make of an earlier one's output. So the named
ones are replaced by their mean over the rows, and what is lost of the difference between the classes is measured: with
everything downstream as it then responds. Where others step in for them, or only pass on what they wrote, measured and
predicted part ways.

References
----------
K. Wang et al. (2023), Interpretability in the wild: ablations to the mean; components that back up others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from math import comb, prod
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from leadline.causal.contrast import Contrast
from leadline.causal.decomposition import Decomposition
from leadline.causal.engine import run_plans
from leadline.causal.examples import Examples
from leadline.causal.intervals import Intervals
from leadline.causal.interventions import Ablate
from leadline.causal.plan import Plan
from leadline.errors import CausalError
from leadline.events import SILENT, EventSink
from leadline.evidence.verdict import Verdict, where_from
from leadline.models.encoded import Encoded
from leadline.probes.intervals import Estimate
from leadline.probes.probe import Probe

if TYPE_CHECKING:
    from leadline.models.model import Model

__all__ = ["ComponentCheck", "check_components"]

# What is named where nothing is asked for: so much of the difference between the classes, with so many at most.
_SHARE, _MOST = 0.8, 10
_READING = "score"
# How far the score in a pass of interventions may be from that of the decomposition, in its standard deviations.
_SAME, _HALF_SAME = 1e-2, 2e-1


@dataclass(frozen=True, eq=False)
class ComponentCheck:
    """What is lost of the difference in score between the classes when components are replaced by their mean.

    Parameters
    ----------
    names : the K components. total : the difference without ablation.
    predicted, measured : (K,) what each gives by the decomposition, and what is lost when it alone is ablated.
    predicted_together, measured_together : of all K at once.
    kept : measured over predicted, of all at once: 1 if the decomposition tells what happens.
    share : predicted_together as a share of the total.
    null : (B,) what is lost with sets of as many other components of the same kinds.
    p : (1 + sets that lose as much) / (1 + B). n_groups : groups of rows that err together.
    """

    names: tuple[str, ...]
    total: float
    predicted: Intervals
    measured: Intervals
    predicted_together: Estimate
    measured_together: Estimate
    kept: Estimate
    share: float
    null: np.ndarray
    p: float
    n_groups: int

    def __repr__(self) -> str:
        whom = ", ".join(self.names[:6]) + (f" and {len(self.names) - 6} more" if len(self.names) > 6 else "")
        return f"ComponentCheck({whom}: {self.kept} of what is predicted, p {self.p:.2g} of {len(self.null)} sets)"

    @property
    def smallest_p(self) -> float:
        """The smallest p that so many sets can give."""
        return 1 / (1 + len(self.null))

    @property
    def table(self) -> pl.DataFrame:
        """A row a component: predicted, measured, and their intervals."""
        columns: dict[str, Any] = {"component": self.names}
        for name, one in (("predicted", self.predicted), ("measured", self.measured)):
            columns |= {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
        return pl.DataFrame(columns)

    def verdict(self, decodes: str = "supported", alpha: float = 0.05) -> Verdict:
        """The claim "where from", by the rule of `leadline.evidence.verdict.where_from`.

        Parameters
        ----------
        decodes : how the claim "decodable" ended. alpha : the level.
        """
        return where_from(decodes, alpha, self.kept, self.p, named=self.names, share=self.share, n_groups=self.n_groups)


def check_components(
    model: Model,
    inputs: Examples | Sequence[Encoded] | Sequence[Any],
    decomposition: Decomposition,
    probe: Probe | np.ndarray,
    *,
    y: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    components: Sequence[str] | None = None,
    n_random: int = 99,
    seed: int = 0,
    batch_tokens: int = 4096,
    events: EventSink = SILENT,
) -> ComponentCheck:
    """Ablate the components that a decomposition names, and compare with what it predicts.

    Each is replaced, at the tokens where the score is read, by its mean over the rows: alone, and all together.

    Parameters
    ----------
    inputs, probe : those that were decomposed.
    y, groups : (n,) labels and rows that err together; those of the decomposition by default.
    components : names, as in `"head 8.3"`; by default those with the largest shares that have 80% of the difference
        together, ten at most.
    n_random : sets of as many other components of the same kinds, drawn at random, each once; all where there are
        fewer. Where a kind has too few others, a set holds all of these and some of the named ones.

    Raises
    ------
    CausalError : rows, tokens or probe other than those decomposed, no labels, or a name that is no head, MLP or mixer.
    """
    contrast = decomposition.contrast if y is None and groups is None else _contrast(decomposition, y, groups)
    names = tuple(components) if components is not None else decomposition.named(_MOST, share=_SHARE)
    strange = [name for name in names if not decomposition.component(name).ablatable]
    if strange or not names or len(set(names)) < len(names):
        raise CausalError(
            f"cannot ablate {strange or list(names)}; expected different heads, MLPs or mixers, as in "
            f"decomposition.named(5)."
        )
    examples = _examples(model, inputs, decomposition)
    sets = list(_random_sets(decomposition, names, n_random, seed))
    whole = [(name,) for name in names] if len(names) > 1 else []
    steps = {name: _ablation(model, decomposition, name) for name in {*names, *(n for one in sets for n in one)}}
    plans = [Plan(*(steps[name] for name in one)) for one in (names, *whole, *sets)]
    reading = _reading(decomposition, probe)
    found = run_plans(model, examples, plans, readings={_READING: reading}, batch_tokens=batch_tokens, events=events)
    assert found.clean is not None
    clean = found.clean.readings[_READING][0]
    _compare(model, decomposition, clean)
    lost = clean - found.readings[_READING]
    index = [decomposition.names.index(name) for name in names]
    given = decomposition.terms[:, index].T
    toward = np.sign(decomposition.total) or 1.0
    values = toward * contrast.value(lost)
    null = values[1 + len(whole) :]
    rows = len(contrast.rows) if contrast.groups is None else len(np.unique(contrast.groups))
    total = float(contrast.value(decomposition.scores))
    return ComponentCheck(
        names=names,
        total=total,
        predicted=contrast.estimate(given),
        measured=contrast.estimate(lost[1 : 1 + len(whole)] if whole else lost[:1]),
        predicted_together=contrast.estimate(given.sum(axis=0)).estimate(),
        measured_together=contrast.estimate(lost[0]).estimate(),
        kept=contrast.ratio(lost[0], given.sum(axis=0)).estimate(),
        share=float(contrast.value(given.sum(axis=0))) / total,
        null=null,
        p=(1 + int(np.count_nonzero(null >= values[0]))) / (1 + len(null)),
        n_groups=rows,
    )


def _contrast(decomposition: Decomposition, y: np.ndarray | None, groups: np.ndarray | None) -> Contrast:
    label = decomposition.y if y is None else np.asarray(y, dtype=np.float64)
    if label is None or len(label) != len(decomposition.scores):
        given = "no labels" if label is None else f"{len(label)} labels"
        raise CausalError(f"got {given} for {len(decomposition.scores)} rows; give one a row.")
    return Contrast.of(label, decomposition.groups if groups is None else groups)


def _ablation(model: Model, decomposition: Decomposition, name: str) -> Ablate:
    component = decomposition.component(name)
    return Ablate(to="mean", mean=decomposition.mean_at(model, name), site=component.site, tokens=decomposition.tokens)


def _reading(decomposition: Decomposition, probe: Probe | np.ndarray) -> Probe:
    """The probe as the decomposition read it."""
    if isinstance(probe, Probe):
        return replace(probe, site=decomposition.site, tokens=decomposition.tokens)
    vector = np.asarray(probe, dtype=np.float64)
    return Probe(
        site=decomposition.site,
        coef=vector,
        intercept=decomposition.intercept,
        pattern=vector,
        family="vector",
        kind="binary",
        target="score",
        tokens=decomposition.tokens,
    )


def _examples(model: Model, inputs: Any, decomposition: Decomposition) -> Examples:
    """The inputs as examples whose answers do not matter."""
    if isinstance(inputs, Examples):
        rows, spans, texts = inputs.rows, inputs.spans, inputs.texts
    else:
        given = list(inputs)
        rows = tuple(given if given and isinstance(given[0], Encoded) else model.encode_rows(given, offsets=True))
        texts = tuple(row.text or "" for row in rows)
        spans = np.array([(0, len(text)) for text in texts], dtype=np.int64).reshape(-1, 2)
    n = len(rows)
    if n != len(decomposition.scores):
        raise CausalError(f"got {n} rows, but {len(decomposition.scores)} were decomposed; give the same rows.")
    nothing = ((),) * n
    return Examples(
        rows=rows,
        spans=spans,
        positive=nothing,
        negative=nothing,
        y=np.full(n, np.nan),
        groups=np.arange(n),
        partner=np.full(n, -1, dtype=np.int64),
        texts=texts,
    )


def _compare(model: Model, decomposition: Decomposition, clean: np.ndarray) -> None:
    limit = (_SAME if model.dtype == torch.float32 else _HALF_SAME) * max(float(decomposition.scores.std()), 1e-12)
    off = float(np.abs(clean - decomposition.scores).max())
    if not off <= limit:
        raise CausalError(
            f"the scores of these rows are not those that were decomposed (off by {off:.2g}); give the same rows and "
            f"the same probe."
        )


def _random_sets(
    decomposition: Decomposition, names: Sequence[str], n_random: int, seed: int
) -> Iterator[tuple[str, ...]]:
    """Sets of as many components of each kind, each once, with as few of the named ones as there must be."""
    parts: list[tuple[tuple[str, ...], int]] = []
    for kind in dict.fromkeys(decomposition.component(name).kind for name in names):
        own = tuple(name for name in names if decomposition.component(name).kind == kind)
        others = tuple(c.name for c in decomposition.components if c.kind == kind and c.name not in own)
        free = min(len(own), len(others))
        # Where there are fewer others, all of them and some of the named ones.
        parts += [part for part in ((others, free), (own, len(own) - free)) if part[1]]
    if not any(set(pool) - set(names) for pool, _ in parts):
        return
    if prod(comb(len(pool), size) for pool, size in parts) <= n_random:
        for chosen in product(*(combinations(pool, size) for pool, size in parts)):
            yield tuple(name for some in chosen for name in some)
        return
    rng = np.random.default_rng([seed, 73])
    seen: set[frozenset[str]] = set()
    while len(seen) < n_random:
        one = tuple(str(name) for pool, size in parts for name in rng.choice(pool, size, replace=False))
        if frozenset(one) not in seen:
            seen.add(frozenset(one))
            yield one
