"""Rows that belong together: groups, near-duplicates, and types that recur."""

from __future__ import annotations

import numpy as np

from leadline.testing.planted.record import (
    NOT_SUPPORTED,
    NOT_TESTED,
    SUPPORTED,
    Planted,
    binary_labels,
    directions,
    family_for,
    labelled,
    sentences,
    stream,
)

__all__ = ["group_is_label", "group_offsets", "near_duplicates", "typed_concept"]


def _sizes(rng: np.random.Generator, n_groups: int, n: int, uneven: bool) -> np.ndarray:
    """(n_groups,) sizes of 2 or more that add up to about n; uneven ones fall as 1 / rank."""
    share = 1 / np.arange(1, n_groups + 1) if uneven else np.ones(n_groups)
    return np.maximum(rng.permutation(np.round(n * share / share.sum())), 2).astype(np.int64)


def group_is_label(
    seed: int,
    *,
    n_groups: int = 12,
    n: int = 240,
    d: int = 32,
    n_layers: int = 3,
    grouped: bool = True,
    uneven: bool = False,
    kind: str = "binary",
    effect: float = 0.0,
    apart: float = 3.0,
    n_folds: int = 5,
) -> Planted:
    """Every row of a group has the group's label, and the activations know the group.

    Parameters
    ----------
    grouped : whether the folds know the groups; else they stand in `candidates`, beside a column of no account.
    effect : of a concept that all groups share; 0 for none, then only the group can be recognised.
    apart : how far the groups' means lie from their common one, in standard deviations of the noise.
    """
    rng = np.random.default_rng([seed, 121])
    group = np.repeat(np.arange(n_groups), _sizes(rng, n_groups, n, uneven))
    group = group[rng.permutation(len(group))]
    value = rng.normal(size=n_groups) if kind == "continuous" else binary_labels(rng, n_groups)
    place = value if kind == "continuous" else value - 0.5
    signal = apart * rng.normal(size=(n_groups, d)) / np.sqrt(d)
    signal = signal + effect * place[:, None] * directions(rng, d, 1)
    names = np.array([f"topic {g}" for g in group], dtype=object)
    truth = SUPPORTED if effect and grouped else NOT_SUPPORTED
    other = np.array([f"day {x}" for x in rng.integers(7, size=len(group))], dtype=object)
    return Planted(
        about=f"the label is constant in each of {n_groups} groups that lie {apart:g} apart, "
        f"{'kept whole' if grouped else 'split'} by the folds; shared concept of effect {effect:g}",
        activations=stream(rng, signal[group], n=len(group), d=d, n_layers=n_layers),
        labels=labelled(
            value[group],
            kind,
            groups=names if grouped else None,
            candidates=None if grouped else {"weekday": other, "topic": names},
        ),
        truth={"decodable": truth},
        family=family_for(kind),
        n_folds=n_folds,
    )


def group_offsets(
    seed: int,
    *,
    effect: float = 3.0,
    n_groups: int = 20,
    n: int = 300,
    d: int = 32,
    n_layers: int = 3,
    apart: float = 6.0,
    uneven: bool = False,
    n_folds: int = 5,
) -> Planted:
    """Groups lie far apart, labels vary within them; with an effect, all share one concept."""
    rng = np.random.default_rng([seed, 122])
    group = np.repeat(np.arange(n_groups), _sizes(rng, n_groups, n, uneven))
    group = group[rng.permutation(len(group))]
    y = binary_labels(rng, len(group))
    means = apart * rng.normal(size=(n_groups, d)) / np.sqrt(d)
    signal = means[group] + effect * (y[:, None] - 0.5) * directions(rng, d, 1)
    return Planted(
        about=f"{n_groups} groups that lie {apart:g} apart, labels vary within them; effect {effect:g}",
        activations=stream(rng, signal, n=len(group), d=d, n_layers=n_layers),
        labels=labelled(y, groups=np.array([f"topic {g}" for g in group], dtype=object)),
        truth={"decodable": SUPPORTED if effect else NOT_SUPPORTED},
        family=family_for("binary"),
        n_folds=n_folds,
    )


