"""What a study file and `leadline datasets` say of the data: kinds, orders, pairs, types and the hub."""

from __future__ import annotations

import json

import polars as pl
import pytest

from leadline.cli import main
from leadline.data import load_dataset
from leadline.errors import ConfigError
from leadline.study.config import StudyConfig, load_config

PAIRS = {"positive": "good", "negative": "bad"}


@pytest.fixture
def folder(tmp_path):
    levels = [("low", "mid", "high")[i % 3] for i in range(60)]
    pl.DataFrame(
        {
            "text": [f"text {i:02d}" for i in range(60)],
            "level": levels,
            "kind": [f"k{i % 5}" for i in range(60)],
            "item": [i // 3 for i in range(60)],
        }
    ).write_csv(tmp_path / "levels.csv")
    pl.DataFrame(
        {"good": [f"{i} cats sleep." for i in range(30)], "bad": [f"{i} cats sleeps." for i in range(30)]}
    ).write_ndjson(tmp_path / "pairs.jsonl")
    pl.DataFrame({"text": ["a"], "level": ["low"]}).write_csv(tmp_path / "plain.csv")
    return tmp_path


def data_of(folder, data, **keys):
    return StudyConfig.from_mapping({"model": "m", "data": data, **keys}, folder=folder)


def refused(folder, data):
    with pytest.raises(ConfigError) as caught:
        data_of(folder, data)
    return str(caught.value)


def test_levels_pairs_and_types_of_a_file_are_read(folder):
    given = {
        "path": "levels.csv",
        "target": "level",
        "kind": "ordinal",
        "order": ["low", "mid", "high"],
        "pair": "item",
        "type": "kind",
    }
    path, keywords = data_of(folder, given).data.arguments()
    assert keywords["order"] == ["low", "mid", "high"]
    data = load_dataset(path, **keywords)
    assert data.target("level").classes == ("low", "mid", "high")
    assert (data.pair_column, data.group_column, data.type_column) == ("item", "item", "kind")


def test_an_order_is_of_names_as_they_are_read(folder):
    config = data_of(folder, {"path": "levels.csv", "target": "level", "order": [1, 2.0, True, 2.5, "x"]})
    assert config.data.order == ("1", "2", "true", "2.5", "x")


def test_a_study_with_pairs_comes_back_from_its_file(folder, tmp_path):
    config = data_of(folder, {"path": "pairs.jsonl", "pairs": PAIRS})
    assert config.data.arguments() == (
        str(folder / "pairs.jsonl"),
        {"pairs": PAIRS, "target": "label"},
    )
    path, keywords = config.data.arguments()
    data = load_dataset(path, **keywords)
    assert (data.n, len(set(data.pairs))) == (60, 30)
    (tmp_path / "study.yaml").write_text(config.to_yaml())
    assert load_config(tmp_path / "study.yaml") == config
    named = data_of(folder, {"path": "pairs.jsonl", "pairs": PAIRS, "target": "agrees"})
    assert named.data.target == ("agrees",)
    assert named.replace(seed=3).data == named.data


@pytest.mark.parametrize("name", ["hub:nyu-mll/glue", "hub:imdb"])
def test_a_set_of_the_hub_is_named(folder, name):
    config = data_of(folder, {"name": name, "config": "sst2", "revision": "abc", "split": "train", "target": "label"})
    assert (config.data.is_hub, config.data.is_builtin) == (True, False)
    assert config.name == name.rsplit("/", 1)[-1].removeprefix("hub:")
    assert config.data.arguments() == (
        name,
        {"config": "sst2", "revision": "abc", "split": "train", "target": "label", "text": "text"},
    )
    assert StudyConfig.from_mapping(config.to_mapping()) == config


def test_a_treebank_has_its_tags_as_target(folder):
    (folder / "x.conllu").write_text("1\tHm\thm\tINTJ\t_\t_\t0\troot\t_\t_\n\n")
    config = data_of(folder, "x.conllu")
    assert config.data.target == ("upos",)
    assert "text" not in config.data.arguments()[1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"path": "pairs.jsonl", "pairs": {"positive": "good", "negtive": "bad"}}, "did you mean 'negative'"),
        ({"path": "pairs.jsonl", "pairs": {"positive": "good"}}, "negative"),
        ({"path": "pairs.jsonl", "pairs": PAIRS, "text": "good"}, "'text' means nothing beside 'pairs'"),
        ({"path": "pairs.jsonl", "pairs": PAIRS, "kind": "binary"}, "'kind' means nothing beside 'pairs'"),
        ({"path": "pairs.jsonl", "pairs": PAIRS, "target": ["a", "b"]}, "give one name"),
        ({"path": "levels.csv", "target": "level", "order": "low"}, "expected a list of all levels"),
        ({"path": "levels.csv", "target": "level", "order": ["a", "a"]}, "the same level twice"),
        (
            {"path": "levels.csv", "target": "level", "order": ["a", "b"], "kind": "multiclass"},
            "'order' is of the levels",
        ),
        ({"path": "levels.csv", "target": "level", "positive": "low", "kind": "ordinal"}, "'positive' sets one class"),
        ({"path": "levels.csv", "target": "level", "kind": "ordinl"}, "did you mean 'ordinal'"),
        ({"path": "levels.csv", "target": "level", "config": "x"}, "'config' is of a set of the hub"),
        ({"name": "city-facts", "pair": "city"}, "a built-in set with columns of its own, so 'pair' means nothing"),
        ({"name": "city-facts", "revision": "x"}, "so 'revision' means nothing"),
        ("hub:some/set", "has no 'target'"),
        ("cityfacts", "of the hub as in 'hub:nyu-mll/glue'"),
    ],
)
def test_data_that_contradicts_itself_is_refused(folder, data, message):
    assert message.casefold() in refused(folder, data).casefold()


