import os
import threading
import time

import pytest

from prnet_jax.data.threads import in_threads


def test_results_come_in_order_from_several_threads(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    together = threading.Barrier(3)

    def work(item):
        together.wait(timeout=30)  # passed only by three at once
        time.sleep(0.01 * (item % 3))
        return -item

    assert list(in_threads(work, range(18))) == [-item for item in range(18)]


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
