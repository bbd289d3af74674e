"""Plotly figures of the summary's figure data.

Figures are plain `plotly.graph_objects.Figure` objects in the light theme's colours, without Plotly's template, with
lists instead of arrays, so that their JSON is short and a person can read it. Names from data pass through
`wording.plain`, since Plotly reads markup in labels. Each trace has a `meta` with its role and key.

`layout.meta` tells the page what depends on its width: `labels`, the names that stand at the right of the lines where
there is room, and `narrow`, the ticks that fit a phone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from leadline.report.curves import LayerCurve, Level, Series, SitePoint, hover
from leadline.report.palette import CONTROLS, KINDS, TRANSFER, colour
from leadline.report.scores import HistogramFigure, PointsFigure
from leadline.report.wording import count, number, plain, plural, shorten

__all__ = ["Drawing", "LegendEntry", "draw_curve", "draw_histogram", "draw_points", "figure_json"]

FONT = 'Inter, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
_INVISIBLE = "rgba(0,0,0,0)"


@dataclass(frozen=True)
class LegendEntry:
    """A line of the legend, which the page draws itself: a swatch, a name, a figure, and the traces it switches.

    `colour` is a name of the palette.
    """

    title: str
    text: str
    colour: str
    swatch: str
    dash: str
    mark: str
    traces: tuple[int, ...]


@dataclass(frozen=True)
class Drawing:
    """A figure with its legend."""

    figure: go.Figure
    legend: tuple[LegendEntry, ...]


@dataclass(frozen=True)
class _Look:
    colour: str
    dash: str
    mark: str

    @property
    def band(self) -> str:
        return f"{self.colour}-band"


def figure_json(figure: go.Figure) -> str:
    """The figure as JSON for a script element: no byte in it can end the element or open a comment."""
    text = json.dumps(_clean(figure.to_plotly_json()), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _clean(value: object) -> object:
    if isinstance(value, dict):
        return {str(k): _clean(v) for k, v in value.items() if k != "template"}
    if isinstance(value, (list, tuple)):
        return [_clean(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def draw_curve(curve: LayerCurve) -> Drawing:
    """The layer curve: null, interval bands, controls, curves, and the chosen site."""
    canvas = _Canvas(curve)
    if curve.null is not None:
        canvas.null_band(curve.null)
    looks = _looks(curve)
    for series in curve.series:
        if series.role != "reference":
            canvas.band(series, looks[series.key])
    for level, slot in zip(curve.levels, canvas.slots, strict=True):
        canvas.level(level, slot, looks[level.key])
    if curve.null_best is not None:
        canvas.null_best(curve.null_best)
    for series in reversed(curve.series):
        canvas.line(series, looks[series.key])
    if curve.chosen is not None:
        canvas.chosen(curve.chosen)
    return canvas.drawing()


class _Canvas:
    """Collects the traces, legend entries and labels of one layer curve."""

    def __init__(self, curve: LayerCurve) -> None:
        self.curve = curve
        self.traces: list[go.Scatter] = []
        self.labels: list[dict[str, object]] = []
        self._entries: dict[str, LegendEntry] = {}
        self._bands: dict[str, int] = {}
        span = curve.x.high - curve.x.low or 1.0
        # Controls stand in a gutter after the last site, side by side, so that their intervals do not hide each other.
        step = 0.026 * span
        self.slots = [curve.x.high + 1.6 * step + step * i for i in range(len(curve.levels))]
        self.left = curve.x.low - 0.02 * span
        self.right = (self.slots[-1] if self.slots else curve.x.high) + 0.022 * span

    def _add(self, trace: go.Scatter, role: str, key: str) -> int:
        trace.update(meta={"role": role, "key": shorten(key, 120)})
        self.traces.append(trace)
        return len(self.traces) - 1

    def _label(self, y: float, text: str, name: str) -> None:
        self.labels.append({"y": y, "text": plain(text, 30), "colour": colour(name)})

    def null_band(self, null: Series) -> None:
        xs, ys = _polygon([(p.x, p.null_low, p.null_high) for p in null.points])
        index = self._add(_area(xs, ys, colour("null-band")), "null", "null")
        self._entries["null"] = LegendEntry(
            "labels shuffled: each site, 95%", "", "null-band", "area", "solid", "", (index,)
        )

    def null_best(self, value: float) -> None:
        trace = go.Scatter(
            x=[self.left, self.curve.x.high],
            y=[value, value],
            mode="lines",
            line={"color": colour("ink-3"), "width": 1, "dash": "2px,3px"},
            hoverinfo="text",
            hovertext=[f"the best of all sites under shuffled labels stays below {number(value)} in 95%"] * 2,
        )
        index = self._add(trace, "null_best", "null_best")
        self._entries["null_best"] = LegendEntry(
            "labels shuffled: best site, 95%", number(value), "ink-3", "line", "2px,3px", "", (index,)
        )

    def band(self, series: Series, look: _Look) -> None:
        xs, ys = _polygon([(p.x, p.quantity.low, p.quantity.high) for p in series.points])
        if xs and series.connected:
            self._bands[series.key] = self._add(_area(xs, ys, colour(look.band)), "band", series.key)

    def level(self, level: Level, slot: float, look: _Look) -> None:
        figure = level.quantity
        value = figure.value
        assert value is not None
        known = figure.low is not None and figure.high is not None
        trace = go.Scatter(
            x=[self.left, slot],
            y=[value, value],
            mode="lines+markers",
            line={"color": colour(look.colour), "width": 1.4, "dash": look.dash},
            marker={
                "symbol": look.mark,
                "size": [0, 8],
                "color": colour(look.colour),
                "line": {"width": 1.6, "color": colour(look.colour)},
            },
            error_y=_error([None, figure.high - value], [None, value - figure.low], look.colour)  # type: ignore[operator]
            if known
            else None,
            hoverinfo="text",
            hovertext=[f"<b>{plain(level.title, 60)}</b><br>{self._metric} {figure.full}"] * 2,
        )
        index = self._add(trace, "level", level.key)
        self._entries[f"level:{level.key}"] = LegendEntry(
            level.title, figure.text, look.colour, "line", look.dash, look.mark, (index,)
        )
        self._label(value, f"{shorten(level.title, 22)} {figure.text}", look.colour)

    def line(self, series: Series, look: _Look) -> None:
        points = series.points
        subject = series.role not in ("control", "reference")
        metric = series.title if series.role.startswith("transfer") else self._metric
        marks = [colour("refuted" if p.not_converged else look.colour) for p in points]
        trace = go.Scatter(
            x=[p.x for p in points],
            y=[p.quantity.value for p in points],
            mode="lines+markers" if series.connected else "markers",
            line={"color": colour(look.colour), "width": 2.4 if subject else 1.5, "dash": look.dash},
            marker={
                "symbol": ["x-thin-open" if p.not_converged else look.mark for p in points],
                "size": [10 if p.not_converged else 6 if subject else 5 for p in points],
                "color": marks,
                "line": {"width": [2.4 if p.not_converged else 1.2 for p in points], "color": marks},
            },
            customdata=[plain(p.site) for p in points],
            hoverinfo="text",
            hovertext=[
                "<br>".join([f"<b>{plain(p.site)}</b>, {plain(series.title)}", *hover(p, metric)]) for p in points
            ],
        )
        if series.role == "reference":
            trace.update(mode="lines")
        index = self._add(trace, "series", series.key)
        last = series.last
        text = last.quantity.text if last else ""
        traces = (index, self._bands[series.key]) if series.key in self._bands else (index,)
        self._entries[f"series:{series.key}"] = LegendEntry(
            series.title,
            "",
            look.colour,
            "line",
            look.dash,
            "" if series.role == "reference" else look.mark,
            traces,
        )
        if last is not None and last.quantity.value is not None:
            self._label(last.quantity.value, f"{shorten(series.title, 22)} {text}", look.colour)

    def chosen(self, point: SitePoint) -> None:
        figure = point.quantity
        assert figure.value is not None
        known = figure.low is not None and figure.high is not None
        trace = go.Scatter(
            x=[point.x],
            y=[figure.value],
            mode="markers",
            marker={
                "symbol": "diamond",
                "size": 12,
                "color": colour("paper"),
                "line": {"width": 2.4, "color": colour("ink")},
            },
            error_y=_error([figure.high - figure.value], [figure.value - figure.low], "ink")  # type: ignore[operator]
            if known
            else None,
            customdata=[plain(point.site)],
            hoverinfo="text",
            hovertext=[f"<b>{plain(point.site)}, chosen</b><br>{self._metric} {figure.full}"],
        )
        index = self._add(trace, "chosen", point.site)
        self._entries["chosen"] = LegendEntry(
            f"chosen site, {point.site}", figure.text, "ink", "mark", "solid", "diamond", (index,)
        )

    @property
    def _metric(self) -> str:
        return plain(self.curve.metric_title)

    def drawing(self) -> Drawing:
        curve = self.curve
        layout = _layout(400, top=26)
        shapes, annotations = [], []
        if curve.chance is not None:
            shapes.append(_rule(y=curve.chance, name="ink-2"))
            self._label(curve.chance, f"chance {number(curve.chance)}", "ink-2")
        if self.slots:
            shapes.append(_rule(x=curve.x.high + 0.022 * (curve.x.high - curve.x.low or 1.0), name="line"))
        if curve.chosen is not None:
            shapes.append(_rule(x=curve.chosen.x, name="line-strong", dash="2px,3px"))
            annotations.append(
                {
                    "x": curve.chosen.x,
                    "y": 1,
                    "yref": "paper",
                    "yanchor": "bottom",
                    "text": plain(curve.chosen.site),
                    "showarrow": False,
                    "font": {"color": colour("ink"), "size": 12},
                }
            )
        layout.update(
            shapes=shapes,
            annotations=annotations,
            meta={
                "labels": self.labels,
                "narrow": {"tickvals": [t for t, _ in curve.x.narrow], "ticktext": [s for _, s in curve.x.narrow]},
            },
        )
        layout["xaxis"].update(
            range=[self.left, self.right],
            tickvals=[t for t, _ in curve.x.ticks],
            ticktext=[s for _, s in curve.x.ticks],
            showgrid=False,
            title=_title("layer"),
        )
        layout["yaxis"].update(
            range=[curve.y.low, curve.y.high],
            tickvals=[t for t, _ in curve.y.ticks],
            ticktext=[s for _, s in curve.y.ticks],
        )
        wanted = [f"series:{s.key}" for s in curve.series] + [f"level:{x.key}" for x in curve.levels]
        order = ["chosen", *wanted, "null", "null_best"]
        legend = tuple(self._entries[k] for k in dict.fromkeys(order) if k in self._entries)
        return Drawing(go.Figure(data=self.traces, layout=layout), legend)


def draw_histogram(figure: HistogramFigure) -> Drawing:
    """Scores of the two classes, one counted upwards and one downwards, so that neither hides the other."""
    centres = [(b.low + b.high) / 2 for b in figure.bars]
    widths = [b.high - b.low for b in figure.bars]
    traces = []
    for name, key, sign, counts in (
        (figure.positive, "positive", 1, [b.positive for b in figure.bars]),
        (figure.negative, "negative", -1, [b.negative for b in figure.bars]),
    ):
        edge = colour("probe" if key == "positive" else "negative")
        traces.append(
            go.Bar(
                x=centres,
                y=[sign * n for n in counts],
                width=widths,
                customdata=counts,
                marker={
                    "color": colour(f"{key}-band"),
                    "line": {"width": 1, "color": edge},
                    "pattern": {"shape": "/" if key == "negative" else "", "fgcolor": edge, "size": 6, "solidity": 0.2},
                },
                hoverinfo="text",
                hovertext=[
                    f"<b>{plain(name)}</b><br>{plural(n, 'row')} with a score from {number(b.low, digits=2)} to "
                    f"{number(b.high, digits=2)}"
                    for b, n in zip(figure.bars, counts, strict=True)
                ],
                meta={"role": "histogram", "key": key},
            )
        )
    top = max((b.positive for b in figure.bars), default=0)
    bottom = max((b.negative for b in figure.bars), default=0)
    size = max(top, bottom, 1)
    step = _step(size)
    ticks = list(range(-step * (bottom // step), top + 1, step))
    layout = _layout(320)
    layout.update(barmode="overlay", bargap=0)
    layout["xaxis"].update(title=_title("out-of-fold score"), showgrid=False, nticks=9)
    layout["yaxis"].update(
        tickvals=ticks,
        ticktext=[count(abs(t)) for t in ticks],
        range=[-1.22 * max(bottom, 0.15 * size), 1.22 * max(top, 0.15 * size)],
        title=_title("rows"),
        zeroline=True,
        zerolinecolor=colour("ink-2"),
        zerolinewidth=1,
    )
    if figure.bars and figure.bars[0].low < 0 < figure.bars[-1].high:
        # Decisions are taken at a score of 0.
        layout["shapes"] = [_rule(x=0, name="ink-2", dash="2px,3px")]
    up, down = (plural(sum(n), "row") for n in ([b.positive for b in figure.bars], [b.negative for b in figure.bars]))
    layout["annotations"] = [
        _corner(f"↑ {plain(figure.positive, 28)}, {up}", 1.0, "top", "probe"),
        _corner(f"↓ {plain(figure.negative, 28)}, {down}", 0.0, "bottom", "negative"),
    ]
    return Drawing(go.Figure(data=traces, layout=layout), ())


def draw_points(figure: PointsFigure) -> Drawing:
    """Predicted against true values, with the diagonal of a perfect probe."""
    column = plain(figure.column)
    trace = go.Scatter(
        x=list(figure.true),
        y=list(figure.predicted),
        mode="markers",
        marker={"size": 4.5, "color": colour("probe"), "opacity": 0.45},
        customdata=list(figure.rows),
        hovertemplate="row %{customdata}<br>true %{x:.4~g}<br>predicted %{y:.4~g}<extra></extra>",
        meta={"role": "points", "key": shorten(figure.column, 120)},
    )
    layout = _layout(400)
    layout["shapes"] = [
        {
            "type": "line",
            "x0": figure.low,
            "x1": figure.high,
            "y0": figure.low,
            "y1": figure.high,
            "line": {"color": colour("ink-2"), "width": 1.2, "dash": "4px,3px"},
        }
    ]
    for axis, title in (("xaxis", f"true {column}"), ("yaxis", f"predicted {column}")):
        layout[axis].update(range=[figure.low, figure.high], title=_title(title), nticks=6)
    layout["yaxis"].update(scaleanchor="x", constrain="domain")
    layout["xaxis"].update(constrain="domain")
    return Drawing(go.Figure(data=[trace], layout=layout), ())


def _looks(curve: LayerCurve) -> dict[str, _Look]:
    """A colour, dash and mark for every line; controls in the order of the results take those of controls in turn."""
    looks: dict[str, _Look] = {}
    n_controls = 0
    for series in curve.series:
        if series.role == "control":
            looks[series.key] = _Look(*CONTROLS[n_controls % len(CONTROLS)])
            n_controls += 1
        elif series.role.startswith("transfer_"):
            looks[series.key] = _Look(*TRANSFER[int(series.role.removeprefix("transfer_")) % len(TRANSFER)])
        else:
            looks[series.key] = _Look(*KINDS.get(series.role, KINDS["stream"]))
    for level in curve.levels:
        looks[level.key] = _Look(*CONTROLS[n_controls % len(CONTROLS)])
        n_controls += 1
    return looks


def _polygon(
    edges: Sequence[tuple[float, float | None, float | None]],
) -> tuple[list[float | None], list[float | None]]:
    """The outline of a band, one closed piece for each run of places that have both edges."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    run: list[tuple[float, float, float]] = []

    def close() -> None:
        if len(run) > 1:
            if xs:
                xs.append(None)
                ys.append(None)
            xs.extend([x for x, _, _ in run] + [x for x, _, _ in reversed(run)])
            ys.extend([high for _, _, high in run] + [low for _, low, _ in reversed(run)])
        run.clear()

    for x, low, high in edges:
        if low is None or high is None:
            close()
        else:
            run.append((x, low, high))
    close()
    return xs, ys


