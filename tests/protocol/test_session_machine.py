"""A session against a model of it: any sequence of writes, reads, pieces, cuts and takeovers.

The model knows what each side has written, what each host was given, and what had been put on the
way to earlier hosts. What must hold is checked when a message is taken, when an acknowledgement
arrives, and at the end, when everything must have come through.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from open_channel.protocol.frames import HEADER, Kind
from open_channel.protocol.states import SendState
from tests.protocol.verbs import MANY, SMALL_WINDOW, Pair, decode

SIZES = st.sampled_from([0, 1, 10, 300, 600, 2000])
BYTES = st.sampled_from([0, 1, HEADER.size, 300, 1000, 10_000])  # how much arrives
COUNTS = st.integers(1, 4)


class SessionMachine(RuleBasedStateMachine):
    """Writes ``up 0``, ``up 1``, ... to the host, which answers with ``re 0``, ``re 1``, ..."""

    @initialize(connected=st.booleans())
    def begin(self, connected):
        self.pair = Pair(SMALL_WINDOW, connected=connected)
        self.written = 0
        self.finished = False
        self.sent = 0  # how many were put on the way to any host so far
        self.sent_earlier = 0  # ... to earlier hosts
        self.given_earlier: set[int] = set()  # what earlier hosts have got
        self.new_hosting()

    def new_hosting(self):
        self.given: list[int] = []  # what this host has got
        self.answered: list[bytes] = []  # what this host has written
        self.arrived_before = len(self.pair.member.arrived)
        self.done_before = self.pair.member.acknowledged
        self.pair.member.on_frame = self.check_acknowledged

    @property
    def member(self):
        return self.pair.member

    @property
    def host(self):
        return self.pair.host

    # --- what users do --------------------------------------------------------------------------

    @precondition(lambda self: not self.finished)
    @rule(sizes=st.lists(SIZES, min_size=1, max_size=4), apart=st.booleans())
    def write(self, sizes, apart):
        for size in sizes:
            self.member.write(b"up %d " % self.written + bytes(size))
            self.written += 1
            if apart:
                self.member.session.outbox.seal()

    @precondition(lambda self: not self.finished and self.written > 3)
    @rule()
    def finish(self):
        self.finished = True
        self.member.finish()

    @rule(count=COUNTS, size=SIZES, apart=st.booleans())
    def listen(self, count, size, apart):
        """The listener takes some messages and answers each; it comes back for more or it stays."""
        while count and self.host.session.inbox.messages:
            self.take_and_answer(size)
            if apart:
                self.host.session.outbox.seal()
            count -= 1
        if count:
            self.host.come_back()

    def take_and_answer(self, size):
        number = int(self.host.take().split()[1])
        self.check_given(number, redelivered=self.host.taken[-1].redelivered)
        self.given.append(number)
        answer = b"re %d " % number + bytes(size)
        self.answered.append(answer)
        self.host.write(answer)

    @rule(count=COUNTS)
    def read_answers(self, count):
        while count and self.member.session.inbox.messages:
            self.member.take()
            count -= 1

    # --- what the connection does ---------------------------------------------------------------

    def transmit(self):
        for frame in decode([self.member.flush()]):
            self.sent += frame.number if frame.kind == Kind.MESSAGES else 0
        self.host.flush()

    @precondition(lambda self: self.pair.connected)
    @rule(up=BYTES, down=BYTES)
    def deliver(self, up, down):
        self.transmit()
        self.pair.deliver(up=up, down=down)

    @precondition(lambda self: self.pair.connected)
    @rule(up=BYTES, down=BYTES, resumed=st.booleans())
    def cut(self, up, down, resumed):
        self.transmit()
        self.pair.cut(up=up, down=down)
        if resumed:
            self.connect()

    @precondition(lambda self: not self.pair.connected)
    @rule()
    def connect(self):
        self.pair.resume()
        # What has not arrived counts as sent when it is sent again.
        self.sent = self.done_before + self.host.session.inbox.received

    @rule(connected=st.booleans())
    def replace_host(self, connected):
        self.sent_earlier = max(self.sent_earlier, self.sent)
        self.given_earlier |= set(self.given)
        self.pair.replace_host()
        self.new_hosting()
        if connected:
            self.connect()

    # --- what must hold -------------------------------------------------------------------------

    def check_given(self, number, *, redelivered):
        """In order and once; from an earlier host only what it had not acknowledged; marked."""
        assert number == self.done_before + len(self.given)
        if number in self.given_earlier:
            assert redelivered
        if number >= self.sent_earlier:
            assert not redelivered

    def check_acknowledged(self):
        """A message that is done was given to the host, and its answer is here already."""
        done = self.member.acknowledged - self.done_before
        answers = self.member.arrived[self.arrived_before :]
        assert answers == self.answered[: len(answers)]
        messages_done = min(done, self.written - self.done_before)
        assert messages_done <= len(self.given)
        assert messages_done <= len(answers)

    def teardown(self):
        if not hasattr(self, "pair"):
            return
        if not self.pair.connected:
            self.pair.resume()
        if not self.finished:
            self.member.finish()
        for _ in range(MANY):
            if not self.exchange():
                break
        else:
            raise AssertionError("the two sides never come to rest")
        assert self.given == list(range(self.done_before, self.written))
        assert self.member.arrived[self.arrived_before :] == self.answered
        assert self.member.messages == self.member.arrived
        assert self.member.session.outbox.state is SendState.ENDED
        assert self.member.session.outbox.empty
        assert self.host.session.outbox.empty

    def exchange(self):
        moved = bool(self.pair.send_up())
        while self.host.session.inbox.messages:
            self.take_and_answer(10)
        self.host.come_back()
        moved |= bool(self.pair.send_down())
        return moved | bool(self.member.take_all())


@pytest.mark.timeout(600)  # a failure may take minutes to shrink
def test_whatever_happens_nothing_is_lost_doubled_or_mismarked():
    examples = 2 * settings.default.max_examples
    run_state_machine_as_test(
        SessionMachine, settings=settings(max_examples=examples, stateful_step_count=20)
    )
