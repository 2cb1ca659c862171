"""Conversations: clients, and the listeners of whoever hosts, over real sessions.

The processes, the lock and the sockets are as in ``world``, and what joins them to the core is as
``channel.client``, ``channel.conversation``, ``channel.listener`` and ``io.host`` do it. Each
process is a client, and hosts when it is elected. What must hold: a host's listener gets each
message once and in order, whatever happens to the connection; what was not acknowledged the
next host's listener gets, marked if an earlier one may have handled it; an acknowledgement means
that a listener is done with a message, and comes behind all that was answered before.
"""

from __future__ import annotations

from open_channel.protocol.control import Hello, Refusal, Welcome
from open_channel.protocol.frames import Frame, Kind
from open_channel.protocol.limits import Limits
from open_channel.protocol.session import Session
from open_channel.protocol.states import (
    ACCEPTED,
    CHANNEL,
    ChannelEvent,
    ChannelState,
    ConnectionState,
    SendState,
    SessionState,
)
from tests.simulation.coverage import heard, step
from tests.simulation.sockets import GOODBYE, PING, Item, Wire, take_hello, take_welcome, transmit
from tests.simulation.violation import Violation

__all__ = ["Client", "Guest", "Hosting", "Talk"]

_ACCEPTED = ACCEPTED[ConnectionState.OPEN]
_STREAM = frozenset({int(Kind.MESSAGES), int(Kind.END)})
_WIDTH = 4  # bytes of a message, which is its number; replies say whose they are too


class Line(Wire):
    """A connection between a client and a hosting."""

    __slots__ = ("client", "guest", "hosting")

    def __init__(self, client: Client, hosting: Hosting, room: int) -> None:
        super().__init__(room)
        self.client = client
        self.hosting = hosting
        self.guest: Guest | None = None


def as_frame(item: Item) -> Frame:
    """An item of an open connection."""
    assert isinstance(item, Frame)
    assert item.kind in _ACCEPTED
    heard[item.kind] += 1
    return item


