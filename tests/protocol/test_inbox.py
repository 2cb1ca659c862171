"""Inbox: what counts as received, taken and consumed, and the window that bounds it."""

from __future__ import annotations

import pytest

from open_channel.errors import RemoteProtocolError
from open_channel.protocol.batches import LARGE, OVERHEAD, Large
from open_channel.protocol.frames import REDELIVERED, Frame, Kind
from open_channel.protocol.inbox import Inbox
from open_channel.protocol.limits import Limits
from tests.protocol.verbs import end_frame, messages_frame

WINDOW = 1024


@pytest.fixture
def inbox() -> Inbox:
    return Inbox(Limits(window=WINDOW))


def fill(inbox: Inbox, size: int) -> None:
    """Receive a batch of that many bytes."""
    inbox.receive(messages_frame(bytes(size - OVERHEAD)))


def acknowledge(inbox: Inbox) -> None:
    """Take all, and acknowledge it."""
    inbox.messages.clear()
    inbox.acked = inbox.consumed()


# --- received, taken, consumed --------------------------------------------------------------------


def test_messages_wait_in_order(inbox):
    inbox.receive(messages_frame(b"one", b"two"))
    inbox.receive(messages_frame(b"three"))
    assert list(inbox.messages) == [b"one", b"two", b"three"]
    assert inbox.received == 3
    assert inbox.consumed() == 0
    assert not inbox.ended


def test_a_message_is_consumed_when_it_is_taken(inbox):
    inbox.receive(messages_frame(b"one", b"two"))
    inbox.messages.popleft()
    assert inbox.consumed() == 1


def test_a_message_in_hand_is_not_consumed(inbox):
    inbox.receive(messages_frame(b"one", b"two"))
    inbox.in_hand = 1
    inbox.messages.popleft()
    assert inbox.consumed() == 0
    inbox.messages.popleft()
    assert inbox.consumed() == 1
    inbox.in_hand = 0
    assert inbox.consumed() == 2


def test_the_end_counts_as_one_once_it_was_seen(inbox):
    inbox.receive(messages_frame(b"one"))
    inbox.receive(end_frame())
    assert inbox.ended
    assert inbox.received == 2
    inbox.messages.popleft()
    assert inbox.consumed() == 1
    inbox.end_waits = 0
    assert inbox.consumed() == 2


def test_a_stopped_inbox_takes_nothing_more_and_gives_back_what_waits(inbox):
    inbox.in_hand = 1
    inbox.receive(messages_frame(b"one", b"two", b"three"))
    inbox.messages.popleft()
    inbox.stop()
    assert not inbox.messages
    assert inbox.ended
    assert inbox.consumed() == 0
    inbox.in_hand = 0
    assert inbox.consumed() == 1  # what was in hand is done; what waited is not


def test_a_stopped_inbox_gives_back_the_end_too(inbox):
    inbox.in_hand = 1
    inbox.receive(messages_frame(b"one", b"two", b"three"))
    inbox.receive(end_frame())
    inbox.messages.popleft()
    inbox.stop()
    inbox.in_hand = inbox.end_waits = 0  # its user comes back, and sees that it is over
    assert inbox.consumed() == 1


@pytest.mark.parametrize("frame", [messages_frame(b"late"), end_frame()], ids=["message", "end"])
def test_nothing_follows_the_end(inbox, frame):
    inbox.receive(end_frame())
    with pytest.raises(RemoteProtocolError, match=f"{Kind(frame.kind).name} after the end"):
        inbox.receive(frame)
    assert inbox.received == 1


def test_a_malformed_batch_changes_nothing(inbox):
    with pytest.raises(RemoteProtocolError):
        inbox.receive(Frame(Kind.MESSAGES, REDELIVERED, 3, 0, memoryview(b"garbage")))
    assert inbox.received == inbox.consumed() == len(inbox.messages) == 0
    fill(inbox, WINDOW)


# --- the window -----------------------------------------------------------------------------------


