"""Reliability: the figures that say how well probabilities are calibrated, each beside what noise alone would give.

Everything is a function of sums over bins of equal mass, so that a figure and its bootstrap replicates come from the
same code. The expected calibration error (ECE) is biased upwards: a perfectly calibrated probe has a positive one too.
So it never stands without its noise floor, which is what such a probe would show with the same probabilities at this n.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from leadline.errors import EvidenceError
from leadline.evidence.proportions import binary_rows, check_folds, clopper_pearson, effective_size
from leadline.probes.intervals import LEVEL, Estimate, draw_groups, percentile
from leadline.probes.splits import group_codes

__all__ = [
    "N_BINS",
    "CalibrationFigures",
    "ReliabilityCurve",
    "calibration_figures",
    "emptied",
    "equal_mass_bins",
    "missing_class",
]

N_BINS = 10
_CELLS = 4_000_000


@dataclass(frozen=True)
class ReliabilityCurve:
    """Predicted against observed, in bins of equal mass; each array is (bins,).

    Attributes
    ----------
    predicted, observed : mean probability, and share of positives. low, high : 95% Clopper-Pearson for `observed`.
    n, n_effective : rows, and groups (Kish's effective number) that the interval counts. scheme : the same in words.
    """

    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: np.ndarray
    n_effective: np.ndarray
    scheme: str


@dataclass(frozen=True)
class CalibrationFigures:
    """How well one set of probabilities is calibrated; NaN where `reason` says why.

    Attributes
    ----------
    brier : mean (p − y)². log_loss : mean −log of the probability of what happened, in nats; infinite, without an
        interval, where a probability of 0 came true.
    ece : Σ n_b/n · |mean p − share of positives| over bins of equal mass. It is biased upwards: noise alone makes it
        positive. Its interval is that of this biased figure, bootstrap replicates being centred on it.
    ece_floor, ece_floor_high : mean and 95% quantile of the ECE of a perfectly calibrated probe with these same
        probabilities at this n: the noise floor. p_calibrated : chance that such a probe has an ECE as large.
        It tests these very probabilities: an isotonic map of few rows fails it, being itself far from the truth.
    floor_scheme : how that probe was simulated, in words.
    reliability, resolution, uncertainty, within_bin : Murphy's (1973) decomposition over the same bins,
        brier = reliability − resolution + uncertainty + within_bin exactly; the last (Stephenson et al. 2008) is what
        probabilities that differ within a bin add. The first two are biased upwards as the ECE is.
    curve : the reliability curve. probability : (n,) what was judged.
    """

    brier: Estimate
    log_loss: Estimate
    ece: Estimate
    ece_floor: float
    ece_floor_high: float
    p_calibrated: float
    floor_scheme: str
    reliability: Estimate
    resolution: Estimate
    uncertainty: Estimate
    within_bin: Estimate
    curve: ReliabilityCurve
    probability: np.ndarray
    reason: str


def calibration_figures(
    probability: np.ndarray,
    y: np.ndarray,
    fold: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    seed: int = 0,
    n_replicates: int = 1000,
    n_bins: int = N_BINS,
    log_odds: np.ndarray | None = None,
) -> CalibrationFigures:
    """The figures of probabilities that were made without the labels of their rows.

    Intervals bootstrap groups within folds; the fitted probes, calibrators and bins stay as they are.

    Parameters
    ----------
    probability : (n,) in [0, 1]. y : 0/1 targets. fold, groups : as in `calibrate`.
    log_odds : (n,) the probabilities' own, for a log-loss that stays finite where a probability rounds to 0 or 1.

    Raises
    ------
    EvidenceError : probabilities outside [0, 1], and as in `calibrate`.
    """
    p, positive = binary_rows(probability, y)
    if len(p) and (p.min() < 0 or p.max() > 1):
        raise EvidenceError(f"got probabilities from {p.min():g} to {p.max():g}; expected them in [0, 1].")
    if n_replicates < 100:
        raise EvidenceError(f"got {n_replicates} bootstrap replicates; a 95% interval needs 100 or more.")
    part = check_folds(fold, groups, len(p))
    target = positive.astype(np.float64)
    bins = equal_mass_bins(p, n_bins)
    n_used = int(bins.max()) + 1
    one_hot = (bins[:, None] == np.arange(n_used)).astype(np.float64)

    if log_odds is None:
        with np.errstate(divide="ignore"):
            loss = -np.log(np.where(positive, p, 1 - p))
    else:
        loss = np.logaddexp(0, np.where(positive, -log_odds, log_odds))
    # Every figure is a function of these sums, so that all replicates of a figure come from one matrix product.
    # An infinite loss is counted apart: a replicate that does not draw it would turn it into 0 · ∞.
    endless = np.isinf(loss)
    rows = np.column_stack([np.square(p - target), np.where(endless, 0, loss), endless])
    columns = np.hstack([rows, one_hot, one_hot * p[:, None], one_hot * target[:, None]])
    codes = group_codes(groups, len(p))
    by_group = np.zeros((int(codes.max()) + 1, columns.shape[1]))
    np.add.at(by_group, codes, columns)
    fold_of = np.zeros(len(by_group), dtype=np.int64)
    fold_of[codes] = part
    sums = by_group.T @ draw_groups(len(by_group), n_replicates, seed, fold=fold_of)
    values = _from_sums(sums, n_used)

    reason = missing_class(positive)
    fewest = int(np.unique(fold_of, return_counts=True)[1].min())
    if not reason and fewest < 2:
        reason = f"a fold holds {fewest} group; an interval over groups needs 2 or more in each fold"
    unbiased = {"brier", "log_loss", "uncertainty", "within_bin"}
    estimates = {
        name: Estimate(float(drawn[0])) if fewest < 2 else (percentile if name in unbiased else _centred)(drawn)
        for name, drawn in values.items()
    }
    floor, scheme = _noise_floor(p, target, codes, one_hot, n_replicates, seed)
    ece = estimates["ece"].value
    figures = CalibrationFigures(
        **estimates,
        ece_floor=float(floor.mean()),
        ece_floor_high=float(np.quantile(floor, LEVEL)),
        p_calibrated=float((1 + (floor >= ece - 1e-12).sum()) / (1 + len(floor))),
        floor_scheme=scheme,
        curve=_curve(p, target, bins, codes),
        probability=p,
        reason=reason,
    )
    return emptied(figures, reason) if missing_class(positive) else figures


def equal_mass_bins(p: np.ndarray, n_bins: int) -> np.ndarray:
    """(n,) int: the bin of each row, of at most `n_bins` of about equal mass, numbered in order of probability.

    Equal probabilities share a bin, whatever the order of rows; bins that this leaves empty are dropped.
    """
    if n_bins < 1:
        raise EvidenceError(f"got {n_bins} bins; expected 1 or more.")
    _, value, counts = np.unique(p, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / max(len(p), 1)
    wanted = np.minimum((middle * n_bins).astype(np.int64), n_bins - 1)
    return np.asarray(np.unique(wanted[value], return_inverse=True)[1])


def missing_class(positive: np.ndarray, fold: np.ndarray | None = None) -> str:
    """Why no calibration can be judged: a class that is missing, from all rows or outside some fold."""
    for k in [None] if fold is None else np.unique(fold):
        held = positive if k is None else positive[fold != k]
        if held.all() or not held.any():
            where = "the rows hold" if k is None else f"the rows outside fold {k} hold"
            return f"{where} no {'negative' if held.any() else 'positive'}; calibration needs both classes"
    return ""


def emptied(figures: CalibrationFigures, reason: str) -> CalibrationFigures:
    """The figures of the same rows where none can be judged: NaN throughout, and the reason."""
    nan, none = float("nan"), Estimate(float("nan"))
    names = ("brier", "log_loss", "ece", "reliability", "resolution", "uncertainty", "within_bin")
    unknown = np.full(len(figures.curve.n), np.nan)
    curve = ReliabilityCurve(unknown, unknown, unknown, unknown, figures.curve.n, figures.curve.n_effective, "")
    return replace(
        figures,
        **dict.fromkeys(names, none),
        ece_floor=nan,
        ece_floor_high=nan,
        p_calibrated=nan,
        floor_scheme="",
        curve=curve,
        probability=np.full(len(figures.probability), nan),
        reason=reason,
    )


def _from_sums(sums: np.ndarray, n_bins: int) -> dict[str, np.ndarray]:
    """{figure: (1 + B,)} from weighted sums (3 + 3 · bins, 1 + B): squares, losses, endless ones; 1, p, y by bin."""
    n, p, y = sums[3:].reshape(3, n_bins, -1)
    total = n.sum(axis=0)
    filled = n > 0
    p_mean = np.divide(p, n, out=np.zeros_like(p), where=filled)
    y_mean = np.divide(y, n, out=np.zeros_like(y), where=filled)
    rate = y.sum(axis=0) / total
    brier = sums[0] / total
    reliability = (n * np.square(p_mean - y_mean)).sum(axis=0) / total
    resolution = (n * np.square(y_mean - rate)).sum(axis=0) / total
    uncertainty = rate * (1 - rate)
    return {
        "brier": brier,
        "log_loss": np.where(sums[2] > 0, np.inf, sums[1] / total),
        "ece": np.abs(p - y).sum(axis=0) / total,
        "reliability": reliability,
        "resolution": resolution,
        "uncertainty": uncertainty,
        "within_bin": brier - (reliability - resolution + uncertainty),
    }


def _centred(replicates: np.ndarray) -> Estimate:
    """The interval of a figure that is biased upwards: a replicate adds noise to noise, so the draws are re-centred."""
    drawn = replicates[1:]
    moved = np.maximum(replicates[0] + drawn - drawn.mean(), 0)
    return percentile(np.concatenate([replicates[:1], moved]))


def _noise_floor(
    p: np.ndarray, target: np.ndarray, codes: np.ndarray, one_hot: np.ndarray, n_draws: int, seed: int
) -> tuple[np.ndarray, str]:
    """(draws,) ECE of probes that are perfectly calibrated, and how they were drawn."""
    rng = np.random.default_rng([seed, 61])
    n = len(p)
    n_groups = int(codes.max()) + 1
    found = []
    step = max(1, _CELLS // n)
    if n_groups == n:
        for first in range(0, n_draws, step):
            y = rng.random((n, min(step, n_draws - first))) < p[:, None]
            found.append(np.abs(one_hot.T @ (p[:, None] - y)).sum(axis=0) / n)
        return np.concatenate(found), "each row's label was drawn with its own probability"
    # Labels of a group hang together in a way that no marginal probability tells. Turning the signs of a group's
    # residuals as one keeps that, and makes their expectation 0, as calibration does (the wild cluster bootstrap).
    residual = np.zeros((n_groups, one_hot.shape[1]))
    np.add.at(residual, codes, one_hot * (p - target)[:, None])
    for first in range(0, n_draws, step):
        sign = rng.choice([-1.0, 1.0], size=(n_groups, min(step, n_draws - first)))
        found.append(np.abs(residual.T @ sign).sum(axis=0) / n)
    words = f"the residuals of each of {n_groups:,} groups changed sign together (Cameron, Gelbach and Miller 2008)"
    return np.concatenate(found), words


def _curve(p: np.ndarray, target: np.ndarray, bins: np.ndarray, codes: np.ndarray) -> ReliabilityCurve:
    rows = [np.flatnonzero(bins == b) for b in range(int(bins.max()) + 1)]
    size = np.array([effective_size(codes[r], len(r)) for r in rows])
    observed = np.array([target[r].mean() for r in rows])
    found = [clopper_pearson(s * o, s) for s, o in zip(size, observed, strict=True)]
    single = len(np.unique(codes)) == len(codes)
    return ReliabilityCurve(
        predicted=np.array([p[r].mean() for r in rows]),
        observed=observed,
        low=np.array([e.low for e in found]),
        high=np.array([e.high for e in found]),
        n=np.array([len(r) for r in rows]),
        n_effective=size,
        scheme="Clopper-Pearson over rows"
        if single
        else "Clopper-Pearson over the effective number of groups in a bin",
    )
