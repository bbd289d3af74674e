"""Data sets of the hub: with the real package `datasets` where it is installed, and with one that stands for it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pytest

from leadline.data import Dataset, load_dataset
from leadline.errors import DataError

HAS_REAL = importlib.util.find_spec("datasets") is not None
needs_real = pytest.mark.skipif(not HAS_REAL, reason="the package datasets is not installed")


class ClassLabel:
    """Told by its name, as that of `datasets` is."""

    def __init__(self, names):
        self.names = names


@dataclass
class Loaded:
    """The part of `datasets.Dataset` that is read."""

    frame: pl.DataFrame
    features: dict = field(default_factory=dict)

    def to_polars(self):
        return self.frame


class DatasetsError(Exception):
    """The base of what `datasets` raises."""


def loaded(labels, names=("negative", "positive"), **columns):
    n = len(labels)
    frame = pl.DataFrame({"text": [f"text {i}" for i in range(n)], "label": labels, **columns})
    return Loaded(frame, {"text": None, "label": ClassLabel(list(names))})


@pytest.fixture
def fake(monkeypatch):
    """A `datasets` that answers with `fake.answer`, or raises it."""
    module = types.ModuleType("datasets")
    module.bars = True
    module.asked = []
    module.exceptions = types.SimpleNamespace(DatasetsError=DatasetsError)
    module.are_progress_bars_disabled = lambda: not module.bars

    def load(*args, **options):
        module.asked.append((args, options, module.bars))
        if isinstance(module.answer, Exception):
            raise module.answer
        return module.answer

    module.load_dataset = load
    module.load_from_disk = load
    module.disable_progress_bars = lambda: setattr(module, "bars", False)
    module.enable_progress_bars = lambda: setattr(module, "bars", True)
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module


def test_a_split_is_loaded_by_its_name_and_class_labels_have_theirs(fake):
    fake.answer = loaded([0, 1, 1, -1], topic=list("abab"))
    data = load_dataset("hub:some/set", split="train", config="small", revision="v1", target="label", group="topic")
    assert fake.asked == [(("some/set", "small"), {"split": "train", "revision": "v1"}, False)]
    assert fake.bars, "what was shown before is shown again"
    assert (data.name, data.source) == ("set", "hub:some/set (small, train, v1)")
    target = data.target("label")
    assert (target.negative, target.positive) == ("negative", "positive")
    np.testing.assert_array_equal(target.values[:, 0], [0, 1, 1, np.nan])
    assert data.groups.tolist() == list("abab")
    assert data.findings == ()


def test_of_two_class_labels_the_second_is_positive_unless_another_is_named(fake):
    fake.answer = loaded([0, 1, 1], names=("similar", "different"))
    assert Dataset.from_hub("x/y", target="label").target("label").positive == "different"
    assert Dataset.from_hub("x/y", target=["label"], positive="similar").target("label").positive == "similar"
    assert Dataset.from_hub("x/y", target="label", kind="multiclass").target("label").classes == (
        "similar",
        "different",
    )


def test_several_class_labels_keep_their_order(fake):
    fake.answer = loaded([2, 0, 1, 3, 0], names=("world", "sports", "business", "arts"))
    target = Dataset.from_hub("x/news", target="label").target("label")
    assert (target.kind, target.classes) == ("multiclass", ("world", "sports", "business", "arts"))
    assert target.values[:, 0].tolist() == [2, 0, 1, 3, 0]
    ordinal = Dataset.from_hub("x/news", target="label", kind="ordinal").target("label")
    assert ordinal.classes == target.classes
    one = Dataset.from_hub("x/news", target="label", positive="arts").target("label")
    assert one.values[:, 0].tolist() == [0, 0, 0, 1, 0]


def test_training_and_test_splits_are_read_together_and_others_named(fake):
    fake.answer = {"train": loaded([0, 1, 0]), "validation": loaded([1]), "test": loaded([1, 0])}
    data = Dataset.from_hub("x/y", target="label")
    assert data.splits.tolist() == ["train"] * 3 + ["test"] * 2
    assert data.target("label").values[:, 0].tolist() == [0, 1, 0, 1, 0]
    (note,) = data.findings
    assert note.code == "splits_left_out"
    assert note.message.endswith("left out: validation.")
    fake.answer = {"test": loaded([0, 1])}
    assert Dataset.from_hub("x/y", target="label").splits is None
    own = {part: loaded([0, 1], split=["p", "q"]) for part in ("train", "test")}
    assert Dataset.from_huggingface(own, target="label").split_column == "_split"


def test_pairs_of_the_hub_have_both_sentences_in_a_row(fake):
    frame = pl.DataFrame({"good": ["a b", "c d"], "bad": ["b a", "d c"], "n": [1, 2]})
    fake.answer = Loaded(frame, dict.fromkeys(frame.columns))
    data = load_dataset("hub:x/blimp", pairs={"positive": "good", "negative": "bad"})
    assert (data.name, data.n, data.pairs.tolist()) == ("blimp", 4, ["1", "1", "2", "2"])
    with pytest.raises(DataError, match="text='good' was given"):
        load_dataset("hub:x/blimp", pairs={"positive": "good", "negative": "bad"}, text="good")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (ConnectionError("Couldn't reach the Hub"), r"not in the cache and the hub cannot be reached \(Couldn't reach"),
        (ValueError("Unknown split 'trian'. Should be one of ['train']"), "cannot be loaded: Unknown split 'trian'"),
        (
            FileNotFoundError("Dataset 'x/y' doesn't exist"),
            "'x/y' cannot be loaded: Dataset 'x/y' doesn't exist. Check",
        ),
        (RuntimeError("Dataset scripts are no longer supported, but found y.py"), "scripts are no longer supported"),
        (DatasetsError("An error occurred while generating"), "cannot be made from its files: An error occurred"),
        ({"dev": loaded([0, 1]), "test": loaded([0, 1])}, "has the splits dev, test; name one, as in split='dev'"),
        (object(), "is of type object; expected a data set of the package datasets"),
        ({"train": loaded([0, 1]), "test": loaded([0, 1], more=[1, 2])}, "'train' and 'test' .* have other columns"),
    ],
)
def test_what_cannot_be_loaded_says_why(fake, answer, message):
    fake.answer = answer
    with pytest.raises(DataError, match=message):
        Dataset.from_hub("x/y", target="label")
    assert fake.bars


def test_a_split_of_both_kinds_is_refused():
    both = {"train": loaded([0, 1], part=["train", "test"]), "test": loaded([0, 1], part=["train", "test"])}
    with pytest.raises(DataError, match="the column 'part' was named for the split, but 'huggingface' has the splits"):
        Dataset.from_huggingface(both, target="label", split="part")
    one = Dataset.from_huggingface(both["train"], target="label", split="part")
    assert one.splits.tolist() == ["train", "test"]


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        DataError, match=r"needs the package datasets; install it with: pip install \"leadline\[hub\]\""
    ):
        load_dataset("hub:some/set", target="label")
    # A folder beside the program that is called so.
    monkeypatch.setitem(sys.modules, "datasets", types.ModuleType("datasets"))
    with pytest.raises(DataError, match="needs the package datasets"):
        load_dataset("hub:some/set", target="label")


def test_the_package_is_imported_for_the_hub_alone():
    code = "import sys, leadline.data as d; d.load_dataset('city-facts', sample=9); sys.exit('datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@needs_real
class TestRealPackage:
    """On data that is made here: no hub is asked."""

    @pytest.fixture
    def given(self):
        import datasets

        features = datasets.Features(
            {
                "text": datasets.Value("string"),
                "label": datasets.ClassLabel(names=["world", "sports", "arts"]),
                "chat": datasets.List({"role": datasets.Value("string"), "content": datasets.Value("string")}),
            }
        )
        n = 30
        rows = {
            "text": [f"text {i}" for i in range(n)],
            "label": [i % 3 if i else -1 for i in range(n)],
            "chat": [[{"role": "user", "content": f"ask {i}"}] for i in range(n)],
        }
        return datasets.Dataset.from_dict(rows, features=features)

    def test_texts_chats_and_class_labels(self, given):
        data = Dataset.from_huggingface(given, target="label")
        assert data.target("label").classes == ("world", "sports", "arts")
        assert data.target("label").counts == {"world": 9, "sports": 10, "arts": 10}
        assert np.isnan(data.target("label").values[0, 0])
        chats = Dataset.from_huggingface(given.shuffle(seed=0).select(range(10)), text="chat", target="label")
        assert chats.is_chat
        assert chats.n == 10

    def test_folders_that_were_saved(self, given, tmp_path):
        import datasets

        given.save_to_disk(tmp_path / "one")
        datasets.DatasetDict(train=given.select(range(20)), test=given.select(range(20, 30))).save_to_disk(
            tmp_path / "two"
        )
        one = Dataset.from_hub(str(tmp_path / "one"), target="label")
        assert one.fingerprint == Dataset.from_huggingface(given, target="label").fingerprint
        two = load_dataset(f"hub:{tmp_path / 'two'}", target="label")
        assert (two.name, len(two.train_rows), len(two.test_rows)) == ("two", 20, 10)
        assert load_dataset(f"hub:{tmp_path / 'two'}", target="label", split="test").n == 10
        with pytest.raises(DataError, match=r"no split 'tset'; its splits are train, test. Did you mean 'test'"):
            load_dataset(f"hub:{tmp_path / 'two'}", target="label", split="tset")
        with pytest.raises(DataError, match="it is a single split"):
            load_dataset(f"hub:{tmp_path / 'one'}", target="label", split="train")
        with pytest.raises(DataError, match="config='x' was given for the folder"):
            load_dataset(f"hub:{tmp_path / 'one'}", target="label", config="x")

    def test_a_folder_of_files(self, tmp_path, monkeypatch):
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        (tmp_path / "made").mkdir()
        for part, n in (("train", 12), ("test", 6)):
            lines = [f"t{i},{'ab'[i % 2]}" for i in range(n)]
            (tmp_path / "made" / f"{part}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
        data = load_dataset(f"hub:{tmp_path / 'made'}", target="label")
        assert (len(data.train_rows), len(data.test_rows)) == (12, 6)
        assert load_dataset(f"hub:{tmp_path / 'made'}", target="label", split="train[:5]").n == 5
        with pytest.raises(DataError, match="cannot be loaded: Unknown split"):
            load_dataset(f"hub:{tmp_path / 'made'}", target="label", split="nosplit")
        with pytest.raises(DataError, match="cannot be loaded"):
            load_dataset(f"hub:{tmp_path / 'nowhere'}", target="label")

    def test_streamed_data_is_read_as_far_as_it_is_taken(self, given):
        data = Dataset.from_huggingface(given.to_iterable_dataset().take(7), target="label")
        assert data.n == 7
        assert data.target("label").classes == ("world", "sports", "arts")
