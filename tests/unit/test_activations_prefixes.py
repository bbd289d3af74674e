"""Prefixes that rows share: how they are found, chosen and taken apart."""

from __future__ import annotations

import numpy as np
import pytest

from leadline.activations.batches import least_work, plain_batches, total_work, unit_batches
from leadline.activations.prefix_choice import choose
from leadline.activations.prefixes import Beyond, Budget, Distinct, divide
from leadline.activations.sharing import Sharing, arrange
from leadline.errors import ActivationsError


def rows_at_random(seed, n, length, vocabulary=50_000):
    return np.random.default_rng(seed).integers(0, vocabulary, (n, length)).tolist()


# ---- arrange


def test_a_batch_is_one_context_its_stems_and_its_tails():
    ids = [[9, 9, 1, 2, 5], [9, 9, 3, 4, 5, 6], [9, 9, 1, 2, 7], [9, 9, 1, 2, 5]]
    parts = arrange(ids, 2, 2)
    assert parts.context_ids.tolist() == [9, 9]
    assert parts.stems.tolist() == [[1, 2], [3, 4]]
    assert parts.tails == [[5], [5, 6], [7]]
    assert parts.tail_stem.tolist() == [0, 1, 0]
    assert parts.row_tail.tolist() == [0, 1, 2, 0]
    assert parts.computed == 2 * 2 + 3 * 2
    assert [parts.row(i) for i in range(4)] == ids


def test_equal_tails_after_different_stems_stay_apart():
    parts = arrange([[1, 5], [2, 5]], 0, 1)
    assert parts.tails == [[5], [5]]
    assert parts.tail_stem.tolist() == [0, 1]


def test_without_context_and_stem_the_tails_are_the_different_rows():
    parts = arrange([[1, 2], [3], [1, 2]])
    assert parts.tails == [[1, 2], [3]]
    assert parts.row_tail.tolist() == [0, 1, 0]
    assert parts.context_ids.shape == (0,)
    assert parts.stems.shape == (1, 0)
    assert parts.computed == 4


def test_rows_of_another_plan_are_refused():
    with pytest.raises(ActivationsError, match=r"row 1 of the batch has 2 tokens; expected more than .* 1 \+ 1"):
        arrange([[1, 2, 3], [1, 2]], 1, 1)
    with pytest.raises(ActivationsError, match="row 1 of the batch does not begin with the 2 tokens of row 0"):
        arrange([[1, 2, 3], [1, 4, 3]], 2, 0)
    with pytest.raises(ActivationsError, match="context is -1 and stem is 0; expected lengths of at least 0"):
        arrange([[1]], -1, 0)
    with pytest.raises(ActivationsError, match="no rows to arrange"):
        arrange([], 0, 0)


# ---- what rows share


def shared_by_row(distinct):
    """By first member: the tokens shared with the row before, and the rows equal to it."""
    members = np.split(distinct.members, distinct.starts[1:-1])
    return {int(m[0]): (int(s), m.tolist()) for m, s in zip(members, distinct.shared)}


def test_equal_rows_are_one_and_neighbours_know_what_they_share():
    found = shared_by_row(Distinct.of([[1, 2, 3], [7], [1, 2, 4, 5], [1, 2, 3]]))
    assert {row: members for row, (_, members) in found.items()} == {0: [0, 3], 1: [1], 2: [2]}
    assert found[2][0] == 2


def test_a_row_that_is_a_prefix_keeps_a_token_to_itself():
    distinct = Distinct.of([[1, 2, 3], [1, 2], [1]])
    assert distinct.lengths.tolist() == [1, 2, 3]
    assert distinct.shared.tolist() == [0, 0, 1]
    assert distinct.least == 5


def test_large_token_ids_keep_rows_of_one_prefix_together():
    distinct = Distinct.of([[2**31, 1], [5, 1], [2**31, 2], [5, 2], [-1, 1]])
    assert sorted(distinct.shared.tolist()) == [0, 0, 0, 1, 1]


def test_rows_longer_than_what_is_compared_at_a_time(monkeypatch):
    monkeypatch.setattr("leadline.activations.prefixes._COMPARED", 7)
    rows = [[1] * 20 + [i] for i in range(5)] + [[2, 3], [2, 4]]
    assert Distinct.of(rows).shared.tolist() == [0, 20, 20, 20, 20, 0, 1]


def test_free_rows_on_both_sides_of_a_context_still_share():
    distinct = Distinct.of([[1, 2, 3], [1, 5, 5, 6], [1, 5, 5, 7], [1, 9, 1], [4]])
    beyond = Beyond.of(distinct, np.array([0, 3, 3, 0, 0]))
    assert beyond.rows.tolist() == [0, 3, 4, 1, 2]
    assert beyond.shared.tolist() == [0, 1, 0, 0, 0]
    assert beyond.lengths.tolist() == [3, 3, 1, 1, 1]


# ---- the choice


def chosen(ids, budget):
    """The sharing of each batch, the work, and that of the plain plan."""
    distinct = Distinct.of(ids)
    choices = [unit_batches(distinct, units, budget) for units in choose(distinct, budget)]
    batches = least_work(choices, budget.batch_cost)
    plain = plain_batches([len(row) for row in ids], budget.batch_tokens, budget.batch_cost)
    work = (total_work(batches, budget.batch_cost), total_work(plain, budget.batch_cost))
    return [batch.sharing for batch in batches], *work


def test_a_prompt_before_all_rows_is_a_context():
    prompt = rows_at_random(0, 1, 300)[0]
    ids = [prompt + row for row in rows_at_random(1, 200, 12)]
    sharing, work, plain = chosen(ids, Budget(512, 18))
    assert set(sharing) == {Sharing(300, 0)}
    assert work == 300 + 200 * 12 + 18 * 6
    assert plain == 200 * 312 + 18 * 200


