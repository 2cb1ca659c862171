"""Outbox: what is written leaves in order, within its bounds, and stays until acknowledged."""

from __future__ import annotations

import weakref

import pytest

from open_channel.errors import MessageTooLarge, OutboxFull, RemoteProtocolError
from open_channel.protocol.batches import BATCH_LIMIT, OVERHEAD, Large, unpack
from open_channel.protocol.frames import HEADER, REDELIVERED, SHARED, Kind
from open_channel.protocol.limits import Limits
from open_channel.protocol.outbox import Outbox
from open_channel.protocol.shared import Place, decode_told
from open_channel.protocol.states import SendState
from tests.protocol.verbs import (
    ALL,
    decode,
    leaves,
    messages_of,
    outbox,
    whole,
    write_batches,
    write_in_a_row,
)

KIB = 1024


# --- batches --------------------------------------------------------------------------------------


def test_what_is_written_in_a_row_leaves_as_one_batch():
    box = outbox()
    for message in (b"one", b"", b"three"):
        box.write(message)
    assert box.sendable
    assert leaves(box) == [[b"one", b"", b"three"]]
    assert not box.sendable
    assert leaves(box) == []


def test_sealing_parts_batches_and_sealing_nothing_makes_none():
    box = outbox()
    write_batches(box, b"one", b"two")
    box.seal()
    assert box.batches == 2
    assert leaves(box) == [[b"one"], [b"two"]]


@pytest.mark.parametrize("size", [0, 1, 100, 64 * KIB - 5, 64 * KIB - 4, 64 * KIB, 100 * KIB])
def test_a_batch_of_several_messages_stays_within_its_limit(size):
    box = outbox(window=4096 * KIB)
    messages = [bytes(size) for _ in range(5000 if size < KIB else 30)]
    for message in messages:
        box.write(message)
    batches = box.take(ALL)
    assert all(batch.size <= BATCH_LIMIT for batch in batches)
    assert [message for batch in batches for message in messages_of(batch)] == messages
    assert box.batches == len(batches)


def test_a_large_message_travels_alone_and_is_not_copied():
    box = outbox()
    large = bytes(300 * KIB)
    for message in (b"before", large, b"after"):
        box.write(message)
    before, alone, after = box.take(ALL)
    assert alone.payload[-1] is large
    assert [messages_of(batch) for batch in (before, alone, after)] == [
        [b"before"],
        [large],
        [b"after"],
    ]


def test_a_batch_is_a_frame_but_for_its_header():
    box = outbox()
    box.write(b"one")
    box.write(b"two")
    box.finish()
    data = b"".join(batch.header(7) + b"".join(batch.payload) for batch in box.take(ALL))
    message, end = decode(whole(data))
    assert (message.kind, message.flags, message.number, message.ack) == (Kind.MESSAGES, 0, 2, 7)
    assert unpack(message.payload, 2) == [b"one", b"two"]
    assert end == (Kind.END, 0, 1, 7, b"")
    assert len(data) == 2 * HEADER.size + len(message.payload)


# --- bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 10, 1000, 64 * KIB, 200 * KIB])
def test_a_message_over_its_limit_is_refused_and_nothing_queued(limit):
    box = outbox(max_message=limit)
    box.write(bytes(limit))
    size = box.size
    with pytest.raises(MessageTooLarge) as caught:
        box.write(bytes(limit + 1))
    assert (caught.value.size, caught.value.limit) == (limit + 1, limit)
    assert box.size == size
    assert leaves(box) == [[bytes(limit)]]


@pytest.mark.parametrize("size", [0, 1, 92])
def test_a_full_outbox_refuses_and_queues_nothing(size):
    box = outbox(window=1024, drain=1024, outbox=1024)
    for _ in range(10):
        box.write(bytes(92 + OVERHEAD))  # 100 bytes each
    box.write(bytes(20))  # which makes 1024
    with pytest.raises(OutboxFull) as caught:
        box.write(bytes(size))
    assert (caught.value.size, caught.value.limit) == (1024, 1024)
    assert box.size == 1024
    assert sum(map(len, leaves(box))) == 11


