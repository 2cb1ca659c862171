"""What the broker does not believe: checks of what a member says, before anything comes of it.

What is wrong here would else be found by somebody who is not to blame: a subscriber that cannot
take a publication apart, or the broker in the midst of telling others.
"""

from __future__ import annotations

from sys import byteorder
from typing import TYPE_CHECKING

from open_channel.bus.core import records as r
from open_channel.bus.core.answers import REPLY_SIZE, decode_done, decode_reply
from open_channel.bus.core.mixed import Mixed, parse_mixed
from open_channel.bus.core.subjects import check_pattern, check_topic
from open_channel.errors import RemoteProtocolError, TopicInvalid
from open_channel.protocol.batches import BATCH_LIMIT, LENGTH, OVERHEAD

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from open_channel.bus.core.mixed import AnyPublication
    from open_channel.protocol.batches import Message

__all__ = ["Vetting", "vet_subscriptions"]

_unpack_length = LENGTH.unpack_from
_TOPICS = 65536  # how many topics are remembered as checked
_IDS = 1 << 32  # a job names its subscription in 32 bits
_REQUEST, _REPLY = int(r.Flag.REQUEST), int(r.Flag.REPLY)
_ADDRESSED = int(r.Flag.REPLY | r.Flag.DONE)


class Vetting:
    """Looks through publications; remembers which topics are in order."""

    __slots__ = ("_largest", "_topics")

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._topics: set[str] = set()

    def publication(self, kind: int, record: Message, member: bytes) -> AnyPublication:
        """A publication that can be taken apart, by whoever gets it.

        Raises RemoteProtocolError when it is none, or not this member's own.
        """
        if len(record) > self._largest:
            raise RemoteProtocolError(reason=f"a publication of {len(record)} bytes")
        publication = parse_mixed(record) if kind == r.MIXED else r.parse(record)
        if publication.sender != member:
            raise RemoteProtocolError(reason="a publication in another member's name")
        if isinstance(publication, Mixed):
            self._vet_mixed(publication)
            return publication
        if (kind == r.PUBLISH) != (publication.to == r.NOBODY):
            raise RemoteProtocolError(reason="a publication to a topic and to a member, or neither")
        if publication.flags & _ADDRESSED:
            _vet_table(publication)
            _vet_reply(kind, publication)
            return publication
        if publication.flags & _REQUEST:
            if publication.total != 1:
                raise RemoteProtocolError(reason=f"a request of {publication.total} messages")
        elif kind != r.PUBLISH:
            raise RemoteProtocolError(reason="neither a request nor a reply, to one member")
        if publication.topic not in self._topics:
            self._vet_topic(publication.topic)
        _vet_table(publication)
        return publication

    def _vet_mixed(self, mixed: Mixed) -> None:
        if len(mixed.record) > self._largest - r.HEADER.size:
            raise RemoteProtocolError(reason=f"a mixed publication of {len(mixed.record)} bytes")
        if mixed.first + mixed.total - 1 != mixed.last:
            raise RemoteProtocolError(reason=f"a part of a mixed publication, {mixed.total}")
        if not self._topics.issuperset(mixed.topics):
            for topic in mixed.topics:
                self._vet_topic(topic)
        _vet_table(mixed)

    def _vet_topic(self, topic: str) -> None:
        try:
            check_topic(topic)
        except TopicInvalid as error:
            raise RemoteProtocolError(reason=str(error)) from None
        if len(self._topics) >= _TOPICS:
            self._topics.clear()
        self._topics.add(topic)


def _vet_table(publication: AnyPublication) -> None:
    """Whether the lengths of the messages fit what follows them."""
    data, start, total = publication.data, publication.start, publication.total
    rest = len(publication.record) - start
    if total == 1 and _unpack_length(data, start)[0] == rest - OVERHEAD:
        return
    end = start + OVERHEAD * total
    table = bytes(data[start:end])
    first = table[:4]
    # All of one length, as they mostly are: a tenth of the time of adding them up.
    if table == first * total:
        size = total * int.from_bytes(first, byteorder)
    else:
        size = sum(memoryview(table).cast("I"))
    if size != rest - OVERHEAD * total or (total > 1 and rest > BATCH_LIMIT):
        raise RemoteProtocolError(reason="a publication whose table does not fit its messages")


def _vet_reply(kind: int, publication: r.Publication) -> None:
    """Whether a reply, or what says that jobs are done, is one."""
    flags, total = publication.flags, publication.total
    if kind == r.PUBLISH or flags & _REQUEST or total != 1:
        raise RemoteProtocolError(reason=f"{total} replies, kind {kind}, flags {flags:#x}")
    if flags & _REPLY:
        decode_reply(publication.opening(REPLY_SIZE))
    else:
        decode_done(publication.messages()[0])


def vet_subscriptions(records: Iterable[r.Subscribe], taken: Container[int]) -> None:
    """Whether these can be begun by a member that has those of the ids ``taken``.

    Raises RemoteProtocolError.
    """
    seen: set[int] = set()
    for record in records:
        if not 0 < record.id < _IDS:
            raise RemoteProtocolError(reason=f"a subscription with the number {record.id}")
        if record.id in seen or record.id in taken:
            raise RemoteProtocolError(reason=f"a second subscription with the number {record.id}")
        seen.add(record.id)
        try:
            check_pattern(record.pattern)
        except TopicInvalid as error:
            raise RemoteProtocolError(reason=str(error)) from None
