"""The file: one page, nothing from outside, nothing unescaped, written whole."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
import report_example as example

from leadline.errors import ConfigError, OutputError
from leadline.report import render_html, render_markdown, write_report


class Page(HTMLParser):
    """Collects elements, ids, text and the bodies of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[tuple[str | None, str]] = []
        self._raw: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._raw = tag if tag in ("script", "style") else None
        if tag == "script":
            self.scripts.append((dict(attrs).get("type"), ""))

    def handle_endtag(self, tag: str) -> None:
        self._raw = None

    def handle_data(self, data: str) -> None:
        if self._raw == "script":
            kind, body = self.scripts[-1]
            self.scripts[-1] = (kind, body + data)
        elif self._raw is None:
            self.text.append(data)


@pytest.fixture(scope="module")
def hostile_page() -> Page:
    return Page(render_html(example.hostile()))


def words(page: Page) -> str:
    return " ".join(" ".join(page.text).split())


def test_nothing_is_asked_of_the_outside() -> None:
    page = Page(render_html(example.results()))
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name)
            if value is not None and tag != "data":
                assert value.startswith(("#", "data:,")), (tag, name, value)
    text = render_html(example.results())
    own = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert "url(" not in own
    assert "@import" not in own
    assert "@font-face" not in own


def test_the_policy_names_exactly_the_scripts_of_the_page(hostile_page: Page) -> None:
    policy = next(a["content"] for t, a in hostile_page.tags if t == "meta" and a.get("http-equiv"))
    assert policy is not None
    code = [body for kind, body in hostile_page.scripts if kind is None]
    sums = {base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() for body in code}
    assert len(code) == 3
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == sums
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy


def test_text_from_data_stays_text(hostile_page: Page) -> None:
    names = {t for t, _ in hostile_page.tags}
    assert not names & {"img", "iframe", "object", "form", "input"}
    assert not [a for _, a in hostile_page.tags if any(k.startswith("on") for k in a)]
    assert not [a for t, a in hostile_page.tags if t == "a" and not (a.get("href") or "").startswith("#")]
    shown = words(hostile_page)
    for given in example.BREAKERS:
        if "\x00" not in given:
            assert " ".join(given.split()) in shown
    # The template engine did not read it either.
    assert "{{ 7 * 7 }}" in shown


def test_ids_are_unique_and_every_link_leads_somewhere(hostile_page: Page) -> None:
    ids = [a["id"] for _, a in hostile_page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    for _, attributes in hostile_page.tags:
        for name in ("href", "aria-labelledby"):
            target = attributes.get(name) or ""
            if target.startswith("#") or (name == "aria-labelledby" and target):
                assert target.lstrip("#") in ids, target


@pytest.mark.parametrize("make", [example.results, example.bare, example.kinds, example.hostile, example.acted])
def test_every_figure_has_words_and_values(make) -> None:  # type: ignore[no-untyped-def]
    page = Page(render_html(make()))
    figures = [a for t, a in page.tags if t == "figure"]
    canvases = [a for t, a in page.tags if (a.get("class") or "") == "canvas"]
    data = [body for kind, body in page.scripts if kind == "application/json"]
    assert figures
    assert len(figures) == len(canvases) == len(data) - 1
    assert all(c.get("role") == "img" and len(c.get("aria-label") or "") > 20 for c in canvases)
    assert not any("<" in body for body in data)


def test_the_first_screen_says_what_was_found() -> None:
    shown = words(Page(render_html(example.results())))
    for piece in (
        "A linear probe reads “label” from SmolLM2-135M-Instruct",
        "Before you believe the figures: 2 warnings",
        "set group to 'city'",
        "decodable",
        "supported",
        "not tested",
    ):
        assert piece in shown


def test_values_can_be_read_back_in_full() -> None:
    results = example.results()
    page = Page(render_html(results))
    values = {float(a["value"] or "nan") for t, a in page.tags if t == "data"}
    target = results.targets[0]
    for site in target.sites:
        for estimate in site.metrics.values():
            assert estimate.value in values
    for baseline in target.baselines:
        assert baseline.gain.value in values


def test_size() -> None:
    both = example.results(example.binary_target(), example.continuous_target())
    assert len(render_html(both).encode()) < 3_000_000


def test_no_asset_could_end_its_element() -> None:
    folder = files("leadline.report") / "assets"
    for name in ("theme.js", "report.js", "plotly-cartesian.min.js"):
        assert "</script" not in (folder / name).read_text(encoding="utf-8").lower()
    assert "</style" not in (folder / "report.css").read_text(encoding="utf-8").lower()


def test_plotly_is_the_file_that_its_readme_names() -> None:
    folder = files("leadline.report") / "assets"
    about = (folder / "README.md").read_text(encoding="utf-8")
    found = hashlib.sha256((folder / "plotly-cartesian.min.js").read_bytes()).hexdigest()
    assert found in about
    assert "Licensed under the MIT license" in (folder / "plotly-cartesian.min.js").read_text(encoding="utf-8")[:300]


def test_rendering_twice_gives_the_same_page() -> None:
    assert render_html(example.results()) == render_html(example.results())


def test_write_beside_the_results(tmp_path: Path) -> None:
    results = example.results()
    (tmp_path / "results.json").write_text(results.model_dump_json(), encoding="utf-8")
    expected = render_html(results)
    for source in (tmp_path, tmp_path / "results.json", str(tmp_path)):
        written = write_report(source)
        assert written == tmp_path / "report.html"
        assert written.read_text(encoding="utf-8") == expected
        written.unlink()
    assert write_report(tmp_path, tmp_path / "new" / "page.html").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "results.json"]


def test_write_results_in_memory(tmp_path: Path) -> None:
    assert write_report(example.results(), tmp_path) == tmp_path / "report.html"
    with pytest.raises(ConfigError, match="give write_report a path"):
        write_report(example.results())
    with pytest.raises(ConfigError, match="no results at"):
        write_report(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        write_report(example.results(), tmp_path / "file" / "report.html")


def test_lone_surrogates_are_written(tmp_path: Path) -> None:
    written = write_report(example.results().model_copy(update={"name": "a\ud800b"}), tmp_path / "x.html")
    assert "a?b" in written.read_text(encoding="utf-8")


def test_markdown_says_the_same_and_escapes() -> None:
    text = render_markdown(example.results())
    assert "## A linear probe reads “label”" in text
    assert "| decodable | **supported** |" in text
    assert "leadline run study.yaml" in text
    nasty = render_markdown(example.hostile())
    outside = re.sub(r"```yaml.*?```", "", nasty, flags=re.S)
    assert not re.search(r"(?<!\\)<", outside)
    # Every table row has the cells of its head.
    for block in re.findall(r"(?:^\|.*\n)+", outside, flags=re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.strip().split("\n")}) == 1
