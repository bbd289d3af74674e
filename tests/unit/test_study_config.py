"""The study file: what is accepted, what a resolved one holds, and how a wrong one is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.errors import ConfigError
from leadline.study.config import CONTROLS, DEFAULT_CONTROLS, StudyConfig, load_config

WHOLE = """\
name: cities
model: {name: smollm2-135m, dtype: float32, device: cpu}
data:
  path: data/cities.csv
  text: statement
  target: label
  group: city
  sample: 200
  positive: 1
sites: embed resid_post.* head_out.3.0-4
tokens: mean
probe: {family: ridge, l2: [1e-3, 1, 10]}
folds: 4
permutations: 0
bootstraps: 200
controls: [length, bag_of_words]
test:
  - data/others.csv
  - {path: data/plain.csv, target: truth, name: plain}
  - city-facts
alpha: .01
seed: 7
out: runs/here
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cities.csv").write_text("statement,label,city\nA.,1,a\n")
    (tmp_path / "data" / "others.csv").write_text("statement,label,city\nA.,1,a\n")
    (tmp_path / "data" / "plain.csv").write_text("statement,truth\nA.,1\n")
    return tmp_path


def study(folder: Path, text: str) -> StudyConfig:
    file = folder / "study.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        study(folder, text)
    return str(caught.value)


def test_every_key_is_read(folder: Path) -> None:
    config = study(folder, WHOLE)
    assert config.name == "cities"
    assert (config.model.name, config.model.dtype, config.model.device) == ("smollm2-135m", "float32", "cpu")
    assert config.data.path == str(folder / "data" / "cities.csv")
    assert (config.data.text, config.data.target, config.data.group) == ("statement", ("label",), "city")
    assert (config.data.sample, config.data.positive) == (200, "1")
    assert config.sites == ("embed", "resid_post.*", "head_out.3.0-4")
    assert (config.tokens, config.folds, config.permutations, config.bootstraps) == ("mean", 4, 0, 200)
    assert (config.probe.family, config.probe.l2) == ("ridge", (0.001, 1.0, 10.0))
    assert config.controls == ("length", "bag_of_words")
    assert (config.alpha, config.seed, config.out) == (0.01, 7, str(folder / "runs" / "here"))


def test_interventions_are_read_and_written_out(folder: Path) -> None:
    text = "model: m\ndata: city-facts\ncausal:\n  prompt: '{text} True or false?'\n  positive: ' True'\n"
    config = study(folder, text + "  negative: [' False', ' false']\n  doses: 0.2\n")
    assert config.causal is not None
    assert config.causal.positive == (" True",)
    assert config.causal.negative == (" False", " false")
    assert config.causal.doses == (0.2,)
    assert config.causal.has_answers
    (folder / "again.yaml").write_text(config.to_yaml())
    assert load_config(folder / "again.yaml") == config
    assert study(folder, "model: m\ndata: city-facts\n").causal is None


def test_a_test_file_takes_what_it_leaves_out_from_the_data(folder: Path) -> None:
    others, plain, builtin = study(folder, WHOLE).test
    assert (others.text, others.target, others.group, others.positive) == ("statement", ("label",), "city", "1")
    assert (plain.text, plain.target, plain.label) == ("statement", ("truth",), "plain")
    assert plain.group is None, "plain.csv has no column 'city'"
    assert others.sample is None, "a sample belongs to the data alone"
    assert builtin.is_builtin
    assert builtin.target is None


def test_a_group_given_as_null_is_not_inherited(folder: Path) -> None:
    text = WHOLE.replace("- data/others.csv", "- {path: data/others.csv, group: null}")
    assert study(folder, text).test[0].group is None


