"""Work on many images in threads, in their order, without keeping them all."""

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work(item)` of every item, in order, computed in a thread for each core.

    It pays where most of the work is in NumPy or Pillow, which release the interpreter's lock. At
    most two items a core are read before their results are taken.

    Args:
        work: safe to call in several threads at once, as encoding is; a zip file, or decoding TIFF,
            is not. What it raises is raised here.
        items: read in this thread.
    """
    cores = os.cpu_count() or 1
    waiting: collections.deque[Future[Result]] = collections.deque()
    with ThreadPoolExecutor(cores) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) == 2 * cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
