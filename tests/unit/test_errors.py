"""The error tree: one base, one exit code, and the nearest name."""

from __future__ import annotations

import pytest

from leadline import errors
from leadline.errors import LeadlineError, did_you_mean

TREE = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_every_error_is_the_users_to_mend(kind: type[LeadlineError]) -> None:
    assert issubclass(kind, LeadlineError)
    assert kind("why").exit_code == 2
    assert str(kind("why")) == "why"


def test_every_class_of_the_tree_is_public() -> None:
    classes = {x.__name__ for x in vars(errors).values() if isinstance(x, type) and issubclass(x, LeadlineError)}
    assert classes == {kind.__name__ for kind in TREE}


def test_a_damaged_store_is_an_activations_error_and_a_disproved_model_a_model_error() -> None:
    assert issubclass(errors.StoreError, errors.ActivationsError)
    assert issubclass(errors.ArchitectureError, errors.ModelError)


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("targt", ["text", "target"], " Did you mean 'target'?"),
        ("resid_pots", ["embed", "resid_post", "resid_pre"], " Did you mean 'resid_post'?"),
        ("zzz", ["text", "target"], ""),
        ("x", [], ""),
    ],
)
def test_the_nearest_name(name: str, known: list[str], expected: str) -> None:
    assert did_you_mean(name, known) == expected


def test_the_nearest_of_a_one_way_iterable() -> None:
    assert did_you_mean("tex", (x for x in ("text", "target"))) == " Did you mean 'text'?"
