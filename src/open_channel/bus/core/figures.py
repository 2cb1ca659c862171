"""What a broker says of itself to whoever asks: how much is queued for whom.

It is asked by a request to ``TOPIC``, which the broker answers itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from open_channel.bus.core import codec
from open_channel.bus.core import records as r
from open_channel.bus.core.answers import encode_reply
from open_channel.bus.core.interests import split_group_key

if TYPE_CHECKING:
    from open_channel.bus.core.broker import Broker
    from open_channel.bus.core.groups import Group
    from open_channel.bus.core.mixed import AnyPublication
    from open_channel.bus.core.seat import Seat

__all__ = ["TOPIC", "answered"]

TOPIC = "$broker"

_FLAGS = int(r.Flag.ENCODED | r.Flag.REPLY)
_REQUEST, _EVERYONE = int(r.Flag.REQUEST), int(r.Flag.EVERYONE)


def answered(broker: Broker, seat: Seat, publication: AnyPublication) -> bool:
    """Answer and acknowledge a member's request, if it is one for the figures."""
    flags = publication.flags & (_REQUEST | _EVERYONE)
    if publication.topic != TOPIC or flags != _REQUEST or publication.to != r.NOBODY:
        return False
    body, _ = codec.encode(_figures(broker))
    message = encode_reply(publication.first, False, body)
    # A member drops what is not numbered higher than all it had of a sender, whoever hosts: the
    # requests' own numbers are, of a sender that is nobody.
    seat.send(
        r.encode_publication(
            r.DIRECT, _FLAGS, b"", publication.first, r.NOBODY, seat.member, [message]
        ),
        broker.now,
    )
    seat.acks.append((publication.first, publication.last))
    broker.dirty[seat] = None
    return True


def _figures(broker: Broker) -> dict[str, Any]:
    return {
        "settled": broker.settled,
        "routed": broker.routed,
        "bytes": broker.bytes,
        "dropped": broker.dropped,
        "members": {member.hex(): _member(seat) for member, seat in broker.seats.items()},
        "groups": [_group(group) for group in broker.routing.groups],
    }


def _member(seat: Seat) -> dict[str, Any]:
    return {
        "queued": seat.queued + (0 if seat.outbox is None else seat.outbox.size),
        "left_out": seat.released,
        "away": seat.outbox is None,
        "subscriptions": len(seat.subscriptions),
        "jobs": len(seat.jobs),
    }


def _group(group: Group) -> dict[str, Any]:
    name, pattern = split_group_key(group.key)
    return {
        "group": name,
        "pattern": pattern,
        "consumers": len(group.consumers),
        "waiting": group.waiting,
        "in_hand": sum(consumer.in_hand for consumer in group.consumers),
    }
