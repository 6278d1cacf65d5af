"""Downloads of weights from a server on this machine that fails in the ways of real ones."""

import hashlib
import io
import multiprocessing
import os
import shutil
import signal
import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from helpers.file_server import Reply, serving
from rich.console import Console

from mmseg.commands import weights as command
from mmseg.errors import CheckpointError
from mmseg.system.signals import StopNow, signals_handled, stop_now
from mmseg.weights import download as downloads
from mmseg.weights.store import cache_folder, check_stored, fetch, local_file, stored
from mmseg.weights.table import Reference, Source, reference_of

CONTENT = bytes(range(256)) * 4000  # about 1 MB, four blocks


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CMDA_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pauses(monkeypatch):
    """Pauses between attempts, which are not waited for."""
    waited = []
    monkeypatch.setattr(downloads, "pause", waited.append)
    return waited


@pytest.fixture(autouse=True)
def _no_waiting(pauses, home):
    """Every test has its own cache and waits for nothing."""


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def files_in(home):
    return sorted(p.name for p in home.rglob("*") if p.is_file())


def of_sources(*sources):
    return Reference("some_name", "some_name", [s if isinstance(s, Source) else Source(s) for s in sources])


def test_a_file_is_downloaded_once(home, capsys):
    with serving(CONTENT) as server:
        path = local_file(server.url("models/mit%20b5.pth?x=1"))
        assert local_file(server.url("models/mit%20b5.pth?x=1")) == path
        assert len(server.requests) == 1
    assert path.read_bytes() == CONTENT
    assert path.name == "mit_b5.pth"
    assert path.is_relative_to(home)
    assert "downloading" in capsys.readouterr().err


def test_a_terminal_shows_a_bar():
    shown = io.StringIO()
    with serving(CONTENT) as server:
        local_file(server.url("[bold]x.pth"), Console(file=shown, force_terminal=True, width=120))
    assert "bold_x.pth" in shown.getvalue()
    assert "1.0/1.0 MB" in shown.getvalue()


def test_what_is_a_path_stays_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert local_file("some/file.pth") == Path("some/file.pth")
    (tmp_path / "mit_b5").touch()
    assert reference_of("mit_b5") is None


def test_a_cut_connection_is_resumed(pauses):
    with serving(CONTENT, replies=[Reply(cut=300_000), Reply(cut=500_000)]) as server:
        path = local_file(server.url())
        assert path.read_bytes() == CONTENT
        first, second = (int(part[6:-1]) for part in server.asked_parts[1:])
        assert server.asked_parts[0] == ""
        assert 0 < first < second
        assert {headers.get("If-Range") for _, headers in server.requests[1:]} == {
            f'"{hashlib.md5(CONTENT).hexdigest()}"'
        }
    assert pauses == [1.0, 1.0]


def test_the_next_call_resumes_after_several_failures(home):
    replies = [Reply(cut=300_000), *[Reply(503)] * downloads.ATTEMPTS]
    with serving(CONTENT, replies=replies) as server:
        with pytest.raises(CheckpointError, match=r"HTTP status 503.*put it at"):
            local_file(server.url())
        assert any(name.endswith(".part") for name in files_in(home))
        assert "weights.bin" not in files_in(home)
        assert local_file(server.url()).read_bytes() == CONTENT
        assert server.asked_parts[-1].startswith("bytes=")
    assert not any(".part" in name for name in files_in(home))


@pytest.mark.parametrize("how", ["no parts", "no validator", "weak validator"])
def test_a_server_that_cannot_send_parts_starts_again(how):
    options = {"no parts": {"ranges": False}, "no validator": {"etag": ""}, "weak validator": {"etag": 'W/"1"'}}[how]
    with serving(CONTENT, replies=[Reply(cut=300_000)], **options) as server:
        assert local_file(server.url()).read_bytes() == CONTENT
        assert len(server.requests) == 2


