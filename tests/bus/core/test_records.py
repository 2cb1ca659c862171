"""Records: there and back, and what is none."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_channel.bus.core import records as r
from open_channel.errors import RemoteProtocolError
from open_channel.protocol.batches import LARGE, Large, Message
from open_channel.protocol.shared import Place

ME, OTHER = b"m" * 16, b"o" * 16
INFO = r.MemberInfo(ME, 42, {"role": "web"})
NUMBERS = st.integers(1, (1 << 63) - 100)
BODIES = st.lists(st.binary(max_size=20), min_size=1, max_size=9)


@given(NUMBERS, BODIES, st.text(st.characters(codec="utf-8"), max_size=9), st.integers(0, 63))
def test_a_publication_there_and_back(first, bodies, topic, flags):
    record = r.encode_publication(r.PUBLISH, flags, topic.encode(), first, ME, OTHER, bodies)
    found = r.parse(record)
    assert (found.flags, found.topic, found.first, found.total) == (
        flags,
        topic,
        first,
        len(bodies),
    )
    assert (found.sender, found.to, found.last) == (ME, OTHER, first + len(bodies) - 1)
    assert found.messages() == bodies
    resent = r.parse(r.mark_resent(record))
    assert resent.flags == flags | r.RESENT
    assert resent.messages() == bodies


def test_every_beginning_of_a_publication_is_none():
    record = r.encode_publication(r.PUBLISH, 0, b"news", 1, ME, r.NOBODY, [b"one", b"two"])
    assert isinstance(record, bytes)
    for size in range(r.HEADER.size + 4 + 8):
        with pytest.raises(RemoteProtocolError, match="a publication of"):
            r.parse(record[:size])


@pytest.mark.parametrize(
    ("count", "first"), [(0, 1), (1, 0), (1, 1 << 63), (2, (1 << 63) - 2), (1 << 31, 1)]
)
def test_numbers_that_make_no_sense(count, first):
    header = r.HEADER.pack(r.PUBLISH, 0, 0, count, first, ME, r.NOBODY)
    with pytest.raises(RemoteProtocolError, match=f"{count} messages, number {first}"):
        r.parse(header + bytes(64))


def test_a_topic_that_is_no_text():
    record = r.encode_publication(r.PUBLISH, 0, b"\xff", 1, ME, r.NOBODY, [b""])
    with pytest.raises(RemoteProtocolError, match="no text"):
        r.parse(record)


@given(st.integers(0, (1 << 32) - 1), NUMBERS, st.booleans(), st.integers(0, 0xFFFF))
def test_a_job_there_and_back(number, seq, redelivered, turn):
    publication = r.encode_publication(r.PUBLISH, 0, b"t", seq, ME, r.NOBODY, [b"work"])
    job = r.decode_job(r.encode_job(number, seq, redelivered, turn, publication))
    assert job == (number, seq, redelivered, turn, r.parse(publication))


def test_a_job_that_is_cut_off():
    for size in range(r.JOB_SIZE):
        with pytest.raises(RemoteProtocolError, match=f"a job of {size} bytes"):
            r.decode_job(bytes(size))


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5))
def test_acknowledgements_there_and_back(ranges):
    assert r.decode_ack(r.encode_ack(ranges)) == ranges


def test_acknowledgements_that_are_cut_off():
    for size in (7, 9, 16, 23, 25, 32):
        with pytest.raises(RemoteProtocolError, match=f"acknowledgements in {size} bytes"):
            r.decode_ack(bytes(size))


@pytest.mark.parametrize(
    "record",
    [
        r.Subscribe(1, "a.*", "g", True, True, 3, True),
        r.Unsubscribe(1, [(ME, 2, 3)]),
        r.Snapshot(INFO, [r.Subscribe(1, "a")], [r.Job(OTHER, 4, "g a", 1)], [], {OTHER: 4}, [], 7),
        r.Resent(),
        r.Reject(ME, 1, "g a", 2),
        r.Took(1, ME, 2),
        r.Cancel(1),
        r.Confirmed(1),
        r.Gap(ME, 1),
        r.Missed({"a": 2}),
        r.Lost(ME, 1, "g a"),
        r.Ended(1, r.End.DIED),
        r.Responders(1, [ME]),
        r.Roster([INFO], 2**64 - 1),
        r.Joined(INFO),
        r.Left(ME),
        r.Without({ME: 2}),
        r.Taking(1),
    ],
    ids=lambda record: type(record).__name__,
)
def test_control_records_there_and_back(record):
    encoded = r.encode_control(record)
    assert encoded[0] == r.CONTROL
    assert r.decode_control(encoded) == record
    with pytest.raises(RemoteProtocolError, match="a control record"):
        r.decode_control(encoded[:-1])
    with pytest.raises(RemoteProtocolError, match="a control record"):
        r.decode_control(encoded + b"\0")


def test_a_control_record_of_an_unknown_kind():
    with pytest.raises(RemoteProtocolError, match="a control record"):
        r.decode_control(bytes((r.CONTROL,)) + msgspec.msgpack.encode([99, 1]))


def test_a_members_id_has_one_size_and_its_labels_a_bound():
    with pytest.raises(ValueError, match="of 3 bytes"):
        r.MemberInfo(b"abc", 1, {})
    with pytest.raises(ValueError, match="over the limit"):
        r.MemberInfo(ME, 1, {"text": "x" * 10_000})
    assert r.MemberInfo(ME, 1, {}).labels == {}


# --- large ones: see ``batches.Large`` ------------------------------------------------------------


def received(record: Message) -> Large:
    """As it comes out of a session: one view of all of it."""
    return Large(memoryview(bytes(record)))


def test_a_large_body_is_not_copied_into_its_publication():
    body = bytes(LARGE + 1)
    record = r.encode_publication(r.PUBLISH, 0, b"news", 7, ME, r.NOBODY, [body])
    assert isinstance(record, Large)
    assert record.pieces[1] is body
    again = r.mark_resent(record)
    assert isinstance(again, Large)
    assert again.pieces[1] is body
    for flags, one in ((0, record), (r.RESENT, again)):
        found = r.parse(received(one))
        assert (found.flags, found.topic, found.first, found.last) == (flags, "news", 7, 7)
        assert found.messages() == [body]


def test_a_large_job_there_and_back():
    body = bytes(LARGE + 1)
    publication = received(r.encode_publication(r.PUBLISH, 0, b"t", 7, ME, r.NOBODY, [body]))
    record = r.encode_job(3, 7, True, 2, publication)
    assert isinstance(record, Large)
    assert record.pieces[1] is publication.head
    job = r.decode_job(received(record))
    assert (job.subscription, job.seq, job.redelivered, job.turn) == (3, 7, True, 2)
    assert job.publication.messages() == [body]


def test_a_large_job_whose_publication_lies_elsewhere_as_a_whole():
    """It came to the broker through a socket, and goes on through shared memory."""
    body = bytes(LARGE + 1)
    publication = received(r.encode_publication(r.PUBLISH, 0, b"t", 7, ME, r.NOBODY, [body]))
    job = r.decode_job(apart(r.encode_job(3, 7, True, 2, publication)))
    assert (job.subscription, job.seq, job.redelivered, job.turn) == (3, 7, True, 2)
    assert job.publication.messages() == [body]


def apart(record: Message) -> Large:
    """As it comes out of shared memory: a head, and a body that lies elsewhere."""
    assert isinstance(record, Large)
    *head, body = record.pieces
    return Large(b"".join(head), body, place=Place(1, 64, len(body), 7))


def test_a_body_that_lies_elsewhere_is_not_copied():
    body = bytes(LARGE + 1)
    record = apart(r.encode_publication(r.PUBLISH, 0, b"news", 7, ME, r.NOBODY, [body]))
    found = r.parse(record)
    assert (found.topic, found.total, found.first, found.last) == ("news", 1, 7, 7)
    assert found.messages()[0] is body
    assert found.opening(3) == body[:3]
    job = r.encode_job(3, 7, True, 2, record)
    again = r.mark_resent(record)
    for one in job, again:
        assert isinstance(one, Large)
        assert one.place is record.place
        assert one.pieces[-1] is body
    found = r.decode_job(apart(job)).publication
    assert (found.topic, found.first) == ("news", 7)
    assert found.messages()[0] is body


def test_the_opening_of_a_message():
    body = b"opening and the rest"
    record = r.encode_publication(r.PUBLISH, 0, b"news", 7, ME, r.NOBODY, [body])
    assert r.parse(record).opening(7) == b"opening"
    assert r.parse(received(record)).opening(7) == b"opening"


def test_a_head_that_does_not_fit_what_lies_elsewhere():
    body = bytes(LARGE + 1)
    record = r.encode_publication(r.PUBLISH, 0, b"news", 7, ME, r.NOBODY, [body])
    assert isinstance(record, Large)
    head = bytes(record.head)
    two = r.HEADER.pack(r.PUBLISH, 0, 4, 2, 7, ME, r.NOBODY) + b"news" + bytes(8)
    for pieces in ((head + b"+", body), (head, body, body), (two, body)):
        with pytest.raises(RemoteProtocolError, match="lies elsewhere"):
            r.parse(Large(*pieces))
    for size in range(len(head)):
        with pytest.raises(RemoteProtocolError):
            r.parse(Large(head[:size], body))
    with pytest.raises(RemoteProtocolError, match=f"of other than {LARGE} bytes"):
        r.parse(Large(head, body[1:])).messages()


def test_what_is_large_and_no_publication():
    roster = r.Roster([r.MemberInfo(ME, 1, {"text": "x" * 8000})] * 20)
    assert r.decode_control(received(r.encode_control(roster))) == roster
    ranges = [(number, number) for number in range(1, 10_000, 2)]
    assert r.decode_ack(received(r.encode_ack(ranges))) == ranges
