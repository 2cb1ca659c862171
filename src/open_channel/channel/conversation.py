"""A conversation: what a socket can do without waiting.

The asyncio socket adds waiting for tasks (``channel.socket``), the blocking one for threads
(``open_channel.sync.socket``). Everything here runs in the event loop, but for what says that it
may be called from any thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from open_channel.errors import ChannelClosed, ChannelError
from open_channel.live import Live
from open_channel.protocol.outbox import SMALL
from open_channel.protocol.states import SendState

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from open_channel.channel.interfaces import ConversationOwner
    from open_channel.io.session_io import SessionIO

__all__ = ["CLOSED_HERE", "Conversation", "Peer", "as_bytes"]

CLOSED_HERE = "closed by this side"
"""The reason of a ChannelClosed that nobody else has caused."""

_WRITING = SendState.WRITING


class Peer(NamedTuple):
    """The process at the other end of a socket."""

    pid: int
    """Its process id, as the kernel told it."""
    uid: int
    """The user it runs as."""
    member: str
    """The random id of its opened channel: 32 hexadecimal digits."""


class Conversation(Live):
    """One side of a conversation between a client and a listener."""

    __slots__ = (
        "_end_seen",
        "_error",
        "_inbox",
        "_io",
        "_messages",
        "_outbox",
        "_owner",
        "_unfinished",
        "on_change",
    )

    def __init__(self, io: SessionIO, owner: ConversationOwner, *, hosts: bool) -> None:
        self._io = io
        self._owner = owner
        self._inbox = io.session.inbox
        self._messages = cast("deque[bytes]", self._inbox.messages)  # none is large: see Session
        self._outbox = io.session.outbox
        # On the host's side a message is done when the listener comes back, not when it is taken.
        self._unfinished = int(hosts)
        self._end_seen = False
        self._error: ChannelError | None = None
        self.on_change: Callable[[], None] | None = None
        """Called in the loop when there is something to take, or room, or the end."""
        io.user = self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._owner.name!r} {self._io.session.state.value}>"

    @property
    def name(self) -> str:
        """The channel's name."""
        return self._owner.name

    @property
    def peer(self) -> Peer | None:
        """The process at the other end; None while there is no connection and never was one."""
        return self._owner.peer

    @property
    def redelivered(self) -> bool:
        """Whether an earlier host's listener may have handled the message that was read last.

        True only on the listener's side, only after a takeover.
        """
        return self._inbox.redelivered

    @property
    def at_end(self) -> bool:
        """Whether everything has been read and nothing will follow.

        It tells the end from an empty message, which ``read()`` returns as ``b""`` too.
        """
        at_end = not self._messages and self._inbox.ended
        if at_end:
            self._end_seen = True
        return at_end

    def goes_on(self) -> bool:
        """Whether the host hands over, and its listener has seen that: another host goes on."""
        return self._io.deaf and self._end_seen

    @property
    def closed(self) -> bool:
        """Whether nothing can be written any more."""
        return self._error is not None or self._outbox.state is not _WRITING

    # --- writing ---------------------------------------------------------------------------

    def write(self, message: bytes | bytearray | memoryview) -> None:
        """Write one message; it leaves when this turn of the event loop ends.

        ``message`` is any bytes-like object, up to the channel's ``max_message`` bytes; what is
        mutable is copied. Returns at once, connected or not; ``drain()`` is how to wait for room.

        Raises ChannelClosed when the socket is closed, MessageTooLarge, OutboxFull when more than
        the channel's ``outbox`` bytes are unacknowledged, TypeError for what is not bytes-like, and
        ForeignThread; nothing is queued then.
        """
        io = self._io
        if not io.scheduled:
            self.check_open()
            io.schedule()
        outbox = self._outbox
        if outbox.credit and type(message) is bytes and len(message) <= SMALL:
            outbox.credit -= 1
            outbox.pending.append(message)
        else:
            if self._error is not None or outbox.state is not _WRITING:
                self.check_open()
            outbox.write(message if type(message) is bytes else as_bytes(message))

    @property
    def backlog(self) -> int:
        """The bytes written and not acknowledged; may be read in any thread."""
        return self._outbox.backlog

    @property
    def drain_limit(self) -> int:
        """The backlog above which a writer should wait; may be read in any thread."""
        return self._outbox.soft

    @property
    def max_message(self) -> int:
        """The largest message that can be written, in bytes; may be read in any thread."""
        return self._outbox.max_message

    def check_open(self) -> None:
        """Raise what ended the conversation, if anything did; in any thread."""
        if self._error is not None:
            raise self._error.again()
        if self._outbox.state is not _WRITING:
            raise ChannelClosed(name=self._owner.name, reason=CLOSED_HERE)

    def flush_soon(self) -> None:
        """Let what was taken be acknowledged when this turn of the loop ends."""
        self._io.schedule()

    # --- reading ---------------------------------------------------------------------------

    def take(self) -> bytes | None:
        """The next message, if there is one; in any thread, but in one at a time.

        On the host's side it is in hand then, until ``settle()``.
        """
        # First in hand, then taken: the loop may count in between, and must not count it as done.
        inbox = self._inbox
        if self._messages:
            inbox.in_hand += self._unfinished
            return self._messages.popleft()
        if self.at_end:
            inbox.end_waits = 0
            if self._error is not None and not isinstance(self._error, ChannelClosed):
                raise self._error.again()
        return None

    def settle(self, in_hand: int) -> None:
        """In the loop: all that was taken is done, but for so many messages."""
        self._inbox.in_hand = in_hand * self._unfinished

    def shut(self, error: ChannelError) -> None:
        """Close at once; every use from now on raises ``error``."""
        self._owner.shut(error)

    def fail(self, error: ChannelError) -> None:
        """No more: every use from now on raises ``error``; reading goes on to the end."""
        if self._error is None:
            self._error = error
            self._outbox.credit = 0

    def forked(self, error: ChannelError) -> None:
        """In a child: there is nothing more to read either."""
        self.fail(error)
        self._inbox.ended = True
        self._messages.clear()

    def opened(self) -> None:
        """See ``SessionUser``: the session carries over by itself what must be."""

    def received(self, *, arrived: bool, acknowledged: bool) -> None:
        """See ``SessionUser``."""
        if self.on_change is not None:
            self.on_change()

    def attached(self) -> None:
        """See ``SessionUser``."""

    def over(self) -> None:
        """See ``SessionUser``."""
        if self.on_change is not None:
            self.on_change()


def as_bytes(message: object) -> bytes:
    """A bytes-like object as bytes, copied if it can change; raises TypeError for anything else."""
    if isinstance(message, bytes):
        return bytes(message)  # which are themselves, unless of a subclass
    try:
        return memoryview(message).tobytes()  # type: ignore[arg-type]
    except TypeError:
        kind = type(message).__name__
        raise TypeError(f"a message is bytes-like, not {kind}") from None
