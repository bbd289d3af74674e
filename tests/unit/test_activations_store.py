"""The store on disk and arrays from elsewhere, without any model."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from leadline.activations import Activations, ActivationSource, BatchPlan
from leadline.activations.store import MANIFEST, PLAN, Identity, shard_name
from leadline.activations.writer import StoreWriter
from leadline.data import Dataset
from leadline.errors import ActivationsError, DataError, OutputError, SiteError, StoreError
from leadline.sites import Site

N = 9
WIDTHS = (("embed", 4), ("resid_post.0", 4), ("final_norm", 3))
ENVIRONMENT = {"threads": 1, "machine": "test"}


def dataset(n: int = N) -> Dataset:
    return Dataset.from_rows([{"text": f"row {i}", "label": i % 2} for i in range(n)], target="label")


def identity(**changes) -> Identity:
    parts = {
        "model_fingerprint": "aaaa",
        "data_fingerprint": dataset().fingerprint,
        "sites": WIDTHS,
        "tokens": "last",
        "dtype": "float32",
        "n_rows": N,
        "model_name": "tiny",
        "data_name": "rows",
    }
    return Identity(**(parts | changes))


def values(site: str, width: int) -> np.ndarray:
    """(N, width): which number stands where says which site, row and dimension it is."""
    code = [name for name, _ in WIDTHS].index(site)
    return (code * 1000 + np.arange(N)[:, None] * 10 + np.arange(width)).astype(np.float32)


def shard_of(plan: BatchPlan, i: int) -> dict[str, np.ndarray]:
    return {name: values(name, width)[plan.rows(i)] for name, width in WIDTHS}


def write_store(folder: Path, *, shards: int | None = None, **changes) -> BatchPlan:
    """Write a store of three shards, or only the first few of them and no manifest."""
    folder.mkdir(exist_ok=True)
    writer = StoreWriter(folder, identity(**changes), ENVIRONMENT)
    writer.check()
    plan = writer.propose(BatchPlan.build([10, 12, 11] * 3, batch_tokens=36, shard_rows=3), 99)
    dataset().write(folder)
    for i in range(len(plan.shards) if shards is None else shards):
        if not writer.has(i):
            writer.write_shard(i, shard_of(plan, i))
    if shards is None:
        writer.finish()
    return plan


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_importing_the_room_imports_no_torch():
    code = "import sys, leadline.activations; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_store_reads_back_in_the_order_of_the_data(tmp_path):
    plan = write_store(tmp_path / "s")
    assert len(plan.shards) == 3
    acts = Activations.open(tmp_path / "s")
    assert isinstance(acts, ActivationSource)
    assert [site.name for site in acts.sites] == ["embed", "resid_post.0", "final_norm"]
    assert (acts.n_rows, acts.tokens, acts.model_fingerprint) == (N, "last", "aaaa")
    assert acts.fingerprint == identity().fingerprint
    for name, width in WIDTHS:
        read = acts.read(name)
        assert acts.width(name) == width
        assert read.dtype == np.float32
        assert read.flags["C_CONTIGUOUS"]
        assert read.flags["OWNDATA"]
        np.testing.assert_array_equal(read, values(name, width))
        read[:] = 0
        np.testing.assert_array_equal(acts.read(Site.parse(name)), values(name, width))
    assert acts.dataset.fingerprint == dataset().fingerprint
    assert acts.dataset.texts[3] == "row 3"
    acts.verify()
    assert repr(acts) == f"Activations(9 rows at embed, resid_post.0, final_norm; tokens 'last'; in '{tmp_path / 's'}')"


def test_the_manifest_says_what_the_store_is_of(tmp_path):
    plan = write_store(tmp_path / "s")
    manifest = json.loads((tmp_path / "s" / MANIFEST).read_text())
    assert manifest == Activations.open(tmp_path / "s").manifest
    assert manifest["model"] == {"name": "tiny", "source": "", "fingerprint": "aaaa"}
    assert manifest["sites"][2] == {"site": "final_norm", "width": 3}
    assert (manifest["tokens"], manifest["dtype"], manifest["truncated"]) == ("last", "float32", "none")
    assert manifest["n_tokens"] == 99
    assert manifest["plan"]["fingerprint"] == plan.fingerprint
    assert manifest["environments"] == [ENVIRONMENT]
    assert [entry["rows"] for entry in manifest["shards"]] == [3, 3, 3]


def test_the_same_content_gives_the_same_bytes_and_leaves_nothing_else(tmp_path):
    write_store(tmp_path / "a")
    write_store(tmp_path / "b", shards=1)
    write_store(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert sorted(contents(tmp_path / "a")) == [
        "dataset.json",
        "dataset.parquet",
        "manifest.json",
        "plan.json",
        *[shard_name(i) for i in range(3)],
    ]


def test_an_unknown_site_names_the_nearest(tmp_path):
    write_store(tmp_path / "s")
    acts = Activations.open(tmp_path / "s")
    with pytest.raises(SiteError, match=r"'resid_post\.1' here.*Did you mean 'resid_post\.0'"):
        acts.read("resid_post.1")
    with pytest.raises(SiteError, match=r"there are embed, resid_post\.0, final_norm"):
        acts.width("nonsense")


def test_no_store_and_an_incomplete_one(tmp_path):
    with pytest.raises(StoreError, match="holds no activation store"):
        Activations.open(tmp_path / "nowhere")
    write_store(tmp_path / "s", shards=2)
    with pytest.raises(StoreError, match=r"incomplete \(2 of 3 shards\).*goes on where it stopped"):
        Activations.open(tmp_path / "s")


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_shard_is_named_at_open_and_rebuilt_alone(tmp_path, damage):
    write_store(tmp_path / "s")
    whole = contents(tmp_path / "s")
    shard = tmp_path / "s" / shard_name(1)
    if damage == "truncated":
        with open(shard, "r+b") as file:
            file.truncate(100)
    else:
        shard.unlink()
    with pytest.raises(StoreError, match=r"shard-00001\.safetensors (has 100 bytes|is missing).*run the same extract"):
        Activations.open(tmp_path / "s")
    writer = StoreWriter(tmp_path / "s", identity(), ENVIRONMENT)
    writer.check()
    assert not writer.complete
    assert [writer.has(i) for i in range(3)] == [True, False, True]
    write_store(tmp_path / "s")
    assert contents(tmp_path / "s") == whole


def test_a_flipped_bit_is_found_by_verify_and_not_blessed_by_a_rebuild(tmp_path):
    write_store(tmp_path / "s")
    shard = tmp_path / "s" / shard_name(2)
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(StoreError, match=r"shard-00002\.safetensors' is damaged.*Delete that file"):
        Activations.open(tmp_path / "s").verify()
    (tmp_path / "s" / shard_name(0)).unlink()
    write_store(tmp_path / "s")
    with pytest.raises(StoreError, match=r"shard-00002"):
        Activations.open(tmp_path / "s").verify()
    shard.unlink()
    write_store(tmp_path / "s")
    Activations.open(tmp_path / "s").verify()


def test_a_data_set_that_is_not_the_stores_is_refused(tmp_path):
    write_store(tmp_path / "s")
    dataset(N + 1).write(tmp_path / "s")
    with pytest.raises(StoreError, match="not the one the activations are of"):
        _ = Activations.open(tmp_path / "s").dataset
    with pytest.raises(StoreError, match="not the one the activations are of"):
        Activations.open(tmp_path / "s").verify()
    (tmp_path / "s" / "dataset.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"is damaged.*Or delete dataset\.parquet and dataset\.json"):
        _ = Activations.open(tmp_path / "s").dataset
    (tmp_path / "s" / "dataset.parquet").unlink()
    with pytest.raises(StoreError, match=r"dataset\.parquet is missing"):
        Activations.open(tmp_path / "s")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_fingerprint": "bbbb", "model_name": "other"}, r"model: 'tiny' \(aaaa\) there, 'other' \(bbbb\) here"),
        ({"data_fingerprint": "dddd"}, r"data: 'rows' \(\w+\) there, 'rows' \(dddd\) here"),
        ({"tokens": "mean"}, "tokens: last there, mean here"),
        ({"dtype": "bfloat16"}, "dtype: float32 there, bfloat16 here"),
        ({"sites": (("embed", 4),)}, "sites: embed, resid_post.0, final_norm there, embed here"),
    ],
)
@pytest.mark.parametrize("shards", [None, 1])
def test_a_store_of_something_else_is_refused_and_says_what_differs(tmp_path, changes, said, shards):
    write_store(tmp_path / "s", shards=shards)
    before = contents(tmp_path / "s")
    with pytest.raises(StoreError, match=f"{said}.*another folder, or overwrite=True"):
        StoreWriter(tmp_path / "s", identity(**changes), ENVIRONMENT).check()
    assert contents(tmp_path / "s") == before


def test_other_files_are_never_touched(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    writer = StoreWriter(folder, identity(), ENVIRONMENT)
    for refuse in (writer.check, writer.clear):
        with pytest.raises(StoreError, match=r"other files \(thesis\.txt\)"):
            refuse()
    (folder / "thesis.txt").unlink()
    write_store(folder)
    (folder / "thesis.txt").write_text("mine")
    StoreWriter(folder, identity(tokens="mean"), ENVIRONMENT).clear()
    assert contents(folder) == {"thesis.txt": b"mine"}


@pytest.mark.parametrize("name", [PLAN, MANIFEST])
def test_a_plan_or_manifest_of_another_program_is_not_overwritten(tmp_path, name):
    (tmp_path / name).write_text('{"tasks": []}')
    with pytest.raises(StoreError, match="was not written by Leadline"):
        StoreWriter(tmp_path, identity(), ENVIRONMENT)
    (tmp_path / name).write_text("{")
    with pytest.raises(StoreError, match="cannot read"):
        StoreWriter(tmp_path, identity(), ENVIRONMENT)


def test_a_store_of_a_later_version_is_refused(tmp_path):
    write_store(tmp_path / "s")
    manifest = tmp_path / "s" / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": 99}))
    with pytest.raises(StoreError, match="format version 99"):
        Activations.open(tmp_path / "s")


@pytest.mark.parametrize("drop", ["sites", "shards", "n_rows", "fingerprint", "model"])
def test_a_manifest_without_a_part_is_refused(tmp_path, drop):
    write_store(tmp_path / "s")
    manifest = tmp_path / "s" / MANIFEST
    content = json.loads(manifest.read_text())
    del content[drop]
    manifest.write_text(json.dumps(content))
    with pytest.raises(StoreError, match="is damaged"):
        Activations.open(tmp_path / "s")


def test_shards_that_hold_a_row_twice_are_refused(tmp_path):
    write_store(tmp_path / "s")
    shutil.copy(tmp_path / "s" / shard_name(0), tmp_path / "s" / shard_name(1))
    with pytest.raises(StoreError, match="each of the 9 rows once"):
        Activations.open(tmp_path / "s").read("embed")


def test_the_first_of_two_plans_holds_for_both(tmp_path):
    first = StoreWriter(tmp_path, identity(), ENVIRONMENT)
    second = StoreWriter(tmp_path, identity(), ENVIRONMENT)
    plan = first.propose(BatchPlan.build([1] * N, batch_tokens=2), N)
    assert second.propose(BatchPlan.build([1] * N, batch_tokens=5), N) == plan
    third = StoreWriter(tmp_path, identity(), ENVIRONMENT)
    third.check()
    assert third.plan == plan


def test_a_valid_shard_is_never_replaced_and_an_invalid_one_is(tmp_path):
    plan = write_store(tmp_path / "s", shards=1)
    shard = tmp_path / "s" / shard_name(0)
    before = shard.read_bytes()
    other = StoreWriter(tmp_path / "s", identity(), {"threads": 2})
    other.check()
    other.write_shard(0, {name: array + 1 for name, array in shard_of(plan, 0).items()})
    assert shard.read_bytes() == before
    shard.write_bytes(before[:50])
    other.write_shard(0, shard_of(plan, 0))
    assert other.has(0)
    for i in (1, 2):
        write_store(tmp_path / "s", shards=i + 1)
    other.finish()
    manifest = Activations.open(tmp_path / "s").manifest
    assert manifest["environments"] == [{"threads": 2}, ENVIRONMENT]
    assert [entry["environment"] for entry in manifest["shards"]] == [0, 1, 1]
    Activations.open(tmp_path / "s").verify()


def test_a_shard_of_another_store_or_plan_is_not_taken_for_ones_own(tmp_path):
    write_store(tmp_path / "a")
    write_store(tmp_path / "b", shards=0, tokens="mean")
    shutil.copy(tmp_path / "a" / shard_name(0), tmp_path / "b" / shard_name(0))
    writer = StoreWriter(tmp_path / "b", identity(tokens="mean"), ENVIRONMENT)
    writer.check()
    assert not writer.has(0)
    shutil.copy(tmp_path / "a" / shard_name(0), tmp_path / "a" / shard_name(1))
    again = StoreWriter(tmp_path / "a", identity(), ENVIRONMENT)
    again.check()
    assert [again.has(i) for i in range(3)] == [True, False, True]


def test_finishing_without_a_shard_or_after_a_replacement_is_refused(tmp_path):
    write_store(tmp_path / "s", shards=2)
    writer = StoreWriter(tmp_path / "s", identity(), ENVIRONMENT)
    writer.check()
    with pytest.raises(StoreError, match=r"shard 2 of 3 is missing: run extract with --shard for them"):
        writer.finish()
    StoreWriter(tmp_path / "s", identity(), ENVIRONMENT).clear()
    with pytest.raises(StoreError, match="another run has replaced"):
        writer.finish()


def test_leftovers_of_killed_runs_go_when_the_store_is_complete(tmp_path):
    folder = tmp_path / "s"
    write_store(folder, shards=1)
    names = [f".{name}.ab.partial" for name in (shard_name(1), "manifest.json", "dataset.parquet")]
    for name in names:
        (folder / name).write_bytes(b"half")
    for name in names[1:2]:
        os.utime(folder / name, (0, 0))
    (folder / ".gitignore").write_text("*")
    write_store(folder)
    # The last may be another run's, which still needs it.
    assert sorted(path.name for path in folder.glob(".*")) == [names[2], ".gitignore"]


def test_a_file_system_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(1, "Operation not permitted")

    write_store(tmp_path / "a")
    monkeypatch.setattr(os, "link", refuse)
    write_store(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "s").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        StoreWriter(tmp_path / "s", identity(), ENVIRONMENT)


# ---- arrays from elsewhere


def arrays() -> dict[str, np.ndarray]:
    return {"final_norm": np.ones((6, 3), np.float32), "resid_post.1": np.arange(24.0).reshape(6, 4)}


def test_arrays_become_a_source():
    acts = Activations.from_arrays(arrays(), targets={"label": [0, 1] * 3}, groups=list("aabbcc"), texts=list("uvwxyz"))
    assert isinstance(acts, ActivationSource)
    assert [site.name for site in acts.sites] == ["resid_post.1", "final_norm"]
    assert (acts.n_rows, acts.width("resid_post.1"), acts.tokens, acts.path) == (6, 4, "unknown", None)
    read = acts.read("resid_post.1")
    np.testing.assert_array_equal(read, np.arange(24).reshape(6, 4))
    assert read.dtype == np.float32
    read[:] = 0
    assert acts.read("resid_post.1").sum() == np.arange(24).sum()
    assert acts.dataset.texts == list("uvwxyz")
    assert acts.dataset.target("label").kind == "binary"
    assert acts.dataset.groups.tolist() == list("aabbcc")
    acts.verify()
    assert "in memory" in repr(acts)


def test_arrays_with_a_data_set_or_with_nothing():
    data = dataset(6)
    assert Activations.from_arrays(arrays(), data).dataset is data
    assert Activations.from_arrays(arrays()).dataset is None
    unnamed = Activations.from_arrays(arrays(), targets=np.linspace(0, 1, 6)).dataset
    assert (unnamed.target("label").kind, unnamed.texts) == ("continuous", [""] * 6)
    assert Activations.from_arrays(arrays(), texts=list("uvwxyz")).dataset.targets == ()


def test_the_fingerprint_of_arrays_follows_their_content():
    one = Activations.from_arrays(arrays()).fingerprint
    assert Activations.from_arrays(arrays()).fingerprint == one
    changed = arrays()
    changed["final_norm"][0, 0] = 2
    assert Activations.from_arrays(changed).fingerprint != one
    assert Activations.from_arrays(arrays(), dataset(6)).fingerprint != one
    assert Activations.from_arrays(arrays(), tokens="mean").fingerprint != one


def test_a_view_does_not_pin_the_array_it_is_of():
    whole = np.zeros((1000, 3), np.float32)
    acts = Activations.from_arrays({"embed": whole[:5]})
    whole[:] = 7
    assert acts.read("embed").max() == 0


def test_torch_tensors_are_taken():
    torch = pytest.importorskip("torch")
    given = torch.ones(4, 2, dtype=torch.bfloat16, requires_grad=True)
    acts = Activations.from_arrays({"embed": given}, targets=torch.tensor([0, 1, 0, 1]))
    np.testing.assert_array_equal(acts.read("embed"), np.ones((4, 2)))


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({}, ActivationsError, "no activations were given"),
        ({"resid_pots.1": np.ones((2, 2))}, SiteError, "Did you mean 'resid_post'"),
        ({"embed": np.ones((2, 3, 4))}, ActivationsError, r"\(2, 3, 4\); expected \(n, d\)"),
        ({"embed": np.ones((0, 4))}, ActivationsError, "both over 0"),
        ({"embed": [["a"]]}, ActivationsError, "expected real numbers"),
        ({"embed": [[1, 2], [3]]}, ActivationsError, "are no array"),
        ({"embed": [[1.0], [np.nan], [np.inf]]}, ActivationsError, r"in 2 of 3 rows \(at index 1, 2\)"),
        ({"embed": [[1e300]]}, ActivationsError, "not finite in float32"),
        ({"embed": np.ones((2, 2)), "final_norm": np.ones((3, 2))}, ActivationsError, "3 rows, embed 2"),
        ({"embed": np.eye(2), Site("embed"): np.eye(2)}, ActivationsError, "two arrays were given for embed"),
    ],
)
def test_arrays_that_do_not_fit(given, error, said):
    with pytest.raises(error, match=said):
        Activations.from_arrays(given)


def test_rows_that_do_not_fit_the_arrays():
    with pytest.raises(ActivationsError, match="6 rows, the data set 9"):
        Activations.from_arrays(arrays(), dataset())
    with pytest.raises(ActivationsError, match="'label' has 2 entries, the arrays 6 rows"):
        Activations.from_arrays(arrays(), targets=[0, 1])
    with pytest.raises(ActivationsError, match="not both"):
        Activations.from_arrays(arrays(), dataset(6), targets=[0] * 6)
    with pytest.raises(ActivationsError, match="a target is called 'text'"):
        Activations.from_arrays(arrays(), targets={"text": [0] * 6})
    with pytest.raises(DataError, match="a value of its own in every row"):
        Activations.from_arrays(arrays(), targets=list("abcdef"))
    assert Activations.from_arrays(arrays(), targets=list("abcabc")).dataset.targets[0].classes == ("a", "b", "c")


def test_a_mapped_site_reads_the_same_rows_a_few_at_a_time(tmp_path):
    write_store(tmp_path)
    acts = Activations.open(tmp_path)
    for name, width in WIDTHS:
        mapped = acts.mapped(name)
        assert mapped.shape == (N, width)
        np.testing.assert_array_equal(mapped[:], acts.read(name))
        np.testing.assert_array_equal(mapped[2:5], values(name, width)[2:5])
        np.testing.assert_array_equal(mapped[np.array([7, 0])], values(name, width)[[7, 0]])
    with pytest.raises(SiteError):
        acts.mapped("resid_post.9")
    with pytest.raises(ActivationsError, match="row 9 is not here; rows count from 0 to 8"):
        mapped[np.array([9])]
    shard = tmp_path / shard_name(0)
    shard.write_bytes(shard.read_bytes().replace(b'"F32"', b'"F64"', 1))
    with pytest.raises(StoreError, match=r"shard-00000.* holds F64 \(3, 4\) at embed, expected F32 \(3, 4\)"):
        Activations.open(tmp_path).mapped("embed")[:]


# ---- some rows


def test_some_rows_are_read_in_the_order_asked_for(tmp_path):
    write_store(tmp_path)
    acts = Activations.open(tmp_path)
    whole = acts.read("resid_post.0")
    for rows in ([8, 0, 3, 3, 8], range(9), [4], [], np.array([1, 2], np.uint8), np.arange(9) % 2 == 0):
        found = acts.rows("resid_post.0", rows)
        np.testing.assert_array_equal(found, whole[np.asarray(rows, dtype=None if len(rows) else int)])
        assert (found.dtype, found.flags["OWNDATA"]) == (np.float32, True)
    held = Activations.from_arrays({"embed": whole})
    np.testing.assert_array_equal(held.rows("embed", [8, 0, 3]), whole[[8, 0, 3]])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([0, 9], "row 9 is not here; rows count from 0 to 8"),
        ([-1], "row -1 is not here"),
        ([0.5], "dtype float64 were asked for; expected a list of row numbers"),
        ([[0]], r"shape \(1, 1\)"),
        ([True], r"or 9 truth values"),
    ],
)
def test_rows_that_are_not_there_are_refused(tmp_path, rows, said):
    write_store(tmp_path)
    for acts in (Activations.open(tmp_path), Activations.from_arrays({"embed": values("embed", 4)})):
        with pytest.raises(ActivationsError, match=said):
            acts.rows("embed", rows)


def test_few_rows_of_a_large_store_take_little_memory_and_read_no_other_shard(tmp_path):
    n, width = 4000, 512
    data = Dataset.from_rows([{"text": f"row {i}", "label": i % 2} for i in range(n)], target="label")
    about = identity(data_fingerprint=data.fingerprint, sites=(("embed", width),), n_rows=n)
    writer = StoreWriter(tmp_path, about, ENVIRONMENT)
    writer.check()
    plan = writer.propose(BatchPlan.build([1] * n, batch_tokens=500, shard_rows=500), n)
    data.write(tmp_path)
    for i in range(len(plan.shards)):
        writer.write_shard(i, {"embed": np.repeat(np.float32(plan.rows(i))[:, None], width, axis=1)})
    writer.finish()
    acts = Activations.open(tmp_path)
    # Shards that are not needed may even be gone.
    for i in range(1, len(plan.shards)):
        (tmp_path / shard_name(i)).unlink()
    some = plan.rows(0)[:2]
    tracemalloc.start()
    found = acts.rows("embed", some)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[:, 0].tolist() == some
    # The store has 8 MB; its plan, once read, some 10 numbers a row.
    assert peak < 1.5e6
    with pytest.raises(StoreError, match=r"cannot read the shard '.*shard-00001\.safetensors' \(No such file"):
        acts.rows("embed", [plan.rows(1)[0]])


def test_a_store_of_many_shards_needs_few_file_descriptors(tmp_path):
    resource = pytest.importorskip("resource")
    n = 300
    data = dataset(n)
    about = identity(data_fingerprint=data.fingerprint, sites=(("embed", 2),), n_rows=n)
    writer = StoreWriter(tmp_path, about, ENVIRONMENT)
    writer.check()
    plan = writer.propose(BatchPlan.build([1] * n, batch_tokens=1, shard_rows=1), n)
    data.write(tmp_path)
    for i in range(n):
        writer.write_shard(i, {"embed": np.full((1, 2), plan.rows(i)[0], np.float32)})
    writer.finish()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd"))) if Path("/proc/self/fd").exists() else 60
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 80, hard))
    try:
        acts = Activations.open(tmp_path)
        for site in (acts.read("embed"), acts.mapped("embed")[:]):
            np.testing.assert_array_equal(site[:, 1], np.arange(n))
        acts.verify()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---- what is on disk


def test_a_store_of_the_first_version_opens(tmp_path):
    """Written here byte by byte, as Leadline 0.1 did."""
    data = dataset(3)
    data.write(tmp_path)
    about = {
        "format": "leadline-activations",
        "version": 1,
        "fingerprint": "",
        "model": {"name": "tiny", "source": "", "fingerprint": "aaaa"},
        "data": {"name": "rows", "fingerprint": data.fingerprint},
        "sites": [{"site": "embed", "width": 2}],
        "tokens": "last",
        "dtype": "float32",
        "n_rows": 3,
        "n_tokens": 12,
    }
    text = json.dumps(
        ["leadline-activations", 1, "aaaa", data.fingerprint, ["embed"], "last", "float32"], separators=(",", ":")
    )
    about["fingerprint"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    shards = []
    for i, rows in enumerate([[2, 0], [1]]):
        header = {
            "__metadata__": {"leadline": json.dumps({"shard": i, "store": about["fingerprint"]})},
            "rows": {"dtype": "I64", "shape": [len(rows)], "data_offsets": [0, 8 * len(rows)]},
            "embed": {"dtype": "F32", "shape": [len(rows), 2], "data_offsets": [8 * len(rows), 16 * len(rows)]},
        }
        encoded = json.dumps(header).encode()
        values = np.array([[row, -row] for row in rows], "<f4")
        content = len(encoded).to_bytes(8, "little") + encoded + np.array(rows, "<i8").tobytes() + values.tobytes()
        (tmp_path / shard_name(i)).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        shards.append({"file": shard_name(i), "rows": len(rows), "bytes": len(content), "sha256": digest})
    plan = {"fingerprint": "0123", "batch_tokens": 8, "n_batches": 2}
    rest = {"truncated": "none", "stored_dtype": "float32", "plan": plan, "environments": [], "shards": shards}
    (tmp_path / MANIFEST).write_text(json.dumps(about | rest))
    acts = Activations.open(tmp_path)
    np.testing.assert_array_equal(acts.read("embed"), [[0, 0], [1, -1], [2, -2]])
    assert (acts.ragged, acts.n_tokens) == (False, 3)
    acts.verify()
    # With the plan that it was written by, too, if its shards hold what the plan says.
    batches = {"batch_tokens": 8, "shards": [[[2, 0]], [[1]]]}
    (tmp_path / PLAN).write_text(json.dumps(about | {"plan": plan | batches}))
    np.testing.assert_array_equal(Activations.open(tmp_path).rows("embed", [2, 1]), [[2, -2], [1, -1]])
    (tmp_path / PLAN).write_text(json.dumps(about | {"plan": plan | batches | {"shards": [[[0, 2]], [[1]]]}}))
    with pytest.raises(StoreError, match=r"each of the 3 rows once.*shard-00000.* holds others than planned"):
        Activations.open(tmp_path).read("embed")


def test_the_fingerprints_of_stores_that_exist_stay_and_new_parts_have_their_own():
    assert identity(data_fingerprint="a5ffd4fd5ec25de9").fingerprint == "598968dbf1a16647"
    assert "stored" not in identity().to_json()
    made = [
        identity(),
        identity(stored="float16"),
        identity(stored="int8"),
        identity(span_fingerprint="aa"),
        identity(span_fingerprint="bb"),
        identity(tokens="all"),
    ]
    assert len({each.fingerprint for each in made}) == len(made)
    assert [each.version for each in made] == [1, 2, 2, 1, 1, 2]
    for each in made:
        assert Identity.from_json(json.loads(json.dumps(each.to_json())), Path("plan.json")) == each
    assert identity(stored="int8").differences(identity().to_json()) == ["stored: float32 there, int8 here"]
    assert identity().differences(made[3].to_json()) == ["span_fingerprint: aa there, none here"]
    with pytest.raises(ActivationsError, match="stored as 'int4'; expected one of float32, float16, int8"):
        identity(stored="int4")


def test_a_manifest_that_was_edited_is_refused(tmp_path):
    write_store(tmp_path)
    manifest = tmp_path / MANIFEST
    manifest.write_text(manifest.read_text().replace('"tokens": "last"', '"tokens": "mean"'))
    with pytest.raises(StoreError, match=r"manifest\.json' is damaged: what it says has the fingerprint"):
        Activations.open(tmp_path)


def test_notes_stand_in_the_shard_and_in_the_manifest(tmp_path):
    plan = write_store(tmp_path, shards=1)
    writer = StoreWriter(tmp_path, identity(), ENVIRONMENT)
    writer.check()
    assert writer.missing() == [1, 2]
    writer.write_shard(1, shard_of(plan, 1), notes={"halved": [[0, 2]]})
    writer.write_shard(2, shard_of(plan, 2), notes={})
    assert writer.missing() == []
    with pytest.raises(ActivationsError, match="note cannot be called 'rows'"):
        writer.write_shard(1, shard_of(plan, 1), notes={"rows": 3})
    writer.finish()
    entries = Activations.open(tmp_path).manifest["shards"]
    assert [entry.get("halved") for entry in entries] == [None, [[0, 2]], None]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"embed": np.zeros((3, 5), np.float32)}, r"given \('float32', \(3, 5\)\) for embed; expected .*\(3, 4\)"),
        ({"embed": np.zeros((3, 4))}, "given .'float64'"),
        ({"resid_post.9": np.zeros((3, 4), np.float32)}, "for resid_post.9; expected nothing"),
    ],
)
def test_arrays_that_are_not_the_stores_are_not_written(tmp_path, change, said):
    plan = write_store(tmp_path, shards=0)
    writer = StoreWriter(tmp_path, identity(), ENVIRONMENT)
    writer.check()
    with pytest.raises(ActivationsError, match=said):
        writer.write_shard(0, shard_of(plan, 0) | change)
    with pytest.raises(ActivationsError, match="leave one vector a row; expected none"):
        writer.write_shard(0, shard_of(plan, 0), lengths=np.ones(3, int))
    assert writer.missing() == [0, 1, 2]
