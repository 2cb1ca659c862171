"""Shared memory: how it is told where a message lies."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_channel.errors import RemoteProtocolError
from open_channel.protocol.shared import (
    STAMP,
    Offer,
    Place,
    decode_holding,
    decode_stamp,
    decode_told,
    encode_holding,
)

LONG = st.integers(0, 2**64 - 1)


SHORT = st.integers(0, 2**32 - 1)


@given(SHORT, SHORT, LONG, LONG)
def test_an_offer_there_and_back(pid, descriptor, size, stamp):
    offer = Offer(pid, descriptor, size, stamp)
    for payload in offer.encode(), memoryview(offer.encode()):
        found = Offer.decode(payload)
        assert (found.pid, found.descriptor) == (pid, descriptor)
        assert (found.size, found.stamp) == (size, stamp)


@given(LONG, LONG, LONG, LONG, st.binary(max_size=9))
def test_a_place_there_and_back(memory, at, length, stamp, head):
    place, found = decode_told(memoryview(Place(memory, at, length, stamp).told(head)))
    assert type(found) is bytes
    assert (place.memory, place.at) == (memory, at)
    assert (place.length, place.stamp, found) == (length, stamp, head)


@given(LONG, st.sets(LONG, max_size=50))
def test_what_is_held_there_and_back(number, stamps):
    payload = encode_holding(number, stamps)
    assert len(payload) == STAMP.size * (1 + len(stamps))
    assert decode_holding(payload) == decode_holding(memoryview(payload)) == (number, stamps)


@given(LONG)
def test_which_memory_is_named(stamp):
    assert decode_stamp(STAMP.pack(stamp)) == decode_stamp(memoryview(STAMP.pack(stamp))) == stamp


@given(st.binary(max_size=60))
def test_garbage_ends_in_one_kind_of_error(data):
    for decode in Offer.decode, decode_told, decode_holding, decode_stamp:
        with contextlib.suppress(RemoteProtocolError):
            decode(memoryview(data))


def test_what_is_cut_off():
    offer = Offer(0, 3, 4096, 5).encode()
    for size in (*range(len(offer)), len(offer) + 1):
        with pytest.raises(RemoteProtocolError, match=f"an offer of {size} bytes"):
            Offer.decode((offer + b"+")[:size])
    told = Place(1, 64, 4096, 5).told(b"")
    for size in range(len(told)):
        with pytest.raises(RemoteProtocolError, match=f"told in {size} bytes"):
            decode_told(memoryview(told[:size]))
    for size in (0, *range(9, 16), 17):
        with pytest.raises(RemoteProtocolError, match=f"told in {size} bytes"):
            decode_holding(bytes(size))
    for size in (*range(8), 9, 16):
        with pytest.raises(RemoteProtocolError, match=f"named by {size} bytes"):
            decode_stamp(memoryview(bytes(size)))
