"""Topics and patterns: NATS subjects, and an index that finds the patterns of a topic.

A topic is tokens separated by dots. In a pattern a token ``*`` stands for any one token, and a last
token ``>`` for one or more. These two mean something only as whole tokens: ``a*`` is plain text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Generic, TypeVar

from open_channel.errors import TopicInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "MANY",
    "MAX_TOPIC",
    "Matcher",
    "check_pattern",
    "check_topic",
    "matches",
    "matches_each",
]

MAX_TOPIC = 1024
"""Bytes of UTF-8 that a topic or pattern may take."""

_ANY, _REST = "*", ">"
MANY = _REST
"""Of topics that one name cannot tell; no topic is called so."""

_CACHED_TOPICS = 65536  # what a matcher remembers at most, then it begins anew
_PLAIN = 4  # bytes of UTF-8 that one character takes at most

_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")
# Most topics are in order: one look tells. What it refuses is examined for the reason.
_WORD = r"[^.*>\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+"
_IN_ORDER = re.compile(rf"{_WORD}(?:\.{_WORD})*").fullmatch


def check_topic(topic: object) -> str:
    """The topic, when it can be published to.

    Raises TopicInvalid when it is no str, empty, longer than ``MAX_TOPIC``, or has an empty token,
    whitespace, a control character or a wildcard.
    """
    if isinstance(topic, str) and len(topic) <= MAX_TOPIC // _PLAIN and _IN_ORDER(topic):
        return topic
    topic, tokens = _tokens(topic)
    for token in tokens:
        if token in {_ANY, _REST}:
            raise TopicInvalid(topic=topic, reason=f"the wildcard {token} is for subscribers")
    return topic


def check_pattern(pattern: object) -> str:
    """The pattern, when it can be subscribed to; a topic is one too.

    Raises TopicInvalid as ``check_topic()`` does, and when ``>`` is not the last token; wildcards
    are allowed.
    """
    pattern, tokens = _tokens(pattern)
    if _REST in tokens[:-1]:
        raise TopicInvalid(topic=pattern, reason="> can only be the last token")
    return pattern


def _tokens(topic: object) -> tuple[str, list[str]]:
    """What topics and patterns have in common, checked."""
    if not isinstance(topic, str):
        raise TopicInvalid(topic=topic, reason=f"it is a {type(topic).__name__}, not a str")
    if not topic:
        raise TopicInvalid(topic=topic, reason="it is empty")
    if _SPACE.search(topic):
        raise TopicInvalid(topic=topic, reason="it holds whitespace or a control character")
    try:
        size = len(topic.encode())
    except UnicodeEncodeError:
        raise TopicInvalid(topic=topic, reason="it cannot be written as UTF-8") from None
    if size > MAX_TOPIC:
        reason = f"it takes {size} bytes of UTF-8 and the limit is {MAX_TOPIC}"
        raise TopicInvalid(topic=topic, reason=reason)
    tokens = topic.split(".")
    if "" in tokens:
        raise TopicInvalid(topic=topic, reason="it has an empty token")
    return topic, tokens


def matches(pattern: str, topic: str) -> bool:
    """Whether a pattern fits a topic; both have been checked."""
    wanted, found = pattern.split("."), topic.split(".")
    if wanted[-1] == _REST:
        wanted.pop()
        if len(found) <= len(wanted):
            return False
    elif len(found) != len(wanted):
        return False
    return all(want in {_ANY, have} for want, have in zip(wanted, found, strict=False))


def matches_each(pattern: str, topics: Sequence[str]) -> list[bool]:
    """The same for each of some topics."""
    if _is_literal(pattern):
        return [topic == pattern for topic in topics]
    return [matches(pattern, topic) for topic in topics]


_T = TypeVar("_T")


class _Node(Generic[_T]):
    """Where the patterns that begin with the same tokens part."""

    __slots__ = ("any", "ends", "next", "rest")

    def __init__(self) -> None:
        self.next: dict[str, _Node[_T]] = {}
        self.any: _Node[_T] | None = None
        """Behind a ``*``."""
        self.ends: dict[_T, int] = {}
        """The values of the pattern that ends here, and when each was added."""
        self.rest: dict[_T, int] = {}
        """The same of the pattern that ends with a ``>`` from here on."""

    def step(self, token: str) -> _Node[_T] | None:
        """The node behind one token of a pattern."""
        return self.any if token == _ANY else self.next.get(token)

    def grow(self, token: str) -> _Node[_T]:
        """The same, made if there is none."""
        if (node := self.step(token)) is not None:
            return node
        made: _Node[_T] = _Node()
        if token == _ANY:
            self.any = made
        else:
            self.next[token] = made
        return made

    def prune(self, token: str) -> None:
        """Forget the node behind a token when nothing is left in it."""
        node = self.step(token)
        if node is None or node.next or node.any or node.ends or node.rest:
            return
        if token == _ANY:
            self.any = None
        else:
            del self.next[token]


class Matcher(Generic[_T]):
    """An index of values by pattern; values are hashable.

    Patterns without wildcards cost nothing for other topics, and a topic that was asked for
    before is looked up at once.
    """

    __slots__ = ("_added", "_cache", "_literal", "_root")

    def __init__(self) -> None:
        self._added = 0
        self._literal: dict[str, dict[_T, int]] = {}
        self._root: _Node[_T] = _Node()
        self._cache: dict[str, tuple[_T, ...]] = {}

    def add(self, pattern: str, value: _T) -> None:
        """Add a value; again with the same pattern changes nothing."""
        self._forget(pattern)
        self._added += 1
        if _is_literal(pattern):
            self._literal.setdefault(pattern, {}).setdefault(value, self._added)
            return
        tokens = pattern.split(".")
        last = tokens.pop()
        node = self._root
        for token in tokens:
            node = node.grow(token)
        values = node.rest if last == _REST else node.grow(last).ends
        values.setdefault(value, self._added)

    def remove(self, pattern: str, value: _T) -> None:
        """Remove a value from one pattern; harmless when it is not there."""
        self._forget(pattern)
        if _is_literal(pattern):
            values = self._literal.get(pattern, {})
            values.pop(value, None)
            if not values:
                self._literal.pop(pattern, None)
            return
        tokens = pattern.split(".")
        path = [self._root]
        for token in tokens if tokens[-1] != _REST else tokens[:-1]:
            node = path[-1].step(token)
            if node is None:
                return
            path.append(node)
        (path[-1].rest if tokens[-1] == _REST else path[-1].ends).pop(value, None)
        for node, token in reversed(list(zip(path, tokens, strict=False))):
            node.prune(token)

    def match(self, topic: str) -> tuple[_T, ...]:
        """The values whose pattern fits a topic, in the order in which they were added.

        A value is there once for each of its patterns that fits.
        """
        found = self._cache.get(topic)
        if found is None:
            found = self._search(topic)
            if len(self._cache) >= _CACHED_TOPICS:
                self._cache.clear()
            self._cache[topic] = found
        return found

    def match_all(self, topics: Sequence[str]) -> list[tuple[_T, ...]]:
        """The same for each of some topics."""
        known, match = self._cache.get, self.match
        return [known(topic) or match(topic) for topic in topics]

    def _search(self, topic: str) -> tuple[_T, ...]:
        root = self._root
        if not (self._literal or root.next or root.any or root.rest or root.ends):
            return ()
        found = [(added, value) for value, added in self._literal.get(topic, {}).items()]
        nodes = [root]
        for token in topic.split("."):
            found += [(added, value) for node in nodes for value, added in node.rest.items()]
            steps = [step for node in nodes for step in (node.next.get(token), node.any)]
            nodes = [step for step in steps if step is not None]
            if not nodes:
                break
        found += [(added, value) for node in nodes for value, added in node.ends.items()]
        found.sort(key=_when)
        return tuple(value for _, value in found)

    def _forget(self, pattern: str) -> None:
        """A pattern's values change: forget the answers that it may have a part in."""
        if _is_literal(pattern):
            self._cache.pop(pattern, None)
        else:
            self._cache.clear()


def _when(found: tuple[int, object]) -> int:
    return found[0]


def _is_literal(pattern: str) -> bool:
    tokens = pattern.split(".")
    return _ANY not in tokens and _REST not in tokens