def test_a_server_that_always_cuts_and_cannot_resume_is_given_up():
    with serving(CONTENT, replies=[Reply(cut=300_000)] * 50, ranges=False) as server:
        with pytest.raises(CheckpointError, match="cut after"):
            local_file(server.url())
        assert len(server.requests) <= downloads.ATTEMPTS + 2


def test_a_date_is_a_validator_too():
    date = {"Last-Modified": formatdate(1, usegmt=True)}
    with serving(CONTENT, etag="", replies=[Reply(cut=300_000, headers=date)]) as server:
        assert local_file(server.url()).read_bytes() == CONTENT
        assert server.requests[1][1]["If-Range"] == date["Last-Modified"]


def test_a_file_that_changes_between_two_parts_is_not_mixed():
    with serving(CONTENT, replies=[Reply(cut=300_000)]) as server:
        server.on_body = lambda: setattr(server, "content", CONTENT[::-1])
        assert local_file(server.url()).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 5-10/1024000"},
        {"Content-Range": "what"},
        {},
        {"Content-Range": f"bytes 262144-{len(CONTENT) - 1}/{len(CONTENT)}", "ETag": '"other"'},
        {"Content-Range": f"bytes 262144-{len(CONTENT)}/{len(CONTENT) + 1}"},
    ],
)
def test_a_wrong_part_is_not_appended(headers):
    replies = [Reply(cut=262_144), Reply(206, headers, body=b"x" * 100)]
    with serving(CONTENT, replies=replies) as server:
        assert local_file(server.url()).read_bytes() == CONTENT


def test_a_complete_part_needs_its_name_only(home):
    """The process was killed before it renamed the file."""
    with serving(CONTENT) as server:
        path = local_file(server.url())
        part = path.with_name(f".{path.name}.part")
        path.rename(part)
        part.with_name(f"{part.name}.json").write_text(
            f'{{"validator": "\\"{hashlib.md5(CONTENT).hexdigest()}\\"", "total": {len(CONTENT)}}}'
        )
        assert local_file(server.url()).read_bytes() == CONTENT
        assert server.asked_parts[-1] == f"bytes={len(CONTENT)}-"
        assert len(server.requests) == 2


def test_a_length_that_is_not_reached_is_a_cut(home):
    lies = {"Content-Length": str(len(CONTENT) + 7)}
    with (
        serving(CONTENT, etag="", replies=[Reply(headers=lies)] * 9) as server,
        pytest.raises(CheckpointError, match=f"cut after {len(CONTENT)} of {len(CONTENT) + 7} bytes"),
    ):
        local_file(server.url())
    assert "weights.bin" not in files_in(home)


def test_a_file_of_unknown_length_ends_with_the_connection():
    with serving(CONTENT, length=False) as server:
        assert local_file(server.url()).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [400, 403, 404, 410, 501])
def test_a_refusal_is_not_repeated(status, pauses):
    with serving(replies=[Reply(status)] * 3) as server:
        with pytest.raises(CheckpointError, match=f"HTTP status {status}") as error:
            local_file(server.url())
        assert len(server.requests) == 1
        assert str(cache_folder()) in str(error.value)
    assert pauses == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_when_it_says(status, pauses):
    date = formatdate(time.time() + 20, usegmt=True)
    replies = [Reply(status, {"Retry-After": "7"}), Reply(status, {"Retry-After": date}), Reply(status), Reply(status)]
    with serving(CONTENT, replies=replies) as server:
        assert local_file(server.url()).read_bytes() == CONTENT
    assert pauses[0] == 7
    assert 15 < pauses[1] <= 20
    assert pauses[2:] == [4.0, 8.0]


def test_a_server_that_asks_to_wait_for_hours_is_given_up(pauses):
    with (
        serving(replies=[Reply(429, {"Retry-After": "7200"})]) as server,
        pytest.raises(CheckpointError, match="asks to wait 7200 s"),
    ):
        local_file(server.url())
    assert pauses == []


