"""Concepts on a shifted set: the same, the opposite, or gone; and simplified representations, right only at home."""

from __future__ import annotations

import numpy as np

from leadline.errors import EvidenceError
from leadline.testing.planted.record import (
    NOT_SUPPORTED,
    REFUTED,
    SUPPORTED,
    Arrays,
    Planted,
    binary_labels,
    directions,
    family_for,
    labelled,
    stream,
    targets,
)

__all__ = ["domains", "simplified"]

_SIGN = {"same": 1.0, "flipped": -1.0, "gone": 0.0}


def domains(
    seed: int,
    *,
    relations: tuple[str, ...] = ("same",),
    kind: str = "binary",
    effect: float = 3.0,
    shift: float = 2.0,
    n: int = 300,
    n_other: int = 300,
    d: int = 32,
    n_layers: int = 3,
) -> Planted:
    """A concept in domain A, and what becomes of it in other domains, whose activations have another mean.

    Parameters
    ----------
    relations : for each other domain `"same"`, `"flipped"` (the direction means the opposite there) or `"gone"`.
    shift : how far the other domains' means lie, in standard deviations of the noise, along directions of their own.
    """
    rng = np.random.default_rng([seed, 131])
    basis = directions(rng, d, 4 + len(relations))

    def made(rows: int, sign: float, mean: np.ndarray) -> tuple[Arrays, np.ndarray]:
        Y, place = targets(rng, kind, rows)
        signal = sign * effect * place @ basis[: place.shape[1]] + mean
        return stream(rng, signal, n=rows, d=d, n_layers=n_layers), Y

    home, Y = made(n, 1.0, np.zeros(d))
    held_out = {}
    for index, relation in enumerate(relations):
        arrays, other = made(n_other, _SIGN[relation], shift * basis[4 + index])
        held_out[f"domain {'BCDE'[index]}"] = (arrays, labelled(other, kind))
    if all(relation == "same" for relation in relations):
        truth = SUPPORTED
    else:
        truth = REFUTED if "flipped" in relations else NOT_SUPPORTED
    return Planted(
        about=f"a {kind} concept of effect {effect:g} in A; elsewhere {', '.join(relations)} (n={n_other}, "
        f"shift {shift:g})",
        activations=home,
        labels=labelled(Y, kind),
        truth={"decodable": SUPPORTED, "general": truth},
        family=family_for(kind),
        held_out=held_out,
    )


def simplified(
    seed: int,
    *,
    how: str = "full",
    size: int = 2,
    agreement: float = 0.9,
    effect: float = 6.0,
    shrink: float = 4.0,
    n: int = 400,
    n_other: int = 400,
    d: int = 32,
) -> Planted:
    """A large feature goes with the label at home and against it elsewhere; a small, sharp one is the concept itself.

    The full representation holds both, and a probe of it reads the concept. What keeps only the largest directions, or
    only which cluster a row lies in, keeps the feature: right at home, wrong elsewhere (Friedman et al. 2023,
    Interpretability illusions in the generalization of simplified models).

    Parameters
    ----------
    how : `"full"`, `"components"` (the first `size` principal components) or `"clusters"` (each row becomes the mean of
        its cluster, of `size`); both are learnt at home.
    agreement : how often the feature goes with the label at home, and against it elsewhere.
    effect : of the concept, in standard deviations of its own noise; the feature's is 8. shrink : by how much the
        concept with its noise is smaller.
    """
    rng = np.random.default_rng([seed, 132])
    basis = directions(rng, d, d)

    def made(rows: int, agreeing: float) -> tuple[np.ndarray, np.ndarray]:
        y = binary_labels(rng, rows)
        feature = np.where(rng.random(rows) < agreeing, y, 1 - y)
        parts = rng.normal(size=(rows, d))
        parts[:, 0] += 8 * (feature - 0.5)
        # As sharp as any other feature, but small.
        parts[:, 1] = (parts[:, 1] + effect * (y - 0.5)) / shrink
        return parts @ basis, y

    X, y = made(n, agreement)
    X_other, y_other = made(n_other, 1 - agreement)
    centre = X.mean(axis=0)
    if how == "components":
        top = np.linalg.svd(X - centre, full_matrices=False)[2][:size]
        X, X_other = (X - centre) @ top.T, (X_other - centre) @ top.T
    elif how == "clusters":
        from sklearn.cluster import KMeans

        found = KMeans(size, n_init=4, random_state=seed).fit(X)
        X, X_other = found.cluster_centers_[found.labels_], found.cluster_centers_[found.predict(X_other)]
    elif how != "full":
        raise EvidenceError(f"got how='{how}'; expected full, components or clusters.")
    return Planted(
        about=f"{how} representation (size {size}); a large feature goes with the label in {agreement:.0%} of the rows "
        f"at home and {1 - agreement:.0%} elsewhere, the concept has effect {effect:g} at 1/{shrink:g} of the size",
        activations={"resid_post.0": X.astype(np.float32)},
        labels=labelled(y),
        truth={"decodable": SUPPORTED, "general": SUPPORTED if how == "full" else REFUTED},
        family=family_for("binary"),
        held_out={"elsewhere": ({"resid_post.0": X_other.astype(np.float32)}, labelled(y_other))},
        measures=("simplified",) if how == "full" else (),
        misled=True if how == "full" else None,
    )
