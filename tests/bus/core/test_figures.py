"""What a broker says of itself, to whom it is asked by."""

from __future__ import annotations

import pytest

from open_channel.bus.core import codec
from open_channel.bus.core import records as r
from open_channel.bus.core.answers import decode_reply
from open_channel.bus.core.broker import Broker
from open_channel.bus.core.figures import TOPIC, answered
from open_channel.bus.core.records import Flag
from open_channel.protocol.limits import Limits
from open_channel.protocol.outbox import Outbox
from tests.bus.core.verbs import (
    BOUNDS,
    Bench,
    Member,
    ask,
    info,
    publication,
    publish,
    responder,
    worker,
    written,
)

ASK = int(Flag.REQUEST)


@pytest.fixture
def broker() -> Broker:
    """With one member that is here, and one that is not back."""
    broker = Broker([info(1), info(2)], BOUNDS, 100.0)
    broker.seats[info(1).id].outbox = Outbox(Limits(), lambda: 0)
    return broker


def asked(broker: Broker, topic: str = TOPIC, flags: int = ASK, to: bytes = r.NOBODY) -> bool:
    seat = broker.seats[info(1).id]
    record = r.encode_publication(r.PUBLISH, flags, topic.encode(), 7, seat.member, to, [b""])
    return answered(broker, seat, r.parse(record))


def test_it_answers_and_acknowledges(broker: Broker):
    seat, away = broker.seats.values()
    away.send(publication(1, 1), 100.0)
    broker.routed, broker.bytes, broker.dropped = 5, 60, 2
    assert asked(broker)
    assert seat.acks == [(7, 7)]
    assert seat in broker.dirty
    assert seat.outbox is not None
    (record,) = written(seat.outbox)
    answer = r.parse(record)
    assert (answer.first, answer.sender, answer.to) == (7, r.NOBODY, seat.member)
    seq, failed, body = decode_reply(answer.messages()[0])
    assert (seq, failed) == (7, False)
    figures = codec.decode(body, True, None, TOPIC, "")
    mine = {"queued": 0, "left_out": False, "away": False, "subscriptions": 0, "jobs": 0}
    assert figures == {
        "settled": False,
        "routed": 5,
        "bytes": 60,
        "dropped": 2,
        "members": {
            seat.member.hex(): mine,
            away.member.hex(): {**mine, "away": True, "queued": len(publication(1, 1))},
        },
        "groups": [],
    }


def test_it_counts_the_jobs_of_groups(bench: Bench, members: list[Member]):
    one, two, three = members
    worker(bench, two, "jobs.*", prefetch=2)
    worker(bench, three, "jobs.*", prefetch=1)
    publish(bench, one, *[b"work"] * 5, topic=b"jobs.new")
    responder(bench, two)
    asks = ask(bench, one, topic=TOPIC.encode())
    ((body, _),) = asks.replies
    assert codec.decode(body, True, None, TOPIC, "")["groups"] == [
        {"group": "g", "pattern": "jobs.*", "consumers": 2, "waiting": 2, "in_hand": 3}
    ]


@pytest.mark.parametrize(
    "other", [{"topic": "broker"}, {"flags": 0}, {"flags": ASK | 8}, {"to": info(2).id}]
)
def test_other_requests_are_for_others(broker: Broker, other: dict[str, object]):
    assert not asked(broker, **other)  # type: ignore[arg-type]
    assert not broker.dirty
