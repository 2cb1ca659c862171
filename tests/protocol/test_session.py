"""Sessions: in order, exactly once with one host, at least once across hosts, whatever is lost."""

from __future__ import annotations

import pytest

from open_channel.errors import LocalProtocolError, RemoteProtocolError
from open_channel.protocol.batches import Large
from open_channel.protocol.frames import HEADER, SHARED, Decoder, Frame, Kind
from open_channel.protocol.limits import Limits
from open_channel.protocol.session import Session
from open_channel.protocol.shared import Place, decode_told
from open_channel.protocol.states import SendState, SessionState
from tests.protocol.verbs import CHUNK, SMALL_WINDOW, Pair, decode, numbered, whole, write_batches


@pytest.fixture
def pair() -> Pair:
    return Pair()


@pytest.fixture
def narrow() -> Pair:
    """A pair of which each side may have 1024 bytes in flight."""
    return Pair(SMALL_WINDOW)


def write_apart(pair: Pair, messages: list[bytes]) -> None:
    """Put the messages on their way up, each in a frame of its own."""
    for message in messages:
        pair.member.write(message)
        pair.member.flush()


# --- while all is well ----------------------------------------------------------------------------


def test_what_is_written_arrives_in_order_on_both_sides(pair):
    pair.member.write(b"one", b"", b"three")
    pair.host.write(b"a", b"b")
    pair.roundtrip()
    assert pair.host.take_all() == [b"one", b"", b"three"]
    assert pair.member.take_all() == [b"a", b"b"]


def test_what_is_written_before_the_first_connection_arrives():
    pair = Pair(connected=False)
    assert pair.member.session.state is SessionState.NEW
    pair.member.write(b"early")
    pair.resume()
    pair.roundtrip()
    assert pair.host.take_all() == [b"early"]
    assert pair.host.marked == []


def test_one_tick_leaves_as_one_frame_with_the_acknowledgement(pair):
    pair.member.write(b"one", b"two")
    pair.send_up()
    pair.host.take_all()
    pair.host.write(b"answer", b"answer")
    (frame,) = decode(whole(pair.send_down()))
    assert (frame.kind, frame.number, frame.ack) == (Kind.MESSAGES, 2, 2)


def test_with_nothing_to_say_nothing_leaves(pair):
    assert pair.member.session.transmit(2 * CHUNK) == []
    pair.member.write(b"one")
    pair.send_up()
    assert pair.send_down() == b""  # nobody has taken it yet


def test_an_acknowledgement_travels_alone_where_there_is_no_message(pair):
    pair.member.write(b"one")
    pair.send_up()
    pair.host.take_all()
    assert decode(whole(pair.send_down())) == [(Kind.ACK, 0, 0, 1, b"")]
    assert pair.member.session.outbox.empty
    assert pair.send_down() == b""


def test_at_the_host_a_message_is_done_when_the_listener_comes_back(pair):
    pair.member.write(b"one", b"two")
    pair.send_up()
    pair.host.take()
    pair.send_down()
    assert pair.member.acknowledged == 0
    pair.host.take()
    pair.send_down()
    assert pair.member.acknowledged == 1
    pair.host.come_back()
    pair.send_down()
    assert pair.member.acknowledged == 2


# --- cut and resumed with the same host -----------------------------------------------------------


def test_what_was_in_flight_is_sent_again(pair):
    pair.member.write(b"one")
    pair.send_up()
    pair.member.write(b"two")
    pair.member.flush()
    pair.cut()
    pair.member.write(b"three")
    pair.resume()
    pair.roundtrip()
    assert pair.host.take_all() == [b"one", b"two", b"three"]
    assert pair.host.marked == []


def test_a_lost_acknowledgement_is_repeated(pair):
    pair.member.write(b"one")
    pair.send_up()
    pair.host.take_all()
    pair.host.flush()
    pair.cut()
    pair.resume()
    pair.roundtrip()
    assert pair.member.session.outbox.empty
    assert pair.host.take_all() == []


