"""The batch plan, for any lengths and limits."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.activations import BatchPlan

lengths_of_rows = st.lists(st.integers(1, 60), min_size=1, max_size=80)
limit = st.none() | st.integers(1, 200)


@settings(max_examples=200, deadline=None)
@given(
    lengths=lengths_of_rows,
    batch_tokens=st.integers(1, 200),
    batch_cost=st.integers(0, 50),
    shard_tokens=limit,
    shard_rows=limit,
)
def test_a_plan_holds_every_row_once_within_its_limits(lengths, batch_tokens, batch_cost, shard_tokens, shard_rows):
    limits = {
        "batch_tokens": batch_tokens,
        "batch_cost": batch_cost,
        "shard_tokens": shard_tokens,
        "shard_rows": shard_rows,
    }
    plan = BatchPlan.build(lengths, **limits)
    assert plan == BatchPlan.build(list(lengths), **limits)

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


def work(batches, lengths, batch_cost):
    return sum(len(batch) * max(lengths[row] for row in batch) + batch_cost for batch in batches)


@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=8),
    batch_tokens=st.integers(1, 40),
    batch_cost=st.integers(0, 12),
)
def test_no_division_of_the_sorted_rows_is_less_work(lengths, batch_tokens, batch_cost):
    plan = BatchPlan.build(lengths, batch_tokens=batch_tokens, batch_cost=batch_cost)
    order = plan.rows(0)
    found = work(plan.shards[0], lengths, batch_cost)
    for cuts in product([False, True], repeat=len(order) - 1):
        batches = [[order[0]]]
        for row, cut in zip(order[1:], cuts, strict=True):
            if cut:
                batches.append([])
            batches[-1].append(row)
        if all(len(b) == 1 or len(b) * lengths[b[0]] <= batch_tokens for b in batches):
            assert found <= work(batches, lengths, batch_cost)
