"""The batch plan."""

from __future__ import annotations

import json

import pytest

from leadline.activations import BatchPlan
from leadline.errors import ActivationsError, StoreError


def test_longest_first_and_equal_lengths_in_order():
    plan = BatchPlan.build([2, 5, 2, 5, 3], batch_tokens=10, batch_cost=10)
    assert plan.shards == (((1, 3), (4, 0, 2)),)


def test_a_row_over_the_budget_is_a_batch_of_its_own():
    plan = BatchPlan.build([4, 100, 4], batch_tokens=8)
    assert plan.shards == (((1,), (0, 2)),)


def test_rows_are_padded_only_where_that_is_less_work_than_another_batch():
    lengths = [10, 8, 8, 8]
    assert BatchPlan.build(lengths, batch_tokens=100, batch_cost=7).shards == (((0, 1, 2, 3),),)
    assert BatchPlan.build(lengths, batch_tokens=100, batch_cost=5).shards == (((0,), (1, 2, 3)),)


def test_padding_counts_in_the_budget():
    plan = BatchPlan.build([6, 1, 1], batch_tokens=17, batch_cost=100)
    assert plan.shards == (((0,), (1, 2)),)


def test_shards_close_before_they_pass_a_limit():
    by_tokens = BatchPlan.build([4] * 6, batch_tokens=4, shard_tokens=8)
    assert [len(shard) for shard in by_tokens.shards] == [2, 2, 2]
    by_rows = BatchPlan.build([4] * 6, batch_tokens=8, shard_rows=4)
    assert [by_rows.rows(i) for i in range(2)] == [[0, 1, 2, 3], [4, 5]]
    one_batch_at_least = BatchPlan.build([4] * 4, batch_tokens=8, shard_tokens=1, shard_rows=1)
    assert [len(shard) for shard in one_batch_at_least.shards] == [1, 1]


def test_json_round_trip_keeps_the_fingerprint():
    plan = BatchPlan.build([3, 1, 4, 1, 5], batch_tokens=6, shard_rows=2)
    again = BatchPlan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert again.fingerprint == plan.fingerprint
    assert again.fingerprint != BatchPlan.build([3, 1, 4, 1, 5], batch_tokens=6, shard_rows=1).fingerprint


@pytest.mark.parametrize(
    "content",
    [
        None,
        {},
        {"batch_tokens": 4, "shards": []},
        {"batch_tokens": 4, "shards": [[[0, 1]], [[1]]]},
        {"batch_tokens": 4, "shards": [[[0]], []]},
        {"batch_tokens": 4, "shards": [[[0], []]]},
        {"batch_tokens": 4, "shards": [[["x"]]]},
    ],
)
def test_a_damaged_plan_is_refused(content):
    with pytest.raises(StoreError, match="the batch plan"):
        BatchPlan.from_json(content)


def test_what_cannot_be_planned_is_refused():
    with pytest.raises(ActivationsError, match="batch_tokens is 0; expected at least 1"):
        BatchPlan.build([1], batch_tokens=0)
    with pytest.raises(ActivationsError, match="batch_cost is -1; expected at least 0"):
        BatchPlan.build([1], batch_tokens=8, batch_cost=-1)
    with pytest.raises(ActivationsError, match="no rows"):
        BatchPlan.build([], batch_tokens=8)
    with pytest.raises(ActivationsError, match="row 1 has no tokens"):
        BatchPlan.build([3, 0, 2], batch_tokens=8)
