"""The Plotly figures: values, order, escaping, JSON."""

from __future__ import annotations

import json
import math

import report_example as example

from leadline.report import summarise
from leadline.report.figures import draw_curve, draw_histogram, draw_points, figure_json
from leadline.report.palette import PALETTE, dark_of


def traces(figure: object) -> dict[tuple[str, str], dict]:
    raw = figure.to_plotly_json()["data"]  # type: ignore[attr-defined]
    return {(t["meta"]["role"], t["meta"]["key"]): t for t in raw}


def test_a_layer_curve_draws_everything_it_is_held_against() -> None:
    target = example.binary_target()
    drawing = draw_curve(summarise(example.results(target)).targets[0].curves[0])
    found = traces(drawing.figure)
    assert list(found[("series", "stream")]["y"]) == [s.metrics["auroc"].value for s in target.sites]
    assert found[("chosen", "resid_post.13")]["y"] == [0.9316]
    error = found[("chosen", "resid_post.13")]["error_y"]
    assert math.isclose(error["array"][0], 0.9448 - 0.9316)
    assert math.isclose(error["arrayminus"][0], 0.9316 - 0.9175)
    for name in ("bag_of_words", "length", "token_embeddings", "char_ngrams"):
        assert ("level", name) in found
    assert ("band", "stream") in found
    assert ("series", "random_weights") in found
    assert ("null", "null") in found
    assert found[("null_best", "null_best")]["y"] == [0.5462, 0.5462]
    symbols = found[("series", "stream")]["marker"]["symbol"]
    assert [i for i, s in enumerate(symbols) if s == "x-thin-open"] == [4]


def test_the_legend_switches_each_line_with_its_band() -> None:
    drawing = draw_curve(summarise(example.results()).targets[0].curves[0])
    data = drawing.figure.to_plotly_json()["data"]
    probe = next(e for e in drawing.legend if e.title == "The probe")
    assert {(data[i]["meta"]["role"], data[i]["meta"]["key"]) for i in probe.traces} == {
        ("series", "stream"),
        ("band", "stream"),
    }
    switched = sorted(i for e in drawing.legend for i in e.traces)
    assert switched == list(range(len(data)))


def test_a_band_stops_where_an_interval_is_missing() -> None:
    target = example.binary_target()
    sites = list(target.sites)
    estimate = sites[10].metrics["auroc"]
    sites[10] = sites[10].model_copy(
        update={"metrics": {**sites[10].metrics, "auroc": estimate.model_copy(update={"low": None, "high": None})}}
    )
    summary = summarise(example.results(target.model_copy(update={"sites": sites})))
    band = traces(draw_curve(summary.targets[0].curves[0]).figure)[("band", "stream")]
    gap = list(band["x"]).index(None)
    # Ten sites before the gap, there and back; twenty-one after it.
    assert gap == 20
    assert len(band["x"]) - gap - 1 == 42


def test_a_histogram_counts_one_class_up_and_one_down() -> None:
    target = example.binary_target()
    assert target.histogram is not None
    figure = summarise(example.results(target)).targets[0].histogram
    assert figure is not None
    found = traces(draw_histogram(figure).figure)
    assert list(found[("histogram", "positive")]["y"]) == target.histogram.positive
    assert [-n for n in found[("histogram", "negative")]["y"]] == target.histogram.negative
    assert len(found[("histogram", "negative")]["x"]) == len(target.histogram.edges) - 1


def test_points_keep_rows_and_values() -> None:
    target = example.continuous_target()
    for given, figure in zip(target.points, summarise(example.results(target)).targets[0].points, strict=True):
        found = traces(draw_points(figure).figure)[("points", given.column)]
        assert list(found["x"]) == given.true
        assert list(found["y"]) == given.predicted
        assert list(found["customdata"]) == given.rows


def test_figure_json_cannot_leave_its_script_element() -> None:
    target = summarise(example.hostile()).targets[0]
    assert target.histogram is not None
    drawings = [draw_curve(c) for c in target.curves] + [draw_histogram(target.histogram)]
    drawings += [draw_curve(t.curve) for t in target.tests if t.curve is not None]
    for drawing in drawings:
        text = figure_json(drawing.figure)
        assert not set("<>&\u2028\u2029") & set(text)
        assert json.loads(text)["data"]


def test_labels_from_data_hold_no_tag_that_plotly_would_read() -> None:
    target = summarise(example.hostile()).targets[0]
    assert target.histogram is not None
    figures = [draw_curve(c).figure for c in target.curves] + [draw_histogram(target.histogram).figure]
    own = ("<b>", "</b>", "<br>")
    for figure in figures:
        raw = figure.to_plotly_json()
        strings = [a["text"] for a in raw["layout"].get("annotations", [])]
        strings += [x["text"] for x in raw["layout"].get("meta", {}).get("labels", [])]
        for trace in raw["data"]:
            strings += trace.get("hovertext", ())
        assert strings
        for text in strings:
            for tag in own:
                text = text.replace(tag, "")
            assert "<" not in text


def test_not_a_number_becomes_null() -> None:
    target = example.continuous_target()
    broken = target.points[0].model_copy(update={"true": [math.nan, 1.0], "predicted": [0.0, math.inf], "rows": [0, 1]})
    figure = summarise(example.results(target.model_copy(update={"points": [broken]}))).targets[0].points[0]
    data = json.loads(figure_json(draw_points(figure).figure))["data"][0]
    assert data["x"] == [None, 1.0]
    assert data["y"] == [0.0, None]


def test_the_figure_stays_small_and_readable() -> None:
    text = figure_json(draw_curve(summarise(example.results()).targets[0].curves[0]).figure)
    assert "bdata" not in text
    assert "template" not in text
    assert len(text) < 60_000


def test_every_colour_has_one_dark_partner() -> None:
    lights = [light for light, _ in PALETTE.values()]
    assert len(set(lights)) == len(lights)
    assert dark_of()[PALETTE["probe"][0]] == PALETTE["probe"][1]


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_contrast_with_what_they_stand_on() -> None:
    marks = {"line-strong": 3.0}
    for name, pair in PALETTE.items():
        if not pair[0].startswith("#") or name.endswith("-tint") or name in ("ground", "paper", "sunken", "line"):
            continue
        if name == "on-accent":
            continue
        for theme in (0, 1):
            for under in ("ground", "paper"):
                ratio = contrast(pair[theme], PALETTE[under][theme])
                assert ratio >= marks.get(name, 4.5), (name, under, theme, ratio)
    for word in ("supported", "refuted", "inconclusive", "untested"):
        for theme in (0, 1):
            assert contrast(PALETTE[word][theme], PALETTE[f"{word}-tint"][theme]) >= 4.5
            assert contrast(PALETTE["ink-2"][theme], PALETTE[f"{word}-tint"][theme]) >= 4.5
    for theme in (0, 1):
        assert contrast(PALETTE["accent"][theme], PALETTE["on-accent"][theme]) >= 4.5
