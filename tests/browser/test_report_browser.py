"""The report in a real Chromium: what a reader gets, not what the HTML says.

Without Chromium the tests are skipped, visibly; where the variable CI is set they fail instead.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
import report_example as example

from leadline.report import write_report
from leadline.study.results import Results

WIDTHS = (320, 768, 1280, 2560)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
CHROMIUM = next(
    (
        p
        for p in ("/usr/bin/chromium", shutil.which("chromium"), shutil.which("chromium-browser"))
        if p and Path(p).exists()
    ),
    None,
)


def missing(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI is set: the report must be looked at in a browser there")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        missing("Chromium is not installed")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@dataclass
class Opened:
    """A page with everything that went wrong on it."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[], Results]], Path]:
    """The report of what `make()` gives, written once."""
    paths: dict[Callable[[], Results], Path] = {}

    def write(make: Callable[[], Results]) -> Path:
        if make not in paths:
            paths[make] = write_report(make(), tmp_path_factory.mktemp("report"))
        return paths[make]

    return write


@pytest.fixture
def show(browser: Any, written: Callable[[Callable[[], Results]], Path]) -> Iterator[Callable[..., Opened]]:
    """`show(make, width=1280, theme="light")`: the report, opened from a file, with all figures drawn."""
    pages: list[Any] = []

    def open_report(make: Callable[[], Results], *, width: int = 1280, theme: str = "light", **options: Any) -> Opened:
        path = written(make)
        page = browser.new_page(
            viewport={"width": width, "height": 800}, color_scheme=theme, reduced_motion="reduce", **options
        )
        pages.append(page)
        opened = Opened(page)
        page.on("console", lambda m: opened.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: opened.complaints.append(str(e)))
        page.on("request", lambda r: opened.requests.append(r.url))

        def refuse(dialog: Any) -> None:
            opened.complaints.append(f"dialog: {dialog.message}")
            dialog.dismiss()

        page.on("dialog", refuse)
        page.goto(path.as_uri())
        if options.get("java_script_enabled", True):
            page.wait_for_selector("html[data-figures=drawn]", state="attached")
        return opened

    yield open_report
    for page in pages:
        page.close()


def both() -> Results:
    return example.results(example.binary_target(), example.continuous_target())


def places() -> Results:
    return example.results(example.continuous_target(), name="places")


def large() -> Results:
    """A hundred and twenty sites, long texts."""
    results = example.results()
    target = results.targets[0]
    sites = [
        target.sites[i % 32].model_copy(update={"site": f"{kind}.{i}", "kind": kind, "layer": i})
        for kind in ("resid_post", "attn_out", "mlp_out")
        for i in range(40)
    ]
    wrong = [w.model_copy(update={"text": w.text * 200}) for w in target.most_wrong]
    return results.model_copy(update={"targets": [target.model_copy(update={"sites": sites, "most_wrong": wrong})]})


def drawn(page: Any, key: str) -> dict[tuple[str, str], dict[str, Any]]:
    """A figure's traces as Plotly holds them, by role and key."""
    found = page.evaluate(
        "id => document.querySelector('#' + id + ' .canvas').data.map(t => "
        "({meta: t.meta, x: Array.from(t.x), y: Array.from(t.y)}))",
        key,
    )
    return {(t["meta"]["role"], t["meta"]["key"]): t for t in found}


def frames(page: Any, count: int = 4) -> None:
    """Let the page draw: what an observer of sizes has to do is done after the next frames."""
    for _ in range(count):
        page.evaluate("new Promise(done => requestAnimationFrame(() => done()))")


@pytest.mark.parametrize("make", [example.results, both, example.bare, example.kinds, example.hostile, example.acted])
def test_it_opens_quietly_and_asks_for_nothing(show: Callable[..., Opened], make: Callable[[], Results]) -> None:
    opened = show(make)
    assert opened.complaints == []
    assert [u for u in opened.requests if not u.startswith(("file://", "data:", "blob:"))] == []
    # Every figure was drawn, but for those behind a tab, which are when it is opened.
    assert opened.page.locator("figure.plot:not([hidden]) .canvas:not(:has(svg))").count() == 0


