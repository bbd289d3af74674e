"""Layer curves as plain data: a metric over the sites with all that it is held against. No drawing here.

A horizontal place in a layer curve is `x`: -1 for the embedding, the block's number, and the number of blocks for
the final norm; kinds that stand in one block share its x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leadline.report.ladders import nice, tick_text
from leadline.report.wording import (
    BOUNDED,
    Quantity,
    chance_of,
    count,
    joined,
    metric_title,
    number,
    p_text,
    plural,
    quantity,
    quoted,
    sentence_start,
    shorten,
)
from leadline.study.results import (
    Permutation,
    SiteResult,
    TargetResult,
    TestResult,
)

__all__ = ["Axis", "LayerCurve", "Level", "Series", "SitePoint", "hover", "layer_curves", "transfer_curve"]

_STREAM = ("embed", "resid_pre", "resid_post", "final_norm")
_KIND_TITLES = {
    "stream": "Residual stream",
    "resid_pre": "Stream before block",
    "resid_mid": "Stream after attention",
    "attn_out": "Attention output",
    "mlp_out": "MLP output",
    "mlp_hidden": "MLP neurons",
    "head_out": "Attention heads",
}


@dataclass(frozen=True)
class SitePoint:
    """One site of a curve. `not_converged` of `n_fits` fits did not converge."""

    site: str
    x: float
    quantity: Quantity
    p: float | None = None
    null_mean: float | None = None
    null_low: float | None = None
    null_high: float | None = None
    n_fits: int = 0
    not_converged: int = 0


@dataclass(frozen=True)
class Series:
    """A curve over sites. `role` picks its colour and line: a site kind, `control`, `reference` or a metric."""

    key: str
    title: str
    role: str
    points: tuple[SitePoint, ...]
    connected: bool = True

    @property
    def last(self) -> SitePoint | None:
        """The last point that has a value."""
        return next((p for p in reversed(self.points) if p.quantity.value is not None), None)


@dataclass(frozen=True)
class Level:
    """A control with one figure for all sites: a horizontal line with its interval."""

    key: str
    title: str
    quantity: Quantity


@dataclass(frozen=True)
class Axis:
    """The places, names and range of an axis; `narrow` holds the ticks that fit a phone."""

    ticks: tuple[tuple[float, str], ...]
    narrow: tuple[tuple[float, str], ...]
    low: float
    high: float


@dataclass(frozen=True)
class LayerCurve:
    """A metric over the sites, with everything it is held against.

    `chosen` is the chosen site's figure corrected for having been chosen, at its place; None where the curve has no
    chosen site. `null_best` is the level that the best of all sites passes in 5% of permutations. `off_scale` counts
    values below the axis, `left_out` sites of controls or tests that are not on the main line.
    """

    key: str
    metric: str
    metric_title: str
    series: tuple[Series, ...]
    levels: tuple[Level, ...]
    chance: float | None
    null: Series | None
    null_best: float | None
    chosen: SitePoint | None
    x: Axis
    y: Axis
    off_scale: int
    left_out: int
    description: str


def layer_curves(target: TargetResult) -> tuple[LayerCurve, ...]:
    """The curve of each metric that the sites have, the primary metric first."""
    keys = {k: None for s in target.sites for k in s.metrics}
    ordered = [k for k in (target.primary_metric, *keys) if k in keys]
    return tuple(_layer_curve(target, key) for key in dict.fromkeys(ordered))


def _layer_curve(target: TargetResult, metric: str) -> LayerCurve:
    title = metric_title(metric)
    depth = _depth(target.sites)
    series = _kind_series(target.sites, metric, depth)
    main = _main_line(series)
    left_out = 0
    levels = []
    for baseline in target.baselines:
        control = shorten(baseline.title, 48)
        if any(metric in s.metrics for s in baseline.sites):
            points = _points([s for s in baseline.sites if s.site in main] or baseline.sites, metric, depth)
            left_out += len(baseline.sites) - len(points)
            series = (*series, Series(baseline.name, control, "control", points))
        elif metric in baseline.metrics and baseline.metrics[metric].value is not None:
            levels.append(Level(baseline.name, control, quantity(baseline.metrics[metric])))
    chance = chance_of(metric, target.primary_metric, target.chance, max(len(target.classes), 2))
    permutation = target.permutation
    null, null_best = None, None
    if permutation is not None and _same_statistic(permutation, metric):
        if series and any(p.null_low is not None for p in series[0].points):
            null = series[0]
        null_best = permutation.null_max_95
    best = target.best
    chosen = None
    if best.metrics.get(metric) is not None and best.metrics[metric].value is not None:
        chosen = SitePoint(best.site, _place(best.site, best.layer, depth), quantity(best.metrics[metric]))
    y, off = _y_axis(metric, series, levels, chance, null, null_best, chosen)
    return LayerCurve(
        key=metric,
        metric=metric,
        metric_title=title,
        series=series,
        levels=tuple(levels),
        chance=chance,
        null=null,
        null_best=null_best,
        chosen=chosen,
        x=_x_axis(series, depth),
        y=y,
        off_scale=off,
        left_out=left_out,
        description=_describe_curve(title, series, levels, chance, chosen),
    )


def transfer_curve(target: TargetResult, test: TestResult, index: int) -> LayerCurve | None:
    """A test set's metrics over the sites; None where no site was scored on it."""
    if not test.sites:
        return None
    depth = _depth(target.sites)
    known = {s.site: s for s in target.sites}
    keys = dict.fromkeys(k for s in test.sites for k in s.metrics)
    # More than four curves of one set cannot be told apart; the table has the rest.
    wanted = [k for k in (target.primary_metric, "centred_accuracy", "accuracy", *keys) if k in keys]
    primary = target.primary_metric
    reference = _kind_series(target.sites, primary, depth)[:1]
    main = _main_line(reference)
    shown = [s for s in test.sites if s.site in main] or test.sites
    series: list[Series] = []
    for metric in list(dict.fromkeys(wanted))[:3]:
        points = tuple(
            SitePoint(
                s.site,
                _place(s.site, known[s.site].layer if s.site in known else None, depth),
                quantity(s.metrics.get(metric)),
            )
            for s in shown
        )
        role = f"transfer_{len(series)}"
        series.append(Series(metric, metric_title(metric), role, points))
    series.extend(
        Series("in_distribution", f"{metric_title(primary)} in training", "reference", s.points) for s in reference
    )
    chance = chance_of(primary, primary, target.chance)
    best = target.best
    chosen = None
    if test.metrics.get(primary) is not None and test.metrics[primary].value is not None:
        chosen = SitePoint(best.site, _place(best.site, best.layer, depth), quantity(test.metrics[primary]))
    axis_metric = primary if all(s.key in BOUNDED for s in series[:-1]) or primary not in BOUNDED else ""
    y, off = _y_axis(axis_metric, series, [], chance, None, None, chosen)
    name = quoted(test.name)
    return LayerCurve(
        key=f"transfer-{index}",
        metric=primary,
        metric_title=joined([s.title for s in series if s.role != "reference"], "or"),
        series=tuple(series),
        levels=(),
        chance=chance,
        null=None,
        null_best=None,
        chosen=chosen,
        x=_x_axis(tuple(series), depth),
        y=y,
        off_scale=off,
        left_out=len(test.sites) - len(shown),
        description=f"On {name}: " + _describe_curve("", tuple(series), [], chance, chosen),
    )