def test_what_was_sent_but_not_acknowledged_still_fills_it():
    box = outbox(window=1024, drain=1024, outbox=1024)
    box.write(bytes(1000))
    leaves(box)
    with pytest.raises(OutboxFull):
        box.write(bytes(30))
    box.acknowledge(1)
    box.write(bytes(30))


@pytest.mark.parametrize("size", [100, 1000, 70_000])
def test_what_was_refused_fits_where_nobody_needs_to_drain(size):
    box = outbox(window=1024, drain=100_000, outbox=100_000, max_message=80_000)
    refused = False
    for _ in range(3000):
        if box.over:
            leaves(box)
            box.acknowledge(box.acknowledged + 1)
            continue
        try:
            box.write(bytes(size))
            refused = False
        except OutboxFull:
            assert not refused
            assert box.over
            refused = True
    assert box.size <= 100_000


def test_an_empty_outbox_takes_one_message_larger_than_itself():
    box = outbox(window=1024, drain=1024, outbox=1024)
    box.write(bytes(5000))
    assert box.size == 5000 + OVERHEAD
    with pytest.raises(OutboxFull):
        box.write(b"")
    assert leaves(box) == [[bytes(5000)]]


def test_its_size_counts_what_is_not_acknowledged():
    box = outbox()
    assert box.empty
    write_batches(box, bytes(10), bytes(20))
    assert box.size == 30 + 2 * OVERHEAD
    leaves(box)
    box.acknowledge(1)
    assert box.size == 20 + OVERHEAD
    box.acknowledge(2)
    assert box.empty


def test_limits_are_agreed_on_downwards_only():
    box = outbox(window=2048, max_message=100 * KIB)
    box.agree(window=1 << 40, max_message=1 << 40)
    assert (box.window, box.max_message) == (2048, 100 * KIB)
    box.agree(window=1024, max_message=70 * KIB)
    assert (box.window, box.max_message) == (1024, 70 * KIB)
    with pytest.raises(MessageTooLarge):
        box.write(bytes(70 * KIB + 1))


def test_the_next_one_may_take_more_up_to_our_own_limits():
    box = outbox(window=2048, max_message=100 * KIB)
    box.agree(window=1024, max_message=10)
    box.agree(window=1500, max_message=1 << 40)
    assert (box.window, box.max_message) == (1500, 100 * KIB)
    box.write(bytes(100 * KIB))


def test_a_small_limit_agreed_on_holds_as_well():
    box = outbox()
    box.agree(window=1024, max_message=10)
    with pytest.raises(MessageTooLarge):
        box.write(bytes(11))


def test_small_messages_written_on_credit_leave_in_order_and_count():
    box = outbox(window=1024, drain=1024, outbox=2048)
    for message in (b"one", b"two", b"six"):
        assert not box.credit
        box.write(message)
    while box.credit:
        assert not box.over
        box.credit -= 1
        box.pending.append(b"on credit")
    count = len(box.pending)
    assert count > 3
    assert box.size < box.backlog
    box.write(b"last")
    assert not box.over
    assert box.size == box.backlog == 3 * 3 + 9 * (count - 3) + 4 + OVERHEAD * (count + 1)
    assert leaves(box) == [[b"one", b"two", b"six", *[b"on credit"] * (count - 3), b"last"]]
    box.acknowledge(count + 1)
    assert box.empty
    box.write(bytes(1500))
    assert box.over


class Watched(Place):
    """One whose end can be seen."""


def test_a_large_message_keeps_its_place_until_it_is_acknowledged():
    box = outbox()
    place = Watched(1, 64, 200 * KIB, 7)
    gone = weakref.finalize(place, bool)
    box.write(Large(b"head", bytes(200 * KIB), place=place))
    (large,) = box.take(ALL)
    assert large.place is place
    (frame,) = decode(whole(large.told(place, 3)))
    assert (frame.kind, frame.flags, frame.number, frame.ack) == (Kind.MESSAGES, SHARED, 1, 3)
    told, head = decode_told(memoryview(frame.payload))
    assert (told.memory, told.at, told.length, told.stamp) == (1, 64, 200 * KIB, 7)
    assert head == b"head"
    del place, large
    assert gone.alive
    box.acknowledge(1)
    assert not gone.alive