def test_hostile_text_stays_text(show: Callable[..., Opened]) -> None:
    opened = show(example.hostile)
    page = opened.page
    assert page.locator("img, iframe, object, form, input").count() == 0
    assert page.locator("body script").count() == page.locator("script[type='application/json']").count() + 2
    assert (
        page.evaluate(
            "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(n => n.startsWith('on'))"
        )
        == []
    )
    assert page.evaluate("[...document.querySelectorAll('a')].every(a => a.getAttribute('href').startsWith('#'))")
    # Plotly makes links and bold text of tags in labels; none may come of the data's.
    assert page.locator(".canvas a").count() == 0
    svg = page.evaluate("[...document.querySelectorAll('.canvas')].map(c => c.textContent).join(' ')")
    assert "<a href=" in svg
    assert "<img src=x" in svg
    # Hover boxes too.
    target = page.locator("#target-1-curve-1 .canvas")
    target.scroll_into_view_if_needed()
    page.evaluate(
        "Plotly.Fx.hover(document.querySelector('#target-1-curve-1 .canvas'), [{curveNumber: 3, pointNumber: 1}])"
    )
    assert "<" in target.locator(".hoverlayer").text_content()
    assert target.locator(".hoverlayer a").count() == 0
    # Opening everything runs nothing.
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.locator("body").click(position={"x": 5, "y": 5})
    assert opened.complaints == []


def test_the_figures_show_the_results_values(show: Callable[..., Opened]) -> None:
    binary, continuous = both().targets
    page = show(both).page
    curve = drawn(page, "target-1-curve-1")
    assert curve[("series", "stream")]["y"] == [s.metrics["auroc"].value for s in binary.sites]
    for baseline in binary.baselines:
        if baseline.sites:
            expected = [s.metrics["auroc"].value for s in baseline.sites]
            assert curve[("series", baseline.name)]["y"] == expected
        else:
            assert curve[("level", baseline.name)]["y"] == [baseline.metrics["auroc"].value] * 2
    assert curve[("chosen", binary.best.site)]["y"] == [binary.best.metrics["auroc"].value]
    assert binary.histogram is not None
    histogram = drawn(page, "target-1-histogram")
    assert histogram[("histogram", "positive")]["y"] == binary.histogram.positive
    assert [-n for n in histogram[("histogram", "negative")]["y"]] == binary.histogram.negative
    for number, test in enumerate(binary.tests, start=1):
        transfer = drawn(page, f"target-1-transfer-{number}")
        for metric in ("auroc", "accuracy", "centred_accuracy"):
            assert transfer[("series", metric)]["y"] == [s.metrics[metric].value for s in test.sites]
    for number, points in enumerate(continuous.points, start=1):
        scatter = drawn(page, f"target-2-points-{number}")[("points", points.column)]
        assert scatter["x"] == points.true
        assert scatter["y"] == points.predicted


def test_interventions_show_the_results_values(show: Callable[..., Opened]) -> None:
    causal = example.causal()
    page = show(example.acted).page
    effects = drawn(page, "target-1-effects")
    for effect in causal.effects:
        assert effects[("effect", effect.name)]["x"] == [effect.effect.value]
    for null in causal.nulls:
        assert effects[(f"null_{null.kind}", null.of)]["x"] == null.values
    doses = drawn(page, "target-1-doses")
    for curve in causal.curves:
        assert doses[("dose", curve.name)]["y"] == [p.change.value for p in curve.points]
    cells = page.evaluate("document.querySelector('#target-1-map-1 .canvas').data[0].z.map(r => Array.from(r))")
    assert cells == causal.heat_maps[0].values
    # The table behind the map has the same numbers, to be read without seeing it.
    page.evaluate("document.querySelectorAll('#target-1-causal details').forEach(d => d.open = true)")
    values = page.evaluate(
        "[...document.querySelectorAll('#target-1-map-1-table tbody tr')].map("
        "r => [...r.querySelectorAll('data')].map(d => +d.value))"
    )
    assert values == causal.heat_maps[0].values


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_names_of_interventions_stay_in_the_figure_and_apart(
    show: Callable[..., Opened], width: int, theme: str
) -> None:
    page = show(example.acted, width=width, theme=theme).page
    boxes = page.evaluate(
        """() => { const plot = document.querySelector('#target-1-effects .canvas');
          const room = plot.getBoundingClientRect();
          const texts = [...plot.querySelectorAll('.annotation-text-g, .ytick text')];
          const found = texts.map(e => e.getBoundingClientRect());
          return found.map(b => [b.left - room.left, room.right - b.right, b.top, b.bottom]); }"""
    )
    narrow = width < 560
    assert len(boxes) == 1 + len(example.causal().effects) * (1 if narrow else 2)
    assert all(left >= -1 and right >= -1 for left, right, _, _ in boxes)
    if narrow:
        tops = sorted((top, bottom) for _, _, top, bottom in boxes)
        assert all(bottom <= after + 2 for (_, bottom), (after, _) in itertools.pairwise(tops))