def test_cut_in_both_directions_nothing_is_lost_or_doubled(pair):
    pair.member.write(b"one")
    pair.host.write(b"a")
    pair.member.flush()
    pair.host.flush()
    pair.cut()
    pair.resume()
    pair.settle(lambda message: b"answer to " + message)
    assert pair.host.messages == [b"one"]
    assert pair.member.messages == [b"a", b"answer to one"]


def test_a_parked_session_takes_and_writes(pair):
    pair.member.write(b"one", b"two")
    pair.send_up()
    pair.cut()
    assert pair.host.session.state is SessionState.PARKED
    assert pair.host.take_all() == [b"one", b"two"]
    pair.host.write(b"answer")
    pair.member.write(b"three")
    pair.resume()
    pair.settle()
    assert pair.host.messages == [b"one", b"two", b"three"]
    assert pair.member.messages == [b"answer"]
    assert pair.member.session.outbox.empty


def test_cut_at_every_byte_on_the_way_up():
    messages = numbered(6, size=5)
    length = None
    for up in range(400):
        pair = Pair()
        write_apart(pair, messages)
        length = len(pair.member.in_flight)
        pair.cut(up=up)
        pair.resume()
        pair.settle()
        assert pair.host.messages == messages, f"cut after {up} of {length} bytes"
        assert pair.member.session.outbox.empty
        if up > length:
            return
    pytest.fail(f"{length} bytes are more than expected")


