"""Whole studies on a small random model: files, resume, replay, splits, several targets, hostile labels."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from leadline.errors import ConfigError, DataError, LeadlineError
from leadline.events import Event
from leadline.models import load_model
from leadline.probes import Probe
from leadline.study.config import DEFAULT_CONTROLS, DEFAULT_MEASURES
from leadline.study.results import Results
from leadline.study.run import run_study

CITIES = Path(__file__).parents[3] / "shared" / "data" / "truth" / "cities.csv"


@pytest.fixture(scope="module")
def model_folder(tiny_models, tiny_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_models("llama").save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


def rows(n=80, seed=0):
    rng = np.random.default_rng(seed)
    names = [f"item{i}" for i in range(n // 2)]
    return [
        {
            "text": f"{name} ends in {'yes' if label else 'no'} {rng.integers(100)}",
            "label": label,
            "odd <i>": int(rng.integers(2)),
            "size": float(rng.normal()),
            "weight": float(rng.normal()),
            "name": name,
            "part": "test" if i % 5 == 0 else "train",
        }
        for i, name in enumerate(names)
        for label in (0, 1)
    ]


@pytest.fixture
def study(model_folder, tmp_path):
    pl.DataFrame(rows()).write_csv(tmp_path / "data.csv")

    def build(**changes):
        return {
            "model": {"name": str(model_folder), "dtype": "float32"},
            "data": {"path": str(tmp_path / "data.csv"), "target": "label", "group": "name", **changes.pop("data", {})},
            "sites": ["embed", "resid_post.*", "final_norm"],
            "permutations": 99,
            "bootstraps": 200,
            "out": str(tmp_path / "run"),
            **changes,
        }

    return build


def figures(results: Results) -> dict[str, object]:
    kept = results.model_dump()
    kept.pop("provenance")
    kept.pop("study")
    return kept


def test_a_study_leaves_everything_that_it_promises(study, tmp_path):
    pl.DataFrame(rows(seed=1)).write_csv(tmp_path / "other.csv")
    done = run_study(study(test=[{"path": str(tmp_path / "other.csv")}]))
    folder = tmp_path / "run"
    expected = {"study.yaml", "events.jsonl", "activations", "probes", "results.json", "results.parquet"}
    assert expected | {"scores.parquet", "report.html"} == {p.name for p in folder.iterdir()}
    results = Results.read(folder)
    assert results == done.results
    target = results.targets[0]
    assert [s.site for s in target.sites] == ["embed", "resid_post.0", "resid_post.1", "resid_post.2", "final_norm"]
    names = {b.name for b in target.baselines}
    assert names == set(DEFAULT_CONTROLS) - {"shuffled_labels"}
    assert len(next(b for b in target.baselines if b.name == "random_weights").sites) == 5
    # The label is a word of the text, so nothing can be beyond the surface.
    words = {v.claim: v.verdict for v in target.verdicts}
    assert words["beyond surface"] != "supported"
    assert {words[c] for c in ("selective", "used", "where from")} == {"not tested"}
    assert words["general"] == "supported"
    assert {m.name for m in target.measures} == set(DEFAULT_MEASURES)
    scores = pl.read_parquet(folder / "scores.parquet")
    assert scores.height == 80
    assert set(scores["fold"]) == {0, 1, 2, 3, 4}
    per_group = scores.group_by("group").agg(pl.col("fold").n_unique())
    assert per_group["fold"].max() == 1
    table = pl.read_parquet(folder / "results.parquet")
    auroc = table.filter((pl.col("source") == "best") & (pl.col("metric") == "auroc"))
    assert auroc["value"].item() == pytest.approx(target.best.metrics["auroc"].value)
    assert target.tests[0].metrics.keys() == {"auroc", "accuracy", "balanced_accuracy", "f1", "centred_accuracy"}
    assert target.tests[0].n_rows == 80
    probe = Probe.read(folder / target.best.probe_files[0])
    assert probe.site.name == target.best.site
    assert probe.model_fingerprint == results.model.fingerprint
    assert len(list((folder / "probes" / "label").iterdir())) == 5
    for line in (folder / "events.jsonl").read_text().splitlines():
        assert json.loads(line)["kind"] in ("start", "finish", "note", "warning")


def test_the_probe_of_a_study_scores_new_text_as_its_store_says(study, model_folder, tmp_path):
    done = run_study(study(controls="none", measures="none", permutations=0))
    target = done.results.targets[0]
    probe = Probe.read(tmp_path / "run" / target.best.probe_files[0])
    texts = [r["text"] for r in rows()]
    model = load_model(model_folder, dtype="float32")
    from leadline.activations import Activations

    (store,) = (tmp_path / "run" / "activations").iterdir()
    stored = Activations.open(store).read(target.best.site)
    np.testing.assert_allclose(probe.score(model, texts), probe.score(stored), atol=1e-3)
    assert probe.score(model, texts[:1]) == pytest.approx(probe.score(model, texts)[:1], abs=1e-4)


def test_the_resolved_study_runs_again_to_the_same_figures_elsewhere(study, tmp_path, monkeypatch):
    first = run_study(study(controls=["random_weights", "length"]))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    second = run_study(tmp_path / "run" / "study.yaml", out="again")
    assert figures(first.results) == figures(second.results)


class _Stop(Exception):
    pass


class StopAt:
    """A sink that kills a run at the first event of a kind in a stage."""

    def __init__(self, kind, stage):
        self.kind, self.stage = kind, stage

    def emit(self, event: Event) -> None:
        if (event.kind, event.stage) == (self.kind, self.stage):
            raise _Stop


@pytest.mark.parametrize(("kind", "stage"), [("progress", "extract"), ("start", "sweep"), ("progress", "sweep")])
def test_a_run_that_was_stopped_goes_on_to_the_same_figures(study, kind, stage, tmp_path):
    given = study(controls=["random_weights"])
    with pytest.raises(_Stop):
        run_study(given, events=StopAt(kind, stage))
    assert not (tmp_path / "run" / "results.json").exists()
    resumed = run_study(given)
    fresh = run_study(given, out=tmp_path / "fresh")
    assert figures(resumed.results) == figures(fresh.results)


def test_another_study_in_the_folder_is_refused_and_overwritten_on_request(study, tmp_path):
    run_study(study(controls="none", measures="none", permutations=0))
    before = (tmp_path / "run" / "results.json").read_bytes()
    with pytest.raises(ConfigError, match=r"holds another study \(it differs in seed\)"):
        run_study(study(controls="none", measures="none", permutations=0, seed=1))
    assert (tmp_path / "run" / "results.json").read_bytes() == before
    run_study(study(controls="none", measures="none", permutations=0, seed=1), overwrite=True)
    assert Results.read(tmp_path / "run").provenance.seed == 1


def test_a_given_split_is_kept_out_of_the_folds_and_scored_once(study):
    done = run_study(study(data={"split": "part"}, controls="none", permutations=0))
    target = done.results.targets[0]
    assert done.results.data.n_test == 16
    assert [t.name for t in target.tests] == ["data: test split"]
    assert target.tests[0].n_rows == 16
    assert len(done.sweeps["label"].fold) == 64


def test_several_targets_with_hostile_names(study, tmp_path):
    done = run_study(study(data={"target": ["label", "odd <i>"]}, controls=["length"], permutations=0))
    assert [t.target for t in done.results.targets] == ["label", "odd <i>"]
    files = [t.best.probe_files[0] for t in done.results.targets]
    assert all(Path(f).parent == Path("probes") and "<" not in f for f in files)
    assert Probe.read(tmp_path / "run" / files[1]).target == "odd <i>"
    assert "odd <i>" not in (tmp_path / "run" / "report.html").read_text()


def test_a_continuous_target_of_two_columns(study, tmp_path):
    done = run_study(
        study(data={"target": ["size", "weight"]}, probe="ridge", controls=["bag_of_words", "char_ngrams"])
    )
    (target,) = done.results.targets
    assert target.columns == ["size", "weight"]
    assert target.best.metrics.keys() == {"r2", "spearman"}
    assert [p.column for p in target.points] == ["size", "weight"]
    assert len(target.best.probe_files) == 2
    assert {v.claim: v.verdict for v in target.verdicts}["decodable"] != "supported"


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"data": {"target": "size"}}, ConfigError, "Use ridge or elastic_net"),
        ({"data": {"target": "lable"}}, DataError, "Did you mean 'label'"),
        ({"sites": ["resid_post.9"]}, LeadlineError, "layers 0 to 2"),
        ({"model": "no-such-model-here"}, LeadlineError, "no-such-model-here"),
    ],
)
def test_bad_input_is_refused_with_what_to_do(study, changes, error, said):
    with pytest.raises(error, match=said):
        run_study(study(**changes))


def test_an_unwritable_folder_is_refused(study, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LeadlineError, match="is a file"):
        run_study(study(out=str(tmp_path / "file")))


def test_a_truncated_shard_is_made_anew_by_the_next_run(study, tmp_path):
    given = study(controls="none", measures="none", permutations=0)
    first = run_study(given)
    (store,) = (tmp_path / "run" / "activations").iterdir()
    shard = store / "shard-00000.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])
    second = run_study(given)
    assert shard.read_bytes() == whole
    assert figures(first.results) == figures(second.results)


@pytest.mark.real
@pytest.mark.skipif(not CITIES.is_file(), reason="the shared data are not here")
def test_ungrouped_cities_fall_below_chance_and_the_warning_names_the_city(study, tmp_path):
    data = {"path": str(CITIES), "text": "statement", "target": "label", "group": None}
    given = study(data=data, sites=["embed", "resid_post.0"], controls=["bag_of_words"], permutations=0)
    (target,) = run_study(given).results.targets
    (finding,) = [f for f in target.findings if f.code == "below_chance"]
    assert "'city'" in finding.message
    assert target.baselines[0].below_chance
    shutil.rmtree(tmp_path / "run")
    grouped = {**given, "data": {**data, "group": "city"}}
    (target,) = run_study(grouped).results.targets
    accuracy = target.baselines[0].metrics["accuracy"].value
    assert 0.43 < accuracy < 0.54
