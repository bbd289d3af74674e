"""Plotly figures of where a score comes from: bars of components, and maps of heads or of sites and tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from leadline.report.causal import BarsFigure, HeatFigure
from leadline.report.causal_figures import font, interval, span, trace_meta
from leadline.report.drawing import Drawing, LegendEntry, axis_title, frame, rule
from leadline.report.palette import colour
from leadline.report.wording import count, number, plain, quantity
from leadline.study.results import Contribution

__all__ = ["draw_bars", "draw_heat"]

_KINDS = {
    "head": ("attn", "", "attention head"),
    "mlp": ("mlp", "/", "MLP"),
    "embed": ("mid", "x", "embedding"),
    "bias": ("ink-3", ".", "bias"),
    "other": ("control-5", "-", "other"),
}


def draw_bars(figure: BarsFigure) -> Drawing:
    """The components with the largest part in the difference between the classes, the largest at the top."""
    n = len(figure.bars) + (figure.rest is not None)
    traces: list[go.Bar] = []
    legend: list[LegendEntry] = []
    for kind, (name, shape, words) in _KINDS.items():
        chosen = [(n - 1 - i, c) for i, c in enumerate(figure.bars) if c.kind == kind]
        if chosen:
            legend.append(LegendEntry(words, "", name, "bar", "solid", shape, (len(traces),)))
            traces.append(_bar(kind, name, shape, chosen))
    names = [plain(c.component, 24) for c in figure.bars]
    if figure.rest is not None:
        names.append(f"{count(figure.n_rest)} others")
        traces.append(
            go.Bar(
                x=[figure.rest],
                y=[0],
                orientation="h",
                width=0.68,
                marker={"color": colour("null-band"), "line": {"width": 1, "color": colour("ink-3")}},
                hoverinfo="text",
                hovertext=[f"{count(figure.n_rest)} other terms together<br>{number(figure.rest, sign=True)}"],
                meta=trace_meta("bars", "rest"),
            )
        )
    ends = [v for c in figure.bars for v in (c.difference.value, c.difference.low, c.difference.high) if v is not None]
    layout = frame(24 * n + 60)
    layout.update(barmode="overlay", bargap=0, shapes=[{**rule(x=0, name="ink-2"), "layer": "above"}])
    layout["xaxis"].update(
        title=axis_title("part in the difference in score"), range=span([*ends, figure.rest or 0.0, 0.0])
    )
    layout["xaxis"]["nticks"] = 6
    layout["yaxis"].update(tickvals=list(range(n)), ticktext=names[::-1], range=[-0.6, n - 0.4], showgrid=False)
    layout["meta"] = {"keep": True}
    return Drawing(go.Figure(data=traces, layout=layout), tuple(legend))


def _bar(kind: str, name: str, shape: str, chosen: Sequence[tuple[int, Contribution]]) -> go.Bar:
    return go.Bar(
        x=[c.difference.value for _, c in chosen],
        y=[y for y, _ in chosen],
        orientation="h",
        width=0.68,
        marker={
            "color": colour(name),
            "line": {"width": 1, "color": colour(name)},
            "pattern": {
                "shape": shape,
                "bgcolor": colour(name),
                "fgcolor": colour("paper"),
                "size": 6,
                "solidity": 0.22,
            },
        },
        error_x=interval([c.difference for _, c in chosen], "ink", 1.4),
        hoverinfo="text",
        hovertext=[f"<b>{plain(c.component)}</b><br>{quantity(c.difference, sign=True).full}" for _, c in chosen],
        meta=trace_meta("bars", kind),
    )


def draw_heat(figure: HeatFigure) -> Drawing:
    """A map around zero: blue above, orange below, blank where there is no figure."""
    n, k = len(figure.rows), len(figure.columns)
    sign = [[None if v is None else number(v, sign=True) for v in row] for row in figure.values]
    trace = go.Heatmap(
        z=[list(row) for row in figure.values],
        x=list(range(k)),
        y=list(range(n)),
        coloraxis="coloraxis",
        xgap=1,
        ygap=1,
        hoverongaps=False,
        hoverinfo="text",
        hovertext=[
            [
                f"<b>{plain(figure.rows[i])}</b>, {figure.column_title} {plain(figure.columns[j])}<br>"
                f"{sign[i][j]} {plain(figure.unit)}"
                for j in range(k)
            ]
            for i in range(n)
        ],
        meta=trace_meta("heat", figure.name),
    )
    layout = frame(min(max(18 * n, 150), 440) + 92)
    step = max(1, math.ceil(n / 16))
    ys = [i for i in range(n) if i % step == 0 and (i + step <= n - 1 or i == n - 1)] + ([n - 1] if n > 1 else [])
    every = max(1, math.ceil(k / (12 if figure.column_title == "head" else 24)))
    xs = list(range(k - 1, -1, -every))[::-1]
    turned = max((len(c) for c in figure.columns), default=0) * len(xs) > 34
    layout["yaxis"].update(
        tickvals=sorted(set(ys)),
        ticktext=[plain(figure.rows[i], 18) for i in sorted(set(ys))],
        showgrid=False,
        range=[-0.5, n - 0.5],
    )
    if figure.row_title == "layer":
        layout["yaxis"]["title"] = axis_title("layer")
    layout["xaxis"].update(
        tickvals=xs,
        ticktext=[plain(figure.columns[i], 14) for i in xs],
        tickangle=-50 if turned else 0,
        showgrid=False,
        range=[-0.5, k - 0.5],
        title=axis_title(figure.column_title),
    )
    if figure.columns[-1] == "MLP" and k > 1:
        # The last column holds no head.
        layout["shapes"] = [{**rule(x=k - 1.5, name="line-strong"), "layer": "above"}]
    layout["coloraxis"] = {
        "cmin": -figure.limit,
        "cmax": figure.limit,
        "colorscale": [[0, colour("negative")], [0.5, colour("sunken")], [1, colour("probe")]],
        "colorbar": {
            "thickness": 9,
            "outlinewidth": 0,
            "nticks": 5,
            "ticks": "",
            "len": 1.0,
            "tickfont": font("ink-2", 11.5),
            "title": {"text": plain(figure.unit, 20), "side": "top", "font": font("ink-2", 11.5)},
        },
    }
    layout["meta"] = {"keep": True}
    return Drawing(go.Figure(data=[trace], layout=layout), ())
