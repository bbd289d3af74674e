"""What every verb prints with: text and tables for a person, JSON for a script, complaints on stderr."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["complain", "json_text", "megabytes", "plain", "print_json", "print_table", "print_text"]

# A data set's text may hold anything; nothing in it may steer the terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(text: object, limit: int | None = None) -> str:
    """Text that is safe to show: on one line if cut to `limit` characters, control characters as `\\x1b`."""
    shown = str(text)
    if limit is not None:
        shown = " ".join(shown.split())
        shown = shown if len(shown) <= limit else shown[: limit - 1] + "…"
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), shown)


def print_text(text: str = "", style: str | None = None) -> None:
    """A paragraph on stdout; styled on a terminal, never cut or wrapped elsewhere."""
    Console(highlight=False, soft_wrap=True).print(Text(plain(text), style=style or ""))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """A table on stdout; None is a dash, and the columns in `right` are set to the right."""
    cells = [[("–" if value is None else plain(value)) for value in row] for row in rows]
    # Away from a terminal a table is as wide as it needs to be: lines broken at 80 are of no use to grep.
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")


def print_json(value: object) -> None:
    """One JSON value on stdout; figures that are no numbers are null."""
    sys.stdout.write(json_text(value))


def json_text(value: object) -> str:
    """The same as text, for a file."""
    return json.dumps(_jsonable(value), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def complain(message: str) -> None:
    """An error on stderr."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), plain(message)))


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return _jsonable(asdict(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, Path):
        return str(value)
    # numpy scalars and arrays know their Python values.
    if hasattr(value, "tolist"):
        return _jsonable(value.tolist())
    return str(value)


def megabytes(size: int) -> str:
    """A size on disk or in memory: `98 MB`, `1.2 GB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