def _area(xs: list[float | None], ys: list[float | None], fill: str) -> go.Scatter:
    return go.Scatter(
        x=xs,
        y=ys,
        mode="lines",
        fill="toself",
        fillcolor=fill,
        line={"width": 0, "color": _INVISIBLE},
        hoverinfo="skip",
    )


def _error(up: list[float | None], down: list[float | None], name: str) -> dict[str, object]:
    return {"type": "data", "array": up, "arrayminus": down, "color": colour(name), "thickness": 1.5, "width": 3}


def _rule(*, x: float | None = None, y: float | None = None, name: str, dash: str = "solid") -> dict[str, object]:
    """A line across the whole plot, under the traces."""
    line = {"color": colour(name), "width": 1, "dash": dash}
    if x is not None:
        return {"type": "line", "layer": "below", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": line}
    return {"type": "line", "layer": "below", "y0": y, "y1": y, "x0": 0, "x1": 1, "xref": "paper", "line": line}


def _corner(text: str, y: float, anchor: str, name: str) -> dict[str, object]:
    return {
        "x": 0.01,
        "y": y,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "left",
        "yanchor": anchor,
        "text": text,
        "showarrow": False,
        "font": {"color": colour(name), "size": 13},
    }


def _title(text: str) -> dict[str, object]:
    return {"text": text, "standoff": 8, "font": {"size": 12.5}}


def _step(size: int) -> int:
    """A round step that gives three or four ticks to each side."""
    raw = size / 3
    unit = 10 ** max(0, math.floor(math.log10(raw))) if raw >= 1 else 1
    return max(1, int(next(m * unit for m in (1, 2, 5, 10) if m * unit >= raw)))


def _layout(height: int, top: int = 8) -> dict[str, Any]:
    """The frame that all figures share: no template, no title (the page has it), nothing that traps a scroll."""
    axis = {
        "fixedrange": True,
        "gridcolor": colour("line"),
        "zeroline": False,
        "linecolor": colour("line-strong"),
        "tickcolor": colour("line-strong"),
        "automargin": True,
    }
    return {
        "height": height,
        "margin": {"l": 8, "r": 12, "t": top, "b": 8},
        "font": {"family": FONT, "size": 12.5, "color": colour("ink-2")},
        "paper_bgcolor": _INVISIBLE,
        "plot_bgcolor": _INVISIBLE,
        "showlegend": False,
        "hovermode": "closest",
        "dragmode": False,
        "hoverlabel": {
            "bgcolor": colour("paper"),
            "bordercolor": colour("line-strong"),
            "font": {"color": colour("ink"), "size": 12.5, "family": FONT},
            "align": "left",
        },
        "xaxis": {**axis, "showline": True, "ticks": "outside", "ticklen": 4},
        "yaxis": {**axis, "showline": False, "ticks": ""},
        "template": {},
    }
