"""Rows for interventions: of groups that the direction was not fitted on, both classes on both sides, pairs whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.errors import CausalError
from leadline.study.causal_rows import LEAST_GROUPS, choose_rows, two_classes


@settings(max_examples=60, deadline=None)
@given(
    n_groups=st.integers(4, 60),
    size=st.integers(2, 9),
    n_examples=st.integers(12, 80),
    seed=st.integers(0, 5),
    constant=st.booleans(),
)
def test_groups_stand_on_one_side_and_classes_on_both(n_groups, size, n_examples, seed, constant):
    groups = np.repeat([f"g{i}" for i in range(n_groups)], size)
    y = np.repeat(np.arange(n_groups) % 2, size) if constant else np.arange(n_groups * size) % 2
    found = choose_rows(y.astype(float), groups, n_examples, seed)
    assert not {*groups[found.fitted]} & {*groups[found.tried]}
    assert len(np.unique(y[found.fitted])) == len(np.unique(y[found.tried])) == 2
    assert len(found.tried) <= n_examples
    assert len({*groups[found.fitted]}) >= n_groups - max(n_groups // 2, 1)
    # As many groups as the rows need, or as are the least.
    held = n_groups - len({*groups[found.fitted]})
    assert held == min(max(-(-n_examples // size), LEAST_GROUPS), n_groups // 2)
    # As many of them as can be are among the examples, since they are what an interval counts.
    assert len({*groups[found.tried]}) == min(held, len(found.tried))
    # A row more or less of either class.
    assert abs(int((y[found.tried] == 0).sum()) - int((y[found.tried] == 1).sum())) <= (size if constant else 1)


def test_pairs_stay_together():
    groups, pairs, y = np.repeat(np.arange(20), 30), np.repeat(np.arange(300), 2), np.tile([0.0, 1.0], 300)
    found = choose_rows(y, groups, 40, 0, pairs)
    assert (np.unique(pairs[found.tried], return_counts=True)[1] == 2).all()
    assert len(found.tried) == 40
    assert len(np.unique(groups[found.tried])) == 10


def test_the_same_seed_chooses_the_same_rows_and_another_others():
    y, groups = np.tile([0.0, 1.0], 100), np.repeat(np.arange(100), 2)
    first, again, other = (choose_rows(y, groups, 30, seed).tried for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_class_in_one_group_alone_is_refused():
    y, groups = np.array([1.0] * 5 + [0.0] * 45), np.repeat(np.arange(10), 5)
    with pytest.raises(CausalError, match="one class alone"):
        choose_rows(y, groups, 20, 0)


def test_halves_of_numbers():
    assert two_classes(np.array([3.0, 1.0, 2.0, 10.0]), "continuous").tolist() == [1, 0, 0, 1]
    assert two_classes(np.array([0.0, 1.0]), "binary").tolist() == [0, 1]
