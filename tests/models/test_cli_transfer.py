"""`leadline transfer` over real stores of a tiny model: sets of one rule, of the opposite rule, and what is refused."""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leadline.activations import Activations
from leadline.cli import main
from leadline.evidence.transfer_matrix import transfer_matrix
from leadline.probes import Logistic
from leadline.study.sweep import labels_of
from leadline.study.transfer import transfer

SETS = ("cats", "dogs", "opposite", "moons")
SUBJECTS = {
    "cats": ["The cat", "A kitten"],
    "dogs": ["A dog", "The puppy"],
    "opposite": ["One bird", "That gull"],
    "moons": ["The moon", "A star"],
}


class Answer:
    """What a command answered."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def leadline(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """`leadline("transfer", "a", "b")`: run a command in this process."""

    def run(*words: str | Path) -> Answer:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return run


def refused(answer: Answer, *told: str) -> None:
    assert answer.code == 2, answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err
    for words in told:
        assert words in answer.err


def write_rows(file: Path, name: str) -> None:
    """Sentences that their last token tells apart; in `opposite` it has the other label, in `moons` it is noise."""
    draw = random.Random(name)
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["statement", "label", "topic", "length"])
        for row in range(60):
            says = draw.randrange(2) if name == "moons" else row % 2
            label = 1 - says if name == "opposite" else row % 2
            text = (
                f"{draw.choice(SUBJECTS[name])} {row} {draw.choice(['sleeps', 'runs', 'waits'])} {'!' if says else '.'}"
            )
            writer.writerow([text, label, f"{name} {row // 4}", len(text)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_models: Any, tiny_tokenizer: Any) -> Path:
    """Two models, four labelled files, and a store of each file by the first model."""
    folder = tmp_path_factory.mktemp("work")
    for name, seed, width in (("model", 0, 32), ("other", 1, 32)):
        tiny_models("llama", seed=seed, d_model=width).save_pretrained(folder / name)
        tiny_tokenizer.save_pretrained(folder / name)
    for name in SETS:
        write_rows(folder / f"{name}.csv", name)
        assert main([*extract(folder, name), "--out", str(folder / "acts" / name), "--quiet"]) == 0
    return folder


def extract(folder: Path, name: str, **changes: str) -> list[str]:
    options = {
        "model": str(folder / "model"),
        "data": str(folder / f"{name}.csv"),
        "text": "statement",
        "target": "label",
        "group": "topic",
        "sites": "resid_post.*",
        "dtype": "float32",
        **changes,
    }
    return ["extract", *(word for key, value in options.items() for word in (f"--{key}", value))]


def test_the_matrix_of_four_stores(leadline: Callable[..., Answer], folder: Path, tmp_path: Path) -> None:
    stores = [folder / "acts" / name for name in SETS]
    words = ["transfer", *stores, "--l2", "0.1", "--folds", "3", "--bootstraps", "100"]
    answer = leadline(*words, "--json", "--out", tmp_path / "transfer.json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert found == json.loads((tmp_path / "transfer.json").read_text())
    assert found["sets"] == list(SETS)
    assert found["sites"] == ["resid_post.0", "resid_post.1", "resid_post.2"]
    auroc = {
        (c["train"], c["test"]): c for c in found["cells"] if c["metric"] == "auroc" and c["site"] == found["best_site"]
    }
    assert auroc["cats", "dogs"]["value"] > 0.9
    assert auroc["cats", "opposite"]["value"] < 0.1
    assert auroc["dogs", "dogs"]["value"] > 0.9
    assert auroc["cats", "dogs"]["scored_by"] == "refit"
    here = next(
        p for p in found["predictions"] if p["site"] == found["best_site"] and p["predictor"] == "mahalanobis_cosine"
    )
    assert here["correlation"] > 0.8
    assert here["exact"]
    assert here["n_permutations"] == 24
    assert here["smallest_p"] == pytest.approx(1 / 24)

    # The same, from the pieces.
    sources = {name: Activations.open(store) for name, store in zip(SETS, stores, strict=True)}
    pieces = {}
    for name, acts in sources.items():
        assert acts.dataset is not None
        pieces[name] = (acts, labels_of(acts.dataset, acts.dataset.targets[0]))
    direct = transfer_matrix(pieces, Logistic(l2=0.1), n_folds=3, n_bootstraps=100)
    assert direct.cell("cats", "opposite", found["best_site"]).metrics["auroc"].value == pytest.approx(
        auroc["cats", "opposite"]["value"]
    )
    assert transfer(sources, Logistic(l2=0.1), folds=3, bootstraps=100).best_site.name == found["best_site"]

    table = leadline(*words, "--sites", "resid_post.1-2", "--quiet").out
    assert "AUROC at resid_post." in table
    assert "a row trains, a column is scored" in table
    assert "Mahalanobis cosine of the two probes" in table
    assert "all 24 permutations" in table
    assert "of 2." in table
    assert len([line for line in table.splitlines() if line.startswith("opposite")]) == 2


def test_sets_of_one_place_and_few_sets_are_told(leadline: Callable[..., Answer], folder: Path, tmp_path: Path) -> None:
    # The same data twice, under two names of its own: every group is shared, so all cells are by folds.
    shutil.copytree(folder / "acts" / "cats", tmp_path / "again")
    words = ["transfer", folder / "acts" / "cats", tmp_path / "again", "--folds", "3", "--bootstraps", "100"]
    answer = leadline(*words, "--probe", "mean_difference", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["sets"] == [str(folder / "acts" / "cats"), str(tmp_path / "again")]
    assert {c["scored_by"] for c in answer.json["cells"]} == {"folds"}
    assert {c["n_shared"] for c in answer.json["cells"]} == {60}
    assert "With 2 sets there are 2 ways" in leadline(*words).out


def test_data_sets_are_extracted_with_a_model(leadline: Callable[..., Answer], folder: Path, tmp_path: Path) -> None:
    files = [folder / "cats.csv", folder / "dogs.csv"]
    words = ["transfer", *files, folder / "acts" / "opposite", "--model", folder / "model", "--text", "statement"]
    words += ["--target", "label", "--group", "topic", "--sites", "resid_post.1", "--folds", "3", "--l2", "0.1"]
    answer = leadline(*words, "--bootstraps", "100", "--keep", tmp_path / "kept", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["sets"] == ["cats", "dogs", "opposite"]
    assert answer.json["sites"] == ["resid_post.1"]
    assert Activations.open(tmp_path / "kept" / "cats").n_rows == 60
    temporary = leadline(*words, "--bootstraps", "100", "--json")
    assert temporary.json["cells"] == answer.json["cells"]


def test_what_does_not_go_together_is_refused(leadline: Callable[..., Answer], folder: Path, tmp_path: Path) -> None:
    cats, dogs = folder / "acts" / "cats", folder / "acts" / "dogs"
    refused(leadline("transfer", cats), "two or more")
    refused(leadline("transfer", cats, cats), "given twice")
    refused(leadline("transfer", cats, folder / "dogs.csv"), "give --model")
    refused(leadline("transfer", cats, dogs, "--probe", "logit"), "unknown probe 'logit'")
    refused(leadline("transfer", cats, dogs, "--sites", "resid_post.7"), "layer 7 does not exist")
    refused(
        leadline("transfer", cats, dogs, "--sites", "mlp_out.*"), "names no site that all sets have", "resid_post.0"
    )
    refused(leadline("transfer", cats, dogs, "--target", "truth"), "no target 'truth'", "label")

    def stored(name: str, **changes: str) -> Path:
        out = tmp_path / name
        assert main([*extract(folder, "dogs", **changes), "--out", str(out), "--quiet"]) == 0
        return out

    refused(leadline("transfer", cats, stored("alien", model=str(folder / "other"))), "different models", "one model")
    refused(leadline("transfer", cats, stored("embed", sites="embed")), "no site in common", "embed")
    refused(leadline("transfer", cats, stored("mean", tokens="mean")), "different tokens", "'mean'")
    refused(leadline("transfer", cats, stored("numbers", target="length")), "cats binary", "continuous")
