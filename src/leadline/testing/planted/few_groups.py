"""Effects that differ between few groups: what rows seem to say many times over, groups do not."""

from __future__ import annotations

import numpy as np

from leadline.testing.planted.record import (
    NOT_SUPPORTED,
    SUPPORTED,
    Planted,
    binary_labels,
    directions,
    family_for,
    labelled,
    stream,
)

__all__ = ["equal_surface", "group_signs"]


def equal_surface(
    seed: int,
    *,
    n_groups: int = 15,
    effect: float = 1.5,
    spread: float = 1.0,
    n: int = 150,
    d: int = 16,
    n_layers: int = 2,
) -> Planted:
    """The embedding says as much of the label as the layers do, each more in some groups and less in others.

    Parameters
    ----------
    effect, spread : mean and deviation over groups of how far the classes lie apart, in noise deviations; drawn apart
        for the embedding and for the layers, so that neither says more than the other but by the draw of the groups.
    """
    rng = np.random.default_rng([seed, 141])
    y = binary_labels(rng, n)
    group = rng.permutation(np.arange(n) % n_groups)
    axis = directions(rng, d, 1)[0]

    def said() -> np.ndarray:
        slope = effect + spread * rng.normal(size=n_groups)
        return np.outer(slope[group] * (y - 0.5), axis)

    return Planted(
        about=f"the embedding and the layers say equally much (effect {effect:g} ± {spread:g}, {n_groups} groups)",
        activations=stream(rng, said(), n=n, d=d, n_layers=n_layers),
        labels=labelled(y, groups=np.array([f"g{g}" for g in group])),
        truth={"beyond surface": NOT_SUPPORTED},
        family=family_for("binary"),
        n_folds=min(5, n_groups // 3),
        sources={"embed_site": {"embed": stream(rng, said(), n=n, d=d, n_layers=1)["resid_post.0"]}},
    )


def group_signs(
    seed: int,
    *,
    n_groups: int = 12,
    effect: float = 3.0,
    n: int = 160,
    n_other: int = 160,
    d: int = 16,
    n_layers: int = 2,
) -> Planted:
    """A concept at home; on the shifted set its direction means the concept in half of few groups and its opposite in
    the others, at random, so that over groups it means nothing."""
    rng = np.random.default_rng([seed, 142])
    axis = directions(rng, d, 1)[0]
    y, other = binary_labels(rng, n), binary_labels(rng, n_other)
    group = rng.permutation(np.arange(n_other) % n_groups)
    sign = rng.choice([-1.0, 1.0], n_groups)
    away = stream(rng, effect * np.outer(sign[group] * (other - 0.5), axis), n=n_other, d=d, n_layers=n_layers)
    return Planted(
        about=f"a concept of effect {effect:g} at home; elsewhere its sign is random in each of {n_groups} groups",
        activations=stream(rng, effect * np.outer(y - 0.5, axis), n=n, d=d, n_layers=n_layers),
        labels=labelled(y),
        truth={"decodable": SUPPORTED, "general": NOT_SUPPORTED},
        family=family_for("binary"),
        held_out={"domain B": (away, labelled(other, groups=np.array([f"b{g}" for g in group])))},
    )
