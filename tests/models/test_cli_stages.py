"""The command line over real stages: a tiny model in a folder, a labelled file, a store, probes, a whole run."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from leadline.cli import main


class Answer:
    """What a command answered."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def leadline(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """`leadline("run", "x.yaml")`: run a command in this process."""

    def run(*words: str | Path) -> Answer:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return run


def write_rows(file: Path, n: int, seed: int) -> None:
    """Sentences of two kinds that a last token tells apart, each with a topic as its group."""
    draw = random.Random(seed)
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["statement", "label", "topic"])
        for row in range(n):
            subject = draw.choice(["The cat", "A dog", "One bird", "This fish", "That horse"])
            verb = draw.choice(["sleeps", "runs", "sings", "waits", "plays"])
            writer.writerow([f"{subject} {row} {verb} {'!' if row % 2 else '.'}", row % 2, f"topic {row // 4}"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_models: Any, tiny_tokenizer: Any) -> Path:
    """A folder with a model, two labelled files and a study."""
    folder = tmp_path_factory.mktemp("work")
    tiny_models("llama").save_pretrained(folder / "model")
    tiny_tokenizer.save_pretrained(folder / "model")
    write_rows(folder / "animals.csv", 60, 0)
    write_rows(folder / "others.csv", 24, 1)
    study = {
        "model": {"name": "model", "dtype": "float32", "device": "cpu"},
        "data": {"path": "animals.csv", "text": "statement", "target": "label", "group": "topic"},
        "sites": ["embed", "resid_post.*"],
        "probe": {"family": "logistic", "l2": [0.01, 0.1]},
        "folds": 3,
        "permutations": 19,
        "bootstraps": 100,
        "controls": ["length", "random_weights"],
        "test": ["others.csv"],
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> Path:
    """A store, made by the command."""
    out = folder / "acts"
    assert main([*extract(folder), "--out", str(out), "--quiet"]) == 0
    return out


@pytest.fixture(scope="module")
def run_folder(folder: Path) -> Path:
    """A finished run, made by the command."""
    assert main(["run", str(folder / "study.yaml"), "--quiet"]) == 0
    return folder / "runs" / "animals"


def extract(folder: Path, **changes: str) -> list[str]:
    """The words of an extraction; `changes` replace options."""
    options = {
        "model": str(folder / "model"),
        "data": str(folder / "animals.csv"),
        "text": "statement",
        "target": "label",
        "group": "topic",
        "sites": "embed resid_post.*",
        "dtype": "float32",
        **changes,
    }
    return ["extract", *(word for name, value in options.items() for word in (f"--{name}", value))]


def refused(answer: Answer, *told: str) -> None:
    assert answer.code == 2, answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err
    for words in told:
        assert words in answer.err


def test_extract_tells_what_it_stored_and_finds_it_again(
    leadline: Callable[..., Answer], folder: Path, store: Path
) -> None:
    again = leadline(*extract(folder), "--out", store, "--json")
    assert again.code == 0
    assert again.json["n_rows"] == 60
    assert [one["site"] for one in again.json["sites"]] == ["embed", "resid_post.0", "resid_post.1", "resid_post.2"]
    assert {one["width"] for one in again.json["sites"]} == {32}
    assert "found" in again.err, "progress and notes go to stderr"


def test_sweep_then_score(leadline: Callable[..., Answer], store: Path, tmp_path: Path) -> None:
    words = ["sweep", store, "--l2", "0.01", "--l2", "0.1", "--folds", "3", "--permutations", "19"]
    answer = leadline(*words, "--bootstraps", "100", "--controls", "length", "--out", tmp_path / "probes", "--json")
    assert answer.code == 0, answer.err
    assert next(row["site"] for row in answer.json["table"]) == "embed"
    assert answer.json["best"]["metrics"]["auroc"]["value"] > 0.9
    assert answer.json["best"]["p_value"] == pytest.approx(1 / 20)
    assert next(iter(answer.json["verdicts"])) == "decodable"
    assert len(list((tmp_path / "probes").iterdir())) == 4

    table = leadline(*words, "--bootstraps", "100", "--controls", "none").out
    assert "AUROC" in table
    assert "best at" in table

    (probe,) = answer.json["best"]["files"]
    scores = leadline("score", probe, "The cat 3 runs !", "The cat 3 runs .", "--json")
    assert scores.code == 0, scores.err
    first, second = scores.json["rows"]
    assert first["label"] > 0 > second["label"]
    assert (first["decision"], second["decision"]) == ("1", "0")
    assert scores.json["probes"][0]["positive"] == "1"


def test_score_reads_files_and_refuses_what_it_cannot(
    leadline: Callable[..., Answer], folder: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts.txt").write_text("A dog 4 waits !\n\nA dog 4 waits .\n")
    lines = leadline("score", run_folder, "--file", tmp_path / "texts.txt", "--json")
    assert lines.code == 0, lines.err
    assert [row["text"] for row in lines.json["rows"]] == ["A dog 4 waits !", "A dog 4 waits ."]
    table = leadline("score", run_folder, "--file", folder / "others.csv", "--text", "statement", "--json")
    assert len(table.json["rows"]) == 24
    right = [row["decision"] == ("1" if row["text"].endswith("!") else "0") for row in table.json["rows"]]
    assert sum(right) >= 22
    shown = leadline("score", run_folder, "A dog 4 waits !").out.splitlines()
    assert shown[0].split() == ["label", "decision", "text"]
    assert shown[1].split()[1:] == ["1", "A", "dog", "4", "waits", "!"]

    refused(leadline("score", run_folder, "--file", folder / "others.csv"), "no column 'text'", "statement")
    refused(leadline("score", run_folder), "nothing to score")
    refused(leadline("score", run_folder, "a", " "), "text 2 of 2 is empty")
    refused(leadline("score", folder, "a"), "neither a probe's file nor the folder of a finished run")
    refused(leadline("score", tmp_path / "texts.txt", "a"), "probe")


def test_a_run_ends_with_its_finding(leadline: Callable[..., Answer], folder: Path, run_folder: Path) -> None:
    names = {"study.yaml", "events.jsonl", "results.json", "results.parquet", "scores.parquet", "report.html"}
    assert names <= set(os.listdir(run_folder))
    again = leadline("run", folder / "study.yaml")
    assert again.code == 0, again.err
    assert "decodable" in again.out
    assert "others" in again.out
    assert str(run_folder / "report.html") in again.out
    assert "extract" in again.err


def test_the_run_folders_own_study_gives_the_same_figures(
    leadline: Callable[..., Answer], run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    replay = leadline("run", run_folder / "study.yaml", "--out", "replay", "--json")
    assert replay.code == 0, replay.err
    assert replay.json["folder"] == str(tmp_path / "replay")
    one, two = (json.loads((folder / "results.json").read_text()) for folder in (run_folder, tmp_path / "replay"))
    assert one["targets"] == two["targets"]


def test_tests_may_be_given_by_option(leadline: Callable[..., Answer], folder: Path, tmp_path: Path) -> None:
    with (folder / "others.csv").open() as rows, (tmp_path / "more.csv").open("w") as out:
        out.write(rows.read().replace("statement,label", "claim,truth"))
    words = ["run", folder / "study.yaml", "--out", tmp_path / "run", "--test", tmp_path / "more.csv"]
    answer = leadline(*words, "--test-text", "claim", "--test-target", "truth", "--json")
    assert answer.code == 0, answer.err
    tests = answer.json["targets"][0]["tests"]
    assert list(tests) == ["others", "more"]
    assert tests["others"]["auroc"]["value"] == pytest.approx(tests["more"]["auroc"]["value"])
    refused(leadline(*words), "another study", "differs in test")
    refused(leadline(*words, "--overwrite"), "no column 'statement'", "claim")


def test_doctor_finds_a_run_whole_and_a_truncated_shard(
    leadline: Callable[..., Answer], run_folder: Path, store: Path, tmp_path: Path
) -> None:
    assert leadline("doctor", run_folder).code == 0
    assert leadline("doctor", store).code == 0
    damaged = tmp_path / "acts"
    damaged.mkdir()
    for file in store.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    shard = next(damaged.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])
    refused(leadline("sweep", damaged), shard.name)
    answer = leadline("doctor", damaged, "--json")
    assert answer.code == 2
    assert shard.name in answer.json[-1]["value"]
    assert leadline("sweep", damaged, "--debug").err.startswith("Traceback")


def test_bad_input_is_refused_before_any_work(leadline: Callable[..., Answer], folder: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "acts")
    refused(leadline(*extract(folder, target="labl", out=out)), "no column 'labl'", "Did you mean 'label'?")
    refused(leadline(*extract(folder, sites="resid_pots.1", out=out)), "unknown site", "Did you mean 'resid_post'?")
    refused(leadline(*extract(folder, sites="resid_post.7", out=out)), "layer 7 does not exist", "0 to 2")
    refused(leadline(*extract(folder, data=str(folder / "animal.csv"), out=out)), "Did you mean 'animals.csv'?")
    refused(leadline(*extract(folder, out=str(folder / "animals.csv"))), "is a file")
    refused(leadline(*extract(folder, tokens="lst", out=out)), "Did you mean 'last'?")
    refused(leadline("sweep", tmp_path), "no")
    refused(leadline("sweep", tmp_path, "--probe", "logit"), "unknown probe 'logit'")


def test_an_unwritable_run_folder_and_another_study_are_refused(
    leadline: Callable[..., Answer], folder: Path, run_folder: Path
) -> None:
    refused(leadline("run", folder / "study.yaml", "--out", folder / "animals.csv" / "run"), "cannot write", "--out")
    refused(leadline("run", folder / "study.yaml", "--seed", "5"), "another study", "seed", "--overwrite")


def test_a_model_that_is_not_there_offline(folder: Path, tmp_path: Path) -> None:
    words = [*extract(folder, model="nobody/nothing", out=str(tmp_path / "acts"))]
    done = subprocess.run(
        [sys.executable, "-m", "leadline", *words],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "error: " in done.stderr
    assert "nobody/nothing" in done.stderr
    assert "Traceback" not in done.stderr


def test_levels_types_and_pairs_go_from_a_file_to_the_evidence(
    leadline: Callable[..., Answer], folder: Path, tmp_path: Path
) -> None:
    with (tmp_path / "levels.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["text", "level", "topic", "animal"])
        for row in range(180):
            end = [".", "?", "!"][row % 3]
            animal = ["cat", "dog", "bird"][row // 3 % 3] + str(row // 9 % 4)
            writer.writerow([f"The {animal} waits {row} {end}", ["low", "middle", "high"][row % 3], row // 7, animal])
    store = tmp_path / "levels"
    levels = [word for level in ("low", "middle", "high") for word in ("--order", level)]
    data = ["--data", tmp_path / "levels.csv", "--target", "level", "--group", "topic", "--type", "animal"]
    done = leadline("extract", "--model", folder / "model", *data, *levels, "--sites", "resid_post.*", "--out", store)
    assert done.code == 0, done.err
    asked = ["--permutations", "19", "--bootstraps", "100", "--folds", "3", "--l2", "0.1", "--controls", "bag_of_words"]
    swept = leadline("sweep", store, *asked, "--measures", "control_task", "--measures", "emergence", "--json").json
    assert swept["family"] == "ordinal"
    assert set(swept["best"]["metrics"]) == {"concordance", "accuracy", "adjacent_accuracy", "kappa"}
    assert swept["verdicts"]["selective"] != "not tested"
    taken = {one["name"]: one for one in swept["measures"]}
    assert set(taken) == {"duplicates", "leaking_columns", "emergence", "control_task"}
    assert taken["control_task"]["figures"][0]["name"] == "selectivity"

    with (tmp_path / "pairs.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["good", "bad"])
        writer.writerows([[f"The cat {row} waits .", f"The cat {row} waits !"] for row in range(40)])
    pairs = ["--data", tmp_path / "pairs.csv", "--pairs", "good", "bad", "--out", tmp_path / "pairs"]
    done = leadline("extract", "--model", folder / "model", "--sites", "resid_post.*", *pairs)
    assert done.code == 0, done.err
    swept = leadline("sweep", tmp_path / "pairs", *asked, "--measures", "none", "--json").json
    assert swept["best"]["metrics"]["pair_accuracy"]["value"] == 1.0
