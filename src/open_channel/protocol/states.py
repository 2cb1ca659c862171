"""The states of a connection, a session and a channel, and every step between them, as tables.

The rules of this file: a state is a member of an ``Enum``; a step is an entry of a table, keyed by
the state and the event; what is not in a table does not happen. ``step()`` is the only way to
take one. No state is kept twice, and none is derived from a flag elsewhere. The diagrams in the
documentation are drawn from these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from open_channel.errors import LocalProtocolError
from open_channel.protocol.frames import Kind

__all__ = [
    "ACCEPTED",
    "CHANNEL",
    "SENDING",
    "SESSION",
    "ChannelEvent",
    "ChannelState",
    "ConnectionState",
    "SendEvent",
    "SendState",
    "SessionEvent",
    "SessionState",
    "step",
]


class ConnectionState(Enum):
    """Where one connection stands; which frames it accepts follows from that."""

    AWAITING_HELLO = "awaiting hello"
    AWAITING_WELCOME = "awaiting welcome"
    OPEN = "open"
    CLOSED = "closed"


ACCEPTED: Mapping[ConnectionState, frozenset[int]] = {
    ConnectionState.AWAITING_HELLO: frozenset({Kind.HELLO}),
    ConnectionState.AWAITING_WELCOME: frozenset({Kind.WELCOME, Kind.REFUSAL}),
    ConnectionState.OPEN: frozenset(
        {
            Kind.MESSAGES,
            Kind.END,
            Kind.ACK,
            Kind.PING,
            Kind.GOODBYE,
            Kind.OFFER,
            Kind.TAKEN,
            Kind.WITHDRAWN,
            Kind.HOLDING,
        },
    ),
    ConnectionState.CLOSED: frozenset(),
}


class SessionState(Enum):
    """Whether a session has a connection now, and whether it ever had one."""

    NEW = "new"
    OPEN = "open"
    PARKED = "parked"
    CLOSED = "closed"


class SessionEvent(Enum):
    """What happens to a session."""

    WELCOMED = "welcomed"
    LOST = "lost"
    CLOSED = "closed"


SESSION: Mapping[tuple[SessionState, SessionEvent], SessionState] = {
    (SessionState.NEW, SessionEvent.WELCOMED): SessionState.OPEN,
    (SessionState.NEW, SessionEvent.CLOSED): SessionState.CLOSED,
    (SessionState.OPEN, SessionEvent.LOST): SessionState.PARKED,
    (SessionState.OPEN, SessionEvent.CLOSED): SessionState.CLOSED,
    (SessionState.PARKED, SessionEvent.WELCOMED): SessionState.OPEN,
    (SessionState.PARKED, SessionEvent.CLOSED): SessionState.CLOSED,
}


class SendState(Enum):
    """One direction of a session, seen by its sender."""

    WRITING = "writing"
    ENDING = "ending"
    ENDED = "ended"


class SendEvent(Enum):
    """What happens to one direction."""

    FINISH = "finish"
    ACKNOWLEDGED = "end acknowledged"


SENDING: Mapping[tuple[SendState, SendEvent], SendState] = {
    (SendState.WRITING, SendEvent.FINISH): SendState.ENDING,
    (SendState.ENDING, SendEvent.FINISH): SendState.ENDING,
    (SendState.ENDING, SendEvent.ACKNOWLEDGED): SendState.ENDED,
    (SendState.ENDED, SendEvent.FINISH): SendState.ENDED,
}


class ChannelState(Enum):
    """What ``channel.state`` says; the values are the words its users see."""

    INITIATED = "initiated"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSED = "closed"


class ChannelEvent(Enum):
    """What happens to a channel."""

    CONNECT = "connect"
    WELCOMED = "welcomed"
    LOST = "lost"
    CLOSED = "closed"


CHANNEL: Mapping[tuple[ChannelState, ChannelEvent], ChannelState] = {
    (ChannelState.INITIATED, ChannelEvent.CONNECT): ChannelState.CONNECTING,
    (ChannelState.INITIATED, ChannelEvent.CLOSED): ChannelState.CLOSED,
    (ChannelState.CONNECTING, ChannelEvent.WELCOMED): ChannelState.CONNECTED,
    (ChannelState.CONNECTING, ChannelEvent.CLOSED): ChannelState.CLOSED,
    (ChannelState.CONNECTED, ChannelEvent.LOST): ChannelState.CONNECTING,
    (ChannelState.CONNECTED, ChannelEvent.CLOSED): ChannelState.CLOSED,
    (ChannelState.CLOSED, ChannelEvent.CLOSED): ChannelState.CLOSED,
}

_State = TypeVar("_State", bound=Enum)
_Event = TypeVar("_Event", bound=Enum)


def step(table: Mapping[tuple[_State, _Event], _State], state: _State, event: _Event) -> _State:
    """The state after an event; raises LocalProtocolError for a step that is not in the table."""
    try:
        return table[state, event]
    except KeyError:
        raise LocalProtocolError(
            reason=f"no step from {state.value!r} on {event.value!r}"
        ) from None
