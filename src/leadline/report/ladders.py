"""Ladders as plain data: figures with their intervals on one scale, the probe above what it is held against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from leadline.report.wording import BOUNDED, Quantity, metric_title, number, quantity, shorten
from leadline.study.results import BaselineResult, TargetResult

__all__ = ["Ladder", "Rung", "control_ladder", "gain_ladder", "nice", "tick_text"]


@dataclass(frozen=True)
class Rung:
    """A row of a ladder: a figure with its interval on the common scale, places in percent of its width."""

    title: str
    role: str
    quantity: Quantity
    at: float | None
    low: float | None
    high: float | None
    note: str = ""


@dataclass(frozen=True)
class Ladder:
    """Figures with intervals on one scale, the first the subject, the rest what it is held against."""

    metric_title: str
    rungs: tuple[Rung, ...]
    ticks: tuple[tuple[float, str], ...]
    reference: float | None
    reference_title: str
    description: str


def control_ladder(target: TargetResult) -> Ladder:
    """The chosen probe's primary metric above every control's, on one scale with chance."""
    metric = target.primary_metric
    best = quantity(target.best.metrics.get(metric))
    rows: list[tuple[str, str, Quantity, str]] = [("The probe", "probe", best, target.best.site)]
    for baseline in _strongest_first(target.baselines, metric):
        note = "below chance" if baseline.below_chance else ""
        rows.append((baseline.title, "control", quantity(baseline.metrics.get(metric)), note))
    low, high, ticks = _scale([q for _, _, q, _ in rows], target.chance, metric)
    return Ladder(
        metric_title=metric_title(metric),
        rungs=tuple(_rung(*row, low=low, high=high) for row in rows),
        ticks=ticks,
        reference=_percent(target.chance, low, high),
        reference_title="chance",
        description="; ".join(f"{shorten(title, 60)} {q.full}" for title, _, q, _ in rows)
        + f"; chance {number(target.chance)}.",
    )


def gain_ladder(target: TargetResult) -> Ladder | None:
    """What the probe gains over each control, paired, on one scale with zero; None without controls."""
    rows: list[tuple[str, str, Quantity, str]] = [
        (b.title, "control", quantity(b.gain, sign=True), "")
        for b in _strongest_first(target.baselines, target.primary_metric)
    ]
    if not rows:
        return None
    low, high, ticks = _scale([q for _, _, q, _ in rows], 0.0, "")
    return Ladder(
        metric_title=f"gain in {metric_title(target.primary_metric)}",
        rungs=tuple(_rung(*row, low=low, high=high) for row in rows),
        ticks=ticks,
        reference=_percent(0.0, low, high),
        reference_title="no gain",
        description="; ".join(f"over {shorten(title, 60)} {q.full}" for title, _, q, _ in rows) + ".",
    )


def _strongest_first(baselines: Sequence[BaselineResult], metric: str) -> list[BaselineResult]:
    def key(baseline: BaselineResult) -> float:
        value = baseline.metrics[metric].value if metric in baseline.metrics else None
        return math.inf if value is None else -value

    return sorted(baselines, key=key)


def _rung(title: str, role: str, figure: Quantity, note: str, *, low: float, high: float) -> Rung:
    return Rung(
        title,
        role,
        figure,
        _percent(figure.value, low, high),
        _percent(figure.low, low, high),
        _percent(figure.high, low, high),
        note,
    )


def _percent(value: float | None, low: float, high: float) -> float | None:
    return None if value is None else round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 3)


def _scale(
    figures: Sequence[Quantity], reference: float, metric: str
) -> tuple[float, float, tuple[tuple[float, str], ...]]:
    seen = [v for q in figures for v in (q.value, q.low, q.high) if v is not None] + [reference]
    low, high = min(seen), max(seen)
    pad = 0.05 * (high - low or 1.0)
    low, high = low - pad, high + pad
    if metric in BOUNDED:
        low, high = max(0.0, low), min(1.0, high)
    ticks = tuple((_percent(t, low, high) or 0.0, tick_text(t)) for t in nice(low, high, 4))
    return low, high, ticks


def nice(low: float, high: float, wanted: int) -> list[float]:
    """About `wanted` round numbers inside a range."""
    raw = (high - low) / max(1, wanted)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * k, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_text(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value:.3g}"
    text = f"{abs(value):,.3f}".rstrip("0").rstrip(".")
    return ("−" if value < 0 else "") + (text or "0")
