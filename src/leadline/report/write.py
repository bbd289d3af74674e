"""The report as a file."""

from __future__ import annotations

from pathlib import Path

from leadline.errors import ConfigError
from leadline.files import ensure_folder, write_atomic
from leadline.report.html import render_html
from leadline.study.results import Results

__all__ = ["write_report"]


def write_report(source: str | Path | Results, path: str | Path | None = None) -> Path:
    """Write a study's report, whole or not at all.

    Parameters
    ----------
    source : a run's folder, its results.json, or the results themselves.
    path : the file to write, or an existing folder for `report.html`; by default `report.html` beside results.json.

    Returns
    -------
    Path : the file that was written.

    Raises
    ------
    ConfigError : no results there, or results without a file and no `path` to write to.
    OutputError : the file cannot be written.
    """
    if isinstance(source, Results):
        results = source
        if path is None:
            raise ConfigError("results in memory have no folder of their own; give write_report a path as well.")
        target = Path(path)
    else:
        results = Results.read(source)
        given = Path(source)
        folder = given if given.is_dir() else given.parent
        target = Path(path) if path is not None else folder / "report.html"
    if target.is_dir():
        target = target / "report.html"
    ensure_folder(target.parent)
    # JSON may hold lone surrogates, which UTF-8 does not; they become question marks.
    write_atomic(target, render_html(results).encode("utf-8", "replace"))
    return target
