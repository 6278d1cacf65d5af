"""Kinds of config values: what a key takes, and what is said about any other value.

A kind is asked by ``check(key, value)``, which raises one line naming key, value and range; ``text`` describes the
range, for messages and for the documentation. Needs the standard library only.
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
    """Default of a key that has none."""

    def __repr__(self) -> str:
        return "required"


REQUIRED: Any = _Required()


class Kind(Protocol):
    """What a key takes."""

    @property
    def text(self) -> str:
        """The range, as an object of "give ...": ``a number from 0 to 1``."""

    def check(self, key: str, value: Any) -> None:
        """Check a value.

        Args:
            key: dotted key, for the message.
            value: anything.

        Raises:
            ConfigError: the value is not of this kind.
        """


@dataclass(frozen=True)
class Key:
    """A config key.

    Attributes:
        kind: what it takes.
        default: its value where a config lacks it; ``REQUIRED`` for none.
        help: one line of what it does.
        none: whether it may be None.
        unread: nothing reads it; it is accepted for the sake of published configs, and dropped.
    """

    kind: Kind
    default: Any
    help: str
    none: bool = False
    unread: bool = False


def shown(value: Any) -> str:
    """A value for a message: one line, cut where it is long."""
    try:
        text = repr(value)
    except Exception:  # whatever the value's own class raises; a huge whole number raises ValueError
        text = f"a {type(value).__name__}"
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}..."


def refuse(key: str, value: Any, kind: Kind) -> ConfigError:
    """The error that a value is not of a kind."""
    return ConfigError(f"{key} is {shown(value)}; give {kind.text}")


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; True and False are none."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def same(first: Any, second: Any) -> bool:
    """Equality that tells 1 from True and 1.0."""
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
        above: ``least`` itself is not in the range.
        below: ``most`` itself is not in the range.
        off: a number outside of the range that means "not used".
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
    """A text that can be printed.

    Attributes:
        what: the range, for messages.
        pattern: regular expression that it has to match as a whole.
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
        rooted: it is moved below ``--root-path`` when a config comes from another machine.
        empty: the empty text stands for "none".
    """

    rooted: bool = False
    empty: bool = False

    @property
    def text(self) -> str:
        return "a path" + (", or '' for none" if self.empty else "")

    def check(self, key: str, value: Any) -> None:
        # A file name may hold anything but the null character, and what no encoding can write.
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
        item: their kind.
        least, most: how many.
        what: what the values are, for messages: ``(width, height)``.
        different: no two may be alike.
        ascending: none may be smaller than the one before.
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
    """A switch that nothing here can honour: only the values that mean "off".

    Attributes:
        values: those; the first one is what is suggested.
        why: why there is no other.
    """

    values: tuple[Any, ...]
    why: str

    @property
    def text(self) -> str:
        return " or ".join(map(repr, self.values))

    def check(self, key: str, value: Any) -> None:
        if not any(same(value, off) for off in self.values):
            raise ConfigError(f"{key}={shown(value)} is not available: {self.why}; set it to {self.values[0]!r}")