def test_zero_of_a_map_is_neutral_and_its_ends_are_opposite(show: Callable[..., Opened]) -> None:
    for theme, ends in (("light", ["#b04d08", "#eef2f5", "#15599a"]), ("dark", ["#f2a36d", "#1c262f", "#6db2f6"])):
        page = show(example.acted, theme=theme).page
        axis = page.evaluate(
            "(() => { const a = document.querySelector('#target-1-map-1 .canvas').layout.coloraxis; "
            "return [a.cmin, a.cmax, a.colorscale.map(s => s[1])]; })()"
        )
        assert axis[0] == -axis[1]
        assert axis[2] == ends


def test_marks_stand_where_the_values_are(show: Callable[..., Opened]) -> None:
    """Read back from pixels: the chosen site's mark is where the axes say that its value is."""
    page = show(example.results).page
    place = page.evaluate(
        """() => {
          const plot = document.querySelector('#target-1-curve-1 .canvas'), full = plot._fullLayout;
          const i = plot.data.findIndex(t => t.meta.role === 'chosen');
          const mark = plot.querySelectorAll('.scatterlayer .trace')[
            plot.calcdata.filter(c => c[0].trace.visible).findIndex(c => c[0].trace.index === i)];
          const box = mark.querySelector('.points path').getBoundingClientRect();
          const frame = plot.querySelector('.nsewdrag').getBoundingClientRect();
          const y = full.yaxis.range[1] - (box.top + box.height / 2 - frame.top) / frame.height *
            (full.yaxis.range[1] - full.yaxis.range[0]);
          const x = full.xaxis.range[0] + (box.left + box.width / 2 - frame.left) / frame.width *
            (full.xaxis.range[1] - full.xaxis.range[0]);
          return [x, y];
        }"""
    )
    assert place[0] == pytest.approx(13, abs=0.15)
    assert place[1] == pytest.approx(0.9316, abs=0.004)


def test_tabs_show_every_metric(show: Callable[..., Opened]) -> None:
    results = example.results()
    page = show(example.results).page
    assert page.locator("#target-1-curve-2").is_hidden()
    page.locator(".tabs button", has_text="accuracy").first.click()
    assert page.locator("#target-1-curve-1").is_hidden()
    assert page.locator("#target-1-curve-2 .main-svg").first.is_visible()
    values = drawn(page, "target-1-curve-2")[("series", "stream")]["y"]
    assert values == [s.metrics["accuracy"].value for s in results.targets[0].sites]


def test_a_legend_entry_switches_its_line(show: Callable[..., Opened]) -> None:
    page = show(example.results).page
    entry = page.locator("#target-1-curve-1 .legend button", has_text="Random weights")
    visible = (
        "() => document.querySelector('#target-1-curve-1 .canvas').data.filter("
        "t => t.meta.key === 'random_weights').map(t => t.visible !== false)"
    )
    assert page.evaluate(visible) == [True, True]
    entry.click()
    assert entry.get_attribute("aria-pressed") == "false"
    assert page.evaluate(visible) == [False, False]
    entry.press("Enter")
    assert page.evaluate(visible) == [True, True]


