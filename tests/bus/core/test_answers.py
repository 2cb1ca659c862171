"""Answers: replies and lists of finished jobs, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_channel.bus.core.answers import (
    REPLY_SIZE,
    decode_done,
    decode_reply,
    encode_done,
    encode_reply,
)
from open_channel.errors import RemoteProtocolError

NUMBERS = st.integers(0, 2**63 - 1)


@given(NUMBERS, st.booleans(), st.binary(max_size=9))
def test_a_reply_there_and_back(seq, failed, body):
    assert decode_reply(encode_reply(seq, failed, body)) == (seq, failed, body)


def test_a_reply_that_is_cut_off():
    for size in range(REPLY_SIZE):
        with pytest.raises(RemoteProtocolError, match=f"a reply of {size} bytes"):
            decode_reply(bytes(size))


@given(st.lists(st.tuples(NUMBERS, st.text(max_size=5)), max_size=5))
def test_done_jobs_there_and_back(jobs):
    assert decode_done(encode_done(jobs)) == jobs


def test_done_jobs_that_are_none():
    for garbage in b"\xc1", b"", encode_done([(1, "g t")])[:-1] + b"\xff":
        with pytest.raises(RemoteProtocolError, match="jobs that are done"):
            decode_done(garbage)
