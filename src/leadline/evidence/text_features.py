"""Plain features of the text that go with the label, and those that the probe's score follows beyond the label.

Each feature is a number that anyone can check by eye. How far it gives the label away is measured as for a probe:
within folds and averaged, its sign taken from the other folds alone.

- binary: AUROC of the signed feature.
- continuous and ordinal: Spearman's correlation, signed.
- multiclass: η², 1 − Σ(r − r̂)² / Σ(r − r̄)², r the feature's rank and r̂ its class's mean rank in the other folds.

p comes from shuffles of the labels that respect the groups, of the correlation within folds (for classes, the variance
between them); q is Benjamini and Hochberg's over the features. The probe's partial correlation is that of the ranks of
score and feature, each less its mean in the row's class and fold (for numbers, less its regression on the label's
rank); its p is from flips of the sign of each group's share in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import scipy.stats

from leadline.errors import EvidenceError
from leadline.evidence.bootstrap import Estimate
from leadline.evidence.metrics import fold_mean, weighted_auroc, weighted_spearman
from leadline.evidence.permutation import draw_shuffles
from leadline.evidence.text_counts import FEATURES, feature_values
from leadline.probes.intervals import draw_groups, percentile
from leadline.probes.splits import group_codes

__all__ = ["FEATURES", "TextFeature", "TextFeatures", "feature_values", "text_features"]

_Q = 0.05
_MIN_GROUPS = 2
_BLOCK_VALUES = 1 << 21
_N_FLIPS = 1999
METRIC = {"binary": "auroc", "continuous": "spearman", "ordinal": "spearman", "multiclass": "eta_squared"}
CHANCE = {"auroc": 0.5, "spearman": 0.0, "eta_squared": 0.0}


@dataclass(frozen=True)
class TextFeature:
    """One feature.

    Attributes
    ----------
    name, description : of the feature. mean : over the texts.
    label : its metric for the label (`TextFeatures.metric_name`), out of fold, with a 95% interval over groups.
    sign : +1 where a higher value goes with a higher label or the positive class, −1 with a lower; 0 for classes.
    p_label, q_label : of the shuffles, and corrected over the features.
    probe : partial correlation of the probe's score with it, given the label; of several scores the strongest.
    p_probe, q_probe : of that. reason : why there is nothing to say, or an empty string.
    """

    name: str
    description: str
    mean: float
    label: Estimate
    sign: int
    p_label: float
    q_label: float
    probe: Estimate
    p_probe: float
    q_probe: float
    reason: str = ""


@dataclass(frozen=True)
class TextFeatures:
    """All features, those that say most about the label first.

    Attributes
    ----------
    metric_name : `"auroc"`, `"spearman"` or `"eta_squared"`. chance : its value for a feature that says nothing.
    """

    kind: str
    metric_name: str
    chance: float
    features: tuple[TextFeature, ...]

    @property
    def explain_label(self) -> tuple[TextFeature, ...]:
        """Features that go with the label (q ≤ .05)."""
        return tuple(f for f in self.features if f.q_label <= _Q)

    @property
    def explain_probe(self) -> tuple[TextFeature, ...]:
        """Features that the probe's score follows beyond the label (q ≤ .05), the strongest first: what it may read."""
        found = [f for f in self.features if f.q_probe <= _Q]
        return tuple(sorted(found, key=lambda f: -abs(f.probe.value)))

    @property
    def table(self) -> pl.DataFrame:
        """A row a feature."""
        records: list[dict[str, object]] = []
        for f in self.features:
            record: dict[str, object] = {
                "feature": f.name,
                "description": f.description,
                "mean": f.mean,
                "sign": f.sign,
            }
            for name, e in ((self.metric_name, f.label), ("probe_partial", f.probe)):
                record |= {name: e.value, f"{name}_low": e.low, f"{name}_high": e.high}
            record |= {"p_label": f.p_label, "q_label": f.q_label, "p_probe": f.p_probe, "q_probe": f.q_probe}
            records.append(record | {"reason": f.reason})
        return pl.DataFrame(records, infer_schema_length=None).with_columns(pl.selectors.float().fill_nan(None))