@pytest.mark.parametrize("make", [both, example.hostile, example.acted])
def test_nothing_sticks_out_at_any_width(show: Callable[..., Opened], make: Callable[[], Results]) -> None:
    page = show(make, width=WIDTHS[0]).page
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        frames(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # Figures were drawn again: they fill the room that they have, and no more.
        rooms = page.evaluate(
            "[...document.querySelectorAll('.plot:not(.plot-points):not([hidden]) .canvas')].map("
            "c => [c.clientWidth, c.querySelector('.main-svg').getBoundingClientRect().width])"
        )
        assert all(abs(room - taken) <= 1 for room, taken in rooms), (width, rooms)


@pytest.mark.parametrize("width", [768, 2560])
def test_labels_of_lines_do_not_cover_each_other(show: Callable[..., Opened], width: int) -> None:
    page = show(example.kinds, width=width).page
    boxes = page.evaluate(
        "[...document.querySelectorAll('#target-1-curve-1 .annotation-text-g')].map(e => {"
        "const b = e.getBoundingClientRect(); return [b.left, b.right, b.top, b.bottom]})"
    )
    assert len(boxes) == (11 if page.locator("#target-1-curve-1 .canvas").bounding_box()["width"] >= 700 else 1)
    right = page.locator("#target-1-curve-1 .canvas").bounding_box()
    for i, (left, r, top, bottom) in enumerate(boxes):
        assert r <= right["x"] + right["width"] + 1
        for other in boxes[i + 1 :]:
            apart = r <= other[0] or other[1] <= left or bottom <= other[2] + 2 or other[3] <= top + 2
            assert apart, (boxes[i], other)


CONTRAST = """
() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = c => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1);
    return Array.from(canvas.getImageData(0, 0, 1, 1).data); };
  const lum = c => { const [r, g, b] = c.slice(0, 3).map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const under = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
    if (c[3] === 255) return c; } return [255, 255, 255, 255]; };
  const ratio = (a, b) => { const [h, l] = [lum(a), lum(b)].sort((x, y) => y - x); return (h + 0.05) / (l + 0.05); };
  const out = {};
  const walker = document.createTreeWalker(document.querySelector('body'), NodeFilter.SHOW_TEXT);
  for (let n = walker.nextNode(); n; n = walker.nextNode()) {
    const e = n.parentElement;
    if (!n.data.trim() || !e.getClientRects().length) continue;
    if (e.closest('script, style, noscript, .hidden, .skip, [hidden]')) continue;
    const svg = e.closest('.canvas');
    const style = getComputedStyle(e);
    const ink = rgb(svg && e.closest('svg') ? style.fill : style.color);
    const r = ratio(ink, under(e));
    if (r < 4.5) out[e.tagName + '.' + e.getAttribute('class') + ' ' + n.data.trim().slice(0, 30)] = r;
  }
  return out;
}
"""


@pytest.mark.parametrize("make", [both, example.acted])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_has_contrast(show: Callable[..., Opened], theme: str, make: Callable[[], Results]) -> None:
    page = show(make, theme=theme).page
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(15, 21, 27)") == (theme == "dark")
    assert page.evaluate(CONTRAST) == {}


def test_the_theme_can_be_switched_and_is_kept(show: Callable[..., Opened]) -> None:
    opened = show(example.results, theme="dark")
    page = opened.page
    ink = "getComputedStyle(document.querySelector('#target-1-curve-1 .xtick text')).fill"
    line = (
        "document.querySelector('#target-1-curve-1 .canvas').data.find("
        "t => t.meta.key === 'stream' && t.meta.role === 'series').line.color"
    )
    button = page.locator("#theme")
    assert button.get_attribute("aria-pressed") == "true"
    dark = (page.evaluate(ink), page.evaluate(line))
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(245, 247, 249)"
    light = (page.evaluate(ink), page.evaluate(line))
    assert dark[0] != light[0]
    assert (dark[1], light[1]) == ("#6db2f6", "#15599a")
    page.reload()
    page.wait_for_selector("html[data-figures=drawn]", state="attached")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert opened.complaints == []


def test_the_keyboard_reaches_the_sections(show: Callable[..., Opened]) -> None:
    page = show(example.results).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["y"] >= 0
    found = []
    for _ in range(12):
        page.keyboard.press("Tab")
        found.append(page.evaluate("document.activeElement.getAttribute('href') || document.activeElement.id"))
    assert found[:4] == ["#main", "#target-1", "#target-1-layers", "#target-1-controls"]
    assert "theme" in found
    page.locator(".sections a", has_text="Transfer").press("Enter")
    assert abs(page.locator("#target-1-transfer").bounding_box()["y"]) < 200
    # Tables that scroll can be scrolled from the keyboard.
    assert page.evaluate(
        "[...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0 && e.getAttribute('role') === 'region')"
    )


def test_outline_for_screen_readers(show: Callable[..., Opened]) -> None:
    page = show(both).page
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 or (a, b) == (2, 4) for a, b in itertools.pairwise(levels))
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("navigation").count() == 3
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, a, [role=region], [role=img]')].filter("
        "e => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.textContent.trim())).length"
    )
    assert unnamed == 0


