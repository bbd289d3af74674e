"""Periodic probes: do activations run along circles, or a helix, as a number grows?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import polars as pl

from leadline.errors import ProbeError
from leadline.probes.fitted import Fitted
from leadline.probes.folds import check_design, training_rows
from leadline.probes.intervals import Estimate, draw_groups, percentile
from leadline.probes.probe import Probe, ProbeSet
from leadline.probes.ridge import Ridge
from leadline.probes.splits import make_folds
from leadline.sites import Site

__all__ = ["DAYS", "MONTHS", "NUMBERS", "Fourier", "Helix", "PeriodicFit", "spectrum"]

NUMBERS = (2.0, 5.0, 10.0, 100.0)
"""The periods that Kantamneni and Tegmark (2025) use for whole numbers."""
DAYS = (7.0,)
MONTHS = (12.0,)


@dataclass(frozen=True, eq=False)
class PeriodicFit:
    """A periodic basis fitted to activations, and how it stands against its rivals.

    Attributes
    ----------
    spec : what was fitted. columns : (p,) names of the basis columns, as in `"cos_10"`, `"sin_10"`, `"linear"`.
    C : (d, p) and origin : (d,), in raw activation space: the activation of a number a is C B(a) + origin.
    components : (q, d) orthonormal rows: the principal components that the fit was made in.
    residual : (n, d) activations less the fit on all rows.
    n_parameters : r, the rank of the centred basis at the given numbers. On whole numbers sin of period 2 is 0, so that
        it is below p there; the rivals get r as well.
    r2 : by model (`basis`, `polynomial`, `pca`), the share of variance explained out of fold over distinct numbers,
        with a bootstrap interval over numbers. None without folds.
    advantage : basis − polynomial of degree r. shortfall : pca of r components − basis. Both paired: the same numbers
        drawn for both, with their intervals. None without folds.
    readers : a ridge probe a column, in raw space, that reads the column off an activation.
    reader_r2 : (p',) out-of-fold R² of each reader; NaN without folds. `reader_columns` : (p',) their names, without
        columns that do not vary.
    fold : (n,) the fold that tests a row.
    """

    spec: Helix | Fourier
    columns: tuple[str, ...]
    C: np.ndarray
    origin: np.ndarray
    components: np.ndarray
    residual: np.ndarray
    n_parameters: int
    r2: dict[str, Estimate] | None
    advantage: Estimate | None
    shortfall: Estimate | None
    readers: ProbeSet
    reader_columns: tuple[str, ...]
    reader_r2: np.ndarray
    fold: np.ndarray

    def predict(self, values: np.ndarray) -> np.ndarray:
        """(m, d) raw activations of numbers (m,)."""
        return np.asarray(self.spec.basis(np.asarray(values)) @ self.C.T + self.origin)

    def read_phase(self, X: np.ndarray, period: float) -> np.ndarray:
        """(m,) the angle in [0, 2π) that activations (m, d) hold of a period; times period / 2π it is a mod period.

        Raises
        ------
        ProbeError : a period without a reader.
        """
        names = [f"{part}_{period:g}" for part in ("cos", "sin")]
        if names[0] not in self.reader_columns:
            raise ProbeError(
                f"no reader of period {period:g}; this fit has the periods "
                f"{', '.join(f'{p:g}' for p in self.spec.periods)}."
            )
        scores = self.readers.score(X)
        cos, sin = (
            scores[:, self.reader_columns.index(name)] if name in self.reader_columns else np.zeros(len(scores))
            for name in names
        )
        return np.asarray(np.arctan2(sin, cos) % (2 * np.pi))

    @property
    def table(self) -> pl.DataFrame:
        """A row a model: its parameters a dimension, and its out-of-fold R² with the interval."""
        rows = [
            {"model": name, "n_parameters": self.n_parameters, "r2": e.value, "low": e.low, "high": e.high}
            for name, e in (self.r2 or {}).items()
        ]
        schema = {"model": pl.String, "n_parameters": pl.Int64, "r2": pl.Float64, "low": pl.Float64, "high": pl.Float64}
        return pl.DataFrame(rows, schema=schema).with_columns(pl.selectors.float().fill_nan(None))

    def __repr__(self) -> str:
        found = "" if self.r2 is None else f", r2 {self.r2['basis']}, over polynomial {self.advantage}"
        return f"PeriodicFit({', '.join(self.columns)}{found})"


@dataclass(frozen=True)
class Helix:
    """Activations as a linear map of B(a) = [a, cos(2πa/T), sin(2πa/T), …] for the periods T.

    The activations are projected on their first principal components (of the training rows, unscaled: the map is
    defined on raw activations), and each component is fitted on B by least squares: the minimum of
    Σ_i w_i ‖x_i − C B(a_i) − c‖² within their span. Constant and dependent columns of B get the least norm.

    Parameters
    ----------
    periods : T, each above 0. linear : with the column a. n_components : kept at most; the data may hold fewer.

    Raises
    ------
    ProbeError : a period or number of components that is not positive, or nothing to fit.

    References
    ----------
    S. Kantamneni and M. Tegmark (2025), Language Models Use Trigonometry to Do Addition, arXiv:2502.00873.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.arange(60)
    >>> basis = Helix(periods=(10,)).basis(a)
    >>> X = basis @ np.random.default_rng(0).normal(size=(3, 8))
    >>> fit = Helix(periods=(10,)).fit(X, a)
    >>> round(fit.r2["basis"].value, 3)
    1.0
    """

    periods: tuple[float, ...] = NUMBERS
    linear: bool = True
    n_components: int = 100

    def __post_init__(self) -> None:
        periods = tuple(float(p) for p in self.periods)
        if any(not 0 < p < np.inf for p in periods) or len(set(periods)) != len(periods) or self.n_components < 1:
            raise ProbeError(
                f"got periods {self.periods} and {self.n_components} components; expected different periods above 0 "
                "and 1 component or more."
            )
        if not periods and not self.linear:
            raise ProbeError("no period and no linear column: nothing to fit; give a period.")
        object.__setattr__(self, "periods", periods)

    @property
    def columns(self) -> tuple[str, ...]:
        """(p,) the names of the basis columns."""
        waves = tuple(f"{part}_{p:g}" for p in self.periods for part in ("cos", "sin"))
        return (("linear",) if self.linear else ()) + waves

    def basis(self, values: np.ndarray) -> np.ndarray:
        """(m, p) B(a) of numbers (m,)."""
        a = np.asarray(values, dtype=np.float64)
        angles = 2 * np.pi * a[:, None] / np.array(self.periods)
        waves = np.stack([np.cos(angles), np.sin(angles)], axis=2).reshape(len(a), -1)
        # A column that is 0 but for rounding would be stretched into noise by a fit that scales its columns.
        waves[np.abs(waves) < 1e-12 * np.maximum(1, np.abs(a))[:, None]] = 0.0
        return np.hstack([a[:, None], waves]) if self.linear else waves

    def fit(
        self,
        X: np.ndarray,
        values: np.ndarray,
        *,
        n_folds: int = 5,
        fold: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        seed: int = 0,
        n_replicates: int = 1000,
        site: str | Site | None = None,
    ) -> PeriodicFit:
        """Fit the basis, its rivals and the readers.

        Parameters
        ----------
        X : (n, d) raw activations. values : (n,) the number that each row stands for; rows of one number share a fold.
        n_folds : folds over distinct numbers; 0 for the fit on all rows alone.
        fold : (n,) ready-made folds in place of `n_folds`, −1 everywhere for none.
        weights : (n,) ≥ 0; 2 equals a row that stands twice, and 0 one that is left out.
        seed : of the folds and of the bootstrap over numbers (`n_replicates`).
        site : of the readers.

        Raises
        ------
        ProbeError : shapes that do not fit, values that are not finite, too few numbers for the basis, a number whose
            rows are in several folds.
        """
        X = np.asarray(X, dtype=np.float64)
        a = np.asarray(values, dtype=np.float64)
        if X.ndim != 2 or a.shape != (len(X),) or not np.isfinite(a).all():
            raise ProbeError(f"got X {X.shape} and values {a.shape}; expected (n, d) and n finite numbers.")
        numbers, at = np.unique(a, return_inverse=True)
        if fold is None:
            fold = make_folds(at, at, n_folds, stratify=False, seed=seed) if n_folds else np.full(len(X), -1)
        fold = np.asarray(fold)
        omega = None if weights is None else np.asarray(weights, dtype=np.float64)
        k_folds = check_design(X, a[:, None], fold, omega)
        w = np.ones(len(X)) if omega is None else omega
        if len(np.unique(np.stack([at, fold]), axis=1).T) != len(numbers):
            raise ProbeError("rows of one number are in several folds; give a number to one fold, or use n_folds.")
        B = self.basis(a)
        rank = _rank(B[w > 0])
        for k in range(k_folds + 1):
            held = len(np.unique(at[training_rows(fold, k) & (w > 0)]))
            if held < rank + 2:
                raise ProbeError(
                    f"{held} distinct numbers to train on cannot carry a basis of rank {rank}; give {rank + 2} or "
                    "more, or fewer periods."
                )
        origin, C, components = _least_squares(X, B, w, self.n_components)
        readers, names, reader_r2 = _readers(X, B, self.columns, fold, omega, site)
        r2 = advantage = shortfall = None
        if k_folds:
            r2, advantage, shortfall = _compare(self, X, a, at, fold, w, rank, seed, n_replicates)
        return PeriodicFit(
            spec=self,
            columns=self.columns,
            C=C.T,
            origin=origin,
            components=components,
            residual=X - B @ C - origin,
            n_parameters=rank,
            r2=r2,
            advantage=advantage,
            shortfall=shortfall,
            readers=readers,
            reader_columns=names,
            reader_r2=reader_r2,
            fold=fold,
        )


@dataclass(frozen=True)
class Fourier(Helix):
    """`Helix` without the column a: circles alone, as for days (period 7) and months (12)."""

    linear: bool = False


def spectrum(X: np.ndarray, values: np.ndarray, *, detrend: bool = True, standardise: bool = False) -> pl.DataFrame:
    """Power of the activations by frequency, over consecutive whole numbers.

    Rows of one number are averaged; then the discrete Fourier transform along the numbers is taken of every feature,
    and the powers are summed. Power at frequency f = k / N is the share of the variance that a wave of period 1 / f
    accounts for; the shares sum to 1.

    Parameters
    ----------
    X : (n, d) raw activations. values : (n,) whole numbers, N of them distinct without a gap.
    detrend : take out each feature's straight line first, whose ends would leak into every frequency.
    standardise : give every feature the same variance first; otherwise the largest ones rule.

    Returns
    -------
    A row a frequency: `frequency` (waves a number), `period`, `power`, from 1 / N up to a half.

    Raises
    ------
    ProbeError : numbers that are not whole or not consecutive, or fewer than 4; activations that do not vary.
    """
    X = np.asarray(X, dtype=np.float64)
    a = np.asarray(values, dtype=np.float64)
    if X.ndim != 2 or a.shape != (len(X),) or not np.isfinite(X).all():
        raise ProbeError(f"got X {X.shape} and values {a.shape}; expected finite activations (n, d) and n numbers.")
    numbers, at, counts = np.unique(a, return_inverse=True, return_counts=True)
    n = len(numbers)
    if n < 4 or (np.round(numbers) != numbers).any() or numbers[-1] - numbers[0] != n - 1:
        raise ProbeError(
            f"got {n} distinct numbers from {numbers[0]:g} to {numbers[-1]:g}; expected 4 or more whole numbers "
            "without a gap. Leave out those beyond a gap."
        )
    means = np.zeros((n, X.shape[1]))
    np.add.at(means, at, X)
    means /= counts[:, None]
    design = np.stack([np.ones(n), numbers - numbers.mean()], axis=1)[:, : 2 if detrend else 1]
    rest = means - design @ np.linalg.lstsq(design, means, rcond=None)[0]
    spread = rest.std(axis=0)
    flat = spread <= 1e-9 * np.maximum(np.abs(means).max(axis=0), 1e-300)
    rest[:, flat] = 0
    if standardise:
        rest /= np.where(flat, 1, spread)
    power = np.square(np.abs(np.fft.rfft(rest, axis=0))).sum(axis=1)[1:]
    # Frequencies below a half stand for themselves and their mirror image.
    power[: (n - 1) // 2] *= 2
    if not power.sum() > 0:
        raise ProbeError("the activations do not vary along the numbers, so they have no spectrum.")
    k = np.arange(1, n // 2 + 1)
    return pl.DataFrame({"frequency": k / n, "period": n / k, "power": power / power.sum()})


def _rank(B: np.ndarray) -> int:
    """The rank of the centred basis, its columns scaled alike."""
    centred = B - B.mean(axis=0)
    size = np.sqrt(np.square(centred).mean(axis=0))
    return int(np.linalg.matrix_rank(centred / np.where(size > 1e-12, size, 1), tol=1e-8 * np.sqrt(len(B))))


def _principal(X: np.ndarray, w: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """The weighted mean (d,) and the first components (q, d) of X."""
    mean = (w / w.sum()) @ X
    _, size, rows = np.linalg.svd(np.sqrt(w / w.sum())[:, None] * (X - mean), full_matrices=False)
    held = int((size > 1e-10 * max(float(size[0]), 1e-300)).sum()) if len(size) else 0
    return mean, rows[: max(min(n_components, held), 1)]


def _least_squares(
    X: np.ndarray, B: np.ndarray, w: np.ndarray, n_components: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The origin (d,), map (p, d) and components of X ≈ B C + origin, fitted within the first components."""
    mean, components = _principal(X, w, n_components)
    share = w / w.sum()
    centre = share @ B
    scale = np.sqrt(share @ np.square(B - centre))
    scale = np.where(scale > 1e-12 * np.maximum(np.abs(B).max(axis=0), 1), scale, np.inf)
    root = np.sqrt(share)[:, None]
    projected = root * (X - mean) @ components.T
    solved = np.linalg.lstsq(root * (B - centre) / scale, projected, rcond=1e-10)[0]
    C = (solved / scale[:, None]) @ components
    return mean - centre @ C, C, components


