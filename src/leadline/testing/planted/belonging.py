"""Rows that belong together: groups, near-duplicates, and types that recur."""

from __future__ import annotations

import numpy as np

from leadline.testing.planted.record import (
    NOT_SUPPORTED,
    NOT_TESTED,
    SUPPORTED,
    WORDS,
    Planted,
    binary_labels,
    directions,
    family_for,
    labelled,
    sentences,
    stream,
    targets,
)

__all__ = ["group_is_label", "group_offsets", "near_duplicates", "recurring_words", "typed_concept"]


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
    grouped: bool = True,
    n_folds: int = 5,
) -> Planted:
    """Groups lie far apart, labels vary within them; with an effect, all share one concept.

    Where the folds do not know the groups, a column names them all the same: they give nothing away.
    """
    rng = np.random.default_rng([seed, 122])
    group = np.repeat(np.arange(n_groups), _sizes(rng, n_groups, n, uneven))
    group = group[rng.permutation(len(group))]
    y = binary_labels(rng, len(group))
    means = apart * rng.normal(size=(n_groups, d)) / np.sqrt(d)
    names = np.array([f"topic {g}" for g in group], dtype=object)
    signal = means[group] + effect * (y[:, None] - 0.5) * directions(rng, d, 1)
    return Planted(
        about=f"{n_groups} groups that lie {apart:g} apart, labels vary within them; effect {effect:g}",
        activations=stream(rng, signal, n=len(group), d=d, n_layers=n_layers),
        labels=labelled(y, groups=names if grouped else None, candidates=None if grouped else {"topic": names}),
        truth={"decodable": SUPPORTED if effect else NOT_SUPPORTED},
        family=family_for("binary"),
        n_folds=n_folds,
    )


def near_duplicates(
    seed: int,
    *,
    n_clusters: int = 75,
    copies: int = 4,
    n_single: int = 0,
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
    n_single : further rows without a copy. effect : of a concept beside it.
    blur : how far copies lie from each other, as a share of the distance between unrelated rows.
    grouped : whether the folds keep the copies together.
    with_texts : give texts, which are the same but for their last mark.
    """
    rng = np.random.default_rng([seed, 123])
    n_originals = n_clusters + n_single
    cluster = rng.permutation(np.append(np.repeat(np.arange(n_clusters), copies), np.arange(n_clusters, n_originals)))
    y = binary_labels(rng, n_originals)
    signal = effect * (y[:, None] - 0.5) * directions(rng, d, 1)
    centres = stream(rng, signal, n=n_originals, d=d, n_layers=n_layers)
    activations = {
        site: (X[cluster] + blur * rng.normal(size=(len(cluster), d))).astype(np.float32) for site, X in centres.items()
    }
    texts = [" ".join(words) for words in sentences(rng, n_originals, 8)]
    seen: dict[int, int] = {}
    marked = []
    for c in cluster.tolist():
        seen[c] = seen.get(c, -1) + 1
        marked.append(texts[c] + ".!?;"[seen[c] % 4])
    few = n_clusters * copies < 0.05 * len(cluster)
    return Planted(
        about=f"{n_clusters} of {n_originals} rows stand there {copies} times (blur {blur:g}), "
        f"{'kept together' if grouped else 'split'} by the folds; effect {effect:g}",
        activations=activations,
        labels=labelled(
            y[cluster],
            groups=np.array([f"original {c}" for c in cluster], dtype=object) if grouped else None,
            texts=marked if with_texts else None,
        ),
        # Few copies cannot carry a verdict.
        truth={"decodable": SUPPORTED if effect and (grouped or few) else NOT_SUPPORTED},
        family=family_for("binary"),
    )


def recurring_words(
    seed: int, *, n_words: int = 75, n: int = 300, d: int = 32, n_layers: int = 2, sharpness: float = 100.0
) -> Planted:
    """Texts differ, but end in one of a few words, at which the activations hold that word, a concept and little else.

    Rows with a word and a label in common then lie as close as copies would; what makes them close is the concept, and
    no row of them was copied.

    Parameters
    ----------
    sharpness : the distance of the words, and of the classes, in standard deviations of all else.
    """
    rng = np.random.default_rng([seed, 125])
    word = rng.permutation(np.arange(n) % n_words)
    y = binary_labels(rng, n)
    means = sharpness * rng.normal(size=(n_words, d)) / np.sqrt(d)
    signal = means[word] + sharpness * (y[:, None] - 0.5) * directions(rng, d, 1)
    texts = [" ".join([*words, WORDS[-1 - w]]) for words, w in zip(sentences(rng, n, 8), word, strict=True)]
    return Planted(
        about=f"{n_words} words end {n} texts; word and concept stand {sharpness:g} apart, all else is small",
        activations=stream(rng, signal, n=n, d=d, n_layers=n_layers),
        labels=labelled(y, texts=texts),
        truth={"decodable": SUPPORTED},
        family=family_for("binary"),
    )


def typed_concept(
    seed: int,
    *,
    how: str = "context",
    kind: str = "binary",
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
    type_of = np.arange(n) if how == "unique" else rng.permutation(np.arange(n) % n_types)
    means = apart * rng.normal(size=(type_of.max() + 1, d)) / np.sqrt(d)
    by_row = how in ("context", "unique")
    Y, place = targets(rng, kind, n if by_row else n_types)
    if not by_row:
        Y, place = Y[type_of], place[type_of]
    signal = means[type_of]
    if how != "arbitrary":
        signal = signal + effect * place @ directions(rng, d, place.shape[1])
    truth = {"unique": NOT_TESTED, "arbitrary": NOT_SUPPORTED}.get(how, SUPPORTED)
    return Planted(
        about=f"{len(means)} types that lie {apart:g} apart; {how} {kind} label"
        + ("" if how == "arbitrary" else f", effect {effect:g}"),
        activations=stream(rng, signal, n=n, d=d, n_layers=n_layers),
        labels=labelled(Y, kind, types=np.array([f"type {t}" for t in type_of], dtype=object)),
        truth={"selective": truth},
        family=family_for(kind),
        measures=("control_task",),
    )