def test_a_large_message_leaves_alone_and_in_its_pieces():
    box = outbox()
    head, body = b"head", bytes(200 * KIB)
    box.write(b"before")
    box.write(Large(head, body))
    box.write(b"behind")
    before, large, behind = box.take(ALL)
    assert (before.count, large.count, behind.count) == (1, 1, 1)
    assert large.payload[1] is head
    assert large.payload[2] is body
    assert messages_of(large) == [head + body]
    assert large.size == OVERHEAD + 4 + len(body)
    assert large.place is None
    box.agree(window=1 << 20, max_message=4 + len(body))
    with pytest.raises(MessageTooLarge):
        box.agree(window=1 << 20, max_message=3 + len(body))


def test_what_was_written_last_on_credit_leaves_with_its_batch_and_counts():
    box = outbox()
    write_in_a_row(box, b"one", b"two", b"three")
    box.credit -= 1
    box.pending.append(b"four")
    assert leaves(box) == [[b"one", b"two", b"three", b"four"]]
    assert box.size == 15 + 4 * OVERHEAD
    box.acknowledge(4)
    assert box.empty


def test_a_message_written_before_that_the_other_side_would_not_take_is_named():
    box = outbox()
    box.write(bytes(100))
    leaves(box)
    box.write(bytes(50))
    box.finish()
    box.agree(window=1024, max_message=100)
    with pytest.raises(MessageTooLarge) as caught:
        box.agree(window=1024, max_message=99)
    assert (caught.value.size, caught.value.limit) == (100, 99)


# --- the window -----------------------------------------------------------------------------------


def test_the_window_bounds_what_is_in_flight():
    box = outbox(window=1024)
    write_batches(box, *[bytes(252)] * 6)  # 256 bytes each
    assert len(leaves(box)) == 4
    assert not box.sendable
    assert leaves(box) == []
    box.acknowledge(1)
    assert box.sendable
    assert len(leaves(box)) == 1
    box.acknowledge(5)
    assert len(leaves(box)) == 1


def test_a_message_larger_than_the_window_travels_beside_a_quarter_of_it():
    box = outbox(window=1024)
    write_batches(box, bytes(252), bytes(5000), b"small")
    assert len(leaves(box)) == 2
    assert not box.sendable
    box.acknowledge(2)
    assert len(leaves(box)) == 1
    box.acknowledge(3)
    write_batches(box, bytes(253), bytes(5000), b"small")
    for number in (4, 5, 6):
        assert len(leaves(box)) == 1
        assert not box.sendable or number == 6
        box.acknowledge(number)
    assert box.empty


def test_taking_stops_once_enough_is_taken():
    box = outbox()
    write_batches(box, *[bytes(96)] * 5)  # 100 bytes each
    assert [len(leaves(box, limit)) for limit in (0, 100, 101, ALL)] == [0, 1, 2, 2]


# --- acknowledgements -----------------------------------------------------------------------------


def test_an_old_acknowledgement_is_no_news():
    box = outbox()
    write_batches(box, b"one", b"two")
    leaves(box)
    assert not box.acknowledge(0)
    assert box.acknowledge(1)
    assert not box.acknowledge(1)
    assert box.acknowledge(2)
    assert not box.acknowledge(1)


def test_it_knows_how_many_the_present_hosting_has_acknowledged():
    box = outbox()
    assert box.acknowledged == 0
    write_batches(box, b"one", b"two", b"three")
    leaves(box)
    box.acknowledge(2)
    assert box.acknowledged == 2
    box.restart()
    assert box.acknowledged == 0
    leaves(box)
    box.acknowledge(1)
    assert box.acknowledged == 1


def test_a_batch_of_which_a_part_is_acknowledged_is_kept():
    box = outbox()
    box.write(b"one")
    box.write(b"two")
    leaves(box)
    assert box.acknowledge(1)
    assert not box.empty
    box.acknowledge(2)
    assert box.empty


@pytest.mark.parametrize("number", [2, 2**64 - 1])
def test_an_acknowledgement_of_what_was_not_sent_is_refused(number):
    box = outbox()
    write_batches(box, b"one", b"two")
    leaves(box, 1)
    with pytest.raises(RemoteProtocolError, match=f"{number} acknowledged, of 1 sent"):
        box.acknowledge(number)


# --- the end --------------------------------------------------------------------------------------


def kinds(box: Outbox) -> list[int]:
    return [batch.kind for batch in box.take(ALL)]