def near_duplicates(
    seed: int,
    *,
    n_clusters: int = 75,
    copies: int = 4,
    effect: float = 0.0,
    blur: float = 0.02,
    grouped: bool = False,
    with_texts: bool = True,
    d: int = 32,
    n_layers: int = 3,
) -> Planted:
    """Each row has near-copies with the same label, so that folds that split them test what was learnt by heart.

    Parameters
    ----------
    blur : how far copies lie from each other, as a share of the distance between unrelated rows.
    effect : of a concept beside it. grouped : whether the folds keep the copies together.
    with_texts : give texts, which are the same but for their last mark.
    """
    rng = np.random.default_rng([seed, 123])
    cluster = rng.permutation(np.repeat(np.arange(n_clusters), copies))
    y = binary_labels(rng, n_clusters)
    signal = effect * (y[:, None] - 0.5) * directions(rng, d, 1)
    centres = stream(rng, signal, n=n_clusters, d=d, n_layers=n_layers)
    activations = {
        site: (X[cluster] + blur * rng.normal(size=(len(cluster), d))).astype(np.float32) for site, X in centres.items()
    }
    texts = [" ".join(words) for words in sentences(rng, n_clusters, 8)]
    seen: dict[int, int] = {}
    marked = []
    for c in cluster.tolist():
        seen[c] = seen.get(c, -1) + 1
        marked.append(texts[c] + ".!?;"[seen[c] % 4])
    return Planted(
        about=f"{n_clusters} rows with {copies} near-copies each (blur {blur:g}), "
        f"{'kept together' if grouped else 'split'} by the folds; effect {effect:g}",
        activations=activations,
        labels=labelled(
            y[cluster],
            groups=np.array([f"original {c}" for c in cluster], dtype=object) if grouped else None,
            texts=marked if with_texts else None,
        ),
        truth={"decodable": SUPPORTED if effect and grouped else NOT_SUPPORTED},
        family=family_for("binary"),
    )


def typed_concept(
    seed: int,
    *,
    how: str = "context",
    effect: float = 3.0,
    apart: float = 3.0,
    n_types: int = 100,
    n: int = 600,
    d: int = 32,
    n_layers: int = 2,
) -> Planted:
    """Rows have a type that the activations know, as occurrences have their word.

    Parameters
    ----------
    how : `"context"`, the label varies within a type and stands along one direction; `"linear"`, the label is the
        type's, and all types of a class share a direction; `"arbitrary"`, the label is a random function of the type,
        with nothing in common; `"unique"`, as `"context"`, but no type recurs.
    apart : how far the types' means lie from their common one.
    """
    rng = np.random.default_rng([seed, 124])
    kind = np.arange(n) if how == "unique" else rng.permutation(np.arange(n) % n_types)
    means = apart * rng.normal(size=(kind.max() + 1, d)) / np.sqrt(d)
    y = binary_labels(rng, n) if how in ("context", "unique") else binary_labels(rng, n_types)[kind]
    signal = means[kind]
    if how != "arbitrary":
        signal = signal + effect * (y[:, None] - 0.5) * directions(rng, d, 1)
    truth = {"unique": NOT_TESTED, "arbitrary": NOT_SUPPORTED}.get(how, SUPPORTED)
    return Planted(
        about=f"{len(means)} types that lie {apart:g} apart; {how} label"
        + ("" if how == "arbitrary" else f", effect {effect:g}"),
        activations=stream(rng, signal, n=n, d=d, n_layers=n_layers),
        labels=labelled(y, types=np.array([f"type {t}" for t in kind], dtype=object)),
        truth={"selective": truth},
        family=family_for("binary"),
        measures=("control_task",),
    )
