import os
import threading
import time

import pytest

from prnet_jax.data.threads import in_threads


def test_results_come_in_order_from_several_threads():
    threads = set()

    def work(item):
        threads.add(threading.get_ident())
        time.sleep(0.01 * (item % 3))
        return -item

    assert list(in_threads(work, range(20))) == [-item for item in range(20)]
    assert threading.get_ident() not in threads


def test_few_items_are_read_ahead():
    read = []

    def items():
        for item in range(1000):
            read.append(item)
            yield item

    results = in_threads(str, items())
    assert next(results) == "0"
    assert len(read) == 2 * os.cpu_count()
    assert next(results) == "1"
    assert len(read) == 2 * os.cpu_count() + 1
    results.close()


def test_an_error_is_raised_at_its_item():
    results = in_threads(lambda item: 1 / item, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_no_items():
    assert list(in_threads(str, [])) == []
