"""What `transfer_matrix` yields: cells of train set × test set × site, and the tests of what predicts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from leadline.errors import EvidenceError
from leadline.evidence.bootstrap import Estimate
from leadline.evidence.mantel import Mantel
from leadline.evidence.metrics import PRIMARY
from leadline.evidence.shared_folds import SharedFolds
from leadline.probes.fit import Family
from leadline.sites import Site

__all__ = ["PREDICTED", "PREDICTORS", "Prediction", "TransferCell", "TransferMatrix"]

PREDICTORS = ("mahalanobis_cosine", "cosine", "cross_fitted_cosine")
# A cosine knows no scale, so for numbers it is held against the metric that knows none either.
PREDICTED = {"binary": "auroc", "continuous": "spearman", "multiclass": "auroc", "ordinal": "concordance"}


@dataclass(frozen=True)
class TransferCell:
    """A probe of one set on another, or on the held-out folds of its own, at one site.

    Attributes
    ----------
    train, test, site : what was trained on, what was scored, and where.
    metrics : {metric: Estimate} with intervals over the test set's groups; `centred_accuracy` for a binary target is
        the accuracy with the threshold at the mean score of the test rows.
    setting : the training set's choice of the family's parameter; NaN without one.
    scored_by : `"folds"` (the fit that left a row's fold out) or `"refit"` (the fit on all training rows).
    n_rows : of the test set. n_shared : those whose group the training set has too.
    mahalanobis_cosine : of the refits on both sets, over the test rows; w₁ᵀΣw₂ / √(w₁ᵀΣw₁ · w₂ᵀΣw₂).
    cosine : of the same two weight vectors, plain.
    cross_fitted_cosine : the mean over the test set's folds of the correlation of this cell's scores with the test
        set's own *out-of-fold* scores: the Mahalanobis cosine with a probe that has not seen the rows it is taken on.
    """

    train: str
    test: str
    site: Site
    metrics: dict[str, Estimate]
    setting: float
    scored_by: str
    n_rows: int
    n_shared: int
    mahalanobis_cosine: float
    cosine: float
    cross_fitted_cosine: float


@dataclass(frozen=True)
class Prediction:
    """How well a cosine predicts the off-diagonal cells, at one site or (site None) pooled over all.

    `predictor` is one of `PREDICTORS`, `metric` what it is held against. Pooled, sites whose cells are all higher and
    whose cosines are too add to the correlation; the p-value, for which sets are permuted at all sites at once, gives
    no credit for that.
    """

    predictor: str
    metric: str
    site: Site | None
    test: Mantel


@dataclass(frozen=True)
class TransferMatrix:
    """Every set's probe on every set at every site.

    Attributes
    ----------
    names, sites, kind, family : the sets, where, the kind of target, and the probe.
    cells : in the order site, train, test. predictions : by predictor, site by site and then pooled.
    folds : of every set, and which groups they share. seed : of folds and replicates.
    notes : what a reader must know: sets too small for intervals, equal texts under different groups, classes of
        different names.
    """

    names: tuple[str, ...]
    sites: tuple[Site, ...]
    kind: str
    family: Family
    cells: tuple[TransferCell, ...]
    predictions: tuple[Prediction, ...]
    folds: SharedFolds
    seed: int
    notes: tuple[str, ...]

    def cell(self, train: str, test: str, site: str | Site) -> TransferCell:
        """One cell.

        Raises
        ------
        EvidenceError : there is none.
        """
        where = Site.parse(site)
        for one in self.cells:
            if (one.train, one.test, one.site) == (train, test, where):
                return one
        raise EvidenceError(
            f"no cell of '{train}' on '{test}' at {where}; the sets are {', '.join(self.names)}, the sites "
            f"{', '.join(s.name for s in self.sites)}."
        )

    def values(self, what: str, site: str | Site) -> np.ndarray:
        """(S, S) train × test at one site: a metric, or one of `PREDICTORS`."""
        where = Site.parse(site)
        found = [self.cell(a, b, where) for a in self.names for b in self.names]
        flat = [getattr(c, what) if what in PREDICTORS else c.metrics[what].value for c in found]
        return np.array(flat).reshape(len(self.names), -1)

    def prediction(self, predictor: str = "mahalanobis_cosine", site: str | Site | None = None) -> Prediction:
        """A predictor's test at one site; pooled without one.

        Raises
        ------
        EvidenceError : there is none.
        """
        where = None if site is None else Site.parse(site)
        for one in self.predictions:
            if (one.predictor, one.site) == (predictor, where):
                return one
        raise EvidenceError(f"no prediction by '{predictor}' at {where}; predictors are {', '.join(PREDICTORS)}.")

    @property
    def best_site(self) -> Site:
        """The site with the best primary metric on average over the *diagonal*.

        Chosen by what each set says of itself, so that transfer is not read off where it happens to be highest.
        """
        own = np.stack([np.diag(self.values(PRIMARY[self.kind], site)) for site in self.sites])
        # A set that is undefined at one site is so at all: its rows are the same ones.
        known = np.isfinite(own).all(axis=0)
        return self.sites[int(own[:, known].sum(axis=1).argmax())]

    @property
    def table(self) -> pl.DataFrame:
        """A row a train × test × site × metric, with the interval; NaN is null."""
        records = [
            {
                "train": c.train,
                "test": c.test,
                "site": c.site.name,
                "layer": c.site.layer,
                "metric": name,
                "value": e.value,
                "low": e.low,
                "high": e.high,
                "setting": c.setting,
                "scored_by": c.scored_by,
                "n_rows": c.n_rows,
                "n_shared": c.n_shared,
            }
            for c in self.cells
            for name, e in c.metrics.items()
        ]
        return pl.DataFrame(records, schema_overrides={"layer": pl.Int64}).with_columns(
            pl.selectors.float().fill_nan(None)
        )

    @property
    def cosines(self) -> pl.DataFrame:
        """A row a train × test × site, with the three cosines and the metric that they are held against."""
        metric = PREDICTED[self.kind]
        records = [
            {"train": c.train, "test": c.test, "site": c.site.name}
            | {name: getattr(c, name) for name in PREDICTORS}
            | {metric: c.metrics[metric].value}
            for c in self.cells
        ]
        return pl.DataFrame(records).with_columns(pl.selectors.float().fill_nan(None))

    def __repr__(self) -> str:
        return (
            f"TransferMatrix({self.family.name}, {len(self.names)} sets × {len(self.sites)} sites: "
            f"{', '.join(self.names)})"
        )
