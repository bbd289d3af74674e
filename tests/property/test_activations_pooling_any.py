"""Pooling against a reference that goes row by row, without any padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.activations import SELECTIONS, Selection

torch = pytest.importorskip("torch")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def reference(name: str, rows: list[torch.Tensor]) -> np.ndarray:
    """One row at a time, in float64."""
    one = {"last": lambda x: x[-1], "first": lambda x: x[0], "mean": lambda x: x.mean(0), "max": lambda x: x.max(0)}
    return np.stack([one[name](row.double().numpy()) for row in rows])


@st.composite
def batches(draw):
    """Rows of random length, each with a random stretch of padding on both sides."""
    seed = draw(st.integers(0, 2**32 - 1))
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=6))
    width = draw(st.integers(1, 5))
    dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
    scale = draw(st.sampled_from([1e-3, 1.0, 900.0]))
    seq = max(lengths) + draw(st.integers(0, 4))
    garbage = draw(st.sampled_from([0.0, float("nan"), float("inf"), float("-inf"), 6e4]))
    left = [draw(st.integers(0, seq - length)) for length in lengths]
    generator = torch.Generator().manual_seed(seed)
    rows = [(torch.randn(length, width, generator=generator) * scale).to(dtype) for length in lengths]
    x = torch.full((len(rows), seq, width), garbage, dtype=dtype)
    mask = torch.zeros(len(rows), seq, dtype=torch.long)
    for i, row in enumerate(rows):
        x[i, left[i] : left[i] + len(row)] = row
        mask[i, left[i] : left[i] + len(row)] = 1
    return rows, x, mask


@settings(max_examples=150, deadline=None)
@given(batch=batches(), name=st.sampled_from(SELECTIONS))
def test_pooling_equals_the_reference(batch, name):
    rows, x, mask = batch
    pooled = Selection(name).pooler(mask)(x)
    assert pooled.dtype == torch.float32
    expected = reference(name, rows)
    if name == "mean":
        # Sums of at most 12 float32 terms.
        largest = np.stack([row.double().abs().amax(0).numpy() for row in rows])
        assert (np.abs(pooled.double().numpy() - expected) <= 16 * 2**-24 * largest).all()
    else:
        np.testing.assert_array_equal(pooled.double().numpy(), expected)


@settings(max_examples=50, deadline=None)
@given(batch=batches(), name=st.sampled_from(SELECTIONS), extra=st.integers(1, 5), left=st.booleans())
def test_more_padding_changes_nothing_but_rounding(batch, name, extra, left):
    _, x, mask = batch
    wide = torch.full((len(x), extra, x.shape[2]), float("nan"), dtype=x.dtype)
    none = torch.zeros(len(mask), extra, dtype=mask.dtype)
    before = Selection(name).pooler(mask)(x)
    after = Selection(name).pooler(torch.cat([none, mask] if left else [mask, none], 1))(
        torch.cat([wide, x] if left else [x, wide], 1)
    )
    if name == "mean":
        scale = x.masked_fill(~mask.bool().unsqueeze(-1), 0).float().abs().amax()
        torch.testing.assert_close(after, before, rtol=0, atol=float(16 * 2**-24 * scale))
    else:
        assert torch.equal(after, before)