def test_short_forms_and_defaults(folder: Path) -> None:
    config = study(folder, "model: smollm2-135m\ndata: city-facts\nprobe: mean_difference\n")
    assert (config.name, config.out) == ("city-facts", str(folder / "runs" / "city-facts"))
    assert config.data.arguments() == ("city-facts", {})
    assert config.sites == ("default",)
    assert (config.tokens, config.folds, config.permutations, config.bootstraps) == ("last", 5, 1000, 1000)
    assert config.probe.l2 is None
    assert config.controls == DEFAULT_CONTROLS
    assert (config.alpha, config.seed, config.test) == (0.05, 0, ())


def test_data_by_its_path_alone(folder: Path) -> None:
    config = study(folder, "model: m\ndata: {path: data/plain.csv, text: statement, target: [truth]}\n")
    assert config.name == "plain"
    assert config.data.arguments() == (
        str(folder / "data" / "plain.csv"),
        {"text": "statement", "target": "truth"},
    )
    text = "model: m\ndata: {path: data/plain.csv, target: [a, b]}\n"
    assert study(folder, text).data.arguments()[1] == {"text": "text", "target": ["a", "b"]}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("none", ()),
        ("default", DEFAULT_CONTROLS),
        ("[]", ()),
        ("length", ("length",)),
        ("[length, length]", ("length",)),
    ],
)
def test_controls(folder: Path, given: str, expected: tuple[str, ...]) -> None:
    assert study(folder, f"model: m\ndata: city-facts\ncontrols: {given}\n").controls == expected


def test_a_local_model_is_a_path_relative_to_the_study(folder: Path) -> None:
    (folder / "weights").mkdir()
    (folder / "weights" / "config.json").write_text("{}")
    for name in ("weights", "./weights", str(folder / "weights")):
        assert study(folder, f"model: {name}\ndata: city-facts\n").model.name == str(folder / "weights")
    assert study(folder, "model: some/id\ndata: city-facts\n").model.name == "some/id"
    assert "no model at" in refused(folder, "model: ./wieghts\ndata: city-facts\n")


def test_the_resolved_file_is_the_same_study_from_anywhere(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = study(folder, WHOLE)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "study.yaml").write_text(config.to_yaml())
    monkeypatch.chdir(elsewhere)
    assert load_config("study.yaml") == config
    assert StudyConfig.from_mapping(config.to_mapping()) == config


def test_the_resolved_file_writes_out_every_default(folder: Path) -> None:
    written = yaml.safe_load(study(folder, "model: m\ndata: city-facts\n").to_yaml())
    assert set(written) == set(StudyConfig.model_fields)
    assert written["controls"] == list(CONTROLS)
    assert written["probe"] == {"family": "logistic", "l2": None, "class_weight": None}


