"""Fit one family on plain arrays, and keep what belongs to the fit: probes, out-of-fold scores, certificates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import polars as pl
import torch

from leadline.errors import ProbeError
from leadline.probes.blocks import is_mapped
from leadline.probes.fit import Family, SiteFit, Status
from leadline.probes.losses import LOSSES, decide, probabilities_of
from leadline.probes.probe import Probe, ProbeSet, pattern_of
from leadline.probes.smoothers import ridge_smoothers
from leadline.probes.splits import make_folds
from leadline.probes.weights import balanced_sample
from leadline.sites import Site

__all__ = ["LIKELIHOODS", "Fitted", "LinearFamily", "fit_family", "prepare"]

# Families whose scores are log odds, by maximum likelihood or by a model of the classes.
LIKELIHOODS = ("logistic", "multinomial", "ordinal", "lda", "sparse_logistic", "k_sparse")


@dataclass(frozen=True, eq=False)
class Fitted:
    """A family fitted on arrays.

    Attributes
    ----------
    family : what was fitted. fit : everything about every fit. fold : (n,) the fold that tests a row, −1 without folds.
    chosen : index into `fit.settings` of the smallest mean out-of-fold `loss`; a choice, not yet corrected for (the
        sweep corrects it).
    loss : (L,) the mean out-of-fold loss of each setting; NaN without folds.
    probe : of the refit on all rows at the chosen setting: a `Probe`, or a `ProbeSet` of several outputs.
    weights : (n,) that were fitted with, 0 for rows that a balanced draw left out; None for ones. Scores are of all
        rows, weighted or not.
    continuous : whether the target was fitted as numbers rather than classes.
    """

    family: Family
    fit: SiteFit
    fold: np.ndarray
    chosen: int
    loss: np.ndarray
    probe: Probe | ProbeSet
    weights: np.ndarray | None = None
    continuous: bool = False

    @property
    def setting(self) -> float:
        """The chosen setting; NaN for a family without one."""
        return float(self.fit.settings[self.chosen])

    @property
    def scores(self) -> np.ndarray:
        """(n, c) out-of-fold scores at the chosen setting; NaN without folds."""
        return np.asarray(self.fit.scores[self.chosen])

    @property
    def probabilities(self) -> np.ndarray:
        """(n, C) out-of-fold class probabilities; of a binary target with several columns (n, m), of the class 1.

        Raises
        ------
        ProbeError : the family's scores are no log odds (ridge, a support vector machine, a difference of means).
        """
        if self.family.name not in LIKELIHOODS:
            raise ProbeError(
                f"the scores of a {self.family.name} probe are no log odds; fit one of {', '.join(LIKELIHOODS)}, or "
                "calibrate its scores on held-out rows."
            )
        return probabilities_of(self.family.loss, self.scores)

    @property
    def predictions(self) -> np.ndarray:
        """(n,) out-of-fold class codes, (n, m) for several columns; the numbers themselves for a continuous target."""
        return decide(self.family.loss, self.scores, self.continuous)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The same decision by the refit's probe, for other rows X (n', d)."""
        scores = self.probe.score(X)
        return decide(self.family.loss, scores[:, None] if scores.ndim == 1 else scores, self.continuous)

    @cached_property
    def table(self) -> pl.DataFrame:
        """A row a fit (setting × fold × problem): its status, iterations, objective and certificate, and the loss.

        `fold` is null for the refit on all rows.
        """
        fit = self.fit
        n_fits = fit.objective.shape[1]
        at, k, p = (x.ravel() for x in np.indices(fit.objective.shape))
        columns: dict[str, object] = {}
        if self.family.parameter is not None:
            columns[self.family.parameter] = fit.settings[at]
        columns |= {
            "fold": [None if i == n_fits - 1 else int(i) for i in k],
            "problem": p,
            "status": [Status(int(s)).name.lower() for s in fit.status.ravel()],
            "iterations": fit.iterations.ravel(),
            "objective": fit.objective.ravel(),
            "gap": fit.gap.ravel(),
            "loss": self.loss[at],
            "chosen": at == self.chosen,
        }
        schema = {"fold": pl.Int64}
        return pl.DataFrame(columns, schema_overrides=schema).with_columns(pl.selectors.float().fill_nan(None))

    @property
    def converged(self) -> bool:
        """Whether every fit did; `table` says which did not, and `Status.explanation` why."""
        return bool(self.fit.converged.all())

    def __repr__(self) -> str:
        failed = int((~self.fit.converged).sum())
        chosen = "" if self.family.parameter is None else f", {self.family.parameter} {self.setting:g}"
        ended = "all converged" if not failed else f"{failed} did not converge"
        return f"Fitted({self.family.name}{chosen}: {self.fit.status.size} fits, {ended})"


