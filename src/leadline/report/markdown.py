"""The report's first screen and tables as Markdown, from the same summary: for an issue or a notebook."""

from __future__ import annotations

import re
from dataclasses import replace

from leadline.report.causal import CausalSummary
from leadline.report.summary import Summary, TargetSummary, summarise
from leadline.report.tables import Table, texts
from leadline.report.wording import plural, shorten
from leadline.study.results import Results

__all__ = ["render_markdown"]

# Components in the table; results.json has them all.
_COMPONENTS = 8


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
    if target.causal is not None:
        lines += _causal(target.causal)
    for test in target.tests:
        lines += [f"### On {_text(test.name)}, {plural(test.n_rows, 'row')}", "", *_table(test.metrics)]
        lines += [f"{_text(r)}\n" for r in (*test.remarks, *([test.note] if test.note else []))]
    return lines


def _causal(found: CausalSummary) -> list[str]:
    lines = ["### Does the model act on it?", "", *(f"- {k}: {_text(v)}" for k, v in found.facts), ""]
    if found.behaviour_reason:
        lines += [f"No behaviour was measured: {_text(found.behaviour_reason)}", ""]
    if found.effects is not None:
        lines += _table(found.effects.table)
    if found.doses is not None and found.doses.note:
        lines += [_text(found.doses.note), ""]
    if found.where_from_reason:
        lines += [f"No score was decomposed: {_text(found.where_from_reason)}", ""]
    if found.bars is not None:
        table = found.bars.table
        lines += [_text(found.bars.note), "", *_table(replace(table, rows=table.rows[:_COMPONENTS]))]
    taken = [f"- **{_text(m.title)}.** {_text(m.sentence)}" for m in found.measures if m.sentence and not m.reason]
    return [*lines, *taken, *([""] if taken else [])]


def _table(table: Table) -> list[str]:
    head = [f"| {' | '.join(_text(c) for c in table.columns)} |", "|" + "---|" * len(table.columns)]
    return [*head, *(f"| {' | '.join(_text(t) for t in texts(row))} |" for row in table.rows), ""]


def _text(text: str) -> str:
    """Text that Markdown and the HTML inside it leave alone, on one line."""
    return re.sub(r"([\\`*_\[\]|<>&#!$~])", r"\\\1", shorten(text, 400))


def _footer(summary: Summary) -> str:
    return f"Leadline {_text(summary.leadline_version)}, results schema {_text(summary.schema_version)}."
