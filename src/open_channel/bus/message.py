"""What a subscriber gets: messages, batches of them, and jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from open_channel.bus.core import codec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from open_channel.bus.subscription import Subscription

__all__ = ["Batch", "Job", "Message"]


class Message:
    """One message as its subscriber gets it."""

    __slots__ = ("_data", "_encoded", "_sender", "_type", "body", "missed", "redelivered", "topic")

    def __init__(
        self,
        topic: str,
        body: bytes,
        sender: bytes,
        encoded: bool,
        wanted: Any,
        missed: int = 0,
    ) -> None:
        self.topic = topic
        """Where it was published."""
        self.body = body
        """The bytes as they travelled."""
        self.missed = missed
        """How many messages this subscription lost just before this one; -1: nobody knows how
        many. Zero unless the subscriber was too slow, or out of touch for too long."""
        self.redelivered = False
        """Whether another consumer, or this one, may have worked on it. Of jobs only."""
        self._sender = sender
        self._encoded = encoded
        self._type = wanted
        self._data: Any = codec

    @property
    def sender(self) -> str:
        """The id of the member that published it, 32 hexadecimal digits."""
        return self._sender.hex()

    @property
    def data(self) -> Any:
        """What was published: bytes as they were, anything else decoded (once).

        Raises PayloadInvalid when it does not fit the subscription's ``type``.
        """
        if self._data is codec:
            sender = self._sender.hex()
            self._data = codec.decode(self.body, self._encoded, self._type, self.topic, sender)
        return self._data

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.topic!r}, {len(self.body)} bytes>"


class Job(Message):
    """One message of a group: this member's to work on."""

    __slots__ = ("_seq", "_subscription")

    def __init__(
        self,
        subscription: Subscription,
        seq: int,
        redelivered: bool,
        topic: str,
        body: bytes,
        sender: bytes,
        encoded: bool,
    ) -> None:
        super().__init__(topic, body, sender, encoded, subscription.type)
        self.redelivered = redelivered
        self._subscription = subscription
        self._seq = seq

    @property
    def key(self) -> tuple[bytes, int]:
        """What identifies it: its publisher and its number."""
        return self._sender, self._seq

    def ack(self) -> None:
        """It is done; again is harmless.

        Asking for the next job does this by itself. Raises JobLost when it was given to another
        consumer meanwhile, because this process was out of touch for too long.
        """
        self._subscription.finish(self, done=True)

    def reject(self) -> None:
        """Give it back: another consumer gets it, or this one again; again is harmless.

        Raises JobLost as ``ack()`` does.
        """
        self._subscription.finish(self, done=False)


class Batch:
    """Messages of one publisher to one topic that came together; for consumers that want speed."""

    __slots__ = ("_encoded", "_sender", "_type", "bodies", "missed", "topic")

    def __init__(
        self,
        topic: str,
        bodies: Sequence[bytes],
        sender: bytes,
        encoded: bool,
        wanted: Any,
        missed: int,
    ) -> None:
        self.topic = topic
        """Where they were published."""
        self.bodies = bodies
        """The bytes as they travelled, one for each message."""
        self.missed = missed
        """How many messages this subscription lost just before; see ``Message``."""
        self._sender = sender
        self._encoded = encoded
        self._type = wanted

    @property
    def sender(self) -> str:
        """The id of the member that published them, 32 hexadecimal digits."""
        return self._sender.hex()

    def __len__(self) -> int:
        return len(self.bodies)

    def __iter__(self) -> Iterator[Message]:
        """The messages."""
        missed = self.missed
        for body in self.bodies:
            yield Message(self.topic, body, self._sender, self._encoded, self._type, missed)
            missed = 0
