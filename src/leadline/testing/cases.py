"""The planted cases of `leadline bench evidence`: each truth at stated sizes, each with the verdicts that are right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from leadline.testing.planted import (
    Planted,
    beyond_surface,
    domains,
    group_is_label,
    group_offsets,
    linear_concept,
    memorising_probe,
    near_duplicates,
    nothing,
    pairs_apart,
    rare_class,
    recurring_words,
    simplified,
    surface_length,
    surface_spelling,
    surface_word,
    two_directions,
    typed_concept,
    xor,
)

__all__ = ["CASES", "Case"]


@dataclass(frozen=True)
class Case:
    """A planted case: its name, and from a seed its data with the truth."""

    name: str
    make: Callable[[int], Planted]


def _model(name: str) -> Callable[[int], Planted]:
    # Transformers are loaded only where a case of theirs is run.
    def make(seed: int) -> Planted:
        from leadline.testing import planted_models

        planted: Planted = getattr(planted_models, name)(seed)
        return planted

    return make


CASES: tuple[Case, ...] = (
    # A linear concept from layer k on.
    Case("linear, d' 3, from layer 3", lambda s: linear_concept(s, effect=3.0)),
    Case("linear, d' 1.2, from layer 2", lambda s: linear_concept(s, effect=1.2, n=600, first=2)),
    Case("linear, d' 2, from layer 0", lambda s: linear_concept(s, effect=2.0, first=0)),
    Case("linear, d' 2, last layer of 10", lambda s: linear_concept(s, effect=2.0, n_layers=10, first=9)),
    Case("linear, heavy tails", lambda s: linear_concept(s, effect=3.0, tails=True)),
    Case("linear numbers, R² .69", lambda s: linear_concept(s, kind="continuous", effect=1.5)),
    Case("linear numbers, two columns", lambda s: linear_concept(s, kind="continuous", effect=1.0, n_columns=2, n=400)),
    Case("linear, 4 classes", lambda s: linear_concept(s, kind="multiclass", effect=2.5, n=400)),
    Case("linear, 5 levels", lambda s: linear_concept(s, kind="ordinal", effect=1.0, n_classes=5, n=400)),
    Case("linear, a fifth of labels wrong", lambda s: linear_concept(s, effect=3.0, n=600, wrong=0.2)),
    Case("two directions, d' 3 each", lambda s: two_directions(s)),
    Case("two directions, d' 2 each", lambda s: two_directions(s, effect=2.0, n=800)),
    # Nothing.
    Case("nothing", lambda s: nothing(s)),
    Case("nothing, 3,000 rows", lambda s: nothing(s, n=3000, d=16, n_layers=2, refuted=True)),
    Case("nothing, numbers", lambda s: nothing(s, kind="continuous", refuted=True)),
    Case("nothing, 4 classes", lambda s: nothing(s, kind="multiclass")),
    Case("nothing, 4 levels", lambda s: nothing(s, kind="ordinal")),
    Case("nothing, 12 layers, heavy tails", lambda s: nothing(s, n_layers=12, tails=True)),
    # A surface that is the label.
    Case("surface: one word", lambda s: surface_word(s)),
    Case("surface: one word, weak in activations", lambda s: surface_word(s, effect=1.0)),
    Case("surface: 10 words a class", lambda s: surface_word(s, n_words=10, n=400)),
    Case("surface: one word, 15% turned", lambda s: surface_word(s, flipped=0.15)),
    Case("surface: a word for each of 4 classes", lambda s: surface_word(s, n_classes=4)),
    Case("surface: long or short", lambda s: surface_length(s)),
    Case("surface: length", lambda s: surface_length(s, kind="continuous")),
    Case("surface: spelling", lambda s: surface_spelling(s)),
    # A surface that says a part, or nothing.
    Case("beyond a word of 75%", lambda s: beyond_surface(s)),
    Case("beyond a word of 50%", lambda s: beyond_surface(s, agreement=0.5, effect=2.0)),
    Case("beyond a word of 65%, numbers", lambda s: beyond_surface(s, kind="continuous", agreement=0.65, effect=1.5)),
    Case("pairs torn apart", lambda s: pairs_apart(s)),
    # A group that is the label.
    Case("group is label, kept whole", lambda s: group_is_label(s, n_groups=20, n=400)),
    Case("group is label, split", lambda s: group_is_label(s, n_groups=20, n=400, grouped=False)),
    Case("group is label, split, 8 groups", lambda s: group_is_label(s, n_groups=8, n=400, grouped=False)),
    Case("group is label, shared concept", lambda s: group_is_label(s, n_groups=40, n=400, effect=4.0, apart=2.0)),
    Case("groups far apart, one concept", lambda s: group_offsets(s)),
    Case("groups far apart, one concept, split", lambda s: group_offsets(s, grouped=False)),
    # Exclusive or.
    Case("XOR, d' 4", lambda s: xor(s)),
    Case("XOR, d' 6, d 16", lambda s: xor(s, effect=6.0, d=16, n=800)),
    # Domains.
    Case("domains: flips", lambda s: domains(s, relations=("flipped",))),
    Case("domains: holds", lambda s: domains(s, relations=("same",))),
    Case("domains: gone", lambda s: domains(s, relations=("gone",))),
    Case("domains: holds in one, flips in one", lambda s: domains(s, relations=("same", "flipped"))),
    Case("domains: holds in both, numbers", lambda s: domains(s, relations=("same", "same"), kind="continuous")),
    Case("domains: holds, 4 classes", lambda s: domains(s, kind="multiclass", effect=4.0)),
    Case("domains: gone, 4 levels", lambda s: domains(s, relations=("gone",), kind="ordinal", effect=1.5)),
    # A rare class.
    Case("rare class, 2%, d' 3", lambda s: rare_class(s)),
    Case("rare class, 2%, d' 2, 4,000 rows", lambda s: rare_class(s, effect=2.0, n=4000)),
    Case("rare class, 2%, nothing", lambda s: rare_class(s, effect=0.0)),
    # A memorising probe.
    Case("d 512, 100 rows, nothing", lambda s: memorising_probe(s)),
    Case("d 512, 150 rows, d' 6", lambda s: memorising_probe(s, effect=6.0, n=150)),
    # Near-duplicates.
    Case("near-duplicates split", lambda s: near_duplicates(s)),
    Case("near-duplicates split, no texts", lambda s: near_duplicates(s, with_texts=False)),
    Case("near-duplicates kept together, d' 4", lambda s: near_duplicates(s, effect=4.0, grouped=True)),
    Case("near-duplicates kept together, nothing", lambda s: near_duplicates(s, grouped=True)),
    Case(
        "near-duplicates, a few, d' 3",
        lambda s: near_duplicates(s, n_clusters=5, copies=2, n_single=290, effect=3.0),
    ),
    Case("few words at the end, a sharp concept", lambda s: recurring_words(s)),
    # Simplified representations.
    Case("full representation", lambda s: simplified(s)),
    Case("simplified: 2 components", lambda s: simplified(s, how="components")),
    Case("simplified: 6 clusters", lambda s: simplified(s, how="clusters", size=6)),
    # Types and control tasks.
    Case("types: the context decides", lambda s: typed_concept(s)),
    Case("types: a property of words", lambda s: typed_concept(s, how="linear", n_types=200, n=800)),
    Case("types: a random function of the word", lambda s: typed_concept(s, how="arbitrary", n_types=24, n=400)),
    Case("types: the context decides a number", lambda s: typed_concept(s, kind="continuous", effect=2.0)),
    Case("types: the context decides 4 classes", lambda s: typed_concept(s, kind="multiclass", effect=5.0)),
    Case("types: none recurs", lambda s: typed_concept(s, how="unique", n=300)),
    # Transformers with hand-set weights.
    Case("model: linear from layer 2", _model("copied_concept")),
    Case("model: nothing", _model("copied_nothing")),
    Case("model: XOR before the MLP", _model("xor_before_mlp")),
    Case("model: XOR, linear after the MLP", _model("xor_after_mlp")),
    Case("model: surface word", _model("surface_word_model")),
)
