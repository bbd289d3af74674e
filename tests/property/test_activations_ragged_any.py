"""Stores of any rows in any number of shards, against the arrays that were written."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.activations import Activations, BatchPlan, vectors
from leadline.activations.layout import PLAN, Identity
from leadline.activations.quantised import BLOCK, STORED, decode, encode
from leadline.activations.writer import StoreWriter
from leadline.data import Dataset


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 6), min_size=2, max_size=14),
    shard_rows=st.integers(1, 5),
    stored=st.sampled_from(STORED),
    ragged=st.booleans(),
    with_plan=st.booleans(),
    data=st.data(),
)
def test_what_is_written_is_read_in_any_order(lengths, shard_rows, stored, ragged, with_plan, data):
    n, width = len(lengths), data.draw(st.sampled_from([1, 3, 65]))
    lengths = np.array(lengths) if ragged else np.ones(n, dtype=int)
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    rows = [generator.normal(size=(length, width)).astype(np.float32) * 10 for length in lengths]
    positions = [np.sort(generator.choice(30, length, replace=False)) for length in lengths]
    # Rows may stand in shards in any order.
    order = data.draw(st.permutations(range(n)))
    shards = tuple((tuple(order[at : at + shard_rows]),) for at in range(0, n, shard_rows))
    table = Dataset.from_rows([{"text": f"row {i}", "label": i % 2} for i in range(n)], target="label")
    tokens = "all" if ragged else "last"
    expected = [there_and_back(np.concatenate([rows[r] for r in shard[0]]), stored) for shard in shards]
    by_row = {}
    for shard, values in zip(shards, expected, strict=True):
        for row, part in zip(shard[0], np.split(values, np.cumsum(lengths[list(shard[0])])[:-1]), strict=True):
            by_row[row] = part
    flat = np.concatenate([by_row[row] for row in range(n)])
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "_CHUNK_BYTES", data.draw(st.sampled_from([1, 40, 1 << 20])))
        folder = Path(name)
        about = Identity("aaaa", table.fingerprint, (("embed", width),), tokens, "float32", n, stored=stored)
        writer = StoreWriter(folder, about, {})
        writer.check()
        writer.propose(BatchPlan(8, shards), 1)
        table.write(folder)
        for i in data.draw(st.permutations(range(len(shards)))):
            assert i in writer.missing()
            own = list(shards[i][0])
            arrays = {"embed": np.concatenate([rows[r] for r in own])}
            if ragged:
                writer.write_shard(i, arrays, lengths[own], np.concatenate([positions[r] for r in own]))
            else:
                writer.write_shard(i, arrays)
        writer.finish()
        if not with_plan:
            (folder / PLAN).unlink()
        acts = Activations.open(folder)
        acts.verify()
        row = data.draw(st.integers(0, n - 1))
        np.testing.assert_array_equal(acts.read_row("embed", row), by_row[row])
        some = data.draw(st.lists(st.integers(0, max(0, len(flat) - 1)), max_size=8)) if len(flat) else []
        np.testing.assert_array_equal(acts.rows("embed", some), flat[np.array(some, dtype=int)])
        np.testing.assert_array_equal(acts.read("embed"), flat)
        cut = sorted(data.draw(st.tuples(st.integers(0, len(flat)), st.integers(0, len(flat)))))
        np.testing.assert_array_equal(acts.mapped("embed")[slice(*cut)], flat[slice(*cut)])
        assert acts.lengths.tolist() == lengths.tolist()
        if ragged:
            np.testing.assert_array_equal(acts.token_positions, np.concatenate(positions))
            np.testing.assert_array_equal(acts.by_token().read("embed"), flat)


def there_and_back(x: np.ndarray, stored: str) -> np.ndarray:
    tensors, out = encode("s", x, stored), np.empty_like(x)
    decode(tensors.__getitem__, "s", stored, slice(0, len(x)), out)
    return out


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 130)),
    magnitudes=st.lists(st.integers(-30, 29), min_size=1, max_size=6),
    seed=st.integers(0, 2**32 - 1),
    zeros=st.floats(0, 1),
)
def test_int8_stays_within_half_a_step_at_any_magnitude(shape, magnitudes, seed, zeros):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=shape) * 10.0 ** generator.choice(magnitudes, size=shape[1])
    x = np.where(generator.random(shape) < zeros, 0, x).astype(np.float32)
    tensors = encode("s", x, "int8")
    back = np.empty_like(x)
    decode(tensors.__getitem__, "s", "int8", slice(0, len(x)), back)
    steps = np.repeat(tensors["s.scale"].astype(np.float64), BLOCK, axis=1)[:, : shape[1]] * tensors["s.spread"]
    rounding = 2**-22 * (np.abs(x) + np.abs(tensors["s.centre"])) + 1e-37
    assert (np.abs(back.astype(np.float64) - x) <= steps / 2 * (1 + 2**-15) + rounding).all()
