"""The one reader of JSON: limits of size and depth, and one line for whatever is wrong."""

import json
import os

import pytest

from mmseg.errors import ConfigError, DataError
from mmseg.io.json_files import MAX_DEPTH, parse_json, read_json


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def test_what_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": [1, {"b": null}], "\\ud83d\\ude00": "\xc3\xbc"}')
    assert read_json(path) == {"a": [1, {"b": None}], "\U0001f600": "ü"}
    assert parse_json("[1]", "x", kind=list) == [1]
    assert parse_json("\ufeff3", "x", kind=object) == 3
    assert parse_json(nested(MAX_DEPTH), "x", kind=list)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is not valid JSON"),
        (b"{", "is not valid JSON"),
        (b'{"a": 1} x', "is not valid JSON"),
        (b'{"a": \xff}', "is not JSON in UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "is not JSON in UTF-8"),
        (b'{"a": "\\ud800"}', "is not JSON in UTF-8"),
        (b'{"\\uDFFF": 1}', "is not JSON in UTF-8"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not valid JSON"),
        (b"[1]", "does not hold a JSON object"),
        (b"null", "does not hold a JSON object"),
        (b'{"a": ' + nested(MAX_DEPTH).encode() + b"}", f"nests deeper than {MAX_DEPTH} levels"),
        (b'{"a": ' + nested(200_000).encode() + b"}", f"nests deeper than {MAX_DEPTH} levels"),
        (b'{"a":' * 100_000, f"nests deeper than {MAX_DEPTH} levels"),
    ],
    ids=range(13),
)
def test_what_is_refused_in_one_line(tmp_path, content, why):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_json(path, "make it again", error=ConfigError)
    message = str(caught.value)
    assert message.startswith(f"{path} {why}")
    assert message.endswith("; make it again")
    assert "\n" not in message


def test_sizes_and_places(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": "x" * 100}))
    with pytest.raises(DataError, match=r"a\.json is larger than 99 bytes"):
        read_json(path, max_bytes=99)
    assert read_json(path, max_bytes=109)
    with pytest.raises(DataError, match=r"b\.json does not exist"):
        read_json(tmp_path / "b.json")
    with pytest.raises(DataError, match="is not a file"):
        read_json(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_json(tmp_path / "a.json" / "b")
    with pytest.raises(DataError, match="cannot be read"):
        read_json(f"{tmp_path}/a\0b")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is not a file"):
        read_json(tmp_path / "pipe")
