"""How figures and names are written."""

from __future__ import annotations

import pytest

from leadline.report import wording
from leadline.study.results import Estimate


@pytest.mark.parametrize(
    ("value", "options", "text"),
    [
        (0.8634, {}, "0.863"),
        (1.0, {}, "1.000"),
        (-0.12, {}, "−0.120"),
        (-0.0001, {}, "0.000"),
        (0.041, {"sign": True}, "+0.041"),
        (-0.041, {"sign": True}, "−0.041"),
        (0.0, {"sign": True}, "0.000"),
        (1234.56, {}, "1,234.6"),
        (3.4e7, {}, "3.4e+07"),
        (None, {}, "–"),
        (float("nan"), {}, "–"),
        (float("inf"), {}, "–"),
    ],
)
def test_number(value: float | None, options: dict[str, bool], text: str) -> None:
    assert wording.number(value, **options) == text


def test_quantity_keeps_the_numbers_and_drops_half_an_interval() -> None:
    whole = wording.quantity(Estimate(value=0.5, low=0.4, high=0.6))
    assert (whole.value, whole.low, whole.high) == (0.5, 0.4, 0.6)
    assert whole.full.replace("\xa0", " ") == "0.500 [0.400, 0.600]"
    half = wording.quantity(Estimate(value=0.5, low=0.4))
    assert (half.low, half.high, half.interval, half.full) == (None, None, "", "0.500")
    assert wording.quantity(Estimate(value=None, low=0.1, high=0.2)) == wording.quantity(None)
    assert wording.quantity(None).full == wording.DASH


@pytest.mark.parametrize(
    ("p", "text"), [(1 / 1001, "0.001"), (0.04, "0.040"), (1.0, "1.000"), (1 / 100001, "1.0 × 10⁻⁵"), (None, "–")]
)
def test_p_text(p: float | None, text: str) -> None:
    assert wording.p_text(p) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.94, "0.9 s"), (59.9, "59.9 s"), (59.96, "1 min 00 s"), (83.4, "1 min 23 s"), (7500, "2 h 05 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


def test_metric_titles() -> None:
    assert wording.metric_title("auroc") == "AUROC"
    assert wording.metric_title("r2.latitude") == "R² (latitude)"
    assert wording.metric_title("some_new_metric") == "some new metric"


def test_chance_is_known_only_where_it_does_not_depend_on_the_classes() -> None:
    assert wording.chance_of("auroc", "auroc", 0.5) == 0.5
    assert wording.chance_of("balanced_accuracy", "auroc", 0.5) == 0.5
    assert wording.chance_of("spearman", "r2", 0.0) == 0.0
    assert wording.chance_of("accuracy", "auroc", 0.5) is None
    assert wording.chance_of("f1", "auroc", 0.5) is None


def test_plain_leaves_no_markup_for_plotly() -> None:
    assert wording.plain("<b>x</b> & <a href='y'>") == "&lt;b&gt;x&lt;/b&gt; &amp; &lt;a href='y'&gt;"
    # An entity in the data stays what it was: text.
    assert wording.plain("&lt;") == "&amp;lt;"
    # Shortened before it is escaped, so that no entity is cut in two.
    assert wording.plain("<" * 50, 5) == "&lt;" * 4 + "…"


def test_shorten_flattens_and_drops_what_reorders() -> None:
    assert wording.shorten("a\n b\t c", 40) == "a b c"
    assert wording.shorten("ab\u202ecd\x00\x1b", 40) == "abcd"
    assert wording.shorten("👩\u200d🔬", 40) == "👩\u200d🔬"
    assert wording.shorten("x" * 50, 10) == "x" * 9 + "…"


def test_words() -> None:
    assert wording.joined(["a"]) == "a"
    assert wording.joined(["a", "b", "c"]) == "a, b and c"
    assert wording.plural(1, "row") == "1 row"
    assert wording.plural(1496, "row") == "1,496 rows"
    assert wording.inside("Bag of words") == "bag of words"
    assert wording.inside("TF-IDF") == "TF-IDF"