class Client:
    """One process: what its user writes and reads, and its link to the host."""

    def __init__(self, talk: Talk, index: int) -> None:
        self.talk = talk
        self.index = index
        self.id = (index + 1).to_bytes(16, "big")
        self.name = f"c{index}"
        self.alive = self.present = True
        self.paused_at: float | None = None
        self.woke_at = talk.now
        self.state = ChannelState.INITIATED
        self.session = Session(talk.limits, hosts=False)
        self.line: Line | None = None
        self.lines: list[Line] = []
        self.hosting: Hosting | None = None
        self.counter = 0
        self.suspect = 0
        self.closing = False
        self.written = 0
        self.numbers: dict[int, int] = {}
        """{hosting: the last of its replies that was read}."""

    @property
    def runs(self) -> bool:
        return self.alive and self.paused_at is None

    # --- its user --------------------------------------------------------------------------

    def connect(self) -> None:
        self.state = step(CHANNEL, self.state, ChannelEvent.CONNECT)

    def write(self, count: int) -> None:
        for _ in range(count):
            self.written += 1
            self.session.outbox.write(self.written.to_bytes(_WIDTH))
        self._flush()

    def take(self) -> None:
        """Read one message; at the end, close."""
        inbox = self.session.inbox
        if inbox.messages:
            reply = bytes(inbox.messages.popleft())
            hosting, number = int.from_bytes(reply[:_WIDTH]), int.from_bytes(reply[_WIDTH:])
            last = self.numbers.get(hosting, 0)
            if number != last + 1:
                self.talk.fail(f"{self.name} reads reply {number} of {hosting} after {last}")
            self.numbers[hosting] = number
        if not inbox.messages and inbox.ended:
            inbox.end_waits = 0
            self._flush()
            self.over(goodbye=True)
        else:
            self._flush()

    def close(self) -> None:
        """See ``ChannelSocket.close()``: it is over once all is consumed."""
        self.closing = True
        if self.state is ChannelState.INITIATED:
            self.over(goodbye=False)
        else:
            self.session.outbox.finish()
            self._flush()
            self._progressed()

    def _progressed(self) -> None:
        if self.closing and self.state is not ChannelState.CLOSED:
            outbox = self.session.outbox
            if self.session.state is not SessionState.OPEN and not self.written:
                self.over(goodbye=True)
            elif outbox.delivered:
                self.talk.all_done(self)
                self.over(goodbye=True)

    def over(self, *, goodbye: bool) -> None:
        """The channel is closed."""
        self.state = step(CHANNEL, self.state, ChannelEvent.CLOSED)
        line, self.line = self.line, None
        if line is not None:
            if goodbye and line.welcomed:
                line.up.write(GOODBYE)
                line.close_member(at_once=False)
            else:
                line.close_member()
        self.session.close()

    # --- its link --------------------------------------------------------------------------

    def advance(self) -> None:
        """Stand for election, or dial."""
        talk = self.talk
        holder = talk.holder
        if holder is None or (self.suspect == holder.number and not self.hosts):
            talk.elect(self)
            return
        self.counter += 1
        line = self.line = Line(self, holder, talk.room)
        self.lines.append(line)
        del self.lines[:-3]
        session, limits = self.session, talk.limits
        hello = Hello(
            service="l",
            member=self.id,
            counter=self.counter,
            hosting=session.hosting,
            received=session.inbox.received,
            window=limits.window,
            max_message=limits.max_message,
        )
        line.up.write(hello)

    @property
    def hosts(self) -> bool:
        return self.hosting is not None and self.hosting.hosting

    def drop(self) -> None:
        line, self.line = self.line, None
        if line is not None:
            line.close_member()
            if line.welcomed:
                self.session.lost()
                self.state = step(CHANNEL, self.state, ChannelEvent.LOST)

    def read(self, count: int) -> None:
        line = self.line
        assert line is not None
        items = line.down.take(count)
        if not items:
            self.drop()
            return
        if not line.welcomed:
            answer = take_welcome(items)
            if answer is None:
                self.drop()
                return
            self.session.welcomed(answer.hosting, answer.received, resumed=answer.resumed)
            self.session.outbox.agree(answer.window, answer.max_message)
            self.state = step(CHANNEL, self.state, ChannelEvent.WELCOMED)
            line.welcomed = True
            self.suspect = 0
        self._receive(line, [as_frame(item) for item in items])

    def _receive(self, line: Line, items: list[Frame]) -> None:
        inbox, outbox = self.session.inbox, self.session.outbox
        left = False
        for item in items:
            if item.kind in _STREAM:
                inbox.receive(item)
            left = left or item.kind == Kind.GOODBYE
            if outbox.acknowledge(item.ack):
                self.talk.acknowledged(self, line.guest)
        if left:
            self.drop()
        elif inbox.ended and self.talk.leaves_at_once:
            self.over(goodbye=True)  # what has arrived can be read; nobody here does
        else:
            self._flush()
            self._progressed()

    def _flush(self) -> None:
        if self.line is not None and self.line.welcomed:
            transmit(self.session, self.line.up)

    def writable(self) -> None:
        assert self.line is not None
        self.line.up.pump()
        self._flush()

    # --- its end ---------------------------------------------------------------------------

    def crash(self) -> None:
        self.alive = False
        self.paused_at = None
        self._close_lines()

    def _close_lines(self) -> None:
        """The process ends: what was not written will not be."""
        for line in self.lines:
            line.close_member()
        for line in self.talk.lines():
            if line.hosting.process is self:
                line.close_host()

    def leave(self) -> None:
        """Its channel is closed, whatever was written: a hosting is handed over."""
        if self.state is not ChannelState.CLOSED:
            self.over(goodbye=True)
        if self.hosting is not None:
            self.hosting.hand_over()
        self._close_lines()
        self.alive = self.present = False


