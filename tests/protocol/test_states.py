"""States: the tables hold every step there is, and nothing else happens."""

from __future__ import annotations

import itertools

import pytest

from open_channel.errors import LocalProtocolError
from open_channel.protocol.frames import Kind
from open_channel.protocol.states import (
    ACCEPTED,
    CHANNEL,
    SENDING,
    SESSION,
    ChannelEvent,
    ChannelState,
    ConnectionState,
    SendEvent,
    SendState,
    SessionEvent,
    SessionState,
    step,
)

TABLES = {
    "session": (SESSION, SessionState, SessionEvent, SessionState.NEW),
    "sending": (SENDING, SendState, SendEvent, SendState.WRITING),
    "channel": (CHANNEL, ChannelState, ChannelEvent, ChannelState.INITIATED),
}
STEPS = [
    pytest.param(table, state, event, id=f"{name}: {state.value}, {event.value}")
    for name, (table, states, events, _) in TABLES.items()
    for state, event in itertools.product(states, events)
]
each_table = pytest.mark.parametrize(
    ("table", "states", "events", "first"), TABLES.values(), ids=TABLES
)


@pytest.mark.parametrize(("table", "state", "event"), STEPS)
def test_a_step_is_in_its_table_or_does_not_happen(table, state, event):
    if (state, event) in table:
        assert step(table, state, event) is table[state, event]
        return
    with pytest.raises(LocalProtocolError) as caught:
        step(table, state, event)
    assert caught.value.reason == f"no step from {state.value!r} on {event.value!r}"


@each_table
def test_a_table_is_closed(table, states, events, first):
    assert {state for state, _ in table} <= set(states)
    assert {event for _, event in table} == set(events)
    assert set(table.values()) <= set(states)


@each_table
def test_every_state_can_be_reached(table, states, events, first):
    reached = {first}
    for _ in states:
        reached |= {target for (state, _), target in table.items() if state in reached}
    assert reached == set(states)


@pytest.mark.parametrize(
    ("table", "last"),
    [
        (SESSION, SessionState.CLOSED),
        (SENDING, SendState.ENDED),
        (CHANNEL, ChannelState.CLOSED),
    ],
)
def test_nothing_leads_out_of_the_last_state(table, last):
    assert {target for (state, _), target in table.items() if state is last} <= {last}


@pytest.mark.parametrize("state", [s for s in SessionState if s is not SessionState.CLOSED])
def test_every_session_can_be_closed(state):
    assert step(SESSION, state, SessionEvent.CLOSED) is SessionState.CLOSED


@pytest.mark.parametrize("state", ChannelState)
def test_every_channel_can_be_closed_even_twice(state):
    assert step(CHANNEL, state, ChannelEvent.CLOSED) is ChannelState.CLOSED


def test_the_words_of_a_channels_state_are_those_its_users_see():
    assert [s.value for s in ChannelState] == ["initiated", "connecting", "connected", "closed"]


def test_every_connection_state_says_what_it_accepts():
    assert set(ACCEPTED) == set(ConnectionState)
    assert not ACCEPTED[ConnectionState.CLOSED]


def test_every_kind_of_frame_has_one_place():
    accepted = sorted(kind for kinds in ACCEPTED.values() for kind in kinds)
    assert accepted == sorted(Kind)
