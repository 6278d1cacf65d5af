"""Shared set-up of the tests."""

import os
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
# files of twenty seconds and more, by their time
LONGEST_FIRST = (
    "uda/test_training_steps.py",
    "reliability/test_resume.py",
    "reliability/test_stopping.py",
    "scripts/test_scripts.py",
    "uda/test_uda.py",
    "reliability/test_ending_together.py",
    "engine/test_graphs.py",
    "scripts/test_benchmarks.py",
    "launcher/test_launcher.py",
    "scripts/test_demo.py",
    "parallel/test_distributed.py",
    "scripts/test_extend.py",
    "test_classes.py",
    "scripts/test_docs.py",
    "models/test_timm_encoder.py",
    "scripts/test_own_footage.py",
    "reliability/test_paths.py",
    "inference/test_export.py",
    "inference/test_inference.py",
    "reliability/test_compiled_loops.py",
)
# Tests that send signals start their processes from here: what a starter such as nohup ignores is not ignored there.
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser) -> None:
    parser.addoption("--no-onednn", action="store_true", help="run PyTorch's own kernels in place of oneDNN's")
    parser.addoption("--figures", action="store_true", help="print how near the golden numbers came to each limit")
    parser.addoption("--exhaustive", action="store_true", help="also run the tests that take minutes each")


def pytest_configure(config) -> None:
    if config.getoption("--no-onednn"):
        import torch

        torch.backends.mkldnn.enabled = False


def pytest_collection_modifyitems(config, items) -> None:
    """Skip what was not asked for, and begin with the longest files: parallel processes then end together."""
    if not config.getoption("--exhaustive"):
        skip = pytest.mark.skip(reason="takes minutes; run it with --exhaustive")
        for item in items:
            if "exhaustive" in item.keywords:
                item.add_marker(skip)
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.relative_to(ROOT / "tests").as_posix(), len(places)))


@pytest.fixture(autouse=True)
def consent_ends_with_the_test():
    """A command line that is parsed in a test's process gives consent to custom imports by an environment variable."""
    before = os.environ.get("CMDA_CUSTOM_IMPORTS")
    yield
    if before is None:
        os.environ.pop("CMDA_CUSTOM_IMPORTS", None)
    else:
        os.environ["CMDA_CUSTOM_IMPORTS"] = before


def pytest_terminal_summary(terminalreporter, config) -> None:
    if config.getoption("--figures"):
        from helpers.golden_tools import FIGURES

        terminalreporter.section("worst figures")
        for what, (share, error, limit, where) in sorted(FIGURES.items()):
            terminalreporter.write_line(f"{share:8.3f} of {limit:.2e}: {error:10.3e}  {what}  [{where}]")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory) -> None:
    """No test reads or writes the user's cache of weights, nor sends their token."""
    os.environ["CMDA_HOME"] = str(tmp_path_factory.mktemp("cache"))
    for name in ("HF_TOKEN", "HF_ENDPOINT"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def root() -> Path:
    """Root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the golden numbers."""
    return ROOT / "tests" / "golden"


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """See :class:`helpers.sharing.SharedFolders`."""
    from helpers.sharing import SharedFolders

    return SharedFolders(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def mini_project(shared) -> Path:
    """The golden mini trees with lists and statistics, to read only; see :func:`helpers.script_tools.make_project`."""
    from helpers.script_tools import make_project

    return shared("mini_project", make_project)


@pytest.fixture(scope="session")
def server():
    """Starts scripts within a second, see :class:`helpers.process_tools.Server`."""
    from helpers.process_tools import server

    return server()


@pytest.fixture(scope="session")
def toy_city(shared) -> Path:
    """A toy city of the smallest size, to read only, as its tool makes it."""
    from helpers.script_tools import run

    def make(folder: Path) -> None:
        numbers = "--size tiny --seed 3 --day 3 --night-streets 1 --frames 2 --jobs 1"
        run("tools/make_toy_data.py", folder / "city", *numbers.split())

    return shared("toy_city", make) / "city"
