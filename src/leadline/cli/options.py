"""Options that several verbs share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter

__all__ = ["COMMON", "AsJson", "Common", "Overwrite"]

_COMMON = Group("Common options", sort_key=9)

AsJson = Annotated[bool, Parameter(name="--json", help="Print JSON on stdout, for a script.")]
Overwrite = Annotated[bool, Parameter(help="Replace what stands in the folder instead of going on from it.")]


@Parameter(name="*", group=_COMMON)
@dataclass(frozen=True)
class Common:
    """What every verb takes."""

    quiet: bool = False
    """No progress on stderr; warnings and errors only."""
    debug: bool = False
    """Show the traceback of an error."""


COMMON = Common()
