"""Stores of tokens: a vector for each selected token of a row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from leadline.activations import Activations, ActivationSource, BatchPlan
from leadline.activations.layout import MANIFEST, Identity, shard_name
from leadline.activations.writer import StoreWriter
from leadline.data import Dataset
from leadline.errors import ActivationsError, StoreError

LENGTHS = np.array([3, 1, 4, 2, 5, 1, 2])
N = len(LENGTHS)
WIDTHS = (("embed", 3), ("resid_post.0", 2))


def dataset(**columns) -> Dataset:
    rows = [{"text": f"row {i}", "label": i % 2} for i in range(N)]
    for name, values in columns.items():
        rows = [row | {name: value} for row, value in zip(rows, values, strict=True)]
    return Dataset.from_rows(rows, target="label", **({"group": "topic"} if "topic" in columns else {}))


def vectors(row: int, width: int) -> np.ndarray:
    """(length, width): which number stands where says which row and token it is."""
    return (row * 100 + np.arange(LENGTHS[row])[:, None] * 10 + np.arange(width)).astype(np.float32)


def write_store(
    folder: Path, data: Dataset | None = None, *, tokens: str = "all", step: int = 1, **changes
) -> BatchPlan:
    data = data or dataset()
    folder.mkdir()
    about = Identity("aaaa", data.fingerprint, WIDTHS, tokens, "float32", N, **changes)
    writer = StoreWriter(folder, about, {"machine": "test"})
    writer.check()
    plan = writer.propose(BatchPlan.build(LENGTHS.tolist(), batch_tokens=8, shard_rows=3), int(LENGTHS.sum()))
    data.write(folder)
    for i in range(len(plan.shards)):
        rows = plan.rows(i)
        arrays = {name: np.concatenate([vectors(row, width) for row in rows]) for name, width in WIDTHS}
        positions = None if step == 1 else np.concatenate([np.arange(LENGTHS[row]) * step for row in rows])
        writer.write_shard(i, arrays, LENGTHS[rows], positions)
        assert writer.has(i)
    writer.finish()
    return plan


def whole(width: int) -> np.ndarray:
    return np.concatenate([vectors(row, width) for row in range(N)])


def test_a_store_of_tokens_reads_back_in_the_order_of_the_data(tmp_path):
    plan = write_store(tmp_path / "s")
    assert len(plan.shards) >= 3
    acts = Activations.open(tmp_path / "s")
    assert acts.ragged
    assert (acts.n_rows, acts.n_tokens, acts.tokens) == (N, 18, "all")
    assert acts.lengths.tolist() == LENGTHS.tolist()
    assert acts.offsets.tolist() == [0, 3, 4, 8, 10, 15, 16, 18]
    assert acts.token_rows.tolist() == np.repeat(np.arange(N), LENGTHS).tolist()
    assert acts.token_positions.tolist() == [i for length in LENGTHS for i in range(length)]
    for name, width in WIDTHS:
        np.testing.assert_array_equal(acts.read(name), whole(width))
        np.testing.assert_array_equal(acts.mapped(name)[4:9], whole(width)[4:9])
        np.testing.assert_array_equal(acts.rows(name, [17, 0, 4, 4]), whole(width)[[17, 0, 4, 4]])
        assert acts.mapped(name).shape == (18, width)
        for row in range(N):
            np.testing.assert_array_equal(acts.read_row(name, row), vectors(row, width))
    acts.verify()
    manifest = json.loads((tmp_path / "s" / MANIFEST).read_text())
    assert manifest["version"] == 2
    assert sum(entry["tokens"] for entry in manifest["shards"]) == 18
    with pytest.raises(ActivationsError, match="row 7 is not here; rows count from 0 to 6"):
        acts.read_row("embed", 7)
    with pytest.raises(ActivationsError, match="row 18 is not here; rows count from 0 to 17"):
        acts.rows("embed", [18])


def test_a_row_is_read_from_its_own_shard_alone(tmp_path):
    plan = write_store(tmp_path / "s")
    acts = Activations.open(tmp_path / "s")
    for i in range(1, len(plan.shards)):
        (tmp_path / "s" / shard_name(i)).unlink()
    for row in plan.rows(0):
        np.testing.assert_array_equal(acts.read_row("embed", row), vectors(row, 3))
    with pytest.raises(StoreError, match="cannot read the shard"):
        acts.read_row("embed", plan.rows(1)[0])


def test_positions_are_kept(tmp_path):
    write_store(tmp_path / "s", tokens="all@every:3", step=3)
    acts = Activations.open(tmp_path / "s")
    assert acts.token_positions.tolist() == [3 * i for length in LENGTHS for i in range(length)]
    assert acts.token_positions.dtype == np.int32
    acts.verify()


# ---- a row a token


def test_by_token_is_a_source_with_a_row_a_token(tmp_path):
    write_store(tmp_path / "s")
    acts = Activations.open(tmp_path / "s")
    tokens = acts.by_token()
    assert isinstance(tokens, ActivationSource)
    assert (tokens.n_rows, tokens.n_tokens, tokens.ragged) == (18, 18, False)
    assert tokens.fingerprint != acts.fingerprint
    assert tokens.fingerprint == Activations.open(tmp_path / "s").by_token().fingerprint
    assert tokens.sites == acts.sites
    np.testing.assert_array_equal(tokens.read("embed"), whole(3))
    np.testing.assert_array_equal(tokens.rows("embed", [9, 2]), whole(3)[[9, 2]])
    np.testing.assert_array_equal(tokens.read_row("embed", 9), whole(3)[[9]])
    np.testing.assert_array_equal(tokens.mapped("resid_post.0")[:], whole(2))
    assert tokens.lengths.tolist() == [1] * 18
    assert tokens.token_rows.tolist() == list(range(18))
    data = tokens.dataset
    assert data.n == 18
    assert data.texts == [f"row {row}" for row in acts.token_rows]
    assert data.target("label").values[:, 0].tolist() == (acts.token_rows % 2).tolist()
    tokens.verify()
    with pytest.raises(ActivationsError, match=r"one vector a row.*tokens='all'"):
        tokens.by_token()


def test_tokens_of_a_row_stay_together_and_groups_stay_groups(tmp_path):
    write_store(tmp_path / "s")
    acts = Activations.open(tmp_path / "s")
    assert acts.by_token().dataset.groups.tolist() == [str(row) for row in acts.token_rows]
    data = dataset(topic=list("aabbccc"))
    write_store(tmp_path / "t", data)
    grouped = Activations.open(tmp_path / "t").by_token().dataset
    assert grouped.groups.tolist() == [data.groups[row] for row in acts.token_rows]
    assert grouped.group_column == "topic"


def test_by_token_follows_the_data_set_that_was_put_in_place(tmp_path):
    write_store(tmp_path / "s")
    acts = Activations.open(tmp_path / "s")
    tokens = acts.by_token()
    acts.dataset = dataset(extra=list("uvwxyz!"))
    assert tokens.dataset.frame["extra"].to_list() == [list("uvwxyz!")[row] for row in acts.token_rows]


def test_pooled_activations_have_no_tokens():
    acts = Activations.from_arrays({"embed": np.ones((3, 2))})
    assert (acts.ragged, acts.n_tokens, acts.lengths.tolist()) == (False, 3, [1, 1, 1])
    assert acts.offsets.tolist() == [0, 1, 2, 3]
    assert acts.read_row("embed", 1).shape == (1, 2)
    for ask in (acts.by_token, lambda: acts.token_positions):
        with pytest.raises(ActivationsError, match="one vector a row"):
            ask()


def test_arrays_of_tokens_from_elsewhere():
    acts = Activations.from_arrays({"embed": whole(3)}, lengths=LENGTHS, targets=[0, 1, 0, 1, 0, 1, 0], tokens="all")
    assert (acts.ragged, acts.n_rows, acts.n_tokens) == (True, N, 18)
    assert acts.token_positions.tolist() == [i for length in LENGTHS for i in range(length)]
    np.testing.assert_array_equal(acts.read_row("embed", 4), vectors(4, 3))
    tokens = acts.by_token()
    np.testing.assert_array_equal(tokens.read("embed"), whole(3))
    assert tokens.dataset.n == 18
    assert Activations.from_arrays({"embed": whole(3)}, lengths=LENGTHS).by_token().dataset is None
    for lengths, said in [
        ([3, 1], "the lengths add up to 4 tokens, the arrays have 18 rows"),
        ([-1, 19], "expected .* whole numbers"),
        ([9.0, 9.0], "dtype float64"),
    ]:
        with pytest.raises(ActivationsError, match=said):
            Activations.from_arrays({"embed": whole(3)}, lengths=lengths)
    flat = Activations.from_arrays({"embed": whole(3)})
    assert len({acts.fingerprint, flat.fingerprint, tokens.fingerprint}) == 3


# ---- what is refused


@pytest.mark.parametrize(
    ("lengths", "positions", "said"),
    [
        (None, None, r"needs lengths of the shape \(2,\), the tokens of each; none were given"),
        ([3], None, r"the shape \(1,\) was given"),
        ([3, 2], [0, 1, 2, 0], "5 tokens in all, and 4 positions"),
        ([3, 2], [0, 1, 1, 0, 1], "do not rise"),
        ([3, 2], [0, 1, 2, -1, 1], "do not rise from 0 on"),
        ([6, -1], [0, 1, 2, 3, 4], "5 tokens in all, and 5|do not rise"),
        ([3, 3], None, r"given \('float32', \(5, 3\)\) for embed; expected \('float32', \(6, 3\)\), a vector a token"),
    ],
)
def test_lengths_and_positions_that_do_not_fit_are_not_written(tmp_path, lengths, positions, said):
    data = Dataset.from_rows([{"text": "a", "label": 0}, {"text": "b", "label": 1}], target="label")
    writer = StoreWriter(tmp_path, Identity("a", data.fingerprint, (("embed", 3),), "all@content", "float32", 2), {})
    writer.check()
    writer.propose(BatchPlan.build([3, 2], batch_tokens=9), 5)
    with pytest.raises(ActivationsError, match=said):
        writer.write_shard(0, {"embed": np.zeros((5, 3), np.float32)}, lengths, positions)
    assert writer.missing() == [0]
    assert not list(tmp_path.glob("*.safetensors"))
    writer.write_shard(0, {"embed": np.zeros((5, 3), np.float32)}, [3, 2], [0, 4, 9, 0, 1])
    assert writer.missing() == []


def test_verify_finds_lengths_and_positions_that_cannot_be(tmp_path):
    import hashlib

    write_store(tmp_path / "s")
    folder = tmp_path / "s"
    manifest = json.loads((folder / MANIFEST).read_text())
    shard = folder / shard_name(0)
    good = shard.read_bytes()
    size = int.from_bytes(good[:8], "little")
    header = json.loads(good[8 : 8 + size])
    for name, index, said in [("lengths", 0, "its rows have"), ("positions", 1, "do not rise")]:
        start = 8 + size + header[name]["data_offsets"][0]
        width = {"I64": 8, "I32": 4}[header[name]["dtype"]]
        at = start + index * width
        changed = good[:at] + (9).to_bytes(width, "little") + good[at + width :]
        if name == "positions":
            changed = good[:at] + (0).to_bytes(width, "little") + good[at + width :]
        shard.write_bytes(changed)
        # Written so from the start, as far as the manifest knows.
        manifest["shards"][0]["sha256"] = hashlib.sha256(changed).hexdigest()
        (folder / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(StoreError, match=rf"shard-00000.*{said}"):
            Activations.open(folder).verify()


def test_rows_without_any_selected_token_have_no_vectors():
    acts = Activations.from_arrays({"embed": np.eye(3, 2)}, lengths=[0, 2, 0, 1])
    assert acts.read_row("embed", 0).shape == (0, 2)
    assert acts.read_row("embed", 3).tolist() == [[0, 0]]
    assert acts.token_rows.tolist() == [1, 1, 3]
