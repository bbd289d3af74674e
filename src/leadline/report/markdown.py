"""The report's first screen and tables as Markdown, from the same summary: for an issue or a notebook."""

from __future__ import annotations

import re

from leadline.report.summary import Summary, TargetSummary, summarise
from leadline.report.tables import Table, texts
from leadline.report.wording import plural, shorten
from leadline.study.results import Results

__all__ = ["render_markdown"]


def render_markdown(results: Results) -> str:
    """The report of a study's results as Markdown, without figures."""
    summary = summarise(results)
    lines = [
        f"# {_text(summary.name)}",
        "",
        " · ".join(f"{k}: {_text(v)} ({_text(d)})" for k, v, d in summary.facts),
        "",
    ]
    if summary.warnings:
        lines += [f"> **{_text(w.title)}.** {_text(w.message)}" for w in summary.warnings] + [""]
    for target in summary.targets:
        lines += _target(target)
    lines += ["## How it was made", "", *(f"{_text(m)}\n" for m in summary.methods)]
    lines += ["```yaml", *summary.study_yaml.replace("```", "'''").splitlines(), "```", "", f"`{summary.command}`", ""]
    return "\n".join([*lines, _footer(summary)]) + "\n"


def _target(target: TargetSummary) -> list[str]:
    lines = [f"## {_text(target.finding)}", "", " ".join(_text(s) for s in target.how_sure), ""]
    lines += [_text(target.caution), ""] if target.caution else []
    lines += ["| claim | verdict | |", "|---|---|---|"]
    lines += [f"| {c.claim} | **{c.verdict}** | {_text(c.sentence)} |" for c in target.claims]
    lines += ["", *_table(target.chosen)]
    if target.controls:
        lines += [f"| control | {_text(target.metric_title)} | gain | p |", "|---|---|---|---|"]
        lines += [f"| {_text(c.title)} | {c.quantity.full} | {c.gain.full} | {c.p_text} |" for c in target.controls]
        lines += [""]
    taken = [m for m in target.measures if not m.reason]
    if taken:
        lines += ["### Further evidence", ""]
        lines += [f"- **{_text(m.title)}.** {_text(m.sentence)}" for m in taken if m.sentence]
        lines += [""]
    for test in target.tests:
        lines += [f"### On {_text(test.name)}, {plural(test.n_rows, 'row')}", "", *_table(test.metrics)]
        lines += [f"{_text(r)}\n" for r in (*test.remarks, *([test.note] if test.note else []))]
    return lines


def _table(table: Table) -> list[str]:
    head = [f"| {' | '.join(_text(c) for c in table.columns)} |", "|" + "---|" * len(table.columns)]
    return [*head, *(f"| {' | '.join(_text(t) for t in texts(row))} |" for row in table.rows), ""]


def _text(text: str) -> str:
    """Text that Markdown and the HTML inside it leave alone, on one line."""
    return re.sub(r"([\\`*_\[\]|<>&#!$~])", r"\\\1", shorten(text, 400))


def _footer(summary: Summary) -> str:
    return f"Leadline {_text(summary.leadline_version)}, results schema {_text(summary.schema_version)}."
