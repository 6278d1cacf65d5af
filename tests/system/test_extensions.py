"""Modules from outside are imported in processes that are spawned, too."""

import os
import sys

from mmseg.io.file_work import run_tasks
from mmseg.system import extensions


def test_workers_import_them(tmp_path, monkeypatch):
    (tmp_path / "their_extension.py").write_text("import os\nos.environ['THEIR_EXTENSION'] = 'imported'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(extensions, "_modules", ["their_extension"])
    tasks = ["THEIR_EXTENSION"] * 2
    assert [outcome for _, outcome in run_tasks(os.getenv, tasks, 2, "reading")] == ["imported"] * 2
    assert "their_extension" not in sys.modules