def has_ended(box: Outbox) -> bool:
    return box.state is SendState.ENDED


def test_the_end_leaves_behind_all_that_was_written_and_once():
    box = outbox()
    write_batches(box, b"one")
    box.write(b"two")
    box.finish()
    box.finish()
    assert box.state is SendState.ENDING
    assert kinds(box) == [Kind.MESSAGES, Kind.MESSAGES, Kind.END]
    box.acknowledge(2)
    assert not has_ended(box)
    box.acknowledge(3)
    assert has_ended(box)
    assert box.empty
    box.finish()
    assert kinds(box) == []
    assert has_ended(box)


def test_all_is_delivered_when_only_the_end_is_not_acknowledged():
    box = outbox()
    assert box.delivered
    box.write(b"pending")
    assert not box.delivered
    box.finish()
    assert not box.delivered
    leaves(box)
    assert not box.delivered
    box.acknowledge(1)
    assert box.delivered
    assert not box.empty


def test_an_acknowledgement_from_before_the_end_left_does_not_end_it():
    box = outbox()
    write_batches(box, b"one")
    leaves(box)
    box.finish()
    box.acknowledge(1)
    assert box.state is SendState.ENDING
    assert kinds(box) == [Kind.END]


def test_the_end_is_sent_again_until_it_is_acknowledged():
    box = outbox()
    box.finish()
    assert kinds(box) == [Kind.END]
    box.resume(0)
    assert kinds(box) == [Kind.END]
    box.restart()
    (end,) = box.take(ALL)
    assert (end.kind, end.flags, end.count) == (Kind.END, 0, 1)
    box.acknowledge(1)
    assert box.state is SendState.ENDED


# --- another connection, the same hosting ---------------------------------------------------------


@pytest.mark.parametrize("received", range(5))
def test_what_was_not_received_is_sent_again(received):
    box = outbox()
    messages = [b"one", b"two", b"three", b"four", b"five"]
    write_batches(box, *messages[:4])
    leaves(box)
    write_batches(box, *messages[4:])
    box.resume(received)
    assert leaves_marked(box) == [([message], False) for message in messages[received:]]
    box.acknowledge(5)
    assert box.empty


def test_what_was_not_received_makes_room_in_the_window():
    box = outbox(window=1024)
    write_batches(box, *[bytes(508)] * 3)
    assert len(leaves(box)) == 2
    box.resume(1)
    assert len(leaves(box)) == 1
    assert not box.sendable


@pytest.mark.parametrize("received", [0, 1, 2, 4, 6, 2**64 - 1])
def test_a_count_that_cannot_be_is_refused(received):
    """Of two batches of three and two messages, four are acknowledged, so all five arrived."""
    box = outbox()
    for size in (3, 2):
        for _ in range(size):
            box.write(b"message")
        box.seal()
    leaves(box)
    box.acknowledge(4)
    with pytest.raises(RemoteProtocolError, match=f"{received} received"):
        box.resume(received)
    box.resume(5)
    assert leaves(box) == []


def test_what_was_never_sent_cannot_have_been_received():
    box = outbox()
    write_batches(box, b"one")
    with pytest.raises(RemoteProtocolError):
        box.resume(1)
    box.resume(0)
    assert leaves(box) == [[b"one"]]


def test_what_has_to_be_sent_again_cannot_be_acknowledged_before():
    box = outbox()
    write_batches(box, b"one", b"two")
    leaves(box)
    box.resume(1)
    with pytest.raises(RemoteProtocolError):
        box.acknowledge(2)


def leaves_marked(box: Outbox) -> list[tuple[list[bytes], bool]]:
    """What leaves now, and whether it is marked as redelivered."""
    return [(messages_of(batch), bool(batch.flags & REDELIVERED)) for batch in box.take(ALL)]


# --- another hosting ------------------------------------------------------------------------------


def test_what_an_earlier_host_was_sent_is_marked_and_nothing_else():
    box = outbox()
    write_batches(box, b"one", b"two")
    leaves(box)
    write_batches(box, b"three")
    box.restart()
    assert leaves_marked(box) == [([b"one"], True), ([b"two"], True), ([b"three"], False)]


