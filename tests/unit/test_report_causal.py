"""Interventions in the report: what is worded, drawn and tabled, and that nothing stands there without them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import report_example as example

from leadline.report import render_html, render_markdown, summarise
from leadline.report.causal import CausalSummary, causal_summary
from leadline.report.causal_figures import draw_doses, draw_effects
from leadline.report.causal_maps import draw_bars, draw_heat
from leadline.report.causal_tables import middle
from leadline.report.drawing import Drawing, figure_json
from leadline.report.wording import percent, visible
from leadline.study.results import CausalResult, Estimate


def traces(drawing: Drawing) -> dict[tuple[str, str], dict[str, Any]]:
    raw = drawing.figure.to_plotly_json()["data"]
    return {(t["meta"]["role"], t["meta"]["key"]): t for t in raw}


def facts(found: CausalSummary) -> dict[str, str]:
    return dict(found.facts)


@pytest.fixture(scope="module")
def found() -> CausalSummary:
    return causal_summary(example.causal())


def test_without_interventions_there_is_no_section() -> None:
    whole = example.results()
    assert summarise(whole).targets[0].causal is None
    page = render_html(whole)
    assert "target-1-causal" not in page
    assert "Does the model act on it?" in page  # as the question of the claim alone
    assert "-causal-title" not in page
    told = {c.claim: c.verdict for c in summarise(whole).targets[0].claims}
    assert (told["used"], told["where from"]) == ("not tested", "not tested")
    assert "### Does the model act on it?" not in render_markdown(whole)


def test_the_verdicts_and_what_was_asked_are_said() -> None:
    page = render_html(example.acted())
    section = page[page.index('id="target-1-causal"') : page.index('id="target-1-sites"')]
    for piece in (
        "The model acts on what the probe reads",
        "The data do not decide whether head 11.4",
        "␣true or ␣True",
    ):
        assert piece in section
    assert "{text}⏎True or false?" in section
    assert 'href="#target-1-causal"' in page
    for key in ("effects", "doses", "components", "heads", "map-1", "map-2"):
        assert f'id="target-1-{key}"' in section


def test_effects_stand_in_rows_with_their_random_directions(found: CausalSummary) -> None:
    given = example.causal()
    assert found.effects is not None
    drawn = traces(draw_effects(found.effects))
    rows = {}
    for effect in given.effects:
        trace = drawn["effect", effect.name]
        assert list(trace["x"]) == [effect.effect.value]
        assert effect.effect.value is not None
        assert effect.effect.high is not None
        assert math.isclose(trace["error_x"]["array"][0], effect.effect.high - effect.effect.value)
        rows[effect.name] = trace["y"][0]
    assert list(rows.values()) == sorted(rows.values(), reverse=True)
    for null in given.nulls:
        trace = drawn[f"null_{null.kind}", null.of]
        assert list(trace["x"]) == null.values
        assert all(rows[null.of] - 0.5 < y < rows[null.of] for y in trace["y"])


def test_the_difference_between_the_classes_is_drawn_where_it_fits() -> None:
    def shapes(natural: float) -> list[float]:
        result = example.causal().model_copy(update={"natural": Estimate(value=natural)})
        effects = causal_summary(result).effects
        assert effects is not None
        return [s["x0"] for s in draw_effects(effects).figure.to_plotly_json()["layout"]["shapes"]]

    assert shapes(3.36) == [0, 3.36]
    # Far off, it would squeeze everything else together.
    assert shapes(80.0) == [0]


def test_doses_are_in_order_with_the_cost_below() -> None:
    given = example.causal()
    curves = [c.model_copy(update={"points": c.points[::-1]}) for c in given.curves]
    found = causal_summary(given.model_copy(update={"curves": curves}))
    assert found.doses is not None
    drawn = traces(draw_doses(found.doses))
    for curve in given.curves:
        line, cost = drawn["dose", curve.name], drawn["cost", curve.name]
        assert list(line["x"]) == list(cost["x"]) == sorted(p.dose for p in curve.points)
        assert list(line["y"]) == [p.change.value for p in curve.points]
        assert list(cost["y"]) == [p.cost.value for p in curve.points if p.cost is not None]
        assert cost["yaxis"] == "y2"
    covariance = drawn["band_covariance", "covariance"]
    assert list(covariance["y"]) == [*given.bands[1].low, None, *given.bands[1].high]
    assert "mean difference −0.10 to +0.20" in found.doses.note


def test_marks_are_open_where_a_dose_costs_too_much(found: CausalSummary) -> None:
    assert found.doses is not None
    colours = traces(draw_doses(found.doses))["dose", "pattern"]["marker"]["color"]
    assert [c == "#ffffff" for c in colours] == [True, *[False] * 7, True]


def test_the_usable_range_is_shaded(found: CausalSummary) -> None:
    assert found.doses is not None
    layout = draw_doses(found.doses).figure.to_plotly_json()["layout"]
    shaded = [(s["x0"], s["x1"]) for s in layout["shapes"] if s["type"] == "rect"]
    assert shaded == [(-0.2, 0.2)]
    budget = [s["y0"] for s in layout["shapes"] if s.get("yref") == "y2"]
    assert budget == pytest.approx([math.log(1.1)])


def test_a_ruinous_cost_does_not_flatten_the_others() -> None:
    given = example.causal()
    wild = given.curves[0].points[-1].model_copy(update={"cost": Estimate(value=9.0)})
    curve = given.curves[0].model_copy(update={"points": [*given.curves[0].points[:-1], wild]})
    found = causal_summary(given.model_copy(update={"curves": [curve]}))
    assert found.doses is not None
    top = draw_doses(found.doses).figure.to_plotly_json()["layout"]["yaxis2"]["range"][1]
    assert top == pytest.approx(math.log(3.2))
    assert any(c.text == "×8,103" for row in found.doses.table.rows for c in row)


def test_doses_without_cost_have_one_panel() -> None:
    given = example.causal()
    curves = [
        c.model_copy(update={"points": [p.model_copy(update={"cost": None}) for p in c.points], "usable": None})
        for c in given.curves
    ]
    found = causal_summary(given.model_copy(update={"curves": curves, "cost_budget": None}))
    assert found.doses is not None
    layout = draw_doses(found.doses).figure.to_plotly_json()["layout"]
    assert "yaxis2" not in layout
    assert found.doses.note == ""


def test_bars_are_the_largest_and_the_rest_completes_the_sum(found: CausalSummary) -> None:
    given = [c.difference.value for c in example.causal().contributions]
    assert found.bars is not None
    assert found.bars.rest is not None
    shown = [c.difference.value for c in found.bars.bars]
    assert shown == sorted(given, key=lambda v: -abs(v or 0))[: len(shown)]
    assert sum(v or 0 for v in shown) + found.bars.rest == pytest.approx(sum(v or 0 for v in given))
    drawn = traces(draw_bars(found.bars))
    assert sum(len(t["x"]) for t in drawn.values()) == len(shown) + 1
    assert drawn["bars", "head"]["y"][0] == len(shown)
    shares = [row[2].value for row in found.bars.table.rows]
    assert sum(s or 0 for s in shares) == pytest.approx(1)


def test_no_sum_is_claimed_of_a_part_of_the_terms() -> None:
    given = example.causal()
    bars = causal_summary(given.model_copy(update={"contributions": given.contributions[:40]})).bars
    assert bars is not None
    assert bars.rest is None
    assert "sum to" not in bars.note
    assert bars.table.columns == ("component", "difference in score")


def test_every_head_has_its_cell(found: CausalSummary) -> None:
    assert found.heads is not None
    assert (len(found.heads.rows), found.heads.columns) == (14, (*map(str, range(9)), "MLP"))
    assert found.heads.values[11][4] == 1.9
    assert found.heads.values[10][-1] == 0.95
    few = example.causal().contributions[:5]
    assert causal_summary(example.causal().model_copy(update={"contributions": few})).heads is None


def test_maps_share_a_scale_around_zero_unless_one_would_vanish(found: CausalSummary) -> None:
    given = example.causal()
    exact, linear = found.maps
    assert exact.limit == linear.limit == max(abs(v or 0) for m in given.heat_maps for row in m.values for v in row)
    axis = draw_heat(exact).figure.to_plotly_json()["layout"]["coloraxis"]
    assert axis["cmin"] == -axis["cmax"]
    small = given.heat_maps[1].model_copy(
        update={"values": [[None if v is None else v / 50 for v in row] for row in given.heat_maps[1].values]}
    )
    apart = causal_summary(given.model_copy(update={"heat_maps": [given.heat_maps[0], small]})).maps
    assert apart[1].limit < apart[0].limit / 10
    trace = traces(draw_heat(exact))["heat", "activation_patching"]
    assert [list(row) for row in trace["z"]] == given.heat_maps[0].values
    assert exact.columns[0] == "␣The"
    assert exact.columns[8] == "⏎"


def test_a_missing_cell_is_blank() -> None:
    given = example.causal().heat_maps[0]
    holed = given.model_copy(update={"values": [[None, math.nan, *row[2:]] for row in given.values]})
    figure = causal_summary(example.causal().model_copy(update={"heat_maps": [holed]})).maps[0]
    data = json.loads(figure_json(draw_heat(figure).figure))["data"][0]
    assert data["z"][0][:2] == [None, None]
    assert figure.table.rows[0][1].value is None


def test_effects_without_intervals_and_nothing_else_still_draw() -> None:
    given = example.causal()
    bare = CausalResult(
        site="embed",
        tokens="last",
        prompt="{text}",
        n_examples=3,
        n_groups=1,
        n_pairs=0,
        n_random=0,
        effects=[given.effects[0].model_copy(update={"effect": Estimate(value=0.0), "share": None})],
        behaviour_reason="no answers were given.",
    )
    found = causal_summary(bare)
    assert found.effects is not None
    trace = traces(draw_effects(found.effects))["effect", "pattern"]
    assert list(trace["x"]) == [0.0]
    assert "error_x" not in trace
    assert (found.doses, found.bars, found.heads, found.maps) == (None, None, None, ())
    assert facts(found)["examples"] == "3, of 1 group"
    target = example.binary_target().model_copy(update={"causal": bare})
    assert "No behaviour was measured" in render_html(example.results(target))
    assert "No answers were given" in render_markdown(example.results(target))


def test_tables_hold_the_numbers_behind_the_figures(found: CausalSummary) -> None:
    given = example.causal()
    assert found.effects is not None
    table = found.effects.table
    assert [row[1].value for row in table.rows] == [e.effect.value for e in given.effects]
    p = table.columns.index("p, as activations vary")
    assert table.rows[0][p].value == 0.04
    assert table.rows[5][p].text == "–"
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert found.doses is not None
    assert all(len(row) == len(found.doses.table.columns) for row in found.doses.table.rows)
    assert len(found.doses.table.rows) == 9 * 5


def test_the_middle_of_values_is_numpys() -> None:
    assert middle([float(i) for i in range(101)]) == (2.5, 97.5)
    assert middle([4.0]) == (4.0, 4.0)


def test_hostile_names_leave_no_tag_for_plotly() -> None:
    found = causal_summary(example.breaking_causal())
    assert found.effects is not None
    assert found.doses is not None
    assert found.bars is not None
    drawings = [
        draw_effects(found.effects),
        draw_doses(found.doses),
        draw_bars(found.bars),
        *map(draw_heat, found.maps),
    ]
    seen = 0
    for drawing in drawings:
        text = figure_json(drawing.figure)
        assert not set("<>&\u2028\u2029") & set(text)
        for string in strings(json.loads(text)):
            seen += 1
            for own in ("<b>", "</b>", "<br>"):
                string = string.replace(own, "")
            assert "<" not in string
    assert seen > 100


def strings(value: object, key: str = "") -> list[str]:
    """Every text that Plotly would show: labels, hover boxes, ticks, titles."""
    if isinstance(value, dict):
        return [s for k, v in value.items() if k != "key" for s in strings(v, k)]
    if isinstance(value, list):
        return [s for v in value for s in strings(v, key)]
    return [value] if isinstance(value, str) and key in ("text", "hovertext", "ticktext") else []


@pytest.mark.parametrize(
    ("token", "shown"), [(" true", "␣true"), ("\n", "⏎"), ("\r\n\t", "⏎⇥"), ("", "∅"), ("a b", "a␣b"), ("ä", "ä")]
)
def test_tokens_are_visible(token: str, shown: str) -> None:
    assert visible(token) == shown


def test_a_sentence_keeps_its_inner_spaces() -> None:
    assert visible(" is it true?\nyes ", spaces=False) == "␣is it true?⏎yes␣"
    assert visible("  ", spaces=False) == "␣␣"


@pytest.mark.parametrize(
    ("share", "sign", "text"),
    [
        (0.43, False, "43%"),
        (0.025, True, "+2.5%"),
        (-0.12, True, "−12%"),
        (0.0001, True, "0.0%"),
        (None, True, "–"),
        (11.0, True, "×12"),
        (math.expm1(700.0), True, "×1.0e+304"),
    ],
)
def test_percent(share: float | None, sign: bool, text: str) -> None:
    assert percent(share, sign=sign) == text


def test_markdown_has_the_effects() -> None:
    text = render_markdown(example.acted())
    assert "### Does the model act on it?" in text
    assert "| Along the pattern | +2.310" in text
    assert "| head 11.4 | +1.900" in text
    assert "Probe families at equal cost" in text
