"""The batch plan, for any lengths and limits."""

from __future__ import annotations

import json
from itertools import pairwise, product

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from leadline.activations import BatchPlan
from leadline.activations.batches import total_work, unit_batches
from leadline.activations.prefix_choice import choose
from leadline.activations.prefixes import Beyond, Budget, Distinct, divide, filled
from leadline.activations.sharing import arrange

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


# ---- plans that share

few_letters = st.lists(st.integers(0, 1), min_size=1, max_size=14)
chain = st.integers(1, 40).flatmap(lambda n: st.lists(st.integers(1, n), min_size=1, max_size=12))
tail = st.lists(st.integers(0, 9), min_size=1, max_size=4)
prompted = st.tuples(st.integers(0, 3), st.integers(0, 3), tail)
rows_of_ids = st.one_of(
    st.lists(few_letters, min_size=1, max_size=60),
    # Each row a prefix of longer ones.
    chain.map(lambda ends: [list(range(end)) for end in ends]),
    # Up to four prompts, each with up to four beginnings of questions.
    st.lists(prompted, min_size=1, max_size=60).map(
        lambda rows: [[p] * (5 + 9 * p) + [q] * (2 + q) + list(t) for p, q, t in rows]
    ),
    st.lists(st.sampled_from([[1], [1, 2], [3, 4, 5]]), min_size=1, max_size=40),
)
ALL_EQUAL = [[7, 8, 9]] * 30
ALL_BUT_THE_LAST = [[*range(20), 100 + i] for i in range(30)]
limits_of_plans = st.fixed_dictionaries(
    {
        "batch_tokens": st.integers(1, 120),
        "batch_cost": st.integers(0, 20),
        "shard_tokens": limit,
        "shard_rows": st.none() | st.integers(1, 40),
    }
)
FREE = {"batch_tokens": 40, "batch_cost": 2, "shard_tokens": None, "shard_rows": None}


def check_batch(ids, rows, sharing, batch_tokens):
    """A batch's rows are whole again after `arrange`, and its passes keep to the budget; gives its context."""
    batch = [ids[row] for row in rows]
    if sharing is None:
        assert len(rows) == 1 or len(rows) * max(map(len, batch)) <= batch_tokens
        return None
    parts = arrange(batch, *sharing)
    assert [parts.row(i) for i in range(len(rows))] == batch
    assert len({(s, *t) for s, t in zip(parts.tail_stem.tolist(), parts.tails)}) == len(parts.tails)
    assert len({tuple(stem) for stem in parts.stems.tolist()}) == len(parts.stems)
    assert set(parts.tail_stem.tolist()) == set(range(len(parts.stems)))
    assert len(parts.tails) == 1 or len(parts.tails) * max(map(len, parts.tails)) <= batch_tokens
    assert len(parts.stems) == 1 or parts.stems.size <= batch_tokens
    return tuple(parts.context_ids.tolist())


@settings(max_examples=300, deadline=None)
@given(ids=rows_of_ids, limits=limits_of_plans, prefixes=st.booleans())
@example(ids=ALL_EQUAL, limits=FREE, prefixes=False)
@example(ids=ALL_BUT_THE_LAST, limits=FREE, prefixes=True)
@example(ids=[[5]], limits=FREE, prefixes=True)
def test_a_sharing_plan_holds_every_row_once_within_its_limits(ids, limits, prefixes):
    plan = BatchPlan.build_shared(ids, **limits, prefixes=prefixes)
    plain = BatchPlan.build([len(row) for row in ids], **limits)
    assert plan == BatchPlan.build_shared([list(row) for row in ids], **limits, prefixes=prefixes)
    assert BatchPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert sorted(row for i in range(len(plan.shards)) for row in plan.rows(i)) == list(range(len(ids)))

    contexts = []
    for i, shard in enumerate(plan.shards):
        for rows, sharing in zip(shard, plan.sharing_of(i), strict=True):
            contexts.append(check_batch(ids, rows, sharing, limits["batch_tokens"]))
            assert prefixes or not sharing or sharing == (0, 0)
    changes = [after for before, after in pairwise([None, *contexts]) if after and after != before]
    assert len(changes) == len(set(changes))

    cost = limits["batch_cost"]
    work, plain_work = plan.work(ids).total(cost), plain.work(ids).total(cost)
    assert plan == plain or 100 * work <= 97 * plain_work
    assert plan.work(ids).computed >= Distinct.of(ids).least
    assert max(map(len, ids)) in {len(ids[row]) for row in plan.shards[0][0]}


