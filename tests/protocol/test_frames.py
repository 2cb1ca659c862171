"""Frames: the same ones however the bytes arrive, and nothing but them or RemoteProtocolError."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_channel.errors import RemoteProtocolError
from open_channel.protocol.batches import LARGE
from open_channel.protocol.frames import (
    HANDSHAKE_LIMIT,
    HEADER,
    MAGIC,
    REDELIVERED,
    VERSION,
    Decoder,
    Kind,
    encode,
)
from tests.protocol.verbs import WAYS, Plain, byte_by_byte, decode, feed, whole

KIB = 1024
EMPTY = [Kind.END, Kind.ACK, Kind.PING, Kind.GOODBYE]
HANDSHAKE = [Kind.HELLO, Kind.WELCOME, Kind.REFUSAL]
EVERY_KIND = [
    *(Plain(kind, 0, VERSION, MAGIC, b"control message") for kind in HANDSHAKE),
    Plain(Kind.MESSAGES, 0, 3, 2**64 - 1, b"three messages"),
    Plain(Kind.MESSAGES, REDELIVERED, 2**32 - 1, 0, b""),
    Plain(Kind.END, 0, 1, 7, b""),
    Plain(Kind.ACK, 0, 0, 8, b""),
    Plain(Kind.PING, 0, 0, 0, b""),
    Plain(Kind.GOODBYE, 0, 0, 0, b""),
]


def to_bytes(*frames: Plain) -> bytes:
    return b"".join(
        HEADER.pack(len(payload), kind, flags, number, ack) + payload
        for kind, flags, number, ack, payload in frames
    )


def message(size: int) -> Plain:
    return Plain(Kind.MESSAGES, 0, 1, 0, (b"0123456789abcdef" * (size // 16 + 1))[:size])


# --- frames arrive --------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("frame", EVERY_KIND, ids=lambda frame: frame.kind.name)
def test_a_frame_of_each_kind_arrives_whole(frame, way):
    assert decode(way(to_bytes(frame))) == [frame]


@pytest.mark.parametrize("way", WAYS)
def test_a_stream_of_all_kinds_arrives_in_order(way):
    assert decode(way(to_bytes(*EVERY_KIND))) == EVERY_KIND


def test_encode_makes_what_the_decoder_reads():
    assert encode(Kind.MESSAGES, 3, 4, b"payload") == to_bytes(
        Plain(Kind.MESSAGES, 0, 3, 4, b"payload")
    )
    assert decode(whole(encode(Kind.PING))) == [Plain(Kind.PING, 0, 0, 0, b"")]


def test_a_frame_is_not_there_before_its_last_byte():
    data = to_bytes(message(5))
    decoder = Decoder()
    for byte in byte_by_byte(data)[:-1]:
        assert list(feed(decoder, byte)) == []
    assert list(feed(decoder, data[-1:])) == [message(5)]


# --- the buffer's boundaries ----------------------------------------------------------------------

BUFFER_SIZES = [8 * KIB, 16 * KIB, 64 * KIB, 256 * KIB]
AROUND_THE_BUFFER = [
    size + off - header
    for size in BUFFER_SIZES
    for off in (-1, 0, 1)
    for header in (0, HEADER.size)
]


@pytest.mark.parametrize("size", [0, 1, *AROUND_THE_BUFFER, 700 * KIB])
def test_frames_of_sizes_around_the_buffers_arrive(size):
    frames = [message(3), message(size), message(5), message(size), message(0)]
    assert decode(whole(to_bytes(*frames))) == frames


@pytest.mark.parametrize("split", [1, HEADER.size - 1, HEADER.size, HEADER.size + 1])
@pytest.mark.parametrize("before", range(8 * KIB - 2 * HEADER.size, 8 * KIB + 1, 3))
def test_a_frame_cut_at_the_buffers_end_arrives(before, split):
    frames = [message(before - HEADER.size), message(100)]
    data = to_bytes(*frames)
    assert decode([data[: before + split], data[before + split :]]) == frames


def test_many_frames_of_one_read_arrive():
    frames = [message(size % 7) for size in range(300)]
    assert decode(whole(to_bytes(*frames))) == frames


def test_an_idle_connection_holds_a_small_buffer():
    decoder = Decoder()
    for _ in range(100):
        list(feed(decoder, to_bytes(message(64))))
    assert len(decoder.get_buffer()) <= 8 * KIB


def test_a_busy_connection_reads_more_at_once_up_to_a_bound():
    """Even one that is never idle: each read fills the room and ends within a frame."""
    decoder = Decoder()
    data = to_bytes(*[message(1000)] * 4000)
    rooms = []
    while data:
        room = decoder.get_buffer()
        rooms.append(len(room))
        count = min(len(room), len(data))
        room[:count], data = data[:count], data[count:]
        decoder.received(count)
    assert max(rooms) <= 256 * KIB
    assert max(rooms[:20]) > 250 * KIB
    assert len(decoder.get_buffer()) == 256 * KIB


def test_a_large_frame_leaves_no_large_buffer_behind():
    decoder = Decoder(10 * KIB * KIB)
    assert list(feed(decoder, to_bytes(message(5000 * KIB)))) == [message(5000 * KIB)]
    assert len(decoder.get_buffer()) <= 256 * KIB
    assert not decoder._used


def test_behind_a_large_message_there_is_room_for_one_like_it_once():
    decoder = Decoder(10 * KIB * KIB)
    one = to_bytes(message(KIB * KIB))
    list(feed(decoder, one))
    assert len(decoder.get_buffer()) == len(one)
    assert list(feed(decoder, to_bytes(message(10)))) == [message(10)]
    assert len(decoder.get_buffer()) <= 256 * KIB


def test_a_buffer_serves_again_when_nobody_has_kept_what_was_in_it():
    decoder = Decoder(10 * KIB * KIB)
    one = to_bytes(message(KIB * KIB))
    list(feed(decoder, one))
    buffers = [read_whole(decoder, one)[0] for _ in range(10)]
    assert len({id(buffer) for buffer in buffers}) == 1
    kept = [read_whole(decoder, one)[1] for _ in range(3)]
    assert len({id(payload.obj) for payload in kept}) == 3
    places = {id(payload.obj) for payload in kept}
    kept.clear()  # all of them are free again
    buffers = [read_whole(decoder, one)[0] for _ in range(10)]
    assert {id(buffer) for buffer in buffers} <= places | {id(buffers[0])}
    assert list(feed(decoder, to_bytes(message(10)))) == [message(10)]
    assert len(decoder.get_buffer()) <= 256 * KIB
    assert not decoder._used


def read_whole(decoder: Decoder, data: bytes) -> tuple[object, memoryview]:
    """Read one frame with one read; returns the buffer that it was read into, and its payload."""
    room = decoder.get_buffer()
    room = decoder.get_buffer()  # an event loop may ask, and then find nothing to read
    assert len(room) == len(data)
    room[:] = data
    (frame,) = decoder.received(len(data))
    return room.obj, frame.payload


def test_the_payload_of_a_large_message_is_never_overwritten():
    """Nor does anything behind it get lost, however it was cut."""
    sizes = [200 * 1024, 10, 140 * 1024, 140 * 1024, 600 * 1024, 600 * 1024, 1, LARGE + 1]
    stream = b"".join(
        encode(Kind.MESSAGES, 1, 0, bytes([number]) * size) for number, size in enumerate(sizes)
    )
    for step in (1 << 20, 100_000, 65_537):
        decoder = Decoder(1 << 20)
        kept: list[memoryview | bytes] = []
        position = 0
        while position < len(stream):
            room = decoder.get_buffer()
            count = min(len(room), step, len(stream) - position)
            room[:count] = stream[position : position + count]
            position += count
            for frame in decoder.received(count):
                large = len(frame.payload) > LARGE
                kept.append(frame.payload if large else bytes(frame.payload))
        assert [len(payload) for payload in kept] == sizes
        assert all(payload == bytes([number]) * len(payload) for number, payload in enumerate(kept))


def test_a_payload_is_a_view_that_holds_until_the_next_get_buffer():
    decoder = Decoder()
    frames = [message(size) for size in (10, 20, 30)]
    data = to_bytes(*frames)
    room = decoder.get_buffer()
    room[: len(data)] = data
    views = [frame.payload for frame in decoder.received(len(data))]
    assert all(view.obj is room.obj for view in views)  # no copy was made
    assert [bytes(view) for view in views] == [frame.payload for frame in frames]
    decoder.get_buffer()[:] = bytes(len(room))
    assert not any(views[0])


# --- frames that cannot be ------------------------------------------------------------------------


def peak_of_refusing(data: bytes, limit: int) -> int:
    """The memory taken, in bytes, while a decoder refuses the data."""
    decoder = Decoder(limit)
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            list(feed(decoder, data))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.name)
@pytest.mark.parametrize("length", [2**31, 2**32 - 1, 65 * KIB * KIB])
def test_a_claimed_length_over_the_limit_is_refused_before_it_is_allocated(kind, length):
    header = HEADER.pack(length, kind, 0, 1, MAGIC)
    assert peak_of_refusing(header, limit=64 * KIB * KIB) < 64 * KIB


@pytest.mark.parametrize("limit", [0, 100, HANDSHAKE_LIMIT, 300 * KIB])
def test_a_payload_may_be_as_large_as_the_limit(limit):
    frame = message(limit)
    assert decode(whole(to_bytes(frame)), limit) == [frame]
    with pytest.raises(RemoteProtocolError, match=f"MESSAGES of {limit + 1} bytes"):
        decode(whole(to_bytes(message(limit + 1))), limit)


def test_the_limit_is_that_of_the_handshake_until_it_is_raised():
    decoder = Decoder()
    assert len(list(feed(decoder, to_bytes(message(HANDSHAKE_LIMIT))))) == 1
    decoder.limit = HANDSHAKE_LIMIT + 1
    assert len(list(feed(decoder, to_bytes(message(HANDSHAKE_LIMIT + 1))))) == 1
    with pytest.raises(RemoteProtocolError):
        list(feed(Decoder(), to_bytes(message(HANDSHAKE_LIMIT + 1))))


@pytest.mark.parametrize("kind", HANDSHAKE, ids=lambda kind: kind.name)
def test_a_control_message_keeps_to_its_own_limit(kind):
    largest = encode(kind, VERSION, MAGIC, bytes(HANDSHAKE_LIMIT))
    assert len(decode(whole(largest))) == 1
    with pytest.raises(RemoteProtocolError, match=f"{kind.name}.* limit of {HANDSHAKE_LIMIT}"):
        decode(whole(encode(kind, VERSION, MAGIC, bytes(HANDSHAKE_LIMIT + 1))))


@pytest.mark.parametrize("kind", [0, max(Kind) + 1, 255])
def test_an_unknown_kind_is_refused(kind):
    with pytest.raises(RemoteProtocolError, match=f"kind {kind}"):
        decode(whole(encode(kind)))


@pytest.mark.parametrize("kind", EMPTY, ids=lambda kind: kind.name)
def test_a_payload_where_none_belongs_is_refused(kind):
    with pytest.raises(RemoteProtocolError, match=kind.name):
        decode(whole(encode(kind, payload=b"x")))


@pytest.mark.parametrize("kind", HANDSHAKE, ids=lambda kind: kind.name)
def test_a_control_message_without_the_magic_number_is_refused(kind):
    with pytest.raises(RemoteProtocolError, match="magic"):
        decode(whole(encode(kind, VERSION, MAGIC + 1, b"payload")))


def test_another_protocol_is_refused_at_its_first_bytes():
    with pytest.raises(RemoteProtocolError):
        decode(byte_by_byte(b"GET / HTTP/1.1\r\nHost: localhost\r\n"))


# --- anything at all ------------------------------------------------------------------------------

plain_frames = st.one_of(
    st.builds(
        Plain,
        st.just(int(Kind.MESSAGES)),
        st.integers(0, 255),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**64 - 1),
        st.binary(max_size=200) | st.integers(0, 20_000).map(bytes),
    ),
    st.sampled_from(EVERY_KIND),
)
streams = st.lists(plain_frames, max_size=8).map(lambda frames: to_bytes(*frames))


def cut_at(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


def digest(pieces: list[bytes]) -> list[Plain]:
    """Decode what may be garbage; any error but RemoteProtocolError fails the test."""
    try:
        return decode(pieces, limit=64 * KIB)
    except RemoteProtocolError:
        return []


@given(st.lists(plain_frames, max_size=8), st.lists(st.integers(0), max_size=8))
def test_any_frames_in_any_pieces_arrive(frames, places):
    assert decode(cut_at(to_bytes(*frames), places)) == frames


@given(st.binary(max_size=300), st.lists(st.integers(0), max_size=4))
def test_garbage_is_refused_and_breaks_nothing(garbage, places):
    digest(cut_at(garbage, places))


@given(streams, st.binary(min_size=HEADER.size, max_size=100), st.lists(st.integers(0), max_size=4))
def test_garbage_behind_valid_frames_breaks_nothing(stream, garbage, places):
    digest(cut_at(stream + garbage, places))


@given(st.sampled_from(Kind), st.integers(0, 2**17), st.binary(max_size=100))
def test_garbage_behind_a_header_breaks_nothing(kind, length, garbage):
    digest([HEADER.pack(length, kind, 0, 1, MAGIC) + garbage])


@given(streams.filter(bool), st.lists(st.integers(0), min_size=1, max_size=5))
def test_flipped_bits_break_nothing(stream, places):
    flipped = bytearray(stream)
    for place in places:
        at = place % (len(stream) * 8)
        flipped[at // 8] ^= 1 << at % 8
    digest(whole(bytes(flipped)))
