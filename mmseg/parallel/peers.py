"""What the processes of one training know of each other's ends.

Processes that train together wait for each other in compiled code. Each keeps a connection to the first one, beside
those of torch. Whichever ends leaves word there, and one that was killed leaves a closed connection; a thread in each
of the others learns of it, so that they end too and name the cause.
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
# How long to look for the cause of a broken connection.
CAUSE_SECONDS = 5.0
# How long the main thread may stay in a connection that another process has left.
GRACE_SECONDS = 30.0


class Peers:
    """Context of one process in a training by several.

    Without a connection (a firewall between machines, say) nothing is known of the others.

    Args:
        rank, world: which of how many processes this is.
        gather: gives an object of every process, by rank, in every process.
    """

    def __init__(self, rank: int, world: int, gather: Callable[[Any], list[Any]]) -> None:
        self.rank, self.world = rank, world
        self.leaving = False
        self.gone: set[int] = set()
        self.stop_number = 0
        self._told: set[int] = set()
        self._stop_told = False
        self._cause: CMDAError | None = None
        self._known = threading.Event()
        self._closed = threading.Event()
        self._sending = threading.Lock()
        server = _listen() if rank == 0 else None
        port = server.getsockname()[1] if server else 0
        self.places = gather((socket.gethostname(), os.getpid(), port, secrets.token_hex(16)))
        _, _, port, token = self.places[0]
        # rank -> connection: of the first process all others, of these the first
        self._links: dict[int, socket.socket] = {}
        with suppress(OSError, ValueError):
            if server:
                self._links = _accept(server, token, world - 1)
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

    def tell(self, error: BaseException) -> None:
        """Leave word of how this process ends."""
        if self.rank in self._told:
            return
        self.leaving = True
        self._told.add(self.rank)
        text = str(error) or type(error).__name__
        self._send({"kind": "end", "rank": self.rank, "text": text, "number": getattr(error, "number", 0)})

    def cause(self, seconds: float) -> CMDAError | None:
        """Why another process ended, once that is known; at most so long is waited for it."""
        self._known.wait(seconds)
        return self._cause

    def _send(self, word: dict[str, Any], but: int = -1) -> None:
        line = json.dumps(word).encode() + b"\n"
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
            if self.stop_number and not self._stop_told:
                self._stop_told = True
                self._send({"kind": "stop", "rank": self.rank, "number": self.stop_number})
            if self._cause is not None and not self.leaving:
                since = since or time.monotonic()
                if time.monotonic() - since > GRACE_SECONDS:
                    say_and_exit(f"{self._cause}; this process waited for it in vain", self._cause.status)

    def _receive(self, rank: int, link: socket.socket) -> None:
        try:
            data = link.recv(65536)
        except OSError:
            data = b""
        if not data:
            del self._received[rank]
            if rank not in self._told:
                self._hear({"kind": "gone", "rank": rank}, rank)
            return
        *lines, self._received[rank] = (self._received[rank] + data).split(b"\n")
        for line in lines:
            with suppress(ValueError, KeyError):
                self._hear(json.loads(line), rank)

    def _hear(self, word: dict[str, Any], by: int) -> None:
        kind, rank = word["kind"], word["rank"]
        if self.rank == 0 and kind != "done":
            self._send(word, but=by)
        if kind == "stop":
            if not self._stop_told:
                self._stop_told = True
                self.stop_number = word["number"]
                # It breaks off what can be broken off, and counts beside no signal that this process is sent itself.
                os.kill(os.getpid(), RELAY)
            return
        self._told.add(rank)
        if kind == "gone":
            self.gone.add(rank)
        if kind != "done" and self._cause is None:
            self._cause = self._error_of(word)
            self._known.set()

    def _error_of(self, word: dict[str, Any]) -> CMDAError:
        rank = word["rank"]
        if word["kind"] == "gone":
            host, number, *_ = self.places[rank]
            return CMDAError(
                f"process {rank} of this training (number {number} of {host}) ended without a word: it was killed, by "
                "somebody or for want of memory, or it crashed; look at what it printed"
            )
        if word["number"]:
            text = f"process {rank} of this training was stopped by {signal_name(word['number'])}"
            return Interrupted(text, word["number"])
        return CMDAError(f"process {rank} of this training stopped: {word['text']}")


def _listen() -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def _accept(server: socket.socket, token: str, count: int) -> dict[int, socket.socket]:
    """Connections of the other processes, by rank; they know the token."""
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
    """Have the other processes of a training told to stop, too.

    Returns:
        The signal that tells all of them to stop: that of the first that heard of it.
    """
    if _current is None:
        return number
    _current.stop_number = _current.stop_number or number
    return _current.stop_number


def peer_failure(error: BaseException) -> CMDAError | None:
    """Why another process of this training ended, where an error may come of that.

    It takes a few seconds to find out; meanwhile and from then on, this process is on its way out.
    """
    peers = _current
    if peers is None or not isinstance(error, RuntimeError):
        return None
    peers.leaving = True
    return peers.cause(CAUSE_SECONDS)


def notify_peers(error: BaseException) -> None:
    """Leave word of how this process ends, for the others."""
    if _current is not None:
        _current.tell(error)


def is_saving_rank(rank: int) -> bool:
    """Whether this process saves the state that all of them hold: the first of those that were not killed."""
    if _current is None:
        return rank == 0
    return rank == min(set(range(_current.world)) - _current.gone)
