"""`PatchMap`: what each activation of a counterfactual does in the clean pass, by site and token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from scipy import stats

from leadline.causal.intervals import Intervals, mean_interval, ratio_interval
from leadline.errors import CausalError
from leadline.probes.intervals import Estimate

if TYPE_CHECKING:
    from leadline.sites import Site

__all__ = ["PatchMap", "RankCorrelation", "rank_correlation"]

# Below this share of the largest effect a cell has none.
_ZERO = 1e-5
_LEAST_CELLS = 3


@dataclass(frozen=True, eq=False)
class PatchMap:
    """Effects of interchanges, one (site, token) at a time, for n pairs of as many tokens.

    Tokens are counted from the end, so that column K − 1 is the last token of every pair.

    Parameters
    ----------
    method : `"exact"`, the change measured in a pass of its own, or `"attribution"`, its first-order estimate.
    metric : what changes: `"score"` of a probe, or `"logit difference"` of answers (nats).
    sites : S sites, in the order of computation. tokens : K places, `"-K"` … `"-1"`.
    words : (K,) the token there, where all clean prompts have the same one; else `""`.
    values : (n, S, K) float64, m(clean with the counterfactual's activation there) − m(clean); NaN where a prompt has
        no such token. Exactly 0 before the first token in which a pair differs, in a model that sees nothing to the
        right.
    live : (n, K) where an effect is possible: at that token and behind it.
    clean, counterfactual : (n,) m of the two prompts, as they are.
    rows : (n,) which of the given pairs these are. unequal : those left out, of unequal numbers of tokens.
    groups, partners : (n,) labels for the intervals, as of `mean_interval`.
    """

    method: Literal["exact", "attribution"]
    metric: str
    sites: tuple[Site, ...]
    tokens: tuple[str, ...]
    words: tuple[str, ...]
    values: np.ndarray
    live: np.ndarray
    clean: np.ndarray
    counterfactual: np.ndarray
    rows: np.ndarray
    unequal: tuple[int, ...]
    groups: np.ndarray
    partners: np.ndarray | None = None

    @property
    def n_pairs(self) -> int:
        """n, without those left out."""
        return len(self.rows)

    @property
    def total(self) -> Intervals:
        """The mean of m(counterfactual) − m(clean): what an interchange of everything would do."""
        return mean_interval(self.counterfactual - self.clean, self.groups, self.partners)

    @property
    def mean(self) -> Intervals:
        """(S, K) mean effects over the pairs that have the token."""
        return self._over_pairs(lambda own, some: mean_interval(own, self.groups[some], self._partners(some)))

    @property
    def share(self) -> Intervals:
        """(S, K) the effects as shares of the total one of the same pairs: 1 brings the whole counterfactual about."""
        total = self.counterfactual - self.clean
        return self._over_pairs(
            lambda own, some: ratio_interval(own, total[some], self.groups[some], self._partners(some))
        )

    def _partners(self, some: np.ndarray) -> np.ndarray | None:
        return None if self.partners is None else self.partners[some]

    def _over_pairs(self, interval: object) -> Intervals:
        assert callable(interval)
        columns = []
        for k in range(len(self.tokens)):
            some = np.isfinite(self.values[:, 0, k])
            columns.append(interval(self.values[some, :, k].T, some))
        return Intervals(*(np.stack([getattr(c, name) for c in columns], axis=-1) for name in ("value", "low", "high")))

    @property
    def table(self) -> pl.DataFrame:
        """A row a (site, token): mean effect with its interval, its share of the total effect, pairs with the token."""
        mean, share = self.mean, self.share
        n_tokens = len(self.tokens)
        counts = np.isfinite(self.values[:, 0]).sum(axis=0)
        return pl.DataFrame(
            {
                "site": [site.name for site in self.sites for _ in range(n_tokens)],
                "token": list(self.tokens) * len(self.sites),
                "word": list(self.words) * len(self.sites),
                "mean": mean.value.ravel(),
                "low": mean.low.ravel(),
                "high": mean.high.ravel(),
                "share": share.value.ravel(),
                "n_pairs": np.tile(counts, len(self.sites)),
            }
        )

    def __repr__(self) -> str:
        left = f", {len(self.unequal)} of unequal length left out" if self.unequal else ""
        return (
            f"PatchMap({self.method}, {self.metric}, {len(self.sites)} sites x {len(self.tokens)} tokens, "
            f"{self.n_pairs} pairs{left})"
        )


@dataclass(frozen=True)
class RankCorrelation:
    """How far two maps order the (site, token) cells alike: Spearman's ρ over cells in which an effect is possible.

    Parameters
    ----------
    of_means : ρ of the mean maps. by_pair : the mean of each pair's own ρ, with its interval over pairs.
    n_cells : of the mean maps.
    """

    of_means: float
    by_pair: Estimate
    n_cells: int


def rank_correlation(first: PatchMap, second: PatchMap) -> RankCorrelation:
    """Compare two maps of the same pairs, sites and tokens, as an exact one and its estimate.

    Cells that are 0 in both are left out: tokens before the first in which pairs differ, sites behind the one that is
    scored. What is below 1e-5 of a map's largest effect counts as 0, since passes of other shapes differ by so much. A
    pair in which either map is constant has no ρ.

    Raises
    ------
    CausalError : the maps are of other pairs, sites or tokens, or have too few cells.
    """
    if (
        first.sites != second.sites
        or first.tokens != second.tokens
        or not np.array_equal(first.rows, second.rows)
        or first.metric != second.metric
    ):
        raise CausalError(
            f"{first} and {second} are of other pairs, sites, tokens or metrics; compare maps of the same."
        )
    of_means, n_cells = _rho(first.mean.value, second.mean.value)
    if n_cells < _LEAST_CELLS:
        raise CausalError(f"the maps have {n_cells} cells with an effect; a rank correlation needs {_LEAST_CELLS}.")
    own = np.array([_rho(a, b)[0] for a, b in zip(first.values, second.values, strict=True)])
    known = np.isfinite(own)
    by_pair = Estimate(float("nan"))
    if known.any():
        partners = None if first.partners is None else first.partners[known]
        by_pair = mean_interval(own[known], first.groups[known], partners).estimate()
    return RankCorrelation(of_means, by_pair, n_cells)


def _rho(a: np.ndarray, b: np.ndarray) -> tuple[float, int]:
    """Spearman's ρ of two maps and the number of its cells; NaN with too few, or where a map is constant."""
    rounded = [np.where(np.abs(x) < _ZERO * np.nanmax(np.abs(x), initial=0), 0.0, x) for x in (a, b)]
    cells = np.isfinite(a) & np.any([x != 0 for x in rounded], axis=0)
    ranks = [stats.rankdata(x[cells]) for x in rounded]
    if cells.sum() < _LEAST_CELLS or any(np.ptp(x) == 0 for x in ranks):
        return float("nan"), int(cells.sum())
    return float(np.corrcoef(*ranks)[0, 1]), int(cells.sum())
