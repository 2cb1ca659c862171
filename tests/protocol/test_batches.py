"""Batches: what was packed comes out, and a table that does not fit is refused."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_channel.errors import RemoteProtocolError
from open_channel.protocol.batches import (
    BATCH_LIMIT,
    LENGTH,
    OVERHEAD,
    Large,
    drop_first,
    pack,
    unpack,
    unwrap_one,
)


def table(*lengths: int) -> bytes:
    return array("I", lengths).tobytes()


@pytest.mark.parametrize(
    "messages",
    [
        [b""],
        [b"", b""],
        [b"one"],
        [b"one", b"two"],
        [b"one", b"", b"three"],
        [b"", b"two", b"three"],
        [bytes(1 << 20)],
        [bytes([i]) * 5000 for i in range(20)],
        [bytes([i]) * (5000 + i) for i in range(20)],
        [b"x"] * (BATCH_LIMIT // (OVERHEAD + 1)),
    ],
    ids=[
        "empty",
        "all empty",
        "one",
        "uniform",
        "mixed",
        "empty first",
        "one large",
        "large uniform",
        "large mixed",
        "as many as there may be",
    ],
)
@pytest.mark.parametrize("kind", [bytes, lambda data: memoryview(bytearray(data))])
def test_what_was_packed_comes_out(messages, kind):
    unpacked = unpack(kind(pack(messages)), len(messages))
    assert unpacked == messages
    assert all(type(message) is bytes for message in unpacked)


@given(st.lists(st.binary(max_size=50) | st.integers(0, 6000).map(bytes), min_size=1, max_size=20))
def test_any_list_of_messages_comes_out(messages):
    payload = pack(messages)
    assert len(payload) == sum(len(message) + OVERHEAD for message in messages)
    assert unpack(payload, len(messages)) == messages


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=20), st.data())
def test_the_first_messages_are_dropped(messages, data):
    dropped = data.draw(st.integers(0, len(messages) - 1))
    rest = drop_first(pack(messages), len(messages), dropped)
    assert unpack(rest, len(messages) - dropped) == messages[dropped:]


def test_a_message_and_its_length_make_a_batch_of_one():
    assert unpack(LENGTH.pack(5) + b"large", 1) == [b"large"]


def test_messages_outlive_the_buffer_they_came_in():
    for messages in ([b"one"], [b"one", b"two"], [b"one", b"three"], [bytes(5000), bytes(6000)]):
        buffer = bytearray(pack(messages))
        unpacked = unpack(memoryview(buffer), len(messages))
        buffer[:] = b"\xff" * len(buffer)
        assert unpacked == messages


@pytest.mark.parametrize(
    ("payload", "count"),
    [
        (b"", 0),
        (b"", 1),
        (b"abc", 1),
        (table(1), 1),
        (table(4) + b"three", 1),
        (table(6) + b"three", 1),
        (table(0), 0),
        (table(0), 2),
        (table(1, 1) + b"x", 2),
        (table(1, 1) + b"xyz", 2),
        (table(2**32 - 1, 2) + b"x", 2),
        (table(1, 1, 1, 1, 1, 1) + b"seven..", 6),
        (table(0, 0), 2**32 - 1),
        (table(0) * (BATCH_LIMIT // OVERHEAD + 1), BATCH_LIMIT // OVERHEAD + 1),
        (table(BATCH_LIMIT, 0) + bytes(BATCH_LIMIT), 2),
    ],
)
def test_a_table_that_does_not_fit_is_refused(payload, count):
    with pytest.raises(RemoteProtocolError):
        unpack(payload, count)


@given(st.binary(max_size=100), st.integers(0, 2**32 - 1) | st.integers(0, 25))
def test_garbage_is_refused_and_breaks_nothing(payload, count):
    try:
        messages = unpack(payload, count)
    except RemoteProtocolError:
        return
    assert pack(messages) == payload


# --- large messages -------------------------------------------------------------------------------


def test_a_large_message_is_as_long_as_its_pieces_and_begins_with_the_first():
    large = Large(b"head", memoryview(b"body"), b"tail")
    assert large.pieces == (b"head", b"body", b"tail")
    assert len(large) == large.size == 12
    assert large.head == b"head"
    assert large[0] == ord("h")
    assert bytes(large) == b"headbodytail"


def test_a_message_is_unwrapped_without_a_copy():
    payload = memoryview(pack([b"message"]))
    message = unwrap_one(payload)
    assert isinstance(message, memoryview)
    assert message.obj is payload.obj
    assert bytes(message) == b"message"
