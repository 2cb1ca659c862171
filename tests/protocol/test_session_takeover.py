"""Sessions across hosts: at least once, marked when it may be the second time, never lost."""

from __future__ import annotations

import pytest

from open_channel.protocol.frames import Kind
from tests.protocol.verbs import SMALL_WINDOW, Pair, decode, numbered, whole, write_batches


@pytest.fixture
def pair() -> Pair:
    return Pair()


@pytest.fixture
def narrow() -> Pair:
    """A pair of which each side may have 1024 bytes in flight."""
    return Pair(SMALL_WINDOW)


def test_what_was_not_acknowledged_goes_to_the_next_host_marked(pair):
    pair.member.write(b"one")
    pair.roundtrip()
    pair.member.write(b"two")
    pair.send_up()
    assert pair.host.take_all() == [b"one", b"two"]
    pair.host.flush()
    pair.takeover()  # the acknowledgement was on its way
    pair.member.write(b"three")
    pair.settle()
    assert pair.host.messages == [b"one", b"two", b"three"]
    assert pair.host.marked == [b"one", b"two"]
    assert pair.member.session.outbox.empty


def test_what_was_acknowledged_does_not_go_to_the_next_host(pair):
    pair.member.write(b"one")
    pair.settle()
    pair.takeover()
    pair.settle()
    assert pair.host.messages == []


def test_what_was_never_sent_to_an_earlier_host_is_not_marked(narrow):
    messages = numbered(8, size=400)
    write_batches(narrow.member.session.outbox, *messages)
    narrow.roundtrip()
    narrow.takeover()
    narrow.settle()
    assert narrow.host.messages == messages
    assert narrow.host.marked == messages[:2]  # the window let no more go


def test_what_is_written_between_two_hosts_is_not_marked(pair):
    pair.member.write(b"one")
    pair.member.flush()
    pair.replace_host()
    pair.member.write(b"two")
    pair.resume()
    pair.settle()
    assert pair.host.marked == [b"one"]
    assert pair.host.messages == [b"one", b"two"]


@pytest.mark.parametrize("done", range(5))
def test_a_batch_half_done_is_trimmed_at_a_takeover(pair, done):
    messages = numbered(5)
    pair.member.write(*messages)
    pair.send_up()
    for _ in range(done + 1):
        pair.host.take()
    pair.send_down()
    pair.takeover()
    pair.settle()
    assert pair.host.messages == pair.host.marked == messages[done:]


def test_after_a_takeover_cuts_are_harmless_again(pair):
    messages = numbered(9)
    pair.member.write(*messages[:3])
    pair.send_up()
    pair.host.take()
    pair.host.take()
    pair.send_down()
    pair.takeover()
    pair.member.write(*messages[3:6])
    pair.send_up()
    pair.host.take()
    pair.host.flush()
    pair.cut(down=3)
    pair.resume()
    pair.member.write(*messages[6:])
    pair.settle()
    assert pair.host.messages == messages[1:]
    assert pair.host.marked == messages[1:3]


def test_takeover_after_takeover_loses_nothing(pair):
    messages = numbered(12)
    done = []
    for start in range(0, 12, 3):
        pair.member.write(*messages[start : start + 3])
        pair.send_up()
        done.append(pair.host.take())
        pair.takeover()
    pair.settle()
    assert pair.host.messages == messages
    assert pair.host.marked == messages
    assert done == [messages[0]] * 4


def test_what_the_member_has_received_survives_its_host(pair):
    pair.host.write(b"a", b"b")
    pair.send_down()
    pair.member.take()
    pair.takeover()
    pair.host.write(b"c")
    pair.settle()
    assert pair.member.messages == [b"a", b"b", b"c"]
    assert pair.host.session.outbox.empty


def test_the_next_host_is_not_told_what_an_earlier_one_sent(pair):
    """Messages of the dead host still wait: they count for nothing at the new one."""
    pair.host.write(*numbered(5))
    pair.send_down()
    pair.takeover()
    pair.member.write(b"up")
    assert {frame.ack for frame in decode(whole(pair.send_up()))} == {0}
    pair.host.write(b"new")
    pair.send_down()
    for _ in range(5):
        pair.member.take()
        assert pair.send_up() == b""
    assert pair.member.take() == b"new"
    assert decode(whole(pair.send_up())) == [(Kind.ACK, 0, 0, 1, b"")]


def test_the_next_host_learns_what_was_consumed_of_its_own(pair):
    """Its numbers are lower than those that an earlier host was told."""
    pair.host.write(*numbered(3))
    pair.settle()
    pair.takeover()
    pair.host.write(b"new")
    pair.settle()
    assert pair.member.messages == [*numbered(3), b"new"]
    assert pair.host.session.outbox.empty