def test_a_window_full_is_taken_and_more_is_a_violation(inbox):
    for _ in range(4):
        fill(inbox, WINDOW // 4)
    with pytest.raises(RemoteProtocolError, match=f"of {WINDOW} allowed"):
        fill(inbox, WINDOW // 4)
    assert inbox.received == 4


def test_one_larger_message_may_travel_alone(inbox):
    fill(inbox, 10 * WINDOW)
    with pytest.raises(RemoteProtocolError):
        fill(inbox, 10)


def test_a_larger_message_may_travel_behind_a_quarter_of_the_window(inbox):
    fill(inbox, WINDOW // 4)
    fill(inbox, 10 * WINDOW)


def test_a_larger_message_may_not_travel_behind_more(inbox):
    fill(inbox, WINDOW // 4 + 1)
    with pytest.raises(RemoteProtocolError):
        fill(inbox, 2 * WINDOW)


def test_what_is_acknowledged_makes_room_for_as_much(inbox):
    for _ in range(4):
        fill(inbox, WINDOW // 4)
    for _ in range(3):
        inbox.messages.popleft()
    inbox.acked = inbox.consumed()
    for _ in range(3):
        fill(inbox, WINDOW // 4)
    with pytest.raises(RemoteProtocolError):
        fill(inbox, WINDOW // 4)


def test_taking_alone_makes_no_room(inbox):
    fill(inbox, WINDOW)
    inbox.messages.clear()
    with pytest.raises(RemoteProtocolError):
        fill(inbox, WINDOW)


def test_an_acknowledgement_makes_room(inbox):
    for _ in range(5):
        fill(inbox, WINDOW)
        acknowledge(inbox)
    assert inbox.acked == inbox.received == 5


def test_a_part_of_a_batch_makes_no_room(inbox):
    inbox.receive(messages_frame(bytes(500), bytes(500)))
    inbox.messages.popleft()
    inbox.acked = inbox.consumed()
    with pytest.raises(RemoteProtocolError):
        fill(inbox, 500)


# --- what is owed ---------------------------------------------------------------------------------


def test_more_messages_than_patience_allows_are_owed(inbox):
    inbox.receive(messages_frame(b"one", b"two", b"three"))
    assert not inbox.owes(0)  # none is consumed yet
    inbox.messages.clear()
    assert not inbox.owes(3)
    assert inbox.owes(2)
    inbox.acked = 1
    assert not inbox.owes(2)
    acknowledge(inbox)
    assert not inbox.owes(0)


def test_more_than_a_quarter_of_the_window_is_owed_whatever_the_patience(inbox):
    fill(inbox, WINDOW // 4)
    inbox.messages.clear()
    assert not inbox.owes(1000)
    inbox.receive(messages_frame(b""))
    inbox.messages.clear()
    assert inbox.owes(1000)
    acknowledge(inbox)
    assert not inbox.owes(1000)


# --- other connections ----------------------------------------------------------------------------


def test_the_same_hosting_is_told_again_what_was_acknowledged(inbox):
    inbox.receive(messages_frame(b"one", b"two"))
    acknowledge(inbox)
    inbox.resume()
    assert inbox.acked == 0
    assert inbox.received == inbox.consumed() == 2


def test_another_hosting_counts_from_zero_and_what_arrived_stays(inbox):
    inbox.receive(messages_frame(b"one", b"two"))
    inbox.messages.popleft()
    inbox.acked = 1
    inbox.restart()
    assert inbox.received == inbox.acked == 0
    assert inbox.consumed() == -1
    inbox.receive(messages_frame(b"three"))
    assert list(inbox.messages) == [b"two", b"three"]
    inbox.messages.popleft()
    assert inbox.consumed() == 0
    inbox.messages.popleft()
    assert inbox.consumed() == 1


def test_another_hosting_has_the_whole_window(inbox):
    fill(inbox, WINDOW)
    inbox.restart()
    fill(inbox, WINDOW)


# --- redelivered ----------------------------------------------------------------------------------


def test_exactly_the_messages_that_were_marked_are_redelivered(inbox):
    inbox.receive(messages_frame(b"one", b"two", flags=REDELIVERED))
    inbox.receive(messages_frame(b"three"))
    inbox.receive(end_frame())
    assert not inbox.redelivered  # none was taken yet
    marks = {}
    while inbox.messages:
        message = inbox.messages.popleft()
        marks[message] = inbox.redelivered
    assert marks == {b"one": True, b"two": True, b"three": False}


def test_what_arrives_behind_the_message_taken_last_does_not_change_its_mark(inbox):
    inbox.receive(messages_frame(b"one", flags=REDELIVERED))
    inbox.messages.popleft()
    assert inbox.redelivered
    inbox.receive(messages_frame(b"two", flags=REDELIVERED))
    inbox.receive(end_frame())
    assert inbox.redelivered


def test_marks_are_forgotten_with_the_hosting(inbox):
    inbox.receive(messages_frame(b"one", flags=REDELIVERED))
    inbox.restart()
    for _ in range(2):
        inbox.messages.popleft()
        assert not inbox.redelivered
        inbox.receive(messages_frame(b"new"))


# --- large messages -------------------------------------------------------------------------------


def test_a_large_message_is_bytes_unless_its_user_takes_it_as_it_was_read():
    frame = messages_frame(bytes(LARGE))
    for takes in (False, True):
        inbox = Inbox(Limits(), large=takes)
        inbox.receive(frame)
        (message,) = inbox.messages
        assert isinstance(message, Large if takes else bytes)
        assert bytes(message) == bytes(LARGE)
        if isinstance(message, Large):
            assert isinstance(message.head, memoryview)
            assert message.head.obj is frame.payload.obj


def test_messages_that_are_not_large_alone_are_bytes():
    inbox = Inbox(Limits(), large=True)
    inbox.receive(messages_frame(bytes(LARGE - OVERHEAD)))
    inbox.receive(messages_frame(bytes(LARGE // 2), bytes(LARGE // 2)))
    assert [type(message) for message in inbox.messages] == [bytes, bytes, bytes]


def test_a_message_that_lies_elsewhere_takes_its_place_in_the_row():
    inbox = Inbox(Limits(), large=True)
    elsewhere = Large(b"head", bytes(LARGE))
    inbox.receive(messages_frame(b"before"))
    inbox.receive(messages_frame(b"told", flags=REDELIVERED), elsewhere)
    inbox.receive(messages_frame(b"behind"))
    assert list(inbox.messages) == [b"before", elsewhere, b"behind"]
    assert inbox.received == 3
    inbox.messages.popleft()
    inbox.messages.popleft()
    assert inbox.redelivered