def test_pairs_are_stems_of_one_length():
    ids = [stem + tail for stem in rows_at_random(0, 60, 10) for tail in rows_at_random(stem[0], 2, 2)]
    sharing, work, _ = chosen(ids, Budget(300, 10))
    assert set(sharing) == {Sharing(0, 10)}
    assert work == 60 * 10 + 120 * 2 + 10 * 2 * 2


def test_pairs_after_a_prompt_are_stems_in_a_context():
    prompts = rows_at_random(0, 2, 200)
    ids = [
        prompt + stem + tail
        for prompt in prompts
        for stem in rows_at_random(prompt[0], 50, 10)
        for tail in rows_at_random(stem[0], 2, 2)
    ]
    sharing, work, _ = chosen(ids, Budget(512, 18))
    assert set(sharing) == {Sharing(200, 10)}
    assert work == 2 * (200 + 18 + 50 * 10 + 100 * 2 + 2 * 18)


def test_of_prompts_within_prompts_the_longer_are_contexts_where_most_follows_them():
    system = rows_at_random(0, 1, 40)[0]
    prompts = [system + task for task in rows_at_random(1, 10, 60)]
    ids = [prompt + row for prompt in prompts for row in rows_at_random(prompt[-1], 40, 10)]
    sharing, work, _ = chosen(ids, Budget(200, 10))
    assert set(sharing) == {Sharing(100, 0)}
    assert work == 10 * (100 + 400 + 3 * 10)


def test_what_a_pass_costs_decides_whether_a_prompt_is_shared():
    ids = [rows_at_random(0, 1, 6)[0] + row for row in rows_at_random(1, 10, 6)]
    assert set(chosen(ids, Budget(200, 1))[0]) == {Sharing(0, 6)}
    assert set(chosen(ids, Budget(200, 100))[0]) == {None}


def test_few_rows_of_each_prompt_share_it_as_a_stem():
    ids = [prompt + tail for prompt in rows_at_random(0, 40, 60) for tail in rows_at_random(prompt[0], 5, 4)]
    sharing, work, _ = chosen(ids, Budget(600, 20))
    assert set(sharing) == {Sharing(0, 60)}
    assert work == 40 * 60 + 200 * 4 + 4 * 2 * 20


def test_stems_of_like_length_are_shortened_to_one_length_where_passes_are_dear():
    ids = [
        stem[:length] + tail
        for stem, length in zip(rows_at_random(0, 40, 12), [10, 11, 12, 12] * 10)
        for tail in rows_at_random(stem[0], 2, 13 - length)
    ]
    dear, work, plain = chosen(ids, Budget(1000, 200))
    assert set(dear) == {Sharing(0, 10)}
    assert work < plain
    cheap, _, _ = chosen(ids, Budget(1000, 1))
    assert set(cheap) == {Sharing(0, length) for length in (10, 11, 12)}


def test_a_lone_row_fills_up_a_batch_that_is_there():
    ids = [stem + tail for stem in rows_at_random(0, 20, 10) for tail in rows_at_random(stem[0], 2, 3)]
    sharing, work, _ = chosen([*ids, rows_at_random(99, 1, 13)[0]], Budget(300, 50))
    assert sharing == [Sharing(0, 10)]
    assert work == 21 * 10 + 41 * 3 + 100


def test_a_long_tail_does_not_widen_the_others():
    ids = [stem + tail for stem in rows_at_random(0, 10, 8) for tail in rows_at_random(stem[0], 3, 2)]
    long = [ids[0][:8] + rows_at_random(5, 1, 60)[0]]
    _, work, _ = chosen(ids + long, Budget(200, 5))
    # The long row starts from its stem by itself, or is a plain row.
    assert work <= 10 * 8 + 30 * 2 + 2 * 5 + 68 + 2 * 5


def test_rows_that_share_nothing_are_left_alone():
    ids = [[i, *row] for i, row in enumerate(rows_at_random(0, 50, 9))]
    sharing, work, plain = chosen(ids, Budget(100, 5))
    assert set(sharing) == {None}
    assert work == plain


@pytest.mark.parametrize("length", [2_000, 10_000])
def test_each_row_a_prefix_of_the_next(length):
    row = rows_at_random(0, 1, length)[0]
    ids = [row[:end] for end in range(length - 400, length + 1, 2)]
    _, work, plain = chosen(ids, Budget(4096, 100))
    assert work < 0.3 * plain


def test_a_stem_with_more_tails_than_fit_is_computed_in_each_batch():
    ids = [[1, 2, 3, i] for i in range(100)]
    distinct = Distinct.of(ids)
    budget = Budget(30, 0)
    none = np.zeros(100, dtype=np.int64)
    batches = unit_batches(distinct, divide(distinct, Beyond.of(distinct, none), none + 3, budget), budget)
    assert [len(batch.rows) for batch in batches] == [30, 30, 30, 10]
    assert [batch.tokens for batch in batches] == [33, 33, 33, 13]


def test_a_unit_that_is_padded_more_than_its_stem_is_broken():
    ids = [[1] * 8 + [i] * width for i, width in enumerate([60, 2, 2, 2, 1])]
    distinct = Distinct.of(ids)
    none = np.zeros(5, dtype=np.int64)
    units = divide(distinct, Beyond.of(distinct, none), none + 8, Budget(1000, 0))
    assert units.width.tolist() == [60, 2]
    assert units.tails.tolist() == [1, 4]
