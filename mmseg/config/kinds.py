"""Kinds of config values: which values a key accepts.

``check(key, value)`` of a kind raises a one-line error that names key, value and range; ``text`` describes the range,
for messages and for the documentation. Needs the standard library only.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Protocol

from mmseg.errors import ConfigError, did_you_mean

# The longest path that Linux takes.
LONGEST_TEXT = 4096
SHOWN_LETTERS = 120


class _Required:
    """Stands for the default of a key that must be given."""

    def __repr__(self) -> str:
        return "required"


REQUIRED: Any = _Required()


class Kind(Protocol):
    """Which values a key accepts."""

    @property
    def text(self) -> str:
        """The range, in the form that follows "give": ``a number from 0 to 1``."""

    def check(self, key: str, value: Any) -> None:
        """Check a value.

        Args:
            key: dotted key, for the message.
            value: anything.

        Raises:
            ConfigError: the value is not accepted.
        """


@dataclass(frozen=True)
class Key:
    """A config key.

    Attributes:
        kind: which values it accepts.
        default: value used if a config lacks the key; ``REQUIRED`` if it must be given.
        help: one line on what it does.
        none: whether None is accepted.
        unread: nothing reads it; it is accepted because published configs have it, and dropped.
    """

    kind: Kind
    default: Any
    help: str
    none: bool = False
    unread: bool = False


def shown(value: Any) -> str:
    """A value for a message, as one line; long ones are cut."""
    try:
        text = repr(value)
    except Exception:  # whatever the value's own class raises; a huge whole number raises ValueError
        text = f"a {type(value).__name__}"
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}..."


def refuse(key: str, value: Any, kind: Kind) -> ConfigError:
    """Error for a value that a kind does not accept."""
    return ConfigError(f"{key} is {shown(value)}; give {kind.text}")


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; True and False are not."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def same(first: Any, second: Any) -> bool:
    """Equality that distinguishes 1 from True and 1.0."""
    return type(first) is type(second) and first == second


@dataclass(frozen=True)
class Whole:
    """A whole number from ``least`` to ``most``."""

    least: int
    most: int = 10**9

    @property
    def text(self) -> str:
        return f"a whole number of at least {self.least} and at most {self.most}"

    def accepts(self, value: Any) -> bool:
        return is_whole(value) and self.least <= value <= self.most

    def check(self, key: str, value: Any) -> None:
        if not self.accepts(value):
            raise refuse(key, value, self)


@dataclass(frozen=True)
class Number:
    """A finite number from ``least`` to ``most``.

    Attributes:
        above: whether ``least`` itself is excluded.
        below: whether ``most`` itself is excluded.
        off: a number outside the range that means "not used".
    """

    least: float
    most: float
    above: bool = False
    below: bool = False
    off: float | None = None

    @property
    def text(self) -> str:
        low = f"above {self.least:g}" if self.above else f"of at least {self.least:g}"
        high = f"below {self.most:g}" if self.below else f"at most {self.most:g}"
        off = "" if self.off is None else f", or {self.off:g} for none"
        return f"a number {low} and {high}{off}"

    def accepts(self, value: Any) -> bool:
        if not is_number(value):
            return False
        low = value > self.least if self.above else value >= self.least
        high = value < self.most if self.below else value <= self.most
        return (low and high) or (self.off is not None and value == self.off)

    def check(self, key: str, value: Any) -> None:
        if not self.accepts(value):
            raise refuse(key, value, self)


@dataclass(frozen=True)
class Flag:
    """True or False."""

    text: str = field(default="True or False", init=False)

    def check(self, key: str, value: Any) -> None:
        if not isinstance(value, bool):
            raise refuse(key, value, self)


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    @property
    def text(self) -> str:
        return " or ".join(map(repr, self.values)) if len(self.values) < 3 else ", ".join(map(repr, self.values))

    def check(self, key: str, value: Any) -> None:
        if not any(same(value, known) for known in self.values):
            meant = did_you_mean(value[:SHOWN_LETTERS], self.values) if isinstance(value, str) else ""
            raise ConfigError(f"{key}={shown(value)} is not available{meant}; it can be {self.text}")


@dataclass(frozen=True)
class Text:
    """Printable text.

    Attributes:
        what: the range, for messages.
        pattern: regular expression that the whole text must match.
    """

    what: str = "a text"
    pattern: str = r".+"

    @property
    def text(self) -> str:
        return self.what

    def check(self, key: str, value: Any) -> None:
        fits = isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable()
        if not fits or not re.fullmatch(self.pattern, value):
            raise refuse(key, value, self)


@dataclass(frozen=True)
class PathText:
    """A path; whether it exists is checked elsewhere.

    Attributes:
        rooted: whether ``--root-path`` moves it, for configs of another machine.
        empty: whether the empty text is accepted, which means "none".
        weights: whether it also takes an address or a known name, see :mod:`mmseg.weights`.
    """

    rooted: bool = False
    empty: bool = False
    weights: bool = False

    @property
    def text(self) -> str:
        what = "a path, address or name of weights" if self.weights else "a path"
        return what + (", or '' for none" if self.empty else "")

    def check(self, key: str, value: Any) -> None:
        # A file name may hold anything but the null character and what no encoding can write.
        fits = isinstance(value, str) and len(value) <= LONGEST_TEXT and "\0" not in value
        if not fits or not _encodes(value) or not (value or self.empty):
            raise refuse(key, value, self)


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeError:
        return False
    return True


@dataclass(frozen=True)
class Names:
    """A list or set of some names."""

    known: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"a list of any of {', '.join(map(repr, self.known))}"

    def check(self, key: str, value: Any) -> None:
        if not isinstance(value, (list, tuple, set, frozenset)) or not value:
            raise refuse(key, value, self)
        for name in value:
            if not isinstance(name, str):
                raise refuse(key, value, self)
            if name not in self.known:
                meant = did_you_mean(name[:SHOWN_LETTERS], self.known)
                raise ConfigError(f"{key} lists {shown(name)}, which is unknown{meant}; give {self.text}")
        if len(set(value)) < len(value):
            raise ConfigError(f"{key} is {shown(value)}, which lists a name twice; give {self.text}")


@dataclass(frozen=True)
class ListOf:
    """A list of values of one kind.

    Attributes:
        item: kind of the values.
        least, most: number of values.
        what: what the values are, for messages: ``(width, height)``.
        different: whether all values must differ.
        ascending: whether no value may be smaller than the one before.
    """

    item: Kind
    least: int
    most: int
    what: str = ""
    different: bool = False
    ascending: bool = False

    @property
    def text(self) -> str:
        number = f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"
        what = f" {self.what}" if self.what else ""
        order = (", the smaller one first" if self.ascending else "") + (", none twice" if self.different else "")
        return f"a list{what} of {number} values, each {self.item.text}{order}"

    def check(self, key: str, value: Any) -> None:
        if not isinstance(value, (list, tuple)) or not self.least <= len(value) <= self.most:
            raise refuse(key, value, self)
        for inner in value:
            try:
                self.item.check(key, inner)
            except ConfigError as error:
                raise refuse(key, value, self) from error
        twice = self.different and any(item in value[:i] for i, item in enumerate(value))
        if twice or (self.ascending and list(value) != sorted(value)):
            raise refuse(key, value, self)


@dataclass(frozen=True)
class Unread:
    """Anything: nothing reads it."""

    text: str = field(default="anything (nothing reads it)", init=False)

    def check(self, key: str, value: Any) -> None:
        """Every value is accepted."""


@dataclass(frozen=True)
class Off:
    """A switch that is not available: only the values that mean "off" are accepted.

    Attributes:
        values: the accepted values; the message suggests the first one.
        why: why no other value is available.
    """

    values: tuple[Any, ...]
    why: str

    @property
    def text(self) -> str:
        return " or ".join(map(repr, self.values))

    def check(self, key: str, value: Any) -> None:
        if not any(same(value, off) for off in self.values):
            raise ConfigError(f"{key}={shown(value)} is not available: {self.why}; set it to {self.values[0]!r}")
