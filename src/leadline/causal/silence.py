"""Detect, steer, silence: once a concept is erased, can a fresh probe still read it, and does the answer change?

What a probe detects and a shift steers need not be necessary. So the concept is erased (LEACE) where the intervention
acts, and two things are asked of other rows: can a fresh probe read it there and further down, and how much is left of
the difference between the classes' answers? Erasers of shuffled labels say what erasing as much of nothing does; INLP
is the older rival.

Three sets of rows are kept apart: erasers are fitted on the rows of X; fresh probes, on the examples, are trained on
some folds and tested on the others. On an eraser's own rows a linear probe's best weights are 0, which tests nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch

from leadline.causal.controls import Fits, checked_rows, halves, p_value
from leadline.causal.engine import run_plans
from leadline.causal.eraser import Eraser
from leadline.causal.erasure import Whitening
from leadline.causal.generation import intervene
from leadline.causal.inlp import inlp
from leadline.causal.interventions import Erase
from leadline.causal.places import check_tokens, positions_of
from leadline.causal.plan import Plan
from leadline.causal.separation import Separation
from leadline.errors import CausalError
from leadline.events import SILENT, EventSink
from leadline.evidence.metrics import fold_mean, weighted_auroc
from leadline.evidence.permutation import draw_shuffles
from leadline.probes import Logistic
from leadline.probes.intervals import Estimate, draw_groups, percentile
from leadline.sites import Site

if TYPE_CHECKING:
    from leadline.causal.examples import Examples
    from leadline.models.model import Model

__all__ = ["ERASERS", "Silence", "Silenced", "silence"]

ERASERS = ("none", "leace", "inlp", "shuffled")
_REPLICATES = 1000
# A bootstrap within a fold of fewer groups hardly varies, and says nothing.
_LEAST_GROUPS = 3


@dataclass(frozen=True, eq=False)
class Silenced:
    """What is left after one eraser.

    Parameters
    ----------
    eraser : `"none"`, `"leace"`, `"inlp"`, or `"shuffled"`, LEACE of shuffled labels. rank : dimensions taken out.
    auroc : {site: of a fresh probe, out of fold, with an interval over groups}.
    separation : the difference in log odds between the classes that is left, nats; lost : what is gone; share : that by
        the natural difference. NaN without answers.
    p : of `lost`, against erasers of shuffled labels; None for `"none"` and `"shuffled"`, and without answers.
    """

    eraser: str
    rank: int
    auroc: Mapping[str, Estimate]
    separation: Estimate
    lost: Estimate
    share: Estimate
    p: float | None


@dataclass(frozen=True, eq=False)
class Silence:
    """Erasure at one site, and what is left there, further down and in the answers.

    Parameters
    ----------
    site, tokens : where was erased. outcomes : by eraser. null : (B,) what LEACE of shuffled labels takes away of the
        difference between the classes, nats. n, n_groups : of the examples.
    """

    site: Site
    tokens: str
    outcomes: Mapping[str, Silenced]
    null: np.ndarray
    n: int
    n_groups: int

    @property
    def table(self) -> pl.DataFrame:
        """A row an eraser and site."""
        rows = []
        for one in self.outcomes.values():
            for site, auroc in one.auroc.items():
                row: dict[str, object] = {"eraser": one.eraser, "rank": one.rank, "site": site}
                for name, estimate in (("auroc", auroc), ("separation", one.separation), ("share", one.share)):
                    row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
                rows.append(row | {"p": one.p})
        return pl.DataFrame(rows, schema_overrides={"p": pl.Float64}).with_columns(pl.selectors.float().fill_nan(None))

    @property
    def sentence(self) -> str:
        """What was found, for a person."""
        before, after = self.outcomes["none"], self.outcomes["leace"]
        reads = [f"{before.auroc[site]} to {one} at {site}" for site, one in after.auroc.items()]
        said = (
            f"Erased by LEACE (rank {after.rank}) at {self.site}, a fresh probe's AUROC goes from {'; '.join(reads)}."
        )
        if not np.isfinite(after.lost.value):
            return said
        share = f", {after.share.value:.0%} of it" if np.isfinite(after.share.low) else ""
        assert after.p is not None
        return (
            f"{said} The difference between the classes' answers, {before.separation}, loses {after.lost}{share} "
            f"(p = {after.p:.2g} against erasing shuffled labels)."
        )

    def __repr__(self) -> str:
        return f"Silence({self.sentence})"


def silence(
    model: Model,
    examples: Examples,
    X: np.ndarray,
    y: np.ndarray,
    *,
    site: str | Site,
    tokens: str = "last",
    downstream: Sequence[str | Site] = (),
    read: str = "last",
    n_directions: int = 1,
    n_shuffles: int = 19,
    family: Fits | None = None,
    n_folds: int | None = None,
    fitted_groups: np.ndarray | None = None,
    seed: int = 0,
    batch_tokens: int = 4096,
    events: EventSink = SILENT,
) -> Silence:
    """Erase a concept in the model, and look for it.

    Parameters
    ----------
    examples : prompts with classes, of rows that are not those of X; with answers for the behaviour.
    X, y : (m, d) activations at the site, at what `tokens` selects, and labels: classes as 0 and 1, or numbers, which
        are erased as such and read by their halves.
    site, tokens : where is erased. downstream : sites behind it, read at what `read` selects, the mean of several.
    n_directions : of INLP. n_shuffles : B, erasers of shuffled labels.
    family : of fresh probes on classes; by default logistic regression with a penalty of 0.1.
    n_folds : of whole groups of examples; by default 5, or as many as have 3 groups each. A fold of fewer gives
        no interval.
    fitted_groups : (m,) within which, or whole, labels are shuffled.

    Raises
    ------
    CausalError : examples without a class, shapes that do not fit, a downstream site that is not behind the other.
    EvidenceError : groups that do not fill the folds, or fewer than 19 shuffles.
    """
    rows, labels = checked_rows(X, y)
    place, where, at = Site.parse(site), check_tokens(tokens), check_tokens(read)
    behind = [Site.parse(one) for one in downstream]
    early = next((one for one in behind if one.depth <= place.depth), None)
    if early is not None:
        raise CausalError(f"'{early}' does not come behind '{place}', so erasing changes nothing there.")
    examples = examples.take(np.isfinite(examples.y))
    if len(np.unique(examples.y)) < 2:
        raise CausalError("the examples need the class 0 or 1 (y=), some of each, for a fresh probe to read.")

    folds = n_folds if n_folds is not None else min(5, max(2, len(np.unique(examples.groups)) // _LEAST_GROUPS))
    erasers = _erasers(rows, labels, n_directions, n_shuffles, fitted_groups, place, seed)
    plans = {name: Plan(Erase(one, site=place, tokens=where)) for name, one in erasers.items()}
    wanted = [(place, where), *((one, at) for one in behind)]
    fresh = family or Logistic(l2=(0.1,))
    auroc = {
        name: {
            one.name: _auroc(fresh, values, examples, folds, seed)
            for one, values in _read(model, examples, plans.get(name), wanted, batch_tokens).items()
        }
        for name in ERASERS
    }
    nothing = Estimate(float("nan"))
    null = np.full(n_shuffles, np.nan)
    left = dict.fromkeys(ERASERS, (nothing, nothing, nothing))
    p: dict[str, float] = {}
    if examples.has_answers:
        found = run_plans(model, examples, list(plans.values()), batch_tokens=batch_tokens, events=events)
        assert found.clean is not None
        apart = Separation(found.clean.logit_difference[0], examples.y, examples.groups)
        odds = dict(zip(plans, found.logit_difference, strict=True)) | {"none": apart.clean}
        null = apart.lost(np.stack([odds[name] for name in plans if name.startswith("shuffled")]))
        for name in ERASERS:
            edited = Separation(odds[name], examples.y, examples.groups)
            left[name] = edited.natural, apart.lost_estimate(odds[name]), apart.lost_share(odds[name])
        p = {name: p_value(null, left[name][1].value) for name in ("leace", "inlp")}
    outcomes = {
        name: Silenced(name, erasers[name].rank if name in erasers else 0, auroc[name], *left[name], p.get(name))
        for name in ERASERS
    }
    return Silence(place, where, outcomes, null, len(examples), len(np.unique(examples.groups)))


def _erasers(
    X: np.ndarray, y: np.ndarray, n_directions: int, n_shuffles: int, groups: np.ndarray | None, site: Site, seed: int
) -> dict[str, Eraser]:
    """LEACE, INLP, and LEACE of B shuffled labellings, the first of which is `shuffled`."""
    kind = "classes" if np.isin(y, (0.0, 1.0)).all() else "continuous"
    label = y.astype(np.int64) if kind == "classes" else y
    whitened = Whitening(X)
    found = {
        "leace": whitened.eraser(label, kind=kind, site=site, label="the concept"),
        "inlp": inlp(X, label, n_directions, kind=kind, site=site, label="the concept"),
    }
    order = draw_shuffles(y[:, None], groups, n_shuffles, seed).index[1:]
    for b, own in enumerate(order):
        name = "shuffled" if b == 0 else f"shuffled {b}"
        found[name] = whitened.eraser(label[own], kind=kind, site=site, label="shuffled labels")
    return found


def _read(
    model: Model,
    examples: Examples,
    plan: Plan | None,
    wanted: Sequence[tuple[Site, str]],
    batch_tokens: int,
) -> dict[Site, np.ndarray]:
    """{site: (n, d)} what stands in edited passes at the selected tokens, the mean of several."""
    sites = [site for site, _ in wanted]
    found: dict[Site, list[np.ndarray]] = {site: [np.empty(0)] * len(examples) for site in sites}
    order = sorted(range(len(examples)), key=lambda i: -examples.rows[i].length)
    start = 0
    while start < len(order):
        some = order[start : start + max(1, batch_tokens // examples.rows[order[start]].length)]
        rows, spans = [examples.rows[i] for i in some], examples.spans[some]
        with intervene(model, plan or Plan(), inputs=rows, spans=spans):
            read = model.read_rows(rows, sites)
        for site, tokens in wanted:
            for k, i in enumerate(some):
                where = torch.from_numpy(positions_of(tokens, rows[k], examples.span(i)))
                x = read[site]
                found[site][i] = x[k, where.to(x.device)].double().mean(dim=0).cpu().numpy()
        start += len(some)
    return {site: np.stack(own) for site, own in found.items()}


def _auroc(family: Fits, X: np.ndarray, examples: Examples, n_folds: int, seed: int) -> Estimate:
    """Of a fresh probe out of fold, folds apart; the interval is a bootstrap over groups within folds."""
    y = halves(examples.y).astype(np.float64)
    fitted = family.fit(X, y, n_folds=n_folds, groups=examples.groups, seed=seed)
    scores, fold = fitted.scores[:, 0].astype(np.float64), fitted.fold
    W = draw_groups(len(y), _REPLICATES, seed, groups=examples.groups, fold=fold)
    parts = [weighted_auroc(scores[fold == k], y[fold == k], W[fold == k]) for k in np.unique(fold)]
    found = fold_mean(parts)
    n_groups = min(len(np.unique(examples.groups[fold == k])) for k in np.unique(fold))
    return percentile(found) if n_groups >= _LEAST_GROUPS else Estimate(float(found[0]))
