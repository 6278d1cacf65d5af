"""Addresses of weight files: what is accepted, and the URL that a program has to ask for."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlsplit

HUB = "https://huggingface.co"
# Weight files of a Hugging Face repository, the safer format first.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
# Characters of a file name in the cache.
LONGEST_FILE_NAME = 80
# At least two letters: one is a drive. Path() drops the second slash.
_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/{1,3}(?P<rest>.*)", re.DOTALL)
_HUB_NAME = re.compile(r"(?![.-])[A-Za-z0-9._-]{1,96}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
# Sites that show a page with a login or a folder instead of a file.
_SHARED_FOLDERS = ("1drv.ms", "onedrive.live.com", "sharepoint.com", "pan.baidu.com", "mega.nz")


class BadAddress(ValueError):
    """An address that cannot be used. The message does not repeat it."""


@dataclass(frozen=True)
class Address:
    """Where a file is.

    Attributes:
        text: canonical form, under which it is cached: equal texts mean the same file.
        url: what is asked for.
        file: safe name for the file.
        is_hub: on Hugging Face, where a token may be sent.
    """

    text: str
    url: str
    file: str
    is_hub: bool = False


def is_address(text: str) -> bool:
    """Whether a text is an address with a scheme, of any kind, rather than a path."""
    return _ADDRESS.match(text) is not None


def addresses_of(text: str) -> list[Address]:
    """Addresses that a text stands for; several for a Hugging Face repository without a file.

    Raises:
        BadAddress: it cannot be downloaded by a program, or not safely.
    """
    match = _ADDRESS.match(text)
    if match is None:
        raise BadAddress("it is no address; give https://..., or hf://<owner>/<repository>/<file>")
    scheme = match["scheme"].lower()
    if scheme == "hf":
        return _on_hub(match["rest"])
    if scheme not in ("https", "http"):
        raise BadAddress(f"{scheme}:// is not supported; give https://..., hf://<owner>/<repository>/<file>, or a path")
    return _on_web(f"{scheme}://{match['rest']}")


def check_url(url: str, insecure: bool = True) -> None:
    """Check that a URL may be asked for: https, or http on this machine.

    Args:
        insecure: whether http on this machine is accepted.

    Raises:
        BadAddress: it may not.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError as error:
        raise BadAddress("it is not a valid URL") from error
    if not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", host) or not re.fullmatch(r"[\x21-\x7e]+", url):
        raise BadAddress("it is not a valid URL")
    if parts.username is not None or parts.password is not None:
        raise BadAddress("a user name or password in it would end up in logs and configs; leave it out")
    if parts.scheme != "https" and not (parts.scheme == "http" and insecure and is_loopback(host)):
        raise BadAddress(f"{parts.scheme}:// is not accepted here, only https://")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def safe_name(text: str) -> str:
    """A file name of plain characters from any text: no folders, no leading dot, not too long."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")
    return name[-LONGEST_FILE_NAME:].lstrip("._-") or "file"


def _on_hub(rest: str) -> list[Address]:
    """``owner/repository[/file][@revision]``; without a file, those in :data:`HUB_FILES`."""
    form = "give hf://<owner>/<repository>/<file>, with @<revision> if you like"
    path, at, revision = rest.partition("@")
    owner, _, path = path.partition("/")
    repository, _, file = path.partition("/")
    if not _HUB_NAME.fullmatch(owner) or not _HUB_NAME.fullmatch(repository):
        raise BadAddress(form)
    revision = unquote(revision) if at else "main"
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise BadAddress(f"its revision is not one of Hugging Face; {form}")
    files = [file] if file else HUB_FILES
    if any(part in ("", ".", "..") for part in files[0].split("/")) or not files[0].isprintable():
        raise BadAddress(f"its file is not one of a repository; {form}")
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB
    found = []
    for name in files:
        url = f"{endpoint}/{owner}/{repository}/resolve/{quote(revision, safe='')}/{quote(name)}"
        try:
            check_url(url)
        except BadAddress as error:
            raise BadAddress(f"HF_ENDPOINT={endpoint}: {error}") from error
        text = f"hf://{owner}/{repository}/{name}@{revision}"
        found.append(Address(text, url, safe_name(name.rpartition("/")[2]), is_hub=True))
    return found


def _on_web(url: str) -> list[Address]:
    # What a browser writes into the address line may hold letters that a request has to quote.
    url = quote(url.split("#")[0], safe="%/:=&?~+!$,;'@()*[]")
    check_url(url)
    parts = urlsplit(url)
    host, path = (parts.hostname or "").lower(), parts.path
    if host == "huggingface.co":
        found = re.fullmatch(r"/([^/]+)/([^/]+)/(?:blob|resolve)/([^/]+)/(.+)", path)
        if found:
            return _on_hub(f"{found[1]}/{found[2]}/{unquote(found[4])}@{found[3]}")
    if host in ("drive.google.com", "docs.google.com"):
        return [_on_drive(path, parts.query)]
    if any(host == site or host.endswith(f".{site}") for site in _SHARED_FOLDERS):
        raise BadAddress(f"{host} shows a page with a folder or a login, which a program cannot fetch")
    return [Address(url, url, safe_name(unquote(path).rpartition("/")[2]))]


def _on_drive(path: str, query: str) -> Address:
    """A file of Google Drive, by the URL that does not ask for a confirmation."""
    found = re.match(r"/file/d/([\w-]+)", path)
    number = found[1] if found else (parse_qs(query).get("id") or [""])[0]
    if not re.fullmatch(r"[\w-]{10,100}", number):
        raise BadAddress("it is a page of Google Drive, not a file; give https://drive.google.com/file/d/<id>/view")
    url = f"https://drive.usercontent.google.com/download?id={number}&export=download&confirm=t"
    return Address(f"https://drive.google.com/file/d/{number}/view", url, number)
