"""Dose and response: what each strength of an intervention does, what it costs, and how far one can go.

The random directions of a band are no family of their own with signs: their mean changes scatter about 0, and the band
is where the middle 95% of them lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from leadline.causal.intervals import Intervals

__all__ = ["Band", "Curve", "Effect", "usable_range"]


@dataclass(frozen=True, eq=False)
class Curve:
    """One vector at S strengths, as means over examples with intervals.

    Parameters
    ----------
    strengths : (S,) in the intervention's own unit, ascending. dose : (S,) signed mean ‖shift‖/‖h‖; NaN if unknown.
    change : (S,) of the log odds of the positive answers against the negative ones, nats. NaN without answers.
    probability : (S,) summed, of the positive answers. flips : (S,) the share of examples answered otherwise.
    kl : (S,) KL(clean ‖ edited) of the next token behind the prompts, nats.
    readings : by name (S,) the change of a probe's score.
    cost, cost_kl : (S,) on neutral text, the change of the negative log-likelihood, and the divergence, in nats a
        token; None where it was not measured.
    p : by kind (S,) two-sided, against random directions of the same norm, of each strength by itself.
    usable : the strengths from below to above 0 within which the cost stays in the budget; None without cost.
    """

    strengths: np.ndarray
    dose: np.ndarray
    change: Intervals
    probability: Intervals
    flips: Intervals
    kl: Intervals
    readings: Mapping[str, Intervals]
    cost: Intervals | None
    cost_kl: Intervals | None
    p: Mapping[str, np.ndarray]
    usable: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Band:
    """What random directions do: (S, B) mean changes of the log odds, at each strength of each direction."""

    changes: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """(S,)."""
        return np.asarray(self.changes.mean(axis=1))

    @property
    def low(self) -> np.ndarray:
        """(S,) below which 2.5% lie."""
        return np.asarray(np.quantile(self.changes, 0.025, axis=1))

    @property
    def high(self) -> np.ndarray:
        """(S,) above which 2.5% lie."""
        return np.asarray(np.quantile(self.changes, 0.975, axis=1))


@dataclass(frozen=True, eq=False)
class Effect:
    """An intervention at several strengths beside controls.

    Parameters
    ----------
    description : the intervention in words. main : the name of its own curve.
    curves : by name; beside `main` the probe's other vector, and `"mean_difference"`, `"orthogonal"` and
        `"shuffled_labels"` where activations were given.
    bands : by kind, `"isotropic"` and, where activations were given, `"covariance"`.
    n, n_groups : examples, and groups of them. budget : the share by which perplexity may rise.
    clean : the mean log odds of the examples without intervention, as `Curve.change`, of shape ().
    """

    description: str
    main: str
    curves: Mapping[str, Curve] = field(repr=False)
    bands: Mapping[str, Band] = field(repr=False)
    n: int
    n_groups: int
    budget: float
    clean: Intervals = field(repr=False)

    @property
    def curve(self) -> Curve:
        """The intervention's own."""
        return self.curves[self.main]

    @property
    def usable(self) -> tuple[float, float] | None:
        """The usable strengths of the intervention's own curve."""
        return self.curve.usable

    @property
    def table(self) -> pl.DataFrame:
        """A row a curve and strength; the bands of random directions stand beside."""
        parts = []
        for name, one in self.curves.items():
            columns: dict[str, object] = {"vector": [name] * len(one.strengths), "strength": one.strengths}
            columns["dose"] = one.dose
            shown: dict[str, Intervals | None] = {
                "change": one.change,
                "probability": one.probability,
                "flips": one.flips,
                "kl": one.kl,
                **{f"reading {key}": own for key, own in one.readings.items()},
                "cost": one.cost,
                "cost_kl": one.cost_kl,
            }
            for key, figure in shown.items():
                if figure is not None:
                    columns |= {key: figure.value, f"{key}_low": figure.low, f"{key}_high": figure.high}
            for kind, p in one.p.items():
                columns[f"p_{kind}"] = p
            for kind, band in self.bands.items():
                columns |= {f"{kind}_mean": band.mean, f"{kind}_low": band.low, f"{kind}_high": band.high}
            parts.append(pl.DataFrame(columns))
        return pl.concat(parts, how="diagonal").with_columns(pl.selectors.float().fill_nan(None))

    def __repr__(self) -> str:
        one = self.curve
        at = ", ".join(f"{s:g}: {one.change[i].value:+.2f}" for i, s in enumerate(one.strengths))
        return f"Effect({self.description}, {self.n} examples: change of log odds {at}; usable {self.usable})"


def usable_range(strengths: np.ndarray, cost: np.ndarray, limit: float) -> tuple[float, float]:
    """The strengths about 0 within which the cost stays at most `limit`, on lines between those that were measured.

    At 0 the cost is 0. On either side the range ends where the cost first passes the limit, or at the last strength
    measured.

    Parameters
    ----------
    strengths : (S,). cost : (S,) nats a token. limit : as log(1.1) for perplexity that rises by 10%.
    """
    order = np.argsort(strengths)
    x, c = np.asarray(strengths, dtype=np.float64)[order], np.asarray(cost, dtype=np.float64)[order]
    return -_reach(-x[x < 0][::-1], c[x < 0][::-1], limit), _reach(x[x > 0], c[x > 0], limit)


def crossing(doses: np.ndarray, cost: np.ndarray, limit: float) -> tuple[int, float, bool]:
    """Where the cost first passes the limit, going up from dose 0 and cost 0.

    Returns
    -------
    k, t : between doses k − 1 (−1 stands for 0) and k, at the share t of the way; whether it passes at all. If not, it
        is the last dose.
    """
    before = 0.0
    for k, now in enumerate(cost):
        if not now <= limit:
            # A cost that is not finite is beyond every limit, at once.
            t = (limit - before) / (now - before) if np.isfinite(now) else 0.0
            return k, float(t), True
        before = float(now)
    return len(doses) - 1, 1.0, False


def _reach(doses: np.ndarray, cost: np.ndarray, limit: float) -> float:
    """The largest of ascending positive doses, between them by lines; 0.0 without any."""
    if not len(doses):
        return 0.0
    k, t, _ = crossing(doses, cost, limit)
    start = 0.0 if k == 0 else float(doses[k - 1])
    return start + t * (float(doses[k]) - start)
