"""Shared set-up of the tests."""

import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
# Tests that send signals start their processes from here: what a starter such as nohup ignores is not ignored there.
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser) -> None:
    parser.addoption("--no-onednn", action="store_true", help="run PyTorch's own kernels in place of oneDNN's")
    parser.addoption("--figures", action="store_true", help="print how near the golden numbers came to each limit")


def pytest_configure(config) -> None:
    if config.getoption("--no-onednn"):
        import torch

        torch.backends.mkldnn.enabled = False


def pytest_terminal_summary(terminalreporter, config) -> None:
    if config.getoption("--figures"):
        from helpers.golden_tools import FIGURES

        terminalreporter.section("worst figures")
        for what, (share, error, limit, where) in sorted(FIGURES.items()):
            terminalreporter.write_line(f"{share:8.3f} of {limit:.2e}: {error:10.3e}  {what}  [{where}]")


@pytest.fixture(scope="session")
def root() -> Path:
    """Root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the golden numbers."""
    return ROOT / "tests" / "golden"
