"""The report as one HTML file that needs nothing else: style, scripts, figures and their data are inside.

Templates escape everything (`autoescape=True`); what is inserted unescaped is this package's own style and scripts,
and figure JSON in which `<`, `>` and `&` are written as escapes. A content security policy names the page's own
scripts by their sums and forbids every connection, so that text from a data set cannot run or call out even if an
escape were missing.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import jinja2
from markupsafe import Markup

from leadline.report import palette
from leadline.report.causal import CausalSummary
from leadline.report.causal_figures import draw_doses, draw_effects
from leadline.report.causal_maps import draw_bars, draw_heat
from leadline.report.curves import LayerCurve
from leadline.report.figures import Drawing, LegendEntry, draw_curve, draw_histogram, draw_points, figure_json
from leadline.report.summary import Summary, TargetSummary, summarise
from leadline.report.tables import Table, curve_table, histogram_table
from leadline.report.wording import count, number, plural, shorten
from leadline.study.results import Results

__all__ = ["FigureView", "TargetView", "render_html", "render_summary"]


@dataclass(frozen=True)
class FigureView:
    """A figure on the page: its JSON, legend, text alternative, and its values as a table.

    `table` is None where a table would have thousands of rows; the page then builds it from the JSON when it is opened.
    """

    key: str
    kind: str
    title: str
    description: str
    json: Markup
    legend: tuple[LegendEntry, ...]
    height: int
    table: Table | None
    note: str = ""


@dataclass(frozen=True)
class CausalView:
    """The figures of interventions, drawn."""

    effects: FigureView | None
    doses: FigureView | None
    bars: FigureView | None
    heads: FigureView | None
    maps: tuple[FigureView, ...]


@dataclass(frozen=True)
class TargetView:
    """A target with its figures drawn."""

    summary: TargetSummary
    curves: tuple[FigureView, ...]
    histogram: FigureView | None
    points: tuple[FigureView, ...]
    transfers: tuple[FigureView | None, ...]
    causal: CausalView | None


def render_html(results: Results) -> str:
    """The report of a study's results, as the text of one HTML file.

    Parameters
    ----------
    results : what `leadline run` wrote to results.json.
    """
    return render_summary(summarise(results))


def render_summary(summary: Summary) -> str:
    """Lay a summary out as HTML."""
    scripts = {name: _asset(name) for name in ("theme.js", "plotly-cartesian.min.js", "report.js")}
    sums = " ".join(f"'sha256-{_sum(text)}'" for text in scripts.values())
    policy = (
        f"default-src 'none'; script-src {sums}; style-src 'unsafe-inline'; img-src data: blob:; "
        f"base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            summary=summary,
            targets=[_target(t) for t in summary.targets],
            policy=policy,
            style=Markup(palette.style() + _asset("report.css")),
            theme_script=Markup(scripts["theme.js"]),
            plotly_script=Markup(scripts["plotly-cartesian.min.js"]),
            report_script=Markup(scripts["report.js"]),
            dark_of=palette.dark_of(),
        )
    )


def _target(target: TargetSummary) -> TargetView:
    key = target.key
    points = tuple(
        _view(
            f"{key}-points-{i}",
            "points",
            f"Predicted against true {shorten(p.column, 60)}",
            p.description,
            draw_points(p),
        )
        for i, p in enumerate(target.points, start=1)
    )
    histogram = None
    if target.histogram is not None:
        histogram = _view(
            f"{key}-histogram",
            "histogram",
            "Scores of the two classes",
            target.histogram.description,
            draw_histogram(target.histogram),
            histogram_table(target.histogram),
        )
    return TargetView(
        target,
        tuple(_curve_view(f"{key}-curve-{i}", c) for i, c in enumerate(target.curves, start=1)),
        histogram,
        points,
        tuple(None if t.curve is None else _curve_view(f"{key}-{t.curve.key}", t.curve) for t in target.tests),
        _causal(key, target.causal) if target.causal is not None else None,
    )


def _causal(key: str, c: CausalSummary) -> CausalView:
    effects = doses = bars = heads = None
    if c.effects is not None:
        e = c.effects
        effects = _view(f"{key}-effects", "effects", "Effects on the answers", e.description, draw_effects(e), e.table)
    if c.doses is not None:
        d = c.doses
        note = f"{d.note} Marks outside it are open." if d.note else ""
        doses = _view(f"{key}-doses", "doses", "Dose and response", d.description, draw_doses(d), d.table, note)
    if c.bars is not None:
        b = c.bars
        bars = _view(f"{key}-components", "bars", "Largest parts", b.description, draw_bars(b), b.table, b.note)
    if c.heads is not None:
        h = c.heads
        heads = _view(f"{key}-heads", "map", h.title, h.description, draw_heat(h), h.table)
    maps = tuple(
        _view(f"{key}-map-{i}", "map", m.title, m.description, draw_heat(m), m.table, m.explanation)
        for i, m in enumerate(c.maps, start=1)
    )
    return CausalView(effects, doses, bars, heads, maps)


def _curve_view(key: str, curve: LayerCurve) -> FigureView:
    notes = []
    if curve.off_scale:
        notes.append(f"{plural(curve.off_scale, 'value')} below −1 left the axis; the table has them.")
    if curve.left_out:
        what = "test set" if curve.key.startswith("transfer") else "controls"
        notes.append(f"Of the {what}, only the main line is drawn; results.json has the other sites.")
    note = " ".join(notes)
    return _view(key, "curve", curve.metric_title, curve.description, draw_curve(curve), curve_table(curve), note)


def _view(
    key: str, kind: str, title: str, description: str, drawing: Drawing, table: Table | None = None, note: str = ""
) -> FigureView:
    return FigureView(
        key,
        kind,
        title,
        description,
        Markup(figure_json(drawing.figure)),
        drawing.legend,
        int(drawing.figure.layout.height),
        table,
        note,
    )


@cache
def _asset(name: str) -> str:
    text = (files("leadline.report") / "assets" / name).read_text(encoding="utf-8")
    # Sums are taken over what the browser sees; it turns every line end into \n.
    return text.replace("\r\n", "\n").strip()


def _sum(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("leadline.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=count, number=number, plural=plural, shorten=shorten)
    return environment
