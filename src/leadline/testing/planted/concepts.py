"""Concepts that stand in the activations from a layer on, and none at all.

`effect` is the distance between the classes' means in standard deviations of the noise (d′), so that the best possible
AUROC is Φ(d′/√2): .80 for 1.2, .92 for 2, .98 for 3. For a continuous target it is the signal's standard deviation over
the noise's, so that the best possible R² is effect² / (1 + effect²).
"""

from __future__ import annotations

import numpy as np

from leadline.testing.planted.record import (
    NOT_SUPPORTED,
    REFUTED,
    SUPPORTED,
    Planted,
    binary_labels,
    directions,
    family_for,
    labelled,
    stream,
    targets,
)

__all__ = ["linear_concept", "memorising_probe", "nothing", "rare_class", "two_directions", "xor"]


def linear_concept(
    seed: int,
    *,
    effect: float = 2.5,
    kind: str = "binary",
    n: int = 300,
    d: int = 32,
    n_layers: int = 6,
    first: int = 3,
    n_classes: int = 4,
    n_columns: int = 1,
    tails: bool = False,
    wrong: float = 0.0,
) -> Planted:
    """A concept along fixed directions from layer `first` on, absent before.

    Parameters
    ----------
    wrong : the share of labels that are turned (binary alone).
    """
    rng = np.random.default_rng([seed, 101])
    Y, place = targets(rng, kind, n, n_classes=n_classes, n_columns=n_columns)
    signal = effect * place @ directions(rng, d, place.shape[1])
    turned = rng.permutation(n)[: round(wrong * n)]
    Y[turned] = 1 - Y[turned]
    return Planted(
        about=f"a linear {kind} concept of effect {effect:g} from layer {first} of {n_layers} on (n={n}, d={d})",
        activations=stream(rng, signal, n=n, d=d, n_layers=n_layers, first=first, tails=tails),
        labels=labelled(Y, kind),
        truth={"decodable": SUPPORTED},
        family=family_for(kind),
        measures=("emergence",),
        first_layer=first,
    )


def two_directions(
    seed: int, *, effect: float = 3.0, n: int = 400, d: int = 32, n_layers: int = 4, first: int = 1
) -> Planted:
    """Half of the positive rows are marked along one direction, the other half along another, orthogonal one."""
    rng = np.random.default_rng([seed, 102])
    y = binary_labels(rng, n)
    u, v = directions(rng, d, 2)
    which = rng.permutation(np.arange(n) % 2)[:, None]
    signal = effect * y[:, None] * np.where(which, u, v)
    return Planted(
        about=f"a concept spread over two directions of effect {effect:g} each, each in half of the positive rows",
        activations=stream(rng, signal, n=n, d=d, n_layers=n_layers, first=first),
        labels=labelled(y),
        truth={"decodable": SUPPORTED},
        family=family_for("binary"),
        first_layer=first,
    )


def nothing(
    seed: int,
    *,
    kind: str = "binary",
    n: int = 300,
    d: int = 32,
    n_layers: int = 4,
    n_classes: int = 4,
    kept: float = 0.8,
    tails: bool = False,
    refuted: bool = False,
) -> Planted:
    """Labels that have nothing to do with the activations; with `refuted`, in rows enough to say so."""
    rng = np.random.default_rng([seed, 103])
    Y, _ = targets(rng, kind, n, n_classes=n_classes)
    return Planted(
        about=f"random {kind} labels (n={n}, d={d}, {n_layers} layers)",
        activations=stream(rng, None, n=n, d=d, n_layers=n_layers, kept=kept, tails=tails),
        labels=labelled(Y, kind),
        truth={"decodable": REFUTED if refuted else NOT_SUPPORTED},
        family=family_for(kind),
    )


def rare_class(
    seed: int, *, effect: float = 3.0, share: float = 0.02, n: int = 1500, d: int = 16, n_layers: int = 3
) -> Planted:
    """A positive class of few rows; with an effect of 0, nothing to read."""
    rng = np.random.default_rng([seed, 104])
    y = binary_labels(rng, n, share)
    signal = effect * (y[:, None] - share) * directions(rng, d, 1)
    return Planted(
        about=f"a positive class of {share:.0%} ({int(y.sum())} of {n} rows), effect {effect:g}",
        activations=stream(rng, signal, n=n, d=d, n_layers=n_layers),
        labels=labelled(y),
        truth={"decodable": SUPPORTED if effect else NOT_SUPPORTED},
        family=family_for("binary"),
    )


def memorising_probe(seed: int, *, effect: float = 0.0, n: int = 100, d: int = 512, n_layers: int = 3) -> Planted:
    """So many more dimensions than rows that any labels can be fitted without an error."""
    rng = np.random.default_rng([seed, 105])
    y = binary_labels(rng, n)
    signal = effect * (y[:, None] - 0.5) * directions(rng, d, 1)
    return Planted(
        about=f"d={d} much larger than n={n}, effect {effect:g}",
        activations=stream(rng, signal, n=n, d=d, n_layers=n_layers),
        labels=labelled(y),
        truth={"decodable": SUPPORTED if effect else NOT_SUPPORTED},
        family=family_for("binary"),
    )


def xor(seed: int, *, effect: float = 4.0, n: int = 500, d: int = 8, n_layers: int = 2) -> Planted:
    """Whether two bits differ, each along its own direction: no linear map reads it, an MLP does."""
    rng = np.random.default_rng([seed, 106])
    # All four corners equally often: no bit says anything about the label alone.
    corner = rng.permutation(np.arange(n) % 4)
    bits = np.stack([corner // 2, corner % 2], axis=1)
    signal = effect * (bits - 0.5) @ directions(rng, d, 2)
    return Planted(
        about=f"the exclusive or of two bits, each of effect {effect:g} (n={n}, d={d})",
        activations=stream(rng, signal, n=n, d=d, n_layers=n_layers),
        labels=labelled(bits[:, 0] ^ bits[:, 1]),
        truth={"decodable": NOT_SUPPORTED},
        family=family_for("binary"),
        measures=("nonlinearity",),
        nonlinear=True,
    )
