"""Numbers of threads, which torch keeps for each thread and, for new ones, for the process."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from fastflow_utils.compute import in_threads, one_thread


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    usual = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(usual)


def in_a_new_thread() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def test_one_thread_ends_with_the_block_however_it_ends():
    with pytest.raises(KeyError), one_thread(), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert (torch.get_num_threads(), in_a_new_thread()) == (4, 4)


def test_who_computes_alone_at_the_same_time_keeps_all_threads_afterwards():
    is_inside = threading.Event()

    def first() -> None:
        with one_thread():
            is_inside.set()
            time.sleep(0.2)

    def second() -> int:
        is_inside.wait()
        with one_thread():
            pass
        return torch.get_num_threads()

    with ThreadPoolExecutor(2) as pool:
        pool.submit(first)
        assert pool.submit(second).result() == 4
    assert in_a_new_thread() == 4


def test_each_task_has_its_share_of_the_threads_whatever_others_set_meanwhile():
    with in_threads(2, torch.device("cpu")) as each:
        torch.set_num_threads(1)  # so does one_thread in another thread
        assert list(each(lambda _: torch.get_num_threads(), range(2))) == [2, 2]
    assert (torch.get_num_threads(), in_a_new_thread()) == (4, 4)
