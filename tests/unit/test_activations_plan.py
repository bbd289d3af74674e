"""The batch plan."""

from __future__ import annotations

import json

import pytest

from leadline.activations import BatchPlan
from leadline.activations.sharing import Sharing, Work
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
        {"batch_tokens": 4, "shards": [[[0, 1]]], "sharing": 3},
        {"batch_tokens": 4, "shards": [[[0, 1]]], "sharing": [[[0, 0], None]]},
        {"batch_tokens": 4, "shards": [[[0, 1]]], "sharing": [[], []]},
        {"batch_tokens": 4, "shards": [[[0, 1]]], "sharing": [[[0]]]},
        {"batch_tokens": 4, "shards": [[[0, 1]]], "sharing": [[[0, -1]]]},
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


# ---- plans that share


def pairs(n, stem=10, tail=2):
    """Rows that share their first `stem` tokens two and two."""
    return [[i, *range(100, 99 + stem), *[1000 + half] * tail] for i in range(n) for half in (0, 1)]


def test_a_plan_without_sharing_is_written_as_ever():
    plan = BatchPlan.build(
        [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5], batch_tokens=12, batch_cost=2, shard_tokens=24, shard_rows=4
    )
    shards = [[[5], [7]], [[4, 8], [10, 2]], [[0, 9, 6]], [[1, 3]]]
    assert plan.to_json() == {"batch_tokens": 12, "shards": shards}
    # As it stands in stores on disk.
    assert plan.fingerprint == "9bbcc61179931e96"


@pytest.mark.parametrize("prefixes", [True, False])
def test_rows_that_share_nothing_get_the_plain_plan(prefixes):
    ids = [[i] * (1 + i % 7) for i in range(50)]
    limits = {"batch_tokens": 30, "batch_cost": 4, "shard_tokens": 60, "shard_rows": 12}
    plan = BatchPlan.build_shared(ids, **limits, prefixes=prefixes)
    assert plan == BatchPlan.build([len(row) for row in ids], **limits)
    assert plan.sharing == ()
    assert plan.sharing_of(0) == (None,) * len(plan.shards[0])


def test_a_saving_below_three_percent_is_not_worth_it():
    ids = [[i, 0, 0, 0] for i in range(98)]
    limits = {"batch_tokens": 40, "batch_cost": 0}
    plain = BatchPlan.build([4] * 100, **limits)
    two_of_a_hundred = ids + ids[:2]
    assert BatchPlan.build_shared(two_of_a_hundred, **limits) == plain
    three_of_a_hundred = ids[:97] + ids[:3]
    assert BatchPlan.build_shared(three_of_a_hundred, **limits).work(three_of_a_hundred) == Work(97 * 4, 10, 400)


def test_equal_rows_are_computed_once_in_one_batch():
    sentences = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [7, 7, 7]]
    ids = [sentences[i % 4] for i in range(40)]
    plan = BatchPlan.build_shared(ids, batch_tokens=6, prefixes=False)
    assert plan.sharing == ((Sharing(0, 0), Sharing(0, 0)),)
    assert plan.rows(0) == sorted(range(40), key=lambda row: (ids[row], row))
    assert plan.work(ids) == Work(4 * 3, 2, 40 * 3)


def test_a_row_with_more_copies_than_a_shard_has_rows_is_computed_again():
    plan = BatchPlan.build_shared([[1, 2, 3]] * 10, batch_tokens=6, shard_rows=4)
    assert plan.shards == (((0, 1, 2, 3),), ((4, 5, 6, 7),), ((8, 9),))
    assert plan.work([[1, 2, 3]] * 10).computed == 9


def test_prefixes_are_shared_only_where_that_is_asked_for():
    ids = pairs(30)
    assert BatchPlan.build_shared(ids, batch_tokens=100, batch_cost=3, prefixes=False).sharing == ()
    plan = BatchPlan.build_shared(ids, batch_tokens=100, batch_cost=3)
    assert plan.sharing == ((Sharing(0, 10),) * 3,)
    assert plan.work(ids) == Work(30 * 10 + 60 * 2, 6, 60 * 12)
    assert plan.work(ids).total(3) == 420 + 18


def test_the_batches_of_a_context_follow_each_other_and_it_is_computed_once():
    ids = [[p] * 50 + [i, i, i] for i in range(40) for p in (1, 2)]
    plan = BatchPlan.build_shared(ids, batch_tokens=30, batch_cost=1, shard_tokens=80)
    assert {each for shard in plan.sharing for each in shard} == {Sharing(50, 0)}
    assert len(plan.shards) > 2
    prompts = [ids[batch[0]][0] for shard in plan.shards for batch in shard]
    assert prompts == [1] * 4 + [2] * 4
    assert plan.work(ids) == Work(2 * 50 + 80 * 3, 10, 80 * 53)


def test_the_longest_row_comes_first():
    ids = [[1] * 20 + [i] * (1 + i) for i in range(6)] + [[2] * 20 + [i] * (9 + i) for i in range(6)] + [[3] * 25, [4]]
    plan = BatchPlan.build_shared(ids, batch_tokens=40, batch_cost=1)
    assert any(each is not None for each in plan.sharing[0])
    assert 11 in plan.shards[0][0]


def test_shards_of_a_sharing_plan_count_rows_and_the_tokens_computed():
    ids = pairs(40)
    by_tokens = BatchPlan.build_shared(ids, batch_tokens=50, shard_tokens=150)
    # A batch is five stems of ten and ten tails of two.
    assert [len(by_tokens.rows(i)) for i in range(len(by_tokens.shards))] == [20] * 4
    by_rows = BatchPlan.build_shared(ids, batch_tokens=50, shard_rows=30)
    assert [len(by_rows.rows(i)) for i in range(len(by_rows.shards))] == [30, 30, 20]


def test_a_batch_keeps_to_what_a_cache_may_hold():
    ids = [[1] * 50 + [i, i] for i in range(40)]
    plan = BatchPlan.build_shared(ids, batch_tokens=80, cache_tokens=520)
    assert [len(batch) for batch in plan.shards[0]] == [10] * 4
    with pytest.raises(ActivationsError, match="cache_tokens is 0; expected at least 1"):
        BatchPlan.build_shared(ids, batch_tokens=80, cache_tokens=0)


def test_a_sharing_plan_goes_through_json():
    plan = BatchPlan.build_shared([*pairs(20), [5], [6]], batch_tokens=40, shard_rows=10)
    again = BatchPlan.from_json(json.loads(json.dumps(plan.to_json())))
    assert plan.sharing
    assert again == plan
    assert again.fingerprint == plan.fingerprint
    assert plan.fingerprint != BatchPlan(plan.batch_tokens, plan.shards).fingerprint


def test_work_is_of_the_rows_that_the_plan_was_made_for():
    ids = pairs(20)
    plan = BatchPlan.build_shared(ids, batch_tokens=40)
    with pytest.raises(ActivationsError, match="39 rows are given and the plan has 40"):
        plan.work(ids[1:])
    with pytest.raises(ActivationsError, match="The plan was made for other rows"):
        plan.work([[1]] * 40)


def test_what_cannot_be_shared_is_refused_as_in_a_plain_plan():
    with pytest.raises(ActivationsError, match="no rows"):
        BatchPlan.build_shared([], batch_tokens=8)
    with pytest.raises(ActivationsError, match="row 1 has no tokens"):
        BatchPlan.build_shared([[1], []], batch_tokens=8)
    with pytest.raises(ActivationsError, match="shard_rows is 0; expected at least 1"):
        BatchPlan.build_shared([[1]], batch_tokens=8, shard_rows=0)
