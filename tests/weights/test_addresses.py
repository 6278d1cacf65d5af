"""Addresses and names: what is accepted, what is asked for, and the names of files made from them."""

import pytest

from mmseg.errors import CheckpointError
from mmseg.weights.addresses import HUB, addresses_of, safe_name
from mmseg.weights.store import cache_folder
from mmseg.weights.table import folder_of, is_remote, known_weights, reference_of

DRIVE = "https://drive.usercontent.google.com/download?id=1TwUh8H9flg-zUHZm&export=download&confirm=t"


@pytest.fixture(autouse=True)
def _no_endpoint(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)


@pytest.mark.parametrize(
    ("text", "url", "file"),
    [
        ("https://example.org/a/b.pth?x=1#part", "https://example.org/a/b.pth?x=1", "b.pth"),
        ("HTTPS://example.org/a b.pth", "https://example.org/a%20b.pth", "a_b.pth"),
        ("https:/example.org/b.pth", "https://example.org/b.pth", "b.pth"),
        ("https://example.org/", "https://example.org/", "file"),
        ("http://localhost:8000/x", "http://localhost:8000/x", "x"),
        ("http://[::1]:8000/x", "http://[::1]:8000/x", "x"),
        ("hf://o/r/dir/a%b.pth", f"{HUB}/o/r/resolve/main/dir/a%25b.pth", "a_b.pth"),
        ("hf:/o/r/a.pth@refs/pr/2", f"{HUB}/o/r/resolve/refs%2Fpr%2F2/a.pth", "a.pth"),
        ("https://huggingface.co/o/r/blob/main/a.pth", f"{HUB}/o/r/resolve/main/a.pth", "a.pth"),
        ("https://drive.google.com/file/d/1TwUh8H9flg-zUHZm/view?usp=sharing", DRIVE, "1TwUh8H9flg-zUHZm"),
        ("https://drive.google.com/uc?id=1TwUh8H9flg-zUHZm", DRIVE, "1TwUh8H9flg-zUHZm"),
    ],
)
def test_what_is_asked_for(text, url, file):
    (address,) = addresses_of(text)
    assert (address.url, address.file) == (url, file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://example.org/x.pth", "ftp:// is not supported"),
        ("s3://bucket/x.pth", "s3:// is not supported"),
        ("file:///etc/passwd", "file:// is not supported"),
        ("http://example.org/x.pth", "only https"),
        ("http://127.0.0.1.example.org/x", "only https"),
        ("https://me:secret@example.org/x.pth", "user name or password"),
        ("https://", "not a valid URL"),
        ("https://example.org:port/x", "not a valid URL"),
        ("https://exämple.org/x", "not a valid URL"),
        ("https://example.org /x\nHost: y", "not a valid URL"),
        ("hf://owner", "give hf://<owner>"),
        ("hf://../r/x.pth", "give hf://<owner>"),
        ("hf://o/r/../../x.pth", "its file is not one"),
        ("hf://o/r//x.pth", "its file is not one"),
        ("hf://o/r/x.pth@../main", "its revision is not one"),
        ("hf://o/r/x.pth@", "its revision is not one"),
        ("https://drive.google.com/drive/folders/1b7bwrInTW4VLEm27YawHOAMSMikga2Ia", "a page of Google Drive"),
        ("https://my-org.sharepoint.com/personal/x/trained_models", "page with a folder or a login"),
    ],
)
def test_addresses_that_are_refused(text, message):
    with pytest.raises(CheckpointError, match=message) as error:
        reference_of(text)
    assert "\n" not in str(error.value)


def test_a_bad_endpoint_is_named(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example.org")
    with pytest.raises(CheckpointError, match="HF_ENDPOINT=http://mirror"):
        reference_of("hf://o/r/x.pth")


@pytest.mark.parametrize("text", ["pretrained/mit_b5.pth", "mit_b7", "c:/x.pth", "C:\\x.pth", "a:b", "", "./https:"])
def test_paths(text):
    assert reference_of(text) is None
    assert not is_remote(text)


@pytest.mark.parametrize(
    "text", ["../../etc/passwd", "..", ".ssh", "\x00", "a" * 500, "é", "-rf", "x\n.pth", "CON/.lock"]
)
def test_names_of_files_are_plain(text):
    name = safe_name(text)
    assert name
    assert name[0] not in ".-"
    assert len(name) <= 80
    assert name.isascii()
    assert name.isprintable()
    assert "/" not in name


def test_the_table():
    known = known_weights()
    assert known.keys() >= {f"{stem}{number}" for stem in ("mit_b", "nvidia/mit-b") for number in range(6)}
    for name, reference in known.items():
        assert reference.what, name
        fetchable = [address for source in reference.sources for address in source.addresses()]
        assert fetchable, name
        assert all(address.url.startswith("https://") for address in fetchable)
        assert all(not source.sha256 or len(source.sha256) == 64 for source in reference.sources)


def test_where_results_of_downloaded_weights_go():
    assert folder_of("runs/a/iter_4.pth").as_posix() == "runs/a"
    assert folder_of("nvidia/mit-b5").as_posix() == "work_dirs/mit-b5"
    assert folder_of("hf://o/r/run/iter_4.pth").as_posix() == "work_dirs/iter_4"


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "home/.cache/cmda"),
        ("linux", {"XDG_CACHE_HOME": "/caches"}, "/caches/cmda"),
        ("darwin", {}, "home/Library/Caches/cmda"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/cmda"),
        ("win32", {"CMDA_HOME": "~/mine"}, "home/mine"),
    ],
)
def test_the_cache_folder(monkeypatch, tmp_path, platform, environment, expected):
    for name in ("CMDA_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": str(tmp_path / "home"), **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert cache_folder() == tmp_path / expected
