import numpy as np
import pytest

from leadline.evidence.permutation import draw_shuffles


def shuffles_by_loop(Y, codes, n_permutations, seed):
    """The same scheme, group by group."""
    rng = np.random.default_rng([seed, 2])
    members = [np.flatnonzero(codes == g) for g in dict.fromkeys(codes.tolist())]
    varying = [rows for rows in members if (Y[rows] != Y[rows[0]]).any()]
    constant = [rows for rows in members if not (Y[rows] != Y[rows[0]]).any()]
    order = np.full(int(codes.max()) + 1, -1)
    order[[codes[rows[0]] for rows in members]] = np.arange(len(members))
    moving = np.concatenate([*varying, np.empty(0, dtype=np.int64)]).astype(np.int64)
    index = np.tile(np.arange(len(Y)), (1 + n_permutations, 1))
    for b in range(1, 1 + n_permutations):
        index[b, moving] = moving[np.argsort(order[codes[moving]] + rng.random(len(moving)))]
        if len(constant) > 1:
            for rows, source in zip(constant, rng.permutation(len(constant)), strict=True):
                index[b, rows] = constant[source][0]
    return index, len(varying), len(constant)


@pytest.mark.parametrize("n_groups", [2, 7, 60, 300])
@pytest.mark.parametrize("varying", [0.0, 0.5, 1.0])
def test_groups_that_exchange_labels_move_as_in_a_loop_over_them(n_groups, varying):
    rng = np.random.default_rng([n_groups, int(2 * varying)])
    codes = rng.permutation(np.arange(300) % n_groups)
    of_group = np.stack([np.arange(n_groups) % 2, rng.integers(0, 3, n_groups)], axis=1)[codes]
    varies = (rng.random(n_groups) < varying)[codes]
    Y = np.where(varies[:, None], rng.integers(0, 2, (300, 2)), of_group).astype(float)
    shuffles = draw_shuffles(Y, codes, 30, seed=4)
    expected, n_varying, n_constant = shuffles_by_loop(Y, codes, 30, seed=4)
    np.testing.assert_array_equal(shuffles.index, expected)
    assert (f"within {n_varying:,} groups" in shuffles.scheme) == (n_varying > 0)
    assert (f"({n_constant:,} groups hold one label each)" in shuffles.scheme) == (n_constant > 0)
    np.testing.assert_array_equal(draw_shuffles(Y, codes, 30, seed=4).index, shuffles.index)
    assert (draw_shuffles(Y, codes, 30, seed=5).index != shuffles.index).any()


@pytest.mark.parametrize("groups", [None, np.arange(5000) // 3, np.arange(5000)])
def test_a_thousand_orders_of_many_rows_take_four_bytes_a_number(groups):
    shuffles = draw_shuffles((np.arange(5000) % 4 > 1)[:, None].astype(float), groups, 50, seed=0)
    assert shuffles.index.nbytes == 51 * 5000 * 4
    assert shuffles.index.min() >= 0
    assert shuffles.index.max() < 5000


def test_every_exchange_of_whole_groups_is_equally_likely():
    Y = np.array([[0.0], [0.0], [1.0], [2.0], [2.0]])
    shuffles = draw_shuffles(Y, np.array(["a", "a", "b", "c", "c"]), 3000, seed=1)
    dealt = Y[shuffles.index[1:], 0]
    assert (dealt[:, 0] == dealt[:, 1]).all()
    assert (dealt[:, 3] == dealt[:, 4]).all()
    orders, counts = np.unique(dealt[:, [0, 2, 3]], axis=0, return_counts=True)
    assert len(orders) == 6
    # Six standard deviations of a count of 500.
    assert np.abs(counts - 500).max() < 125
