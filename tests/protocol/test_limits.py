"""Limits: the defaults hold together, and what does not is refused."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import sys

import pytest

from open_channel.errors import MessageTooLarge
from open_channel.protocol.batches import BATCH_LIMIT, OVERHEAD
from open_channel.protocol.limits import Limits


def test_the_defaults_hold_together():
    limits = Limits()
    assert limits.window <= limits.drain <= limits.outbox
    assert limits.heartbeat < limits.timeout
    assert limits.grace >= 2 * limits.timeout


@pytest.mark.parametrize(
    "fields",
    [
        {"max_message": 0},
        {"max_message": 2**31},
        {"window": 1024},
        {"window": 1024, "drain": 0, "outbox": 1024},
        {"window": 4096, "drain": 4096, "outbox": 4096},
        {"heartbeat": 0.001, "timeout": 0.0011},
        {"heartbeat": 3600.0, "timeout": 7200.0},
        {"lag": 0.001},
        {"lag": math.inf},
        {"grace": 0.001},
        {"queue": 0},
        {"window": 2**62, "drain": 2**62, "outbox": 2**62, "queue": 2**62, "shared": 2**62},
        {"heartbeat": 1, "timeout": math.inf, "lag": 2, "grace": math.inf},
    ],
    ids=repr,
)
def test_limits_within_the_bounds_are_taken(fields):
    limits = Limits(**fields)
    assert limits == Limits().replace(**fields)
    for name in inspect.signature(Limits).parameters:
        assert getattr(limits, name) == fields.get(name, getattr(Limits(), name))


@pytest.mark.parametrize(
    "fields",
    [
        {"max_message": -1},
        {"max_message": 2**31 + 1},
        {"window": 1023},
        {"window": 4097, "drain": 4096, "outbox": 4096},
        {"window": 4096, "drain": 4097, "outbox": 4096},
        {"drain": -1},
        {"heartbeat": 0.0},
        {"heartbeat": -1.0},
        {"heartbeat": math.nan},
        {"heartbeat": 3.0, "timeout": 3.0},
        {"timeout": math.nan},
        {"lag": 0.0},
        {"lag": -1.0},
        {"lag": math.nan},
        {"grace": 0.0},
        {"grace": math.nan},
        {"queue": -1},
        {"queue": 2**62 + 1},
        {"shared": -1},
        {"shared": 10**30},
    ],
    ids=repr,
)
def test_limits_beyond_the_bounds_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Limits(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_message": 1.5},
        {"window": True},
        {"outbox": math.inf},
        {"shared": None},
        {"heartbeat": "1"},
        {"timeout": None},
        {"lag": True},
    ],
    ids=repr,
)
def test_limits_of_another_type_are_refused(fields):
    with pytest.raises(TypeError, match=next(iter(fields))):
        Limits(**fields)


def test_a_heartbeat_slower_than_a_welcome_may_say_is_refused():
    with pytest.raises(ValueError, match="heartbeat"):
        Limits(heartbeat=3601.0, timeout=7200.0)


def test_limits_are_immutable():
    limits = Limits(window=4096)
    with pytest.raises(AttributeError, match="window"):
        limits.window = 1
    with pytest.raises(AttributeError, match="window"):
        del limits.window
    with pytest.raises(AttributeError, match="unknown"):
        limits.unknown = 1
    assert limits == Limits(window=4096)


def test_limits_are_values():
    limits = Limits(window=4096, lag=math.inf)
    assert limits == Limits(lag=math.inf, window=4096)
    assert hash(limits) == hash(Limits(lag=math.inf, window=4096))
    assert limits not in (Limits(), Limits(window=4096), (4096, math.inf))
    assert (
        pickle.loads(pickle.dumps(limits)) == copy.copy(limits) == copy.deepcopy(limits) == limits
    )
    assert repr(limits).startswith("Limits(max_message=67108864, window=4096, drain=16777216,")
    assert eval(repr(limits), {"Limits": Limits, "inf": math.inf}) == limits


def test_what_replaces_limits_is_checked_like_limits():
    with pytest.raises(ValueError, match="window"):
        Limits().replace(window=1)
    with pytest.raises(TypeError, match="unknown"):
        Limits().replace(unknown=1)
    if sys.version_info >= (3, 13):
        assert copy.replace(Limits(), window=4096) == Limits(window=4096)


def test_limits_are_given_by_name():
    with pytest.raises(TypeError, match="positional"):
        Limits(4096)  # type: ignore[call-arg]


def test_the_largest_payload_holds_the_largest_message_and_a_full_batch():
    assert Limits(max_message=BATCH_LIMIT).max_payload == BATCH_LIMIT + OVERHEAD
    assert Limits(max_message=10).max_payload == BATCH_LIMIT


def test_a_message_is_at_most_as_large_as_the_largest():
    limits = Limits(max_message=10)
    limits.check_message(10)
    with pytest.raises(MessageTooLarge) as raised:
        limits.check_message(11)
    assert (raised.value.size, raised.value.limit) == (11, 10)
