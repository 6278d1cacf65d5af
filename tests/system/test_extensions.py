"""Modules from outside are imported in processes that are spawned, too."""

import os
import sys

from mmseg.io.file_work import run_tasks
from mmseg.system import extensions


def test_workers_import_them(tmp_path, monkeypatch):
    for name in ("right", "wrong"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "their_extension.py").write_text(f"import os\nos.environ['THEIR_EXTENSION'] = '{name}'\n")
    monkeypatch.syspath_prepend(str(tmp_path / "wrong"))
    monkeypatch.setattr(extensions, "_modules", {"their_extension": str(tmp_path / "right")})
    tasks = ["THEIR_EXTENSION"] * 2
    assert [outcome for _, outcome in run_tasks(os.getenv, tasks, 2, "reading")] == ["right"] * 2
    assert "their_extension" not in sys.modules
