"""Data with known answers: activations, labels and texts in which a truth was planted, or of which it was kept out.

A function takes a seed and the size of the effect and gives a `Planted`: arrays, labels, and the verdicts that are
right. Sizes are stated in standard deviations of the noise. Nothing here reads a model or a file.
"""

from leadline.testing.planted.belonging import (
    group_is_label,
    group_offsets,
    near_duplicates,
    recurring_words,
    typed_concept,
)
from leadline.testing.planted.concepts import (
    linear_concept,
    memorising_probe,
    nothing,
    rare_class,
    two_directions,
    xor,
)
from leadline.testing.planted.domains import domains, simplified
from leadline.testing.planted.few_groups import equal_surface, group_signs
from leadline.testing.planted.record import Planted
from leadline.testing.planted.surfaces import (
    beyond_surface,
    pairs_apart,
    surface_length,
    surface_spelling,
    surface_word,
)

__all__ = [
    "Planted",
    "beyond_surface",
    "domains",
    "equal_surface",
    "group_is_label",
    "group_offsets",
    "group_signs",
    "linear_concept",
    "memorising_probe",
    "near_duplicates",
    "nothing",
    "pairs_apart",
    "rare_class",
    "recurring_words",
    "simplified",
    "surface_length",
    "surface_spelling",
    "surface_word",
    "two_directions",
    "typed_concept",
    "xor",
]
