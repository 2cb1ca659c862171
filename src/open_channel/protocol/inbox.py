"""The receiving direction of a session: what has arrived and is not consumed yet.

A message is *received* when its frame is complete, *taken* when the user gets it, and *consumed*
when it counts as done. Where the user's coming back for the next message is what makes one done
(the listener's side), the message taken last is in hand until then.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from open_channel.errors import RemoteProtocolError
from open_channel.protocol.batches import LARGE, OVERHEAD, Large, Message, unpack, unwrap_one
from open_channel.protocol.frames import REDELIVERED, Frame, Kind

if TYPE_CHECKING:
    from open_channel.protocol.limits import Limits

__all__ = ["Inbox"]


_END = int(Kind.END)
_UNSETTLED = 64  # batches whose acknowledgement is looked at together


class Inbox:
    """What was received and is not consumed yet; ``messages`` is for the user's side to take."""

    __slots__ = (
        "_marked",
        "_unacked",
        "_unacked_size",
        "_window",
        "acked",
        "end_waits",
        "ended",
        "in_hand",
        "large",
        "messages",
        "received",
    )

    def __init__(self, limits: Limits, *, large: bool = False) -> None:
        self.large = large
        """Whether its user takes large messages as they were read: see ``batches.Large``."""
        self.messages: deque[Message] = deque()
        self.received = 0
        """How much has arrived of the present hosting; the end counts as one."""
        self.ended = False
        """Whether the end has arrived: nothing follows what is here."""
        self.end_waits = 0
        """1 while the end has arrived and the user has not seen it."""
        self.in_hand = 0
        """1 while the message taken last is not done; the user's side keeps it."""
        self._window = limits.window
        self._marked = 0  # how many of the first messages of this hosting are redelivered
        self.acked = 0
        """The number acknowledged last: the other side may send as much more."""
        self._unacked: deque[tuple[int, int]] = deque()  # (number, size) of batches
        self._unacked_size = 0

    def receive(self, frame: Frame, message: Message | None = None) -> None:
        """Take in a MESSAGES or END frame; ``message`` is what lies elsewhere than in its payload.

        Raises RemoteProtocolError when it is malformed, exceeds the window or follows the end.
        """
        kind, flags, number, _, payload = frame
        if self.ended:
            raise RemoteProtocolError(reason=f"{Kind(kind).name} after the end")
        if kind == _END:
            self.end()
            return
        size = len(payload) if message is None else len(message) + OVERHEAD
        unacked = self._unacked
        if self._unacked_size + size > self._window or len(unacked) > _UNSETTLED:
            self._settle()
            # Beside a quarter of the window a message of any size may travel; see ``Outbox``.
            before = self._unacked_size
            if 4 * before > self._window and before + size > self._window + OVERHEAD:
                raise RemoteProtocolError(
                    reason=f"{before + size} bytes in flight of {self._window} allowed"
                )
        if message is not None:
            self.messages.append(message)
        elif number == 1:
            only = unwrap_one(payload)
            self.messages.append(Large(only) if size > LARGE and self.large else bytes(only))
        else:
            self.messages += unpack(payload, number)
        received = self.received = self.received + number
        if flags & REDELIVERED:
            self._marked = received
        unacked.append((received, size))
        self._unacked_size += size

    def end(self) -> None:
        """The stream ends behind what is here; it counts as one message."""
        self.ended = True
        self.end_waits = 1
        self.received += 1

    def stop(self) -> None:
        """Nothing more is taken in, and what waits here is not for this host any more.

        Nor is the end that waits behind it: who saw it would take it for what was dropped.
        """
        self.received -= len(self.messages) + self.end_waits
        self.end_waits = 0
        self.messages.clear()
        self.ended = True

    def consumed(self) -> int:
        """How many messages of the present hosting are done.

        Below zero while messages of an earlier hosting wait: they come first, and count for
        nothing here.
        """
        return self.received - len(self.messages) - self.in_hand - self.end_waits

    def owes(self, patience: int) -> bool:
        """Whether more than ``patience`` messages, or a quarter of the window, are consumed and
        not acknowledged.
        """
        if 4 * self._unacked_size > self._window:
            self._settle()
            if 4 * self._unacked_size > self._window:
                return True
        return self.consumed() - self.acked > patience

    @property
    def redelivered(self) -> bool:
        """Whether an earlier host may have handled the message that was taken last."""
        taken = self.received - len(self.messages) - self.end_waits
        return 0 < taken <= self._marked

    def _settle(self) -> None:
        """Give back the window of what was acknowledged; once for many acknowledgements."""
        unacked, acked = self._unacked, self.acked
        if unacked and unacked[-1][0] <= acked:  # all of it, as mostly
            unacked.clear()
            self._unacked_size = 0
        while unacked and unacked[0][0] <= acked:
            self._unacked_size -= unacked.popleft()[1]

    def resume(self) -> None:
        """The same hosting again: the last acknowledgement may have been lost, so repeat it."""
        self._settle()
        self.acked = 0

    def restart(self) -> None:
        """Another hosting counts from zero; what has arrived stays to be taken."""
        self.received = self.acked = self._marked = 0
        self._unacked.clear()
        self._unacked_size = 0
