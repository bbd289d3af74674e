"""One pass over rows in chunks: the moments from which the closed-form families are fitted, folds included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from leadline.errors import ProbeError

__all__ = ["StreamedMoments", "TrainingMoments"]


@dataclass(frozen=True)
class TrainingMoments:
    """Weighted moments of the training rows of one fit.

    Attributes
    ----------
    weight : their total. mean : (d,). covariance : (d, d) about the mean, divided by the weight.
    scale : (d,) standard deviations, 1 for a constant feature.
    target_mean : (m,). cross : (d, m) and square : (m,), covariances with the targets and of each target, as above.
    class_weight : (t, C) of each class of t targets; class_mean : (t, C, d). Both empty for continuous targets.
    class_covariance : (t, C, d, d) each about its own mean, or None where second moments by class were not gathered.
    """

    weight: float
    mean: np.ndarray
    covariance: np.ndarray
    scale: np.ndarray
    target_mean: np.ndarray
    cross: np.ndarray
    square: np.ndarray
    class_weight: np.ndarray
    class_mean: np.ndarray
    class_covariance: np.ndarray | None


class StreamedMoments:
    """Sums and second moments of activations and targets, gathered chunk by chunk in float64.

    Memory is (K or 1) × (d + m)² numbers, and with `class_moments` as many classes times more; it does not grow with
    the rows. Sums are taken about the mean of the first chunk, so that features far from 0 keep their digits. Those of
    the training rows of a fold are the sum over the other folds, so one pass serves every fold.

    Parameters
    ----------
    n_folds : K, with a fold number for every row; 0 for the refit alone.
    n_classes : C where the target is one column of codes 0 … C−1; None for columns taken as they are, which count as
        binary as long as they hold 0 and 1 alone.
    class_moments : whether to gather second moments by class too, which an `LDA` with `shrinkage="oas"`, or with
        priors other than empirical, needs.

    Raises
    ------
    ProbeError : a single fold or a single class.

    Examples
    --------
    >>> import numpy as np
    >>> from leadline.probes.ridge import Ridge
    >>> from leadline.probes.streamed_fits import fit_streamed
    >>> from leadline.probes.streaming import StreamedMoments
    >>> rng = np.random.default_rng(0)
    >>> moments = StreamedMoments()
    >>> for _ in range(10):
    ...     X = rng.normal(size=(100, 8))
    ...     moments.add(X, X[:, :1] > 0)
    >>> fit_streamed(Ridge(l2=0.1), moments).coef.shape
    (1, 1, 8)
    """

    def __init__(self, *, n_folds: int = 0, n_classes: int | None = None, class_moments: bool = False) -> None:
        if n_folds == 1 or n_folds < 0 or (n_classes is not None and n_classes < 2):
            raise ProbeError(f"got {n_folds} folds and {n_classes} classes; expected 0 or 2 folds or more, 2 classes.")
        self.n_folds, self.n_classes, self.class_moments = n_folds, n_classes, class_moments
        self.n_rows = 0
        self.d = self.n_targets = 0
        self._zero_one = True
        self._shift = self._highest = self._lowest = np.empty(0)
        self._weight = self._sums = self._seconds = self._by_class = np.empty(0)

    @property
    def binary(self) -> bool:
        """Whether the targets are columns that held 0 and 1 alone."""
        return self.n_classes is None and self._zero_one

    @classmethod
    def from_chunks(
        cls,
        chunks: Iterable[tuple[np.ndarray, ...]],
        *,
        n_folds: int = 0,
        n_classes: int | None = None,
        class_moments: bool = False,
    ) -> StreamedMoments:
        """Gather from chunks (X, Y), (X, Y, weights) or (X, Y, weights, fold); see `add`."""
        moments = cls(n_folds=n_folds, n_classes=n_classes, class_moments=class_moments)
        for chunk in chunks:
            moments.add(*chunk)
        return moments

    def add(
        self,
        X: np.ndarray,
        Y: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        fold: np.ndarray | None = None,
    ) -> None:
        """Add a chunk of rows.

        Parameters
        ----------
        X : (r, d) raw activations. Y : (r,) or (r, m) targets, None for none. weights : (r,) ≥ 0, None for ones.
        fold : (r,) in 0 … K−1, the fold that tests a row; None where there are no folds.

        Raises
        ------
        ProbeError : shapes that do not fit each other or the chunks before, values that are not finite, codes or folds
            outside their range.
        """
        X = np.asarray(X)
        T = self._targets(Y, len(X))
        omega = np.ones(len(X)) if weights is None else np.asarray(weights, dtype=np.float64)
        part = np.zeros(len(X), dtype=np.int64) if fold is None or not self.n_folds else np.asarray(fold)
        self._check(X, T, omega, part, given=fold is not None)
        if not len(X):
            return
        if not self.n_rows:
            self._begin(X, T)
        self.n_rows += len(X)
        self._highest = np.maximum(self._highest, X.max(axis=0))
        self._lowest = np.minimum(self._lowest, X.min(axis=0))
        joint = np.concatenate([X.astype(np.float64), T], axis=1) - self._shift
        for k in np.unique(part):
            rows = joint[part == k]
            weighted = rows * omega[part == k, None]
            self._weight[k] += omega[part == k].sum()
            self._sums[k] += weighted.sum(axis=0)
            self._seconds[k] += weighted.T @ rows
            if self.class_moments:
                for t, column in enumerate(T[part == k].T):
                    own = column > 0
                    self._by_class[k, t] += weighted[own, : self.d].T @ rows[own, : self.d]

    def _targets(self, Y: np.ndarray | None, n: int) -> np.ndarray:
        """(r, m) targets as float64, codes as columns of 0 and 1."""
        if Y is None:
            return np.empty((n, 0))
        T = np.asarray(Y, dtype=np.float64)
        T = T[:, None] if T.ndim == 1 else T
        if T.ndim != 2 or len(T) != n:
            raise ProbeError(f"got {n} rows and targets {np.shape(Y)}; expected (n,) or (n, m).")
        if not np.isfinite(T).all():
            raise ProbeError("the targets hold a NaN or an infinity; leave those rows out.")
        if self.n_classes is None:
            return T
        if T.shape[1] != 1 or not np.isin(T, np.arange(self.n_classes)).all():
            raise ProbeError(f"got targets {T.shape}; expected one column of codes 0 … {self.n_classes - 1}.")
        return np.equal(T, np.arange(self.n_classes)).astype(np.float64)

    def _check(self, X: np.ndarray, T: np.ndarray, omega: np.ndarray, part: np.ndarray, *, given: bool) -> None:
        if X.ndim != 2 or (self.n_rows and (X.shape[1], T.shape[1]) != (self.d, self.n_targets)):
            raise ProbeError(
                f"got a chunk of X {X.shape} and {T.shape[1]} targets; expected (r, {self.d}) and {self.n_targets}."
            )
        if not np.isfinite(X).all():
            raise ProbeError("a chunk holds a NaN or an infinity; extract it again, or leave those rows out.")
        if omega.shape != (len(X),) or not np.isfinite(omega).all() or (omega < 0).any():
            raise ProbeError(f"got weights {omega.shape}; expected {len(X)} finite numbers, none below 0.")
        if self.n_folds and (not given or part.shape != (len(X),) or not np.isin(part, np.arange(self.n_folds)).all()):
            raise ProbeError(f"expected a fold from 0 to {self.n_folds - 1} for each of the {len(X)} rows of a chunk.")
        if self.class_moments and not np.isin(T, (0.0, 1.0)).all():
            raise ProbeError("second moments by class need targets of 0 and 1, or class codes with n_classes.")
        self._zero_one &= bool(np.isin(T, (0.0, 1.0)).all())

    def _begin(self, X: np.ndarray, T: np.ndarray) -> None:
        self.d, self.n_targets = X.shape[1], T.shape[1]
        parts, width = max(self.n_folds, 1), self.d + self.n_targets
        # Labels of 0 and 1 are near 0 already, and as they are their products with X are the sums of a class.
        centre = np.zeros(self.n_targets) if self._zero_one else T.mean(axis=0)
        self._shift = np.concatenate([X.mean(axis=0, dtype=np.float64), centre])
        self._highest, self._lowest = np.full(self.d, -np.inf), np.full(self.d, np.inf)
        self._weight = np.zeros(parts)
        self._sums = np.zeros((parts, width))
        self._seconds = np.zeros((parts, width, width))
        self._by_class = np.zeros((parts, self.n_targets, self.d, self.d)) if self.class_moments else np.empty(0)

    def merge(self, other: StreamedMoments) -> None:
        """Add what another pass gathered, as over another part of the rows; the order of the rows never matters.

        Raises
        ------
        ProbeError : moments of another shape.
        """
        mine, its = (
            (s.n_folds, s.n_classes, s.class_moments, s.d, s.n_targets) if s.n_rows else None for s in (self, other)
        )
        if its is None:
            return
        if mine is None:
            if (self.n_folds, self.n_classes, self.class_moments) != its[:3]:
                raise ProbeError(
                    f"cannot merge moments with (folds, classes, class moments) {its[:3]}; make them alike."
                )
            self._begin(np.zeros((1, other.d)), np.zeros((1, other.n_targets)))
            self._shift = other._shift.copy()
        elif mine != its:
            raise ProbeError(
                f"cannot merge moments with (folds, classes, class moments, width, targets) {its} into {mine}."
            )
        moved = other._shift - self._shift
        for k, weight in enumerate(other._weight):
            sums = other._sums[k]
            crossed = np.outer(sums, moved)
            self._seconds[k] += other._seconds[k] + crossed + crossed.T + weight * np.outer(moved, moved)
            self._sums[k] += sums + weight * moved
            if self.class_moments:
                by = moved[: self.d]
                for t in range(self.n_targets):
                    # With labels about 0, the product with x is the sum over the class.
                    crossed = np.outer(other._seconds[k][: self.d, self.d + t], by)
                    each = sums[self.d + t]
                    self._by_class[k, t] += other._by_class[k, t] + crossed + crossed.T + each * np.outer(by, by)
        self._weight += other._weight
        self._highest = np.maximum(self._highest, other._highest)
        self._lowest = np.minimum(self._lowest, other._lowest)
        self._zero_one &= other._zero_one
        self.n_rows += other.n_rows

    def training(self, k: int) -> TrainingMoments:
        """Moments of the rows that fold `k` trains on; for `k` = `n_folds`, of all rows.

        Raises
        ------
        ProbeError : no rows, rows that all weigh 0, or a class that they lack.
        """
        others = [p for p in range(len(self._weight)) if p != k or not self.n_folds]
        weight = float(self._weight[others].sum()) if self.n_rows else 0.0
        if weight <= 0:
            raise ProbeError(f"no row of positive weight trains fold {k}; add chunks first, or use fewer folds.")
        d = self.d
        sums = self._sums[others].sum(axis=0)
        raw = sum((self._seconds[p] for p in others), np.zeros_like(self._seconds[0]))
        mean = sums / weight
        second = raw / weight - np.outer(mean, mean)
        class_weight, class_mean = np.empty((0, 0)), np.empty((0, 0, d))
        class_covariance = None
        if self.n_targets and (self.n_classes is not None or self._zero_one):
            class_weight, class_sum = self._pairs(sums[d:], raw[:d, d:].T, weight, sums[:d])
            if (class_weight <= 0).any():
                raise ProbeError(f"the training rows of fold {k} lack a class; use fewer folds or more rows.")
            centred = class_sum / class_weight[..., None]
            class_mean = centred + self._shift[:d]
            if self.class_moments:
                _, by_class = self._pairs(sums[d:], sum(self._by_class[p] for p in others), weight, raw[:d, :d])
                class_covariance = by_class / class_weight[..., None, None] - centred[..., None] * centred[..., None, :]
        return TrainingMoments(
            weight=weight,
            mean=mean[:d] + self._shift[:d],
            covariance=second[:d, :d],
            scale=self._scale(second[:d, :d]),
            target_mean=mean[d:] + self._shift[d:],
            cross=second[:d, d:],
            square=np.diagonal(second)[d:],
            class_weight=class_weight,
            class_mean=class_mean,
            class_covariance=class_covariance,
        )

    def _pairs(
        self, weights: np.ndarray, sums: np.ndarray, all_weight: float, all_sums: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(t, C) weights and (t, C, …) sums: for binary columns, the negative class is what the positive one leaves."""
        if self.n_classes is not None:
            return weights[None], sums[None]
        return np.stack([all_weight - weights, weights], axis=1), np.stack([all_sums - sums, sums], axis=1)

    def _scale(self, covariance: np.ndarray) -> np.ndarray:
        """Standard deviations, 1 where `leadline.probes.folds.fold_moments` would call the feature constant."""
        mean = np.abs(self._sums[:, : self.d].sum(axis=0) / self._weight.sum() + self._shift[: self.d])
        spread = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
        floor = 1e-6 * np.maximum(mean, np.maximum(self._highest, -self._lowest) * 1e-3)
        return np.where(spread <= floor, 1.0, spread)