@settings(deadline=None)
@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1))
def test_any_name_survives_the_resolved_file(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    config = StudyConfig.from_mapping({"name": name, "model": "m", "data": "city-facts"})
    file = tmp_path_factory.mktemp("written") / "study.yaml"
    file.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(file) == config


@pytest.mark.parametrize("name", ["no", "1e-3", "null", "true", "2024-01-01", "~", "017", ".5", "on"])
def test_texts_that_look_like_something_else_survive_the_resolved_file(tmp_path: Path, name: str) -> None:
    config = StudyConfig.from_mapping({"name": name, "model": "m", "data": "city-facts"})
    assert study(tmp_path, config.to_yaml()).name == name
    assert yaml.safe_load(config.to_yaml())["name"] == name, "readers of YAML 1.1 must see a text too"


def test_replace_checks_what_it_changes(folder: Path) -> None:
    config = study(folder, WHOLE)
    assert config.replace(seed=8).seed == 8
    assert config.replace(seed=8).test == config.test
    with pytest.raises(ConfigError, match="seed"):
        config.replace(seed=-1)


# Each: a study, the line that is to blame, and words that the message must hold.
WRONG = [
    ("model: m\ndata:\n  path: data/cities.csv\n  targt: label\n", 4, ["'targt' in 'data'", "Did you mean 'target'?"]),
    ("model: m\ndata: city-facts\nfoldss: 3\n", 3, ["unknown key 'foldss'", "Did you mean 'folds'?"]),
    (
        "model: m\ntest:\n  - city-facts\n  - {nmae: city-facts}\ndata: city-facts\n",
        4,
        ["'nmae' in 'test.1'", "'name'"],
    ),
    ("model: {dtyp: float32, name: m}\ndata: city-facts\n", 1, ["'dtyp' in 'model'", "Did you mean 'dtype'?"]),
    ("probe:\n  family: ridge\n  L2: 3\nmodel: m\ndata: city-facts\n", 3, ["'L2' in 'probe'", "family, l2"]),
    ("model: m\ndata: city-facts\nfolds: five\n", 3, ["folds", "whole number", '"five"']),
    ("model: m\ndata: city-facts\nfolds: 2.5\n", 3, ["folds", "whole number", "2.5"]),
    ("model: m\ndata: city-facts\nfolds: true\n", 3, ["folds", "whole number", "true"]),
    ("model: m\ndata: city-facts\n\nfolds: 1\n", 4, ["folds", "at least 2"]),
    ("model: m\ndata: city-facts\nseed: -1\n", 3, ["seed", "at least 0"]),
    ("model: m\ndata: city-facts\nalpha: 0\n", 3, ["alpha", "above 0"]),
    ("model: m\ndata: city-facts\npermutations: 10\n", 3, ["permutations", "0.0909", "at least 19"]),
    ("model: m\ndata: city-facts\nbootstraps: 3\n", 3, ["bootstraps", "at least 100"]),
    ("model: m\ndata: city-facts\ntokens: lst\n", 3, ["tokens", "last, first, mean, max", "Did you mean 'last'?"]),
    ("model: m\ndata: city-facts\nsites: [embed, resid_pots.*]\n", 3, ["'resid_pots", "Did you mean 'resid_post'?"]),
    ("model: m\ndata: city-facts\nsites: resid_post.9-4\n", 3, ["backwards"]),
    ("model: m\ndata: city-facts\nsites: resid_post\n", 3, ["needs a layer"]),
    ("model: m\ndata: city-facts\nsites: []\n", 3, ["no sites"]),
    ("model: m\ndata: city-facts\nsites: [embed, 3]\n", 3, ["sites.1", "a text"]),
    ("model: m\ndata: city-facts\nprobe: ridg\n", 3, ["probe.family", "Did you mean 'ridge'?"]),
    ("model: m\ndata: city-facts\nprobe: {l2: 0}\n", 3, ["probe.l2", "not above 0"]),
    ("model: m\ndata: city-facts\nprobe: {l2: [1, x]}\n", 3, ["probe.l2", '"x" is no number']),
    ("model: m\ndata: city-facts\nprobe: {l2: [1, 1.0]}\n", 3, ["probe.l2", "twice"]),
    ("model: m\ndata: city-facts\nprobe: {family: mean_difference, l2: 1}\n", 3, ["has no 'l2'", "covariance"]),
    ("model: m\ndata: city-facts\ncontrols: [lenght]\n", 3, ["controls", "Did you mean 'length'?"]),
    ("model: m\ndata: city-facts\ncontrols:\n", 3, ["controls", "default, none"]),
    ("model: {name: m, device: gpu}\ndata: city-facts\n", 1, ["model.device", "cuda"]),
    ("model: {name: m, dtype: fp32}\ndata: city-facts\n", 1, ["model.dtype", "float32"]),
    ("model: 5\ndata: city-facts\n", 1, ["model", "got 5"]),
    ("model: m\ndata: city-facts\ncausal:\n  prompt: Is it true?\n", 4, ["causal.prompt", "0 times {text}"]),
    ("model: m\ndata: city-facts\ncausal:\n  postive: yes\n", 4, ["'postive' in 'causal'", "'positive'"]),
    ("model: m\ndata: city-facts\ncausal: {positive: ' true'}\n", 3, ["without 'negative'"]),
    ("model: m\ndata: city-facts\ncausal: {positive: a, negative: [b, a]}\n", 3, ["'a' is an answer of both"]),
    ("model: m\ndata: city-facts\ncausal: {positive: a, negative: ''}\n", 3, ["an answer is empty"]),
    ("model: m\ndata: city-facts\ncausal: {doses: [0.1, -1]}\n", 3, ["causal.doses", "-1 is no dose"]),
    ("model: m\ndata: city-facts\ncausal: {site: resid_pots.3}\n", 3, ["causal.site", "'resid_post'"]),
    ("model: m\ndata: city-facts\ncausal: {tokens: lst}\n", 3, ["causal.tokens", "Did you mean 'last'?"]),
    ("model: m\ndata: city-facts\ncausal: {parts: [dose]}\n", 3, ["causal.parts", "Did you mean 'doses'?"]),
    ("model: m\ndata: city-facts\ncausal: {random_directions: 9}\n", 3, ["random_directions", "at least 19"]),
    ("model: m\ndata: data/citis.csv\n", 2, ["no file 'data/citis.csv'", "Did you mean 'cities.csv'?"]),
    ("model: m\ndata: data/cities.csv\n", 2, ["no 'target'"]),
    ("model: m\ndata: {name: city-facts, text: x}\n", 2, ["built-in", "'text'"]),
    ("model: m\ndata: city-fact\n", 2, ["no built-in set 'city-fact'", "Did you mean 'city-facts'?"]),
    ("model: m\ndata: {sample: 5}\n", 2, ["neither a path nor a name"]),
    ("model: m\ndata: city-facts\ntest: data/cities.csv\n", 3, ["no 'target'", "built in"]),
    ("model: m\nmodel: n\ndata: city-facts\n", 2, ["'model'", "line 1"]),
    ("model: m\ndata:\n  name: a\n  name: b\n", 4, ["'name'", "line 3"]),
    ("model: m\n\tdata: x\n", 2, ["not YAML", "tab"]),
    ("model: [m\n", 2, ["not YAML"]),
    ("model: m\ndata: &a\n  name: *a\n", 2, ["nested too deeply"]),
]


@pytest.mark.parametrize(("text", "line", "words"), WRONG, ids=[repr(text)[:40] for text, *_ in WRONG])
def test_a_wrong_study_is_refused_with_its_line(folder: Path, text: str, line: int, words: list[str]) -> None:
    message = refused(folder, text)
    assert f"study.yaml, line {line}: " in message, message
    for word in words:
        assert word in message, message


def test_a_missing_key_is_named_with_an_example(folder: Path) -> None:
    assert "'data' is missing" in refused(folder, "model: m\n")
    assert "data: city-facts" in refused(folder, "model: m\n")


def test_all_faults_are_told_at_once_in_the_order_of_their_lines(folder: Path) -> None:
    lines = refused(folder, "model: m\nfoldss: 3\nseed: x\ntokens: lst\ndata: city-facts\n").splitlines()
    assert [one.split(":")[0].rsplit(" ", 1)[1] for one in lines] == ["2", "3", "4"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "text\n", "3\n"])
def test_what_is_no_mapping_is_refused(folder: Path, text: str) -> None:
    assert "expected keys" in refused(folder, text)


def test_a_missing_file_is_named_with_the_nearest(folder: Path) -> None:
    (folder / "cities.yaml").write_text("model: m\n")
    with pytest.raises(ConfigError, match=r"'.*citis\.yaml' does not exist.*Did you mean 'cities\.yaml'"):
        load_config(folder / "citis.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(folder)


def test_what_is_not_utf8_is_refused(folder: Path) -> None:
    (folder / "study.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(folder / "study.yaml")


def test_a_mapping_is_checked_without_lines() -> None:
    with pytest.raises(ConfigError, match=r"^study: unknown key 'modle'.*Did you mean 'model'"):
        StudyConfig.from_mapping({"modle": "m", "model": "m", "data": "city-facts"})


def test_reading_a_study_imports_no_torch() -> None:
    code = (
        "import sys, leadline.study.config; print([m for m in ('torch', 'transformers', 'polars') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