def check_choice(ids, distinct, units, budget):
    """A choice is a plan that holds every row once, within its limits, and it costs what it says."""
    cost, batch_rows, cache_tokens = budget.batch_cost, budget.batch_rows, budget.cache_tokens
    batches = unit_batches(distinct, units, budget)
    plan = BatchPlan(budget.batch_tokens, (tuple(b.rows for b in batches),), (tuple(b.sharing for b in batches),))
    assert sorted(plan.rows(0)) == list(range(len(ids)))
    for batch in batches:
        check_batch(ids, batch.rows, batch.sharing, budget.batch_tokens)
        parts = arrange([ids[row] for row in batch.rows], *(batch.sharing or (0, 0)))
        u, ahead = len(parts.tails), sum(batch.sharing or (0, 0))
        assert batch_rows is None or len(batch.rows) <= batch_rows
        longest = ahead + max(map(len, parts.tails))
        assert cache_tokens is None or u == 1 or not ahead or u * longest <= cache_tokens
    # Only a stem that is broken into parts that then share a batch is computed less often than planned.
    assert total_work(batches, cost) >= plan.work(ids).total(cost)
    first = distinct.members[distinct.starts[units.order[units.starts[:-1]]]]
    heads = zip(first.tolist(), units.stem.tolist(), (units.context + units.stem).tolist())
    stems = [(p, *ids[row][:ahead]) for row, p, ahead in heads if p]
    if len(set(stems)) == len(stems):
        assert total_work(batches, cost) == plan.work(ids).total(cost)


@settings(max_examples=200, deadline=None)
@given(ids=rows_of_ids, limits=limits_of_plans, cache_tokens=st.none() | st.integers(1, 300))
@example(ids=ALL_BUT_THE_LAST, limits=FREE, cache_tokens=None)
def test_any_choice_of_contexts_and_stems_is_whole_and_costs_what_it_says(ids, limits, cache_tokens):
    distinct = Distinct.of(ids)
    budget = Budget(limits["batch_tokens"], limits["batch_cost"], limits["shard_rows"], cache_tokens)
    for units in choose(distinct, budget):
        check_choice(ids, distinct, units, budget)


@settings(max_examples=200, deadline=None)
@given(ids=rows_of_ids)
def test_neighbours_share_the_most_that_leaves_both_a_token(ids):
    distinct = Distinct.of(ids)
    first = [ids[row] for row in distinct.members[distinct.starts[:-1]]]
    assert len({tuple(row) for row in ids}) == len(first)
    for i, start in enumerate(distinct.starts[:-1]):
        members = distinct.members[start : distinct.starts[i + 1]].tolist()
        assert members == [row for row in range(len(ids)) if ids[row] == first[i]]

    def shared(a, b):
        return max(n for n in range(min(len(a), len(b))) if a[:n] == b[:n])

    for i in range(len(first)):
        for j in range(i + 1, len(first)):
            assert distinct.shared[i + 1 : j + 1].min() == shared(first[i], first[j])


@settings(max_examples=100, deadline=None)
@given(
    stems=st.lists(st.lists(tail, min_size=1, max_size=3), min_size=1, max_size=6),
    stem=st.integers(0, 4),
    batch_tokens=st.integers(12, 40),
    batch_cost=st.integers(0, 12),
)
def test_no_division_of_the_sorted_stems_is_less_work(stems, stem, batch_tokens, batch_cost):
    ids = [[i] * stem + tail for i, tails in enumerate(stems) for tail in tails]
    distinct = Distinct.of(ids)
    budget = Budget(batch_tokens, batch_cost)
    none = np.zeros(len(distinct.lengths), dtype=np.int64)
    beyond = Beyond.of(distinct, none)
    units = divide(distinct, beyond, none + stem, budget)
    found = total_work(unit_batches(distinct, units, budget), batch_cost)
    assert found <= filled(units, budget).sum()

    n = len(units.width)
    for cuts in product([False, True], repeat=n - 1):
        starts = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), n]
        spans = list(pairwise(starts))
        padded = [int(units.width[a] * units.tails[a:b].sum()) for a, b in spans]
        if all(tokens <= batch_tokens and stem * (b - a) <= batch_tokens for tokens, (a, b) in zip(padded, spans)):
            passes = len(spans) * (2 if stem else 1)
            assert found <= sum(padded) + stem * n + passes * batch_cost
