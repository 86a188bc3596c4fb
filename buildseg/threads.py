"""Threads that work ahead."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def map_ahead(function: Callable[[In], Out], items: Iterable[In], *, threads: int, ahead: int) -> Iterator[Out]:
    """Map in threads and in order, holding no more results than asked for.

    Args:
        function: What each thread does.
        items: Taken in the caller's thread; a generator is closed in the end.
        threads: How many work at once.
        ahead: Results at most that wait to be taken.

    Yields:
        Results, in the order of the items.
    """
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[Out]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) == threads + ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
            if isinstance(items, Generator):
                items.close()


def usable_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