def test_the_hash_of_the_table_is_checked(home):
    right = Source("", sha256(CONTENT), len(CONTENT))
    with serving(CONTENT) as server:
        with pytest.raises(CheckpointError, match=f"SHA-256 is {sha256(CONTENT)}, and {'0' * 64} according"):
            fetch(of_sources(Source(server.url("a"), "0" * 64)))
        with pytest.raises(CheckpointError, match="1024000 bytes, and 5 according"):
            fetch(of_sources(Source(server.url("b"), size=5)))
        assert [name for name in files_in(home) if not name.startswith(".lock")] == []
        assert fetch(of_sources(Source(server.url("c"), right.sha256, right.size))).sha256 == sha256(CONTENT)


def test_an_unknown_hash_is_recorded_and_compared(home):
    with serving(CONTENT) as server:
        path = local_file(server.url())
        found = stored(reference_of(server.url()))
        assert (found.sha256, found.size) == (sha256(CONTENT), len(CONTENT))
        assert check_stored(found) == ""
        path.write_bytes(CONTENT[::-1])
        assert "when it arrived" in check_stored(found)
        path.unlink()
        server.content = CONTENT[1:]
        with pytest.raises(CheckpointError, match=r"has changed since .*@<revision>"):
            local_file(server.url())
        assert not path.exists()
        server.content = CONTENT
        assert local_file(server.url()).read_bytes() == CONTENT


def test_a_shortened_file_of_the_cache_is_fetched_again():
    with serving(CONTENT) as server:
        path = local_file(server.url())
        path.write_bytes(CONTENT[:5])
        assert local_file(server.url()).read_bytes() == CONTENT


def test_a_file_put_there_by_hand_is_taken(home):
    reference = of_sources("http://127.0.0.1:9/gone.pth")
    with pytest.raises(CheckpointError, match="put it at") as error:
        fetch(reference)
    place = Path(str(error.value).split("put it at ")[1].split(", or")[0])
    place.write_bytes(CONTENT)
    found = fetch(reference)
    assert (found.path, found.sha256) == (place, sha256(CONTENT))
    place.with_name(".record.json").unlink()
    with pytest.raises(CheckpointError, match="is expected"):
        fetch(of_sources(Source("http://127.0.0.1:9/gone.pth", "0" * 64)))


def test_the_next_source_is_tried_and_named(capsys):
    page = Reply(200, {"Content-Type": "text/html; charset=utf-8"}, body=b"<html>please log in")
    with serving(CONTENT, replies=[Reply(404), page]) as server:
        by_hand = Source("https://example.org/folder", by_hand="a page that links to folders")
        reference = of_sources(by_hand, server.url("a.pth"), server.url("b.pth"), server.url("c.pth"))
        assert fetch(reference).address == server.url("c.pth")
        shown = capsys.readouterr().err
        assert f"a.pth: HTTP status 404 (Not Found); trying {server.url('b.pth')}" in shown
        assert "b.pth: it answers with a web page, not a file: a login, a confirmation, or an error; trying" in shown
        assert fetch(reference).address == server.url("c.pth")
        assert len(server.requests) == 3
        server.replies = [Reply(404)] * 2
        with pytest.raises(CheckpointError) as error:
            fetch(of_sources(by_hand, server.url("d.pth"), server.url("e.pth")))
    for part in ("d.pth: HTTP", "e.pth: HTTP", "folder is a page", "put it at"):
        assert part in str(error.value)


def test_a_redirect_is_followed():
    with serving(CONTENT) as server:
        server.replies = [Reply(302, {"Location": "/elsewhere"}), Reply(307, {"Location": server.url("file")})]
        assert local_file(server.url()).read_bytes() == CONTENT
        assert [path for path, _ in server.requests] == ["/weights.bin", "/elsewhere", "/file"]


@pytest.mark.parametrize(
    "target",
    ["ftp://example.org/x", "file:///etc/passwd", "http://example.org/x", "https://u:p@example.org/x", "https://"],
)
def test_a_redirect_to_another_scheme_is_not_followed(target):
    with (
        serving(replies=[Reply(302, {"Location": target})]) as server,
        pytest.raises(CheckpointError, match=r"redirects to .* not followed"),
    ):
        local_file(server.url())