def text_features(
    texts: Sequence[str],
    Y: np.ndarray,
    kind: str,
    fold: np.ndarray,
    groups: np.ndarray | None,
    scores: np.ndarray | None = None,
    *,
    n_permutations: int = 999,
    n_bootstraps: int = 1000,
    seed: int = 0,
) -> TextFeatures:
    """Hold plain features of the texts against the label, and against the probe's scores.

    Parameters
    ----------
    texts : one a row. Y : (n, m). kind : of the target. fold : (n,). groups : (n,) or None.
    scores : (n, c) out-of-fold scores of the probe, or None. An ordinal probe's are averaged over its columns.

    Raises
    ------
    EvidenceError : lengths that do not fit, or labels that no shuffle can move.
    """
    n = len(Y)
    for name, given in (("texts", texts), ("fold", fold), ("scores", scores)):
        if given is not None and len(given) != n:
            raise EvidenceError(f"got {len(given)} rows of {name} for {n} targets; give one a row.")
    values = feature_values(texts)
    varies = np.ptp(values, axis=0) > 0
    F = values[:, varies]
    folds = [np.flatnonzero(fold == k) for k in np.unique(fold)]
    W = draw_groups(n, n_bootstraps, seed, groups=groups, fold=fold)
    codes = group_codes(groups, n)
    has_interval = min(len(np.unique(codes[rows])) for rows in folds) >= _MIN_GROUPS
    nothing = Estimate(float("nan"))
    label = np.full(len(varies), nothing, dtype=object)
    sign = np.zeros(len(varies), dtype=np.int64)
    p_label, p_probe = np.full(len(varies), np.nan), np.full(len(varies), np.nan)
    probe = np.full(len(varies), nothing, dtype=object)
    at = np.flatnonzero(varies)
    if len(at):
        found, sign[at] = _label_metric(F, Y, kind, folds, W)
        label[at] = [percentile(f) if has_interval else Estimate(float(f[0])) for f in found]
        p_label[at] = _label_p(F, Y, kind, folds, groups, n_permutations, seed)
        if scores is not None:
            partial, p_values = _partial(F, Y, kind, folds, np.asarray(scores, dtype=np.float64), W, codes, seed)
            probe[at] = [percentile(r) if has_interval else Estimate(float(r[0])) for r in partial]
            if has_interval:
                p_probe[at] = p_values
    q_label, q_probe = _corrected(p_label), _corrected(p_probe)
    features = [
        TextFeature(
            name,
            FEATURES[name][0],
            float(values[:, j].mean()),
            label[j],
            int(sign[j]),
            float(p_label[j]),
            float(q_label[j]),
            probe[j],
            float(p_probe[j]),
            float(q_probe[j]),
            "" if varies[j] else "every text has the same value",
        )
        for j, name in enumerate(FEATURES)
    ]
    metric = METRIC[kind]
    features.sort(key=lambda f: -np.nan_to_num(f.label.value, nan=-np.inf))
    return TextFeatures(kind, metric, CHANCE[metric], tuple(features))


def _sides(column: np.ndarray, Y: np.ndarray, train: np.ndarray) -> np.ndarray:
    """(m,) the sign of a feature's rank correlation with each target column over training rows; +1 where it is 0."""
    ranks = scipy.stats.rankdata(column[train])
    targets = scipy.stats.rankdata(Y[train], axis=0)
    return np.where((ranks - ranks.mean()) @ (targets - targets.mean(axis=0)) < 0, -1.0, 1.0)


