"""The causal stage of studies on a small random model: what it fills, what it leaves alone, and what it refuses."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from leadline.activations import Activations
from leadline.cli import main
from leadline.data import load_dataset
from leadline.errors import CausalError, ConfigError
from leadline.probes import Logistic
from leadline.study.causal import run_causal
from leadline.study.causal_config import CausalConfig
from leadline.study.causal_rows import choose_rows
from leadline.study.config import load_config
from leadline.study.results import Results
from leadline.study.run import run_study
from leadline.study.sweep import labels_of

ASKED = {
    "prompt": "{text} so",
    "positive": [" up"],
    "negative": [" no"],
    "examples": 16,
    "random_directions": 19,
    "doses": [0.1],
}
# What takes little time: the costs of doses and families are of many passes.
QUICK = ["effects", "silence", "decomposition", "patching"]


def given(**changes):
    return CausalConfig.model_validate({**ASKED, "parts": QUICK, **changes})


def rows(n=40):
    """Sentences of as many tokens, which their last tokens tell apart; `size` follows them with some noise."""
    rng = np.random.default_rng(0)
    return [
        {
            "text": f"{'up' if label else 'no'} item{i} {'+' if label else '-'}{rng.integers(10)}",
            "label": label,
            "size": round(2 * label + float(rng.normal()) / 4, 3),
            "three": "abc"[i % 3],
            "name": f"item{i}",
            "yes": " up" if i % 2 else " on",
            "no": " no" if i % 2 else " at",
            "blank": " at" if i % 2 else None,
        }
        for i in range(10, 10 + n)
        for label in (0, 1)
    ]


@pytest.fixture(scope="module")
def work(tiny_models, tiny_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("causal")
    tiny_models("llama").save_pretrained(folder / "model")
    tiny_tokenizer.save_pretrained(folder / "model")
    pl.DataFrame(rows()).write_csv(folder / "data.csv")
    return folder


def study(work, out, **changes):
    data = {"path": str(work / "data.csv"), "target": "label", "group": "name", **changes.pop("data", {})}
    return {
        "model": {"name": str(work / "model"), "dtype": "float32"},
        "data": data,
        "sites": "resid_post.1-2",
        "permutations": 39,
        "bootstraps": 100,
        "controls": ["length"],
        "measures": "none",
        "out": str(out),
        **changes,
    }


@pytest.fixture(scope="module")
def whole(work):
    """A study whose file asks for every part."""
    return run_study(study(work, work / "whole", causal=ASKED))


@pytest.fixture(scope="module")
def plain(work):
    """The folder of the same study without interventions; for reading."""
    return run_study(study(work, work / "plain")).folder


@pytest.fixture
def run(plain, tmp_path):
    """A copy of it, for writing."""
    return shutil.copytree(plain, tmp_path / "run")


def causal_of(results):
    (target,) = results.targets
    assert target.causal is not None
    return target.causal


def verdicts(results):
    return {v.claim: v for v in results.targets[0].verdicts}


def figures(results):
    """All that does not depend on the clock."""
    kept = results.model_dump()
    for key in ("provenance", "study"):
        kept.pop(key)
    for target in kept["targets"]:
        target["causal"].pop("seconds")
    return kept


# ---- a study with interventions


def test_a_study_fills_every_part(whole):
    found = causal_of(whole.results)
    assert (found.site, found.prompt, found.tokens) == (whole.results.targets[0].best.site, "{text} so", "last")
    assert (found.positive, found.negative, found.answers_from) == ([" up"], [" no"], [])
    assert found.behaviour_reason == found.where_from_reason == ""
    assert (found.n_examples, found.n_pairs, found.n_random) == (16, 16, 19)
    assert found.n_groups >= 12
    assert 0 < found.cosine <= 1
    assert found.natural.low <= found.natural.value <= found.natural.high
    assert 0 <= found.accuracy.value <= 1
    effects = {e.name: e for e in found.effects}
    moves = {"pattern", "direction", "mean_difference", "orthogonal", "shuffled_labels"}
    assert effects.keys() == moves | {"exchange_site", "exchange_pattern", "exchange_direction"}
    for name in ("pattern", "direction"):
        for p in (effects[name].p_isotropic, effects[name].p_covariance):
            assert 1 / 20 <= p <= 1
            assert 20 * p == pytest.approx(round(20 * p))
    assert {(n.of, n.kind, len(n.values)) for n in found.nulls} == {
        (of, kind, 19) for of in ("pattern", "direction") for kind in ("isotropic", "covariance")
    }
    assert "pattern" in {c.name for c in found.curves}
    for curve in found.curves:
        assert [p.dose for p in curve.points] == pytest.approx([-0.1, 0.1])
        assert all(p.cost is not None and p.kl is not None and p.probability is not None for p in curve.points)
    assert {b.kind for b in found.bands} == {"isotropic", "covariance"}
    for band in found.bands:
        assert band.doses == pytest.approx([-0.1, 0.1])
        assert all(low <= mean <= high for low, mean, high in zip(band.low, band.mean, band.high, strict=True))
    assert found.cost_budget == 0.1
    measures = {m.name: m for m in found.measures}
    assert measures.keys() == {"ablation", "families", "silence", "components", "unembedding"}
    for measure in measures.values():
        assert measure.sentence
        assert "nan" not in measure.sentence
        assert all(t.rows and len(t.rows[0]) == len(t.columns) for t in measure.tables)
    assert [m.name for m in found.heat_maps] == ["score_exact", "score_attribution", "answers_exact"]
    for heat in found.heat_maps:
        assert heat.n_pairs >= 2
        assert np.array(heat.values, dtype=float).shape == (len(heat.sites), len(heat.tokens))
        assert np.isfinite(np.array(heat.values, dtype=float)).all()
    # Changes of negative examples alone: those of positive ones go the other way, and would cancel. At its own site and
    # one of the tokens the score becomes a positive example's.
    exact = found.heat_maps[0]
    if found.site in exact.sites:
        difference = sum(c.difference.value for c in found.contributions)
        assert 0.2 < max(exact.values[exact.sites.index(found.site)]) / difference < 5
    assert "fitted anew on 56 rows of other groups than the 16" in found.notes[0]
    assert found.seconds > 0


def test_the_contributions_add_up_to_the_score_of_the_probe_fitted_without_the_tried_groups(whole, work):
    found = causal_of(whole.results)
    data = load_dataset(str(work / "data.csv"), target="label", group="name")
    labels = labels_of(data, data.targets[0])
    (store,) = (whole.folder / "activations").glob("data-*")
    X = Activations.open(store).read(found.site).astype(np.float64)
    y = labels.Y[:, 0]
    chosen = choose_rows((y > 0).astype(float), labels.groups, 16, 0)
    assert not set(labels.groups[chosen.fitted]) & set(labels.groups[chosen.tried])
    family = Logistic(l2=whole.results.targets[0].best.setting)
    fit = family.fit_site(X[chosen.fitted], labels.Y[chosen.fitted], np.full(len(chosen.fitted), -1))
    score, positive = X[chosen.tried] @ fit.coef[0, 0], y[chosen.tried] > 0
    difference = score[positive].mean() - score[~positive].mean()
    assert len(found.contributions) == found.n_contributions
    assert {"embed", "head", "mlp"} <= {c.kind for c in found.contributions}
    assert sum(c.difference.value for c in found.contributions) == pytest.approx(difference, rel=1e-3)
    assert found.decomposition_error < 1e-3
    sizes = [abs(c.difference.value) for c in found.contributions]
    assert sizes == sorted(sizes, reverse=True)


def test_the_two_verdicts_are_given_and_the_files_hold_them(whole):
    judged = verdicts(whole.results)
    for claim in ("used", "where from"):
        assert judged[claim].verdict != "not tested"
        assert judged[claim].figures
    assert Results.read(whole.folder) == whole.results
    assert json.loads((whole.folder / "results.json").read_text())["targets"][0]["causal"]["site"]
    report = (whole.folder / "report.html").read_text()
    assert "activation patching" in report
    assert "{text} so" in report
    assert "results.parquet" in {p.name for p in whole.folder.iterdir()}
    lines = [json.loads(line) for line in (whole.folder / "events.jsonl").read_text().splitlines()]
    assert {"interventions", "cost"} <= {line["stage"] for line in lines}
    assert "interventions" in {s.name for s in whole.results.provenance.stages}


# ---- later, on a finished run


def test_a_run_without_a_section_says_what_to_give(run):
    before = (run / "results.json").read_bytes()
    with pytest.raises(ConfigError, match=r"no 'causal' section; .*--prompt"):
        run_causal(run)
    assert (run / "results.json").read_bytes() == before


def test_a_given_section_fills_the_run_and_is_saved_and_gives_the_same_again(run, plain, whole):
    before, old_report = Results.read(plain), (plain / "report.html").read_text()
    first = run_causal(run, given())
    assert Results.read(run) == first
    assert load_config(run / "study.yaml").causal == given()
    assert (run / "report.html").read_text() != old_report
    # All but the two claims is as it was.
    after, earlier = verdicts(first), verdicts(before)
    assert list(after) == list(earlier)
    for claim, verdict in earlier.items():
        assert (after[claim] == verdict) == (claim not in ("used", "where from"))
    restored = first.targets[0].model_copy(update={"causal": None, "verdicts": before.targets[0].verdicts})
    assert restored == before.targets[0]
    assert first.provenance == before.provenance
    # The second time from what was saved.
    second = run_causal(run)
    assert figures(second) == figures(first)
    # And what the study with all parts found, where it was asked for.
    found, full = causal_of(first), causal_of(whole.results)
    for part in ("natural", "effects", "nulls", "contributions", "heat_maps", "notes"):
        assert getattr(found, part) == getattr(full, part), part
    assert after["used"] == verdicts(whole.results)["used"]
    assert after["where from"] == verdicts(whole.results)["where from"]
    assert found.curves == found.bands == []
    assert found.cost_budget is None
    assert {m.name for m in found.measures} == {"ablation", "silence", "components", "unembedding"}


def test_the_decomposition_alone_needs_no_answers(run):
    results = run_causal(run, CausalConfig(parts=("decomposition",), examples=16))
    found, judged = causal_of(results), verdicts(results)
    assert judged["used"].verdict == "not tested"
    assert judged["used"].sentence == found.behaviour_reason != ""
    assert "No answers were given" in found.behaviour_reason
    assert judged["where from"].verdict != "not tested"
    assert found.contributions
    assert found.effects == found.heat_maps == []
    assert found.natural is None
    assert "No answers were given" in (run / "report.html").read_text()


def test_left_out_parts_are_told(run):
    judged = verdicts(run_causal(run, given(parts=["silence"])))
    assert "left out" in judged["used"].sentence
    assert "left out" in judged["where from"].sentence
    assert {judged["used"].verdict, judged["where from"].verdict} == {"not tested"}


def test_rows_that_carry_no_intervention_are_told_and_the_report_stands(run, monkeypatch):
    def refuse(*_, **__):
        raise CausalError("of 3 groups, 1 is kept, and holds one class alone; give more groups.")

    monkeypatch.setattr("leadline.study.causal.choose_rows", refuse)
    results = run_causal(run, given(parts=["effects"]))
    judged = verdicts(results)
    assert judged["used"].verdict == judged["where from"].verdict == "not tested"
    assert "one class alone" in judged["used"].sentence
    assert "one class alone" in (run / "report.html").read_text()


def test_answers_by_column(run):
    asked = given(positive=[], negative=[], positive_column="yes", negative_column="no", parts=["effects"])
    found = causal_of(run_causal(run, asked))
    assert found.answers_from == ["yes", "no"]
    assert found.positive == found.negative == []
    assert found.effects
    assert found.natural.value != causal_of(run_causal(run, given(parts=["effects"]))).natural.value
    with pytest.raises(ConfigError, match=r"the column 'yess' .*it has text, label, .*yes, no"):
        run_causal(run, given(positive=[], negative=[], positive_column="yess", negative_column="no"))
    with pytest.raises(ConfigError, match=r"'blank' .*rows without an answer"):
        run_causal(run, given(positive=[], negative=[], positive_column="yes", negative_column="blank"))


def test_a_site_that_was_not_read_is_refused_and_another_that_was_is_taken(run, plain):
    best = Results.read(plain).targets[0].best.site
    other = next(s for s in ("resid_post.1", "resid_post.2") if s != best)
    assert causal_of(run_causal(run, given(site=other, parts=["decomposition"]))).site == other
    with pytest.raises(ConfigError, match=r"causal.site is resid_post.0, .*it read resid_post.1, resid_post.2"):
        run_causal(run, given(site="resid_post.0"))


def test_sites_where_nothing_is_added_up_still_have_the_other_parts(work, tmp_path):
    sites = ["embed", "resid_pre.0", "mlp_hidden.0", "attn_out.0"]
    folder = run_study(study(work, tmp_path / "run", sites=sites, permutations=0, controls="none")).folder
    for site, why in (
        ("embed", "has no parts"),
        ("resid_pre.0", "no head, MLP or mixer writes"),
        ("mlp_hidden.0", "has no parts"),
        ("attn_out.0", ""),
    ):
        results = run_causal(folder, given(site=site, parts=["decomposition", "patching"]))
        found, judged = causal_of(results), verdicts(results)
        assert why in found.where_from_reason
        assert (judged["where from"].verdict == "not tested") == bool(why) == bool(found.where_from_reason)
        assert bool(found.contributions) != bool(why)
        # One token alone bears on what is read in these places.
        exact, quick, answers = found.heat_maps
        assert exact.sites == quick.sites == [site]
        assert "too few cells" in quick.explanation
        assert len(answers.sites) == 3


# ---- other targets


def test_a_target_of_several_classes_is_told_why_not_beside_one_of_two(work, tmp_path):
    asked = given(parts=["effects"]).model_dump(mode="json")
    config = study(work, tmp_path / "run", data={"target": ["three", "label"]}, permutations=0, controls="none")
    results = run_study({**config, "causal": asked}).results
    three, label = results.targets
    found, judged = three.causal, {v.claim: v for v in three.verdicts}
    assert "one direction" in found.behaviour_reason
    assert "'three' is multiclass with 3 outputs" in found.behaviour_reason
    assert found.behaviour_reason == found.where_from_reason == judged["used"].sentence
    assert {judged["used"].verdict, judged["where from"].verdict} == {"not tested"}
    assert (found.n_examples, found.effects, found.measures) == (0, [], [])
    assert label.causal.effects
    assert {v.claim: v.verdict for v in label.verdicts}["used"] != "not tested"
    assert Results.read(tmp_path / "run") == results


def test_rows_without_groups(work, tmp_path):
    config = study(work, tmp_path / "run", data={"group": None}, permutations=0, controls="none")
    results = run_study({**config, "causal": given().model_dump(mode="json")}).results
    found = causal_of(results)
    assert found.n_groups == found.n_examples == 16
    assert found.effects
    assert found.contributions
    assert "on 64 rows of other groups than the 16" in found.notes[0]


def test_a_continuous_target(work, tmp_path):
    config = study(work, tmp_path / "run", data={"target": "size"}, probe="ridge", controls="none")
    results = run_study({**config, "causal": given().model_dump(mode="json")}).results
    found, judged = causal_of(results), verdicts(results)
    assert judged["decodable"].verdict == "supported"
    assert judged["used"].verdict != "not tested"
    assert judged["where from"].verdict != "not tested"
    assert found.n_pairs == 16
    assert {e.name for e in found.effects} >= {"pattern", "direction", "exchange_site"}
    assert sum(c.difference.value for c in found.contributions) > 0
    assert len(found.heat_maps) == 3


# ---- what changed since


def test_data_that_changed_are_refused(work, tmp_path):
    path = tmp_path / "own.csv"
    pl.DataFrame(rows()).write_csv(path)
    config = study(work, tmp_path / "run", data={"path": str(path)}, permutations=0, controls="none")
    folder = run_study(config).folder
    before = (folder / "results.json").read_bytes()
    pl.DataFrame(rows()[:-2]).write_csv(path)
    with pytest.raises(ConfigError, match="the data have changed"):
        run_causal(folder, given())
    assert (folder / "results.json").read_bytes() == before
    assert load_config(folder / "study.yaml").causal is None


def test_another_model_is_refused(run, work, tiny_models, tiny_tokenizer, tmp_path):
    tiny_models("llama", seed=1).save_pretrained(tmp_path / "other")
    tiny_tokenizer.save_pretrained(tmp_path / "other")
    config = load_config(run / "study.yaml")
    other = {"name": str(tmp_path / "other"), "dtype": "float32"}
    (run / "study.yaml").write_text(config.replace(model=other).to_yaml())
    with pytest.raises(ConfigError, match=r"made with a model of fingerprint .* Run the study again"):
        run_causal(run, given())


# ---- the command


def test_the_command_asks_and_prints(run, capsys):
    words = ["causal", str(run), "--prompt", "{text} so", "--positive", " up", "--negative", " no"]
    words += ["--examples", "16", "--random-directions", "19", "--part", "effects", "--part", "decomposition"]
    assert main([*words, "--quiet", "--json"]) == 0
    out, _ = capsys.readouterr()
    told = json.loads(out)
    assert told
    found = causal_of(Results.read(run))
    assert found.effects
    assert found.contributions
    assert found.heat_maps == []
    # The rest is as saved, and answers by column take the place of the shared ones.
    assert main(["causal", str(run), "--positive-column", "yes", "--negative-column", "no", "--quiet"]) == 0
    saved = load_config(run / "study.yaml").causal
    assert (saved.positive, saved.positive_column, saved.examples) == ((), "yes", 16)
    assert causal_of(Results.read(run)).answers_from == ["yes", "no"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--prompt"),
        (["--positive", " up"], "'positive' without 'negative'"),
        (["--part", "efects"], "Did you mean 'effects'"),
        (["--prompt", "no place"], "{text}"),
        (["--site", "resid_post.0", "--part", "decomposition"], "causal.site is resid_post.0"),
    ],
)
def test_the_command_refuses_with_what_to_do(run, words, said, capsys):
    before = (run / "study.yaml").read_bytes()
    assert main(["causal", str(run), *words, "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in " ".join(err.split())
    assert (run / "study.yaml").read_bytes() == before


def test_the_command_on_no_run(tmp_path, capsys):
    assert main(["causal", str(tmp_path), "--quiet"]) == 2
    assert str(tmp_path.name) in "".join(capsys.readouterr().err.split())
