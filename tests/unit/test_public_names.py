"""The public face: every name is there, is what it says, and is listed once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import leadline


@pytest.mark.parametrize("name", leadline.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(leadline, name)
    assert name in dir(leadline)
    # `leadline.sweep` must be the function and never a module of that name.
    assert isinstance(value, str) or callable(value)


def test_what_a_type_checker_sees_is_what_is_loaded() -> None:
    tree = ast.parse(Path(str(leadline.__file__)).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == leadline._HOMES
    assert sorted([*seen, "__version__"]) == sorted(leadline.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'load_modle'"):
        leadline.load_modle  # noqa: B018


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert leadline.__version__ == version("leadline")
