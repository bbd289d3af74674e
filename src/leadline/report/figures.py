"""Plotly figures of the summary's figure data: layer curves, histograms of scores, predicted against true values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import plotly.graph_objects as go

from leadline.report.curves import LayerCurve, Level, Series, SitePoint, hover
from leadline.report.drawing import (
    Drawing,
    LegendEntry,
    area,
    axis_title,
    error_bars,
    figure_json,
    frame,
    polygon,
    rule,
)
from leadline.report.palette import CONTROLS, KINDS, TRANSFER, colour
from leadline.report.scores import HistogramFigure, PointsFigure
from leadline.report.wording import count, number, plain, plural, shorten

__all__ = ["Drawing", "LegendEntry", "draw_curve", "draw_histogram", "draw_points", "figure_json"]


@dataclass(frozen=True)
class _Look:
    colour: str
    dash: str
    mark: str

    @property
    def band(self) -> str:
        return f"{self.colour}-band"


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
        xs, ys = polygon([(p.x, p.null_low, p.null_high) for p in null.points])
        index = self._add(area(xs, ys, colour("null-band")), "null", "null")
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
        xs, ys = polygon([(p.x, p.quantity.low, p.quantity.high) for p in series.points])
        if xs and series.connected:
            self._bands[series.key] = self._add(area(xs, ys, colour(look.band)), "band", series.key)

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
            error_y=error_bars([None, figure.high - value], [None, value - figure.low], look.colour)  # type: ignore[operator]
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
            error_y=error_bars([figure.high - figure.value], [figure.value - figure.low], "ink")  # type: ignore[operator]
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
        layout = frame(400, top=26)
        shapes, annotations = [], []
        if curve.chance is not None:
            shapes.append(rule(y=curve.chance, name="ink-2"))
            self._label(curve.chance, f"chance {number(curve.chance)}", "ink-2")
        if self.slots:
            shapes.append(rule(x=curve.x.high + 0.022 * (curve.x.high - curve.x.low or 1.0), name="line"))
        if curve.chosen is not None:
            shapes.append(rule(x=curve.chosen.x, name="line-strong", dash="2px,3px"))
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
            title=axis_title("layer"),
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
    layout = frame(320)
    layout.update(barmode="overlay", bargap=0)
    layout["xaxis"].update(title=axis_title("out-of-fold score"), showgrid=False, nticks=9)
    layout["yaxis"].update(
        tickvals=ticks,
        ticktext=[count(abs(t)) for t in ticks],
        range=[-1.22 * max(bottom, 0.15 * size), 1.22 * max(top, 0.15 * size)],
        title=axis_title("rows"),
        zeroline=True,
        zerolinecolor=colour("ink-2"),
        zerolinewidth=1,
    )
    if figure.bars and figure.bars[0].low < 0 < figure.bars[-1].high:
        # Decisions are taken at a score of 0.
        layout["shapes"] = [rule(x=0, name="ink-2", dash="2px,3px")]
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
    layout = frame(400)
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
        layout[axis].update(range=[figure.low, figure.high], title=axis_title(title), nticks=6)
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


def _step(size: int) -> int:
    """A round step that gives three or four ticks to each side."""
    raw = size / 3
    unit = 10 ** max(0, math.floor(math.log10(raw))) if raw >= 1 else 1
    return max(1, int(next(m * unit for m in (1, 2, 5, 10) if m * unit >= raw)))
