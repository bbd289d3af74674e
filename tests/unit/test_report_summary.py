"""The summary: what the report says follows from the results."""

from __future__ import annotations

import subprocess
import sys

import pytest
import report_example as example
import yaml

from leadline.report import Summary, summarise
from leadline.report.curves import LayerCurve
from leadline.study.results import Estimate, Results, SiteResult, TargetResult, Verdict


def one(target: TargetResult) -> Summary:
    return summarise(example.results(target))


def with_verdicts(**words: str) -> TargetResult:
    names = {"surface": "beyond surface", "origin": "where from"}
    verdicts = [
        Verdict(claim=names.get(k, k), verdict=w, sentence="Because.", rule="A rule.")  # type: ignore[arg-type]
        for k, w in words.items()
    ]
    return example.binary_target().model_copy(update={"verdicts": verdicts})


@pytest.mark.parametrize(
    ("decodable", "surface", "words"),
    [
        ("supported", "supported", "reads more than the text’s surface"),
        ("supported", "refuted", "no better than the text’s surface"),
        ("supported", "inconclusive", "surface is not settled"),
        ("supported", "not tested", "surface was not tested"),
        ("refuted", "not tested", "No linear probe reads “label”"),
        ("inconclusive", "supported", "is not settled by these data"),
        ("not tested", "supported", "was not tested"),
    ],
)
def test_the_headline_follows_the_verdicts(decodable: str, surface: str, words: str) -> None:
    assert words in one(with_verdicts(decodable=decodable, surface=surface)).targets[0].finding


def test_the_headline_warns_of_what_it_does_not_say() -> None:
    assert "does not show that the model uses it" in one(example.binary_target()).targets[0].caution
    assert one(with_verdicts(decodable="supported", used="refuted", selective="supported")).targets[0].caution == ""
    assert one(with_verdicts(decodable="refuted")).targets[0].caution == ""


def test_all_six_claims_stand_in_order_even_when_the_results_hold_none() -> None:
    claims = summarise(example.bare()).targets[0].claims
    assert [c.claim for c in claims] == ["decodable", "selective", "beyond surface", "general", "used", "where from"]
    assert {c.verdict for c in claims} == {"not tested"}
    assert all(c.sentence for c in claims)


def test_how_sure_names_estimate_p_value_and_strongest_control() -> None:
    target = example.binary_target()
    text = " ".join(one(target).targets[0].how_sure).replace("\xa0", " ")
    assert "resid_post.13, the best of 32 sites" in text
    assert "AUROC 0.932 (95% interval [0.917, 0.945])" in text
    assert "p = 0.001, the smallest" in text
    assert "token embeddings, reaches 0.567" in text
    worse = target.permutation.model_copy(update={"p_max": 0.03}) if target.permutation else None
    text = " ".join(one(target.model_copy(update={"permutation": worse})).targets[0].how_sure)
    assert "p = 0.030" in text
    assert "smallest" not in text


def test_warnings_come_once_and_first() -> None:
    target = example.binary_target()
    whole = example.results(target)
    # A study's findings repeat those of its data.
    whole = whole.model_copy(update={"findings": whole.data.findings + target.findings})
    summary = summarise(whole)
    assert [w.title for w in summary.warnings] == [
        "Rows leak between folds: a control stands below chance",
        "Some fits did not converge",
    ]
    assert [n.title for n in summary.notes] == ["Dropped rows"]
    assert summary.notes[0].rows == "rows 40, 41, 42, 43, 44, 45, 46, 47 and 8 more"


def test_with_several_targets_each_keeps_its_own_warnings() -> None:
    summary = summarise(example.results(example.binary_target(), example.continuous_target()))
    assert summary.warnings == ()
    assert len(summary.targets[0].warnings) == 2
    assert summary.targets[1].warnings == ()
    assert [t.key for t in summary.targets] == ["target-1", "target-2"]


def test_unconverged_fits_are_counted_and_flagged() -> None:
    target = one(example.binary_target()).targets[0]
    assert "3 of 1,344 fits did not converge, at resid_post.3" in target.fit_note
    row = next(r for r in target.sites.rows if r[0].text == "resid_post.3")
    assert (row[-1].text, row[-1].flag) == ("3 of 42", "did not converge")
    assert sum(bool(r[-1].flag) for r in target.sites.rows) == 1


def points(curve: LayerCurve, key: str) -> dict[str, float | None]:
    series = next(s for s in curve.series if s.key == key)
    return {p.site: p.quantity.value for p in series.points}


def test_the_curve_holds_the_results_values() -> None:
    target = example.binary_target()
    curve = one(target).targets[0].curves[0]
    assert curve.metric == "auroc"
    assert points(curve, "stream") == {s.site: s.metrics["auroc"].value for s in target.sites}
    random = next(b for b in target.baselines if b.name == "random_weights")
    assert points(curve, "random_weights") == {s.site: s.metrics["auroc"].value for s in random.sites}
    assert {x.key: x.quantity.value for x in curve.levels} == {
        b.name: b.metrics["auroc"].value for b in target.baselines if not b.sites
    }
    assert curve.chosen is not None
    assert curve.chosen.quantity.value == target.best.metrics["auroc"].value
    assert (curve.chosen.x, curve.chance) == (13.0, 0.5)
    assert [p.x for p in curve.series[0].points] == [-1.0, *map(float, range(30)), 30.0]


def test_the_null_stands_only_beside_its_own_statistic() -> None:
    target = one(example.binary_target()).targets[0]
    by_key = {c.key: c for c in target.curves}
    assert by_key["auroc"].null is not None
    assert by_key["auroc"].null_best == 0.5462
    assert by_key["accuracy"].null is None
    assert by_key["accuracy"].null_best is None