def _legendre(a: np.ndarray, low: float, high: float, degree: int) -> np.ndarray:
    """(n, degree) Legendre polynomials of 1 to degree on [low, high]: the span of a, a², … without its rounding."""
    scaled = 2 * (a - low) / (high - low) - 1
    return np.asarray(np.polynomial.legendre.legvander(scaled, degree)[:, 1:])


def _compare(
    spec: Helix,
    X: np.ndarray,
    a: np.ndarray,
    at: np.ndarray,
    fold: np.ndarray,
    w: np.ndarray,
    rank: int,
    seed: int,
    n_replicates: int,
) -> tuple[dict[str, Estimate], Estimate, Estimate]:
    """Out-of-fold R² of the basis and its rivals, and the paired differences, by a bootstrap over numbers."""
    B, P = spec.basis(a), _legendre(a, a.min(), a.max(), rank)
    error = {name: np.zeros(len(X)) for name in ("basis", "polynomial", "pca")}
    total = np.zeros(len(X))
    for k in range(int(fold.max()) + 1):
        train = training_rows(fold, k)
        test = ~train
        for name, design in (("basis", B), ("polynomial", P)):
            origin, C, _ = _least_squares(X[train], design[train], w[train], spec.n_components)
            error[name][test] = np.square(X[test] - design[test] @ C - origin).sum(axis=1)
        mean, components = _principal(X[train], w[train], rank)
        rest = X[test] - mean
        error["pca"][test] = np.square(rest - rest @ components.T @ components).sum(axis=1)
        total[test] = np.square(rest).sum(axis=1)
    n = int(at.max()) + 1
    drawn = draw_groups(n, n_replicates, seed)
    whole = np.bincount(at, w * total, n) @ drawn
    if whole[0] <= 1e-18 * float(w @ np.square(X).sum(axis=1)):
        raise ProbeError("the activations do not vary, so there is no variance to explain.")
    r2 = {
        name: 1 - np.divide(np.bincount(at, w * e, n) @ drawn, whole, out=np.full_like(whole, np.nan), where=whole > 0)
        for name, e in error.items()
    }
    return (
        {name: percentile(values) for name, values in r2.items()},
        percentile(r2["basis"] - r2["polynomial"]),
        percentile(r2["pca"] - r2["basis"]),
    )