def test_redirects_in_a_circle_end():
    with serving(replies=[Reply(301, {"Location": "/again"})] * 50) as server:
        with pytest.raises(CheckpointError, match="redirects more than"):
            local_file(server.url())
        assert len(server.requests) < 12


def test_a_token_goes_to_its_host_only(monkeypatch):
    with serving(CONTENT) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url("")[:-1])
        monkeypatch.setenv("HF_TOKEN", "secret")
        elsewhere = {"Location": server.url("cdn/file", host="localhost"), "X-Linked-Etag": f'"{sha256(CONTENT)}"'}
        server.replies = [
            Reply(307, {"Location": "/renamed/repo", "X-Repo-Commit": "c0ffee"}),
            Reply(302, elsewhere),
        ]
        found = fetch(reference_of("hf://owner/repo/some/file.pth@v1.0"))
        assert found.commit == "c0ffee"
        assert found.address == "hf://owner/repo/some/file.pth@v1.0"
        paths = [path for path, _ in server.requests]
        assert paths == ["/owner/repo/resolve/v1.0/some/file.pth", "/renamed/repo", "/cdn/file"]
        assert [h.get("Authorization") for _, h in server.requests] == ["Bearer secret", "Bearer secret", None]
        local_file(server.url("no/hub"))
        assert server.requests[-1][1].get("Authorization") is None


def test_the_hash_that_hugging_face_promises_is_checked(monkeypatch):
    with serving(CONTENT) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url("")[:-1])
        monkeypatch.delenv("HF_TOKEN", raising=False)
        server.replies = [Reply(302, {"Location": "/file", "X-Linked-Etag": f'"{"0" * 64}"'})]
        with pytest.raises(CheckpointError, match="according to Hugging Face"):
            local_file("hf://owner/repo/file.pth")
        server.replies = [Reply(401)]
        with pytest.raises(CheckpointError, match="set HF_TOKEN"):
            local_file("hf://owner/repo/private.pth")


def test_the_promised_hash_is_checked_when_nothing_is_left_to_download(monkeypatch):
    with serving(CONTENT) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url("")[:-1])
        path = local_file("hf://owner/repo/file.pth")
        part = path.with_name(f".{path.name}.part")
        path.rename(part)
        etag = hashlib.md5(CONTENT).hexdigest()
        part.with_name(f"{part.name}.json").write_text(f'{{"validator": "\\"{etag}\\"", "total": {len(CONTENT)}}}')
        server.replies = [Reply(302, {"Location": "/file", "X-Linked-Etag": f'"{"0" * 64}"'})]
        with pytest.raises(CheckpointError, match="according to Hugging Face"):
            local_file("hf://owner/repo/file.pth")
        assert server.asked_parts[-1] == f"bytes={len(CONTENT)}-"
        assert not part.exists()


def test_a_repository_without_a_file_prefers_safetensors(monkeypatch):
    with serving(CONTENT, replies=[Reply(404)]) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url("")[:-1])
        assert local_file("nvidia/mit-b5").name == "pytorch_model.bin"
        assert [path.rpartition("/")[2] for path, _ in server.requests] == ["model.safetensors", "pytorch_model.bin"]
        assert local_file("hf://nvidia/mit-b4").name == "model.safetensors"


def test_a_full_disk_is_noticed_before(monkeypatch, home):
    free = shutil.disk_usage(home.parent)._replace(free=downloads.SPARE + len(CONTENT) - 1)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: free)
    with serving(CONTENT) as server, pytest.raises(CheckpointError, match=r"needs 1 MB more.*CMDA_HOME"):
        local_file(server.url())
    assert "weights.bin" not in files_in(home)


def test_a_disk_that_fills_meanwhile(monkeypatch, home):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def write(self, block):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloads, "open_bytes_to_append", lambda path: Full())
    with serving(CONTENT) as server, pytest.raises(CheckpointError, match=r"no space left.*CMDA_HOME"):
        local_file(server.url())
    assert [name for name in files_in(home) if name != ".lock"] == []