def test_cut_at_every_byte_on_the_way_down():
    """Answers and acknowledgements are lost at every place, twice."""
    messages = numbered(4)
    answers = [b"answer to " + message for message in messages]
    for down in range(len(messages) * (HEADER.size + 20)):
        pair = Pair()
        write_apart(pair, messages)
        pair.send_up()
        for answer in answers:
            pair.host.take()
            pair.host.write(answer)
            pair.host.flush()
        pair.cut(down=down)
        pair.resume()
        pair.host.flush()
        pair.cut(down=down // 2)
        pair.resume()
        pair.host.come_back()
        pair.settle()
        assert pair.host.messages == messages, f"cut after {down} bytes"
        assert pair.member.messages == answers, f"cut after {down} bytes"
        assert pair.member.session.outbox.empty
        assert pair.host.session.outbox.empty


@pytest.mark.parametrize("step", [1, 7, 20, 33])
def test_cut_again_and_again_the_stream_still_advances(step):
    """Each connection carries only a few bytes more than one frame."""
    messages = numbered(20)
    pair = Pair()
    write_apart(pair, messages)
    for _ in range(40):
        pair.member.flush()
        pair.cut(up=HEADER.size + 6 + step, down=step)
        pair.resume()
        pair.host.take_all()
        pair.host.flush()
    assert pair.host.messages == messages
    pair.settle()
    assert pair.host.messages == messages
    assert pair.member.session.outbox.empty


def test_the_window_holds_across_cuts(narrow):
    narrow.member.write(*numbered(30, size=200))
    for up in (0, 100, 700, 3000, 10_000):
        narrow.member.flush()
        narrow.cut(up=up)
        narrow.resume()
    narrow.settle()
    assert narrow.host.messages == numbered(30, size=200)


# --- acknowledgements never overtake --------------------------------------------------------------


def answers_seen_when_acknowledged(pair: Pair, answers: list[bytes]) -> None:
    """From now on, each acknowledgement must find all answers to its messages arrived."""

    def check() -> None:
        done = pair.member.acknowledged
        assert pair.member.arrived[:done] == answers[:done]

    pair.member.on_frame = check


@pytest.mark.parametrize("size", [0, 100, 600, 2000, 70_000])
def test_whoever_sees_a_message_done_has_its_answer_even_with_the_window_full(narrow, size):
    messages = numbered(10)
    answers = numbered(10, size)
    answers_seen_when_acknowledged(narrow, answers)
    narrow.member.write(*messages)
    narrow.send_up()
    for answer in answers:
        narrow.host.take()
        narrow.host.write(answer)
        narrow.send_down()
    narrow.host.come_back()
    narrow.send_down()
    assert (narrow.member.acknowledged == 10) == (size <= 80)  # all answers fit the window
    narrow.settle()
    assert narrow.member.acknowledged == 10
    assert narrow.member.messages == answers


def test_an_answer_held_back_holds_the_acknowledgement_back_across_a_cut(narrow):
    narrow.member.write(b"one", b"two")
    narrow.send_up()
    narrow.host.write(bytes(1020))
    narrow.send_down()
    answers_seen_when_acknowledged(narrow, [bytes(1020), b"answer"])
    narrow.host.take()
    narrow.host.write(b"answer")
    narrow.host.take()
    narrow.cut()
    narrow.resume()
    narrow.send_down()
    assert narrow.member.acknowledged == 0
    narrow.settle()
    assert narrow.member.acknowledged == 2


def test_an_acknowledgement_leaves_in_the_last_frame_of_several(narrow):
    narrow.member.write(b"one")
    narrow.send_up()
    narrow.host.take()
    write_batches(narrow.host.session.outbox, *numbered(3))
    narrow.host.come_back()
    frames = decode(whole(narrow.send_down()))
    assert [frame.ack for frame in frames] == [0, 0, 1]


def test_both_sides_with_full_windows_do_not_wait_for_each_other(narrow):
    """The member's acknowledgements may overtake; if they could not, nothing would move."""
    up, down = numbered(10, size=600), numbered(10, size=500)
    write_batches(narrow.member.session.outbox, *up)
    write_batches(narrow.host.session.outbox, *down)
    narrow.roundtrip()
    narrow.settle(lambda message: message + b" answered")
    assert narrow.host.messages == up
    assert narrow.member.messages == down + [message + b" answered" for message in up]


# --- patience -------------------------------------------------------------------------------------


def patient(pair: Pair, messages: int) -> None:
    """The host's side holds back the acknowledgement of so many messages."""
    pair.host.session.patience = messages


def test_a_patient_side_acknowledges_many_messages_at_once(pair):
    patient(pair, 3)
    for count in range(1, 4):
        pair.member.write(b"one")
        pair.send_up()
        pair.host.take_all()
        assert pair.send_down() == b"", f"after {count}"
    pair.member.write(b"the last straw")
    pair.send_up()
    pair.host.take_all()
    assert decode(whole(pair.send_down())) == [(Kind.ACK, 0, 0, 4, b"")]
    assert pair.send_down() == b""


def test_what_a_patient_side_owes_travels_with_what_it_says(pair):
    patient(pair, 3)
    pair.member.write(b"one")
    pair.send_up()
    pair.host.take_all()
    pair.host.write(b"answer")
    (frame,) = decode(whole(pair.send_down()))
    assert (frame.kind, frame.ack) == (Kind.MESSAGES, 1)


def test_a_patient_side_does_not_let_the_window_run_out(narrow):
    patient(narrow, 1000)
    messages = numbered(50, size=96)
    write_batches(narrow.member.session.outbox, *messages)
    narrow.settle()
    assert narrow.host.messages == messages
    assert not narrow.member.session.outbox.unsent


def test_patience_that_ends_gives_what_is_owed(pair):
    patient(pair, 3)
    pair.member.write(b"one")
    pair.send_up()
    pair.host.take_all()
    assert pair.send_down() == b""
    patient(pair, 0)
    assert decode(whole(pair.send_down())) == [(Kind.ACK, 0, 0, 1, b"")]


# --- the window -----------------------------------------------------------------------------------


def test_the_window_bounds_what_a_side_keeps_for_a_slow_user(narrow):
    messages = numbered(50, size=96)
    write_batches(narrow.member.session.outbox, *messages)
    narrow.roundtrip()
    waiting = narrow.host.session.inbox.messages
    assert 0 < sum(map(len, waiting)) <= SMALL_WINDOW.window
    narrow.settle()
    assert narrow.host.messages == messages


def test_a_peer_that_ignores_the_window_is_refused(narrow):
    narrow.member.session.outbox.window = 10_000
    write_batches(narrow.member.session.outbox, *numbered(5, size=500))
    with pytest.raises(RemoteProtocolError, match="of 1024 allowed"):
        narrow.send_up()


# --- the end --------------------------------------------------------------------------------------


def test_the_end_comes_behind_everything_and_once(pair):
    pair.member.write(b"one", b"two")
    pair.member.finish()
    pair.member.finish()
    frames = decode(whole(pair.send_up()))
    assert [frame.kind for frame in frames] == [Kind.MESSAGES, Kind.END]
    assert pair.host.take_all() == [b"one", b"two"]
    assert pair.host.saw_end
    pair.send_down()
    assert pair.member.session.outbox.state is SendState.ENDED


def test_the_end_waits_for_the_window(narrow):
    narrow.member.write(bytes(1020))
    narrow.member.session.outbox.seal()
    narrow.member.write(b"last")
    narrow.member.finish()
    narrow.roundtrip()
    assert not narrow.host.session.inbox.ended
    narrow.settle()
    assert narrow.host.messages == [bytes(1020), b"last"]
    assert narrow.host.saw_end


@pytest.mark.parametrize("up", range(0, 60, 3))
def test_the_end_survives_cuts_and_takeovers(pair, up):
    pair.member.write(b"one")
    pair.member.finish()
    pair.member.flush()
    pair.cut(up=up)
    pair.resume()
    pair.member.flush()
    pair.cut(up=up)
    pair.takeover() if up % 2 else pair.resume()
    pair.settle()
    assert pair.host.messages == [b"one"]
    assert pair.host.saw_end
    assert pair.member.session.outbox.state is SendState.ENDED


def test_an_acknowledged_end_does_not_go_to_the_next_host(pair):
    pair.member.finish()
    pair.settle()
    pair.takeover()
    assert pair.send_up() == b""


def test_the_hosts_end_does_not_overtake_its_last_answers(narrow):
    narrow.member.write(b"one")
    narrow.send_up()
    narrow.host.take()
    narrow.host.write(bytes(1020))
    narrow.host.session.outbox.seal()
    narrow.host.write(b"last")
    narrow.host.finish()
    narrow.host.come_back()
    narrow.settle()
    assert narrow.member.messages == [bytes(1020), b"last"]
    assert narrow.member.saw_end
    assert narrow.member.acknowledged == 1


# --- states and numbers that cannot be ------------------------------------------------------------


def test_a_session_goes_from_new_to_open_to_parked_and_back():
    session = Session(Limits(), hosts=False)
    assert (session.state, session.hosting) == (SessionState.NEW, 0)
    session.welcomed(7, 0, resumed=False)
    assert (session.state, session.hosting) == (SessionState.OPEN, 7)
    session.lost()
    assert (session.state, session.hosting) == (SessionState.PARKED, 7)
    session.welcomed(7, 0, resumed=True)
    assert session.state is SessionState.OPEN


@pytest.mark.parametrize("carries", [True, False])
def test_what_another_hosting_is_sent_again(carries):
    session = Session(Limits(), hosts=False, carries=carries)
    session.welcomed(7, 0, resumed=False)
    session.outbox.write(b"sent")
    assert session.transmit(CHUNK)
    session.outbox.write(b"not sent")
    session.lost()
    session.welcomed(7, 1, resumed=True)  # the same one: nothing is forgotten
    assert not session.outbox.empty
    session.lost()
    session.welcomed(8, 0, resumed=False)
    again = decode([b"".join(session.transmit(CHUNK))])
    assert sum(frame.number for frame in again) == (2 if carries else 0)
    session.outbox.write(b"new")
    (frame,) = decode(whole(b"".join(session.transmit(CHUNK))))
    assert (frame.kind, frame.flags, frame.number) == (Kind.MESSAGES, 0, 1)
    session.outbox.acknowledge(3 if carries else 1)
    assert session.outbox.empty


def test_two_connections_at_once_are_a_bug_of_ours(pair):
    with pytest.raises(LocalProtocolError):
        pair.member.session.welcomed(1, 0, resumed=True)


@pytest.mark.parametrize("received", [1, 2**64 - 1])
def test_a_welcome_that_contradicts_what_was_sent_is_refused(pair, received):
    pair.cut()
    with pytest.raises(RemoteProtocolError):
        pair.member.session.welcomed(1, received, resumed=True)
    assert pair.member.session.state is SessionState.PARKED


def test_a_closed_session_sends_nothing_and_keeps_what_arrived(pair):
    pair.host.write(b"a")
    pair.send_down()
    pair.member.write(b"never sent")
    pair.member.session.close()
    pair.member.session.close()
    assert pair.member.session.state is SessionState.CLOSED
    assert pair.member.session.outbox.empty
    assert pair.member.take_all() == [b"a"]


def test_a_receipt_lost_with_its_connection_is_repeated_with_no_patience():
    limits = Limits()
    ours, theirs = Session(limits, hosts=False), Session(limits, hosts=False)
    for side in (ours, theirs):
        side.welcomed(7, 0, resumed=False)
    ours.patience = 64
    theirs.outbox.write(b"message")
    frames = Decoder(limits.max_payload)
    data = b"".join(theirs.transmit(1 << 20))
    frames.get_buffer()[: len(data)] = data
    ours.inbox.receive(frames.received(len(data))[0])
    ours.inbox.messages.clear()
    assert ours.transmit(1 << 20) == []
    ours.lost()
    ours.welcomed(7, 0, resumed=True)
    assert len(ours.transmit(1 << 20)) == 1
    assert ours.transmit(1 << 20) == []


# --- shared memory --------------------------------------------------------------------------------

BODY = bytes(range(256)) * 1024
"""Of more than ``LARGE`` bytes."""


def test_a_large_message_is_told_where_it_lies(pair):
    shared = []

    def share(batch):
        shared.append(bytes(batch.payload[-1]))
        return Place(1, 64, len(BODY), 7)

    pair.member.session.share = share
    outbox = pair.member.session.outbox
    write_batches(outbox, b"before", Large(b"head", BODY), b"behind")
    frames = decode(whole(b"".join(pair.member.session.transmit(2 * CHUNK))))
    assert shared == [BODY]
    assert [(frame.flags, frame.number) for frame in frames] == [(0, 1), (SHARED, 1), (0, 1)]
    place, head = decode_told(memoryview(frames[1].payload))
    assert (place.at, place.length, place.stamp, head) == (64, len(BODY), 7, b"head")
    inbox = pair.host.session.inbox
    for frame in frames:
        inbox.receive(frame, b"head" + BODY if frame.flags else None)
    assert list(inbox.messages) == [b"before", b"head" + BODY, b"behind"]
    inbox.messages.clear()
    pair.send_down()
    assert outbox.empty


def test_one_large_message_alone_is_told_with_what_was_consumed(pair):
    pair.host.write(b"one")
    pair.send_down()
    pair.member.take_all()
    pair.member.session.share = lambda batch: batch.place
    pair.member.session.outbox.write(Large(b"head", BODY, place=Place(1, 64, len(BODY), 7)))
    (frame,) = decode(whole(b"".join(pair.member.session.transmit(2 * CHUNK))))
    assert (frame.flags, frame.ack) == (SHARED, 1)


def test_what_the_other_side_cannot_read_is_written(pair):
    """And copied, where its memory may become another's before the kernel has taken it."""
    pair.member.session.share = lambda batch: None
    outbox = pair.member.session.outbox
    there = memoryview(bytearray(BODY))
    for place in None, Place(1, 64, len(BODY), 7):
        outbox.write(Large(b"head", there, place=place))
        pieces = pair.member.session.transmit(2 * CHUNK)
        assert (pieces[-1] is there) == (place is None)
        (frame,) = decode(whole(b"".join(pieces)))
        assert (frame.flags, bytes(frame.payload[4:])) == (0, b"head" + BODY)


def test_a_message_in_shared_memory_counts_as_it_would_in_a_frame(narrow):
    frame = Frame(Kind.MESSAGES, SHARED, 1, 0, memoryview(b""))
    inbox = narrow.host.session.inbox
    inbox.receive(frame, BODY)
    with pytest.raises(RemoteProtocolError, match="in flight of 1024 allowed"):
        inbox.receive(frame, BODY)
