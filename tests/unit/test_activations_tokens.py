"""Pooling by the attention mask."""

from __future__ import annotations

import pytest

from leadline.activations import SELECTIONS, Selection
from leadline.errors import ActivationsError

torch = pytest.importorskip("torch")


def pool(name, x, mask):
    return Selection.parse(name).pooler(torch.tensor(mask))(x)


def test_unknown_selection_lists_what_there_is_and_the_nearest():
    with pytest.raises(ActivationsError, match=r"'lsat'.*last, first, mean, max.*Did you mean 'last'"):
        Selection.parse("lsat")


def test_a_selection_is_parsed_once_and_kept():
    selection = Selection.parse(" mean ")
    assert selection == Selection("mean")
    assert Selection.parse(selection) is selection
    assert str(selection) == "mean"


def test_last_and_first_follow_the_mask_on_either_side_and_across_holes():
    x = torch.arange(5.0).reshape(1, 5, 1).expand(4, 5, 1)
    mask = [[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [0, 1, 0, 1, 0], [1, 1, 1, 1, 1]]
    assert pool("last", x, mask).flatten().tolist() == [2, 4, 3, 4]
    assert pool("first", x, mask).flatten().tolist() == [0, 2, 1, 0]


def test_max_of_negative_values_is_not_the_padding():
    x = torch.full((1, 3, 2), -7.0)
    assert pool("max", x, [[1, 1, 0]]).tolist() == [[-7.0, -7.0]]


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
def test_what_stands_at_padding_does_not_matter(name, garbage):
    x = torch.tensor([[[1.0], [3.0], [garbage]], [[garbage], [2.0], [4.0]]])
    expected = {"last": [3, 4], "first": [1, 2], "mean": [2, 3], "max": [3, 4]}[name]
    assert pool(name, x, [[1, 1, 0], [0, 1, 1]]).flatten().tolist() == expected


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_result_is_float32_and_its_own_memory(name, dtype):
    x = torch.ones(2, 3, 4, dtype=dtype)
    pooled = pool(name, x, [[1, 1, 0], [1, 1, 1]])
    assert pooled.dtype == torch.float32
    assert pooled.shape == (2, 4)
    x.zero_()
    assert bool((pooled == 1).all())


def test_the_mean_of_bfloat16_is_accumulated_in_float32():
    # 256 + 1 is 256 in bfloat16, so a bfloat16 sum would stand still.
    x = torch.ones(1, 1000, 1, dtype=torch.bfloat16)
    x[0, 0] = 256
    assert pool("mean", x, [[1] * 1000]).item() == pytest.approx((256 + 999) / 1000, rel=1e-6)


def test_the_mean_beside_an_attention_sink_keeps_what_the_other_tokens_say():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 64, 32, generator=generator) * 5.7
    x[:, 0] *= 20_000 / 5.7
    expected = x.double().mean(dim=1)
    error = (pool("mean", x, [[1] * 64] * 8).double() - expected).abs()
    # Within a few roundings of the largest term's share of the mean.
    assert bool((error <= 4 * 2**-24 * x.abs().amax(dim=1).double() / 64 + 1e-9).all())


def test_a_row_without_tokens_is_refused():
    with pytest.raises(ActivationsError, match="no real token in row 1"):
        pool("last", torch.zeros(2, 3, 1), [[1, 0, 0], [0, 0, 0]])


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ActivationsError, match=r"\(2, 3, 1\); expected \(batch, seq\)"):
        Selection("mean").pooler(torch.ones(2, 3, 1))
