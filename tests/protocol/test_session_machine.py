"""A session against a model of it: any sequence of writes, reads, pieces, cuts and takeovers.

The model knows what each side has written, what each host was given, and what had been put on the
way to earlier hosts. What must hold is checked when a message is taken, when an acknowledgement
arrives, and at the end, when everything must have come through.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from open_channel.protocol.frames import Kind
from open_channel.protocol.limits import Limits
from open_channel.protocol.states import SendState
from tests.protocol.verbs import MANY, Pair, decode

LIMITS = Limits(window=1024)
SIZES = st.sampled_from([0, 1, 10, 300, 600, 2000])


class SessionMachine(RuleBasedStateMachine):
    """Writes ``up 0``, ``up 1``, ... to the host, which answers with ``re 0``, ``re 1``, ..."""

    @initialize(connected=st.booleans())
    def begin(self, connected):
        self.pair = Pair(LIMITS, connected=connected)
        self.written = 0
        self.finished = False
        self.sent = 0  # how many were put on the way to any host so far
        self.sent_earlier = 0  # ... to earlier hosts
        self.given_earlier: set[int] = set()  # what earlier hosts have got
        self.answers = 0
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
    @rule(size=SIZES, count=st.integers(1, 3), seal=st.booleans())
    def write(self, size, count, seal):
        for _ in range(count):
            self.member.write(b"up %d " % self.written + bytes(size))
            self.written += 1
        if seal:
            self.member.session.outbox.seal()

    @precondition(lambda self: not self.finished and self.written > 3)
    @rule()
    def finish(self):
        self.finished = True
        self.member.finish()

    @precondition(lambda self: self.host.session.inbox.messages)
    @rule(size=SIZES)
    def take_and_answer(self, size):
        number = int(self.host.take().split()[1])
        self.check_given(number, redelivered=self.host.taken[-1].redelivered)
        self.given.append(number)
        answer = b"re %d " % number + bytes(size)
        self.host.write(answer)
        self.answered.append(answer)

    @precondition(lambda self: not self.host.session.inbox.messages)
    @rule()
    def come_back(self):
        self.host.come_back()

    @precondition(lambda self: self.member.session.inbox.messages)
    @rule()
    def take_answer(self):
        self.member.take()

    # --- what the connection does ---------------------------------------------------------------

    @precondition(lambda self: self.pair.connected)
    @rule()
    def transmit(self):
        for frame in decode([self.member.flush()]):
            self.sent += frame.number if frame.kind == Kind.MESSAGES else 0
        self.host.flush()

    @precondition(lambda self: self.pair.connected)
    @rule(up=st.integers(0, 1500), down=st.integers(0, 1500))
    def deliver(self, up, down):
        self.pair.deliver(up=up, down=down)

    @precondition(lambda self: self.pair.connected)
    @rule(up=st.integers(0, 1500), down=st.integers(0, 1500))
    def cut(self, up, down):
        self.pair.cut(up=up, down=down)

    @precondition(lambda self: not self.pair.connected)
    @rule()
    def resume(self):
        self.pair.resume()
        # What has not arrived counts as sent when it is sent again.
        self.sent = self.done_before + self.host.session.inbox.received

    @rule()
    def replace_host(self):
        self.sent_earlier = max(self.sent_earlier, self.sent)
        self.given_earlier |= set(self.given)
        self.pair.replace_host()
        self.new_hosting()

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


TestSession = SessionMachine.TestCase
TestSession.settings = settings(
    max_examples=settings.default.max_examples // 2, stateful_step_count=30
)
