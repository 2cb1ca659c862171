"""What a member's core knows of a subscription, and the interface to the user's side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from open_channel.bus.core.records import Subscribe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from open_channel.bus.core.mixed import Mixed
    from open_channel.bus.core.records import End, MemberInfo, Publication

__all__ = ["UNKNOWN", "Awaiting", "Interest", "Key", "MemberUser", "Sink", "add_missed"]

UNKNOWN = -1
"""How many messages are missing when nobody knows."""

Key = tuple[bytes, int, str]
"""A job: publisher, number, group."""


class Sink(Protocol):
    """Where a subscription's messages go."""

    def live(self) -> None:
        """The broker has confirmed the subscription."""

    def deliver(self, publication: Publication, messages: Sequence[bytes]) -> None:
        """Messages to one topic, in their publisher's order."""

    def deliver_mixed(self, mixed: Mixed, topics: Sequence[str], messages: Sequence[bytes]) -> None:
        """Messages in their publisher's order, and the topic of each."""

    def job(self, publication: Publication, seq: int, message: bytes, redelivered: bool) -> None:
        """One job, or one request; ``seq`` is its number."""

    def missing(self, count: int) -> None:
        """So many messages are missing before the next; ``UNKNOWN`` when nobody knows."""

    def lost(self, publisher: bytes, seq: int) -> None:
        """A job was given to another."""


class Awaiting(Protocol):
    """Who waits for the replies to a request."""

    def replied(self, publication: Publication, failed: bool, body: bytes) -> bool:
        """A reply has come; whether it was the last one."""
        ...

    def ended(self, why: End) -> None:
        """There will be no reply."""

    def responders(self, members: Sequence[bytes]) -> bool:
        """Who will reply to a request to all; whether all have."""
        ...

    def left(self, member: bytes) -> bool:
        """A member has left or died; whether nothing is to be waited for any more."""
        ...


class MemberUser(Protocol):
    """Who is told what concerns no single subscription."""

    def joined(self, member: MemberInfo) -> None:
        """A member has come."""

    def left(self, member: MemberInfo) -> None:
        """A member has left or died."""

    def has_room(self) -> None:
        """Publications were acknowledged."""


class Interest:
    """One subscription of this member."""

    __slots__ = (
        "blocks",
        "confirmed",
        "got",
        "group",
        "id",
        "key",
        "pattern",
        "prefetch",
        "serves",
        "sink",
        "taken",
    )

    def __init__(
        self,
        number: int,
        pattern: str,
        sink: Sink,
        *,
        group: str = "",
        serves: bool = False,
        blocks: bool = False,
        prefetch: int = 1,
    ) -> None:
        self.id = number
        self.pattern = pattern
        self.sink = sink
        self.group = group
        self.serves = serves
        self.blocks = blocks
        self.prefetch = prefetch
        self.confirmed = False
        self.key = group_key(group, pattern)
        self.got: dict[bytes, int] = {}
        """Of a blocking one: {publisher: highest number that was put into its queue}."""
        self.taken: dict[bytes, int] = {}
        """... {publisher: highest number that its consumer has taken}."""

    @property
    def plain(self) -> bool:
        """Whether it gets each message: it is no consumer of a group, and no responder."""
        return not self.group and not self.serves

    def record(self) -> Subscribe:
        """How the broker is told of it."""
        return Subscribe(
            self.id,
            self.pattern,
            self.group,
            self.serves,
            self.blocks,
            self.prefetch,
            self.confirmed,
        )


def group_key(group: str, pattern: str) -> str:
    """What identifies a group: its name and its pattern. Empty: requests, and no group at all."""
    return f"{group} {pattern}" if group else ""


def split_group_key(key: str) -> tuple[str, str]:
    """The name and the pattern, which has no space, of a group that has a key."""
    group, _, pattern = key.rpartition(" ")
    return group, pattern


def add_missed(missed: int, more: int) -> int:
    """How many are missing in all: unknown and any number is unknown."""
    return UNKNOWN if UNKNOWN in {missed, more} else missed + more