def _depth(sites: Sequence[SiteResult]) -> int:
    return 1 + max((s.layer for s in sites if s.layer is not None), default=-1)


def _place(site: str, layer: int | None, depth: int) -> float:
    if layer is not None:
        return float(layer)
    return -1.0 if site == "embed" else float(depth)


def _points(sites: Sequence[SiteResult], metric: str, depth: int) -> tuple[SitePoint, ...]:
    return tuple(
        SitePoint(
            s.site,
            _place(s.site, s.layer, depth),
            quantity(s.metrics.get(metric)),
            s.p_value,
            s.null_mean,
            s.null_low,
            s.null_high,
            s.n_fits,
            s.n_not_converged,
        )
        for s in sites
    )


def _kind_series(sites: Sequence[SiteResult], metric: str, depth: int) -> tuple[Series, ...]:
    """One series a kind; embedding, block outputs and final norm are one stream and make one line."""
    has_post = any(s.kind == "resid_post" for s in sites)
    groups: dict[str, list[SiteResult]] = {}
    for site in sites:
        in_stream = site.kind in _STREAM and not (site.kind == "resid_pre" and has_post)
        groups.setdefault("stream" if in_stream else site.kind, []).append(site)
    ordered = sorted(groups, key=lambda k: (k != "stream", list(groups).index(k)))
    alone = len(groups) == 1
    return tuple(
        Series(
            kind,
            "The probe" if alone else _KIND_TITLES.get(kind, kind),
            kind,
            tuple(sorted(_points(groups[kind], metric, depth), key=lambda p: p.x)),
            connected=kind != "head_out",
        )
        for kind in ordered
    )


