"""How well the direction of each probe family edits behaviour, at equal cost on neutral text.

Directions that read equally well may write differently. Along each, examples are moved toward the class that they are
not, in doses of ‖h‖; the same doses are made on neutral text, both ways, since examples are moved both ways. Effects
are compared at the dose where each direction's cost reaches the budget, on lines between the measured doses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import scipy.linalg

from leadline.causal.controls import Fits, checked_rows, fit_one, halves, mean_difference, p_value, random_directions
from leadline.causal.cost import perplexity_cost
from leadline.causal.curves import crossing
from leadline.causal.directions import unit_vector
from leadline.causal.engine import run_plans
from leadline.causal.interventions import Add
from leadline.causal.neutral import NEUTRAL
from leadline.causal.places import check_tokens
from leadline.causal.plan import Plan
from leadline.causal.separation import Separation
from leadline.errors import CausalError
from leadline.events import SILENT, EventSink
from leadline.evidence.metrics import weighted_auroc
from leadline.probes import LDA, Logistic, MeanDifference
from leadline.probes.intervals import Estimate
from leadline.sites import Site

if TYPE_CHECKING:
    from leadline.causal.examples import Examples
    from leadline.models.model import Model

__all__ = ["FamilyScore", "FamilyScores", "Latents", "family_scores"]

_DOSES = (0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(frozen=True, eq=False)
class Latents:
    """A sparse autoencoder's latents at a site: activation max(0, encoder·h + bias).

    Parameters
    ----------
    encoder, decoder : (m, d) what each latent reads, and writes. bias : (m,); zeros by default.
    """

    encoder: np.ndarray
    decoder: np.ndarray
    bias: np.ndarray | None = None

    def best(self, X: np.ndarray, ones: np.ndarray) -> tuple[int, float]:
        """The latent whose activation tells the classes apart best (AUROC, either way), and its sign."""
        encoder, decoder = np.asarray(self.encoder, np.float64), np.asarray(self.decoder, np.float64)
        if encoder.ndim != 2 or encoder.shape != decoder.shape or encoder.shape[1] != X.shape[1]:
            raise CausalError(
                f"the latents have an encoder {encoder.shape} and a decoder {decoder.shape}; expected (m, "
                f"{X.shape[1]}) of both."
            )
        active = np.maximum(X @ encoder.T + (0.0 if self.bias is None else np.asarray(self.bias)), 0.0)
        W, y = np.ones((len(X), 1)), ones.astype(np.float64)
        auroc = np.array([float(weighted_auroc(own, y, W)[0]) for own in active.T])
        k = int(np.argmax(np.abs(auroc - 0.5)))
        return k, 1.0 if auroc[k] >= 0.5 else -1.0


@dataclass(frozen=True, eq=False)
class FamilyScore:
    """One direction at the dose where its cost reaches the budget.

    Parameters
    ----------
    family, vector : whose, and which; `"direction"` reads, `"pattern"` writes.
    dose : ‖shift‖/‖h‖ there. reached : whether the cost reaches the budget at all; else it is the largest dose tried.
    effect : mean signed change of the log odds toward the other class, nats. nie : that by the natural difference.
    p : against random directions, each at its own equal cost.
    effects, costs : (S,) at the doses tried, for a curve.
    """

    family: str
    vector: str
    dose: float
    reached: bool
    effect: Estimate
    nie: Estimate
    p: float
    effects: np.ndarray = field(repr=False)
    costs: np.ndarray = field(repr=False)


@dataclass(frozen=True, eq=False)
class FamilyScores:
    """The intervention scores of probe families.

    Parameters
    ----------
    scores : a direction each. random : (B,) mean effects of random directions at equal cost.
    doses : (S,) that were tried. budget : the share by which perplexity rises. natural : the classes' difference.
    """

    scores: tuple[FamilyScore, ...]
    random: np.ndarray
    doses: np.ndarray
    budget: float
    natural: Estimate

    @property
    def table(self) -> pl.DataFrame:
        """A row a direction, the strongest first; then the random ones: the mean of |effect| and its middle 95%."""
        rows: list[dict[str, object]] = []
        for one in sorted(self.scores, key=lambda s: -s.effect.value):
            row: dict[str, object] = {"family": one.family, "vector": one.vector, "effect": one.effect.value}
            row |= {"low": one.effect.low, "high": one.effect.high, "nie": one.nie.value, "dose": one.dose}
            rows.append(row | {"reached": one.reached, "p": one.p})
        size = np.abs(self.random)
        low, high = np.quantile(size, [0.025, 0.975])
        row = {"family": "random", "vector": None, "effect": float(size.mean()), "low": float(low), "high": float(high)}
        rows.append(row | {"nie": None, "dose": None, "reached": None, "p": None})
        return pl.DataFrame(rows).with_columns(pl.selectors.float().fill_nan(None))

    def __repr__(self) -> str:
        best = max(self.scores, key=lambda s: s.effect.value)
        return (
            f"FamilyScores({len(self.scores)} directions at {self.budget:.0%} more perplexity; best the {best.vector} "
            f"of {best.family}: {best.effect}, p {best.p:.2g})"
        )


def family_scores(
    model: Model,
    examples: Examples,
    X: np.ndarray,
    y: np.ndarray,
    families: Mapping[str, Fits] | None = None,
    *,
    site: str | Site,
    tokens: str = "last",
    fitted_groups: np.ndarray | None = None,
    sae: Latents | None = None,
    doses: Sequence[float] = _DOSES,
    budget: float = 0.1,
    n_random: int = 19,
    neutral: Sequence[str] = NEUTRAL,
    seed: int = 0,
    batch_tokens: int = 4096,
    events: EventSink = SILENT,
) -> FamilyScores:
    """Fit families on some rows, and edit other examples along what they found.

    Parameters
    ----------
    examples : prompts with answers and classes, of rows that are not those of X.
    X, y : (m, d) activations at the site and labels (0 and 1, or numbers, then split at the median).
    families : by name; by default logistic regression, LDA and the difference of means. The first principal component
        of X, signed by the classes, is always among them.
    sae : latents, of which the one that tells the rows of X apart best is taken.
    doses : positive, in norms of the activation at each token. budget : the share by which perplexity rises.
    n_random : random directions from the covariance within classes. Each has a curve of costs of its own, which takes
        time; of 19 the smallest p is .05.

    Raises
    ------
    CausalError : examples without answers or classes, doses that are not positive, shapes that do not fit.
    """
    rows, labels = checked_rows(X, y)
    steps = np.unique(np.asarray(doses, dtype=np.float64))
    if not len(steps) or not (steps > 0).all() or not budget > 0:
        raise CausalError(f"got doses {list(doses)} and a budget of {budget}; expected positive numbers.")
    if not examples.has_answers:
        raise CausalError("the examples have no answers, so no behaviour can be read; give positive= and negative=.")
    examples = examples.take(np.isfinite(examples.y))
    place, where = Site.parse(site), check_tokens(tokens)
    known = _vectors(rows, labels, families, sae, fitted_groups, seed)
    drawn = random_directions(rows, labels, n_random, kind="covariance", seed=seed)
    vectors = [*known.values(), *drawn]

    sign = 1 - 2 * examples.y
    plans = [Plan(Add(v, dose * sign, site=place, tokens=where)) for v in vectors for dose in steps]
    found = run_plans(model, examples, plans, batch_tokens=batch_tokens, events=events)
    both = [Plan(Add(v, s * dose, site=place)) for v in vectors for dose in steps for s in (1.0, -1.0)]
    cost = perplexity_cost(model, both, neutral, batch_tokens=batch_tokens, events=events)
    assert found.clean is not None
    apart = Separation(found.clean.logit_difference[0], examples.y, examples.groups)
    odds = found.logit_difference.reshape(len(vectors), len(steps), -1)
    costs = cost.change.value.reshape(len(vectors), len(steps), 2).mean(axis=2)

    limit = float(np.log1p(budget))
    at = [_at_budget(odds[v], costs[v], apart.clean, steps, limit) for v in range(len(vectors))]
    means = np.array([apart.signed(one[0]).mean() for one in at])
    null = means[len(known) :]
    scores = tuple(
        FamilyScore(
            family=family,
            vector=vector,
            dose=at[v][1],
            reached=at[v][2],
            effect=apart.effect(at[v][0]),
            nie=apart.share(at[v][0]),
            p=p_value(null, float(means[v])),
            effects=apart.signed(odds[v]).mean(axis=1),
            costs=costs[v],
        )
        for v, (family, vector) in enumerate(known)
    )
    return FamilyScores(scores, null, steps, budget, apart.natural)


def _at_budget(
    odds: np.ndarray, costs: np.ndarray, clean: np.ndarray, doses: np.ndarray, limit: float
) -> tuple[np.ndarray, float, bool]:
    """(n,) log odds at the dose where the cost reaches the limit, that dose, and whether it does."""
    k, t, reached = crossing(doses, costs, limit)
    before, start = (clean, 0.0) if k == 0 else (odds[k - 1], float(doses[k - 1]))
    return before + t * (odds[k] - before), start + t * (float(doses[k]) - start), reached


def _vectors(
    X: np.ndarray,
    y: np.ndarray,
    families: Mapping[str, Fits] | None,
    sae: Latents | None,
    groups: np.ndarray | None,
    seed: int,
) -> dict[tuple[str, str], np.ndarray]:
    """{(family, vector): unit vector toward the class 1}."""
    if families is None:
        families = {"logistic": Logistic(l2=(0.1,)), "lda": LDA(), "mean difference": MeanDifference()}
    ones = halves(y)
    found: dict[tuple[str, str], np.ndarray] = {}
    for name, family in families.items():
        target = y if "continuous" in getattr(family, "kinds", ()) else ones.astype(np.float64)
        probe = fit_one(family, X, target, groups, seed=seed)
        for vector in ("direction", "pattern"):
            found[name, vector] = unit_vector(getattr(probe, vector), f"the {vector} of {name}")
    centred = X - X.mean(axis=0)
    (axis,) = scipy.linalg.svd(centred, full_matrices=False)[2][:1]
    found["PCA", "direction"] = axis * (1.0 if axis @ mean_difference(X, y) >= 0 else -1.0)
    if sae is not None:
        k, toward = sae.best(X, ones)
        for vector, own in (("direction", sae.encoder), ("pattern", sae.decoder)):
            found[f"SAE latent {k}", vector] = toward * unit_vector(own[k], f"latent {k}")
    return found
