"""Every exception: its place in the tree, its message, and its facts, also after pickling."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle
import re
from typing import Any

import pytest

from open_channel import errors

FACTS: dict[str, dict[str, Any]] = {
    "TopicInvalid": {"topic": "a..b", "reason": "it has an empty token"},
    "PayloadInvalid": {"topic": "orders", "sender": "pid 7", "reason": "Expected `int`"},
    "JobLost": {"topic": "jobs", "publisher": "ab" * 16, "number": 7},
    "RequestError": {"topic": "price"},
    "NoResponders": {"topic": "price"},
    "ResponderDied": {"topic": "price", "responder": ""},
    "ResponderError": {
        "topic": "price",
        "responder": "ab" * 16,
        "kind": "KeyError",
        "reason": "'sku'",
    },
    "RequestTimeout": {"topic": "price", "timeout": 2.0},
    "ChannelError": {"reason": "why"},
    "NameInvalid": {"what": "lock", "name": "", "reason": "it is empty"},
    "NameCollision": {"name": "a", "other": "b", "path": "/dir/key"},
    "DirectoryInsecure": {"path": "/dir", "reason": "it is a link"},
    "PathTooLong": {"path": "/dir/key", "length": 120, "limit": 107},
    "NoThread": {"reason": "can't start new thread"},
    "ForeignThread": {"owner": "MainThread", "thread": "Thread-1"},
    "ConnectTimeout": {"name": "chat", "timeout": 5.0, "last": "nobody hosts it"},
    "WaitTimeout": {"what": "a message", "timeout": 0.5},
    "ChannelClosed": {"name": "chat", "reason": "closed by this side"},
    "ChannelForked": {"name": "chat", "owner": 4711},
    "Refused": {"name": "chat", "reason": "no"},
    "ForeignUser": {"name": "chat", "reason": "", "ours": 1000, "theirs": 0},
    "VersionMismatch": {"name": "chat", "reason": "", "ours": 1, "theirs": 2},
    "MessageTooLarge": {"size": 11, "limit": 10},
    "OutboxFull": {"size": 11, "limit": 10},
    "ProtocolError": {"reason": "why"},
    "LocalProtocolError": {"reason": "why"},
    "RemoteProtocolError": {"reason": "why"},
}

BUILT_IN: dict[str, type[Exception]] = {
    "TopicInvalid": ValueError,
    "PayloadInvalid": ValueError,
    "NoResponders": ConnectionError,
    "ResponderDied": ConnectionError,
    "ResponderError": RuntimeError,
    "RequestTimeout": TimeoutError,
    "NameInvalid": ValueError,
    "NameCollision": ValueError,
    "DirectoryInsecure": PermissionError,
    "PathTooLong": ValueError,
    "NoThread": RuntimeError,
    "ForeignThread": RuntimeError,
    "ConnectTimeout": TimeoutError,
    "WaitTimeout": TimeoutError,
    "ChannelClosed": ConnectionError,
    "ChannelForked": ConnectionError,
    "Refused": ConnectionError,
    "ForeignUser": PermissionError,
    "VersionMismatch": ConnectionError,
    "MessageTooLarge": ValueError,
    "OutboxFull": BufferError,
}

every_error = pytest.mark.parametrize("name", errors.__all__)


def make(name: str) -> errors.ChannelError:
    error = getattr(errors, name)(**FACTS[name])
    assert isinstance(error, errors.ChannelError)
    return error


@every_error
def test_its_facts_are_those_that_it_declares(name: str):
    """What somebody may rely on who catches it, or one of its bases."""
    declared = {fact for kind in type(make(name)).__mro__ for fact in inspect.get_annotations(kind)}
    assert FACTS[name].keys() == (declared - {"text"} or {"reason"})


def test_the_tree_shows_each_error():
    assert errors.__doc__ is not None
    shown = re.findall(r"── (\w+)", errors.__doc__)
    assert sorted([*shown, "ChannelError"]) == sorted(errors.__all__)


@every_error
def test_it_carries_its_facts_and_shows_them(name: str):
    error = make(name)
    assert vars(error) == FACTS[name]
    shown = [value for fact, value in FACTS[name].items() if not isinstance(error, errors.Refused)]
    assert all(str(value) in str(error) for value in shown)
    assert "{" not in str(error)


@every_error
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_survives_pickling_with_its_facts(name: str, protocol: int):
    error = make(name)
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert vars(again) == FACTS[name]
    assert str(again) == str(error)


@every_error
def test_it_can_be_copied(name: str):
    again = copy.deepcopy(make(name))
    assert vars(again) == FACTS[name]


@every_error
def test_it_is_what_its_readers_already_catch(name: str):
    error = make(name)
    assert isinstance(error, BUILT_IN.get(name, errors.ChannelError))


def test_a_raised_one_keeps_its_facts_from_another_process():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        with pytest.raises(errors.OutboxFull) as caught:
            pool.apply(fail)
        pool.close()
        pool.join()
    assert (caught.value.size, caught.value.limit) == (11, 10)


def test_a_payload_that_belongs_to_no_topic_names_none():
    error = errors.PayloadInvalid(topic="", sender="this process", reason="why")
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == "payload from this process: why"


def fail() -> None:
    raise make("OutboxFull")
