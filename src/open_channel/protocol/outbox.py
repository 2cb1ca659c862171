"""The sending direction of a session: numbered, bounded, kept until acknowledged.

Messages written in one tick gather in a list; sealing joins them into a batch, which is a frame
ready to leave. A batch is first unsent, then sent, then acknowledged and gone. Batches, not
messages, are what is queued, counted against the window and sent again.

A message's number is never written: both sides count. Numbers on the wire start from zero with
each new hosting; in here they only grow, and ``_base`` is where the present hosting began.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from open_channel.errors import MessageTooLarge, OutboxFull, RemoteProtocolError
from open_channel.protocol.batches import (
    LARGE,
    LENGTH,
    OVERHEAD,
    SEAL,
    Large,
    drop_first,
    pack,
    unpack,
)
from open_channel.protocol.frames import HEADER, REDELIVERED, SHARED, Kind
from open_channel.protocol.states import SENDING, SendEvent, SendState, step

if TYPE_CHECKING:
    from collections.abc import Callable

    from open_channel.protocol.batches import Message
    from open_channel.protocol.limits import Limits
    from open_channel.protocol.shared import Place

__all__ = ["SMALL", "Batch", "Outbox"]

_MESSAGES, _END = int(Kind.MESSAGES), int(Kind.END)  # plain ints are faster than members
SMALL = 128
"""What counts as a small message, in bytes."""
_WRITING, _ENDING = SendState.WRITING, SendState.ENDING  # looked up faster than in their class


class Batch:
    """Some messages, or the end, on their way: a frame but for its header."""

    __slots__ = ("count", "flags", "floor", "kind", "last", "payload", "place", "size")

    def __init__(
        self,
        payload: list[bytes | memoryview],
        count: int,
        size: int,
        last: int,
        floor: int,
        place: Place | None = None,
    ) -> None:
        self.kind = _MESSAGES if payload else _END
        self.flags = 0
        self.payload = payload
        """In pieces to be written in a row: a large message is not copied."""
        self.place = place
        """Where the last piece lies in shared memory, if it does."""
        self.count = count
        self.size = size
        """The payload's size in bytes; what it counts against the window and the outbox."""
        self.last = last
        """The number of its last message."""
        self.floor = floor
        """What this side had consumed when the batch's first message was written: which an
        acknowledgement must not overtake, where that matters; else 0."""

    def header(self, ack: int) -> bytes:
        """What goes before the payload."""
        length = self.size if self.kind == _MESSAGES else 0
        return HEADER.pack(length, self.kind, self.flags, self.count, ack)

    def told(self, place: Place, ack: int) -> bytes:
        """The frame that tells of a large message where its body lies."""
        payload = place.told(b"".join(self.payload[1:-1]))  # a length comes first
        return HEADER.pack(len(payload), self.kind, self.flags | SHARED, 1, ack) + payload


