"""INLP: erase a concept by projecting out one trained classifier after another, the older rival of LEACE."""

from __future__ import annotations

import numpy as np

from leadline.causal.eraser import Eraser
from leadline.causal.erasure import Spread, as_rows, targets_of
from leadline.errors import CausalError
from leadline.probes.logistic import Logistic
from leadline.probes.multinomial import Multinomial
from leadline.probes.probe import ProbeSet
from leadline.probes.ridge import Ridge
from leadline.sites import Site

__all__ = ["inlp"]


def inlp(
    X: np.ndarray,
    y: np.ndarray,
    n_directions: int,
    *,
    kind: str | None = None,
    l2: float = 1e-3,
    site: str | Site | None = None,
    label: str = "a concept",
    model_fingerprint: str | None = None,
) -> Eraser:
    """Iterative null-space projection: r(x) = x − V'V(x − μ), V the orthonormal span of the classifiers' weights.

    In turn a linear classifier is fitted on what is left of the activations, and its weights are projected out, until
    `n_directions` are gone. Nothing makes the class means equal at any number, and the change is not the smallest.
    The mean μ stays, as for LEACE, so that what differs between both is the projection alone.

    Parameters
    ----------
    X : (n, d) activations. y, kind : as in `leace`. n_directions : rank of V, 1 to d.
    l2 : penalty of each classifier (`Logistic`, `Multinomial` for more classes, of which C − 1 directions are taken a
        round, `Ridge` for numbers), on standardised features.
    site, label, model_fingerprint : written into the eraser.

    Returns
    -------
    `Eraser` with left = right; of lower rank than asked for where nothing is left that varies.

    Raises
    ------
    CausalError : as for `leace`; n_directions out of range.

    References
    ----------
    S. Ravfogel, Y. Elazar, H. Gonen, M. Twiton and Y. Goldberg (2020), Null it out: Guarding protected attributes by
    iterative nullspace projection, ACL.
    """
    rows = as_rows(X)
    n, d = rows.shape
    if not 1 <= n_directions <= d:
        raise CausalError(f"got {n_directions} directions for activations of width {d}; expected 1 to {d}.")
    Z = targets_of(y, n, kind)
    classes = set(np.unique(Z)) <= {0.0, 1.0} and (Z.shape[1] == 1 or bool((Z.sum(axis=1) == 1).all()))
    mean = rows.mean(axis=0)
    rest = rows - mean
    spread = Spread.of_rows(rest, mean)
    basis = np.zeros((0, d))
    while len(basis) < min(n_directions, spread.rank):
        # Weights on standardised features reach outside the span of the rows, where they read nothing.
        weights = spread.on_support(_weights(rest, Z, classes, l2))
        # Twice: a weight vector that lies mostly in the span so far keeps its digits only so.
        for _ in range(2):
            weights = weights - (weights @ basis.T) @ basis
        _, size, found = np.linalg.svd(weights, full_matrices=False)
        found = found[size > 1e-6 * max(float(size[0]), 1e-300)][: min(n_directions, spread.rank) - len(basis)]
        if not len(found):
            break
        basis = np.vstack([basis, found])
        rest = rest - (rest @ basis.T) @ basis
    return Eraser(basis, basis, mean, None if site is None else Site.parse(site), label, model_fingerprint)


def _weights(rest: np.ndarray, Z: np.ndarray, classes: bool, l2: float) -> np.ndarray:
    """(q, d) what one round's classifier reads; of C > 2 classes the differences between their weights."""
    if not classes:
        probe = Ridge(l2=l2).fit(rest, (Z - Z.mean(axis=0)) / np.maximum(Z.std(axis=0), 1e-300), n_folds=0).probe
    elif Z.shape[1] <= 2:
        probe = Logistic(l2=l2).fit(rest, Z[:, -1], n_folds=0).probe
    else:
        probe = Multinomial(l2=l2).fit(rest, Z.argmax(axis=1), n_folds=0).probe
    coef = np.stack([p.coef for p in probe]) if isinstance(probe, ProbeSet) else probe.coef[None]
    return np.asarray(coef - coef.mean(axis=0)) if classes and Z.shape[1] > 2 else coef
