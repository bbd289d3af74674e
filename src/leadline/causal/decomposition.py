"""`Decomposition`: a score as a sum of what components wrote, what of it tells the classes apart, and who is named."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from leadline.causal.chain import Component
from leadline.causal.contrast import Contrast
from leadline.causal.intervals import Intervals, mean_interval
from leadline.errors import CausalError
from leadline.models.ports import projection_slice
from leadline.sites import Site

if TYPE_CHECKING:
    from leadline.models.model import Model

__all__ = ["Decomposition"]


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A probe's score as a sum of what components wrote.

    Parameters
    ----------
    site, tokens : where the score is read. components : T of them, in the order of computation.
    terms : (n, T) float64; row by row they and the intercept add up to the score.
    intercept : the probe's. scores : (n,) float64, as the probe scores the site's own activations.
    y, groups : (n,) the labels (0 and 1, or numbers; NaN for none) and rows that err together; None where not given.
    means : for each component with a site, the mean over rows of what it holds at the tokens (a head's z).

    Attributes
    ----------
    error : (n,) |score − intercept − Σ terms| over Σ |terms|.
    """

    site: Site
    tokens: str
    components: tuple[Component, ...]
    terms: np.ndarray
    intercept: float
    scores: np.ndarray
    y: np.ndarray | None
    groups: np.ndarray | None
    means: dict[str, np.ndarray]

    def __repr__(self) -> str:
        n, t = self.terms.shape
        return f"Decomposition({n} scores at {self.site.name}, {t} terms, error at most {self.error.max():.1e})"

    @property
    def names(self) -> tuple[str, ...]:
        """The components' names, in the order of computation."""
        return tuple(component.name for component in self.components)

    @property
    def error(self) -> np.ndarray:
        """(n,) |score − intercept − Σ terms| over Σ |terms|."""
        off = np.abs(self.scores - self.intercept - self.terms.sum(axis=1))
        return np.asarray(off / np.maximum(np.abs(self.terms).sum(axis=1), np.finfo(float).tiny))

    @property
    def mean(self) -> Intervals:
        """(T,) the mean of each term over the rows, with intervals over groups."""
        return mean_interval(self.terms.T, self.groups)

    @cached_property
    def contrast(self) -> Contrast:
        """The labels' contrast: positives minus negatives, or, of numbers, along one standard deviation.

        Raises
        ------
        CausalError : no labels, or all alike.
        """
        if self.y is None:
            raise CausalError("the rows were decomposed without labels; give y= to compare classes.")
        return Contrast.of(self.y, self.groups)

    @cached_property
    def difference(self) -> Intervals:
        """(T,) how much of the difference in score between the classes each term gives; they add up to `total`."""
        return self.contrast.estimate(self.terms.T)

    @property
    def total(self) -> float:
        """The difference in score between the classes."""
        return float(self.contrast.value(self.scores))

    @property
    def shares(self) -> np.ndarray:
        """(T,) each term's share of what is to be explained; they add up to 1 (to 1 minus the error).

        Of the difference between the classes where there are labels, else of the variance of the score over the rows.
        """
        if self.y is not None:
            return np.asarray(self.difference.value / self.total)
        centred = self.scores - self.scores.mean()
        variance = float(centred @ centred)
        if not variance > 0:
            raise CausalError("all scores are equal, so that no component has a share of their spread; give more rows.")
        return np.asarray(self.terms.T @ centred / variance)

    def named(self, k: int | None = None, *, share: float | None = None) -> tuple[str, ...]:
        """The heads, MLPs and mixers with the largest shares, the largest first.

        Parameters
        ----------
        k : so many of them. share : as many as have this share together; all with a positive share where they do not
            reach it. One of both, or both for at most k.

        Raises
        ------
        CausalError : neither, or no component but embedding and biases.
        """
        if k is None and share is None:
            raise CausalError("named() takes a number of components k=, or the share= that they have together.")
        shares = self.shares
        order = [i for i in np.argsort(-shares, kind="stable") if self.components[i].ablatable]
        if not order:
            raise CausalError(f"no head, MLP or mixer writes into '{self.site.name}'; take a probe further up.")
        if share is not None:
            together = np.cumsum(shares[order])
            n = int(np.argmax(together >= share)) + 1 if together.max() >= share else int((shares[order] > 0).sum())
            order = order[: max(1, n)]
        return tuple(self.components[i].name for i in order[: k or None])

    def component(self, name: str) -> Component:
        """A component by its name.

        Raises
        ------
        CausalError : there is none of that name.
        """
        for component in self.components:
            if component.name == name:
                return component
        raise CausalError(f"the score has no term '{name}'; its terms are {', '.join(self.names[:8])}, ...")

    def mean_at(self, model: Model, name: str) -> np.ndarray:
        """(d,) float64, the mean over rows and their tokens of what a component holds at its site."""
        component = self.component(name)
        if component.site is None:
            raise CausalError(f"'{name}' is no component with a site; take a head or an MLP.")
        held = self.means[name]
        if component.kind != "head" or self.site.kind == "head_out":
            return held
        port = model.parts[component.site.part].port(component.site)
        assert port.head is not None
        weight = projection_slice(port.module, *port.head).detach().to("cpu", torch.float64).numpy()
        return np.asarray(held @ weight * port.scale)

    @property
    def table(self) -> pl.DataFrame:
        """A row a term in the order of computation: name, kind, mean, its interval, difference, its interval, share."""
        columns: dict[str, Any] = {
            "component": self.names,
            "kind": [component.kind for component in self.components],
            "mean": self.mean.value,
            "mean_low": self.mean.low,
            "mean_high": self.mean.high,
        }
        if self.y is not None:
            one = self.difference
            columns |= {"difference": one.value, "difference_low": one.low, "difference_high": one.high}
        return pl.DataFrame(columns | {"share": self.shares})