def test_a_test_file_takes_order_pairs_and_types_where_it_has_them(folder):
    order = ["low", "mid", "high"]
    given = {"path": "levels.csv", "target": "level", "order": order, "pair": "item", "type": "kind", "group": "item"}
    plain, same = data_of(folder, given, test=["plain.csv", "levels.csv"]).test
    assert (plain.order, plain.pair, plain.type, plain.group) == (tuple(order), None, None, None)
    assert (same.pair, same.type, same.group) == ("item", "kind", "item")
    pairs = {"path": "pairs.jsonl", "pairs": PAIRS}
    other, own = data_of(folder, pairs, test=[{"path": "plain.csv", "target": "level"}, "pairs.jsonl"]).test
    assert (other.pairs, other.text) == (None, "text")
    assert (own.pairs.positive, own.text, own.target) == ("good", None, ("label",))
    whole = data_of(folder, {"path": "plain.csv", "target": "level"}, test=[pairs])
    assert (whole.test[0].pairs.negative, whole.test[0].text, whole.test[0].target) == ("bad", None, ("level",))
    assert whole.replace(seed=1).test == whole.test


def test_the_command_shows_classes_and_their_counts(folder, capsys):
    path = str(folder / "levels.csv")
    assert main(["datasets", path, "--target", "level", "--rows", "1"]) == 0
    out = capsys.readouterr().out
    assert "target level (multiclass): 20 × high, 20 × low, 20 × mid" in out
    assert "note: 'level' has 3 classes and is read as multiclass" in out
    order = [word for level in ("low", "mid", "high") for word in ("--order", level)]
    assert main(["datasets", path, "--target", "level", "--pair", "item", "--type", "kind", *order]) == 0
    out = capsys.readouterr().out
    assert "target level (ordinal): 20 × low, 20 × mid, 20 × high" in out
    assert "60 rows in 20 groups and 20 pairs and 5 types" in out
    assert main(["datasets", path, "--target", "level", "--kind", "ordinal"]) == 2
    assert "levels in words and no order" in capsys.readouterr().err
    assert main(["datasets", path, "--target", "level", "--positive", "mid"]) == 0
    assert "target level (binary): 20 × mid, 40 × not mid" in capsys.readouterr().out


def test_the_command_shows_pairs_as_json(folder, capsys):
    assert main(["datasets", str(folder / "pairs.jsonl"), "--pairs", "good", "bad", "--json", "--rows", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["n"], told["n_pairs"], told["n_groups"], told["n_types"]) == (60, 30, 30, None)
    assert told["targets"][0]["classes"] == {"bad": 30, "good": 30}
    assert [row["label"] for row in told["rows"]] == ["good", "bad"]
    assert [row["pair"] for row in told["rows"]] == ["1", "1"]


def test_the_command_says_what_the_hub_needs(capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    assert main(["datasets", "hub:some/set", "--target", "label", "--split", "train", "--config", "x"]) == 2
    assert 'pip install "leadline[hub]"' in capsys.readouterr().err.replace("\n", " ")
