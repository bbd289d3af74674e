"""`leadline report`: write a run's report again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from leadline.cli.options import COMMON, AsJson, Common
from leadline.cli.output import print_json, print_text

__all__ = ["EXAMPLES", "command"]

EXAMPLES = """
- `leadline report runs/demo`
- `leadline report runs/demo --out demo.html`
"""


def command(
    run: Annotated[Path, Parameter(help="A run's folder, or its results.json.")],
    /,
    *,
    out: Path | None = None,
    as_json: AsJson = False,
    common: Common = COMMON,
) -> int:
    """Write a run's report again, from its results alone; no model is needed.

    Parameters
    ----------
    out
        The HTML file; by default `report.html` in the run's folder.
    """
    from leadline.report import write_report

    written = write_report(run, out)
    if as_json:
        print_json({"report": str(written)})
    else:
        print_text(str(written))
    return 0
