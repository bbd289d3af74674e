"""The batch plan, for any lengths and limits."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.activations import BatchPlan

lengths_of_rows = st.lists(st.integers(1, 60), min_size=1, max_size=80)
limits = st.none() | st.integers(1, 200)


@settings(max_examples=200, deadline=None)
@given(lengths=lengths_of_rows, batch_tokens=st.integers(1, 200), shard_tokens=limits, shard_rows=limits)
def test_a_plan_holds_every_row_once_within_its_limits(lengths, batch_tokens, shard_tokens, shard_rows):
    limit = {"batch_tokens": batch_tokens, "shard_tokens": shard_tokens, "shard_rows": shard_rows}
    plan = BatchPlan.build(lengths, **limit)
    assert plan == BatchPlan.build(list(lengths), **limit)

    order = [row for i in range(len(plan.shards)) for row in plan.rows(i)]
    assert sorted(order) == list(range(len(lengths)))
    assert order == sorted(order, key=lambda row: (-lengths[row], row))
    assert plan.n_rows == len(lengths)

    def padded(batch):
        return len(batch) * max(lengths[row] for row in batch)

    for shard in plan.shards:
        for batch in shard:
            assert padded(batch) <= batch_tokens or len(batch) == 1
        if len(shard) > 1:
            assert shard_tokens is None or sum(map(padded, shard)) <= shard_tokens
            assert shard_rows is None or sum(map(len, shard)) <= shard_rows


@settings(max_examples=100, deadline=None)
@given(lengths=lengths_of_rows, batch_tokens=st.integers(1, 200))
def test_no_batch_could_have_taken_the_next_row(lengths, batch_tokens):
    batches = [batch for shard in BatchPlan.build(lengths, batch_tokens=batch_tokens).shards for batch in shard]
    for batch, _ in pairwise(batches):
        assert (len(batch) + 1) * lengths[batch[0]] > batch_tokens