def fit_family(
    family: Family,
    X: np.ndarray,
    y: np.ndarray,
    *,
    n_folds: int = 5,
    fold: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    balance: bool = False,
    seed: int = 0,
    names: Sequence[str] | None = None,
    site: str | Site | None = None,
) -> Fitted:
    """Fit every setting and fold of a family at one site, choose a setting, and keep the refit's probes.

    Parameters
    ----------
    X : (n, d) raw activations. A `numpy.memmap`, or what `Activations.mapped` gives, stays on disk where the family
        can read blocks (its `reads_blocks`), and is loaded whole where it cannot.
    y : (n,) or (n, m) targets, as the family's `kinds` say.
    n_folds : folds for choosing and for out-of-fold scores; 0 for the refit alone (one setting, then).
    fold : (n,) ready-made folds in place of `n_folds`.
    groups : (n,) labels; folds keep groups whole, and balanced rows are drawn from them in turn.
    weights : (n,) ≥ 0; 2 equals a row that stands twice.
    balance : draw as many training rows of each class as the rarest has, in every fold; the others get weight 0.
    seed : of the folds and of the balanced draw.
    names : of the outputs, for the probes; `"target"` or `"0"`, `"1"`, … by default.
    site : of the probes; None for activations from elsewhere.

    Raises
    ------
    ProbeError : shapes or values that the family does not take. EvidenceError : groups that cannot fill the folds.
    """
    X, Y, fold, weights = prepare(
        family.name,
        family.kinds,
        X,
        y,
        n_folds=n_folds,
        fold=fold,
        groups=groups,
        weights=weights,
        balance=balance,
        seed=seed,
    )
    n = len(Y)
    if is_mapped(X) and not getattr(family, "reads_blocks", False):
        X = np.asarray(X[:])
    fit = family.fit_site(X, Y, fold, weights=weights)
    n_settings = len(fit.settings)
    loss = np.full(n_settings, np.nan)
    if (fold >= 0).all():
        counted = np.ones(n) if weights is None else weights
        for index in range(n_settings):
            each = LOSSES[family.loss](fit.scores[index].astype(np.float64), Y)
            known = np.isfinite(each) | (each == np.inf)
            w = counted[:, None] * known
            loss[index] = float((np.where(known, each, 0) * w).sum() / w.sum())
        chosen = int(np.argmin(loss))
    elif n_settings == 1:
        chosen = 0
    else:
        raise ProbeError(
            f"{n_settings} settings of {family.parameter} cannot be chosen from without folds; give one, or n_folds."
        )
    probe = probes_of(family, X, fit, chosen, names=names, site=site)
    continuous = "continuous" in family.kinds and not np.isin(Y, (0.0, 1.0)).all()
    return Fitted(family, fit, fold, chosen, loss, probe, weights, continuous)


