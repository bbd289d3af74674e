import numpy as np
import pytest
import torch

from leadline.probes import Logistic
from leadline.probes.parallel import map_sites


def test_sites_side_by_side_equal_sites_in_turn_bit_for_bit():
    rng = np.random.default_rng(0)
    sites = [rng.normal(size=(90, 20)).astype(np.float32) for _ in range(5)]
    y = (sites[0][:, :1] > 0).astype(float)
    fold = np.arange(90) % 3

    def fit(x):
        return Logistic(l2=0.1).fit_site(x, y, fold).scores

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        together = list(map_sites(fit, sites))
        assert torch.get_num_threads() == 3
        torch.set_num_threads(1)
        alone = [fit(x) for x in sites]
    finally:
        torch.set_num_threads(before)
    for one, other in zip(together, alone, strict=True):
        assert (one == other).all()


@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_exception_comes_through_and_the_threads_are_given_back(n_threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(n_threads)

        def fail(item):
            if item == 2:
                raise ValueError("site 2")
            return item

        results = map_sites(fail, range(5))
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ValueError, match="site 2"):
            next(results)
        assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)
