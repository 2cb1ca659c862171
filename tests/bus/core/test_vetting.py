"""What a broker does not believe, and what it takes in."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from open_channel.bus.core import records as r
from open_channel.bus.core.answers import encode_done
from open_channel.bus.core.mixed import AnyPublication, Mixed, encode_mixed, parse_mixed
from open_channel.bus.core.records import Flag, Subscribe
from open_channel.bus.core.vetting import Vetting, vet_subscriptions
from open_channel.errors import RemoteProtocolError
from open_channel.protocol.batches import BATCH_LIMIT, LARGE, Large

ME, OTHER = b"m" * 16, b"o" * 16
DONE = encode_done([(1, "g t")])


def publication(
    kind: int = r.PUBLISH,
    flags: int = 0,
    topic: bytes = b"news",
    first: int = 1,
    sender: bytes = ME,
    to: bytes = r.NOBODY,
    bodies: tuple[bytes, ...] = (b"body",),
) -> bytes:
    return bytes(r.encode_publication(kind, flags, topic, first, sender, to, list(bodies)))


def vet(record: bytes) -> AnyPublication:
    return Vetting(1 << 30).publication(record[0], record, ME)


def reply(body: bytes = bytes(9), **fields: Any) -> bytes:
    fields = {"kind": r.DIRECT, "flags": 16, "topic": b"", "to": OTHER, "bodies": (body,), **fields}
    return publication(**fields)


@pytest.mark.parametrize(
    "record",
    [
        publication(),
        publication(bodies=(b"one", b"two", b"three")),
        publication(bodies=(b"same", b"size")),
        publication(bodies=(b"", b"")),
        publication(bodies=(bytes(BATCH_LIMIT * 2),)),
        publication(first=(1 << 63) - 2),
        publication(flags=Flag.REQUEST),
        publication(flags=Flag.REQUEST | Flag.EVERYONE),
        publication(kind=r.DIRECT, to=OTHER, flags=Flag.REQUEST),
        reply(),
        reply(bytes(9) + b"the reply itself"),
        reply(flags=Flag.DONE, body=DONE),
    ],
)
def test_what_is_in_order_is_taken_in(record: bytes):
    found = vet(record)
    assert found == r.parse(record)
    assert len(found.messages()) == found.total


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (publication(sender=OTHER), "another member's name"),
        (publication(to=OTHER), "to a topic and to a member"),
        (publication(kind=r.DIRECT), "or neither"),
        (publication(kind=r.DIRECT, to=OTHER), "neither a request nor a reply"),
        (publication(flags=Flag.REQUEST, bodies=(b"1", b"2")), "a request of 2 messages"),
        (publication(flags=Flag.REPLY, bodies=(bytes(9),)), "replies"),
        (reply(flags=Flag.REPLY | Flag.REQUEST), "replies"),
        (reply(bodies=(bytes(9), bytes(9))), "2 replies"),
        (reply(bytes(8)), "a reply of 8 bytes"),
        (reply(flags=Flag.DONE, body=b"\xc1"), "jobs that are done"),
        (reply(flags=Flag.DONE, body=DONE[:-1] + b"\xff"), "jobs that are done"),
        (publication(topic=b""), "empty"),
        (publication(topic=b"a..b"), "empty token"),
        (publication(topic=b"a.*"), "wildcard"),
        (publication(topic=b"x" * 1025), "limit is 1024"),
        (publication(topic=b"\xff"), "no text"),
        (publication(first=0), "number 0"),
        (publication(first=(1 << 63) - 1), "number 9223372036854775807"),
        (publication()[:-1], "table does not fit"),
        (publication() + b"!", "table does not fit"),
        (publication(bodies=(b"one", b"three"))[:-1], "table does not fit"),
        (publication(bodies=(b"same", b"size")) + b"!", "table does not fit"),
        (publication(bodies=(bytes(BATCH_LIMIT), b"")), "table does not fit"),
        (publication(bodies=()), "of 0 messages"),
        (publication()[:40], "a publication of 40 bytes"),
    ],
)
def test_what_is_not_is_refused(record: bytes, reason: str):
    with pytest.raises(RemoteProtocolError, match=reason):
        vet(record)


MIX = encode_mixed(1, [b"a", b"b", b"a"], 5, ME, [b"one", b"two", b"three"])


def test_a_mixed_one_in_order_is_taken_in():
    vetting = Vetting(1 << 30)
    for _ in range(2):  # with topics that are new, and known
        found = vetting.publication(r.MIXED, MIX, ME)
        assert isinstance(found, Mixed)
        assert (found.topics, found.first, found.last) == (["a", "b"], 5, 7)
        assert found.record == MIX


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (encode_mixed(0, [b"a"], 1, OTHER, [b""]), "another member's name"),
        (encode_mixed(0, [b"a", b"b.*"], 1, ME, [b"", b""]), "wildcard"),
        (encode_mixed(0, [b"a", b""], 1, ME, [b"", b""]), "empty"),
        (encode_mixed(4, [b"a"], 1, ME, [b""]), "flags 0x4"),
        (parse_mixed(MIX).only([0]).record, "a part of a mixed publication"),
        (MIX + b"!", "table does not fit"),
        (MIX[:-1], "table does not fit"),
    ],
)
def test_a_mixed_one_that_is_not_in_order_is_refused(record: bytes, reason: str):
    with pytest.raises(RemoteProtocolError, match=reason):
        vet(record)


def test_lengths_that_overflow_are_refused():
    head = r.HEADER.pack(r.PUBLISH, 0, 1, 2, 1, ME, r.NOBODY) + b"t"
    with pytest.raises(RemoteProtocolError, match="table"):
        vet(head + array("I", [2**32 - 1, 2**32 - 1]).tobytes() + b"body")
    with pytest.raises(RemoteProtocolError, match="table"):
        vet(head + array("I", [2**32 - 1, 5]).tobytes() + b"body")


def test_one_that_could_not_be_handed_on_as_a_job_is_refused():
    record = publication(bodies=(bytes(1000),))
    Vetting(len(record)).publication(r.PUBLISH, record, ME)
    with pytest.raises(RemoteProtocolError, match=f"of {len(record)} bytes"):
        Vetting(len(record) - 1).publication(r.PUBLISH, record, ME)


def test_a_large_body_that_lies_elsewhere():
    body = bytes(LARGE + 1)
    large = r.encode_publication(r.PUBLISH, 0, b"news", 1, ME, r.NOBODY, [body])
    assert isinstance(large, Large)
    found = Vetting(1 << 30).publication(r.PUBLISH, large, ME)
    assert found.messages()[0] is body
    with pytest.raises(RemoteProtocolError, match="table does not fit"):
        Vetting(1 << 30).publication(r.PUBLISH, Large(large.head, body[1:]), ME)
    answer = r.encode_publication(r.DIRECT, Flag.REPLY, b"", 1, ME, OTHER, [body])
    assert Vetting(1 << 30).publication(r.DIRECT, answer, ME).opening(9) == bytes(9)


def test_one_that_could_not_be_handed_on_as_single_messages_is_refused():
    record = encode_mixed(0, [b"a"], 1, ME, [bytes(1000)])
    single = publication(topic=b"a", bodies=(bytes(1000),))
    assert len(single) > len(record)
    with pytest.raises(RemoteProtocolError, match=f"of {len(record)} bytes"):
        Vetting(len(single) - 1).publication(r.MIXED, record, ME)
    Vetting(len(record) + r.HEADER.size).publication(r.MIXED, record, ME)


def test_topics_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("open_channel.bus.core.vetting._TOPICS", 3)
    vetting = Vetting(1 << 30)
    for number in range(10):
        record = publication(topic=f"t.{number}".encode())
        for _ in range(2):
            vetting.publication(r.PUBLISH, record, ME)
        assert len(vetting._topics) <= 3


@pytest.mark.parametrize("number", [0, -1, 1 << 32, 1 << 63])
def test_a_number_that_no_job_can_name_is_refused(number: int):
    with pytest.raises(RemoteProtocolError, match="number"):
        vet_subscriptions([Subscribe(number, "t")], ())


def test_a_number_is_used_once():
    vet_subscriptions([Subscribe(1, "t"), Subscribe(2, "t")], ())
    with pytest.raises(RemoteProtocolError, match="second"):
        vet_subscriptions([Subscribe(1, "t"), Subscribe(1, "u")], ())
    with pytest.raises(RemoteProtocolError, match="second"):
        vet_subscriptions([Subscribe(1, "t")], {1: None})


@pytest.mark.parametrize("pattern", ["", "a..b", ">.a", "a b", "x" * 1025])
def test_a_pattern_that_is_none_is_refused(pattern: str):
    with pytest.raises(RemoteProtocolError):
        vet_subscriptions([Subscribe(1, pattern)], ())


@pytest.mark.parametrize("size", [0, 15, 17, 300])
def test_an_id_of_another_size_is_no_members(size: int):
    with pytest.raises(ValueError, match="id of"):
        r.MemberInfo(bytes(size), 1, {})
    told = bytes((r.CONTROL, 0x92, 23, 0x93, 0xC5)) + size.to_bytes(2, "big") + bytes(size)
    with pytest.raises(RemoteProtocolError, match="id of"):
        r.decode_control(told + b"\1\x80")


def test_labels_have_a_bound():
    r.MemberInfo(ME, 1, {"role": "x" * 8000})
    with pytest.raises(ValueError, match="labels of 9004"):
        r.MemberInfo(ME, 1, {"role": "x" * 9000})
