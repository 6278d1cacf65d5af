"""Weights in an archive, as published work dirs are."""

import io
import tarfile
import zipfile

import pytest
import torch
from helpers.file_server import serving

from mmseg.errors import CheckpointError
from mmseg.models.weights import load_file
from mmseg.weights.archives import weights_in
from mmseg.weights.store import local_file

STATE = {"state_dict": {"a": torch.arange(3.0)}}


@pytest.fixture
def checkpoint():
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    return buffer.getvalue()


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files, mode="w:gz", links=()):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [zipped, tarred, lambda files: tarred(files, "w")])
def test_a_published_work_dir(monkeypatch, tmp_path, checkpoint, pack):
    monkeypatch.setenv("CMDA_HOME", str(tmp_path))
    files = {"run/iter_40000.pth": checkpoint, "run/run.json": b"{}", "run/train.log": b"words"}
    with serving(pack(files)) as server:
        assert load_file(server.url("run.zip"))["state_dict"]["a"].tolist() == [0, 1, 2]
        path = local_file(server.url("run.zip"))
        assert len(server.requests) == 1
    assert path.name == "iter_40000.pth"
    assert sorted(p.name for p in path.parent.iterdir()) == ["iter_40000.pth", "run.json"]


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_pictures_and_companion_files_do_not_hide_weights(tmp_path, checkpoint, pack):
    """An archive made on macOS, with more pictures than files are unpacked."""
    pictures = {f"run/preds/{number}.png": b"" for number in range(1001)}
    path = tmp_path / "x"
    path.write_bytes(pack({**pictures, "run/iter_4.pth": checkpoint, "__MACOSX/run/._iter_4.pth": b"x"}))
    assert weights_in(path).read_bytes() == checkpoint


def test_a_torch_file_is_no_archive(tmp_path, checkpoint):
    path = tmp_path / "x.pth"
    path.write_bytes(checkpoint)
    assert weights_in(path) == path
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    assert weights_in(path) == path


def test_names_and_links_do_not_lead_out(tmp_path, checkpoint):
    path = tmp_path / "cache" / "x"
    path.parent.mkdir()
    path.write_bytes(tarred({"../../out.pth": checkpoint}, links=[("iter_1.pth", "/etc/passwd")]))
    assert weights_in(path).resolve().is_relative_to(path.parent)
    assert {p.name for p in tmp_path.iterdir()} == {"cache"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Rar!\x1a\x07\x00", "an archive of kind RAR: unpack it"),
        (b"\x1f\x8b" + b"x" * 50, "cannot be unpacked"),
        (zipped({"a.txt": b"x"}), "an archive with no file"),
        (zipped({"a.pth": b"x", "b.pth": b"y"}), r"several weight files \(.*a\.pth, .*b\.pth\); give the path of one"),
    ],
)
def test_archives_that_cannot_be_used(tmp_path, content, message):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        weights_in(path)
    assert {p.name for p in tmp_path.iterdir()} <= {"x", ".unpacked"}


def test_an_archive_larger_than_the_disk(tmp_path, monkeypatch, checkpoint):
    path = tmp_path / "x"
    path.write_bytes(zipped({"a.pth": checkpoint}))
    monkeypatch.setattr("mmseg.weights.archives.SPARE", 1 << 60)
    with pytest.raises(CheckpointError, match="unpacking takes"):
        weights_in(path)
