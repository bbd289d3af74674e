"""float16 and int8 in place of float32: their error, their limits, and that they are the same store otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from leadline.activations import Activations, BatchPlan
from leadline.activations.layout import Identity, shard_name
from leadline.activations.quantised import BLOCK, STORED, decode, encode
from leadline.activations.writer import StoreWriter
from leadline.data import Dataset
from leadline.errors import ActivationsError, StoreError

N, WIDTH = 40, 150


def residual_stream(n: int = N, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """Like a residual stream: three dimensions hold most of the energy, far from 0; some rows are outliers."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, width)) * np.exp(generator.normal(size=width) * 0.5)
    x[:, [3, 70, 140]] *= 50
    x[:, [3, 71]] += [400, -300]
    x[::9, 70] += 20_000
    return x.astype(np.float32)


def there_and_back(x: np.ndarray, stored: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    tensors = encode("s", x, stored)
    out = np.empty_like(x)
    decode(tensors.__getitem__, "s", stored, slice(0, len(x)), out)
    return out, tensors


def int8_bound(x: np.ndarray, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """w s / 2, and float32's rounding of the difference, the product and the sum."""
    steps = np.repeat(tensors["s.scale"].astype(np.float64), BLOCK, axis=1)[:, : x.shape[1]] * tensors["s.spread"]
    return steps / 2 * (1 + 2**-15) + 2**-22 * (np.abs(x) + np.abs(tensors["s.centre"]))


def write_store(folder: Path, stored: str, x: np.ndarray, tokens: str = "last") -> Path:
    folder.mkdir()
    n = len(x) if tokens == "last" else len(x) // 2
    data = Dataset.from_rows([{"text": f"row {i}", "label": i % 2} for i in range(n)], target="label")
    about = Identity(
        "aaaa", data.fingerprint, (("embed", x.shape[1]),), tokens, "float32", n, model_name="m", stored=stored
    )
    writer = StoreWriter(folder, about, {"machine": "test"})
    writer.check()
    plan = writer.propose(BatchPlan.build([1 + i % 5 for i in range(n)], batch_tokens=20, shard_rows=9), n)
    data.write(folder)
    for i in range(len(plan.shards)):
        rows = np.array(plan.rows(i))
        if tokens == "last":
            writer.write_shard(i, {"embed": x[rows]})
        else:
            both = np.stack([2 * rows, 2 * rows + 1], axis=1).reshape(-1)
            writer.write_shard(i, {"embed": x[both]}, np.full(len(rows), 2))
        assert writer.has(i)
    writer.finish()
    return folder


@pytest.mark.parametrize("width", [1, 63, 64, 65, 150])
@pytest.mark.parametrize("n", [1, 2, 40, 700])
def test_int8_keeps_every_value_within_half_a_step(n, width):
    x = residual_stream(n, max(width, 150))[:, :width].copy()
    back, tensors = there_and_back(x, "int8")
    assert {name: (t.dtype.name, t.shape) for name, t in tensors.items()} == {
        "s": ("int8", (n, width)),
        "s.scale": ("float32", (n, -(-width // BLOCK))),
        "s.centre": ("float32", (width,)),
        "s.spread": ("float32", (width,)),
    }
    assert (np.abs(back.astype(np.float64) - x) <= int8_bound(x, tensors)).all()
    # A step is no larger than it needs to be: some value of each block lies 127 steps from the centre.
    away = np.abs(tensors["s"].astype(int))
    largest = np.maximum.reduceat(away, np.arange(0, width, BLOCK), axis=1)
    assert ((largest == 127) | (tensors["s.scale"] <= 1e-7)).all()


def test_int8_says_little_less_than_float32_in_every_dimension():
    x = residual_stream(2000, 256)
    back, _ = there_and_back(x, "int8")
    usual = np.arange(len(x)) % 9 != 0
    noise = np.sqrt(np.mean(np.square(back - x, dtype=np.float64)[usual], axis=0)) / x[usual].std(axis=0)
    assert np.median(noise) < 0.01
    assert noise.max() < 0.02
    # What a scale a vector would do.
    step = np.abs(x).max(axis=1, keepdims=True) / 127
    plain = np.sqrt(np.mean(np.square(np.rint(x / step) * step - x)[usual], axis=0)) / x[usual].std(axis=0)
    assert np.median(plain) > 0.2


def test_neurons_that_are_mostly_off_keep_what_they_say():
    generator = np.random.default_rng(0)
    x = np.maximum(generator.normal(size=(2000, 128)) - 1.5, 0) * 10.0 ** generator.uniform(-4, 4, size=128)
    back, _ = there_and_back(x.astype(np.float32), "int8")
    assert np.median(x) == 0
    assert (np.sqrt(np.mean((back - x) ** 2, axis=0)) < 0.02 * x.std(axis=0)).all()


def test_the_sample_for_the_centre_follows_no_period():
    # Every sixteenth token is the first of its row, which is an outlier: no even step of a sample may see only those.
    x = np.random.default_rng(0).normal(size=(16 * 512, 4)).astype(np.float32)
    x[::16] += 1e5
    tensors = encode("s", x, "int8")
    assert np.abs(tensors["s.centre"]).max() < 0.5
    assert tensors["s.spread"].max() < 3


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((5, 70)),
        np.full((5, 70), -3.25),
        np.eye(70)[:5] * 1e-38,
        np.eye(70)[:5] * 1e29,
        np.where(np.arange(700)[:, None] == 699, 5.0, 0.0) * np.ones((1, 70)),
        np.outer(np.arange(5), 10.0 ** -np.arange(70)),
    ],
)
def test_int8_of_unusual_values_stays_finite_and_within_its_bound(x):
    x = x.astype(np.float32)
    back, tensors = there_and_back(x, "int8")
    assert np.isfinite(back).all()
    assert (np.abs(back.astype(np.float64) - x) <= int8_bound(x, tensors)).all()


def test_float16_keeps_eleven_digits():
    x = residual_stream()
    x[0, :3] = [65504, -65504, 1e-7]
    back, tensors = there_and_back(x, "float16")
    assert tensors["s"].dtype == np.float16
    assert (np.abs(back - x) <= np.maximum(2**-11 * np.abs(x), 2**-25)).all()


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("tokens", ["last", "all"])
def test_a_store_reads_as_float32_whatever_it_holds(tmp_path, stored, tokens):
    x = residual_stream()
    acts = Activations.open(write_store(tmp_path / "s", stored, x, tokens))
    read = acts.read("embed")
    assert (read.dtype, read.shape) == (np.float32, x.shape)
    np.testing.assert_allclose(read[1], x[1], rtol=0.05, atol=1.5)
    if stored == "float32":
        np.testing.assert_array_equal(read, x)
    else:
        assert np.abs(read - x).max() > 0
    for rows in ([7, 0, 39, 7], np.arange(5, 30), slice(3, 20)):
        if not isinstance(rows, slice):
            np.testing.assert_array_equal(acts.rows("embed", rows), read[rows])
        np.testing.assert_array_equal(acts.mapped("embed")[rows], read[rows])
    if tokens == "all":
        np.testing.assert_array_equal(acts.read_row("embed", 3), read[6:8])
        np.testing.assert_array_equal(acts.by_token().read("embed"), read)
    assert acts.manifest["stored_dtype"] == stored
    acts.verify()
    with safe_open(tmp_path / "s" / shard_name(0), framework="np") as shard:
        assert shard.get_slice("embed").get_dtype() == {"float32": "F32", "float16": "F16", "int8": "I8"}[stored]


def test_the_same_vectors_give_the_same_bytes(tmp_path):
    x = residual_stream()
    one, two = (write_store(tmp_path / name, "int8", x) for name in ("a", "b"))
    assert {p.name: p.read_bytes() for p in one.iterdir()} == {p.name: p.read_bytes() for p in two.iterdir()}


def test_stores_of_other_dtypes_are_other_stores(tmp_path):
    write_store(tmp_path / "s", "int8", residual_stream())
    about = Activations.open(tmp_path / "s").manifest
    mine = Identity("aaaa", about["data"]["fingerprint"], (("embed", WIDTH),), "last", "float32", N, model_name="m")
    with pytest.raises(StoreError, match="stored: int8 there, float32 here"):
        StoreWriter(tmp_path / "s", mine, {}).check()


@pytest.mark.parametrize(
    ("stored", "value", "said"),
    [
        ("float16", 65505.0, r"embed in rows 3 and 8 are beyond ±65,504 or not finite.*Store them as int8 or float32"),
        ("float16", np.nan, "rows 3 and 8"),
        ("int8", np.inf, r"rows 3 and 8 .* int8 cannot store. Store them as float32"),
        ("int8", np.nan, "rows 3 and 8"),
    ],
)
def test_values_that_do_not_fit_are_refused_and_their_rows_named(tmp_path, stored, value, said):
    x = residual_stream()
    x[[2, 7], 5] = value
    x[:, 70] = np.minimum(x[:, 70], 6e4)
    with pytest.raises(ActivationsError, match=said):
        write_store(tmp_path / "s", stored, x)
