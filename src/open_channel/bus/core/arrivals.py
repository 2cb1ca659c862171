"""Arrivals: publications as they reach a member, each taken in once, and who of it gets them."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from open_channel.bus.core.mixed import Mixed, by_value
from open_channel.bus.core.records import Took
from open_channel.bus.core.subjects import Matcher

if TYPE_CHECKING:
    from collections.abc import Iterable

    from open_channel.bus.core.interests import Interest
    from open_channel.bus.core.mixed import AnyPublication

__all__ = ["Arrivals"]


class Arrivals:
    """The plain subscriptions of a member, and how far it has received each publisher."""

    __slots__ = ("duplicates", "marks", "plain")

    def __init__(self) -> None:
        self.duplicates = 0
        """Counts the messages that came again and were dropped."""
        self.marks: dict[bytes, int] = {}
        """{publisher: highest number received}."""
        self.plain: Matcher[Interest] = Matcher()

    def is_new(self, publication: AnyPublication) -> bool:
        """Whether it comes for the first time; the next time it does not."""
        if publication.first <= self.marks.get(publication.sender, 0):
            self.duplicates += publication.total
            return False
        self.marks[publication.sender] = publication.last
        return True

    def take(self, publication: AnyPublication) -> Iterable[Took]:
        """Hand it to whoever wants it, unless it came before.

        Returns what the broker must be told of then: it would wait for its being taken for ever,
        unless it waits in the queue. Raises RemoteProtocolError when it cannot be taken apart.
        """
        if isinstance(publication, Mixed):
            return self._take_mixed(publication)
        interests = self.plain.match(publication.topic)
        if not self.is_new(publication):
            return [_took(one, publication) for one in interests if _has_taken(one, publication)]
        messages = publication.messages()
        for interest in interests:
            if interest.blocks:
                interest.got[publication.sender] = publication.last
            interest.sink.deliver(publication, messages)
        return ()

    def _take_mixed(self, mixed: Mixed) -> Iterable[Took]:
        found = by_value(self.plain.match_all(mixed.topics))
        if not self.is_new(mixed):
            interests = dict.fromkeys(chain.from_iterable(found))
            return [_took(one, mixed) for one in interests if _has_taken(one, mixed)]
        for interest, topics, messages in mixed.shares(found):
            if interest.blocks:
                interest.got[mixed.sender] = mixed.last
            interest.sink.deliver_mixed(mixed, topics, messages)
        return ()


def _has_taken(interest: Interest, publication: AnyPublication) -> bool:
    """Whether a blocking subscription will not take it any more."""
    sender, last = publication.sender, publication.last
    return interest.blocks and (
        interest.got.get(sender, 0) < last or interest.taken.get(sender, 0) >= last
    )


def _took(interest: Interest, publication: AnyPublication) -> Took:
    return Took(interest.id, publication.sender, publication.last)
