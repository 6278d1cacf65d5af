"""The process pool that the tools share."""

import functools
import os
import signal

import pytest

from mmseg.errors import DataError
from mmseg.io.file_work import outcomes_of, print_failures, run_tasks, write_files

_prepared = []


def prepare():
    _prepared.append(os.getpid())


def halve(number):
    if number % 2:
        raise DataError(f"{number} is odd")
    return number // 2


def make(number):
    return "kept" if halve(number) == 0 else "foreign" if number == 2 else "written"


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def prepared_here(number):
    return os.getpid() in _prepared


@pytest.mark.parametrize("nproc", [1, 2])
def test_outcomes_come_in_order_with_the_errors_of_tasks(nproc):
    outcomes = [str(outcome) for _, outcome in run_tasks(halve, range(6), nproc, "halves")]
    assert outcomes == ["0", "1 is odd", "1", "3 is odd", "2", "5 is odd"]
    results = outcomes_of(halve, [4, 2, 5, 7], nproc, "halves")
    assert [next(results), next(results)] == [2, 1]
    with pytest.raises(DataError, match="5 is odd"):
        next(results)


def test_files_are_counted_and_failures_named(capsys):
    report = write_files(make, range(7), 1, "halves")
    assert (report.total, report.written, report.kept, report.foreign) == (7, 2, 2, 1)
    print_failures(report)
    assert capsys.readouterr().err == "failed: 1 is odd\nfailed: 3 is odd\nfailed: 5 is odd\n"
    with pytest.raises(DataError, match="1 is odd"):
        write_files(make, range(7), 1, "halves", stop_at_first=True)


def test_a_killed_process_is_an_error_with_a_remedy():
    with pytest.raises(DataError, match="killed, probably out of memory: use fewer --workers"):
        list(run_tasks(die, range(4), 2, "deaths"))


def test_worker_processes_are_prepared_and_this_one_is_not():
    work = functools.partial(outcomes_of, prepared_here, range(4), title="processes", prepare=prepare)
    assert list(work(nproc=2)) == [True] * 4
    assert list(work(nproc=1)) == [False] * 4
