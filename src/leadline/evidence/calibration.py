"""Calibration: whether a probability of .8 comes true eight times in ten, judged on held-out rows.

Three readings of the same out-of-fold scores stand side by side: *raw* (the score taken for the log odds), *Platt* and
*isotonic*. The calibrator that judges fold k was fitted on the out-of-fold scores of the other folds, so neither the
probe nor the calibrator has seen a label of the rows that it is judged on.

**Scale of folds.** Each fold was scored by a probe of its own, and these may differ in scale. A calibrator fitted on
the others' scores is put to fold k's as they are: no rescaling, not even one without labels, since the probe that is
refitted on all rows, which the calibrator is for, has yet another scale. What the mismatch costs is thus a part of the
figures, and `scale_ratio` says how large it is. A probability is on one scale, so probabilities are pooled over folds.

**Multiclass.** `top_label` reduces it to binary: the log odds of the top label's softmax probability, and whether that
label is right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax, logsumexp

from leadline.errors import EvidenceError
from leadline.evidence.calibrators import METHODS, Isotonic, Platt, cross_fit, fit_calibrator
from leadline.evidence.proportions import binary_rows, check_folds
from leadline.evidence.reliability import (
    N_BINS,
    CalibrationFigures,
    ReliabilityCurve,
    calibration_figures,
    emptied,
    missing_class,
)

__all__ = [
    "METHODS",
    "Calibration",
    "CalibrationFigures",
    "Isotonic",
    "Platt",
    "ReliabilityCurve",
    "calibrate",
    "calibration_figures",
    "top_label",
]


@dataclass(frozen=True)
class Calibration:
    """Three readings side by side, and the calibrator for use.

    Attributes
    ----------
    raw, platt, isotonic : each judged on folds that it was not fitted on.
    method : the one asked for. calibrator : of that method, fitted on all out-of-fold scores, for use with the probe
        that is refitted on all rows; None where its method could not be judged. Its figures
        are its method's.
    fold_calibrators : {method: {fold: the calibrator that judged it}}.
    fold_scale : (K,) standard deviation of each fold's scores. scale_ratio : the largest over the smallest; NaN where
        the smallest is 0.
    reason : why there is no calibrator, or an empty string.
    """

    raw: CalibrationFigures
    platt: CalibrationFigures
    isotonic: CalibrationFigures
    method: str
    calibrator: Platt | Isotonic | None
    fold_calibrators: dict[str, dict[int, Platt | Isotonic]]
    fold_scale: np.ndarray
    scale_ratio: float
    reason: str


def calibrate(
    scores: np.ndarray,
    y: np.ndarray,
    fold: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    method: str = "platt",
    seed: int = 0,
    n_replicates: int = 1000,
    n_bins: int = N_BINS,
) -> Calibration:
    """Judge raw, Platt and isotonic probabilities by cross-fitting, and fit one calibrator for use.

    Choose `method` beforehand: the better of two on the same rows would flatter itself. Platt suits few rows; isotonic
    tends to overfit below about a thousand (Niculescu-Mizil and Caruana 2005).

    Parameters
    ----------
    scores : (n,) or (n, 1) out-of-fold scores; of a multiclass target, what `top_label` makes of them.
    y : 0/1 targets. fold : (n,) the fold that tests a row. groups : (n,) labels that the folds keep whole, or None.
    method : "platt", "isotonic" or "raw", of `calibrator`.
    n_replicates : bootstrap draws, 100 or more. n_bins : at most.

    Raises
    ------
    EvidenceError : an unknown method, rows or folds that cannot be used, fewer than 100 replicates, or no bins.
    """
    if method not in METHODS:
        raise EvidenceError(f"got the calibration method {method!r}; expected one of {', '.join(METHODS)}.")
    score, positive = binary_rows(scores, y)
    part = check_folds(fold, groups, len(score))
    labels = np.unique(part)
    scale = np.array([score[part == k].std() for k in labels])
    judged: dict[str, CalibrationFigures] = {}
    fitted: dict[str, dict[int, Platt | Isotonic]] = {}
    reasons: dict[str, str] = {}
    for name in METHODS:
        reasons[name] = missing_class(positive, None if name == "raw" else part)
        if name != "raw" and reasons[name]:
            judged[name] = emptied(judged["raw"], reasons[name])
            continue
        fitted[name] = cross_fit(score, positive, part, name)
        probability = np.empty(len(score))
        for k, calibrator in fitted[name].items():
            probability[part == k] = calibrator.probability(score[part == k])
        judged[name] = calibration_figures(
            probability,
            positive,
            part,
            groups,
            seed=seed,
            n_replicates=n_replicates,
            n_bins=n_bins,
            log_odds=score if name == "raw" else None,
        )
    return Calibration(
        **judged,
        method=method,
        calibrator=None if reasons[method] else fit_calibrator(score, positive, method),
        fold_calibrators=fitted,
        fold_scale=scale,
        scale_ratio=float(scale.max() / scale.min()) if scale.min() > 0 else float("nan"),
        reason=reasons[method],
    )


def top_label(scores: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Multiclass scores as a binary question: is the top label right?

    Parameters
    ----------
    scores : (n, C) whose softmax are probabilities. y : (n,) or (n, 1) codes 0 … C − 1.

    Returns
    -------
    ((n,) log odds of the top label's probability, (n,) 1.0 where it is right), ready for `calibrate`.

    Raises
    ------
    EvidenceError : fewer than two columns, scores that are not finite, or codes that fit no column.
    """
    table, code = np.asarray(scores, dtype=np.float64), np.asarray(y, dtype=np.float64).reshape(-1)
    if table.ndim != 2 or table.shape[1] < 2 or len(table) != len(code):
        raise EvidenceError(
            f"got scores of shape {table.shape} for {len(code)} rows; expected (n, C) with C of 2 or more."
        )
    if not np.isfinite(table).all():
        raise EvidenceError("some scores are not finite; leave those rows out.")
    if not np.isin(code, np.arange(table.shape[1])).all():
        raise EvidenceError(
            f"got class codes that are not among 0 to {table.shape[1] - 1}, one a column of the scores."
        )
    top = table.argmax(axis=1)
    log_p = log_softmax(table, axis=1)
    rest = log_p.copy()
    rest[np.arange(len(top)), top] = -np.inf
    # log(1 − p) as the sum of the other classes: 1 − p itself rounds to 0 where the probe is sure.
    log_odds = log_p[np.arange(len(top)), top] - logsumexp(rest, axis=1)
    return log_odds, (top == code).astype(np.float64)
