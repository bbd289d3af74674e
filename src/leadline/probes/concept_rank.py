"""How many directions does a concept need? For concepts that are not one line: days, languages, places."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import scipy.linalg

from leadline.errors import ProbeError
from leadline.probes.folds import check_design, check_labels, fold_moments, training_rows
from leadline.probes.intervals import LEVEL, Estimate, draw_groups, percentile
from leadline.probes.splits import make_folds
from leadline.probes.weights import ClassWeight, check_class_weight, class_weights

__all__ = ["ConceptRank", "RankFit"]


@dataclass(frozen=True, eq=False)
class RankFit:
    """How many directions a concept needs.

    Attributes
    ----------
    spec : what was asked.
    rank : the answer. saturated : it is `max_rank`, the rule had not stopped yet, and the targets allow more.
    interval : (low, high), 95% percentiles of the rank over bootstrap replicates; see `ConceptRank`.
    curve : (R + 1,) the figure after 0, 1, … R directions: what is still read with so many erased (`erasure`), or the
        error with so many used (`reduced_rank`).
    directions : (rank, d) in raw activation space, the strongest first: score a row by its product with each.
    patterns : (rank, d) in raw activation space: how each direction shows in activations, at one standard deviation of
        its (shrunk) score.
    basis : (rank, d) orthonormal rows that span `directions`.
    strengths : (q,) the singular values of all directions, of the refit on all rows.
    origin : (d,) the mean of the rows. fold : (n,) the fold that tests a row.
    """

    spec: ConceptRank
    rank: int
    saturated: bool
    interval: tuple[int, int]
    curve: tuple[Estimate, ...]
    directions: np.ndarray
    patterns: np.ndarray
    basis: np.ndarray
    strengths: np.ndarray
    origin: np.ndarray
    fold: np.ndarray

    def erase(self, X: np.ndarray) -> np.ndarray:
        """(m, d) raw activations without the directions, projected out along their patterns."""
        X = np.asarray(X, dtype=np.float64)
        if X.ndim != 2 or X.shape[1] != len(self.origin):
            raise ProbeError(f"got activations of shape {X.shape}; these directions read (m, {len(self.origin)}).")
        return np.asarray(X - (X - self.origin) @ self.directions.T @ self.patterns)

    @cached_property
    def table(self) -> pl.DataFrame:
        """A row a number of directions: the figure and its interval, and whether it is the chosen one."""
        return pl.DataFrame(
            {
                "directions": list(range(len(self.curve))),
                self.spec.figure: [e.value for e in self.curve],
                "low": [e.low for e in self.curve],
                "high": [e.high for e in self.curve],
                "chosen": [r == self.rank for r in range(len(self.curve))],
            }
        ).with_columns(pl.selectors.float().fill_nan(None))

    def __repr__(self) -> str:
        more = " or more" if self.saturated else ""
        return f"RankFit({self.spec.method}: {self.rank}{more}, interval {self.interval[0]} to {self.interval[1]})"


@dataclass(frozen=True)
class ConceptRank:
    """The number of directions that a concept needs, by erasing them one by one or by the error at each rank.

    Inside each fold, on its training rows: features are standardised (z) and targets centred and scaled (t): one
    column a class, 1 if the row is of it, over the root of the class's share; or each continuous column at unit
    variance. With S = zᵀz/n + l2·I, the singular values of S^(-1/2) (zᵀt/n) = U s Vᵀ order the directions S^(-1/2) u_j
    of z. The first r of them are the least-squares fit of rank r under the penalty l2 (reduced-rank ridge regression;
    for classes, the discriminants of LDA).

    `"erasure"`: project the first r directions out, along their patterns S^(1/2) u_j. The training rows then have no
    covariance with the targets left along them, so the next least-squares probe is the rest of the sum, and no refit
    is needed. Its out-of-fold figure (for classes, the one-versus-rest AUROC averaged over classes; for columns, the
    correlation averaged over columns; within folds, then averaged) says what is left. The rank is the first r at which
    the interval of the figure reaches down to chance. That interval is the bootstrap's, over groups, widened by
    √(1 + K / (K − 1)): fits of K folds share most of their rows, and err alike, which no drawing of judged rows shows
    (Nadeau and Bengio 2003).

    `"reduced_rank"`: the out-of-fold squared error of t by the fit of rank r, relative to that of the training mean.
    The rank is the smallest whose error is within one standard error of the best. The standard error is that of the
    difference of the two, over groups.

    *A binary concept has rank 0 or 1.* Once the classes have equal means no linear probe reads it (Belrose et al.
    2023), and the means differ along one line. Counts of several directions for a binary concept by iterated
    projection of a probe's own weights, not of its pattern, count how slowly that removes one line.

    *The interval of the rank* draws groups within folds anew, with the fits as they are, and applies the same rule to
    each replicate, with the half-width (or standard error) of the observed figure. It holds what the choice owes to the
    rows that were judged, not to those that were trained on.

    Parameters
    ----------
    method : `"erasure"` or `"reduced_rank"`.
    max_rank : the most directions tried.
    l2 : the penalty, for features of unit variance.
    class_weight : None, `"balanced"`, or a number a class, for the training rows; for classes alone.

    Raises
    ------
    ProbeError : an unknown method, a rank below 1, a penalty that is not positive.

    References
    ----------
    A. J. Izenman (1975), Reduced-rank regression for the multivariate linear model, J. Multivariate Analysis 5.
    S. Ravfogel et al. (2020), Null It Out: guarding protected attributes by iterative nullspace projection, ACL.
    C. Nadeau and Y. Bengio (2003), Inference for the generalization error, Machine Learning 52.
    N. Belrose et al. (2023), LEACE: perfect linear concept erasure in closed form, NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 3, size=300)
    >>> X = rng.normal(size=(300, 10))
    >>> X[:, 0] += 3 * y  # three classes on one line
    >>> ConceptRank().fit(X, y).rank
    1
    """

    method: str = "erasure"
    max_rank: int = 8
    l2: float = 0.1
    class_weight: ClassWeight = None

    def __post_init__(self) -> None:
        if self.method not in ("erasure", "reduced_rank") or self.max_rank < 1 or not 0 < self.l2 < np.inf:
            raise ProbeError(
                f"got method {self.method!r}, max_rank {self.max_rank}, l2 {self.l2}; expected 'erasure' or "
                "'reduced_rank', a rank of 1 or more, and a positive penalty."
            )
        check_class_weight(self.class_weight, "concept rank")

    @property
    def figure(self) -> str:
        """What `RankFit.curve` holds."""
        return "left_to_read" if self.method == "erasure" else "relative_error"

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        *,
        n_folds: int = 5,
        fold: np.ndarray | None = None,
        groups: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        seed: int = 0,
        n_replicates: int = 1000,
        classes: bool | None = None,
    ) -> RankFit:
        """Find the rank.

        Parameters
        ----------
        X : (n, d) raw activations.
        y : (n,) class codes 0 … C−1; or (n, m) continuous columns, or (n,) numbers.
        classes : whether y holds codes; by default it does where it is (n,) integers or truth values.
        n_folds : folds; a rank cannot be judged without. fold : (n,) ready-made folds in their place.
        groups : (n,) labels that folds and the bootstrap keep whole.
        weights : (n,) ≥ 0, in training and in judging; 2 equals a row that stands twice, and 0 one that is left out.
        seed : of the folds and the bootstrap. n_replicates : of the bootstrap.

        Raises
        ------
        ProbeError : shapes or values that do not fit, a class that some fold cannot train on, no folds.
        EvidenceError : groups that cannot fill the folds.
        """
        X = np.asarray(X, dtype=np.float64)
        given = np.asarray(y)
        if given.dtype.kind not in "biuf":
            raise ProbeError("the labels are no numbers; give codes, as in np.unique(names, return_inverse=True)[1].")
        if classes is None:
            classes = given.ndim == 1 and given.dtype.kind in "biu"
            if given.ndim == 1 and not classes and (given == np.round(given)).all():
                raise ProbeError(
                    "y holds whole numbers as floats, which may be class codes or amounts, and their ranks differ; "
                    "say classes=True or classes=False."
                )
        Y = given.astype(np.float64)
        Y = Y[:, None] if Y.ndim == 1 else Y
        if X.ndim != 2 or Y.ndim != 2 or len(X) != len(Y):
            raise ProbeError(f"got X {X.shape} and y {given.shape}; expected X (n, d) and y (n,) or (n, m) of one n.")
        if self.class_weight is not None and not classes:
            raise ProbeError("class_weight is for class codes, and these targets are continuous; leave it out.")
        if fold is None:
            fold = make_folds(Y, groups, n_folds, stratify=classes, seed=seed)
        fold = np.asarray(fold)
        w = None if weights is None else np.asarray(weights, dtype=np.float64)
        k_folds = check_design(X, Y, fold, w)
        if not k_folds:
            raise ProbeError("a rank is judged on rows that were held out; give folds.")
        n_classes = check_labels(Y, "multiclass" if classes else "continuous", "concept rank", fold, w)
        omega = np.ones(len(X)) if w is None else w
        moments = fold_moments(X, fold, k_folds, w)
        targets = np.equal(Y, np.arange(n_classes)).astype(np.float64) if classes else Y
        limit = min(targets.shape[1] - classes, X.shape[1])
        top = min(self.max_rank, limit)

        drawn = draw_groups(len(X), n_replicates, seed, groups=groups, fold=fold) * omega[:, None]
        figures: list[np.ndarray] = []
        errors = np.zeros((top + 1, len(X)))
        for k in range(k_folds + 1):
            train = training_rows(fold, k)
            share = np.zeros(len(X))
            share[train] = (
                class_weights(Y[train, 0], omega[train], n_classes, self.class_weight) if classes else omega[train]
            )
            parts = _Directions.of(X, targets, share / share.sum(), moments.fold_scale[k], self.l2, classes)
            if k == k_folds:
                break
            test = ~train
            z = parts.standardise(X[test]) @ parts.read
            t = (targets[test] - parts.centre) / parts.spread
            pieces = [z[:, j : j + 1] * (parts.strength[j] * parts.target[j]) for j in range(len(parts.strength))]
            whole = np.sum(pieces, axis=0)
            used = np.zeros_like(t)
            found = []
            for r in range(top + 1):
                errors[r, test] = np.square(t - used).sum(axis=1)
                if self.method == "erasure":
                    found.append(_left(whole - used, Y[test], drawn[test], n_classes))
                if r < top:
                    used = used + pieces[r]
            figures.append(np.array(found))
        if self.method == "erasure":
            curve, ranks, more = self._by_erasure(figures, n_classes)
        else:
            curve, ranks = self._by_error(errors, drawn)
            more = int(ranks[0]) == top
        rank = int(ranks[0])
        tail = 100 * (1 - LEVEL) / 2
        low, high = np.percentile(ranks[1:], [tail, 100 - tail], method="inverted_cdf")
        directions = parts.read[:, :rank].T / moments.scale
        return RankFit(
            spec=self,
            rank=rank,
            saturated=more and top < limit,
            interval=(int(low), int(high)),
            curve=curve,
            directions=directions,
            patterns=parts.write[:rank] * moments.scale,
            basis=scipy.linalg.orth(directions.T).T if rank else directions,
            strengths=parts.strength,
            origin=parts.mean,
            fold=fold,
        )

    @staticmethod
    def _by_erasure(figures: list[np.ndarray], n_classes: int) -> tuple[tuple[Estimate, ...], np.ndarray, bool]:
        """The curve, the rank observed and in each replicate (1 + B,), and whether more is read after the last."""
        stacked = np.stack(figures)
        known = np.isfinite(stacked)
        count = known.sum(axis=0)
        mean = np.full(count.shape, np.nan)
        np.divide(np.where(known, stacked, 0).sum(axis=0), count, out=mean, where=count > 0)
        wider = np.sqrt(1 + len(figures) / (len(figures) - 1))
        curve = []
        for row in mean:
            e = percentile(row)
            curve.append(Estimate(e.value, e.value - wider * (e.value - e.low), e.value + wider * (e.high - e.value)))
        if any(np.isnan(e.low) for e in curve):
            raise ProbeError("too few rows or groups in a fold for an interval; use fewer folds or finer groups.")
        width = np.array([e.value - e.low for e in curve])[:, None]
        reads = mean - width > (0.5 if n_classes else 0.0)
        ranks = np.argmin(np.vstack([reads[:-1], np.zeros((1, reads.shape[1]), dtype=bool)]), axis=0)
        return tuple(curve), ranks, bool(reads[int(ranks[0]), 0])

    @staticmethod
    def _by_error(errors: np.ndarray, drawn: np.ndarray) -> tuple[tuple[Estimate, ...], np.ndarray]:
        """The curve, and by the rule of one standard error the rank observed and in each replicate (1 + B,)."""
        totals = errors @ drawn
        relative = totals / totals[0]
        best = np.argmin(relative, axis=0)
        apart = relative[:, None, 1:] - relative[None, :, 1:]
        error = apart.std(axis=2, ddof=1)
        close = relative - relative[best, np.arange(len(best))] <= error[:, best]
        return tuple(percentile(row) for row in relative), np.argmax(close, axis=0)


@dataclass(frozen=True)
class _Directions:
    """The singular directions of one fit: S^(-1/2) (zᵀt) = U s Vᵀ.

    `read` (d, q) = S^(-1/2) U and `write` (q, d) = Uᵀ S^(1/2), for standardised features; `strength` (q,) = s; `target`
    (q, m) = Vᵀ. Column j of z·read times s_j times row j of `target` is the j-th term of the fit of t.
    """

    mean: np.ndarray
    scale: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    read: np.ndarray
    write: np.ndarray
    strength: np.ndarray
    target: np.ndarray

    def standardise(self, X: np.ndarray) -> np.ndarray:
        return np.asarray((X - self.mean) / self.scale)

    @classmethod
    def of(
        cls,
        X: np.ndarray,
        targets: np.ndarray,
        share: np.ndarray,
        scale: np.ndarray,
        l2: float,
        classes: bool,
    ) -> _Directions:
        rows = share > 0
        p = share[rows]
        # Class weights move the mean; the scale stays that of the rows.
        mean = p @ X[rows]
        z = (X[rows] - mean) / scale
        centre = p @ targets[rows]
        if classes:
            spread = np.sqrt(centre)
        else:
            spread = np.sqrt(p @ np.square(targets[rows] - centre))
            if (spread <= 1e-12 * np.maximum(np.abs(centre), 1e-300)).any():
                raise ProbeError("a target column does not vary over some fold's training rows; leave it out.")
        t = (targets[rows] - centre) / spread
        root = np.sqrt(p)[:, None]
        # Eigenvectors of S outside the span of the rows have no covariance with t, so the rows' own SVD suffices.
        _, size, Q = np.linalg.svd(root * z, full_matrices=False)
        inverse = 1 / np.sqrt(np.square(size) + l2)
        inner = inverse[:, None] * (Q @ (z.T @ (p[:, None] * t)))
        U, strength, V = np.linalg.svd(inner, full_matrices=False)
        return cls(mean, scale, centre, spread, Q.T @ (inverse[:, None] * U), (U.T / inverse) @ Q, strength, V)


def _left(scores: np.ndarray, Y: np.ndarray, drawn: np.ndarray, n_classes: int) -> np.ndarray:
    """(1 + B,) what scores (n, m) still read of a fold's targets, for each weighting of its rows."""
    size = float(np.abs(scores).max()) if scores.size else 0.0
    if n_classes:
        each = []
        for c in range(n_classes if n_classes > 2 else 1):
            column = c if n_classes > 2 else 1
            # What rounding leaves of an erased score would still be ranked; it counts as a tie.
            s = np.where(size > 1e-9, scores[:, column], 0.0)
            each.append(_auroc(s, Y[:, 0] == column, drawn))
    else:
        if size <= 1e-9:
            return np.zeros(drawn.shape[1])
        each = [_correlation(scores[:, c], Y[:, c], drawn) for c in range(Y.shape[1])]
    stacked = np.stack(each)
    known = np.isfinite(stacked)
    count = known.sum(axis=0)
    return np.divide(np.where(known, stacked, 0).sum(axis=0), count, out=np.full(len(count), np.nan), where=count > 0)