class Guest:
    """A client's session at a host, and what the listener does with it."""

    def __init__(self, hosting: Hosting, client: Client, hello: Hello) -> None:
        self.hosting = hosting
        self.client = client
        self.counter = 0
        self.session = Session(hosting.talk.limits, hosts=True)
        self.session.outbox.agree(hello.window, hello.max_message)
        self.line: Line | None = None
        self.deaf = False
        self.returned = False
        self.hand = 0
        """The message in hand."""
        self.last = 0
        """The last one that the listener got."""
        self.count = 0
        """How many it is done with."""
        self.replies = 0
        self.answered: list[int] = [0]
        """How many replies there were when it was done with so many messages."""

    @property
    def session_open(self) -> bool:
        return self.session.state is not SessionState.CLOSED

    # --- the listener ----------------------------------------------------------------------

    def take(self) -> None:
        """It comes back for the next: what it had is done. At the end, it returns."""
        self._done()
        inbox = self.session.inbox
        if inbox.messages:
            inbox.in_hand = 1
            self.hand = int.from_bytes(inbox.messages.popleft())
            self.hosting.talk.taken(self, self.hand, redelivered=inbox.redelivered)
            self.last = self.hand
            self.flush()
            return
        inbox.in_hand = 0
        if inbox.ended:
            self.end()
        else:
            self.flush()

    def _done(self) -> None:
        if self.hand:
            self.hosting.talk.done(self.client, self.hand)
            self.hand = 0
            self.count += 1
            self.answered.append(self.replies)

    def reply(self) -> None:
        self.replies += 1
        number = self.replies.to_bytes(_WIDTH)
        self.session.outbox.write(self.hosting.number.to_bytes(_WIDTH) + number)
        self.flush()

    def end(self) -> None:
        """The listener returns, or closes once more: what waits is read by nobody."""
        inbox = self.session.inbox
        self._done()
        inbox.in_hand = inbox.end_waits = 0
        while inbox.messages:
            self.hand = int.from_bytes(inbox.messages.popleft())
            self._done()
        self.returned = True
        if self.session_open and not self.deaf:
            self.session.outbox.finish()
            self.flush()

    def flush(self) -> None:
        if self.hosting.fence() and self.line is not None:
            transmit(self.session, self.line.down)

    def stop(self) -> None:
        self.deaf = True
        self.session.inbox.stop()

    def over(self) -> None:
        self.hosting.guests.pop(self.client.id, None)
        self.line = None
        self.session.close()

    def gone(self) -> None:
        """The client has left or is dead; what it wrote can still be read."""
        self.session.inbox.ended = True
        if self.line is not None:
            self.line.close_host(at_once=False)
        self.over()
        self.hosting.rest.append(self)


class Hosting:
    """One term of one host."""

    def __init__(self, talk: Talk, process: Client, number: int) -> None:
        self.talk = talk
        self.process = process
        self.number = number
        self.hosting = True
        self.guests: dict[bytes, Guest] = {}
        self.rest: list[Guest] = []
        """Whose session is over, and whose listener may not be."""

    def fence(self) -> bool:
        if self.hosting and self.talk.holder is self:
            return True
        self.step_down()
        return False

    def step_down(self) -> None:
        if self.hosting:
            self._end(at_once=True)

    def hand_over(self) -> None:
        """Listeners finish what they have in hand, and nothing else is taken."""
        if not self.hosting or not self.fence():
            return
        for guest in [*self.guests.values(), *self.rest]:
            guest.stop()
            if not guest.returned:
                guest.take()
            guest.flush()
        self._end(at_once=False)

    def _end(self, *, at_once: bool) -> None:
        self.hosting = False
        if self.talk.holder is self:
            self.talk.holder = None
        for guest in list(self.guests.values()):
            line = guest.line
            guest.stop()
            guest.over()
            if line is not None and not at_once:
                line.down.write(GOODBYE)
                line.close_host(at_once=False)
        for line in self.talk.lines():
            if line.hosting is self and (at_once or line.guest is None):
                line.close_host()

    def beat(self) -> None:
        if self.fence():
            for guest in self.guests.values():
                if guest.line is not None and not guest.line.down.paused:
                    guest.line.down.write(PING)

    def look(self) -> None:
        """Who of those without a connection is dead?"""
        for guest in list(self.guests.values()):
            if guest.line is None and not guest.client.present:
                guest.gone()

    def read(self, line: Line, count: int) -> None:
        if not self.fence():
            return
        items = line.up.take(count)
        if not items:
            line.close_host()
            if line.guest is not None and line.guest.line is line:
                line.guest.line = None
                line.guest.session.lost()
                self.look()
            return
        if line.guest is None and not self._admit(line, take_hello(items)):
            return
        guest = line.guest
        assert guest is not None
        inbox, outbox = guest.session.inbox, guest.session.outbox
        left = False
        for frame in map(as_frame, items):
            if frame.kind in _STREAM and not guest.deaf:
                inbox.receive(frame)
            left = left or frame.kind == Kind.GOODBYE
            outbox.acknowledge(frame.ack)
        guest.flush()
        if left:
            guest.gone()

    def _admit(self, line: Line, hello: Hello) -> bool:
        guest = self.guests.get(hello.member)
        if guest is not None and hello.counter <= guest.counter:
            line.down.write(Refusal("stale", "an earlier connection"))
            line.close_host(at_once=False)
            return False
        resumed = guest is not None and hello.hosting == self.number
        if guest is None or not resumed:
            if guest is not None:
                guest.gone()
            guest = self.guests[hello.member] = Guest(self, line.client, hello)
        guest.counter = hello.counter
        if guest.line is not None:
            guest.line.close_host()
            guest.session.lost()
        guest.session.welcomed(self.number, hello.received, resumed=resumed)
        guest.line, line.guest = line, guest
        limits = self.talk.limits
        line.down.write(
            Welcome(
                hosting=self.number,
                epoch=self.number,
                member=self.process.id,
                pid=0,
                resumed=resumed,
                received=guest.session.inbox.received,
                window=limits.window,
                max_message=limits.max_message,
            )
        )
        return True


