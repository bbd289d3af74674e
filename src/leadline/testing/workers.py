"""Independent tasks spread over processes of one thread each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

__all__ = ["in_processes"]

Task = TypeVar("Task")
Found = TypeVar("Found")


def in_processes(run: Callable[[Task], Found], tasks: Sequence[Task], workers: int) -> Iterator[Found]:
    """What `run`, a function of a module, makes of each task, in the order in which they end; 1 worker is this one."""
    if workers == 1:
        yield from map(run, tasks)
        return
    # A process that was forked while another thread held a lock would wait for it for ever.
    with ProcessPoolExecutor(min(workers, len(tasks)), get_context("spawn"), _one_thread) as pool:
        futures: list[Future[Found]] = [pool.submit(run, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _one_thread() -> None:
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)