class Outbox:
    """What was written and is not acknowledged yet."""

    __slots__ = (
        "_accounted",
        "_acked",
        "_base",
        "_floor",
        "_in_flight",
        "_ordinary",
        "_own",
        "_pending_floor",
        "_pending_size",
        "_refused",
        "_sealed",
        "_sent",
        "_sent_last",
        "batches",
        "credit",
        "limit",
        "max_message",
        "pending",
        "size",
        "soft",
        "state",
        "unsent",
        "window",
    )

    def __init__(self, limits: Limits, floor: Callable[[], int] = int) -> None:
        self.limit = limits.outbox
        self._own = limits.window, limits.max_message
        self.window, self.max_message = self._own
        self._ordinary = min(SEAL, self.max_message + OVERHEAD)
        self.soft = limits.drain
        self._refused = 0  # the size of the message that was refused last, and may come again
        self.size = 0
        """What it holds, in bytes."""
        self.batches = 0
        """Counts the batches sealed: a measure of how much has been written."""
        self.state = _WRITING
        self._floor = floor
        self.pending: list[Any] = []  # bytes, or one Large alone: a cast would be a call for each
        """What was written since the last batch was sealed."""
        self.credit = 0
        """How many messages of up to ``SMALL`` bytes may be appended to ``pending`` as they are,
        each taking one off: they fit all bounds, and are counted together later. Writing a small
        message that way takes a third of the time of ``write()``. 0 after anything else."""
        self._accounted = 0  # how many of the pending are counted in the sizes
        self._pending_size = 0
        self._pending_floor = 0
        self.unsent: deque[Batch] = deque()
        """The batches that have not left yet, in order."""
        self._sent: deque[Batch] = deque()
        self._in_flight = 0  # the size of what is in _sent
        self._sealed = 0  # the number of the last message sealed
        self._sent_last = 0  # ... of the last one sent
        self._acked = 0  # ... of the last one acknowledged
        self._base = 0

    def write(self, message: Message) -> None:
        """Queue one message.

        Raises MessageTooLarge or OutboxFull, with nothing queued. Whether writing is still
        allowed is the caller's to know.
        """
        if len(self.pending) != self._accounted:
            self._account()
        size = len(message) + OVERHEAD
        if size > self._ordinary or self.size + size > self.limit:
            self._check(size)
            self.seal()
        pending = self.pending
        if not pending:
            self._pending_floor = self._floor()
        pending.append(message)
        self.size += size
        size += self._pending_size
        self._pending_size = size
        count = self._accounted = self._accounted + 1
        if size >= SEAL:
            self.seal()
        elif count > 2 and self._ordinary >= SMALL + OVERHEAD:
            # The third in a row: there may be many.
            room = min(SEAL - size, self.limit - self.size, self.soft - self.size)
            self.credit = max(0, room // (SMALL + OVERHEAD))

    def _account(self) -> None:
        """Count what was appended on credit."""
        if count := len(self.pending) - self._accounted:
            size = sum(map(len, self.pending[self._accounted :])) + count * OVERHEAD
            self._accounted += count
            self._pending_size += size
            self.size += size
        self.credit = 0

    def _check(self, size: int) -> None:
        if size - OVERHEAD > self.max_message:
            raise MessageTooLarge(size=size - OVERHEAD, limit=self.max_message)
        if self.size + size > self.limit and self.size:
            self._refused, self.credit = size, 0
            raise OutboxFull(size=self.size, limit=self.limit)

    def seal(self) -> None:
        """Make a batch of what was written since the last one."""
        if self.pending:
            self.unsent.append(self._sealing())

    def _sealing(self) -> Batch:
        messages = self.pending
        count = len(messages)
        if count != self._accounted:
            self._account()
        self.credit = 0
        self.pending = []
        size = self._pending_size
        self._accounted = self._pending_size = 0
        payload: list[bytes | memoryview]
        place = None
        if size <= LARGE or count > 1:  # a larger one is always alone: see write()
            payload = [pack(messages)]
        else:
            first = messages[0]
            payload = [LENGTH.pack(len(first)), first]
            if isinstance(first, Large):
                payload[1:] = first.pieces
                place = first.place
        self.batches += 1
        last = self._sealed = self._sealed + count
        return Batch(payload, count, size, last, self._pending_floor, place)

    def finish(self) -> None:
        """End the stream behind all that was written; again is harmless."""
        if self.state is _WRITING:
            self.seal()
            self._sealed += 1
            self.size += OVERHEAD
            self.unsent.append(Batch([], 1, OVERHEAD, self._sealed, self._floor()))
        self.state = step(SENDING, self.state, SendEvent.FINISH)

    @property
    def empty(self) -> bool:
        """Whether all that was written is acknowledged."""
        return not self.size and not self.pending

    @property
    def delivered(self) -> bool:
        """Whether every message that was written is acknowledged; the end need not be."""
        return not self.pending and all(batch.kind == _END for batch in (*self._sent, *self.unsent))

    @property
    def acknowledged(self) -> int:
        """How many messages the present hosting has acknowledged."""
        return self._acked - self._base

    @property
    def over(self) -> bool:
        """Whether a writer should wait: it holds more than its soft limit, or what was refused
        last would be refused again.
        """
        if self.credit:
            return False
        self._account()
        if self._refused and (not self.size or self.size + self._refused <= self.limit):
            self._refused = 0
        return self.size > self.soft or self._refused > 0

    @property
    def backlog(self) -> int:
        """What it holds, in bytes; a little less while messages are appended on credit."""
        return self.size + OVERHEAD * (len(self.pending) - self._accounted)

    def number(self, batch: Batch) -> int:
        """What the other side has received when it has this batch."""
        return batch.last - self._base

    @property
    def sendable(self) -> bool:
        """Whether ``take()`` would find something that the window lets go."""
        if self.pending:
            return True
        unsent = self.unsent
        return bool(unsent) and self._lets_go(unsent[0])

    def _lets_go(self, batch: Batch) -> bool:
        # The other side may let a quarter of the window wait for something that its acknowledgement
        # can travel with (``Session.patience``), so beside that much anything may travel.
        in_flight = self._in_flight
        return 4 * in_flight <= self.window or in_flight + batch.size <= self.window

    def take(self, limit: int) -> list[Batch]:
        """The batches that leave now: what the window lets go, ``limit`` bytes or so."""
        unsent = self.unsent
        if self.pending:
            batch = self._sealing()
            if not unsent and self._lets_go(batch):  # as mostly
                self._in_flight += batch.size
                self._sent_last = batch.last
                self._sent.append(batch)
                return [batch]
            unsent.append(batch)
        taken: list[Batch] = []
        while unsent and limit > 0:
            batch = unsent[0]
            if not self._lets_go(batch):
                break
            taken.append(unsent.popleft())
            self._in_flight += batch.size
            self._sent_last = batch.last
            limit -= batch.size
        self._sent += taken
        return taken

    def acknowledge(self, number: int) -> bool:
        """The other side has consumed ``number`` messages of this hosting; whether that is news.

        Raises RemoteProtocolError when so many were never sent.
        """
        number += self._base
        if number <= self._acked:
            return False
        if number > self._sent_last:
            raise RemoteProtocolError(
                reason=f"{number - self._base} acknowledged, of {self._sent_last - self._base} sent"
            )
        self._acked = number
        sent = self._sent
        while sent and sent[0].last <= number:
            size = sent.popleft().size
            self._in_flight -= size
            self.size -= size
        if self.state is _ENDING and not self.unsent and not sent:
            self.state = step(SENDING, self.state, SendEvent.ACKNOWLEDGED)
        return True

    def agree(self, window: int, max_message: int) -> None:
        """Keep to what the other side takes, where that is less than our own limits.

        Another may take more than the one before. Raises MessageTooLarge when a message was written
        already that it would not take.
        """
        before = self.max_message
        self.window, self.max_message = map(min, self._own, (window, max_message))
        self._ordinary = min(SEAL, self.max_message + OVERHEAD)
        if self.max_message >= before:
            return
        self.seal()
        for batch in [*self._sent, *self.unsent]:
            for message in unpack(b"".join(batch.payload), batch.count) if batch.payload else ():
                if len(message) > max_message:
                    raise MessageTooLarge(size=len(message), limit=max_message)

    def resume(self, received: int) -> None:
        """The same hosting again, which has ``received`` messages: the rest will be sent again.

        Raises RemoteProtocolError when that cannot be.
        """
        received += self._base
        sent = self._sent
        # A frame arrives whole or not at all.
        start = sent[0].last - sent[0].count if sent else self._sent_last
        ends = {start, *(batch.last for batch in sent)}
        if received not in ends or received < self._acked:
            raise RemoteProtocolError(reason=f"{received - self._base} received of another count")
        while sent and sent[-1].last > received:
            batch = sent.pop()
            self._in_flight -= batch.size
            self.unsent.appendleft(batch)
        self._sent_last = received

    def restart(self) -> None:
        """Another hosting: number from zero, send all again that is not acknowledged.

        What an earlier host may have handled is marked as redelivered.
        """
        while self._sent:
            batch = self._sent.pop()
            if batch.kind == _MESSAGES:
                batch.flags |= REDELIVERED
                done = batch.count - (batch.last - self._acked)
                if done > 0:
                    self.size -= batch.size
                    _trim(batch, done)
                    self.size += batch.size
            self.unsent.appendleft(batch)
        self._in_flight = 0
        self._base = self._sent_last = self._acked

    def clear(self) -> None:
        """Forget everything: nobody will ever acknowledge it."""
        self.pending = []
        self.credit = self._accounted = self._pending_size = 0
        self.unsent.clear()
        self._sent.clear()
        self._in_flight = self.size = 0
        self._acked = self._sent_last = self._sealed


def _trim(batch: Batch, done: int) -> None:
    """Take the first ``done`` messages away."""
    rest = drop_first(b"".join(batch.payload), batch.count, done)
    batch.payload[:] = (rest,)
    batch.size = len(rest)
    batch.count -= done