def _auroc(scores: np.ndarray, positive: np.ndarray, W: np.ndarray) -> np.ndarray:
    """(B,) area under the ROC curve under each weighting (n, B), ties one half; NaN for one class only."""
    order = np.argsort(scores, kind="stable")
    ranked, weights = scores[order], W[order]
    is_positive = positive[order]
    below = np.vstack([np.zeros((1, W.shape[1])), np.cumsum(np.where(is_positive[:, None], 0, weights), axis=0)])
    at = ranked[is_positive]
    first, last = np.searchsorted(ranked, at, side="left"), np.searchsorted(ranked, at, side="right")
    wins = np.einsum("ib,ib->b", weights[is_positive], below[first] + below[last]) / 2
    pairs = weights[is_positive].sum(axis=0) * below[-1]
    return np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def _correlation(a: np.ndarray, b: np.ndarray, W: np.ndarray) -> np.ndarray:
    """(B,) Pearson's correlation under each weighting (n, B); NaN without spread."""
    a, b = (a - a.mean()) / max(a.std(), 1e-300), (b - b.mean()) / max(b.std(), 1e-300)
    total = np.maximum(W.sum(axis=0), 1e-300)
    mean_a, mean_b = a @ W / total, b @ W / total
    product = (np.square(a) @ W / total - mean_a**2) * (np.square(b) @ W / total - mean_b**2)
    top = (a * b) @ W / total - mean_a * mean_b
    safe = np.sqrt(np.maximum(product, 0))
    return np.divide(top, safe, out=np.full(len(top), np.nan), where=product > 1e-12)
