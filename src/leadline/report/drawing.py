"""What all figures are made of: the frame, rules, bands and error bars, and their JSON.

Figures are plain `plotly.graph_objects.Figure` objects in the light theme's colours, without Plotly's template, with
lists instead of arrays, so that their JSON is short and a person can read it. Names from data pass through
`wording.plain`, since Plotly reads markup in labels. Each trace has a `meta` with its role and key.

`layout.meta` tells the page what depends on its width: `labels`, the names that stand at the right of the lines where
there is room; `narrow`, what changes on a phone (axes, further annotations); `keep`, that the height stays there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from leadline.report.palette import colour

__all__ = [
    "FONT",
    "Drawing",
    "LegendEntry",
    "area",
    "axis_title",
    "error_bars",
    "figure_json",
    "frame",
    "polygon",
    "rule",
]

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


def frame(height: int, top: int = 8) -> dict[str, Any]:
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


def axis_title(text: str) -> dict[str, object]:
    """The title of an axis."""
    return {"text": text, "standoff": 8, "font": {"size": 12.5}}


def rule(*, x: float | None = None, y: float | None = None, name: str, dash: str = "solid") -> dict[str, object]:
    """A line across the whole plot, under the traces."""
    line = {"color": colour(name), "width": 1, "dash": dash}
    if x is not None:
        return {"type": "line", "layer": "below", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": line}
    return {"type": "line", "layer": "below", "y0": y, "y1": y, "x0": 0, "x1": 1, "xref": "paper", "line": line}


def error_bars(up: list[float | None], down: list[float | None], name: str) -> dict[str, object]:
    """Error bars from distances to the value."""
    return {"type": "data", "array": up, "arrayminus": down, "color": colour(name), "thickness": 1.5, "width": 3}


def area(xs: list[float | None], ys: list[float | None], fill: str) -> go.Scatter:
    """A filled outline without a line."""
    return go.Scatter(
        x=xs,
        y=ys,
        mode="lines",
        fill="toself",
        fillcolor=fill,
        line={"width": 0, "color": _INVISIBLE},
        hoverinfo="skip",
    )


def polygon(
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
