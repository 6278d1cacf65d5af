"""Stages of a pipeline: order, limits, and errors that end all of them."""

import threading
import time

import pytest

from mmseg.engine.stages import WAITING, Stages, one_message
from mmseg.errors import CMDAError, DataError

THREADS = 3


def test_order_is_kept():
    def slow(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number

    before = threading.active_count()
    with Stages(THREADS) as stages:
        numbers = stages.beside(stages.each(slow, stages.beside(range(50))))
        assert list(stages.each(slow, numbers)) == list(range(50))
    assert threading.active_count() == before


def test_few_items_wait():
    made = []

    def items():
        for number in range(100):
            made.append(number)
            yield number

    with Stages(THREADS) as stages:
        taken = stages.beside(items())
        assert next(taken) == 0
        time.sleep(0.05)
        # those that wait, the one that was taken, and the one that finds no room
        assert len(made) <= WAITING + 2


@pytest.mark.parametrize("failing", range(5))
def test_an_error_of_a_stage_ends_all(failing):
    """Wherever it is: each of four stages and what takes their outcomes; endless items do not keep it up."""
    closed = []

    def items():
        number = 0
        try:
            while True:
                if failing == 0 and number == 20:
                    raise DataError("stage 0")
                yield number
                number += 1
        finally:
            closed.append(threading.current_thread().name)

    def stage(which: int):
        def work(number: int) -> int:
            if failing == which and number == 20:
                raise DataError(f"stage {which}")
            return number

        return work

    before, taken = threading.active_count(), []

    def run() -> None:
        with Stages(THREADS) as stages:
            first = stages.each(stage(1), stages.beside(items()))
            second = stages.beside(map(stage(2), first))
            for number in stages.each(stage(3), second):
                taken.append(stage(4)(number))

    with pytest.raises(DataError, match=f"stage {failing}"):
        run()
    # what was on the way when it happened is left
    assert taken == list(range(len(taken)))
    assert len(taken) <= 20
    assert threading.active_count() == before
    assert closed != [threading.main_thread().name]


def test_one_message():
    with (
        pytest.raises(CMDAError, match=r"^drawing x failed \(ZeroDivisionError: division by zero\)$"),
        one_message("drawing x"),
    ):
        1 / 0  # noqa: B018
    with pytest.raises(DataError, match="as it is"), one_message("drawing x"):
        raise DataError("as it is")
    with pytest.raises(OSError, match="disk"), one_message("drawing x", OSError):
        raise OSError("disk is full")
    with pytest.raises(CMDAError, match=r"^drawing x failed \(RuntimeError: first\)$"), one_message("drawing x"):
        raise RuntimeError("first\nsecond")
