"""Shared memory: how it is told where a message lies."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_channel.errors import RemoteProtocolError
from open_channel.protocol.shared import Offer, Place, decode_told

LONG = st.integers(0, 2**64 - 1)


@given(st.integers(0, 2**32 - 1), LONG, LONG)
def test_an_offer_there_and_back(descriptor, size, stamp):
    offer = Offer(descriptor, size, stamp)
    for payload in offer.encode(), memoryview(offer.encode()):
        found = Offer.decode(payload)
        assert (found.descriptor, found.size, found.stamp) == (descriptor, size, stamp)


@given(LONG, LONG, LONG, st.binary(max_size=9))
def test_a_place_there_and_back(at, length, stamp, head):
    place, found = decode_told(memoryview(Place(at, length, stamp).told(head)))
    assert type(found) is bytes
    assert (place.at, place.length, place.stamp, found) == (at, length, stamp, head)


@given(st.binary(max_size=60))
def test_garbage_ends_in_one_kind_of_error(data):
    for decode in Offer.decode, decode_told:
        with contextlib.suppress(RemoteProtocolError):
            decode(memoryview(data))


def test_what_is_cut_off():
    offer = Offer(3, 4096, 5).encode()
    for size in (*range(len(offer)), len(offer) + 1):
        with pytest.raises(RemoteProtocolError, match=f"an offer of {size} bytes"):
            Offer.decode((offer + b"+")[:size])
    told = Place(64, 4096, 5).told(b"")
    for size in range(len(told)):
        with pytest.raises(RemoteProtocolError, match=f"told in {size} bytes"):
            decode_told(memoryview(told[:size]))