def _label_metric(
    F: np.ndarray, Y: np.ndarray, kind: str, folds: list[np.ndarray], W: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """For each feature (1 + B,) of its metric, and its sign over all rows."""
    found, signs = [], []
    everything = np.arange(len(Y))
    for column in F.T:
        by_fold = []
        for rows in folds:
            train = np.delete(everything, rows)
            if kind == "multiclass":
                by_fold.append(_eta_squared(column, Y[:, 0].astype(np.int64), train, rows, W[rows]))
                continue
            signed = column[rows, None] * _sides(column, Y, train)
            if kind == "binary":
                by_fold.append(weighted_auroc(signed[:, 0], Y[rows, 0], W[rows]))
            else:
                by_fold.append(weighted_spearman(signed, Y[rows], W[rows]))
        found.append(fold_mean(by_fold))
        signs.append(0 if kind == "multiclass" else int(_sides(column, Y, everything)[0]))
    return found, np.array(signs)


def _eta_squared(
    column: np.ndarray, codes: np.ndarray, train: np.ndarray, rows: np.ndarray, W: np.ndarray
) -> np.ndarray:
    """(B,) how much of the ranks' variance in a fold the other folds' class means explain; below 0 if they mislead."""
    ranks = scipy.stats.rankdata(column) / len(column)
    overall = ranks[train].mean()
    n_classes = int(codes.max()) + 1
    count = np.bincount(codes[train], minlength=n_classes)
    means = np.bincount(codes[train], ranks[train], n_classes) / np.maximum(count, 1)
    residual = np.square(ranks[rows] - np.where(count > 0, means, overall)[codes[rows]]) @ W
    total = W.sum(axis=0)
    mean = ranks[rows] @ W / np.maximum(total, 1e-12)
    spread = np.square(ranks[rows]) @ W - total * np.square(mean)
    return 1 - np.divide(residual, spread, out=np.full(len(total), np.nan), where=spread > 1e-12)


def _within(values: np.ndarray, folds: list[np.ndarray]) -> np.ndarray:
    """Ranks within each fold, centred, and of unit variance where they vary."""
    ranks = np.empty_like(values)
    for rows in folds:
        own = scipy.stats.rankdata(values[rows], axis=0)
        own -= own.mean(axis=0)
        spread = own.std(axis=0)
        ranks[rows] = own / np.where(spread > 0, spread, 1)
    return ranks


def _label_p(
    F: np.ndarray,
    Y: np.ndarray,
    kind: str,
    folds: list[np.ndarray],
    groups: np.ndarray | None,
    n_permutations: int,
    seed: int,
) -> np.ndarray:
    """(F,) p of the largest |correlation| over target columns, or of the variance between classes."""
    index = draw_shuffles(Y, groups, n_permutations, seed).index
    ranks = _within(F, folds)
    if kind == "multiclass":
        indicator = np.eye(int(Y.max()) + 1)[Y[:, 0].astype(np.int64)]
        indicator = indicator[:, indicator.any(axis=0)]
        target = indicator / np.sqrt(indicator.sum(axis=0))
    else:
        target = scipy.stats.rankdata(Y, axis=0)
        target = target - target.mean(axis=0)
        target /= np.maximum(target.std(axis=0), 1e-12)
    statistic = np.zeros((len(index), F.shape[1]))
    size = max(1, _BLOCK_VALUES // len(Y))
    for start in range(0, len(index), size):
        part = index[start : start + size]
        for column in target.T:
            product = column[part] @ ranks
            own = statistic[start : start + size]
            if kind == "multiclass":
                own += np.square(product)
            else:
                np.maximum(own, np.abs(product), out=own)
    reached = statistic[1:] >= statistic[0] * (1 - 1e-9)
    return np.asarray((1 + reached.sum(axis=0)) / (1 + len(reached)))


def _partial(
    F: np.ndarray,
    Y: np.ndarray,
    kind: str,
    folds: list[np.ndarray],
    scores: np.ndarray,
    W: np.ndarray,
    codes: np.ndarray,
    seed: int,
) -> tuple[list[np.ndarray], np.ndarray]:
    """For each feature (1 + B,) the partial correlation with the score that follows it most, and (F,) its p."""
    if kind == "ordinal":
        scores = scores.mean(axis=1, keepdims=True)
    a, b = _given_label(F, Y, kind, folds), _given_label(scores, Y, kind, folds)
    norm = np.linalg.norm(a, axis=0)[:, None] * np.linalg.norm(b, axis=0)
    # A product of 0 with a column that the label determines stays 0.
    norm = np.where(norm > 0, norm, 1)
    strength = np.abs(a.T @ b) / norm
    found = []
    for column, strongest in zip(a.T, strength.argmax(axis=1), strict=True):
        other = b[:, strongest]
        product = np.square(column) @ W * (np.square(other) @ W)
        found.append(
            np.divide((column * other) @ W, np.sqrt(product), out=np.full(W.shape[1], np.nan), where=product > 1e-12)
        )
    # Without a relation each group's share of the sum is as likely of the other sign; the label's means take a part of
    # it away, which few groups in a class and fold would show as too narrow a null.
    n_groups = int(codes.max()) + 1
    signs = np.random.default_rng([seed, 61]).choice([-1.0, 1.0], size=(_N_FLIPS, n_groups))
    lost = _lost(Y, kind, folds, codes)
    strongest_null = np.zeros((_N_FLIPS, a.shape[1]))
    for j in range(b.shape[1]):
        shares = np.zeros((n_groups, a.shape[1]))
        np.add.at(shares, codes, a * (b[:, j] * lost)[:, None])
        np.maximum(strongest_null, np.abs(signs @ shares) / norm[:, j], out=strongest_null)
    p = (1 + (strongest_null >= strength.max(axis=1) - 1e-12).sum(axis=0)) / (1 + _N_FLIPS)
    return found, np.where(strength.max(axis=1) > 0, p, np.nan)


def _lost(Y: np.ndarray, kind: str, folds: list[np.ndarray], codes: np.ndarray) -> np.ndarray:
    """(n,) √(g / (g − r)) with g groups in a row's class and fold and r = 1 mean (for numbers in the fold, r = 2)."""
    factor = np.ones(len(Y))
    for rows in folds:
        cells = [rows] if kind == "continuous" else [rows[Y[rows, 0] == c] for c in np.unique(Y[rows, 0])]
        for cell in cells:
            size, used = len(np.unique(codes[cell])), 2 if kind == "continuous" else 1
            factor[cell] = np.sqrt(size / max(size - used, 1))
    return factor


def _given_label(values: np.ndarray, Y: np.ndarray, kind: str, folds: list[np.ndarray]) -> np.ndarray:
    """Ranks within a fold, less their mean in the row's class, or less their regression on the label's ranks."""
    residual = np.zeros_like(values)
    for rows in folds:
        ranks = scipy.stats.rankdata(values[rows], axis=0)
        if kind == "continuous":
            design = np.column_stack([np.ones(len(rows)), scipy.stats.rankdata(Y[rows], axis=0)])
        else:
            design = (Y[rows] == np.unique(Y[rows, 0])).astype(np.float64)
        left = ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0]
        # What is left of ranks that the label determines is rounding.
        spread = np.maximum(ranks.std(axis=0), 1e-12)
        residual[rows] = np.where(left.std(axis=0) > 1e-9 * spread, left / spread, 0)
    return residual


def _corrected(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg (1995) over the features that have a p."""
    known = np.isfinite(p)
    q = np.full(len(p), np.nan)
    if known.any():
        q[known] = scipy.stats.false_discovery_control(p[known])
    return q
