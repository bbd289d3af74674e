"""Sites side by side: one thread a site, one core a thread.

The solvers' matrices are too small to keep several cores busy inside one product; different sites are. Since each site
then runs on one thread whatever the machine has, its result does not depend on the number of cores either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

__all__ = ["map_sites"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def _one_thread() -> Iterator[int]:
    """Limit torch and BLAS to one thread, and yield how many torch had."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield before
    finally:
        torch.set_num_threads(before)


def map_sites(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order; as many at a time as torch has threads.

    An exception ends the iteration, after the items that were begun.
    """
    with _one_thread() as n_threads:
        if n_threads == 1 or len(items) == 1:
            yield from map(function, items)
            return
        pool = ThreadPoolExecutor(n_threads, "leadline-site", initializer=torch.set_num_threads, initargs=(1,))
        try:
            yield from pool.map(function, items)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
