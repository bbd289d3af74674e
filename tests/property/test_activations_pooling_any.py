"""Pooling against a reference that goes row by row, without any padding; and ranges of characters, one by one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.activations import SELECTIONS, Selection, pooling
from leadline.activations.tokens import pool_positions
from leadline.errors import ActivationsError

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


@st.composite
def selections(draw):
    """A batch, and output rows that each read some of the real tokens of one of its rows."""
    rows, x, mask = draw(batches())
    real = [np.flatnonzero(own) for own in mask.numpy()]
    source, positions = [], []
    for _ in range(draw(st.integers(1, 12))):
        source.append(draw(st.integers(0, len(rows) - 1)))
        there = real[source[-1]].tolist()
        positions.append(np.array(sorted(draw(st.sets(st.sampled_from(there), min_size=1)))))
    return x, np.array(source), positions


@settings(max_examples=150, deadline=None)
@given(chosen=selections(), name=st.sampled_from(SELECTIONS), step=st.sampled_from([1, 64, 1 << 20]))
def test_pooling_positions_equals_the_reference(chosen, name, step):
    x, source, positions = chosen
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooling, "_GATHER_BYTES", step)
        pooled = pool_positions(name, source, positions)(x)
    picked = [x[row, own] for row, own in zip(source, positions, strict=True)]
    assert pooled.dtype == torch.float32
    expected = reference(name, picked)
    if name == "mean":
        largest = np.stack([row.double().abs().amax(0).numpy() for row in picked])
        # Exact sums, rounded once.
        assert (np.abs(pooled.double().numpy() - expected) <= 2 * 2**-24 * largest).all()
    else:
        np.testing.assert_array_equal(pooled.double().numpy(), expected)
    kept = pool_positions("all", source, positions)(x)
    assert torch.equal(kept, torch.cat(picked).float())


@settings(max_examples=80, deadline=None)
@given(chosen=selections(), name=st.sampled_from(SELECTIONS), data=st.data())
def test_an_output_row_does_not_see_the_others(chosen, name, data):
    x, source, positions = chosen
    together = pool_positions(name, source, positions)(x)
    order = data.draw(st.permutations(range(len(source))))
    mixed = pool_positions(name, source[order], [positions[i] for i in order])(x)
    for place, i in enumerate(order):
        own, at = x[source[i]], positions[i]
        alone = pool_positions(name, np.array([0]), [at])(own[None])[0]
        for found in (together[i], mixed[place]):
            if name == "mean":
                scale = float(own[at].float().abs().amax())
                torch.testing.assert_close(found, alone, rtol=2**-23, atol=2**-40 * scale)
            else:
                assert torch.equal(found, alone)


@settings(max_examples=80, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    name=st.sampled_from([*SELECTIONS, "all"]),
    data=st.data(),
)
def test_whole_rows_have_the_bytes_of_the_masked_path(lengths, name, data):
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32 - 1)))
    dtype = DTYPES[data.draw(st.sampled_from(sorted(DTYPES)))]
    x = torch.randn(len(lengths), max(lengths), 3, generator=generator).to(dtype)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    x = x.masked_fill(~mask.unsqueeze(-1), float("nan"))
    pool = pool_positions(name, np.arange(len(lengths)), [np.arange(n) for n in lengths])
    with pytest.MonkeyPatch.context() as patch:
        # Nothing is gathered.
        patch.delattr(pooling, "_by_position")
        assert torch.equal(pool(x), Selection(name).pooler(mask)(x))


# ---- positions of a range of characters


@st.composite
def texts(draw):
    """A text, tokens that cover it with gaps and overlaps, and a range of it."""
    text = draw(st.text(st.sampled_from("ab \t\n\u3000é🙂𝒳"), min_size=1, max_size=20))
    pairs = st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(sorted)
    offsets = np.array(draw(st.lists(pairs, min_size=1, max_size=12))).reshape(-1, 2)
    start = draw(st.integers(0, len(text) - 1))
    return text, offsets, (start, draw(st.integers(start + 1, len(text))))


@settings(max_examples=300, deadline=None)
@given(given_text=texts())
def test_a_token_is_in_a_range_if_they_share_a_character_that_is_no_space(given_text):
    text, offsets, span = given_text
    row = SimpleNamespace(length=len(offsets), text=text, offsets=offsets, messages=(), parts={})
    expected = [
        i
        for i, (a, b) in enumerate(offsets)
        if any(not text[j].isspace() for j in set(range(a, b)) & set(range(*span)))
    ]
    selection = Selection("all@span:x")
    if expected:
        assert selection.positions(row, span).tolist() == expected
    else:
        with pytest.raises(ActivationsError, match="found no token"):
            selection.positions(row, span)
