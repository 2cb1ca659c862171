"""The session between a member and one hosting: two numbered streams that survive connections.

Each side keeps what it wrote until the other has consumed it (``protocol.outbox``), and keeps
what it received until its user has (``protocol.inbox``). A connection that is lost parks the
session. The next one resumes it by its numbers when it reaches the same hosting; another hosting
starts both streams from zero, and what is unacknowledged is sent again.

The owner of a session moves bytes: ``transmit()`` gives what to write, and what
arrives goes to the inbox or, as acknowledgement, to the outbox.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from open_channel.protocol.batches import LARGE
from open_channel.protocol.frames import HEADER, Kind
from open_channel.protocol.inbox import Inbox
from open_channel.protocol.outbox import Outbox
from open_channel.protocol.states import SESSION, SessionEvent, SessionState, step

if TYPE_CHECKING:
    from collections.abc import Callable

    from open_channel.protocol.limits import Limits
    from open_channel.protocol.outbox import Batch
    from open_channel.protocol.shared import Place

__all__ = ["Session"]

_ACK = int(Kind.ACK)


class Session:
    """One side of a session.

    ``hosts`` is true on the host's side. There, an acknowledgement never overtakes what was
    written before the message was done: whoever sees a message acknowledged has seen, or will
    see, every answer to it, even when the host dies in between. On the member's side it must not
    be so: two sides that both hold back acknowledgements would wait for each other for ever.

    ``carries`` says that what one hosting did not acknowledge is sent again to the next, by
    itself. Where its user does better than that, another hosting begins with nothing.

    ``large`` says that its user takes large messages as they were read, without a copy: see
    ``batches.Large``.
    """

    __slots__ = (
        "_carries",
        "_hosts",
        "_repeats",
        "hosting",
        "inbox",
        "outbox",
        "patience",
        "share",
        "state",
    )

    def __init__(
        self, limits: Limits, *, hosts: bool, carries: bool = True, large: bool = False
    ) -> None:
        self._hosts = hosts
        self._repeats = False  # the last acknowledgement may have been lost with its connection
        self._carries = carries
        self.patience = 0
        """How many consumed messages may wait for something that their acknowledgement can travel
        with, or for a good part of the window to be used up."""
        self.share: Callable[[Batch], Place | None] | None = None
        """Puts the body of a large message where the other side can read it, and says where; None
        when that is not possible."""
        self.inbox = Inbox(limits, large=large)
        self.outbox = Outbox(limits, self.inbox.consumed if hosts else int)
        self.state = SessionState.NEW
        self.hosting = 0
        """The hosting it is with, or was with last; 0 before the first."""

    def welcomed(self, hosting: int, received: int, *, resumed: bool) -> None:
        """A connection is made; the other side has ``received`` messages of this session.

        Raises RemoteProtocolError when the numbers contradict what was sent.
        """
        if resumed:
            self.outbox.resume(received)
            self.inbox.resume()
            self._repeats = True
        else:
            if not self._carries:
                self.outbox.clear()
            self.outbox.restart()
            self.inbox.restart()
        self.hosting = hosting
        self.state = step(SESSION, self.state, SessionEvent.WELCOMED)

    def lost(self) -> None:
        """The connection is gone; the session waits for the next."""
        self.state = step(SESSION, self.state, SessionEvent.LOST)

    def close(self) -> None:
        """Nothing will be sent or received any more; what has arrived can still be taken."""
        if self.state is not SessionState.CLOSED:
            self.state = step(SESSION, self.state, SessionEvent.CLOSED)
            self.outbox.clear()
            self.inbox.ended = True

    def transmit(self, limit: int) -> list[bytes | memoryview]:
        """What to write now, in pieces: messages, ``limit`` bytes or so, and what was consumed.

        Empty when there is nothing, or nothing that may leave before the other side consumes.
        """
        outbox, inbox = self.outbox, self.inbox
        batches = outbox.take(limit) if outbox.pending or outbox.unsent else None
        if not batches and self.patience and not self._repeats and not inbox.owes(self.patience):
            return []
        ack, before = inbox.consumed(), inbox.acked
        if self._hosts and outbox.unsent:
            ack = min(ack, outbox.unsent[0].floor)
        if ack > before:
            self._repeats = False
            inbox.acked = ack
        else:
            ack = before
        if not batches:
            return [HEADER.pack(0, _ACK, 0, 0, ack)] if ack > before else []
        # Only the last frame acknowledges: the others would overtake what is behind them.
        last = batches.pop()
        if not batches and last.size <= LARGE:
            return [last.header(ack), *last.payload]
        out: list[bytes | memoryview] = []
        for batch in batches:
            self._add(batch, before, out)
        self._add(last, ack, out)
        return out

    def _add(self, batch: Batch, ack: int, out: list[bytes | memoryview]) -> None:
        """Append a frame, in pieces."""
        # The body alone: what precedes it in the message is told, and does not lie there.
        large = batch.size > LARGE and batch.count == 1 and len(batch.payload[-1]) > LARGE
        if large and self.share is not None and (place := self.share(batch)) is not None:
            out.append(batch.told(place, ack))
            return
        out.append(batch.header(ack))
        out += batch.payload
        if batch.place is not None:
            # It may be another's when the connection, closing, still holds what was written.
            out[-1] = bytes(out[-1])
