"""Shards that several runs have written, made into one store without the model or the data set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from leadline.activations import Activations, BatchPlan
from leadline.activations.layout import DATASET_FILES, MANIFEST, PLAN, Identity, shard_name
from leadline.activations.manifest import name_shards
from leadline.activations.writer import StoreWriter, merge
from leadline.data import Dataset
from leadline.errors import StoreError

N = 12


def begin(folder: Path, *, tokens: str = "last", lengths: list[int] | None = None, machine: str = "a") -> StoreWriter:
    """A folder with a plan of six shards and its data set, as each machine has it."""
    folder.mkdir()
    data = Dataset.from_rows([{"text": f"row {i}", "label": i % 2} for i in range(N)], target="label")
    writer = StoreWriter(
        folder, Identity("aaaa", data.fingerprint, (("embed", 2),), tokens, "float32", N), {"machine": machine}
    )
    writer.check()
    writer.propose(BatchPlan.build(lengths or [5] * N, batch_tokens=10, shard_rows=2), 60)
    data.write(folder)
    return writer


def fill(writer: StoreWriter, shards: list[int]) -> None:
    for i in shards:
        rows = np.float32(writer.plan.rows(i))
        if writer.identity.ragged:
            writer.write_shard(i, {"embed": np.repeat(rows, 3)[:, None] * np.float32([1, 2])}, [3] * len(rows))
        else:
            writer.write_shard(
                i, {"embed": rows[:, None] * np.float32([1, 2])}, notes={"halved": i} if i == 4 else None
            )


@pytest.mark.parametrize("tokens", ["last", "all"])
def test_shards_of_two_machines_merge_into_the_store_of_one(tmp_path, tokens):
    alone, one, two = (begin(tmp_path / name, tokens=tokens) for name in ("alone", "one", "two"))
    fill(alone, list(range(6)))
    alone.finish()
    fill(one, [0, 1, 4])
    fill(two, [5, 3, 2])
    for i in (5, 3, 2):
        shutil.copy(tmp_path / "two" / shard_name(i), tmp_path / "one")
    acts = merge(tmp_path / "one")
    acts.verify()
    np.testing.assert_array_equal(acts.read("embed"), Activations.open(tmp_path / "alone").read("embed"))
    assert (tmp_path / "one" / MANIFEST).read_bytes() == (tmp_path / "alone" / MANIFEST).read_bytes()
    # A store that is complete is opened, and nothing written.
    before = (tmp_path / "one" / MANIFEST).stat().st_mtime_ns
    assert merge(tmp_path / "one").fingerprint == acts.fingerprint
    assert (tmp_path / "one" / MANIFEST).stat().st_mtime_ns == before


def test_the_environments_and_notes_of_all_are_kept(tmp_path):
    one, two = begin(tmp_path / "one"), begin(tmp_path / "two", machine="b")
    fill(one, [0, 1])
    fill(two, [2, 3, 4, 5])
    for i in (0, 1):
        shutil.copy(tmp_path / "one" / shard_name(i), tmp_path / "two")
    manifest = merge(tmp_path / "two").manifest
    assert manifest["environments"] == [{"machine": "a"}, {"machine": "b"}]
    assert [entry["environment"] for entry in manifest["shards"]] == [0, 0, 1, 1, 1, 1]
    assert [entry.get("halved") for entry in manifest["shards"]] == [None, None, None, None, 4, None]


def test_missing_shards_are_all_named(tmp_path):
    fill(begin(tmp_path / "s"), [0, 4])
    with pytest.raises(StoreError, match=r"shards 1-3, 5 of 6 are missing: run extract with --shard for them"):
        merge(tmp_path / "s")
    assert not (tmp_path / "s" / MANIFEST).exists()
    assert name_shards([3, 7, 8, 9, 10, 11, 12], 40) == "shards 3, 7-12 of 40 are"


def test_a_shard_of_another_plan_store_or_place_is_named(tmp_path):
    fill(begin(tmp_path / "s"), list(range(6)))
    whole = (tmp_path / "s" / shard_name(3)).read_bytes()
    fill(begin(tmp_path / "plan", lengths=list(range(1, N + 1))), list(range(6)))
    fill(begin(tmp_path / "store", tokens="mean"), [3])
    for source, said in [
        (tmp_path / "plan" / shard_name(3), "is of another plan"),
        (tmp_path / "store" / shard_name(3), "is of another store"),
        (tmp_path / "s" / shard_name(2), "is of another shard: shard 2, expected 3"),
    ]:
        shutil.copy(source, tmp_path / "s" / shard_name(3))
        with pytest.raises(StoreError, match=rf"shard-00003\.safetensors' {said}.*Delete it"):
            merge(tmp_path / "s")
    (tmp_path / "s" / shard_name(3)).write_bytes(whole[:-1])
    with pytest.raises(StoreError, match=r"shard-00003\.safetensors' is damaged: it cannot be read to its end"):
        merge(tmp_path / "s")
    (tmp_path / "s" / shard_name(3)).write_bytes(whole)
    merge(tmp_path / "s").verify()


def test_a_folder_without_a_plan_or_data_set_says_what_to_copy(tmp_path):
    with pytest.raises(StoreError, match=rf"holds no {PLAN}.*copy it from the run"):
        merge(tmp_path / "nowhere")
    fill(begin(tmp_path / "s"), list(range(6)))
    (tmp_path / "s" / DATASET_FILES[0]).unlink()
    with pytest.raises(StoreError, match=r"holds no dataset\.parquet; copy what is lacking"):
        merge(tmp_path / "s")


def test_a_plan_that_was_edited_is_refused(tmp_path):
    fill(begin(tmp_path / "s"), list(range(6)))
    content = json.loads((tmp_path / "s" / PLAN).read_text())
    (tmp_path / "s" / PLAN).write_text(json.dumps(content | {"tokens": "mean"}))
    with pytest.raises(StoreError, match=r"plan\.json' is damaged"):
        merge(tmp_path / "s")


def test_a_shard_that_came_back_is_taken_and_one_that_changed_is_not(tmp_path):
    writer = begin(tmp_path / "s")
    fill(writer, list(range(6)))
    writer.finish()
    folder = tmp_path / "s"
    # Another run wrote shard 1 anew, with a longer note.
    (folder / shard_name(1)).unlink()
    other = StoreWriter(folder, writer.identity, {"machine": "a longer name"})
    other.check()
    fill(other, [1])
    merge(folder).verify()
    shard = folder / shard_name(2)
    changed = shard.read_bytes()[:-1] + b"\x01"
    shard.write_bytes(changed)
    (folder / shard_name(1)).unlink()
    fill(begin(tmp_path / "t"), [1])
    shutil.copy(tmp_path / "t" / shard_name(1), folder)
    with pytest.raises(StoreError, match=r"shard-00002\.safetensors' is not the one that the manifest\.json names"):
        merge(folder)
    (folder / MANIFEST).unlink()
    merge(folder).verify()


def test_a_manifest_of_another_store_is_refused(tmp_path):
    for name, tokens in (("s", "last"), ("t", "mean")):
        writer = begin(tmp_path / name, tokens=tokens)
        fill(writer, list(range(6)))
        writer.finish()
    shutil.copy(tmp_path / "t" / MANIFEST, tmp_path / "s")
    with pytest.raises(StoreError, match=r"manifest\.json in '.*' is of another store or plan"):
        merge(tmp_path / "s")