def test_what_an_earlier_host_has_acknowledged_is_not_sent_again():
    box = outbox()
    write_batches(box, b"one", b"two")
    leaves(box)
    box.acknowledge(1)
    box.restart()
    assert leaves(box) == [[b"two"]]
    assert box.size == 3 + OVERHEAD


def test_a_batch_is_trimmed_to_what_was_not_acknowledged():
    box = outbox()
    for message in (b"one", b"two", b"three"):
        box.write(message)
    leaves(box)
    box.acknowledge(2)
    box.restart()
    assert box.size == 5 + OVERHEAD
    assert leaves_marked(box) == [([b"three"], True)]
    box.acknowledge(1)
    assert box.empty


def test_the_mark_stays_through_any_number_of_hosts():
    box = outbox()
    write_batches(box, b"one")
    leaves(box)
    box.restart()
    write_batches(box, b"two")
    box.restart()
    assert leaves_marked(box) == [([b"one"], True), ([b"two"], False)]


def test_what_an_earlier_host_had_not_received_is_not_marked():
    box = outbox()
    write_batches(box, b"one", b"two")
    leaves(box)
    box.resume(1)
    box.restart()
    assert leaves_marked(box) == [([b"one"], True), ([b"two"], False)]


def test_numbers_begin_anew_with_each_hosting():
    box = outbox()
    write_batches(box, b"one", b"two", b"three")
    leaves(box)
    box.acknowledge(1)
    box.restart()
    leaves(box)
    with pytest.raises(RemoteProtocolError, match="3 acknowledged, of 2 sent"):
        box.acknowledge(3)
    box.acknowledge(1)
    box.resume(1)
    assert leaves(box) == [[b"three"]]


def test_another_hosting_has_the_whole_window():
    box = outbox(window=1024)
    write_batches(box, *[bytes(508)] * 2)
    leaves(box)
    box.restart()
    assert len(leaves(box)) == 2


# --- what is held back, and the end of it all -----------------------------------------------------


def test_what_is_held_back_says_how_much_was_consumed_when_it_was_written():
    consumed = iter([3, 5, 6])
    box = Outbox(Limits(window=1024), lambda: next(consumed))
    for _ in range(2):  # a batch of two: what counts is the first
        box.write(bytes(1000))
    box.seal()
    box.write(bytes(1000))
    box.finish()
    assert [batch.floor for batch in box.unsent] == [3, 5, 6]


def test_a_cleared_outbox_holds_nothing():
    box = outbox()
    write_batches(box, b"sent")
    leaves(box)
    write_batches(box, b"unsent")
    box.write(b"pending")
    box.clear()
    assert box.empty
    assert not box.sendable
    assert leaves(box) == []


@pytest.mark.parametrize("acknowledged", [0, 1, 2])
def test_a_cleared_outbox_serves_another_hosting(acknowledged):
    box = outbox(window=1024)
    write_batches(box, b"sent", b"sent too")
    leaves(box)
    box.acknowledge(acknowledged)
    write_batches(box, b"unsent")
    box.write(b"pending")
    box.clear()
    box.restart()
    assert box.acknowledged == 0
    write_batches(box, bytes(1000), b"new")  # the whole window is free
    first = box.take(ALL)
    assert [messages_of(batch) for batch in first] == [[bytes(1000)], [b"new"]]
    assert not any(batch.flags for batch in first)
    with pytest.raises(RemoteProtocolError, match="3 acknowledged, of 2 sent"):
        box.acknowledge(3)
    box.resume(1)
    assert leaves(box) == [[b"new"]]
    box.acknowledge(2)
    assert box.acknowledged == 2
    assert box.empty


def test_the_end_cannot_be_acknowledged_twice():
    box = outbox()
    box.finish()
    leaves(box)
    box.acknowledge(1)
    assert not box.acknowledge(1)
    with pytest.raises(RemoteProtocolError):
        box.acknowledge(2)


def test_what_the_other_side_has_received_when_it_has_a_batch():
    box = outbox()
    box.write(b"one")
    box.write(b"two")
    (first,) = box.take(ALL)
    box.write(b"three")
    (second,) = box.take(ALL)
    assert (box.number(first), box.number(second)) == (2, 3)
    box.acknowledge(2)
    box.restart()
    (again,) = box.take(ALL)
    assert box.number(again) == 1
