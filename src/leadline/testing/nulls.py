"""Families of data on which a claim is false by construction, drawn by the hundred for the rate of false `supported`.

Each is small, so that a draw costs some tens of milliseconds; each breaks, in its own way, something that a careless
judgement leans on: independent rows, balanced classes, light tails, more rows than dimensions, folds that separate what
they test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from leadline.testing.planted import (
    Planted,
    domains,
    equal_surface,
    group_is_label,
    group_offsets,
    group_signs,
    linear_concept,
    memorising_probe,
    near_duplicates,
    nothing,
    pairs_apart,
    rare_class,
    surface_length,
    surface_word,
    typed_concept,
)

__all__ = ["NULLS", "Null"]


@dataclass(frozen=True)
class Null:
    """A null family.

    Attributes
    ----------
    name : as the tables have it. claim : what is false here. about : why one might claim it all the same.
    draw : from a seed to data. partial : the surface is not the label itself, and says as much as the layers do.
    """

    name: str
    claim: str
    about: str
    draw: Callable[[int], Planted]
    partial: bool = False


def _bow(seed: int, n_words: int, flipped: float) -> Planted:
    return surface_word(
        seed, n_words=n_words, flipped=flipped, n=160, d=16, n_layers=2, n_others=3, text_controls=("bag_of_words",)
    )


NULLS: tuple[Null, ...] = (
    Null("noise", "decodable", "independent noise", lambda s: nothing(s, n=160, d=16, n_layers=3, kept=0.0)),
    Null("correlated sites", "decodable", "8 sites", lambda s: nothing(s, n=160, d=16, n_layers=8, kept=0.9)),
    Null("multiclass", "decodable", "4 classes", lambda s: nothing(s, kind="multiclass", n=160, d=16, n_layers=2)),
    Null("ordinal", "decodable", "4 levels", lambda s: nothing(s, kind="ordinal", n=160, d=16, n_layers=2)),
    Null("continuous", "decodable", "numbers", lambda s: nothing(s, kind="continuous", n=160, d=16, n_layers=2)),
    Null(
        "rare class",
        "decodable",
        "15 positives of 300",
        lambda s: rare_class(s, effect=0, share=0.05, n=300, n_layers=2),
    ),
    Null("wide", "decodable", "d much larger than n", lambda s: memorising_probe(s, n=80, d=256, n_layers=2)),
    Null(
        "heavy tails",
        "decodable",
        "Student's t and an outlier dimension",
        lambda s: nothing(s, n=160, d=16, n_layers=2, tails=True),
    ),
    Null(
        "groups apart",
        "decodable",
        "labels vary within groups that lie far apart",
        lambda s: group_offsets(s, effect=0, n=160, d=16, n_groups=16, n_layers=2),
    ),
    Null(
        "groups uneven",
        "decodable",
        "labels vary within groups, the largest of which holds a quarter of the rows",
        lambda s: group_offsets(s, effect=0, n=200, d=16, n_groups=30, n_layers=2, uneven=True, n_folds=3),
    ),
    Null(
        "group labels",
        "decodable",
        "the label is that of one of 40 groups",
        lambda s: group_is_label(s, n_groups=40, n=200, d=16, n_layers=2),
    ),
    Null(
        "few group labels",
        "decodable",
        "the label is that of one of 12 groups",
        lambda s: group_is_label(s, n_groups=12, n=192, d=16, n_layers=2, n_folds=3),
    ),
    Null(
        "uneven group labels",
        "decodable",
        "the label is that of one of 24 groups of very different sizes",
        lambda s: group_is_label(s, n_groups=24, n=240, d=16, n_layers=2, uneven=True, n_folds=4),
    ),
    Null(
        "group values",
        "decodable",
        "the number is that of one of 25 groups",
        lambda s: group_is_label(s, kind="continuous", n_groups=25, n=200, d=16, n_layers=2),
    ),
    Null(
        "group labels split",
        "decodable",
        "the label is that of one of 12 groups, which the folds split; a column names them",
        lambda s: group_is_label(s, n_groups=12, n=180, d=16, n_layers=2, grouped=False),
    ),
    Null(
        "near-duplicates",
        "decodable",
        "rows come in fours, which the folds split; no text",
        lambda s: near_duplicates(s, n_clusters=45, d=16, n_layers=2, with_texts=False),
    ),
    Null(
        "near-duplicate texts",
        "decodable",
        "rows come in twos, which the folds split; texts differ by a mark",
        lambda s: near_duplicates(s, n_clusters=90, copies=2, d=16, n_layers=2),
    ),
    Null("surface word", "beyond surface", "a word is the label", lambda s: _bow(s, 1, 0.0)),
    Null("surface words", "beyond surface", "8 words a class are the label", lambda s: _bow(s, 8, 0.0)),
    Null(
        "noisy surface",
        "beyond surface",
        "a word is the label but in a fifth of the rows",
        lambda s: _bow(s, 1, 0.2),
        partial=True,
    ),
    Null(
        "surface length",
        "beyond surface",
        "the length is the target",
        lambda s: surface_length(s, kind="continuous", n=160, d=16, n_layers=2, text_controls=("length",)),
    ),
    Null(
        "pairs apart",
        "beyond surface",
        "texts of opposite labels share words, and folds split them",
        lambda s: pairs_apart(s, n_pairs=80, d=16, n_layers=2, text_controls=("bag_of_words",)),
    ),
    Null(
        "equal surface, 10 groups",
        "beyond surface",
        "a surface source says as much, more or less by group, in 10 groups",
        lambda s: equal_surface(s, n_groups=10),
        partial=True,
    ),
    Null(
        "equal surface, 15 groups",
        "beyond surface",
        "the same in 15 groups",
        lambda s: equal_surface(s, n_groups=15),
        partial=True,
    ),
    Null(
        "type is label",
        "selective",
        "the label is a random function of the type",
        lambda s: typed_concept(s, how="arbitrary", n_types=24, n=192, d=16, n_layers=1),
    ),
    Null(
        "concept gone",
        "general",
        "the concept means nothing on the shifted set",
        lambda s: domains(s, relations=("gone",), n=160, n_other=160, d=16, n_layers=2),
    ),
    Null(
        "concept flipped",
        "general",
        "the concept means the opposite on one of two shifted sets",
        lambda s: domains(s, relations=("same", "flipped"), n=160, n_other=160, d=16, n_layers=2),
    ),
    Null(
        "signs by group, 6",
        "general",
        "on the shifted set the concept turns round in some of 6 groups, at random",
        lambda s: group_signs(s, n_groups=6),
    ),
    Null(
        "signs by group, 12",
        "general",
        "the same with 12 groups",
        lambda s: group_signs(s, n_groups=12),
    ),
    Null(
        "at the margin",
        "decodable",
        "no probe can pass the margin: AUROC .55 at best",
        lambda s: linear_concept(s, effect=0.1777, n=160, d=16, n_layers=2, first=0),
    ),
)