def test_a_folder_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CMDA_HOME", str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match=r"cannot be written.*set CMDA_HOME"):
        local_file("http://127.0.0.1:9/x.pth")


def test_an_unreachable_server_is_tried_twice(pauses):
    with pytest.raises(CheckpointError, match=r"127\.0\.0\.1 was not reached"):
        local_file("http://127.0.0.1:9/x.pth")
    assert pauses == [1.0]


def test_ctrl_c_keeps_what_arrived(home):
    stalled = Reply(headers={"Content-Length": str(len(CONTENT))}, cut=300_000, hold=5)
    with serving(CONTENT, replies=[stalled]) as server:
        server.on_body = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start
        with signals_handled(stop_now), pytest.raises(StopNow):
            local_file(server.url())
        server.on_body = lambda: None
        assert ".weights.bin.part" in files_in(home)
        assert "weights.bin" not in files_in(home)
        assert local_file(server.url()).read_bytes() == CONTENT
        assert server.asked_parts[-1].startswith("bytes=")


def _fetch_in_process(url, queue):
    queue.put(local_file(url).read_bytes() == CONTENT)


def test_two_processes_download_once(capfd):
    context = multiprocessing.get_context("fork")
    with serving(CONTENT) as server:
        server.on_body = lambda: time.sleep(0.3)
        queue = context.Queue()
        processes = [
            context.Process(target=_fetch_in_process, args=(server.url(), queue), daemon=True) for _ in range(2)
        ]
        for process in processes:
            process.start()
        assert [queue.get(timeout=20) for _ in processes] == [True, True]
        for process in processes:
            process.join(10)
        assert len(server.requests) == 1
    assert "waiting for another process that downloads weights.bin" in capfd.readouterr().err


def test_the_lock_of_a_killed_process_is_free():
    with serving(CONTENT, replies=[Reply(cut=300_000)]) as server:
        started = threading.Event()
        server.on_body = started.set
        context = multiprocessing.get_context("fork")
        process = context.Process(target=_hang_after_first, args=(server.url(),), daemon=True)
        process.start()
        assert started.wait(10)
        time.sleep(0.2)
        process.kill()
        process.join()
        assert local_file(server.url()).read_bytes() == CONTENT


def _hang_after_first(url):
    downloads.pause = lambda seconds: time.sleep(60)
    local_file(url)


def run_command(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["weights.py", *words])
    status = 0
    try:
        command.main()
    except SystemExit as end:
        status = end.code
    return status, capsys.readouterr()


def test_the_command(monkeypatch, capsys, home):
    status, shown = run_command(monkeypatch, capsys, "verify")
    assert (status, "the cache is empty" in shown.out) == (0, True)
    with serving(CONTENT, replies=[Reply(404)]) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url("")[:-1])
        status, shown = run_command(monkeypatch, capsys, "fetch", "mit_b0", "nvidia/mit-b0")
    assert status == 0
    path = Path(shown.out.splitlines()[0])
    assert path.read_bytes() == CONTENT
    assert f"SHA-256 {sha256(CONTENT)}" in shown.out
    status, shown = run_command(monkeypatch, capsys, "list")
    assert "mit_b0: MiT-b0 encoder of SegFormer, trained on ImageNet-1k (in the cache, 1.0 MB)" in shown.out
    assert str(home) in shown.out
    assert run_command(monkeypatch, capsys, "verify", "mit_b0")[0] == 0
    path.write_bytes(CONTENT[::-1])
    status, shown = run_command(monkeypatch, capsys, "verify")
    assert status == 1
    assert f"remove {path}" in shown.out
    with pytest.raises(CheckpointError, match="mit_b1: not in the cache"):
        run_command(monkeypatch, capsys, "verify", "mit_b1")
    with pytest.raises(CheckpointError, match="did you mean 'mit_b"):
        run_command(monkeypatch, capsys, "fetch", "mit_b7")
    assert run_command(monkeypatch, capsys, "fetch")[0] == 2
