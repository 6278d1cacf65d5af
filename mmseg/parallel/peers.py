"""How the processes of one training learn that another has ended.

Processes that train together wait for each other in compiled code. In addition to torch's connections, each keeps one
to the first process. A process that ends sends a message there, and a killed one leaves a closed connection; a thread
in each of the others notices it, so that they end too and name the cause.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mmseg.errors import CMDAError, Interrupted
from mmseg.system.signals import RELAY, say_and_exit, signal_name

POLL_SECONDS = 0.5
CONNECT_SECONDS = 30.0
# Time to find the cause of a broken connection.
CAUSE_SECONDS = 5.0
# Time for the main thread to leave a collective after another process has ended.
GRACE_SECONDS = 30.0


class Peers:
    """Context of one process of a distributed training.

    Without a connection (because of a firewall, for example) nothing is known about the others.

    Args:
        rank, world_size: of this process.
        gather: gathers an object of every process, by rank, in every process.
    """

    def __init__(self, rank: int, world_size: int, gather: Callable[[Any], list[Any]]) -> None:
        self.rank, self.world_size = rank, world_size
        self.leaving = False
        self.gone: set[int] = set()
        self.stop_number = 0
        self._reported: set[int] = set()
        self._stop_sent = False
        self._cause: CMDAError | None = None
        self._known = threading.Event()
        self._closed = threading.Event()
        self._sending = threading.Lock()
        server = _listen() if rank == 0 else None
        port = server.getsockname()[1] if server else 0
        self.places = gather((socket.gethostname(), os.getpid(), port, secrets.token_hex(16)))
        _, _, port, token = self.places[0]
        # rank -> connection: the first process has one to every other, those one to the first
        self._links: dict[int, socket.socket] = {}
        with suppress(OSError, ValueError):
            if server:
                self._links = _accept(server, token, world_size - 1)
            else:
                link = socket.create_connection((os.environ["MASTER_ADDR"], port), CONNECT_SECONDS)
                link.sendall(f"{token} {rank:8d}".encode())
                self._links = {0: link}
        self._received = dict.fromkeys(self._links, b"")
        self._watch = threading.Thread(target=self._run, name="peer watch", daemon=True)

    def __enter__(self) -> Peers:
        global _current
        _current = self
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        global _current
        _current = None
        if not self.leaving:
            self._send({"kind": "done", "rank": self.rank})
        self._closed.set()
        self._watch.join()
        for link in self._links.values():
            link.close()

    def notify(self, error: BaseException) -> None:
        """Tell the other processes how this one ends."""
        if self.rank in self._reported:
            return
        self.leaving = True
        self._reported.add(self.rank)
        text = str(error) or type(error).__name__
        self._send({"kind": "end", "rank": self.rank, "text": text, "number": getattr(error, "number", 0)})

    def cause(self, seconds: float) -> CMDAError | None:
        """Why another process ended; waits for the answer at most this long."""
        self._known.wait(seconds)
        return self._cause

    def _send(self, message: dict[str, Any], but: int = -1) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._sending:
            for rank, link in self._links.items():
                if rank != but:
                    with suppress(OSError):
                        link.sendall(line)

    def _run(self) -> None:
        since = 0.0
        while not self._closed.is_set():
            links = {link: rank for rank, link in self._links.items() if rank in self._received}
            if links:
                for link in select.select(list(links), [], [], POLL_SECONDS)[0]:
                    self._receive(links[link], link)
            else:
                self._closed.wait(POLL_SECONDS)
            if self.stop_number and not self._stop_sent:
                self._stop_sent = True
                self._send({"kind": "stop", "rank": self.rank, "number": self.stop_number})
            if self._cause is not None and not self.leaving:
                since = since or time.monotonic()
                if time.monotonic() - since > GRACE_SECONDS:
                    say_and_exit(f"{self._cause}; this process could not leave a wait for it", self._cause.status)

    def _receive(self, rank: int, link: socket.socket) -> None:
        try:
            data = link.recv(65536)
        except OSError:
            data = b""
        if not data:
            del self._received[rank]
            if rank not in self._reported:
                self._hear({"kind": "gone", "rank": rank}, rank)
            return
        *lines, self._received[rank] = (self._received[rank] + data).split(b"\n")
        for line in lines:
            with suppress(ValueError, KeyError):
                self._hear(json.loads(line), rank)

    def _hear(self, message: dict[str, Any], by: int) -> None:
        kind, rank = message["kind"], message["rank"]
        if self.rank == 0 and kind != "done":
            self._send(message, but=by)
        if kind == "stop":
            if not self._stop_sent:
                self._stop_sent = True
                self.stop_number = message["number"]
                # Interrupts what can be interrupted, and is not counted as a signal sent to this process.
                os.kill(os.getpid(), RELAY)
            return
        self._reported.add(rank)
        if kind == "gone":
            self.gone.add(rank)
        if kind != "done" and self._cause is None:
            self._cause = self._error_of(message)
            self._known.set()

    def _error_of(self, message: dict[str, Any]) -> CMDAError:
        rank = message["rank"]
        if message["kind"] == "gone":
            host, number, *_ = self.places[rank]
            return CMDAError(
                f"process {rank} of this training (number {number} of {host}) ended without a message: it was killed, "
                "perhaps because the machine ran out of memory, or it crashed; look at its output"
            )
        if message["number"]:
            text = f"process {rank} of this training was stopped by {signal_name(message['number'])}"
            return Interrupted(text, message["number"])
        return CMDAError(f"process {rank} of this training stopped: {message['text']}")


def _listen() -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def _accept(server: socket.socket, token: str, count: int) -> dict[int, socket.socket]:
    """Connections of the other processes by rank, which prove themselves by the token."""
    links: dict[int, socket.socket] = {}
    until = time.monotonic() + CONNECT_SECONDS
    with server:
        while len(links) < count:
            server.settimeout(max(0.01, until - time.monotonic()))
            link, _ = server.accept()
            link.settimeout(CONNECT_SECONDS)
            hello = b""
            while len(hello) < len(token) + 9 and (part := link.recv(len(token) + 9 - len(hello))):
                hello += part
            given, _, rank = hello.decode("ascii", "replace").partition(" ")
            if secrets.compare_digest(given.encode(), token.encode()):
                links[int(rank)] = link
            else:
                link.close()
    return links


_current: Peers | None = None


def stop_peers(number: int) -> int:
    """Make the other processes of a training stop too.

    Returns:
        The signal that stops all of them: the one that came first.
    """
    if _current is None:
        return number
    _current.stop_number = _current.stop_number or number
    return _current.stop_number


def peer_failure(error: BaseException) -> CMDAError | None:
    """Why another process of this training ended, if an error may result from that.

    Finding out takes a few seconds; from now on, this process is leaving.
    """
    peers = _current
    if peers is None or not isinstance(error, RuntimeError):
        return None
    peers.leaving = True
    return peers.cause(CAUSE_SECONDS)


def notify_peers(error: BaseException) -> None:
    """Tell the other processes of a training how this one ends."""
    if _current is not None:
        _current.notify(error)


def is_saving_rank(rank: int) -> bool:
    """Whether this process saves the common state: it is the first of those that were not killed."""
    if _current is None:
        return rank == 0
    return rank == min(set(range(_current.world_size)) - _current.gone)