def _readers(
    X: np.ndarray,
    B: np.ndarray,
    columns: Sequence[str],
    fold: np.ndarray,
    weights: np.ndarray | None,
    site: str | Site | None,
) -> tuple[ProbeSet, tuple[str, ...], np.ndarray]:
    """A ridge probe for each column of the basis that varies, fitted at unit variance and scaled back."""
    w = np.ones(len(X)) if weights is None else weights
    centre = (w / w.sum()) @ B
    spread = np.sqrt((w / w.sum()) @ np.square(B - centre))
    varies = np.flatnonzero(spread > 1e-9 * np.maximum(np.abs(B).max(axis=0), 1))
    folds = bool((fold >= 0).all())
    probes, r2 = [], np.full(len(varies), np.nan)
    for index, c in enumerate(varies.tolist()):
        y = (B[:, c] - centre[c]) / spread[c]
        # Without folds nothing can choose a penalty; 0.01 of unit variance keeps the fit from memorising.
        family = Ridge() if folds else Ridge(l2=0.01)
        fitted: Fitted = family.fit(X, y, n_folds=0, fold=fold, weights=weights, names=[columns[c]], site=site)
        if folds:
            r2[index] = 1 - (w @ np.square(fitted.scores[:, 0] - y)) / (w @ np.square(y))
        probe = cast(Probe, fitted.probe)
        probes.append(replace(probe, coef=probe.coef * spread[c], intercept=probe.intercept * spread[c] + centre[c]))
    return ProbeSet(tuple(probes)), tuple(columns[c] for c in varies.tolist()), r2
