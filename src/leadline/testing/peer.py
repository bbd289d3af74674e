"""The field's habit, as a peer: cross-validate scikit-learn at every layer and report the best.

Standardise, fit `LogisticRegression` (`Ridge` for numbers and ranks) in five shuffled folds, take the mean over folds
at the layer where it is highest, and call the concept decodable if a one-sided t-test over that layer's five folds
finds it above chance at .05. Groups, the choice among layers and the surface play no part, and other claims get no
answer.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from leadline.testing.planted import Planted

__all__ = ["PeerResult", "cross_validate_layers"]

_LEVEL = 0.05


@dataclass(frozen=True)
class PeerResult:
    """What the peer says.

    Attributes
    ----------
    site : where the mean over folds is highest. value : that mean, of AUROC (macro one-against-rest for several
        classes) or R². p : of the t-test over its folds. verdict : `supported` or `refuted`, of "decodable" alone.
    """

    site: str
    value: float
    p: float
    verdict: str


def cross_validate_layers(planted: Planted, *, n_folds: int = 5, seed: int = 0) -> PeerResult:
    """Run the peer on a planted case."""
    labels = planted.labels
    ranked = labels.kind in ("continuous", "ordinal")
    chance = 0.0 if ranked else 0.5
    y = labels.Y if labels.Y.shape[1] > 1 else labels.Y[:, 0]
    splitter = (KFold if ranked else StratifiedKFold)(n_folds, shuffle=True, random_state=seed)
    folds = list(splitter.split(np.zeros(len(y)), y))
    best = PeerResult("", -np.inf, 1.0, "refuted")
    for site, X in planted.activations.items():
        values = np.array([_score(X[train], y[train], X[test], y[test], ranked) for train, test in folds])
        if values.mean() > best.value:
            p = _p_above(values, chance)
            best = PeerResult(site, float(values.mean()), p, "supported" if p <= _LEVEL else "refuted")
    return best


def _score(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, ranked: bool) -> float:
    model = make_pipeline(StandardScaler(), Ridge() if ranked else LogisticRegression(max_iter=1000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    if ranked:
        return float(r2_score(y_test, model.predict(X_test)))
    said = model.predict_proba(X_test)
    if said.shape[1] == 2:
        return float(roc_auc_score(y_test, said[:, 1]))
    return float(roc_auc_score(y_test, said, multi_class="ovr"))


def _p_above(values: np.ndarray, chance: float) -> float:
    # Five equal values have no spread to test against; they are above chance or not.
    if np.ptp(values) == 0:
        return float(values[0] <= chance)
    return float(scipy.stats.ttest_1samp(values, chance, alternative="greater").pvalue)
