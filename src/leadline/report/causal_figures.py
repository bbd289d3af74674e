"""Plotly figures of interventions: effects beside random directions, and doses with their cost.

A vector keeps its colour in every figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from leadline.report.causal import DosesFigure, EffectsFigure
from leadline.report.drawing import Drawing, LegendEntry, area, axis_title, error_bars, frame, polygon, rule
from leadline.report.palette import CONTROLS, colour
from leadline.report.wording import inside, number, percent, plain, quantity, shorten
from leadline.study.results import CausalEffect, DoseCurve, DosePoint, Estimate

__all__ = ["draw_doses", "draw_effects", "font", "interval", "span", "trace_meta"]

_VECTORS: dict[str, tuple[str, str, str]] = {
    "pattern": ("probe", "solid", "circle"),
    "direction": ("mid", "dash", "diamond"),
    "mean_difference": CONTROLS[2],
    "orthogonal": CONTROLS[0],
    "shuffled_labels": CONTROLS[4],
    "site": ("ink", "solid", "square"),
}
_OTHERS = (CONTROLS[1], CONTROLS[3])
_RANDOM = {"isotropic": ("ink-3", "isotropic"), "covariance": ("control-4", "as activations vary")}
_ROW = 38.0


def _look(name: str, index: int = 0) -> tuple[str, str, str]:
    """Colour, dash and mark of a vector, by the last part of its name that is known."""
    for key, look in _VECTORS.items():
        if name == key or name.endswith(f"_{key}") or name.endswith(f" {key}"):
            return look
    return _OTHERS[index % len(_OTHERS)]


def trace_meta(role: str, key: str) -> dict[str, str]:
    return {"role": role, "key": shorten(key, 120)}


def draw_effects(figure: EffectsFigure) -> Drawing:
    """A row an intervention: its effect with its interval, and under it a stroke for each random direction."""
    n = len(figure.effects)
    rows = {e.name: n - 1 - i for i, e in enumerate(figure.effects)}
    traces: list[go.Scatter] = []
    legend: list[LegendEntry] = []
    strokes: dict[str, list[int]] = {}
    for null in figure.nulls:
        if null.of not in rows:
            continue
        name, words = _RANDOM[null.kind]
        strokes.setdefault(null.kind, []).append(len(traces))
        y = rows[null.of] - (0.24 if null.kind == "isotropic" else 0.38)
        traces.append(
            go.Scatter(
                x=list(null.values),
                y=[y] * len(null.values),
                mode="markers",
                marker={
                    "symbol": "line-ns-open",
                    "size": 7,
                    "color": colour(name),
                    "opacity": 0.55,
                    "line": {"width": 1.2, "color": colour(name)},
                },
                hoverinfo="text",
                hovertext=[f"a random direction, {words}<br>{number(v, sign=True)} nats" for v in null.values],
                meta=trace_meta(f"null_{null.kind}", null.of),
            )
        )
    labels: list[dict[str, object]] = []
    shown: list[int] = []
    for index, effect in enumerate(figure.effects):
        value = effect.effect.value
        if value is None:
            continue
        name, _, mark = _look(effect.name, index)
        shown.append(len(traces))
        traces.append(_effect(effect, rows[effect.name], name, mark))
        text = number(value, digits=2, sign=True)
        if effect.effect.low is not None and effect.effect.high is not None:
            ends = (number(x, digits=2, sign=True) for x in (effect.effect.low, effect.effect.high))
            text += f" [{', '.join(ends)}]"
        labels.append({"y": rows[effect.name], "text": text, "colour": colour(name)})
    legend.append(LegendEntry("effect, 95% interval", "", "ink", "line", "solid", "circle", tuple(shown)))
    for kind, indices in strokes.items():
        name, words = _RANDOM[kind]
        legend.append(LegendEntry(f"random directions, {words}", "", name, "strokes", "solid", "", tuple(indices)))
    layout = frame(round(_ROW * 1.15 * n) + 76)
    layout["shapes"] = [rule(x=0, name="ink-2")]
    layout["annotations"] = []
    reach = max((abs(v) for v in _values(figure)), default=0.0)
    if figure.natural is not None and 0 < figure.natural <= 2.5 * reach:
        layout["margin"]["t"] = 24
        layout["shapes"].append(rule(x=figure.natural, name="line-strong", dash="4px,3px"))
        layout["xaxis"]["range"] = span([*_values(figure), 0.0, figure.natural])
        note = _note("classes differ by " + number(figure.natural, digits=2), x=figure.natural, y=1.0, yref="paper")
        # It may stand at the edge, where a centred text would be cut.
        low, high = layout["xaxis"]["range"]
        layout["annotations"].append({**note, "xanchor": "right" if figure.natural > (low + high) / 2 else "left"})
    else:
        layout["xaxis"]["range"] = span([*_values(figure), 0.0])
    layout["xaxis"].update(title=axis_title("change of the log odds toward the other class (nats)"), nticks=8)
    ticks = [rows[e.name] for e in figure.effects]
    names = [plain(e.label, 40) for e in figure.effects]
    layout["yaxis"].update(range=[-0.72, n - 0.42], tickvals=ticks, ticktext=names, showgrid=False)
    layout["yaxis"]["tickfont"] = {"color": colour("ink"), "size": 12.5}
    layout["meta"] = {
        "labels": labels,
        "narrow": {
            "xaxis": {"title": axis_title("toward the other class (nats)"), "nticks": 5},
            "yaxis": {"showticklabels": False, "range": [-0.72, n - 0.25]},
            "annotations": [
                {**_note(t, x=0, y=y + 0.1, xref="paper"), "xanchor": "left", "yanchor": "bottom"}
                for t, y in zip(names, ticks, strict=True)
            ],
        },
        "keep": True,
    }
    layout["meta"]["narrow"]["height"] = round(_ROW * 1.5 * n) + 76
    return Drawing(go.Figure(data=traces, layout=layout), tuple(legend))


def _effect(effect: CausalEffect, y: int, name: str, mark: str) -> go.Scatter:
    lines = [f"<b>{plain(effect.label, 60)}</b>", f"{quantity(effect.effect, sign=True).full} nats"]
    for words, estimate in (("share of the difference", effect.share), ("answers flipped", effect.flips)):
        if estimate is not None and estimate.value is not None:
            lines.append(f"{words} {quantity(estimate).full}")
    for words, p in (("isotropic", effect.p_isotropic), ("as activations vary", effect.p_covariance)):
        if p is not None:
            lines.append(f"p {number(p)} against random directions, {words}")
    return go.Scatter(
        x=[effect.effect.value],
        y=[y],
        mode="markers",
        marker={"symbol": mark, "size": 10, "color": colour(name), "line": {"width": 1.8, "color": colour(name)}},
        error_x=interval([effect.effect], name, 2.2),
        hoverinfo="text",
        hovertext=["<br>".join(lines)],
        meta=trace_meta("effect", effect.name),
    )


def _values(figure: EffectsFigure) -> list[float]:
    found = [v for e in figure.effects for v in (e.effect.value, e.effect.low, e.effect.high) if v is not None]
    return found + [v for n in figure.nulls for v in n.values]


def draw_doses(figure: DosesFigure) -> Drawing:
    """Change of the answers against dose with bands, and below it, on the same axis, what each dose costs."""
    traces: list[go.Scatter] = []
    legend: list[LegendEntry] = []
    for band in figure.bands:
        name, words = _RANDOM[band.kind]
        filled = band.kind == "isotropic"
        if filled:
            outline = area(*polygon(list(zip(band.doses, band.low, band.high, strict=True))), colour("null-band"))
        else:
            # Edges alone, so that both kinds can be seen where one lies on the other.
            line = {"width": 1.2, "color": colour(name), "dash": "3px,3px"}
            xs, ys = [*band.doses, None, *band.doses], [*band.low, None, *band.high]
            outline = go.Scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip")
        legend_of = LegendEntry(
            f"random directions, {words}: 95%",
            "",
            "null-band" if filled else name,
            "area" if filled else "line",
            "solid" if filled else "dot",
            "",
            (len(traces),),
        )
        outline.update(meta=trace_meta(f"band_{band.kind}", band.kind))
        traces.append(outline)
        legend.append(legend_of)
    lines: list[LegendEntry] = []
    ceiling = _ceiling(figure)
    labels: list[dict[str, object]] = []
    for index, curve in enumerate(figure.curves):
        name, dash, mark = _look(curve.name, index)
        points = [p for p in curve.points if p.change.value is not None]
        if not points:
            continue
        own = [len(traces)]
        xs, ys = polygon([(p.dose, p.change.low, p.change.high) for p in points])
        shade = area(xs, ys, colour(f"{name}-band") if name != "ink" else colour("null-band"))
        shade.update(meta=trace_meta("dose_band", curve.name))
        traces.append(shade)
        own.append(len(traces))
        traces.append(_dose_line(curve, points, (name, dash, mark), cost=False))
        if ceiling and any(p.cost is not None and p.cost.value is not None for p in points):
            own.append(len(traces))
            traces.append(_dose_line(curve, points, (name, dash, mark), cost=True))
        lines.append(LegendEntry(curve.label, "", name, "line", dash, mark, tuple(own)))
        labels.append({"y": points[-1].change.value, "text": plain(curve.label, 26), "colour": colour(name)})
    layout = frame(470 if ceiling else 360, top=24)
    layout["shapes"] = [{**rule(y=0, name="line-strong"), "yref": "y"}]
    layout["annotations"] = []
    first = next((c for c in figure.curves if c.usable is not None), None)
    if first is not None and first.usable is not None:
        layout["shapes"].insert(0, _usable(*first.usable))
        middle = sum(first.usable) / 2
        text = f"usable: {plain(inside(first.label), 28)}"
        layout["annotations"].append({**_note(text, x=middle, y=1.0, yref="paper"), "font": font("ink-2", 12)})
    doses = [p.dose for c in figure.curves for p in c.points] + [d for b in figure.bands for d in b.doses]
    layout["xaxis"].update(
        title=axis_title("dose: size of the shift ÷ size of the activation, with its sign"),
        range=span(doses, 0.03),
        showgrid=False,
        nticks=9,
    )
    changes = [v for c in figure.curves for p in c.points for v in (p.change.value, p.change.low, p.change.high)]
    changes += [v for b in figure.bands for v in (*b.low, *b.high)]
    layout["yaxis"].update(
        title=axis_title("change of the log odds (nats)"), range=span([v for v in changes if v is not None] + [0.0])
    )
    narrow: dict[str, Any] = {"xaxis": {"title": axis_title("dose, with its sign"), "nticks": 5}}
    narrow["yaxis"] = {"title": axis_title("log odds (nats)")}
    if ceiling:
        layout["yaxis"]["domain"] = [0.37, 1.0]
        layout["xaxis"]["anchor"] = "y2"
        ticks = _cost_ticks(figure.budget, ceiling)
        layout["yaxis2"] = {
            **layout["yaxis"],
            "domain": [0.0, 0.27],
            "anchor": "x",
            "title": axis_title("perplexity"),
            "range": [min(0.0, *_costs(figure)) - 0.04 * ceiling, ceiling],
            "tickvals": [x for x, _ in ticks],
            "ticktext": [s for _, s in ticks],
        }
        if figure.budget is not None:
            layout["shapes"].append({**rule(y=figure.budget, name="refuted", dash="4px,3px"), "yref": "y2"})
    else:
        layout["meta"] = {"labels": labels}
    layout["meta"] = {**layout.get("meta", {}), "narrow": narrow, "keep": True}
    return Drawing(go.Figure(data=traces, layout=layout), (*lines, *legend))


def _dose_line(curve: DoseCurve, points: Sequence[DosePoint], look: tuple[str, str, str], *, cost: bool) -> go.Scatter:
    name, dash, mark = look
    kept = [p for p in points if not cost or (p.cost is not None and p.cost.value is not None)]
    affordable = [curve.usable is None or curve.usable[0] - 1e-9 <= p.dose <= curve.usable[1] + 1e-9 for p in kept]
    return go.Scatter(
        x=[p.dose for p in kept],
        y=[p.cost.value if cost and p.cost is not None else p.change.value for p in kept],
        yaxis="y2" if cost else "y",
        mode="lines+markers",
        line={"color": colour(name), "width": 2.4 if curve.name == "pattern" else 1.6, "dash": dash},
        marker={
            "symbol": mark,
            "size": 5 if cost else 7,
            "color": [
                colour(name if i and not mark.endswith("-open") else "paper" if not i else name) for i in affordable
            ],
            "line": {"width": 1.6, "color": colour(name)},
        },
        hoverinfo="text",
        hovertext=[_dose_words(curve, p, i) for p, i in zip(kept, affordable, strict=True)],
        meta=trace_meta("cost" if cost else "dose", curve.name),
    )


def _dose_words(curve: DoseCurve, point: DosePoint, usable: bool) -> str:
    lines = [f"<b>{plain(curve.label, 60)}</b>, dose {number(point.dose, digits=2, sign=True)}"]
    lines.append(f"log odds {quantity(point.change, sign=True).full} nats")
    if point.probability is not None and point.probability.value is not None:
        lines.append(f"P(positive) {quantity(point.probability).full}")
    if point.reading is not None and point.reading.value is not None:
        lines.append(f"read downstream {quantity(point.reading, sign=True).full}")
    if point.cost is not None and point.cost.value is not None:
        rise = percent(math.expm1(min(point.cost.value, 700.0)), sign=True)
        lines.append(f"perplexity of neutral text {rise}{'' if usable else ', over the budget'}")
    return "<br>".join(lines)


def _costs(figure: DosesFigure) -> list[float]:
    return [p.cost.value for c in figure.curves for p in c.points if p.cost is not None and p.cost.value is not None]


def _ceiling(figure: DosesFigure) -> float:
    """The top of the cost axis, in nats: beyond three times the perplexity a dose is lost whatever it does."""
    costs = _costs(figure)
    if not costs:
        return 0.0
    return max(min(1.12 * max(costs), math.log(3.2)), 2.2 * (figure.budget or 0.0), 0.02)


def _cost_ticks(budget: float | None, top: float) -> list[tuple[float, str]]:
    """Ratios of perplexity: 1 and the budget, then round ones that keep their distance."""
    ticks = [(0.0, "×1")]
    if budget:
        ticks.append((budget, f"×{math.exp(budget):.3g}"))
    for ratio in (3.0, 2.0, 1.5, 1.2, 1.1, 1.05):
        at = math.log(ratio)
        if at <= top and all(abs(at - x) > 0.22 * top for x, _ in ticks):
            ticks.append((at, f"×{ratio:g}"))
    return sorted(ticks)


def _usable(low: float, high: float) -> dict[str, object]:
    return {
        "type": "rect",
        "layer": "below",
        "xref": "x",
        "yref": "paper",
        "x0": low,
        "x1": high,
        "y0": 0,
        "y1": 1,
        "fillcolor": colour("probe-tint"),
        "opacity": 0.6,
        "line": {"width": 0},
    }


def interval(estimates: Sequence[Estimate], name: str, thickness: float) -> dict[str, object] | None:
    up: list[float | None] = []
    down: list[float | None] = []
    for e in estimates:
        known = e.value is not None and e.low is not None and e.high is not None
        up.append(e.high - e.value if known else None)  # type: ignore[operator]
        down.append(e.value - e.low if known else None)  # type: ignore[operator]
    return {**error_bars(up, down, name), "thickness": thickness} if any(x is not None for x in up) else None


def font(name: str, size: float) -> dict[str, object]:
    return {"color": colour(name), "size": size}


def _note(text: str, *, x: float, y: float, xref: str = "x", yref: str = "y") -> dict[str, Any]:
    return {
        "x": x,
        "y": y,
        "xref": xref,
        "yref": yref,
        "yanchor": "bottom",
        "text": text,
        "showarrow": False,
        "font": font("ink", 12.5),
    }


def span(values: Sequence[float], room: float = 0.06) -> list[float]:
    low, high = min(values, default=0.0), max(values, default=0.0)
    size = (high - low) or 1.0
    return [low - room * size, high + room * size]