def test_each_kind_of_site_has_its_own_line() -> None:
    target = summarise(example.kinds()).targets[0]
    lines = {s.key: len(s.points) for s in target.curves[0].series if s.role != "control"}
    assert lines == {"stream": 32, "resid_mid": 30, "attn_out": 30, "mlp_out": 30}


def test_a_control_over_several_kinds_keeps_to_the_main_line() -> None:
    whole = example.kinds()
    target = whole.targets[0]
    baselines = [
        b.model_copy(update={"sites": [s.model_copy(update={"n_fits": 7}) for s in target.sites]}) if b.sites else b
        for b in target.baselines
    ]
    curve = one(target.model_copy(update={"baselines": baselines})).targets[0].curves[0]
    control = next(s for s in curve.series if s.key == "random_weights")
    assert [p.x for p in control.points] == sorted({p.x for p in control.points})
    assert curve.left_out == 90


def test_a_hopeless_r2_does_not_flatten_the_axis() -> None:
    target = example.continuous_target()
    sites = [
        s.model_copy(update={"metrics": {**s.metrics, "r2": Estimate(value=-40.0, low=-60.0, high=-30.0)}})
        if s.site == "embed"
        else s
        for s in target.sites
    ]
    curve = one(target.model_copy(update={"sites": sites})).targets[0].curves[0]
    assert curve.off_scale == 1
    assert -1.2 < curve.y.low < -0.9


def test_a_ladder_has_the_probe_first_then_the_strongest_control() -> None:
    ladder = one(example.binary_target()).targets[0].ladder
    assert ladder.rungs[0].role == "probe"
    values = [r.quantity.value for r in ladder.rungs[1:]]
    assert values == sorted(values, key=lambda v: -(v or 0))
    for rung in ladder.rungs:
        assert rung.low is not None
        assert rung.at is not None
        assert rung.high is not None
        assert 0 <= rung.low <= rung.at <= rung.high <= 100
    assert ladder.rungs[-1].note == "below chance"


def test_controls_and_gain_ladder_stand_in_the_same_order() -> None:
    target = one(example.continuous_target()).targets[0]
    assert target.gains is not None
    assert [c.gain.text for c in target.controls] == [r.quantity.text for r in target.gains.rungs]
    assert [c.title for c in target.controls] == [r.title for r in target.gains.rungs]


def test_confusion_keeps_counts_and_sides() -> None:
    confusion = one(example.binary_target()).targets[0].confusion
    assert confusion is not None
    (name, said_right), (other, said_wrong) = confusion.rows[0][:2], confusion.rows[1][:2]
    assert (name, other) == ("true", "false")
    assert [(d.n, d.right) for d in said_right] == [(645, True), (103, False)]
    assert [(d.n, d.right) for d in said_wrong] == [(110, False), (638, True)]
    assert said_right[0].share == pytest.approx(645 / 748)


def test_transfer_remarks_tell_a_shifted_threshold_from_a_flipped_direction() -> None:
    moved, flipped = one(example.binary_target()).targets[0].tests
    assert "threshold does not" in moved.remarks[0]
    assert "points the other way" in flipped.remarks[0]
    assert moved.headline.value == 0.716
    assert moved.curve is not None
    assert [s.key for s in moved.curve.series] == ["auroc", "centred_accuracy", "accuracy", "in_distribution"]


def test_what_is_missing_is_said() -> None:
    target = summarise(example.bare()).targets[0]
    assert "no p-value" in " ".join(target.how_sure)
    assert "no interval was computed" in " ".join(target.how_sure)
    for words in ("no permutations were run", "no bootstraps"):
        assert words in target.sites.note
    assert target.curves[0].null is None
    assert points(target.curves[0], "stream")["resid_post.2"] is None
    assert target.gains is None


@pytest.mark.parametrize("site", ["embed", "resid_post.7", "final_norm"])
def test_a_single_site_is_enough(site: str) -> None:
    target = example.binary_target()
    kept = [s for s in target.sites if s.site == site]
    best = target.best.model_copy(update={"site": site, "layer": kept[0].layer})
    summary = one(target.model_copy(update={"sites": kept, "best": best, "baselines": [], "tests": []}))
    assert "the only site" in summary.targets[0].how_sure[0]
    axis = summary.targets[0].curves[0].x
    assert len(axis.ticks) == 1


def test_the_same_value_everywhere_still_has_an_axis() -> None:
    target = example.binary_target()
    flat = [
        SiteResult(site=s.site, kind=s.kind, layer=s.layer, metrics={"auroc": Estimate(value=1.0)}, setting=None)
        for s in target.sites
    ]
    summary = one(target.model_copy(update={"sites": flat, "baselines": [], "tests": [], "permutation": None}))
    axis = summary.targets[0].curves[0].y
    assert axis.low < 1.0 <= axis.high


def test_the_study_can_be_read_back() -> None:
    whole = example.results()
    assert yaml.safe_load(summarise(whole).study_yaml) == whole.study
    nasty = example.hostile()
    assert yaml.safe_load(summarise(nasty).study_yaml) == nasty.study


def test_a_study_with_python_values_is_written_plainly() -> None:
    whole = example.results().model_copy(update={"study": {"sites": ("embed", "final_norm")}})
    assert yaml.safe_load(summarise(whole).study_yaml) == {"sites": ["embed", "final_norm"]}


def test_the_summary_survives_the_file() -> None:
    whole = example.results(example.binary_target(), example.continuous_target())
    assert summarise(Results.model_validate_json(whole.model_dump_json())) == summarise(whole)


def test_reporting_needs_no_torch() -> None:
    code = "import sys, leadline.report; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)