def prepare(
    name: str,
    kinds: tuple[str, ...],
    X: np.ndarray,
    y: np.ndarray,
    *,
    n_folds: int,
    fold: np.ndarray | None,
    groups: np.ndarray | None,
    weights: np.ndarray | None,
    balance: bool,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Arrays as `fit_site` takes them: X, Y (n, m) float64, folds, and weights with balanced rows drawn.

    Parameters
    ----------
    name, kinds : of the family. The others are those of `fit_family`.

    Raises
    ------
    ProbeError : shapes, labels or groups that do not fit. EvidenceError : groups that cannot fill the folds.
    """
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu().float().numpy()
    elif not hasattr(X, "shape") or not is_mapped(X):
        X = np.asarray(X)
    try:
        Y = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ProbeError(
            "the labels are no numbers; give codes, as in np.unique(names, return_inverse=True)[1]."
        ) from error
    Y = Y[:, None] if Y.ndim == 1 else Y
    if len(X.shape) != 2 or Y.ndim != 2 or X.shape[0] != len(Y):
        raise ProbeError(f"got X {X.shape} and y {np.shape(y)}; expected X (n, d) and y (n,) or (n, m) of one n.")
    n = len(Y)
    for what, given in (("groups", groups), ("fold", fold), ("weights", weights)):
        if given is not None and np.shape(given) != (n,):
            raise ProbeError(f"got {what} of shape {np.shape(given)} for {n} rows; give one a row.")
    classes = not {"continuous", "multilabel"} & set(kinds) or bool(np.isin(Y, (0.0, 1.0)).all())
    if "continuous" not in kinds and Y.shape[1] == 1 and np.isfinite(Y).all():
        found = np.unique(Y)
        wanted = np.arange(2 if set(kinds) & {"binary", "multilabel"} else len(found))
        if len(found) > 1 and not np.array_equal(found, wanted):
            shown = ", ".join(f"{x:g}" for x in found[:6]) + (", …" if len(found) > 6 else "")
            codes = "0 and 1" if len(wanted) == 2 else f"0 to {len(found) - 1}"
            raise ProbeError(
                f"the labels of a {name} probe are {shown}; expected codes {codes}, as "
                "np.unique(y, return_inverse=True)[1] gives them." + ("" if len(found) == len(wanted) else _MANY)
            )
    if fold is None:
        if n_folds == 0:
            fold = np.full(n, -1)
        else:
            stratify = classes and bool(np.isfinite(Y).all()) and Y.shape[1] == 1
            fold = make_folds(Y, groups, n_folds, stratify=stratify, seed=seed)
    fold = np.asarray(fold)
    if balance:
        if not classes:
            raise ProbeError(f"balance draws rows by class, and the target of this {name} probe has none.")
        kept = balanced_sample(Y, seed, groups=groups, fold=fold)
        weights = kept.astype(np.float64) if weights is None else np.where(kept, weights, 0.0)
    return X, Y, fold, None if weights is None else np.asarray(weights, dtype=np.float64)


_MANY = " For more than two classes use Multinomial or Ordinal, or kind='multiclass' where a family has it."


def probes_of(
    family: Family,
    X: np.ndarray,
    fit: SiteFit,
    index: int,
    *,
    names: Sequence[str] | None = None,
    site: str | Site | None = None,
) -> Probe | ProbeSet:
    """The refit's probes at one setting: one `Probe`, or a `ProbeSet` if the fit has several outputs."""
    coef = fit.coef[index]
    titles = (
        list(names) if names is not None else (["target"] if len(coef) == 1 else [str(c) for c in range(len(coef))])
    )
    if len(titles) != len(coef):
        raise ProbeError(f"got {len(titles)} names for {len(coef)} outputs of the {family.name} probe; name each.")
    where = None if site is None else Site.parse(site)
    setting = float(fit.settings[index])
    extra: dict[str, object] = {"converged": bool(fit.converged[index, -1].all())}
    if family.parameter not in (None, "l2"):
        extra[str(family.parameter)] = setting
    probes = tuple(
        Probe(
            site=where,
            coef=w,
            intercept=float(b),
            pattern=pattern_of(X, w),
            family=family.name,
            kind=family.kinds[0],
            target=title,
            l2=setting if family.parameter == "l2" else None,
            extra=extra,
        )
        for w, b, title in zip(coef, fit.intercept[index], titles, strict=True)
    )
    return probes[0] if len(probes) == 1 else ProbeSet(probes)


class LinearFamily:
    """What the families share: `fit` on plain arrays, and label-free smoothers for the permutation test."""

    reads_blocks: ClassVar[bool] = False

    def fit(
        self: Family,
        X: np.ndarray,
        y: np.ndarray,
        *,
        n_folds: int = 5,
        fold: np.ndarray | None = None,
        groups: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        balance: bool = False,
        seed: int = 0,
        names: Sequence[str] | None = None,
        site: str | Site | None = None,
    ) -> Fitted:
        """Fit on plain arrays; see `leadline.probes.fitted.fit_family` for parameters and errors.

        Examples
        --------
        >>> import numpy as np
        >>> from leadline.probes import Logistic
        >>> X = np.random.default_rng(0).normal(size=(200, 8))
        >>> fitted = Logistic().fit(X, X[:, 0] > 0)
        >>> fitted.converged
        True
        """
        return fit_family(
            self,
            X,
            y,
            n_folds=n_folds,
            fold=fold,
            groups=groups,
            weights=weights,
            balance=balance,
            seed=seed,
            names=names,
            site=site,
        )

    def smoothers(self, X: np.ndarray, fold: np.ndarray) -> Iterator[np.ndarray]:
        """Least squares in place of the family's own loss; see `leadline.probes.smoothers.ridge_smoothers`."""
        return ridge_smoothers(X, fold)
