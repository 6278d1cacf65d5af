"""One request for a file: redirects, credentials, and which failures are worth another try."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from email.utils import parsedate_to_datetime
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import mmseg
from mmseg.errors import first_line
from mmseg.weights.addresses import Address, BadAddress, check_url, is_loopback

TIMEOUT_SECONDS = 30.0
MOST_REDIRECTS = 8
REDIRECTS = (301, 302, 303, 307, 308)
# Statuses of a server that may answer later.
BUSY = (408, 425, 429, 500, 502, 503, 504)
RANGE_NOT_SATISFIABLE = 416
# Headers of Hugging Face: SHA-256 of a large file, and the commit of a branch. They come with a redirect to the file.
LINKED_HASH, COMMIT = "X-Linked-Etag", "X-Repo-Commit"


class Unavailable(Exception):
    """The file cannot be had from this source, however often it is tried."""


class Passing(Exception):
    """A failure that may pass.

    Attributes:
        wait: seconds that the server asks to wait; None if it does not say.
        offline: the server was not reached.
    """

    def __init__(self, message: str, wait: float | None = None, offline: bool = False) -> None:
        super().__init__(message)
        self.wait = wait
        self.offline = offline


class NothingMore(Exception):
    """The file has no bytes after those that a request left out (status 416).

    Attributes:
        content_range: header ``Content-Range``, which names the size of the file.
        linked: headers of Hugging Face, see :data:`LINKED_HASH`.
    """

    def __init__(self, content_range: str, linked: dict[str, str]) -> None:
        super().__init__(f"status 416, {content_range}")
        self.content_range = content_range
        self.linked = linked


@dataclass
class Answer:
    """Answer of a server to a request for a file.

    Attributes:
        response: body, status and headers.
        linked: headers of Hugging Face, see :data:`LINKED_HASH`.
    """

    response: http.client.HTTPResponse
    linked: dict[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str:
        """A header, '' if there is none."""
        return self.response.headers.get(name) or ""


class _NoRedirects(HTTPRedirectHandler):
    """Leaves redirects to :func:`open_address`, which checks where they lead."""

    def http_error_302(self, req, fp, code, msg, headers):
        return None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


@contextmanager
def open_address(address: Address, headers: Mapping[str, str]) -> Iterator[Answer]:
    """Ask for a file and follow redirects: to https only, with a token for the first host only.

    ``HF_TOKEN`` is sent to Hugging Face (or ``HF_ENDPOINT``) for addresses ``hf://``.

    Args:
        headers: of the request, such as ``Range``.

    Raises:
        Unavailable: a refusal, or a redirect that is not followed.
        Passing: the server is busy or was not reached.
        NothingMore: the request left out the whole file.
    """
    url, linked = address.url, dict[str, str]()
    token = os.environ.get("HF_TOKEN", "").strip() if address.is_hub else ""
    for _ in range(MOST_REDIRECTS + 1):
        request = Request(url, headers={"User-Agent": f"cmda/{mmseg.__version__}", **headers})
        if token and _place(url) == _place(address.url):
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        try:
            response = _opener(url).open(request, timeout=TIMEOUT_SECONDS)
        except HTTPError as error:
            with error:
                location = error.headers.get("Location") if error.code in REDIRECTS else None
                _note_linked(error.headers, linked, address, url)
                if error.code == RANGE_NOT_SATISFIABLE:
                    raise NothingMore(error.headers.get("Content-Range") or "", linked) from error
                if location is None:
                    raise _failure(error, address, bool(token)) from error
                url = _redirected(url, location)
            continue
        except BadAddress as error:
            raise Unavailable(str(error)) from error
        except (URLError, OSError, http.client.HTTPException) as error:
            raise _unreached(error, url) from error
        with response:
            _note_linked(response.headers, linked, address, url)
            yield Answer(response, linked)
        return
    raise Unavailable(f"it redirects more than {MOST_REDIRECTS} times")


def _opener(url: str):
    # A proxy of the network does not reach this machine.
    local = is_loopback(urlsplit(url).hostname or "")
    return build_opener(_NoRedirects(), ProxyHandler({} if local else None))


def _place(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _note_linked(headers: Message, linked: dict[str, str], address: Address, url: str) -> None:
    """Keep what Hugging Face itself says of a file; what it redirects to may say anything."""
    if address.is_hub and _place(url) == _place(address.url):
        linked.update({name: value.strip('"') for name in (LINKED_HASH, COMMIT) if (value := headers.get(name))})


def _redirected(url: str, location: str) -> str:
    target = urljoin(url, location).split("#")[0]
    try:
        # From a server elsewhere, nothing on this machine is reached.
        check_url(target, insecure=urlsplit(url).scheme == "http")
    except BadAddress as error:
        raise Unavailable(f"it redirects to {target[:200]}, which is not followed: {error}") from error
    return target


def _failure(error: HTTPError, address: Address, had_token: bool) -> Exception:
    reason = f"HTTP status {error.code} ({error.reason})"
    if error.code in BUSY:
        return Passing(reason, _wait_asked(error.headers.get("Retry-After") or ""))
    if error.code in (401, 403) and address.is_hub:
        remedy = "HF_TOKEN has no access to it" if had_token else "for a private or gated file, set HF_TOKEN"
        return Unavailable(f"{reason}; {remedy}")
    return Unavailable(reason)


def _wait_asked(text: str) -> float | None:
    """Seconds of a header ``Retry-After``, a number or a date; None if it is neither."""
    if text.strip().isdigit():
        return float(text.strip()[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _unreached(error: Exception, url: str) -> Exception:
    """A failure before the answer: no network, no such host, no valid certificate."""
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    host = urlsplit(url).hostname
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Unavailable(f"the certificate of {host} is not valid ({cause.verify_message})")
    if isinstance(cause, socket.gaierror):
        return Passing(f"{host} is unknown here ({cause.strerror or first_line(cause)})", offline=True)
    offline = isinstance(cause, (ConnectionRefusedError, TimeoutError)) or not isinstance(cause, ConnectionError)
    text = getattr(cause, "strerror", None) or first_line(cause)
    return Passing(f"{host} was not reached ({text})", offline=offline)
