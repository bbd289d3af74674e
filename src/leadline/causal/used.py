"""Does a model act on what a probe reads? Every example is moved to the other class, beside what controls do.

Each example is moved by what sets the classes apart, toward the class that it is not, along the probe's pattern (how
the concept is written), its direction (what the probe reads) and controls; and the model's answer is read again. The
direction must have been fitted on other rows: X and y are those, the examples are not.

Sufficiency and necessity are told apart: moving and exchanging ask whether the direction can decide the answer,
ablation whether the answer needs it.

A shift that merely destroys what an answer rests on moves it toward the other class too, whatever its direction: behind
a norm everything else shrinks. So effects of random directions of the same norm do not scatter about 0, and an effect
means something beside them alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from leadline.causal.controls import (
    KINDS,
    Fits,
    checked_rows,
    class_gap,
    family_of,
    mean_difference,
    natural_shift,
    orthogonal_equal_variance,
    p_value,
    random_directions,
    shuffled_label_probe,
)
from leadline.causal.directions import site_of, unit_vector
from leadline.causal.engine import run_plans
from leadline.causal.interventions import Ablate, Add, Intervention, Patch
from leadline.causal.places import check_tokens
from leadline.causal.plan import Plan
from leadline.causal.separation import Separation
from leadline.errors import CausalError
from leadline.events import SILENT, EventSink
from leadline.evidence.verdict import Verdict, used
from leadline.probes.intervals import Estimate
from leadline.probes.probe import Probe
from leadline.sites import Site

if TYPE_CHECKING:
    from leadline.causal.examples import Examples
    from leadline.models.model import Model

__all__ = ["Use", "VectorEffect", "test_use"]

# What random directions are tried for: as far as a vector is moved, or ablated.
_NULLS = ("pattern", "direction", "ablation")


@dataclass(frozen=True)
class VectorEffect:
    """What one intervention does to the answers.

    Parameters
    ----------
    effect : mean signed change of the log odds of the answers, nats; of an ablation, how much of the difference
        between the classes is lost.
    nie : `effect` as a share of the natural difference between the classes.
    flips : the share of examples whose answer changes. kl : KL(clean ‖ edited) of the next token, nats.
    norm : the length of the shift, in activation units. dose : that over ‖h‖, mean over examples. NaN where the shift
        differs from example to example.
    p_isotropic, p_covariance : against random directions of either kind; None for what has no such control.
    """

    effect: Estimate
    nie: Estimate
    flips: Estimate
    kl: Estimate
    norm: float = float("nan")
    dose: float = float("nan")
    p_isotropic: float | None = None
    p_covariance: float | None = None


@dataclass(frozen=True, eq=False)
class Use:
    """Interventions at one site, and what they do.

    Parameters
    ----------
    site, tokens : where.
    natural : the difference between the classes in log odds, positives minus negatives, without intervention.
    accuracy : the share of examples that are answered by their class.
    vectors : moved toward the other class: `"pattern"` and `"direction"` by the gap between the probe's mean scores,
        `"mean_difference"` by its own length; `"orthogonal"` and `"shuffled_labels"` as far as the pattern.
    interchange : exchanged with the partner of the opposite class: the whole `"site"`, or its component along
        `"direction"` or `"pattern"`.
    ablation : `"direction"` or `"pattern"` set to the mean of the rows of X.
    nulls : {(name, kind): (B,)} the mean effects of random directions, moved as far as the vector of that name, or
        ablated (`"ablation"`).
    n, n_groups : examples, and groups of them that err together. n_exchanged : examples with a partner whose selected
        tokens are as many.
    cosine : between pattern and direction.
    gap_share : the gap between the mean scores of the examples' classes over that of the fitted rows', by which
        they are moved: far below 1 where the probe was fitted to chance, or reads other tokens than these.
    """

    site: Site
    tokens: str
    natural: Estimate
    accuracy: Estimate
    vectors: Mapping[str, VectorEffect]
    interchange: Mapping[str, VectorEffect]
    ablation: Mapping[str, VectorEffect]
    nulls: Mapping[tuple[str, str], np.ndarray] = field(repr=False)
    n: int
    n_groups: int
    n_exchanged: int
    cosine: float
    gap_share: float

    def verdict(self, decodes: str = "supported", alpha: float = 0.05) -> Verdict:
        """The claim "used", by the rule of `leadline.evidence.verdict.used`.

        Parameters
        ----------
        decodes : how the claim "decodable" ended. alpha : the level.
        """
        one = self.vectors["pattern"]
        p = [x for x in (one.p_isotropic, one.p_covariance) if x is not None]
        return used(
            decodes,
            alpha,
            one.effect,
            max(p),
            n_groups=self.n_groups,
            site=self.interchange["site"].effect,
            direction=self.vectors["direction"].effect,
            share=one.nie,
        )

    @property
    def table(self) -> pl.DataFrame:
        """A row an intervention: what is done, along what, and its figures."""
        rows = []
        for what, own in (("move", self.vectors), ("exchange", self.interchange), ("ablate", self.ablation)):
            for name, one in own.items():
                row: dict[str, object] = {"what": what, "along": name}
                for figure in ("effect", "nie", "flips", "kl"):
                    estimate = getattr(one, figure)
                    row |= {figure: estimate.value, f"{figure}_low": estimate.low, f"{figure}_high": estimate.high}
                row |= {"norm": one.norm, "dose": one.dose}
                row |= {"p_isotropic": one.p_isotropic, "p_covariance": one.p_covariance}
                rows.append(row)
        p = {"p_isotropic": pl.Float64, "p_covariance": pl.Float64}
        return pl.DataFrame(rows, schema_overrides=p).with_columns(pl.selectors.float().fill_nan(None))

    def __repr__(self) -> str:
        one = self.vectors["pattern"]
        return (
            f"Use({self.site}, {self.n} examples of {self.n_groups} groups: natural {self.natural}, along the pattern "
            f"{one.effect}, p {one.p_isotropic:.2g} and {one.p_covariance:.2g}; whole site "
            f"{self.interchange['site'].effect})"
        )


def test_use(
    model: Model,
    examples: Examples,
    probe: Probe,
    X: np.ndarray,
    y: np.ndarray,
    *,
    site: str | Site | None = None,
    tokens: str = "last",
    n_random: int = 99,
    nulls: Sequence[str] = _NULLS,
    family: Fits | None = None,
    fitted_groups: np.ndarray | None = None,
    seed: int = 0,
    batch_tokens: int = 4096,
    events: EventSink = SILENT,
) -> Use:
    """Intervene on labelled examples along a probe's vectors and controls, all in one batched job.

    Parameters
    ----------
    examples : prompts with answers, classes y, groups and partners, none of which the probe was fitted on.
    probe : for the class 1.
    X, y : (m, d) activations at the site and their labels (0 and 1, or numbers, then split at the median), of the rows
        on which the probe was fitted: the gap between the classes, means and covariance are theirs.
    site : by default the probe's. tokens : of the prompt, where interventions act; `span:text` is the original text.
    n_random : B, random directions of each kind.
    nulls : what they are tried for, of `"pattern"`, which the verdict needs, `"direction"` and `"ablation"`. Each takes
        two passes of every example a direction, nearly all of the time there is.
    family : of the probe on shuffled labels; by default the probe's own. fitted_groups : (m,) within which, or whole,
        labels are shuffled.

    Raises
    ------
    CausalError : examples without answers, or without a class; widths or labels that do not fit; fewer than 19 random
        directions. ProbeError : a probe of another model.
    """
    if n_random < 19:
        raise CausalError(f"got {n_random} random directions; a p-value of .05 needs 19 or more.")
    wanted = tuple(name for name in _NULLS if name in nulls)
    if len(wanted) < len(set(nulls)) or "pattern" not in wanted:
        raise CausalError(f"nulls are {list(nulls)}; expected some of {', '.join(_NULLS)}, the pattern among them.")
    if not examples.has_answers:
        raise CausalError("the examples have no answers, so no behaviour can be read; give positive= and negative=.")
    rows, labels = checked_rows(X, y)
    if rows.shape[1] != probe.d:
        raise CausalError(f"the activations have {rows.shape[1]} dimensions, the probe {probe.d}; give one site's.")
    place = _Place(site_of(probe, site, "the probe"), check_tokens(tokens))
    # Refused before anything is computed.
    Plan(Ablate(probe, site=place.site, tokens=place.tokens)).bind(model)
    examples = examples.take(np.isfinite(examples.y))
    sign = 1 - 2 * examples.y

    moved = _shifts(probe, rows, labels, family, fitted_groups, seed)
    drawn = {kind: random_directions(rows, labels, n_random, kind=kind, seed=seed) for kind in KINDS}
    mean = rows.mean(axis=0)
    vectors = {"direction": probe.direction, "pattern": unit_vector(probe.pattern, "the probe's pattern")}
    stands = Patch.from_inputs(model, examples.rows, place.site, place.tokens, spans=examples.spans).values
    exchanged, patches = _interchange(stands, examples.partner, place, vectors)

    steps: dict[tuple[str, ...], Intervention] = {}
    for name, (vector, size) in moved.items():
        steps["move", name] = place.add(vector, size * sign)
    for name, patch in patches.items():
        steps["exchange", name] = patch
    for name, vector in vectors.items():
        steps["ablate", name] = place.ablate(vector, mean)
    for kind, directions in drawn.items():
        for b, direction in enumerate(directions):
            for name in wanted:
                steps["null", name, kind, str(b)] = (
                    place.ablate(direction, mean) if name == "ablation" else place.add(direction, moved[name][1] * sign)
                )
    found = run_plans(model, examples, [Plan(one) for one in steps.values()], batch_tokens=batch_tokens, events=events)
    at = {key: v for v, key in enumerate(steps)}

    assert found.clean is not None
    apart = Separation(found.clean.logit_difference[0], examples.y, examples.groups)
    crossed = replace(apart, partners=np.where(exchanged, examples.groups[examples.partner], examples.groups))
    odds = found.logit_difference
    drawn_effects = {}
    for kind in KINDS:
        for name in wanted:
            edited = odds[[at["null", name, kind, str(b)] for b in range(n_random)]]
            drawn_effects[name, kind] = apart.lost(edited) if name == "ablation" else apart.signed(edited).mean(axis=1)

    def against(one: VectorEffect, name: str) -> VectorEffect:
        if name not in wanted:
            return one
        p = [p_value(drawn_effects[name, kind], one.effect.value) for kind in KINDS]
        return replace(one, p_isotropic=p[0], p_covariance=p[1])

    def done(key: tuple[str, str], by: Separation = apart, rows: np.ndarray | None = None) -> VectorEffect:
        edited = odds[at[key]]
        return VectorEffect(
            effect=by.effect(edited, rows),
            nie=by.share(edited, rows),
            flips=by.flips(edited, rows),
            kl=by.mean(found.kl[at[key]], rows),
        )

    moves = {}
    for name, (_, size) in moved.items():
        dose = float(np.mean(abs(size) / found.norms[at["move", name]]))
        one = replace(done(("move", name)), norm=abs(size), dose=dose)
        # Controls that are moved as far as the pattern share its null; the difference of means has a norm of its own.
        moves[name] = against(one, {"orthogonal": "pattern", "shuffled_labels": "pattern"}.get(name, name))
    ablations = {}
    for name in vectors:
        edited = odds[at["ablate", name]]
        lost = replace(done(("ablate", name)), effect=apart.lost_estimate(edited), nie=apart.lost_share(edited))
        ablations[name] = against(lost, "ablation")
    return Use(
        site=place.site,
        tokens=place.tokens,
        natural=apart.natural,
        accuracy=apart.accuracy,
        vectors=moves,
        interchange={name: done(("exchange", name), crossed, exchanged) for name in patches},
        ablation=ablations,
        nulls=drawn_effects,
        n=len(examples),
        n_groups=apart.n_groups,
        n_exchanged=int(exchanged.sum()),
        cosine=float(vectors["direction"] @ vectors["pattern"]),
        gap_share=class_gap(probe.coef, np.stack([own.mean(axis=0) for own in stands]), examples.y)
        / class_gap(probe.coef, rows, labels),
    )


# By its name pytest would take it for a test.
test_use.__test__ = False  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Place:
    site: Site
    tokens: str

    def add(self, vector: np.ndarray, size: np.ndarray) -> Add:
        return Add(vector, size, site=self.site, tokens=self.tokens, unit="raw")

    def ablate(self, vector: np.ndarray, mean: np.ndarray) -> Ablate:
        return Ablate(vector, to="mean", mean=mean, site=self.site, tokens=self.tokens)


def _shifts(
    probe: Probe, X: np.ndarray, y: np.ndarray, family: Fits | None, groups: np.ndarray | None, seed: int
) -> dict[str, tuple[np.ndarray, float]]:
    """By name the unit vector, and the shift along it that leads from class 0 to class 1."""
    difference = mean_difference(X, y)
    found = {
        name: (unit_vector(vector), natural_shift(probe, vector, X, y))
        for name, vector in (("pattern", probe.pattern), ("direction", probe.direction))
    }
    size = abs(found["pattern"][1])
    if difference.any():
        found["mean_difference"] = unit_vector(difference), float(np.linalg.norm(difference))
    found["orthogonal"] = orthogonal_equal_variance(X, probe.pattern, seed=seed), size
    shuffled = shuffled_label_probe(family or family_of(probe), X, y, groups, seed=seed)
    if shuffled.pattern.any():
        found["shuffled_labels"] = unit_vector(shuffled.pattern), size
    return found


def _interchange(
    own: Sequence[np.ndarray], partner: np.ndarray, place: _Place, vectors: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, Patch]]:
    """Which examples are exchanged with their partner, and the patches; the others get what they have."""
    fits = np.array([j >= 0 and len(own[j]) == len(own[i]) for i, j in enumerate(partner)])
    sources = [own[j] if ok else own[i] for i, (j, ok) in enumerate(zip(partner, fits, strict=True))]
    along = {"site": None, **vectors}
    patches = {name: Patch(sources, vector, site=place.site, tokens=place.tokens) for name, vector in along.items()}
    return fits, patches
