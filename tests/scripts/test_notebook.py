"""The notebook: it runs from top to bottom, and is stored without outputs."""

import json
import os
import re
import shutil

import pytest
from helpers.script_tools import ROOT

NOTEBOOK = ROOT / "notebooks" / "toy_city.ipynb"


def test_notebook_is_stored_without_outputs():
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert set(content["metadata"]) == {"kernelspec", "language_info"}
    cells = content["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        assert set(cell["metadata"]) <= {"tags"}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None), "clear all outputs before saving"


@pytest.mark.slow
def test_notebook_runs(toy_city, tmp_path, monkeypatch):
    """With the smallest sizes, in a folder outside of the repository; it finds its city already made."""
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    pytest.importorskip("ipykernel", reason="needs nbclient and ipykernel")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    parameters.source, changed = re.subn(r'"small", 100', '"tiny", 1', parameters.source)
    assert changed == 1
    paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    shutil.copytree(toy_city, tmp_path / "toy_city_notebook" / "city_tiny")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 5
    printed = "".join(output.text for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output)
    assert re.search(r"fusion  mean IoU +\d+\.\d %", printed)
    assert re.search(r"\d+\.\d % of the image", printed)
    assert {path.name for path in tmp_path.iterdir()} <= {"toy_city_notebook", "ipython"}
