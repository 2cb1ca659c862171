"""Checks of what a user gives, where several layers make the same ones.

They are made where it is given: a wrong argument that travels is refused by a host, which can tell
nobody, and the connection is made again and again.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import cast

__all__ = ["MOST", "check_count", "check_labels", "check_text", "check_timeout"]

MOST = 2**62
"""The largest number that is taken: a little more still fits where numbers have 64 bits."""

_LABELS = 8 * 1024  # characters; what is read of a presence file holds them, however escaped


def check_count(what: str, count: object, least: int = 0) -> int:
    """The number, when it is one from ``least`` to ``MOST``.

    Raises TypeError when it is no int, as a bool is none, and ValueError when it is out of bounds.
    """
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"{what} is an int, not {count!r}")
    if not least <= count <= MOST:
        raise ValueError(f"{what} is a number from {least} to 2^62, not {count}")
    return count


def check_timeout(timeout: float | None) -> None:
    """Raises ValueError when it is below zero, or no number; None is for ever."""
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"a timeout is a number of seconds from 0 on, or None, not {timeout}")


def check_text(what: str, text: object) -> bytes:
    """The text as UTF-8; raises TypeError when it is no str, and ValueError when it has none."""
    if not isinstance(text, str):
        raise TypeError(f"{what} is a str, not {text!r}")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} cannot be written as UTF-8: {text!r}") from None


def check_labels(labels: object) -> dict[str, str]:
    """A copy of the labels of a member; everybody is told them, so they have a bound.

    Raises TypeError when they are no mapping of str to str, and ValueError when one has no UTF-8 or
    all have too many characters.
    """
    if not isinstance(labels, Mapping):
        raise TypeError(f"labels are a mapping of str to str, not {labels!r}")
    found = dict(cast("Mapping[str, str]", labels))
    for text in chain(found, found.values()):
        check_text("a label", text)
    size = sum(map(len, chain(found, found.values())))
    if size > _LABELS:
        raise ValueError(f"labels of {size} characters, over the limit of {_LABELS}")
    return found
