"""Starts scripts as processes of their own, within a second: forked from a process that has imported torch already.

Read by :mod:`process_tools`: a JSON object a line on stdin. The exit status of each goes to ``<folder>/status``.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import sys
import threading
import traceback
from importlib import import_module
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]

# The first optimiser of a process imports the last two, which takes seconds.
MODULES = (
    "helpers.small_encoder",
    "mmseg.apis",
    "mmseg.apis.training",
    "mmseg.style_transfer.training",
    "torch._dynamo",
    "torch._inductor.config",
)


def start(order: dict) -> int:
    """Fork; the child leads a session, as what a terminal or a batch system starts, and becomes the script."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    folder = Path(order["folder"])
    for name, number in (("stdout", 1), ("stderr", 2)):
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(order["cwd"])
    os.environ.update(order["environment"])
    sys.argv = [order["script"], *order["arguments"]]
    path = [entry for entry in order["environment"].get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:0] = [str((ROOT / order["script"]).parent), str(ROOT), str(ROOT / "tests"), *path]
    exec(order["before"], {})
    if order["quick_end"]:
        run_and_end_quickly(str(ROOT / order["script"]))
    runpy.run_path(str(ROOT / order["script"]), run_name="__main__")
    return 0


def run_and_end_quickly(script: str) -> NoReturn:
    """Run a script to its end without taking Python apart, which takes half a second."""
    status = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as stopped:
        if isinstance(stopped.code, str):
            print(stopped.code, file=sys.stderr)
        status = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def prepare_compiled_loops() -> None:
    """Run one: the first loop of a process, whichever it is, takes a second for what all need."""
    import torch

    from mmseg.uda.augment import input_grey_level

    input_grey_level(torch.zeros(1, 3, 4, 4))


def main() -> None:
    """Start what is ordered, and note how it ends, until stdin is closed."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

    # Tests of processes use no GPU, for which Triton is.
    sys.modules["triton"] = None
    for module in MODULES:
        import_module(module)
    del sys.modules["triton"]
    prepare_compiled_loops()
    gc.freeze()  # so that the processes share its memory
    folders: dict[int, Path] = {}
    while True:
        ready, _, _ = select.select([0], [], [], 0.02)
        if ready:
            line = sys.stdin.buffer.raw.readline()
            if not line:
                break
            order = json.loads(line)
            child = start(order)
            if not child:
                return
            folders[child] = Path(order["folder"])
            print(child, flush=True)
        while folders:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                break
            (folders.pop(child) / "status").write_text(str(os.waitstatus_to_exitcode(status)))
    for child in folders:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