class Talk:
    """All there is, and what must hold of it."""

    def __init__(self, clients: int, room: int, window: int, *, leaves_at_once: bool) -> None:
        self.room = room
        self.limits = Limits(window=window, max_message=64 * 1024)
        self.leaves_at_once = leaves_at_once
        """Whether a client whose listener has closed leaves without reading what is there."""
        self.now = 100.0
        self.holder: Hosting | None = None
        self.hostings: list[Hosting] = []
        self._taken: dict[tuple[bytes, int], list[int]] = {}
        """{(client, number): the hostings whose listener got it}."""
        self._done: dict[bytes, set[int]] = {}
        self.clients = [Client(self, index) for index in range(clients)]

    def fail(self, what: str) -> None:
        raise Violation(what)

    def lines(self) -> list[Line]:
        return [line for client in self.clients for line in client.lines]

    def elect(self, client: Client) -> None:
        self.holder = client.hosting = Hosting(self, client, len(self.hostings) + 1)
        self.hostings.append(self.holder)

    def silent(self, client: Client) -> bool:
        """Whether its host has given no sign of life for too long."""
        line = client.line
        if line is None or line.down.readable:
            return False
        stopped = line.hosting.process.paused_at
        timeout = self.limits.timeout
        return (
            stopped is not None
            and self.now - stopped > timeout
            and self.now - client.woke_at > timeout
        )

    # --- what must hold --------------------------------------------------------------------

    def taken(self, guest: Guest, number: int, *, redelivered: bool) -> None:
        client, hosting = guest.client, guest.hosting.number
        what = f"the listener of {hosting} gets {client.name}#{number}"
        if guest.last and number != guest.last + 1:
            self.fail(f"{what} after #{guest.last}")
        hostings = self._taken.setdefault((client.id, number), [])
        if hosting in hostings:
            self.fail(f"{what} twice")
        if not guest.last and not self._all_done(client, number - 1):
            self.fail(f"{what}, and something before it is not done")
        if any(earlier < hosting for earlier in hostings) and not redelivered:
            self.fail(f"{what}, as if it were new")
        if redelivered and hosting == 1:
            self.fail(f"{what} as if another had it")
        hostings.append(hosting)

    def done(self, client: Client, number: int) -> None:
        self._done.setdefault(client.id, set()).add(number)

    def _all_done(self, client: Client, last: int) -> bool:
        done = self._done.get(client.id, set())
        return all(number in done for number in range(1, last + 1))

    def all_done(self, client: Client) -> None:
        if not self._all_done(client, client.written):
            self.fail(f"{client.name} has closed, and not all is done")

    def acknowledged(self, client: Client, guest: Guest | None) -> None:
        outbox = client.session.outbox
        last = min(outbox._acked, client.written)
        if not self._all_done(client, last):
            self.fail(f"{client.name} is told that #{last} is done, and it is not")
        if guest is not None:
            count = min(outbox.acknowledged, guest.count)
            if client.session.inbox.received < guest.answered[count]:
                self.fail(f"{client.name} is told that #{last} is done before it has the answer")

    def at_rest(self) -> None:
        for client in self.clients:
            if not client.alive or client.state is ChannelState.CLOSED:
                continue
            if client.state is ChannelState.INITIATED:
                continue
            if client.state is not ChannelState.CONNECTED:
                self.fail(f"{client.name} is {client.state.value}")
            if not client.session.outbox.empty or not self._all_done(client, client.written):
                self.fail(f"{client.name} has something unacknowledged")
            if client.session.outbox.state is not SendState.WRITING:
                self.fail(f"{client.name} never comes to its end")
