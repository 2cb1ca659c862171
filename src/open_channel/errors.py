"""Every exception the library raises: one tree, with the facts as attributes.

    ChannelError
    ├── NameInvalid (ValueError)            a channel's or lock's name cannot be used
    ├── NameCollision (ValueError)          two names share one short file name
    ├── DirectoryInsecure (PermissionError) the directory is not ours alone
    ├── PathTooLong (ValueError)            the socket's path does not fit a sun_path
    ├── NoThread (RuntimeError)             the library's own thread cannot run
    ├── ForeignThread (RuntimeError)        used in another thread than its event loop's
    ├── ConnectTimeout (TimeoutError)       nobody answered in time
    ├── WaitTimeout (TimeoutError)          a blocking call's own timeout passed, or a lock's
    ├── ChannelClosed (ConnectionError)     used after it was closed, here or by the other side
    ├── ChannelForked (ConnectionError)     an asyncio channel used in a forked child
    ├── Refused (ConnectionError)           the host said no
    │   ├── ForeignUser (PermissionError)   the other side runs as another user
    │   └── VersionMismatch                 the other side speaks another protocol version
    ├── TopicInvalid (ValueError)           not a topic, or not a pattern of topics
    ├── PayloadInvalid (ValueError)         data that cannot be encoded, or not decoded as asked
    ├── MessageTooLarge (ValueError)        one message is over its cap
    ├── OutboxFull (BufferError)            more is unacknowledged than the outbox holds
    ├── JobLost                             a job was given back, or to another consumer
    ├── RequestError                        a request without a reply
    │   ├── NoResponders (ConnectionError)  ... because nobody serves it
    │   ├── ResponderDied (ConnectionError) ... because who had it in hand is gone
    │   ├── ResponderError (RuntimeError)   ... because the responder raised an error
    │   └── RequestTimeout (TimeoutError)   ... in time
    └── ProtocolError                       the rules of the wire were broken
        ├── LocalProtocolError              ... by this side: a bug of this library
        └── RemoteProtocolError             ... by the other side

The attributes of an exception are the facts its message is made of; they survive pickling.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "ChannelClosed",
    "ChannelError",
    "ChannelForked",
    "ConnectTimeout",
    "DirectoryInsecure",
    "ForeignThread",
    "ForeignUser",
    "JobLost",
    "LocalProtocolError",
    "MessageTooLarge",
    "NameCollision",
    "NameInvalid",
    "NoResponders",
    "NoThread",
    "OutboxFull",
    "PathTooLong",
    "PayloadInvalid",
    "ProtocolError",
    "Refused",
    "RemoteProtocolError",
    "RequestError",
    "RequestTimeout",
    "ResponderDied",
    "ResponderError",
    "TopicInvalid",
    "VersionMismatch",
    "WaitTimeout",
]


class ChannelError(Exception):
    """The base of every error of this library; the facts are its attributes."""

    text: ClassVar[str] = "{reason}"

    def __init__(self, **facts: Any) -> None:
        self.__dict__.update(facts)
        super().__init__(self.text.format_map(facts))

    def __str__(self) -> str:
        return str(self.args[0])

    def again(self) -> ChannelError:
        """A copy to raise.

        Raising one exception several times would chain its tracebacks, and with them keep alive
        every frame that it has passed, and what lies in their variables.
        """
        return _rebuild(type(self), dict(self.__dict__))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(self.__dict__))


def _rebuild(kind: type[ChannelError], facts: dict[str, Any]) -> ChannelError:
    return kind(**facts)


class NameInvalid(ChannelError, ValueError):
    """The name cannot be used; ``what`` says what it would name, a channel for example."""

    text = "{what} name {name!r} is not valid: {reason}"
    what: str
    name: object
    reason: str


class NameCollision(ChannelError, ValueError):
    """Two names share one short file name; raised when the channel connects."""

    text = "the names {name!r} and {other!r} share the file name {path}: rename one of them"
    name: str
    other: str
    path: str


class DirectoryInsecure(ChannelError, PermissionError):
    """The directory is not ours alone (owner, mode, a link, not a directory)."""

    text = "channel directory {path} cannot be used: {reason}"
    path: str
    reason: str


class PathTooLong(ChannelError, ValueError):
    """A socket in this directory would not fit the kernel's ``sun_path``."""

    text = (
        "socket path {path} takes {length} bytes and this system allows {limit}: "
        "choose a shorter directory with $OPEN_CHANNEL_DIR"
    )
    path: str
    length: int
    limit: int


class NoThread(ChannelError, RuntimeError):
    """The library's own thread cannot run; ``reason`` says why."""

    text = "no thread to run channels in: {reason}"
    reason: str