def _main_line(series: Sequence[Series]) -> set[str]:
    """The sites of the first series. What is drawn as one line keeps to them: several kinds in one would zigzag."""
    return {p.site for s in series[:1] for p in s.points}


def _x_axis(series: Sequence[Series], depth: int) -> Axis:
    places = {p.x: p.site for s in series for p in s.points}
    if not places:
        return Axis((), (), 0.0, 1.0)
    low, high = min(places), max(places)
    span = high - low or 1.0
    ends = [
        (x, name) for x, name in ((-1.0, "embed"), (float(depth), "norm")) if places.get(x) in ("embed", "final_norm")
    ]

    def ticks(wanted: int, room: float) -> tuple[tuple[float, str], ...]:
        inner = [t for t in nice(0, max(depth - 1, 1), wanted) if float(t).is_integer() and t in places]
        free = [t for t in inner if all(abs(t - x) >= room * span for x, _ in ends)]
        return tuple(sorted([*ends, *((t, str(int(t))) for t in free)]))

    return Axis(ticks(10, 0.045), ticks(4, 0.15), low, high)


def _y_axis(
    metric: str,
    series: Sequence[Series],
    levels: Sequence[Level],
    chance: float | None,
    null: Series | None,
    null_best: float | None,
    chosen: SitePoint | None,
) -> tuple[Axis, int]:
    shown = [p.quantity for s in series for p in s.points] + [level.quantity for level in levels]
    shown += [chosen.quantity] if chosen else []
    values = [q.value for q in shown if q.value is not None]
    around = [v for q in shown for v in (q.low, q.high) if v is not None]
    if null is not None:
        around += [v for p in null.points for v in (p.null_low, p.null_high) if v is not None]
    around += [v for v in (chance, null_best) if v is not None]
    everything = [*values, *around] or [0.0, 1.0]
    low, high = min(everything), max(everything)
    off = 0
    if metric not in BOUNDED and low < -1.0 < high:
        # A few hopeless fits (R² of −40) would flatten everything else; they leave the axis and are counted.
        low = -1.0
        off = sum(v < low for v in values)
    pad = 0.04 * (high - low or 1.0)
    low, high = low - pad, high + pad
    if metric in BOUNDED:
        low, high = max(0.0, low), min(1.02, high)
    ticks = tuple((t, tick_text(t)) for t in nice(low, high, 6))
    return Axis(ticks, ticks, low, high), off


def _same_statistic(permutation: Permutation, metric: str) -> bool:
    """Whether the null stands on the metric's own scale, so that its band may be drawn beside the curve."""
    words = permutation.statistic.strip().lower().replace(" ", "_")
    return words == metric or words.startswith(f"{metric}_") or words.startswith(f"{metric},")


def _describe_curve(
    title: str, series: Sequence[Series], levels: Sequence[Level], chance: float | None, chosen: SitePoint | None
) -> str:
    parts = []
    for item in series:
        known = [p for p in item.points if p.quantity.value is not None]
        if not known:
            continue
        top = max(known, key=lambda p: p.quantity.value or 0.0)
        parts.append(
            f"{item.title} goes from {known[0].quantity.text} at {known[0].site} to {known[-1].quantity.text} at "
            f"{known[-1].site}, highest {top.quantity.text} at {top.site}"
        )
    text = f"{title} over {count(max((len(s.points) for s in series), default=0))} sites: " if title else ""
    text += "; ".join(parts) or "no values"
    if levels:
        text += ". Controls: " + joined([f"{level.title} {level.quantity.text}" for level in levels])
    if chosen is not None:
        text += f". Chosen site {chosen.site}: {chosen.quantity.full}"
    if chance is not None:
        text += f". Chance {number(chance)}"
    flagged = sum(1 for s in series for p in s.points if p.not_converged)
    if flagged:
        text += f". At {plural(flagged, 'site')} some fits did not converge"
    return sentence_start(text) + "."


def hover(point: SitePoint, metric: str) -> tuple[str, ...]:
    """The lines of a point's hover box after the site's name."""
    lines = [f"{metric} {point.quantity.text}"]
    if point.quantity.interval:
        lines.append(f"95% interval {point.quantity.interval}")
    if point.p is not None:
        lines.append(f"p = {p_text(point.p)}")
    if point.not_converged:
        lines.append(f"{count(point.not_converged)} of {plural(point.n_fits, 'fit')} did not converge")
    return tuple(lines)
