"""The report: one offline HTML file that says what a study found, what it did not, and how sure that is.

In: `Results` (the schema that `study` writes), nothing else. Three steps: `summary` computes what is said, typed and
unescaped; `figures` draws Plotly figures from it; `html` and `markdown` lay it out. The report must not know models,
activations, probes or how a figure was computed, and it imports no torch.
"""

from __future__ import annotations

from leadline.report.html import render_html
from leadline.report.markdown import render_markdown
from leadline.report.summary import Summary, summarise
from leadline.report.write import write_report

__all__ = ["Summary", "render_html", "render_markdown", "summarise", "write_report"]