class ForeignThread(ChannelError, RuntimeError):
    """A channel of the asyncio API is used in another thread than its event loop's.

    Nothing is done then. It is noticed where it is cheap to notice, so not always.
    """

    text = (
        "the channel belongs to an event loop in thread {owner!r}, and is used in {thread!r}:"
        " use asyncio.run_coroutine_threadsafe(), or open_channel.sync"
    )
    owner: str
    thread: str


class ConnectTimeout(ChannelError, TimeoutError):
    """Nobody welcomed us in time; ``last`` says what was tried last and how it failed."""

    text = "channel {name!r}: not connected after {timeout} s; {last}"
    name: str
    timeout: float
    last: str


class WaitTimeout(ChannelError, TimeoutError):
    """The timeout given to a blocking call, or to a lock, passed first; nothing is lost by it."""

    text = "{what}: nothing within {timeout} s"
    what: str
    timeout: float


class ChannelClosed(ChannelError, ConnectionError):
    """Used after it was closed; ``reason`` says by whom."""

    text = "channel {name!r} is closed: {reason}"
    name: str
    reason: str


class ChannelForked(ChannelError, ConnectionError):
    """What the parent had opened was used in a forked child: an asyncio channel, a subscription."""

    text = (
        "what process {owner} has opened of channel {name!r} cannot be used in its forked child: "
        "open it there again"
    )
    name: str
    owner: int


class Refused(ChannelError, ConnectionError):
    """The host of the channel refused this process."""

    text = "channel {name!r}: refused: {reason}"
    name: str
    reason: str


class ForeignUser(Refused, PermissionError):
    """The process at the other end runs as another user."""

    text = "channel {name!r}: the other side runs as user {theirs}, this one as {ours}"
    ours: int
    theirs: int


class VersionMismatch(Refused):
    """The process at the other end speaks another version of the protocol."""

    text = "channel {name!r}: the other side speaks protocol {theirs}, this one {ours}"
    ours: int
    theirs: int


class TopicInvalid(ChannelError, ValueError):
    """The topic or pattern cannot be used; nothing is sent."""

    text = "topic {topic!r} is not valid: {reason}"
    topic: object
    reason: str


class PayloadInvalid(ChannelError, ValueError):
    """Data that cannot be encoded, or that does not decode into what was asked for.

    ``sender`` says who sent it, as a text; ``reason`` says where in the data it does not fit.
    ``topic`` is empty where it belongs to none.
    """

    text = "payload on topic {topic!r} from {sender}: {reason}"
    topic: str
    sender: str
    reason: str

    def __init__(self, **facts: Any) -> None:
        super().__init__(**facts)
        if not self.topic:
            self.args = (f"payload from {self.sender}: {self.reason}",)


class MessageTooLarge(ChannelError, ValueError):
    """One message is larger than a message may be; raised by ``write()``, nothing is queued."""

    text = "a message of {size} bytes is over the limit of {limit}"
    size: int
    limit: int


class OutboxFull(ChannelError, BufferError):
    """More bytes wait for acknowledgement than the outbox may hold; nothing is queued."""

    text = "the outbox holds {size} unacknowledged bytes of at most {limit}: use drain()"
    size: int
    limit: int


class JobLost(ChannelError):
    """The job is this consumer's no more: it will be done again.

    It was given to another consumer, since this process was out of touch for too long, or back,
    since its subscription's block was left. Raised by ``job.ack()`` and ``job.reject()``; and by
    ``job.ack()`` when this consumer itself has rejected it.
    """

    text = "job {number} of {publisher} on topic {topic!r} was given back, or to another consumer"
    topic: str
    publisher: str
    number: int


class RequestError(ChannelError):
    """A request that got no reply."""

    text = "no reply from {topic!r}"
    topic: str


class NoResponders(RequestError, ConnectionError):
    """Nobody serves the topic, or the member asked is not here."""

    text = "nobody serves {topic!r}"


class ResponderDied(RequestError, ConnectionError):
    """Who had the request in hand has died or left; it may have done the work, or some of it.

    ``responder`` is the member that was asked by its id; empty where that was anybody.
    """

    text = "the responder of {topic!r} died or left before it replied"
    responder: str


class ResponderError(RequestError, RuntimeError):
    """The responder raised an error: ``kind`` is its type, ``reason`` its text."""

    text = "the responder of {topic!r}, {responder}, failed: {kind}: {reason}"
    responder: str
    kind: str
    reason: str


class RequestTimeout(RequestError, TimeoutError):
    """No reply within the timeout; the responder may still be at work."""

    text = "no reply from {topic!r} within {timeout} s"
    timeout: float


class ProtocolError(ChannelError):
    """The rules of the wire were broken; the connection ends."""

    reason: str


class LocalProtocolError(ProtocolError):
    """This side tried to break the rules: a bug in this library."""


class RemoteProtocolError(ProtocolError):
    """The other side broke the rules: garbage, an over-long frame, a frame out of place."""
