"""A server of files on this machine, which fails in the ways of real ones."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Reply:
    """What the server answers.

    Attributes:
        status: None serves the content: 200, or 206 where a part is asked for.
        headers: in addition.
        cut: close the connection after so many bytes of the body.
        hold: seconds before it is closed, at most until the server ends.
        body: of an answer with a status.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    hold: float = 0.0
    body: bytes = b""


@dataclass
class FileServer:
    """One file at any path.

    Attributes:
        content: bytes of the file.
        replies: of the next requests; afterwards the file is served.
        ranges: whether parts can be asked for.
        etag: None for that of the content, '' for no validator at all.
        length: whether the size is announced.
        on_body: called before a body is sent.
        requests: path and headers of every request.
    """

    content: bytes = b""
    replies: list[Reply] = field(default_factory=list)
    ranges: bool = True
    etag: str | None = None
    length: bool = True
    on_body: Callable[[], None] = lambda: None
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    port: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "weights.bin", host: str = "127.0.0.1") -> str:
        """URL of a path."""
        return f"http://{host}:{self.port}/{path}"

    @property
    def asked_parts(self) -> list[str]:
        """Header ``Range`` of every request, '' for the whole file."""
        return [headers.get("Range", "") for _, headers in self.requests]


def _handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests.append((self.path, dict(self.headers)))
            reply = server.replies.pop(0) if server.replies else Reply()
            body, headers = reply.body, dict(reply.headers)
            status = reply.status
            if status is None:
                status, body = 200, server.content
                etag = server.etag if server.etag is not None else f'"{hashlib.md5(body).hexdigest()}"'
                if etag:
                    headers.setdefault("ETag", etag)
                start = self.headers.get("Range", "").removeprefix("bytes=").removesuffix("-")
                if server.ranges and start and self.headers.get("If-Range") in (None, etag):
                    if int(start) >= len(body):
                        status, headers["Content-Range"], body = 416, f"bytes */{len(body)}", b""
                    else:
                        status, headers["Content-Range"] = 206, f"bytes {start}-{len(body) - 1}/{len(body)}"
                        body = body[int(start) :]
            self.send_response(status)
            if server.length:
                headers.setdefault("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            server.on_body()
            self.wfile.write(body if reply.cut is None else body[: reply.cut])
            server.ended.wait(reply.hold)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def serving(content: bytes = b"", **options) -> Iterator[FileServer]:
    """A server in a thread; arguments are those of :class:`FileServer`."""
    server = FileServer(content, **options)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    http.daemon_threads = True
    server.port = http.server_port
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        http.shutdown()
        http.server_close()
        thread.join()