def test_the_sites_sort_by_number_with_missing_ones_last(show: Callable[..., Opened]) -> None:
    page = show(example.bare).page
    head = page.locator("#target-1-sites-table thead th button").nth(1)
    column = (
        "() => [...document.querySelectorAll('#target-1-sites-table tbody tr')].map("
        "r => { const d = r.cells[1].querySelector('data'); return d && +d.value })"
    )
    first = page.evaluate(column)
    known = [v for v in first if v is not None]
    assert len(known) == len(first) - 1
    head.click()
    assert page.evaluate(column) == [*sorted(known, reverse=True), None]
    head.click()
    assert page.evaluate(column) == [*sorted(known), None]
    head.click()
    assert page.evaluate(column) == first


def test_values_are_saved_as_csv(show: Callable[..., Opened]) -> None:
    results = both()
    opened = show(both)
    page = opened.page
    with page.expect_download() as download:
        page.locator("#target-1-curve-1 [data-save=csv]").click()
    rows = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert download.value.suggested_filename == "target-1-curve-1.csv"
    assert rows[0] == "site,The probe,95% interval,Random weights,95% interval"
    value = results.targets[0].sites[0].metrics["auroc"].value
    assert rows[1].startswith(f"embed,{json.dumps(value)},")
    assert len(rows) == 1 + 32 + 4
    with page.expect_download() as download:
        page.locator("#target-2-points-1 [data-save=csv]").click()
    rows = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert rows[0] == "row,true,predicted"
    assert len(rows) == 2001
    with page.expect_download() as download:
        page.locator("#target-1-curve-1 [data-save=svg]").click()
    assert Path(download.value.path()).read_text(encoding="utf-8").startswith("<svg")
    assert opened.complaints == []


def test_points_become_a_table_when_asked(show: Callable[..., Opened]) -> None:
    page = show(places).page
    details = page.locator("#target-1-points-1 details.values")
    assert details.locator("tr").count() == 0
    details.locator("summary").click()
    details.locator("tr").nth(2000).wait_for(state="attached")
    assert details.locator("tr").count() == 2001
    first = details.locator("tr").nth(1).locator("th, td").all_text_contents()
    points = places().targets[0].points[0]
    assert int(first[0]) == points.rows[0]
    assert float(first[1]) == pytest.approx(points.true[0], rel=1e-4)


def test_print_is_light_and_complete(show: Callable[..., Opened]) -> None:
    page = show(example.results, theme="dark").page
    page.evaluate(
        "window.addEventListener('beforeprint', () => { window.seen = document.querySelector("
        "'#target-1-curve-1 .canvas').layout.font.color; })"
    )
    assert len(page.pdf(format="A4")) > 50_000
    assert page.evaluate("window.seen") == "#43525f"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.querySelector('.finding')).color") == "rgb(20, 33, 44)"
    assert page.locator(".bar").is_hidden()


def test_without_scripts_it_still_reads(show: Callable[..., Opened]) -> None:
    opened = show(example.results, java_script_enabled=False)
    page = opened.page
    assert page.locator(".finding").is_visible()
    assert page.locator(".ladder svg circle").first.is_visible()
    assert page.locator("noscript").first.is_visible() or "needs JavaScript" in page.content()
    page.locator("#target-1-curve-1 details.values summary").click()
    assert page.locator("#target-1-curve-1-table").is_visible()
    assert page.locator("#theme").is_hidden()
    assert opened.complaints == []


def test_a_large_study_still_opens(show: Callable[..., Opened]) -> None:
    opened = show(large)
    assert opened.complaints == []
    assert opened.page.locator("#target-1-sites-table tbody tr").count() == 120
    assert len(drawn(opened.page, "target-1-curve-1")[("series", "attn_out")]["y"]) == 40
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 1280
